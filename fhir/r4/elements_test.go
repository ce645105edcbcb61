package r4_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// The tables say of an element what the standard says.
func TestElementOf(t *testing.T) {
	type facts struct {
		Type                          string
		Required, Many, Summary, Modi bool
		Choice, ValueSet              string
		Targets                       []fhir.Type
	}
	for _, tt := range []struct {
		path, name string
		want       facts
	}{
		{"Patient", "id", facts{Type: "id", Summary: true}},
		{"Patient", "active", facts{Type: "boolean", Summary: true, Modi: true}},
		{"Patient", "contact", facts{Type: "Patient.contact", Many: true}},
		{"Patient", "gender", facts{Type: "code", Summary: true, ValueSet: "http://hl7.org/fhir/ValueSet/administrative-gender"}},
		{"Patient", "generalPractitioner", facts{Type: "Reference", Many: true, Targets: []fhir.Type{"Organization", "Practitioner", "PractitionerRole"}}},
		{"Patient", "deceasedBoolean", facts{Type: "boolean", Summary: true, Modi: true, Choice: "deceased"}},
		{"Patient", "contained", facts{Type: "Resource", Many: true}},
		{"Patient.link", "type", facts{Type: "code", Required: true, Summary: true, ValueSet: "http://hl7.org/fhir/ValueSet/link-type"}},
		{"Observation.component", "referenceRange", facts{Type: "Observation.referenceRange", Many: true}},
		{"Observation", "valueQuantity", facts{Type: "Quantity", Summary: true, Choice: "value"}},
		{"Observation", "focus", facts{Type: "Reference", Many: true, Summary: true}},
		{"Condition", "clinicalStatus", facts{Type: "CodeableConcept", Summary: true, Modi: true, ValueSet: "http://hl7.org/fhir/ValueSet/condition-clinical"}},
		{"Extension", "url", facts{Type: "uri", Required: true}},
		{"Element", "id", facts{Type: "string"}},
		{"Narrative", "div", facts{Type: "xhtml", Required: true}},
		{"Timing", "repeat", facts{Type: "Timing.repeat", Summary: true}},
		{"Bundle.entry", "resource", facts{Type: "Resource", Summary: true}},
	} {
		t.Run(tt.path+"."+tt.name, func(t *testing.T) {
			e := r4.ElementOf(tt.path, tt.name)
			if e == nil {
				t.Fatal("not found")
			}
			got := facts{e.Type(), e.Required(), e.Many(), e.Summary(), e.Modifier(), e.Choice(), "", e.Targets()}
			if v := e.ValueSet(); v != nil {
				got.ValueSet = v.URL
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, name := range []string{"", "Active", "value[x]", "value", "resourceType", "names"} {
		if r4.ElementOf("Patient", name) != nil {
			t.Errorf("Patient has an element %q", name)
		}
	}
	if r4.TypeOf("string") != nil || r4.TypeOf("patient") != nil {
		t.Error("a path that has no elements was found")
	}
}

// Each element of each type is found by its name, and a type for it exists.
func TestEveryElementIsFound(t *testing.T) {
	n := 0
	seen := map[string]bool{}
	var walk func(path string)
	walk = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		typ := r4.TypeOf(path)
		if typ == nil {
			t.Fatalf("no type %s", path)
		}
		for i := range typ.Elements() {
			e := &typ.Elements()[i]
			n++
			if typ.Element(e.Name) != e {
				t.Errorf("%s.%s is not found", path, e.Name)
			}
			if e.Complex() != nil {
				walk(e.Type())
			}
		}
	}
	for _, name := range fhir.Types {
		walk(string(name))
	}
	if n < 8000 {
		t.Errorf("only %d elements", n)
	}
}

// A choice is found by its name in FHIRPath.
func TestChoice(t *testing.T) {
	var got []string
	for _, e := range r4.TypeOf("Observation").Choice("effective") {
		got = append(got, e.Name)
	}
	want := []string{"effectiveDateTime", "effectivePeriod", "effectiveTiming", "effectiveInstant"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(r4.TypeOf("Observation").Choice("status")); n != 1 {
		t.Errorf("status has %d elements", n)
	}
	if n := len(r4.TypeOf("Observation").Choice("nothing")); n != 0 {
		t.Errorf("nothing has %d elements", n)
	}
}

// H-02, S-41
func TestSummaryAndMandatory(t *testing.T) {
	if diff := cmp.Diff([]string{"status", "code"}, r4.Mandatory("Observation")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"medicationCodeableConcept", "medicationReference"}, r4.Mandatory("MedicationStatement")[1:3]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"id", "meta", "implicitRules", "identifier", "active", "name"}, r4.Summary("Patient")[:6]); diff != "" {
		t.Error(diff)
	}
}

func TestValueSet(t *testing.T) {
	gender := r4.ElementOf("Patient", "gender").ValueSet()
	if !gender.HasCode("female") || gender.HasCode("Female") || gender.HasCode("") {
		t.Error("the codes of gender are wrong")
	}
	if got := gender.System("male"); got != "http://hl7.org/fhir/administrative-gender" {
		t.Errorf("got system %q", got)
	}
	status := r4.ElementOf("Condition", "clinicalStatus").ValueSet()
	const system = "http://terminology.hl7.org/CodeSystem/condition-clinical"
	for _, code := range []string{"active", "recurrence", "remission", "resolved"} { // some are children of others
		if !status.Has(system, code) {
			t.Errorf("%s is missing", code)
		}
	}
	if status.Has("http://example.org", "active") {
		t.Error("a code of another system is in the value set")
	}
}

func BenchmarkElementOf(b *testing.B) {
	typ := r4.TypeOf("Observation")
	for b.Loop() {
		typ.Element("valueQuantity")
	}
}
