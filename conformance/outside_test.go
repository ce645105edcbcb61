package conformance

import (
	"context"
	"strings"
	"testing"

	attacks "github.com/cordon-fhir/cordon/breakout"
)

// walked is how many Patients each tenant has that no other tenant has.
const walked = 500

// prepare gives the tenants the records that package breakout attacks.
func (s *system) prepare(ctx context.Context) (err error) {
	target := &attacks.Target{Nowhere: s.FHIR + "/" + X0}
	for _, p := range s.parties {
		target.Tenants = append(target.Tenants, &attacks.Tenant{
			Slug: p.slug, Mode: p.mode, FHIRBase: p.base, TokenURL: s.Auth + "/" + p.slug + "/token", Clients: p.clients,
		})
	}
	s.suite, err = attacks.Open(ctx, target, attacks.Options{HTTP: s.http, Walk: walked, Rate: 1e6, Strict: true, Times: often(3)})
	return err
}

// outside makes the attacks of a group of package breakout, and checks what only
// the tests can see: C1 to C6 of each line, for which it stands.
func outside(t *testing.T, group int) {
	t.Helper()
	for _, a := range attacks.Attacks() {
		if a.Group != group {
			continue
		}
		run := breakout
		if a.Alone {
			run = once
		}
		run(t, a.Name(), func(p *probe) { p.make(a) })
	}
}

// make makes one attack.
func (p *probe) make(a attacks.Attack) {
	p.Helper()
	trial := sys.suite.Try(p.Context(), a, p.attacker.slug, p.victim.slug)
	if trial.NotRun != "" {
		p.Fatalf("it was not made: %s", trial.NotRun)
	}
	for _, f := range trial.Findings {
		p.Errorf("%s: %s %s", f.Condition, f.What, f.Request)
	}
	for _, x := range trial.Exchanges {
		p.took(x)
	}
	for rule, n := range trial.Alerts {
		p.alert(rule, n)
	}
	p.mayAlert = append(p.mayAlert, trial.MayAlert...)
	p.writes = trial.Moves()
}

// took notes what was sent as the attack did.
func (p *probe) took(x *attacks.Exchange) {
	if x.Unread {
		return
	}
	c := &call{method: x.Method, url: x.URL, body: x.Sent}
	for _, own := range sys.parties {
		if own.slug == x.Owner {
			c.trail, c.either = own, own
		}
	}
	r := &reply{status: x.Status, header: x.Header, body: x.Body, id: x.ID}
	p.sent = append(p.sent, sent{id: x.ID, trail: c.trail, status: x.Status, what: x.Method + " " + strings.TrimPrefix(x.URL, sys.FHIR)})
	p.clean(c, r)
	p.wellFormed(c, r)
}

// walkedID names one of the Patients that no other tenant has.
func (p *party) walkedID(i int) string { return p.sys.suite.OnlyID(p.slug, i) }
