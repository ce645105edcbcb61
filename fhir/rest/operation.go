package rest

import (
	"context"
	"net/http"

	"github.com/cordon-fhir/cordon/fhir"
)

// operation answers the operations that are defined at a path. There are none
// yet.
// https://hl7.org/fhir/R4/operations.html
func operation(context.Context, *server, *request) (*response, error) {
	return nil, fhir.Errorf(fhir.NotSupported, "there is no such operation").WithStatus(http.StatusNotFound)
}
