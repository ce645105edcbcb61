package subscriptions

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// A Worker matches what changes with the subscriptions of tenants, and tells their
// subscribers. Any number of processes may have one: each event is kept once, and what
// one that dies has not delivered another delivers.
type Worker struct {
	DB       *store.DB                                       // required
	Verifier *smart.Verifier                                 // required
	Tenants  func(context.Context) ([]*tenant.Tenant, error) // required: those that are active
	Base     func(slug string) string                        // required
	// Networks are those, other than the public internet, in which endpoints may be.
	// Default none.
	Networks []netip.Prefix
	Log      *oplog.Logger

	mu      sync.Mutex
	at      map[tenant.ID]*following
	slots   chan struct{}
	all     sync.WaitGroup
	written chan struct{} // something was
}

// following is what a Worker remembers of a tenant.
type following struct {
	busy       sync.Mutex // held by who looks after it
	index      *index
	generation int64
	reached    store.FeedPlace // what is before it need not be looked at again
	unkept     int             // how many changes are between it and what the database has
	list       []store.Subscription
	checked    time.Time // when the subscribers' rights were last looked at
	swept      time.Time
	idle       bool // there was nothing to follow
	looked     time.Time
	written    bool // here, since
}

const (
	// lookEvery is how often each tenant with subscriptions is looked at for what other
	// servers wrote, and idleEvery one without.
	lookEvery  = 250 * time.Millisecond
	idleEvery  = 5 * time.Second
	checkEvery = 5 * time.Second
	sweepEvery = time.Hour
	// deliverAtOnce bounds what one process delivers at a time. An endpoint that hangs
	// holds one for ten seconds.
	deliverAtOnce = 128
	// keepEvery is after how many changes that are no events it is written down how far
	// the feed is: what a server that begins would have to look at again.
	keepEvery = 5000
	// listEvery is how often the tenants are listed.
	listEvery = 2 * time.Second
)

// Run works until ctx is done, and returns when what is on its way has ended.
func (w *Worker) Run(ctx context.Context) {
	w.at, w.slots, w.written = map[tenant.ID]*following{}, make(chan struct{}, deliverAtOnce), make(chan struct{}, 1)
	w.DB.Changed(w.changed)
	defer w.all.Wait()
	var tenants []*tenant.Tenant
	var listed time.Time
	for {
		if time.Since(listed) > listEvery {
			list, err := w.Tenants(ctx)
			if err != nil && ctx.Err() == nil {
				w.Log.Error("listing tenants for subscriptions", oplog.Cause(err))
			} else {
				tenants, listed = list, time.Now()
			}
		}
		for _, t := range tenants {
			if f := w.of(t.ID); f.busy.TryLock() {
				if !w.waits(f) {
					f.busy.Unlock()
					continue
				}
				w.all.Go(func() {
					if err := w.tend(ctx, t, f); err != nil && ctx.Err() == nil {
						w.Log.Error("subscriptions", oplog.Tenant(t.Slug.String()), oplog.Cause(err))
					}
					f.busy.Unlock()
					w.again(f)
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-w.written:
		case <-time.After(lookEvery):
		}
	}
}

// changed notes that something of a tenant was written here.
func (w *Worker) changed(id tenant.ID) {
	w.mu.Lock()
	f := w.at[id]
	news := f != nil && !f.written
	if news {
		f.written = true
	}
	w.mu.Unlock()
	if news {
		w.wake()
	}
}

// again wakes Run if something was written while somebody looked after the tenant.
func (w *Worker) again(f *following) {
	w.mu.Lock()
	written := f.written
	w.mu.Unlock()
	if written {
		w.wake()
	}
}

func (w *Worker) wake() {
	select {
	case w.written <- struct{}{}:
	default:
	}
}

func (w *Worker) of(id tenant.ID) *following {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at[id] == nil {
		w.at[id] = &following{}
	}
	return w.at[id]
}

// waits reports whether it is time to look after a tenant, and notes that it is done.
func (w *Worker) waits(f *following) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	every := lookEvery
	if f.idle {
		every = idleEvery
	}
	if !f.written && time.Since(f.looked) < every {
		return false
	}
	f.written, f.looked = false, time.Now()
	return true
}

// tend looks after the subscriptions of a tenant: it matches what changed, ends those
// whose subscribers have lost their rights, and lets what waits be delivered.
func (w *Worker) tend(ctx context.Context, t *tenant.Tenant, f *following) error {
	feed, err := w.DB.Feed(ctx, t)
	w.mu.Lock()
	f.idle = err == nil && !feed.Any
	w.mu.Unlock()
	if err != nil || !feed.Any {
		return err
	}
	if err := w.load(ctx, t, f, feed.Generation); err != nil {
		return err
	}
	if time.Since(f.checked) > checkEvery {
		if err := w.check(ctx, t, f); err != nil {
			return err
		}
		f.checked = time.Now()
	}
	if time.Since(f.swept) > sweepEvery {
		if err := w.DB.SweepEvents(ctx, t); err != nil {
			return err
		}
		f.swept = time.Now()
	}
	for more := feed.Live > 0; more && ctx.Err() == nil; {
		if more, err = w.match(ctx, t, f); err != nil {
			return err
		}
	}
	if feed, err = w.DB.Feed(ctx, t); err != nil {
		return err
	}
	for due := feed.Due; due && ctx.Err() == nil; {
		if due, err = w.next(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// load reads which subscriptions there are, unless that is known.
func (w *Worker) load(ctx context.Context, t *tenant.Tenant, f *following, generation int64) (err error) {
	if f.index != nil && f.generation == generation {
		return nil
	}
	if f.list, f.generation, err = w.DB.Subscriptions(ctx, t); err != nil {
		return err
	}
	f.index = newIndex(w.Base(t.Slug.String()), f.list)
	return nil
}

// check ends the subscriptions whose subscribers have lost their rights, and those
// whose time is over, also when nothing happens that they would be told of.
func (w *Worker) check(ctx context.Context, t *tenant.Tenant, f *following) error {
	for _, s := range f.list {
		if s.Failed {
			continue
		}
		x, err := newFollower(w.Base(t.Slug.String()), s)
		if err == nil {
			_, _, err = w.stands(ctx, t, x)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// match reads some changes, and keeps the events that they are.
func (w *Worker) match(ctx context.Context, t *tenant.Tenant, f *following) (more bool, err error) {
	feed, err := w.DB.Feed(ctx, t)
	if err != nil {
		return false, err
	}
	if err := w.load(ctx, t, f, feed.Generation); err != nil {
		return false, err
	}
	from := feed.From
	if f.reached.After(from) {
		from = f.reached
	}
	reached, read := from, 0
	found := map[*follower][]store.Change{}
	generation, more, err := w.DB.Changes(ctx, t, from, f.index.of(), func(c store.Change) error {
		reached = c.Place()
		read++
		list, err := f.index.followers(c)
		for _, x := range list {
			c := c
			c.Now, c.Before = nil, nil
			found[x] = append(found[x], c)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	if generation != f.generation {
		return true, nil // with those that are there now
	}
	events, err := w.allowed(ctx, t, found)
	if err != nil {
		return false, err
	}
	if len(events) == 0 && f.unkept+read < keepEvery {
		f.reached, f.unkept = reached, f.unkept+read
		return more, nil
	}
	kept, err := w.DB.KeepEvents(ctx, t, feed, reached, events)
	if err == nil && kept {
		f.reached, f.unkept = reached, 0
	}
	return more, err
}

// allowed returns of what was found that of which the subscribers may be told.
func (w *Worker) allowed(ctx context.Context, t *tenant.Tenant, found map[*follower][]store.Change) (events []store.Happened, err error) {
	var list []*follower
	for x := range found {
		list = append(list, x)
	}
	// In one order, so that two servers wait for each other in turn and not in a circle.
	slices.SortFunc(list, func(a, b *follower) int { return strings.Compare(a.Ref.ID, b.Ref.ID) })
	for _, x := range list {
		g, over, err := w.stands(ctx, t, x)
		if err != nil {
			return nil, err
		}
		if over {
			continue
		}
		may, err := w.DB.MayTell(ctx, g, x.Subscription, x.queries, found[x])
		if err != nil {
			return nil, err
		}
		for i, c := range found[x] {
			if may[i] {
				events = append(events, store.Happened{Subscription: x.Subscription, Change: c})
			}
		}
	}
	return events, nil
}

// next lets the next that waits be delivered, once there is a slot.
func (w *Worker) next(ctx context.Context, t *tenant.Tenant) (found bool, err error) {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return false, nil
	}
	s, found, err := w.DB.TakeUpSubscription(ctx, t)
	if err != nil || !found {
		<-w.slots
		return false, err
	}
	w.all.Go(func() {
		defer func() { <-w.slots }()
		if err := w.deliver(ctx, t, s); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			w.Log.Error("telling a subscriber", oplog.Tenant(t.Slug.String()), oplog.Cause(err))
		}
		w.changed(t.ID) // more may wait
	})
	return true, nil
}
