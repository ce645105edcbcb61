package rest

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// expandOperations list the concepts of a value set.
// https://hl7.org/fhir/R4/valueset-operation-expand.html
var expandOperations = []operation{{
	name: "expand", url: definition("ValueSet-expand"), level: onType | onInstance, on: []fhir.Type{"ValueSet"},
	in: []parameter{
		{name: "url", typ: "uri", max: 1},
		{name: "valueSet", typ: "ValueSet", max: 1},
		{name: "valueSetVersion", typ: "string", max: 1},
		{name: "filter", typ: "string", max: 1},
		{name: "offset", typ: "unsignedInt", max: 1},
		{name: "count", typ: "unsignedInt", max: 1},
		{name: "includeDesignations", typ: "boolean", max: 1},
		{name: "designation", typ: "string"},
		{name: "includeDefinition", typ: "boolean", max: 1},
		{name: "activeOnly", typ: "boolean", max: 1},
		{name: "excludeNested", typ: "boolean", max: 1},
		{name: "excludeNotForUI", typ: "boolean", max: 1},
		{name: "excludePostCoordinated", typ: "boolean", max: 1},
		{name: "displayLanguage", typ: "code", max: 1},
		{name: "exclude-system", typ: "canonical"},
		{name: "system-version", typ: "canonical"},
		{name: "check-system-version", typ: "canonical"},
		{name: "force-system-version", typ: "canonical"},
	},
	whole: ofTerminology(expand),
}}

func expand(ctx context.Context, s *terminology.Service, a *asked) (*response, error) {
	src, err := a.source("url", "valueSet", "valueSetVersion")
	if err != nil {
		return nil, err
	}
	if src.URL == "" && src.Resource == nil {
		return nil, fhir.Errorf(fhir.Invalid, "one of url and valueSet is to be given")
	}
	x, err := s.Expand(ctx, terminology.ExpandRequest{
		Source: src, Filter: a.in.text("filter"), Offset: a.in.number("offset", 0), Count: a.in.number("count", -1),
		IncludeDesignations: a.in.boolean("includeDesignations", false), Designations: a.in.texts("designation"),
		IncludeDefinition: a.in.boolean("includeDefinition", false), ActiveOnly: a.in.boolean("activeOnly", false),
		ExcludeNotForUI: a.in.boolean("excludeNotForUI", false), DisplayLanguage: a.in.text("displayLanguage"),
		ExcludeSystems: a.in.texts("exclude-system"),
		Versions: terminology.SystemVersions{
			Default: a.in.texts("system-version"), Check: a.in.texts("check-system-version"), Force: a.in.texts("force-system-version"),
		},
	})
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	return &response{status: http.StatusOK, body: body}, nil
}
