package launch_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/smarttest"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// An idp is an OpenID Connect provider on a listener of its own. It holds its
// client to what it registered: PKCE, secret, address and a code that is good
// once.
// https://openid.net/specs/openid-connect-core-1_0.html
type idp struct {
	*httptest.Server
	key *rsa.PrivateKey

	mu    sync.Mutex
	codes map[string]url.Values
	// What a test lets it do wrong, or otherwise.
	claims     map[string]any // over those that are right; nil takes one off
	discovery  map[string]any
	sign       func(claims []byte) string
	iss, error string
	asked      url.Values // the last request
}

var idpKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newIDP(t testing.TB, address string) *idp {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	i := &idp{key: idpKey(), codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.configuration)
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &i.key.PublicKey, KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	})
	i.Server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: mux}}
	i.Start()
	t.Cleanup(i.Close)
	i.iss, i.sign = i.URL, i.rs256
	return i
}

func (i *idp) configuration(w http.ResponseWriter, _ *http.Request) {
	doc := map[string]any{
		"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/jwks",
		"authorization_response_iss_parameter_supported": true, "id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
	}
	for name, v := range i.discovery {
		doc[name] = v
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(doc)
}

func (i *idp) authorize(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = r.URL.Query()
	code := rand.Text()
	i.codes[code] = i.asked
	back := url.Values{"state": {i.asked.Get("state")}, "iss": {i.iss}, "code": {code}}
	if i.error != "" {
		back.Del("code")
		back.Set("error", i.error)
	}
	http.Redirect(w, r, i.asked.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (i *idp) token(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	asked, ok := i.codes[r.FormValue("code")]
	delete(i.codes, r.FormValue("code"))
	id, secret, _ := r.BasicAuth()
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !ok || id != "cordon" || secret != "idp-s3cret" || r.FormValue("redirect_uri") != asked.Get("redirect_uri") ||
		base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") {
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
		return
	}
	claims := map[string]any{
		"iss": i.URL, "sub": "u1", "aud": "cordon", "nonce": asked.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		"auth_time": time.Now().Unix(), "acr": "mfa", "amr": []string{"pwd", "otp"},
		"fhirUser": "Practitioner/dr1", "groups": []string{"EHR-Doctors", "Staff"}, "site": "loc1",
	}
	for name, v := range i.claims {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	text, _ := json.Marshal(claims)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": i.sign(text)})
}

func (i *idp) rs256(claims []byte) string { return signedBy(jose.RS256, i.key, claims) }

func signedBy(alg jose.SignatureAlgorithm, key any, claims []byte) string {
	return smarttest.Sign(alg, jose.JSONWebKey{Key: key, KeyID: "k1"}, nil, claims)
}

// hospital is how the tenant knows the provider.
func (i *idp) hospital() smart.Provider {
	return smart.Provider{
		Name: "hospital", Label: "Hospital login", Issuer: i.URL, ClientID: "cordon", Secret: "idp-s3cret", Open: true,
		Mapping: smart.Mapping{
			User:       smart.Claim{Name: "fhirUser"},
			Roles:      smart.Claim{Name: "groups", Values: map[string]string{"EHR-Doctors": "doctor"}},
			Facilities: smart.Claim{Name: "site"},
		},
	}
}

func (s *site) provider(t testing.TB, p smart.Provider) {
	t.Helper()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Registry.PutProvider(t.Context(), s.Tenant(t, s.slug), p); err != nil {
		t.Fatal(err)
	}
}

// sentTo chooses the provider on the login page and returns where it sends the
// person to.
func (p *person) sentTo(t testing.TB, provider string) string {
	t.Helper()
	sealed := inputTag.FindStringSubmatch(p.page.Body.String())
	p.send("POST", "federate", url.Values{"request": {sealed[3]}, "provider": {provider}}.Encode())
	to, ok := strings.CutPrefix(p.page.Header().Get("Refresh"), "0; url=")
	if !ok {
		t.Fatalf("not sent anywhere: %d %s", p.page.Code, p.page.Body)
	}
	return to
}

// away is sentTo, and returns where the provider sends the person back to, below
// the tenant's endpoints.
func (p *person) away(t testing.TB, provider string) string {
	t.Helper()
	to := p.sentTo(t, provider)
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, ok := strings.CutPrefix(resp.Header.Get("Location"), storetest.Issuer(p.slug)+"/")
	if !ok {
		t.Fatalf("sent back to %s", resp.Header.Get("Location"))
	}
	return back
}

// federated logs a person in by the provider, on the way to the app.
func (s *site) federated(t testing.TB, change ...string) *person {
	t.Helper()
	p := s.person()
	p.send("GET", "authorize?"+s.ask(change...).Encode(), "")
	p.send("GET", p.away(t, "hospital"), "")
	return p
}

// A user logs in by a provider of their tenant, and an app gets what it would
// get of a user who is known here, with what the provider's claims mean and how
// they logged in.
func TestAUserLogsInByAProviderOfTheirTenant(t *testing.T) {
	s, i := newSite(t), newIDP(t, "127.0.0.1:0")
	s.provider(t, i.hospital())
	p := s.federated(t)
	if p.page.Code != 200 || !strings.Contains(p.page.Body.String(), "Ashgrove") {
		t.Fatalf("%d %s", p.page.Code, p.page.Body)
	}
	p.submit(t, "patient", "p1")
	p.submit(t, "answer", "allow")
	got := s.redeem(t, p.back(t).Get("code"))
	if got.status != 200 || got.RefreshToken != "" || strings.Contains(got.Scope, "offline_access") {
		t.Fatalf("%+v", got)
	}
	if !s.good(t, got.AccessToken) {
		t.Error("the token opens nothing")
	}
	_, body, _ := strings.Cut(got.IDToken, ".")
	body, _, _ = strings.Cut(body, ".")
	text, _ := base64.RawURLEncoding.DecodeString(body)
	for _, want := range []string{`"sub":"hospital|u1"`, `"acr":"mfa"`, `"amr":["pwd","otp"]`, `/Practitioner/dr1"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the ID token lacks %s: %s", want, text)
		}
	}
	_, body, _ = strings.Cut(got.AccessToken, ".")
	body, _, _ = strings.Cut(body, ".")
	text, _ = base64.RawURLEncoding.DecodeString(body)
	if !strings.Contains(string(text), `"roles":["doctor"]`) || !strings.Contains(string(text), `"facilities":["loc1"]`) {
		t.Errorf("the token says %s", text)
	}
	if !s.audited(t, "Practitioner/dr1", "callback: logged in by hospital") {
		t.Errorf("audited: %+v", s.reasons(t))
	}
}

// What a provider says is believed only if it is about this login, said now, by
// it, to us, and signed with its key.
func TestAnAnswerThatIsNotAsItShouldBeLogsNobodyIn(t *testing.T) {
	s, i := newSite(t), newIDP(t, "127.0.0.1:0")
	s.provider(t, i.hospital())
	long := make([]string, 2000)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		claim  string
		claims map[string]any
		change func()
		why    string
	}{
		{"another issuer", map[string]any{"iss": "https://evil.example"}, nil, "not accepted"},
		{"another audience", map[string]any{"aud": "other"}, nil, "not accepted"},
		{"many audiences and no party", map[string]any{"aud": []string{"cordon", "other"}}, nil, "another party"},
		{"another party", map[string]any{"azp": "other"}, nil, "another party"},
		{"no nonce", map[string]any{"nonce": nil}, nil, "not for this login"},
		{"another nonce", map[string]any{"nonce": "n"}, nil, "not for this login"},
		{"expired", map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}, nil, "not accepted"},
		{"no expiry", map[string]any{"exp": nil}, nil, "not accepted"},
		{"not said when", map[string]any{"iat": nil}, nil, "another time"},
		{"said long ago", map[string]any{"iat": time.Now().Add(-time.Hour).Unix()}, nil, "another time"},
		{"said in the future", map[string]any{"iat": time.Now().Add(time.Hour).Unix()}, nil, "another time"},
		{"a login in the future", map[string]any{"auth_time": time.Now().Add(time.Hour).Unix()}, nil, "another time"},
		{"no subject", map[string]any{"sub": ""}, nil, "malformed"},
		{"a subject of control characters", map[string]any{"sub": "u\x001"}, nil, "malformed"},
		{"a huge subject", map[string]any{"sub": strings.Repeat("u", 256)}, nil, "malformed"},
		{"a huge token", map[string]any{"x": strings.Repeat("u", 70_000)}, nil, "too long"},
		{"amr of another type", map[string]any{"amr": "pwd"}, nil, "malformed"},
		{"another tenant's fhirUser", map[string]any{"fhirUser": storetest.Base(storetest.A1) + "/Practitioner/dr1"}, nil, "not of this tenant"},
		{"a fhirUser that is none", map[string]any{"fhirUser": "Observation/o1"}, nil, "fhirUser is not one"},
		{"a fhirUser with a way out", map[string]any{"fhirUser": "Practitioner/../Patient/p1"}, nil, "fhirUser is not one"},
		{"a fhirUser of another type", map[string]any{"fhirUser": 7}, nil, "fhirUser is not one"},
		{"two fhirUsers", map[string]any{"fhirUser": []string{"Practitioner/dr1", "Practitioner/dr2"}}, nil, "fhirUser is not one"},
		{"groups of another type", map[string]any{"groups": map[string]any{"a": 1}}, nil, "roles is not one"},
		{"too many groups", map[string]any{"groups": long}, nil, "roles is not one"},
		{"a facility that is no id", map[string]any{"site": "a/b"}, nil, "facilities holds"},
		{"a signature of another key", nil, func() { i.sign = func(c []byte) string { return signedBy(jose.RS256, other, c) } }, "not accepted"},
		{"a signature by the shared secret", nil, func() {
			i.sign = func(c []byte) string { return signedBy(jose.HS256, []byte("idp-s3cretidp-s3cretidp-s3cretid"), c) }
		}, "not accepted"},
		{"no signature", nil, func() {
			i.sign = func(c []byte) string {
				return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(c) + "."
			}
		}, "not accepted"},
		{"a claim twice", nil, func() {
			i.sign = func(c []byte) string { return i.rs256([]byte(`{"groups":"x",` + string(c[1:]))) }
		}, "each name once"},
		{"no ID token", nil, func() { i.sign = func([]byte) string { return "" } }, "no ID token"},
		{"another provider's answer", nil, func() { i.iss = "https://evil.example" }, "not the provider's"},
		{"an answer without a name", nil, func() { i.iss = "" }, "not the provider's"},
		{"a refusal", nil, func() { i.error = "access_denied" }, "the provider refused"},
	} {
		i.claims = tt.claims
		if tt.change != nil {
			tt.change()
		}
		p := s.person()
		p.send("GET", "account", "")
		back := p.away(t, "hospital")
		cookie := p.cookies["__Host-cordon-"+s.slug]
		p.send("GET", back, "")
		if p.page.Code != 401 || p.cookies["__Host-cordon-"+s.slug] != cookie {
			t.Errorf("%s: %d", tt.claim, p.page.Code)
		}
		if list := s.reasons(t); !strings.Contains(list[0].Reason, tt.why) {
			t.Errorf("%s: audited %q", tt.claim, list[0].Reason)
		}
		i.claims, i.sign, i.iss, i.error = nil, i.rs256, i.URL, ""
	}
}

// Groups that the mapping does not name give no role, whatever they are called.
func TestAProviderGivesNoRoleThatIsNotMapped(t *testing.T) {
	s, i := newSite(t), newIDP(t, "127.0.0.1:0")
	s.provider(t, i.hospital())
	i.claims = map[string]any{"groups": []string{"doctor", "admin", "ehr-doctors", "EHR-Doctors "}, "roles": []string{"doctor"}}
	p := s.federated(t, "scope", "openid user/Patient.rs")
	p.submit(t, "answer", "allow")
	got := s.redeem(t, p.back(t).Get("code"))
	_, body, _ := strings.Cut(got.AccessToken, ".")
	body, _, _ = strings.Cut(body, ".")
	text, _ := base64.RawURLEncoding.DecodeString(body)
	if got.status != 200 || strings.Contains(string(text), "doctor") || strings.Contains(string(text), "admin") {
		t.Errorf("%d: the token says %s", got.status, text)
	}
}

// A login is good in the browser that began it, once, at the tenant and the
// provider where it was begun. CP-08
func TestALoginAtAProviderIsGoodOnceWhereItWasBegun(t *testing.T) {
	s, i, second := newSite(t), newIDP(t, "127.0.0.1:0"), newIDP(t, "127.0.0.1:0")
	s.provider(t, i.hospital())
	lab := second.hospital()
	lab.Name = "lab"
	s.provider(t, lab)
	begin := func() (*person, string) {
		p := s.person()
		p.send("GET", "account", "")
		return p, p.away(t, "hospital")
	}
	victim := s.person()
	victim.send("GET", "account", "")
	attacker, back := begin()
	if victim.send("GET", back, ""); victim.page.Code != 400 {
		t.Errorf("a login that another browser began: %d", victim.page.Code)
	}
	if attacker.send("GET", strings.Replace(back, "callback/hospital", "callback/lab", 1), ""); attacker.page.Code != 400 {
		t.Errorf("another provider's address: %d", attacker.page.Code)
	}
	other := *s
	other.slug = storetest.A1
	stray, back := begin()
	there := &person{site: &other, cookies: map[string]string{"__Host-cordon-" + other.slug: stray.cookies["__Host-cordon-"+s.slug]}, header: http.Header{}}
	if there.send("GET", back, ""); there.page.Code != 400 {
		t.Errorf("another tenant: %d", there.page.Code)
	}
	p, back := begin()
	before := p.cookies["__Host-cordon-"+s.slug]
	if p.send("GET", back, ""); p.page.Code != 200 || p.cookies["__Host-cordon-"+s.slug] == before {
		t.Fatalf("the login itself: %d", p.page.Code)
	}
	if p.send("GET", back, ""); p.page.Code != 400 {
		t.Errorf("the same again: %d", p.page.Code)
	}
	p.cookies["__Host-cordon-"+s.slug] = before
	if p.send("GET", back, ""); p.page.Code != 400 {
		t.Errorf("the same again in the browser as it was: %d", p.page.Code)
	}
	for _, bad := range []string{"callback/hospital", "callback/hospital?code=c&state=s", "callback/hospital?state=" + strings.Repeat("s", 5000), "callback/nobody?state=s", "callback/hospital?state=a&state=b"} {
		if p.send("GET", bad, ""); p.page.Code != 400 {
			t.Errorf("unasked: %d", p.page.Code)
		}
	}
}

// A user whom nobody has let in is refused, unless the provider is open; one who
// is shut out loses all at once; and so do all users of a provider that is
// removed.
func TestWhoIsLetInIsTheTenantsToSay(t *testing.T) {
	s, i := newSite(t), newIDP(t, "127.0.0.1:0")
	closed := i.hospital()
	closed.Open = false
	s.provider(t, closed)
	at := s.Tenant(t, s.slug)
	if p := s.federated(t); p.page.Code != 401 || !s.audited(t, "Practitioner/dr1", "callback: access_denied, the user is not let in") {
		t.Errorf("a user whom nobody knows: %d", p.page.Code)
	}
	let := func(disabled bool) {
		t.Helper()
		if err := s.Registry.PutProviderUser(t.Context(), at, "hospital", store.ProviderUser{Subject: "u1", Disabled: disabled}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(smart.RevocationDelay)
	}
	let(false)
	token := func() string {
		t.Helper()
		p := s.federated(t, "scope", "openid user/Patient.rs")
		p.submit(t, "answer", "allow")
		return s.redeem(t, p.back(t).Get("code")).AccessToken
	}
	bearer := token()
	if !s.good(t, bearer) {
		t.Error("a user who is let in gets nothing")
	}
	let(true)
	if s.good(t, bearer) {
		t.Error("a user who is shut out keeps a token")
	}
	s.provider(t, i.hospital()) // open, but not for who is shut out
	if p := s.federated(t); p.page.Code != 401 {
		t.Errorf("a user who is shut out: %d", p.page.Code)
	}
	let(false)
	bearer = token()
	moved := i.hospital()
	moved.Issuer = "https://elsewhere.example"
	if _, err := s.Registry.PutProvider(t.Context(), at, moved); err != store.ErrOtherIssuer {
		t.Errorf("another issuer: %v", err)
	}
	if err := s.Registry.RemoveProvider(t.Context(), at, "hospital"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(smart.RevocationDelay)
	if s.good(t, bearer) {
		t.Error("a token outlives the provider of its user")
	}
}

// A provider is asked where the operator allows, and what it says of itself
// sends neither us nor a user anywhere less safe.
func TestAProviderIsAskedWhereTheOperatorAllows(t *testing.T) {
	s := newSite(t)
	behind, led := newIDP(t, "127.0.0.2:0"), newIDP(t, "127.0.0.1:0")
	led.discovery = map[string]any{"token_endpoint": behind.URL + "/token"}
	s.provider(t, behind.hospital())
	p := s.person()
	p.send("GET", "account", "")
	sealed := inputTag.FindStringSubmatch(p.page.Body.String())
	for _, name := range []string{"hospital", "nobody", "", "../x", "a\x00"} {
		p.send("POST", "federate", url.Values{"request": {sealed[3]}, "provider": {name}}.Encode())
		if want := map[bool]int{true: 503, false: 400}[name == "hospital"]; p.page.Code != want || p.page.Header().Get("Refresh") != "" {
			t.Errorf("%q: %d", name, p.page.Code)
		}
	}
	away := led.hospital()
	away.Name = "led"
	s.provider(t, away)
	p.send("GET", "account", "")
	back := p.away(t, "led")
	if p.send("GET", back, ""); p.page.Code != 401 || len(behind.codes) > 0 {
		t.Errorf("led behind the wall: %d", p.page.Code)
	}
	p.send("GET", "account", "")
	for _, says := range []map[string]any{
		{"issuer": "https://evil.example"},
		{"authorization_endpoint": "javascript:alert(1)"},
		{"authorization_endpoint": "ftp://x/"},
		{"authorization_endpoint": "http://user@x/"},
		{"authorization_endpoint": "/authorize"},
		{"authorization_endpoint": "https://x/"}, // not as the issuer
		{"jwks_uri": "file:///etc/passwd"},
		{"x": strings.Repeat("x", 2<<20)},
	} {
		led.discovery = says
		p.send("GET", "account", "")
		sealed := inputTag.FindStringSubmatch(p.page.Body.String())
		p.send("POST", "federate", url.Values{"request": {sealed[3]}, "provider": {"led"}}.Encode())
		if p.page.Code != 503 || p.page.Header().Get("Refresh") != "" {
			t.Errorf("%.100v: %d", says, p.page.Code)
		}
	}
}

// An app that wants its user to log in again gets a user who did, also at the
// provider.
func TestAProviderLogsAUserInAgainIfTheAppWantsIt(t *testing.T) {
	s, i := newSite(t), newIDP(t, "127.0.0.1:0")
	s.provider(t, i.hospital())
	if p := s.federated(t, "prompt", "login"); p.page.Code != 200 || i.asked.Get("prompt") != "login" || i.asked.Get("max_age") != "0" {
		t.Errorf("%d, asked %v", p.page.Code, i.asked)
	}
	for _, at := range []any{nil, time.Now().Add(-time.Hour).Unix()} {
		i.claims = map[string]any{"auth_time": at}
		if p := s.federated(t, "prompt", "login"); p.page.Code != 401 {
			t.Errorf("logged in at %v: %d", at, p.page.Code)
		}
	}
	if p := s.federated(t); p.page.Code != 200 {
		t.Errorf("an hour ago, which nobody minds: %d", p.page.Code)
	}
}

// A launch that is for a user here is not for one whom a provider calls the
// same.
func TestAUserOfAProviderIsNobodyElse(t *testing.T) {
	s, i := newSite(t), newIDP(t, "127.0.0.1:0")
	s.provider(t, i.hospital())
	i.claims = map[string]any{"sub": "doctor"}
	var opened struct{ Launch string }
	rec := s.asEHR("launch", "app", "app", "user", "doctor", "patient", "p1")
	if err := json.Unmarshal(rec.Body.Bytes(), &opened); err != nil || opened.Launch == "" {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	p := s.federated(t, "launch", opened.Launch, "scope", "launch patient/*.rs")
	if got := p.back(t); got.Get("error") != "access_denied" {
		t.Errorf("%v", got)
	}
}
