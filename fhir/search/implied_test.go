package search

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
)

// AUTHZ-17: that a resource has no label is told by its presence bit, so no label
// may be in the index without it, however it is spelled.
func TestNoLabelIsIndexedWithoutItsPresence(t *testing.T) {
	for _, on := range []fhir.Type{"Patient", "Observation", "Encounter", "DocumentReference", "Consent"} {
		q, err := Parse(on, []Param{{Name: "_security", Value: "R"}}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		present, ok := Implied(on, Or{q.Where, q.Where})
		if !ok {
			t.Fatalf("%s: nothing is implied by %v", on, q.Where)
		}
		path, labelled := q.Where.(HasToken).Path, 0
		for _, label := range []string{`{"code":"R"}`, `{"system":"http://l","code":"R"}`, `{"system":"http://l"}`, `{"code":""}`, `{"display":"R"}`, `{"code":5}`, `{}`, `null`, `{"system":"","code":"R"}`, `{"extension":[{"url":"u"}]}`} {
			d, err := fhir.Parse(fmt.Appendf(nil, `{"resourceType":%q,"meta":{"security":[%s]}}`, on, label), fhir.Limits{})
			if err != nil {
				continue
			}
			terms := Schema{}.Index(d)
			has := slices.ContainsFunc(terms.Tokens, func(x Token) bool { return x.Path == path })
			if has {
				labelled++
			}
			if has && terms.Present&(1<<present.Bit) == 0 {
				t.Errorf("%s: %s is in the index, and no label is present", on, label)
			}
		}
		if labelled < 3 {
			t.Errorf("%s: only %d of the spellings are in the index", on, labelled)
		}
	}
}

// S-12: an element can be a code or a reference, each with a parameter of its own:
// that the one is missing does not say that the other is.
func TestACodeIsNotImpliedByAReferenceInItsElement(t *testing.T) {
	q, err := Parse("Medication", []Param{{Name: "ingredient-code", Value: "s|x"}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := fhir.Parse([]byte(`{"resourceType":"Medication","ingredient":[{"itemCodeableConcept":{"coding":[{"system":"s","code":"x"}]}}]}`), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	present, ok := Implied("Medication", q.Where)
	if terms := (Schema{}).Index(d); ok && terms.Present&(1<<present.Bit) == 0 {
		t.Error("the code is in the index, and what it implies is not present")
	}
}
