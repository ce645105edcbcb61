package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// Deferred requests wait in the database, and any process takes them up. One
// that stops or dies in the middle leaves them to the others: what only reads is
// done again; what writes is not, for nobody can tell how far it came.

const (
	// deferredAtOnce bounds the requests that are worked on at once.
	deferredAtOnce = 4
	// maxTurns bounds how often the work on a request that only reads is begun:
	// it may be what ends the processes.
	maxTurns = 3
	// lookEvery is how often each tenant is looked at.
	lookEvery = 10 * time.Second
	// lastGrace bounds how long a server that stops waits for work that writes.
	lastGrace = 15 * time.Second
)

// Why the work on a request was stopped.
var (
	errCancelled = errors.New("rest: the request was cancelled, or is another's now")
	errStopping  = errors.New("rest: the server stops")
)

// later is the work on deferred requests in this process.
type later struct {
	slots chan struct{} // one for each that is worked on
	over  context.Context
	end   context.CancelFunc // of over

	mu      sync.Mutex
	queued  map[tenant.ID]bool  // tenants for whom somebody waits for a slot
	running map[string]*running // by id
	all     sync.WaitGroup
	stopped bool
}

type running struct {
	stop   context.CancelCauseFunc
	writes bool
}

func newLater() *later {
	l := &later{slots: make(chan struct{}, deferredAtOnce), queued: map[tenant.ID]bool{}, running: map[string]*running{}}
	l.over, l.end = context.WithCancel(context.Background())
	return l
}

// Work takes up deferred requests of the tenants, whoever received them, and
// throws old answers away, until ctx is done. It returns when all work has
// ended: what only reads is left to other processes, what writes is waited for.
func (h *Handler) Work(ctx context.Context, tenants func(context.Context) ([]*tenant.Tenant, error)) {
	s := h.server
	defer s.later.close()
	for {
		list, err := tenants(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("listing tenants for deferred requests", oplog.Cause(err))
		}
		for _, t := range list {
			if err := s.tend(ctx, t); err != nil && ctx.Err() == nil {
				s.Log.Error("deferred requests", oplog.Tenant(t.Slug.String()), oplog.Cause(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookEvery):
		}
	}
}

// tend looks after the deferred requests of a tenant.
func (s *server) tend(ctx context.Context, t *tenant.Tenant) error {
	waiting, old, err := s.DB.Waiting(ctx, t)
	if err != nil {
		return err
	}
	if waiting {
		s.later.wake(s, t)
	}
	if old {
		return s.DB.Sweep(ctx, t)
	}
	return nil
}

// wake lets somebody take up a request of the tenant as soon as there is a slot.
func (l *later) wake(s *server, t *tenant.Tenant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.queued[t.ID] {
		return
	}
	l.queued[t.ID] = true
	l.all.Go(func() {
		select {
		case l.slots <- struct{}{}:
		case <-l.over.Done():
			return
		}
		l.mu.Lock()
		delete(l.queued, t.ID)
		l.mu.Unlock()
		found := s.takeUp(l.over, t)
		<-l.slots
		if found { // there may be more; the other tenants come first
			l.wake(s, t)
		}
	})
}

// takeUp takes up a request of the tenant and sees it to its end. It reports
// whether there was one.
func (s *server) takeUp(ctx context.Context, t *tenant.Tenant) (found bool) {
	w, found, err := s.DB.TakeUp(ctx, t)
	if err == nil && found {
		err = s.work(w, t)
	}
	if err != nil && ctx.Err() == nil {
		s.Log.Error("deferred request", oplog.Tenant(t.Slug.String()), oplog.Cause(err))
	}
	return found && err == nil
}

// reads notes that the work only reads.
func (r *running) reads(l *later) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.writes = false
}

// work does what a request asks that was taken up, and keeps the answer.
func (s *server) work(w store.Work, t *tenant.Tenant) error {
	ctx, cancel := context.WithTimeout(context.Background(), deferredTime)
	defer cancel()
	c, err := s.reopen(ctx, t, w.Request)
	switch {
	case fhir.IsCode(err, fhir.Login), fhir.IsCode(err, fhir.Forbidden):
		return s.DB.Drop(ctx, w) // nobody is left who may ask for the answer
	case err != nil:
		return errors.Join(err, s.DB.PutBack(ctx, w))
	}
	defer c.release()
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &running{stop: stop, writes: true} // until more is known
	if !s.later.begin(w.ID, r) {
		return s.DB.PutBack(ctx, w)
	}
	defer s.later.done(w.ID)
	go s.renew(work, w, stop)

	if w.Kind != store.Asked {
		r.reads(s.later) // or knows how far it came
		return c.bulk(work, w)
	}
	c.origin.Trail.Shown = &audit.Shown{} // for as long as the answer is kept
	resp := c.attempt(work, func() error { return c.mayBegin(r, w, s.later) })
	c.spend(resp)
	switch context.Cause(work) {
	case errCancelled:
		return nil
	case errStopping:
		if !r.writes {
			return s.DB.PutBack(context.WithoutCancel(ctx), w)
		}
	}
	return c.keep(context.WithoutCancel(ctx), w, resp)
}

// renew keeps w this process's own, and stops the work if it no longer is.
func (s *server) renew(ctx context.Context, w store.Work, stop context.CancelCauseFunc) {
	until := time.Now().Add(s.DB.Lease)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.DB.Lease / 3):
		}
		began := time.Now()
		held, err := s.DB.Renew(ctx, w)
		switch {
		case err == nil && held:
			until = began.Add(s.DB.Lease)
		case err == nil, time.Now().After(until.Add(-s.DB.Lease / 3)):
			stop(errCancelled)
			return
		}
	}
}

// mayBegin refuses what was begun before and must not be begun again.
func (c *call) mayBegin(r *running, w store.Work, l *later) error {
	writes := c.req.does == fhir.Transaction && !onlyReads(c.req.document.JSON)
	if !writes {
		r.reads(l)
	}
	switch {
	case writes && w.Turn > 1:
		return fhir.Errorf(fhir.Transient, "the server stopped in the middle of it: some entries may have been done, and none is done again; look before you ask again")
	case w.Turn > maxTurns:
		return fhir.Errorf(fhir.Exception, "the server stopped in the middle of it each time it was begun")
	}
	return nil
}

// onlyReads reports whether no entry of a batch can write.
func onlyReads(bundle []byte) bool {
	for _, e := range parseEntries(member(bundle, "entry")) {
		if e.method != http.MethodGet && e.method != http.MethodHead {
			return false
		}
	}
	return true
}

// attempt does what a deferred request asks, once it may begin, and writes it
// to the audit trail. Whatever goes wrong is an answer too.
func (c *call) attempt(ctx context.Context, mayBegin func() error) (resp *response) {
	var err error
	ctx, c.stop = context.WithCancelCause(ctx)
	defer func() {
		if p := recover(); p != nil {
			err = recovered(p)
		}
		if err = stopped(ctx, err); err != nil {
			if !isClientError(err) && ctx.Err() == nil {
				c.Log.Error("deferred request", oplog.Request(c.origin.RequestID), oplog.Cause(err))
			}
			if ctx.Err() != nil && !isClientError(err) {
				err = fhir.Errorf(fhir.Transient, "the request took too long")
			}
			resp = failure(clientError(err))
		}
		e := c.req.asEntry()
		e.Status, e.Outcome = resp.status, outcomeOf(resp.status)
		if err != nil {
			e.Reason = clientError(err).Error()
		}
		if err := c.DB.Record(context.WithoutCancel(ctx), c.grant, e); err != nil {
			resp = failure(fhir.Errorf(fhir.Transient, "the request cannot be audited now"))
		}
	}()
	path, _ := plainPath(c.http.URL.EscapedPath())
	if c.place, _, err = c.routes.find(c.http.Method, path); err != nil {
		return nil
	}
	if err = c.ask(ctx); err != nil {
		return nil
	}
	if err = mayBegin(); err != nil {
		return nil
	}
	resp, err = c.dispatch(ctx, c.place.route, c.req)
	return resp
}

// keep keeps the answer to a request that was taken up.
func (c *call) keep(ctx context.Context, w store.Work, resp *response) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	body := resp.body
	if c.req.does != fhir.Batch || resp.status != http.StatusOK {
		body = c.alone(resp)
	}
	if len(body) > maxAnswer {
		body = c.alone(failure(fhir.Errorf(fhir.TooCostly, "the answer is longer than %d bytes", maxAnswer)))
	}
	_, err := c.DB.Answer(ctx, c.grant.Entry(), w, body)
	return err
}

// alone is a Bundle with one answer.
// https://hl7.org/fhir/R4/async.html#3.1.6.4
func (c *call) alone(resp *response) []byte {
	b := newBundle("batch-response", c.Now())
	b.answer(c.Base(c.grant.Tenant().Slug.String()), resp)
	return b.bytes()
}

// begin notes the work on a request. It returns false when the server stops.
func (l *later) begin(id string, r *running) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.running[id] = r
	return true
}

func (l *later) done(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running, id)
}

// stop stops the work on a request in this process.
func (l *later) stop(id string, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.running[id]; r != nil {
		r.stop(why)
	}
}

// close stops the work that only reads, waits for the rest and in the end stops
// that too.
func (l *later) close() {
	l.end()
	l.stopAll(func(r *running) bool { return !r.writes })
	t := time.AfterFunc(lastGrace, func() { l.stopAll(func(*running) bool { return true }) })
	defer t.Stop()
	l.all.Wait()
}

func (l *later) stopAll(which func(*running) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for _, r := range l.running {
		if which(r) {
			r.stop(errStopping)
		}
	}
}

// bytesOf is the body of a request, nil for none.
func bytesOf(body []byte) io.Reader {
	if len(body) == 0 {
		return http.NoBody
	}
	return bytes.NewReader(body)
}
