package launch

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// authorize begins what an app asks of a user.
// https://hl7.org/fhir/smart-app-launch/app-launch.html#obtain-authorization-code
func (s *Server) authorize(ctx context.Context, c *call) error {
	form, err := readAuthorize(c.http)
	if err != nil {
		return err
	}
	var l login
	r, err := s.readRequest(ctx, c, &l, form)
	if err != nil {
		return err
	}
	b, err := s.browser(ctx, c)
	if err != nil {
		return err
	}
	r.Again = mustLogIn(form, b.session, s.cfg.Now())
	if b.loggedIn() && !r.Again {
		if form.Get("prompt") == "none" {
			return r.refuse("consent_required", "the user has to be asked")
		}
		return s.next(ctx, c, b, l, r)
	}
	if form.Get("prompt") == "none" {
		return r.refuse("login_required", "the user has to log in")
	}
	return s.showLogin(ctx, c, b, l, r, "")
}

// readAuthorize reads the parameters, which may come either way.
// https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest
func readAuthorize(r *http.Request) (url.Values, error) {
	if r.Method == http.MethodPost {
		return readForm(r)
	}
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalidRequest("the parameters are malformed")
	}
	for _, values := range form {
		if len(values) > 1 {
			return nil, invalidRequest("a parameter is there twice")
		}
	}
	return form, nil
}

// mustLogIn reports whether the app wants the user to log in again.
func mustLogIn(form url.Values, was store.Session, now time.Time) bool {
	if slices.Contains(strings.Fields(form.Get("prompt")), "login") {
		return true
	}
	age, err := strconv.Atoi(form.Get("max_age"))
	return err == nil && now.Sub(was.Time) > time.Duration(min(max(age, 0), 1<<30))*time.Second
}

// next shows a user who has logged in what is to be settled next: whose record
// it is about, and then whether they agree.
func (s *Server) next(ctx context.Context, c *call, b *browser, l login, r request) error {
	r.Session = b.session.ID
	if b.session.Source != store.LocalSource {
		r.Scope = withoutOffline(r.Scope)
	}
	words, scopes, err := r.offer(l.client)
	if err != nil {
		return err
	}
	if r, err = s.takeContext(ctx, b, r); err != nil {
		return err
	}
	if r.Context.Patient == "" && (needsPatient(words, scopes) || r.wantsEncounter(words)) {
		if patient, ok := strings.CutPrefix(b.session.User, "Patient/"); ok {
			r.Context.Patient = patient
		} else {
			return s.showPatients(ctx, c, b, l, r, "")
		}
	}
	err = s.aboutPatient(ctx, c, b, l, r)
	if errors.Is(err, errNotVisible) {
		return r.denied("the user may not see what the launch is about")
	}
	return err
}

// aboutPatient goes on when it is settled whose record it is about: to the visit,
// if the app wants one and the user can choose it, and then to the consent.
func (s *Server) aboutPatient(ctx context.Context, c *call, b *browser, l login, r request) error {
	words, _, err := r.offer(l.client)
	if err != nil {
		return err
	}
	if r.wantsEncounter(words) {
		return s.showEncounters(ctx, c, b, l, r)
	}
	return s.showConsent(ctx, c, b, l, r)
}

// takeContext looks at the launch that the request names. The approval takes
// it up.
func (s *Server) takeContext(ctx context.Context, b *browser, r request) (request, error) {
	if r.Launch == "" {
		return r, nil
	}
	launched, err := s.cfg.Registry.Launch(ctx, b.tenant, r.Client, r.Launch)
	switch {
	case errors.Is(err, store.ErrNoLaunch):
		return r, r.refuse("invalid_request", "the launch is not known, was used or is too old")
	case err != nil:
		return r, err
	case launched.Subject != "" && launched.Subject != subjectOf(b.session.Identity):
		return r, r.denied("the launch is for another user")
	}
	if r.Context.Patient == "" { // else the user has chosen one, as the launch had none
		r.Context = launched.Context
	}
	return r, nil
}

// redirect sends the browser back to the app.
func (r request) redirect(issuer string, answer url.Values) string {
	answer.Set("state", r.State)
	answer.Set("iss", issuer) // https://www.rfc-editor.org/rfc/rfc9207
	sign := "?"
	if strings.Contains(r.RedirectURI, "?") {
		sign = "&"
	}
	return r.RedirectURI + sign + answer.Encode()
}

// identityScopes are the scopes of the Grant with which the server looks at
// records for a user who chooses one.
var identityScopes = []string{"user/Patient.rs", "user/Encounter.rs"}

// grantOf earns a Grant for the user as any app would: what they may not see
// they cannot choose.
func (s *Server) grantOf(ctx context.Context, c *call, b *browser, l login) (*smart.Grant, error) {
	return s.grantFor(ctx, c, b, l, strings.Join(identityScopes, " "))
}

// grantFor earns a Grant for the user at the login, for a minute.
func (s *Server) grantFor(ctx context.Context, c *call, b *browser, l login, scopes string) (*smart.Grant, error) {
	t := s.tokenOf(b.tenant.Slug.String(), b.session.Identity, l.client, s.cfg.Now(), time.Minute)
	t.Scope = scopes
	return s.grantOfToken(ctx, c, b, t)
}

// grantOfToken earns the Grant of a token that nobody else gets.
func (s *Server) grantOfToken(ctx context.Context, c *call, b *browser, t smart.Token) (*smart.Grant, error) {
	bearer, err := t.Sign(b.keys)
	if err != nil {
		return nil, err
	}
	o := c.origin
	o.Trail = c.origin.Trail.Entry()
	return s.cfg.Verifier.Grant(ctx, c.slug, bearer, o)
}
