package view

import (
	"os"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
)

// Each view that comes with Cordon says what it is, has a key, a row of an empty
// resource or none, and its place in the documentation.
func TestTheShippedViewsAreWhatTheySay(t *testing.T) {
	docs, err := os.ReadFile("../../docs/views.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(Shipped()) < 10 {
		t.Errorf("%d views", len(Shipped()))
	}
	for _, v := range Shipped() {
		if v.Title == "" || v.URL != "urn:cordon:view:"+v.Name || !strings.HasSuffix(v.Columns[0].Name, "_id") {
			t.Errorf("%s: %q %q %v", v.Name, v.Title, v.URL, v.Columns[0])
		}
		if !strings.Contains(string(docs), "| `"+v.Name+"` | "+v.Title) {
			t.Errorf("docs/views.md does not say of %s: %s", v.Name, v.Title)
		}
		for _, reference := range []string{v.URL, v.URL + "|1", "ViewDefinition/" + v.Name, "ViewDefinition/" + strings.ReplaceAll(v.Name, "_", "-")} {
			if named, err := Named(reference); err != nil || named != v {
				t.Errorf("%s: %v", reference, err)
			}
		}
		rows, _, err := on(t, string(Source(v.Name)), `{"resourceType":"`+string(v.Of)+`","id":"x"}`)
		if err != nil || len(rows) > 1 || len(rows) == 1 && rows[0][0] != string(v.Of)+"/x" {
			t.Errorf("%s of nothing: %v %v", v.Name, rows, err)
		}
	}
	for _, none := range []string{"", "ViewDefinition/", "claim", "ViewDefinition/../claim", "urn:cordon:view:none"} {
		if _, err := Named(none); !fhir.IsCode(err, fhir.NotFound) {
			t.Errorf("%s: %v", none, err)
		}
	}
}

// A blood pressure has a row for each of its components, other observations one.
func TestObservationsWithComponentsHaveTheirRows(t *testing.T) {
	const head = `{"resourceType":"Observation","id":"x","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],"code":{"coding":[{"code":"85354-9"}]},"effectiveInstant":"2020-01-01T00:00:00Z",`
	for body, want := range map[string]int{
		`"component":[{"code":{"text":"a"},"valueQuantity":{"value":120}},{"code":{"text":"b"},"valueQuantity":{"value":80}}]}`: 2,
		`"valueQuantity":{"value":1.0,"unit":"kg"}}`:             1,
		`"valueString":"x","component":[{"code":{"text":"a"}}]}`: 2,
		`"status":"final"}`: 1,
	} {
		rows, _, err := on(t, string(Source("observation_vitals")), strings.Replace(head+body, `,"status":"final"}`, "}", 1))
		if err != nil || len(rows) != want {
			t.Errorf("%s: %v, %v", body, rows, err)
		}
	}
}
