package launch_test

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// clinic makes the tenant one in which a glass can be broken: its doctor treats
// nobody, and there is a privacy officer.
func (s *site) clinic(t testing.TB, b tenant.BreakGlass) {
	t.Helper()
	hash, err := smart.HashPassword(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	for login, role := range map[string]string{"physician": "physician", "officer": "privacy", "clerk": "billing"} {
		s.account(t, store.Account{Login: login, Hash: hash, User: "Practitioner/" + login, Person: smart.Person{Roles: []string{role}}}, nil)
	}
	text, _ := smart.Profile("clinic")
	c, err := s.Migrator.ProposePolicy(t.Context(), s.slug, "one", "", text)
	if err == nil {
		_, err = s.Migrator.ApprovePolicy(t.Context(), s.slug, "two", c.Number)
	}
	var version int64
	if err == nil {
		_, version, err = s.Migrator.Settings(t.Context(), s.slug)
	}
	if err == nil {
		_, err = s.Migrator.PutSettings(t.Context(), s.slug, tenant.Settings{BreakGlass: b}, version)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Tenants.Forget(s.slug)
	s.again(t)
}

// working logs a person in with the app, and returns their token.
func (s *site) working(t testing.TB, login string) (*person, string) {
	t.Helper()
	p := s.person()
	p.send("GET", "authorize?"+s.ask("scope", "openid user/*.rs").Encode(), "")
	p.logIn(t, login)
	p.submit(t, "answer", "allow")
	return p, s.redeem(t, p.back(t).Get("code")).AccessToken
}

// visit is a person who has logged in and looks at a page.
func (s *site) visit(t testing.TB, login, page string) *person {
	t.Helper()
	p := s.person()
	p.send("GET", "account", "")
	p.logIn(t, login)
	p.send("GET", page, "")
	return p
}

// seesPatient reports whether the bearer sees the patient.
func (s *site) seesPatient(t testing.TB, bearer, id string) bool {
	t.Helper()
	g, err := s.verifiers[0].Grant(t.Context(), s.slug, bearer, audit.Origin{RequestID: "r", Trail: audit.NewTrail()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.DB.Read(t.Context(), g, fhir.Ref{Type: "Patient", ID: id})
	if err != nil && !fhir.IsCode(err, fhir.NotFound) {
		t.Fatal(err)
	}
	return err == nil
}

var (
	appChoice   = regexp.MustCompile(`(?s)name="app">.*?value="([A-Z0-9]+)"`)
	pushes      = regexp.MustCompile(`name="(approve|refuse|end|review)" value="([A-Z0-9]+)"`)
	statusWords = regexp.MustCompile(`role="(?:alert|status)">(?:<strong>)?([^<]*)`)
)

// shows fails unless the page has the status and the words.
func (p *person) shows(t testing.TB, status int, words ...string) {
	t.Helper()
	text := p.page.Body.String()
	for _, w := range words {
		if p.page.Code != status || !strings.Contains(text, w) {
			t.Fatalf("got %d without %q: %q in %s", p.page.Code, w, statusWords.FindAllStringSubmatch(text, -1), text)
		}
	}
}

// push sends the form of the button, with what is filled in.
func (p *person) push(t testing.TB, name string, filled ...string) {
	t.Helper()
	for _, m := range pushes.FindAllStringSubmatch(p.page.Body.String(), -1) {
		if m[1] == name {
			p.submit(t, append([]string{name, m[2]}, filled...)...)
			return
		}
	}
	t.Fatalf("there is no button %s on %s", name, p.page.Body)
}

// app is the app that the page offers first.
func (p *person) app(t testing.TB) string {
	t.Helper()
	m := appChoice.FindStringSubmatch(p.page.Body.String())
	if m == nil {
		t.Fatalf("no app on %s", p.page.Body)
	}
	return m[1]
}

// BG-01, BG-02: without a script or a program of theirs a clinician asks, another
// person approves, the app shows the record and that of nobody else, they give it
// back, and the review is kept.
func TestStaffBreakAGlassOnAPageAndOthersApproveAndReviewIt(t *testing.T) {
	s := newSite(t)
	s.put(t, "Patient/p3", `{"resourceType":"Patient","id":"p3","identifier":[{"system":"urn:mrn","value":"MRN-3"}],"name":[{"family":"Cedar"}]}`)
	s.clinic(t, tenant.BreakGlass{Mode: tenant.GlassApproved, Minutes: 30})
	doctor, bearer := s.working(t, "physician")
	if s.seesPatient(t, bearer, "p3") {
		t.Fatal("the doctor sees the record")
	}
	doctor.send("GET", "account", "")
	doctor.shows(t, 200, `/emergency"`)
	doctor.send("GET", "emergency", "")
	doctor.shows(t, 200, "Another person approves it", "Growth chart", `max="30"`)
	doctor.submit(t, "patient", "MRN-3", "reason", "unconscious <b>& alone", "minutes", "10", "purpose", "ETREAT", "app", doctor.app(t))
	doctor.shows(t, 200, "look here again", "Waits for another person", "Patient p3", "unconscious &lt;b&gt;&amp; alone", "Emergency treatment")

	officer := s.visit(t, "officer", "account")
	officer.shows(t, 200, `/emergencies"`)
	officer.send("GET", "emergencies", "")
	officer.shows(t, 200, "To be approved", "Practitioner/physician, patient p3", "unconscious &lt;b&gt;&amp; alone")
	officer.push(t, "approve")
	officer.shows(t, 200, "It is approved", "Open now")
	if !s.seesPatient(t, bearer, "p3") || s.seesPatient(t, bearer, "p2") {
		t.Error("the app does not show the record, or another one")
	}
	if _, other := s.working(t, "physician"); s.seesPatient(t, other, "p3") {
		t.Error("another login with the app shows it")
	}

	doctor.send("GET", "emergency", "")
	doctor.shows(t, 200, "Open until", "less than 10 more minutes")
	doctor.push(t, "end")
	doctor.shows(t, 200, "given back", "waits for its review")
	if s.seesPatient(t, bearer, "p3") {
		t.Error("what was given back is still there")
	}
	officer.send("GET", "emergencies", "")
	officer.push(t, "review")
	officer.shows(t, 400, "say what you found")
	officer.push(t, "review", "outcome", "justified", "note", "so says the ambulance")
	officer.shows(t, 200, "It is reviewed", "Nothing waits for you")
	doctor.send("GET", "emergency", "")
	doctor.shows(t, 200, "Ended and reviewed: justified")
}

// BG-01: a page calls by name whom the policy lets who looks see, which is in the
// audit trail as any read is, and others by their id.
func TestThePagesAboutEmergenciesCallByNameWhomTheUserMaySee(t *testing.T) {
	s := newSite(t)
	s.put(t, "Patient/p3", `{"resourceType":"Patient","id":"p3","name":[{"family":"Cedar","given":["Ida"]}]}`)
	s.put(t, "Practitioner/physician", `{"resourceType":"Practitioner","id":"physician","name":[{"text":"Dr. Ann Okoro"}]}`)
	s.clinic(t, tenant.BreakGlass{Mode: tenant.GlassApproved, Minutes: 30})
	hash, err := smart.HashPassword(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	s.account(t, store.Account{Login: "both", Hash: hash, User: "Practitioner/both", Person: smart.Person{Roles: []string{"privacy", "billing"}}}, nil)
	doctor, _ := s.working(t, "physician")
	doctor.send("GET", "emergency", "")
	doctor.submit(t, "patient", "p3", "reason", "x", "minutes", "10", "purpose", "BTG", "app", doctor.app(t))
	doctor.shows(t, 200, "Patient p3")
	officer, both := s.visit(t, "officer", "emergencies"), s.visit(t, "both", "emergencies")
	officer.shows(t, 200, "Dr. Ann Okoro (Practitioner/physician), patient p3")
	both.shows(t, 200, "Dr. Ann Okoro (Practitioner/physician), patient Ida Cedar (p3)")
	for who, p := range map[string]*person{"the officer": officer, "the doctor": doctor} {
		if strings.Contains(p.page.Body.String(), "Cedar") {
			t.Errorf("%s sees the name of the patient", who)
		}
	}
	_, auditor := s.working(t, "officer")
	for user, want := range map[string]int{"officer": 0, "both": 1} {
		if got := s.readBy(t, auditor, user, "Patient/p3"); got != want {
			t.Errorf("the trail says that %s read the patient %d times, not %d", user, got, want)
		}
	}
}

// readBy counts the entries of the audit trail by which the user read a resource.
func (s *site) readBy(t *testing.T, auditor, user, ref string) (n int) {
	t.Helper()
	g, err := s.grant(t, s.slug, auditor)
	if err == nil {
		err = s.DB.View(t.Context(), g, func(v *store.View) error {
			page, err := v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "_count=1000&agent=Practitioner/"+user), store.Cursor{})
			if err != nil {
				return err
			}
			for _, e := range page.Entries {
				if e.Interaction == fhir.Read && e.Entity.String() == ref {
					n++
				}
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// BG-01: what the pages do they do with the rights of who is logged in, and no
// more than the operations let them.
func TestThePagesAboutEmergenciesGiveNobodyMoreThanTheyMay(t *testing.T) {
	s := newSite(t)
	for _, id := range []string{"p3", "p4"} {
		s.put(t, "Patient/"+id, `{"resourceType":"Patient","id":"`+id+`","identifier":[{"system":"urn:`+id+`","value":"same"}]}`)
	}
	s.clinic(t, tenant.BreakGlass{Mode: tenant.GlassImmediate, Minutes: 30})
	if w := s.person().send("GET", "emergency", ""); !strings.Contains(w.Body.String(), "Log in") {
		t.Errorf("who has not logged in sees %s", w.Body)
	}
	clerk, _ := s.working(t, "clerk")
	for page, words := range map[string]string{"emergency": "does not let you ask", "emergencies": "for those who approve"} {
		clerk.send("GET", page, "")
		clerk.shows(t, 200, words)
	}
	clerk.send("GET", "account", "")
	if strings.Contains(clerk.page.Body.String(), "emergenc") {
		t.Error("the account leads a clerk to the pages")
	}

	doctor, bearer := s.working(t, "physician")
	doctor.send("GET", "emergency", "")
	app := doctor.app(t)
	form := func(change ...string) []string {
		return append([]string{"patient", "p3", "reason", "x", "minutes", "10", "purpose", "BTG", "app", app}, change...)
	}
	for _, tt := range []struct {
		change string
		to     string
		want   int
		words  string
	}{
		{"patient", "", 400, "which patient"},
		{"patient", "nobody", 404, "no such patient"},
		{"patient", "same", 400, "several patients"},
		{"patient", "urn:p3|nobody", 404, "no such patient"},
		{"reason", " ", 400, "say why"},
		{"reason", strings.Repeat("x", store.MaxGlassText+1), 400, "at most"},
		{"minutes", "x", 400, "how many minutes"},
		{"minutes", "31", 403, "30 minutes at most"},
		{"purpose", "TREAT", 403, "the tenant allows this for"},
		{"app", "OF-SOMEBODY-ELSE", 400, "choose the app"},
	} {
		doctor.submit(t, form(tt.change, tt.to)...)
		doctor.shows(t, tt.want, "That was not done", tt.words)
	}
	if !strings.Contains(doctor.page.Body.String(), `value="p3"`) {
		t.Error("what was typed is gone")
	}
	clerk.send("GET", "emergency", "")
	other := s.person()
	other.cookies = clerk.cookies
	other.page = doctor.page // the form of another
	other.submit(t, form()...)
	other.shows(t, 400, "made for another browser")

	doctor.submit(t, form("patient", "urn:p3|same")...)
	doctor.shows(t, 200, "you see it now", "Patient p3")
	if !s.seesPatient(t, bearer, "p3") || s.seesPatient(t, bearer, "p4") {
		t.Error("it is not the patient of the identifier")
	}
	id := pushes.FindStringSubmatch(doctor.page.Body.String())[2]
	rival, _ := s.working(t, "doctor") // whose role lets them do nothing
	for _, p := range []*person{clerk, rival} {
		p.send("GET", "emergency", "")
		if strings.Contains(p.page.Body.String(), id) {
			t.Error("another sees it in their list")
		}
		p.send("GET", "account", "")
	}
	second := s.visit(t, "physician", "emergency") // the same person, at another desk
	second.push(t, "end")
	second.shows(t, 200, "given back")
	if s.seesPatient(t, bearer, "p3") {
		t.Error("it goes on")
	}
	second.submit(t, "end", id)
	second.shows(t, 409, "That was not done", "ended already")

	officer := s.visit(t, "officer", "emergencies")
	officer.shows(t, 200, "To be reviewed")
	officer.submit(t, "approve", id)
	officer.shows(t, 409, "That was not done")
	if w := officer.send("POST", "emergencies", "approve="+id); w.Code != http.StatusBadRequest {
		t.Errorf("a form of nobody's: %d", w.Code)
	}
}

// BG-02: a glass is broken for a login, and ends with it: also in the app's next token,
// and the trail says so.
func TestABrokenGlassEndsWithTheLogin(t *testing.T) {
	s := newSite(t)
	s.put(t, "Patient/p3", `{"resourceType":"Patient","id":"p3"}`)
	s.clinic(t, tenant.BreakGlass{Mode: tenant.GlassImmediate, ReviewWithin: 60})
	ends := store.GlassEnds{DB: s.DB, Every: time.Millisecond, Tenants: func(context.Context) ([]*tenant.Tenant, error) {
		return []*tenant.Tenant{s.Tenant(t, s.slug)}, nil
	}}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { ends.Run(ctx) })
	defer done.Wait()
	defer stop()
	for way, end := range map[string]func(p *person, approval string){
		"logging out": func(p *person, _ string) {
			p.send("GET", "account", "")
			p.submit(t, "answer", "logout")
		},
		"taking it back from the app": func(p *person, approval string) {
			p.send("GET", "account", "")
			p.submit(t, "revoke", approval)
		},
	} {
		t.Run(way, func(t *testing.T) {
			doctor, bearer := s.working(t, "physician")
			doctor.send("GET", "emergency", "")
			app := doctor.app(t)
			doctor.submit(t, "patient", "p3", "reason", "x", "minutes", "10", "purpose", "BTG", "app", app)
			doctor.shows(t, 200, "you see it now")
			id := pushes.FindStringSubmatch(doctor.page.Body.String())[2]
			if !s.seesPatient(t, bearer, "p3") {
				t.Fatal("it is not broken")
			}
			end(doctor, app)
			if s.good(t, bearer) {
				t.Error("the token is still good")
			}
			if _, next := s.working(t, "physician"); s.seesPatient(t, next, "p3") {
				t.Error("the next login shows it")
			}
			g := store.GlassOutline{}
			for limit := time.Now().Add(time.Minute); g.State != store.GlassEnded && time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
				var err error
				if g, err = s.Registry.GlassOutline(t.Context(), s.Tenant(t, s.slug), id); err != nil {
					t.Fatal(err)
				}
			}
			if g.State != store.GlassEnded || g.EndedBy != "" {
				t.Errorf("the record says %+v", g)
			}
		})
	}
}
