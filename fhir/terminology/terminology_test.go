package terminology_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// animals has two ways up from the platypus, and concepts that are not active
// or not to be used.
const animals = `{"resourceType":"CodeSystem","url":"http://example.org/animals","version":"1","name":"Animals","status":"active",
	"content":"complete","caseSensitive":true,"hierarchyMeaning":"is-a",
	"property":[{"code":"legs","type":"integer"},{"code":"home","type":"Coding"}],
	"concept":[{"code":"animal","display":"Animal","property":[{"code":"notSelectable","valueBoolean":true}],"concept":[
		{"code":"mammal","display":"Mammal","concept":[
			{"code":"cat","display":"House cat","property":[{"code":"legs","valueInteger":4},{"code":"home","valueCoding":{"system":"http://example.org/places","code":"sofa"}}],
			 "designation":[{"language":"de","value":"Hauskatze"},{"language":"fr-CA","use":{"system":"http://example.org/use","code":"pet"},"value":"Chat"}]},
			{"code":"bat","display":"Bat","property":[{"code":"legs","valueInteger":2}]},
			{"code":"platypus","display":"Platypus","property":[{"code":"parent","valueCode":"layer"},{"code":"legs","valueInteger":4}]},
			{"code":"mammoth","display":"Mammoth","property":[{"code":"status","valueCode":"retired"},{"code":"legs","valueInteger":4}]}]},
		{"code":"layer","display":"Layer of eggs","concept":[{"code":"hen","display":"Hen (laying)","property":[{"code":"legs","valueInteger":2}]}]}]}]}`

// service answers from R4 and the resources.
func service(t testing.TB, resources ...string) *terminology.Service {
	t.Helper()
	var defs []*canonical.Definition
	for _, r := range resources {
		d, err := canonical.New([]byte(r))
		if err != nil {
			t.Fatal(err)
		}
		defs = append(defs, d)
	}
	return terminology.New(canonical.NewSet(canonical.Core(), defs))
}

// composed is a ValueSet with the compose element.
func composed(url, compose string) string {
	return fmt.Sprintf(`{"resourceType":"ValueSet","url":%q,"status":"active","compose":%s}`, url, compose)
}

// codes returns what the value set lists.
func codes(t testing.TB, s *terminology.Service, req terminology.ExpandRequest) []string {
	t.Helper()
	x, err := s.Expand(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, c := range x.Expansion.Contains {
		list = append(list, c.Code)
	}
	return list
}

func all(url string) terminology.ExpandRequest {
	return terminology.ExpandRequest{Source: terminology.Source{URL: url}, Count: -1}
}

// https://hl7.org/fhir/R4/valueset.html#filters
func TestFilters(t *testing.T) {
	for _, tt := range []struct {
		claim, filters string
		want           string
	}{
		{"is-a takes the concept and what is below it, by all parents", `{"property":"concept","op":"is-a","value":"layer"}`, "platypus layer hen"},
		{"descendent-of leaves the concept out", `{"property":"concept","op":"descendent-of","value":"layer"}`, "platypus hen"},
		{"is-not-a takes all that is not below", `{"property":"concept","op":"is-not-a","value":"mammal"}`, "animal layer hen"},
		{"generalizes takes what is above", `{"property":"concept","op":"generalizes","value":"platypus"}`, "animal mammal platypus layer"},
		{"= compares a property", `{"property":"legs","op":"=","value":"2"}`, "bat hen"},
		{"= compares the code of a Coding", `{"property":"home","op":"=","value":"sofa"}`, "cat"},
		{"in takes any of a list", `{"property":"code","op":"in","value":"hen, bat,none"}`, "bat hen"},
		{"not-in takes what has none of a list", `{"property":"legs","op":"not-in","value":"4"}`, "animal mammal bat layer hen"},
		{"exists takes what has the property", `{"property":"legs","op":"exists","value":"true"}`, "cat bat platypus mammoth hen"},
		{"exists false takes what has it not", `{"property":"legs","op":"exists","value":"false"}`, "animal mammal layer"},
		{"regex is of the whole value", `{"property":"code","op":"regex","value":"[a-z]at"}`, "cat bat"},
		{"parent is a property", `{"property":"parent","op":"=","value":"layer"}`, "platypus hen"},
		{"child is a property", `{"property":"child","op":"=","value":"platypus"}`, "mammal layer"},
		{"all filters must pass", `{"property":"concept","op":"is-a","value":"mammal"},{"property":"legs","op":"=","value":"4"}`, "cat platypus mammoth"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			s := service(t, animals, composed("http://example.org/vs", `{"include":[{"system":"http://example.org/animals","filter":[`+tt.filters+`]}]}`))
			got := codes(t, s, all("http://example.org/vs"))
			if want := strings.Fields(tt.want); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			for _, code := range strings.Fields("animal mammal cat bat platypus mammoth layer hen") {
				want := terminology.Out
				if slices.Contains(got, code) {
					want = terminology.In
				}
				if is, err := s.InValueSet("http://example.org/vs", "http://example.org/animals", code); err != nil || is != want {
					t.Errorf("%s: listed and asked for differ: %v, %v", code, is, err)
				}
			}
		})
	}
}

func TestAFilterThatCannotBeToldIsNotIgnored(t *testing.T) {
	for _, tt := range []struct {
		claim, filter string
		code          fhir.IssueCode
	}{
		{"a property that the code system does not define", `{"property":"wings","op":"=","value":"2"}`, fhir.NotSupported},
		{"an operator that R4 does not have", `{"property":"legs","op":"child-of","value":"2"}`, fhir.NotSupported},
		{"a concept that does not exist", `{"property":"concept","op":"is-a","value":"dragon"}`, fhir.CodeInvalid},
		{"an expression that is none", `{"property":"code","op":"regex","value":"(("}`, fhir.Value},
		{"an expression that RE2 does not have", `{"property":"code","op":"regex","value":"(a)\\1"}`, fhir.Value},
		{"an expression that is too long", `{"property":"code","op":"regex","value":"` + strings.Repeat("(a|b)*", 100) + `"}`, fhir.TooCostly},
		{"exists of what is no boolean", `{"property":"legs","op":"exists","value":"4"}`, fhir.Value},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			s := service(t, animals, composed("http://example.org/vs", `{"include":[{"system":"http://example.org/animals","filter":[`+tt.filter+`]}]}`))
			_, err := s.Expand(t.Context(), all("http://example.org/vs"))
			if !fhir.IsCode(err, tt.code) {
				t.Errorf("listing: got %v, want %s", err, tt.code)
			}
			if is, err := s.InValueSet("http://example.org/vs", "http://example.org/animals", "cat"); is != terminology.Unknown || err != nil {
				t.Errorf("asking: got %v, %v, want unknown", is, err)
			}
		})
	}
}

// https://hl7.org/fhir/R4/valueset.html#compositions
func TestCompose(t *testing.T) {
	const system = `"system":"http://example.org/animals"`
	four := composed("http://example.org/four", `{"include":[{`+system+`,"filter":[{"property":"legs","op":"=","value":"4"}]}]}`)
	layers := composed("http://example.org/layers", `{"include":[{`+system+`,"filter":[{"property":"concept","op":"is-a","value":"layer"}]}]}`)
	for _, tt := range []struct {
		claim, compose, want string
	}{
		{"several includes are joined, each concept once, in order", `{"include":[{` + system + `,"concept":[{"code":"hen"},{"code":"cat"}]},{"valueSet":["http://example.org/four"]}]}`, "hen cat platypus mammoth"},
		{"several value sets in one include are what they have in common", `{"include":[{"valueSet":["http://example.org/four","http://example.org/layers"]}]}`, "platypus"},
		{"a system and a value set are what they have in common", `{"include":[{` + system + `,"filter":[{"property":"concept","op":"is-a","value":"mammal"}],"valueSet":["http://example.org/layers"]}]}`, "platypus"},
		{"exclude takes away", `{"include":[{` + system + `}],"exclude":[{"valueSet":["http://example.org/four"]},{` + system + `,"concept":[{"code":"hen"}]}]}`, "animal mammal bat layer"},
		{"without inactive ones", `{"inactive":false,"include":[{"valueSet":["http://example.org/four"]}]}`, "cat platypus"},
		{"of a listed code system that is not known, the list is enough", `{"include":[{"system":"http://example.org/other","concept":[{"code":"x"},{"code":"y"},{"code":"x"}]}]}`, "x y"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			s := service(t, animals, four, layers, composed("http://example.org/vs", tt.compose))
			got := codes(t, s, all("http://example.org/vs"))
			if want := strings.Fields(tt.want); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestUnknownIsNotNo(t *testing.T) {
	s := service(t, animals,
		composed("http://example.org/unknown-system", `{"include":[{"system":"http://example.org/nowhere"}]}`),
		composed("http://example.org/unknown-import", `{"include":[{"valueSet":["http://example.org/nowhere"]}]}`),
		composed("http://example.org/unknown-exclude", `{"include":[{"system":"http://example.org/animals"}],"exclude":[{"system":"http://example.org/animals","valueSet":["http://example.org/nowhere"]}]}`),
		composed("http://example.org/unknown-version", `{"include":[{"system":"http://example.org/animals","version":"7"}]}`),
		composed("http://example.org/part", `{"include":[{"system":"http://example.org/part"}]}`),
		`{"resourceType":"CodeSystem","url":"http://example.org/part","status":"active","content":"fragment","concept":[{"code":"known"}]}`)
	for _, tt := range []struct {
		valueSet, system, code string
		want                   terminology.Answer
	}{
		{"http://example.org/nowhere", "http://example.org/animals", "cat", terminology.Unknown},
		{"http://example.org/unknown-system", "http://example.org/nowhere", "cat", terminology.Unknown},
		{"http://example.org/unknown-system", "http://example.org/animals", "cat", terminology.Out},
		{"http://example.org/unknown-import", "http://example.org/animals", "cat", terminology.Unknown},
		{"http://example.org/unknown-exclude", "http://example.org/animals", "cat", terminology.Unknown},
		{"http://example.org/unknown-exclude", "http://example.org/animals", "dog", terminology.Out},
		{"http://example.org/unknown-version", "http://example.org/animals", "cat", terminology.Unknown},
		{"http://example.org/part", "http://example.org/part", "known", terminology.In},
		{"http://example.org/part", "http://example.org/part", "other", terminology.Unknown},
		{"http://snomed.info/sct?fhir_vs=isa/404684003", "http://snomed.info/sct", "22298006", terminology.Unknown},
		{"http://hl7.org/fhir/ValueSet/administrative-gender", "", "female", terminology.In},
		{"http://hl7.org/fhir/ValueSet/administrative-gender", "", "Female", terminology.Out},
		{"http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1", "http://hl7.org/fhir/administrative-gender", "male", terminology.In},
		{"http://hl7.org/fhir/ValueSet/currencies", "", "CHF", terminology.In},
		{"http://hl7.org/fhir/ValueSet/currencies", "", "chf", terminology.Out},
		{"http://hl7.org/fhir/ValueSet/all-languages", "urn:ietf:bcp:47", "de-CH", terminology.In},
		{"http://hl7.org/fhir/ValueSet/all-languages", "urn:ietf:bcp:47", "deutsch!", terminology.Out},
		{"http://hl7.org/fhir/ValueSet/mimetypes", "", "image/png", terminology.In},
		{"http://hl7.org/fhir/ValueSet/mimetypes", "", "png", terminology.Out},
		{"http://hl7.org/fhir/ValueSet/ucum-units", "http://unitsofmeasure.org", "mg/dL", terminology.In},
		{"http://hl7.org/fhir/ValueSet/ucum-units", "http://unitsofmeasure.org", "two words", terminology.Out},
		{"http://hl7.org/fhir/ValueSet/iso3166-1-3", "urn:iso:std:iso:3166", "CHE", terminology.In},
		{"http://hl7.org/fhir/ValueSet/iso3166-1-3", "urn:iso:std:iso:3166", "CH", terminology.Out},
		{"http://hl7.org/fhir/ValueSet/iso3166-1-N", "urn:iso:std:iso:3166", "756", terminology.In},
	} {
		if got, err := s.InValueSet(tt.valueSet, tt.system, tt.code); err != nil || got != tt.want {
			t.Errorf("%s has %s|%s: got %v, %v, want %v", tt.valueSet, tt.system, tt.code, got, err, tt.want)
		}
	}
}

func TestAListOfAPartSaysThatItIsOne(t *testing.T) {
	s := service(t, `{"resourceType":"CodeSystem","url":"http://example.org/part","status":"active","content":"fragment","concept":[{"code":"known"}]}`,
		composed("http://example.org/whole", `{"include":[{"system":"http://example.org/part"}]}`),
		composed("http://example.org/listed", `{"include":[{"system":"http://example.org/part","concept":[{"code":"known"}]}]}`),
		composed("http://example.org/both", `{"include":[{"valueSet":["http://example.org/listed"]},{"valueSet":["http://example.org/whole"]}]}`))
	for url, want := range map[string]bool{"whole": true, "listed": false, "both": true} {
		x, err := s.Expand(t.Context(), all("http://example.org/"+url))
		if err != nil || x.Partial() != want || len(x.Expansion.Contains) != 1 {
			t.Errorf("%s: got %+v, %v", url, x, err)
		}
	}
}

// What is wrong with a definition is remembered, and must not change by what
// one who was told makes of it.
func TestAnErrorIsOneOfItsOwn(t *testing.T) {
	s := service(t,
		composed("http://example.org/unknown", `{"include":[{"system":"http://example.org/nowhere"}]}`),
		composed("http://example.org/import", `{"include":[{"valueSet":["http://example.org/nowhere"]}]}`),
		composed("http://example.org/itself", `{"include":[{"valueSet":["http://example.org/itself"]}]}`),
		`{"resourceType":"CodeSystem","url":"http://example.org/wrong","status":"active","content":"complete","concept":7}`)
	lookup := terminology.LookupRequest{Coding: terminology.Coding{System: "http://example.org/wrong", Code: "x"}}
	for range 2 {
		for _, url := range []string{"unknown", "import", "itself", "wrong"} {
			_, err := s.Expand(t.Context(), all("http://example.org/"+url))
			if url == "wrong" {
				_, err = s.Lookup(lookup)
			}
			var e *fhir.Error
			if !errors.As(err, &e) || e.Status != 0 || len(e.Issues[0].Expression) > 1 {
				t.Fatalf("%s: got %+v", url, err)
			}
			_ = e.WithStatus(418).At("here").At("there")
		}
	}
}

func TestHostileValueSetsAreRefused(t *testing.T) {
	chain := []string{}
	for i := range 150 {
		chain = append(chain, composed(fmt.Sprintf("http://example.org/%d", i), fmt.Sprintf(`{"include":[{"valueSet":["http://example.org/%d"]}]}`, i+1)))
	}
	fan := []string{}
	for i := range 40 {
		fan = append(fan, composed(fmt.Sprintf("http://example.org/%d", i), fmt.Sprintf(`{"include":[{"valueSet":["http://example.org/%[1]d"]},{"valueSet":["http://example.org/%[1]d"]}]}`, i+1)))
	}
	many := `{"include":[` + strings.Repeat(`{"system":"http://example.org/animals"},`, 3000) + `{"system":"http://example.org/animals"}]}`
	for _, tt := range []struct {
		claim     string
		resources []string
		code      fhir.IssueCode
	}{
		{"made of itself", []string{composed("http://example.org/0", `{"include":[{"valueSet":["http://example.org/0"]}]}`)}, fhir.BusinessRule},
		{"made of one that is made of it", []string{
			composed("http://example.org/0", `{"include":[{"valueSet":["http://example.org/1|1"]}]}`),
			`{"resourceType":"ValueSet","url":"http://example.org/1","version":"1","status":"active","compose":{"include":[{"system":"http://example.org/animals"}],"exclude":[{"valueSet":["http://example.org/0"]}]}}`}, fhir.BusinessRule},
		{"a long chain of value sets", chain, fhir.TooCostly},
		{"value sets that double at each step", fan, fhir.TooCostly},
		{"thousands of includes", []string{composed("http://example.org/0", many)}, fhir.TooCostly},
		{"an include of nothing", []string{composed("http://example.org/0", `{"include":[{}]}`)}, fhir.Value},
		{"a compose that is none", []string{composed("http://example.org/0", `{"include":7}`)}, fhir.Structure},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			s := service(t, append(tt.resources, animals)...)
			if _, err := s.Expand(t.Context(), all("http://example.org/0")); !fhir.IsCode(err, tt.code) {
				t.Errorf("listing: got %v, want %s", err, tt.code)
			}
			if is, err := s.InValueSet("http://example.org/0", "http://example.org/animals", "cat"); is != terminology.Unknown || !fhir.IsCode(err, tt.code) {
				t.Errorf("asking: got %v, %v, want %s", is, err, tt.code)
			}
		})
	}
}

// https://hl7.org/fhir/R4/valueset-operation-expand.html
func TestExpandByItsParameters(t *testing.T) {
	s := service(t, animals, composed("http://example.org/vs", `{"include":[{"system":"http://example.org/animals"}]}`),
		`{"resourceType":"CodeSystem","url":"http://example.org/es","status":"active","content":"supplement","supplements":"http://example.org/animals",
		  "concept":[{"code":"hen","designation":[{"language":"es","value":"Gallina águila"}]},{"code":"dragon","designation":[{"language":"es","value":"Dragón"}]}]}`)
	for _, tt := range []struct {
		claim  string
		change func(*terminology.ExpandRequest)
		want   string
	}{
		{"filter takes words by how they begin", func(r *terminology.ExpandRequest) { r.Filter = "CAT hou" }, "cat"},
		{"words begin after brackets too", func(r *terminology.ExpandRequest) { r.Filter = "lay" }, "layer hen"},
		{"words do not begin within words", func(r *terminology.ExpandRequest) { r.Filter = "mal" }, ""},
		{"filter takes codes by how they begin", func(r *terminology.ExpandRequest) { r.Filter = "plat" }, "platypus"},
		{"filter looks at the display in the language, without accents", func(r *terminology.ExpandRequest) { r.Filter, r.DisplayLanguage = "aguila", "es" }, "hen"},
		{"activeOnly", func(r *terminology.ExpandRequest) { r.ActiveOnly = true }, "animal mammal cat bat platypus layer hen"},
		{"excludeNotForUI", func(r *terminology.ExpandRequest) { r.ExcludeNotForUI = true }, "mammal cat bat platypus mammoth layer hen"},
		{"a page", func(r *terminology.ExpandRequest) { r.Offset, r.Count = 2, 2 }, "cat bat"},
		{"a page past the end", func(r *terminology.ExpandRequest) { r.Offset, r.Count = 200, 2 }, ""},
		{"no concepts, just how many", func(r *terminology.ExpandRequest) { r.Count = 0 }, ""},
		{"without a code system", func(r *terminology.ExpandRequest) { r.ExcludeSystems = []string{"http://example.org/animals"} }, ""},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			req := all("http://example.org/vs")
			tt.change(&req)
			if got, want := codes(t, s, req), strings.Fields(tt.want); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	x, err := s.Expand(t.Context(), terminology.ExpandRequest{Source: terminology.Source{URL: "http://example.org/vs"}, Count: 1, Offset: 2, DisplayLanguage: "de", IncludeDesignations: true})
	if err != nil {
		t.Fatal(err)
	}
	c := x.Expansion.Contains[0]
	if x.Expansion.Total != 8 || c.Display != "Hauskatze" || len(c.Designation) != 2 {
		t.Errorf("got %+v of %d", c, x.Expansion.Total)
	}
}

// https://hl7.org/fhir/R4/codesystem-operation-lookup.html
// https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
func TestLookupAndSubsumes(t *testing.T) {
	s := service(t, animals)
	c, err := s.Lookup(terminology.LookupRequest{Coding: terminology.Coding{System: "http://example.org/animals", Code: "platypus"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range c.Properties {
		got = append(got, p.Code+"="+p.Value)
	}
	if want := []string{"inactive=false", "parent=mammal", "parent=layer", "legs=4"}; c.Display != "Platypus" || c.Name != "Animals" || !slices.Equal(got, want) {
		t.Errorf("got %s %s %v, want %v", c.Name, c.Display, got, want)
	}
	for _, tt := range [][3]string{
		{"cat", "cat", "equivalent"}, {"animal", "cat", "subsumes"}, {"platypus", "layer", "subsumed-by"}, {"cat", "layer", "not-subsumed"},
	} {
		if got, err := s.Subsumes("http://example.org/animals", "", tt[0], tt[1]); err != nil || got != tt[2] {
			t.Errorf("%s and %s: got %s, %v, want %s", tt[0], tt[1], got, err, tt[2])
		}
	}
	if _, err := s.Subsumes("http://example.org/animals", "", "cat", "dragon"); !fhir.IsCode(err, fhir.NotFound) {
		t.Errorf("a code that does not exist: got %v", err)
	}
}

// https://hl7.org/fhir/R4/valueset-operation-validate-code.html
func TestValidateCode(t *testing.T) {
	s := service(t, animals, composed("http://example.org/vs", `{"include":[{"system":"http://example.org/animals","filter":[{"property":"concept","op":"is-a","value":"animal"}]}]}`))
	coding := func(code, display string) []terminology.Coding {
		return []terminology.Coding{{System: "http://example.org/animals", Code: code, Display: display}}
	}
	for _, tt := range []struct {
		claim string
		req   terminology.CodeRequest
		want  bool
	}{
		{"a code that is in it", terminology.CodeRequest{Codings: coding("cat", "")}, true},
		{"a code that is not", terminology.CodeRequest{Codings: coding("dog", "")}, false},
		{"with its display", terminology.CodeRequest{Codings: coding("cat", "house  CAT")}, true},
		{"with its display in another language", terminology.CodeRequest{Codings: coding("cat", "Hauskatze")}, true},
		{"with another display", terminology.CodeRequest{Codings: coding("cat", "Dog")}, false},
		{"an abstract concept", terminology.CodeRequest{Codings: coding("animal", "")}, true},
		{"an abstract concept where none may be", terminology.CodeRequest{Codings: coding("animal", ""), NoAbstract: true}, false},
		{"one of several codings", terminology.CodeRequest{Codings: append(coding("dog", ""), coding("cat", "")...)}, true},
		{"a code without its system", terminology.CodeRequest{Codings: []terminology.Coding{{Code: "cat"}}}, false},
		{"a code without its system, to be inferred", terminology.CodeRequest{Codings: []terminology.Coding{{Code: "cat"}}, InferSystem: true}, true},
		{"of another version", terminology.CodeRequest{Codings: []terminology.Coding{{System: "http://example.org/animals", Version: "9", Code: "cat"}}}, false},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			tt.req.URL = "http://example.org/vs"
			got, err := s.ValidateInValueSet(tt.req)
			if err != nil || got.Result != tt.want || got.Result != (got.Message == "") {
				t.Errorf("got %+v, %v, want %v", got, err, tt.want)
			}
			if tt.req.InferSystem {
				return
			}
			tt.req.URL = "http://example.org/animals"
			if tt.req.Codings[0].System == "" {
				return
			}
			if got, err := s.ValidateInCodeSystem(tt.req); err != nil || got.Result != tt.want {
				t.Errorf("in the code system: got %+v, %v, want %v", got, err, tt.want)
			}
		})
	}
}
