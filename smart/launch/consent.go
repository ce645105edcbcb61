package launch

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// codeLife is how long an app may take to redeem a code.
const codeLife = time.Minute

// A choice is one thing that a user may grant or not.
type choice struct {
	Field string // of the form
	Scope string
	Words string
	On    bool // unless the user says otherwise
	// Part says that it is a part of the choice before that is not one, for
	// users who do not want to grant all of it.
	Part bool
}

// consentForm is what the consent page shows.
type consentForm struct {
	frame
	App       string
	Sealed    string
	User      string
	Patient   patient
	Encounter encounter
	Records   []choice // what it may do with records
	Identity  []choice // what it learns of the user, and when it may come back
	Home      string   // the host that the user goes back to
}

// showConsent asks the user whether the app may have what it asks for, as far
// as they want.
func (s *Server) showConsent(ctx context.Context, c *call, b *browser, l login, r request) error {
	words, scopes, err := r.offer(l.client)
	if err != nil {
		return err
	}
	who, at, err := s.visible(ctx, c, b, l, r.Context)
	if err != nil {
		return err
	}
	sealed, err := r.seal(b.keys, consentPage, b.secret)
	if err != nil {
		return err
	}
	f := consentForm{
		frame: s.frame(b, "Allow "+appName(l.client)+"?"), App: appName(l.client), Sealed: sealed, User: b.session.Subject,
		Patient: who, Encounter: at, Home: hostOf(r.RedirectURI),
	}
	f.Records, f.Identity = choices(words, scopes)
	c.show(consent(f), r)
	return nil
}

// choices are what a user can grant of the words and scopes.
func choices(words []string, scopes []smart.Scope) (records, identity []choice) {
	for i, sc := range scopes {
		field := "s" + strconv.Itoa(i)
		records = append(records, choice{Field: field, Scope: sc.String(), Words: sc.Words(), On: true})
		for j, part := range sc.Parts() {
			records = append(records, choice{Field: field + "." + strconv.Itoa(j), Scope: part.String(), Words: part.Words(), Part: true})
		}
	}
	for _, w := range words {
		if text := inWords[w]; text != "" {
			identity = append(identity, choice{Field: w, Scope: w, Words: text, On: true})
		}
	}
	return records, identity
}

// inWords says what the scopes mean that are not for resources and that a user
// may refuse.
var inWords = map[string]string{
	"openid":         "know that it is you who logs in",
	"fhirUser":       "know which record is about you",
	"profile":        "know your name as it is in your record",
	"online_access":  "keep its access for as long as you are logged in",
	"offline_access": "keep its access when you have logged out, until you take it back",
}

// agree takes the form of the consent page.
func (s *Server) agree(ctx context.Context, c *call) error {
	form, b, l, r, err := s.posted(ctx, c, consentPage)
	if err != nil {
		return err
	}
	agent := b.agent()
	agent.Client = l.client.ID
	c.grant = smart.Denied(b.tenant, agent, c.origin)
	if form.Get("answer") != "allow" {
		return r.denied("the user said no")
	}
	granted, err := r.granted(l.client, form)
	if err != nil {
		return err
	}
	code := newSecret()
	words := strings.Fields(granted)
	a := store.Approval{
		ID: rand.Text(), Client: l.client.ID, Session: b.session.ID, Identity: b.session.Identity,
		Scope: granted, Offline: slices.Contains(words, "offline_access"), Context: r.Context, Nonce: r.Nonce,
		RedirectURI: r.RedirectURI, Challenge: r.Challenge,
	}
	err = s.cfg.Registry.Approve(ctx, b.tenant, a, code, s.cfg.Now().Add(codeLife), r.Launch)
	if errors.Is(err, store.ErrNoLaunch) {
		return r.refuse("invalid_request", "the launch was used or is too old")
	}
	if err != nil {
		return err
	}
	c.note = "allowed: " + granted
	c.redirect = r.redirect(s.cfg.Issuer(c.slug), url.Values{"code": {code}})
	return nil
}

// granted returns the scopes that the user has left on. The words that say
// where a context comes from are no choice: they follow from what there is.
func (r request) granted(client smart.Client, form url.Values) (string, error) {
	words, scopes, err := r.offer(client)
	if err != nil {
		return "", err
	}
	records, identity := choices(words, scopes)
	var all []string
	for _, w := range words {
		switch {
		case w == "launch" && r.Launch != "", w == "launch/patient" && r.Context.Patient != "",
			w == "launch/encounter" && r.Context.Encounter != "":
			all = append(all, w)
		}
	}
	chosen := 0
	whole := false // of the choice before the parts
	for _, ch := range slices.Concat(records, identity) {
		on := form.Has(ch.Field)
		if !ch.Part {
			whole = on
		} else if whole {
			continue // the whole says it already
		}
		if on {
			all = append(all, ch.Scope)
			chosen++
		}
	}
	if chosen == 0 {
		return "", r.denied("the user left nothing on")
	}
	return strings.Join(all, " "), nil
}

func hostOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" {
		return uri
	}
	return u.Host
}

func appName(client smart.Client) string { return cmp.Or(client.Name, client.ID) }
