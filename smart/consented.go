package smart

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/tenant"
)

// consented returns where, narrowed to what the consents of patients leave to
// who asks. They are about what is shown: to see a resource, and to change what
// one has to see for that. Nobody is kept from writing down something new.
// Consents themselves are for the policy alone, so that who keeps them can.
func (g *Grant) consented(where search.Expr, q question) search.Expr {
	switch {
	case where == nil, q.letter&(canRead|canSearch|canUpdate|canDelete) == 0, q.on == "":
		return where
	case q.on == "Consent", q.on == auditEvent, !search.TellsOfPatients(q.on):
		return where
	}
	by := search.Consented{By: cmp.Or(g.asker, &search.Asker{})} // of nobody all is unknown
	if q.letter&(canRead|canSearch) != 0 && len(g.glasses) > 0 && g.tenant.Settings.BreakGlass.OverridesConsent {
		by.By = g.spared(by.By)
	}
	if everything(where) {
		return search.And{by}
	}
	return search.And{where, by}
}

// asker returns who has the access, as consents see them.
func (a *access) asker(t *tenant.Tenant, at time.Time) *search.Asker {
	by := &search.Asker{
		User: a.user, Organizations: slices.Concat(a.person.Organizations, a.person.Departments),
		Purpose: a.purpose[strings.LastIndexByte(a.purpose, '|')+1:], OptIn: t.Settings.Consent.OptIn, At: at,
	}
	if a.user.Type == "Patient" {
		by.Self = a.user.ID
	}
	if by.Purpose == "" {
		by.Purpose = t.Settings.Consent.Purpose
	}
	return by
}
