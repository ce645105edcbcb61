package main

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/store/pgserver"
)

// await waits for what comes within seconds, and on a busy machine in a minute.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			t.Errorf("no %s", what)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// T058, API-06, OBS-08: each rule, through a server as it is run, which
// is killed as soon as whoever attacks has an answer.
func TestAttacksAreSeenAndNoDeathOfTheServerHidesThem(t *testing.T) {
	if testing.Short() {
		t.Skip("starts PostgreSQL and a server")
	}
	dir := tempDir(t)
	pg, err := pgserver.Start(t.Context(), pgserver.Config{Dir: filepath.Join(dir, "pg")})
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Stop()
	dev := filepath.Join(dir, "dev")
	flags := []string{"--demo", "--patients", "3", "--database", pg.OwnerURL()}
	p := startDev(t, dev, flags...)
	listed := func(line string) bool {
		return regexp.MustCompile(line).MatchString(p.cordon(t, "alert", "list", "--all"))
	}

	// An ordinary day: what the demo holds is loaded, searched and read.
	token := p.cordon(t, "token", "--tenant", "harbor", "--scope", "system/*.cruds")
	for _, path := range []string{"/Patient", "/Observation?_count=100", "/Patient?_revinclude=Observation:subject", "/Patient/no-such", "/metadata"} {
		p.do(t, "GET", p.FHIR+"/harbor"+path, token, "")
	}
	if got := p.cordon(t, "alert", "list", "--all"); strings.Count(got, "\n") != 0 {
		t.Errorf("on an ordinary day: %s", got)
	}

	code, _ := p.do(t, "GET", p.FHIR+"/lakeside/Patient", token, "")
	p.running.Kill()
	if code != 403 {
		t.Fatalf("got %d", code)
	}
	p = startDev(t, dev, flags...)
	if !listed(`\n1 +open +harbor +cross-tenant-token .* 1 +20`) {
		t.Fatalf("after the server was killed: %s", p.cordon(t, "alert", "list"))
	}

	token = p.cordon(t, "token", "--tenant", "harbor", "--scope", "system/*.cruds")
	for range 2 {
		p.do(t, "GET", p.FHIR+"/lakeside/Patient", token, "")
	}
	await(t, "count of what is seen again", func() bool { return listed(`\n1 +open +harbor +cross-tenant-token .* 3 +20`) })
	if got := p.cordon(t, "alert", "show", "1"); !strings.Contains(got, "addressed  lakeside") || !strings.Contains(got, "requests") {
		t.Errorf("shown: %s", got)
	}
	p.cordon(t, "alert", "ack", "1", "--why", "Robin asks the vendor")
	if got := p.cordon(t, "alert", "close", "1", "--why", "a test of theirs"); !strings.Contains(got, "by dev") || !strings.Contains(got, "a test of theirs") {
		t.Errorf("closed: %s", got)
	}
	p.do(t, "GET", p.FHIR+"/lakeside/Patient", token, "")
	await(t, "alert after one was closed", func() bool { return listed(`[23] +open +harbor +cross-tenant-token`) })

	for i := range 320 { // T058: some more than 250, as the count is an estimate
		if code, body := p.do(t, "GET", fmt.Sprintf("%s/harbor/Patient/guess-%d", p.FHIR, i), token, ""); code != 404 {
			t.Fatalf("got %d %s", code, body)
		}
	}
	await(t, "alert about enumeration", func() bool { return listed(`open +harbor +enumeration`) })

	p.cordon(t, "tenant", "set", "summit", "alerts.patients=2", `alerts.networks={"`+p.client(t, "summit")+`":["198.51.100.0/24"]}`)
	time.Sleep(2 * time.Second) // until servers know
	summit := p.cordon(t, "token", "--tenant", "summit", "--scope", "system/*.rs")
	p.do(t, "GET", p.FHIR+"/summit/Patient", summit, "")
	await(t, "alert about scraping", func() bool { return listed(`open +summit +scraping`) })
	await(t, "alert about the network", func() bool { return listed(`open +summit +unexpected-network`) })

	for range 110 {
		resp, err := http.PostForm(p.Auth+"/orchard/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {"a.b.c"}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	await(t, "alert about logins", func() bool { return listed(`open +failed-logins +127\.0\.0\.1`) })
	p.stop(t)
}

// client is the id of the first client of the demo tenant.
func (p *devProcess) client(t *testing.T, slug string) string {
	t.Helper()
	for _, tn := range p.Tenants {
		if tn.Slug == slug {
			return tn.Clients[0].ID
		}
	}
	t.Fatalf("no tenant %s", slug)
	return ""
}
