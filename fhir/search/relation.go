package search

import (
	"slices"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// What follows makes conditions for access policies, which ask how a resource
// is related to others. See ByPolicy.

// Paths returns the elements with references to the type that the parameter of
// resources of the type on reads, none if it has no such parameter.
func Paths(on fhir.Type, code string, to fhir.Type) []Path {
	tb := tableOf(on)
	if tb == nil {
		return nil
	}
	p := tb.byCode[code]
	if p == nil || p.Type != "reference" || !p.canTarget(to) {
		return nil
	}
	return p.paths(to)
}

// SubjectPaths returns the elements that say which patient a resource of the
// type is about. Where no parameter is for that, they are all by which it is in
// the compartment of a patient.
func SubjectPaths(on fhir.Type) []Path {
	for _, code := range subjectCodes {
		if paths := Paths(on, code, "Patient"); len(paths) > 0 {
			return paths
		}
	}
	return patientPaths(on)
}

// encounterCodes are the parameters that say which Encounter a resource is of.
var encounterCodes = []string{"encounter", "context"}

// EncounterPaths returns the elements that say which Encounter a resource of the
// type is of.
func EncounterPaths(on fhir.Type) []Path {
	for _, code := range encounterCodes {
		if paths := Paths(on, code, "Encounter"); len(paths) > 0 {
			return paths
		}
	}
	return nil
}

// Refers returns the condition that a resource refers to one of the targets by
// one of the paths.
func Refers(paths []Path, target fhir.Ref) Expr {
	or := Or{}
	for _, path := range paths {
		or = append(or, HasReference{Path: path, Target: target.String()})
	}
	return or.simple()
}

// Ongoing returns the condition that a period of the parameter covers the time,
// or that there is none.
func Ongoing(on fhir.Type, code string, at time.Time) Expr {
	tb := tableOf(on)
	if tb == nil || tb.byCode[code] == nil || tb.byCode[code].Type != "date" {
		return Or{}
	}
	p := tb.byCode[code]
	or := Or{Not{Present{on, p.bit}}}
	for _, e := range p.elements {
		or = append(or, InDate{e.path, []DateBound{{Lo, LE, at}, {Hi, GT, at}}})
	}
	return or
}

// Implied returns the presence of a parameter without which e cannot hold, if e
// is of tokens of one element.
func Implied(on fhir.Type, e Expr) (Present, bool) {
	some, ok := e.(Or)
	if !ok {
		some = Or{e}
	}
	var path Path
	for i, m := range some {
		tok, ok := m.(HasToken)
		if !ok || i > 0 && tok.Path != path {
			return Present{}, false
		}
		path = tok.Path
	}
	tb := tableOf(on)
	if tb == nil || path == "" {
		return Present{}, false
	}
	for _, p := range tb.parameters {
		// What refers by the element, or measures in it, has bits of its own.
		if p.bit >= 0 && p.Type == "token" && slices.ContainsFunc(p.elements, func(e element) bool { return e.path == path && e.only == "" }) {
			return Present{on, p.bit}, true
		}
	}
	return Present{}, false
}

// Links returns the chains of a policy in e, outermost, each once.
func Links(e Expr) []Expr {
	var list []Expr
	if isByPolicy(e) {
		return []Expr{e}
	}
	for _, m := range Members(e) {
		for _, l := range Links(m) {
			if !slices.ContainsFunc(list, func(had Expr) bool { return Equal(had, l) }) {
				list = append(list, l)
			}
		}
	}
	return list
}

// Settle returns e for a resource of which it is known which chains of a policy
// hold: it has everything or nothing in their place. A chain of which it is not
// known stays.
func Settle(e Expr, holds func(link Expr) (holds, known bool)) Expr {
	if isByPolicy(e) {
		switch yes, known := holds(e); {
		case !known:
			return e
		case yes:
			return And{}
		}
		return Or{}
	}
	return mapped(e, func(m Expr) Expr { return Settle(m, holds) })
}

func isByPolicy(e Expr) bool {
	switch e := e.(type) {
	case Chain:
		return e.ByPolicy
	case ReverseChain:
		return e.ByPolicy
	}
	return false
}
