package conformance

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	attacks "github.com/cordon-fhir/cordon/breakout"
)

// AUTHZ-25: the attacks that a backend service makes are made by a SMART app too, with
// the token of a user who logged in to it, and hold as well.
func TestASMARTAppGetsNoFurtherThanABackendService(t *testing.T) {
	p := &probe{T: t, attacker: sys.A1, victim: sys.D1, alerts: map[string]int{}}
	target := &attacks.Target{Nowhere: sys.FHIR + "/" + X0}
	for _, at := range []*party{sys.A1, sys.D1} {
		p.home(at)
		file := filepath.Join(t.TempDir(), at.slug)
		if err := os.WriteFile(file, []byte(p.granted(at, "scope", "user/*.cruds").AccessToken), 0o600); err != nil {
			t.Fatal(err)
		}
		one := &attacks.Tenant{Slug: at.slug, Mode: at.mode, FHIRBase: at.base, TokenURL: sys.Auth + "/" + at.slug + "/token",
			Clients: []*attacks.Client{{ID: "app", Actor: "backend", Scopes: []string{"user/*.cruds"}, User: "Practitioner/dr1", TokenFile: file}}}
		for _, c := range at.clients {
			if c.Actor != "backend" {
				one.Clients = append(one.Clients, c)
			}
		}
		target.Tenants = append(target.Tenants, one)
	}
	sheet, err := attacks.Run(t.Context(), target, attacks.Options{HTTP: sys.http, Rate: 1e6, Only: appAttacks()})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range sheet.Attacks {
		if r.Tried == 0 {
			t.Errorf("%s %s was not made: %v", r.ID, r.Title, r.NotRun)
		}
		for _, b := range r.Broken {
			t.Errorf("%s %s: %s against %s: %v", r.ID, r.Title, b.Attacker, b.Victim, b.Findings)
		}
	}
	if tried, held := sheet.Score(); tried < 10 || held != tried {
		t.Errorf("%d of %d attacks held", held, tried)
	}
}

// appAttacks are the attacks that a user's scopes are enough for: on records, their
// versions and histories; of the full suite on Bundles and pages too.
func appAttacks() (ids []string) {
	groups := []int{3}
	if *full {
		groups = []int{3, 5, 7}
	}
	for _, a := range attacks.Attacks() {
		if slices.Contains(groups, a.Group) {
			ids = append(ids, a.ID)
		}
	}
	return ids
}
