package r4_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// Every SearchParameter of the package is compiled for every type that it is
// for. Those without an expression or a base, and three examples, define
// nothing that a server could read.
func TestEverySearchParameterIsCompiled(t *testing.T) { // S-18
	var without []string
	for name, body := range fhirtest.Files(t, fhirtest.Core) {
		if !strings.HasPrefix(name, "package/SearchParameter-") {
			continue
		}
		var sp struct {
			ID, URL, Code, Type, Expression string
			Base                            []fhir.Type
		}
		if err := json.Unmarshal(body, &sp); err != nil {
			t.Fatal(err)
		}
		bases := sp.Base
		if slices.Contains(bases, "Resource") {
			bases = fhir.Types
		}
		compiled := len(bases) > 0
		for _, on := range bases {
			list := r4.SearchParameters(on)
			i := slices.IndexFunc(list, func(p r4.SearchParameter) bool { return p.URL == sp.URL })
			if compiled = compiled && i >= 0; !compiled {
				break
			}
			if p := list[i]; p.Code != sp.Code || p.Type != sp.Type || len(p.Branches)+len(p.Composites) == 0 {
				t.Errorf("%s of %s is compiled to nothing", sp.ID, on)
			}
		}
		if !compiled {
			without = append(without, sp.ID)
		}
	}
	want := []string{
		"DomainResource-text", "Resource-content", "Resource-query", "filter", // no expression: not read from an element
		"codesystem-extensions-CodeSystem-author", "codesystem-extensions-CodeSystem-effective", "codesystem-extensions-CodeSystem-end", // no base
		"codesystem-extensions-CodeSystem-keyword", "codesystem-extensions-CodeSystem-workflow",
		"valueset-extensions-ValueSet-author", "valueset-extensions-ValueSet-effective", "valueset-extensions-ValueSet-end",
		"valueset-extensions-ValueSet-keyword", "valueset-extensions-ValueSet-workflow",
		"patient-extensions-Patient-age", "patient-extensions-Patient-birthOrderBoolean", // no expression
		"example", "example-extension", "example-reference",
	}
	slices.Sort(want)
	slices.Sort(without)
	if diff := cmp.Diff(want, without); diff != "" {
		t.Error(diff)
	}
}
