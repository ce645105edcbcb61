package rest

import (
	"slices"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// A service account does what its scopes are for, and nothing else: who exports
// cannot write, and who feeds results in cannot read. AUTHZ-05
func TestEachServiceAccountDoesItsTaskAlone(t *testing.T) {
	a := newAPI(t)
	const slug = storetest.S1
	id := fresh()
	admin := a.client(t, slug, all)
	admin.must(201, "PUT", "/Patient/"+id, patient(id, "Account"))
	acts := []struct{ name, method, path, body string }{
		{"read", "GET", "/Patient/" + id, ""},
		{"search", "GET", "/Patient?_id=" + id, ""},
		{"history", "GET", "/Patient/" + id + "/_history", ""},
		{"export", "GET", "/$export?_type=Patient", ""},
		{"trail", "GET", "/AuditEvent?_count=1", ""},
		{"add lab", "POST", "/Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"}}`},
		{"add patient", "POST", "/Patient", patient("", "Added")},
		{"replace", "PUT", "/Patient/" + id, patient(id, "Replaced")},
		{"patch", "PATCH", "/Patient/" + id, `[{"op":"add","path":"/language","value":"en"}]`},
		{"delete", "DELETE", "/Patient/" + id, ""},
	}
	for _, account := range []struct {
		name, scope string
		may         []string
		version     string // of the record, thereafter
	}{
		{"exporter", "system/Patient.rs", []string{"read", "search", "history", "export"}, "1"},
		{"auditor", "system/AuditEvent.rs", []string{"trail"}, "1"},
		{"lab-feed", "system/Observation.c", []string{"add lab"}, "1"},
		{"billing", "system/Coverage.rs", nil, "1"},
		{"registration", "system/Patient.cu", []string{"add patient", "replace", "patch"}, "3"},
	} {
		c := a.client(t, slug, account.scope, byClient(account.name+"-"+id))
		for _, act := range acts {
			headers := map[string][]string{"export": {"Prefer", "respond-async"}, "patch": {"Content-Type", "application/json-patch+json"}}[act.name]
			w := c.do(act.method, act.path, act.body, headers...)
			if slices.Contains(account.may, act.name) != (w.Code < 300) || w.Code >= 300 && w.Code != 403 {
				t.Errorf("%s: %s answers %d %s", account.name, act.name, w.Code, w.Body)
			}
		}
		if got := admin.must(200, "GET", "/Patient/"+id, "").Header().Get("ETag"); got != `W/"`+account.version+`"` {
			t.Errorf("after %s the record has version %s", account.name, got)
		}
	}
}
