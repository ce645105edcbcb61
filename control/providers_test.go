package control_test

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// An operator registers the identity providers of a tenant and says whom they
// let in. The secret goes in, and never out.
func TestIdentityProviders(t *testing.T) {
	p := newPlane(t)
	path := "/control/v1/tenants/" + storetest.S1 + "/identity-providers"
	const good = `{"name":"hospital","label":"Hospital","issuer":"https://id.example","client_id":"cordon","client_secret":"hush-hush"}`
	for _, tt := range []struct {
		claim, method, path, body string
		want                      int
	}{
		{"there is none at first", "GET", "", "", 200},
		{"one is added", "POST", "", good, 201},
		{"and replaced", "POST", "", good, 200},
		{"but not by one with another issuer", "POST", "", strings.Replace(good, "id.example", "other.example", 1), 409},
		{"nor by one that is none", "POST", "", strings.Replace(good, "https", "file", 1), 400},
		{"nor with what it cannot have", "POST", "", strings.Replace(good, "label", "lable", 1), 400},
		{"they are listed", "GET", "", "", 200},
		{"a user is let in", "POST", "/hospital/users", `{"subject":"u1"}`, 200},
		{"and shut out", "POST", "/hospital/users", `{"subject":"u1","disabled":true}`, 200},
		{"if there can be one", "POST", "/hospital/users", `{"subject":""}`, 400},
		{"at a provider that there is", "POST", "/clinic/users", `{"subject":"u1"}`, 404},
		{"users are listed", "GET", "/hospital/users", "", 200},
		{"one that there is not is not removed", "DELETE", "/clinic", "", 404},
		{"a name that cannot be is no path", "DELETE", "/Local", "", 404},
		{"one is removed", "DELETE", "/hospital", "", 200},
		{"and its name is free for another issuer", "POST", "", strings.Replace(good, "id.example", "other.example", 1), 201},
	} {
		w := p.do(t, tt.method, path+tt.path, tt.body, "X-Request-Id", "idp")
		if w.Code != tt.want {
			t.Errorf("%s: %d %s", tt.claim, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "hush-hush") {
			t.Errorf("%s: the answer has the secret", tt.claim)
		}
		switch tt.claim {
		case "they are listed":
			if !strings.Contains(w.Body.String(), `"issuer":"https://id.example"`) {
				t.Errorf("listed %s", w.Body)
			}
		case "users are listed":
			if !strings.Contains(w.Body.String(), `"subject":"u1","disabled":true`) {
				t.Errorf("listed %s", w.Body)
			}
		}
	}
	trail := strings.Join(p.trail(t, "idp"), "\n")
	for _, want := range []string{"added identity provider hospital", "shut out user u1", "removed identity provider hospital"} {
		if !strings.Contains(trail, want) {
			t.Errorf("the trail lacks %q: %s", want, trail)
		}
	}
	if strings.Contains(trail+p.log.String(), "hush-hush") {
		t.Error("the secret is in the trail or the log")
	}
}
