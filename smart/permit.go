package smart

import (
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// A Permit allows one interaction on one type, on the resources for which its
// Where holds. Only a Grant makes one; the zero Permit opens nothing.
type Permit struct {
	grant       *Grant
	interaction fhir.Interaction
	on          fhir.Type
	where       search.Expr
}

// Permit answers whether g may do the interaction on resources of the type. A
// *fhir.Error with code Forbidden says that it may not, whatever the resource.
//
// The letters of SMART v2 scopes decide: create needs c, update and patch u,
// delete d, read, vread and history-instance r, search-type, search-system,
// history-type and history-system s. No letter lets anyone write an AuditEvent.
// The policy of the tenant must allow it too.
//
// Without a type, which the interactions on the system allow, only a wildcard
// scope will do. The Permit of a patient/ scope then opens nothing by itself:
// each type that is reached needs one of its own.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
func (g *Grant) Permit(do fhir.Interaction, on fhir.Type) (Permit, error) {
	where := g.where(do, on)
	if where == nil {
		return Permit{}, g.refusal(do, on)
	}
	return Permit{grant: g, interaction: do, on: on, where: where}, nil
}

// where returns the condition of a Permit, nil if there is none to be had.
func (g *Grant) where(do fhir.Interaction, on fhir.Type) search.Expr {
	if g == nil || g.tenant == nil || g.access == nil {
		return nil
	}
	q := question{letter: letterOf(do), on: on}
	scoped := g.access.ask(q)
	if scoped == nil {
		return nil
	}
	return g.consented(g.throughGlass(g.within(scoped, q), scoped, q), q)
}

// Types returns the types on which Permit allows the interaction, in order of
// name. Interactions on the system reach these.
func (g *Grant) Types(do fhir.Interaction) []fhir.Type {
	var types []fhir.Type
	for _, t := range fhir.Types {
		if g.where(do, t) != nil {
			types = append(types, t)
		}
	}
	return types
}

// From reports whether g made p.
func (p Permit) From(g *Grant) bool { return p.grant != nil && p.grant == g }

// Interaction returns what p allows.
func (p Permit) Interaction() fhir.Interaction { return p.interaction }

// On returns the type that p is for.
func (p Permit) On() fhir.Type { return p.on }

// Where returns the condition that a resource of the type must meet to be
// within p. Searches add it to theirs; a single resource is held against it
// by search.Match. It is search.Or{} for the zero Permit.
func (p Permit) Where() search.Expr {
	if p.where == nil {
		return search.Or{}
	}
	return p.where
}

// refusal says why there is no Permit.
func (g *Grant) refusal(do fhir.Interaction, on fhir.Type) error {
	if !on.Known() { // then it is none, or the client's own text
		return fhir.Errorf(fhir.Forbidden, "no scope of the token allows %s", do)
	}
	if g != nil && g.access != nil && g.access.ask(question{letter: letterOf(do), on: on}) != nil {
		return fhir.Errorf(fhir.Forbidden, "the access policy does not allow %s on %s", do, on)
	}
	return fhir.Errorf(fhir.Forbidden, "no scope of the token allows %s on %s", do, on)
}

// letterOf returns the letter that an interaction needs, none if no scope can
// allow it.
func letterOf(do fhir.Interaction) letters {
	switch do {
	case fhir.Create:
		return canCreate
	case fhir.Read, fhir.Vread, fhir.HistoryInstance:
		return canRead
	case fhir.Update, fhir.Patch:
		return canUpdate
	case fhir.Delete:
		return canDelete
	case fhir.SearchType, fhir.SearchSystem, fhir.HistoryType, fhir.HistorySystem:
		return canSearch
	}
	return 0
}

// A question is what is asked of an access: a letter on a type. Of a policy it
// may be asked for who has broken the glass of a patient.
type question struct {
	letter letters
	on     fhir.Type
	glass  bool
}

// An answer is the condition on resources, nil if none may be touched.
type answer = search.Expr

// ask remembers what decide answered. Few questions are asked of a token, so
// the map is copied for each new one and read without a lock.
func (a *access) ask(q question) answer {
	known := a.decided.Load()
	if known != nil {
		if e, ok := (*known)[q]; ok {
			return e
		}
	}
	if q.on != "" && !q.on.Known() {
		return nil // never remembered: the text is the client's
	}
	e := a.decide(q)
	for {
		more := map[question]answer{q: e}
		if known != nil {
			for k, v := range *known {
				more[k] = v
			}
		}
		if a.decided.CompareAndSwap(known, &more) {
			return e
		}
		known = a.decided.Load()
	}
}

// decide joins what the scopes reach: any of them will do.
func (a *access) decide(q question) answer {
	if q.letter == 0 || q.on == "AuditEvent" && q.letter&(canRead|canSearch) == 0 {
		return nil
	}
	var some search.Or
	reached := false
	for _, sc := range a.scopes {
		if sc.letters&q.letter == 0 || sc.on != "" && sc.on != q.on {
			continue
		}
		e := a.reach(sc.whose, q)
		switch {
		case e == nil:
			continue
		case sc.where != nil && everything(e):
			e = sc.where
		case sc.where != nil:
			e = search.And{e, sc.where}
		}
		if everything(e) {
			return e
		}
		reached = true
		if one, ok := e.(search.Or); !ok || len(one) > 0 {
			some = append(some, e)
		}
	}
	switch {
	case !reached:
		return nil
	case len(some) == 1:
		return some[0]
	}
	return some
}

func everything(e search.Expr) bool {
	and, ok := e.(search.And)
	return ok && len(and) == 0
}

// reach returns which resources a scope can be about, nil if
// none. A context that the token lacks reaches nothing:
// what is missing never means all.
func (a *access) reach(of whose, q question) search.Expr {
	if q.on == auditEvent && !a.audits(of) {
		return nil
	}
	switch of {
	case ofSystem:
		return search.And{}
	case ofUser:
		return a.reachOfUser(q)
	case ofPatient:
		return compartment(a.patient, q)
	}
	return nil
}

// isAuditor reports whether a role is one whose users may see the audit trail,
// beyond what patients see of it about themselves.
func isAuditor(role string) bool { return role == "auditor" || role == "privacy" }

// audits reports whether scopes of the kind reach the audit trail: those for the
// system do, and those of auditors and of patients themselves. That somebody
// may see a record does not tell them who else has.
func (a *access) audits(of whose) bool {
	switch {
	case of == ofSystem, slices.ContainsFunc(a.person.Roles, isAuditor):
		return true
	case of == ofPatient:
		return a.user.IsZero() || a.user == fhir.Ref{Type: "Patient", ID: a.patient}
	}
	return a.user.Type == "Patient"
}

// reachOfUser leaves staff to the policy of the tenant. A patient who is a
// user reaches their own record; who acts for a patient reaches nothing until
// a policy says whose record that is.
func (a *access) reachOfUser(q question) search.Expr {
	switch a.user.Type {
	case "Practitioner", "PractitionerRole":
		return search.And{}
	case "Patient":
		return compartment(a.user.ID, q)
	}
	return nil
}

// compartment returns which resources of the type are of the patient's record,
// or, to read, go with any record.
// https://hl7.org/fhir/R4/compartmentdefinition-patient.html
func compartment(patient string, q question) search.Expr {
	if patient == "" {
		return nil
	}
	if q.on == "" {
		return search.Or{}
	}
	if e, ok := search.Compartment("Patient", patient, q.on); ok {
		return e
	}
	if q.letter&(canRead|canSearch) == 0 {
		return nil
	}
	switch q.on {
	case "Location", "Medication", "Organization", "Practitioner", "PractitionerRole", "Substance":
		return search.And{}
	case "Device":
		return devices(patient)
	}
	return nil
}

// devices returns which resources of Device are the patient's. R4 leaves Device
// out of the compartment, but an implant names its patient: the devices of
// others must not be seen.
func devices(patient string) search.Expr {
	if e, err := search.ParseScope("Device", "patient=Patient/"+patient); err == nil {
		return e
	}
	return nil
}
