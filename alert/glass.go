package alert

import (
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// The rules about who sees the record of a patient because it is an emergency.
// These alerts are opened in the commit that lets them.
const (
	BrokenGlass smart.Rule = "break-glass"
	BrokenAlone smart.Rule = "break-glass-alone" // nobody approved it
)

// GlassSighting returns the sighting of a glass that the user breaks with the
// client, by a request.
func GlassSighting(t *tenant.Tenant, rule smart.Rule, client, user, request string) Sighting {
	s := sightingOf(smart.Alert{Rule: rule, Tenant: t.Slug.String(), Client: client, User: user, Request: request}).at(time.Now())
	s.Apart = true
	return s
}

// glass counts and logs the alert that is opened with a broken glass.
func (w *Watcher) glass(t *tenant.Tenant, e *audit.Entry) {
	if e.Interaction != audit.GlassBroken {
		return
	}
	rule := BrokenGlass
	if e.Reason == audit.GlassAlone {
		rule = BrokenAlone
	}
	s := GlassSighting(t, rule, e.Agent.Client, e.Agent.User, e.Origin.RequestID)
	w.cfg.Count(s.Rule)
	w.log(s)
}
