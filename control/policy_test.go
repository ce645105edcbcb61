package control_test

import (
	"context"
	"crypto/elliptic"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/control"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
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

// Operators ask why, and what somebody would see; a server answers, and
// both trails say who asked.
func TestOperatorsAskWhyAndWhatSomebodyWouldSee(t *testing.T) {
	p := newPlane(t)
	const slug = "policy-why"
	if _, _, err := p.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Schema}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	x := &store.Inquirer{DB: p.DB, Registry: p.Registry, Every: 5 * time.Millisecond,
		Tenants: func(context.Context) ([]*tenant.Tenant, error) { return []*tenant.Tenant{p.Tenant(t, slug)}, nil }}
	go func() { x.Run(ctx); close(done) }()
	defer func() { stop(); <-done }()
	at := "/control/v1/tenants/" + slug + "/policy"
	propose, _ := json.Marshal(map[string]string{"text": `@id("none") forbid (principal, action, resource);`})
	if w := p.do(t, "POST", at+"/changes", string(propose)); w.Code != 201 {
		t.Fatal(w.Code, w.Body)
	}
	who := `"who":{"user":"Practitioner/u","scope":"user/*.rs"}`
	for _, tt := range []struct {
		path, body string
		want       int
		says       string
	}{
		{"/explain", `{` + who + `,"type":"Patient","id":"p"}`, 200, `"by":"resource"`},
		{"/explain", `{"who":{"user":"Practitioner/u","scope":"user/Observation.rs"},"type":"Patient","id":"p"}`, 200, `"by":"scope"`},
		{"/explain", `{"audit":"0000000000000001"}`, 404, "is not known"},
		{"/explain", `{` + who + `,"type":"Nothing","id":"p"}`, 400, "type of resource"},
		{"/explain", `{"who":{"client":"nobody"},"type":"Patient","id":"p"}`, 404, "no such client"},
		{"/explain", `{"why":1}`, 400, "not the JSON"},
		{"/dry-run", `{` + who + `}`, 200, `"types":[]`},
		{"/dry-run", `{` + who + `,"change":1}`, 200, `"policy":1`},
		{"/dry-run", `{` + who + `,"change":7}`, 404, "no such change"},
		{"/dry-run", `{` + who + `,"proposed":"permit"}`, 400, "not Cedar"},
	} {
		w := p.do(t, "POST", at+tt.path, tt.body, "X-Request-Id", "why-1")
		if w.Code != tt.want || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s %s: got %d %s, want %d with %s", tt.path, tt.body, w.Code, w.Body, tt.want, tt.says)
		}
	}
	if trail := strings.Join(p.trail(t, "why-1"), "\n"); !strings.Contains(trail, "200 ops explained the access to Patient/p of tenant policy-why") {
		t.Errorf("the platform's trail: %s", trail)
	}
	var page *store.AuditPage
	err := p.DB.View(t.Context(), p.Grant(t, slug, "system/*.rs"), func(v *store.View) (err error) {
		page, err = v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "agent:identifier=ops"), store.Cursor{})
		return err
	})
	if err != nil || len(page.Entries) == 0 || page.Entries[0].Origin.RequestID != "why-1" {
		t.Errorf("the tenant's trail: %v, %v", page, err)
	}
	if w := p.do(t, "POST", "/control/v1/tenants/nobody/policy/explain", `{}`); w.Code != 404 {
		t.Errorf("no tenant: %d %s", w.Code, w.Body)
	}
}
