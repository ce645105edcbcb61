package launch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// emergencyForm is what the page shows on which staff break the glass of a
// patient.
type emergencyForm struct {
	frame
	Sealed string
	// Fault says why what was asked for is not to be had, Done what was done.
	Fault, Done string
	// May says that the user may ask, and Alone that nobody has to approve it.
	May, Alone bool
	Longest    int // minutes
	Purposes   []string
	Apps       []openApp
	List       []emergency
	// Typed is what the user asked for, if that did not work.
	Typed url.Values
}

// An openApp is an app in which the user works.
type openApp struct{ ID, Words string }

// An emergency is one that was asked for, in words.
type emergency struct {
	ID, Who, Patient, Reason, Purpose, App, State string
	Asked                                         string
	// Open says that it can be ended.
	Open bool
}

// emergenciesShown bounds the list of one's own.
const emergenciesShown = 25

// breakScopes are what the Grant of the pages has: what a user may do about
// breaking glasses the policy says alone.
const breakScopes = "user/Patient.rs"

// emergency lets staff ask to see the record of a patient that the policy keeps
// from them, and give that back.
func (s *Server) emergency(ctx context.Context, c *call) error {
	if c.http.Method == http.MethodPost {
		return s.changeEmergency(ctx, c)
	}
	return s.showOwn(ctx, c, func(ctx context.Context, c *call, b *browser) error {
		c.note = "showed what the user sees in an emergency"
		return s.showEmergency(ctx, c, b, emergencyForm{})
	})
}

func (s *Server) showEmergency(ctx context.Context, c *call, b *browser, f emergencyForm) (err error) {
	f.frame = s.frame(b, "Emergency access")
	if f.Sealed, err = s.sealOwn(b, emergencyPage); err != nil {
		return err
	}
	g, err := s.grantIn(ctx, c, b, smart.AccountClient, b.session.ID)
	if err != nil {
		return err
	}
	rules := b.tenant.Settings.BreakGlass
	_, err = g.PermitGlass(smart.BreakGlass)
	f.May, f.Alone = err == nil && rules.On(), rules.Alone()
	f.Longest, f.Purposes = int(rules.Longest()/time.Minute), rules.For()
	if f.Apps, err = s.openApps(ctx, b); err != nil {
		return err
	}
	list, err := s.cfg.DB.Glasses(ctx, g)
	if err != nil && !fhir.IsCode(err, fhir.Forbidden) {
		return err
	}
	list = slices.DeleteFunc(list, func(one store.Glass) bool { return one.User != g.Agent().User })
	if f.List, err = s.emergenciesInWords(ctx, c, b, list[:min(len(list), emergenciesShown)]); err != nil {
		return err
	}
	c.show(emergencyOf(f), request{})
	return nil
}

// sealOwn returns what the forms of a page carry that is no app's.
func (s *Server) sealOwn(b *browser, to page) (string, error) {
	return request{Begun: s.cfg.Now(), Session: b.session.ID}.seal(b.keys, to, b.secret)
}

// openedOwn reads a form of such a page.
func (s *Server) openedOwn(ctx context.Context, c *call, from page) (url.Values, *browser, error) {
	form, b, r, err := s.opened(ctx, c, from)
	if err == nil && (!b.loggedIn() || r.Session != b.session.ID) {
		err = invalidRequest("the session has ended; log in again")
	}
	return form, b, err
}

// grantIn earns a Grant for what the user does in the login with the client.
func (s *Server) grantIn(ctx context.Context, c *call, b *browser, client, session string) (*smart.Grant, error) {
	t := s.tokenOf(c.slug, b.session.Identity, smart.Client{ID: client}, s.cfg.Now(), time.Minute)
	t.Scope, t.Session = breakScopes, session
	return s.grantOfToken(ctx, c, b, t)
}

// openApps returns the apps that the user has open: what is broken is broken for
// one of them.
func (s *Server) openApps(ctx context.Context, b *browser) (list []openApp, err error) {
	approvals, err := s.approvals(ctx, b)
	if err != nil {
		return nil, err
	}
	for _, a := range approvals {
		client, err := s.cfg.Clients.Client(ctx, b.tenant, a.Client)
		switch {
		case errors.Is(err, smart.ErrUnknownClient):
			continue
		case err != nil:
			return nil, err
		}
		if !client.Disabled {
			list = append(list, openApp{a.ID, appName(client) + ", since " + a.Created.UTC().Format("2 January 15:04 UTC")})
		}
	}
	return list, nil
}

// approvals are what the user, as whom they have logged in, lets apps do.
func (s *Server) approvals(ctx context.Context, b *browser) ([]store.Approval, error) {
	list, err := s.cfg.Registry.Approvals(ctx, b.tenant, b.session.Identity)
	return slices.DeleteFunc(list, func(a store.Approval) bool { return a.User != b.session.User }), err
}

// changeEmergency takes the forms of the page.
func (s *Server) changeEmergency(ctx context.Context, c *call) error {
	form, b, err := s.openedOwn(ctx, c, emergencyPage)
	if err != nil {
		return err
	}
	f := emergencyForm{}
	if id := form.Get("end"); id != "" {
		f.Done = "It is given back: you do not see the record any more."
		err = s.endEmergency(ctx, c, b, id)
	} else {
		f.Done, err = s.askEmergency(ctx, c, b, form)
		f.Typed = form
	}
	if err == nil {
		f.Typed = nil
		c.note = "emergency access was asked for or given back"
		return s.showEmergency(ctx, c, b, f)
	}
	f.Done = ""
	if f.Fault, err = refused(c, err); err != nil {
		return err
	}
	return s.showEmergency(ctx, c, b, f)
}

// refused returns why the page says that it cannot be done; what is no answer to the
// user it returns as an error.
func refused(c *call, err error) (string, error) {
	var fe *fhir.Error
	if !errors.As(err, &fe) || fe.Code() == fhir.Transient {
		return "", err
	}
	status := map[fhir.IssueCode]int{fhir.Forbidden: http.StatusForbidden, fhir.NotFound: http.StatusNotFound, fhir.Conflict: http.StatusConflict}[fe.Code()]
	if status == 0 {
		status = http.StatusBadRequest
	}
	words := fe.Issues[0].Diagnostics
	c.failed = &fault{"access_denied", words, status, string(fe.Code())}
	return words, nil
}

func (s *Server) endEmergency(ctx context.Context, c *call, b *browser, id string) error {
	g, err := s.grantIn(ctx, c, b, smart.AccountClient, b.session.ID)
	if err != nil {
		return err
	}
	_, err = s.cfg.DB.EndGlass(ctx, g, id)
	return err
}

// askEmergency asks for what the form says, with the app that it names, and says
// what comes of it.
func (s *Server) askEmergency(ctx context.Context, c *call, b *browser, form url.Values) (string, error) {
	ask, err := readEmergency(form)
	if err != nil {
		return "", err
	}
	g, err := s.grantInApp(ctx, c, b, form.Get("app"))
	if err != nil {
		return "", err
	}
	glass, err := s.cfg.DB.BreakGlass(ctx, g, ask)
	switch {
	case err != nil:
		return "", err
	case glass.State == store.GlassActive:
		return "Go back to the app and open the record again: you see it now.", nil
	}
	return "It is asked for. You see the record when another person has approved it: look here again.", nil
}

// grantInApp is grantIn for an app that the user has open.
func (s *Server) grantInApp(ctx context.Context, c *call, b *browser, approval string) (*smart.Grant, error) {
	mine, err := s.approvals(ctx, b)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(mine, func(a store.Approval) bool { return a.ID == approval })
	if at < 0 {
		return nil, fhir.Errorf(fhir.Invalid, "choose the app in which you need the record")
	}
	return s.grantIn(ctx, c, b, mine[at].Client, approval)
}

// readEmergency reads what is asked for.
func readEmergency(form url.Values) (ask store.GlassRequest, err error) {
	ask.Called, ask.Reason, ask.Purpose = strings.TrimSpace(form.Get("patient")), strings.TrimSpace(form.Get("reason")), form.Get("purpose")
	minutes, err := strconv.Atoi(form.Get("minutes"))
	switch {
	case ask.Called == "" || len(ask.Called) > maxName:
		return ask, fhir.Errorf(fhir.Invalid, "say which patient it is")
	case ask.Reason == "":
		return ask, fhir.Errorf(fhir.Invalid, "say why")
	case len(ask.Reason) > store.MaxGlassText:
		return ask, fhir.Errorf(fhir.Invalid, "why has at most %d bytes", store.MaxGlassText)
	case err != nil || minutes < 1 || minutes > 1<<20:
		return ask, fhir.Errorf(fhir.Invalid, "say for how many minutes")
	}
	ask.For = time.Duration(minutes) * time.Minute
	return ask, nil
}

// emergenciesInWords says for people what has become of requests, with such names
// as the user may see.
func (s *Server) emergenciesInWords(ctx context.Context, c *call, b *browser, list []store.Glass) ([]emergency, error) {
	names, err := s.names(ctx, c, b, list)
	if err != nil {
		return nil, err
	}
	words := make([]emergency, len(list))
	for i, one := range list {
		words[i] = s.emergencyInWords(ctx, b, one, names)
	}
	return words, nil
}

// nameScopes are what tells who has a name.
const nameScopes = "user/Patient.r user/Practitioner.r"

// names are those of the users and the patients. Who may not see somebody's is not
// told it; each that is told is in the audit trail, as whatever is read.
func (s *Server) names(ctx context.Context, c *call, b *browser, list []store.Glass) (names map[fhir.Ref]string, err error) {
	var refs []fhir.Ref
	for _, g := range list {
		refs = append(refs, g.Patient)
		if user, err := fhir.ParseRef(g.User); err == nil && user.Type == "Practitioner" {
			refs = append(refs, user)
		}
	}
	if len(refs) == 0 {
		return nil, nil
	}
	g, err := s.grantFor(ctx, c, b, login{client: smart.Client{ID: smart.AccountClient}}, nameScopes)
	if err != nil {
		return nil, err
	}
	err = s.cfg.DB.View(ctx, g, func(v *store.View) (err error) {
		v.Operation(audit.Entry{Interaction: fhir.Operation, Type: "Patient"})
		names, err = v.Names(ctx, refs...)
		return err
	})
	return names, err
}

// called is the name with the id that tells namesakes apart, or the id alone.
func called(name, id string) string {
	if name == "" {
		return id
	}
	return name + " (" + id + ")"
}

// emergencyInWords says for people what has become of a request.
func (s *Server) emergencyInWords(ctx context.Context, b *browser, g store.Glass, names map[fhir.Ref]string) emergency {
	app := g.Client
	if client, err := s.cfg.Clients.Client(ctx, b.tenant, g.Client); err == nil {
		app = appName(client)
	}
	user, _ := fhir.ParseRef(g.User) // without one there is no name
	return emergency{
		ID: g.ID, Who: called(names[user], g.User), Patient: called(names[g.Patient], g.Patient.ID), Reason: g.Reason, Purpose: emergencyPurpose(g.Purpose), App: app,
		State: s.stateInWords(g), Asked: g.Requested.Format("2 January 2006 15:04 UTC"), Open: g.State == store.GlassActive,
	}
}

// label tells one from others.
func (e emergency) label() string { return e.Who + ", patient " + e.Patient }

func (s *Server) stateInWords(g store.Glass) string {
	switch g.State {
	case store.GlassRequested:
		return "Waits for another person to approve it"
	case store.GlassActive:
		left := int(g.Until.Sub(s.cfg.Now())/time.Minute) + 1
		return fmt.Sprintf("Open until %s, for less than %d more minutes", g.Until.Format("15:04 UTC"), left)
	case store.GlassRefused:
		return "Refused"
	case store.GlassLapsed:
		return "Nobody decided in time"
	case store.GlassReviewed:
		return "Ended and reviewed: " + outcomeInWords(g.Outcome)
	}
	return "Ended, waits for its review"
}

// emergencyPurpose says what a purpose of use means to who asks for it.
// https://terminology.hl7.org/ValueSet-v3-PurposeOfUse.html
func emergencyPurpose(code string) string {
	return map[string]string{"ETREAT": "Emergency treatment", "BTG": "Care that cannot wait for the usual permission"}[code]
}

// outcomeInWords says what a review found.
func outcomeInWords(code string) string {
	return map[string]string{"justified": "justified", "not-justified": "not justified", "follow-up": "to be followed up"}[code]
}
