package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// What is written is indexed from the client's document, what is removed from
// the stored body: the two must have the same terms.
func TestTheServersOwnElementsHaveNoTerms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[A-Za-z0-9.-]{1,20}`).Draw(t, "id")
		on := rapid.SampledFrom([]string{"Observation", "DiagnosticReport"}).Draw(t, "type") // one has its words indexed
		meta := rapid.SampledFrom([]string{``, `"meta":{"versionId":"7","lastUpdated":"2001-01-01T00:00:00Z"},`,
			`"meta":{"tag":[{"system":"urn:t","code":"x"}],"source":"urn:s","profile":["urn:p"]},`}).Draw(t, "meta")
		d, err := fhir.Parse([]byte(`{"resourceType":"`+on+`","id":"`+id+`",`+meta+`"status":"final","code":{"coding":[{"system":"urn:c","code":"1"}]},
			"subject":{"reference":"Patient/7"},"effectiveDateTime":"2020-02","valueQuantity":{"value":1.5,"unit":"g"}}`), fhir.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		stored, err := fhir.Reopen(d.Stamp("other", 3, time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(search.R4.Index(d), search.R4.Index(stored), cmpopts.IgnoreUnexported(search.Terms{})); diff != "" {
			t.Error(diff)
		}
	})
}
