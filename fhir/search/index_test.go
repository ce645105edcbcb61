package search_test

import (
	"math/bits"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

func TestTermsOfAnObservation(t *testing.T) {
	d := document(t, `{"resourceType":"Observation","id":"1","status":"final",
		"category":[{"coding":[{"system":"cat","code":"laboratory"}]}],
		"code":{"coding":[{"system":"loinc","code":"1-2","display":"Iron"}]},
		"subject":{"reference":"Patient/7"},"effectiveDateTime":"2020-01-02T03:04:05Z",
		"valueQuantity":{"value":5,"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}}`)
	at := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	want := &search.Terms{
		Time: at,
		Tokens: []search.Token{
			{Path: "Observation.category", Value: "laboratory"}, {Path: "Observation.category", Value: "cat|laboratory"},
			{Path: "Observation.code", Value: "1-2"}, {Path: "Observation.code", Value: "loinc|1-2"},
			{Path: "Observation.status", Value: "final"},
		},
		Refs: []search.Reference{
			{Path: "Observation.subject", Target: "Patient/7"},
			{Path: "Observation.subject", Target: "Patient/7", Pair: search.Token{Path: "Observation.code", Value: "loinc|1-2"}},
		},
		Dates: []search.DateRange{{Path: "Observation.effective", Lo: at, Hi: at.Add(time.Second)}},
		Numbers: []search.NumberRange{
			{Path: "Observation.value", Lo: 5, Hi: 5},
			{Path: "Observation.value", Unit: "http://unitsofmeasure.org|g", Lo: 0.005, Hi: 0.005},
			{Path: "Observation.code$Observation.value", Unit: "loinc|1-2", Lo: 5, Hi: 5},
			{Path: "Observation.code$Observation.value", Unit: "loinc|1-2$http://unitsofmeasure.org|g", Lo: 0.005, Hi: 0.005},
		},
	}
	got := search.R4.Index(d)
	got.Present, got.Strings = 0, nil
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(search.Terms{})); diff != "" {
		t.Error(diff)
	}
}

func TestEqualTermsOccurOnce(t *testing.T) {
	for _, d := range examples(t) {
		terms := search.R4.Index(d)
		seen := map[any]bool{}
		for _, list := range [][]any{anys(terms.Tokens), anys(terms.Refs), anys(terms.Dates), anys(terms.Numbers)} {
			for _, v := range list {
				if seen[v] {
					t.Fatalf("%s/%s has %v twice", d.Type, d.ID, v)
				}
				seen[v] = true
			}
		}
	}
}

func anys[T any](list []T) []any {
	var out []any
	for _, v := range list {
		out = append(out, v)
	}
	return out
}

// Three in four of the parameters of R4 that are not common to all types have a value in its examples; those
// must be found there.
func TestTheExamplesHaveValuesForMostParameters(t *testing.T) { // S-18
	present := map[fhir.Type]uint64{}
	for _, d := range examples(t) {
		present[d.Type] |= search.R4.Index(d).Present
	}
	have, all := 0, 0
	for _, on := range fhir.Types {
		have += bits.OnesCount64(present[on])
		for _, p := range search.Parameters(on) {
			if p.Type != "composite" && p.Name[0] != '_' {
				all++
			}
		}
	}
	t.Logf("%d of %d parameters have a value", have, all)
	if have < 1240 {
		t.Errorf("only %d of %d parameters have a value in an example", have, all)
	}
}

func TestTheMainDateIsWhenItHappened(t *testing.T) {
	for json, want := range map[string]string{
		`{"resourceType":"Condition","onsetDateTime":"2001","recordedDate":"2002-03-04"}`:                      "2001-01-01",
		`{"resourceType":"Condition","recordedDate":"2002-03-04"}`:                                             "2002-03-04",
		`{"resourceType":"Encounter","period":{"start":"2003-01-01","end":"2004-01-01"}}`:                      "2003-01-01",
		`{"resourceType":"Procedure","performedPeriod":{"end":"2004-01-01"}}`:                                  "0001-01-01",
		`{"resourceType":"Observation","issued":"2005-01-01T00:00:00Z"}`:                                       "0001-01-01",
		`{"resourceType":"MedicationRequest","authoredOn":"2006-01-01"}`:                                       "2006-01-01",
		`{"resourceType":"DiagnosticReport","effectiveDateTime":"2006-01-01","issued":"2007-01-01T00:00:00Z"}`: "2006-01-01",
	} {
		if got := search.R4.Index(document(t, json)).Time.Format(time.DateOnly); got != want {
			t.Errorf("%s: got %s, want %s", json, got, want)
		}
	}
}

func TestTooManyTermsAreToldAndNotMade(t *testing.T) {
	coding := strings.Repeat(`{"code":"a"},`, 3000) + `{"code":"b"}`
	component := `{"code":{"coding":[` + coding + `]},"valueCodeableConcept":{"coding":[` + strings.ReplaceAll(coding, `"a"`, `"c"`) + `]}}`
	for claim, json := range map[string]string{
		"names":      `{"resourceType":"Patient","name":[` + strings.Repeat(`{"family":"Abcdefghijklmnop Qrstuvwxyz"},`, 20000) + `{}]}`,
		"components": `{"resourceType":"Observation","component":[` + strings.Repeat(component+",", 60) + component + `]}`,
	} {
		terms := search.R4.Index(document(t, json))
		if n := len(terms.Tokens) + len(terms.Strings) + len(terms.Numbers); !terms.TooMany || n > 2*search.MaxTerms {
			t.Errorf("%s: %d terms, too many: %t", claim, n, terms.TooMany)
		}
	}
	if search.R4.Index(document(t, pressure)).TooMany {
		t.Error("a blood pressure has too many terms")
	}
}

func TestTheMainDateIsTheBeginningOfItsElement(t *testing.T) {
	for _, d := range examples(t) {
		path, _ := search.MainDate(d.Type)
		terms := search.R4.Index(d)
		for _, r := range terms.Dates {
			if r.Path == path && !r.Lo.Equal(terms.Time) {
				t.Errorf("%s/%s: the time is %v, its element begins %v", d.Type, d.ID, terms.Time, r.Lo)
			}
		}
	}
}

func BenchmarkIndex(b *testing.B) {
	for name, json := range map[string]string{"Observation": pressure, "Patient": patient} {
		d := document(b, json)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				search.R4.Index(d)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	params, err := search.ParseQuery("patient=7&code=http://loinc.org|1-2&_sort=-date&_count=50")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := search.Parse("Observation", params, search.Options{Base: base}); err != nil {
			b.Fatal(err)
		}
	}
}
