package rest

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// busy lets no deferred request be taken up by this process.
func (a *api) busy(t testing.TB) (release func()) {
	t.Helper()
	s := a.handler.(*server)
	for range deferredAtOnce {
		s.later.slots <- struct{}{}
	}
	t.Cleanup(s.later.end)
	return func() {
		for range deferredAtOnce {
			<-s.later.slots
		}
	}
}

// other is the API as another process serves it.
func other(t testing.TB, change ...func(*Config)) (*api, *server) {
	t.Helper()
	a := newAPI(t, change...)
	return a, a.handler.(*server)
}

// took takes up the next request and does nothing about it.
func took(t testing.TB, s *server, on *tenant.Tenant) store.Work {
	t.Helper()
	w, found, err := s.DB.TakeUp(t.Context(), on)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	return w
}

// the client c, as it calls another process.
func (c *client) at(a *api) *client { return &client{a, c.t, c.slug, c.bearer} }

// lastsShort is the lease of a process that dies.
const lastsShort = 50 * time.Millisecond

func dies(t testing.TB) *server {
	_, s := other(t, func(c *Config) { c.DB.Lease = lastsShort })
	return s
}

// H-54, AUTHZ-03: what a process has accepted and not done, another does, in every mode,
// under the rights that were there when it was asked.
func TestAnotherProcessTakesUpWhatOneLeaves(t *testing.T) {
	first := newAPI(t)
	first.busy(t)
	dying := dies(t)
	second, s := other(t)
	r := aRecord()
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := first.client(t, slug, all)
			r.fill(c)
			mine := first.client(t, slug, "patient/*.rs", inContext(r.p))
			search := mine.ask("GET", "/Observation?_count=50", "")
			posted := mine.ask("POST", "/Observation/_search", "_count=50")
			hidden := mine.ask("GET", "/Patient/"+r.other+"/$everything", "")
			batch := c.ask("POST", "", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"PUT","url":"Patient/`+r.p+`-taken"},"resource":`+patient(r.p+"-taken", "x")+`}]}`)
			mine.must(202, "GET", search, "")
			took(t, dying, first.Tenant(t, slug))
			time.Sleep(2 * lastsShort)
			if err := s.tend(t.Context(), first.Tenant(t, slug)); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{search, posted} {
				w := mine.at(second).await(path)
				if got, _ := at(shown(t, w), "entry", 0, "resource", "entry").([]any); len(got) != 9 {
					t.Errorf("found %d: %s", len(got), w.Body)
				}
			}
			if w := mine.at(second).await(hidden); at(shown(t, w), "entry", 0, "response", "status") != "404 Not Found" {
				t.Errorf("a hidden record: %s", w.Body)
			}
			if w := c.at(second).await(batch); at(shown(t, w), "entry", 0, "response", "status") != "201 Created" {
				t.Errorf("batch: %s", w.Body)
			}
			mine.must(200, "GET", search, "") // whichever process is asked
		})
	}
}

// H-54: a batch that a process had begun when it died is not done again, and the
// answer says so; what only reads is, but not for ever.
func TestABatchThatWasBegunIsNotDoneAgain(t *testing.T) {
	first := newAPI(t)
	first.busy(t)
	dying := dies(t)
	second, s := other(t)
	on := first.Tenant(t, storetest.S1)
	c := first.client(t, storetest.S1, all)
	id := fresh()
	put := `{"request":{"method":"PUT","url":"Patient/` + id + `"},"resource":` + patient(id, "x") + `}`
	look := `{"request":{"method":"GET","url":"Patient/` + id + `"}}`
	batch := func(entries ...string) string {
		return `{"resourceType":"Bundle","type":"batch","entry":[` + strings.Join(entries, ",") + `]}`
	}
	for _, tt := range []struct {
		claim, body, want, says string
		turns                   int
	}{
		{"one that writes", batch(look, put), "503 Service Unavailable", "some entries may have been done", 1},
		{"one that only reads", batch(look, look), "404 Not Found", "", 1},
		{"one that ends every process", batch(look), "500 Internal Server Error", "each time", maxTurns},
	} {
		where := c.ask("POST", "", tt.body)
		for range tt.turns {
			w := took(t, dying, on)
			time.Sleep(2 * lastsShort)
			defer func() { // whoever comes back too late changes nothing
				late := first.grantOf(t, c)
				late.Origin().Trail.Shown = &audit.Shown{}
				if kept, err := s.DB.Answer(context.Background(), late, w, []byte(`{}`)); kept || err != nil {
					t.Errorf("%s: a late answer: %v %v", tt.claim, kept, err)
				}
			}()
		}
		if err := s.tend(t.Context(), on); err != nil {
			t.Fatal(err)
		}
		w := c.at(second).await(where)
		if got := at(shown(t, w), "entry", 0, "response", "status"); got != tt.want || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s: %s", tt.claim, w.Body)
		}
	}
	c.must(404, "GET", "/Patient/"+id, "")
}

// grantOf is what the bearer of c allows.
func (a *api) grantOf(t testing.TB, c *client) *smart.Grant {
	t.Helper()
	s := a.handler.(*server)
	g, err := s.Verifier.Grant(context.Background(), c.slug, c.bearer, s.origin(httptest.NewRequest("GET", "/", nil)))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// mayLeave returns a client as the registry knows it, and another server than it
// calls, which has time for its work. disable forbids it to ask any more; release
// lets the server that it calls work too.
func mayLeave(t testing.TB, on *tenant.Tenant, id, scope string) (c *client, s *server, disable, release func()) {
	t.Helper()
	at := time.Now()
	watched := func(c *Config) {
		v, err := smart.NewVerifier(smart.Config{
			Tenants: storetest.New(t).Tenants, Keys: storetest.New(t).Keyring, Base: baseOf, Issuer: baseOf,
			Clients: storetest.New(t).Registry, Now: func() time.Time { return at },
		})
		if err != nil {
			t.Fatal(err)
		}
		c.Verifier = v
	}
	first := newAPI(t, watched)
	release = first.busy(t)
	_, s = other(t, watched)
	register := func(disabled bool) {
		if _, err := first.Registry.PutClient(t.Context(), on, smart.Client{ID: id, JWKS: []byte(`{}`), Scopes: []string{scope}, Disabled: disabled}); err != nil {
			t.Fatal(err)
		}
	}
	register(false)
	c = first.client(t, on.Slug.String(), scope, func(tok *smart.Token) {
		tok.Client, tok.Subject, tok.Issued = id, id, tok.Issued+1
	})
	return c, s, func() { register(true); at = at.Add(2 * time.Second) }, release
}

// H-54: who may not ask any more gets nothing done, and work that was cancelled
// is neither begun nor kept; answers whose time is over go without being asked for.
func TestWhatNobodyMayHaveIsNotDone(t *testing.T) {
	on := storetest.New(t).Tenant(t, storetest.D1)
	leaver, s, disable, release := mayLeave(t, on, "leaver", all)
	id := fresh()
	put := `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"PUT","url":"Patient/` + id + `"},"resource":` + patient(id, "x") + `}]}`
	cancelled := leaver.ask("POST", "", put)
	leaver.must(202, "DELETE", cancelled, "")
	if waiting, _, err := s.DB.Waiting(t.Context(), on); waiting || err != nil {
		t.Errorf("what was cancelled waits: %v", err)
	}
	leaver.ask("POST", "", put)
	disable()
	if err := s.work(took(t, s, on), on); err != nil {
		t.Error(err)
	}
	if waiting, _, err := s.DB.Waiting(t.Context(), on); waiting || err != nil {
		t.Errorf("a request of a disabled client waits: %v", err)
	}
	release()
	newAPI(t).client(t, on.Slug.String(), all).must(404, "GET", "/Patient/"+id, "")
}

// H-54: a server that stops leaves what only reads to others at once, and sees
// what writes to its end.
func TestAServerThatStopsLeavesItsWorkToOthers(t *testing.T) {
	first := newAPI(t)
	first.busy(t)
	stopping, s := other(t)
	on := first.Tenant(t, storetest.A2)
	c := first.client(t, storetest.A2, all)
	where := c.ask("GET", "/Patient?_count=1", "")
	w := took(t, s, on)
	s.later.close()
	if err := s.work(w, on); err != nil { // it had just been taken up
		t.Fatal(err)
	}
	if waiting, _, err := s.DB.Waiting(t.Context(), on); !waiting || err != nil {
		t.Fatalf("it does not wait for another: %v", err)
	}
	s.later.wake(s, on) // does nothing any more
	c.at(stopping).must(202, "GET", where, "")
	_, s = other(t)
	if w := took(t, s, on); w.Turn != 1 {
		t.Errorf("it was begun %d times", w.Turn)
	} else if err := s.work(w, on); err != nil {
		t.Error(err)
	}
	c.must(200, "GET", where, "")
}
