package smart

import (
	"fmt"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// An Asker is somebody of whom a policy is asked without a request.
type Asker struct {
	Client, Patient, Encounter, Purpose string
	User                                fhir.Ref
	Person                              Person
}

// Explain says, rule by rule, what p decides for the interaction on the type at
// the time: which rules apply to who asks, and what is left of them to ask of
// each resource. No value that a resource would be compared with is told.
func (p *Policy) Explain(who Asker, do fhir.Interaction, on fhir.Type, at time.Time) []string {
	q := question{letterOf(do), on}
	a := &access{
		client: who.Client, patient: who.Patient, encounter: who.Encounter, purpose: who.Purpose, user: who.User, person: who.Person,
	}
	r := residual{env: a.principal().env(q, at), on: on, now: at}
	var lines []string
	for _, one := range p.rules {
		e, err := r.condition(one.body)
		verb := "permits"
		if !one.permits {
			verb = "forbids"
		}
		switch {
		case err != nil:
			lines = append(lines, fmt.Sprintf("%s: fails, so that nothing is allowed", one.id))
		case nothing(e):
			lines = append(lines, fmt.Sprintf("%s: does not apply", one.id))
		case everything(e):
			lines = append(lines, fmt.Sprintf("%s: %s every %s", one.id, verb, on))
		default:
			lines = append(lines, fmt.Sprintf("%s: %s each %s by %s", one.id, verb, on, search.Shape(e)))
		}
	}
	v := p.decide(a, q, at)
	switch {
	case nothing(v.where):
		lines = append(lines, "decision: refused for every resource, with status 403")
	case everything(v.where):
		lines = append(lines, "decision: allowed for every resource, as far as scopes reach")
	default:
		lines = append(lines, "decision: allowed for the resources of which that holds, as far as scopes reach; the others are 404")
	}
	if v.hidden != nil {
		lines = append(lines, "hidden: parts of every "+string(on))
	}
	return lines
}
