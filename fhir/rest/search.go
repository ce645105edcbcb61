package rest

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// searchResources answers with the resources of a type, or of many, that meet
// the parameters.
// https://hl7.org/fhir/R4/http.html#search
func searchResources(ctx context.Context, v *store.View, req *request) (*response, error) {
	if req.ref.Type == auditEvent {
		return searchAuditEvents(ctx, v, req)
	}
	return answerSearch(ctx, v, req, req.search)
}

// parseSearch reads the parameters of a search.
func parseSearch(req *request) (err error) {
	if req.ref.Type == auditEvent {
		return parseAuditSearch(req)
	}
	req.search, err = searchQuery(req.ref.Type, req)
	return err
}

// searchQuery reads the parameters and sets the size of the page.
func searchQuery(on fhir.Type, req *request) (*search.Query, error) {
	lenient := req.prefer.handling == "lenient" && req.cursor == nil
	q, err := search.Parse(on, req.params, search.Options{Lenient: lenient, Base: req.base, Custom: req.custom, Terminology: req.codes})
	if err != nil {
		return nil, err
	}
	if q.Contained.Any() && (req.of != "" || req.does != fhir.SearchType) {
		return nil, fhir.Errorf(fhir.NotSupported, "the parameter _contained is for searches of a type, not of a compartment and not in operations")
	}
	if slices.Contains(q.Types, auditEvent) {
		return nil, fhir.Errorf(fhir.NotSupported, "the audit trail is searched by itself, at /AuditEvent")
	}
	req.summary, req.elements = q.Summary, q.Elements
	switch {
	case q.Count < 0:
		q.Count = req.limits.Page
	case q.Count > req.limits.MaxPage:
		q.Count = req.limits.MaxPage
		for i := range q.Applied {
			if q.Applied[i].Name == "_count" {
				q.Applied[i].Value = strconv.Itoa(q.Count)
			}
		}
	}
	return q, nil
}

// answerSearch runs q and makes a Bundle of the page.
// https://hl7.org/fhir/R4/search.html#return
func answerSearch(ctx context.Context, v *store.View, req *request, q *search.Query) (*response, error) {
	page, err := pageOfSearch(ctx, v, req, q)
	if err != nil {
		return nil, err
	}
	b := newBundle("searchset", req.now())
	if page.Total != nil {
		b.total(*page.Total)
	}
	b.links(req.pages(q.Applied, page.Next)...)
	if q.Contained.Parts {
		if err := b.parts(req, q, page); err != nil {
			return nil, err
		}
	} else {
		b.page(req, page)
	}
	if len(q.Ignored) > 0 {
		b.entry().resource(ignored(q.Ignored)).mode("outcome").end()
	}
	return &response{status: http.StatusOK, body: b.bytes()}, nil
}

// page adds what a search found, and what came along.
func (b *bundle) page(req *request, page *store.Page) {
	size := 0
	for _, r := range slices.Concat(page.Matches, page.Included) {
		size += len(r.Body) + 200
	}
	b.json = slices.Grow(b.json, size)
	for _, r := range page.Matches {
		b.entry().fullURL(req.base, r.Ref).resource(req.show(r.Ref.Type, r.Body)).mode("match").end()
	}
	for _, r := range page.Included {
		b.entry().fullURL(req.base, r.Ref).resource(req.showIncluded(r.Ref.Type, r.Body)).mode("include").end()
	}
}

// parts adds the contained resources that a search found, and with
// _contained=both what it found beside them. A contained resource is named by
// its place in the container.
// https://hl7.org/fhir/R4/search.html#contained
func (b *bundle) parts(req *request, q *search.Query, page *store.Page) error {
	for _, r := range page.Matches {
		ok, err := req.matches(q.Where, r)
		if err != nil {
			return err
		}
		if ok && q.Contained.Both && r.Ref.Type == q.Type {
			b.entry().fullURL(req.base, r.Ref).resource(req.show(r.Ref.Type, r.Body)).mode("match").end()
		}
		d, err := fhir.Reopen(r.Body)
		if err != nil {
			return err
		}
		found, err := req.schema().Contained(d, q.Type, q.Where)
		if err != nil {
			return err
		}
		at := 0
		elements(member(r.Body, "contained"), func(part []byte) bool {
			if slices.Contains(found, at) {
				b.entry().raw(`"fullUrl":`).text(req.base + "/" + r.Ref.String() + "#" + text(member(part, "id"))).raw(`,`)
				b.resource(req.show(q.Type, part)).mode("match").end()
			}
			at++
			return true
		})
	}
	return nil
}

func pageOfSearch(ctx context.Context, v *store.View, req *request, q *search.Query) (*store.Page, error) {
	switch {
	case q.Count == 0 || q.Summary == "count":
		n, err := v.Count(ctx, q)
		if err != nil {
			return nil, err
		}
		return &store.Page{Total: &n}, nil
	case req.cursor != nil:
		return v.SearchFrom(ctx, q, *req.cursor)
	}
	return v.Search(ctx, q)
}

// ignored tells which parameters were passed over.
// https://hl7.org/fhir/R4/search.html#errors
func ignored(names []string) []byte {
	var issues []fhir.Issue
	for _, n := range names {
		if !plainName(n) {
			n = "of another form"
		}
		issues = append(issues, fhir.Issue{Severity: "warning", Code: fhir.NotSupported, Diagnostics: "the parameter " + n + " is not supported and was ignored"})
	}
	return outcome(issues)
}

// setCursor opens the cursor of a further page: what was asked is in it, so
// that it is the only parameter.
func (req *request) setCursor(ctx context.Context, db *store.DB) error {
	for _, p := range req.params {
		if p.Name == "_page" {
			req.sealed = p.Value
		}
	}
	if req.sealed == "" {
		return nil
	}
	wrong := fhir.Errorf(fhir.Invalid, "the page is not known or no longer available")
	if len(req.params) != 1 {
		return wrong
	}
	c, err := db.OpenCursor(ctx, req.grant, req.sealed)
	if err != nil {
		return err
	}
	// A page of one thing is not a page of another.
	if does, of := req.paged(); c.Interaction != does || c.Ref != of || c.Operation != req.called {
		return wrong
	}
	if req.params, err = search.ParseQuery(c.Query); err != nil {
		return wrong
	}
	req.cursor = &c
	return nil
}

// paged returns what a cursor says of the pages of req. Which compartment is
// searched is in the path alone: it only ever narrows.
func (req *request) paged() (fhir.Interaction, fhir.Ref) {
	switch {
	case req.of == "*":
		return fhir.SearchSystem, fhir.Ref{}
	case req.of != "":
		return fhir.SearchType, fhir.Ref{Type: fhir.Type(req.of)}
	}
	return req.does, req.ref
}

// pages returns the links of a page. They ask for the format that was asked for
// by parameter: who follows them need not know.
// https://hl7.org/fhir/R4/http.html#paging
func (req *request) pages(applied []search.Param, next string) []link {
	at := func(params []search.Param) string {
		url := req.base + req.path()
		if params = slices.Concat(params, req.given); len(params) > 0 {
			url += "?" + encode(params)
		}
		return url
	}
	page := func(sealed string) string { return at([]search.Param{{Name: "_page", Value: sealed}}) }
	first := at(applied)
	self := first
	if req.sealed != "" {
		self = page(req.sealed)
	}
	links := []link{{"self", self}, {"first", first}}
	if next != "" {
		links = append(links, link{"next", page(next)})
	}
	return links
}

// path returns where req can be asked by GET, below the base.
func (req *request) path() string {
	path := ""
	if req.ref.Type != "" {
		path = "/" + string(req.ref.Type)
	}
	if req.ref.ID != "" {
		path += "/" + req.ref.ID
	}
	switch {
	case req.of != "":
		path += "/" + req.of
	case req.called != "":
		path += "/$" + req.called
	case strings.HasPrefix(string(req.does), "history-"):
		path += "/_history"
	}
	return path
}
