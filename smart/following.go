package smart

import (
	"crypto/rand"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/tenant"
)

// Following returns the Grant of the tenant's own work on subscriptions: it matches
// what changes with what they ask for, keeps their events and says how they are. No
// token makes one. What a subscriber is told is decided under a Grant that Resume
// earns.
func Following(t *tenant.Tenant) *Grant {
	a := (&access{follows: true}).named(t.ID.String(), "following")
	return &Grant{
		tenant: t, access: a,
		agent:  audit.Agent{Client: "cordon-subscriptions"},
		origin: audit.Origin{RequestID: rand.Text(), Method: "JOB", Trail: audit.NewTrail()},
	}
}

func (g *Grant) follows() bool {
	return g != nil && g.tenant != nil && g.access != nil && g.access.follows
}

// PermitMatching answers with the Permit by which the server looks into what changed
// for what subscriptions ask for. Nothing that is read under it is shown to anybody:
// whom it may be told is asked afterwards. Any Grant but that of Following is refused
// it.
func (g *Grant) PermitMatching() (Permit, error) {
	if !g.follows() {
		return Permit{}, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	return Permit{grant: g, interaction: applying, where: search.And{}}, nil
}

// PermitFollowing answers with the Permit by which the server keeps events. It opens
// no resource.
func (g *Grant) PermitFollowing() (Permit, error) {
	if !g.follows() {
		return Permit{}, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	return Permit{grant: g, interaction: fhir.Operation, where: search.Or{}}, nil
}

// PermitStatus answers with the Permit by which the server says in a Subscription how
// it is.
func (g *Grant) PermitStatus() (Permit, error) {
	if !g.follows() {
		return Permit{}, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	return Permit{grant: g, interaction: fhir.Update, on: "Subscription", where: search.And{}}, nil
}
