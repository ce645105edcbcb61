package smart

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/tenant"
)

// Config is what a Verifier needs.
type Config struct {
	Tenants *tenant.Registry // required
	Keys    *keys.Keyring    // required

	// Base returns the FHIR base URL of a tenant, without a slash at its end.
	// It is the audience of the tenant's tokens. Required.
	Base func(slug string) string
	// Issuer returns the issuer of a tenant's tokens. Required.
	Issuer func(slug string) string

	// Policies are where the policies of tenants are read. Required for
	// tenants that have chosen one: without, they are not served.
	Policies Policies
	// Clients are looked up for their tokens: who is disabled, removed or
	// registered anew has no further use of those it holds. Default: a token
	// is good until it expires.
	Clients Clients
	// Revocations are looked up for what is void although it has not expired.
	// Default: nothing is.
	Revocations Revocations
	// Outside knows the authorization servers that tenants trust instead of their
	// own. Required for tenants that do: without, they take no token.
	Outside Outside
	// Glasses are looked up for the records that a user may see in an emergency.
	// Default: none.
	Glasses Glasses
	// IsAdmin reports whether a bearer is for the control plane, which has no
	// business with records. Default: none is.
	IsAdmin func(bearer string) bool
	// Alert is told of what looks like an attack. Default: nobody is.
	Alert func(Alert)
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// A Verifier turns bearer tokens into Grants.
type Verifier struct {
	cfg           Config
	seen          tokens
	registrations registrations
	policies      policies
	revoked       *revoked
	asking        singleflight.Group // of outside issuers, by the digest of the token
	glasses       *glasses
}

// NewVerifier returns a Verifier.
func NewVerifier(cfg Config) (*Verifier, error) {
	if cfg.Tenants == nil || cfg.Keys == nil || cfg.Base == nil || cfg.Issuer == nil {
		return nil, errors.New("smart: Config needs Tenants, Keys, Base and Issuer")
	}
	if cfg.IsAdmin == nil {
		cfg.IsAdmin = func(string) bool { return false }
	}
	if cfg.Alert == nil {
		cfg.Alert = func(Alert) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{
		cfg: cfg, seen: tokens{byTenant: map[string]map[digest]*verified{}},
		registrations: registrations{known: map[registrant]registration{}},
		policies:      policies{known: map[tenant.ID]inForce{}},
		revoked:       newRevoked(cfg.Revocations, cfg.Now),
		glasses:       newGlasses(cfg.Glasses, cfg),
	}, nil
}

// A verified token, for as long as it is good.
type verified struct {
	claims Token
	agent  audit.Agent
	access *access
	kid    string // the key that proved it
	// outside is nil for a token that the tenant's own issuer has signed.
	outside *fromOutside
}

func (t *verified) valid(now time.Time) bool {
	if t.outside != nil {
		return t.claims.timely(now)
	}
	return t.claims.valid(now)
}

// Grant returns what the bearer may do for the tenant that the slug names. The
// slug is as the client wrote it.
//
// A *fhir.Error with code Login says that there is no good token, with code
// Forbidden that the token is good but not here: it is another tenant's, or its
// tenant is not active, or it is for the control plane. The words are the same
// whether or not the slug names a tenant. With Forbidden comes a Grant of the
// token's own tenant that permits nothing, for its audit trail, or nil if it
// has no tenant. Any other error is ours.
func (v *Verifier) Grant(ctx context.Context, slug, bearer string, o audit.Origin) (*Grant, error) {
	if bearer == "" {
		return nil, fhir.Errorf(fhir.Login, "a bearer token is required")
	}
	if len(bearer) > maxToken {
		return nil, badToken()
	}
	key := digest(sha256.Sum256([]byte(bearer)))
	tok, tn, err := v.recall(ctx, slug, bearer, key)
	if err == nil && tok == nil {
		if v.cfg.IsAdmin(bearer) {
			v.alert(AdminOnData, "", slug, "", o)
			return nil, Elsewhere()
		}
		tok, tn, err = v.verify(ctx, slug, bearer, key, o)
	}
	if err != nil {
		return nil, err
	}
	g, err := v.grant(ctx, slug, tn, tok, o)
	if err != nil {
		return g, err
	}
	if err := v.throughGlass(ctx, g); err != nil {
		return nil, err
	}
	return g, nil
}

// ErrNoToken says that a text is no token that is good at the tenant.
var ErrNoToken = errors.New("smart: not a good token of the tenant")

// Inspect returns what the token says, if it is good at the tenant with the
// slug, or ErrNoToken. It opens nothing.
func (v *Verifier) Inspect(ctx context.Context, slug, bearer string) (Token, error) {
	u, err := parseToken(bearer)
	if err != nil || u.claims.Tenant != slug || u.claims.Issuer != v.cfg.Issuer(slug) {
		return Token{}, ErrNoToken
	}
	tn, set, err := v.issuer(ctx, slug)
	if err != nil {
		return Token{}, err
	}
	if set == nil {
		return Token{}, ErrNoToken
	}
	claims, err := u.verify(set)
	if err != nil || !claims.valid(v.cfg.Now()) {
		return Token{}, ErrNoToken
	}
	tok, err := v.admit(claims, u.kid)
	if err != nil {
		return Token{}, ErrNoToken
	}
	_, err = v.grant(ctx, slug, tn, tok, audit.Origin{})
	if fhir.IsCode(err, fhir.Login) || fhir.IsCode(err, fhir.Forbidden) {
		return Token{}, ErrNoToken
	}
	return claims, err
}

// grant returns what a verified token of the tenant allows now, for a request
// to the tenant with the slug.
func (v *Verifier) grant(ctx context.Context, slug string, tn *tenant.Tenant, tok *verified, o audit.Origin) (*Grant, error) {
	agent := tok.agent
	agent.Policy = tn.PolicyVersion
	if tn.Slug.String() != slug || tn.Status != tenant.Active {
		return Denied(tn, agent, o), Elsewhere()
	}
	// Whom another issuer gives tokens to is registered there.
	if tok.outside == nil {
		if ok, err := v.registered(ctx, tn, tok); err != nil || !ok {
			return nil, cmp.Or(err, badToken())
		}
	}
	if void, err := v.revoked.holds(ctx, tn, tok.claims); err != nil || void {
		return nil, cmp.Or(err, badToken())
	}
	policy, err := v.policies.of(ctx, v.cfg.Policies, tn)
	if err != nil {
		return nil, err
	}
	at := v.cfg.Now()
	return &Grant{
		tenant: tn, agent: agent, origin: o, access: tok.access, token: tok, policy: policy, at: at, asker: tok.access.asker(tn, at),
		renewed: func(ctx context.Context) (*tenant.Tenant, *Policy, error) { return v.renewed(ctx, slug) },
	}, nil
}

// recall returns a token that was verified before at the tenant it is for, nil
// if there is none. The tenant and its key are looked at again, so that a token
// does not outlive either. A slug with no such token is not looked up: how long
// the answer takes must not tell whether it names a tenant.
func (v *Verifier) recall(ctx context.Context, slug, bearer string, key digest) (*verified, *tenant.Tenant, error) {
	tok := v.seen.get(slug, key)
	if tok == nil || !tok.valid(v.cfg.Now()) {
		return nil, nil, nil
	}
	if tok.outside != nil {
		return v.recallOutside(ctx, slug, bearer, tok)
	}
	tn, set, err := v.issuer(ctx, slug)
	if err != nil || set == nil {
		return nil, nil, err
	}
	if set.VerifyingKey(tok.kid) == nil {
		return nil, nil, nil
	}
	return tok, tn, nil
}

// Remembers reports whether the bearer was good at the tenant a while ago, so
// that asking again costs next to nothing.
func (v *Verifier) Remembers(slug, bearer string) bool {
	tok := v.seen.get(slug, digest(sha256.Sum256([]byte(bearer))))
	return tok != nil && tok.valid(v.cfg.Now())
}

// issuer returns the tenant and its keys, nil if there is none that signs its
// tokens with them.
func (v *Verifier) issuer(ctx context.Context, slug string) (*tenant.Tenant, *keys.Set, error) {
	tn, err := v.cfg.Tenants.Tenant(ctx, slug)
	if errors.Is(err, tenant.ErrUnknown) || err == nil && tn.Issuer != 0 {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("looking up the tenant of a token: %w", err)
	}
	set, err := v.cfg.Keys.Of(ctx, tn.ID)
	if err != nil {
		return nil, nil, err
	}
	return tn, set, nil
}

// verify checks a token against the tenant that it claims to be of, which need
// not be the one with the slug.
func (v *Verifier) verify(ctx context.Context, slug, bearer string, key digest, o audit.Origin) (*verified, *tenant.Tenant, error) {
	u, err := parseToken(bearer)
	if err != nil || !v.ours(u.claims.Issuer) {
		return v.verifyOutside(ctx, slug, bearer, key, o)
	}
	own, client := u.claims.Tenant, u.claims.Client
	if u.claims.Issuer != v.cfg.Issuer(own) {
		return nil, nil, v.misnamed(ctx, slug, u.claims, o)
	}
	tn, set, err := v.issuer(ctx, own)
	if err != nil {
		return nil, nil, err
	}
	if set == nil {
		return nil, nil, badToken()
	}
	claims, err := u.verify(set)
	if err != nil {
		v.alert(MutatedClaims, own, slug, client, o)
		return nil, nil, badToken()
	}
	if !claims.valid(v.cfg.Now()) {
		return nil, nil, badToken()
	}
	tok, err := v.admit(claims, u.kid)
	if err != nil {
		v.alert(MutatedClaims, own, slug, client, o)
		return nil, nil, badToken()
	}
	if own != slug {
		v.alert(CrossTenant, own, slug, client, o)
		return tok, tn, nil
	}
	v.seen.put(own, key, tok, v.cfg.Now())
	return tok, tn, nil
}

// misnamed refuses a token whose tenant is not its issuer's. If there is such an
// issuer somebody has changed the token.
func (v *Verifier) misnamed(ctx context.Context, slug string, claims Token, o audit.Origin) error {
	own := strings.TrimPrefix(claims.Issuer, strings.TrimSuffix(v.cfg.Issuer("a"), "a"))
	tn, _, err := v.issuer(ctx, own)
	if err != nil {
		return err
	}
	if tn != nil {
		v.alert(MutatedClaims, own, slug, claims.Client, o)
	}
	return badToken()
}

// admit reads the claims that a token's own tenant has signed.
func (v *Verifier) admit(claims Token, kid string) (*verified, error) {
	base := v.cfg.Base(claims.Tenant)
	if claims.Audience != base {
		return nil, errToken
	}
	user, err := claims.fhirUser(base)
	if err != nil {
		return nil, err
	}
	var scopes []Scope
	// A user may let an app know who they are, and touch no resource.
	if claims.Scope != "" || claims.Words == "" {
		if scopes, err = ParseScopes(claims.Scope); err != nil {
			return nil, err
		}
	}
	agent := audit.Agent{Client: claims.Client, Issuer: claims.Issuer, TokenID: claims.ID, Purpose: claims.Purpose}
	claims.Person.known(&agent)
	switch {
	case !user.IsZero():
		agent.User = user.String()
	case claims.Subject != claims.Client:
		agent.User = claims.Subject
	}
	a := (&access{
		scopes: scopes, patient: claims.Patient, encounter: claims.Encounter, user: user,
		client: claims.Client, purpose: claims.Purpose, person: claims.Person,
	}).named(claims.Tenant, claims.Issuer, claims.Subject)
	agent.Access = a.kept(claims.Scope)
	return &verified{claims: claims, agent: agent, kid: kid, access: a}, nil
}

func badToken() error { return fhir.Errorf(fhir.Login, "the bearer token is not valid") }

// Elsewhere is the answer to a good token in the wrong place. It must not tell
// one place from another.
func Elsewhere() error { return fhir.Errorf(fhir.Forbidden, "the token gives no access here") }
