// Package federation asks the identity providers of tenants who their users are.
//
// https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth
package federation

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/oauth2"

	"github.com/cordon-fhir/cordon/outbound"
	"github.com/cordon-fhir/cordon/smart"
)

// Config says how providers are asked.
type Config struct {
	// Private are networks in which providers may be although they are not of
	// the public internet. Default none.
	Private []netip.Prefix
	// Timeout bounds each question. Default 5s.
	Timeout time.Duration
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// A Client asks providers. It keeps nothing between two logins: what a provider
// says of itself and its keys are read when they are needed.
type Client struct{ cfg Config }

// New returns a Client.
func New(cfg Config) *Client {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{cfg}
}

// A Request is a login at a provider: what has to come back, and what proves
// that it was we who asked.
type Request struct {
	State    string
	Nonce    string
	Verifier string
	// Callback is where the user comes back to.
	Callback string
	// Again asks that the user proves anew who they are; not before Begun.
	Again bool
	Begun time.Time
}

// A User is who the provider says has logged in.
type User struct {
	Subject string
	// Time is when they proved it, if the provider says so.
	Time time.Time
	// ACR and AMR say how, in the provider's words.
	ACR string
	AMR []string
	// Claims are all that the ID token says, JSON.
	Claims []byte
}

// errAnswer is all that is said of an answer that cannot be used: what is in it
// comes from elsewhere, and is for no log.
var errAnswer = errors.New("federation: the provider does not answer as it should")

var errClaims = errors.New("federation: the claims of the ID token are malformed")

// algorithms are those that an ID token may be signed with, whatever a provider
// claims: none that works with a shared secret or without a key.
var algorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}

// A provider is one that was asked about itself.
type provider struct {
	smart.Provider
	oidc *oidc.Provider
	// auth are the ways in which we may prove who we are; namesIssuer says
	// that it names itself when it sends users back.
	auth        []string
	namesIssuer bool
}

// client returns one that goes to the provider alone, and how to let it go.
func (c *Client) client(ctx context.Context, p smart.Provider) (context.Context, func()) {
	h := outbound.Client(outbound.Config{URL: p.Issuer, Private: c.cfg.Private, Timeout: c.cfg.Timeout, Conns: 2, MaxAnswer: maxAnswer})
	h.Timeout = c.cfg.Timeout
	return oidc.ClientContext(ctx, h), h.CloseIdleConnections
}

// discover reads what the provider says of itself.
// https://openid.net/specs/openid-connect-discovery-1_0.html
func discover(ctx context.Context, p smart.Provider) (provider, error) {
	known, err := oidc.NewProvider(ctx, p.Issuer)
	if err != nil {
		return provider{}, errAnswer
	}
	var says struct {
		Keys        string   `json:"jwks_uri"`
		Auth        []string `json:"token_endpoint_auth_methods_supported"`
		NamesIssuer bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := known.Claims(&says); err != nil {
		return provider{}, errAnswer
	}
	at := known.Endpoint()
	for _, text := range []string{at.AuthURL, at.TokenURL, says.Keys} {
		if !outbound.SameScheme(text, p.Issuer) {
			return provider{}, errAnswer
		}
	}
	return provider{p, known, says.Auth, says.NamesIssuer}, nil
}

func (p provider) config(callback string) *oauth2.Config {
	at := p.oidc.Endpoint()
	at.AuthStyle = oauth2.AuthStyleInHeader
	if p.Secret == "" || len(p.auth) > 0 && !slices.Contains(p.auth, "client_secret_basic") {
		at.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID: p.ClientID, ClientSecret: p.Secret, Endpoint: at, RedirectURL: callback,
		Scopes: append([]string{oidc.ScopeOpenID}, p.Scopes...),
	}
}

// Begin returns where the user logs in.
func (c *Client) Begin(ctx context.Context, p smart.Provider, r Request) (string, error) {
	ctx, done := c.client(ctx, p)
	defer done()
	known, err := discover(ctx, p)
	if err != nil {
		return "", err
	}
	more := []oauth2.AuthCodeOption{oidc.Nonce(r.Nonce), oauth2.S256ChallengeOption(r.Verifier)}
	if r.Again {
		more = append(more, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	return known.config(r.Callback).AuthCodeURL(r.State, more...), nil
}

// Finish redeems the code that came back, and returns who has logged in. issuer
// is who sent the user back, as far as that was said.
func (c *Client) Finish(ctx context.Context, p smart.Provider, r Request, code, issuer string) (User, error) {
	ctx, done := c.client(ctx, p)
	defer done()
	known, err := discover(ctx, p)
	if err != nil {
		return User{}, err
	}
	// A code of another provider must not be shown to this one.
	// https://www.rfc-editor.org/rfc/rfc9207
	if issuer != p.Issuer && (issuer != "" || known.namesIssuer) {
		return User{}, errors.New("federation: the answer is not the provider's")
	}
	token, err := known.config(r.Callback).Exchange(ctx, code, oauth2.VerifierOption(r.Verifier))
	if err != nil {
		return User{}, errAnswer
	}
	text, _ := token.Extra("id_token").(string)
	return c.user(ctx, known, r, text)
}

// The bounds of an ID token and of what is kept of it.
const (
	maxToken  = 64 << 10
	maxWord   = 200
	maxWords  = 10
	tolerance = time.Minute // between clocks
	maxAge    = 10 * time.Minute
)

// user reads an ID token.
// https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
func (c *Client) user(ctx context.Context, p provider, r Request, text string) (User, error) {
	if text == "" || len(text) > maxToken {
		return User{}, errors.New("federation: there is no ID token, or one that is too long")
	}
	now := c.cfg.Now()
	token, err := p.oidc.VerifierContext(ctx, &oidc.Config{
		ClientID: p.ClientID, SupportedSigningAlgs: algorithms, Now: func() time.Time { return now },
	}).Verify(ctx, text)
	if err != nil {
		return User{}, errors.New("federation: the ID token is not accepted")
	}
	var says struct {
		Party string   `json:"azp"`
		Time  int64    `json:"auth_time"`
		ACR   string   `json:"acr"`
		AMR   []string `json:"amr"`
	}
	var all jsontext.Value
	if token.Claims(&says) != nil || token.Claims(&all) != nil {
		return User{}, errClaims
	}
	u := User{Subject: token.Subject, ACR: says.ACR, AMR: says.AMR, Claims: all}
	if says.Time != 0 {
		u.Time = time.Unix(says.Time, 0)
	}
	switch {
	case token.Nonce == "" || token.Nonce != r.Nonce:
		return User{}, errors.New("federation: the ID token is not for this login")
	case len(token.Audience) > 1 && says.Party == "", says.Party != "" && says.Party != p.ClientID:
		return User{}, errors.New("federation: the ID token is for another party")
	case token.IssuedAt.Before(now.Add(-maxAge)), token.IssuedAt.After(now.Add(tolerance)), u.Time.After(now.Add(tolerance)):
		return User{}, errors.New("federation: the ID token is of another time")
	case r.Again && u.Time.Before(r.Begun.Add(-tolerance)):
		return User{}, errors.New("federation: the user has not logged in again")
	case !smart.ValidSubject(u.Subject), len(u.ACR) > maxWord, len(u.AMR) > maxWords,
		slices.ContainsFunc(u.AMR, func(s string) bool { return len(s) > maxWord }):
		return User{}, errClaims
	}
	return u, nil
}

// maxAnswer bounds what a provider says of itself, and of its keys.
const maxAnswer = 1 << 20
