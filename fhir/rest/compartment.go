package rest

import (
	"context"
	"net/http"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// searchCompartment searches the resources of a compartment: those of one type
// in /Patient/7/Observation, of every type in /Patient/7/*. A compartment of
// what the client may not see is not found.
// https://hl7.org/fhir/R4/http.html#vsearch
// https://hl7.org/fhir/R4/compartmentdefinition.html
func searchCompartment(ctx context.Context, v *store.View, req *request) (*response, error) {
	if req.of == string(auditEvent) { // what happened to a resource outlives it, and may be seen by who may not see it
		return searchAuditEvents(ctx, v, req)
	}
	if _, err := v.Read(ctx, req.ref); err != nil {
		return nil, err
	}
	return answerSearch(ctx, v, req, req.search)
}

// parseCompartment reads a compartment search.
func parseCompartment(req *request) error {
	if len(r4.Compartment(req.ref.Type)) == 0 {
		return fhir.Errorf(fhir.NotSupported, "there is no compartment of this type").WithStatus(http.StatusNotFound)
	}
	on, within, types, err := compartment(req)
	if err != nil {
		return err
	}
	if on == auditEvent {
		if err := parseAuditSearch(req); err != nil {
			return err
		}
		req.search.Where = search.Simplify(search.And{within, req.search.Where})
		return nil
	}
	q, err := searchQuery(on, req)
	if err != nil {
		return err
	}
	if on == "" && len(q.Types) == 0 {
		q.Types = types
	}
	q.Where = search.Simplify(search.And{within, q.Where})
	req.search = q
	return nil
}

// compartment returns the type to be searched, "" for all, the condition that
// resources are in the compartment, and the types that can be.
func compartment(req *request) (on fhir.Type, within search.Expr, types []fhir.Type, err error) {
	if req.of != "*" {
		on = fhir.Type(req.of)
		if !on.Known() {
			return "", nil, nil, fhir.Errorf(fhir.NotSupported, "there is no such resource type").WithStatus(http.StatusNotFound)
		}
		within, ok := search.Compartment(req.ref.Type, req.ref.ID, on)
		if !ok {
			return "", nil, nil, fhir.Errorf(fhir.NotSupported, "resources of this type are in no such compartment").WithStatus(http.StatusNotFound)
		}
		return on, within, []fhir.Type{on}, nil
	}
	// What the compartment is of is found by its id, which a resource of
	// another type may have too.
	any := search.Or{search.Typed{Type: req.ref.Type, X: search.HasID{req.ref.ID}}}
	types = []fhir.Type{req.ref.Type}
	for _, m := range r4.Compartment(req.ref.Type) {
		if e, ok := search.Compartment(req.ref.Type, req.ref.ID, m.Type); ok && m.Type != req.ref.Type && m.Type != auditEvent {
			any, types = append(any, e), append(types, m.Type)
		}
	}
	return "", any, types, nil
}
