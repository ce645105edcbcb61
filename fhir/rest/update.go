package rest

import (
	"context"
	"net/http"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// parseUpdate reads If-None-Match, where only * has a meaning.
func parseUpdate(req *request) error {
	switch strings.TrimSpace(req.noneMatch) {
	case "":
	case "*":
		req.createOnly = true
	default:
		return fhir.Errorf(fhir.Invalid, "If-None-Match of an update can only be *")
	}
	return nil
}

// update stores the next version of a resource, or the first under an id that
// the client chose. Who may update only a part of the type cannot choose ids:
// the answer would tell which ones the rest of it has.
// https://hl7.org/fhir/R4/http.html#update
func update(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	if err := current(ctx, tx, req, fhir.Update); err != nil {
		return nil, err
	}
	p, err := req.grant.Permit(fhir.Update, req.ref.Type)
	if where, _ := search.Apart(p.Where()); err == nil && !everything(where) {
		if _, err := tx.Current(ctx, fhir.Update, req.ref); err != nil && !fhir.IsCode(err, fhir.Deleted) {
			return nil, err
		}
	}
	r, created, err := tx.Put(ctx, req.ref, req.document, req.match)
	if err != nil {
		return nil, err
	}
	// What Put wrote is not kept when an error is returned.
	if req.createOnly && !created {
		return nil, fhir.Errorf(fhir.Conflict, "there is such a resource").WithStatus(http.StatusPreconditionFailed)
	}
	return written(ctx, tx, req, r, created)
}

// current checks If-Match: the answer for a resource that the client may not
// see must be the answer for one that never was, whatever version is named.
// https://hl7.org/fhir/R4/http.html#concurrency
func current(ctx context.Context, tx *store.Tx, req *request, do fhir.Interaction) error {
	if req.match == 0 && !req.matchAny {
		return nil
	}
	r, err := tx.Current(ctx, do, req.ref)
	if fhir.IsCode(err, fhir.Deleted) || err == nil && req.match != 0 && r.Version != req.match {
		return fhir.Errorf(fhir.Conflict, "the resource is not at the version that If-Match names").WithStatus(http.StatusPreconditionFailed)
	}
	return err
}
