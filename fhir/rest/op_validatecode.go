package rest

import (
	"context"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// validateCodeOperations say whether a code is in a value set, or in a code
// system.
// https://hl7.org/fhir/R4/valueset-operation-validate-code.html
// https://hl7.org/fhir/R4/codesystem-operation-validate-code.html
var validateCodeOperations = []operation{
	{
		name: "validate-code", url: definition("ValueSet-validate-code"), level: onType | onInstance, on: []fhir.Type{"ValueSet"},
		in: append([]parameter{
			{name: "valueSet", typ: "ValueSet", max: 1},
			{name: "valueSetVersion", typ: "string", max: 1},
			{name: "system", typ: "uri", max: 1},
			{name: "systemVersion", typ: "string", max: 1},
			{name: "inferSystem", typ: "boolean", max: 1},
		}, takesCode...),
		whole: ofTerminology(validateInValueSet),
	},
	{
		name: "validate-code", url: definition("CodeSystem-validate-code"), level: onType | onInstance, on: []fhir.Type{"CodeSystem"},
		in: append([]parameter{
			{name: "codeSystem", typ: "CodeSystem", max: 1},
			{name: "version", typ: "string", max: 1},
		}, takesCode...),
		whole: ofTerminology(validateInCodeSystem),
	},
}

// takesCode is how a code is given, and what to know of it.
var takesCode = []parameter{
	{name: "url", typ: "uri", max: 1},
	{name: "code", typ: "code", max: 1},
	{name: "display", typ: "string", max: 1},
	{name: "coding", typ: "Coding", max: 1},
	{name: "codeableConcept", typ: "CodeableConcept", max: 1},
	{name: "abstract", typ: "boolean", max: 1},
	{name: "displayLanguage", typ: "code", max: 1},
}

func validateInValueSet(_ context.Context, s *terminology.Service, a *asked) (*response, error) {
	src, err := a.source("url", "valueSet", "valueSetVersion")
	if err != nil {
		return nil, err
	}
	if src.URL == "" && src.Resource == nil {
		return nil, fhir.Errorf(fhir.Invalid, "one of url and valueSet is to be given")
	}
	return a.validated(src, "system", "systemVersion", s.ValidateInValueSet)
}

func validateInCodeSystem(_ context.Context, s *terminology.Service, a *asked) (*response, error) {
	src, err := a.source("url", "codeSystem", "version")
	if err != nil {
		return nil, err
	}
	if src.URL == "" && src.Resource == nil && a.in.has("code") {
		return nil, fhir.Errorf(fhir.Invalid, "a code is given without the url of its code system")
	}
	return a.validated(src, "", "", s.ValidateInCodeSystem)
}

// validated answers with what validate says of the code.
func (a *asked) validated(src terminology.Source, system, version string, validate func(terminology.CodeRequest) (terminology.Validation, error)) (*response, error) {
	codings, err := a.codings("code", system, version)
	if err != nil {
		return nil, err
	}
	v, err := validate(terminology.CodeRequest{
		Source: src, Codings: codings, InferSystem: a.in.boolean("inferSystem", false),
		NoAbstract: !a.in.boolean("abstract", true), DisplayLanguage: a.in.text("displayLanguage"),
	})
	if err != nil {
		return nil, err
	}
	var out results
	out.boolean("result", v.Result)
	if v.Message != "" {
		out.text("message", "string", v.Message)
	}
	if v.Display != "" {
		out.text("display", "string", v.Display)
	}
	return out.response(), nil
}
