package launch_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/launch"
	"github.com/cordon-fhir/cordon/smart/outside"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

const password = "correct horse battery"

// secretHash is what is kept of the secret of the clients that have one.
var secretHash = func() []byte {
	sum := sha256.Sum256([]byte("s3cret"))
	return sum[:]
}()

const callback = "https://app.example/callback"

// A site is the authorization server on the real registry, with a tenant of its
// own that has a doctor, a patient, two records and apps.
type site struct {
	*storetest.Fixture
	slug      string
	server    *launch.Server
	verifiers []*smart.Verifier // of two servers
	alerts    []smart.Alert
	now       func() time.Time // nil for the clock
}

// clock gives the servers a clock of their own, which the function that it
// returns puts forward, and what they remember is gone.
func (s *site) clock(t testing.TB) (forward func(time.Duration)) {
	t.Helper()
	var ahead time.Duration
	s.now = func() time.Time { return time.Now().Add(ahead) }
	s.again(t)
	return func(d time.Duration) { ahead += d }
}

// loopback is where tests run what the servers go to.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

// again makes the servers new, with nothing that they remember.
func (s *site) again(t testing.TB, change ...func(*launch.Config)) {
	t.Helper()
	s.verifiers = nil
	for range 2 {
		issuers := outside.New(outside.Config{Record: s.Registry, Private: loopback, Now: s.now})
		v, err := smart.NewVerifier(smart.Config{
			Tenants: s.Tenants, Keys: s.Keyring, Base: storetest.Base, Issuer: storetest.Issuer, Policies: s.Registry,
			Clients: s.Registry, Revocations: s.Registry, Glasses: s.Registry, Outside: issuers, Now: s.now,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.verifiers = append(s.verifiers, v)
	}
	cfg := launch.Config{
		Clients: s.Registry, Tenants: s.Tenants, Keys: s.Keyring, Base: storetest.Base, Issuer: storetest.Issuer,
		Record: s.DB.Record, Log: oplog.New(slog.NewTextHandler(io.Discard, nil)),
		Registry: s.Registry, DB: s.DB, Verifier: s.verifiers[0], IdentityNetworks: loopback, ClientNetworks: loopback, Now: s.now,
		Outside: outside.New(outside.Config{Record: s.Registry, Private: loopback, Now: s.now}),
		Alert:   func(a smart.Alert) { s.alerts = append(s.alerts, a) },
	}
	for _, do := range change {
		do(&cfg)
	}
	var err error
	if s.server, err = launch.New(cfg); err != nil {
		t.Fatal(err)
	}
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{Fixture: storetest.New(t), slug: "site-" + strings.ToLower(rand.Text()[:12])}
	if _, _, err := s.Migrator.Provision(t.Context(), store.NewTenant{Slug: s.slug, Mode: "shared"}); err != nil {
		t.Fatal(err)
	}
	s.again(t)
	s.put(t, "Patient/p1", `{"resourceType":"Patient","id":"p1","name":[{"family":"Ashgrove","given":["Nina"]}],"birthDate":"1980-02-03"}`)
	s.put(t, "Patient/p2", `{"resourceType":"Patient","id":"p2","name":[{"family":"Birchwood","given":["Omar"]}]}`)
	s.put(t, "Encounter/e1", `{"resourceType":"Encounter","id":"e1","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p1"}}`)
	hash, err := smart.HashPassword(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	for login, user := range map[string]string{"doctor": "Practitioner/dr1", "patient": "Patient/p1", "relative": "RelatedPerson/r1"} {
		s.account(t, store.Account{Login: login, Hash: hash, User: user, Person: smart.Person{Roles: []string{login}}}, nil)
	}
	all := append([]string{"patient/*.cruds", "user/*.cruds", "system/*.cruds"}, smart.LaunchWords...)
	s.client(t, smart.Client{ID: "app", Name: "Growth chart", Method: smart.PublicClient, RedirectURIs: []string{callback, "https://app.example/other?x=1"}, Scopes: all})
	s.client(t, smart.Client{ID: "other", Method: smart.PublicClient, RedirectURIs: []string{callback}, Scopes: all})
	s.client(t, smart.Client{ID: "server-app", Method: smart.ClientSecret, Secret: secretHash, RedirectURIs: []string{callback}, Scopes: all})
	s.client(t, smart.Client{ID: "signing-app", JWKS: jwks(t, jose.JSONWebKey{Key: &clientEC.PublicKey, KeyID: "ec"}), RedirectURIs: []string{callback}, Scopes: all})
	s.client(t, smart.Client{ID: "ehr", Method: smart.ClientSecret, Secret: secretHash, Scopes: []string{smart.OpenLaunchWord}})
	return s
}

func (s *site) put(t testing.TB, name, body string) {
	t.Helper()
	doc, err := fhir.Parse([]byte(body), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := fhir.ParseRef(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DB.Update(t.Context(), s.Grant(t, s.slug, "system/*.cruds"), func(tx *store.Tx) error {
		_, _, err := tx.Put(t.Context(), ref, doc, 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) account(t testing.TB, a store.Account, codes []byte) {
	t.Helper()
	if err := s.Registry.SealCodes(t.Context(), s.Tenant(t, s.slug), &a, codes); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Registry.PutAccount(t.Context(), s.Tenant(t, s.slug), a); err != nil {
		t.Fatal(err)
	}
}

func (s *site) client(t testing.TB, c smart.Client) {
	t.Helper()
	if _, err := s.Registry.PutClient(t.Context(), s.Tenant(t, s.slug), c); err != nil {
		t.Fatal(err)
	}
}

// A person is somebody with a browser.
type person struct {
	*site
	cookies map[string]string
	header  http.Header
	page    *httptest.ResponseRecorder // what they look at
}

func (s *site) person() *person {
	return &person{site: s, cookies: map[string]string{}, header: http.Header{}}
}

func (p *person) send(method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/auth/"+p.slug+"/"+path, strings.NewReader(body))
	for name, value := range p.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	for name, values := range p.header {
		r.Header[name] = values
	}
	if method == "POST" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	p.page = httptest.NewRecorder()
	p.server.ServeHTTP(p.page, r)
	for _, c := range p.page.Result().Cookies() {
		p.cookies[c.Name] = c.Value
	}
	return p.page
}

var (
	formTag  = regexp.MustCompile(`<form method="post" action="/auth/[^"/]*/([a-z]+)"`)
	inputTag = regexp.MustCompile(`<input type="(hidden|checkbox)" name="([^"]*)" value="([^"]*)"( checked)?`)
)

// submit sends the last form of the page, filled in: name and value in turn.
// A value "-" takes a field off.
func (p *person) submit(t testing.TB, filled ...string) *httptest.ResponseRecorder {
	t.Helper()
	text := p.page.Body.String()
	action := formTag.FindStringSubmatch(text)
	if action == nil {
		t.Fatalf("no form on the page: %d %s", p.page.Code, text)
	}
	form := url.Values{}
	for _, m := range inputTag.FindAllStringSubmatch(text, -1) {
		if m[1] == "hidden" || m[4] != "" {
			form.Set(html.UnescapeString(m[2]), html.UnescapeString(m[3]))
		}
	}
	for i := 0; i < len(filled); i += 2 {
		if form.Set(filled[i], filled[i+1]); filled[i+1] == "-" {
			form.Del(filled[i])
		}
	}
	return p.send("POST", action[1], form.Encode())
}

const verifier = "a-verifier-that-has-forty-three-characters-"

// ask is a good authorization request, changed: name and value in turn.
func (s *site) ask(change ...string) url.Values {
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}, "state": {"st&te=1"},
		"scope": {"openid fhirUser launch/patient offline_access patient/*.rs"}, "aud": {storetest.Base(s.slug)}, "nonce": {"n-1"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(change); i += 2 {
		if q.Set(change[i], change[i+1]); change[i+1] == "-" {
			q.Del(change[i])
		}
	}
	return q
}

func (p *person) logIn(t testing.TB, login string) {
	t.Helper()
	p.submit(t, "login", login, "password", password)
}

// back returns what the app is told.
func (p *person) back(t testing.TB) url.Values {
	t.Helper()
	to, err := url.Parse(p.page.Header().Get("Location"))
	if err != nil || p.page.Code != http.StatusSeeOther || !strings.HasPrefix(to.String(), "https://app.example/") {
		t.Fatalf("no way back: %d %s %s", p.page.Code, to, p.page.Body)
	}
	if q := to.Query(); q.Get("state") != "st&te=1" || q.Get("iss") != storetest.Issuer(p.slug) {
		t.Errorf("the app gets %v", q)
	}
	return to.Query()
}

// code goes through all pages as the doctor, for patient p1.
func (s *site) code(t testing.TB, change ...string) string {
	t.Helper()
	p := s.person()
	p.send("GET", "authorize?"+s.ask(change...).Encode(), "")
	p.logIn(t, "doctor")
	if strings.Contains(p.page.Body.String(), "/patient\"") {
		p.submit(t, "patient", "p1")
	}
	p.submit(t, "answer", "allow")
	code := p.back(t).Get("code")
	if code == "" {
		t.Fatalf("no code: %v", p.back(t))
	}
	return code
}

// tokens is an answer of the token endpoint.
type tokens struct {
	answer
	RefreshToken string          `json:"refresh_token"`
	IDToken      string          `json:"id_token"`
	Encounter    string          `json:"encounter"`
	FHIRContext  json.RawMessage `json:"fhirContext"`
	Intent       string          `json:"intent"`
	Banner       *bool           `json:"need_patient_banner"`
	StyleURL     string          `json:"smart_style_url"`
	status       int
}

// token posts to the token endpoint: name and value in turn.
func (s *site) token(t testing.TB, fields ...string) tokens {
	t.Helper()
	return s.tokenAs(t, nil, fields...)
}

func (s *site) tokenAs(t testing.TB, header http.Header, fields ...string) tokens {
	t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	p := s.person()
	p.header = header
	rec := p.send("POST", "token", form.Encode())
	got := tokens{status: rec.Code}
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, rec.Body)
	}
	return got
}

func (s *site) redeem(t testing.TB, code string, change ...string) tokens {
	t.Helper()
	return s.token(t, append([]string{"grant_type", "authorization_code", "code", code, "client_id", "app",
		"redirect_uri", callback, "code_verifier", verifier}, change...)...)
}

func (s *site) refresh(t testing.TB, token string, change ...string) tokens {
	t.Helper()
	return s.token(t, append([]string{"grant_type", "refresh_token", "refresh_token", token, "client_id", "app"}, change...)...)
}

// good reports whether the bearer opens the tenant, on each server.
func (s *site) good(t testing.TB, bearer string) bool {
	t.Helper()
	n := 0
	for _, v := range s.verifiers {
		_, err := v.Grant(t.Context(), s.slug, bearer, audit.Origin{Trail: audit.NewTrail()})
		if err == nil {
			n++
		} else if !fhir.IsCode(err, fhir.Login) {
			t.Fatal(err)
		}
	}
	if n == 1 {
		t.Error("the servers disagree about a token")
	}
	return n == len(s.verifiers)
}

//
func TestAnAppGetsWhatItsUserAgreesTo(t *testing.T) {
	s := newSite(t)
	p := s.person()
	p.send("GET", "authorize?"+s.ask("scope", "openid fhirUser profile launch/patient offline_access patient/Observation.rs patient/Condition.read user/Patient.r unknown system/*.rs").Encode(), "")
	if p.page.Code != 200 || !strings.Contains(p.page.Body.String(), "Growth chart") {
		t.Fatalf("%d %s", p.page.Code, p.page.Body)
	}
	p.logIn(t, "doctor")
	for _, name := range []string{"Nina Ashgrove", "Omar Birchwood", "1980-02-03"} {
		if !strings.Contains(p.page.Body.String(), name) {
			t.Errorf("the page of patients lacks %s", name)
		}
	}
	p.submit(t, "patient", "p1")
	for _, words := range []string{"Nina Ashgrove", "read and search observations", "laboratory results", "when you have logged out"} {
		if !strings.Contains(p.page.Body.String(), words) {
			t.Errorf("the page of consent does not say %q:\n%s", words, p.page.Body)
		}
	}
	p.submit(t, "answer", "allow", "s0", "-", "s0.0", "on")
	got := s.redeem(t, p.back(t).Get("code"))
	want := "openid fhirUser profile launch/patient offline_access"
	if got.status != 200 || got.TokenType != "Bearer" || got.ExpiresIn != 3600 || got.Patient != "p1" || got.RefreshToken == "" {
		t.Fatalf("%+v", got)
	}
	for _, word := range append(strings.Fields(want),
		"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory", "patient/Condition.read", "user/Patient.r") {
		if !strings.Contains(" "+got.Scope+" ", " "+word+" ") {
			t.Errorf("%q lacks %s", got.Scope, word)
		}
	}
	for _, word := range []string{"system/", "unknown", "patient/Observation.rs "} {
		if strings.Contains(got.Scope+" ", word) {
			t.Errorf("%q has %s", got.Scope, word)
		}
	}
	g, err := s.verifiers[0].Grant(t.Context(), s.slug, got.AccessToken, audit.Origin{Trail: audit.NewTrail()})
	if err != nil || g.Agent().User != "Practitioner/dr1" || g.Agent().Client != "app" {
		t.Fatalf("%v %+v", err, g)
	}
	s.checkIDToken(t, got.IDToken)
}

func (s *site) checkIDToken(t testing.TB, text string) {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(s.person().send("GET", "jwks", "").Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	named := set.Key(jws.Signatures[0].Header.KeyID)
	if len(named) != 1 {
		t.Fatalf("the ID token's key is not in %v", set)
	}
	payload, err := jws.Verify(named[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"iss": storetest.Issuer(s.slug), "aud": "app", "sub": "doctor", "nonce": "n-1", "fhirUser": storetest.Base(s.slug) + "/Practitioner/dr1",
	} {
		if claims[name] != want {
			t.Errorf("%s is %v, want %v", name, claims[name], want)
		}
	}
	if s.good(t, text) {
		t.Error("an ID token opens the records") // T026
	}
}

//
func TestAnEHROpensAnAppWhereItsUserIs(t *testing.T) {
	s := newSite(t)
	open := func(change ...string) (int, string) {
		t.Helper()
		form := url.Values{"client_id": {"ehr"}, "client_secret": {"s3cret"}, "app": {"app"}, "user": {"doctor"}, "patient": {"p1"}, "encounter": {"e1"},
			"intent": {"reconcile-medications"}, "need_patient_banner": {"false"}, "smart_style_url": {"https://ehr.example/style.json"},
			"fhirContext": {`[{"reference":"ImagingStudy/i1"}]`}}
		for i := 0; i < len(change); i += 2 {
			form.Set(change[i], change[i+1])
		}
		rec := s.person().send("POST", "launch", form.Encode())
		var got struct{ Launch string }
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		return rec.Code, got.Launch
	}
	for claim, change := range map[string][]string{
		"a wrong secret": {"client_secret", "guess"}, "an app that opens nothing": {"client_id", "server-app"},
		"an unknown app": {"app", "nobody"}, "an encounter alone": {"patient", ""}, "an empty role": {"fhirContext", `[{"reference":"Task/1","role":""}]`},
		"the patient again": {"fhirContext", `[{"reference":"Patient/p2"}]`}, "a malformed id": {"patient", "p 1"}, "a script": {"smart_style_url", "javascript:x"},
	} {
		if code, handle := open(change...); code < 400 || handle != "" {
			t.Errorf("%s: %d", claim, code)
		}
	}
	code, handle := open()
	if code != 200 {
		t.Fatalf("opening: %d", code)
	}
	const scope = "openid fhirUser launch online_access patient/*.rs"
	for claim, ask := range map[string]url.Values{
		"another app takes it up": s.ask("scope", scope, "launch", handle, "client_id", "other"),
		"a handle that is none":   s.ask("scope", scope, "launch", "x"+handle),
	} {
		p := s.person()
		p.send("GET", "authorize?"+ask.Encode(), "")
		p.logIn(t, "doctor")
		if p.back(t).Get("error") != "invalid_request" {
			t.Errorf("%s: %v", claim, p.back(t))
		}
	}
	p := s.person()
	p.send("GET", "authorize?"+s.ask("scope", scope, "launch", handle).Encode(), "")
	p.logIn(t, "patient")
	if p.back(t).Get("error") != "access_denied" {
		t.Errorf("a user for whom it is not: %v", p.back(t))
	}
	got := s.redeem(t, s.code(t, "scope", scope, "launch", handle))
	if got.Patient != "p1" || got.Encounter != "e1" || got.Intent != "reconcile-medications" || got.Banner == nil || *got.Banner ||
		got.StyleURL != "https://ehr.example/style.json" || string(got.FHIRContext) != `[{"reference":"ImagingStudy/i1"}]` || got.RefreshToken == "" {
		t.Errorf("the app is told %+v", got)
	}
	p = s.person()
	p.send("GET", "authorize?"+s.ask("scope", scope, "launch", handle).Encode(), "")
	p.logIn(t, "doctor")
	if p.back(t).Get("error") != "invalid_request" {
		t.Errorf("a launch is taken up twice: %v", p.back(t))
	}
	if _, handle = open("patient", "nobody", "encounter", ""); handle == "" {
		t.Fatal("opening")
	}
	p = s.person()
	p.send("GET", "authorize?"+s.ask("scope", scope, "launch", handle).Encode(), "")
	p.logIn(t, "doctor")
	if p.back(t).Get("error") != "access_denied" {
		t.Errorf("a patient whom the user may not see: %v", p.back(t))
	}
}

// T038, T041, T042, T050
func TestABadAuthorizationRequestGivesNoCode(t *testing.T) {
	s := newSite(t)
	for claim, change := range map[string][]string{
		"an unknown client": {"client_id", "nobody"}, "no client": {"client_id", "-"}, "a client without users": {"client_id", "ehr"},
		"a longer path": {"redirect_uri", callback + "/x"}, "a query": {"redirect_uri", callback + "?x=1"}, "a fragment": {"redirect_uri", callback + "#x"},
		"userinfo": {"redirect_uri", "https://app.example@evil.example/callback"}, "a port": {"redirect_uri", "https://app.example:444/callback"},
		"another host": {"redirect_uri", "https://app.example.evil.example/callback"}, "http": {"redirect_uri", "http://app.example/callback"},
		"no address": {"redirect_uri", "-"}, "another tenant's aud": {"aud", storetest.Base(storetest.A1)}, "no aud": {"aud", "-"},
		"an aud that begins alike": {"aud", storetest.Base(s.slug) + ".evil.example"},
	} {
		if rec := s.person().send("GET", "authorize?"+s.ask(change...).Encode(), ""); rec.Code != 400 || rec.Header().Get("Location") != "" {
			t.Errorf("%s: %d to %q", claim, rec.Code, rec.Header().Get("Location"))
		}
	}
	if len(s.alerts) != 3 || s.alerts[0].Rule != smart.ForeignServer {
		t.Errorf("alerts: %+v", s.alerts)
	}
	for claim, tt := range map[string][]string{
		"no challenge": {"invalid_request", "code_challenge", "-"}, "plain": {"invalid_request", "code_challenge_method", "plain"},
		"no method": {"invalid_request", "code_challenge_method", "-"}, "a short challenge": {"invalid_request", "code_challenge", "abc"},
		"a token at once": {"unsupported_response_type", "response_type", "token"}, "no scope": {"invalid_scope", "scope", "-"},
		"nothing that it may have": {"invalid_scope", "scope", "system/*.rs nonsense"},
		"ten thousand scopes":      {"invalid_scope", "scope", strings.Repeat("patient/*.rs ", 10_000)},
		"a request object":         {"request_not_supported", "request", "x"}, "a hidden page": {"login_required", "prompt", "none"},
	} {
		p := s.person()
		p.send("POST", "authorize", s.ask(tt[1:]...).Encode())
		if p.page.Code == 200 {
			p.logIn(t, "doctor")
		}
		if p.page.Code == 413 && claim == "ten thousand scopes" {
			continue
		}
		if got := p.back(t); got.Get("error") != tt[0] || got.Has("code") {
			t.Errorf("%s: %v", claim, got)
		}
	}
}

// T029, T038, T040
func TestACodeIsGoodOnceForWhoAskedForIt(t *testing.T) {
	s := newSite(t)
	code := s.code(t)
	for claim, change := range map[string][]string{
		"another client": {"client_id", "other"}, "another address": {"redirect_uri", "https://app.example/other?x=1"}, "no verifier": {"code_verifier", ""},
		"a short verifier": {"code_verifier", "abc"}, "a wrong verifier": {"code_verifier", "b" + verifier[1:]},
		"the challenge": {"code_verifier", s.ask().Get("code_challenge")}, "another code": {"code", "x" + code},
	} {
		if got := s.redeem(t, code, change...); got.status != 400 || got.Error != "invalid_grant" {
			t.Errorf("%s: %+v", claim, got)
		}
	}
	got := s.redeem(t, code)
	if got.status != 200 || !s.good(t, got.AccessToken) {
		t.Fatalf("%+v", got)
	}
	if again := s.redeem(t, code); again.status != 400 {
		t.Errorf("a code was redeemed twice: %+v", again)
	}
	if s.good(t, got.AccessToken) || s.refresh(t, got.RefreshToken).status != 400 {
		t.Error("what came of a code that was used twice is still good")
	}
}

// T045, T046
func TestARefreshTokenIsGoodOnce(t *testing.T) {
	s := newSite(t)
	first := s.redeem(t, s.code(t))
	for claim, change := range map[string][]string{
		"another client": {"client_id", "other"}, "more": {"scope", "patient/*.cruds"}, "another's": {"scope", "user/*.rs"}, "nonsense": {"scope", "x"},
	} {
		if got := s.refresh(t, first.RefreshToken, change...); got.status != 400 {
			t.Errorf("%s: %+v", claim, got)
		}
	}
	second := s.refresh(t, first.RefreshToken, "scope", "launch/patient patient/Observation.rs")
	if second.status != 200 || second.Scope != "launch/patient patient/Observation.rs" || second.Patient != "p1" || second.RefreshToken == first.RefreshToken {
		t.Fatalf("%+v", second)
	}
	third := s.refresh(t, second.RefreshToken)
	if third.status != 200 || !strings.Contains(third.Scope, "patient/*.rs") || !s.good(t, third.AccessToken) {
		t.Fatalf("%+v", third)
	}
	if got := s.refresh(t, first.RefreshToken); got.status != 400 {
		t.Errorf("a refresh token was used twice: %+v", got)
	}
	for claim, bearer := range map[string]string{"first": first.AccessToken, "second": second.AccessToken, "third": third.AccessToken} {
		if s.good(t, bearer) {
			t.Errorf("the %s access token of the family is still good", claim)
		}
	}
	if got := s.refresh(t, third.RefreshToken); got.status != 400 {
		t.Errorf("the family goes on: %+v", got)
	}
	if len(s.alerts) != 1 || s.alerts[0].Rule != smart.TokenReuse {
		t.Errorf("alerts: %+v", s.alerts)
	}
}

//
func TestAPublicAppRefreshesWithItsTokenAlone(t *testing.T) {
	s := newSite(t)
	bare := func(token string) tokens { return s.token(t, "grant_type", "refresh_token", "refresh_token", token) }
	first := s.redeem(t, s.code(t))
	second := bare(first.RefreshToken)
	if second.status != 200 || !s.good(t, second.AccessToken) {
		t.Fatalf("%+v", second)
	}
	secret := []string{"client_id", "server-app", "client_secret", "s3cret"}
	proven := s.redeem(t, s.code(t, secret[:2]...), secret...)
	for claim, token := range map[string]string{"one of a client with a secret": proven.RefreshToken, "unknown": "nonsense", "none": ""} {
		if got := bare(token); got.status != 401 {
			t.Errorf("%s: %+v", claim, got)
		}
	}
	if got := s.refresh(t, proven.RefreshToken, secret...); got.status != 200 {
		t.Errorf("the attempt has cost the client its token: %+v", got)
	}
	if got := bare(first.RefreshToken); got.status != 400 || s.good(t, second.AccessToken) {
		t.Errorf("a refresh token was used twice: %+v", got)
	}
}

//
func TestOnlineAccessEndsWithTheSession(t *testing.T) {
	s := newSite(t)
	p := s.person()
	p.send("GET", "authorize?"+s.ask("scope", "online_access patient/*.rs").Encode(), "")
	p.logIn(t, "doctor")
	p.submit(t, "patient", "p1")
	p.submit(t, "answer", "allow")
	online := s.redeem(t, p.back(t).Get("code"))
	p.send("GET", "authorize?"+s.ask("scope", "offline_access patient/*.rs").Encode(), "") // no login: there is a session
	p.submit(t, "patient", "p1")
	p.submit(t, "answer", "allow")
	offline := s.redeem(t, p.back(t).Get("code"))
	if online = s.refresh(t, online.RefreshToken); online.status != 200 || offline.status != 200 {
		t.Fatalf("%+v %+v", online, offline)
	}
	p.send("GET", "account", "")
	p.submit(t, "answer", "logout")
	if s.good(t, online.AccessToken) || s.refresh(t, online.RefreshToken).status != 400 {
		t.Error("online access outlives the session")
	}
	if !s.good(t, offline.AccessToken) || s.refresh(t, offline.RefreshToken).status != 200 {
		t.Error("offline access ends with the session")
	}
}

// T034
func TestAUserTakesBackWhatAnAppMayDo(t *testing.T) {
	s := newSite(t)
	got := s.redeem(t, s.code(t))
	p := s.person()
	p.send("GET", "account", "")
	p.logIn(t, "doctor")
	m := regexp.MustCompile(`name="revoke" value="([^"]+)"`).FindStringSubmatch(p.page.Body.String())
	if m == nil || !strings.Contains(p.page.Body.String(), "Growth chart") {
		t.Fatalf("%d %s", p.page.Code, p.page.Body)
	}
	stranger := s.person()
	stranger.send("GET", "account", "")
	stranger.logIn(t, "patient")
	if stranger.submit(t, "revoke", m[1]); stranger.page.Code != 400 || !s.good(t, got.AccessToken) {
		t.Errorf("another user's permission: %d", stranger.page.Code)
	}
	p.submit(t, "revoke", m[1])
	if s.good(t, got.AccessToken) || s.refresh(t, got.RefreshToken).status != 400 {
		t.Error("what was taken back is still good")
	}
}

// T046
func TestADisabledUserLosesAllAtOnce(t *testing.T) {
	s := newSite(t)
	got := s.redeem(t, s.code(t))
	tn := s.Tenant(t, s.slug)
	a, err := s.Registry.Account(t.Context(), tn, "doctor")
	if err != nil {
		t.Fatal(err)
	}
	late := s.code(t) // not redeemed yet
	a.Disabled = true
	if _, err := s.Registry.PutAccount(t.Context(), tn, a); err != nil {
		t.Fatal(err)
	}
	time.Sleep(smart.RevocationDelay)
	if s.good(t, got.AccessToken) || s.refresh(t, got.RefreshToken).status != 400 || s.redeem(t, late).status != 400 {
		t.Error("a disabled user's tokens are still good")
	}
	p := s.person()
	p.send("GET", "account", "")
	if p.logIn(t, "doctor"); p.page.Code != 401 {
		t.Errorf("a disabled user logs in: %d", p.page.Code)
	}
}

// T044, A-33
func TestAUserChoosesAmongThosePatientsWhomTheyMaySee(t *testing.T) {
	s := newSite(t)
	p := s.person()
	p.send("GET", "authorize?"+s.ask().Encode(), "")
	p.logIn(t, "patient")
	if text := p.page.Body.String(); strings.Contains(text, "Birchwood") || !strings.Contains(text, "Ashgrove") {
		t.Errorf("a patient is shown %s", text)
	}
	p.submit(t, "answer", "allow")
	if got := s.redeem(t, p.back(t).Get("code")); got.Patient != "p1" {
		t.Errorf("%+v", got)
	}
	p = s.person()
	p.send("GET", "authorize?"+s.ask().Encode(), "")
	if p.logIn(t, "relative"); p.back(t).Get("error") != "access_denied" {
		t.Errorf("who may see nobody: %v", p.back(t))
	}
	p = s.person()
	p.send("GET", "authorize?"+s.ask().Encode(), "")
	p.logIn(t, "doctor")
	shown := p.page
	for _, id := range []string{"nobody", "p 1", "../p1"} {
		p.page = shown
		if p.submit(t, "patient", id); p.page.Code != 400 {
			t.Errorf("patient %q: %d", id, p.page.Code)
		}
	}
	p.page = shown
	if p.submit(t, "name", "birch"); !strings.Contains(p.page.Body.String(), "Birchwood") || strings.Contains(p.page.Body.String(), "Ashgrove") {
		t.Errorf("searching: %s", p.page.Body)
	}
}

func TestAppsProveThemselvesInTheWayTheyAreRegisteredFor(t *testing.T) {
	s := newSite(t)
	w := newWorld(t)
	basic := func(id, secret string) http.Header {
		return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))}}
	}
	redeem := func(header http.Header, client, code string, fields ...string) tokens {
		return s.tokenAs(t, header, append([]string{"grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier}, fields...)...)
	}
	code := s.code(t, "client_id", "server-app")
	for claim, got := range map[string]tokens{
		"no secret": redeem(nil, "", code, "client_id", "server-app"), "a wrong secret": redeem(basic("server-app", "x"), "", code),
		"another's": redeem(basic("ehr", "s3cret"), "", code, "client_id", "server-app"), "a secret of none": redeem(nil, "", code, "client_id", "app", "client_secret", "s3cret"),
	} {
		if got.status != 401 && got.status != 400 || got.AccessToken != "" {
			t.Errorf("%s: %+v", claim, got)
		}
	}
	if got := redeem(basic("server-app", "s3cret"), "", code); got.status != 200 {
		t.Errorf("by header: %+v", got)
	}
	if got := redeem(nil, "", s.code(t, "client_id", "server-app"), "client_id", "server-app", "client_secret", "s3cret"); got.status != 200 {
		t.Errorf("by form: %+v", got)
	}
	code = s.code(t, "client_id", "signing-app")
	if got := redeem(nil, "", code, "client_id", "signing-app"); got.status != 401 {
		t.Errorf("unsigned: %+v", got)
	}
	claims := w.claims(s.slug, "signing-app", map[string]any{"aud": storetest.Issuer(s.slug) + "/token"})
	signed := w.signed(t, jose.ES384, clientEC, map[jose.HeaderKey]any{"kid": "ec", "typ": "JWT"}, claims)
	if got := redeem(nil, "", code, "client_assertion", signed, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"); got.status != 200 {
		t.Errorf("by signature: %+v", got)
	}
	for _, client := range []string{"app", "server-app"} {
		if got := s.tokenAs(t, nil, "grant_type", "client_credentials", "scope", "system/*.rs", "client_id", client); got.status != 400 && got.status != 401 {
			t.Errorf("%s as a service: %+v", client, got)
		}
	}
	if got := s.tokenAs(t, basic("server-app", "s3cret"), "grant_type", "client_credentials", "scope", "system/*.rs"); got.Error != "unauthorized_client" {
		t.Errorf("a secret is enough for a service: %+v", got)
	}
	if got := s.token(t, "grant_type", "password", "client_id", "app"); got.Error != "unsupported_grant_type" {
		t.Errorf("a password: %+v", got) // T050
	}
}

// A user who says no, or leaves nothing on.
func TestAUserMayRefuse(t *testing.T) {
	s := newSite(t)
	for claim, fields := range map[string][]string{"no": {"answer", "deny"}, "nothing": {"answer", "allow", "s0", "-", "openid", "-", "fhirUser", "-", "offline_access", "-"}} {
		p := s.person()
		p.send("GET", "authorize?"+s.ask().Encode(), "")
		p.logIn(t, "patient")
		if p.submit(t, fields...); p.back(t).Get("error") != "access_denied" {
			t.Errorf("%s: %v", claim, p.back(t))
		}
	}
}
