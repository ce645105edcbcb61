package smart

import (
	"fmt"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// Explain says, rule by rule, what p decides for the interaction on the type at
// the time: which rules apply to who asks, and what is left of them to ask of
// each resource. No value that a resource would be compared with is told. The
// error is a *fhir.Error about who.
func (p *Policy) Explain(who Asker, do fhir.Interaction, on fhir.Type, at time.Time) ([]string, error) {
	a, err := who.access()
	if err != nil {
		return nil, err
	}
	q := question{letter: letterOf(do), on: on}
	var lines []string
	for _, part := range p.parts(a, q, at) {
		lines = append(lines, part.line(on))
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
	return lines, nil
}

// line says which resources of the type the rule is about.
func (p Part) line(on fhir.Type) string {
	verb := "permits"
	if p.Forbids {
		verb = "forbids"
	}
	switch {
	case p.Where == nil:
		return p.Name + ": fails, so that nothing is allowed"
	case p.Never():
		return p.Name + ": does not apply"
	case p.Always():
		return fmt.Sprintf("%s: %s every %s", p.Name, verb, on)
	}
	return fmt.Sprintf("%s: %s each %s by %s", p.Name, verb, on, search.Shape(p.Where))
}
