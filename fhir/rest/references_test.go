package rest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/fhir"
)

const urn = "urn:uuid:05efabf0-4be2-4561-91ce-51548425acb9"

func toPatient7(url string, _ bool) string {
	if url == urn {
		return "Patient/7"
	}
	return ""
}

// H-43
func TestReferencesAreRewrittenWhereTheTypeSaysSo(t *testing.T) {
	for _, tt := range []struct{ claim, in, want string }{
		{"a reference", `{"resourceType":"Observation","subject":{"reference":"` + urn + `"}}`, `{"resourceType":"Observation","subject":{"reference":"Patient/7"}}`},
		{"a reference in a list", `{"resourceType":"Observation","performer":[{"display":"x"},{"reference":"` + urn + `"}]}`, `{"resourceType":"Observation","performer":[{"display":"x"},{"reference":"Patient/7"}]}`},
		{"the type may come last", `{"subject":{"reference":"` + urn + `"},"resourceType":"Observation"}`, `{"subject":{"reference":"Patient/7"},"resourceType":"Observation"}`},
		{"a fragment is kept", `{"resourceType":"Observation","subject":{"reference":"` + urn + `#x"}}`, `{"resourceType":"Observation","subject":{"reference":"Patient/7#x"}}`},
		{"an escaped string", `{"resourceType":"Observation","subject":{"reference":"urn:uuid:05efabf0\u002d4be2-4561-91ce-51548425acb9"}}`, `{"resourceType":"Observation","subject":{"reference":"Patient/7"}}`},
		{"a uri in an extension", `{"resourceType":"Patient","extension":[{"url":"http://x","valueUri":"` + urn + `"}]}`, `{"resourceType":"Patient","extension":[{"url":"http://x","valueUri":"Patient/7"}]}`},
		{"a reference in an extension of a primitive", `{"resourceType":"Patient","_birthDate":{"extension":[{"url":"http://x","valueReference":{"reference":"` + urn + `"}}]}}`, `{"resourceType":"Patient","_birthDate":{"extension":[{"url":"http://x","valueReference":{"reference":"Patient/7"}}]}}`},
		{"the extensions of a list of primitives", `{"resourceType":"Patient","name":[{"given":["a",null],"_given":[null,{"extension":[{"url":"http://x","valueUri":"` + urn + `"}]}]}]}`, `{"resourceType":"Patient","name":[{"given":["a",null],"_given":[null,{"extension":[{"url":"http://x","valueUri":"Patient/7"}]}]}]}`},
		{"a contained resource", `{"resourceType":"Observation","contained":[{"resourceType":"Specimen","subject":{"reference":"` + urn + `"}}]}`, `{"resourceType":"Observation","contained":[{"resourceType":"Specimen","subject":{"reference":"Patient/7"}}]}`},
		{"an attachment's url", `{"resourceType":"DocumentReference","content":[{"attachment":{"url":"` + urn + `"}}]}`, `{"resourceType":"DocumentReference","content":[{"attachment":{"url":"Patient/7"}}]}`},
		{"links in narrative", `{"resourceType":"Patient","text":{"div":"<div><a href=\"` + urn + `\">x</a><img src='` + urn + `'/></div>"}}`, `{"resourceType":"Patient","text":{"div":"<div><a href=\"Patient/7\">x</a><img src='Patient/7'/></div>"}}`},
		{"not text in narrative", `{"resourceType":"Patient","text":{"div":"<div>href ` + urn + `</div>"}}`, ""},
		{"not a string", `{"resourceType":"Patient","identifier":[{"value":"` + urn + `"}]}`, ""},
		{"not a canonical", `{"resourceType":"QuestionnaireResponse","questionnaire":"` + urn + `"}`, ""},
		{"not an unknown element", `{"resourceType":"Patient","nickname":{"reference":"` + urn + `"}}`, ""},
		{"not another urn", `{"resourceType":"Observation","subject":{"reference":"` + urn + `0"}}`, ""},
		{"not a display", `{"resourceType":"Observation","subject":{"display":"` + urn + `"}}`, ""},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			w := rewriter{target: toPatient7}
			want := tt.want
			if want == "" {
				want = tt.in
			}
			if diff := cmp.Diff(want, string(w.rewrite([]byte(tt.in)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// H-43: whatever else is in a resource is kept byte for byte.
func TestRewritingChangesNothingButReferences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		number := rapid.SampledFrom([]string{"1.50", "1e2", "0", "-0.0", "12345678901234567890.1"})
		quoted := func(s string) string {
			b, _ := json.Marshal(s)
			return string(b)
		}
		n := rapid.IntRange(0, 5).Draw(t, "n")
		var in, want strings.Builder
		both := func(s string) { in.WriteString(s); want.WriteString(s) }
		both(`{"resourceType":"Observation"`)
		for i := range n {
			both(fmt.Sprintf(`,"component":[{"id":%s,"valueQuantity":{"value":%s,"unit":%s}}]`, quoted(text.Draw(t, "id")), number.Draw(t, "value"), quoted(text.Draw(t, "unit"))))
			both(`,"note":[{"text":` + quoted(text.Draw(t, "note")+urn) + `,"authorReference":{"reference":`)
			if rapid.Bool().Draw(t, fmt.Sprint("hit", i)) {
				in.WriteString(`"` + urn + `"`)
				want.WriteString(`"Patient/7"`)
			} else {
				both(quoted(text.Draw(t, "reference")))
			}
			both(`}}]`)
		}
		both(`}`)
		w := rewriter{target: toPatient7}
		if got := string(w.rewrite([]byte(in.String()))); got != want.String() {
			t.Fatalf("got %s\nwant %s", got, want.String())
		}
	})
}

// FuzzRewrite holds that rewriting keeps a document well-formed, and that it
// ends on anything.
func FuzzRewrite(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Observation","subject":{"reference":"` + urn + `"}}`))
	f.Add([]byte(`{"resourceType":"Patient","text":{"div":"<a href=\"` + urn + `\">"},"_birthDate":null}`))
	f.Add([]byte(`{"resourceType":"Patient","name":[[[{"given":"`))
	f.Fuzz(func(t *testing.T, in []byte) {
		w := rewriter{target: func(url string, _ bool) string {
			if url == "" {
				return ""
			}
			return "Patient/7"
		}}
		if len(in) == 0 {
			return
		}
		out := w.rewrite(in)
		d, err := fhir.Parse(in, fhir.Limits{})
		if err != nil {
			return
		}
		if _, err := fhir.Parse(w.rewrite(d.JSON), fhir.Limits{}); err != nil {
			t.Errorf("%s became %s", in, out)
		}
	})
}

func TestARestfulURLIsSplitIntoBaseAndReference(t *testing.T) {
	for url, want := range map[string]string{
		"http://example.org/fhir/Patient/7":  "http://example.org/fhir Patient/7 true",
		"https://h/Patient/7":                "https://h Patient/7 true",
		"Patient/7":                          " / false",
		"urn:uuid:1":                         " / false",
		"http://example.org/fhir/Nonsense/7": "http://example.org/fhir / false",
	} {
		base, ref, ok := restful(url)
		if got := fmt.Sprintf("%s %s %v", base, ref, ok); got != want {
			t.Errorf("%s: got %s, want %s", url, got, want)
		}
	}
}
