package launch

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

var b64 = base64.RawURLEncoding

// A browser is who looks at our pages: at first only a cookie, which binds
// forms to it, then a user with a session.
type browser struct {
	tenant *tenant.Tenant
	keys   *keys.Set
	// secret is the cookie. A login replaces it.
	secret  string
	session store.Session // of nobody, as long as its ID is ""
}

// sessionLife is how long a login lasts at most: a long shift.
const sessionLife = 12 * time.Hour

// cookieName is different for each tenant, as all share an origin. Browsers
// take a name with __Host- only from this host, over TLS, for no other.
// https://www.rfc-editor.org/rfc/rfc6265
func cookieName(slug string) string { return "__Host-cordon-" + slug }

// browser returns who asks, at the tenant in the path. The cookie that it must
// show from now on is in the answer.
func (s *Server) browser(ctx context.Context, c *call) (*browser, error) {
	t, set, err := s.tenant(ctx, c)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, noSuchTenant()
	}
	b := &browser{tenant: t, keys: set}
	if cookies := c.http.CookiesNamed(cookieName(c.slug)); len(cookies) == 1 && len(cookies[0].Value) <= maxName {
		b.secret = cookies[0].Value
	}
	if b.secret == "" {
		b.setCookie(c, newSecret())
		return b, nil
	}
	b.session, err = s.cfg.Registry.Session(ctx, t, b.secret)
	if err != nil && !errors.Is(err, store.ErrNoSession) {
		return nil, err
	}
	if b.loggedIn() {
		c.grant = smart.Denied(t, b.agent(), c.origin)
	}
	return b, nil
}

// setCookie gives the browser a new secret.
func (b *browser) setCookie(c *call, secret string) {
	b.secret = secret
	c.cookie = &http.Cookie{
		Name: cookieName(c.slug), Value: secret, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

func (b *browser) loggedIn() bool { return b.session.ID != "" }

// agent is the user, for the audit trail.
func (b *browser) agent() audit.Agent { return agentOf(b.session.Identity) }

func agentOf(who store.Identity) audit.Agent {
	if who.User != "" {
		return audit.Agent{User: who.User}
	}
	return audit.Agent{User: subjectOf(who)}
}

// begin makes a session of who has logged in, however they did. All that comes
// after a login comes from here: another way to log in ends in the same call.
func (s *Server) begin(ctx context.Context, c *call, b *browser, who store.Identity) error {
	now := s.cfg.Now()
	if who.Time.IsZero() { // else the identity provider knows better
		who.Time = now
	}
	session := store.Session{ID: rand.Text(), Identity: who, Expires: now.Add(sessionLife)}
	secret := newSecret() // never one that the browser had before
	if err := s.cfg.Registry.StartSession(ctx, b.tenant, session, secret); err != nil {
		return err
	}
	b.session = session
	b.setCookie(c, secret)
	c.grant = smart.Denied(b.tenant, b.agent(), c.origin)
	return nil
}

// own refuses a form that another site's page has sent.
var crossOrigin = http.NewCrossOriginProtection()

func own(r *http.Request) error {
	if crossOrigin.Check(r) != nil {
		return invalidRequest("the form is not one of ours")
	}
	return nil
}

// newSecret returns 256 bits that nobody can guess, as letters and digits.
func newSecret() string { return rand.Text() + rand.Text() }
