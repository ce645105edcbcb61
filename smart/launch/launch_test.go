package launch_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/launch"
	"github.com/cordon-fhir/cordon/smart/smarttest"
	"github.com/cordon-fhir/cordon/tenant"
)

func base(slug string) string   { return "https://fhir.example/fhir/" + slug }
func issuer(slug string) string { return "https://fhir.example/auth/" + slug }

// record is the registry of tenants, keys and clients, in memory.
type record struct {
	mu      sync.Mutex
	rows    map[string]tenant.Row
	keys    map[int32][]keys.Wrapped
	clients map[string]smart.Client // by "tenant/id"
	used    map[string]bool
}

func (r *record) TenantBySlug(_ context.Context, slug string) (tenant.Row, error) {
	row, ok := r.rows[slug]
	if !ok {
		return tenant.Row{}, tenant.ErrUnknown
	}
	return row, nil
}

func (r *record) Keys(_ context.Context, id tenant.ID) ([]keys.Wrapped, error) {
	return r.keys[id.Int()], nil
}

func (r *record) Client(_ context.Context, t *tenant.Tenant, id string) (smart.Client, error) {
	c, ok := r.clients[t.Slug.String()+"/"+id]
	if !ok {
		return smart.Client{}, smart.ErrUnknownClient
	}
	if c.Name == "broken" {
		return c, errors.New("the registry is broken: secret-dsn")
	}
	if c.Name == "panics" {
		panic("secret-dsn")
	}
	return c, nil
}

func (r *record) UseAssertion(_ context.Context, t *tenant.Tenant, client, jti string, _ time.Time) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := t.Slug.String() + "/" + client + "/" + jti
	fresh := !r.used[name]
	r.used[name] = true
	return fresh, nil
}

// Keys of clients, made once: RSA takes its time.
var (
	clientEC, _  = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	otherEC, _   = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p256, _      = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	clientRSA, _ = rsa.GenerateKey(rand.Reader, 2048)
	shortRSA, _  = rsa.GenerateKey(rand.Reader, 1024)
)

// world is an authorization server for the tenants north and south, and
// z-nine, which is suspended.
type world struct {
	*record
	server   *launch.Server
	verifier *smart.Verifier
	now      time.Time
	log      strings.Builder

	entriesMu sync.Mutex
	entries   []entry
	auditErr  error
}

// entry is what was recorded, and whose trail it went to.
type entry struct {
	audit.Entry
	Tenant string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	set := jwks(t,
		jose.JSONWebKey{Key: &clientEC.PublicKey, KeyID: "ec"},
		jose.JSONWebKey{Key: &clientRSA.PublicKey, KeyID: "rsa", Use: "sig", Algorithm: "RS384"},
		jose.JSONWebKey{Key: &p256.PublicKey, KeyID: "p256"},
		jose.JSONWebKey{Key: &shortRSA.PublicKey, KeyID: "short"},
		jose.JSONWebKey{Key: &clientEC.PublicKey, KeyID: "enc", Use: "enc"},
		jose.JSONWebKey{Key: &clientEC.PublicKey, KeyID: "twice"},
		jose.JSONWebKey{Key: &otherEC.PublicKey, KeyID: "twice"},
	)
	w := &world{now: time.Now(), record: &record{
		keys: map[int32][]keys.Wrapped{}, used: map[string]bool{},
		rows: map[string]tenant.Row{
			"north":  {ID: 1, Slug: "north", Mode: "shared", Status: "active"},
			"south":  {ID: 2, Slug: "south", Mode: "shared", Status: "active"},
			"z-nine": {ID: 3, Slug: "z-nine", Mode: "shared", Status: "suspended"},
		},
		clients: map[string]smart.Client{
			"north/backend":  {ID: "backend", JWKS: set, Scopes: []string{"system/*.rs", "user/*.rs", "patient/*.rs"}},
			"south/backend":  {ID: "backend", JWKS: set, Scopes: []string{"system/*.cruds"}},
			"z-nine/backend": {ID: "backend", JWKS: set, Scopes: []string{"system/*.cruds"}},
			"north/other":    {ID: "other", JWKS: jwks(t, jose.JSONWebKey{Key: &otherEC.PublicKey, KeyID: "ec"}), Scopes: []string{"system/*.rs"}},
			"north/off":      {ID: "off", JWKS: set, Scopes: []string{"system/*.rs"}, Disabled: true},
			"north/keyless":  {ID: "keyless", JWKS: []byte("{"), Scopes: []string{"system/*.rs"}},
			"north/broken":   {ID: "broken", Name: "broken"},
			"north/panics":   {ID: "panics", Name: "panics"},
			"north/clinician": {ID: "clinician", JWKS: set, Scopes: []string{"user/*.cruds", "system/*.rs", "patient/*.rs", "patient/*.dus"},
				User: "Practitioner/7", Purpose: "TREAT"},
			"north/app": {ID: "app", JWKS: set, Scopes: []string{"patient/*.rs", "user/Patient.r"}, User: "Patient/9", Patient: "9"},
		},
	}}
	kms, err := keys.NewFileKMS(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	tenants, ring := tenant.NewRegistry(w.record), keys.NewKeyring(w.record, kms)
	for slug := range w.rows {
		tn, err := tenants.Tenant(t.Context(), slug)
		if err != nil {
			t.Fatal(err)
		}
		if w.keys[tn.ID.Int()], err = keys.Generate(kms, "file://test", tn.ID, keys.Classes...); err != nil {
			t.Fatal(err)
		}
	}
	clock := func() time.Time { return w.now }
	w.verifier, err = smart.NewVerifier(smart.Config{Tenants: tenants, Keys: ring, Base: base, Issuer: issuer, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	w.server, err = launch.New(launch.Config{
		Clients: w.record, Tenants: tenants, Keys: ring, Base: base, Issuer: issuer, Now: clock,
		Record: w.recordEntry, Log: oplog.New(slog.NewTextHandler(&w.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) recordEntry(_ context.Context, g *smart.Grant, e audit.Entry) error {
	w.entriesMu.Lock()
	defer w.entriesMu.Unlock()
	if w.auditErr != nil {
		return w.auditErr
	}
	got := entry{Entry: e}
	if g != nil {
		got.Tenant = g.Tenant().Slug.String()
		if _, err := g.Permit(fhir.Read, "Patient"); err == nil {
			return errors.New("the Grant of a login permits something")
		}
	}
	w.entries = append(w.entries, got)
	return nil
}

func (w *world) take() []entry {
	w.entriesMu.Lock()
	defer w.entriesMu.Unlock()
	e := w.entries
	w.entries = nil
	return e
}

func jwks(t testing.TB, set ...jose.JSONWebKey) []byte {
	t.Helper()
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: set})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// assertion is a good assertion of the client at the tenant, changed.
func (w *world) assertion(t testing.TB, slug, client string, change map[string]any) string {
	return w.signed(t, jose.ES384, clientEC, map[jose.HeaderKey]any{"kid": "ec", "typ": "JWT"}, w.claims(slug, client, change))
}

func (w *world) claims(slug, client string, change map[string]any) map[string]any {
	claims := map[string]any{
		"iss": client, "sub": client, "aud": issuer(slug) + "/token", "jti": rand.Text(),
		"iat": w.now.Unix(), "exp": w.now.Add(2 * time.Minute).Unix(),
	}
	for name, v := range change {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	return claims
}

func (w *world) signed(t testing.TB, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any, claims any) string {
	t.Helper()
	payload, ok := claims.(string)
	if !ok {
		data, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		payload = string(data)
	}
	return smarttest.Sign(alg, key, &jose.SignerOptions{ExtraHeaders: header}, []byte(payload))
}

func form(assertion, scope string) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "scope": {scope}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	}
}

func (w *world) post(slug string, f url.Values) *httptest.ResponseRecorder {
	return w.send("POST", "/auth/"+slug+"/token", f.Encode(), nil)
}

func (w *world) send(method, path, body string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Header.Set("X-Request-Id", "r1")
	maps.Copy(r.Header, header)
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, r)
	return rec
}

type answer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"`
	Scope       string `json:"scope"`
	Patient     string `json:"patient"`
	Error       string `json:"error"`
}

func read(t testing.TB, rec *httptest.ResponseRecorder) answer {
	t.Helper()
	var a answer
	if err := json.Unmarshal(rec.Body.Bytes(), &a); err != nil {
		t.Fatalf("%v in %s", err, rec.Body)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache", "X-Request-Id": "r1"} {
		if got := rec.Header().Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	return a
}

//
func TestABackendServiceEarnsAToken(t *testing.T) {
	w := newWorld(t)
	for claim, assertion := range map[string]string{
		"ES384":              w.assertion(t, "north", "backend", nil),
		"RS384":              w.signed(t, jose.RS384, clientRSA, map[jose.HeaderKey]any{"kid": "rsa", "typ": "JWT"}, w.claims("north", "backend", nil)),
		"an audience listed": w.assertion(t, "north", "backend", map[string]any{"aud": []string{issuer("north") + "/token"}}),
		"five minutes ahead": w.assertion(t, "north", "backend", map[string]any{"exp": w.now.Add(5 * time.Minute).Unix()}),
		"a fraction":         w.assertion(t, "north", "backend", map[string]any{"exp": float64(w.now.Unix()) + 60.5}),
		"a claim of its own": w.assertion(t, "north", "backend", map[string]any{"software": "x", "nbf": w.now.Unix()}),
	} {
		t.Run(claim, func(t *testing.T) {
			w.take()
			rec := w.post("north", form(assertion, "system/Patient.rs system/Group.cruds"))
			got := read(t, rec)
			if rec.Code != 200 || got.TokenType != "Bearer" || got.ExpiresIn != 300 || got.Scope != "system/Patient.rs system/Group.rs" {
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			g, err := w.verifier.Grant(t.Context(), "north", got.AccessToken, audit.Origin{})
			if err != nil || g.Agent().Client != "backend" || g.Agent().User != "" {
				t.Fatalf("the token is of %v, %v", g, err)
			}
			if _, err := g.Permit(fhir.Update, "Group"); err == nil {
				t.Error("more is permitted than was granted") // T234
			}
			e := w.take()
			if len(e) != 1 || e[0].Tenant != "north" || e[0].Outcome != audit.Success || e[0].Status != 200 || e[0].Reason != "token" ||
				e[0].Interaction != fhir.Operation || e[0].Agent.Client != "backend" || e[0].Agent.TokenID != g.Agent().TokenID ||
				e[0].Origin.RequestID != "r1" || e[0].Origin.Method != "POST /auth/north/token" || e[0].Origin.Address != "192.0.2.1" {
				t.Errorf("audited: %+v", e)
			}
		})
	}
}

func TestAClientWithALaunchContextActsInIt(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct{ client, scope, granted, user, patient string }{
		{"clinician", "user/*.rs patient/*.rs", "user/*.rs", "Practitioner/7", ""},
		{"clinician", "system/Patient.r", "system/Patient.r", "Practitioner/7", ""},
		{"app", "patient/*.read", "patient/*.read", "Patient/9", "9"},
		{"app", "user/*.rs", "user/Patient.r", "Patient/9", "9"},
	} {
		got := read(t, w.post("north", form(w.assertion(t, "north", tt.client, nil), tt.scope)))
		g, err := w.verifier.Grant(t.Context(), "north", got.AccessToken, audit.Origin{})
		if err != nil {
			t.Errorf("%s: %v", tt.client, err)
			continue
		}
		if got.Scope != tt.granted || g.Agent().User != tt.user || got.Patient != tt.patient {
			t.Errorf("%s asked %s: got %s as %s for %q", tt.client, tt.scope, got.Scope, g.Agent().User, got.Patient)
		}
	}
}

// A-60, T024, T048, T049, T050
func TestABadRequestEarnsNothing(t *testing.T) {
	w := newWorld(t)
	const scope = "system/Patient.rs"
	good := func() string { return w.assertion(t, "north", "backend", nil) }
	claims := func(change map[string]any) url.Values { return form(w.assertion(t, "north", "backend", change), scope) }
	header := func(h map[jose.HeaderKey]any) url.Values {
		return form(w.signed(t, jose.ES384, clientEC, h, w.claims("north", "backend", nil)), scope)
	}
	by := func(alg jose.SignatureAlgorithm, key any, kid string) url.Values {
		return form(w.signed(t, alg, key, map[jose.HeaderKey]any{"kid": kid, "typ": "JWT"}, w.claims("north", "backend", nil)), scope)
	}
	raw := func(payload string) url.Values {
		return form(w.signed(t, jose.ES384, clientEC, map[jose.HeaderKey]any{"kid": "ec", "typ": "JWT"}, payload), scope)
	}
	with := func(name, value string) url.Values {
		f := form(good(), scope)
		if f.Set(name, value); value == "" {
			f.Del(name)
		}
		return f
	}
	all, err := json.Marshal(w.claims("north", "backend", nil))
	if err != nil {
		t.Fatal(err)
	}
	unsigned := func() string {
		parts := strings.Split(good(), ".")
		return "eyJhbGciOiJub25lIiwidHlwIjoiSldUIiwia2lkIjoiZWMifQ." + parts[1] + "."
	}
	for _, tt := range []struct {
		claim  string
		form   url.Values
		status int
		code   string
	}{
		{"no grant type", with("grant_type", ""), 400, "invalid_request"},
		{"password", with("grant_type", "password"), 400, "unsupported_grant_type"},
		{"implicit", with("grant_type", "implicit"), 400, "unsupported_grant_type"},
		{"refresh", with("grant_type", "refresh_token"), 400, "unsupported_grant_type"},
		{"no scope", with("scope", ""), 400, "invalid_scope"},
		{"a malformed scope", with("scope", "system/Patient.dus"), 400, "invalid_scope"},
		{"an unknown scope beside a good one", with("scope", "system/Patient.rs openid"), 400, "invalid_scope"},
		{"a scope that is not registered", with("scope", "system/Patient.cud"), 400, "invalid_scope"},
		{"a user scope without a user", with("scope", "user/*.rs"), 400, "invalid_scope"},
		{"a patient scope without a patient", with("scope", "patient/*.rs"), 400, "invalid_scope"},
		{"10,000 scopes", with("scope", strings.Repeat("system/A.r ", 5000)), 400, "invalid_scope"}, // T052
		{"no assertion", with("client_assertion", ""), 401, "invalid_client"},
		{"no assertion type", with("client_assertion_type", ""), 401, "invalid_client"},
		{"another assertion type", with("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), 401, "invalid_client"},
		{"another client_id", with("client_id", "other"), 400, "invalid_request"},
		{"a secret as well", with("client_secret", "x"), 400, "invalid_request"},
		{"alg none", form(unsigned(), scope), 401, "invalid_client"},
		{"HS384 under the public key", by(jose.HS384, jwks(t, jose.JSONWebKey{Key: &clientEC.PublicKey, KeyID: "ec"}), "ec"), 401, "invalid_client"},
		{"ES256", by(jose.ES256, p256, "p256"), 401, "invalid_client"},
		{"RS256", by(jose.RS256, clientRSA, "rsa"), 401, "invalid_client"},
		{"a short RSA key", by(jose.RS384, shortRSA, "short"), 401, "invalid_client"},
		{"another key", by(jose.ES384, otherEC, "ec"), 401, "invalid_client"},
		{"an unknown kid", by(jose.ES384, clientEC, "nope"), 401, "invalid_client"},
		{"a kid that two keys have", by(jose.ES384, clientEC, "twice"), 401, "invalid_client"},
		{"a key for encryption", by(jose.ES384, clientEC, "enc"), 401, "invalid_client"},
		{"no kid", header(map[jose.HeaderKey]any{"typ": "JWT"}), 401, "invalid_client"},
		{"no typ", header(map[jose.HeaderKey]any{"kid": "ec"}), 401, "invalid_client"},
		{"typ of an access token", header(map[jose.HeaderKey]any{"kid": "ec", "typ": "at+jwt"}), 401, "invalid_client"},
		{"jku", header(map[jose.HeaderKey]any{"kid": "ec", "typ": "JWT", "jku": "https://attacker.example"}), 401, "invalid_client"},
		{"jwk", header(map[jose.HeaderKey]any{"kid": "ec", "typ": "JWT", "jwk": jose.JSONWebKey{Key: &clientEC.PublicKey}}), 401, "invalid_client"},
		{"crit", header(map[jose.HeaderKey]any{"kid": "ec", "typ": "JWT", "crit": []string{"x"}, "x": 1}), 401, "invalid_client"},
		{"dots", form(strings.Repeat(".", 8000), scope), 401, "invalid_client"},
		{"long", form(strings.Repeat("a", 20_000), scope), 401, "invalid_client"},
		{"iss is not sub", claims(map[string]any{"iss": "other"}), 401, "invalid_client"},
		{"no iss", claims(map[string]any{"iss": nil}), 401, "invalid_client"},
		{"an unknown client", claims(map[string]any{"iss": "nobody", "sub": "nobody"}), 401, "invalid_client"},
		{"a disabled client", claims(map[string]any{"iss": "off", "sub": "off"}), 401, "invalid_client"},
		{"a client without keys", claims(map[string]any{"iss": "keyless", "sub": "keyless"}), 401, "invalid_client"},
		{"another client's key", claims(map[string]any{"iss": "other", "sub": "other"}), 401, "invalid_client"}, // T048
		{"a client with a NUL", claims(map[string]any{"iss": "a\x00", "sub": "a\x00"}), 401, "invalid_client"},
		{"aud is the base", claims(map[string]any{"aud": base("north")}), 401, "invalid_client"},
		{"aud is another tenant's", claims(map[string]any{"aud": issuer("south") + "/token"}), 401, "invalid_client"},
		{"aud with a slash", claims(map[string]any{"aud": issuer("north") + "/token/"}), 401, "invalid_client"},
		{"aud of two", claims(map[string]any{"aud": []string{issuer("north") + "/token", "x"}}), 401, "invalid_client"},
		{"aud of none", claims(map[string]any{"aud": []string{}}), 401, "invalid_client"},
		{"no aud", claims(map[string]any{"aud": nil}), 401, "invalid_client"},
		{"expired", claims(map[string]any{"exp": w.now.Unix()}), 401, "invalid_client"},
		{"no exp", claims(map[string]any{"exp": nil}), 401, "invalid_client"},
		{"exp is text", claims(map[string]any{"exp": "soon"}), 401, "invalid_client"},
		{"exp is far", claims(map[string]any{"exp": w.now.Add(6 * time.Minute).Unix()}), 401, "invalid_client"},
		{"exp is beyond time", claims(map[string]any{"exp": 1e300}), 401, "invalid_client"},
		{"exp is before time", claims(map[string]any{"exp": -1e300}), 401, "invalid_client"},
		{"not yet", claims(map[string]any{"nbf": w.now.Add(time.Minute).Unix()}), 401, "invalid_client"},
		{"issued tomorrow", claims(map[string]any{"iat": w.now.Add(24 * time.Hour).Unix()}), 401, "invalid_client"},
		{"no jti", claims(map[string]any{"jti": nil}), 401, "invalid_client"},
		{"a long jti", claims(map[string]any{"jti": strings.Repeat("j", 129)}), 401, "invalid_client"},
		{"sub twice", raw(strings.Replace(string(all), "{", `{"sub":"other",`, 1)), 401, "invalid_client"},
		{"no claims", raw("null"), 401, "invalid_client"},
		{"claims and more", raw(string(all) + "{}"), 401, "invalid_client"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			w.take()
			rec := w.post("north", tt.form)
			if got := read(t, rec); rec.Code != tt.status || got.Error != tt.code || got.AccessToken != "" {
				t.Errorf("%d %s, want %d %s", rec.Code, rec.Body, tt.status, tt.code)
			}
			e := w.take()
			if len(e) != 1 || e[0].Outcome == audit.Success || e[0].Status != tt.status || !strings.HasPrefix(e[0].Reason, "token: "+tt.code) {
				t.Fatalf("audited: %+v", e)
			}
			if proven := tt.code == "invalid_scope"; proven != (e[0].Tenant == "north") {
				t.Errorf("audited by %q", e[0].Tenant)
			}
		})
	}
	if len(w.used) > 15 {
		t.Errorf("%d assertions were used up: only good ones may be", len(w.used))
	}
}

// T046-like: what proves a client at one tenant proves nothing at another.
func TestAnAssertionIsGoodAtOneTenantOnly(t *testing.T) {
	w := newWorld(t)
	unknown := w.post("north", form(w.assertion(t, "north", "nobody", nil), "system/*.rs"))
	for _, tt := range []struct{ of, at string }{
		{"north", "south"}, {"south", "north"}, {"north", "z-nine"}, {"z-nine", "z-nine"}, {"north", "nobody"}, {"nobody", "nobody"}, {"NORTH", "NORTH"},
	} {
		rec := w.post(tt.at, form(w.assertion(t, tt.of, "backend", nil), "system/*.rs"))
		if rec.Code != 401 || rec.Body.String() != unknown.Body.String() {
			t.Errorf("%s's at %s: %d %s, want the answer to an unknown client", tt.of, tt.at, rec.Code, rec.Body)
		}
		if diff := cmp.Diff(unknown.Header(), rec.Header()); diff != "" {
			t.Errorf("%s's at %s: headers (-unknown client +got):\n%s", tt.of, tt.at, diff)
		}
	}
	for _, e := range w.take() {
		if e.Tenant != "" {
			t.Errorf("the trail of %s was written by nobody proven", e.Tenant)
		}
	}
}

// replay, raced.
func TestAnAssertionIsGoodOnce(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		f := form(w.assertion(t, "north", "backend", nil), "system/*.rs")
		codes := make(chan int, 100)
		var wg sync.WaitGroup
		for range cap(codes) {
			wg.Go(func() { codes <- w.post("north", f).Code })
		}
		wg.Wait()
		close(codes)
		n := map[int]int{}
		for c := range codes {
			n[c]++
		}
		if diff := cmp.Diff(map[int]int{200: 1, 401: 99}, n); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
	}
	if e := w.take(); len(e) != 500 {
		t.Errorf("%d entries in the trail, want 500", len(e))
	}
}

// Two clients, and two tenants, may choose the same jti.
func TestAJTIIsAClientsOwn(t *testing.T) {
	w := newWorld(t)
	jti := map[string]any{"jti": "one"}
	for _, slug := range []string{"north", "south"} {
		if rec := w.post(slug, form(w.assertion(t, slug, "backend", jti), "system/*.rs")); rec.Code != 200 {
			t.Errorf("%s: %d %s", slug, rec.Code, rec.Body)
		}
	}
}

// T275
func TestWithoutAnAuditTrailThereIsNoToken(t *testing.T) {
	w := newWorld(t)
	w.auditErr = errors.New("disk full at secret-dsn")
	for _, rec := range []*httptest.ResponseRecorder{
		w.post("north", form(w.assertion(t, "north", "backend", nil), "system/*.rs")),
		w.post("north", url.Values{}),
		w.send("GET", "/auth/north/jwks", "", nil),
		w.send("GET", "/auth/none", "", nil),
	} {
		if got := read(t, rec); rec.Code != 503 || got.AccessToken != "" || strings.Contains(rec.Body.String(), "secret") {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	}
}

func TestAFaultOfOursIsAuditedAndSaysNothing(t *testing.T) {
	w := newWorld(t)
	for _, client := range []string{"broken", "panics"} {
		rec := w.post("north", form(w.assertion(t, "north", client, nil), "system/*.rs"))
		if got := read(t, rec); rec.Code != 500 || got.Error != "server_error" || strings.Contains(rec.Body.String(), "secret") {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
		if e := w.take(); len(e) != 1 || e[0].Outcome != audit.MajorFailure {
			t.Errorf("audited: %+v", e)
		}
	}
}

func TestTheFormOfARequest(t *testing.T) {
	w := newWorld(t)
	good := func() string { return form(w.assertion(t, "north", "backend", nil), "system/*.rs").Encode() }
	const path = "/auth/north/token"
	for _, tt := range []struct {
		claim, method, path, body string
		header                    http.Header
		want                      int
	}{
		{"a charset is fine", "POST", path, good(), http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=UTF-8"}}, 200},
		{"GET", "GET", path, "", nil, 405},
		{"PUT", "PUT", path, good(), nil, 405},
		{"another endpoint", "POST", "/auth/north/authorize", good(), nil, 404},
		{"a slash at the end", "POST", path + "/", good(), nil, 404},
		{"an encoded tenant", "POST", "/auth/n%6frth/token", good(), nil, 404},
		{"a path that climbs", "POST", "/auth/south/../north/token", good(), nil, 404},
		{"JSON", "POST", path, good(), http.Header{"Content-Type": {"application/json"}}, 400},
		{"no type", "POST", path, good(), http.Header{"Content-Type": nil}, 400},
		{"compressed", "POST", path, good(), http.Header{"Content-Encoding": {"gzip"}}, 400},
		{"in the URL", "POST", path + "?" + good(), "", nil, 400},
		{"in the URL as well", "POST", path + "?scope=system/*.cruds", good(), nil, 400},
		{"a parameter twice", "POST", path, good() + "&scope=system/*.cruds", nil, 400},
		{"the assertion twice", "POST", path, good() + "&" + good(), nil, 400},
		{"malformed", "POST", path, "a=%zz", nil, 400},
		{"semicolons", "POST", path, strings.ReplaceAll(good(), "&", ";"), nil, 400},
		{"long", "POST", path, strings.Repeat("a", 64<<10+1), nil, 413},
		{"Basic as well", "POST", path, good(), http.Header{"Authorization": {"Basic YTpi"}}, 400},
		{"a secret as well", "POST", path, good() + "&client_secret=b", nil, 400},
		{"Basic", "POST", path, "grant_type=client_credentials", http.Header{"Authorization": {"Basic YTpi"}}, 401},
		{"empty", "POST", path, "", nil, 400},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			w.take()
			rec := w.send(tt.method, tt.path, tt.body, tt.header)
			read(t, rec)
			if rec.Code != tt.want {
				t.Errorf("%d %s, want %d", rec.Code, rec.Body, tt.want)
			}
			if e := w.take(); len(e) != 1 || e[0].Status != tt.want {
				t.Errorf("audited: %+v", e)
			}
		})
	}
}

func TestARequestIDIsTakenIfWellFormed(t *testing.T) {
	w := newWorld(t)
	for id, taken := range map[string]bool{"a.B-1_": true, "": false, "a b": false, "a\n": false, strings.Repeat("a", 65): false, "<script>": false} {
		rec := w.send("GET", "/auth/north/jwks", "", http.Header{"X-Request-Id": {id}})
		got := rec.Header().Get("X-Request-Id")
		if (got == id) != taken || got == "" || w.take()[0].Origin.RequestID != got {
			t.Errorf("%q became %q", id, got)
		}
	}
}

// T056
func TestJWKSVerifiesTokensAndHoldsNothingElse(t *testing.T) {
	w := newWorld(t)
	bearer := read(t, w.post("north", form(w.assertion(t, "north", "backend", nil), "system/*.rs"))).AccessToken
	rec := w.send("GET", "/auth/north/jwks", "", nil)
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(rec.Body.Bytes(), &set); err != nil || rec.Code != 200 || len(set.Keys) != 1 || !set.Keys[0].IsPublic() {
		t.Fatalf("%d %s, %v", rec.Code, rec.Body, err)
	}
	jws, err := jose.ParseSignedCompact(bearer, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jws.Verify(set.Keys[0]); err != nil || set.Keys[0].KeyID != jws.Signatures[0].Header.KeyID {
		t.Errorf("kid %s: %v", set.Keys[0].KeyID, err)
	}
	if strings.Contains(rec.Body.String(), `"d"`) {
		t.Error("the private key is there")
	}
	other := w.send("GET", "/auth/nobody/jwks", "", nil)
	for _, slug := range []string{"z-nine", "NORTH", "none"} {
		rec := w.send("GET", "/auth/"+slug+"/jwks", "", nil)
		if rec.Code != 404 || rec.Body.String() != other.Body.String() {
			t.Errorf("%s: %d %s", slug, rec.Code, rec.Body)
		}
	}
}

//
func TestConfigurationClaimsWhatRuns(t *testing.T) {
	w := newWorld(t)
	var got map[string]any
	doc := w.server.Configuration("north")
	if err := json.Unmarshal(doc, &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"authorization_endpoint", "issuer", "introspection_endpoint", "revocation_endpoint", "registration_endpoint"} {
		if _, ok := got[name]; ok {
			t.Errorf("it claims %s", name)
		}
	}
	if strings.Contains(string(doc), "south") {
		t.Error("it names another tenant")
	}
	for _, name := range []string{"token_endpoint", "jwks_uri"} {
		u, err := url.Parse(got[name].(string))
		if err != nil {
			t.Fatal(err)
		}
		method := map[string]string{"token_endpoint": "POST", "jwks_uri": "GET"}[name]
		if rec := w.send(method, u.Path, "", nil); rec.Code == 404 || rec.Code == 405 {
			t.Errorf("%s answers %d", name, rec.Code)
		}
	}
	for _, scope := range got["scopes_supported"].([]any) {
		if _, err := smart.ParseScope(scope.(string)); err != nil {
			t.Errorf("the scope %v is not one", scope)
		}
	}
}

func TestLogsHoldNoSecrets(t *testing.T) {
	w := newWorld(t)
	f := form(w.assertion(t, "north", "backend", nil), "system/*.rs")
	bearer := read(t, w.post("north", f)).AccessToken
	w.post("north", form(w.assertion(t, "north", "panics", nil), "system/*.rs"))
	for _, secret := range []string{bearer, strings.Split(bearer, ".")[2], f.Get("client_assertion"), "secret-dsn"} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func FuzzToken(f *testing.F) {
	w := newWorld(f)
	f.Add(form(w.assertion(f, "north", "backend", nil), "system/*.rs").Encode())
	f.Add("grant_type=client_credentials&client_assertion=a.b.c")
	f.Fuzz(func(t *testing.T, body string) {
		rec := w.send("POST", "/auth/north/token", body, nil)
		if rec.Code >= 500 {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	})
}

func BenchmarkToken(b *testing.B) {
	w := newWorld(b)
	for b.Loop() {
		b.StopTimer()
		f := form(w.assertion(b, "north", "backend", nil), "system/*.rs")
		b.StartTimer()
		if rec := w.post("north", f); rec.Code != 200 {
			b.Fatal(rec.Body)
		}
	}
}
