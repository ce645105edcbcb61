package launch

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/smart"
)

// tokenLife is how long an access token is good for, the most that the
// standard advises for backend services.
const tokenLife = 5 * time.Minute

// maxForm bounds the body of a token request.
const maxForm = 64 << 10

const bearerAssertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// A tokenAnswer is the answer of the token endpoint.
type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"` // seconds
	Scope       string `json:"scope"`
	Patient     string `json:"patient,omitzero"`
}

// token gives an access token to a client that has signed for it.
// https://hl7.org/fhir/smart-app-launch/backend-services.html#obtain-access-token
func (s *Server) token(ctx context.Context, c *call) error {
	form, err := readForm(c.http)
	if err != nil {
		return err
	}
	switch form.Get("grant_type") {
	case "client_credentials":
	case "":
		return invalidRequest("grant_type is missing")
	default:
		return unsupportedGrantType()
	}
	l, err := s.login(ctx, c, form)
	if err != nil {
		return err
	}
	c.grant = smart.Denied(l.tenant, audit.Agent{Client: l.client.ID, User: l.client.User, Purpose: l.client.Purpose}, c.origin)
	if err := c.limit(s.cfg.Limit.Token(l.tenant, l.client.ID)); err != nil {
		return err
	}
	granted, err := scopes(l.client, form.Get("scope"))
	if err != nil {
		return err
	}
	tok := s.tokenOf(l, granted)
	bearer, err := tok.Sign(l.keys)
	if errors.Is(err, smart.ErrTokenSize) {
		return invalidScope("the scopes are too long together")
	}
	if err != nil {
		return err
	}
	c.grant = smart.Denied(l.tenant, audit.Agent{
		Client: l.client.ID, User: l.client.User, Purpose: l.client.Purpose, Issuer: tok.Issuer, TokenID: tok.ID,
	}, c.origin)
	c.answer = tokenAnswer{
		AccessToken: bearer, TokenType: "Bearer", ExpiresIn: int(tokenLife / time.Second),
		Scope: tok.Scope, Patient: tok.Patient,
	}
	return nil
}

// scopes returns what the client gets of the scopes that it asks for.
func scopes(client smart.Client, text string) ([]smart.Scope, error) {
	if text == "" {
		return nil, invalidScope("scope is missing")
	}
	asked, err := smart.ParseScopes(text)
	if err != nil {
		return nil, invalidScope("scope is malformed or holds something unknown")
	}
	granted := smart.Narrow(asked, client.Allowed())
	if len(granted) == 0 {
		return nil, invalidScope("the client may have none of the scopes")
	}
	return granted, nil
}

func (s *Server) tokenOf(l login, granted []smart.Scope) smart.Token {
	now := s.cfg.Now()
	slug := l.tenant.Slug.String()
	return smart.Token{
		Issuer: s.cfg.Issuer(slug), Audience: s.cfg.Base(slug),
		Subject: l.client.ID, Client: l.client.ID, Scope: smart.Join(granted),
		Issued: now.Unix(), NotYet: now.Unix(), Expires: now.Add(tokenLife).Unix(), ID: rand.Text(),
		Tenant: slug, Patient: l.client.Patient, Encounter: l.client.Encounter, Person: l.client.Person, User: l.client.User, Purpose: l.client.Purpose,
	}
}

// readForm reads the parameters of a request. None may be there twice, and
// none in the URL, where they would end up in logs.
// https://www.rfc-editor.org/rfc/rfc6749#section-3.2
func readForm(r *http.Request) (url.Values, error) {
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("parameters belong in the body")
	}
	if r.Header.Get("Authorization") != "" {
		return nil, invalidClient("the client logs in by header")
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || r.Header.Get("Content-Encoding") != "" {
		return nil, invalidRequest("the body must be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm+1))
	if err != nil {
		return nil, invalidRequest("the body ends too early")
	}
	if len(body) > maxForm {
		return nil, tooLong()
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalidRequest("the body is malformed")
	}
	for _, values := range form {
		if len(values) > 1 {
			return nil, invalidRequest("a parameter is there twice")
		}
	}
	if form.Has("client_secret") {
		return nil, invalidRequest("a client logs in by its assertion alone")
	}
	return form, nil
}

// jwks returns the public key that the tenant's access tokens are signed with.
// https://www.rfc-editor.org/rfc/rfc7517#section-5
func (s *Server) jwks(ctx context.Context, c *call) error {
	t, set, err := s.tenant(ctx, c)
	if err != nil {
		return err
	}
	if t == nil {
		return noSuchTenant()
	}
	c.answer = publicKeys(set)
	c.header.Set("Cache-Control", "public, max-age=60")
	c.header.Set("Access-Control-Allow-Origin", "*")
	return nil
}
