package smart

import (
	"crypto/rand"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/tenant"
)

// purging is what the Permit of a purge allows: to look into resources for whom they
// are about, and to remove those of one patient. It is no interaction that a client
// can ask for, and nothing that is read under it is shown to anybody.
const purging fhir.Interaction = "purge"

// Purge returns the Grant under which a server removes what the tenant has of a
// patient, as the operator approved. It opens PermitPurge and PermitRules, and no
// interaction of FHIR. No token makes one: it comes of the registry alone.
func Purge(t *tenant.Tenant, operator string) *Grant {
	a := (&access{purges: true}).named(t.ID.String(), "purge", operator)
	return &Grant{
		tenant: t, access: a,
		agent:  audit.Agent{Client: "cordon-purge", User: operator, Policy: t.PolicyVersion},
		origin: audit.Origin{RequestID: rand.Text(), Method: "JOB", Trail: audit.NewTrail()},
	}
}

// PermitPurge answers with the Permit of a purge, for resources of every type. Any
// other Grant is refused it.
func (g *Grant) PermitPurge() (Permit, error) {
	if g == nil || g.tenant == nil || g.access == nil || !g.access.purges {
		return Permit{}, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	return Permit{grant: g, interaction: purging, where: search.And{}}, nil
}
