package smart

import (
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// RuleTypes are the types whose resources decide, in the tenant that stores
// them, how others are validated, coded and searched.
var RuleTypes = []fhir.Type{"CodeSystem", "ConceptMap", "NamingSystem", "Questionnaire", "SearchParameter", "StructureDefinition", "ValueSet"}

// applying is what a rule's Permit allows: to work by the resources, not to
// show them. It is no interaction that a client can ask for.
const applying fhir.Interaction = "apply"

// PermitRules answers with the Permit by which the server itself reads
// resources of one of the RuleTypes, to work by them. A tenant's rules are the
// same for all its clients, whatever their scopes, so any Grant that permits
// something gets it. Nothing that is read under it may be in an answer.
func (g *Grant) PermitRules(on fhir.Type) (Permit, error) {
	if g == nil || g.tenant == nil || g.access == nil || !slices.Contains(RuleTypes, on) {
		return Permit{}, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	return Permit{grant: g, interaction: applying, on: on, where: search.And{}}, nil
}

// ForRules reports whether PermitRules made p.
func (p Permit) ForRules() bool { return p.grant != nil && p.interaction == applying }
