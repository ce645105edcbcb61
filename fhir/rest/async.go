package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// Requests that ask for it with "Prefer: respond-async" are answered later: at
// once comes 202 and where to look for the answer.
// https://hl7.org/fhir/R4/async.html

const (
	// deferredTime bounds the work on one request, and waitTime how long it
	// may take until there is an answer.
	deferredTime = 10 * time.Minute
	waitTime     = 30 * time.Minute
	// maxAnswer bounds the bytes of an answer.
	maxAnswer = 64 << 20
)

// deferrable reports whether a request can be answered later: searches,
// histories, operations that only read, and batches.
func deferrable(rt *route, req *request) bool {
	switch req.does {
	case fhir.SearchType, fhir.SearchSystem, fhir.HistoryType, fhir.HistorySystem:
		return true
	case fhir.Operation:
		return rt.look != nil && !req.persist && !rt.operation.bare
	case fhir.Transaction:
		return text(member(req.document.JSON, "type")) == "batch"
	}
	return false
}

// perhapsLater does what a request asks, or sees to it that it is done.
func (c *call) perhapsLater(ctx context.Context) (*response, error) {
	rt, req := c.place.route, c.req
	if rt.later != nil {
		return rt.later(ctx, c)
	}
	if rt.operation != nil && rt.operation.later != nil {
		if err := rt.parse(req); err != nil {
			return nil, err
		}
		return rt.operation.later(ctx, c)
	}
	if !req.prefer.async || !deferrable(rt, req) {
		return c.dispatch(ctx, rt, req)
	}
	if rt.parse != nil { // what is malformed is refused now
		if err := rt.parse(req); err != nil {
			return nil, err
		}
	}
	return c.postpone(ctx, postponed{path: "/_async/", within: waitTime})
}

// A letter is a deferred request as it waits for whoever takes it up: what was
// asked, and the name of the Grant under which it is done.
type letter struct {
	Method string      `json:"method"`
	URL    string      `json:"url"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
	Grant  []byte      `json:"grant"`

	RequestID string `json:"requestId"`
	Address   string `json:"address"`
	Place     string `json:"place"` // the Method of its Origin
	Seq       int64  `json:"seq"`   // of its entry in the audit trail
	// Group is that whose members are exported.
	Group *pinned `json:"group,omitempty"`
}

// kept are the headers on which an answer depends.
var kept = []string{"Accept", "Content-Type", "Prefer"}

// A postponed says how a request is kept: below which path its answer will be,
// and within which time.
type postponed struct {
	path   string
	within time.Duration
	kind   store.Kind
	group  *pinned
	inputs []store.ImportInput
}

// postpone keeps the request and answers where the answer will be.
func (c *call) postpone(ctx context.Context, p postponed) (*response, error) {
	g, o := c.grant, c.grant.Origin()
	l := letter{
		Method: c.http.Method, URL: c.http.URL.RequestURI(), Header: http.Header{}, Body: c.sent,
		RequestID: o.RequestID, Address: o.Address, Place: o.Method, Seq: o.Trail.Seq, Group: p.group,
	}
	for _, name := range kept {
		if v := c.http.Header.Values(name); len(v) > 0 {
			l.Header[name] = v
		}
	}
	var err error
	if l.Grant, err = c.Verifier.Keep(ctx, g); err != nil {
		return nil, err
	}
	sealed, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	d, err := c.DB.Defer(ctx, g, c.req.asEntry(), sealed, p.within, p.kind, p.inputs...)
	if err != nil {
		return nil, err
	}
	c.later.wake(c.server, g.Tenant())
	return &response{status: http.StatusAccepted, contentLocation: c.req.base + p.path + d.ID, applied: "respond-async"}, nil
}

// reopen makes the request of a letter again, under the Grant that its client
// has now. Without a call there is no such Grant any more.
func (s *server) reopen(ctx context.Context, t *tenant.Tenant, sealed []byte) (*call, error) {
	var l letter
	if err := json.Unmarshal(sealed, &l); err != nil {
		return nil, err
	}
	again := func(ctx context.Context) (*smart.Grant, error) {
		return s.Verifier.Resume(ctx, t, l.Grant, audit.Origin{
			RequestID: l.RequestID, Address: l.Address, Method: l.Place,
			Trail: &audit.Trail{Seq: audit.NextSeq(), Parent: l.Seq},
		})
	}
	g, err := again(ctx)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, l.Method, l.URL, bytesOf(l.Body))
	if err != nil {
		return nil, err
	}
	r.Header = l.Header
	return &call{server: s, http: r, begun: s.Now(), grant: g, origin: g.Origin(), req: &request{grant: g}, again: again, group: l.Group}, nil
}

// pollAsync answers whether a deferred request was answered, and what.
// https://hl7.org/fhir/R4/async.html
func pollAsync(ctx context.Context, s *server, req *request) (*response, error) {
	d, err := s.DB.Deferred(ctx, req.grant, req.job, store.Asked)
	if err != nil {
		return nil, err
	}
	switch {
	case d.Done:
		return &response{status: http.StatusOK, body: d.Answer, expires: d.Expires}, nil
	case s.Now().After(d.Until):
		return nil, fhir.Errorf(fhir.Transient, "the server did not come to it in time; ask again")
	case d.Begun:
		return &response{status: http.StatusAccepted, progress: "in work"}, nil
	}
	return &response{status: http.StatusAccepted, progress: "waiting"}, nil
}

// cancelAsync forgets a deferred request and stops the work on it.
// https://hl7.org/fhir/R4/async.html
func cancelAsync(ctx context.Context, s *server, req *request) (*response, error) {
	if err := s.DB.Cancel(ctx, req.grant, req.job, store.Asked); err != nil {
		return nil, err
	}
	s.later.stop(req.job, errCancelled)
	return &response{status: http.StatusAccepted}, nil
}
