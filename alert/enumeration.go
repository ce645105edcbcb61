package alert

import (
	"slices"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// Enumeration is the rule about who asks for many ids that answer nothing, as
// somebody does who guesses them. Who asks for one id again and again waits for
// something.
const Enumeration smart.Rule = "enumeration"

const (
	maxMissed    = 250
	missedWithin = 10 * time.Minute
)

func (h *habits) enumerates(_ *tenant.Tenant, e *audit.Entry, now time.Time) bool {
	if !missed(e) {
		return false
	}
	n, _ := h.missed.see(hashOf(string(e.Interaction), string(e.Type), e.Entity.ID, e.Origin.Method), missedWithin, now)
	return h.missed.tell(n > maxMissed)
}

// missed reports whether the entry is of a request for one thing that was not
// there, or not for whoever asked.
func missed(e *audit.Entry) bool {
	if e.Outcome == audit.Success || e.Interaction == fhir.SearchType || e.Interaction == fhir.SearchSystem {
		return false
	}
	return slices.Contains([]int{403, 404, 410}, e.Status) ||
		slices.Contains([]string{string(fhir.Forbidden), string(fhir.NotFound), string(fhir.Deleted)}, e.Reason)
}
