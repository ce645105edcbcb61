package rest

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// parseCreate reads If-None-Exist, with or without "?" or "Type?" before the
// query.
func parseCreate(req *request) error {
	if req.noneExist == "" {
		return nil
	}
	text := strings.TrimPrefix(req.noneExist, string(req.ref.Type))
	params, err := search.ParseQuery(strings.TrimPrefix(text, "?"))
	if err != nil {
		return err
	}
	req.criteria, err = parseCriteria(req.ref.Type, params, req.strict())
	return err
}

// create stores a resource under an id that the server chooses, in a
// transaction before the references to it are rewritten.
// https://hl7.org/fhir/R4/http.html#create
func create(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	if req.noneExist != "" {
		return conditionalCreate(ctx, tx, req)
	}
	r, err := tx.Create(ctx, req.ref.ID, req.document)
	if err != nil {
		return nil, err
	}
	return written(ctx, tx, req, r, true)
}

// written answers a create, update or patch that made r. Without a preference
// the answer holds the resource, but in a Bundle it does not.
// https://hl7.org/fhir/R4/http.html#ops
func written(ctx context.Context, tx *store.Tx, req *request, r fhir.Resource, created bool) (*response, error) {
	resp := &response{status: http.StatusOK, version: r, applied: req.prefer.returns, location: versionURL(req.base, r)}
	if created {
		resp.status = http.StatusCreated
	}
	want := req.prefer.returns
	if want == "" && req.entry {
		want = "minimal"
	}
	switch want {
	case "minimal":
	case "OperationOutcome":
		resp.body = information("stored as version " + strconv.FormatInt(r.Version, 10))
	default:
		ok, err := tx.Readable(ctx, r)
		if err != nil {
			return nil, err
		}
		if ok {
			resp.body = r.Body
		} else {
			resp.applied = ""
		}
	}
	return resp, nil
}

// everything reports whether e holds for all resources.
func everything(e search.Expr) bool {
	all, ok := e.(search.And)
	return ok && len(all) == 0
}

// matches holds a stored resource against a condition.
func (req *request) matches(e search.Expr, r fhir.Resource) (bool, error) {
	d, err := fhir.Reopen(r.Body)
	if err != nil {
		return false, err
	}
	return search.Match(e, &r, req.schema().Index(d))
}

// schema is how resources of the tenant are indexed.
func (req *request) schema() search.Schema {
	return search.Schema{Base: req.base, Custom: req.custom}
}

func versionURL(base string, r fhir.Resource) string {
	return base + "/" + r.Ref.String() + "/_history/" + strconv.FormatInt(r.Version, 10)
}
