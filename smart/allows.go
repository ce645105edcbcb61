package smart

import (
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/tenant"
)

// Allows is what the scopes of who and the policy p together allow at the time in
// the tenant t, type by type in the letters of a Matrix. Types of which it is
// nothing are not there. Consents, which are asked for each resource, may take
// some of it away. The error is a *fhir.Error about who.
func (p *Policy) Allows(t *tenant.Tenant, who Asker, at time.Time) (map[fhir.Type]string, error) {
	a, err := who.access()
	if err != nil {
		return nil, err
	}
	g := &Grant{tenant: t, access: a, policy: p, at: at, asker: a.asker(t, at)}
	allowed := map[fhir.Type]string{}
	for _, on := range fhir.Types {
		if letters := g.letters(on); letters != "" {
			allowed[on] = letters
		}
	}
	return allowed, nil
}

// letters are those of the interactions that g permits on the type.
func (g *Grant) letters(on fhir.Type) string {
	var b strings.Builder
	for i, do := range []fhir.Interaction{fhir.Create, fhir.Read, fhir.Update, fhir.Delete, fhir.SearchType} {
		p, err := g.Permit(do, on)
		if err != nil {
			continue
		}
		letter := alphabet[i : i+1]
		if rest, _ := search.Apart(p.Where()); everything(rest) {
			letter = strings.ToUpper(letter)
		}
		b.WriteString(letter)
	}
	return b.String()
}

// Rules are those of p in their order, without what they are about.
func (p *Policy) Rules() []Part {
	list := make([]Part, len(p.rules))
	for i, r := range p.rules {
		list[i] = Part{Name: r.id, Line: r.line, Says: r.says, Forbids: !r.permits}
	}
	return list
}
