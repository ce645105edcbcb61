package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/conformance/harness"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/smart/backend"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// binDir holds the binary under test, "" until one is needed.
var binDir string

var built = sync.OnceValues(func() (bin string, err error) {
	// Others may run it: a test as root starts PostgreSQL as another user.
	if binDir, err = harness.Dir("cordon-bin-"); err != nil {
		return "", err
	}
	return harness.Build(context.Background(), binDir)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if binDir != "" {
		os.RemoveAll(binDir)
	}
	os.Exit(code)
}

func binary(t *testing.T) string {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// tempDir returns a directory that the user of PostgreSQL can enter too.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cordon-dev-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A devProcess is a running `cordon dev`, and what its own commands know of it.
type devProcess struct {
	running *harness.Dev
	*devServer
}

// startDev starts `cordon dev` and waits until it is ready.
func startDev(t *testing.T, dir string, flags ...string) *devProcess {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	running, err := harness.Start(ctx, binary(t), dir, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Stop() }) // it may have ended
	s, err := devDir(dir).server()
	if err != nil {
		t.Fatal(err)
	}
	return &devProcess{running, s}
}

// stop asks the process to end, and waits for it.
func (p *devProcess) stop(t *testing.T) {
	t.Helper()
	if err := p.running.Stop(); err != nil {
		t.Error(err)
	}
}

// cordon runs the binary and returns what it printed.
func (p *devProcess) cordon(t *testing.T, args ...string) string {
	t.Helper()
	out, err := p.running.Cordon(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// do sends a request with the token and returns the status and the body.
func (p *devProcess) do(t *testing.T, method, url, token, body string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/fhir+json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, text
}

func total(t *testing.T, bundle []byte) int {
	t.Helper()
	var b struct{ Total *int }
	if err := json.Unmarshal(bundle, &b); err != nil || b.Total == nil {
		t.Fatalf("no total in %.300s", bundle)
	}
	return *b.Total
}

// smallest returns the n smallest JSON files in the folder.
func smallest(t *testing.T, dir string, n int) (files []string) {
	t.Helper()
	out, err := exec.Command("sh", "-c", `ls -Sr "$1"/*.json | head -n "$2"`, "sh", dir, fmt.Sprint(n)).Output()
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		files = append(files, s.Text())
	}
	return files
}

// The whole way, as a newcomer goes it. IR-07
func TestDev(t *testing.T) {
	if testing.Short() {
		t.Skip("starts PostgreSQL and a server")
	}
	dir := tempDir(t)
	p := startDev(t, dir, "--demo", "--patients", "3", "--client-networks", "127.0.0.0/8", "--identity-networks", "127.0.0.0/8")

	t.Run("one command lists the patients whose records an app saw", func(t *testing.T) {
		begun := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
		token := p.cordon(t, "token", "--tenant", "summit", "--scope", "system/*.rs")
		for _, path := range []string{"/Patient/p1", "/Patient/p1", "/Observation?patient=p2&_count=1"} {
			if code, body := p.do(t, "GET", p.FHIR+"/summit"+path, token, ""); code != 200 {
				t.Fatalf("%d %s", code, body)
			}
		}
		listed := p.cordon(t, "audit", "affected", "--tenant", "summit", "--user", p.client(t, "summit"), "--from", begun)
		found := map[string]string{}
		for line := range strings.Lines(listed) {
			if f := strings.Fields(line); len(f) == 4 {
				found[f[0]] = f[1]
			}
		}
		if found["Patient/p1"] != "2" || found["Patient/p2"] == "" || found["Patient/p3"] != "" {
			t.Errorf("affected are\n%s", listed)
		}
	})
	t.Run("five tenants in three modes are ready", func(t *testing.T) {
		modes := map[string]int{}
		for _, tn := range p.Tenants {
			modes[tn.Mode]++
			if len(tn.Clients) != len(demoClients) {
				t.Errorf("%s has %d clients", tn.Slug, len(tn.Clients))
			}
		}
		if modes["shared"] != 2 || modes["schema"] != 2 || modes["database"] != 1 {
			t.Errorf("got %v", modes)
		}
		for _, url := range []string{p.Ops + "/healthz", p.Ops + "/readyz"} {
			if code, body := p.do(t, "GET", url, "", ""); code != 200 {
				t.Errorf("%s: %d %s", url, code, body)
			}
		}
	})
	t.Run("each tenant has the same records, and no token of another reaches them", func(t *testing.T) {
		for i, tn := range p.Tenants {
			token := p.cordon(t, "token", "--tenant", tn.Slug, "--scope", "system/*.rs")
			if code, body := p.do(t, "GET", tn.FHIRBase+"/Patient/p3", token, ""); code != 200 {
				t.Errorf("%s: %d %.300s", tn.Slug, code, body)
			}
			code, body := p.do(t, "GET", tn.FHIRBase+"/Patient?_summary=count", token, "")
			if code != 200 || total(t, body) != 3 {
				t.Errorf("%s: %d %.300s", tn.Slug, code, body)
			}
			other := p.Tenants[(i+1)%len(p.Tenants)]
			if code, _ := p.do(t, "GET", other.FHIRBase+"/Patient/p3", token, ""); code != 403 {
				t.Errorf("%s at %s: got %d, want 403", tn.Slug, other.Slug, code)
			}
		}
	})
	t.Run("the launch context of a token is the one that was asked for", func(t *testing.T) {
		base := p.Tenants[0].FHIRBase
		for patient, want := range map[string]int{"p1": 404, "p2": 200} {
			token := p.cordon(t, "token", "--tenant", "harbor", "--scope", "patient/*.rs", "--patient", patient)
			if code, body := p.do(t, "GET", base+"/Patient/p2", token, ""); code != want {
				t.Errorf("in context of %s: got %d %.300s, want %d", patient, code, body, want)
			}
		}
		token := p.cordon(t, "token", "--tenant", "harbor", "--scope", "user/*.rs", "--user", "Practitioner/dr2")
		if code, body := p.do(t, "GET", base+"/Patient/p2", token, ""); code != 200 {
			t.Errorf("as a clinician: got %d %.300s", code, body)
		}
	})
	t.Run("users log in and agree, and their token reaches what they may see", func(t *testing.T) {
		for _, tn := range p.Tenants {
			if len(tn.Users) != len(demoUsers) {
				t.Fatalf("%s has %d users", tn.Slug, len(tn.Users))
			}
			for login, want := range map[string]int{"doctor": 200, "patient": 404} {
				token := p.cordon(t, "token", "--tenant", tn.Slug, "--scope", "openid user/*.rs", "--user", login)
				if code, body := p.do(t, "GET", tn.FHIRBase+"/Patient/p2", token, ""); code != want {
					t.Errorf("%s at %s: got %d %.300s, want %d", login, tn.Slug, code, body, want)
				}
			}
		}
	})
	t.Run("a user is added, listed, disabled and enabled", func(t *testing.T) {
		made := p.cordon(t, "user", "add", "--tenant", "summit", "carol", "--user", "Practitioner/dr2", "--role", "doctor", "--codes")
		if lines := strings.Split(made, "\n"); len(lines) != 2 || len(lines[0]) != 26 || !strings.HasPrefix(lines[1], "otpauth://totp/Summit%20Regional%20Hospital:carol?") {
			t.Errorf("adding prints\n%s", made)
		}
		for verb, want := range map[string]string{"disable": "disabled", "enable": "active"} {
			p.cordon(t, "user", verb, "--tenant", "summit", "carol")
			if list := p.cordon(t, "user", "list", "--tenant", "summit"); !strings.Contains(list, "carol    Practitioner/dr2       doctor            yes    "+want) {
				t.Errorf("%s: %s", verb, list)
			}
		}
		if got := p.cordon(t, "user", "password", "--tenant", "summit", "carol"); len(got) != 26 {
			t.Errorf("a new password: %q", got)
		}
	})
	t.Run("a client that is disabled loses the token that it has", func(t *testing.T) { // T034
		api, err := p.control()
		if err != nil {
			t.Fatal(err)
		}
		clients, err := api.clients(t.Context(), "orchard")
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(clients, func(c clientRow) bool { return c.ID == "reader" })
		base := p.Tenants[slices.IndexFunc(p.Tenants, func(x devTenant) bool { return x.Slug == "orchard" })].FHIRBase
		token := p.cordon(t, "token", "--tenant", "orchard", "--client", "reader", "--scope", "system/*.rs")
		for _, disabled := range []bool{true, false} {
			clients[at].Disabled = disabled
			if code, body := p.do(t, "GET", base+"/Patient/p1", token, ""); disabled && code != 200 {
				t.Fatalf("before: %d %.300s", code, body)
			}
			if err := api.do(t.Context(), "POST", "/tenants/orchard/clients", clients[at], nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1500 * time.Millisecond) // what a server remembers is a second old at most
			if code, body := p.do(t, "GET", base+"/Patient/p1", token, ""); code != 401 {
				t.Errorf("disabled %t: got %d %.300s, want 401", disabled, code, body)
			}
		}
	})
	t.Run("keys of clients and servers that tenants trust are found in the networks that it was told of", func(t *testing.T) {
		key, err := newKey()
		if err != nil {
			t.Fatal(err)
		}
		var elsewhere *httptest.Server
		elsewhere = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if r.URL.Path == "/keys" {
				json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
			} else {
				json.NewEncoder(w).Encode(map[string]string{"issuer": elsewhere.URL, "jwks_uri": elsewhere.URL + "/keys",
					"authorization_endpoint": elsewhere.URL + "/authorize", "token_endpoint": elsewhere.URL + "/token"})
			}
		}))
		defer elsewhere.Close()
		p.cordon(t, "client", "add", "--tenant", "harbor", "publisher", "--scopes", "system/*.rs", "--jwks-uri", elsewhere.URL+"/keys")
		service := &backend.Service{TokenURL: p.Auth + "/harbor/token", Client: "publisher", Scope: "system/*.rs", Key: key}
		if _, err := service.Token(t.Context()); err != nil {
			t.Error(err)
		}
		issuer := filepath.Join(t.TempDir(), "issuer.json")
		if err := os.WriteFile(issuer, fmt.Appendf(nil, `{"issuer": %q, "mapping": {"user": {"claim": "staff"}, "userType": "Practitioner"}}`, elsewhere.URL), 0o600); err != nil {
			t.Fatal(err)
		}
		p.cordon(t, "issuer", "set", "--tenant", "lakeside", issuer)
		defer p.cordon(t, "issuer", "remove", "--tenant", "lakeside")
		code, body := p.do(t, "GET", p.FHIR+"/lakeside/.well-known/smart-configuration", "", "")
		if code != 200 || !bytes.Contains(body, []byte(elsewhere.URL+"/token")) {
			t.Errorf("got %d %s", code, body)
		}
	})
	t.Run("a guide is installed, listed and removed, and settings are changed", func(t *testing.T) {
		guide := filepath.Join(t.TempDir(), "guide.tgz")
		vs := `{"resourceType":"ValueSet","url":"http://guide.example.org/vs"}`
		if err := os.WriteFile(guide, storetest.PackageFile(t, "example.guide", "1.2.0", vs), 0o600); err != nil {
			t.Fatal(err)
		}
		want := "PACKAGE              PROFILES  VALUE SETS  SEARCH PARAMETERS  MISSING\nexample.guide@1.2.0  0         1           0                  other.guide@1.0.0"
		for range 2 {
			if got := p.cordon(t, "package", "install", "--tenant", "summit", guide); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		}
		if got := p.cordon(t, "package", "list", "--tenant", "summit"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		p.cordon(t, "package", "remove", "--tenant", "summit", "example.guide@1.2.0")
		if got := p.cordon(t, "package", "list", "--tenant", "summit"); strings.Contains(got, "example.guide") {
			t.Errorf("after it was removed: %s", got)
		}
		p.cordon(t, "tenant", "set", "summit", "validation.level=required", `validation.profiles=["http://guide.example.org/p"]`)
		want = `{"validation":{"level":"required","profiles":["http://guide.example.org/p"]}}`
		if got := strings.Join(strings.Fields(p.cordon(t, "tenant", "settings", "summit")), ""); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		p.cordon(t, "tenant", "set", "summit", "validation.level=", "validation.profiles=", "limits.client.requests=5000")
		if got := strings.Join(strings.Fields(p.cordon(t, "tenant", "settings", "summit")), ""); got != `{"limits":{"client":{"requests":5000}}}` {
			t.Errorf("got %s", got)
		}
		p.cordon(t, "tenant", "set", "summit", "limits.client.requests=")
		if got := p.cordon(t, "tenant", "settings", "summit"); got != "{}" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("real records go into every tenant", func(t *testing.T) {
		files := smallest(t, fhirtest.Path(t, "synthea"), 2)
		for _, tn := range p.Tenants {
			out := p.cordon(t, append([]string{"load", "--tenant", tn.Slug}, files...)...)
			token := p.cordon(t, "token", "--tenant", tn.Slug, "--scope", "system/*.rs")
			code, body := p.do(t, "GET", tn.FHIRBase+"/Patient?_summary=count", token, "")
			if code != 200 || total(t, body) != 3+len(files) {
				t.Errorf("%s: %d %.300s\n%s", tn.Slug, code, body, out)
			}
		}
	})
	t.Run("the faults of a file are printed, and the rest of it is stored", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "mixed.ndjson")
		lines := "{\"resourceType\":\"Patient\",\"id\":\"good1\"}\n{\"resourceType\":\"Patient\",\"id\":\"bad1\",\"gender\":\"secretword\"}\n{\"resourceType\":\"Patient\",\"id\":\"good2\"}\n"
		if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{"load", "--dir", dir, "--tenant", "harbor", file}, &out, &errs)
		if code != 1 || !strings.Contains(out.String(), "entry[1].resource.gender") || strings.Contains(out.String()+errs.String(), "secretword") {
			t.Errorf("exit code %d\n%s%s", code, &out, &errs)
		}
		token := p.cordon(t, "token", "--tenant", "harbor", "--scope", "system/*.rs")
		for id, want := range map[string]int{"good1": 200, "good2": 200, "bad1": 404} {
			if code, _ := p.do(t, "GET", p.Tenants[0].FHIRBase+"/Patient/"+id, token, ""); code != want {
				t.Errorf("%s: got %d, want %d", id, code, want)
			}
		}
	})
	t.Run("the figures name tenants by number and no record", func(t *testing.T) {
		_, body := p.do(t, "GET", p.Ops+"/metrics", "", "")
		for _, want := range []string{"cordon_requests_total{", `cordon_alerts_total{rule="cross-tenant-token"} `} {
			if !bytes.Contains(body, []byte(want)) {
				t.Errorf("no %s", want)
			}
		}
		for _, bad := range []string{"harbor", "p2", "good1"} {
			if bytes.Contains(body, []byte(`"`+bad)) || bytes.Contains(body, []byte("/"+bad)) {
				t.Errorf("the metrics name %q", bad)
			}
		}
	})
	t.Run("a second server in the same directory is refused in one line", func(t *testing.T) {
		out, err := exec.Command(binary(t), "dev", "--dir", dir).CombinedOutput()
		if err == nil || bytes.Count(out, []byte("\n")) != 1 || !bytes.Contains(out, []byte("another cordon dev")) {
			t.Errorf("got %v: %s", err, out)
		}
	})
	t.Run("a port in use is one line", func(t *testing.T) {
		busy := strings.TrimPrefix(p.Ops, "http://")
		out, err := exec.Command(binary(t), "dev", "--dir", tempDir(t), "--listen", busy).CombinedOutput()
		if err == nil || bytes.Count(out, []byte("\n")) != 1 || !bytes.Contains(out, []byte("in use")) {
			t.Errorf("got %v: %s", err, out)
		}
	})

	base := strings.TrimPrefix(p.Tenants[0].FHIRBase, p.FHIR)
	token := p.cordon(t, "token", "--tenant", "harbor", "--scope", "system/*.cruds")
	answered := make(chan int, 1)
	body, send := io.Pipe()
	// The body is sent when the server asks for it: then the request runs there.
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	go func() { // a request that is half way when the server is told to stop
		req, err := http.NewRequest("PUT", p.FHIR+base+"/Patient/late", body)
		if err != nil {
			answered <- 0
			return
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/fhir+json")
		req.Header.Set("Expect", "100-continue")
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("the request was cut: %v", err)
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	io.WriteString(send, `{"resourceType":"Patient",`)
	stopped := make(chan struct{})
	go func() { p.stop(t); close(stopped) }()
	time.Sleep(300 * time.Millisecond)
	io.WriteString(send, `"id":"late"}`)
	send.Close()
	if code := <-answered; code != 201 {
		t.Errorf("a request that ran when the server was stopped: got %d, want 201", code)
	}
	<-stopped
	if _, err := os.Stat(filepath.Join(dir, "dev.json")); !errors.Is(err, os.ErrNotExist) {
		t.Error("dev.json says that a server is ready that has stopped")
	}

	again := startDev(t, dir, "--demo", "--patients", "3")
	defer again.stop(t)
	for _, tn := range again.Tenants {
		token := again.cordon(t, "token", "--tenant", tn.Slug, "--scope", "system/*.rs")
		code, body := again.do(t, "GET", tn.FHIRBase+"/Patient/p3", token, "")
		if code != 200 || !bytes.Contains(body, []byte(`"versionId":"1"`)) {
			t.Errorf("after a restart %s: %d %.300s", tn.Slug, code, body)
		}
	}
	token = again.cordon(t, "token", "--tenant", "harbor", "--scope", "system/*.rs")
	if code, _ := again.do(t, "GET", again.Tenants[0].FHIRBase+"/Patient/late", token, ""); code != 200 {
		t.Errorf("what was stored last is not there after a restart: %d", code)
	}
}

func TestCommandsThatNeedAServerSayHowToStartOne(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"token", "--dir", t.TempDir(), "--tenant", "harbor", "--scope", "system/*.rs"}, &out, &errs)
	if code != 1 || !strings.Contains(errs.String(), "cordon dev") {
		t.Errorf("exit code %d: %s", code, &errs)
	}
}
