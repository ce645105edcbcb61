package launch_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// reasons returns what the tenant's trail says, newest first, of what is about
// the authorization server.
func (s *site) reasons(t testing.TB) (list []audit.Entry) {
	t.Helper()
	err := s.DB.View(t.Context(), s.Grant(t, s.slug, "system/AuditEvent.rs"), func(v *store.View) error {
		page, err := v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "_count=1000"), store.Cursor{})
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if strings.Contains(e.Origin.Method, "/auth/") {
				list = append(list, e)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (s *site) audited(t testing.TB, user, reason string) bool {
	t.Helper()
	return slices.ContainsFunc(s.reasons(t), func(e audit.Entry) bool {
		return e.Agent.User == user && strings.HasPrefix(e.Reason, reason)
	})
}

// Who tries to log in learns nothing of who there is: the answer is the same
// for a login that nobody has, and so is the time that it takes, as a password
// is hashed either way.
func TestALoginThatFailsTellsNothing(t *testing.T) {
	s := newSite(t)
	var answers []string
	for _, login := range []string{"doctor", "nobody", "NOBODY", "a b", ""} {
		p := s.person()
		p.send("GET", "account", "")
		p.submit(t, "login", login, "password", "wrong password!")
		if p.page.Code != 401 {
			t.Errorf("%q: %d", login, p.page.Code)
		}
		answers = append(answers, inputTag.ReplaceAllString(p.page.Body.String(), ""))
	}
	for _, a := range answers {
		if a != answers[0] {
			t.Error("the answers differ")
		}
	}
	if !s.audited(t, "Practitioner/dr1", "login: access_denied, the password is wrong") || !s.audited(t, "", "login: access_denied, no such user") {
		t.Errorf("audited: %+v", s.reasons(t))
	}
	for _, e := range s.reasons(t) {
		if strings.Contains(strings.ToLower(e.Reason), "nobody") || e.Outcome != audit.Serious {
			t.Errorf("audited: %+v", e)
		}
	}
}

// A login that fails five times has to wait, with the right password too, and
// so has one that nobody has; an address has to wait after fifty.
func TestWhoFailsTooOftenHasToWait(t *testing.T) {
	s := newSite(t)
	for _, login := range []string{"doctor", "nobody"} {
		var wg sync.WaitGroup
		for range 8 { // at once: each is counted before it is looked at
			p := s.person()
			p.send("GET", "account", "")
			wg.Go(func() { p.submit(t, "login", login, "password", "wrong password!") })
		}
		wg.Wait()
	}
	p := s.person()
	p.send("GET", "account", "")
	if p.logIn(t, "doctor"); p.page.Code != 401 || !s.audited(t, "Practitioner/dr1", "login: access_denied, locked out") {
		t.Errorf("not locked out: %d %+v", p.page.Code, s.reasons(t))
	}
	p.send("GET", "account", "")
	if p.logIn(t, "patient"); p.page.Code != 200 {
		t.Errorf("another user has to wait: %d", p.page.Code)
	}
	tn := s.Tenant(t, s.slug)
	allowed := 0
	for i := range 60 {
		if ok, err := s.Registry.Attempt(t.Context(), tn, "guess"+string(rune('a'+i)), "198.51.100.9"); err != nil {
			t.Fatal(err)
		} else if ok {
			allowed++
		}
	}
	if allowed != 50 {
		t.Errorf("an address tries %d logins in a row", allowed)
	}
}

func TestAOneTimeCodeIsAskedForAndGoodOnce(t *testing.T) {
	s := newSite(t)
	tn := s.Tenant(t, s.slug)
	a, err := s.Registry.Account(t.Context(), tn, "doctor")
	if err != nil {
		t.Fatal(err)
	}
	secret := smart.NewTOTP()
	s.account(t, a, secret)
	try := func(code string) int {
		p := s.person()
		p.send("GET", "account", "")
		p.submit(t, "login", "doctor", "password", password, "code", code)
		return p.page.Code
	}
	for _, code := range []string{"", "000000", smart.TOTP(secret, time.Now().Add(-5*time.Minute))} {
		if got := try(code); got != 401 {
			t.Errorf("code %q: %d", code, got)
		}
	}
	now := smart.TOTP(secret, time.Now())
	if got := try(now); got != 200 {
		t.Fatalf("the code of now: %d", got)
	}
	if got := try(now); got != 401 {
		t.Errorf("a code is good twice: %d", got)
	}
}

// The forms of our pages are good in the browser that they were made for, on
// our own pages, once the user has logged in there.
func TestAFormIsGoodInItsOwnBrowserOnly(t *testing.T) {
	s := newSite(t)
	p := s.person()
	p.send("GET", "authorize?"+s.ask().Encode(), "")
	before := p.cookies["__Host-cordon-"+s.slug]
	logins := p.page
	p.header.Set("Sec-Fetch-Site", "cross-site")
	if p.logIn(t, "doctor"); p.page.Code != 400 {
		t.Errorf("a form of another site logs in: %d", p.page.Code)
	}
	p.header, p.page = http.Header{}, logins
	thief := s.person()
	thief.send("GET", "account", "")
	thief.page = logins
	if thief.logIn(t, "doctor"); thief.page.Code != 400 {
		t.Errorf("a form of another browser logs in: %d", thief.page.Code)
	}
	p.logIn(t, "doctor")
	c := p.page.Result().Cookies()
	if len(c) != 1 || c[0].Value == before || !c[0].Secure || !c[0].HttpOnly || c[0].Path != "/" || c[0].Domain != "" || c[0].SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie of a session: %+v", c)
	}
	patients := p.page
	p.page = logins
	if p.submit(t); p.page.Code != 400 {
		t.Errorf("the form from before the login is good after it: %d", p.page.Code)
	}
	thief.send("GET", "account", "")
	thief.logIn(t, "patient")
	thief.page = patients
	if thief.submit(t, "patient", "p2"); thief.page.Code != 400 {
		t.Errorf("another user chooses in it: %d", thief.page.Code)
	}
	p.page = patients
	skipped := strings.ReplaceAll(p.page.Body.String(), "/patient\"", "/consent\"")
	p.page.Body.Reset()
	p.page.Body.WriteString(skipped)
	if p.submit(t, "answer", "allow"); p.page.Code != 400 {
		t.Errorf("a page is skipped: %d", p.page.Code)
	}
}

// A page runs nothing, loads nothing and is shown in no frame.
func TestAPageIsGuarded(t *testing.T) {
	s := newSite(t)
	p := s.person()
	p.send("GET", "authorize?"+s.ask("state", `"><script>alert(1)</script>`).Encode(), "")
	h := p.page.Header()
	csp := h.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self' https://app.example", "style-src 'sha256-"} {
		if !strings.Contains(csp, want) {
			t.Errorf("%q lacks %q", csp, want)
		}
	}
	if h.Get("Cache-Control") != "no-store" || h.Get("X-Frame-Options") != "DENY" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers: %v", h)
	}
	if strings.Contains(p.page.Body.String(), "<script") || strings.Contains(p.page.Body.String(), " style=") {
		t.Errorf("the page: %s", p.page.Body)
	}
}

// Every answer is in the trail of the tenant, under the name of the user.
func TestALoginIsAuditedFromTheFirstPageToTheToken(t *testing.T) {
	s := newSite(t)
	first := s.redeem(t, s.code(t))
	s.refresh(t, first.RefreshToken)
	for _, reason := range []string{"login: logged in", "patient", "consent: allowed: ", "token"} {
		if !s.audited(t, "Practitioner/dr1", reason) {
			t.Errorf("%q is not in the trail: %+v", reason, s.reasons(t))
		}
	}
	for _, e := range s.reasons(t) {
		if strings.Contains(e.Reason, "Ashgrove") || strings.Contains(e.Origin.Method, "?state") {
			t.Errorf("the trail holds %+v", e)
		}
	}
}

// What somebody did is one story, first to last, from the login at the authorization
// server to the record at the FHIR API. IR-08
func TestWhatAnActorDidIsInOrderAcrossServices(t *testing.T) {
	s := newSite(t)
	token := s.redeem(t, s.code(t)).AccessToken
	g, err := s.verifiers[1].Grant(t.Context(), s.slug, token, audit.Origin{Trail: audit.NewTrail()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.DB.Read(t.Context(), g, fhir.Ref{Type: "Patient", ID: "p1"}); err != nil {
		t.Fatal(err)
	}
	want := []string{"login: logged in", "patient", "consent: allowed: ", "token", "read Patient/p1"}
	at := 0
	err = s.DB.View(t.Context(), s.Grant(t, s.slug, "system/AuditEvent.rs"), func(v *store.View) error {
		page, err := v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "agent=Practitioner/dr1&_sort=date&_count=100"), store.Cursor{})
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			did := e.Reason
			if e.Interaction == fhir.Read {
				did = "read " + e.Entity.String()
			}
			if at < len(want) && strings.HasPrefix(did, want[at]) {
				at++
			}
		}
		return nil
	})
	if err != nil || at < len(want) {
		t.Errorf("from %q on it is not told: %v", want[min(at, len(want)-1)], err)
	}
}
