package smart

import (
	"context"
	"crypto/rand"
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
}

// place is the associated data of a sealed grantRef.
func (grantRef) place(t *tenant.Tenant) []byte { return fmt.Appendf(nil, "grant|%s", t.ID) }

// Keep returns the name of g, by which Resume earns it again. It holds no
// bearer and gives nobody access.
func (v *Verifier) Keep(ctx context.Context, g *Grant) ([]byte, error) {
	if g == nil || g.tenant == nil || g.token == nil {
		return nil, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	set, err := v.cfg.Keys.Of(ctx, g.tenant.ID)
	if err != nil {
		return nil, err
	}
	ref := grantRef{g.token.claims, g.token.kid}
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
// registered anew, or the tenant's key was changed.
func (v *Verifier) Resume(ctx context.Context, t *tenant.Tenant, kept []byte, o audit.Origin) (*Grant, error) {
	tn, set, err := v.issuer(ctx, t.Slug.String())
	if err != nil {
		return nil, err
	}
	if set == nil || tn.ID != t.ID {
		return nil, badToken()
	}
	var ref grantRef
	plain, err := set.Open(keys.Cursor, kept, ref.place(tn))
	if err != nil || json.Unmarshal(plain, &ref) != nil {
		return nil, badToken()
	}
	if _, kid := set.SigningKey(); ref.Key != kid || ref.Claims.Issuer != v.cfg.Issuer(ref.Claims.Tenant) {
		return nil, badToken()
	}
	tok, err := v.admit(ref.Claims, ref.Key)
	if err != nil {
		return nil, badToken()
	}
	return v.grant(ctx, tn.Slug.String(), tn, tok, o)
}

// TakingUp returns the Grant of the tenant's own work on requests that are
// answered later: it finds them and hands them out, and sees nothing of what
// they are about. What they ask is done under a Grant that Resume earns.
func TakingUp(t *tenant.Tenant, server string) *Grant {
	a := (&access{takesUp: true}).named(t.ID.String(), "taking up")
	return &Grant{
		tenant: t, access: a,
		agent:  audit.Agent{Client: "cordon-later"},
		origin: audit.Origin{RequestID: rand.Text(), Method: "JOB", Server: server, Trail: audit.NewTrail()},
	}
}
