package rest

import (
	"context"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// subsumesOperations say how two concepts of a code system relate.
// https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
var subsumesOperations = []operation{{
	name: "subsumes", url: definition("CodeSystem-subsumes"), level: onType | onInstance, on: []fhir.Type{"CodeSystem"},
	in: []parameter{
		{name: "codeA", typ: "code", max: 1},
		{name: "codeB", typ: "code", max: 1},
		{name: "system", typ: "uri", max: 1},
		{name: "version", typ: "string", max: 1},
		{name: "codingA", typ: "Coding", max: 1},
		{name: "codingB", typ: "Coding", max: 1},
	},
	whole: ofTerminology(subsumes),
}}

func subsumes(_ context.Context, s *terminology.Service, a *asked) (*response, error) {
	x, y := a.coding("codeA", "codingA"), a.coding("codeB", "codingB")
	if a.resource != nil {
		system, version := text(member(a.resource, "url")), text(member(a.resource, "version"))
		for _, c := range []*terminology.Coding{&x, &y} {
			if c.System != "" && c.System != system || c.Version != "" && c.Version != version {
				return nil, fhir.Errorf(fhir.Invalid, "the operation is called on one code system, and a code of another is given")
			}
			c.System, c.Version = system, version
		}
	}
	if a.in.has("codingA") && a.in.has("codingB") {
		if err := a.goWith("codeA", "system", "version"); err != nil {
			return nil, err
		}
	}
	switch {
	case a.in.has("codeA") && a.in.has("codingA"), a.in.has("codeB") && a.in.has("codingB"):
		return nil, fhir.Errorf(fhir.Invalid, "a code is given twice, by itself and as a coding")
	case x.Code == "" || y.Code == "" || x.System == "" || y.System == "":
		return nil, fhir.Errorf(fhir.Invalid, "codeA and codeB are to be given with system, or else codingA and codingB")
	case x.System != y.System || x.Version != y.Version:
		return nil, fhir.Errorf(fhir.Invalid, "the two codes are of different code systems, or versions")
	}
	outcome, err := s.Subsumes(x.System, x.Version, x.Code, y.Code)
	if err != nil {
		return nil, err
	}
	var out results
	out.text("outcome", "code", outcome)
	return out.response(), nil
}

// coding returns one of the two.
func (a *asked) coding(code, coding string) terminology.Coding {
	if c := a.in.json(coding); c != nil && !a.in.has(code) {
		return codingOf(c)
	}
	return terminology.Coding{System: a.in.text("system"), Version: a.in.text("version"), Code: a.in.text(code)}
}
