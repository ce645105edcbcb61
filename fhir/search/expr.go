package search

import (
	"slices"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// An Expr is a condition on a resource, in terms that both an index and a
// single resource can answer. It is one of the types below. Whatever is meant
// as "no condition" is And{}; "nothing" is Or{}.
type Expr interface{ expr() }

// And holds where each member holds.
type And []Expr

// Or holds where some member holds.
type Or []Expr

// Not holds where X does not.
type Not struct{ X Expr }

// Members are the conditions that an And, an Or or a Not is made of. All others
// have none.
func Members(e Expr) []Expr {
	switch e := e.(type) {
	case And:
		return e
	case Or:
		return e
	case Not:
		return []Expr{e.X}
	}
	return nil
}

// mapped returns e with what f makes of its members in their place.
func mapped(e Expr, f func(Expr) Expr) Expr {
	list := slices.Clone(Members(e))
	for i, m := range list {
		list[i] = f(m)
	}
	switch e.(type) {
	case And:
		return And(list)
	case Or:
		return Or(list)
	case Not:
		return Not{list[0]}
	}
	return e
}

// HasToken holds where the index has the token.
type HasToken Token

// HasReference holds where the resource refers to Target by Path and, if Pair
// is set, also holds the token Pair.
type HasReference Reference

// HasText holds where a string at Path starts with, contains or is the Text.
// An index can only narrow it, to what holds all of Keys, unless Exact reports
// true; then it is the same as holding all of Keys. A Path with a colon, such as
// "Observation.code:text", is never in the index.
type HasText struct {
	Path Path
	Op   TextOp
	Text string
}

// A TextOp is a way to compare strings.
type TextOp byte

// The ways to compare strings.
const (
	StartsWith     TextOp = iota // folded: case, accents, punctuation and space
	Contains                     // folded, within the first 64 runes
	Equals                       // :exact, byte for byte
	ContainsBeyond               // folded, anywhere in a string of more than 64 runes
	Below                        // of URIs: the text and what is below it, path by path
	BelowVersion                 // of canonical URLs: the version and what is below it, part by part
	Is                           // folded, the whole
	IsNot                        // folded, something else
	EndsWith                     // folded
)

// InDate holds where one date range at Path meets all Bounds.
type InDate struct {
	Path   Path
	Bounds []DateBound
}

// A DateBound compares one end of a date range with T.
type DateBound struct {
	End End
	Op  Op
	T   time.Time
}

// InNumber holds where one number range at Path with the Unit meets all Bounds.
type InNumber struct {
	Path   Path
	Unit   string
	Bounds []NumberBound
}

// A NumberBound compares one end of a number range with V.
type NumberBound struct {
	End End
	Op  Op
	V   float64
}

// An End is the low or the high end of a range.
type End byte

// The ends of a range.
const (
	Lo End = iota
	Hi
)

// An Op compares an end of a range, on the left, with a value.
type Op byte

// The comparisons.
const (
	LT Op = iota
	LE
	GT
	GE
	EQ
)

// Present holds where the search parameter with the Bit has a value.
type Present struct {
	Type fhir.Type
	Bit  int
}

// HasID holds for the resources with one of the logical ids.
type HasID []string

// Updated holds where meta.lastUpdated meets all bounds, of which End is Lo.
type Updated []DateBound

// Chain holds where the resource refers by one of Paths to a resource of the
// Type for which X holds. Whoever runs it adds what the asker may see of Type,
// unless ByPolicy is set. If Canonical is set, the elements at Paths name it by
// canonical URL.
type Chain struct {
	Paths     []Path
	Canonical bool
	ByPolicy  bool
	Type      fhir.Type
	X         Expr
}

// ReverseChain holds where a resource of the Type for which X holds refers to
// the resource by one of Paths: the parameter _has. If Pair is set, the
// referring resource also holds that token, and the index has it joined with
// the references at each of Paths. If Canonical is set, the elements at Paths
// name the resource by canonical URL.
//
// Stand, if it is set, is what the index of standings can be asked in place of X:
// it says the same.
//
// ByPolicy says of either chain that an access policy asks: then all that is
// stored counts, also what the asker may not see. No search sets it.
type ReverseChain struct {
	Type      fhir.Type
	Paths     []Path
	Canonical bool
	ByPolicy  bool
	X         Expr
	Pair      Token
	Stand     Stand
}

// Typed holds for the resources of the Type for which X does. It is for searches
// of many types: On puts X in its place.
type Typed struct {
	Type fhir.Type
	X    Expr
}

func (And) expr()          {}
func (Or) expr()           {}
func (Not) expr()          {}
func (HasToken) expr()     {}
func (HasReference) expr() {}
func (HasText) expr()      {}
func (InDate) expr()       {}
func (InNumber) expr()     {}
func (Present) expr()      {}
func (HasID) expr()        {}
func (Updated) expr()      {}
func (Chain) expr()        {}
func (ReverseChain) expr() {}
func (Typed) expr()        {}
