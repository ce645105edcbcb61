package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

func TestResidentsAreValidAndTheSameHoweverManyThereAre(t *testing.T) {
	list := []resident{0, 1, 2, 51, 9999}
	body, n, err := bundleOf(list)
	if err != nil {
		t.Fatal(err)
	}
	var b bundle
	if err := json.Unmarshal(body, &b); err != nil {
		t.Fatal(err)
	}
	if want := 8*len(list) + longCount; n != want || len(b.Entry) != want {
		t.Errorf("got %d entries, said to be %d, want %d", len(b.Entry), n, want)
	}
	for _, e := range b.Entry {
		d, err := fhir.Parse(e.Resource, fhir.Limits{})
		if err == nil {
			err = validate.Resource(d)
		}
		if err != nil {
			t.Errorf("%s: %v", e.Resource, err)
		}
	}
	again, _, err := bundleOf(list)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(body), string(again)); d != "" {
		t.Errorf("they differ the second time: %s", d)
	}
}

func TestGrowthIsJudgedByTheReadsBeside(t *testing.T) {
	size := func(n int, read, search float64) Size {
		return Size{Residents: n, ReadBeside: []Figure{{P50: read}, {P50: read}},
			Searches: []Figure{{Shape: "Patient?identifier", P50: search, Reads: 1}, {Shape: growing[0], P50: search, Reads: 1}}}
	}
	sizes := []Size{size(10, 1, 2), size(100, 2, 5)}
	sizes[1].Long = &Figure{ServerCPU: 6, Reads: 1}
	sizes[1].LongReads = []Figure{{ServerCPU: 1}, {ServerCPU: 2}}
	want := []Goal{
		{"CPU per " + longPage, "shared", 4, 4, false, "× read", true},
		{"median among 100, Patient?identifier", "shared", 1.25, 1.3, false, "× among 10", true},
	}
	if d := cmp.Diff(want, growthGoals(sizes)); d != "" {
		t.Errorf("goals differ (-want +got):\n%s", d)
	}
}
