package alert

import (
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// Rules about the audit trail itself.
const (
	// TamperedTrail is about a trail that is not as it was signed.
	TamperedTrail smart.Rule = "audit-tampered"
	// Unaudited is about a trail that cannot be written. What was asked was
	// answered 503; but whoever wants to leave no trace may have caused it.
	Unaudited smart.Rule = "audit-failure"
)

// Tampered sees that the audit trail of the tenant has been changed, or an old
// copy of it put in its place; nil is the platform.
func (w *Watcher) Tampered(t *tenant.Tenant) { w.ofTrail(t, TamperedTrail) }

// NotAudited sees that entries of the tenant could not be written; nil is the
// platform.
func (w *Watcher) NotAudited(t *tenant.Tenant) { w.ofTrail(t, Unaudited) }

func (w *Watcher) ofTrail(t *tenant.Tenant, rule smart.Rule) {
	slug := ""
	if t != nil {
		slug = t.Slug.String()
	}
	w.sight(Sighting{Tenant: slug, Rule: rule, Count: 1})
}
