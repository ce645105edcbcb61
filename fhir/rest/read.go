package rest

import (
	"context"
	"net/http"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// read answers with the current version of a resource.
// https://hl7.org/fhir/R4/http.html#read
func read(ctx context.Context, v *store.View, req *request) (*response, error) {
	if req.ref.Type == auditEvent {
		return readAuditEvent(ctx, v, req)
	}
	r, err := v.Read(ctx, req.ref)
	if err != nil {
		return nil, err
	}
	return found(req, r), nil
}

// found answers a read with r, unless the client has it already.
// https://hl7.org/fhir/R4/http.html#cread
func found(req *request, r fhir.Resource) *response {
	if req.fresh(r) {
		return &response{status: http.StatusNotModified, version: r}
	}
	return &response{status: http.StatusOK, version: r, body: req.show(r.Ref.Type, r.Body)}
}
