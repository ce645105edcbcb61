// Package outside asks the authorization servers that tenants trust instead of
// their own: who they are, with which keys they sign, and whether a token is
// still good.
//
// https://www.rfc-editor.org/rfc/rfc9068
package outside

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/outbound"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/jwks"
	"github.com/cordon-fhir/cordon/tenant"
)

// A Record is where the issuers that tenants trust are kept. store.Registry is
// one.
type Record interface {
	// Issuer returns the issuer and its version, 0 if the tenant has none.
	Issuer(ctx context.Context, t *tenant.Tenant) (is smart.Issuer, version int64, err error)
	// Trusting returns the slug of the tenant that trusts the issuer for the
	// audience, "" if there is none.
	Trusting(ctx context.Context, issuer, audience string) (slug string, err error)
}

// Config says how issuers are asked.
type Config struct {
	Record Record // required

	// Private are networks in which issuers may be although they are not of the
	// public internet. Default none.
	Private []netip.Prefix
	// Timeout bounds each question. Default 5s.
	Timeout time.Duration
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// A Client asks issuers.
type Client struct {
	cfg       Config
	keys      *jwks.Reader
	documents outbound.Cache[document]

	mu      sync.Mutex
	trusted map[tenant.ID]trusted
}

var _ smart.Outside = (*Client)(nil)

type trusted struct {
	version int64
	issuer  *smart.Issuer
}

// A document is what an issuer says of itself.
// https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata
type document struct {
	raw        []byte
	Keys       string   `json:"jwks_uri"`
	Authorize  string   `json:"authorization_endpoint"`
	Token      string   `json:"token_endpoint"`
	Introspect string   `json:"introspection_endpoint"`
	Auth       []string `json:"introspection_endpoint_auth_methods_supported"`
}

// The bounds of what is asked.
const (
	maxAnswer = 1 << 20
	// documentLife is how long an issuer's word of itself is good, and keysLife
	// the least of that for its keys, whatever it says: they are not asked for at
	// every request.
	documentLife = time.Hour
	keysLife     = 5 * time.Minute
)

// New returns a Client.
func New(cfg Config) *Client {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	c := &Client{cfg: cfg, trusted: map[tenant.ID]trusted{}}
	c.keys = jwks.New(jwks.Config{Private: cfg.Private, Timeout: cfg.Timeout, Least: keysLife, Now: cfg.Now})
	c.documents = outbound.Cache[document]{Read: c.describe, Now: cfg.Now}
	return c
}

// Issuer implements smart.Outside.
func (c *Client) Issuer(ctx context.Context, t *tenant.Tenant) (*smart.Issuer, error) {
	c.mu.Lock()
	had := c.trusted[t.ID]
	c.mu.Unlock()
	if had.version >= t.Issuer {
		return had.issuer, nil
	}
	is, version, err := c.cfg.Record.Issuer(ctx, t)
	if err != nil || version == 0 {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if had := c.trusted[t.ID]; had.version >= version {
		return had.issuer, nil
	}
	c.trusted[t.ID] = trusted{version, &is}
	return &is, nil
}

// Trusting implements smart.Outside.
func (c *Client) Trusting(ctx context.Context, issuer, audience string) (string, error) {
	return c.cfg.Record.Trusting(ctx, issuer, audience)
}

// Key implements smart.Outside.
func (c *Client) Key(ctx context.Context, is *smart.Issuer, kid string) (*jose.JSONWebKey, error) {
	doc, err := c.documents.Get(ctx, is.URL)
	if err != nil {
		return nil, err
	}
	return c.keys.Key(ctx, doc.Keys, kid)
}

// Document returns what the issuer that the tenant trusts says of itself, JSON.
func (c *Client) Document(ctx context.Context, t *tenant.Tenant) ([]byte, error) {
	is, err := c.Issuer(ctx, t)
	if err != nil {
		return nil, err
	}
	if is == nil {
		return nil, errors.New("outside: the tenant has its own authorization server")
	}
	doc, err := c.documents.Get(ctx, is.URL)
	return doc.raw, err
}

// client returns one that goes to the issuer alone, and how to let it go.
func (c *Client) client(issuer string) (*http.Client, func()) {
	h := outbound.Client(outbound.Config{URL: issuer, Private: c.cfg.Private, Timeout: c.cfg.Timeout, Conns: 2, MaxAnswer: maxAnswer})
	h.Timeout = c.cfg.Timeout
	return h, h.CloseIdleConnections
}

// errAnswer is all that is said of an answer that cannot be used: what is in it
// comes from elsewhere, and is for no log.
var errAnswer = errors.New("outside: the issuer does not answer as it should")

func (c *Client) describe(ctx context.Context, issuer string, _ document) (doc document, life time.Duration, err error) {
	h, done := c.client(issuer)
	defer done()
	known, err := oidc.NewProvider(oidc.ClientContext(ctx, h), issuer)
	if err != nil {
		return doc, 0, errAnswer
	}
	var raw json.RawMessage
	if known.Claims(&raw) != nil || json.Unmarshal(raw, &doc) != nil {
		return doc, 0, errAnswer
	}
	doc.raw = raw
	for _, at := range []string{doc.Keys, doc.Token, doc.Authorize, doc.Introspect} {
		if at != "" && !outbound.SameScheme(at, issuer) {
			return doc, 0, errAnswer
		}
	}
	if doc.Keys == "" || doc.Token == "" {
		return doc, 0, errAnswer
	}
	return doc, documentLife, nil
}

// Active implements smart.Outside.
// https://www.rfc-editor.org/rfc/rfc7662#section-2
func (c *Client) Active(ctx context.Context, is *smart.Issuer, bearer string) (a smart.Active, err error) {
	doc, err := c.documents.Get(ctx, is.URL)
	if err != nil {
		return a, err
	}
	if doc.Introspect == "" {
		return a, errAnswer
	}
	h, done := c.client(is.URL)
	defer done()
	form := url.Values{"token": {bearer}, "token_type_hint": {"access_token"}}
	inForm := len(doc.Auth) > 0 && !slices.Contains(doc.Auth, "client_secret_basic")
	if inForm {
		form.Set("client_id", is.Introspection.ClientID)
		form.Set("client_secret", is.Secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, doc.Introspect, strings.NewReader(form.Encode()))
	if err != nil {
		return a, errAnswer
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if !inForm {
		req.SetBasicAuth(url.QueryEscape(is.Introspection.ClientID), url.QueryEscape(is.Secret))
	}
	resp, err := h.Do(req)
	if err != nil {
		return a, errAnswer
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("%w: %d", errAnswer, resp.StatusCode)
	}
	if json.Unmarshal(text, &a) != nil {
		return smart.Active{}, errAnswer
	}
	return a, nil
}
