package rest

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// batchOrTransaction does what the entries of a Bundle ask.
// https://hl7.org/fhir/R4/http.html#transaction
func batchOrTransaction(ctx context.Context, s *server, req *request) (*response, error) {
	if req.document.Type != "Bundle" {
		return nil, fhir.Errorf(fhir.Invalid, "what is posted here is a Bundle")
	}
	kind := text(member(req.document.JSON, "type"))
	if kind != "batch" && kind != "transaction" {
		return nil, fhir.Errorf(fhir.Invalid, "the Bundle must be of type batch or transaction").At("Bundle.type")
	}
	req.document.Tree = nil // large, and not needed: its bytes are cut
	entries := parseEntries(member(req.document.JSON, "entry"))
	if len(entries) > s.Limits.Entries {
		return nil, fhir.Errorf(fhir.TooLong, "a Bundle has at most %d entries", s.Limits.Entries)
	}
	if kind == "batch" {
		req.does = fhir.Batch
		return batch(ctx, s, req, entries)
	}
	return transaction(ctx, s, req, entries)
}

// An entry is one of a batch or transaction.
// https://hl7.org/fhir/R4/bundle-definitions.html#Bundle.entry
type entry struct {
	index    int
	fullURL  string
	resource []byte

	method, url                                        string
	ifMatch, ifNoneMatch, ifModifiedSince, ifNoneExist string

	// What the entry asks, once request has read it.
	req   *request
	route *route

	failed bool // something is wrong with it
}

// place is the FHIRPath of the entry.
func (e *entry) place() string { return fmt.Sprintf("Bundle.entry[%d]", e.index) }

// parseEntries cuts the entries of a Bundle. What is in them and is no part of
// a request has no effect.
func parseEntries(list []byte) []*entry {
	var entries []*entry
	if len(list) == 0 || list[0] != '[' {
		return nil
	}
	elements(list, func(b []byte) bool {
		e := &entry{index: len(entries)}
		entries = append(entries, e)
		if b[0] != '{' {
			return true
		}
		members(b, func(name string, value []byte) bool {
			switch name {
			case "fullUrl":
				e.fullURL = text(value)
			case "resource":
				e.resource = value
			case "request":
				e.parseRequest(value)
			}
			return true
		})
		return true
	})
	return entries
}

func (e *entry) parseRequest(b []byte) {
	if b[0] != '{' {
		return
	}
	fields := map[string]*string{
		"method": &e.method, "url": &e.url, "ifMatch": &e.ifMatch, "ifNoneMatch": &e.ifNoneMatch,
		"ifModifiedSince": &e.ifModifiedSince, "ifNoneExist": &e.ifNoneExist,
	}
	members(b, func(name string, value []byte) bool {
		if f := fields[name]; f != nil {
			*f = text(value)
		}
		return true
	})
}

// batch does each entry by itself, as if it had come alone.
func batch(ctx context.Context, s *server, req *request, entries []*entry) (*response, error) {
	others := map[string]bool{}
	for _, e := range entries {
		if strings.HasPrefix(e.fullURL, "urn:") {
			others[e.fullURL] = true
		}
	}
	b := newBundle("batch-response", req.now())
	for _, e := range entries {
		if ctx.Err() != nil { // what was done before is said all the same
			b.answer(req.base, failure(fhir.Errorf(fhir.Transient, "there was no time left for this entry: it was not begun")))
			continue
		}
		g := req.grant.Entry()
		resp, err := s.doEntry(ctx, req, e, g, others)
		if err != nil {
			if !isClientError(err) {
				s.Log.Error("entry", oplog.Request(g.Origin().RequestID), oplog.Number("entry", e.index), oplog.Cause(err))
			}
			resp = failure(clientError(err))
		}
		if err := s.recordEntry(ctx, g, e, resp, err); err != nil {
			return nil, err
		}
		b.answer(req.base, resp)
	}
	return &response{status: http.StatusOK, body: b.bytes()}, nil
}

// doEntry does one entry of a batch under the Grant g.
func (s *server) doEntry(ctx context.Context, req *request, e *entry, g *smart.Grant, others map[string]bool) (*response, error) {
	if err := s.request(ctx, req, e, g); err != nil {
		return nil, err
	}
	if e.resource != nil && e.req.does != fhir.Patch {
		// What another entry will be called is not known: entries of a batch
		// must not depend on each other.
		interdependent := false
		w := rewriter{target: func(url string, literal bool) string {
			interdependent = interdependent || literal && others[url] && url != e.fullURL
			return ""
		}}
		w.rewrite(e.resource)
		if interdependent {
			return nil, fhir.Errorf(fhir.Invalid, "an entry of a batch cannot refer to another").At(e.place() + ".resource")
		}
		if err := e.setDocument(ctx, e.resource); err != nil {
			return nil, err
		}
	}
	resp, err := s.dispatch(ctx, e.route, e.req)
	if err == nil && resp.contentType != "" {
		return nil, fhir.Errorf(fhir.NotSupported, "what is here is no resource: it cannot be part of a Bundle").At(e.place() + ".request.url")
	}
	return resp, err
}

// recordEntry makes sure that the entry is in the audit trail.
func (s *server) recordEntry(ctx context.Context, g *smart.Grant, e *entry, resp *response, cause error) error {
	a := audit.Entry{Status: resp.status, Outcome: outcomeOf(resp.status), Interaction: fhir.Batch}
	if e.req != nil {
		a.Interaction, a.Type, a.Query = cmp.Or(e.req.does, fhir.Batch), e.req.ref.Type, e.req.query
		if e.req.ref.ID != "" {
			a.Entity = e.req.ref
		}
	}
	if cause != nil {
		a.Reason = clientError(cause).Error()
	}
	return s.DB.Record(context.WithoutCancel(ctx), g, a)
}

// answer adds the entry that answers one of a batch or transaction.
func (b *bundle) answer(base string, resp *response) {
	b.entry()
	if resp.body != nil && !resp.isOutcome() {
		if resp.version.Version != 0 {
			b.fullURL(base, resp.version.Ref)
		}
		b.resource(resp.body)
	}
	b.response(resp).end()
}

// request reads what the entry asks; its resource is left for setDocument.
func (s *server) request(ctx context.Context, outer *request, e *entry, g *smart.Grant) error {
	r := &request{
		prefer: outer.prefer, grant: g, slug: outer.slug, base: outer.base, custom: outer.custom, limits: outer.limits, now: outer.now, rules: outer.rules, away: outer.away, entry: true,
		codes: codes{ctx, s, g, outer.base, outer.away},
	}
	e.req = r
	path, query, err := s.entryPath(outer, e.url)
	if err != nil {
		return clientError(err).At(e.place() + ".request.url")
	}
	switch e.method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE":
	default:
		return fhir.Errorf(fhir.Invalid, "the entry has no method of HTTP").At(e.place() + ".request.method")
	}
	p, _, err := s.routes.find(e.method, path)
	if err != nil {
		return fhir.Errorf(fhir.NotSupported, "there is no interaction with this method and URL").At(e.place() + ".request.url")
	}
	e.route = p.route
	if o := p.route.operation; o != nil && (o.bare || o.alone) {
		return fhir.Errorf(fhir.NotSupported, "this operation cannot be called in a Bundle").At(e.place() + ".request.url")
	}
	if err := p.into(r); err != nil {
		return clientError(err).At(e.place() + ".request.url")
	}
	r.query, r.safe = query, e.method == "GET" || e.method == "HEAD"
	if err := r.setQuery(ctx, s.DB, nil); err != nil {
		return clientError(err).At(e.place() + ".request.url")
	}
	if err := e.setConditions(); err != nil {
		return clientError(err).At(e.place() + ".request")
	}
	writes := r.does == fhir.Create || r.does == fhir.Update || r.does == fhir.Patch
	called := r.does == fhir.Operation && e.method == "POST" // with or without
	if writes != (e.resource != nil) && !called {
		return fhir.Errorf(fhir.Invalid, "an entry has a resource if it is a create, update, patch or operation, else none").At(e.place())
	}
	if r.does == fhir.Patch {
		return e.setPatch()
	}
	return nil
}

// setConditions reads the conditions of a request element.
func (e *entry) setConditions() error {
	c := conditions{noneMatch: e.ifNoneMatch, noneExist: e.ifNoneExist}
	if err := c.setMatch(e.ifMatch); err != nil {
		return err
	}
	if e.ifModifiedSince != "" {
		t, err := time.Parse(time.RFC3339Nano, e.ifModifiedSince)
		if err != nil {
			return fhir.Errorf(fhir.Invalid, "ifModifiedSince is not an instant")
		}
		c.modifiedSince = t
	}
	e.req.conditions = c
	return nil
}

// setPatch takes the patch, which in a Bundle is Parameters or, for a JSON
// Patch, a Binary.
// https://hl7.org/fhir/R4/http.html#patch
func (e *entry) setPatch() error {
	switch text(member(e.resource, "resourceType")) {
	case "Parameters":
		d, err := fhir.Reopen(e.resource)
		if err != nil {
			return clientError(err).At(e.place() + ".resource")
		}
		e.req.parameters = d
		return validate.At(d, e.place()+".resource")
	case "Binary":
	default:
		return fhir.Errorf(fhir.NotSupported, "a patch in a Bundle is Parameters or a Binary").At(e.place() + ".resource")
	}
	if text(member(e.resource, "contentType")) != jsonPatchType {
		return fhir.Errorf(fhir.NotSupported, "a patch that is a Binary is of type %s", jsonPatchType).At(e.place() + ".resource")
	}
	data, err := base64.StdEncoding.DecodeString(text(member(e.resource, "data")))
	if err != nil {
		return fhir.Errorf(fhir.Value, "the data are not base64").At(e.place() + ".resource.data")
	}
	e.req.patch = data
	return nil
}

// setDocument takes the resource of a create, update, operation or patch.
func (e *entry) setDocument(ctx context.Context, resource []byte) error {
	d, err := fhir.Reopen(resource)
	if err != nil {
		return clientError(err).At(e.place() + ".resource")
	}
	switch e.req.does {
	case fhir.Operation:
		e.req.document = d
		return nil
	case fhir.Patch:
		e.req.parameters = d
		return nil
	}
	return e.req.setDocument(ctx, d, e.place()+".resource")
}

// entryPath returns the path and the query of the URL of an entry. It must be
// below the base of the tenant.
func (s *server) entryPath(outer *request, url string) (path, query string, err error) {
	below, own := strings.CutPrefix(url, outer.base+"/")
	if !own && (strings.Contains(url, ":") && !strings.ContainsAny(before(url, ":"), "/?") || strings.HasPrefix(url, "//")) {
		if slug, ok := s.ours(url); ok {
			s.alert(outer.grant, smart.Alert{Rule: alert.OtherInBundle, Addressed: slug})
		}
		return "", "", fhir.Errorf(fhir.Invalid, "the URL is not below the base of this tenant")
	}
	below, query, _ = strings.Cut(below, "?")
	path = "/fhir/" + outer.slug + "/" + strings.TrimPrefix(below, "/")
	path, plain := plainPath(path)
	if below == "" || !plain {
		return "", "", fhir.Errorf(fhir.Invalid, "the URL is not the path of an interaction")
	}
	return path, query, nil
}

func before(s, sep string) string {
	s, _, _ = strings.Cut(s, sep)
	return s
}

// ours returns the slug in a URL that is below the base of a tenant of this
// server, or would be if there were such a tenant.
func (s *server) ours(url string) (string, bool) {
	const any = "any-tenant"
	prefix, _, _ := strings.Cut(s.Base(any), any)
	rest, ok := strings.CutPrefix(url, prefix)
	if !ok {
		return "", false
	}
	slug, err := tenant.ParseSlug(before(before(rest, "/"), "?"))
	return slug.String(), err == nil
}
