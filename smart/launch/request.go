package launch

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// A request is what an app asks of a user, and what has been settled of it. It
// goes from page to page in the forms, sealed, so that the server keeps nothing
// for those who never log in, and nobody can change it on the way.
// https://hl7.org/fhir/smart-app-launch/app-launch.html#obtain-authorization-code
type request struct {
	Client      string    `json:"client"`
	RedirectURI string    `json:"redirect"`
	State       string    `json:"state"`
	Scope       string    `json:"scope"`
	Nonce       string    `json:"nonce,omitzero"`
	Challenge   string    `json:"challenge"`
	Launch      string    `json:"launch,omitzero"` // handle of an EHR launch
	Begun       time.Time `json:"begun"`

	// Again says that the app wants the user to prove anew who they are.
	Again bool `json:"again,omitzero"`
	// Session is that in which the request was shown, "" before the login.
	Session string `json:"session,omitzero"`
	// Context is the context as far as it is known.
	Context store.LaunchContext `json:"context,omitzero"`
}

// requestLife is how long a user may take over the pages of a request.
const requestLife = 30 * time.Minute

// The pages that a sealed request is for.
type page string

const (
	loginPage     page = "login"
	patientPage   page = "patient"
	encounterPage page = "encounter"
	consentPage   page = "consent"
	accountPage   page = "account"
	// The pages about emergency access.
	emergencyPage   page = "emergency"
	emergenciesPage page = "emergencies"
	awayPage        page = "away" // at an identity provider
)

// maxParameter bounds the parameters that come back to the app.
const maxParameter = 2 << 10

// readRequest reads and checks what an app asks. An error that is not a
// *refusal must be shown here: before the app and its address are known to
// belong together nobody is sent anywhere.
func (s *Server) readRequest(ctx context.Context, c *call, l *login, form url.Values) (request, error) {
	var err error
	if *l, err = s.registered(ctx, c, form.Get("client_id")); err != nil {
		var f *fault
		if errors.As(err, &f) {
			return request{}, invalidRequest("the app is not known here")
		}
		return request{}, err
	}
	r := request{
		Client: l.client.ID, RedirectURI: form.Get("redirect_uri"), State: form.Get("state"), Scope: form.Get("scope"),
		Nonce: form.Get("nonce"), Challenge: form.Get("code_challenge"), Launch: form.Get("launch"), Begun: s.cfg.Now(),
	}
	if !slices.Contains(l.client.RedirectURIs, r.RedirectURI) {
		return request{}, invalidRequest("the address to go back to is not one that the app has registered")
	}
	// A token for another server than the app believes to speak to must not be.
	aud := form.Get("aud")
	if aud == "" {
		aud = form.Get("resource")
	}
	if strings.TrimSuffix(aud, "/") != s.cfg.Base(c.slug) {
		s.cfg.Alert(smart.Alert{Rule: smart.ForeignServer, Tenant: c.slug, Addressed: c.slug, Client: r.Client, Address: c.origin.Address, Request: c.origin.RequestID})
		return request{}, invalidRequest("aud is not the FHIR base URL of this server")
	}
	return r, r.check(form)
}

// check holds what is asked to the standard, once the app can be told.
func (r request) check(form url.Values) error {
	switch {
	case r.State == "" || len(r.State) > maxParameter:
		return r.refuse("invalid_request", "state is missing or too long")
	case len(r.Nonce) > maxParameter, len(r.Launch) > maxName:
		return r.refuse("invalid_request", "nonce or launch is too long")
	case form.Get("response_type") != "code":
		return r.refuse("unsupported_response_type", "response_type has to be code")
	case form.Get("response_mode") != "" && form.Get("response_mode") != "query":
		return r.refuse("invalid_request", "response_mode has to be query")
	case form.Get("code_challenge_method") != "S256" || len(r.Challenge) != challengeLength || !isBase64URL(r.Challenge):
		return r.refuse("invalid_request", "PKCE with code_challenge_method S256 is required")
	case form.Has("request"), form.Has("request_uri"):
		return r.refuse("request_not_supported", "request objects are not supported")
	case r.Scope == "":
		return r.refuse("invalid_scope", "scope is missing")
	}
	return nil
}

// challengeLength is that of a SHA-256 in base64url.
const challengeLength = 43

func isBase64URL(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	})
}

// A refusal is an error that the app is told, by way of the user's browser.
// https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2.1
type refusal struct {
	to        request
	code, why string // constants
}

func (r *refusal) Error() string { return r.code + ": " + r.why }

func (r request) refuse(code, why string) *refusal { return &refusal{r, code, why} }

// denied is the refusal of a user, or of what they may not have.
func (r request) denied(why string) *refusal { return r.refuse("access_denied", why) }

// seal returns the request for a form that this browser alone can post, to the
// page and no other.
func (r request) seal(set *keys.Set, to page, browser string) (string, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	sealed, err := set.Seal(nil, keys.Cursor, text, formAD(to, browser))
	return b64.EncodeToString(sealed), err
}

// openRequest opens what seal made. What cannot be opened is as good as never
// sent: the user begins again in the app.
func openRequest(set *keys.Set, to page, browser, text string, now time.Time) (request, error) {
	stale := invalidRequest("the page is too old or was made for another browser; go back to the app and begin again")
	sealed, err := b64.DecodeString(text)
	if err != nil || browser == "" {
		return request{}, stale
	}
	plain, err := set.Open(keys.Cursor, sealed, formAD(to, browser))
	if err != nil {
		return request{}, stale
	}
	var r request
	if err := json.Unmarshal(plain, &r); err != nil || now.After(r.Begun.Add(requestLife)) {
		return request{}, stale
	}
	return r, nil
}

// opened reads a form of ours that carries a request.
func (s *Server) opened(ctx context.Context, c *call, from page) (form url.Values, b *browser, r request, err error) {
	if form, err = readForm(c.http); err != nil {
		return
	}
	if err = own(c.http); err != nil {
		return
	}
	if b, err = s.browser(ctx, c); err != nil {
		return
	}
	r, err = openRequest(b.keys, from, b.secret, form.Get("request"), s.cfg.Now())
	return
}

// posted is opened for a user who has logged in since the request was shown to
// them.
func (s *Server) posted(ctx context.Context, c *call, from page) (form url.Values, b *browser, l login, r request, err error) {
	if form, b, r, err = s.opened(ctx, c, from); err != nil {
		return
	}
	if !b.loggedIn() || r.Session != b.session.ID {
		err = invalidRequest("the session has ended; go back to the app and begin again")
		return
	}
	l, err = s.registered(ctx, c, r.Client)
	return
}

func formAD(to page, browser string) []byte { return []byte("auth|" + string(to) + "|" + browser) }

// offer is what of the request the app is registered for, and the user is
// shown.
func (r request) offer(client smart.Client) (words []string, scopes []smart.Scope, err error) {
	asked, resources, ok := smart.SplitScopes(r.Scope)
	if !ok {
		return nil, nil, r.refuse("invalid_scope", "too many scopes")
	}
	mayWords, may := client.AllowedToUsers()
	for _, w := range asked {
		if slices.Contains(mayWords, w) {
			words = append(words, w)
		}
	}
	scopes = slices.DeleteFunc(smart.Narrow(resources, may), smart.Scope.OfSystem)
	if len(words) == 0 && len(scopes) == 0 {
		return nil, nil, r.refuse("invalid_scope", "the app may have none of the scopes")
	}
	return words, scopes, nil
}

// needsPatient reports whether there must be a patient in context.
func needsPatient(words []string, scopes []smart.Scope) bool {
	return slices.Contains(words, "launch/patient") || slices.ContainsFunc(scopes, smart.Scope.OfPatient)
}

// wantsEncounter reports whether the user is to choose a visit. An EHR that opens
// the app knows which one it is, or that it is none.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#requesting-context-with-scopes
func (r request) wantsEncounter(words []string) bool {
	return r.Launch == "" && slices.Contains(words, "launch/encounter")
}
