package smart

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

// Clients is the record of registered clients. store.Registry is one.
type Clients interface {
	// Client returns ErrUnknownClient if the tenant has none of the id.
	Client(ctx context.Context, t *tenant.Tenant, id string) (Client, error)
}

// clientLife is how long a registration is remembered, and so how long a token
// outlives its client.
const clientLife = time.Second

// maxClients bounds the registrations that are remembered.
const maxClients = 10_000

// registrations are those that were looked up just now.
type registrations struct {
	mu    sync.Mutex
	known map[registrant]registration
}

type registrant struct {
	tenant tenant.ID
	client string
}

type registration struct {
	good    bool
	updated time.Time
	until   time.Time
}

// AccountClient is the client of the tokens by which the authorization server
// itself looks at what it shows users of their own. It signs them and gives
// none of them away; no client is registered under the name.
const AccountClient = "__account"

// registered reports whether the client of the token may still use it: it is
// registered as it was when it got the token, and not disabled. Times in tokens
// are in seconds, so that is the precision of "when".
func (v *Verifier) registered(ctx context.Context, t *tenant.Tenant, tok *verified) (bool, error) {
	if v.cfg.Clients == nil || tok.claims.Client == AccountClient {
		return true, nil
	}
	r, err := v.registration(ctx, t, tok.claims.Client)
	return r.good && tok.claims.Issued >= r.updated.Unix(), err
}

func (v *Verifier) registration(ctx context.Context, t *tenant.Tenant, client string) (registration, error) {
	who, now := registrant{t.ID, client}, v.cfg.Now()
	v.registrations.mu.Lock()
	r, ok := v.registrations.known[who]
	v.registrations.mu.Unlock()
	if ok && now.Before(r.until) {
		return r, nil
	}
	c, err := v.cfg.Clients.Client(ctx, t, client)
	if err != nil && !errors.Is(err, ErrUnknownClient) {
		return registration{}, fmt.Errorf("looking up the client of a token: %w", err)
	}
	r = registration{good: err == nil && !c.Disabled, updated: c.Updated, until: now.Add(clientLife)}
	v.registrations.mu.Lock()
	defer v.registrations.mu.Unlock()
	if len(v.registrations.known) >= maxClients {
		clear(v.registrations.known)
	}
	v.registrations.known[who] = r
	return r, nil
}
