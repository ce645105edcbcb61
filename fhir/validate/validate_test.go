package validate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

// faults returns "code place" of each fault of the resource.
func faults(t testing.TB, body string) []string {
	t.Helper()
	d, err := fhir.Parse([]byte(body), fhir.Limits{})
	if err != nil {
		t.Fatalf("parsing %s: %v", body, err)
	}
	return places(t, validate.Resource(d))
}

func places(t testing.TB, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var e *fhir.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *fhir.Error", err)
	}
	if strings.Contains(fmt.Sprint(e.Issues), "Secret") {
		t.Errorf("the error repeats what was sent: %v", e)
	}
	var list []string
	for _, i := range e.Issues {
		list = append(list, strings.TrimSpace(string(i.Code)+" "+strings.Join(i.Expression, " ")))
	}
	return list
}

// Each rule of the standard is kept where it holds, and its breach is reported
// at its place. H-20
func TestResource(t *testing.T) {
	patient := func(members string) string { return `{"resourceType":"Patient",` + members + `}` }
	obs := func(members string) string {
		return `{"resourceType":"Observation","status":"final","code":{"text":"x"},` + members + `}`
	}
	for _, tt := range []struct {
		claim, body string
		want        []string
	}{
		{"a resource may be empty", `{"resourceType":"Patient"}`, nil},
		{"elements are fine", patient(`"id":"7","active":true,"name":[{"family":"Secret","given":["a","b"]}],"birthDate":"1970-01-01"`), nil},

		// unknown elements
		{"an unknown element is refused at its parent", patient(`"Secret":1`), []string{"structure Patient"}},
		{"case matters", patient(`"Active":true`), []string{"structure Patient"}},
		{"case matters below", patient(`"name":[{"Family":"x"},{"FAMILY":"x"}]`), []string{"structure Patient.name[0]", "structure Patient.name[1]"}},
		{"a look-alike letter is another name", patient(`"addreſs":[]`), []string{"structure Patient"}},
		{"an element of another type is refused", patient(`"family":"x"`), []string{"structure Patient"}},
		{"the name of a choice alone is refused", obs(`"value":"x"`), []string{"structure Observation"}},
		{"a choice of a type it does not have is refused", obs(`"valueAddress":{"city":"x"}`), []string{"structure Observation"}},
		{"comments of DSTU2 are refused", patient(`"fhir_comments":["x"]`), []string{"structure Patient"}},
		{"resourceType below is refused", patient(`"name":[{"resourceType":"HumanName","family":"x"}]`), []string{"structure Patient.name[0]"}},
		{"an empty name is refused", patient(`"":1`), []string{"structure Patient"}},
		{"an underscore alone is refused", patient(`"_":{"id":"x"}`), []string{"structure Patient"}},
		{"the sibling of a complex element is refused", patient(`"_name":[{"id":"x"}]`), []string{"structure Patient"}},

		// cardinality
		{"what is required is missing", `{"resourceType":"Observation"}`, []string{"required Observation.status", "required Observation.code"}},
		{"what is required is missing below", patient(`"link":[{"type":"seealso"}]`), []string{"required Patient.link[0].other"}},
		{"a required choice is missing", `{"resourceType":"MedicationStatement","status":"active","subject":{"reference":"Patient/1"}}`, []string{"required MedicationStatement.medication"}},
		{"an extension stands in for a required value", `{"resourceType":"Observation","_status":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]},"code":{"text":"x"}}`, nil},
		{"an array where there is one", patient(`"active":[true]`), []string{"structure Patient.active"}},
		{"one where there is an array", patient(`"name":{"family":"x"}`), []string{"structure Patient.name"}},
		{"an empty array", patient(`"name":[]`), []string{"structure Patient.name"}},
		{"an empty object", patient(`"name":[{}]`), []string{"structure Patient.name[0]"}},
		{"an empty string", patient(`"name":[{"family":""}]`), []string{"value Patient.name[0].family"}},
		{"null", patient(`"name":null,"active":null`), []string{"structure Patient.name", "value Patient.active"}},
		{"null in an array of objects", patient(`"name":[null]`), []string{"structure Patient.name[0]"}},
		{"an array in an array", patient(`"name":[[{"family":"x"}]]`), []string{"structure Patient.name[0]"}},

		// choice
		{"one of a choice", obs(`"valueString":"x"`), nil},
		{"two of a choice", obs(`"valueString":"x","valueInteger":1`), []string{"structure Observation"}},
		{"two of a choice, one by extension", obs(`"valueString":"x","_valueInteger":{"extension":[{"url":"http://x","valueCode":"y"}]}`), []string{"structure Observation"}},
		{"a choice with its own extension", obs(`"valueString":"x","_valueString":{"extension":[{"url":"http://x","valueCode":"y"}]}`), nil},
		{"a choice with its own extension first", obs(`"_valueString":{"extension":[{"url":"http://x","valueCode":"y"}]},"valueString":"x"`), nil},

		// extensions of primitives
		{"null holes", patient(`"name":[{"given":["a",null],"_given":[null,{"extension":[{"url":"http://x","valueString":"y"}]}]}]`), nil},
		{"a null without its extension", patient(`"name":[{"given":["a",null],"_given":[{"id":"x"},null]}]`), []string{"structure Patient.name[0].given[1]"}},
		{"a null without siblings", patient(`"name":[{"given":["a",null]}]`), []string{"structure Patient.name[0].given[1]"}},
		{"siblings of another length", patient(`"name":[{"given":["a"],"_given":[null,{"id":"x"}]}]`), []string{"structure Patient.name[0].given"}},
		{"siblings alone", patient(`"name":[{"_given":[{"extension":[{"url":"http://x","valueString":"y"}]}]}]`), nil},
		{"siblings alone with a hole", patient(`"name":[{"_given":[null,{"extension":[{"url":"http://x","valueString":"y"}]}]}]`), []string{"structure Patient.name[0].given[0]"}},
		{"a sibling that is no array", patient(`"name":[{"given":["a"],"_given":{"id":"x"}}]`), []string{"structure Patient.name[0].given"}},
		{"an array as sibling", patient(`"_active":[{"id":"x"}]`), []string{"structure Patient.active"}},
		{"a sibling of other content", patient(`"active":true,"_active":{"value":true}`), []string{"structure Patient.active"}},
		{"id beside a value", patient(`"active":true,"_active":{"id":"x"}`), nil},
		{"id without a value", patient(`"_active":{"id":"x"}`), []string{"invariant Patient.active"}},
		{"an id may have extensions", patient(`"id":"7","_id":{"extension":[{"url":"http://x","valueString":"y"}]}`), nil},

		// types and formats
		{"a string for a boolean", patient(`"active":"true"`), []string{"value Patient.active"}},
		{"a number for a string", patient(`"name":[{"family":7}]`), []string{"value Patient.name[0].family"}},
		{"a string for an object", patient(`"maritalStatus":"M"`), []string{"structure Patient.maritalStatus"}},
		{"a string for a decimal", obs(`"valueQuantity":{"value":"1.0"}`), []string{"value Observation.value.value"}},
		{"a control character", patient(`"name":[{"family":"Secret\u0000"}]`), []string{"value Patient.name[0].family"}},
		{"tab and line breaks", patient(`"name":[{"text":"a\t\r\nb"}]`), nil},
		{"a date that is none", patient(`"birthDate":"1970-02-30"`), []string{"value Patient.birthDate"}},
		{"a negative positiveInt", patient(`"telecom":[{"value":"1","rank":0}]`), []string{"value Patient.telecom[0].rank"}},
		{"a uri with a space", patient(`"identifier":[{"system":"http://x y","value":"1"}]`), []string{"value Patient.identifier[0].system"}},
		{"a bad id", patient(`"id":"a_b"`), []string{"value Patient.id"}},

		// codes
		{"a code of its value set", patient(`"gender":"female"`), nil},
		{"a code outside its value set", patient(`"gender":"Secret"`), []string{"code-invalid Patient.gender"}},
		{"a code in another case", patient(`"gender":"Female"`), []string{"code-invalid Patient.gender"}},
		{"a concept of its value set", `{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"coding":[{"system":"http://x","code":"y"},{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]}}`, nil},
		{"a concept outside its value set", `{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"coding":[{"system":"Secret","code":"active"}]}}`, []string{"code-invalid Condition.clinicalStatus"}},
		{"a concept in words", `{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"text":"x"}}`, nil},

		// references
		{"a reference to a type it may have", obs(`"subject":{"reference":"Patient/1"}`), nil},
		{"a version of it", obs(`"subject":{"reference":"Patient/1/_history/2"}`), nil},
		{"another type", obs(`"subject":{"reference":"Practitioner/1"}`), []string{"value Observation.subject"}},
		{"another type on another server", obs(`"subject":{"reference":"https://x.org/fhir/Practitioner/1"}`), []string{"value Observation.subject"}},
		{"another type by condition", obs(`"subject":{"reference":"Practitioner?identifier=Secret"}`), []string{"value Observation.subject"}},
		{"a urn", obs(`"subject":{"reference":"urn:uuid:9030cedd-7de1-9f69-89c5-9968cc4c2789"}`), nil},
		{"a URL of another kind", obs(`"subject":{"reference":"https://x.org/people/1"}`), nil},
		{"a declared type", obs(`"subject":{"type":"Patient","identifier":{"value":"1"}}`), nil},
		{"another declared type", obs(`"subject":{"type":"Practitioner","identifier":{"value":"1"}}`), []string{"value Observation.subject"}},
		{"a declared type that is not that of the reference", obs(`"subject":{"type":"Group","reference":"Patient/1"}`), []string{"value Observation.subject"}},
		{"a logical model", obs(`"subject":{"type":"http://x.org/Thing","display":"x"}`), nil},

		// extensions
		{"an extension with a value", patient(`"extension":[{"url":"http://x","valueString":"y"}]`), nil},
		{"an extension with extensions", patient(`"extension":[{"url":"http://x","extension":[{"url":"y","valueBoolean":true}]}]`), nil},
		{"an extension without url", patient(`"extension":[{"valueString":"y"}]`), []string{"required Patient.extension[0].url"}},
		{"an extension with nothing", patient(`"extension":[{"url":"http://x"}]`), []string{"invariant Patient.extension[0]"}},
		{"an extension with both", patient(`"extension":[{"url":"http://x","valueString":"y","extension":[{"url":"y","valueBoolean":true}]}]`), []string{"invariant Patient.extension[0]"}},
		{"an extension with two values", patient(`"extension":[{"url":"http://x","valueString":"y","valueBoolean":true}]`), []string{"structure Patient.extension[0]"}},
		{"an element with an id only", patient(`"name":[{"id":"x"}]`), []string{"invariant Patient.name[0]"}},

		// contained
		{"a contained resource that is used", obs(`"contained":[{"resourceType":"Patient","id":"p"}],"subject":{"reference":"#p"}`), nil},
		{"a contained resource of a type it may not have", obs(`"contained":[{"resourceType":"Practitioner","id":"p"}],"subject":{"reference":"#p"}`), []string{"value Observation.subject"}},
		{"a contained resource that nothing uses", obs(`"contained":[{"resourceType":"Patient","id":"p"}]`), []string{"invariant Observation.contained[0]"}},
		{"a contained resource that refers to what contains it", obs(`"contained":[{"resourceType":"Provenance","id":"p","target":[{"reference":"#"}],"recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}]}]`), nil},
		{"a reference to nothing contained", obs(`"subject":{"reference":"#p"}`), []string{"invariant Observation.subject"}},
		{"a contained resource without id", obs(`"contained":[{"resourceType":"Patient"}]`), []string{"required Observation.contained[0]"}},
		{"two of one id", obs(`"contained":[{"resourceType":"Patient","id":"p"},{"resourceType":"Group","id":"p","type":"person","actual":true}],"subject":{"reference":"#p"}`), []string{"value Observation.contained[1]", "invariant Observation.contained[0]"}},
		{"contained in contained", obs(`"contained":[{"resourceType":"Patient","id":"p","contained":[{"resourceType":"Patient","id":"q"}]}],"subject":{"reference":"#p"}`), []string{"invariant Observation.contained[0].contained[0]"}},
		{"a contained version", obs(`"contained":[{"resourceType":"Patient","id":"p","meta":{"versionId":"1"}}],"subject":{"reference":"#p"}`), []string{"invariant Observation.contained[0]"}},
		{"a contained label", obs(`"contained":[{"resourceType":"Patient","id":"p","meta":{"security":[{"code":"R"}]}}],"subject":{"reference":"#p"}`), []string{"invariant Observation.contained[0]"}},
		{"a fault in a contained resource", obs(`"contained":[{"resourceType":"Patient","id":"p","name":[{"given":["a",7]}]}],"subject":{"reference":"#p"}`), []string{"value Observation.contained[0].name[0].given[1]"}},
		{"a contained resource of no type", obs(`"contained":[{"id":"p"}]`), []string{"structure Observation.contained[0]"}},
		{"a contained resource of a type in another case", obs(`"contained":[{"ResourceType":"Patient","id":"p"}]`), []string{"structure Observation.contained[0]"}},
		{"a contained value set that a canonical names", `{"resourceType":"Questionnaire","status":"draft","contained":[{"resourceType":"ValueSet","id":"v","status":"draft"}],"item":[{"linkId":"1","type":"choice","answerValueSet":"#v"}]}`, nil},
		{"a canonical that names nothing", `{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"choice","answerValueSet":"#v"}]}`, []string{"invariant Questionnaire.item[0].answerValueSet"}},

		// resources in resources
		{"faults in the entries of a Bundle", `{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient"}},{"resource":{"resourceType":"Patient","active":"x"}}]}`, []string{"value Bundle.entry[1].resource.active"}},
		{"an entry's own contained resources", `{"resourceType":"Bundle","type":"collection","entry":[{"resource":` + obs(`"contained":[{"resourceType":"Patient","id":"p"}],"subject":{"reference":"#p"}`) + `},{"resource":` + obs(`"subject":{"reference":"#p"}`) + `}]}`, []string{"invariant Bundle.entry[1].resource.subject"}},
		{"a resource in Parameters", `{"resourceType":"Parameters","parameter":[{"name":"a","resource":{"resourceType":"Patient","active":1}},{"name":"b","part":[{"name":"c","valueDecimal":1.5}]}]}`, []string{"value Parameters.parameter[0].resource.active"}},

		{"all faults at once", patient(`"active":1,"name":[{"family":""},{"period":{"start":"x"}}],"gender":"y"`),
			[]string{"value Patient.active", "value Patient.name[0].family", "value Patient.name[1].period.start", "code-invalid Patient.gender"}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, faults(t, tt.body)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Of a hundred faults and more, a hundred are reported.
func TestFaultsAreLimited(t *testing.T) {
	got := faults(t, `{"resourceType":"Patient","name":[{}`+strings.Repeat(`,{}`, 150)+`]}`)
	if len(got) != 101 || got[99] != "structure Patient.name[99]" || got[100] != "informational" {
		t.Errorf("got %d: %v", len(got), got)
	}
}

// A resource that is large in any way is read in time in proportion. T210
func TestLargeResources(t *testing.T) {
	many := func(item string, n int) string { return item + strings.Repeat(","+item, n-1) }
	var contained strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&contained, `{"resourceType":"Patient","id":"p%d"},`, i)
	}
	var refs strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&refs, `{"reference":"#p%d"},`, i)
	}
	for claim, body := range map[string]string{
		"100,000 extensions":  `"extension":[` + many(`{"url":"http://x","valueBoolean":true}`, 100_000) + `]`,
		"100,000 identifiers": `"identifier":[` + many(`{"value":"1"}`, 100_000) + `]`,
		"200,000 unknown members": `"x":` + `{` + `"a":1` + func() string {
			var b strings.Builder
			for i := range 200_000 {
				fmt.Fprintf(&b, `,"a%d":1`, i)
			}
			return b.String()
		}() + `}`,
		"a narrative of 2 MB":         `"text":{"status":"generated","div":"<div xmlns='http://www.w3.org/1999/xhtml'>` + strings.Repeat("<p>&amp;<!-- - --></p>", 100_000) + `</div>"}`,
		"an unclosed narrative":       `"text":{"status":"generated","div":"<div xmlns='http://www.w3.org/1999/xhtml'>` + strings.Repeat("<p>", 500_000) + `</div>"}`,
		"an attribute that is long":   `"text":{"status":"generated","div":"<div xmlns='http://www.w3.org/1999/xhtml'><p style='` + strings.Repeat("url(x)", 200_000) + `'>x</p></div>"}`,
		"a million-character id":      `"id":"` + strings.Repeat("a", 1_000_000) + `"`,
		"50,000 contained and linked": `"contained":[` + contained.String()[:contained.Len()-1] + `],"generalPractitioner":[` + refs.String()[:refs.Len()-1] + `]`,
	} {
		t.Run(claim, func(t *testing.T) {
			start := time.Now()
			d, err := fhir.Parse([]byte(`{"resourceType":"Patient",`+body+`}`), fhir.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			places(t, validate.Resource(d))
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %v", took)
			}
		})
	}
}

// A client that knows the resource by another place reads that place.
func TestAt(t *testing.T) {
	d, err := fhir.Parse([]byte(`{"resourceType":"Patient","active":1}`), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"value Bundle.entry[2].resource.active"}
	if diff := cmp.Diff(want, places(t, validate.At(d, "Bundle.entry[2].resource"))); diff != "" {
		t.Error(diff)
	}
}

// A batch is held to the rules of Bundle before its resources are looked at. H-40
func TestEnvelope(t *testing.T) {
	d, err := fhir.Parse([]byte(`{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Patient","active":1},"request":{"method":"POST"}}]}`), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"required Bundle.entry[0].request.url"}
	if diff := cmp.Diff(want, places(t, validate.Envelope(d))); diff != "" {
		t.Error(diff)
	}
}
