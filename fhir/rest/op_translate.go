package rest

import (
	"context"
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// translateOperations find the codes that say the same elsewhere.
// https://hl7.org/fhir/R4/conceptmap-operation-translate.html
var translateOperations = []operation{{
	name: "translate", url: definition("ConceptMap-translate"), level: onType | onInstance, on: []fhir.Type{"ConceptMap"},
	in: []parameter{
		{name: "url", typ: "uri", max: 1},
		{name: "conceptMap", typ: "ConceptMap", max: 1},
		{name: "conceptMapVersion", typ: "string", max: 1},
		{name: "code", typ: "code", max: 1},
		{name: "system", typ: "uri", max: 1},
		{name: "version", typ: "string", max: 1},
		{name: "source", typ: "uri", max: 1},
		{name: "coding", typ: "Coding", max: 1},
		{name: "codeableConcept", typ: "CodeableConcept", max: 1},
		{name: "target", typ: "uri", max: 1},
		{name: "targetsystem", typ: "uri", max: 1},
		{name: "dependency", parts: []parameter{
			{name: "element", typ: "uri", min: 1, max: 1},
			{name: "concept", typ: "CodeableConcept", min: 1, max: 1},
		}},
		{name: "reverse", typ: "boolean", max: 1},
	},
	whole: ofTerminology(translate),
}}

func translate(_ context.Context, s *terminology.Service, a *asked) (*response, error) {
	src, err := a.source("url", "conceptMap", "conceptMapVersion")
	if err != nil {
		return nil, err
	}
	codings, err := a.codings("code", "system", "version")
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(codings, func(c terminology.Coding) bool { return c.System == "" || c.Code == "" }) {
		return nil, fhir.Errorf(fhir.Invalid, "a code is to be given together with its system")
	}
	matches, err := s.Translate(terminology.TranslateRequest{
		Source: src, Codings: codings, SourceValueSet: a.in.text("source"), TargetValueSet: a.in.text("target"),
		TargetSystem: a.in.text("targetsystem"), Dependencies: a.dependencies(), Reverse: a.in.boolean("reverse", false),
	})
	if err != nil {
		return nil, err
	}
	var out results
	out.boolean("result", slices.ContainsFunc(matches, terminology.Match.Found))
	if len(matches) == 0 {
		out.text("message", "string", "no map holds anything for the code")
	}
	for _, m := range matches {
		out.parts("match", func(r *results) { r.match(m) })
	}
	return out.response(), nil
}

// match adds the parts that say what was found.
func (r *results) match(m terminology.Match) {
	r.text("equivalence", "code", m.Equivalence)
	if m.Concept.Code != "" {
		r.coding("concept", m.Concept)
	}
	for _, p := range m.Products {
		r.parts("product", func(r *results) {
			r.text("element", "uri", p.Property)
			r.coding("concept", terminology.Coding{System: p.System, Code: p.Value, Display: p.Display})
		})
	}
	if m.Source != "" {
		r.text("source", "uri", m.Source)
	}
}

// dependencies returns what else is known, a Dependency for each coding.
func (a *asked) dependencies() []terminology.Dependency {
	var all []terminology.Dependency
	for _, d := range a.in {
		if d.name != "dependency" {
			continue
		}
		for _, c := range list(member(d.parts.json("concept"), "coding")) {
			coding := codingOf(c)
			all = append(all, terminology.Dependency{Property: d.parts.text("element"), System: coding.System, Value: coding.Code})
		}
	}
	return all
}
