package profile_test

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/profile"
)

// The fullUrl of an entry is the identity of its resource: on a server, of that
// type and with that id.
// https://hl7.org/fhir/R4/bundle-definitions.html#Bundle.entry.fullUrl
func TestFullURLsAreThoseOfTheirResources(t *testing.T) {
	v := profile.New(canonical.Core(), nil)
	for _, tt := range []struct{ of, url, id, says string }{
		{"collection", "http://example.org/fhir/Patient/1", `"id":"1",`, ""},
		{"collection", "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "", ""},
		{"collection", "http://example.org/fhir/Patient/1", "", "has no id"},
		{"searchset", "http://example.org/fhir/Patient/1", "", "has no id"},
		{"transaction", "http://example.org/fhir/Patient/1", "", ""}, // to be created
		{"collection", "http://example.org/fhir/Patient/1", `"id":"2",`, "not the one at the end"},
		{"collection", "http://example.org/fhir/Group/1", `"id":"1",`, "that of a Group"},
		{"collection", "Patient/1", `"id":"1",`, "must be absolute"},
		{"collection", "", `"id":"1",`, "must have a fullUrl"},
	} {
		request := ""
		if tt.of == "transaction" {
			request = `,"request":{"method":"POST","url":"Patient"}`
		}
		url := `"fullUrl":"` + tt.url + `",`
		if tt.url == "" {
			url = ""
		}
		body := `{"resourceType":"Bundle","type":"` + tt.of + `","entry":[{` + url + `"resource":{"resourceType":"Patient",` + tt.id + `"active":true}` + request + `}]}`
		said := ""
		for _, e := range errorsIn(validate1(t, v, parse(t, []byte(body)), profile.Options{Base: true})) {
			said += e.Diagnostics
		}
		if (said == "") != (tt.says == "") || !strings.Contains(said, tt.says) {
			t.Errorf("%s %s %s: got %q, want %q", tt.of, tt.url, tt.id, said, tt.says)
		}
	}
}
