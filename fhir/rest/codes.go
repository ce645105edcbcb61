package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/fhir/terminology"
	"github.com/cordon-fhir/cordon/smart"
)

// codes finds the codes that the modifiers in, not-in, above and below of a
// search mean, among the definitions that its client may see.
// https://hl7.org/fhir/R4/search.html#modifiers
type codes struct {
	ctx    context.Context
	server *server
	grant  *smart.Grant
	base   string
	away   away
}

// Codes implements search.Terminology.
func (c codes) Codes(modifier, value string, max int) ([]search.Code, error) {
	set, err := c.definitions()
	if err != nil {
		return nil, err
	}
	req := terminology.ExpandRequest{Count: max + 1}
	if modifier == "in" || modifier == "not-in" {
		req.URL = c.valueSet(set, value)
	} else if req.Resource, err = related(modifier, value); err != nil {
		return nil, err
	}
	terms, _ := c.server.terminology(c.ctx, c.grant, set, c.away)
	found, err := terms.Expand(c.ctx, req)
	var fault *fhir.Error
	if errors.As(err, &fault) { // the value is at fault, not what is searched
		return nil, fault.WithStatus(http.StatusBadRequest)
	}
	if err != nil {
		return nil, err
	}
	if found.Partial() { // and so would be what is found
		return nil, fhir.Errorf(fhir.BusinessRule, "the modifier %s is about a code system of which not all is known here", modifier).WithStatus(http.StatusBadRequest)
	}
	if found.Expansion.Total > max {
		return nil, fhir.Errorf(fhir.TooCostly, "the modifier %s stands for more than %d codes here", modifier, max)
	}
	list := make([]search.Code, len(found.Expansion.Contains))
	for i, concept := range found.Expansion.Contains {
		list[i] = search.Code{System: concept.System, Code: concept.Code}
	}
	return list, nil
}

// definitions returns those of the tenant's packages and of R4, and the
// tenant's own to who may read them all: a search by a value set tells what
// is in it.
func (c codes) definitions() (*canonical.Set, error) {
	for _, on := range []fhir.Type{"ValueSet", "CodeSystem"} {
		if p, err := c.grant.Permit(fhir.Read, on); err != nil || !everything(p.Where()) {
			set, _, err := c.server.DB.PackageDefinitions(c.ctx, c.grant.Tenant())
			return set, err
		}
	}
	return c.server.DB.Definitions(c.ctx, c.grant)
}

// valueSet returns the canonical URL of the value set that is named by that, or
// by its id.
func (c codes) valueSet(set *canonical.Set, name string) string {
	id, ok := strings.CutPrefix(strings.TrimPrefix(name, c.base+"/"), "ValueSet/")
	if !ok {
		return name
	}
	for d := range set.All("ValueSet") {
		if d.ID == id {
			return d.URL
		}
	}
	return name
}

// related returns a value set of the code and those above or below it.
func related(modifier, value string) ([]byte, error) {
	system, code, ok := strings.Cut(value, "|")
	if !ok || system == "" || code == "" {
		return nil, fhir.Errorf(fhir.Invalid, "the modifier %s takes system|code", modifier)
	}
	op := map[string]string{"below": "is-a", "above": "generalizes"}[modifier]
	return json.Marshal(map[string]any{
		"resourceType": "ValueSet", "status": "active",
		"compose": map[string]any{"include": []any{map[string]any{
			"system": system, "filter": []any{map[string]string{"property": "concept", "op": op, "value": code}},
		}}},
	})
}
