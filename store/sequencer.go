package store

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// A Sequencer keeps the logs of all tenants, and of the platform, up to date
// beside the requests. Several processes may run one.
type Sequencer struct {
	Ledger *Ledger // required
	// Tenants returns the tenants to look after. Required.
	Tenants func(context.Context) ([]*tenant.Tenant, error)
	// Every is how often all are looked at. Default 2s.
	Every time.Duration
	// Tampered is told of what nobody but an attacker, or who restored an old
	// database, brings about; nil is the platform. It may be nil.
	Tampered func(*tenant.Tenant)

	mu   sync.Mutex
	told map[string]string // by log, what was logged last
}

// atOnce is how many logs are worked on at once, so that one database that does
// not answer holds up few others.
const logsAtOnce = 4

// Run works until ctx is done.
func (s *Sequencer) Run(ctx context.Context) {
	s.Every = cmp.Or(s.Every, 2*time.Second)
	s.told = map[string]string{}
	for ctx.Err() == nil {
		s.round(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(s.Every):
		}
	}
}

func (s *Sequencer) round(ctx context.Context) {
	list, err := s.Tenants(ctx)
	if err != nil {
		s.Ledger.Log.Error("listing tenants for their audit logs", oplog.Cause(gate.Scrub(err)))
	}
	var all sync.WaitGroup
	room := make(chan struct{}, logsAtOnce)
	for _, t := range append([]*tenant.Tenant{nil}, list...) {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			s.tell(ctx, t, s.tend(ctx, t))
		})
	}
	all.Wait()
}

// tend numbers what is new in one log, and signs it.
func (s *Sequencer) tend(ctx context.Context, t *tenant.Tenant) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.Ledger.Log.Error("panic in the work on an audit log", oplog.Named("log", originOf(t)), oplog.Stack())
			err = errors.New("store: panic in the work on an audit log")
		}
	}()
	var foreign error
	for more := true; more && ctx.Err() == nil; {
		_, more, err = s.Ledger.Sequence(ctx, t)
		if f := (*Foreign)(nil); errors.As(err, &f) {
			foreign, err = err, nil
		}
		if err != nil {
			return errors.Join(foreign, err)
		}
	}
	return errors.Join(foreign, s.Ledger.Checkpoint(ctx, t))
}

// tell says once what is wrong with a log, until something else is.
func (s *Sequencer) tell(ctx context.Context, t *tenant.Tenant, err error) {
	if ctx.Err() != nil || errors.Is(err, gate.ErrUnbound) {
		return // the tenant is not served, or is looked up again
	}
	log, text := originOf(t), ""
	if err != nil {
		text = oplog.Text(err)
	}
	s.mu.Lock()
	known := s.told[log] == text
	s.told[log] = text
	s.mu.Unlock()
	if known || err == nil {
		return
	}
	s.Ledger.Log.Error("working on an audit log", oplog.Named("log", log), oplog.Cause(err))
	var foreign *Foreign
	var broken *Broken
	if s.Tampered != nil && (errors.As(err, &foreign) || errors.As(err, &broken)) {
		s.Tampered(t)
	}
}
