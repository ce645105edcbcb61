package control

import (
	"context"
	"fmt"
	"net/http"

	"github.com/cordon-fhir/cordon/fhir"
)

// showIndex tells how far the work on the search index of a tenant is: its own
// search parameters, and the last request to make the index again.
func (a *api) showIndex(ctx context.Context, c call) (answer, error) {
	report, err := a.Migrator.IndexReport(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, report, "showed the work on the search index of tenant " + c.slug}, nil
}

// reindex asks the servers to make the search index of a tenant again, while
// they go on serving it.
func (a *api) reindex(ctx context.Context, c call) (answer, error) {
	var b struct {
		Types []fhir.Type `json:"types"`
	}
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	r, err := a.Migrator.Reindex(ctx, c.slug, b.Types)
	if err != nil {
		return answer{}, err
	}
	of := "all types"
	if len(r.Types) > 0 {
		of = fmt.Sprint(r.Types)
	}
	return answer{http.StatusAccepted, r, fmt.Sprintf("asked for the search index of tenant %s to be made again, for %s", c.slug, of)}, nil
}
