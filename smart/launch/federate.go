package launch

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/federation"
	"github.com/cordon-fhir/cordon/store"
)

// An away is a user who is at an identity provider: what the app asks, and what
// we have asked. It is sealed in storage, for the browser that is away.
type away struct {
	Provider string             `json:"provider"`
	Asked    federation.Request `json:"asked"`
	Request  request            `json:"request"`
}

// leavingForm is what the page shows that leads to a provider.
type leavingForm struct {
	frame
	To, Label string
}

// federate sends a user to an identity provider of the tenant.
// https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth
func (s *Server) federate(ctx context.Context, c *call) error {
	form, b, r, err := s.opened(ctx, c, loginPage)
	if err != nil {
		return err
	}
	p, err := s.provider(ctx, b, form.Get("provider"))
	if err != nil {
		return err
	}
	c.grant = smart.Denied(b.tenant, audit.Agent{}, c.origin)
	a := away{p.Name, federation.Request{
		State: newSecret(), Nonce: rand.Text(), Verifier: newSecret(), Callback: s.cfg.Issuer(c.slug) + "/callback/" + p.Name,
		Again: r.Again, Begun: s.cfg.Now(),
	}, r}
	to, err := s.federation.Begin(ctx, p, a.Asked)
	if err != nil {
		c.failed = &fault{"temporarily_unavailable", silent, http.StatusServiceUnavailable, err.Error()}
		return s.showLoginFor(ctx, c, b, r, silent)
	}
	if err := s.leave(ctx, b, a); err != nil {
		return err
	}
	// No redirection: browsers hold those to form-action of the page before.
	c.header.Set("Refresh", "0; url="+to)
	c.note = "sent to " + p.Name
	c.show(leaving(leavingForm{s.frame(b, "Log in"), to, p.Label}), request{})
	return nil
}

// What is said if a login at a provider comes to nothing. Why is in the audit
// trail.
const (
	silent      = "The identity provider does not answer. Try again later."
	notVouched  = "You were not logged in. Try again, or ask who looks after your access."
	nothingAway = "the login was not begun in this browser, is too old or was used; go back to the app and begin again"
)

func (s *Server) provider(ctx context.Context, b *browser, name string) (p smart.Provider, err error) {
	err = store.ErrUnknownProvider
	if smart.ValidProvider(name) {
		p, err = s.cfg.Registry.Provider(ctx, b.tenant, name)
	}
	if errors.Is(err, store.ErrUnknownProvider) {
		err = invalidRequest("there is no such identity provider")
	}
	return p, err
}

// leave keeps what the browser is away for.
func (s *Server) leave(ctx context.Context, b *browser, a away) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	sealed, err := b.keys.Seal(nil, keys.Cursor, text, formAD(awayPage, b.secret))
	if err != nil {
		return err
	}
	return s.cfg.Registry.StartIdentityRequest(ctx, b.tenant, a.Asked.State, b.secret, sealed, a.Asked.Begun.Add(requestLife))
}

// back takes up what the browser was away for, once.
func (s *Server) back(ctx context.Context, b *browser, state string) (a away, err error) {
	sealed, err := s.cfg.Registry.TakeIdentityRequest(ctx, b.tenant, state, b.secret)
	if errors.Is(err, store.ErrNoIdentityRequest) {
		return a, invalidRequest(nothingAway)
	}
	if err != nil {
		return a, err
	}
	text, err := b.keys.Open(keys.Cursor, sealed, formAD(awayPage, b.secret))
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	return a, err
}

// callback logs in who comes back from an identity provider.
// https://openid.net/specs/openid-connect-core-1_0.html#AuthResponse
func (s *Server) callback(ctx context.Context, c *call) error {
	form, err := readAuthorize(c.http)
	if err != nil {
		return err
	}
	b, err := s.browser(ctx, c)
	if err != nil {
		return err
	}
	a, err := s.back(ctx, b, form.Get("state"))
	if err != nil {
		return err
	}
	// Each provider has an address of its own to send users back to, so that
	// one cannot pass for another.
	// https://www.rfc-editor.org/rfc/rfc9700#section-4.4.2.2
	if !strings.HasSuffix(c.http.URL.Path, "/callback/"+a.Provider) {
		return invalidRequest("the login was begun at another identity provider")
	}
	p, err := s.provider(ctx, b, a.Provider)
	if err != nil {
		return err
	}
	c.grant = smart.Denied(b.tenant, audit.Agent{}, c.origin) // of nobody, yet
	if form.Get("error") != "" {
		return s.notVouched(ctx, c, b, a, "the provider refused")
	}
	said, err := s.federation.Finish(ctx, p, a.Asked, form.Get("code"), form.Get("iss"))
	if err != nil {
		return s.notVouched(ctx, c, b, a, err.Error())
	}
	who := store.Identity{Source: p.Name, Subject: said.Subject, Time: said.Time, ACR: said.ACR, AMR: said.AMR}
	who.User, who.Person, err = p.Mapping.Of(said.Claims, s.cfg.Base(c.slug))
	c.grant = smart.Denied(b.tenant, agentOf(who), c.origin)
	if err != nil {
		return s.notVouched(ctx, c, b, a, err.Error())
	}
	let, err := s.cfg.Registry.AdmitProviderUser(ctx, b.tenant, p, who.Subject)
	if err != nil {
		return err
	}
	if !let {
		return s.notVouched(ctx, c, b, a, "the user is not let in")
	}
	if err := s.begin(ctx, c, b, who); err != nil {
		return err
	}
	c.note = "logged in by " + p.Name
	return s.loggedIn(ctx, c, b, a.Request)
}

// notVouched shows the login page to who was not logged in by a provider.
func (s *Server) notVouched(ctx context.Context, c *call, b *browser, a away, why string) error {
	c.failed = &fault{"access_denied", notVouched, http.StatusUnauthorized, why}
	return s.showLoginFor(ctx, c, b, a.Request, notVouched)
}

// withoutOffline takes offline_access off scopes. Whoever an identity provider
// vouches for, it does so for a session: nobody asks it again whether the user
// still is who they were.
func withoutOffline(scope string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(scope), func(w string) bool { return w == "offline_access" }), " ")
}
