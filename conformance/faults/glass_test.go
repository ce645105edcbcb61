package faults

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/conformance/harness"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// An emergencyRoom is a tenant of its own in which a glass is broken as soon as it is
// asked for.
type emergencyRoom struct {
	t        *testing.T
	slug     string
	registry *store.Registry
	tenant   *tenant.Tenant
	keys     *keys.Set
}

func newEmergencyRoom(t *testing.T) *emergencyRoom {
	t.Helper()
	dir := filepath.Join(sys.tmp, "dev")
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kms, err := keys.NewFileKMS(filepath.Join(dir, "kek"))
	fail(err)
	text, err := os.ReadFile(filepath.Join(dir, "secrets.json"))
	fail(err)
	var secrets store.Secrets
	fail(json.Unmarshal(text, &secrets))
	m, err := store.OpenMigrator(t.Context(), store.MigratorConfig{OwnerURL: sys.pg.OwnerURL(), KMS: kms, KEK: "file://root", Secrets: secrets})
	fail(err)
	t.Cleanup(func() { m.Close() })
	e := &emergencyRoom{t: t, slug: "er-" + strings.ToLower(rand.Text()[:10])}
	_, _, err = m.Provision(t.Context(), store.NewTenant{Slug: e.slug, Mode: tenant.Shared})
	fail(err)
	policy, _ := smart.Profile("clinic")
	change, err := m.ProposePolicy(t.Context(), e.slug, "one", "", policy)
	fail(err)
	_, err = m.ApprovePolicy(t.Context(), e.slug, "two", change.Number)
	fail(err)
	s, version, err := m.Settings(t.Context(), e.slug)
	fail(err)
	s.BreakGlass = tenant.BreakGlass{Mode: tenant.GlassImmediate, ReviewWithin: 60}
	_, err = m.PutSettings(t.Context(), e.slug, s, version)
	fail(err)

	urls, err := m.URLs()
	fail(err)
	e.registry, err = store.OpenRegistry(t.Context(), urls.Registry, kms)
	fail(err)
	t.Cleanup(e.registry.Close)
	e.tenant, err = tenant.NewRegistry(e.registry).Tenant(t.Context(), e.slug)
	fail(err)
	e.keys, err = keys.NewKeyring(e.registry, kms).Of(t.Context(), e.tenant.ID)
	fail(err)
	_, err = e.registry.PutClient(t.Context(), e.tenant, smart.Client{ID: "chart", Scopes: []string{"system/*.cruds", "user/*.cruds"}})
	fail(err)
	return e
}

// bearer is the token of the chart, for staff who have logged in or for a system.
func (e *emergencyRoom) bearer(role string) string {
	e.t.Helper()
	now := time.Now()
	origin := "http://" + sys.listen
	tok := smart.Token{
		Issuer: origin + "/auth/" + e.slug, Audience: origin + "/fhir/" + e.slug, Tenant: e.slug, ID: rand.Text(),
		Subject: role, Client: "chart", Scope: "user/*.rs", User: "Practitioner/" + role, Session: "login-of-" + role,
		Issued: now.Unix() + 1, NotYet: now.Unix(), Expires: now.Add(10 * time.Minute).Unix(), Person: smart.Person{Roles: []string{role}},
	}
	if role == "service" {
		tok.Subject, tok.Scope, tok.User, tok.Session = "chart", "system/*.cruds", "", ""
	}
	text, err := tok.Sign(e.keys)
	if err != nil {
		e.t.Fatal(err)
	}
	return text
}

// ask sends a request, and returns nil if there is no answer.
func (e *emergencyRoom) ask(role, method, path, body string) *reply {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), method, "http://"+sys.listen+"/fhir/"+e.slug+"/"+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+e.bearer(role))
	if body != "" {
		req.Header.Set("Content-Type", "application/fhir+json")
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var text json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&text); err != nil {
		return nil
	}
	return &reply{resp.StatusCode, resp.Header, text}
}

// answered is ask where there must be an answer of the status.
func (e *emergencyRoom) answered(status int, role, method, path, body string) string {
	e.t.Helper()
	r := e.ask(role, method, path, body)
	if r == nil || r.status != status {
		e.t.Fatalf("%s %s as %s: %+v", method, path, role, r)
	}
	return string(r.body)
}

// told is how often the trail tells that the glass of the patient was broken.
func (e *emergencyRoom) told(patient string) int {
	e.t.Helper()
	return strings.Count(e.answered(200, "privacy", "GET", "AuditEvent?purpose=BTG&patient="+patient, ""), `"code":"110127"`)
}

// BG-03, F002: whenever the server dies, a glass that is broken is in the trail and
// somebody was alerted; one that is not shows nothing.
func TestAGlassIsNotBrokenUntoldWhenTheServerDies(t *testing.T) {
	whole(t)
	bin, err := harness.Build(t.Context(), t.TempDir(), buildFlags("-tags", "crashpoints")...)
	if err != nil {
		t.Fatal(err)
	}
	e := newEmergencyRoom(t)
	defer func() {
		sys.server.kill()
		sys.restart(t)
	}()
	for id, tt := range map[string]struct {
		point  string
		broken bool
	}{
		"before": {"after entry:0", false}, // its entry is kept, and then nothing is
		"after":  {"before audit:0", true}, // it is broken, and nobody has an answer
	} {
		t.Run(tt.point, func(t *testing.T) {
			e.t = t
			e.answered(201, "service", "PUT", "Patient/"+id, `{"resourceType":"Patient","id":"`+id+`"}`)
			sys.server.kill()
			if sys.server, err = sys.serve(t.Context(), bin, "CORDON_CRASH="+tt.point); err != nil {
				t.Fatal(err)
			}
			ask := `{"resourceType":"Parameters","parameter":[{"name":"reason","valueString":"unconscious"}]}`
			if r := e.ask("physician", "POST", "Patient/"+id+"/$break-glass", ask); r != nil {
				t.Fatalf("the server answers: %+v", r)
			}
			select {
			case <-sys.server.done:
			case <-time.After(time.Minute):
				t.Fatal("the server does not die")
			}
			sys.restart(t)
			if n := e.told(id); n != 1 {
				t.Errorf("the trail tells of it %d times", n)
			}
			status, alerts := 404, 0
			if tt.broken {
				status, alerts = 200, 1
			}
			e.answered(status, "physician", "GET", "Patient/"+id, "")
			if n := e.alerts(); n != alerts {
				t.Errorf("there are %d alerts", n)
			}
			if !tt.broken {
				e.answered(200, "physician", "POST", "Patient/"+id+"/$break-glass", ask)
				e.answered(200, "physician", "GET", "Patient/"+id, "")
			}
			e.closeAlerts()
		})
	}
}

// alerts is how many are open about broken glasses.
func (e *emergencyRoom) alerts() (n int) {
	e.t.Helper()
	list, err := e.registry.Alerts(e.t.Context(), e.slug)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, a := range list {
		if a.Rule == "break-glass-alone" && a.Closed == nil {
			n++
		}
	}
	return n
}

func (e *emergencyRoom) closeAlerts() {
	e.t.Helper()
	list, err := e.registry.Alerts(e.t.Context(), e.slug)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, a := range list {
		if a.Closed == nil {
			if _, err := e.registry.CloseAlert(e.t.Context(), a.ID, "tester", "seen"); err != nil {
				e.t.Fatal(err)
			}
		}
	}
}
