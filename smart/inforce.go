package smart

import (
	"context"
	"fmt"
	"sync"

	"github.com/cordon-fhir/cordon/tenant"
)

// Policies is the record of the policies of tenants. store.Registry is one.
type Policies interface {
	// Policy returns the text of the version of the tenant's policy.
	Policy(ctx context.Context, t *tenant.Tenant, version int64) (string, error)
}

// policies are those that were read, each in the version that was in force
// last.
type policies struct {
	mu    sync.Mutex
	known map[tenant.ID]inForce
}

type inForce struct {
	version int64
	policy  *Policy
}

// of returns the policy of the tenant in the version that t says. Nobody of a
// tenant whose policy cannot be read gets a Grant.
func (p *policies) of(ctx context.Context, src Policies, t *tenant.Tenant) (*Policy, error) {
	if t.PolicyVersion == tenant.FirstPolicy {
		return scopesPolicy, nil
	}
	p.mu.Lock()
	had := p.known[t.ID]
	p.mu.Unlock()
	if had.version == t.PolicyVersion {
		return had.policy, nil
	}
	if src == nil {
		return nil, fmt.Errorf("smart: nothing to read the policy of tenant %s from", t.Slug)
	}
	text, err := src.Policy(ctx, t, t.PolicyVersion)
	if err != nil {
		return nil, fmt.Errorf("looking up the policy of tenant %s: %w", t.Slug, err)
	}
	policy, err := ReadPolicy(text)
	if err != nil {
		return nil, fmt.Errorf("reading version %d of the policy of tenant %s: %w", t.PolicyVersion, t.Slug, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[t.ID].version < t.PolicyVersion {
		p.known[t.ID] = inForce{t.PolicyVersion, policy}
	}
	return policy, nil
}

// renewed looks the tenant with the slug up again, and its policy.
func (v *Verifier) renewed(ctx context.Context, slug string) (*tenant.Tenant, *Policy, error) {
	v.cfg.Tenants.Forget(slug)
	t, err := v.cfg.Tenants.Tenant(ctx, slug)
	if err != nil {
		return nil, nil, fmt.Errorf("looking up the tenant of a request again: %w", err)
	}
	if t.Status != tenant.Active {
		v.cfg.Tenants.Forget(slug) // it may be served again before what is remembered is old
		return nil, nil, Elsewhere()
	}
	policy, err := v.policies.of(ctx, v.cfg.Policies, t)
	return t, policy, err
}

// Renew brings g to the version of the policy that is in force now, for a
// request that the database refused because g was of another. Permits that g
// gave before are not to be used after. An error with code Forbidden says that
// the tenant is no longer served.
func (g *Grant) Renew(ctx context.Context) error {
	if g.renewed == nil {
		return Elsewhere()
	}
	t, policy, err := g.renewed(ctx)
	if err != nil {
		return err
	}
	g.tenant, g.policy, g.asker = t, policy, g.access.asker(t, g.at)
	g.agent.Policy = t.PolicyVersion
	if !t.Settings.BreakGlass.On() {
		g.glasses = nil
	}
	return nil
}

// scopesPolicy is that of a tenant which chose none: the scopes decide.
var scopesPolicy = func() *Policy {
	p, err := ReadPolicy(profiles["scopes"])
	if err != nil {
		panic(err) // a test reads it
	}
	return p
}()
