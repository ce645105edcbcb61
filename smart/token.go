package smart

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
)

// A Token is what an access token says: a JWT that the tenant's own issuer
// signed with ES256. Times are in seconds since 1970.
// https://www.rfc-editor.org/rfc/rfc9068
type Token struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"` // the tenant's FHIR base URL
	Subject  string `json:"sub"`
	Client   string `json:"client_id"`
	Scope    string `json:"scope"`
	// Words are the scopes that were granted and are not for resources. They
	// open nothing.
	Words   string `json:"words,omitzero"`
	Expires int64  `json:"exp"`
	Issued  int64  `json:"iat"`
	NotYet  int64  `json:"nbf"`
	ID      string `json:"jti"`
	Tenant  string `json:"tenant"` // the slug
	// Patient is the id of the patient in context.
	Patient string `json:"patient,omitzero"`
	// Encounter is the id of the encounter in context.
	Encounter string `json:"encounter,omitzero"`
	// User is a relative reference or absolute under the tenant's base.
	User    string `json:"fhirUser,omitzero"`
	Purpose string `json:"purpose,omitzero"`
	// Session is what the user agreed to when they let the client have tokens,
	// "" for a backend service. When that is revoked the token is void.
	Session string `json:"sid,omitzero"`
	// Person is what the login told of the user.
	Person Person `json:"person,omitzero"`
}

// tokenType tells access tokens from every other JWT.
const tokenType = "at+jwt"

// maxToken bounds the bytes of a token, and maxTokenLife its time.
const (
	maxToken     = 8 << 10
	maxTokenLife = time.Hour
)

// ErrTokenSize says that a token would be longer than a Verifier takes.
var ErrTokenSize = errors.New("smart: token would be too long")

// Sign returns the token as a bearer, signed with the tenant's signing key.
func (t Token) Sign(set *keys.Set) (string, error) {
	bearer, err := sign(set, tokenType, t)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	if len(bearer) > maxToken {
		return "", ErrTokenSize
	}
	return bearer, nil
}

// sign returns the claims as a JWT of the type.
func sign(set *keys.Set, typ jose.ContentType, claims any) (string, error) {
	key, kid := set.SigningKey()
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}},
		(&jose.SignerOptions{}).WithType(typ))
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// errToken is all that is said of a bad token.
var errToken = errors.New("smart: not a token of ours")

// unverified is a token whose signature has not been checked: what it claims
// may only be used to find the key that checks it.
type unverified struct {
	claims Token
	proof
}

// parseToken reads a bearer.
func parseToken(bearer string) (u unverified, err error) {
	u.proof, err = parseJWT(bearer, tokenType, &u.claims)
	if err != nil {
		return unverified{}, err
	}
	return u, nil
}

// A proof is the signature of a JWT.
type proof struct {
	kid string
	jws *jose.JSONWebSignature
}

// parseJWT reads a JWT of the type into claims. A member that is not ours, twice
// there or in other letters of case is refused, in the header as in the claims:
// no jku, x5u, jwk or crit gets past.
func parseJWT(text string, typ jose.ContentType, claims any) (proof, error) {
	if len(text) > maxToken || strings.Count(text, ".") != 2 {
		return proof{}, errToken
	}
	head, body, _ := strings.Cut(text, ".")
	body, _, _ = strings.Cut(body, ".")
	var header struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ"`
		Key       string `json:"kid"`
	}
	if decodeStrictly(head, &header) != nil || decodeStrictly(body, claims) != nil {
		return proof{}, errToken
	}
	if header.Algorithm != string(jose.ES256) || header.Type != string(typ) {
		return proof{}, errToken
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return proof{}, errToken
	}
	return proof{header.Key, jws}, nil
}

// verify returns the claims, once a key of the set has proved them.
func (u unverified) verify(set *keys.Set) (Token, error) {
	if err := u.holds(set); err != nil {
		return Token{}, err
	}
	return u.claims, nil
}

// holds reports with nil that a key of the set made p.
func (p proof) holds(set *keys.Set) error {
	key := set.VerifyingKey(p.kid)
	if key == nil {
		return errToken
	}
	if _, err := p.jws.Verify(key); err != nil {
		return errToken
	}
	return nil
}

// valid reports whether the token is to be used at the time, apart from where.
func (t Token) valid(now time.Time) bool {
	expires, issued := time.Unix(t.Expires, 0), time.Unix(t.Issued, 0)
	soon := now.Add(clockSkew)
	return now.Before(expires) && !issued.After(soon) && !time.Unix(t.NotYet, 0).After(soon) &&
		t.Issued > 0 && t.NotYet > 0 && expires.Sub(issued) <= maxTokenLife &&
		t.Subject != "" && t.Client != "" && t.ID != "" &&
		(t.Patient == "" || fhir.ValidID(t.Patient)) &&
		(t.Encounter == "" || fhir.ValidID(t.Encounter)) && (t.Purpose == "" || validPurpose(t.Purpose))
}

// clockSkew is how far the clocks of our own processes may be apart.
const clockSkew = 5 * time.Second

// validPurpose reports whether p can be a code of v3-ActReason.
func validPurpose(p string) bool {
	return len(p) <= 16 && strings.Trim(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// fhirUser returns who uses the token, zero if nobody does. They are a person
// of the tenant with the base.
func (t Token) fhirUser(base string) (fhir.Ref, error) {
	if t.User == "" {
		return fhir.Ref{}, nil
	}
	ref, err := fhir.ParseRef(strings.TrimPrefix(t.User, base+"/"))
	if err != nil || strings.Contains(t.User, "/_history/") {
		return fhir.Ref{}, errToken
	}
	switch ref.Type {
	case "Patient", "Person", "Practitioner", "PractitionerRole", "RelatedPerson":
		return ref, nil
	}
	return fhir.Ref{}, errToken
}
