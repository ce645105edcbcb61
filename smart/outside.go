package smart

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/tenant"
)

// Outside knows the authorization servers that tenants trust instead of their
// own, and asks them. outside.Client is one. An error says that nobody knows;
// then no token is good.
type Outside interface {
	// Issuer returns the one that the tenant trusts, in the version that t says or
	// a later one, nil if that has none. As long as it does not change it is the
	// same pointer.
	Issuer(ctx context.Context, t *tenant.Tenant) (*Issuer, error)
	// Trusting returns the slug of the tenant that trusts the issuer for an
	// audience which is not its FHIR base, "" if there is none.
	Trusting(ctx context.Context, issuer, audience string) (slug string, err error)
	// Key returns the issuer's key of the name, nil if there is none. As long as
	// it does not change it is the same pointer.
	Key(ctx context.Context, is *Issuer, kid string) (*jose.JSONWebKey, error)
	// Active returns what the issuer says of a token now.
	Active(ctx context.Context, is *Issuer, bearer string) (Active, error)
}

// Active is what an issuer says of a token when it is asked. What it leaves out
// is empty.
type Active struct {
	Active  bool    `json:"active"`
	Issuer  string  `json:"iss"`
	Subject string  `json:"sub"`
	Client  string  `json:"client_id"`
	Expires float64 `json:"exp"`
}

// The bounds of a token of an outside issuer.
const (
	// outsideSkew is how far its clock may be from ours.
	outsideSkew = time.Minute
	// activeLife is how long what an issuer has said of a token is believed.
	activeLife = 5 * time.Second
	// foreverSeconds is later than any token ends.
	foreverSeconds = 1 << 40
)

// fromOutside is what a verified token has that another issuer than ours signed.
type fromOutside struct {
	issuer *Issuer
	key    *jose.JSONWebKey
	// active is what the issuer said of it last, if it is asked.
	active atomic.Pointer[saidOfToken]
}

type saidOfToken struct {
	active bool
	until  time.Time
}

// A foreign token is one of an outside issuer, whose signature has not been
// checked.
type foreign struct {
	head   jose.Header
	kind   string
	claims map[string]jsontext.Value
	says   foreignClaims
	jws    *jose.JSONWebSignature
}

// foreignClaims are those that mean the same at every issuer.
// https://www.rfc-editor.org/rfc/rfc9068#section-2.2
type foreignClaims struct {
	Issuer   string         `json:"iss"`
	Audience oneOrList      `json:"aud"`
	Subject  string         `json:"sub"`
	Client   string         `json:"client_id"`
	Party    string         `json:"azp"`
	Expires  float64        `json:"exp"`
	Issued   float64        `json:"iat"`
	NotYet   float64        `json:"nbf"`
	ID       string         `json:"jti"`
	Scope    jsontext.Value `json:"scope"`
	Scp      jsontext.Value `json:"scp"`
}

// oneOrList is a string, or a list of them.
type oneOrList []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *oneOrList) UnmarshalJSON(text []byte) error {
	if jsontext.Value(text).Kind() == '"' {
		*l = make([]string, 1)
		return json.Unmarshal(text, &(*l)[0])
	}
	return json.Unmarshal(text, (*[]string)(l))
}

// parseForeign reads a bearer of another issuer. Keys and addresses of keys that
// come with it prove nothing: they are not looked at.
func parseForeign(bearer string) (foreign, error) {
	if len(bearer) > maxToken || strings.Count(bearer, ".") != 2 {
		return foreign{}, errToken
	}
	jws, err := jose.ParseSignedCompact(bearer, Issuer{}.algorithms())
	if err != nil || len(jws.Signatures) != 1 {
		return foreign{}, errToken
	}
	f := foreign{jws: jws, head: jws.Signatures[0].Protected}
	if kind, ok := f.head.ExtraHeaders[jose.HeaderType]; ok {
		if f.kind, ok = kind.(string); !ok {
			return foreign{}, errToken
		}
	}
	body := jws.UnsafePayloadWithoutVerification()
	if json.Unmarshal(body, &f.says) != nil || json.Unmarshal(body, &f.claims) != nil {
		return foreign{}, errToken
	}
	// One token, one audience: what is good here is good nowhere else.
	if len(f.says.Audience) != 1 || f.says.Issuer == "" || f.head.KeyID == "" {
		return foreign{}, errToken
	}
	if f.says.ID == "" { // then it is known by its digest
		sum := sha256.Sum256([]byte(bearer))
		f.says.ID = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return f, nil
}

// verifyOutside is verify for a token that is none of ours.
func (v *Verifier) verifyOutside(ctx context.Context, slug, bearer string, key digest, o audit.Origin) (*verified, *tenant.Tenant, error) {
	f, err := parseForeign(bearer)
	if err != nil || v.cfg.Outside == nil || v.ours(f.says.Issuer) {
		return nil, nil, badToken()
	}
	tn, is, err := v.trusting(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	if is == nil {
		return nil, nil, badToken()
	}
	own := tn.Slug.String()
	jwk, err := v.cfg.Outside.Key(ctx, is, f.head.KeyID)
	if err != nil {
		return nil, nil, unreachable(err)
	}
	if jwk == nil || !f.fits(is, jwk) {
		return nil, nil, badToken()
	}
	if _, err := f.jws.Verify(jwk.Key); err != nil {
		v.alert(MutatedClaims, own, slug, f.says.client(), o)
		return nil, nil, badToken()
	}
	claims, err := f.token(is, own, v.cfg.Base(own), v.cfg.Now())
	if err != nil {
		return nil, nil, badToken()
	}
	tok, err := v.admit(claims, jwk.KeyID)
	if err != nil {
		return nil, nil, badToken()
	}
	tok.outside = &fromOutside{issuer: is, key: jwk}
	if own != slug {
		v.alert(CrossTenant, own, slug, claims.Client, o)
		return tok, tn, nil
	}
	v.seen.put(own, key, tok, v.cfg.Now())
	return v.stillActive(ctx, tok, tn, bearer)
}

// recallOutside is recall for a token of another issuer: it is still the one
// that the tenant trusts, still has the key, and does not say otherwise.
func (v *Verifier) recallOutside(ctx context.Context, slug, bearer string, tok *verified) (*verified, *tenant.Tenant, error) {
	tn, is, err := v.issuerOf(ctx, slug)
	if err != nil || is != tok.outside.issuer {
		return nil, nil, err
	}
	key, err := v.cfg.Outside.Key(ctx, is, tok.kid)
	if err != nil {
		return nil, nil, unreachable(err)
	}
	if key != tok.outside.key {
		return nil, nil, nil
	}
	return v.stillActive(ctx, tok, tn, bearer)
}

// stillActive returns tok, unless its issuer says that it is void.
func (v *Verifier) stillActive(ctx context.Context, tok *verified, tn *tenant.Tenant, bearer string) (*verified, *tenant.Tenant, error) {
	if active, err := v.active(ctx, tok, bearer); err != nil || !active {
		return nil, nil, cmp.Or(err, badToken())
	}
	return tok, tn, nil
}

// trusting returns the tenant that the token is for, and the issuer that it
// trusts, if that is the token's; nil if there is none. The tenant is found by
// what the token says, not by where it is shown, so that a stranger does not
// learn of tenants by how long an answer takes.
func (v *Verifier) trusting(ctx context.Context, f foreign) (*tenant.Tenant, *Issuer, error) {
	audience := f.says.Audience[0]
	own, based := strings.CutPrefix(audience, strings.TrimSuffix(v.cfg.Base("a"), "a"))
	if !based {
		var err error
		if own, err = v.cfg.Outside.Trusting(ctx, f.says.Issuer, audience); err != nil || own == "" {
			return nil, nil, err
		}
	}
	tn, is, err := v.issuerOf(ctx, own)
	if err != nil {
		return nil, nil, err
	}
	if is == nil || is.URL != f.says.Issuer || cmp.Or(is.Audience, v.cfg.Base(own)) != audience {
		return nil, nil, nil
	}
	return tn, is, nil
}

// issuerOf returns the tenant and the issuer that it trusts; nil if there is no
// such tenant, or it trusts its own.
func (v *Verifier) issuerOf(ctx context.Context, slug string) (*tenant.Tenant, *Issuer, error) {
	tn, err := v.cfg.Tenants.Tenant(ctx, slug)
	if errors.Is(err, tenant.ErrUnknown) || err == nil && tn.Issuer == 0 {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("looking up the tenant of a token: %w", err)
	}
	is, err := v.cfg.Outside.Issuer(ctx, tn)
	if err != nil {
		return nil, nil, unreachable(err)
	}
	return tn, is, nil
}

// ours reports whether the issuer is the one that a tenant has here.
func (v *Verifier) ours(issuer string) bool {
	return strings.HasPrefix(issuer, strings.TrimSuffix(v.cfg.Issuer("a"), "a"))
}

// fits reports whether the token may be what the issuer has signed with the key.
func (f foreign) fits(is *Issuer, jwk *jose.JSONWebKey) bool {
	kind := strings.TrimPrefix(strings.ToLower(f.kind), "application/")
	if kind != tokenType && (is.Type != plainJWT || kind != "jwt" && kind != "") {
		return false
	}
	alg := jose.SignatureAlgorithm(f.head.Algorithm)
	if !slices.Contains(is.algorithms(), alg) || jwk.Algorithm != "" && jwk.Algorithm != f.head.Algorithm {
		return false
	}
	switch key := jwk.Key.(type) {
	case *rsa.PublicKey:
		return (alg == jose.RS256 || alg == jose.RS384) && key.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && key.Curve == elliptic.P256() || alg == jose.ES384 && key.Curve == elliptic.P384()
	}
	return false
}

// token returns what the token says, in our words, if it is good at the time for
// the tenant with the slug and the FHIR base.
func (f foreign) token(is *Issuer, slug, base string, now time.Time) (Token, error) {
	says := f.says
	t := Token{
		Issuer: says.Issuer, Audience: base, Subject: says.Subject, Client: says.client(), Tenant: slug, ID: says.ID,
		Expires: whole(says.Expires), Issued: whole(says.Issued), NotYet: whole(says.NotYet),
	}
	switch {
	case !ValidSubject(t.Subject), t.Client == "" || !printable(t.Client, maxClientID), !printable(t.ID, MaxSubject),
		t.Issued <= 0, !t.timely(now),
		!is.introspects() && t.Expires-t.Issued > int64(maxTokenLife/time.Second),
		len(is.Clients) > 0 && !slices.Contains(is.Clients, t.Client):
		return Token{}, errToken
	}
	for name, want := range is.Require {
		var got string
		if json.Unmarshal(f.claims[name], &got) != nil || got != want {
			return Token{}, errToken
		}
	}
	var err error
	if t.Scope, t.Words, err = says.scopes(); err != nil {
		return Token{}, err
	}
	if t.User, t.Person, err = is.Mapping.of(f.claims, base); err != nil {
		return Token{}, err
	}
	t.Patient, t.Encounter, err = is.Mapping.in(f.claims, base)
	return t, err
}

// timely is valid for a token of another issuer: how long it may live was asked
// when it was verified.
func (t Token) timely(now time.Time) bool {
	soon := now.Add(outsideSkew)
	return now.Before(time.Unix(t.Expires, 0)) && !time.Unix(t.Issued, 0).After(soon) && !time.Unix(t.NotYet, 0).After(soon)
}

// client returns whom the token was given to, "" if it does not say, or not one.
func (c foreignClaims) client() string {
	if c.Client != "" && c.Party != "" && c.Client != c.Party {
		return ""
	}
	return cmp.Or(c.Client, c.Party)
}

// scopes returns those of the token that are for resources, and the words that
// open nothing. An issuer has scopes for others too: what we do not know grants
// nothing.
func (c foreignClaims) scopes() (scope, words string, err error) {
	raw := c.Scope
	if raw == nil {
		raw = c.Scp
	}
	var list oneOrList
	if raw != nil && raw.Kind() != 'n' {
		if err := json.Unmarshal(raw, &list); err != nil {
			return "", "", errToken
		}
	}
	known, scopes, ok := SplitScopes(strings.Join(list, " "))
	if !ok {
		return "", "", errToken
	}
	return Join(scopes), strings.Join(known, " "), nil
}

// whole returns a time in whole seconds, 0 for what is none.
func whole(seconds float64) int64 {
	if seconds >= 0 && seconds < foreverSeconds {
		return int64(seconds)
	}
	return 0
}

// active reports whether the issuer of the token has not taken it back, as far
// as it is asked: then what it said counts for activeLife. Who asks at the same
// time asks once.
func (v *Verifier) active(ctx context.Context, tok *verified, bearer string) (bool, error) {
	is := tok.outside.issuer
	if !is.introspects() {
		return true, nil
	}
	if s := tok.outside.active.Load(); s != nil && v.cfg.Now().Before(s.until) {
		return s.active, nil
	}
	sum := sha256.Sum256([]byte(bearer))
	asked := v.asking.DoChan(string(sum[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readingTime)
		defer cancel()
		until := v.cfg.Now().Add(activeLife)
		a, err := v.cfg.Outside.Active(ctx, is, bearer)
		return &saidOfToken{a.about(tok.claims, until), until}, err
	})
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case got := <-asked:
		if got.Err != nil {
			return false, unreachable(got.Err)
		}
		s := got.Val.(*saidOfToken)
		tok.outside.active.Store(s)
		return s.active, nil
	}
}

// about reports whether what was said is that the token is good, and of no other.
func (a Active) about(t Token, until time.Time) bool {
	return a.Active && (a.Issuer == "" || a.Issuer == t.Issuer) && (a.Subject == "" || a.Subject == t.Subject) &&
		(a.Client == "" || a.Client == t.Client) && (a.Expires == 0 || !time.Unix(whole(a.Expires), 0).Before(until.Add(-activeLife)))
}

// unreachable is what is answered while an issuer does not. Its own words are
// for nobody.
func unreachable(error) error {
	return fhir.Errorf(fhir.Transient, "the authorization server of the tenant does not answer")
}
