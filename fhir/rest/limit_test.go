package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/limit"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// A clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// limited is an API whose tenant A2 has the limits, and whose limits go by the clock.
func limited(t *testing.T, set tenant.Limits, strangers int) (*api, *Handler, *clock) {
	at := &clock{now: time.Now()}
	var h *Handler
	a := newAPI(t, func(c *Config) { c.Limit = limit.New(limit.Config{Strangers: strangers, Now: at.Now}) })
	h = &Handler{a.handler.(*server)}
	change := func(l tenant.Limits) {
		a.settings(t, storetest.A2, func(s *tenant.Settings) { s.Limits = l })
	}
	change(set)
	t.Cleanup(func() { change(tenant.Limits{}) })
	return a, h, at
}

func byClient(client string) func(*smart.Token) {
	return func(tok *smart.Token) { tok.Client, tok.Subject = client, client }
}

// neverRead is a body that must not be read.
type neverRead struct{ t *testing.T }

func (n neverRead) Read([]byte) (int, error) {
	n.t.Error("the body was read")
	return 0, errors.New("the body was read")
}

// T268
func TestAClientThatAsksTooMuchIsRefusedAndNobodyElseIs(t *testing.T) {
	a, h, at := limited(t, tenant.Limits{Client: tenant.Rate{Requests: 1}}, 0)
	noisy, neighbour := "noisy-"+fresh(), a.client(t, storetest.A2, all, byClient("neighbour-"+fresh()))
	c, elsewhere := a.client(t, storetest.A2, all, byClient(noisy)), a.client(t, storetest.A1, all, byClient(noisy))
	id := fresh()
	neighbour.must(201, "PUT", "/Patient/"+id, patient(id, "Quiet"))
	for range 30 {
		c.must(200, "GET", "/Patient/"+id, "")
	}
	for range 50 {
		w := c.must(429, "GET", "/Patient/"+id, "")
		if got := codeOf(t, w); got != "throttled" || w.Header().Get("Retry-After") != "1" || strings.Contains(w.Body.String(), "Quiet") {
			t.Fatalf("got %s %v %s", got, w.Header(), w.Body)
		}
	}
	r := httptest.NewRequest("PUT", baseOf(storetest.A2)+"/Patient/"+id, neverRead{t})
	r.Header.Set("Authorization", "Bearer "+c.bearer)
	w := httptest.NewRecorder()
	if a.handler.ServeHTTP(w, r); w.Code != 429 {
		t.Errorf("a write got %d", w.Code)
	}
	neighbour.must(200, "GET", "/Patient/"+id, "")
	elsewhere.must(404, "GET", "/Patient/"+id, "")

	// All that was refused is in the trail, in two entries.
	at.move(time.Second)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	h.TellRefusals(stopped)
	trail := a.client(t, storetest.A2, all, byClient("auditor-"+fresh())).must(200, "GET", "/AuditEvent?agent="+noisy+"&_count=100", "").Body.String()
	if n := strings.Count(trail, "HTTP 429: too many requests"); n != 2 || !strings.Contains(trail, "too many requests; 50 refused") {
		t.Errorf("%d entries tell of refusals", n)
	}
	c.must(200, "GET", "/Patient/"+id, "")
}

func codeOf(t *testing.T, w *httptest.ResponseRecorder) any {
	t.Helper()
	return at(shown(t, w), "issue", 0, "code")
}

func TestWhatAClientTakesCountsWithWhatItIsAnswered(t *testing.T) {
	a, _, at := limited(t, tenant.Limits{Client: tenant.Rate{Cost: 1}}, 0)
	c := a.client(t, storetest.A2, all, byClient("heavy-"+fresh()))
	for range 10 { // three each
		c.must(200, "GET", "/Patient?_count=1", "")
	}
	if w := c.must(429, "GET", "/Patient?_count=1", ""); w.Header().Get("Retry-After") != "1" {
		t.Errorf("Retry-After %s", w.Header().Get("Retry-After"))
	}
	at.move(2 * time.Second)
	c.must(200, "GET", "/Patient?_count=1", "")
	c.must(429, "GET", "/Patient?_count=1", "")
}

func TestATenantHasALimitForAllItsClients(t *testing.T) {
	a, _, _ := limited(t, tenant.Limits{Tenant: tenant.Rate{Requests: 1}}, 0)
	for i := range 30 {
		a.client(t, storetest.A2, all, byClient(fmt.Sprintf("c%d-%s", i, fresh()))).must(200, "GET", "/Patient?_summary=count", "")
	}
	a.client(t, storetest.A2, all, byClient("last-"+fresh())).must(429, "GET", "/Patient?_summary=count", "")
	a.client(t, storetest.A1, all).must(200, "GET", "/Patient?_summary=count", "")
}

// Who has no good token is refused by address; who was here before is not held up.
func TestStrangersAreRefusedByAddress(t *testing.T) {
	a, _, at := limited(t, tenant.Limits{}, 1)
	known := a.client(t, storetest.A2, all)
	known.must(200, "GET", "/Patient?_summary=count", "")
	stranger := func(address string) int {
		r := httptest.NewRequest("GET", baseOf(storetest.A2)+"/Patient", nil)
		r.RemoteAddr = address
		r.Header.Set("Authorization", "Bearer of.bad.news")
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, r)
		return w.Code
	}
	for range 30 {
		if got := stranger("192.0.2.1:1234"); got != 401 {
			t.Fatalf("got %d", got)
		}
	}
	if got := stranger("192.0.2.1:5678"); got != 429 {
		t.Errorf("one too many: %d", got)
	}
	if got := stranger("192.0.2.2:1234"); got != 401 {
		t.Errorf("from elsewhere: %d", got)
	}
	known.must(200, "GET", "/Patient?_summary=count", "") // from 192.0.2.1, too
	at.move(time.Second)
	if got := stranger("192.0.2.1:1234"); got != 401 {
		t.Errorf("a second later: %d", got)
	}
}

// H-66 F051 F052: whatever a tenant has under way, others are answered.
func TestATenantWhoseTurnsAreAllTakenHoldsUpNobodyElse(t *testing.T) {
	turns := limit.New(limit.Config{Turns: 2, Wait: 100 * time.Millisecond})
	a := newAPI(t, func(c *Config) { c.Limit = turns })
	loud, quiet := a.client(t, storetest.A1, all, byClient("loud-"+fresh())), a.client(t, storetest.A2, all)
	loud.must(404, "GET", "/Patient/"+fresh(), "")
	quiet.must(404, "GET", "/Patient/"+fresh(), "") // both are there
	var held []func()
	for {
		done, _, err := turns.Turn(t.Context(), a.Tenant(t, storetest.A1), limit.Who{})
		if err != nil {
			break
		}
		held = append(held, done)
	}
	id := fresh()
	for _, w := range []*httptest.ResponseRecorder{
		loud.must(503, "GET", "/Patient/"+id, ""),
		loud.must(503, "PUT", "/Patient/"+id, patient(id, "Loud")),
		loud.must(503, "POST", "", `{"resourceType":"Bundle","type":"batch"}`),
	} {
		if got := codeOf(t, w); got != "transient" || w.Header().Get("Retry-After") != "1" {
			t.Errorf("got %s %v", got, w.Header())
		}
	}
	for range 20 {
		quiet.must(404, "GET", "/Patient/"+id, "")
	}
	for _, done := range held {
		done()
	}
	loud.must(404, "GET", "/Patient/"+id, "") // it was not stored
}

// F053: who sends slowly keeps nobody waiting.
func TestABodyThatIsStillOnItsWayTakesNoTurn(t *testing.T) {
	a := newAPI(t, func(c *Config) { c.Limit = limit.New(limit.Config{Turns: 2, Wait: time.Minute}) })
	c := a.client(t, storetest.A1, all)
	a.client(t, storetest.A2, all).must(404, "GET", "/Patient/"+fresh(), "") // somebody else is there
	var wait sync.WaitGroup
	var bodies []*io.PipeWriter
	for range 8 {
		out, in := io.Pipe()
		r := httptest.NewRequest("POST", baseOf(storetest.A1)+"/Basic", out)
		r.Header.Set("Authorization", "Bearer "+c.bearer)
		r.Header.Set("Content-Type", "application/fhir+json")
		wait.Go(func() { a.handler.ServeHTTP(httptest.NewRecorder(), r) })
		if _, err := in.Write([]byte(`{`)); err != nil { // it has begun to read
			t.Fatal(err)
		}
		bodies = append(bodies, in)
	}
	c.must(404, "GET", "/Patient/"+fresh(), "")
	for _, b := range bodies {
		b.Close()
	}
	wait.Wait()
}
