package alert

import (
	"cmp"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// Scraping is the rule about who is told of many more patients than people need
// for their work, or than the same client was told of before.
const Scraping smart.Rule = "scraping"

const (
	maxMet       = 25_000 // patients an hour, of a client without a user
	maxMetByUser = 1000   // of a user
	// Whoever was seen in this many hours has a habit: to be told of so many
	// times the most of those hours is far above it, if that is a good part of
	// what is allowed to others.
	hoursOfHabit  = 3
	farAboveHabit = 10
	goodPart      = 5
)

func (h *habits) scrapes(t *tenant.Tenant, e *audit.Entry, now time.Time) bool {
	if e.Outcome != audit.Success || e.Patient.ID == "" || !reads(e.Interaction) {
		return false
	}
	n, before := h.met.see(hashOf(e.Patient.ID), time.Hour, now)
	if before > 0 {
		h.hours++
		h.most = max(h.most, before)
	}
	allowed := cmp.Or(t.Settings.Alerts.Patients, maxMet)
	if e.Agent.User != "" {
		allowed = cmp.Or(t.Settings.Alerts.UserPatients, maxMetByUser)
	}
	unusual := h.hours >= hoursOfHabit && n > max(allowed/goodPart, farAboveHabit*h.most)
	return h.met.tell(n > allowed || unusual)
}

func reads(does fhir.Interaction) bool {
	switch does {
	case fhir.Create, fhir.Update, fhir.Patch, fhir.Delete:
		return false
	}
	return true
}
