package smart

import (
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// labelling is what a Permit for security labels allows. It is no interaction
// that a client can ask for by itself: labels change with an update.
const labelling fhir.Interaction = "label"

// PermitLabels answers with the Permit to change the security labels of
// resources of the type, which can decide who sees them. It takes the right to
// update and the action label of the policy. By a policy that leaves all to the
// scopes no user has it, but backend services do.
// https://hl7.org/fhir/R4/security-labels.html
func (g *Grant) PermitLabels(on fhir.Type) (Permit, error) {
	refused := fhir.Errorf(fhir.Forbidden, "the access policy does not allow to change the security labels of %s", on)
	update, _ := search.Apart(g.where(fhir.Update, on)) // an update asks for consent itself
	if update == nil || g.policy != nil && g.policy.open && !g.access.user.IsZero() {
		return Permit{}, refused
	}
	where := g.within(update, question{letter: canLabel, on: on})
	if where == nil {
		return Permit{}, refused
	}
	return Permit{grant: g, interaction: labelling, on: on, where: where}, nil
}
