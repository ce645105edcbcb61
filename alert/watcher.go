package alert

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/limit"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// A Keeper keeps alerts. store.Registry is one.
type Keeper interface {
	// Sight adds sightings to the alerts that they are of, and opens those that
	// are missing. What it returned nil for is durable.
	Sight(ctx context.Context, s []Sighting) error
}

// Config is what a Watcher needs.
type Config struct {
	Keeper Keeper // required

	// Limit slows those down who do what looks like an attack. Default: nobody.
	Limit *limit.Limiter
	// Count is told of each sighting of a rule. Default: nobody is.
	Count func(smart.Rule)
	Log   *oplog.Logger
	Now   func() time.Time // default time.Now
}

// A Watcher runs the rules. It is safe for concurrent use.
type Watcher struct {
	cfg Config

	mu    sync.Mutex
	known map[subject]bool     // seen of late
	many  map[ruled]int        // how many subjects there are of late
	owed  map[subject]Sighting // not kept yet
	since time.Time            // of known and many
	rest  time.Time            // until when no request waits for the Keeper, which failed

	keeping sync.Mutex

	crowds map[tenant.ID]*crowd
	logins map[tried]failures
}

// A subject is what an alert is about.
type subject struct {
	tenant string
	rule   smart.Rule
	who    Principal
}

type ruled struct {
	tenant string
	rule   smart.Rule
}

const (
	// maxSubjects bounds the principals of which one rule tells apart what they
	// do at one tenant, within a Window. All others are one.
	maxSubjects = 100
	// maxOwed bounds what waits while the registry does not answer.
	maxOwed = 10_000
	// keepTimeout bounds how long a request waits until an alert is kept.
	keepTimeout = 2 * time.Second
)

// New returns a Watcher. Somebody has to Run it.
func New(cfg Config) (*Watcher, error) {
	if cfg.Keeper == nil {
		return nil, errors.New("alert: Config.Keeper is required")
	}
	if cfg.Count == nil {
		cfg.Count = func(smart.Rule) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Watcher{cfg: cfg, known: map[subject]bool{}, many: map[ruled]int{}, owed: map[subject]Sighting{},
		crowds: map[tenant.ID]*crowd{}, logins: map[tried]failures{}}, nil
}

// Alert takes what cannot happen by chance, at its first time.
func (w *Watcher) Alert(a smart.Alert) { w.sight(sightingOf(a)) }

// sight takes a sighting. The first of its subject is kept when it returns: who
// attacks is not answered before, so no death of this process makes it be
// forgotten. Those that follow are counted, and kept within a second.
func (w *Watcher) sight(s Sighting) {
	s = s.at(w.cfg.Now())
	w.cfg.Count(s.Rule)
	if !w.note(s) {
		return
	}
	w.log(s)
	if !w.resting() {
		w.keep(context.Background())
	}
}

// log tells the log of an alert that is opened.
func (w *Watcher) log(s Sighting) {
	w.cfg.Log.Warn("alert", oplog.Named("rule", string(s.Rule)), oplog.Tenant(s.Tenant), oplog.Named("addressed", s.Addressed),
		oplog.Client(s.Client), oplog.User(s.User), oplog.Address(s.Address), oplog.Requests(s.Requests))
}

// note adds s to what is owed, and reports whether its subject is new.
func (w *Watcher) note(s Sighting) (isNew bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.First.Sub(w.since) > Window {
		clear(w.known)
		clear(w.many)
		w.since = s.First
	}
	of := subject{s.Tenant, s.Rule, s.Principal}
	if of.who.Client != "" {
		of.who.Address = "" // it may have many
	}
	if !w.known[of] && w.many[ruled{s.Tenant, s.Rule}] >= maxSubjects {
		s.Principal, of.who = Principal{}, Principal{}
	}
	if !w.known[of] {
		w.known[of], isNew = true, true
		w.many[ruled{s.Tenant, s.Rule}]++
	}
	w.owe(of, s)
	return isNew
}

// owe merges s into what is owed of its subject.
func (w *Watcher) owe(of subject, s Sighting) {
	o, ok := w.owed[of]
	if !ok {
		if len(w.owed) < maxOwed {
			w.owed[of] = s
		}
		return
	}
	o.Count += s.Count
	if s.First.Before(o.First) {
		o.First = s.First
	}
	if s.Last.After(o.Last) {
		o.Last = s.Last
	}
	o.Requests = append(o.Requests, s.Requests...)
	o.Requests = o.Requests[:min(len(o.Requests), maxRequests)]
	if o.Addressed == "" {
		o.Addressed = s.Addressed
	}
	w.owed[of] = o
}

// keep keeps what is owed. It returns when that is done, also if somebody else
// is about it. What cannot be kept now is tried again.
func (w *Watcher) keep(ctx context.Context) {
	w.keeping.Lock()
	defer w.keeping.Unlock()
	owed := w.take()
	if len(owed) == 0 {
		return
	}
	list := make([]Sighting, 0, len(owed))
	for _, s := range owed {
		list = append(list, s)
	}
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	if err := w.cfg.Keeper.Sight(ctx, list); err != nil {
		w.cfg.Log.Error("keeping alerts", oplog.Number("alerts", len(list)), oplog.Cause(err))
		w.giveBack(owed)
	}
}

func (w *Watcher) take() map[subject]Sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	owed := w.owed
	w.owed = map[subject]Sighting{}
	return owed
}

func (w *Watcher) giveBack(owed map[subject]Sighting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = w.cfg.Now().Add(time.Second)
	for of, s := range owed {
		w.owe(of, s)
	}
}

// resting reports whether the Keeper has just failed.
func (w *Watcher) resting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cfg.Now().Before(w.rest)
}

// Run keeps, each second until ctx is done and once more then, what came since.
func (w *Watcher) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			w.keep(context.WithoutCancel(ctx))
			return
		case <-time.After(time.Second):
			w.keep(ctx)
		}
	}
}
