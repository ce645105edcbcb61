package smart

import (
	"errors"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// A Scope is one SMART scope for resources: whose, of which type, what may be
// done with them, and on which of them.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
type Scope struct {
	whose   whose
	on      fhir.Type // "" is the wildcard
	letters letters
	query   string      // the search that the resources must answer, "" for all
	where   search.Expr // the same, read; nil for all
	v1      bool        // it was spelled in the syntax of SMART 1
}

// whose resources a scope is about.
type whose string

const (
	ofPatient whose = "patient"
	ofUser    whose = "user"
	ofSystem  whose = "system"
)

// letters are a set of the letters of SMART 2.
type letters uint16

const (
	canCreate letters = 1 << iota
	canRead
	canUpdate
	canDelete
	canSearch
	canLabel // no scope spells it: a policy gives it to who may update
	// Nor these: see GlassAct.
	canBreakGlass
	canApproveGlass
	canReviewGlass
)

const alphabet = "cruds"

// v1Letters are what the words of SMART 1 mean.
var v1Letters = map[string]letters{
	"read":  canRead | canSearch,
	"write": canCreate | canUpdate | canDelete,
	"*":     canCreate | canRead | canUpdate | canDelete | canSearch,
}

// The bounds of what is read as scopes.
const (
	maxScopes = 256
	maxScope  = 1 << 10
)

// errScope is all that is said of a bad scope: its text may hold what a
// patient would not want read.
var errScope = errors.New("smart: malformed scope")

// ParseScopes reads scopes that stand apart by one space each. Equal ones are
// returned once. More than 256, or one that is not for resources, is an error.
func ParseScopes(text string) ([]Scope, error) {
	if strings.Count(text, " ") >= maxScopes {
		return nil, errors.New("smart: too many scopes")
	}
	var scopes []Scope
	seen := map[string]bool{}
	for word := range strings.SplitSeq(text, " ") {
		sc, err := ParseScope(word)
		if err != nil {
			return nil, err
		}
		if name := sc.canonical(); !seen[name] {
			seen[name] = true
			scopes = append(scopes, sc)
		}
	}
	return scopes, nil
}

// ParseScope reads one scope, in the syntax of SMART 2,
// patient/Observation.rs?category=laboratory, or of SMART 1,
// patient/Observation.read. The letters must be in order. A search must be of
// plain parameters that the type has, and no wildcard can have one.
func ParseScope(text string) (Scope, error) {
	if len(text) > maxScope || strings.ContainsFunc(text, notInScope) {
		return Scope{}, errScope
	}
	text, query, granular := strings.Cut(text, "?")
	owner, rest, ok1 := strings.Cut(text, "/")
	name, rights, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 {
		return Scope{}, errScope
	}
	sc := Scope{whose: whose(owner), on: fhir.Type(name)}
	switch {
	case sc.whose != ofPatient && sc.whose != ofUser && sc.whose != ofSystem:
		return Scope{}, errScope
	case name == "*":
		sc.on = ""
	case !sc.on.Known():
		return Scope{}, errScope
	}
	if sc.letters, sc.v1 = v1Letters[rights]; !sc.v1 {
		sc.letters = parseLetters(rights)
	}
	if sc.letters == 0 {
		return Scope{}, errScope
	}
	if granular {
		return sc.only(query)
	}
	return sc, nil
}

// notInScope reports whether no scope can hold the rune.
// https://www.rfc-editor.org/rfc/rfc6749#section-3.3
func notInScope(char rune) bool { return char < 0x21 || char > 0x7e || char == '"' || char == '\\' }

// parseLetters returns no letters if they are out of order or unknown.
func parseLetters(text string) letters {
	var set letters
	rest := alphabet
	for i := range len(text) {
		at := strings.IndexByte(rest, text[i])
		if at < 0 {
			return 0
		}
		rest = rest[at+1:]
		set |= 1 << (len(alphabet) - len(rest) - 1)
	}
	return set
}

// only returns sc for the resources that answer the query.
func (sc Scope) only(query string) (Scope, error) {
	if sc.on == "" || sc.v1 {
		return Scope{}, errScope
	}
	for param := range strings.SplitSeq(query, "&") {
		if name, value, _ := strings.Cut(param, "="); name == "" || value == "" {
			return Scope{}, errScope
		}
	}
	where, err := search.ParseScope(sc.on, query)
	if err != nil || everything(where) {
		return Scope{}, errScope // a search that says nothing must not mean all
	}
	sc.query, sc.where = query, where
	return sc, nil
}

// String returns the scope in the syntax that it was read in.
func (sc Scope) String() string {
	if sc.v1 {
		for word, set := range v1Letters {
			if set == sc.letters {
				return sc.subject() + "." + word
			}
		}
	}
	return sc.canonical()
}

// canonical returns the scope in the syntax of SMART 2.
func (sc Scope) canonical() string {
	text := sc.subject() + "."
	for i, letter := range alphabet {
		if sc.letters&(1<<i) != 0 {
			text += string(letter)
		}
	}
	if sc.query != "" {
		text += "?" + sc.query
	}
	return text
}

func (sc Scope) subject() string {
	name := string(sc.on)
	if name == "" {
		name = "*"
	}
	return string(sc.whose) + "/" + name
}

// and returns the scope of what both allow, false if that is nothing or more
// than a scope can say.
func (sc Scope) and(other Scope) (Scope, bool) {
	if sc.whose != other.whose || sc.on != "" && other.on != "" && sc.on != other.on {
		return Scope{}, false
	}
	both := sc
	if sc.on == "" {
		both.on = other.on
	}
	both.letters &= other.letters
	if both.letters != sc.letters || other.query != "" {
		both.v1 = false // the words of SMART 1 may not say it
	}
	switch {
	case other.query == "" || other.query == sc.query:
	case sc.query == "":
		both.query, both.where = other.query, other.where
	default:
		both.query, both.where = sc.query+"&"+other.query, search.And{sc.where, other.where}
	}
	return both, both.letters != 0 && len(both.canonical()) <= maxScope
}

// within reports whether other plainly allows all that sc allows.
func (sc Scope) within(other Scope) bool {
	return sc.whose == other.whose && (other.on == "" || other.on == sc.on) &&
		sc.letters&^other.letters == 0 && (other.query == "" || other.query == sc.query)
}

// Within reports whether one of the scopes plainly allows all that sc allows.
func (sc Scope) Within(list []Scope) bool { return slices.ContainsFunc(list, sc.within) }

// Narrow returns what of the scopes asked for is allowed, each in the syntax
// in which it was asked for as far as that can say it. It returns no more than
// 256 scopes: what is beyond is not granted.
func Narrow(asked, allowed []Scope) []Scope {
	var all []Scope
	for _, a := range asked {
		for _, b := range allowed {
			both, ok := a.and(b)
			if !ok || slices.ContainsFunc(all, both.within) {
				continue
			}
			all = slices.DeleteFunc(all, func(old Scope) bool { return old.within(both) })
			if len(all) < maxScopes {
				all = append(all, both)
			}
		}
	}
	return all
}

// Join returns the text of scopes.
func Join(scopes []Scope) string {
	words := make([]string, len(scopes))
	for i, sc := range scopes {
		words[i] = sc.String()
	}
	return strings.Join(words, " ")
}
