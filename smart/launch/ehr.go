package launch

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// launchLife is how long an app may take to take up a launch.
const launchLife = 5 * time.Minute

// A launchAnswer says how to open the app.
type launchAnswer struct {
	Launch    string `json:"launch"`
	Issuer    string `json:"iss"`
	URL       string `json:"launch_url,omitzero"`
	ExpiresIn int    `json:"expires_in"`
}

// openLaunch lets an EHR say where its user is, before it opens an app there.
// The EHR proves itself as at the token endpoint, in a form with the context.
// https://hl7.org/fhir/smart-app-launch/app-launch.html#launch-app-ehr-launch
func (s *Server) openLaunch(ctx context.Context, c *call) error {
	form, l, err := s.fromClient(ctx, c)
	if err != nil {
		return err
	}
	if l.public() || !l.client.MayOpenLaunches() {
		return unauthorizedClient("the client is not registered to open launches")
	}
	about, err := readContext(form)
	if err != nil {
		return err
	}
	app, err := s.cfg.Clients.Client(ctx, l.tenant, form.Get("app"))
	if errors.Is(err, smart.ErrUnknownClient) || err == nil && (app.Disabled || len(app.RedirectURIs) == 0) {
		return invalidRequest("app is not a client that users can open")
	}
	if err != nil {
		return err
	}
	handle := newSecret()
	opened := store.Launch{
		Opener: l.client.ID, App: app.ID, Subject: form.Get("user"), Context: about, Expires: s.cfg.Now().Add(launchLife),
	}
	if len(opened.Subject) > maxName {
		return invalidRequest("user is too long")
	}
	if err := s.cfg.Registry.OpenLaunch(ctx, l.tenant, opened, handle); err != nil {
		return err
	}
	c.note = "opened app " + app.ID
	a := launchAnswer{Launch: handle, Issuer: s.cfg.Base(c.slug), ExpiresIn: int(launchLife / time.Second)}
	if app.LaunchURL != "" {
		a.URL = launchURL(app.LaunchURL, a.Issuer, handle)
	}
	c.answer = a
	return nil
}

// launchURL adds what tells the app that it is opened.
func launchURL(app, issuer, handle string) string {
	u, err := url.Parse(app)
	if err != nil {
		return ""
	}
	q := u.Query()
	q.Set("iss", issuer)
	q.Set("launch", handle)
	u.RawQuery = q.Encode()
	return u.String()
}

// intent is a word that apps and the EHR have agreed on.
var intent = regexp.MustCompile(`^[A-Za-z0-9._:/#-]{0,200}$`)

// readContext reads the launch context that an EHR gives.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#launch-context-arrives-with-your-access_token
func readContext(form url.Values) (store.LaunchContext, error) {
	about := store.LaunchContext{
		Patient: form.Get("patient"), Encounter: form.Get("encounter"), Intent: form.Get("intent"), StyleURL: form.Get("smart_style_url"),
	}
	if about.Patient != "" && !fhir.ValidID(about.Patient) || about.Encounter != "" && !fhir.ValidID(about.Encounter) {
		return about, invalidRequest("patient and encounter have to be ids of resources")
	}
	if about.Encounter != "" && about.Patient == "" {
		return about, invalidRequest("an encounter needs its patient")
	}
	if !intent.MatchString(about.Intent) {
		return about, invalidRequest("intent has to be a word")
	}
	if about.StyleURL != "" && !absolute(about.StyleURL) {
		return about, invalidRequest("smart_style_url has to be an absolute URL")
	}
	switch form.Get("need_patient_banner") {
	case "":
	case "true", "false":
		needed := form.Get("need_patient_banner") == "true"
		about.Banner = &needed
	default:
		return about, invalidRequest("need_patient_banner has to be true or false")
	}
	var err error
	about.FHIRContext, err = readFHIRContext(form.Get("fhirContext"))
	return about, err
}

func absolute(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && len(text) <= maxParameter
}

// A contextItem is what an app is to look at beside the patient.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#fhircontext-exp
type contextItem struct {
	Reference  string         `json:"reference,omitzero"`
	Canonical  string         `json:"canonical,omitzero"`
	Identifier jsontext.Value `json:"identifier,omitzero"`
	Type       string         `json:"type,omitzero"`
	Role       *string        `json:"role,omitzero"`
}

// readFHIRContext reads a list of objects. It must not say in another way who
// the patient or which the encounter is.
func readFHIRContext(text string) (jsontext.Value, error) {
	if text == "" {
		return nil, nil
	}
	malformed := invalidRequest("fhirContext has to be a list of objects with reference, canonical or identifier")
	var items []contextItem
	if len(text) > maxParameter || json.Unmarshal([]byte(text), &items, json.RejectUnknownMembers(true)) != nil || len(items) == 0 {
		return nil, malformed
	}
	for _, item := range items {
		if item.Reference == "" && item.Canonical == "" && item.Identifier == nil || item.Role != nil && *item.Role == "" {
			return nil, malformed
		}
		if item.Reference == "" {
			continue
		}
		ref, err := fhir.ParseRef(item.Reference)
		if err != nil {
			return nil, malformed
		}
		if launches := item.Role == nil || *item.Role == "launch"; launches && (ref.Type == "Patient" || ref.Type == "Encounter") {
			return nil, invalidRequest("the patient and the encounter are parameters of their own")
		}
	}
	value := jsontext.Value(text)
	if value.Compact() != nil {
		return nil, malformed
	}
	return value, nil
}
