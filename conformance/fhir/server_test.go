package fhirconf

import (
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
	"sync/atomic"
	"testing"

	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/rest"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// A server is the API behind a real listener.
type server struct {
	*storetest.Fixture
	url string
}

func newServer(t testing.TB, change ...func(*rest.Config)) *server {
	t.Helper()
	s := &server{Fixture: storetest.New(t)}
	var handler http.Handler
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(listener.Close)
	s.url = listener.URL
	v, err := smart.NewVerifier(smart.Config{Tenants: s.Tenants, Keys: s.Keyring, Policies: s.Registry, Base: s.base, Issuer: s.base})
	if err != nil {
		t.Fatal(err)
	}
	cfg := rest.Config{
		DB: s.DB, Verifier: v, Tenants: s.Tenants, Base: s.base,
		SmartConfiguration: func(slug string) []byte { return fmt.Appendf(nil, `{"token_endpoint":%q}`, s.base(slug)+"/token") },
		Log:                oplog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}
	for _, c := range change {
		c(&cfg)
	}
	handler = rest.New(cfg)
	return s
}

func (s *server) base(slug string) string { return s.url + "/fhir/" + slug }

// A client calls the API of one tenant.
type client struct {
	t     testing.TB
	base  string
	token string
}

func (s *server) client(t testing.TB, slug, scope string, change ...func(*smart.Token)) *client {
	t.Helper()
	claims := smart.Token{Scope: scope, Audience: s.base(slug), Issuer: s.base(slug)}
	for _, c := range change {
		c(&claims)
	}
	return &client{t, s.base(slug), s.Sign(t, slug, claims)}
}

const all = "system/*.cruds"

// An answer is what came back.
type answer struct {
	t      testing.TB
	asked  string
	status int
	header http.Header
	body   []byte
}

// transport sends what the test says and no more: no header, no redirect and
// no decompression of its own.
var transport = &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}

// do sends a request to a URL, or to a path below the base. Headers come in
// pairs; an empty value takes a header away.
func (c *client) do(method, path, body string, headers ...string) *answer {
	c.t.Helper()
	if !strings.HasPrefix(path, "http://") {
		path = c.base + path
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	fhirtest.SetHeaders(r, c.token, headers...)
	resp, err := transport.RoundTrip(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := &answer{t: c.t, asked: method + " " + path, status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		c.t.Fatalf("%s: %v", a.asked, err)
	}
	return a
}

// must is do for what has to be answered with the status.
func (c *client) must(status int, method, path, body string, headers ...string) *answer {
	c.t.Helper()
	a := c.do(method, path, body, headers...)
	if a.status != status {
		c.t.Fatalf("%s: got %d %s, want %d", a.asked, a.status, a.body, status)
	}
	return a
}

// refused is do for what has to be answered with the status and an
// OperationOutcome that says what is wrong.
func (c *client) refused(status int, method, path, body string, headers ...string) {
	c.t.Helper()
	a := c.do(method, path, body, headers...)
	switch {
	case a.status != status:
		c.t.Errorf("%s: got %d %s, want %d", a.asked, a.status, a.body, status)
	case method == "HEAD":
	case a.at("resourceType") != "OperationOutcome" || a.at("issue", 0, "severity") == nil || a.at("issue", 0, "code") == nil:
		c.t.Errorf("%s: got %s, want an OperationOutcome", a.asked, a.body)
	}
}

// put stores a resource that says its type and id.
func (c *client) put(format string, args ...any) {
	c.t.Helper()
	body := fmt.Sprintf(format, args...)
	var name struct{ ResourceType, ID string }
	if err := json.Unmarshal([]byte(body), &name); err != nil {
		c.t.Fatalf("%v in %s", err, body)
	}
	if a := c.do("PUT", "/"+name.ResourceType+"/"+name.ID, body); a.status != 201 && a.status != 200 {
		c.t.Fatalf("%s: got %d %s", a.asked, a.status, a.body)
	}
}

// at walks into the JSON of the answer: names of members and places in lists.
func (a *answer) at(path ...any) any {
	a.t.Helper()
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		a.t.Fatalf("%s: %v in %s", a.asked, err, a.body)
	}
	return at(v, path...)
}

var at = fhirtest.At

// list returns the items of a list, or the one value that is none.
func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// refs returns the "Type/id" of the entries of a Bundle with the search mode.
func (a *answer) refs(mode string) []string {
	a.t.Helper()
	refs := []string{}
	for _, e := range list(a.at("entry")) {
		if at(e, "search", "mode") == mode {
			refs = append(refs, fmt.Sprint(at(e, "resource", "resourceType"), "/", at(e, "resource", "id")))
		}
	}
	return refs
}

// link returns the URL of the link with the relation, "" if there is none.
func (a *answer) link(relation string) string {
	for _, l := range list(a.at("link")) {
		if at(l, "relation") == relation {
			return at(l, "url").(string)
		}
	}
	return ""
}

// find returns the ids that a search matches, sorted, through all its pages.
func (c *client) find(path string) []string {
	c.t.Helper()
	var found []string
	for a := c.must(200, "GET", path, ""); ; a = c.must(200, "GET", a.link("next"), "") {
		for _, ref := range a.refs("match") {
			_, id, _ := strings.Cut(ref, "/")
			found = append(found, id)
		}
		if a.link("next") == "" {
			slices.Sort(found)
			return found
		}
	}
}

var serial atomic.Int64

// fresh returns an id that no other test uses.
func fresh() string { return fmt.Sprintf("x%d", serial.Add(1)) }

// q escapes a value for a query.
func q(s string) string { return url.QueryEscape(s) }

// testData returns a file of the test data, or skips the test.
func testData(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(fhirtest.Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
