package smart_test

import (
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// AUTHZ-03, AUTHZ-10
func TestAKeptGrantIsEarnedAgainAndOnlyWhileItIsGood(t *testing.T) {
	w := newWorld(t)
	north, south := w.tenant(t, "north"), w.tenant(t, "south")
	keep := func(change func(*smart.Token)) (*smart.Grant, []byte) {
		t.Helper()
		tok := w.token("north")
		change(&tok)
		g, err := w.grant(t, "north", w.sign(t, tok))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := w.verifier.Keep(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		return g, kept
	}
	resume := func(tn *tenant.Tenant, kept []byte) (*smart.Grant, error) {
		return w.verifier.Resume(t.Context(), tn, kept, audit.Origin{RequestID: "r2", Trail: audit.NewTrail()})
	}
	was, kept := keep(func(tok *smart.Token) {
		tok.Scope, tok.Patient, tok.Purpose = "patient/Observation.rs", "p1", "TREAT"
	})

	w.now = w.now.Add(20 * time.Minute) // the token is over, the work is not
	is, err := resume(north, kept)
	if err != nil {
		t.Fatal(err)
	}
	if is.Principal() != was.Principal() || is.Agent() != was.Agent() || is.Origin().RequestID != "r2" {
		t.Errorf("got %+v %+v, want %+v", is.Agent(), is.Origin(), was.Agent())
	}
	if _, err := is.Permit(fhir.Read, "Observation"); err != nil {
		t.Error(err)
	}
	if _, err := is.Permit(fhir.Read, "Patient"); err == nil {
		t.Error("it reaches more than the token did")
	}

	for name, got := range map[string]func() (*smart.Grant, error){
		"at another tenant": func() (*smart.Grant, error) { return resume(south, kept) },
		"changed":           func() (*smart.Grant, error) { return resume(north, append(kept[:len(kept)-1:len(kept)-1], 0)) },
		"empty":             func() (*smart.Grant, error) { return resume(north, nil) },
		"when the tenant is suspended": func() (*smart.Grant, error) {
			row := w.rows["north"]
			defer func() { w.rows["north"] = row; w.tenants.Forget("north") }()
			suspended := row
			suspended.Status = "suspended"
			w.rows["north"] = suspended
			w.tenants.Forget("north")
			return resume(north, kept)
		},
	} {
		g, err := got()
		if !fhir.IsCode(err, fhir.Login) && !fhir.IsCode(err, fhir.Forbidden) {
			t.Errorf("%s: %v", name, err)
		}
		if g != nil {
			permitsNothing(t, g)
		}
	}
	if _, err := resume(north, kept); err != nil {
		t.Errorf("in the end: %v", err)
	}

	for name, g := range map[string]*smart.Grant{
		"nobody's": {}, "none": nil, "a refused": smart.Denied(north, audit.Agent{}, audit.Origin{}),
		"the tenant's own": smart.TakingUp(north), "an index job's": smart.IndexJob(north),
	} {
		if kept, err := w.verifier.Keep(t.Context(), g); err == nil {
			t.Errorf("%s Grant is kept as %d bytes", name, len(kept))
		}
	}
	for name, g := range map[string]*smart.Grant{"a client's": was, "an index job's": smart.IndexJob(north), "nobody's": {}} {
		if _, err := g.PermitTakingUp(); err == nil {
			t.Errorf("%s Grant finds what others ask", name)
		}
	}
	permitsNothing(t, smart.TakingUp(north))
}
