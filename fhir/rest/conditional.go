package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// Criteria say which resource a conditional interaction is about.
type criteria struct {
	on     fhir.Type
	where  search.Expr
	custom *search.Custom // of the tenant, if where is about its own parameters
	// name is the same for criteria of the same words, in whatever order.
	name string
}

// parseCriteria reads criteria strictly: a parameter that is not understood
// must not make an interaction reach further.
func parseCriteria(on fhir.Type, params []search.Param, o search.Options) (criteria, error) {
	q, err := search.Parse(on, params, o)
	if err != nil {
		return criteria{}, err
	}
	for _, p := range params {
		if name, _, _ := strings.Cut(p.Name, ":"); slices.Contains(notCriteria, name) {
			return criteria{}, fhir.Errorf(fhir.Invalid, "%s has no meaning in criteria", name)
		}
	}
	if everything(q.Where) {
		return criteria{}, fhir.Errorf(fhir.Invalid, "the criteria are empty").WithStatus(http.StatusPreconditionFailed)
	}
	words := slices.Clone(q.Applied)
	slices.SortFunc(words, func(a, b search.Param) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Value, b.Value)
	})
	return criteria{on, q.Where, q.Custom, string(on) + "?" + encode(words)}, nil
}

// strict are the options of criteria.
func (req *request) strict() search.Options {
	return search.Options{Base: req.base, Custom: req.custom, Terminology: req.codes}
}

// notCriteria are the parameters of search that choose no resources.
var notCriteria = []string{"_sort", "_count", "_offset", "_total", "_include", "_revinclude", "_summary", "_elements", "_type", "_contained", "_containedType", "_page"}

// parseConditional reads the criteria in the URL, and what else the
// interaction has.
func parseConditional(req *request) (err error) {
	switch req.does {
	case fhir.Update:
		err = parseUpdate(req)
	case fhir.Patch:
		err = parsePatch(req)
	}
	if err == nil {
		req.criteria, err = parseCriteria(req.ref.Type, req.params, req.strict())
	}
	return err
}

// existing returns the one resource that the criteria mean, zero if there is
// none that the client may search. Interactions with the same criteria wait
// for each other, so that two creates make one resource.
func existing(ctx context.Context, tx *store.Tx, do fhir.Interaction, c criteria) (fhir.Ref, error) {
	if err := tx.Lock(ctx, do, c.on, c.name); err != nil {
		return fhir.Ref{}, err
	}
	refs, err := tx.Match(ctx, c.query())
	switch {
	case err != nil:
		return fhir.Ref{}, err
	case len(refs) == 0:
		return fhir.Ref{}, nil
	case len(refs) == 1:
		return refs[0], nil
	}
	return fhir.Ref{}, fhir.Errorf(fhir.MultipleMatch, "more than one resource meets the criteria")
}

// query returns the search for c.
func (c criteria) query(and ...search.Expr) *search.Query {
	return &search.Query{Type: c.on, Where: search.Simplify(search.And(append(and, c.where))), Custom: c.custom, Count: 2, Total: search.TotalNone}
}

// conditionalCreate creates a resource unless one meets If-None-Exist.
// https://hl7.org/fhir/R4/http.html#ccreate
func conditionalCreate(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	ref, err := existing(ctx, tx, fhir.Create, req.criteria)
	if err != nil {
		return nil, err
	}
	if !ref.IsZero() {
		return matched(ctx, tx, req, ref)
	}
	r, err := tx.Create(ctx, "", req.document)
	if err != nil {
		return nil, err
	}
	return written(ctx, tx, req, r, true)
}

// matched answers a conditional create for which there is ref already.
func matched(ctx context.Context, tx *store.Tx, req *request, ref fhir.Ref) (*response, error) {
	r, err := tx.Found(ctx, fhir.Create, req.criteria.query(search.HasID{ref.ID}))
	if err != nil {
		return nil, err
	}
	return written(ctx, tx, req, r, false)
}

// conditionalUpdate updates the resource that meets the query of the URL, or
// creates it.
// https://hl7.org/fhir/R4/http.html#cond-update
func conditionalUpdate(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	ref, err := existing(ctx, tx, fhir.Update, req.criteria)
	if err != nil {
		return nil, err
	}
	one := *req
	one.ref = ref
	id := req.document.ID
	switch {
	case !ref.IsZero() && id != "" && id != ref.ID:
		return nil, fhir.Errorf(fhir.Invalid, "the resource has another id than the one that meets the criteria").At(string(req.ref.Type) + ".id")
	case !ref.IsZero():
		return update(ctx, tx, &one)
	case req.match != 0 || req.matchAny:
		return nil, fhir.Errorf(fhir.Conflict, "no resource meets the criteria").WithStatus(http.StatusPreconditionFailed)
	case id == "":
		r, err := tx.Create(ctx, "", req.document)
		if err != nil {
			return nil, err
		}
		return written(ctx, tx, req, r, true)
	}
	one.ref = fhir.Ref{Type: req.ref.Type, ID: id}
	resp, err := update(ctx, tx, &one)
	if err == nil && resp.status != http.StatusCreated {
		return nil, fhir.Errorf(fhir.Conflict, "there is a resource with this id, and it does not meet the criteria")
	}
	return resp, err
}

// conditionalPatch patches the resource that meets the query of the URL.
// https://hl7.org/fhir/R4/http.html#patch
func conditionalPatch(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	ref, err := existing(ctx, tx, fhir.Patch, req.criteria)
	if err != nil {
		return nil, err
	}
	if ref.IsZero() {
		return nil, fhir.Errorf(fhir.NotFound, "no resource meets the criteria")
	}
	one := *req
	one.ref = ref
	return patch(ctx, tx, &one)
}

// conditionalDelete deletes the one resource that meets the query of the URL.
// https://hl7.org/fhir/R4/http.html#3.1.0.7.1
func conditionalDelete(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	ref, err := existing(ctx, tx, fhir.Delete, req.criteria)
	if err != nil {
		return nil, err
	}
	if ref.IsZero() {
		return &response{status: http.StatusNoContent}, nil
	}
	one := *req
	one.ref = ref
	return remove(ctx, tx, &one)
}
