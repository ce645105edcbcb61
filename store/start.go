package store

import (
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir/search"
)

// A way is what a statement begins with. Without one PostgreSQL chooses.
type way int

const (
	// onePatient begins with what refers to a patient, who has few resources of
	// a type: whatever the others are, it is the one to begin with.
	onePatient way = iota + 1
	// oneCompartment is onePatient for types that can name the patient in more
	// than one way: one of several elements refers to the patient.
	oneCompartment
	// fewPatients begins with what refers to patients, listed or found by a
	// chain, by an element that is there once at most, if they are few.
	fewPatients
	// standing begins with the patients to whom somebody or a place stands.
	standing
)

// A start is how the statement of a plan begins. It is decided here, for
// statement to do and for Explain to tell.
type start struct {
	members search.And // of the plan's conjunction
	with    way
	at      int // the member to begin with; of no meaning without a way
	joins   int // how many members are to be joined
	// contested says that the index has several ways to begin, of which the
	// values decide the best.
	contested bool
}

// start decides how to begin. A member is begun with only if the others can be
// looked up for one resource, which ranges cannot.
func (pl plan) start() start {
	s := start{members: conjunction(pl.where)}
	s.joins = joins(s.members)
	main, _ := search.MainDate(pl.on)
	found := func(such func(search.Expr) bool) bool {
		s.at = only(s.members, main, such)
		return s.at >= 0
	}
	switch {
	case found(toPatient):
		s.members, s.at = append(search.And{s.first()}, s.others()...), 0
		s.with, s.joins = onePatient, 1
	case found(toCompartment) && len(s.members) > 1:
		s.with = oneCompartment
	case s.joins == 0 && found(toStanding):
		s.with = standing
	case found(toPatients):
		s.with = fewPatients
		fallthrough // they may turn out to be many
	default:
		s.contested = contested(s.members, main)
	}
	return s
}

// first is the member to begin with, others are those beside it.
func (s start) first() search.Expr { return s.members[s.at] }
func (s start) others() search.And { return slices.Concat(s.members[:s.at], s.members[s.at+1:]) }

// only returns which member is such as to begin with, the first if there are
// more; -1 if there is none, or if one of the others cannot be looked up.
func only(list search.And, main search.Path, such func(search.Expr) bool) int {
	at := -1
	for i, e := range list {
		switch {
		case at < 0 && such(e):
			at = i
		case !looked(e, main):
			return -1
		}
	}
	return at
}

// contested reports whether there are several members to begin with.
func contested(list search.And, main search.Path) bool {
	ways := 0
	for _, e := range list {
		switch e.(type) {
		case search.Present, search.Updated, search.Not, search.Within:
		case search.Chain: // it may have many targets, or few
			return true
		default:
			if !dated(e, main) { // the main date is in every index
				ways++
			}
		}
	}
	return ways > 1
}

// dated reports whether e is about the element and nothing else.
func dated(e search.Expr, path search.Path) bool {
	switch e := e.(type) {
	case search.InDate:
		return e.Path == path
	case search.And, search.Or:
		return !slices.ContainsFunc(search.Members(e), func(x search.Expr) bool { return !dated(x, path) })
	}
	return false
}

// toPatient reports whether e says which patient an element refers to.
func toPatient(e search.Expr) bool {
	ref, ok := e.(search.HasReference)
	return ok && strings.HasPrefix(ref.Target, "Patient/")
}

// toCompartment reports whether e says that one of several elements refers to
// one patient.
func toCompartment(e search.Expr) bool {
	or, _ := e.(search.Or)
	for i, x := range or {
		ref, ok := x.(search.HasReference)
		if !ok || ref.Pair != (search.Token{}) || !strings.HasPrefix(ref.Target, "Patient/") || i > 0 && ref.Target != or[0].(search.HasReference).Target {
			return false
		}
	}
	return len(or) > 1
}

// toPatients reports whether e says which patients one element refers to.
func toPatients(e search.Expr) bool {
	switch e := e.(type) {
	case search.Chain:
		return e.Type == "Patient" && !e.Canonical && len(e.Paths) == 1 && search.IsSingle(e.Paths[0])
	case search.Or:
		first := search.HasReference{}
		for i, x := range e {
			ref, ok := x.(search.HasReference)
			if i == 0 {
				first = ref
			}
			if !ok || ref.Path != first.Path || ref.Pair != first.Pair || !strings.HasPrefix(ref.Target, "Patient/") {
				return false
			}
		}
		return len(e) > 1 && search.IsSingle(first.Path)
	}
	return false
}

// toStanding reports whether e is of patients to whom somebody stands: who does, and
// who is named by the patient, the index lists.
func toStanding(e search.Expr) bool {
	switch e := e.(type) {
	case search.ReverseChain:
		return e.Stand.Who != ""
	case search.Or:
		return slices.ContainsFunc(e, toStanding) && !slices.ContainsFunc(e, func(x search.Expr) bool {
			_, named := x.(search.HasReference)
			return !named && !toStanding(x)
		})
	}
	return false
}

// looked reports whether e can be looked up for one resource.
func looked(e search.Expr, main search.Path) bool {
	switch e := e.(type) {
	case search.HasToken, search.HasReference, search.HasText, search.HasID, search.Present, search.Updated:
		return true
	case search.InDate:
		return e.Path == main
	case search.ReverseChain:
		return e.Stand.Who != ""
	case search.And, search.Or, search.Not:
		return !slices.ContainsFunc(search.Members(e), func(x search.Expr) bool { return !looked(x, main) })
	}
	return false
}

// maxJoined is how many members of a conjunction are joined. The planner tries
// every order of them, and with ten it thinks for seconds: where there are more
// than maxJoined, the first is joined alone.
const maxJoined = 3

// joins returns how many members of the conjunction are to be joined.
func joins(list search.And) int {
	n := 0
	for _, e := range list {
		switch e.(type) {
		case search.HasToken, search.HasReference:
			n++
		}
	}
	if n > maxJoined {
		return 1
	}
	return n
}
