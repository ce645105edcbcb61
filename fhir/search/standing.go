package search

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// A Standing says that a resource in force names Who by How, in its record of the
// patient Of, from Lo (inclusive) to Hi (exclusive): who is on a patient's care
// team, who sees to them, and where they are. Access policies ask that of every
// resource, so the index holds it ready made.
type Standing struct {
	How    Path   // "CareTeam.participant.member"
	Who    string // "Practitioner/7"
	Of     string // "Patient/1"
	Lo, Hi time.Time
}

// A Stand is what of standings is asked for: that there is one at the moment.
type Stand struct {
	How Path
	Who string
	At  time.Time
}

// forces are the statuses by which resources that name somebody are in force.
// https://hl7.org/fhir/R4/valueset-care-team-status.html
// https://hl7.org/fhir/R4/valueset-encounter-status.html
var forces = map[fhir.Type]string{
	"CareTeam":  "active",
	"Encounter": "arrived,triaged,in-progress,onleave",
}

// StandingTypes are the types that have standings.
var StandingTypes = []fhir.Type{"CareTeam", "Encounter"}

// inForce is the condition that a resource of the type has such a status.
var inForce = sync.OnceValue(func() map[fhir.Type]Expr {
	m := map[fhir.Type]Expr{}
	for on, status := range forces {
		q, err := Parse(on, []Param{{Name: "status", Value: status}}, Options{})
		if err != nil {
			panic("search: " + err.Error()) // a constant of this file
		}
		m[on] = q.Where
	}
	return m
})

// Stands returns the condition on a patient that a resource of the type, which is in
// force at the time, names the target by the parameter.
func Stands(on fhir.Type, code string, target fhir.Ref, at time.Time) Expr {
	for _, path := range Paths(on, code, target.Type) {
		for _, n := range namings[on] {
			if n.path(on) == path {
				return ReverseChain{
					Type: on, Paths: SubjectPaths(on), ByPolicy: true,
					X:     And{named(path, target, at), inForce()[on], Ongoing(on, "date", at)},
					Stand: Stand{path, target.String(), at},
				}
			}
		}
	}
	return Or{}
}

// Unheld returns e for an index that has no standings: what they would say is found
// out from the resources that they are of.
func Unheld(e Expr) Expr {
	switch e := e.(type) {
	case Chain:
		e.X = Unheld(e.X)
		return e
	case ReverseChain:
		e.X, e.Stand = Unheld(e.X), Stand{}
		return e
	}
	return mapped(e, Unheld)
}

// Gather joins alternatives that a policy names a patient by, where the index lists the
// patients of each: they are looked up together.
func Gather(e Expr) Expr {
	or, ok := e.(Or)
	if !ok {
		if and, ok := e.(And); ok {
			return mapped(and, Gather)
		}
		return e
	}
	out := Or{}
next:
	for _, m := range or {
		c, ok := m.(Chain)
		if ok && c.ByPolicy && !c.Canonical && isListed(c.X) {
			for i := range out {
				had, ok := out[i].(Chain)
				if ok && had.ByPolicy && !had.Canonical && had.Type == c.Type && slices.Equal(had.Paths, c.Paths) && isListed(had.X) {
					had.X = Simplify(Or{had.X, c.X})
					out[i] = had
					continue next
				}
			}
		}
		out = append(out, m)
	}
	return out.simple()
}

// isListed reports whether the index lists the patients for whom e holds.
func isListed(e Expr) bool {
	switch e := e.(type) {
	case HasReference:
		return true
	case ReverseChain:
		return e.Stand != (Stand{})
	case Or:
		return each(e, isListed)
	}
	return false
}

// standings makes of the other terms what Stands asks for.
func (x *indexer) standings(tb *table, on fhir.Type) {
	status := inForce()[on]
	if status == nil {
		return
	}
	t := x.terms
	if ok, err := matches(status, &fhir.Resource{Ref: fhir.Ref{Type: on}}, t); !ok || err != nil {
		return
	}
	subjects := SubjectPaths(on)
	for _, of := range t.Refs {
		if of.Pair != (Token{}) || !slices.Contains(subjects, of.Path) || !strings.HasPrefix(of.Target, "Patient/") {
			continue
		}
		for _, n := range namings[on] {
			for _, who := range t.Refs {
				if who.Pair == (Token{}) && who.Path == n.path(on) {
					x.standing(tb, who, of.Target)
				}
			}
		}
	}
}

// standing adds when the reference holds for the patient.
func (x *indexer) standing(tb *table, who Reference, of string) {
	t := x.terms
	for _, d := range t.during(tb.byCode["date"]) {
		for _, n := range t.namedDuring(who) {
			if x.full() {
				return
			}
			s := Standing{who.Path, who.Target, of, later(d.Lo, n.Lo), sooner(d.Hi, n.Hi)}
			if s.Lo.Before(s.Hi) {
				t.Standings = append(t.Standings, s)
			}
		}
	}
}

// during returns when the resource goes on, as Ongoing takes it.
func (t *Terms) during(p *parameter) []DateRange {
	if t.Present&(1<<p.bit) == 0 {
		return []DateRange{{Hi: Forever}}
	}
	var list []DateRange
	for _, d := range t.Dates {
		if slices.ContainsFunc(p.elements, func(e element) bool { return e.path == d.Path }) {
			list = append(list, d)
		}
	}
	return list
}

// namedDuring returns for when the reference names its target, as Names takes it.
func (t *Terms) namedDuring(who Reference) []DateRange {
	path := limited(who.Path)
	if !slices.Contains(t.Tokens, Token{path, who.Target}) {
		return []DateRange{{Hi: Forever}}
	}
	var list []DateRange
	for _, n := range t.Numbers {
		if n.Path == path && n.Unit == who.Target {
			list = append(list, DateRange{path, moment(n.Lo), moment(n.Hi)})
		}
	}
	return list
}

// moment undoes seconds.
func moment(s float64) time.Time {
	switch s {
	case seconds(time.Time{}):
		return time.Time{}
	case seconds(Forever):
		return Forever
	}
	return time.Unix(int64(s), 0).UTC()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
