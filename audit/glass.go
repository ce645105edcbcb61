package audit

import "github.com/cordon-fhir/cordon/fhir"

// A Glass is a broken glass: the reason for which somebody may see the record of
// a patient that would else be kept from them. The zero Glass is none.
type Glass struct {
	ID string
	// Purpose is BTG or ETREAT, of v3-ActReason.
	Purpose string
	// Reason is what the user gave. Sealed.
	Reason string
}

// The events of a broken glass that are no interactions of the API.
const (
	GlassBroken fhir.Interaction = "emergency-override-started"
	GlassEnded  fhir.Interaction = "emergency-override-stopped"
)

// GlassAlone is the Reason of an entry of a glass that was broken without an
// approval.
const GlassAlone = "without approval"

// Purpose returns what e was for: what its glass was broken for, or what the
// token says; "" if neither does.
func (e *Entry) Purpose() string {
	if e.Glass.Purpose != "" {
		return e.Glass.Purpose
	}
	return e.Agent.Purpose
}
