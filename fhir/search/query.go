package search

import "github.com/cordon-fhir/cordon/fhir"

// A Query is a search request, read and checked against the search parameters
// of its type.
type Query struct {
	// Type is searched; "" means all of Types.
	Type  fhir.Type
	Types []fhir.Type // from _type; empty means every type

	Where Expr // never nil; On says what it asks of each type
	// Contained says whether contained resources are searched.
	Contained Containment
	Sort      []SortKey

	// Count is the page size asked for by _count; -1 if none was.
	Count int
	// Offset is how many matches are passed over, from _offset.
	Offset  int
	Total   Total
	Include []Include

	Summary  string   // _summary: "", "true", "text", "data", "count" or "false"
	Elements []string // _elements

	// Custom is that of the Options if the search uses a parameter of it.
	Custom *Custom

	// Applied are the parameters that were understood, in order, for the
	// self link. Ignored names those that were not and were allowed to pass.
	Applied []Param
	Ignored []string
}

// A Param is one name=value of a query, decoded.
type Param struct{ Name, Value string }

// A Total is a value of _total.
type Total string

// The values of _total. The zero Total leaves the choice to the server.
const (
	TotalNone     Total = "none"
	TotalEstimate Total = "estimate"
	TotalAccurate Total = "accurate"
)

// A SortKey is one member of _sort.
type SortKey struct {
	Kind  SortKind
	Paths []Path // for the kinds that read an element
	Desc  bool
	// Via is set if the key is one of what the resource refers to.
	Via *Via

	// Present is that there is a value, for ByDate and ByNumber in a search of
	// one type.
	Present Expr
}

// A Via is a reference to resources of a type, by one of the Paths.
type Via struct {
	Paths []Path
	Type  fhir.Type
}

// A SortKind says what a SortKey orders by. ByID and ByUpdated are in the
// resource's row, ByDate and ByNumber in the index; ByText can only be had
// from opened bodies.
type SortKind byte

// The kinds of sort keys.
const (
	ByID SortKind = iota
	ByUpdated
	ByDate
	ByNumber
	ByText // strings, tokens, references and URIs, by their text
)

// An Include is one _include or _revinclude.
type Include struct {
	Reverse bool
	Iterate bool
	Source  fhir.Type // the type that holds the reference; "" means any
	All     bool      // all references are followed, else those at
	Paths   []Path    // elements of Source with references, and at
	Cited   []Path    // elements of Source with canonical URLs
	Target  fhir.Type // "" means any
}

// Options are what a search depends on besides its text.
type Options struct {
	// Lenient lets unknown parameters pass, from "Prefer: handling=lenient".
	// A parameter that is known but malformed is an error all the same.
	Lenient bool
	// Base is the tenant's FHIR base URL. References to it are relative.
	Base string
	// Custom are the search parameters that the tenant adds; nil if it adds
	// none.
	Custom *Custom

	used  *bool // set when one of them is used
	spent *int  // what the values of the search stand for, so far
	types int   // how many types are searched

	// Terminology answers the modifiers that are about code systems and value
	// sets; without it they are not supported.
	Terminology Terminology
}

// A Terminology finds the codes that the value of a token modifier means.
type Terminology interface {
	// Codes returns all codes of the value set that the value names, for the
	// modifiers in and not-in, or the code that the value is together with
	// those below or above it. The error is a *fhir.Error: NotFound if the
	// value set or code system is not known, TooCostly if there are more
	// than max.
	Codes(modifier, value string, max int) ([]Code, error)
}

// A Code is a code of a system, "" if it has none.
type Code struct{ System, Code string }
