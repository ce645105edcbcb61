package launch

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// metadata is what an app says of itself, or an issuer of the app. What is not
// known is passed over, as the standard wants it.
// https://www.rfc-editor.org/rfc/rfc7591#section-2
type metadata struct {
	RedirectURIs []string       `json:"redirect_uris,omitempty"`
	Name         string         `json:"client_name,omitzero"`
	Method       string         `json:"token_endpoint_auth_method,omitzero"`
	GrantTypes   []string       `json:"grant_types,omitempty"`
	Scope        string         `json:"scope,omitzero"`
	JWKS         jsontext.Value `json:"jwks,omitzero"`
	KeysURI      string         `json:"jwks_uri,omitzero"`
	Statement    string         `json:"software_statement,omitzero"`
}

// A registeredApp is the answer to an app that has registered itself, and what it
// manages its registration with.
// https://www.rfc-editor.org/rfc/rfc7592#section-3
type registeredApp struct {
	ID      string `json:"client_id"`
	Issued  int64  `json:"client_id_issued_at,omitzero"`
	Secret  string `json:"client_secret,omitzero"`
	Expires *int64 `json:"client_secret_expires_at,omitzero"` // 0: never
	Token   string `json:"registration_access_token"`
	URI     string `json:"registration_client_uri"`
	metadata
}

// maxWaiting bounds the clients that wait for an operator.
const maxWaiting = 100

// register lets an app register itself, as far as the tenant lets it: not at
// all, to wait for an operator, or at once with the word of an issuer.
// https://www.rfc-editor.org/rfc/rfc7591#section-3
func (s *Server) register(ctx context.Context, c *call) error {
	t, _, err := s.tenant(ctx, c)
	if err != nil {
		return err
	}
	if t == nil || t.Settings.Registration.Policy == "" {
		return noSuchTenant()
	}
	var m metadata
	if err := readMetadata(c.http, &m); err != nil {
		return err
	}
	rules := t.Settings.Registration
	if err := m.hold(rules, s.cfg.Now()); err != nil {
		return err
	}
	client, secret, err := m.client(rules.Scopes)
	if err != nil {
		return err
	}
	client.ID = "app-" + strings.ToLower(rand.Text())
	token := newSecret()
	sum := sha256.Sum256([]byte(token))
	client.Registration = sum[:]
	if client.Disabled = rules.Policy != tenant.Statement; client.Disabled {
		if err := s.roomToWait(ctx, t); err != nil {
			return err
		}
	}
	if _, err := s.cfg.Registry.PutClient(ctx, t, client); err != nil {
		return err
	}
	c.grant = smart.Denied(t, audit.Agent{Client: client.ID}, c.origin)
	c.note = "registered itself"
	if client.Disabled {
		c.note += ", waits for an operator"
	}
	c.created = true
	m.Scope, m.Statement = strings.Join(client.Scopes, " "), ""
	answer := registeredApp{ID: client.ID, Issued: s.cfg.Now().Unix(), metadata: m, Token: token, URI: s.registrationOf(c, client.ID)}
	answer.keep(secret)
	c.answer = answer
	return nil
}

// keep tells the app the secret that it was given, if it was.
func (a *registeredApp) keep(secret string) {
	if a.Secret = secret; secret != "" {
		a.Expires = new(int64)
	}
}

// hold requires what the tenant's rules do of who registers.
func (m *metadata) hold(rules tenant.Registration, now time.Time) error {
	if rules.Policy == tenant.Statement {
		return m.vouched(rules.Issuers, now)
	}
	return nil
}

func readMetadata(r *http.Request, into any) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return invalidMetadata("the body has to be application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxForm+1))
	if err != nil || len(body) > maxForm {
		return invalidMetadata("the body is too long, or ends too early")
	}
	if err := json.Unmarshal(body, into); err != nil {
		return invalidMetadata("the body is not the JSON of a client's metadata")
	}
	return nil
}

func invalidMetadata(why string) *fault {
	return &fault{"invalid_client_metadata", why, http.StatusBadRequest, why}
}

// vouched replaces what the app says of itself by what an issuer says of it.
// https://www.rfc-editor.org/rfc/rfc7591#section-2.3
func (m *metadata) vouched(issuers []tenant.StatementIssuer, now time.Time) error {
	refused := &fault{"unapproved_software_statement", "the software statement is missing or not accepted", http.StatusBadRequest, "no good software statement"}
	if len(m.Statement) > maxAssertion {
		return refused
	}
	jws, err := jose.ParseSignedCompact(m.Statement, []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.ES256, jose.ES384})
	if err != nil {
		return refused
	}
	h := jws.Signatures[0].Protected
	var claims struct {
		metadata
		Issuer  string  `json:"iss"`
		Expires float64 `json:"exp"`
	}
	if h.JSONWebKey != nil || json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims) != nil {
		return refused
	}
	at := slices.IndexFunc(issuers, func(i tenant.StatementIssuer) bool { return i.Issuer == claims.Issuer })
	var set jose.JSONWebKeySet
	if at < 0 || json.Unmarshal(issuers[at].JWKS, &set) != nil {
		return refused
	}
	named := set.Key(h.KeyID)
	if len(named) != 1 || !named[0].IsPublic() || named[0].Algorithm != "" && named[0].Algorithm != h.Algorithm {
		return refused
	}
	if _, err := jws.Verify(named[0].Key); err != nil {
		return refused
	}
	if claims.Expires == 0 || !now.Before(seconds(claims.Expires)) {
		return refused
	}
	if len(claims.RedirectURIs) == 0 {
		return refused // an address that the app may choose is none that is vouched for
	}
	*m = claims.metadata
	return nil
}

// client returns the client to store, and its secret if it has one.
func (m *metadata) client(most []string) (c smart.Client, secret string, err error) {
	c = smart.Client{Name: m.Name, RedirectURIs: m.RedirectURIs}
	if len(m.Name) > 200 || len(m.RedirectURIs) == 0 || len(m.RedirectURIs) > 20 {
		return c, "", invalidMetadata("client_name has at most 200 bytes, redirect_uris 1 to 20 entries")
	}
	if slices.ContainsFunc(m.RedirectURIs, func(u string) bool { return !smart.ValidRedirectURI(u) }) {
		return c, "", &fault{"invalid_redirect_uri", "redirect_uris has to be https URLs, http on the user's machine, or of a scheme with a dot", http.StatusBadRequest, "a bad redirect_uri"}
	}
	if slices.ContainsFunc(m.GrantTypes, func(g string) bool { return g != "authorization_code" && g != "refresh_token" }) {
		return c, "", invalidMetadata("grant_types are authorization_code and refresh_token")
	}
	switch m.Method {
	case "none":
		c.Method = smart.PublicClient
	case "", "client_secret_basic", "client_secret_post":
		secret = newSecret()
		sum := sha256.Sum256([]byte(secret))
		c.Method, c.Secret = smart.ClientSecret, sum[:]
	case "private_key_jwt":
		c.Method, c.JWKSURI = smart.PrivateKeyJWT, m.KeysURI
		if err := m.keys(&c); err != nil {
			return c, "", err
		}
	default:
		return c, "", invalidMetadata("token_endpoint_auth_method is not supported")
	}
	if c.Scopes = within(m.Scope, most); len(c.Scopes) == 0 {
		return c, "", invalidMetadata("the tenant gives none of the scopes to apps that register themselves")
	}
	return c, secret, nil
}

// keys gives the client those that it signs with, or where it publishes them. It
// publishes them for everyone: nothing behind a wall is asked for.
func (m *metadata) keys(c *smart.Client) (err error) {
	if m.KeysURI != "" {
		if m.JWKS != nil || !smart.ValidKeysURL(m.KeysURI) || !strings.HasPrefix(m.KeysURI, "https://") {
			return invalidMetadata("jwks_uri has to be an https URL, and takes the place of jwks")
		}
		return nil
	}
	if c.JWKS, err = smart.PublicKeys(m.JWKS); err != nil {
		return invalidMetadata("jwks has to hold 1 to 10 public keys for ES384 or RS384, each with a kid of its own")
	}
	return nil
}

// within returns what of the scopes asked for, "" for all, an app may get that
// has registered itself: nothing without a user.
func within(asked string, most []string) []string {
	mayWords, may := smart.Client{Scopes: most}.AllowedToUsers()
	if asked == "" {
		asked = strings.Join(most, " ")
	}
	words, scopes, ok := smart.SplitScopes(asked)
	if !ok {
		return nil
	}
	var all []string
	for _, w := range words {
		if slices.Contains(mayWords, w) {
			all = append(all, w)
		}
	}
	for _, sc := range smart.Narrow(scopes, may) {
		all = append(all, sc.String())
	}
	return all
}

// roomToWait refuses more clients than an operator will look at.
func (s *Server) roomToWait(ctx context.Context, t *tenant.Tenant) error {
	clients, err := s.cfg.Registry.Clients(ctx, t)
	if err != nil {
		return err
	}
	waiting := 0
	for _, c := range clients {
		if c.Disabled {
			waiting++
		}
	}
	if waiting >= maxWaiting {
		return &fault{"temporarily_unavailable", "too many apps wait for an operator", http.StatusServiceUnavailable, "too many apps wait for an operator"}
	}
	return nil
}
