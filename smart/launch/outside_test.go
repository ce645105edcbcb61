package launch_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/smarttest"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// elsewhere is how a tenant trusts the provider.
func (z *zitadel) elsewhere() smart.Issuer {
	return smart.Issuer{
		URL: z.url, Type: "JWT",
		Mapping: smart.ContextMapping{
			Mapping: smart.Mapping{
				User: smart.Claim{Name: "staff"}, UserType: "Practitioner",
				Roles:      smart.Claim{Name: "groups", Values: map[string]string{"EHR-Doctors": "doctor"}},
				Facilities: smart.Claim{Name: "sites"},
			},
			Patient: smart.Claim{Name: "patient"},
		},
	}
}

// trust makes the tenant with the slug trust the issuer.
func (s *site) trust(t testing.TB, slug string, is smart.Issuer) {
	t.Helper()
	if err := is.Check(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Registry.PutIssuer(t.Context(), s.Tenant(t, slug), is); err != nil {
		t.Fatal(err)
	}
	s.Tenants.Forget(slug)
}

// trusts makes the tenant trust z, whose tokens are for it then.
func (s *site) trusts(t testing.TB, z *zitadel) {
	t.Helper()
	s.trust(t, s.slug, z.elsewhere())
	z.set(func() { z.audience = []string{storetest.Base(s.slug)} })
}

// grant is what the bearer opens at the tenant, on the first server.
func (s *site) grant(t testing.TB, slug, bearer string) (*smart.Grant, error) {
	t.Helper()
	return s.verifiers[0].Grant(t.Context(), slug, bearer, audit.Origin{Trail: audit.NewTrail()})
}

// reads reports whether the bearer reads the resource.
func (s *site) reads(t testing.TB, bearer string, ref fhir.Ref) bool {
	t.Helper()
	g, err := s.grant(t, s.slug, bearer)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.DB.Read(t.Context(), g, ref)
	return err == nil
}

// A tenant that trusts an authorization server elsewhere takes its tokens, with
// what the claims mean there; its own endpoints are off, and the discovery
// document names those of the other.
func TestATenantTrustsAnAuthorizationServerElsewhere(t *testing.T) {
	s, z := newSite(t), newZitadel(t)
	before := s.redeem(t, s.code(t)).AccessToken
	if !s.good(t, before) {
		t.Fatal("the tenant's own token is not good")
	}
	s.trusts(t, z)
	z.set(func() {
		z.claims = map[string]any{"staff": "dr1", "groups": []string{"EHR-Doctors"}, "patient": "p1", "sites": "loc1"}
	})

	bearer := z.user(t, "patient/*.rs api.of.somebody.else")
	if !s.good(t, bearer) {
		t.Fatal("the token opens nothing")
	}
	p1, p2 := fhir.Ref{Type: "Patient", ID: "p1"}, fhir.Ref{Type: "Patient", ID: "p2"}
	if !s.reads(t, bearer, p1) || s.reads(t, bearer, p2) {
		t.Error("the patient of the token is not the one that it opens")
	}
	g, _ := s.grant(t, s.slug, bearer)
	if a := g.Agent(); a.User != "Practitioner/dr1" || a.Client != "cordon" || a.Issuer != z.url || a.TokenID == "" {
		t.Errorf("the audit trail would name %+v", a)
	}
	if service := z.service(t, "system/*.rs"); !s.reads(t, service, p2) {
		t.Error("a service reads nothing")
	}
	if s.good(t, before) {
		t.Error("a token of the tenant's own authorization server is still good")
	}

	for _, path := range []string{"authorize?" + s.ask().Encode(), "account", "jwks", "brands", ".well-known/openid-configuration"} {
		if w := s.person().send("GET", path, ""); w.Code < 400 {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
	for _, path := range []string{"token", "introspect", "revoke", "register", "launch", "login", "federate"} {
		if w := s.person().send("POST", path, "grant_type=client_credentials"); w.Code < 400 {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
	var conf map[string]any
	if err := json.Unmarshal(s.server.Configuration(s.slug), &conf); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"issuer": z.url, "authorization_endpoint": z.url + "/auth", "token_endpoint": z.url + "/oauth/token", "jwks_uri": z.url + "/keys"} {
		if conf[name] != want {
			t.Errorf("%s is %v, want %s", name, conf[name], want)
		}
	}
	if text := string(s.server.Configuration(s.slug)); strings.Contains(text, storetest.Issuer(s.slug)) {
		t.Errorf("the configuration names our endpoints: %s", text)
	}

	if err := s.Registry.RemoveIssuer(t.Context(), s.Tenant(t, s.slug)); err != nil {
		t.Fatal(err)
	}
	s.Tenants.Forget(s.slug)
	if s.good(t, bearer) || !s.good(t, before) {
		t.Error("the tenant does not have its own authorization server back")
	}
}

// A token that is not exactly what the tenant believes opens nothing, whatever
// else is right about it. AUTHZ-04
func TestATokenFromElsewhereHasToBeAsTheTenantBelieves(t *testing.T) {
	s, z := newSite(t), newZitadel(t)
	good := map[string]any{"staff": "dr1", "tid": "t-1"}
	with := func(name string, value any) map[string]any {
		m := map[string]any{"staff": "dr1", "tid": "t-1"}
		m[name] = value
		return m
	}
	base, usual := storetest.Base(s.slug), z.keys[0]
	soon := time.Now().Add(10 * time.Minute).Unix()
	for _, tt := range []struct {
		claim    string
		trust    func(*smart.Issuer)
		audience []string
		claims   map[string]any
		key      signingKey
		life     time.Duration
		signed   map[string]any // changes, which the issuer signs
		good     bool
	}{
		{claim: "as it should be", good: true},
		{claim: "signed with RS384", key: newRSAKey("a", jose.RS384), good: true},
		{claim: "signed with ES256", key: newECKey("b", jose.ES256, elliptic.P256()), good: true},
		{claim: "signed with ES384", key: newECKey("c", jose.ES384, elliptic.P384()), good: true},
		{claim: "signed with what nobody may", key: newRSAKey("d", jose.PS256)},
		{claim: "signed with what the tenant does not allow", trust: func(is *smart.Issuer) { is.Algorithms = []string{"ES256"} }},
		{claim: "of a type of its own", trust: func(is *smart.Issuer) { is.Type = "" }},
		{claim: "for nobody", audience: []string{""}},
		{claim: "for the client", audience: []string{"cordon"}},
		{claim: "for a longer address", audience: []string{base + "/"}},
		{claim: "for two", audience: []string{base, "https://other.example"}},
		{claim: "for what the tenant chose", trust: func(is *smart.Issuer) { is.Audience = "api://" + s.slug }, audience: []string{"api://" + s.slug}, good: true},
		{claim: "for the FHIR base when the tenant chose something else", trust: func(is *smart.Issuer) { is.Audience = "api://" + s.slug }},
		{claim: "of an issuer with another spelling", trust: func(is *smart.Issuer) { is.URL += "/" }},
		{claim: "for longer than an hour", life: 2 * time.Hour},
		{claim: "that has ended", life: -time.Second},
		{claim: "that says again what it said", signed: map[string]any{}, good: true},
		{claim: "not good yet", signed: map[string]any{"nbf": soon}},
		{claim: "given in the future", signed: map[string]any{"iat": soon}},
		{claim: "given nobody knows when", signed: map[string]any{"iat": nil}},
		{claim: "that never ends", signed: map[string]any{"exp": nil}},
		{claim: "of nobody", signed: map[string]any{"sub": nil}},
		{claim: "of no client", signed: map[string]any{"client_id": nil, "azp": nil}},
		{claim: "of a client that is called azp", signed: map[string]any{"client_id": nil, "azp": "sid1"}, good: true},
		{claim: "without a name of its own", signed: map[string]any{"jti": nil}, good: true},
		{claim: "with its scopes as scp", signed: map[string]any{"scope": nil, "scp": []string{"system/*.rs"}}, good: true},
		{claim: "without scopes", signed: map[string]any{"scope": nil}},
		{claim: "of another tenant's issuer here", signed: map[string]any{"iss": storetest.Issuer(s.slug)}},
		{claim: "of a client that is not named", trust: func(is *smart.Issuer) { is.Clients = []string{"other"} }},
		{claim: "of a client that is", trust: func(is *smart.Issuer) { is.Clients = []string{"other", "sid1"} }, good: true},
		{claim: "of two clients", signed: map[string]any{"azp": "other"}},
		{claim: "of another place of the issuer", trust: func(is *smart.Issuer) { is.Require = map[string]string{"tid": "t-2"} }},
		{claim: "of the place that is asked for", trust: func(is *smart.Issuer) { is.Require = map[string]string{"tid": "t-1"} }, good: true},
		{claim: "without what is asked for", trust: func(is *smart.Issuer) { is.Require = map[string]string{"org": "x"} }},
		{claim: "of a user who cannot be", claims: with("staff", "../dr1")},
		{claim: "of a user of another tenant", trust: func(is *smart.Issuer) { is.Mapping.UserType = "" }, claims: with("staff", storetest.Base(storetest.S1)+"/Practitioner/dr1")},
		{claim: "for a patient who cannot be", claims: with("patient", "Observation/p1")},
		{claim: "for a patient of another tenant", claims: with("patient", storetest.Base(storetest.S1)+"/Patient/p1")},
		{claim: "with scopes that are a number", claims: with("scope", 1)},
		{claim: "with scopes as a list", claims: with("scope", []string{"system/*.rs"}), good: true},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			is := z.elsewhere()
			if tt.trust != nil {
				tt.trust(&is)
			}
			s.trust(t, s.slug, is)
			z.set(func() {
				z.keys = []signingKey{usual}
				if tt.key.id != "" {
					z.keys[0] = tt.key
				}
				z.audience, z.claims, z.life = tt.audience, tt.claims, 5*time.Minute
				if z.audience == nil {
					z.audience = []string{base}
				}
				if z.claims == nil {
					z.claims = good
				}
				if tt.life != 0 {
					z.life = tt.life
				}
			})
			bearer := z.service(t, "system/*.rs")
			if tt.signed != nil {
				bearer = z.altered(t, bearer, tt.signed)
			}
			s.again(t)
			if got := s.good(t, bearer); got != tt.good {
				t.Errorf("good: %v", got)
			}
		})
	}
}

// altered returns the token with other claims, signed by its issuer; nil takes
// one off.
func (z *zitadel) altered(t testing.TB, bearer string, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{}
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(bearer, ".")[1])
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range changes {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	if text, err = json.Marshal(claims); err != nil {
		t.Fatal(err)
	}
	return signedBy(z.keys[0].alg, z.keys[0].priv, text)
}

// Who has the public keys of an issuer has nothing to sign with.
func TestATokenThatTheIssuerDidNotSignIsWorthNothing(t *testing.T) {
	s, z := newSite(t), newZitadel(t)
	s.trusts(t, z)
	bearer := z.service(t, "system/*.rs")
	if !s.good(t, bearer) {
		t.Fatal("the token is not good")
	}
	part := strings.Split(bearer, ".")
	body, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(z.keys[0].priv.Public())
	if err != nil {
		t.Fatal(err)
	}
	own := newRSAKey("k1", jose.RS256)
	for claim, forged := range map[string]string{
		"none":               base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT","kid":"k1"}`)) + "." + part[1] + ".",
		"without signature":  part[0] + "." + part[1] + ".",
		"other claims":       part[0] + "." + base64.RawURLEncoding.EncodeToString(bytes.Replace(body, []byte("sid1"), []byte("sid2"), 1)) + "." + part[2],
		"of another key":     signedBy(jose.RS256, own.priv, body),
		"HMAC of the public": signedBy(jose.HS256, public, body),
		"a key in the token": smarttest.Sign(jose.RS256, own.priv, (&jose.SignerOptions{EmbedJWK: true}).WithType("JWT").WithHeader("kid", "k1"), body),
	} {
		if s.good(t, forged) {
			t.Errorf("%s: it is good", claim)
		}
	}
}

// A token of one tenant's issuer is worth nothing at another, also when both
// trust the same: it is answered like any token of another tenant. No two can be
// made to trust it for the same audience. AUTHZ-09, CP-08
func TestATokenFromElsewhereIsOfOneTenant(t *testing.T) {
	s, z := newSite(t), newZitadel(t)
	other := newSite(t)
	is := z.elsewhere()
	s.trust(t, s.slug, is)
	s.trust(t, other.slug, is)
	z.set(func() { z.audience = []string{storetest.Base(s.slug)} })
	bearer := z.service(t, "system/*.rs")
	if !s.good(t, bearer) {
		t.Fatal("the token is not good where it should be")
	}
	for _, slug := range []string{other.slug, storetest.S1, "no-such-tenant"} {
		g, err := s.grant(t, slug, bearer)
		if !fhir.IsCode(err, fhir.Forbidden) || err.Error() != smart.Elsewhere().Error() {
			t.Errorf("at %s: %v", slug, err)
		}
		if g == nil || g.Tenant().Slug.String() != s.slug {
			t.Errorf("at %s it would be in the trail of %v", slug, g)
		}
	}
	is.Audience = "api://shared"
	s.trust(t, s.slug, is)
	if _, err := s.Registry.PutIssuer(t.Context(), s.Tenant(t, other.slug), is); err != store.ErrSharedAudience {
		t.Errorf("the other tenant may have the same audience: %v", err)
	}
}

// Users of two issuers are two users, also if both call them the same.
func TestEqualSubjectsOfTwoIssuersAreTwoPrincipals(t *testing.T) {
	s, first, second := newSite(t), newZitadel(t), newZitadel(t)
	var names []string
	for _, z := range []*zitadel{first, second} {
		s.trusts(t, z)
		g, err := s.grant(t, s.slug, z.service(t, "system/*.rs"))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, g.Principal()+" "+g.Agent().Issuer)
	}
	if names[0] == names[1] || strings.Fields(names[0])[0] == strings.Fields(names[1])[0] {
		t.Errorf("both are %s", names[0])
	}
}

// The keys of an issuer are kept, found at once when they are new, and no longer
// believed when they are gone. Who makes names up does not make us ask. While
// they cannot be had, no token is good.
func TestKeysOfAnIssuerRotate(t *testing.T) {
	s, z := newSite(t), newZitadel(t)
	clock := s.clock(t)
	s.trusts(t, z)
	z.set(func() { z.life = 50 * time.Minute })
	first := z.service(t, "system/*.rs")
	for range 2 {
		if !s.good(t, first) {
			t.Fatal("the first token is not good")
		}
	}
	if n := z.times("/keys"); n != len(s.verifiers) {
		t.Errorf("the keys were asked for %d times", n)
	}
	clock(time.Minute)
	z.set(func() { z.keys = append([]signingKey{newECKey("k2", jose.ES256, elliptic.P256())}, z.keys...) })
	second := z.service(t, "system/*.rs")
	if !s.good(t, second) || !s.good(t, first) {
		t.Error("a new key is not found, or the old one is gone")
	}
	asked := z.times("/keys")
	z.set(func() { z.keys[0].id = "made-up" })
	unknown := z.service(t, "system/*.rs")
	z.set(func() { z.keys[0].id = "k2" })
	for range 5 {
		if s.good(t, unknown) {
			t.Error("a key that there is not proves something")
		}
	}
	if n := z.times("/keys") - asked; n > len(s.verifiers) {
		t.Errorf("a made-up key was asked for %d times", n)
	}
	z.set(func() { z.keys = z.keys[:1] })
	clock(6 * time.Minute)
	s.good(t, second) // somebody asks, so that the keys are read again
	if s.good(t, first) || !s.good(t, second) {
		t.Error("a key that was taken away is still believed")
	}
	z.set(func() { z.down = true })
	clock(20 * time.Minute)
	if _, err := s.grant(t, s.slug, second); !fhir.IsCode(err, fhir.Transient) {
		t.Errorf("without keys the token is %v", err)
	}
	z.set(func() { z.down = false })
	clock(10 * time.Second)
	if !s.good(t, second) {
		t.Error("the token is not good when the issuer is back")
	}
}

// An issuer that is asked about its tokens takes one back within five seconds,
// may let one live for longer than an hour, and while it does not answer none is
// good. AUTHZ-07
func TestAnIssuerTakesTokensBack(t *testing.T) {
	s, z := newSite(t), newZitadel(t)
	clock := s.clock(t)
	is := z.elsewhere()
	is.Introspection.ClientID, is.Secret = "cordon", "idp-s3cret"
	s.trust(t, s.slug, is)
	z.set(func() { z.audience, z.life = []string{storetest.Base(s.slug)}, 5*time.Hour })
	bearer := z.service(t, "system/*.rs")
	for range 3 {
		if !s.good(t, bearer) {
			t.Fatal("the token is not good")
		}
	}
	if n := z.times("/oauth/introspect"); n != len(s.verifiers) {
		t.Errorf("the issuer was asked %d times", n)
	}
	g, err := s.grant(t, s.slug, bearer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verifiers[0].Keep(t.Context(), g); !fhir.IsCode(err, fhir.NotSupported) {
		t.Errorf("work for later is kept: %v", err)
	}
	z.set(func() { z.down = true })
	clock(6 * time.Second)
	if _, err := s.grant(t, s.slug, bearer); !fhir.IsCode(err, fhir.Transient) {
		t.Errorf("while the issuer is down the token is %v", err)
	}
	z.set(func() { z.down = false })
	if !s.good(t, bearer) {
		t.Error("the token is not good when the issuer is back")
	}
	z.set(func() { z.revoked[z.ids[0]] = true })
	clock(6 * time.Second)
	for range 2 {
		if s.good(t, bearer) {
			t.Error("a token that was taken back is good")
		}
	}
	is.Secret = "wrong"
	s.trust(t, s.slug, is)
	if _, err := s.grant(t, s.slug, z.service(t, "system/*.rs")); !fhir.IsCode(err, fhir.Transient) {
		t.Errorf("without proving who asks the token is %v", err)
	}
}

// Work that goes on after its request ends with what it was begun with: the
// issuer that the tenant trusts, and the key. AUTHZ-03
func TestWorkForAnotherIssuersTokenEndsWithTheIssuer(t *testing.T) {
	s, z := newSite(t), newZitadel(t)
	s.trusts(t, z)
	g, err := s.grant(t, s.slug, z.service(t, "system/*.rs"))
	if err != nil {
		t.Fatal(err)
	}
	v := s.verifiers[0]
	kept, err := v.Keep(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	again, err := v.Resume(t.Context(), s.Tenant(t, s.slug), kept, audit.Origin{Trail: audit.NewTrail()})
	if err != nil || again.Principal() != g.Principal() {
		t.Fatalf("it does not go on: %v", err)
	}
	is := z.elsewhere()
	is.Clients = []string{"sid1"}
	s.trust(t, s.slug, is)
	if _, err := v.Resume(t.Context(), s.Tenant(t, s.slug), kept, audit.Origin{Trail: audit.NewTrail()}); !fhir.IsCode(err, fhir.Login) {
		t.Errorf("it goes on with what the tenant believes no more: %v", err)
	}
}

// An issuer behind the operator's walls is not asked, nor one that sends us
// there.
func TestAnIssuerLeadsNowhereElse(t *testing.T) {
	s, z := newSite(t), newZitadel(t)
	is := z.elsewhere()
	is.URL = strings.Replace(z.url, "127.0.0.1", "127.0.0.2", 1)
	s.trust(t, s.slug, is)
	if s.server.Configuration(s.slug) != nil {
		t.Error("a forbidden address was asked")
	}
	i := newIDP(t, "127.0.0.1:0")
	i.discovery = map[string]any{"jwks_uri": strings.Replace(z.url, "127.0.0.1", "127.0.0.2", 1) + "/keys"}
	s.trust(t, s.slug, smart.Issuer{URL: i.URL, Type: "JWT"})
	claims, err := json.Marshal(map[string]any{"iss": i.URL, "aud": storetest.Base(s.slug), "sub": "u", "client_id": "c", "scope": "system/*.rs",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.grant(t, s.slug, i.rs256(claims)); !fhir.IsCode(err, fhir.Transient) {
		t.Errorf("its keys were read: %v", err)
	}
	if z.times("/keys") != 0 {
		t.Error("a forbidden address was asked for keys")
	}
}

// A user logs in by a provider that others wrote, with PKCE, and what it says is
// understood.
func TestAUserLogsInByAProviderThatOthersWrote(t *testing.T) {
	s := newSite(t)
	z := newZitadel(t, storetest.Issuer(s.slug)+"/callback/hospital")
	s.provider(t, smart.Provider{
		Name: "hospital", Label: "Hospital login", Issuer: z.url, ClientID: "cordon", Secret: "idp-s3cret", Open: true,
		Mapping: smart.Mapping{User: smart.Claim{Name: "sub", Values: map[string]string{"id1": "Practitioner/dr1"}}},
	})
	p := s.person()
	p.send("GET", "authorize?"+s.ask().Encode(), "")
	to := p.sentTo(t, "hospital")
	back, ok := strings.CutPrefix(z.browse(t, to), storetest.Issuer(s.slug)+"/")
	if !ok {
		t.Fatalf("sent back to %s", back)
	}
	p.send("GET", back, "")
	p.submit(t, "patient", "p1")
	p.submit(t, "answer", "allow")
	got := s.redeem(t, p.back(t).Get("code"))
	if got.status != http.StatusOK || !s.good(t, got.AccessToken) {
		t.Fatalf("%+v", got)
	}
	if !s.audited(t, "Practitioner/dr1", "callback: logged in by hospital") {
		t.Errorf("audited: %+v", s.reasons(t))
	}
}

// A token that was verified before costs microseconds, whoever signed it.
func BenchmarkGrantOfAnotherIssuer(b *testing.B) {
	s, z := newSite(b), newZitadel(b)
	s.trusts(b, z)
	bearer, ctx := z.service(b, "system/*.rs"), b.Context()
	for b.Loop() {
		if _, err := s.verifiers[0].Grant(ctx, s.slug, bearer, audit.Origin{}); err != nil {
			b.Fatal(err)
		}
	}
}
