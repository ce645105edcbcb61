package terminology_test

import (
	"errors"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// Each value set of R4 can be listed, or the error says why it cannot be.
func TestEveryValueSetOfR4ExpandsOrSaysWhy(t *testing.T) {
	s := terminology.New(canonical.Core())
	why := map[string]int{}
	listed, concepts := 0, 0
	for d := range canonical.Core().All("ValueSet") {
		x, err := s.Expand(t.Context(), terminology.ExpandRequest{Source: terminology.Source{URL: d.URL}, Count: -1})
		var e *fhir.Error
		switch {
		case errors.As(err, &e):
			why[string(e.Code())+": "+e.Issues[0].Diagnostics]++
			switch e.Code() {
			case fhir.BusinessRule, fhir.TooCostly, fhir.NotSupported:
			default:
				t.Errorf("%s: %v", d.URL, err)
			}
		case err != nil:
			t.Errorf("%s: %v", d.URL, err)
		default:
			listed++
			concepts += x.Expansion.Total
			if x.Expansion.Total == 0 {
				t.Logf("%s has no concepts", d.URL)
			}
		}
	}
	t.Logf("%d value sets with %d concepts are listed; the others: %v", listed, concepts, why)
}
