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
