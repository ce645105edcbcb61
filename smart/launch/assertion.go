package launch

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/smart"
)

// algorithms are those that a client may sign with.
var algorithms = []jose.SignatureAlgorithm{jose.RS384, jose.ES384}

// The bounds of an assertion.
const (
	maxAssertion = 8 << 10
	maxName      = 128 // of a client_id and of a jti
	maxAhead     = 5 * time.Minute
	clockSkew    = 5 * time.Second
)

// An assertion is what a client has signed, or so it says.
// https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html
type assertion struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	ID       string   `json:"jti"`
	Expires  float64  `json:"exp"` // RFC 7519 allows fractions of a second
	NotYet   float64  `json:"nbf"`
	Issued   float64  `json:"iat"`

	jws *jose.JSONWebSignature
}

// An audience is one URL. Libraries write it as a list of one as well.
type audience string

// UnmarshalJSON reads a string, or a list of one.
func (a *audience) UnmarshalJSON(data []byte) error {
	if list := []string{}; json.Unmarshal(data, &list) == nil {
		if len(list) != 1 {
			return errors.New("launch: not one audience")
		}
		*a = audience(list[0])
		return nil
	}
	return json.Unmarshal(data, (*string)(a))
}

// byAssertion takes the assertion in a form. One that is good is used up.
func (s *Server) byAssertion(ctx context.Context, c *call, form url.Values) (login, error) {
	if form.Get("client_assertion_type") != bearerAssertion {
		return login{}, invalidClient("the client assertion is missing or of another type")
	}
	a, err := parseAssertion(form.Get("client_assertion"))
	if err != nil {
		return login{}, err
	}
	if form.Has("client_id") && form.Get("client_id") != a.Subject {
		return login{}, invalidRequest("client_id is not that of the client assertion")
	}
	l, err := s.prove(ctx, c, a)
	if err != nil {
		return login{}, err
	}
	if err := a.check(s.cfg.Issuer(c.slug)+"/token", s.cfg.Now()); err != nil {
		return login{}, err
	}
	fresh, err := s.cfg.Clients.UseAssertion(ctx, l.tenant, l.client.ID, a.ID, a.expires().Add(clockSkew))
	if err != nil {
		return login{}, fmt.Errorf("noting the use of an assertion: %w", err)
	}
	if !fresh {
		return login{}, invalidClient("the client assertion was used before")
	}
	return l, nil
}

// parseAssertion reads an assertion whose signature has not been checked.
func parseAssertion(text string) (assertion, error) {
	malformed := invalidClient("the client assertion is malformed")
	if len(text) > maxAssertion || strings.Count(text, ".") != 2 {
		return assertion{}, malformed
	}
	jws, err := jose.ParseSignedCompact(text, algorithms)
	if err != nil {
		return assertion{}, malformed
	}
	// A key or an address of keys that comes with the assertion proves nothing.
	h := jws.Signatures[0].Protected
	if h.KeyID == "" || h.JSONWebKey != nil || len(h.ExtraHeaders) != 1 || h.ExtraHeaders[jose.HeaderType] != "JWT" {
		return assertion{}, malformed
	}
	a := assertion{jws: jws}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &a); err != nil {
		return assertion{}, malformed
	}
	if a.Issuer != a.Subject || !validName(a.Subject) || a.ID == "" || len(a.ID) > maxName {
		return assertion{}, malformed
	}
	return a, nil
}

// validName reports whether a client_id is of visible characters.
// https://www.rfc-editor.org/rfc/rfc6749#appendix-A.1
func validName(s string) bool {
	return len(s) > 0 && len(s) <= maxName && !strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c > 0x7e })
}

// prove checks the signature with the key that the tenant's client registered.
// What is wrong, or whether there is such a tenant or client, is not told.
func (s *Server) prove(ctx context.Context, c *call, a assertion) (login, error) {
	l, err := s.registered(ctx, c, a.Subject)
	if err != nil {
		return login{}, err
	}
	if cmp.Or(l.client.Method, smart.PrivateKeyJWT) != smart.PrivateKeyJWT {
		return login{}, invalidClient("the client is not registered to sign")
	}
	key, err := s.keyOf(ctx, l.client, a.jws.Signatures[0].Protected)
	if err != nil {
		return login{}, err
	}
	if _, err := a.jws.Verify(key); err != nil {
		return login{}, invalidClient("the signature is wrong")
	}
	return l, nil
}

// keyOf returns the one key of the client that has the name and fits the
// algorithm in the header.
func (s *Server) keyOf(ctx context.Context, client smart.Client, h jose.Header) (any, error) {
	if client.JWKSURI == "" {
		return registeredKey(client, h)
	}
	jwk, err := s.keys.Key(ctx, client.JWKSURI, h.KeyID)
	if err != nil {
		return nil, &fault{"temporarily_unavailable", "the keys of the client cannot be read", http.StatusServiceUnavailable, "jwks_uri: " + err.Error()}
	}
	if jwk == nil {
		return nil, invalidClient("the client publishes no one key of that kid")
	}
	return fitting(*jwk, h)
}

// registeredKey returns the one that the client was registered with.
func registeredKey(client smart.Client, h jose.Header) (any, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(client.JWKS, &set); err != nil {
		return nil, invalidClient("the client's keys are malformed")
	}
	named := set.Key(h.KeyID)
	if len(named) != 1 {
		return nil, invalidClient("the client has no one key of that kid")
	}
	return fitting(named[0], h)
}

// fitting returns the key if it is one for the algorithm in the header.
func fitting(jwk jose.JSONWebKey, h jose.Header) (any, error) {
	if jwk.Use != "" && jwk.Use != "sig" || jwk.Algorithm != "" && jwk.Algorithm != h.Algorithm {
		return nil, invalidClient("the key is for something else")
	}
	switch key := jwk.Key.(type) {
	case *rsa.PublicKey:
		if h.Algorithm == string(jose.RS384) && key.N.BitLen() >= 2048 {
			return key, nil
		}
	case *ecdsa.PublicKey:
		if h.Algorithm == string(jose.ES384) && key.Curve == elliptic.P384() {
			return key, nil
		}
	}
	return nil, invalidClient("the key does not fit the algorithm")
}

// check holds an assertion that is signed to where and when it is good.
func (a assertion) check(endpoint string, now time.Time) error {
	soon := now.Add(clockSkew)
	switch {
	case string(a.Audience) != endpoint:
		return invalidClient("the client assertion is for another endpoint")
	case !now.Before(a.expires()):
		return invalidClient("the client assertion has expired")
	case a.expires().After(soon.Add(maxAhead)):
		return invalidClient("the client assertion expires too late")
	case seconds(a.NotYet).After(soon), seconds(a.Issued).After(soon):
		return invalidClient("the client assertion is not good yet")
	}
	return nil
}

func (a assertion) expires() time.Time { return seconds(a.Expires) }

// seconds reads a time as JWTs have it. What no clock shows is the end of time.
func seconds(s float64) time.Time {
	if s < 0 || s > 1<<40 {
		return time.Unix(1<<40, 0)
	}
	return time.UnixMilli(int64(s * 1000))
}
