package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/pgserver"
	"github.com/cordon-fhir/cordon/tenant"
)

// A background is a command that runs until it is stopped.
type background struct {
	cancel context.CancelFunc
	code   chan int
	output *syncBuffer
}

// syncBuffer is a buffer for the output of a command that still runs.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func start(t *testing.T, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{cancel, make(chan int, 1), new(syncBuffer)}
	go func() { b.code <- run(ctx, args, b.output, b.output) }()
	t.Cleanup(cancel)
	return b
}

func (b *background) stop(t *testing.T) {
	t.Helper()
	b.cancel()
	if code := <-b.code; code != 0 {
		t.Errorf("exit code %d: %s", code, b.output)
	}
}

// await waits until the plane whose health is at the address is ready.
func (b *background) await(t *testing.T, ops string) {
	t.Helper()
	for range 600 {
		resp, err := http.Get("http://" + ops + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return
			}
		}
		select {
		case code := <-b.code:
			t.Fatalf("ended with %d: %s", code, b.output)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("not ready: %s", b.output)
}

// ok runs a command that has to end well, and returns what it printed.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), args, &out, &errs); code != 0 {
		t.Fatalf("cordon %s: exit code %d: %s%s", args[0], code, &out, &errs)
	}
	return out.String()
}

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := listen(t.Context(), "listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// checkWhoIsLookedAfter requires that the work beside the requests is done for the
// tenants of the server's region. TEN-05
func checkWhoIsLookedAfter(t *testing.T, registryURL, kek string) {
	t.Helper()
	kms, err := keys.NewFileKMS(kek)
	if err != nil {
		t.Fatal(err)
	}
	registry, err := store.OpenRegistry(t.Context(), registryURL, kms)
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close()
	for region, want := range map[string]int{"local": 2, "": 2, "eu-north": 0} { // the third tenant is suspended
		list, err := lookedAfter(registry, tenant.NewRegistry(registry), region)(t.Context())
		if err != nil || len(list) != want {
			t.Errorf("a server of region %q works for %d tenants, want %d (%v)", region, len(list), want, err)
		}
	}
}

// CP-01: the planes as they are run in production: the database's owner, the
// control plane and the data plane apart, each with no more than it needs.
func TestTheDataPlaneServesWithoutTheControlPlane(t *testing.T) {
	if testing.Short() {
		t.Skip("starts PostgreSQL and a server")
	}
	dir := tempDir(t)
	pg, err := pgserver.Start(t.Context(), pgserver.Config{Dir: filepath.Join(dir, "pg")})
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Stop()
	database := func(role, name string) string {
		u := url.URL{Scheme: "postgres", User: url.UserPassword(role, role+"-of-the-test"),
			Host: fmt.Sprintf("127.0.0.1:%d", pg.Port()), Path: name, RawQuery: "sslmode=disable"}
		return u.String()
	}
	kek := filepath.Join(dir, "kek")
	databases := []string{
		"--registry-url", database("cordon_registry", "cordon_registry"), "--kek-dir", kek,
		"--database-url", database("cordon_app", "cordon"), "--audit-url", database("cordon_audit", "cordon"), "--log-url", database("cordon_log", "cordon"),
	}
	owner := append([]string{"--owner-url", pg.OwnerURL()}, databases...)
	command := func(words []string, flags ...string) []string { return append(words, flags...) }

	for range 2 { // the second time there is nothing left to do
		ok(t, command([]string{"migrate"}, owner...)...)
	}
	operatorKey := filepath.Join(dir, "operator.jwk")
	ok(t, command([]string{"operator", "put", "ops", "--key", operatorKey}, owner...)...)

	admin, adminOps := freeAddress(t), freeAddress(t)
	far, farOps := freeAddress(t), freeAddress(t)
	farAway := start(t, command([]string{"serve", "--region", "eu-north", "--listen", far, "--ops-listen", farOps, "--public-url", "http://" + far}, databases...)...)
	control := start(t, command([]string{"control", "--listen", admin, "--ops-listen", adminOps, "--control-url", "http://" + admin}, owner...)...)
	control.await(t, adminOps)
	data, dataOps := freeAddress(t), freeAddress(t)
	serve := start(t, command([]string{"serve", "--listen", data, "--ops-listen", dataOps, "--public-url", "http://" + data}, databases...)...)
	serve.await(t, dataOps)

	login := []string{"--control-url", "http://" + admin, "--operator", "ops", "--operator-key", operatorKey}
	for _, mode := range []string{"shared", "schema", "database"} {
		slug := "apart-" + mode
		for range 2 {
			if out := ok(t, command([]string{"tenant", "create", "--mode", mode, slug}, login...)...); !strings.Contains(out, "active") {
				t.Errorf("tenant create: %s", out)
			}
		}
		key := filepath.Join(dir, slug+".jwk")
		private, err := keepKey(key)
		if err != nil {
			t.Fatal(err)
		}
		public := filepath.Join(dir, slug+".public.jwk") // all that its owner gives away
		if err := writeJSON(public, private.Public()); err != nil {
			t.Fatal(err)
		}
		ok(t, command([]string{"client", "add", "--tenant", slug, "--scopes", "system/*.cruds", "--key", public, "etl"}, login...)...)
	}
	if out := ok(t, command([]string{"migrate", "status"}, owner...)...); strings.Count(out, "apart-") != 3 {
		t.Errorf("migrate status: %s", out)
	}
	ok(t, command([]string{"tenant", "suspend", "apart-schema"}, login...)...)
	control.stop(t)

	p := &devProcess{}
	// TEN-05: a server of another region refuses all that is theirs.
	farAway.await(t, farOps)
	for _, path := range []string{"/fhir/apart-shared/metadata", "/auth/apart-shared/jwks", "/auth/apart-database/account"} {
		if code, body := p.do(t, "GET", "http://"+far+path, "", ""); code != 421 || !bytes.Contains(body, []byte("not served from this region")) {
			t.Errorf("%s in another region: got %d %.300s", path, code, body)
		}
	}
	farAway.stop(t)
	checkWhoIsLookedAfter(t, database("cordon_registry", "cordon_registry"), kek)
	for slug, want := range map[string]int{"apart-shared": 201, "apart-database": 201} {
		base := "http://" + data + "/fhir/" + slug
		l, err := newLogin(&devTenant{TokenURL: "http://" + data + "/auth/" + slug + "/token"},
			devClient{ID: "etl", KeyFile: filepath.Join(dir, slug+".jwk")}, "system/*.cruds")
		if err != nil {
			t.Fatal(err)
		}
		token, err := l.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if code, body := p.do(t, "PUT", base+"/Patient/x", token, `{"resourceType":"Patient","id":"x"}`); code != want {
			t.Errorf("%s: got %d %s, want %d", slug, code, body, want)
		}
		// T216
		if code, body := p.do(t, "GET", base+"/Patient?_id="+strings.Repeat("x,", 5000), token, ""); code != 414 || !bytes.Contains(body, []byte("OperationOutcome")) {
			t.Errorf("a URL of 10 kB: got %d %.300s", code, body)
		}
	}
	// A suspension holds within a second, where the tenant was asked about just now.
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		suspended, err := newLogin(&devTenant{TokenURL: "http://" + data + "/auth/apart-schema/token"},
			devClient{ID: "etl", KeyFile: filepath.Join(dir, "apart-schema.jwk")}, "system/*.cruds")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := suspended.Token(t.Context()); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a client of a suspended tenant gets tokens")
		}
	}
	serve.stop(t)
	for _, secret := range []string{"-of-the-test", "Patient/x"} {
		if log := serve.output.String() + control.output.String(); strings.Contains(log, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if info, err := os.Stat(operatorKey); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the operator's key: %v %v", info, err)
	}
}
