package smart

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/tenant"
)

// A grantRef names a Grant for work that goes on after its request: what its
// token said and the key that proved it. Outside of this package it is sealed
// under the tenant's key, so nobody can make one of a Grant that never was.
type grantRef struct {
	Claims Token  `json:"claims"`
	Key    string `json:"key"`
	// Version is that of the outside issuer that the tenant trusted, or 0.
	Version int64 `json:"version,omitzero"`
}

// place is the associated data of a sealed grantRef.
func (grantRef) place(t *tenant.Tenant) []byte { return fmt.Appendf(nil, "grant|%s", t.ID) }

// Keep returns the name of g, by which Resume earns it again. It holds no
// bearer and gives nobody access.
func (v *Verifier) Keep(ctx context.Context, g *Grant) ([]byte, error) {
	if g == nil || g.tenant == nil || g.token == nil {
		return nil, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	// Its issuer is asked about it again and again, and we keep no bearer to ask
	// with.
	if o := g.token.outside; o != nil && o.issuer.introspects() {
		return nil, fhir.Errorf(fhir.NotSupported, "nothing is done later with a token whose issuer is asked about it each time")
	}
	set, err := v.cfg.Keys.Of(ctx, g.tenant.ID)
	if err != nil {
		return nil, err
	}
	ref := grantRef{g.token.claims, g.token.kid, g.tenant.Issuer}
	plain, err := json.Marshal(ref)
	if err != nil {
		return nil, fmt.Errorf("keeping a grant: %w", err)
	}
	return set.Seal(nil, keys.Cursor, plain, ref.place(g.tenant))
}

// Resume earns the Grant that was kept again, for the tenant t and the request
// o. It asks all that Grant asks, with what is known now, except whether the time
// of the token is over: how long work may go on is for whoever keeps it to
// bound. A *fhir.Error with code Login or Forbidden says that the Grant is no
// longer to be had: the tenant is not active, the client is disabled, removed or
// registered anew, or the tenant believes the token's key no more.
func (v *Verifier) Resume(ctx context.Context, t *tenant.Tenant, kept []byte, o audit.Origin) (*Grant, error) {
	tn, err := v.cfg.Tenants.Tenant(ctx, t.Slug.String())
	if err != nil && !errors.Is(err, tenant.ErrUnknown) {
		return nil, fmt.Errorf("looking up the tenant of a grant: %w", err)
	}
	if err != nil || tn.ID != t.ID {
		return nil, badToken()
	}
	set, err := v.cfg.Keys.Of(ctx, tn.ID)
	if err != nil {
		return nil, err
	}
	var ref grantRef
	plain, err := set.Open(keys.Cursor, kept, ref.place(tn))
	if err != nil || json.Unmarshal(plain, &ref) != nil || ref.Version != tn.Issuer {
		return nil, badToken()
	}
	tok, err := v.admit(ref.Claims, ref.Key)
	if err != nil {
		return nil, badToken()
	}
	if tn.Issuer != 0 {
		tok.outside, err = v.stillTrusted(ctx, tn, ref)
	} else if set.VerifyingKey(ref.Key) == nil || ref.Claims.Issuer != v.cfg.Issuer(ref.Claims.Tenant) {
		err = badToken()
	}
	if err != nil {
		return nil, err
	}
	return v.grant(ctx, tn.Slug.String(), tn, tok, o)
}

// stillTrusted returns what the kept token has of its issuer, which the tenant
// trusts as it did and which has the key that it had.
func (v *Verifier) stillTrusted(ctx context.Context, t *tenant.Tenant, ref grantRef) (*fromOutside, error) {
	if v.cfg.Outside == nil {
		return nil, badToken()
	}
	is, err := v.cfg.Outside.Issuer(ctx, t)
	if err != nil {
		return nil, unreachable(err)
	}
	if is == nil || is.introspects() {
		return nil, badToken()
	}
	key, err := v.cfg.Outside.Key(ctx, is, ref.Key)
	if err != nil {
		return nil, unreachable(err)
	}
	if key == nil {
		return nil, badToken()
	}
	return &fromOutside{issuer: is, key: key}, nil
}

// TakingUp returns the Grant of the tenant's own work on requests that are
// answered later: it finds them and hands them out, and sees nothing of what
// they are about. What they ask is done under a Grant that Resume earns.
func TakingUp(t *tenant.Tenant) *Grant {
	a := (&access{takesUp: true}).named(t.ID.String(), "taking up")
	return &Grant{
		tenant: t, access: a,
		agent:  audit.Agent{Client: "cordon-later"},
		origin: audit.Origin{RequestID: rand.Text(), Method: "JOB", Trail: audit.NewTrail()},
	}
}
