package breakout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say how a target is treated. The zero value works.
type Options struct {
	// Rate bounds the requests per second. Default 200.
	Rate float64
	// Walk is how many ids each tenant gets that no other has. Default 20.
	Walk int
	// Pool is how many requests of attacker and victim follow each attack (C4).
	// Default 50.
	Pool int
	// Settle is how long a trail or an alert may take to show what was done.
	// Default 10 s.
	Settle time.Duration
	// Strict says that answers about what is hidden do not name the ids that were
	// asked for either, as those of Cordon do not.
	Strict bool
	// Times is how many times over attacks that need many requests send them.
	// Default 1.
	Times int
	// Only chooses attacks: "T001", "group=3". Default all.
	Only []string
	// HTTP sends the requests. Redirects must not be followed. Default: a client
	// that waits for a minute.
	HTTP *http.Client
	// Progress is told of each trial that has ended.
	Progress func(done, of int, t *Trial)
}

// A Suite is a target whose tenants have the records of a run.
type Suite struct {
	opt     Options
	http    *http.Client
	pace    *pacer
	run     string // names the run in ids and identifiers
	began   time.Time
	walk    int
	nowhere string
	ops     string

	order   []*party
	parties map[string]*party // by slug
	hunter  *Hunter
	// without are tenants that take no part, as they have no client to store
	// records with.
	without []string
	states  map[string]string // of each victim, when it was last looked at

	requests atomic.Int64
}

// moments are what two answers differ in because time passes.
var moments = regexp.MustCompile(`"(timestamp|lastUpdated)" ?: ?"[^"]*"`)

// Open gives each tenant of the target its records. They are removed by Close.
func Open(ctx context.Context, target *Target, opt Options) (*Suite, error) {
	s := &Suite{
		opt: opt, http: opt.HTTP, walk: cmp.Or(opt.Walk, 20), parties: map[string]*party{}, states: map[string]string{},
		pace: &pacer{every: time.Duration(float64(time.Second) / cmp.Or(opt.Rate, 200))},
		run:  strings.ToLower(Canary())[2:10], ops: target.Ops, began: time.Now().Add(-time.Minute).UTC(),
	}
	s.opt.Pool, s.opt.Times, s.opt.Settle = cmp.Or(opt.Pool, 50), cmp.Or(opt.Times, 1), cmp.Or(opt.Settle, 10*time.Second)
	if s.http == nil {
		s.http = &http.Client{
			Timeout:       time.Minute,
			Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 64, DisableCompression: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	for i, t := range target.Tenants {
		if err := s.enlist(ctx, i, t); err != nil {
			return nil, err
		}
	}
	if len(s.order) < 2 {
		return nil, errors.New("a boundary has two sides: the target has fewer than two tenants with a client that plays backend")
	}
	var err error
	if s.nowhere, err = target.nowhere(); err != nil {
		return nil, err
	}
	return s, s.seedAll(ctx)
}

// enlist makes a tenant a party, if there is a client to store its records with.
func (s *Suite) enlist(ctx context.Context, i int, t *Tenant) error {
	t.FHIRBase = strings.TrimSuffix(t.FHIRBase, "/")
	if t.Slug == "" || s.parties[t.Slug] != nil || !strings.HasPrefix(t.FHIRBase, "http") {
		return fmt.Errorf("tenant %d of the target has no slug of its own or no fhir_base", i+1)
	}
	if t.TokenURL == "" && len(t.Clients) > 0 && t.Clients[0].TokenFile == "" {
		if err := t.discover(ctx, s.http); err != nil {
			return err
		}
	}
	p, err := s.party(i, t)
	if err != nil {
		return err
	}
	if p.actors["backend"] == nil {
		s.without = append(s.without, t.Slug)
		return nil
	}
	s.order = append(s.order, p)
	s.parties[t.Slug] = p
	return nil
}

// Canaries are the words that were given to each tenant, by slug and place.
func (s *Suite) Canaries() map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, p := range s.order {
		all[p.Slug] = p.canaries
	}
	return all
}

// OnlyID is the id of one of the Patients that no tenant has but that with the
// slug.
func (s *Suite) OnlyID(slug string, i int) string { return s.onlyID(s.parties[slug], i) }

func (s *Suite) seedAll(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for _, p := range s.order {
		g.Go(func() error {
			if err := s.seed(gctx, p); err != nil {
				return fmt.Errorf("giving %s its records: %w", p.Slug, err)
			}
			return nil
		})
	}
	err := g.Wait()
	s.hunter = NewHunter(s.Canaries())
	if err != nil {
		_, rerr := s.Close(ctx)
		return errors.Join(err, rerr)
	}
	return nil
}

// Close removes what the run stored, and returns the references of what it could
// not remove. As everywhere in FHIR, past versions and the audit trail stay.
func (s *Suite) Close(ctx context.Context) (left []string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	for _, p := range s.order {
		stays, perr := s.remove(ctx, p)
		left, err = append(left, stays...), errors.Join(err, perr)
	}
	return left, err
}
