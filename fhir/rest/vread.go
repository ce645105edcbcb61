package rest

import (
	"context"

	"github.com/cordon-fhir/cordon/store"
)

// vread answers with one version of a resource.
// https://hl7.org/fhir/R4/http.html#vread
func vread(ctx context.Context, v *store.View, req *request) (*response, error) {
	r, err := v.Vread(ctx, req.ref, req.version)
	if err != nil {
		return nil, err
	}
	return found(req, r), nil
}
