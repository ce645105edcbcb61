package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// An operator proves who they are with a JWT of their own, made for one
// request: it is good for minutes, for this control plane, and once.
// https://www.rfc-editor.org/rfc/rfc7523
type claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	ID       string `json:"jti"`
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
}

const (
	// tokenType tells operators' tokens from every other JWT.
	tokenType = "cordon-operator+jwt"

	maxToken = 4 << 10
	maxLife  = 5 * time.Minute
	maxJTI   = 128
	// skew is how far the clocks may be apart.
	skew = 30 * time.Second
)

// Token returns a bearer for one request of the operator to the control plane
// at the URL. key is the operator's private key, on P-256 or P-384.
func Token(key *jose.JSONWebKey, operator, url string) (string, error) {
	private, ok := key.Key.(*ecdsa.PrivateKey)
	if !ok {
		return "", errors.New("control: an operator's key is an EC key")
	}
	alg, err := algorithm(&private.PublicKey)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key},
		(&jose.SignerOptions{}).WithType(tokenType))
	if err != nil {
		return "", fmt.Errorf("signing an operator's token: %w", err)
	}
	now := time.Now()
	payload, err := json.Marshal(claims{
		Issuer: operator, Subject: operator, Audience: url, ID: rand.Text(),
		Issued: now.Unix(), Expires: now.Add(time.Minute).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("signing an operator's token: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing an operator's token: %w", err)
	}
	return signed.CompactSerialize()
}

// IsOperatorToken reports whether the bearer says that it is an operator's
// token. It looks at its type and at nothing else: who gets one where records
// are has to refuse it, whether it is good or not.
func IsOperatorToken(bearer string) bool {
	header, _, ok := strings.Cut(bearer, ".")
	if !ok || len(header) > 1<<10 {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		return false
	}
	var h struct {
		Type string `json:"typ"`
	}
	return json.Unmarshal(text, &h) == nil && h.Type == tokenType
}

func algorithm(key *ecdsa.PublicKey) (jose.SignatureAlgorithm, error) {
	switch key.Curve {
	case elliptic.P256():
		return jose.ES256, nil
	case elliptic.P384():
		return jose.ES384, nil
	}
	return "", errors.New("control: an operator's key is on P-256 or P-384")
}

// errLogin is the one answer to everything that is wrong with a token.
var errLogin = fhir.Errorf(fhir.Login, "a token of an operator, made for this request, is required")

// authenticate returns the operator who signed the bearer.
func (a *api) authenticate(ctx context.Context, h http.Header) (audit.Agent, error) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return audit.Agent{}, errLogin
	}
	scheme, bearer, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || len(bearer) > maxToken || strings.Count(bearer, ".") != 2 || !IsOperatorToken(bearer) {
		return audit.Agent{}, errLogin
	}
	signed, err := jose.ParseSignedCompact(bearer, []jose.SignatureAlgorithm{jose.ES256, jose.ES384})
	if err != nil {
		return audit.Agent{}, errLogin
	}
	// Who claims to have signed it decides which key must have.
	var claimed claims
	if err := json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &claimed, json.RejectUnknownMembers(true)); err != nil {
		return audit.Agent{}, errLogin
	}
	o, err := a.Registry.Operator(ctx, claimed.Issuer)
	if errors.Is(err, store.ErrUnknownOperator) {
		return audit.Agent{}, errLogin
	}
	if err != nil {
		return audit.Agent{}, err
	}
	key, alg, err := publicKey(o.JWK)
	if err != nil {
		return audit.Agent{}, err
	}
	if o.Disabled || signed.Signatures[0].Protected.Algorithm != string(alg) {
		return audit.Agent{}, errLogin
	}
	if _, err := signed.Verify(key); err != nil {
		return audit.Agent{}, errLogin
	}
	if !claimed.good(a.URL, a.Now()) {
		return audit.Agent{}, errLogin
	}
	fresh, err := a.Registry.UseOperatorToken(ctx, o.ID, claimed.ID, time.Unix(claimed.Expires, 0))
	if err != nil {
		return audit.Agent{}, err
	}
	if !fresh {
		return audit.Agent{}, errLogin
	}
	return audit.Agent{Client: o.ID, Issuer: o.ID, TokenID: claimed.ID}, nil
}

// good reports whether the claims of a token, whose signature is good, hold
// for the audience now.
func (c claims) good(audience string, now time.Time) bool {
	issued, expires := time.Unix(c.Issued, 0), time.Unix(c.Expires, 0)
	return c.Subject == c.Issuer && c.Audience == audience &&
		c.ID != "" && len(c.ID) <= maxJTI &&
		issued.Before(now.Add(skew)) && now.Before(expires) && expires.Sub(issued) <= maxLife
}

// publicKey reads an operator's key as the registry has it.
func publicKey(jwk []byte) (*ecdsa.PublicKey, jose.SignatureAlgorithm, error) {
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(jwk); err != nil {
		return nil, "", fmt.Errorf("reading an operator's key: %w", err)
	}
	pub, ok := k.Key.(*ecdsa.PublicKey)
	if !ok {
		return nil, "", errors.New("control: the registry's key of an operator is not a public EC key")
	}
	alg, err := algorithm(pub)
	return pub, alg, err
}
