package launch

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// registrationOf is where the client manages its registration.
func (s *Server) registrationOf(c *call, client string) string {
	return s.cfg.Issuer(c.slug) + "/register/" + client
}

// An ownApp is an app that has proved to be the one whose registration it asks
// about.
type ownApp struct {
	tenant *tenant.Tenant
	client smart.Client
	token  string
}

// ownRegistration takes the token that an app got when it registered itself.
// What is wrong with it, or whether there is such an app, is not told.
// https://www.rfc-editor.org/rfc/rfc7592#section-2
func (s *Server) ownRegistration(ctx context.Context, c *call) (app ownApp, err error) {
	refused := &fault{"invalid_token", "the registration access token is not accepted", http.StatusUnauthorized, "not the token of the registration"}
	t, _, err := s.tenant(ctx, c)
	if err != nil {
		return app, err
	}
	kind, token, _ := strings.Cut(c.http.Header.Get("Authorization"), " ")
	if t == nil || !strings.EqualFold(kind, "Bearer") || len(c.http.Header.Values("Authorization")) != 1 || !validName(c.item) {
		return app, refused
	}
	client, err := s.cfg.Registry.Client(ctx, t, c.item)
	if errors.Is(err, smart.ErrUnknownClient) || err == nil && !client.IsRegistration(token) {
		return app, refused
	}
	if err != nil {
		return app, err
	}
	c.client, c.grant = &client, smart.Denied(t, audit.Agent{Client: client.ID}, c.origin)
	return ownApp{t, client, token}, nil
}

// answerOf is what the app is told of its registration.
func (s *Server) answerOf(c *call, app ownApp) registeredApp {
	return registeredApp{ID: app.client.ID, Token: app.token, URI: s.registrationOf(c, app.client.ID), metadata: metadataOf(app.client)}
}

func metadataOf(client smart.Client) metadata {
	m := metadata{
		RedirectURIs: client.RedirectURIs, Name: client.Name, Method: cmp.Or(client.Method, smart.PrivateKeyJWT),
		GrantTypes: []string{"authorization_code", "refresh_token"}, Scope: strings.Join(client.Scopes, " "), KeysURI: client.JWKSURI,
	}
	if m.Method == smart.ClientSecret {
		m.Method = "client_secret_basic"
	}
	if len(client.JWKS) > 0 {
		m.JWKS = jsontext.Value(client.JWKS)
	}
	return m
}

// readRegistration tells an app what it is registered as.
// https://www.rfc-editor.org/rfc/rfc7592#section-2.1
func (s *Server) readRegistration(ctx context.Context, c *call) error {
	app, err := s.ownRegistration(ctx, c)
	if err != nil {
		return err
	}
	c.note = "read its registration"
	c.answer = s.answerOf(c, app)
	return nil
}

// An updated registration is all of what the app says of itself now.
type updated struct {
	metadata
	ID      string         `json:"client_id"`
	Secret  string         `json:"client_secret"`
	Token   jsontext.Value `json:"registration_access_token"`
	URI     jsontext.Value `json:"registration_client_uri"`
	Expires jsontext.Value `json:"client_secret_expires_at"`
	Issued  jsontext.Value `json:"client_id_issued_at"`
}

// updateRegistration replaces what an app is registered as. Whoever had to let it
// in has to do so again: it is another app now, which its users have not agreed
// to, and an operator has not looked at.
// https://www.rfc-editor.org/rfc/rfc7592#section-2.2
func (s *Server) updateRegistration(ctx context.Context, c *call) error {
	app, err := s.ownRegistration(ctx, c)
	if err != nil {
		return err
	}
	rules := app.tenant.Settings.Registration
	if rules.Policy == "" {
		const why = "apps do not register themselves here any more"
		return &fault{"access_denied", why, http.StatusForbidden, why}
	}
	var u updated
	if err := readMetadata(c.http, &u); err != nil {
		return err
	}
	if u.ID != app.client.ID || u.Secret != "" && !app.client.IsSecret(u.Secret) || u.Token != nil || u.URI != nil || u.Expires != nil || u.Issued != nil {
		return invalidMetadata("client_id has to be that of the app, client_secret its own; what the server says of the registration is not for the app to say")
	}
	if err := u.hold(rules, s.cfg.Now()); err != nil {
		return err
	}
	next, secret, err := u.client(rules.Scopes)
	if err != nil {
		return err
	}
	next.ID, next.Registration = app.client.ID, app.client.Registration
	next.Disabled = app.client.Disabled || rules.Policy != tenant.Statement
	if next.Method == smart.ClientSecret && app.client.Method == smart.ClientSecret {
		next.Secret, secret = app.client.Secret, ""
	}
	if next.Disabled && !app.client.Disabled {
		if err := s.roomToWait(ctx, app.tenant); err != nil {
			return err
		}
	}
	if err := s.cfg.Registry.RevokeClient(ctx, app.tenant, next.ID); err != nil {
		return err
	}
	if _, err := s.cfg.Registry.PutClient(ctx, app.tenant, next); err != nil {
		return err
	}
	s.settle(ctx)
	c.note = "changed its registration"
	if next.Disabled {
		c.note += ", waits for an operator"
	}
	app.client = next
	answer := s.answerOf(c, app)
	answer.keep(secret)
	c.answer = answer
	return nil
}

// removeRegistration removes an app that asks for it, and makes void all that its
// users have let it do.
// https://www.rfc-editor.org/rfc/rfc7592#section-2.3
func (s *Server) removeRegistration(ctx context.Context, c *call) error {
	app, err := s.ownRegistration(ctx, c)
	if err != nil {
		return err
	}
	if err := s.cfg.Registry.RemoveClient(ctx, app.tenant, app.client.ID); err != nil {
		return err
	}
	s.settle(ctx)
	c.note, c.empty = "removed its registration", true
	return nil
}
