package smart

import (
	"crypto/rand"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/tenant"
)

// indexing is what the Permit of an index job allows: to look into resources
// for what the index holds of them. It is no interaction that a client can ask
// for, and nothing that is read under it is shown to anybody.
const indexing fhir.Interaction = "index"

// IndexJob returns the Grant of the tenant's own work on its search index. It
// opens PermitIndex and PermitRules, and no interaction of FHIR. No token makes
// one: it comes from the tenant's row of the registry alone.
func IndexJob(t *tenant.Tenant) *Grant {
	a := (&access{indexes: true}).named(t.ID.String(), "index job")
	return &Grant{
		tenant: t, access: a,
		agent:  audit.Agent{Client: "cordon-index"},
		origin: audit.Origin{RequestID: rand.Text(), Method: "JOB", Trail: audit.NewTrail()},
	}
}

// PermitIndex answers with the Permit of an index job, for resources of every
// type. Any other Grant is refused it.
func (g *Grant) PermitIndex() (Permit, error) {
	if g == nil || g.tenant == nil || g.access == nil || !g.access.indexes {
		return Permit{}, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	return Permit{grant: g, interaction: indexing, where: search.And{}}, nil
}
