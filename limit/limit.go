// Package limit bounds how much a tenant, each of its clients and each address
// may ask of this process, and says whose turn it is.
//
// It counts in memory and knows nothing of other processes: with three of them
// behind a balancer a client may ask up to three times as much.
package limit

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

// Config says how much strangers may ask. The zero Config is the default; what
// tenants and their clients may ask is in tenant.Settings.
type Config struct {
	// Strangers bounds the requests that prove nobody, per second and address,
	// those without a good token. Default 500.
	Strangers int
	// Logins bounds the requests to the authorization servers, per second and
	// address. Default 100.
	Logins int
	// Tokens bounds the tokens that one client is given per second. Default 20.
	Tokens int
	// Turns is how many requests of a tenant are in work at once while others
	// ask. Default: as many as there are processors, and 2 at least.
	Turns int
	// Wait is how long a request waits for its turn. Default 10s.
	Wait time.Duration
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// Who asks: a client, and the user that it acts for, "" if there is none.
type Who struct{ Client, User string }

// A Limiter counts. It is safe for concurrent use.
type Limiter struct {
	cfg       Config
	strangers *people[netip.Prefix]
	logins    *people[netip.Prefix]
	turns     *turns

	mu      sync.Mutex
	tenants map[tenant.ID]*shop
}

// A shop is what is counted of one tenant. Each has room of its own, so that
// what happens at one tenant does not make another's be forgotten.
type shop struct {
	tenant   *tenant.Tenant // as it was last seen
	requests bucket
	cost     bucket
	clients  *people[Who]
	tokens   *people[Who]
}

// Bounds of what is remembered.
const (
	maxClients   = 20_000 // of a tenant
	maxAddresses = 100_000
	// idle is after how long whoever asks nothing may be forgotten: longer than
	// any bucket takes to fill.
	idle = 10 * time.Minute
)

// New returns a Limiter that has seen nobody.
func New(cfg Config) *Limiter {
	if cfg.Strangers == 0 {
		cfg.Strangers = 500
	}
	if cfg.Logins == 0 {
		cfg.Logins = 100
	}
	if cfg.Tokens == 0 {
		cfg.Tokens = 20
	}
	if cfg.Wait == 0 {
		cfg.Wait = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Limiter{
		cfg: cfg, tenants: map[tenant.ID]*shop{},
		strangers: newPeople[netip.Prefix](maxAddresses), logins: newPeople[netip.Prefix](maxAddresses),
		turns: newTurns(cfg.Turns, cfg.Now),
	}
}

// shop returns what is counted of the tenant.
func (l *Limiter) shop(t *tenant.Tenant) *shop {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.tenants[t.ID]
	if s == nil {
		s = &shop{clients: newPeople[Who](maxClients), tokens: newPeople[Who](maxClients)}
		l.tenants[t.ID] = s
	}
	s.tenant = t
	return s
}

// Take counts a request of w. If there is no room for it, wait is how long
// there is none and report says how the refusal is to be audited.
func (l *Limiter) Take(t *tenant.Tenant, w Who) (wait time.Duration, report Report) {
	s, now, set := l.shop(t), l.cfg.Now(), t.Settings.Limits.OrDefault()
	s.clients.with(w, now, func(p *person) {
		requests := set.Client.Requests
		if now.Before(p.slowUntil) {
			requests = min(requests, slowed)
		}
		// Nothing is taken unless there is room everywhere, so that whoever is
		// refused does not use up what is the others'.
		wait = max(p.requests.wait(now, requests), p.cost.wait(now, set.Client.Cost),
			s.requests.wait(now, set.Tenant.Requests), s.cost.wait(now, set.Tenant.Cost))
		if wait > 0 {
			report = p.refuse(now)
			return
		}
		p.requests.take(1)
		s.requests.take(1)
	})
	return wait, report
}

// Spend counts what a request of w took, known once it was answered. Whoever
// has spent more than there was waits until it has come back.
func (l *Limiter) Spend(t *tenant.Tenant, w Who, cost int) {
	s, now, set := l.shop(t), l.cfg.Now(), t.Settings.Limits.OrDefault()
	s.clients.with(w, now, func(p *person) {
		p.cost.wait(now, set.Client.Cost)
		s.cost.wait(now, set.Tenant.Cost)
		p.cost.take(cost)
		s.cost.take(cost)
	})
}

// Turn waits until a request of w may be worked on, and returns what to call,
// once, when that is done. The error is ErrFull, or that its time is over; then
// report says how the refusal is to be audited.
func (l *Limiter) Turn(ctx context.Context, t *tenant.Tenant, w Who) (done func(), report Report, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Wait)
	defer cancel()
	if done, err = l.turns.take(ctx, t.ID, false); err != nil {
		now := l.cfg.Now()
		l.shop(t).clients.with(w, now, func(p *person) { report = p.refuse(now) })
	}
	return done, report, err
}

// LaterTurn is Turn for a request that is not to be refused: the error is that of
// ctx.
func (l *Limiter) LaterTurn(ctx context.Context, t *tenant.Tenant) (done func(), err error) {
	return l.turns.take(ctx, t.ID, true)
}

// slowed is how many requests per second are left to whoever does what looks
// like an attack: enough for people, should it be none.
const slowed = 200

// Slow leaves w few requests until the time.
func (l *Limiter) Slow(t *tenant.Tenant, w Who, until time.Time) {
	l.shop(t).clients.with(w, l.cfg.Now(), func(p *person) { p.slowUntil = until })
}

// Token counts a token that is given to the client; see Take.
func (l *Limiter) Token(t *tenant.Tenant, client string) (wait time.Duration, report Report) {
	now := l.cfg.Now()
	l.shop(t).tokens.with(Who{Client: client}, now, func(p *person) { wait, report = p.one(now, l.cfg.Tokens) })
	return wait, report
}

// Login counts a request from the address to an authorization server; see Take.
func (l *Limiter) Login(address string) (wait time.Duration, report Report) {
	now := l.cfg.Now()
	l.logins.with(network(address), now, func(p *person) { wait, report = p.one(now, l.cfg.Logins) })
	return wait, report
}

// Stranger is how long there is no room for requests from the address that
// prove nobody. It counts nothing: Failed does, once that is known.
func (l *Limiter) Stranger(address string) (wait time.Duration) {
	now := l.cfg.Now()
	l.strangers.with(network(address), now, func(p *person) { wait = p.requests.wait(now, l.cfg.Strangers) })
	return wait
}

// Failed counts a request from the address that proved nobody.
func (l *Limiter) Failed(address string) {
	now := l.cfg.Now()
	l.strangers.with(network(address), now, func(p *person) {
		p.requests.wait(now, l.cfg.Strangers)
		p.requests.take(1)
	})
}

// Refused counts a request from the address for which Stranger had no room.
func (l *Limiter) Refused(address string) (report Report) {
	now := l.cfg.Now()
	l.strangers.with(network(address), now, func(p *person) { report = p.refuse(now) })
	return report
}

// network is what is counted as one address: whoever has one of IPv6 has as
// many as a /64 holds.
func network(address string) netip.Prefix {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // an address has so many bits
	return p
}
