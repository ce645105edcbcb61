package control_test

import (
	"crypto/elliptic"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/control"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// by sends a request as another operator than do does.
func (p *plane) by(t testing.TB, operator, method, path, body string) (int, map[string]any) {
	t.Helper()
	key := newKey(t, elliptic.P384())
	p.operator(t, operator, key, false)
	token, err := control.Token(key, operator, url)
	if err != nil {
		t.Fatal(err)
	}
	w := p.send(t, method, path, body, "Authorization", "Bearer "+token)
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return w.Code, v
}

// AUTHZ-21: a policy is changed by two persons, in versions that stay.
func TestAPolicyIsProposedByOneOperatorAndApprovedByAnother(t *testing.T) {
	p := newPlane(t)
	slug := "policy-change"
	if _, _, err := p.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Shared}); err != nil {
		t.Fatal(err)
	}
	at := "/control/v1/tenants/" + slug + "/policy"
	text := func(id string) string {
		b, err := json.Marshal(map[string]string{"text": `@id("` + id + `") permit (principal, action, resource);`, "note": "because"})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	steps := []struct {
		claim, who, method, path, body string
		want                           int
		says                           string
	}{
		{"a tenant begins with the scopes", "one", "GET", at, "", 200, `version:1`},
		{"what cannot be answered is refused", "one", "POST", at + "/changes", `{"text":"@id(\"a\") permit (principal, action, resource) when { resource.ssn == \"1\" };"}`, 400, "rule a, line 1"},
		{"and so in a check", "one", "POST", "/control/v1/policy/check", `{"text":"permit"}`, 400, "not Cedar"},
		{"a check changes nothing", "one", "POST", "/control/v1/policy/check", text("a"), 200, ""},
		{"a proposal", "one", "POST", at + "/changes", text("a"), 201, "change:1"},
		{"another", "two", "POST", at + "/changes", text("b"), 201, "change:2"},
		{"is not in force", "one", "GET", at, "", 200, `version:1`},
		{"not approved by who proposed it", "one", "POST", at + "/changes/1/approve", "", 403, "somebody else"},
		{"approved by another", "two", "POST", at + "/changes/1/approve", "", 200, "version:2"},
		{"is in force", "one", "GET", at, "", 200, `@id("a")`},
		{"approved twice is approved once", "two", "POST", at + "/changes/1/approve", "", 200, "version:2"},
		{"a proposal on what was replaced", "one", "POST", at + "/changes/2/approve", "", 409, "propose it anew"},
		{"a change", "one", "GET", at + "/changes/2", "", 200, `@id("b")`},
		{"a version", "one", "GET", at + "/versions/2", "", 200, `approved_by:two`},
		{"the first version", "one", "GET", at + "/versions/1", "", 200, `@id("scopes")`},
		{"no such version", "one", "GET", at + "/versions/3", "", 404, "no such version"},
		{"no such change", "one", "GET", at + "/changes/3", "", 404, "no such change"},
		{"a number in another spelling", "one", "GET", at + "/changes/01", "", 404, "no such path"},
		{"no such tenant", "one", "GET", "/control/v1/tenants/nobody/policy", "", 404, "no such tenant"},
	}
	for _, s := range steps {
		status, got := p.by(t, s.who, s.method, s.path, s.body)
		if status != s.want || !strings.Contains(fmt.Sprint(got), s.says) {
			t.Fatalf("%s: %d %v, want %d and %q", s.claim, status, got, s.want, s.says)
		}
	}
	list := p.do(t, "GET", at+"/changes", "")
	if list.Code != 200 || strings.Contains(list.Body.String(), "permit") || !strings.Contains(list.Body.String(), `"change":2`) {
		t.Errorf("the history: %d %s", list.Code, list.Body)
	}
	t.Run("each step is in the audit trail", func(t *testing.T) {
		w := p.do(t, "POST", at+"/changes", text("c"), "X-Request-Id", "policy-proposed")
		if w.Code != 201 {
			t.Fatal(w.Code, w.Body)
		}
		got := strings.Join(p.trail(t, "policy-proposed"), "; ")
		if want := "102 ops begins: POST /tenants/policy-change/policy/changes; 201 ops proposed change 3 of the policy of tenant policy-change, on version 2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}
