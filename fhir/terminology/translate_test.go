package terminology_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

const pets = `{"resourceType":"ConceptMap","url":"http://example.org/pets","status":"active",
	"sourceCanonical":"http://example.org/vs/animals","targetUri":"http://example.org/vs/pets",
	"group":[{"source":"http://example.org/animals","target":"http://example.org/pets","element":[
		{"code":"cat","display":"House cat","target":[{"code":"KITTY","display":"Kitty","equivalence":"narrower","product":[{"property":"food","system":"http://example.org/food","value":"fish"}]}]},
		{"code":"hen","target":[{"code":"BIRD","equivalence":"wider","dependsOn":[{"property":"garden","system":"http://example.org/garden","value":"yes"}]}]},
		{"code":"mammoth","target":[{"equivalence":"unmatched"}]}],
	  "unmapped":{"mode":"fixed","code":"OTHER","display":"Other pet"}}]}`

// https://hl7.org/fhir/R4/conceptmap-operation-translate.html
func TestTranslate(t *testing.T) {
	s := service(t, pets,
		`{"resourceType":"ConceptMap","url":"http://example.org/first","status":"active","group":[{"source":"http://example.org/animals","target":"http://example.org/pets","unmapped":{"mode":"other-map","url":"http://example.org/pets"}}]}`,
		`{"resourceType":"ConceptMap","url":"http://example.org/same","status":"active","group":[{"source":"http://example.org/animals","target":"http://example.org/copy","unmapped":{"mode":"provided"}}]}`)
	animal := func(code string) []terminology.Coding {
		return []terminology.Coding{{System: "http://example.org/animals", Code: code}}
	}
	pet := func(code, display string) terminology.Coding {
		return terminology.Coding{System: "http://example.org/pets", Code: code, Display: display}
	}
	const from = "http://example.org/pets"
	kitty := []terminology.Match{{Equivalence: "narrower", Concept: pet("KITTY", "Kitty"), Source: from,
		Products: []terminology.Dependency{{Property: "food", System: "http://example.org/food", Value: "fish"}}}}
	for _, tt := range []struct {
		claim string
		req   terminology.TranslateRequest
		want  []terminology.Match
	}{
		{"forward", terminology.TranslateRequest{Source: terminology.Source{URL: from}, Codings: animal("cat")}, kitty},
		{"by the value sets that the map is between", terminology.TranslateRequest{SourceValueSet: "http://example.org/vs/animals", TargetValueSet: "http://example.org/vs/pets", Codings: animal("cat")}, kitty},
		{"to another system only", terminology.TranslateRequest{Source: terminology.Source{URL: from}, Codings: animal("cat"), TargetSystem: "http://example.org/none"}, nil},
		{"backward", terminology.TranslateRequest{Source: terminology.Source{URL: from}, Codings: []terminology.Coding{pet("KITTY", "")}, Reverse: true},
			[]terminology.Match{{Equivalence: "wider", Concept: terminology.Coding{System: "http://example.org/animals", Code: "cat", Display: "House cat"}, Source: from}}},
		{"what depends on what is not given", terminology.TranslateRequest{Source: terminology.Source{URL: from}, Codings: animal("hen")}, nil},
		{"what depends on what is given", terminology.TranslateRequest{Source: terminology.Source{URL: from}, Codings: animal("hen"), Dependencies: []terminology.Dependency{{Property: "garden", System: "http://example.org/garden", Value: "yes"}}},
			[]terminology.Match{{Equivalence: "wider", Concept: pet("BIRD", ""), Source: from}}},
		{"what is known to have no match", terminology.TranslateRequest{Source: terminology.Source{URL: from}, Codings: animal("mammoth")}, []terminology.Match{{Equivalence: "unmatched", Source: from}}},
		{"unmapped: a fixed code", terminology.TranslateRequest{Source: terminology.Source{URL: from}, Codings: animal("bat")}, []terminology.Match{{Equivalence: "inexact", Concept: pet("OTHER", "Other pet"), Source: from}}},
		{"unmapped: another map", terminology.TranslateRequest{Source: terminology.Source{URL: "http://example.org/first"}, Codings: animal("cat")}, kitty},
		{"unmapped: the same code", terminology.TranslateRequest{Source: terminology.Source{URL: "http://example.org/same"}, Codings: animal("bat")},
			[]terminology.Match{{Equivalence: "equal", Concept: terminology.Coding{System: "http://example.org/copy", Code: "bat"}, Source: "http://example.org/same"}}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			got, err := s.Translate(tt.req)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	if _, err := s.Translate(terminology.TranslateRequest{Source: terminology.Source{URL: "http://example.org/nowhere"}, Codings: animal("cat")}); !fhir.IsCode(err, fhir.NotFound) {
		t.Errorf("a map that is not known: got %v", err)
	}
}

func TestConceptMapsThatLeadInACircleAreRefused(t *testing.T) {
	s := service(t, `{"resourceType":"ConceptMap","url":"http://example.org/loop","status":"active","group":[
		{"source":"http://example.org/a","target":"http://example.org/b","unmapped":{"mode":"other-map","url":"http://example.org/loop"}},
		{"source":"http://example.org/a","target":"http://example.org/b","unmapped":{"mode":"other-map","url":"http://example.org/loop"}}]}`)
	_, err := s.Translate(terminology.TranslateRequest{Source: terminology.Source{URL: "http://example.org/loop"}, Codings: []terminology.Coding{{System: "http://example.org/a", Code: "x"}}})
	if !fhir.IsCode(err, fhir.TooCostly) {
		t.Errorf("got %v", err)
	}
}
