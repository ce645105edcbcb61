package rest

import (
	"context"
	"net/http"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// remove deletes a resource: what was deleted before stays so, and what never
// was is not found, like what the client may not see.
// https://hl7.org/fhir/R4/http.html#delete
func remove(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	if err := current(ctx, tx, req, fhir.Delete); err != nil {
		return nil, err
	}
	r, deleted, err := tx.Delete(ctx, req.ref, req.match)
	if err != nil {
		return nil, err
	}
	if !deleted && r.Version == 0 {
		return nil, fhir.Errorf(fhir.NotFound, "there is no such resource")
	}
	switch req.prefer.returns {
	case "OperationOutcome":
		return &response{status: http.StatusOK, version: r, body: information("deleted"), applied: "OperationOutcome"}, nil
	case "minimal":
		return &response{status: http.StatusNoContent, version: r, applied: "minimal"}, nil
	}
	return &response{status: http.StatusNoContent, version: r}, nil // nothing is left that could be represented
}
