package search

import (
	"maps"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A Parameter is a search parameter that clients can use.
type Parameter struct {
	Name       string
	Type       string // a code of http://hl7.org/fhir/search-param-type
	Definition string // canonical URL
	Targets    []fhir.Type
}

// Parameters returns the search parameters of t, in order of name; for the
// whole system those that all types have.
func Parameters(t fhir.Type) []Parameter {
	if t == "" {
		return slices.DeleteFunc(Parameters("Basic"), func(p Parameter) bool { return !common[p.Name] })
	}
	tb := tableOf(t)
	if tb == nil {
		return nil
	}
	var list []Parameter
	for _, p := range tb.parameters {
		list = append(list, Parameter{p.Code, p.Type, p.URL, p.Targets})
	}
	return list
}

// general describes the specials that clients can use. R4 defines no
// SearchParameter for _list.
var general = map[string]Parameter{
	"_content": {Name: "_content", Type: "string", Definition: "http://hl7.org/fhir/SearchParameter/Resource-content"},
	"_filter":  {Name: "_filter", Type: "special", Definition: "http://hl7.org/fhir/SearchParameter/filter"},
	"_list":    {Name: "_list", Type: "special"},
	"_text":    {Name: "_text", Type: "string", Definition: "http://hl7.org/fhir/SearchParameter/DomainResource-text"},
}

// General returns the search parameters of t that are about no element, in
// order of name; for the whole system those that all types have.
// https://hl7.org/fhir/R4/search.html#all
func General(t fhir.Type) []Parameter {
	if t == auditEvent {
		return nil
	}
	var list []Parameter
	for _, name := range slices.Sorted(maps.Keys(specials)) {
		p, ok := general[name]
		if !ok || name == "_text" && (t == "" || r4.ElementOf(string(t), "text") == nil) {
			continue
		}
		list = append(list, p)
	}
	return list
}

// Includes returns the values of _include that t takes, in order.
func Includes(t fhir.Type) []string {
	tb := tableOf(t)
	if tb == nil || t == auditEvent {
		return nil
	}
	var list []string
	for _, p := range tb.parameters {
		if p.Type == "reference" {
			list = append(list, string(t)+":"+p.Code)
		}
	}
	return list
}

// RevIncludes returns the values of _revinclude that t takes, in order: the
// references of all types that can be to t.
func RevIncludes(t fhir.Type) []string {
	var list []string
	for _, from := range fhir.Types {
		if from == auditEvent {
			continue
		}
		for _, p := range tableOf(from).parameters {
			if p.Type == "reference" && p.canTarget(t) && len(p.paths(t))+len(p.canonicals(t)) > 0 {
				list = append(list, string(from)+":"+p.Code)
			}
		}
	}
	return list
}

// ParseScope reads the query of a granular SMART scope on type t, as in
// category=http://…|laboratory. Only plain search parameters can be used: no
// modifiers, chains or parameters that shape the answer.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#finer-grained-resource-constraints-using-search-parameters
func ParseScope(t fhir.Type, query string) (Expr, error) {
	params, err := ParseQuery(query)
	if err != nil {
		return nil, err
	}
	if len(params) == 0 {
		return nil, fhir.Errorf(fhir.Invalid, "the scope has a query without parameters")
	}
	for _, p := range params {
		if strings.ContainsAny(p.Name, ":.") || controls[p.Name] != nil || specials[p.Name] != nil || passedOver[p.Name] {
			return nil, unsupported(p.Name, "cannot be used in a scope")
		}
		if p.Value == "" {
			return nil, invalid(p.Name, "has no value")
		}
	}
	q, err := Parse(t, params, Options{})
	if err != nil {
		return nil, err
	}
	return q.Where, nil
}
