package rest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
)

var before7 = fhir.Resource{
	Ref: fhir.Ref{Type: "Patient", ID: "7"}, Version: 1,
	Body: []byte(`{"resourceType":"Patient","id":"7","meta":{"versionId":"1","lastUpdated":"2026-01-02T03:04:05.678Z","tag":[{"code":"t"}]},` +
		`"active":true,"name":[{"family":"A"},{"family":"B"}],"multipleBirthInteger":2,"extension":[{"url":"http://x","valueDecimal":1.50}]}`),
}

// H-27
func TestAPatchChangesWhatItSaysAndNothingElse(t *testing.T) {
	ops, err := decodePatch([]byte(`[{"op":"test","path":"/name/0/family","value":"A"},{"op":"replace","path":"/name/1/family","value":"C"},`+
		`{"op":"remove","path":"/active"},{"op":"add","path":"/gender","value":"other"},{"op":"add","path":"/meta/profile","value":["http://p"]}]`), 10)
	if err != nil {
		t.Fatal(err)
	}
	d, err := applyPatch(ops, before7, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"valueDecimal":1.50`, `"family":"C"`, `"gender":"other"`, `"profile":["http://p"]`, `"tag":[{"code":"t"}]`} {
		if !strings.Contains(string(d.JSON), want) {
			t.Errorf("%s is not in %s", want, d.JSON)
		}
	}
	if strings.Contains(string(d.JSON), "active") {
		t.Errorf("active was not removed: %s", d.JSON)
	}
}

// H-27, T124
func TestAPatchIsRefused(t *testing.T) {
	for _, tt := range []struct {
		claim, patch string
		want         int
	}{
		{"that changes the id", `[{"op":"replace","path":"/id","value":"8"}]`, 422},
		{"that changes the type", `[{"op":"replace","path":"/resourceType","value":"Person"}]`, 422},
		{"that changes the version", `[{"op":"replace","path":"/meta/versionId","value":"9"}]`, 422},
		{"that adds a security label", `[{"op":"add","path":"/meta/security","value":[]}]`, 422},
		{"that removes a tag", `[{"op":"remove","path":"/meta/tag/0"}]`, 422},
		{"that replaces meta", `[{"op":"replace","path":"/meta","value":{}}]`, 422},
		{"that replaces everything", `[{"op":"replace","path":"","value":{}}]`, 422},
		{"that moves a tag away", `[{"op":"move","from":"/meta/tag","path":"/contact"}]`, 422},
		{"whose test fails", `[{"op":"test","path":"/active","value":false}]`, 422},
		{"that removes what is not there", `[{"op":"remove","path":"/photo"}]`, 422},
		{"that makes an invalid resource", `[{"op":"add","path":"/nickname","value":"x"}]`, 422},
		{"that counts from the end", `[{"op":"remove","path":"/name/-1"}]`, 422},
		{"with an unknown operation", `[{"op":"increase","path":"/active"}]`, 400},
		{"with a member twice", `[{"op":"test","op":"remove","path":"/active"}]`, 400},
		{"that is no list", `{"op":"remove","path":"/active"}`, 400},
		{"that is no JSON", `[`, 400},
		{"that nests too deep", strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), 400},
		{"with too many operations", `[` + strings.Repeat(`{"op":"test","path":"/active","value":true},`, 100) + `{"op":"remove","path":"/active"}]`, 422},
		{"whose copies blow up", `[{"op":"add","path":"/x","value":["` + strings.Repeat("a", 1000) + `"]}` + strings.Repeat(`,{"op":"copy","from":"/x","path":"/x/-"}`, 30) + `]`, 422},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			ops, err := decodePatch([]byte(tt.patch), 50)
			if err == nil {
				_, err = applyPatch(ops, before7, 1<<20)
			}
			if err == nil {
				t.Fatal("it was applied")
			}
			if !isClientError(err) {
				t.Fatalf("got %v, want a fhir.Error", err)
			}
			if got := statusOf(clientError(err)); got != tt.want {
				t.Errorf("got %d (%v), want %d", got, err, tt.want)
			}
		})
	}
}

// FuzzPatch holds that no patch panics, changes which resource it is, or makes
// a resource that is not valid.
func FuzzPatch(f *testing.F) {
	f.Add([]byte(`[{"op":"replace","path":"/active","value":false}]`))
	f.Add([]byte(`[{"op":"copy","from":"/name","path":"/name/0"},{"op":"move","from":"/name/0","path":"/x~1y~0z"}]`))
	f.Add([]byte(`[{"op":"add","path":"/name/-","value":{"family":"` + "\u2028" + `"}}]`))
	f.Add([]byte(`[{"op":"test","path":"/name/01","value":null}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ops, err := decodePatch(body, 50)
		if err != nil {
			return
		}
		d, err := applyPatch(ops, before7, 1<<16)
		if err != nil {
			return
		}
		if d.Type != "Patient" || d.ID != "7" {
			t.Errorf("%s made it %s/%s", body, d.Type, d.ID)
		}
	})
}

// H-27: the public test cases of JSON Patch for FHIR.
func TestTheStandardsPatchCasesHold(t *testing.T) {
	file := fhirtest.Path(t, "test-cases/patch/json-patch-tests.json")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Skip("there are no JSON Patch test cases: " + err.Error())
	}
	var cases []struct {
		Comment  string          `json:"comment"`
		Doc      json.RawMessage `json:"doc"`
		Patch    json.RawMessage `json:"patch"`
		Expected json.RawMessage `json:"expected"`
		Error    string          `json:"error"`
		Disabled bool            `json:"disabled"`
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Skip("the test cases have another form: " + err.Error())
	}
	for _, tt := range cases {
		if tt.Disabled || tt.Expected == nil && tt.Error == "" {
			continue
		}
		t.Run(tt.Comment, func(t *testing.T) {
			ops, err := decodePatch(tt.Patch, 50)
			if err == nil {
				var got []byte
				if got, err = ops.apply(tt.Doc, 1<<20); err == nil && tt.Error == "" {
					var g, w any
					if json.Unmarshal(got, &g) != nil || json.Unmarshal(tt.Expected, &w) != nil || !cmp.Equal(g, w) {
						t.Errorf("got %s, want %s", got, tt.Expected)
					}
				}
			}
			if (err != nil) != (tt.Error != "") {
				t.Errorf("got error %v, want %q", err, tt.Error)
			}
		})
	}
}
