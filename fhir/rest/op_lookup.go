package rest

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// lookupOperations tell what a code system knows of a code.
// https://hl7.org/fhir/R4/codesystem-operation-lookup.html
var lookupOperations = []operation{{
	name: "lookup", url: definition("CodeSystem-lookup"), level: onType, on: []fhir.Type{"CodeSystem"},
	in: []parameter{
		{name: "code", typ: "code", max: 1},
		{name: "system", typ: "uri", max: 1},
		{name: "version", typ: "string", max: 1},
		{name: "coding", typ: "Coding", max: 1},
		{name: "displayLanguage", typ: "code", max: 1},
		{name: "property", typ: "code"},
	},
	whole: ofTerminology(lookup),
}}

func lookup(_ context.Context, s *terminology.Service, a *asked) (*response, error) {
	codings, err := a.codings("code", "system", "version")
	if err != nil {
		return nil, err
	}
	if codings[0].System == "" || codings[0].Code == "" {
		return nil, fhir.Errorf(fhir.Invalid, "a code is to be given together with its system")
	}
	c, err := s.Lookup(terminology.LookupRequest{Coding: codings[0], DisplayLanguage: a.in.text("displayLanguage"), Properties: a.in.texts("property")})
	if err != nil {
		return nil, err
	}
	var out results
	out.text("name", "string", c.Name)
	if c.Version != "" {
		out.text("version", "string", c.Version)
	}
	out.text("display", "string", c.Display)
	for _, d := range c.Designations {
		out.parts("designation", func(r *results) {
			if d.Language != "" {
				r.text("language", "code", d.Language)
			}
			if d.Use != nil {
				r.coding("use", *d.Use)
			}
			r.text("value", "string", d.Value)
		})
	}
	for _, p := range c.Properties {
		out.parts("property", func(r *results) { r.property(p) })
	}
	return out.response(), nil
}

// property adds the parts that say what a concept has.
func (r *results) property(p terminology.Property) {
	r.text("code", "code", p.Code)
	switch plain := jsontext.Value(p.Value); p.Type {
	case "Coding":
		r.coding("value", p.Coding)
	case "boolean", "integer", "decimal":
		if !plain.IsValid() { // whoever wrote the code system did not care
			r.text("value", "string", p.Value)
			break
		}
		r.value("value", p.Type, plain)
	default:
		r.text("value", p.Type, p.Value)
	}
	if p.Description != "" {
		r.text("description", "string", p.Description)
	}
}
