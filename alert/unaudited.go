package alert

import (
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// Unaudited is the rule about a trail that cannot be written. What was asked was
// answered 503; but whoever wants to leave no trace may have caused it.
const Unaudited smart.Rule = "audit-failure"

// NotAudited sees that entries of the tenant could not be written; nil is the
// platform.
func (w *Watcher) NotAudited(t *tenant.Tenant) {
	slug := ""
	if t != nil {
		slug = t.Slug.String()
	}
	w.sight(Sighting{Tenant: slug, Rule: Unaudited, Count: 1})
}
