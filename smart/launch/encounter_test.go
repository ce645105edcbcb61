package launch_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store"
)

// asked shows a person what an app asks that wants a visit, up to the choice of one
// of p1's.
func (s *site) asked(t testing.TB, change ...string) *person {
	t.Helper()
	p := s.person()
	p.send("GET", "authorize?"+s.ask(append([]string{"scope", "openid launch/patient launch/encounter patient/*.rs"}, change...)...).Encode(), "")
	p.logIn(t, "doctor")
	p.submit(t, "patient", "p1")
	return p
}

// An app that was not opened by an EHR gets a visit that its user chooses, of the
// patient, the last one first; or none, and then not the scope either.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
func TestAUserChoosesAVisitForAnApp(t *testing.T) {
	s := newSite(t)
	s.put(t, "Encounter/e2", `{"resourceType":"Encounter","id":"e2","status":"in-progress","class":{"code":"IMP"},"type":[{"text":"Hip <replacement>"}],"subject":{"reference":"Patient/p1"},"period":{"start":"2026-02-01T09:00:00Z"}}`)
	s.put(t, "Encounter/e3", `{"resourceType":"Encounter","id":"e3","status":"finished","class":{"code":"AMB","display":"ambulatory"},"subject":{"reference":"Patient/p1"},"period":{"start":"2025-02-01"}}`)
	s.put(t, "Encounter/e9", `{"resourceType":"Encounter","id":"e9","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p2"}}`)

	p := s.asked(t)
	page := p.page.Body.String()
	if p.page.Code != 200 || !strings.Contains(page, "Ashgrove") || strings.Contains(page, `value="e9"`) {
		t.Fatalf("%d %s", p.page.Code, page)
	}
	if last, before := strings.Index(page, "Hip &lt;replacement&gt;"), strings.Index(page, "ambulatory"); last < 0 || before < last {
		t.Errorf("the visits are not shown, or not the last one first: %s", page)
	}
	p.submit(t, "encounter", "e2")
	if page := p.page.Body.String(); !strings.Contains(page, "Hip &lt;replacement&gt;") {
		t.Errorf("the user agrees to an unnamed visit: %s", page)
	}
	p.submit(t, "answer", "allow")
	got := s.redeem(t, p.back(t).Get("code"))
	if got.Patient != "p1" || got.Encounter != "e2" || !strings.Contains(got.Scope, "launch/encounter") {
		t.Errorf("%+v", got)
	}

	p = s.asked(t)
	p.submit(t, "none", "1")
	p.submit(t, "answer", "allow")
	if got := s.redeem(t, p.back(t).Get("code")); got.Patient != "p1" || got.Encounter != "" || strings.Contains(got.Scope, "launch/encounter") {
		t.Errorf("without a visit: %+v", got)
	}

	// An app that asks for nothing but the visit has a patient chosen as well.
	p = s.asked(t, "scope", "openid launch/encounter user/Encounter.rs")
	p.submit(t, "encounter", "e1")
	p.submit(t, "answer", "allow")
	if got := s.redeem(t, p.back(t).Get("code")); got.Encounter != "e1" {
		t.Errorf("the visit alone: %+v", got)
	}
}

// Nobody gets a visit of somebody else, or one that they may not see, by naming
// it.
func TestAVisitIsOneOfThePatientThatTheUserMaySee(t *testing.T) {
	s := newSite(t)
	s.put(t, "Encounter/e9", `{"resourceType":"Encounter","id":"e9","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p2"}}`)
	for _, id := range []string{"e9", "nobody", "../e1", "e1,e9", ""} {
		p := s.asked(t)
		if p.submit(t, "encounter", id); p.page.Code != 400 {
			t.Errorf("%q: %d", id, p.page.Code)
		}
	}
	// A patient chooses among their own.
	p := s.person()
	p.send("GET", "authorize?"+s.ask("scope", "openid launch/patient launch/encounter patient/*.rs").Encode(), "")
	p.logIn(t, "patient")
	if page := p.page.Body.String(); !strings.Contains(page, `value="e1"`) || strings.Contains(page, `value="e9"`) {
		t.Errorf("the patient is shown %s", page)
	}
	if p.submit(t, "encounter", "e9"); p.page.Code != 400 {
		t.Errorf("the patient gets another's visit: %d", p.page.Code)
	}
	// The form of one page is none of another.
	p = s.person()
	p.send("GET", "authorize?"+s.ask("scope", "openid launch/patient launch/encounter patient/*.rs").Encode(), "")
	p.logIn(t, "doctor")
	sealed := inputTag.FindStringSubmatch(p.page.Body.String())
	if p.send("POST", "encounter", url.Values{"request": {sealed[3]}, "encounter": {"e9"}}.Encode()); p.page.Code != 400 {
		t.Errorf("the page before will do: %d", p.page.Code)
	}
}

// An EHR that opens an app knows the visit: its user is not asked for one.
func TestAnEHRBringsTheVisit(t *testing.T) {
	s := newSite(t)
	for _, about := range []store.LaunchContext{{Patient: "p1", Encounter: "e1"}, {Patient: "p1"}} {
		var opened struct{ Launch string }
		if err := json.Unmarshal(s.asEHR("launch", "app", "app", "patient", about.Patient, "encounter", about.Encounter).Body.Bytes(), &opened); err != nil {
			t.Fatal(err)
		}
		p := s.person()
		p.send("GET", "authorize?"+s.ask("scope", "openid launch launch/encounter patient/*.rs", "launch", opened.Launch).Encode(), "")
		p.logIn(t, "doctor")
		p.submit(t, "answer", "allow")
		if got := s.redeem(t, p.back(t).Get("code")); got.Encounter != about.Encounter || got.Patient != "p1" {
			t.Errorf("%+v: %+v", about, got)
		}
	}
}
