package profile_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/profile"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// Whoever is asked about codes decides: what is not in a required value set is
// an error, in an extensible one a warning, and what cannot be told neither.
func TestBindingsAreJudgedByWhoIsAsked(t *testing.T) {
	const body = `{"resourceType":"Observation","status":"final","code":{"text":"x"},
		"interpretation":[{"coding":[{"system":"urn:s","code":"CANARY"}]}],
		"contained":[{"resourceType":"Binary","id":"b","contentType":"CANARY"}],"focus":[{"reference":"#b"}]}`
	for answer, want := range map[terminology.Answer][]string{
		terminology.In:      nil,
		terminology.Out:     {"warning code-invalid Observation.interpretation[0]", "error code-invalid Observation.contained[0].contentType"},
		terminology.Unknown: {"information informational Observation.interpretation[0]", "information informational Observation.contained[0].contentType"},
	} {
		v := profile.New(canonical.Core(), func(context.Context, string, string, string) (terminology.Answer, error) { return answer, nil })
		got := map[string]bool{}
		for _, i := range validate1(t, v, parse(t, []byte(body)), profile.Options{}) {
			if strings.Contains(i.Diagnostics, "CANARY") {
				t.Errorf("the words hold a value: %s", i.Diagnostics)
			}
			if !strings.HasPrefix(i.Diagnostics, "dom-6") {
				got[i.Severity+" "+string(i.Code)+" "+i.Expression[0]] = true
			}
		}
		for _, issue := range want {
			if !got[issue] {
				t.Errorf("answer %d: no %s, but %v", answer, issue, got)
			}
		}
		if len(got) != len(want) {
			t.Errorf("answer %d: %v", answer, got)
		}
	}
}

// Where a code system is defined here with all its codes, a Coding has one of
// them; a display that is none of the code's is worth a warning. The base
// definitions ask for neither.
// https://hl7.org/fhir/R4/datatypes.html#Coding
func TestCodingsAreHeldAgainstTheirCodeSystem(t *testing.T) {
	v := profile.New(setOf(t, `{"resourceType":"CodeSystem","url":"urn:s","version":"1","status":"active","content":"complete",
		"concept":[{"code":"a","display":"Ay","designation":[{"language":"de","value":"Ah"}]},{"code":"b"}]}`,
		`{"resourceType":"CodeSystem","url":"urn:part","status":"active","content":"fragment","concept":[{"code":"a","display":"Ay"}]}`), nil)
	for coding, want := range map[string]string{
		`"system":"urn:s","code":"a"`:                              "",
		`"system":"urn:s","code":"a","display":"AY "`:              "",
		`"system":"urn:s","code":"a","display":"Ah"`:               "",
		`"system":"urn:s","code":"b","display":"anything"`:         "",
		`"system":"urn:s","code":"a","display":"CANARY"`:           "warning the display is none",
		`"system":"urn:s","code":"CANARY"`:                         "error the code system has no such code",
		`"system":"urn:s","version":"2","code":"CANARY"`:           "",
		`"system":"urn:part","code":"CANARY"`:                      "",
		`"system":"urn:part","code":"a","display":"CANARY"`:        "warning the display is none",
		`"system":"urn:nobody","code":"CANARY","display":"CANARY"`: "",
	} {
		d := parse(t, []byte(`{"resourceType":"Basic","code":{"coding":[{`+coding+`}]}}`))
		got := ""
		for _, i := range validate1(t, v, d, profile.Options{Claimed: true}) {
			if i.Expression[0] == "Basic.code.coding[0]" {
				got += i.Severity + " " + i.Diagnostics
			}
		}
		if (got == "") != (want == "") || !strings.HasPrefix(got, want) || strings.Contains(got, "CANARY") {
			t.Errorf("%s: got %q, want %q", coding, got, want)
		}
		for _, i := range validate1(t, v, d, profile.Options{Base: true, Errors: true}) {
			t.Errorf("%s, by the base: %v", coding, i)
		}
	}
}
