package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// A hook is a webhook that notes what it is told.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	fails  int // so many times yet
	bodies []string
	signed []string
}

func newHook(t *testing.T, fails int) *hook {
	h := &hook{fails: fails}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.fails > 0 {
			h.fails--
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		h.bodies = append(h.bodies, string(body))
		h.signed = append(h.signed, r.Header.Get("Cordon-Signature"))
	}))
	t.Cleanup(h.Close)
	return h
}

// told returns the bodies about the client, and their signatures.
func (h *hook) told(client string) (bodies, signed []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, b := range h.bodies {
		if strings.Contains(b, client) {
			bodies, signed = append(bodies, b), append(signed, h.signed[i])
		}
	}
	return bodies, signed
}

// await waits until the client was told of n times.
func (h *hook) await(t *testing.T, client string, n int) {
	t.Helper()
	for range 300 {
		if b, _ := h.told(client); len(b) >= n {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the webhook was not told of %s", client)
}

func sinkOf(t *testing.T, f *storetest.Fixture, sink store.AlertSink) (secret string) {
	t.Helper()
	secret, err := f.Migrator.PutAlertSink(t.Context(), sink)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Migrator.RemoveAlertSink(context.Background(), sink.Tenant); err != nil {
			t.Error(err)
		}
	})
	return secret
}

func sightOf(t *testing.T, f *storetest.Fixture, slug string) (client string) {
	t.Helper()
	now := time.Now().UTC()
	client = fmt.Sprint("hooked-", now.UnixNano())
	err := f.Registry.Sight(t.Context(), []alert.Sighting{{Tenant: slug, Rule: smart.CrossTenant, Addressed: storetest.D1,
		Principal: alert.Principal{Client: client}, First: now, Last: now, Count: 1, Requests: []string{"request-of-" + client}}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func send(t *testing.T, f *storetest.Fixture, private ...netip.Prefix) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	s := &alert.Sender{Queue: f.Registry, Private: private, Every: 50 * time.Millisecond, Log: oplog.New(slog.DiscardHandler)}
	var done sync.WaitGroup
	done.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { stop(); done.Wait() })
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// T201
func TestWebhooksAreToldOfAlertsUntilTheyHaveHeard(t *testing.T) {
	f := storetest.New(t)
	common, own := newHook(t, 2), newHook(t, 0)
	secret := sinkOf(t, f, store.AlertSink{URL: common.URL})
	sinkOf(t, f, store.AlertSink{Tenant: storetest.S1, URL: own.URL})
	ofS1, ofA1 := sightOf(t, f, storetest.S1), sightOf(t, f, storetest.A1)

	// A server of another region has no part in it. TEN-05
	if elsewhere := claim(t, f, "eu-north", time.Minute); len(elsewhere) != 0 {
		t.Errorf("a server of another region tells of %d alerts", len(elsewhere))
	}
	// A server that took it died before it was told.
	for _, d := range claim(t, f, "local", 500*time.Millisecond) {
		if d.Attempt != 1 || len(d.Secret) == 0 {
			t.Errorf("claimed %+v", d.Alert)
		}
	}
	if again := claim(t, f, "", time.Minute); len(again) != 0 {
		t.Errorf("two servers have the same deliveries: %d", len(again))
	}
	send(t, f, loopback)
	common.await(t, ofS1, 1)
	common.await(t, ofA1, 1)
	own.await(t, ofS1, 1)
	if b, _ := own.told(ofA1); len(b) != 0 {
		t.Errorf("a tenant was told of another's alert: %s", b)
	}
	bodies, signed := common.told(ofA1)
	at, signature, _ := strings.Cut(strings.TrimPrefix(signed[0], "t="), ",v1=")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || signature != alert.Sign([]byte(secret), time.Unix(seconds, 0), []byte(bodies[0])) {
		t.Errorf("signed %s", signed[0])
	}
	var told struct{ Tenant, Rule, Client string }
	if err := json.Unmarshal([]byte(bodies[0]), &told); err != nil || told.Tenant != storetest.A1 || told.Rule != string(smart.CrossTenant) ||
		strings.Contains(bodies[0], "request-of-") {
		t.Errorf("told %s", bodies[0])
	}
	time.Sleep(time.Second)
	if b, _ := common.told(ofA1); len(b) != 1 {
		t.Errorf("told %d times", len(b))
	}
}

func claim(t *testing.T, f *storetest.Fixture, region string, lease time.Duration) []alert.Delivery {
	t.Helper()
	list, err := f.Registry.Claim(t.Context(), region, 100, lease)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// T194
func TestAWebhookBehindTheWallsIsNotReached(t *testing.T) {
	f := storetest.New(t)
	inside := newHook(t, 0)
	sinkOf(t, f, store.AlertSink{Tenant: storetest.D1, URL: inside.URL})
	client := sightOf(t, f, storetest.D1)
	send(t, f)
	time.Sleep(time.Second)
	if b, _ := inside.told(client); len(b) != 0 {
		t.Errorf("it was told %s", b)
	}
	for _, url := range []string{"", "pager.example", "ftp://pager.example", "https://u:p@pager.example", "https://pager.example/#x", "https://" + strings.Repeat("x", 512)} {
		if _, err := f.Migrator.PutAlertSink(t.Context(), store.AlertSink{URL: url}); err == nil {
			t.Errorf("%.40q was taken", url)
		}
	}
}
