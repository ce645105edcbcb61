package launch_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
)

var olderLink = regexp.MustCompile(`<a rel="next" href="/auth/[^"/]*/([^"]*)"`)

// AUD-12: a patient reads, in words and without a script, who saw their record;
// nobody else's, and nobody else does.
func TestAPatientReadsWhoSawTheirRecord(t *testing.T) {
	s := newSite(t)
	s.put(t, "Practitioner/dr1", `{"resourceType":"Practitioner","id":"dr1","name":[{"family":"Wong","given":["Ada"]}]}`)
	saw := func(user, purpose string, of ...string) {
		t.Helper()
		for _, id := range of {
			tok := smart.Token{Scope: "user/*.rs", Client: "app", User: user, Purpose: purpose, Person: smart.Person{Roles: []string{"<b>physician"}}}
			g, err := s.Verifier.Grant(t.Context(), s.slug, s.Sign(t, s.slug, tok), audit.Origin{RequestID: "r", Trail: audit.NewTrail()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.DB.Read(t.Context(), g, fhir.Ref{Type: "Patient", ID: id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	saw("Practitioner/dr2", "", "p2")
	for range 30 {
		saw("Practitioner/dr1", "TREAT", "p1")
	}
	saw("Practitioner/dr1", "BTG", "p1")

	p := s.person()
	if w := p.send("GET", "account/access", ""); !strings.Contains(w.Body.String(), "Log in") || strings.Contains(w.Body.String(), "Wong") {
		t.Fatalf("who has not logged in sees %s", w.Body)
	}
	p.submit(t, "login", "patient", "password", password)
	if !strings.Contains(p.page.Body.String(), "/account/access") {
		t.Errorf("the account does not lead to who saw the record: %s", p.page.Body)
	}
	all := ""
	pages := 0
	for path := "account/access"; path != ""; pages++ {
		w := p.send("GET", path, "")
		if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%s: %d %v %s", path, w.Code, w.Header(), w.Body)
		}
		all += w.Body.String()
		path = ""
		if link := olderLink.FindStringSubmatch(w.Body.String()); link != nil {
			path = link[1]
			other := s.person() // somebody else's page opens nothing
			other.send("GET", "account", "")
			other.submit(t, "login", "relative", "password", password)
			if w := other.send("GET", path, ""); strings.Contains(w.Body.String(), "Wong") {
				t.Errorf("the relative sees %s", w.Body)
			}
		}
	}
	if pages < 2 || strings.Count(all, "Ada Wong") != 31 || strings.Count(all, "Emergency access") != 1 || !strings.Contains(all, "with Growth chart") {
		t.Errorf("%d pages: %s", pages, all)
	}
	for _, of := range []string{"Patient/p2", "Practitioner/dr2", "<script", "<b>"} {
		if strings.Contains(all, of) {
			t.Errorf("%s is on the page", of)
		}
	}
	if w := p.send("GET", "account/access?page=x", ""); w.Code != http.StatusBadRequest {
		t.Errorf("a page that is none: %d", w.Code)
	}
	if w := p.send("GET", "account/access", ""); strings.Count(w.Body.String(), "You") < 2 || !strings.Contains(w.Body.String(), "with this page") {
		t.Errorf("that the patient looked is not in the list: %s", w.Body)
	}

	doctor := s.person()
	doctor.send("GET", "account", "")
	doctor.submit(t, "login", "doctor", "password", password)
	if w := doctor.send("GET", "account/access", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "for patients") || strings.Contains(w.Body.String(), "Wong") {
		t.Errorf("a doctor sees %d %s", w.Code, w.Body)
	}

	if _, err := s.Registry.PutClient(t.Context(), s.Tenant(t, s.slug), smart.Client{ID: smart.AccountClient}); err == nil {
		t.Error("the server's own name can be registered")
	}
}
