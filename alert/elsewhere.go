package alert

import (
	"net/netip"
	"slices"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// Elsewhere is the rule about a client that is used outside of the networks in
// which its operators say that it runs.
const Elsewhere smart.Rule = "unexpected-network"

// elsewhereAgain is how long the same client is not told of again.
const elsewhereAgain = time.Minute

func (h *habits) isElsewhere(t *tenant.Tenant, e *audit.Entry, now time.Time) bool {
	networks := t.Settings.Alerts.Networks[e.Agent.Client]
	if len(networks) == 0 || e.Origin.Address == "" || now.Sub(h.elsewhere) < elsewhereAgain {
		return false
	}
	from, err := netip.ParseAddr(e.Origin.Address)
	if err != nil || slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(from) }) {
		return false
	}
	h.elsewhere = now
	return true
}
