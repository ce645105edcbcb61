package search

import (
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// relative returns the reference without the base URL of this server and
// without a version.
// https://hl7.org/fhir/R4/references.html#literal
func relative(ref, base string) string {
	if base != "" {
		if rest, ok := strings.CutPrefix(ref, strings.TrimSuffix(base, "/")+"/"); ok {
			ref = rest
		}
	}
	if at := strings.Index(ref, "/_history/"); at >= 0 {
		ref = ref[:at]
	}
	return ref
}

// typeIn returns the type of the resource that a reference names, "" if it
// does not say.
func typeIn(ref string) fhir.Type {
	at := strings.LastIndexByte(ref, '/')
	if at < 0 {
		return ""
	}
	t := fhir.Type(ref[strings.LastIndexByte(ref[:at], '/')+1 : at])
	if !t.Known() {
		return ""
	}
	return t
}

// reference returns the condition that a reference parameter sets on e: id,
// Type/id, URL or canonical URL. The type is that of the modifier, if any.
// https://hl7.org/fhir/R4/search.html#reference
func (e element) reference(p *parameter, name, text string, as fhir.Type, o Options) (Expr, error) {
	text, err := unescape(name, text)
	if err != nil {
		return nil, err
	}
	var or Or
	if e.has("canonical") || e.has("uri") {
		or = append(or, HasToken{e.path, text})
	}
	if !e.has("Reference") && !e.has("Resource") {
		return or.simple(), nil
	}
	only := as
	if only == "" {
		only = fhir.Type(e.only)
	}
	target := relative(text, o.Base)
	switch t := typeIn(target); {
	case strings.IndexByte(target, '/') < 0 && fhir.ValidID(target):
		for _, t := range e.targets(p, only) {
			or = append(or, HasReference{Path: e.path, Target: string(t) + "/" + target})
		}
	case t == "" && !strings.Contains(target, ":"):
		return nil, invalid(name, "is not a reference")
	case only == "" || t == only || t == "":
		or = append(or, HasReference{Path: e.path, Target: target})
	}
	return or.simple(), nil
}

// targets returns the types that references at e can be to.
func (e element) targets(p *parameter, only fhir.Type) []fhir.Type {
	switch {
	case only != "":
		return []fhir.Type{only}
	case e.only != "":
		return []fhir.Type{fhir.Type(e.only)}
	case p.Targets == nil:
		return fhir.Types
	}
	return p.Targets
}

// canTarget reports whether p can refer to resources of the type.
func (p *parameter) canTarget(t fhir.Type) bool {
	return p.Targets == nil || slices.Contains(p.Targets, t)
}

// paths returns the elements of p with literal references to the type, or to
// any type.
func (p *parameter) paths(to fhir.Type) []Path {
	var list []Path
	for _, e := range p.elements {
		if (e.has("Reference") || e.has("Resource")) && (to == "" || e.only == "" || e.only == string(to)) {
			list = append(list, e.path)
		}
	}
	return list
}

// identifierType is the datatype of Reference.identifier.
// https://hl7.org/fhir/R4/references.html#logical
var identifierType = []r4.SearchLeaf{{Type: "Identifier"}}
