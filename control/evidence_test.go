package control_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/control"
	"github.com/cordon-fhir/cordon/evidence"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// TEN-21, DOC-06: in each mode the control plane says where a tenant's data is, who
// can reach it and what PostgreSQL allows, signs that with the key of the tenant's
// audit log, and leaves an entry that it did.
func TestEvidenceIsStatedAndSigned(t *testing.T) {
	p := newPlane(t)
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			slug := "evidence-" + string(mode)
			if _, _, err := p.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: mode}); err != nil {
				t.Fatal(err)
			}
			of, err := tenant.NewRegistry(p.Registry).Tenant(t.Context(), slug)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []smart.Client{
				{ID: "reader", Method: smart.PrivateKeyJWT, JWKS: []byte(`{"keys":[]}`), Scopes: []string{"system/Observation.rs", "system/Patient.r"}},
				{ID: "doctors", Method: smart.PrivateKeyJWT, JWKS: []byte(`{"keys":[]}`), Scopes: []string{"user/*.rs"}},
			} {
				if _, err := p.Registry.PutClient(t.Context(), of, c); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := p.Registry.PutAccount(t.Context(), of, store.Account{Login: "pat", Hash: "x", User: "Patient/p1"}); err != nil {
				t.Fatal(err)
			}
			verifier, err := p.Registry.LogVerifier(t.Context(), of)
			if err != nil {
				t.Fatal(err)
			}
			key, err := ledger.ParseKey(verifier)
			if err != nil {
				t.Fatal(err)
			}
			app, outer := p.memberOfApp(t)
			given := evidence.SumOf(evidence.ResultsFile, []byte(`{"revision":"abc","finished":"2026-01-01T00:00:00Z","requirements":[],"breakout":[]}`))
			w := p.do(t, "POST", "/control/v1/tenants/"+slug+"/evidence", fmt.Sprintf(`{"given":[{"file":%q,"sha256":%q}]}`, given.File, given.SHA256))
			if w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			var got control.Evidence
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			s, err := evidence.OpenStatement([]byte(got.Statement), key)
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Given) != 1 || s.Given[0] != given || s.Stated[0] != evidence.SumOf(evidence.FactsFile, []byte(got.Facts)) {
				t.Errorf("it signs %+v", s)
			}
			var f evidence.Facts
			if err := json.Unmarshal([]byte(got.Facts), &f); err != nil {
				t.Fatal(err)
			}
			checkFacts(t, f, mode)
			checkMembers(t, f, app, outer)
			if said := p.trail(t, w.Header().Get("X-Request-Id")); !strings.Contains(strings.Join(said, " "), "evidence for tenant "+slug) {
				t.Errorf("the trail says %q", said)
			}
		})
	}
}

func checkFacts(t *testing.T, f evidence.Facts, mode tenant.Mode) {
	t.Helper()
	if f.Tenant.Mode != string(mode) || f.Operator != "ops" || len(f.Keys) != 7 || len(f.Operators) == 0 || len(f.Policy.Rules) != 1 {
		t.Errorf("the facts are %+v", f)
	}
	apart := strings.HasSuffix(f.Places[0].Where, ", its own")
	if apart != (mode != tenant.Shared) {
		t.Errorf("a tenant of mode %s is in %s", mode, f.Places[0].Where)
	}
	for _, table := range f.Tables {
		open := !table.RowSecurity || !table.Forced || table.Policies == 0
		for _, priv := range f.Privileges {
			if open && priv.Table == table.Name {
				t.Errorf("PostgreSQL does not keep rows of %s apart, and %s may %s", table.Name, priv.Role, priv.May)
			}
		}
	}
	if len(f.Tables) < 15 || len(f.Privileges) < 15 {
		t.Errorf("%d tables, %d privileges", len(f.Tables), len(f.Privileges))
	}
	for _, role := range f.Roles {
		if role.Superuser || role.BypassesRLS {
			t.Errorf("row-level security does not hold %s", role.Name)
		}
	}
	allowed := map[string]map[string]string{}
	for _, who := range f.Principals {
		allowed[who.ID] = who.Allowed
	}
	if got := allowed["reader"]; len(got) != 2 || got["Observation"] != "RS" || got["Patient"] != "R" {
		t.Errorf("a client with two scopes is allowed %v", got)
	}
	if len(allowed["doctors"]) != 0 {
		t.Errorf("a client without a user is allowed %v", allowed["doctors"])
	}
	if got := allowed["pat"]; got["Patient"] == "" || got["Patient"] != strings.ToLower(got["Patient"]) {
		t.Errorf("a patient is allowed %v of patients", got["Patient"])
	}
}

// memberOfApp makes a role that is a member of that of the servers, and returns the
// names of both.
func (p *plane) memberOfApp(t *testing.T) (app, outer string) {
	t.Helper()
	conf, err := pgx.ParseConfig(p.URLs.App)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), storetest.Superuser(t))
	if err != nil {
		t.Fatal(err)
	}
	outer = "evidence_" + strings.ToLower(rand.Text())
	t.Cleanup(func() {
		_, err := conn.Exec(context.Background(), `DROP ROLE `+outer)
		if err = errors.Join(err, conn.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	if _, err := conn.Exec(t.Context(), `CREATE ROLE `+outer+` LOGIN NOINHERIT IN ROLE `+conf.User); err != nil {
		t.Fatal(err)
	}
	return conf.User, outer
}

// checkMembers holds that who may act as another role is named, through a third too.
func checkMembers(t *testing.T, f evidence.Facts, app, outer string) {
	t.Helper()
	want := map[string][]string{}
	switch tenant.Mode(f.Tenant.Mode) {
	case tenant.Shared:
		want[outer] = []string{app}
	case tenant.Schema:
		own := fmt.Sprintf("%s_t%d", strings.TrimSuffix(app, "_app"), f.Tenant.Number)
		want[app], want[outer] = []string{own}, []string{own}
	}
	got := map[string][]string{}
	for _, role := range f.Roles {
		if role.Becomes != nil && !role.Owner {
			got[role.Name] = role.Becomes
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEvidenceVouchesForNamedFilesOnly(t *testing.T) {
	p := newPlane(t)
	if _, _, err := p.Migrator.Provision(t.Context(), store.NewTenant{Slug: "vouch", Mode: tenant.Shared}); err != nil {
		t.Fatal(err)
	}
	sum := evidence.SumOf("x", nil).SHA256
	for _, bad := range []string{
		`{"given":[{"file":"facts.json","sha256":"` + sum + `"}]}`,
		`{"given":[{"file":"audit.json","sha256":"12"}]}`,
		`{"given":[{"file":"audit.json\nstated","sha256":"` + sum + `"}]}`,
		`{"given":[` + strings.Repeat(`{"file":"audit.json","sha256":"`+sum+`"},`, 8) + `{"file":"audit.json","sha256":"` + sum + `"}]}`,
		`{"stated":[]}`, `[]`,
	} {
		if w := p.do(t, "POST", "/control/v1/tenants/vouch/evidence", bad); w.Code != 400 || strings.Contains(w.Body.String(), "statement") {
			t.Errorf("%s: %d %s", bad, w.Code, w.Body)
		}
	}
	if w := p.do(t, "POST", "/control/v1/tenants/nobody/evidence", `{}`); w.Code != 404 {
		t.Errorf("evidence for nobody: %d", w.Code)
	}
}
