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

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// How long access tokens are good for: the most that the standard advises for
// backend services, and for apps of users.
const (
	tokenLife     = 5 * time.Minute
	userTokenLife = time.Hour
)

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

	// Only users have these.
	RefreshToken string         `json:"refresh_token,omitzero"`
	IDToken      string         `json:"id_token,omitzero"`
	Encounter    string         `json:"encounter,omitzero"`
	FHIRContext  jsontext.Value `json:"fhirContext,omitzero"`
	Intent       string         `json:"intent,omitzero"`
	Banner       *bool          `json:"need_patient_banner,omitzero"`
	StyleURL     string         `json:"smart_style_url,omitzero"`
}

// token gives access tokens, for what a client brings.
// https://www.rfc-editor.org/rfc/rfc6749#section-3.2
func (s *Server) token(ctx context.Context, c *call) error {
	form, err := readForm(c.http)
	if err != nil {
		return err
	}
	users := s.cfg.Registry != nil
	switch kind := form.Get("grant_type"); {
	case kind == "client_credentials":
		return s.tokenForService(ctx, c, form)
	case kind == "authorization_code" && users:
		return s.tokenForCode(ctx, c, form)
	case kind == "refresh_token" && users:
		return s.tokenForRefresh(ctx, c, form)
	case kind == "":
		return invalidRequest("grant_type is missing")
	}
	return unsupportedGrantType()
}

// tokenForService gives an access token to a client that has signed for it.
// https://hl7.org/fhir/smart-app-launch/backend-services.html#obtain-access-token
func (s *Server) tokenForService(ctx context.Context, c *call, form url.Values) error {
	l, err := s.authenticate(ctx, c, form)
	if err != nil {
		return err
	}
	if l.client.Method != "" && l.client.Method != smart.PrivateKeyJWT {
		return unauthorizedClient("client_credentials is for clients that sign")
	}
	if err := c.limit(s.cfg.Limit.Token(l.tenant, l.client.ID)); err != nil {
		return err
	}
	granted, err := scopes(l.client, form.Get("scope"))
	if err != nil {
		return err
	}
	who := store.Identity{Subject: l.client.ID, User: l.client.User, Person: l.client.Person}
	tok := s.tokenOf(c.slug, who, l.client, s.cfg.Now(), tokenLife)
	tok.Scope, tok.Patient, tok.Encounter = smart.Join(granted), l.client.Patient, l.client.Encounter
	return s.give(c, l, tok, tokenAnswer{Scope: tok.Scope, Patient: tok.Patient})
}

// give signs the token and answers with it.
func (s *Server) give(c *call, l login, tok smart.Token, a tokenAnswer) error {
	bearer, err := tok.Sign(l.keys)
	if errors.Is(err, smart.ErrTokenSize) {
		return invalidScope("the scopes are too long together")
	}
	if err != nil {
		return err
	}
	agent := c.grant.Agent()
	agent.Issuer, agent.TokenID = tok.Issuer, tok.ID
	c.grant = smart.Denied(l.tenant, agent, c.origin)
	a.AccessToken, a.TokenType, a.ExpiresIn = bearer, "Bearer", int(tok.Expires-tok.Issued)
	c.answer = a
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

// tokenOf returns a token for the user or the service, which allows nothing yet.
func (s *Server) tokenOf(slug string, who store.Identity, client smart.Client, now time.Time, life time.Duration) smart.Token {
	return smart.Token{
		Issuer: s.cfg.Issuer(slug), Audience: s.cfg.Base(slug), Subject: subjectOf(who), Client: client.ID,
		Issued: now.Unix(), NotYet: now.Unix(), Expires: now.Add(life).Unix(), ID: rand.Text(),
		Tenant: slug, User: who.User, Person: who.Person, Purpose: client.Purpose,
	}
}

// readForm reads the parameters of a request. None may be there twice, and
// none in the URL, where they would end up in logs.
// https://www.rfc-editor.org/rfc/rfc6749#section-3.2
func readForm(r *http.Request) (url.Values, error) {
	if r.URL.RawQuery != "" {
		return nil, invalidRequest("parameters belong in the body")
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
	return form, nil
}

// jwks returns the public keys that the tenant's tokens are signed with.
// https://www.rfc-editor.org/rfc/rfc7517#section-5
func (s *Server) jwks(ctx context.Context, c *call) error {
	t, set, err := s.tenant(ctx, c)
	if err != nil {
		return err
	}
	if t == nil {
		return noSuchTenant()
	}
	var ids []store.SigningKey
	if s.cfg.Registry != nil {
		if ids, err = s.cfg.Registry.SigningKeys(ctx, t); err != nil {
			return err
		}
	}
	c.answer = publicKeys(set, ids)
	c.public()
	return nil
}
