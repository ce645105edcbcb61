package rest

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// Requests that ask for it with "Prefer: respond-async" are answered later: at
// once comes 202 and where to look for the answer.
// https://hl7.org/fhir/R4/async.html

const (
	// deferredTime bounds the work on one request.
	deferredTime = 10 * time.Minute
	// deferredAtOnce bounds the requests that are worked on at once, and
	// maxWaiting those that wait for it.
	deferredAtOnce = 4
	maxWaiting     = 64
	// maxAnswer bounds the bytes of an answer.
	maxAnswer = 64 << 20
)

// later is the work on deferred requests in this process.
type later struct {
	slots chan struct{} // one for each that is worked on

	mu      sync.Mutex
	cancels map[string]context.CancelFunc // by id
}

func newLater() *later {
	return &later{slots: make(chan struct{}, deferredAtOnce), cancels: map[string]context.CancelFunc{}}
}

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
	if !req.prefer.async || !deferrable(rt, req) {
		return c.dispatch(ctx, rt, req)
	}
	if rt.parse != nil { // what is malformed is refused now
		if err := rt.parse(req); err != nil {
			return nil, err
		}
	}
	return c.deferred(ctx, rt, req)
}

// deferred answers where the answer will be, and begins to work on it.
func (s *server) deferred(ctx context.Context, rt *route, req *request) (*response, error) {
	work, stop := context.WithTimeout(context.WithoutCancel(ctx), deferredTime)
	if !s.later.room() {
		stop()
		return nil, fhir.Errorf(fhir.Throttled, "the server works on too many requests for later")
	}
	d, err := s.DB.Defer(ctx, req.grant, req.asEntry(), deferredTime)
	if err != nil {
		stop()
		return nil, err
	}
	s.later.begin(d.ID, stop)
	one := *req
	one.grant = req.grant.Entry()
	one.codes = codes{work, s, one.grant, req.base}
	go func() {
		defer s.later.end(d.ID)
		select {
		case s.later.slots <- struct{}{}:
			defer func() { <-s.later.slots }()
			s.answerLater(work, rt, &one, d.ID)
		case <-work.Done():
		}
	}()
	return &response{status: http.StatusAccepted, contentLocation: req.base + "/_async/" + d.ID, applied: "respond-async"}, nil
}

// answerLater does the work and keeps the answer, unless it was cancelled.
func (s *server) answerLater(ctx context.Context, rt *route, req *request, id string) {
	resp := s.attempt(ctx, rt, req)
	if ctx.Err() == context.Canceled {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	body := resp.body
	if req.does != fhir.Batch || resp.status != http.StatusOK {
		b := newBundle("batch-response", req.now())
		b.answer(req.base, resp)
		body = b.bytes()
	}
	if len(body) > maxAnswer {
		b := newBundle("batch-response", req.now())
		b.answer(req.base, failure(fhir.Errorf(fhir.TooCostly, "the answer is longer than %d bytes", maxAnswer)))
		body = b.bytes()
	}
	if _, err := s.DB.Answer(ctx, req.grant.Entry(), id, body); err != nil {
		s.Log.ErrorContext(ctx, "keeping an answer", "request", req.grant.Origin().RequestID, "error", err.Error())
	}
}

// attempt does what a parsed request asks, and writes it to the audit trail.
// Whatever goes wrong is an answer too.
func (s *server) attempt(ctx context.Context, rt *route, req *request) (resp *response) {
	var err error
	defer func() {
		if p := recover(); p != nil {
			err = &panicked{p, callers()}
		}
		if err != nil {
			if !isClientError(err) && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "deferred request", "request", req.grant.Origin().RequestID, "error", err.Error())
			}
			resp = failure(clientError(err))
			if ctx.Err() != nil && !isClientError(err) {
				resp = failure(fhir.Errorf(fhir.Transient, "the request took too long"))
			}
		}
		e := req.asEntry()
		e.Status, e.Outcome = resp.status, outcomeOf(resp.status)
		if err != nil {
			e.Reason = clientError(err).Error()
		}
		if err := s.DB.Record(context.WithoutCancel(ctx), req.grant, e); err != nil {
			resp = failure(fhir.Errorf(fhir.Transient, "the request cannot be audited now"))
		}
	}()
	resp, err = s.perform(ctx, rt, req)
	return resp
}

// pollAsync answers whether a deferred request was answered, and what.
// https://hl7.org/fhir/R4/async.html
func pollAsync(ctx context.Context, s *server, req *request) (*response, error) {
	d, err := s.DB.Deferred(ctx, req.grant, req.job)
	if err != nil {
		return nil, err
	}
	switch {
	case d.Done:
		return &response{status: http.StatusOK, body: d.Answer, expires: d.Expires}, nil
	case s.Now().After(d.Until):
		return nil, fhir.Errorf(fhir.Transient, "the server stopped before it was done; ask again")
	}
	return &response{status: http.StatusAccepted, progress: "in work"}, nil
}

// cancelAsync forgets a deferred request and stops the work on it.
// https://hl7.org/fhir/R4/async.html
func cancelAsync(ctx context.Context, s *server, req *request) (*response, error) {
	if err := s.DB.Cancel(ctx, req.grant, req.job); err != nil {
		return nil, err
	}
	s.later.cancel(req.job)
	return &response{status: http.StatusAccepted}, nil
}

// room reports whether one more request can wait.
func (l *later) room() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.cancels) < maxWaiting
}

func (l *later) begin(id string, stop context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancels[id] = stop
}

func (l *later) end(id string) {
	l.cancel(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.cancels, id)
}

func (l *later) cancel(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if stop := l.cancels[id]; stop != nil {
		stop()
	}
}
