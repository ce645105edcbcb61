package limit

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

// Bounds of the turns.
const (
	// maxQueue bounds the requests of a tenant that wait for a turn.
	maxQueue = 400
	// company is for how long after a tenant asked others are held to their share.
	company = 5 * time.Second
	// leastShare is what a tenant has at least, so that one slow request does
	// not hold up all others of the tenant.
	leastShare = 2
	// shares is how many shares all tenants together have, or one who is alone.
	shares = 16
)

// ErrFull is why there is no turn at once: too many of the tenant wait for one.
var ErrFull = errors.New("limit: too many requests of the tenant wait")

// turns says who works next. A tenant that is alone has all that this process can
// do; as soon as others ask it has its share, about what one tenant can have
// without the others noticing: as many requests in work as there are processors.
// A turn that becomes free goes to the waiting tenant with the fewest in work,
// and among equals to who came first.
type turns struct {
	share int // of one tenant among others
	now   func() time.Time

	mu     sync.Mutex
	used   int
	came   uint64 // how many have waited
	queues map[tenant.ID]*queue
	// The tenant that asked last, when it did, and when another one did.
	last           tenant.ID
	lastAt, elseAt time.Time
}

// A queue is of one tenant who has requests in work or waiting: those somebody
// waits for, and those that are answered later.
type queue struct{ now, later line }

type line struct {
	used    int
	waiting []*waiter
}

type waiter struct {
	number uint64
	turn   chan struct{} // closed when it is theirs
}

func (q *queue) used() int { return q.now.used + q.later.used }

func (q *queue) line(later bool) *line {
	if later {
		return &q.later
	}
	return &q.now
}

func newTurns(share int, now func() time.Time) *turns {
	if share == 0 {
		share = max(leastShare, runtime.GOMAXPROCS(0))
	}
	return &turns{share: share, now: now, queues: map[tenant.ID]*queue{}}
}

// take waits for a turn of the tenant until ctx is done, unless too many wait
// already, which is ErrFull. It returns what gives the turn back, once.
func (t *turns) take(ctx context.Context, id tenant.ID, later bool) (done func(), err error) {
	w, done := t.ask(id, later)
	switch {
	case done != nil:
		return done, nil
	case w == nil:
		return nil, ErrFull
	}
	select {
	case <-w.turn:
	case <-ctx.Done():
		if t.leave(id, later, w) {
			return nil, ctx.Err()
		}
	}
	return func() { t.end(id, later) }, nil
}

// ask takes a turn, or takes a place in the queue, or does neither.
func (t *turns) ask(id tenant.ID, later bool) (w *waiter, done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id != t.last {
		t.last, t.elseAt = id, t.lastAt
	}
	t.lastAt = t.now()
	q := t.queues[id]
	if q == nil {
		q = &queue{}
		t.queues[id] = q
	}
	l := q.line(later)
	switch {
	case len(l.waiting) == 0 && t.mayBegin(id, q, later):
		l.used++
		t.used++
		return nil, func() { t.end(id, later) }
	case !later && len(l.waiting) >= maxQueue:
		return nil, nil
	}
	t.came++
	w = &waiter{t.came, make(chan struct{})}
	l.waiting = append(l.waiting, w)
	return w, nil
}

// leave takes w out of its queue, and returns false if its turn has come.
func (t *turns) leave(id tenant.ID, later bool, w *waiter) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queues[id]
	l := q.line(later)
	i := slices.Index(l.waiting, w)
	if i < 0 {
		return false
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	t.forget(id, q)
	return true
}

// mayBegin reports whether one more of the tenant may be in work. What is answered
// later leaves half of the share to what somebody waits for.
func (t *turns) mayBegin(id tenant.ID, q *queue, later bool) bool {
	others := t.elseAt
	if id != t.last {
		others = t.lastAt
	}
	half := max(1, t.share/2)
	switch {
	case t.used >= shares*t.share:
		return false
	case len(t.queues) == 1 && t.now().Sub(others) > company: // it is alone
		return true
	case later:
		return q.used() < t.share && q.later.used < half
	}
	return q.used() < t.share || q.now.used < half
}

// end gives a turn of the tenant back, and lets those begin that may.
func (t *turns) end(id tenant.ID, later bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queues[id]
	q.line(later).used--
	t.used--
	t.forget(id, q)
	for l := t.next(); l != nil; l = t.next() {
		close(l.waiting[0].turn)
		l.waiting = l.waiting[1:]
		l.used++
		t.used++
	}
}

// next returns the line whose first may begin now.
func (t *turns) next() (best *line) {
	fewest := 0
	for id, q := range t.queues {
		for _, later := range []bool{false, true} {
			l := q.line(later)
			if len(l.waiting) == 0 || !t.mayBegin(id, q, later) {
				continue
			}
			if best == nil || q.used() < fewest || q.used() == fewest && l.waiting[0].number < best.waiting[0].number {
				best, fewest = l, q.used()
			}
		}
	}
	return best
}

// forget forgets a queue that nobody is in.
func (t *turns) forget(id tenant.ID, q *queue) {
	if q.used() == 0 && len(q.now.waiting) == 0 && len(q.later.waiting) == 0 {
		delete(t.queues, id)
	}
}
