package store_test

import (
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

func TestATokenDoesNotOutliveItsClient(t *testing.T) { // T034
	d := openDoor(t)
	at := time.Now() // by the Verifier's clock, which is moved on
	v, err := smart.NewVerifier(smart.Config{
		Tenants: d.Tenants, Keys: d.Keyring, Base: base, Issuer: base, Clients: d.Registry, Now: func() time.Time { return at },
	})
	if err != nil {
		t.Fatal(err)
	}
	d.verifier = v
	on := d.Tenant(t, storetest.A1)
	put := func(c smart.Client) {
		t.Helper()
		if _, err := d.Registry.PutClient(t.Context(), on, c); err != nil {
			t.Fatal(err)
		}
	}
	c := smart.Client{ID: "revoked", JWKS: []byte(`{}`), Scopes: []string{"system/*.rs"}}
	set, err := d.Keyring.Of(t.Context(), on.ID)
	if err != nil {
		t.Fatal(err)
	}
	token := func(client string, issued time.Time) string {
		t.Helper()
		bearer, err := smart.Token{
			Issuer: base(storetest.A1), Audience: base(storetest.A1), Tenant: storetest.A1, Subject: client, Client: client,
			Scope: "system/*.rs", Issued: issued.Unix(), NotYet: issued.Unix(), Expires: issued.Add(5 * time.Minute).Unix(), ID: "j",
		}.Sign(set)
		if err != nil {
			t.Fatal(err)
		}
		return bearer
	}
	try := func(bearer string) error {
		_, err := v.Grant(t.Context(), storetest.A1, bearer, audit.Origin{RequestID: "r1", Trail: audit.NewTrail()})
		return err
	}
	put(c)
	held := token("revoked", at)
	if err := try(held); err != nil {
		t.Fatal(err)
	}
	g, err := v.Grant(t.Context(), storetest.A1, held, audit.Origin{RequestID: "r1", Trail: audit.NewTrail()})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := v.Keep(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	resume := func() error {
		_, err := v.Resume(t.Context(), on, kept, audit.Origin{RequestID: "r2", Trail: audit.NewTrail()})
		return err
	}
	if err := resume(); err != nil {
		t.Fatal(err)
	}
	if err := try(token("never-registered", at)); !fhir.IsCode(err, fhir.Login) {
		t.Errorf("a client that is not registered: %v", err)
	}
	if err := try(token("revoked", at.Add(-time.Minute))); !fhir.IsCode(err, fhir.Login) {
		t.Errorf("a token from before the client was registered anew: %v", err)
	}
	c.Disabled = true
	put(c)
	at = at.Add(time.Second)
	if err := try(held); !fhir.IsCode(err, fhir.Login) {
		t.Errorf("a second after the client was disabled: %v", err)
	}
	if err := resume(); !fhir.IsCode(err, fhir.Login) {
		t.Errorf("work that goes on after its client was disabled: %v", err)
	}
}

// T012, TEN-35: a suspension holds for whoever has a Grant already, in every
// partition mode, and is still audited; resuming undoes it.
func TestASuspendedTenantIsRefusedAtOnce(t *testing.T) {
	d := openDoor(t)
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			slug := "refused-" + string(mode)
			if _, _, err := d.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Name: slug, Mode: mode}); err != nil {
				t.Fatal(err)
			}
			d.put(t, slug, "Patient/p", `{"resourceType":"Patient","id":"p"}`)
			p := fhir.Ref{Type: "Patient", ID: "p"}
			attempts := map[string]func(*smart.Grant) error{
				"read": func(g *smart.Grant) error {
					_, err := d.db.Read(t.Context(), g, p)
					return err
				},
				"vread": func(g *smart.Grant) error {
					return d.db.View(t.Context(), g, func(v *store.View) error {
						_, err := v.Vread(t.Context(), p, 1)
						return err
					})
				},
				"update": func(g *smart.Grant) error {
					return d.db.Update(t.Context(), g, func(tx *store.Tx) error {
						_, _, err := tx.Put(t.Context(), p, document(t, `{"resourceType":"Patient","id":"p"}`), 0)
						return err
					})
				},
				"create": func(g *smart.Grant) error {
					return d.db.Update(t.Context(), g, func(tx *store.Tx) error {
						_, err := tx.Create(t.Context(), store.NewID(), document(t, `{"resourceType":"Patient"}`))
						return err
					})
				},
			}
			grants := map[string]*smart.Grant{}
			for name := range attempts {
				grants[name] = d.grant(t, slug, everything)
			}
			later := d.grant(t, slug, everything)
			if _, err := d.Migrator.Suspend(t.Context(), slug); err != nil {
				t.Fatal(err)
			}
			for name, attempt := range attempts {
				if err := attempt(grants[name]); !fhir.IsCode(err, fhir.Forbidden) {
					t.Errorf("%s: got %v, want forbidden", name, err)
				}
			}
			if err := d.Migrator.Migrate(t.Context()); err != nil { // lets nobody in again
				t.Fatal(err)
			}
			if err := attempts["read"](later); !fhir.IsCode(err, fhir.Forbidden) {
				t.Errorf("after a migration: got %v, want forbidden", err)
			}
			if _, err := d.Migrator.Resume(t.Context(), slug); err != nil {
				t.Fatal(err)
			}
			audited := 0
			if err := d.db.View(t.Context(), d.grant(t, slug, everything), func(v *store.View) error {
				page, err := v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "outcome=8"), store.Cursor{})
				if err == nil {
					audited = len(page.Entries)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if audited != len(attempts)+1 {
				t.Errorf("%d refusals are in the audit trail, want %d", audited, len(attempts)+1)
			}
		})
	}
}
