package demo_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/cmd/cordon/demo"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

type bundle struct {
	Type  string
	Entry []struct {
		Resource json.RawMessage
		Request  struct{ Method, URL string }
	}
}

func bundles(t *testing.T, seed uint64, patients int) (all []bundle) {
	t.Helper()
	for text := range demo.Bundles(seed, patients) {
		var b bundle
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatalf("a Bundle is not JSON: %v", err)
		}
		all = append(all, b)
	}
	return all
}

func TestTheSameSeedGivesTheSameBytes(t *testing.T) {
	a := slices.Collect(demo.Bundles(7, 3))
	b := slices.Collect(demo.Bundles(7, 5))
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			t.Errorf("Bundle %d differs between two runs", i)
		}
	}
	c := slices.Collect(demo.Bundles(8, 3))
	if bytes.Equal(a[1], c[1]) {
		t.Error("another seed gave the same patient")
	}
}

func TestEveryResourceIsPutUnderItsOwnID(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range bundles(t, 1, 20) {
		if b.Type != "transaction" {
			t.Errorf("got a %s, want a transaction", b.Type)
		}
		for _, e := range b.Entry {
			var r struct{ ResourceType, ID string }
			if err := json.Unmarshal(e.Resource, &r); err != nil {
				t.Fatal(err)
			}
			if want := r.ResourceType + "/" + r.ID; e.Request.Method != "PUT" || e.Request.URL != want {
				t.Errorf("got %s %s, want PUT %s", e.Request.Method, e.Request.URL, want)
			}
			if seen[e.Request.URL] {
				t.Errorf("%s is there twice", e.Request.URL)
			}
			seen[e.Request.URL] = true
		}
	}
}

// Bundles are sent in order, so a reference may point back or within.
func TestEveryReferenceLeadsToAResourceSentBeforeOrWithIt(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range bundles(t, 1, 20) {
		for _, e := range b.Entry {
			seen[e.Request.URL] = true
		}
		for _, e := range b.Entry {
			for _, ref := range references(t, e.Resource) {
				if !seen[ref] {
					t.Errorf("%s refers to %s, which nothing has put", e.Request.URL, ref)
				}
			}
		}
	}
}

func references(t *testing.T, resource json.RawMessage) (refs []string) {
	var tree any
	if err := json.Unmarshal(resource, &tree); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if ref, ok := v["reference"].(string); ok {
				refs = append(refs, ref)
			}
			for _, k := range slices.Sorted(maps.Keys(v)) {
				walk(v[k])
			}
		}
	}
	walk(tree)
	return refs
}

func TestAPatientHasAFullRecord(t *testing.T) {
	want := strings.Fields("Patient CareTeam Coverage Encounter Observation Condition MedicationRequest Procedure DiagnosticReport Immunization DocumentReference Claim AllergyIntolerance CarePlan Goal Organization Location Practitioner PractitionerRole")
	got := map[string]int{}
	all := bundles(t, 1, 20)
	for _, b := range all {
		for _, e := range b.Entry {
			got[strings.Split(e.Request.URL, "/")[0]]++
		}
	}
	for _, typ := range want {
		if got[typ] == 0 {
			t.Errorf("no %s among %d patients", typ, len(all)-1)
		}
	}
	t.Log(fmt.Sprint(got))
}

func TestNothingHappensBeforeBirthOrAfterTheLastDay(t *testing.T) {
	for _, b := range bundles(t, 3, 40)[1:] {
		var born string
		for _, e := range b.Entry {
			var r struct {
				ResourceType, BirthDate, EffectiveDateTime string
			}
			if err := json.Unmarshal(e.Resource, &r); err != nil {
				t.Fatal(err)
			}
			if r.ResourceType == "Patient" {
				born = r.BirthDate
			}
			if at := r.EffectiveDateTime; at != "" && (at < born || at > demo.Today.AddDate(0, 0, 1).Format("2006-01-02")) {
				t.Errorf("%s is dated %s; the patient was born on %s", e.Request.URL, at, born)
			}
		}
	}
}

func BenchmarkBundles(b *testing.B) {
	n := 0
	for b.Loop() {
		for text := range demo.Bundles(1, 10) {
			n += len(text)
		}
	}
	b.SetBytes(int64(n / max(1, b.N)))
}

func TestEveryResourceIsValid(t *testing.T) {
	for _, b := range bundles(t, 1, 20) {
		for _, e := range b.Entry {
			d, err := fhir.Parse(e.Resource, fhir.Limits{})
			if err != nil {
				t.Fatalf("%s: %v", e.Request.URL, err)
			}
			if err := validate.Resource(d); err != nil {
				t.Errorf("%s: %v", e.Request.URL, err)
			}
		}
	}
}
