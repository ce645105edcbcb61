package store_test

import (
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

func TestAnUnknownTenantIsUnknown(t *testing.T) {
	f := storetest.New(t)
	for _, slug := range []string{"no-such-tenant", "Alpha-One", "alpha-one ", "alpha%", "", "alpha-one\x00", "αlpha-one"} {
		if _, err := f.Tenants.Tenant(t.Context(), slug); !errors.Is(err, tenant.ErrUnknown) {
			t.Errorf("%q: got %v", slug, err)
		}
	}
}

// What the registry holds opens only with the key-encryption key,
// and only in the row it was sealed for.
func TestCredentialsAreSealed(t *testing.T) {
	f := storetest.New(t)
	t.Run("another key management service opens no placement", func(t *testing.T) {
		other, err := keys.NewFileKMS(filepath.Join(t.TempDir(), "kek"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := store.OpenRegistry(t.Context(), f.URLs.Registry, other)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for _, slug := range storetest.Slugs {
			if row, err := r.TenantBySlug(t.Context(), slug); err == nil || row.Placement.Signer != nil {
				t.Errorf("%s opened", slug)
			}
		}
	})
	t.Run("a secret moved to another tenant's row does not open there", func(t *testing.T) {
		m := newMigrator(t, "moved")
		if err := m.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, slug := range []string{"from", "onto"} {
			if _, _, err := m.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Database}); err != nil {
				t.Fatal(err)
			}
		}
		urls, err := m.URLs()
		if err != nil {
			t.Fatal(err)
		}
		owner := connect(t, in(f.OwnerURL, "moved_registry"))
		must(t, owner, `
			UPDATE registry.tenant SET dsn = f.dsn, audit_dsn = f.audit_dsn, signer = f.signer
			FROM  (SELECT * FROM registry.tenant WHERE slug = 'from') f
			WHERE  tenant.slug = 'onto'`)
		r, err := store.OpenRegistry(t.Context(), urls.Registry, f.KMS)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.TenantBySlug(t.Context(), "from"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.TenantBySlug(t.Context(), "onto"); err == nil {
			t.Error("the other tenant's placement opened")
		}
		must(t, owner, `UPDATE registry.tenant SET dsn = audit_dsn WHERE slug = 'from'`)
		if _, err := r.TenantBySlug(t.Context(), "from"); err == nil {
			t.Error("the auditor's credentials opened as the server's")
		}
	})
	// KMS-14
	t.Run("an equal key for a second tenant is refused", func(t *testing.T) {
		owner := connect(t, in(f.OwnerURL, registryDatabase(t, f)))
		a, b := f.Tenant(t, storetest.A1), f.Tenant(t, storetest.A2)
		if got := code(t, owner, `
			UPDATE registry.keyset SET fingerprint = (SELECT fingerprint FROM registry.keyset WHERE tenant_id = $1 AND class = 'clinical')
			WHERE  tenant_id = $2 AND class = 'clinical'`, a.ID.Int(), b.ID.Int()); got != "23505" {
			t.Errorf("got %q, want 23505", got)
		}
	})
}

func registryDatabase(t testing.TB, f *storetest.Fixture) string {
	t.Helper()
	return query[string](t, connect(t, f.URLs.Registry), `SELECT current_database()::text`)[0]
}

// A client is of one tenant.
func TestClients(t *testing.T) {
	f := storetest.New(t)
	a, b := f.Tenant(t, storetest.A1), f.Tenant(t, storetest.A2)
	want := smart.Client{
		ID: "loader", Name: "Loader", JWKS: []byte(`{"keys":[]}`), Scopes: []string{"system/*.cruds", "system/Patient.r"},
		User: "Practitioner/dr1", Patient: "p1", Purpose: "TREAT",
		Method: smart.PrivateKeyJWT, RedirectURIs: []string{},
	}
	if created, err := f.Registry.PutClient(t.Context(), a, want); err != nil || !created {
		t.Fatalf("got created %v, %v", created, err)
	}
	got, err := f.Registry.Client(t.Context(), a, want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if time.Since(got.Updated).Abs() > time.Minute {
		t.Errorf("updated at %v", got.Updated)
	}
	if want.Updated = got.Updated; !cmp.Equal(want, got) {
		t.Error(cmp.Diff(want, got))
	}
	if _, err := f.Registry.Client(t.Context(), b, want.ID); !errors.Is(err, smart.ErrUnknownClient) {
		t.Errorf("the other tenant has it too: %v", err)
	}
	want.Disabled, want.Scopes = true, []string{"system/*.r"}
	if created, err := f.Registry.PutClient(t.Context(), a, want); err != nil || created {
		t.Fatalf("got created %v, %v", created, err)
	}
	list, err := f.Registry.Clients(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || !list[0].Updated.After(want.Updated) {
		t.Fatalf("got %+v", list)
	}
	want.Updated = list[0].Updated
	if d := cmp.Diff([]smart.Client{want}, list); d != "" {
		t.Error(d)
	}
}

// T046: an assertion is good once, also when it comes many times at once.
func TestAnAssertionIsUsedOnce(t *testing.T) {
	f := storetest.New(t)
	a, b := f.Tenant(t, storetest.A1), f.Tenant(t, storetest.A2)
	exp := time.Now().Add(time.Minute)
	var fresh atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			ok, err := f.Registry.UseAssertion(t.Context(), a, "raced", "jti-1", exp)
			if err != nil {
				t.Error(err)
			}
			if ok {
				fresh.Add(1)
			}
		})
	}
	wg.Wait()
	if fresh.Load() != 1 {
		t.Errorf("accepted %d times", fresh.Load())
	}
	for _, other := range []struct {
		t           *tenant.Tenant
		client, jti string
	}{{b, "raced", "jti-1"}, {a, "another", "jti-1"}, {a, "raced", "jti-2"}} {
		if ok, err := f.Registry.UseAssertion(t.Context(), other.t, other.client, other.jti, exp); err != nil || !ok {
			t.Errorf("%+v: got %v, %v", other, ok, err)
		}
	}
}

func TestAppendPlatform(t *testing.T) {
	f := storetest.New(t)
	e := audit.Entry{
		Recorded: time.Now(), Interaction: fhir.Read, Outcome: audit.Serious, Status: 401, Reason: "no token",
		Origin: audit.Origin{RequestID: "req-77", Address: "192.0.2.1", Method: "GET", Server: "test"},
		Agent:  audit.Agent{Client: "stranger"},
	}
	if err := f.Registry.AppendPlatform(t.Context(), []audit.Entry{e, e}); err != nil {
		t.Fatal(err)
	}
	owner := connect(t, in(f.OwnerURL, registryDatabase(t, f)))
	if got := query[int64](t, owner, `SELECT count(*) FROM registry.platform_audit WHERE request_id = 'req-77' AND status = 401 AND client = 'stranger'`); got[0] != 2 {
		t.Errorf("got %d entries, want 2", got[0])
	}
}

func TestOperators(t *testing.T) {
	f := storetest.New(t)
	want := store.Operator{ID: "ops", Name: "Operations", JWK: []byte(`{"kty":"EC"}`)}
	if _, err := f.Registry.Operator(t.Context(), want.ID); !errors.Is(err, store.ErrUnknownOperator) {
		t.Errorf("got %v", err)
	}
	for _, disabled := range []bool{false, true} {
		want.Disabled = disabled
		if err := f.Migrator.PutOperator(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		got, err := f.Registry.Operator(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	exp := time.Now().Add(time.Minute)
	for i, want := range []bool{true, false, false} {
		if fresh, err := f.Registry.UseOperatorToken(t.Context(), "ops", "jti", exp); err != nil || fresh != want {
			t.Errorf("use %d: got %v, %v", i, fresh, err)
		}
	}
}
