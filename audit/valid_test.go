package audit_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

// What is shown of the trail is valid FHIR, whatever the request was.
func TestEveryAuditEventIsValid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := audit.Render(anyEntry().Draw(t, "entry"), base)
		d, err := fhir.Parse(data, fhir.Limits{})
		if err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		if err := validate.Resource(d); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
	})
}
