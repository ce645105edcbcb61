package conformance

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/errgroup"

	attacks "github.com/cordon-fhir/cordon/breakout"
	"github.com/cordon-fhir/cordon/smart/smarttest"
)

// The rules of alerts about tokens.
const (
	mutatedClaims   = attacks.MutatedClaims
	tokenReuse      = "token-reuse"
	foreignAudience = "foreign-audience"
)

// Group 2 of the breakout suite: tokens, SMART launch, client authentication.
// What needs tokens that no client can earn is tested by smart.
func TestLaunch(t *testing.T) {
	t.Run("tokens", testTokens)
	t.Run("users", testUsers)
	t.Run("clients", testClients)
}

// refusedToken wants 401, and the same for each.
func (p *probe) refusedToken(bearers map[string]string) {
	p.Helper()
	never := p.want(p.bearing(p.attacker, "never-was", "/Patient/p1"), 401)
	for claim, bearer := range bearers {
		p.same(claim, never, p.bearing(p.attacker, bearer, "/Patient/p1"))
	}
}

func testTokens(t *testing.T) {
	breakout(t, "T020 T022 T024 a token brings no key and no algorithm of its own", func(p *probe) {
		p.alertsOptional(mutatedClaims)
		token, err := p.attacker.actors["backend"].Token(p.Context())
		if err != nil {
			p.Fatal(err)
		}
		theirs, err := p.victim.actors["backend"].Token(p.Context())
		if err != nil {
			p.Fatal(err)
		}
		dialed, at := p.trap()
		parts, foreign := strings.Split(token, "."), strings.Split(theirs, ".")
		claims, err := decode64(parts[1])
		if err != nil {
			p.Fatal(err)
		}
		public := p.auth(p.attacker, "GET", "jwks", "").body
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(public, &set); err != nil {
			p.Fatal(err)
		}
		signing, err := set.Keys[0].MarshalJSON()
		if err != nil {
			p.Fatal(err)
		}
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			p.Fatal(err)
		}
		bearers := map[string]string{
			"the public key as a secret":       signed(jose.HS256, signing, claims, map[jose.HeaderKey]any{"kid": set.Keys[0].KeyID, "typ": "at+jwt"}),
			"all public keys as a secret":      signed(jose.HS256, public, claims, map[jose.HeaderKey]any{"kid": set.Keys[0].KeyID, "typ": "at+jwt"}),
			"another tenant's, with our kid":   parts[0] + "." + foreign[1] + "." + foreign[2],
			"our claims, another's signature":  parts[0] + "." + parts[1] + "." + foreign[2],
			"our claims under another's kid":   foreign[0] + "." + parts[1] + "." + parts[2],
			"an encrypted one, of many rounds": encode64(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA"}`) + ".AA.AA.AA.AA",
		}
		for name, value := range map[jose.HeaderKey]any{"jku": at, "x5u": at, "jwk": &jose.JSONWebKey{Key: &own.PublicKey, KeyID: set.Keys[0].KeyID}} {
			bearers["a header "+string(name)] = signed(jose.ES256, own, claims, map[jose.HeaderKey]any{"kid": set.Keys[0].KeyID, "typ": "at+jwt", name: value})
		}
		p.refusedToken(bearers)
		if n := dialed(); n > 0 {
			p.Errorf("%d connections to where a token points", n)
		}
	})

	breakout(t, "T021 a key id is looked up and nothing else", func(p *probe) {
		p.alertsOptional(mutatedClaims)
		token, err := p.attacker.actors["backend"].Token(p.Context())
		if err != nil {
			p.Fatal(err)
		}
		dialed, at := p.trap()
		parts := strings.Split(token, ".")
		bearers := map[string]string{}
		for _, kid := range []string{"unknown", "", "../../etc/passwd", "' OR 1=1--", at, strings.Repeat("k", 20_000), "\x00"} {
			header, err := json.Marshal(map[string]string{"alg": "ES256", "typ": "at+jwt", "kid": kid})
			if err != nil {
				p.Fatal(err)
			}
			bearers[fmt.Sprintf("kid %.20q", kid)] = encode64(string(header)) + "." + parts[1] + "." + parts[2]
		}
		p.refusedToken(bearers)
		if n := dialed(); n > 0 {
			p.Errorf("%d connections to where a key id points", n)
		}
	})

	breakout(t, "T026 what is no access token opens nothing", func(p *probe) {
		p.alertsOptional(mutatedClaims)
		got := p.granted(p.attacker)
		p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p1"), 200)
		h := p.home(p.attacker)
		p.refusedToken(map[string]string{
			"an ID token": got.IDToken, "a refresh token": got.RefreshToken, "a code": p.code(p.attacker),
			"a client assertion": p.assertion(p.attacker, "signing-app", h.keys["signing-app"], map[string]any{"aud": p.attacker.base}),
		})
		p.alert(crossTenant, 1)
		p.want(p.send(&call{method: "GET", url: p.victim.base + "/Patient/p1", header: map[string][]string{}, bearer: got.AccessToken, either: p.attacker}), 403)
	})

	once(t, "T030 what is long and malformed costs nobody anything", func(p *probe) {
		g, _ := errgroup.WithContext(p.Context())
		g.SetLimit(32)
		for i := range 300 {
			bearer := strings.Repeat(".", 8000)
			if i%2 == 1 {
				bearer = encode64(`{"alg":"ES256","kid":"`+strings.Repeat("k", 6000)+`"}`) + ".e30.AAAA"
			}
			g.Go(func() error {
				r, err := p.try(&call{method: "GET", url: p.attacker.base + "/Patient/p1", header: map[string][]string{}, bearer: bearer})
				if err == nil && r.status != 401 {
					err = fmt.Errorf("token %d: %s", i, r)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			p.Error(err)
		}
	})

	breakout(t, "T034 a token that was revoked opens nothing", func(p *probe) {
		got := p.granted(p.attacker)
		p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p1"), 200)
		for _, form := range []url.Values{
			{"client_id": {"other-app"}, "token": {got.AccessToken}}, {"client_id": {"other-app"}, "token": {got.RefreshToken}},
		} { // T055
			p.want(p.auth(p.attacker, "POST", "revoke", form.Encode()), 200)
		}
		p.home(p.victim)
		p.want(p.auth(p.victim, "POST", "revoke", url.Values{"client_id": {"app"}, "token": {got.RefreshToken}}.Encode()), 200)
		p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p1"), 200)
		p.want(p.auth(p.attacker, "POST", "revoke", url.Values{"client_id": {"app"}, "token": {got.RefreshToken}}.Encode()), 200)
		for range 100 {
			p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p1"), 401)
		}
		p.want(p.refresh(p.attacker, got.RefreshToken).reply, 400)
	})

	breakout(t, "T054 nobody learns of another tenant's token", func(p *probe) {
		got := p.granted(p.attacker)
		if told := p.introspected(p.attacker, got.AccessToken); told["active"] != true || told["patient"] != "p1" {
			p.Errorf("at home: %v", told)
		}
		for claim, token := range map[string]string{"an access token": got.AccessToken, "a refresh token": got.RefreshToken, "an ID token": got.IDToken, "nonsense": "x"} {
			if told := p.introspected(p.victim, token); len(told) != 1 || told["active"] != false {
				p.Errorf("%s: %v", claim, told)
			}
		}
	})

	breakout(t, "T056 what a tenant says of itself is of no other", func(p *probe) {
		for _, r := range []*reply{
			p.want(p.send(&call{method: "GET", url: p.attacker.base + "/.well-known/smart-configuration", header: map[string][]string{}}), 200),
			p.want(p.send(&call{method: "GET", url: p.attacker.base + "/metadata", header: map[string][]string{}}), 200),
			p.want(p.auth(p.attacker, "GET", ".well-known/openid-configuration", ""), 200),
			p.want(p.auth(p.attacker, "GET", "brands", ""), 200),
		} {
			for _, other := range append(sys.parties, sys.Z9) {
				if other != p.attacker && bytes.Contains(r.body, []byte(other.slug)) {
					p.Errorf("it names %s: %s", other.slug, r)
				}
			}
		}
		ours, theirs := p.auth(p.attacker, "GET", "jwks", ""), p.auth(p.victim, "GET", "jwks", "")
		var a, b jose.JSONWebKeySet
		if json.Unmarshal(ours.body, &a) != nil || json.Unmarshal(theirs.body, &b) != nil || len(a.Keys) < 2 {
			p.Fatalf("no keys: %s", ours)
		}
		for _, key := range a.Keys {
			if len(b.Key(key.KeyID)) > 0 || !key.IsPublic() {
				p.Errorf("key %s is of both, or not public", key.KeyID)
			}
		}
	})
}

func testUsers(t *testing.T) {
	breakout(t, "T029 T043 nobody changes what a launch is about", func(p *probe) {
		launch, _ := p.opens(p.attacker)
		ask := []string{"scope", "openid fhirUser launch patient/*.rs", "launch", launch}
		p.home(p.victim)
		for claim, at := range map[string]*party{"another app": p.attacker, "another tenant": p.victim} {
			v := p.visitor(at)
			v.asks(append(ask, "client_id", map[*party]string{p.attacker: "other-app", p.victim: "app"}[at])...)
			if v.logIn("doctor"); v.back().Get("error") != "invalid_request" {
				p.Errorf("%s takes it up: %v", claim, v.back())
			}
		}
		v := p.visitor(p.attacker)
		v.asks(ask...)
		if v.logIn("colleague"); v.back().Get("error") != "access_denied" {
			p.Errorf("another user takes it up: %v", v.back())
		}
		v = p.visitor(p.attacker)
		v.asks(ask...)
		v.logIn("doctor")
		shown := v.page
		_, fields := v.form()
		sealed := []byte(fields.Get("request"))
		sealed[len(sealed)/2] ^= 1
		v.want(v.submit("answer", "allow", "request", string(sealed)), 400)
		v.page = shown
		v.submit("answer", "allow", "patient", "p2", "launch", "x")
		got := p.redeem(p.attacker, v.back().Get("code"), "patient", "p2", "launch", "x")
		if got.Patient != "p1" || got.Encounter != "e1" {
			p.Errorf("the launch is now about %s", got.reply)
		}
		p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p2"), 404)
		again := p.visitor(p.attacker)
		again.asks(ask...)
		if again.logIn("doctor"); again.back().Get("error") != "invalid_request" {
			p.Errorf("it is taken up twice: %v", again.back())
		}
	})

	once(t, "T038 T039 a code is for who has the verifier", func(p *probe) {
		for _, changed := range [][]string{
			{"code_challenge", "-"}, {"code_challenge_method", "plain"}, {"code_challenge_method", "-"}, {"code_challenge", "short"},
			{"code_challenge_method", "plain", "code_challenge", verifier},
		} {
			v := p.visitor(p.attacker)
			if v.asks(changed...); v.back().Get("error") != "invalid_request" || v.back().Has("code") {
				p.Errorf("%v: %v", changed, v.back())
			}
		}
		code := p.code(p.attacker)
		for claim, with := range map[string]string{
			"none": "-", "an empty one": "", "a short one": "abc", "another": "b" + verifier[1:], "the challenge": challenge(verifier), "one too long": strings.Repeat("v", 129),
		} {
			if got := p.redeem(p.attacker, code, "code_verifier", with); got.status != 400 || got.Error != "invalid_grant" {
				p.Errorf("%s: %s", claim, got.reply)
			}
		}
		p.want(p.redeem(p.attacker, code).reply, 200)
	})

	breakout(t, "T040 a code is good once, where it was given, for whom", func(p *probe) {
		code := p.code(p.attacker)
		secret := p.home(p.attacker).secrets["secret-app"]
		for claim, changed := range map[string][]string{
			"another public client": {"client_id", "other-app"}, "another client": {"client_id", "secret-app", "client_secret", secret},
			"another address": {"redirect_uri", "https://app.example/other?x=1"}, "no address": {"redirect_uri", "-"}, "a part of it": {"code", code[:len(code)-2]},
		} {
			if got := p.redeem(p.attacker, code, changed...); got.status != 400 || got.Error != "invalid_grant" {
				p.Errorf("%s: %s", claim, got.reply)
			}
		}
		p.home(p.victim)
		p.want(p.redeem(p.victim, code).reply, 400)
		got := p.redeem(p.attacker, code)
		p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p1"), 200)
		p.alert(tokenReuse, 1)
		p.want(p.redeem(p.attacker, code).reply, 400)
		p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p1"), 401)
	})

	once(t, "T040 T043 T046 what is over opens nothing", func(p *probe) {
		conn, err := sys.asSuperuser(p.Context(), "cordon_registry")
		if err != nil {
			p.Fatal(err)
		}
		over := func(table, column string) {
			if _, err := conn.Exec(p.Context(), `UPDATE registry.`+table+` SET `+column+` = now() WHERE tenant_id = $1`, p.attacker.number); err != nil {
				p.Fatal(err)
			}
		}
		code := p.code(p.attacker)
		over("approval", "code_expires")
		p.want(p.redeem(p.attacker, code).reply, 400)

		got := p.granted(p.attacker)
		over("refresh_token", "expires")
		p.want(p.refresh(p.attacker, got.RefreshToken).reply, 400)

		for late := range 2 { // before the user has logged in, and after
			launch, _ := p.opens(p.attacker)
			v := p.visitor(p.attacker)
			v.asks("scope", "launch patient/*.rs", "launch", launch)
			if late == 0 {
				over("launch", "expires")
			}
			v.logIn("doctor")
			if late == 1 {
				over("launch", "expires")
				v.submit("answer", "allow")
			}
			if v.back().Get("error") != "invalid_request" {
				p.Errorf("a launch that is over: %v", v.back())
			}
		}

		v := p.visitor(p.attacker)
		v.load("GET", "account", nil)
		v.logIn("doctor")
		over("session", "expires")
		v.want(v.submit("answer", "logout"), 400, 401)
		if v.load("GET", "account", nil); !bytes.Contains(v.page.body, []byte(`name="password"`)) {
			p.Errorf("a session that is over goes on: %s", v.page)
		}
	})

	once(t, "T041 nobody is sent to an address that is not registered", func(p *probe) {
		v := p.visitor(p.attacker)
		for _, address := range []string{
			callback + "/x", callback + "?x=1", callback + "#x", callback + "/", "https://app.example@evil.example/callback", "https://app.example:444/callback",
			"https://app.example.evil.example/callback", "https://xn--pp-xla.example/callback", "http://app.example/callback", "http://localhost.evil.example/",
			"https://app.example/other?x=1&y=2", "https://app.example/redirect?to=https://evil.example", "HTTPS://APP.EXAMPLE/callback", "javascript:alert(1)", "//evil.example", "-", "",
		} {
			if r := v.want(v.asks("redirect_uri", address), 400); r.header.Get("Location") != "" || r.header.Get("Refresh") != "" {
				v.Errorf("%q: sent to %s", address, r.header.Get("Location"))
			}
		}
	})

	breakout(t, "T042 an app that means another server gets no code", func(p *probe) {
		v := p.visitor(p.attacker)
		for _, aud := range []string{p.victim.base, sys.FHIR + "/" + X0, p.attacker.base + ".evil.example", "https://fhir.evil.example/" + p.attacker.slug,
			strings.ToUpper(p.attacker.base), p.attacker.base + "//", p.attacker.base + "x", sys.FHIR, "", "-"} {
			p.alert(foreignAudience, 1)
			if r := v.want(v.asks("aud", aud), 400); r.header.Get("Location") != "" {
				v.Errorf("%q: sent to %s", aud, r.header.Get("Location"))
			}
		}
		v.want(v.asks("aud", p.attacker.base+"/"), 200)
		v.want(v.asks("aud", "-", "resource", p.attacker.base), 200)
	})

	breakout(t, "T044 a user chooses among those whom they may see", func(p *probe) {
		v := p.visitor(p.attacker)
		v.asks()
		v.logIn("doctor")
		shown := v.page
		for _, id := range []string{p.victim.walkedID(3), p.victim.canaries["id"], "never-was", "../p1", "p1/$everything"} {
			v.page = shown
			v.want(v.submit("patient", id), 400)
		}
		v.page = shown
		for _, name := range []string{"Solitary", "V-777-" + p.victim.slug, p.victim.canaries["name"], p.victim.canaries["mrn"]} {
			v.page = shown
			v.want(v.submit("name", name), 200)
			for _, row := range patientButton.FindAllSubmatch(v.page.body, -1) {
				if id := string(row[1]); strings.Contains(id, p.victim.slug) || id == p.victim.canaries["id"] || id == "p1" {
					v.Errorf("%s finds %s", name, id)
				}
			}
		}
		own := p.visitor(p.attacker)
		own.asks()
		if own.logIn("patient"); bytes.Contains(own.page.body, []byte(p.attacker.canaries["other"])) {
			p.Errorf("a patient is shown another: %s", own.page)
		}
		nobody := p.visitor(p.attacker)
		nobody.asks()
		if nobody.logIn("relative"); nobody.back().Get("error") != "access_denied" {
			p.Errorf("who may see nobody: %v", nobody.back())
		}
	})

	once(t, "T045 a refresh token that comes twice ends all that came of it", func(p *probe) {
		first := p.granted(p.attacker)
		second := p.refresh(p.attacker, first.RefreshToken)
		third := p.refresh(p.attacker, second.RefreshToken)
		p.want(p.bearing(p.attacker, third.AccessToken, "/Patient/p1"), 200)
		p.alert(tokenReuse, 1)
		p.want(p.refresh(p.attacker, first.RefreshToken).reply, 400)
		for _, dead := range []tokens{first, second, third} {
			p.want(p.bearing(p.attacker, dead.AccessToken, "/Patient/p1"), 401)
		}
		p.want(p.refresh(p.attacker, third.RefreshToken).reply, 400)
	})

	// AUTHZ-04
	breakout(t, "T046 a refresh token is good at home, for as much, for as long as it is wanted", func(p *probe) {
		got := p.redeem(p.attacker, p.codeOf(p.attacker, "colleague")) // who has agreed to little else
		p.home(p.victim)
		p.want(p.refresh(p.victim, got.RefreshToken).reply, 400)
		for claim, scope := range map[string]string{"more": "patient/*.cruds", "another's": "user/*.rs", "a word more": "patient/*.rs online_access", "nonsense": "x"} {
			if r := p.refresh(p.attacker, got.RefreshToken, "scope", scope); r.status != 400 || r.Error != "invalid_scope" {
				p.Errorf("%s: %s", claim, r.reply)
			}
		}
		p.want(p.refresh(p.attacker, got.RefreshToken, "client_id", "other-app").reply, 400)
		less := p.refresh(p.attacker, got.RefreshToken, "scope", "patient/Observation.rs")
		if less.Scope != "patient/Observation.rs" || less.Patient != "p1" {
			p.Errorf("less: %s", less.reply)
		}
		p.want(p.bearing(p.attacker, less.AccessToken, "/Condition?patient=p1"), 403)

		v := p.visitor(p.attacker) // takes the consent back
		v.load("GET", "account", nil)
		v.logIn("colleague")
		for bytes.Contains(v.page.body, []byte(`name="revoke"`)) {
			_, id, _ := strings.Cut(string(v.page.body), `name="revoke" value="`)
			id, _, _ = strings.Cut(id, `"`)
			v.want(v.submit("revoke", id), 200)
		}
		p.want(p.refresh(p.attacker, less.RefreshToken).reply, 400)
		p.want(p.bearing(p.attacker, less.AccessToken, "/Patient/p1"), 401)

		disabled := p.redeem(p.attacker, p.codeOf(p.attacker, "colleague"))
		p.cordon("user", "disable", "--tenant", p.attacker.slug, "colleague")
		defer p.cordon("user", "enable", "--tenant", p.attacker.slug, "colleague")
		p.want(p.refresh(p.attacker, disabled.RefreshToken).reply, 400)
		p.until("the token of a disabled user is refused", func() bool {
			return p.bearing(p.attacker, disabled.AccessToken, "/Patient/p1").status == 401
		})
	})
}

// patientButton lets a user choose a patient.
var patientButton = regexp.MustCompile(`name="patient" value="([^"]*)"`)

func testClients(t *testing.T) {
	breakout(t, "T047 T048 T049 an assertion is of its client, for here, once", func(p *probe) {
		key, other := p.attacker.actors["reader"].Key, p.attacker.actors["billing"].Key
		assert := func(changed map[string]any) string { return p.assertion(p.attacker, "reader", key, changed) }
		for claim, text := range map[string]string{
			"another client's key": p.assertion(p.attacker, "reader", other, nil), "another subject": assert(map[string]any{"sub": "backend"}),
			"another issuer": assert(map[string]any{"iss": "backend"}), "another tenant's endpoint": assert(map[string]any{"aud": p.victim.issuer() + "/token"}),
			"an audience that begins alike": assert(map[string]any{"aud": p.attacker.issuer() + "/token.evil.example"}), "no audience": assert(map[string]any{"aud": nil}),
			"no end": assert(map[string]any{"exp": nil}), "too long": assert(map[string]any{"exp": time.Now().Add(time.Hour).Unix()}),
			"over": assert(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "no id": assert(map[string]any{"jti": nil}),
			"the victim's client": p.assertion(p.victim, "reader", p.victim.actors["reader"].Key, nil),
		} {
			if got := p.service(p.attacker, text, "system/*.rs"); got.status != 401 || got.Error != "invalid_client" {
				p.Errorf("%s: %s", claim, got.reply)
			}
		}
		if got := p.service(p.attacker, assert(nil), "system/*.rs", "client_id", "backend"); got.status < 400 || got.status > 401 {
			p.Errorf("another client_id: %s", got.reply)
		}
		once := assert(nil)
		p.want(p.service(p.attacker, once, "system/*.rs").reply, 200)
		p.want(p.service(p.attacker, once, "system/*.rs").reply, 401)
	})

	once(t, "T050 T051 no other way leads to a token", func(p *probe) {
		h := p.home(p.attacker)
		v := p.visitor(p.attacker)
		for _, kind := range []string{"token", "id_token", "code token", ""} {
			if v.asks("response_type", kind); v.back().Get("error") != "unsupported_response_type" {
				p.Errorf("response_type %q: %v", kind, v.back())
			}
		}
		for _, grant := range []string{"password", "implicit", "urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:grant-type:token-exchange",
			"urn:ietf:params:oauth:grant-type:jwt-bearer", "client_credentials ", "", "-"} {
			got := p.token(p.attacker, change(url.Values{"client_id": {"secret-app"}, "client_secret": {h.secrets["secret-app"]}, "username": {"doctor"}, "password": {password}}, "grant_type", grant))
			if got.status != 400 || got.Error != "unsupported_grant_type" && got.Error != "invalid_request" {
				p.Errorf("grant_type %q: %s", grant, got.reply)
			}
		}
		for _, id := range []string{"app", "secret-app"} {
			got := p.token(p.attacker, url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"}, "client_id": {id}, "client_secret": {h.secrets[id]}})
			if got.status < 400 || got.status > 401 {
				p.Errorf("%s as a service: %s", id, got.reply)
			}
		}
		text := p.assertion(p.attacker, "reader", p.attacker.actors["reader"].Key, nil)
		query := url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"}, "client_assertion_type": {bearerType}, "client_assertion": {text}}.Encode()
		p.want(p.auth(p.attacker, "GET", "token?"+query, ""), 404, 405)
		p.want(p.auth(p.attacker, "POST", "token?"+query, ""), 400, 401)
		p.want(p.auth(p.attacker, "POST", "token", query+"&grant_type=client_credentials"), 400)
	})

	once(t, "T052 what is granted is what is enforced", func(p *probe) {
		long := strings.Repeat("patient/Observation.rs ", 10_000)
		v := p.visitor(p.attacker)
		v.want(v.load("POST", "authorize", p.attacker.request("scope", long)), 303, 400, 413)
		for _, tt := range []struct {
			asked        string
			given        bool
			reads, finds bool // a patient, observations
		}{
			{"patient/*.*", true, true, true},
			{"patient/*.cruds", true, true, true},
			{"patient/*.rd", true, true, false},
			{"patient/Observation.rs?category=laboratory", true, false, true},
			{"patient/*.dus", false, false, false},
			{"patient/*.", false, false, false},
			{"patient/Obs.rs", false, false, false},
			{"Patient/*.rs", false, false, false},
			{"system/*.cruds", false, false, false},
			{"patient/*.rs?x=1", false, false, false},
			{"patient/Observation.rs?code=x&_include=*", false, false, false},
			{"patient/Observation.rs?subject:Patient.name=x", false, false, false},
			{"patient/Observation.rs?code:in=http://example.org/ValueSet/all", false, false, false},
		} {
			want := "openid launch/patient"
			if tt.given {
				want += " " + tt.asked
			}
			got := p.redeem(p.attacker, p.code(p.attacker, "scope", "openid launch/patient "+tt.asked))
			if !sameWords(got.Scope, want) {
				p.Errorf("%s: got %q", tt.asked, got.Scope)
			}
			for path, covered := range map[string]bool{"/Patient/p1": tt.reads, "/Observation?patient=p1": tt.finds} {
				if status := p.bearing(p.attacker, got.AccessToken, path).status; covered != (status == 200) || !covered && status != 403 {
					p.Errorf("%s: %s answers %d", tt.asked, path, status)
				}
			}
			p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p2"), 403, 404)
		}
	})

	once(t, "T053 a token is a bearer's, and no other scheme is heard", func(p *probe) {
		token, err := p.attacker.actors["reader"].Token(p.Context())
		if err != nil {
			p.Fatal(err)
		}
		for _, header := range []string{"DPoP " + token, "Basic " + token, "bearer" + token, "Bearer  " + token + " x", token} {
			p.want(p.send(&call{method: "GET", url: p.attacker.base + "/Patient/p1", header: map[string][]string{"Authorization": {header}}, either: p.attacker}), 401)
		}
	})
}

// signed signs claims with a key and headers of the test's own.
func signed(alg jose.SignatureAlgorithm, key any, claims string, headers map[jose.HeaderKey]any) string {
	return smarttest.Sign(alg, key, &jose.SignerOptions{ExtraHeaders: headers}, []byte(claims))
}

// trap is an address at which nobody must knock. dialed says how many did.
func (p *probe) trap() (dialed func() int32, address string) {
	p.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { listener.Close() })
	n := new(atomic.Int32)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			conn.Close()
		}
	}()
	return n.Load, "http://" + listener.Addr().String() + "/jwks"
}

// cordon runs a command of the program.
func (p *probe) cordon(args ...string) string {
	p.Helper()
	out, err := sys.Cordon(p.Context(), args...)
	if err != nil {
		p.Fatal(err)
	}
	return out
}

// until waits for what other threads of the server see to.
func (p *probe) until(what string, ok func() bool) {
	p.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.Fatalf("not within a minute: %s", what)
		}
	}
}
