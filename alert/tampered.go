package alert

import (
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// TamperedTrail is the rule about an audit trail that is not as it was signed.
const TamperedTrail smart.Rule = "audit-tampered"

// Tampered sees that the audit trail of the tenant has been changed, or an old
// copy of it put in its place; nil is the platform.
func (w *Watcher) Tampered(t *tenant.Tenant) {
	slug := ""
	if t != nil {
		slug = t.Slug.String()
	}
	w.sight(Sighting{Tenant: slug, Rule: TamperedTrail, Count: 1})
}
