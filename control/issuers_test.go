package control_test

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// An operator makes a tenant trust an authorization server elsewhere, and gives
// it its own back. The secret goes in, and never out.
func TestOutsideIssuers(t *testing.T) {
	p := newPlane(t)
	const slug = "elsewhere"
	if _, _, err := p.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: "shared"}); err != nil {
		t.Fatal(err)
	}
	path, other := "/control/v1/tenants/"+slug+"/issuer", "/control/v1/tenants/"+storetest.S1+"/issuer"
	const good = `{"issuer":"https://id.example","audience":"api://ehr","introspection":{"client_id":"cordon"},"client_secret":"hush-hush","mapping":{"user":{"claim":"staff"},"patient":{"claim":"patient"}}}`
	for _, tt := range []struct {
		claim, method, path, body string
		want                      int
	}{
		{"there is none at first", "GET", path, "", 404},
		{"which cannot be removed", "DELETE", path, "", 404},
		{"one is set", "PUT", path, good, 201},
		{"and changed", "PUT", path, strings.Replace(good, "staff", "sub", 1), 200},
		{"it is shown", "GET", path, "", 200},
		{"nobody else trusts it for the same", "PUT", other, good, 409},
		{"nor does one that is not there", "PUT", "/control/v1/tenants/nobody/issuer", good, 404},
		{"one that is none", "PUT", path, strings.Replace(good, "https", "file", 1), 400},
		{"one that signs with secrets", "PUT", path, strings.Replace(good, `"audience"`, `"algorithms":["HS256"],"audience"`, 1), 400},
		{"one that is asked without a secret", "PUT", path, strings.Replace(good, "hush-hush", "", 1), 400},
		{"one with what it cannot have", "PUT", path, strings.Replace(good, "audience", "audiense", 1), 400},
		{"one that names roles as it likes", "PUT", path, strings.Replace(good, `"user"`, `"roles":{"claim":"groups"},"user"`, 1), 400},
		{"it is removed", "DELETE", path, "", 200},
	} {
		w := p.do(t, tt.method, tt.path, tt.body, "X-Request-Id", "issuer")
		if w.Code != tt.want {
			t.Errorf("%s: %d %s", tt.claim, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "hush-hush") {
			t.Errorf("%s: the answer has the secret", tt.claim)
		}
		if tt.claim == "it is shown" && (!strings.Contains(w.Body.String(), `"user":{"claim":"sub"}`) || !strings.Contains(w.Body.String(), `"patient":{"claim":"patient"}`)) {
			t.Errorf("shown %s", w.Body)
		}
	}
	trail := strings.Join(p.trail(t, "issuer"), "\n")
	for _, want := range []string{"made tenant elsewhere trust issuer https://id.example", "removed the outside issuer of tenant elsewhere"} {
		if !strings.Contains(trail, want) {
			t.Errorf("the trail lacks %q: %s", want, trail)
		}
	}
	if strings.Contains(trail+p.log.String(), "hush-hush") {
		t.Error("the secret is in the trail or the log")
	}
}
