package validate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/fhir/go/fhirversion"
	"github.com/google/fhir/go/jsonformat"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

// oracle is google/fhir, which validates by other means than ours.
func oracle(t testing.TB) func(body []byte) error {
	t.Helper()
	u, err := jsonformat.NewUnmarshaller("UTC", fhirversion.R4)
	if err != nil {
		t.Fatal(err)
	}
	return func(body []byte) error {
		_, err := u.Unmarshal(body)
		return err
	}
}

// ours parses and validates.
func ours(body []byte) error {
	d, err := fhir.Parse(body, fhir.Limits{})
	if err != nil {
		return err
	}
	return validate.Resource(d)
}

// faulty lists the examples of the specification that break it.
var faulty = map[string]string{
	"ActivityDefinition-blood-tubes-supply.json":        "txt-2: an empty narrative",
	"ActivityDefinition-heart-valve-replacement.json":   "txt-2: an empty narrative",
	"EventDefinition-example.json":                      "txt-2: an empty narrative",
	"Questionnaire-zika-virus-exposure-assessment.json": "txt-2: an empty narrative",
	"DeviceMetric-example.json":                         "parent refers to a DeviceDefinition, not a Device",
	"DeviceUseStatement-example.json":                   "reasonReference refers to a Procedure",
	"ImplementationGuide-fhir.json":                     "no name, no status",
	"ig-r4.json":                                        "no name, no status",
	"MedicationRequest-medrx0301.json":                  "dispenseRequest.performer refers to a Practitioner",
	"Observation-clinical-gender.json":                  "performer refers to an Encounter",
	"PlanDefinition-example-cardiology-os.json":         "two canonicals name contained resources that are not there",
	"Questionnaire-qs1.json":                            "items without linkId",
}

// Of the specification's examples only those that break it are refused.
func TestExamplesOfTheSpecification(t *testing.T) {
	for name, body := range examples(t, fhirtest.Examples) {
		err := ours(body)
		if reason := faulty[name]; (err == nil) != (reason == "") {
			t.Errorf("%s (%s): got %v", name, reason, err)
		}
	}
}

// Real records are accepted. One of the reference patients holds a Period with
// stop where the standard says end.
func TestRealRecords(t *testing.T) {
	const typo = "uscore_bundle_patient_355.json"
	for _, folder := range []string{"synthea", "inferno"} {
		t.Run(folder, func(t *testing.T) {
			for name, body := range bundles(t, folder) {
				if err := ours(body); (err == nil) != (name != typo) {
					t.Errorf("%s: got %v", name, err)
				}
			}
		})
	}
}

// The examples of US Core are accepted, but for one of 3.1.1, whose hash is no
// base64.
func TestExamplesOfUSCore(t *testing.T) {
	for file, wrong := range map[string]string{
		"us-core/hl7.fhir.us.core-3.1.1.tgz": "DiagnosticReport-cardiology-report.json",
		"us-core/hl7.fhir.us.core-6.1.0.tgz": "",
	} {
		for name, body := range examples(t, file) {
			first, _, _ := strings.Cut(name, "-")
			if !fhir.Type(first).Known() {
				continue // of the package, not of FHIR
			}
			if err := ours(body); (err == nil) != (name != wrong) {
				t.Errorf("%s in %s: got %v", name, file, err)
			}
		}
	}
}

// google/fhir and we say the same of the examples, of real records, and of
// examples with one fault put in, but for what it is known not to see.
func TestOracleAgrees(t *testing.T) {
	google := oracle(t)
	random := rand.New(rand.NewPCG(1, 2))
	set := examples(t, fhirtest.Examples)
	tried := 0
	for _, name := range slices.Sorted(maps.Keys(set)) {
		compare(t, google, name, "as it is", set[name])
		if faulty[name] != "" || len(set[name]) > 30_000 {
			continue
		}
		for range 4 {
			if body, what := mutate(random, set[name]); body != nil {
				compare(t, google, name, what, body)
				tried++
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d faults were put in", tried)
	}
	records := bundles(t, "synthea")
	for _, name := range slices.Sorted(maps.Keys(records))[:3] {
		compare(t, google, name, "as it is", records[name])
	}
}

// compare reports a difference between google's verdict and ours that is not
// among the known ones.
func compare(t *testing.T, google func([]byte) error, name, what string, body []byte) {
	t.Helper()
	our, their := ours(body), google(body)
	if (our == nil) == (their == nil) {
		return
	}
	if our == nil {
		// It asks more of a uri than its regular expression does.
		if text := their.Error(); !strings.Contains(text, "invalid uri") && !strings.Contains(text, "invalid url") && !strings.Contains(text, "invalid canonical") {
			t.Errorf("%s, %s: we accept what it refuses: %v", name, what, their)
		}
		return
	}
	var e *fhir.Error
	if !errors.As(our, &e) {
		t.Fatalf("%s, %s: %v", name, what, our)
	}
	if what == anotherCase {
		return // it reads names without regard to case
	}
	for _, i := range e.Issues {
		switch {
		case i.Code == fhir.Invariant, // it knows no invariants
			strings.Contains(i.Diagnostics, "not a valid xhtml"),
			strings.HasPrefix(i.Diagnostics, "no coding of"),          // checks bindings of code only
			strings.Contains(i.Expression[0], ".contained["),          // does not validate contained resources
			strings.Contains(i.Diagnostics, "must be an object with"): // ignores what is beside a primitive
		default:
			t.Errorf("%s, %s: it accepts what we refuse: %s at %s", name, what, i.Diagnostics, i.Expression)
		}
	}
}

// What google/fhir is known to get wrong, it still gets wrong; we do not.
func TestOracleIsKnownToBeWrong(t *testing.T) {
	google := oracle(t)
	const extension = `{"extension":[{"url":"http://x","valueString":"y"}]}`
	for _, tt := range []struct {
		claim, body string
		valid       bool
	}{
		{"a resource in Parameters", `{"resourceType":"Parameters","parameter":[{"name":"a","resource":{"resourceType":"Patient"}}]}`, true},
		{"null holes", `{"resourceType":"Patient","name":[{"given":["a",null],"_given":[null,` + extension + `]}]}`, true},
		{"a leap second", `{"resourceType":"Patient","deceasedDateTime":"2016-12-31T23:59:60Z"}`, true},
		{"an empty string", `{"resourceType":"Patient","name":[{"family":""}]}`, false},
		{"an empty array", `{"resourceType":"Patient","name":[]}`, false},
		{"an empty object", `{"resourceType":"Patient","name":[{}]}`, false},
		{"a duplicate", `{"resourceType":"Patient","active":true,"active":false}`, false},
		{"a uri with a space", `{"resourceType":"Patient","identifier":[{"system":"urn: a"}]}`, false},
		{"a dangling fragment", `{"resourceType":"Patient","managingOrganization":{"reference":"#o"}}`, false},
		{"an extension with both", `{"resourceType":"Patient","extension":[{"url":"http://x","valueString":"y","extension":[{"url":"z","valueString":"y"}]}]}`, false},
		{"a script", `{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><script>x</script></div>"}}`, false},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			if our := ours([]byte(tt.body)); (our == nil) != tt.valid {
				t.Errorf("we say %v", our)
			}
			if their := google([]byte(tt.body)); (their == nil) == tt.valid {
				t.Errorf("it says %v: the difference is gone", their)
			}
		})
	}
}

// Whatever the faults, no text of the resource is in the words of an error.
func TestErrorsHoldNoValues(t *testing.T) {
	const canary = "Zq7Canary"
	var taint func(v any) any
	taint = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k, item := range v {
				if k != "resourceType" {
					v[k] = taint(item)
				}
			}
			v[canary] = canary
			return v
		case []any:
			for i := range v {
				v[i] = taint(v[i])
			}
			return append(v, canary)
		}
		return canary
	}
	for name, body := range examples(t, fhirtest.Examples) {
		var root any
		if err := json.Unmarshal(body, &root); err != nil {
			t.Fatal(err)
		}
		tainted, err := json.Marshal(taint(root))
		if err != nil {
			t.Fatal(err)
		}
		err = ours(tainted)
		var e *fhir.Error
		if !errors.As(err, &e) {
			t.Fatalf("%s: got %v, want a *fhir.Error", name, err)
		}
		if strings.Contains(fmt.Sprint(e.Issues), canary) {
			t.Errorf("%s: an error repeats what was sent: %v", name, e.Issues)
		}
	}
}

// Nothing that Parse accepts makes Resource panic, and a stamp changes no
// verdict but that on the id and the version.
func FuzzResource(f *testing.F) {
	for _, body := range []string{
		`{"resourceType":"Patient","id":"7","name":[{"given":["a",null],"_given":[null,{"id":"x"}]}],"_active":{"extension":[]}}`,
		`{"resourceType":"Observation","status":"final","code":{"coding":[{"code":"x"}]},"valueQuantity":{"value":1e5},"contained":[{"resourceType":"Patient","id":"p"}],"subject":{"reference":"#p"}}`,
		`{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Basic"},"request":{"method":"POST","url":"Basic"}}]}`,
		`{"resourceType":"Patient","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p style='url(x)'>&amp;<!-- x --></p><br/></div>"}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := fhir.Parse(body, fhir.Limits{})
		if err != nil {
			return
		}
		err = validate.Resource(d)
		var e *fhir.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("got %T, want *fhir.Error", err)
		}
		if err != nil {
			return
		}
		stamped, err := fhir.Reopen(d.Stamp("7", 1, time.Unix(0, 0)))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Resource(stamped); err != nil {
			t.Fatalf("valid before it was stamped: %v", err)
		}
	})
}

const anotherCase = "a name in another case"

// mutate changes one thing at a random place of a resource and says what.
func mutate(random *rand.Rand, body []byte) ([]byte, string) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var root map[string]any
	if dec.Decode(&root) != nil {
		return nil, ""
	}
	var objects []map[string]any
	var find func(v any)
	find = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			objects = append(objects, v)
			for _, k := range slices.Sorted(maps.Keys(v)) {
				find(v[k])
			}
		case []any:
			for _, item := range v {
				find(item)
			}
		}
	}
	find(root)
	o := objects[random.IntN(len(objects))]
	keys := slices.Sorted(maps.Keys(o))
	key := keys[random.IntN(len(keys))]
	if key == "resourceType" || key == "div" {
		return nil, ""
	}
	what := ""
	switch random.IntN(7) {
	case 0:
		what = "unknown name"
		o["x"+key] = o[key]
		delete(o, key)
	case 1:
		what = anotherCase
		o[strings.ToUpper(key[:1])+key[1:]] = o[key]
		delete(o, key)
	case 2:
		if len(o) == 1 {
			return nil, ""
		}
		what = "missing"
		delete(o, key)
	case 3:
		what = "wrapped in an array"
		o[key] = []any{o[key]}
	case 4:
		list, ok := o[key].([]any)
		if !ok {
			return nil, ""
		}
		what = "taken out of its array"
		o[key] = list[0]
	case 5:
		what = "another kind"
		switch o[key].(type) {
		case string:
			o[key] = 7
		case bool, json.Number:
			o[key] = "x"
		case map[string]any:
			o[key] = "x"
		default:
			o[key] = map[string]any{"id": "x"}
		}
	case 6:
		if _, ok := o[key].(string); !ok {
			return nil, ""
		}
		what = "another string"
		o[key] = []string{"zzz", "2020-02-30", "2020-01-01T00:00:00", "http://x", "Practitioner/1", "1e5", "a_b"}[random.IntN(7)]
	}
	out, err := json.Marshal(root)
	if err != nil {
		return nil, ""
	}
	return out, what
}
