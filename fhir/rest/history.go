package rest

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// history answers with the versions of a resource, of a type or of the whole
// system, newest first.
// https://hl7.org/fhir/R4/http.html#history
func history(ctx context.Context, v *store.View, req *request) (*response, error) {
	page, err := pageOfHistory(ctx, v, req)
	if err != nil {
		return nil, err
	}
	b := newBundle("history", req.now())
	if page.Total != nil {
		b.total(*page.Total)
	}
	b.links(req.pages(req.applied, page.Next)...)
	for _, r := range page.Versions {
		b.entry().fullURL(req.base, r.Ref)
		if r.Deleted {
			b.request(http.MethodDelete, r.Ref.String()).response(&response{status: http.StatusNoContent, version: r})
		} else {
			b.resource(req.show(r.Ref.Type, r.Body)).request(http.MethodPut, r.Ref.String())
			status := http.StatusOK
			if r.Version == 1 {
				status = http.StatusCreated
			}
			b.response(&response{status: status, version: r})
		}
		b.end()
	}
	return &response{status: http.StatusOK, body: b.bytes()}, nil
}

func pageOfHistory(ctx context.Context, v *store.View, req *request) (*store.HistoryPage, error) {
	if req.cursor != nil {
		return v.HistoryFrom(ctx, req.versions, *req.cursor)
	}
	return v.History(ctx, req.versions)
}

// parseHistory reads the parameters of a history.
func parseHistory(req *request) error {
	q := store.HistoryQuery{Ref: req.ref, Count: req.limits.Page}
	for _, p := range req.params {
		var err error
		switch p.Name {
		case "_count":
			q.Count, err = strconv.Atoi(p.Value)
			if q.Count < 1 {
				return fhir.Errorf(fhir.Invalid, "_count of a history is a positive number")
			}
			q.Count = min(q.Count, req.limits.MaxPage)
			p.Value = strconv.Itoa(q.Count)
		case "_since":
			q.Since, err = parseTime(p.Value)
		case "_at":
			q.At, err = parseTime(p.Value)
		case "_summary", "_elements":
			_, err = req.takeSubset([]search.Param{p})
		default:
			if req.prefer.handling == "lenient" {
				continue
			}
			return fhir.Errorf(fhir.NotSupported, "a history has the parameters _count, _since, _at, _summary and _elements")
		}
		if err != nil {
			return fhir.Errorf(fhir.Invalid, "the value of %s is malformed", p.Name)
		}
		req.applied = append(req.applied, p)
	}
	q.Query = encode(req.applied)
	req.versions = q
	return nil
}

// parseTime reads an instant, or a dateTime with less precision, which begins
// in UTC.
// https://hl7.org/fhir/R4/datatypes.html#dateTime
func parseTime(s string) (t time.Time, err error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly, "2006-01", "2006"} {
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return t, err
}
