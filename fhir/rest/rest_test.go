package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/limit"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

func TestMain(m *testing.M) {
	if os.Getenv(tellingWorker) != "" {
		tellSubscribers()
	}
	trustSinks()
	if os.Getenv(exportWorker) != "" {
		workOnExports()
	}
	storetest.Main(m)
}

// An api is the API over a real database, with tenants in every mode.
type api struct {
	*storetest.Fixture
	handler http.Handler
	logged  *lines

	mu     sync.Mutex
	alerts []smart.Alert
}

// lines is a log that tests can read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func baseOf(slug string) string { return "https://cordon.test/fhir/" + slug }

func newAPI(t testing.TB, change ...func(*Config)) *api {
	t.Helper()
	f := storetest.New(t)
	db, err := store.Open(t.Context(), store.Config{
		DatabaseURL: f.URLs.App, AuditURL: f.URLs.Audit, Keys: f.Keyring, Platform: f.Registry, Packages: f.Registry, Base: baseOf,
		Files: store.FilesConfig{Dir: f.Files},
		Wait:  time.Minute, // a busy machine is not what is tested
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	a := &api{Fixture: f, logged: &lines{}}
	alert := func(x smart.Alert) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.alerts = append(a.alerts, x)
	}
	v, err := smart.NewVerifier(smart.Config{Tenants: f.Tenants, Keys: f.Keyring, Policies: f.Registry, Glasses: f.Registry, Base: baseOf, Issuer: baseOf, Alert: alert})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		DB: db, Verifier: v, Tenants: f.Tenants, Base: baseOf, Alert: alert,
		SmartConfiguration: func(slug string) []byte {
			return fmt.Appendf(nil, `{"token_endpoint":"https://cordon.test/auth/%s/token"}`, slug)
		},
		Limit: limit.New(limit.Config{Wait: time.Minute}),
		Log:   oplog.New(slog.NewTextHandler(a.logged, nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	a.handler = New(cfg).server
	return a
}

// token returns a bearer of a client of the tenant, as its issuer signs them.
func (a *api) token(t testing.TB, slug, scope string, change ...func(*smart.Token)) string {
	t.Helper()
	set, err := a.Keyring.Of(t.Context(), a.Tenant(t, slug).ID)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tok := smart.Token{
		Issuer: baseOf(slug), Audience: baseOf(slug), Tenant: slug, Subject: "tester", Client: "tester", Scope: scope,
		Issued: now.Unix(), NotYet: now.Unix(), Expires: now.Add(10 * time.Minute).Unix(), ID: fmt.Sprint(now.UnixNano()),
	}
	for _, c := range change {
		c(&tok)
	}
	bearer, err := tok.Sign(set)
	if err != nil {
		t.Fatal(err)
	}
	return bearer
}

// settings changes those of the tenant.
func (a *api) settings(t testing.TB, slug string, change func(*tenant.Settings)) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // also when the test is over
	s, version, err := a.Migrator.Settings(ctx, slug)
	if err == nil {
		change(&s)
		_, err = a.Migrator.PutSettings(ctx, slug, s, version)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.Tenants.Forget(slug)
}

// A client calls the API of one tenant.
type client struct {
	*api
	t      testing.TB
	slug   string
	bearer string
}

func (a *api) client(t testing.TB, slug, scope string, change ...func(*smart.Token)) *client {
	return &client{a, t, slug, a.token(t, slug, scope, change...)}
}

// do sends a request below the base of the tenant. Headers come in pairs; an
// empty value takes a header away.
func (c *client) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	c.t.Helper()
	return c.send(method, "/fhir/"+c.slug+path, body, headers...)
}

func (c *client) send(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	c.t.Helper()
	r := httptest.NewRequest(method, "https://cordon.test/x", strings.NewReader(body))
	var err error
	if r.URL, err = r.URL.Parse("https://cordon.test" + path); err != nil {
		c.t.Fatal(err)
	}
	fhirtest.SetHeaders(r, c.bearer, headers...)
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return w
}

// must is do for what has to be answered with the status.
func (c *client) must(status int, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	c.t.Helper()
	w := c.do(method, path, body, headers...)
	if w.Code != status {
		c.t.Fatalf("%s %s: got %d %s, want %d\n%s", method, path, w.Code, w.Body, status, c.logged)
	}
	return w
}

// shown is the JSON of an answer.
func shown(t testing.TB, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return v
}

var at = fhirtest.At

// patient is a Patient with an id, "" for none, and a family name.
func patient(id, family string) string {
	if id != "" {
		id = `"id":"` + id + `",`
	}
	return `{"resourceType":"Patient",` + id + `"name":[{"family":"` + family + `"}],"identifier":[{"system":"mrn","value":"` + family + `"}]}`
}

var serial = struct {
	sync.Mutex
	n int
}{}

// fresh returns an id that no other test uses.
func fresh() string {
	serial.Lock()
	defer serial.Unlock()
	serial.n++
	return fmt.Sprintf("t%d-%d", time.Now().UnixNano(), serial.n)
}

const all = "system/*.cruds"

// H-10, H-20, H-22: each tenant, in whatever mode, has records of its own
// under the same ids.
func TestARecordIsWrittenReadAndChangedInEveryMode(t *testing.T) {
	a := newAPI(t)
	id := fresh()
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			w := c.must(201, "PUT", "/Patient/"+id, patient(id, "of-"+slug))
			if got := w.Header().Get("ETag"); got != `W/"1"` {
				t.Errorf("ETag %s", got)
			}
			if got, want := w.Header().Get("Location"), baseOf(slug)+"/Patient/"+id+"/_history/1"; got != want {
				t.Errorf("Location %s, want %s", got, want)
			}
			w = c.must(200, "GET", "/Patient/"+id, "")
			if got := at(shown(t, w), "name", 0, "family"); got != "of-"+slug {
				t.Errorf("got %v", got)
			}
			if got := w.Header().Get("Content-Type"); got != contentType {
				t.Errorf("Content-Type %s", got)
			}
			c.must(304, "GET", "/Patient/"+id, "", "If-None-Match", `W/"1"`)
			c.must(200, "PUT", "/Patient/"+id, patient(id, "again-"+slug), "If-Match", `W/"1"`)
			c.must(412, "PUT", "/Patient/"+id, patient(id, "lost-"+slug), "If-Match", `W/"1"`)
			if got := at(shown(t, c.must(200, "GET", "/Patient/"+id+"/_history/1", "")), "name", 0, "family"); got != "of-"+slug {
				t.Errorf("version 1 is %v", got)
			}
			h := shown(t, c.must(200, "GET", "/Patient/"+id+"/_history", ""))
			if at(h, "total") != 2.0 || at(h, "entry", 0, "response", "etag") != `W/"2"` || at(h, "entry", 1, "request", "method") != "PUT" {
				t.Errorf("history: %v", h)
			}
			s := shown(t, c.must(200, "GET", "/Patient?family=again-"+slug, ""))
			if at(s, "total") != 1.0 || at(s, "entry", 0, "fullUrl") != baseOf(slug)+"/Patient/"+id || at(s, "entry", 0, "search", "mode") != "match" {
				t.Errorf("search: %v", s)
			}
			c.must(204, "DELETE", "/Patient/"+id, "")
			c.must(410, "GET", "/Patient/"+id, "")
			c.must(204, "DELETE", "/Patient/"+id, "")
			c.must(410, "GET", "/Patient/"+id+"/_history/3", "")
			h = shown(t, c.must(200, "GET", "/Patient/"+id+"/_history", ""))
			if at(h, "entry", 0, "request", "method") != "DELETE" || at(h, "entry", 0, "resource") != nil {
				t.Errorf("history after deletion: %v", h)
			}
			w = c.must(201, "PUT", "/Patient/"+id, patient(id, "back-"+slug))
			if got := w.Header().Get("ETag"); got != `W/"4"` {
				t.Errorf("ETag after deletion %s", got)
			}
		})
	}
}

// H-20, H-21
func TestACreateAnswersAsPreferred(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	w := c.must(201, "POST", "/Patient", patient("ignored", "x"))
	if got := at(shown(t, w), "id"); got == "ignored" {
		t.Error("the client chose the id of a create")
	}
	if !strings.HasPrefix(w.Header().Get("Location"), baseOf(storetest.A1)+"/Patient/") {
		t.Errorf("Location %s", w.Header().Get("Location"))
	}
	if w := c.must(201, "POST", "/Patient", patient("", "x"), "Prefer", "return=minimal"); w.Body.Len() > 0 || w.Header().Get("Preference-Applied") != "return=minimal" {
		t.Errorf("minimal: %s %v", w.Body, w.Header())
	}
	if w := c.must(201, "POST", "/Patient", patient("", "x"), "Prefer", "return=OperationOutcome"); at(shown(t, w), "resourceType") != "OperationOutcome" {
		t.Errorf("OperationOutcome: %s", w.Body)
	}
	// T125
	writer := a.client(t, storetest.A1, "system/Patient.cu")
	if w := writer.must(201, "POST", "/Patient", patient("", "x"), "Prefer", "return=representation"); w.Body.Len() > 0 {
		t.Errorf("who may not read saw %s", w.Body)
	}
	id := at(shown(t, w), "id").(string)
	if w := writer.must(200, "PUT", "/Patient/"+id, patient(id, "y"), "Prefer", "return=representation"); w.Body.Len() > 0 {
		t.Errorf("who may not read saw %s", w.Body)
	}
	if w := writer.must(200, "PATCH", "/Patient/"+id, `[{"op":"add","path":"/active","value":true}]`, "Prefer", "return=representation"); w.Body.Len() > 0 {
		t.Errorf("who may not read saw %s", w.Body)
	}
	writer.must(403, "GET", "/Patient/"+id, "")
}

// H-01, H-04, H-20, H-22, H-29
func TestARequestIsRefusedWithAnOutcome(t *testing.T) {
	a := newAPI(t, func(c *Config) { c.Limits.Body = 4096 })
	c := a.client(t, storetest.A1, all)
	for _, tt := range []struct {
		claim, method, path, body string
		headers                   []string
		want                      int
	}{
		{"a body of another type", "POST", "/Observation", patient("", "x"), nil, 400},
		{"malformed JSON", "POST", "/Patient", `{"resourceType":`, nil, 400},
		{"a member twice", "POST", "/Patient", `{"resourceType":"Patient","active":true,"active":false}`, nil, 400},
		{"a resourceType twice", "POST", "/Patient", `{"resourceType":"Patient","ReſourceType":"Person"}`, nil, 400},
		{"an invalid resource", "POST", "/Patient", `{"resourceType":"Patient","birthDate":"CANARY"}`, nil, 422},
		{"malformed XML", "POST", "/Patient", `<Patient/>`, []string{"Content-Type", "application/fhir+xml"}, 400},
		{"JSON that is called XML", "POST", "/Patient", patient("", "x"), []string{"Content-Type", "application/fhir+xml"}, 400},
		{"XML that is called JSON", "POST", "/Patient", `<Patient xmlns="http://hl7.org/fhir"/>`, nil, 400},
		{"XML with an entity", "POST", "/Patient", `<!DOCTYPE x [<!ENTITY e "CANARY">]><Patient xmlns="http://hl7.org/fhir"><language value="&e;"/></Patient>`, []string{"Content-Type", "application/xml"}, 400},
		{"a picture", "POST", "/Patient", patient("", "x"), []string{"Content-Type", "image/png"}, 415},
		{"a body of no type", "POST", "/Patient", patient("", "x"), []string{"Content-Type", ""}, 415},
		{"an update without an id", "PUT", "/Patient/7", patient("", "x"), nil, 400},
		{"an update with another id", "PUT", "/Patient/7", patient("8", "x"), nil, 400},
		{"an update of a malformed id", "PUT", "/Patient/a_b", patient("a_b", "x"), nil, 400},
		{"an unknown type", "GET", "/Nonsense/7", "", nil, 404},
		{"a type in other letters", "GET", "/patient/7", "", nil, 404},
		{"an unknown id", "GET", "/Patient/" + fresh(), "", nil, 404},
		{"a malformed id", "GET", "/Patient/a_b", "", nil, 404},
		{"an unknown version", "GET", "/Patient/7/_history/x", "", nil, 404},
		{"nobody's path", "GET", "/Patient/7/_history/1/more", "", nil, 404},
		{"POST on an instance", "POST", "/Patient/7", patient("", "x"), nil, 405},
		{"an unknown operation", "POST", "/Patient/$nonsense", "", []string{"Content-Type", "application/fhir+json"}, 404},
		{"an audit event of the client's own", "POST", "/AuditEvent", `{"resourceType":"AuditEvent"}`, nil, 405},
		{"a deletion of audit events", "DELETE", "/AuditEvent/1", "", nil, 405},
		{"Turtle wanted", "GET", "/Patient/7", "", []string{"Accept", "text/turtle"}, 406},
		{"a body that is too long", "POST", "/Patient", patient("", strings.Repeat("x", 5000)), nil, 413},
		{"an encoding other than gzip", "POST", "/Patient", "x", []string{"Content-Encoding", "br"}, 415},
		{"what is not gzip", "POST", "/Patient", "x", []string{"Content-Encoding", "gzip"}, 400},
		{"an unknown parameter", "GET", "/Patient?CANARY=1", "", nil, 400},
		{"a malformed date", "GET", "/Patient?birthdate=CANARY", "", nil, 400},
		{"a malformed count of a history", "GET", "/Patient/_history?_count=0", "", nil, 400},
		{"an unknown parameter of a history", "GET", "/Patient/_history?x=1", "", nil, 400},
		{"a malformed time of a history", "GET", "/Patient/_history?_since=CANARY", "", nil, 400},
		{"a form that is none", "POST", "/Patient/_search", "{}", []string{"Content-Type", "application/json"}, 415},
		{"a page that nobody made", "GET", "/Patient?_page=AAAA", "", nil, 400},
		{"a delete without criteria", "DELETE", "/Patient", "", nil, 412},
		{"a delete with unknown criteria", "DELETE", "/Patient?nonsense=1", "", nil, 400},
		{"a malformed If-Match", "DELETE", "/Patient/7", "", []string{"If-Match", "1"}, 400},
		{"an XML Patch", "PATCH", "/Patient/7", `<diff/>`, []string{"Content-Type", "application/xml-patch+xml"}, 415},
		{"a Bundle that is no batch", "POST", "", `{"resourceType":"Bundle","type":"collection"}`, nil, 400},
		{"a batch that is no Bundle", "POST", "", patient("", "x"), nil, 400},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			c.t = t
			w := c.must(tt.want, tt.method, tt.path, tt.body, tt.headers...)
			got := shown(t, w)
			if at(got, "resourceType") != "OperationOutcome" || at(got, "issue", 0, "severity") != "error" || at(got, "issue", 0, "code") == nil {
				t.Errorf("got %s", w.Body)
			}
			if strings.Contains(w.Body.String(), "CANARY") && !strings.Contains(tt.path, "?CANARY") {
				t.Errorf("the answer holds a value: %s", w.Body) // T258
			}
		})
	}
}

// Status contract of breakout.md, AUTHZ-16, T001, T065, T066, T254
func TestWhatIsHiddenLooksLikeWhatNeverWas(t *testing.T) {
	a := newAPI(t)
	admin := a.client(t, storetest.A1, all)
	mine, other, never := fresh(), fresh(), fresh()
	admin.must(201, "PUT", "/Patient/"+mine, patient(mine, "mine"))
	admin.must(201, "PUT", "/Patient/"+other, patient(other, "other"))
	c := a.client(t, storetest.A1, "patient/*.cruds", func(tok *smart.Token) { tok.Patient = mine })
	c.must(200, "GET", "/Patient/"+mine, "")
	for _, tt := range []struct {
		method, path, body string
		headers            []string
	}{
		{"GET", "/Patient/%s", "", nil},
		{"HEAD", "/Patient/%s", "", nil},
		{"GET", "/Patient/%s", "", []string{"If-None-Match", `W/"1"`}},
		{"GET", "/Patient/%s/_history", "", nil},
		{"GET", "/Patient/%s/_history/1", "", nil},
		{"GET", "/Patient/%s/Observation", "", nil},
		{"PATCH", "/Patient/%s", `[{"op":"add","path":"/active","value":true}]`, nil},
		{"PATCH", "/Patient/%s", `[{"op":"add","path":"/active","value":true}]`, []string{"If-Match", `W/"1"`}},
		{"PATCH", "/Patient/%s", `[{"op":"add","path":"/active","value":true}]`, []string{"If-Match", `W/"9"`}},
		{"PUT", "/Patient/%s", patient("%s", "x"), nil}, // T069
		{"PUT", "/Patient/%s", patient("%s", "x"), []string{"If-Match", "*"}},
		{"PUT", "/Patient/%s", patient("%s", "x"), []string{"If-Match", `W/"1"`}},
		{"PUT", "/Patient/%s", patient("%s", "x"), []string{"If-Match", `W/"9"`}},
		{"DELETE", "/Patient/%s", "", nil},
		{"DELETE", "/Patient/%s", "", []string{"If-Match", `W/"1"`}},
		{"DELETE", "/Patient/%s", "", []string{"If-Match", `W/"9"`}},
	} {
		ask := func(id string) string {
			w := c.do(tt.method, fmt.Sprintf(tt.path, id), strings.ReplaceAll(tt.body, "%s", id), tt.headers...)
			if w.Code != 404 {
				t.Errorf("%s %s %v: got %d %s", tt.method, tt.path, tt.headers, w.Code, w.Body)
			}
			w.Header().Del("X-Request-Id")
			return fmt.Sprint(w.Code, w.Header(), w.Body)
		}
		if hidden, never := ask(other), ask(never); hidden != never {
			t.Errorf("%s %s: hidden %s\nnever %s", tt.method, tt.path, hidden, never)
		}
	}
	admin.must(200, "GET", "/Patient/"+other, "")
	c.must(200, "PUT", "/Patient/"+mine, patient(mine, "changed"))
	c.must(201, "POST", "/Observation", observation("Patient/"+mine))
	c.must(403, "POST", "/Observation", observation("Patient/"+other)) // T126
	c.must(404, "PUT", "/Observation/"+mine, strings.Replace(observation("Patient/"+mine), "{", `{"id":"`+mine+`",`, 1))
}

// T001, T002, T004, T005, T006, T010
func TestNoTenantIsReachedByATokenOfAnother(t *testing.T) {
	a := newAPI(t)
	for _, from := range []string{storetest.A1, storetest.S1, storetest.D1} {
		for _, to := range []string{storetest.A2, storetest.S2, storetest.D1, "no-such-tenant"} {
			if from == to {
				continue
			}
			t.Run(from+" to "+to, func(t *testing.T) {
				c := a.client(t, from, all)
				c.slug = to
				for _, path := range []string{"/Patient/p1", "/Patient", "/nowhere", "/metadata", "/.well-known/smart-configuration"} {
					a.alerts = nil
					w := c.must(403, "GET", path, "")
					if want := `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"forbidden","diagnostics":"the token gives no access here"}]}`; w.Body.String() != want {
						t.Errorf("%s: got %s", path, w.Body)
					}
					if len(a.alerts) != 1 || a.alerts[0].Tenant != from {
						t.Errorf("%s: alerts %v", path, a.alerts)
					}
				}
			})
		}
	}
	c := a.client(t, storetest.A1, all)
	for _, path := range []string{
		"/fhir/" + storetest.A1 + "/../" + storetest.A2 + "/Patient", "/fhir/" + storetest.A1 + "/%2e%2e%2f" + storetest.A2 + "/Patient",
		"/fhir/" + storetest.A1 + "/..;/" + storetest.A2 + "/Patient", "/fhir//" + storetest.A2 + "/Patient", "/fhir/ALPHA-ONE/Patient",
		"/fhir/" + storetest.A1 + "./Patient", "/fhir/" + storetest.A1 + "%00/Patient", "/fhir/" + storetest.A1 + "%20/Patient",
	} {
		a.alerts = nil
		if w := c.send("GET", path, ""); w.Code != 400 && w.Code != 403 && w.Code != 404 {
			t.Errorf("%s: got %d %s", path, w.Code, w.Body)
		}
		if len(a.alerts) != 1 {
			t.Errorf("%s: alerts %v", path, a.alerts)
		}
	}
	a.alerts = nil
	c.must(400, "GET", "/Patient", "", "X-Tenant-Id", storetest.A2)
	if len(a.alerts) != 1 || a.alerts[0].Addressed != storetest.A2 || a.alerts[0].Tenant != storetest.A1 {
		t.Errorf("X-Tenant-Id: alerts %v", a.alerts)
	}
	c.must(200, "GET", "/Patient", "", "X-Tenant-Id", storetest.A1, "X-Forwarded-Host", storetest.A2, "X-Original-URL", "/fhir/"+storetest.A2+"/Patient")
}

// A slip in a path is no attack: the client is told so, and nobody is alarmed.
func TestAMalformedPathBelowTheOwnTenantIsTheClientsFault(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	c.must(400, "GET", "/Patient/M%C3%BCller", "")
	c.must(400, "GET", "/Patient/a%7Cb", "")
	if len(a.alerts) != 0 {
		t.Errorf("alerts %v", a.alerts)
	}
}

// brokenLog is a platform log that cannot be written.
type brokenLog struct{}

func (brokenLog) AppendPlatform(context.Context, []audit.Entry) error { return io.ErrClosedPipe }

// Without an audit entry there is no answer, not even to strangers.
func TestNothingIsAnsweredThatCannotBeAudited(t *testing.T) {
	a := newAPI(t, func(c *Config) {
		f := storetest.New(t)
		db, err := store.Open(t.Context(), store.Config{DatabaseURL: f.URLs.App, AuditURL: f.URLs.Audit, Keys: f.Keyring, Platform: brokenLog{}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		c.DB = db
	})
	c := &client{a, t, storetest.A1, "nonsense"}
	for _, path := range []string{"/metadata", "/Patient/1"} {
		if w := c.must(503, "GET", path, "", "Authorization", ""); strings.Contains(w.Body.String(), "CapabilityStatement") || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: got %v %s", path, w.Header(), w.Body)
		}
	}
}

// T265, OBS-05
func TestAPanicIsAnsweredAndItsValueIsNotShown(t *testing.T) {
	a := newAPI(t, func(c *Config) { c.SmartConfiguration = func(string) []byte { panic("CANARY") } })
	c := &client{a, t, storetest.A1, ""}
	w := c.must(500, "GET", "/.well-known/smart-configuration", "", "Authorization", "")
	if strings.Contains(w.Body.String()+a.logged.String(), "CANARY") {
		t.Errorf("got %s\n%s", w.Body, a.logged)
	}
	if !strings.Contains(a.logged.String(), "panic with a string at github.com/cordon-fhir/cordon/fhir/rest.TestAPanic") {
		t.Errorf("the log does not tell of it: %s", a.logged)
	}
}

// INT-03: only the public documents are served to strangers.
func TestEveryRouteWantsAToken(t *testing.T) {
	a := newAPI(t)
	for _, rt := range table() {
		t.Run(rt.method+" "+rt.path, func(t *testing.T) {
			c := &client{a, t, storetest.A1, "nonsense"}
			path := strings.NewReplacer(":type", "Patient", ":id", "p1", ":version", "1", ":of", "Observation", ":op", "x", ":job", "x").Replace(rt.path)
			w := c.do(rt.method, path, "{}")
			if want := map[bool]int{true: 200, false: 401}[rt.public != nil]; w.Code != want {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			if w.Code == 401 && w.Header().Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
				t.Errorf("WWW-Authenticate %q", w.Header().Get("WWW-Authenticate"))
			}
			if w := c.do(rt.method, path, "{}", "Authorization", ""); rt.public == nil && (w.Code != 401 || w.Header().Get("WWW-Authenticate") != "Bearer") {
				t.Errorf("without a token: got %d %v", w.Code, w.Header())
			}
		})
	}
	c := &client{a, t, "no-such-tenant", "nonsense"}
	c.must(401, "GET", "/Patient/p1", "")
	c.must(404, "GET", "/metadata", "")
	c.must(401, "GET", "/nowhere/at/all", "")
}

// H-52, INT-01
func TestTheCapabilityStatementIsValidAndOfThisTenant(t *testing.T) {
	a := newAPI(t)
	c := &client{a, t, storetest.A1, ""}
	w := c.must(200, "GET", "/metadata", "", "Authorization", "")
	d, err := fhir.Parse(w.Body.Bytes(), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	req := &request{ref: fhir.Ref{Type: "CapabilityStatement"}, rules: ofCore}
	if err := req.setDocument(t.Context(), d, "CapabilityStatement"); err != nil {
		t.Error(err)
	}
	st := shown(t, w)
	if n := len(at(st, "rest", 0, "resource").([]any)); n != len(fhir.Types) {
		t.Errorf("%d types, want %d", n, len(fhir.Types))
	}
	for _, slug := range storetest.Slugs[1:] {
		if strings.Contains(w.Body.String(), slug) {
			t.Errorf("it names %s", slug)
		}
	}
	c.must(406, "GET", "/metadata", "", "Accept", "text/turtle")
	c.must(200, "GET", "/metadata?_format=json", "", "Accept", "application/fhir+xml")
	c.must(200, "GET", "/.well-known/smart-configuration", "", "Accept", "application/fhir+xml")
	if got := w.Header().Get("Content-Length"); got != fmt.Sprint(w.Body.Len()) {
		t.Errorf("Content-Length %s of %d", got, w.Body.Len())
	}
}

// H-04, A-80, T152, T269
func TestEveryAnswerHasTheHeadersThatProtectIt(t *testing.T) {
	a := newAPI(t, func(c *Config) {
		c.Origins = []string{"https://app.example"}
		c.AppOrigins = func(context.Context) ([]string, error) { return []string{"https://registered.example"}, nil }
	})
	c := a.client(t, storetest.A1, all)
	for _, path := range []string{"/Patient", "/metadata", "/nowhere/at/all", "/Patient/" + fresh()} {
		h := c.do("GET", path, "", "X-Request-Id", "mine-1", "Origin", "https://evil.example").Header()
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Request-Id": "mine-1", "Server": "", "X-Powered-By": "",
			"Access-Control-Allow-Origin": map[string]string{"/metadata": "*"}[path],
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	w := c.must(204, "OPTIONS", "/Patient", "", "Origin", "https://app.example", "Authorization", "")
	if w.Header().Get("Access-Control-Allow-Origin") != "https://app.example" || !strings.Contains(w.Header().Get("Access-Control-Allow-Headers"), "If-None-Exist") {
		t.Errorf("preflight: %v", w.Header())
	}
	if w := c.must(204, "OPTIONS", "/Patient", "", "Origin", "https://registered.example"); w.Header().Get("Access-Control-Allow-Origin") != "https://registered.example" {
		t.Errorf("preflight of a registered app: %v", w.Header())
	}
	if w := c.must(204, "OPTIONS", "/Patient", "", "Origin", "https://evil.example"); w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight of a stranger: %v", w.Header())
	}
	get, head := c.must(200, "GET", "/Patient", ""), c.must(200, "HEAD", "/Patient", "")
	if head.Body.Len() != 0 || get.Header().Get("ETag") != head.Header().Get("ETag") {
		t.Errorf("HEAD: %s %v", head.Body, head.Header())
	}
}

// H-25, T112: 100 parallel equal creates make one resource, in every mode.
func TestConditionalCreatesInParallelMakeOneResource(t *testing.T) {
	a := newAPI(t)
	for _, slug := range storetest.Slugs[:3] {
		t.Run(slug, func(t *testing.T) {
			t.Parallel()
			c := a.client(t, slug, all)
			family := fresh()
			var wg sync.WaitGroup
			codes := make(chan int, 100)
			for range 100 {
				wg.Go(func() {
					codes <- c.do("POST", "/Patient", patient("", family), "If-None-Exist", "identifier=mrn|"+family).Code
				})
			}
			wg.Wait()
			close(codes)
			count := map[int]int{}
			for code := range codes {
				count[code]++
			}
			if count[201] != 1 || count[200] != 99 {
				t.Errorf("got %v", count)
			}
			if s := shown(t, c.must(200, "GET", "/Patient?identifier=mrn|"+family+"&_total=accurate", "")); at(s, "total") != 1.0 {
				t.Errorf("%v resources", at(s, "total"))
			}
		})
	}
}

// H-25, H-26, H-27, H-28
func TestConditionalInteractionsFindNoneOneOrTooMany(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S1, all)
	one, two := fresh(), fresh()
	c.must(201, "POST", "/Patient", patient("", two))
	c.must(201, "POST", "/Patient", patient("", two))
	url := "/Patient?identifier=mrn|"
	c.must(412, "POST", "/Patient", patient("", two), "If-None-Exist", "?identifier=mrn|"+two)
	c.must(412, "PUT", url+two, patient("", two))
	c.must(412, "PATCH", url+two, `[{"op":"add","path":"/active","value":true}]`)
	c.must(412, "DELETE", url+two, "")

	c.must(404, "PATCH", url+one, `[{"op":"add","path":"/active","value":true}]`)
	c.must(204, "DELETE", url+one, "")
	id := at(shown(t, c.must(201, "PUT", url+one, patient("", one))), "id").(string)
	c.must(200, "PUT", url+one, patient("", one))
	c.must(200, "PUT", url+one, patient(id, one))
	c.must(400, "PUT", url+one, patient(fresh(), one))
	c.must(200, "POST", "/Patient", patient("", one), "If-None-Exist", "Patient?identifier=mrn|"+one)
	c.must(200, "PATCH", url+one, `[{"op":"add","path":"/active","value":true}]`)
	c.must(409, "PUT", url+fresh(), patient(id, one))
	chosen := fresh()
	if w := c.must(201, "PUT", url+chosen, patient(chosen, chosen)); at(shown(t, w), "id") != chosen {
		t.Errorf("got %s", w.Body)
	}
	c.must(204, "DELETE", url+one, "")
	c.must(410, "GET", "/Patient/"+id, "")
	c.must(412, "PUT", "/Patient/"+chosen, patient(chosen, "x"), "If-None-Match", "*")
	// Without s nobody may ask whether there is one.
	a.client(t, storetest.S1, "system/Patient.cru").must(403, "POST", "/Patient", patient("", one), "If-None-Exist", "identifier=mrn|"+one)
}

// H-50, T145, T146, T148, T149
func TestPagesFollowOneAnotherForTheirAskerOnly(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	family := fresh()
	want := map[string]bool{}
	for range 7 {
		want[at(shown(t, c.must(201, "POST", "/Patient", patient("", family))), "id").(string)] = true
	}
	got := map[string]bool{}
	path := "/Patient?family=" + family + "&_count=3"
	var next string
	for pages := 0; path != ""; pages++ {
		if pages > 3 {
			t.Fatal("the pages do not end")
		}
		s := shown(t, c.must(200, "GET", path, ""))
		entries, _ := at(s, "entry").([]any)
		for _, e := range entries {
			got[at(e, "resource", "id").(string)] = true
		}
		path = ""
		for _, l := range at(s, "link").([]any) {
			if at(l, "relation") == "next" {
				next = at(l, "url").(string)
				path = strings.TrimPrefix(next, baseOf(storetest.A1))
			}
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d resources on all pages, want %d", len(got), len(want))
	}
	path = strings.TrimPrefix(next, baseOf(storetest.A1))
	if strings.Contains(path, family) {
		t.Errorf("the cursor can be read: %s", path)
	}
	other := a.client(t, storetest.A1, all, func(tok *smart.Token) { tok.Client = "other" })
	wrong := other.must(400, "GET", path, "").Body.String()
	for claim, w := range map[string]string{
		"edited":    c.must(400, "GET", path[:len(path)-1]+"x", "").Body.String(),
		"cut":       c.must(400, "GET", path[:len(path)-20], "").Body.String(),
		"elsewhere": a.client(t, storetest.A2, all).must(400, "GET", path, "").Body.String(),
		"of a type": c.must(400, "GET", strings.Replace(path, "/Patient", "/Observation", 1), "").Body.String(),
		"widened":   c.must(400, "GET", path+"&family=x", "").Body.String(),
	} {
		if w != wrong {
			t.Errorf("a cursor that is %s: got %s, want %s", claim, w, wrong)
		}
	}
	if s := shown(t, c.must(200, "GET", "/Patient?family="+family+"&_summary=count", "")); at(s, "total") != 7.0 || at(s, "entry") != nil {
		t.Errorf("count: %v", s)
	}
	if s := shown(t, c.must(200, "GET", "/Patient?family="+fresh(), "")); at(s, "total") != 0.0 || at(s, "entry") != nil {
		t.Errorf("no hits: %v", s)
	}
	if s := shown(t, c.must(200, "POST", "/Patient/_search?_count=3", "family="+family)); len(at(s, "entry").([]any)) != 3 {
		t.Errorf("POST: %v", s)
	}
	s := shown(t, c.must(200, "GET", "/Patient?family="+family+"&nonsense=1", "", "Prefer", "handling=lenient"))
	last := at(s, "entry", len(at(s, "entry").([]any))-1)
	if at(last, "search", "mode") != "outcome" || strings.Contains(fmt.Sprint(at(s, "link", 0, "url")), "nonsense") {
		t.Errorf("lenient: %v %v", last, at(s, "link"))
	}
}

// S-01, S-30, S-41, S-44, H-14
func TestAnswersAreShapedAsAsked(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S1, all)
	id := fresh()
	c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
	for range 3 {
		c.must(201, "POST", "/Observation", observation("Patient/"+id))
	}
	s := shown(t, c.must(200, "GET", "/Observation?subject=Patient/"+id+"&_include=Observation:subject&_count=2&_elements=code", ""))
	for page := 0; ; page++ {
		entries := at(s, "entry").([]any)
		last := entries[len(entries)-1]
		if at(last, "search", "mode") != "include" || at(last, "resource", "resourceType") != "Patient" {
			t.Errorf("page %d: no included patient in %v", page, s)
		}
		if at(last, "resource", "name") == nil || at(last, "resource", "meta", "tag") != nil {
			t.Errorf("page %d: _elements cut what is included: %v", page, last)
		}
		if at(entries[0], "resource", "meta", "tag", 0, "code") != "SUBSETTED" || at(entries[0], "resource", "subject") != nil || at(entries[0], "resource", "status") != "final" {
			t.Errorf("page %d: not the subset: %v", page, entries[0])
		}
		if page == 1 {
			break
		}
		s = shown(t, c.must(200, "GET", strings.TrimPrefix(at(s, "link", 2, "url").(string), baseOf(storetest.S1)), ""))
	}
	s = shown(t, c.must(200, "GET", "/Observation?subject=Patient/"+id+"&_include=Observation:subject&_count=1&_elements=code,Patient.birthDate", ""))
	if p := at(s, "entry", 1, "resource"); at(p, "name") != nil || at(p, "meta", "tag", 0, "code") != "SUBSETTED" {
		t.Errorf("the elements of what is included: %v", p)
	}
	for _, path := range []string{"/Patient/" + id + "/AuditEvent?patient.name=x", "/Patient?_has:AuditEvent:patient:action=R", "/Patient?_revinclude=AuditEvent:patient"} {
		c.must(400, "GET", path, "")
	}
	s = shown(t, c.must(200, "GET", "?_type=Patient,Observation&_id="+id, ""))
	if at(s, "entry", 0, "resource", "id") != id || at(s, "entry", 1) != nil {
		t.Errorf("system: %v", s)
	}
	c.must(400, "GET", "?_type=Patient,AuditEvent", "")
	c.must(400, "GET", "?family=x", "")
	if got := at(shown(t, c.must(200, "GET", "/Patient/"+id+"?_elements=identifier", "")), "name"); got != nil {
		t.Errorf("read: %v", got)
	}

	before := at(shown(t, c.must(200, "GET", "/Patient/"+id, "")), "meta", "lastUpdated").(string)
	c.must(200, "PUT", "/Patient/"+id, patient(id, "y"))
	c.must(204, "DELETE", "/Patient/"+id, "")
	s = shown(t, c.must(200, "GET", "/Patient/"+id+"/_history?_count=1", ""))
	seen := []any{at(s, "entry", 0, "response", "etag")}
	for at(s, "link", 2, "url") != nil {
		s = shown(t, c.must(200, "GET", strings.TrimPrefix(at(s, "link", 2, "url").(string), baseOf(storetest.S1)), ""))
		seen = append(seen, at(s, "entry", 0, "response", "etag"))
	}
	if want := []any{`W/"3"`, `W/"2"`, `W/"1"`}; !slices.Equal(seen, want) {
		t.Errorf("history: got %v, want %v", seen, want)
	}
	later, err := time.Parse(time.RFC3339, before)
	if err != nil {
		t.Fatal(err)
	}
	since := url.QueryEscape(later.Add(time.Millisecond).Format(time.RFC3339Nano))
	if s := shown(t, c.must(200, "GET", "/Patient/"+id+"/_history?_since="+since, "")); len(at(s, "entry").([]any)) != 2 {
		t.Errorf("since: %v", s)
	}
	if s := shown(t, c.must(200, "GET", "/Patient/_history?_count=2", "")); at(s, "entry", 0, "request", "url") != "Patient/"+id || at(s, "type") != "history" {
		t.Errorf("of the type: %v", s)
	}
	c.must(200, "GET", "/_history?_count=2", "")
}

// H-55, T097
func TestACompartmentIsSearchedByWhoSeesIt(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.D1, all)
	p, q := fresh(), fresh()
	c.must(201, "PUT", "/Patient/"+p, patient(p, "p"))
	c.must(201, "PUT", "/Patient/"+q, patient(q, "q"))
	for _, id := range []string{p, p, q} {
		c.must(201, "POST", "/Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/`+id+`"}}`)
	}
	c.must(201, "POST", "/Condition", `{"resourceType":"Condition","subject":{"reference":"Patient/`+p+`"}}`)
	if s := shown(t, c.must(200, "GET", "/Patient/"+p+"/Observation", "")); at(s, "total") != 2.0 {
		t.Errorf("observations: %v", s)
	}
	c.must(201, "PUT", "/Basic/"+p, `{"resourceType":"Basic","id":"`+p+`","code":{"text":"of nobody"}}`)
	s := shown(t, c.must(200, "GET", "/Patient/"+p+"/*", ""))
	if len(at(s, "entry").([]any)) != 4 || at(s, "entry", 3, "fullUrl") != baseOf(storetest.D1)+"/Patient/"+p {
		t.Errorf("everything: %v", s)
	}
	c.must(404, "GET", "/Patient/"+fresh()+"/Observation", "")
	c.must(404, "GET", "/Patient/"+p+"/Location", "")
	c.must(404, "GET", "/Observation/"+p+"/Patient", "")
}

// H-02
func TestGzipIsReadAndWritten(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	w := c.must(200, "GET", "/metadata", "", "Accept-Encoding", "br, gzip;q=0.5")
	if w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("got %v", w.Header())
	}
	plain := c.must(200, "GET", "/metadata", "", "Accept-Encoding", "gzip;q=0")
	if plain.Header().Get("Content-Encoding") != "" || plain.Body.Len() < w.Body.Len() {
		t.Errorf("got %v", plain.Header())
	}
	id := fresh()
	c.must(201, "PUT", "/Patient/"+id, string(compress([]byte(patient(id, "z")))), "Content-Encoding", "gzip")
	c.must(413, "PUT", "/Patient/"+id, string(compress(bytes.Repeat([]byte("a"), 17<<20))), "Content-Encoding", "gzip")
	if got := c.must(200, "GET", "/Patient/"+id+"?_pretty=true", "").Body.String(); !strings.Contains(got, "\n  \"id\"") {
		t.Errorf("not pretty: %s", got)
	}
}

// OBS-05, T262, T265
func TestTheLogHoldsNoValues(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	c.must(200, "GET", "/Patient?family=CANARY&_id=CANARY", "")
	c.do("GET", "/Patient/CANARY", "")
	c.do("GET", "/Patient?CANARY7=x", "")
	c.do("POST", "/Patient", patient("", "CANARY\u0007"))
	c.send("CANARY", "/fhir/"+c.slug+"/Patient", "")
	if strings.Contains(a.logged.String(), "CANARY") {
		t.Error(a.logged)
	}
	if got := strings.Count(a.logged.String(), "\n"); got != 5 {
		t.Errorf("%d lines for 5 requests:\n%s", got, a.logged)
	}
}
