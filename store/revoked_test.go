package store_test

import (
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
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
}
