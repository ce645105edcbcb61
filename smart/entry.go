package smart

import "github.com/cordon-fhir/cordon/fhir"

// Entry returns a Grant with the rights of g for one entry of a Bundle: what
// is done under it has an audit entry of its own, linked to the request's.
func (g *Grant) Entry() *Grant {
	entry := *g
	entry.origin.Trail = g.origin.Trail.Entry()
	return &entry
}

// Patient returns the patient in the context of the token, or who is its user.
func (g *Grant) Patient() (fhir.Ref, bool) {
	switch {
	case g.access == nil:
		return fhir.Ref{}, false
	case g.access.patient != "":
		return fhir.Ref{Type: "Patient", ID: g.access.patient}, true
	case g.access.user.Type == "Patient":
		return g.access.user, true
	}
	return fhir.Ref{}, false
}
