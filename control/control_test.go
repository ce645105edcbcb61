package control_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/control"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart/smarttest"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

const url = "https://control.example.org"

func newKey(t testing.TB, c elliptic.Curve) *jose.JSONWebKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &jose.JSONWebKey{Key: k, KeyID: rand.Text()[:8]}
}

// A plane is a control plane with an operator "ops".
type plane struct {
	*storetest.Fixture
	http.Handler
	key *jose.JSONWebKey
	log *bytes.Buffer
}

func newPlane(t testing.TB) *plane {
	t.Helper()
	p := &plane{Fixture: storetest.New(t), key: newKey(t, elliptic.P384()), log: new(bytes.Buffer)}
	p.operator(t, "ops", p.key, false)
	var err error
	p.Handler, err = control.New(control.Config{
		Migrator: p.Migrator, Registry: p.Registry, URL: url, Log: oplog.New(slog.NewTextHandler(p.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *plane) operator(t testing.TB, id string, key *jose.JSONWebKey, disabled bool) {
	t.Helper()
	pub := key.Public()
	jwk, err := pub.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Migrator.PutOperator(t.Context(), store.Operator{ID: id, JWK: jwk, Disabled: disabled}); err != nil {
		t.Fatal(err)
	}
}

// do sends a request as the operator.
func (p *plane) do(t testing.TB, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	token, err := control.Token(p.key, "ops", url)
	if err != nil {
		t.Fatal(err)
	}
	return p.send(t, method, path, body, append([]string{"Authorization", "Bearer " + token}, headers...)...)
}

func (p *plane) send(t testing.TB, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if body != "" && !slices.Contains(headers, "Content-Type") {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// trail returns "status client reason" of the platform's entries of a request.
func (p *plane) trail(t testing.TB, requestID string) []string {
	t.Helper()
	return p.acts(t, "request_id = $1", requestID)
}

// acts is trail for the entries that meet the condition.
func (p *plane) acts(t testing.TB, where string, args ...any) []string {
	t.Helper()
	conf, err := pgx.ParseConfig(p.URLs.Registry)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := pgx.ParseConfig(p.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	owner.Database = conf.Database
	conn, err := pgx.ConnectConfig(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `
		SELECT status || ' ' || client || ' ' || reason FROM registry.platform_audit WHERE `+where+` ORDER BY seq`, args...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func body(t testing.TB, w *httptest.ResponseRecorder) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return v
}

// TEN-33: one call makes a tenant, may be repeated, and is audited.
func TestTenants(t *testing.T) {
	p := newPlane(t)
	for _, mode := range []string{"shared", "schema", "database"} {
		request := fmt.Sprintf(`{"slug":"api-%s","name":"By API","mode":%q,"region":"eu-1"}`, mode, mode)
		want := map[string]any{"slug": "api-" + mode, "name": "By API", "mode": mode, "region": "eu-1", "status": "active", "policy_version": 1.0}
		for i, status := range []int{201, 200, 200} {
			w := p.do(t, "POST", "/control/v1/tenants", request, "X-Request-Id", fmt.Sprintf("make-%s-%d", mode, i))
			if w.Code != status {
				t.Fatalf("%s, time %d: got %d %s", mode, i, w.Code, w.Body)
			}
			if d := cmp.Diff(want, body(t, w)); d != "" {
				t.Error(d)
			}
		}
		if d := cmp.Diff([]string{
			"102 ops begins: POST /tenants",
			"201 ops made tenant api-" + mode + ", mode " + mode + ", region eu-1",
		}, p.trail(t, "make-"+mode+"-0")); d != "" {
			t.Error(d)
		}
	}
	t.Run("a tenant that differs is a conflict", func(t *testing.T) {
		w := p.do(t, "POST", "/control/v1/tenants", `{"slug":"api-shared","name":"By API","mode":"schema","region":"eu-1"}`)
		if w.Code != 409 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
	t.Run("a tenant is suspended and resumed, shown and listed", func(t *testing.T) {
		for _, step := range []struct{ verb, want string }{{"suspend", "suspended"}, {"suspend", "suspended"}, {"resume", "active"}} {
			w := p.do(t, "POST", "/control/v1/tenants/api-schema/"+step.verb, "", "X-Request-Id", "to-"+step.want)
			if w.Code != 200 || body(t, w)["status"] != step.want {
				t.Errorf("%s: got %d %s", step.verb, w.Code, w.Body)
			}
			if w := p.do(t, "GET", "/control/v1/tenants/api-schema", ""); body(t, w)["status"] != step.want {
				t.Errorf("%s: shown as %s", step.verb, w.Body)
			}
		}
		if got := p.trail(t, "to-active"); !slices.Contains(got, "200 ops resumed tenant api-schema") {
			t.Errorf("the trail has %v", got)
		}
		w := p.do(t, "GET", "/control/v1/tenants", "")
		var list []map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) < 8 {
			t.Errorf("got %v, %d tenants", err, len(list))
		}
	})
	t.Run("what is not known is 404", func(t *testing.T) {
		for _, path := range []string{
			"/control/v1/tenants/nobody", "/control/v1/tenants/nobody/clients", "/control/v1/tenants/Upper", "/control/v1/tenant",
			"/control/v1/", "/control/v1", "/", "/control/v1//tenants", "/control/v1/tenants/", "/control/v1/tenants/../tenants",
			"/control/v1/tenants/api%2Dschema", "/control/v2/tenants", "/control/v1/tenants/a'b",
		} {
			if w := p.do(t, "GET", path, ""); w.Code != 404 {
				t.Errorf("%s: got %d", path, w.Code)
			}
		}
		for _, path := range []string{"/control/v1/tenants/nobody/suspend", "/control/v1/tenants/nobody/resume"} {
			if w := p.do(t, "POST", path, ""); w.Code != 404 {
				t.Errorf("%s: got %d", path, w.Code)
			}
		}
	})
	t.Run("malformed requests are refused with words, not with what was sent", func(t *testing.T) {
		for _, tt := range []struct {
			body string
			want int
		}{
			{``, 400}, {`{`, 400}, {`[]`, 400}, {`{"slug":"good-one"}`, 400}, {`{"slug":"X","mode":"shared"}`, 400},
			{`{"slug":"good-one","mode":"shared","extra":1}`, 400}, {`{"slug":"good-one","slug":"other-one","mode":"shared"}`, 400},
			{`{"Slug":"good-one","Mode":"shared"}`, 400}, {`{"slug":"good-one","mode":"shared","region":"SECRET"}`, 400},
			{`{"slug":"` + strings.Repeat("a", 70<<10) + `"}`, 413},
		} {
			w := p.do(t, "POST", "/control/v1/tenants", tt.body)
			if w.Code != tt.want || body(t, w)["resourceType"] != "OperationOutcome" || strings.Contains(w.Body.String(), "SECRET") {
				t.Errorf("%.40s: got %d %s", tt.body, w.Code, w.Body)
			}
		}
		if w := p.do(t, "POST", "/control/v1/tenants", `{}`, "Content-Type", "text/plain"); w.Code != 415 {
			t.Errorf("got %d", w.Code)
		}
	})
	t.Run("other methods are 405", func(t *testing.T) {
		for _, m := range []string{"PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"} {
			if w := p.do(t, m, "/control/v1/tenants", ""); w.Code != 405 {
				t.Errorf("%s: got %d", m, w.Code)
			}
		}
	})
	t.Run("the states of migration are listed", func(t *testing.T) {
		w := p.do(t, "GET", "/control/v1/migrations", "")
		var list []map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 {
			t.Fatalf("%d %v", w.Code, err)
		}
		for _, s := range list {
			if s["version"] != s["latest"] {
				t.Errorf("%v", s)
			}
		}
	})
}

// Each act of an operator is in the platform's trail before it begins, and what it
// did thereafter; so is it who becomes an operator. AUD-03
func TestEachActOfAnOperatorIsAudited(t *testing.T) {
	p := newPlane(t)
	names := strings.NewReplacer("{slug}", storetest.A2, "{package}", "none@1.0.0", "{client}", "none", "{login}", "none", "{provider}", "none", "{glass}", strings.Repeat("A", 26), "{hold}", strings.Repeat("A", 26), "{purge}", strings.Repeat("A", 26), "{number}", "999999")
	for i, act := range control.Acts() {
		id := fmt.Sprintf("act-%d", i)
		p.do(t, act[0], names.Replace(act[1]), "", "X-Request-Id", id, "Content-Type", "application/gzip")
		got := p.trail(t, id)
		if len(got) != 2 || !strings.HasPrefix(got[0], "102 ops begins: "+act[0]+" ") {
			t.Errorf("%s %s: the trail has %q", act[0], act[1], got)
		}
	}
	tenant := "/control/v1/tenants/acts"
	for i, act := range [][4]string{
		{"POST", "/control/v1/tenants", `{"slug":"acts","mode":"shared"}`, "201 ops made tenant acts"},
		{"POST", tenant + "/policy/changes", `{"text":"@id(\"none\") forbid (principal, action, resource);"}`, "201 ops proposed "},
		{"POST", tenant + "/signing-keys", "", "201 ops made the next keys for tokens of tenant acts"},
		{"PUT", tenant + "/settings", `{"version":1,"settings":{"validation":{"level":"claimed"}}}`, "200 ops changed the settings of tenant acts "},
		{"POST", tenant + "/suspend", "", "200 ops suspended tenant acts"},
	} {
		id := fmt.Sprintf("done-%d", i)
		w := p.do(t, act[0], act[1], act[2], "X-Request-Id", id)
		if got := p.trail(t, id); len(got) != 2 || !strings.HasPrefix(got[1], act[3]) {
			t.Errorf("%s %s: %d %s, the trail has %q", act[0], act[1], w.Code, w.Body, got)
		}
	}
	p.operator(t, "acts", newKey(t, elliptic.P384()), false)
	p.operator(t, "acts", newKey(t, elliptic.P384()), true)
	if got := p.acts(t, "reason LIKE '%operator acts'"); len(got) != 2 || !strings.HasSuffix(got[0], " stored operator acts") || !strings.HasSuffix(got[1], " disabled operator acts") {
		t.Errorf("of operators the trail has %q", got)
	}
}

func TestClients(t *testing.T) {
	p := newPlane(t)
	path := "/control/v1/tenants/" + storetest.S1 + "/clients"
	set := func(keys ...jose.JSONWebKey) json.RawMessage {
		text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	key := newKey(t, elliptic.P384())
	good := map[string]any{"id": "backend", "name": "Backend", "jwks": set(key.Public()), "scopes": []string{"system/*.cruds"}}
	post := func(change map[string]any) *httptest.ResponseRecorder {
		b := maps.Clone(good)
		maps.Copy(b, change)
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return p.do(t, "POST", path, string(text), "X-Request-Id", "client")
	}
	if w := post(nil); w.Code != 201 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	if w := post(map[string]any{"scopes": []string{"system/Patient.rs"}, "user": "Practitioner/dr1", "patient": "p1", "purpose": "TREAT"}); w.Code != 200 {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	got, err := p.Registry.Client(t.Context(), p.Tenant(t, storetest.S1), "backend")
	if err != nil {
		t.Fatal(err)
	}
	if got.User != "Practitioner/dr1" || got.Patient != "p1" || got.Purpose != "TREAT" || !slices.Equal(got.Scopes, []string{"system/Patient.rs"}) {
		t.Errorf("got %+v", got)
	}
	if w := p.do(t, "GET", path, ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"id":"backend"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if got := p.trail(t, "client"); !slices.Contains(got, "200 ops replaced client backend of tenant "+storetest.S1) {
		t.Errorf("the trail has %v", got)
	}

	unnamed := key.Public()
	unnamed.KeyID = ""
	for claim, change := range map[string]map[string]any{
		"a private key":                   {"jwks": set(*key)},
		"no keys":                         {"jwks": set()},
		"no key set":                      {"jwks": "x"},
		"keys that are nothing":           {"jwks": nil},
		"a key on P-256":                  {"jwks": set(newKey(t, elliptic.P256()).Public())},
		"a symmetric key":                 {"jwks": set(jose.JSONWebKey{Key: []byte("0123456789abcdef"), KeyID: "k"})},
		"two keys of one name":            {"jwks": set(key.Public(), key.Public())},
		"a key without a name":            {"jwks": set(unnamed)},
		"no scopes":                       {"scopes": []string{}},
		"a scope that is none":            {"scopes": []string{"system/*.sdurc"}},
		"two scopes in one":               {"scopes": []string{"system/*.r system/*.c"}},
		"an id with a space":              {"id": "a b"},
		"no id":                           {"id": ""},
		"a user that is no reference":     {"user": "dr1"},
		"a user of a type that cannot be": {"user": "Observation/1"},
		"a user of another server":        {"user": "https://evil.example.org/Practitioner/1"},
		"a patient that is no id":         {"patient": "Patient/p1"},
		"a purpose that is no code":       {"purpose": "anything goes"},
	} {
		t.Run(claim+" is refused", func(t *testing.T) {
			if w := post(change); w.Code != 400 {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}

// No one but an operator is heard, with a token for one request.
func TestWhoIsHeard(t *testing.T) {
	p := newPlane(t)
	other := newKey(t, elliptic.P384())
	p.operator(t, "gone", other, true)
	p.operator(t, "small", newKey(t, elliptic.P256()), false)
	now := time.Now()
	claims := func(change map[string]any) map[string]any {
		c := map[string]any{"iss": "ops", "sub": "ops", "aud": url, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}
		maps.Copy(c, change)
		return c
	}
	sign := func(key any, alg jose.SignatureAlgorithm, typ jose.ContentType, c map[string]any) string {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return smarttest.Sign(alg, key, (&jose.SignerOptions{}).WithType(typ), text)
	}
	const typ = "cordon-operator+jwt"
	ok := func(change map[string]any) string { return sign(p.key, jose.ES384, typ, claims(change)) }
	good := ok(nil)
	bad := map[string]string{
		"none":                         "",
		"no JWT":                       "abc",
		"of another type":              sign(p.key, jose.ES384, "at+jwt", claims(nil)),
		"signed with another key":      sign(other, jose.ES384, typ, claims(nil)),
		"signed with a symmetric key":  sign([]byte(strings.Repeat("k", 48)), jose.HS384, typ, claims(nil)),
		"signed by a disabled one":     sign(other, jose.ES384, typ, claims(map[string]any{"iss": "gone", "sub": "gone"})),
		"with another's name":          ok(map[string]any{"iss": "small", "sub": "small"}),
		"of nobody":                    ok(map[string]any{"iss": "nobody", "sub": "nobody"}),
		"for someone else":             ok(map[string]any{"sub": "small"}),
		"for another audience":         ok(map[string]any{"aud": "https://elsewhere.example.org"}),
		"for several audiences":        ok(map[string]any{"aud": []string{url}}),
		"expired":                      ok(map[string]any{"iat": now.Add(-5 * time.Minute).Unix(), "exp": now.Add(-time.Second).Unix()}),
		"of the future":                ok(map[string]any{"iat": now.Add(2 * time.Minute).Unix(), "exp": now.Add(3 * time.Minute).Unix()}),
		"good for too long":            ok(map[string]any{"exp": now.Add(6 * time.Minute).Unix()}),
		"without jti":                  ok(map[string]any{"jti": ""}),
		"with a claim that is unknown": ok(map[string]any{"admin": true}),
		"with an altered signature":    good[:len(good)-4] + "AAAA",
		"without a signature":          good[:strings.LastIndex(good, ".")+1],
		"with more parts":              good + ".x",
		"too long":                     ok(map[string]any{"jti": strings.Repeat("j", 4<<10)}),
	}
	for claim, bearer := range bad {
		t.Run("a token "+claim+" is refused", func(t *testing.T) {
			id := "refused-" + rand.Text()
			w := p.send(t, "GET", "/control/v1/tenants", "", "Authorization", "Bearer "+bearer, "X-Request-Id", id)
			if w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			if got := p.trail(t, id); len(got) != 1 || !strings.HasPrefix(got[0], "401 ") {
				t.Errorf("the trail has %v", got)
			}
		})
	}
	t.Run("a token is good once, also when it comes many times at once", func(t *testing.T) {
		var heard atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if p.send(t, "GET", "/control/v1/tenants", "", "Authorization", "Bearer "+good).Code == 200 {
					heard.Add(1)
				}
			})
		}
		wg.Wait()
		if heard.Load() != 1 {
			t.Errorf("heard %d times", heard.Load())
		}
	})
	t.Run("without a header, or with two, nobody is heard", func(t *testing.T) {
		if w := p.send(t, "GET", "/control/v1/tenants", ""); w.Code != 401 {
			t.Errorf("got %d", w.Code)
		}
		if w := p.send(t, "GET", "/control/v1/tenants", "", "Authorization", "Bearer "+ok(nil), "Authorization", "Bearer "+ok(nil)); w.Code != 401 {
			t.Errorf("got %d", w.Code)
		}
	})
	t.Run("an operator with a key on P-256 is heard too", func(t *testing.T) {
		small := newKey(t, elliptic.P256())
		p.operator(t, "small", small, false)
		token, err := control.Token(small, "small", url)
		if err != nil {
			t.Fatal(err)
		}
		if w := p.send(t, "GET", "/control/v1/tenants", "", "Authorization", "Bearer "+token); w.Code != 200 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
	t.Run("an operator's token is told from others", func(t *testing.T) {
		for bearer, want := range map[string]bool{good: true, bad["of another type"]: false, "": false, "a.b.c": false, "...": false} {
			if control.IsOperatorToken(bearer) != want {
				t.Errorf("%.20q: want %v", bearer, want)
			}
		}
	})
	if strings.Contains(p.log.String(), good[:40]) || strings.Contains(p.log.String(), "ERROR") {
		t.Errorf("the log holds a token or a fault: %s", p.log)
	}
}

// Where nothing can be audited nothing is done.
func TestNoTrailNoAct(t *testing.T) {
	p := newPlane(t)
	conf, err := pgx.ParseConfig(p.URLs.Registry)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := pgx.ParseConfig(p.OwnerURL)
	if err != nil {
		t.Fatal(err)
	}
	owner.Database = conf.Database
	conn, err := pgx.ConnectConfig(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	run := func(sql string) {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	run(`REVOKE INSERT ON registry.platform_audit FROM ` + conf.User)
	defer run(`GRANT INSERT ON registry.platform_audit TO ` + conf.User)
	if w := p.do(t, "POST", "/control/v1/tenants", `{"slug":"unaudited","mode":"shared"}`); w.Code != 503 {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if _, err := p.Migrator.TenantBySlug(t.Context(), "unaudited"); err == nil {
		t.Error("the tenant was made all the same")
	}
	if w := p.do(t, "GET", "/control/v1/tenants", ""); w.Code != 503 || strings.Contains(w.Body.String(), storetest.A1) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func FuzzIsOperatorToken(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJ0eXAiOiJjb3Jkb24tb3BlcmF0b3Irand0In0.e30.")
	f.Fuzz(func(t *testing.T, bearer string) { control.IsOperatorToken(bearer) })
}
