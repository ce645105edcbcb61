package launch

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// accessesForm is what the page of who saw a patient's record shows.
type accessesForm struct {
	frame
	List []seen
	// Older is where the page of what was before is, "" at the end.
	Older string
	// None says why there is nothing, "" if there is something.
	None string
}

// seen is one access, in words.
type seen struct {
	When, Who, As, What, Why string
	Emergency                bool
}

// accessesShown is how many accesses a page has.
const accessesShown = 25

// accesses shows patients who saw or changed their record, the last first: what
// the audit trail says, as far as the policy of the tenant shows them any of it.
func (s *Server) accesses(ctx context.Context, c *call) error {
	return s.showOwn(ctx, c, s.showAccesses)
}

func (s *Server) showAccesses(ctx context.Context, c *call, b *browser) error {
	f := accessesForm{frame: s.frame(b, "Who saw your record")}
	me := b.patient(s.cfg.Base(c.slug))
	if me.IsZero() {
		f.None = "This page is for patients: there is no record of yours here."
	} else if err := s.fillAccesses(ctx, c, b, me, &f); err != nil {
		return err
	}
	c.note = "showed who saw the record"
	c.show(accessesOf(f), request{})
	return nil
}

// patient is who the user is, zero if they are no patient.
func (b *browser) patient(base string) fhir.Ref {
	ref, err := fhir.ParseRef(strings.TrimPrefix(b.session.User, base+"/"))
	if err != nil || ref.Type != "Patient" {
		return fhir.Ref{}
	}
	return ref
}

// ownScopes are what the page needs: entries about the user, and the names in
// them.
const ownScopes = "user/AuditEvent.rs user/Practitioner.rs user/PractitionerRole.rs user/Organization.rs user/Location.rs"

func (s *Server) fillAccesses(ctx context.Context, c *call, b *browser, me fhir.Ref, f *accessesForm) error {
	g, err := s.grantFor(ctx, c, b, login{client: smart.Client{ID: smart.AccountClient}}, ownScopes)
	if err != nil {
		return err
	}
	q, err := search.Parse("AuditEvent", []search.Param{{Name: "patient", Value: me.String()}}, search.Options{})
	if err != nil {
		return err
	}
	q.Count = accessesShown
	at := store.Cursor{Page: 1}
	if page := c.http.URL.Query().Get("page"); page != "" {
		if at, err = s.cfg.DB.OpenCursor(ctx, g, page); err != nil || at.Query != "patient="+strings.ReplaceAll(me.String(), "/", "%2F") {
			return invalidRequest("the page is not known or no longer available")
		}
	}
	var page *store.AuditPage
	var list []store.Access
	err = s.cfg.DB.View(ctx, g, func(v *store.View) (err error) {
		v.Operation(audit.Entry{Interaction: fhir.Operation, Type: "Patient", Entity: me, Patient: me})
		if page, err = v.AuditEvents(ctx, q, at); err != nil {
			return err
		}
		list, err = v.Accesses(ctx, page.Entries)
		return err
	})
	if fhir.IsCode(err, fhir.Forbidden) {
		f.None = "Your clinic does not show this here. Ask them who saw your record."
		return nil
	}
	if err != nil {
		return err
	}
	for _, a := range list {
		f.List = append(f.List, s.inWords(ctx, b, me, a))
	}
	if page.Next != "" {
		f.Older = f.Path + "/account/access?page=" + page.Next
	}
	if len(f.List) == 0 && f.Older == "" {
		f.None = "Nobody has."
	}
	return nil
}

// inWords says an access for people.
func (s *Server) inWords(ctx context.Context, b *browser, me fhir.Ref, a store.Access) seen {
	w := seen{
		When: a.Recorded.UTC().Format("2 January 2006 15:04 UTC"), What: a.Words(), Why: purposeInWords(a.Purpose()),
		Emergency: slices.Contains(audit.Emergencies, a.Purpose()),
	}
	app := a.Agent.Client
	if client, err := s.cfg.Clients.Client(ctx, b.tenant, app); err == nil {
		app = appName(client)
	}
	switch {
	case a.Agent.User == me.String():
		w.Who = "You"
	case a.Agent.User != "":
		w.Who = cmp.Or(a.Who, a.Agent.User)
	default:
		w.Who, app = cmp.Or(app, "Somebody who did not log in"), ""
	}
	if app == smart.AccountClient {
		app = "this page"
	}
	as := slices.DeleteFunc([]string{strings.Join(strings.Fields(a.Agent.Roles), ", "), a.Organization, a.Site}, func(s string) bool { return s == "" })
	if app != "" {
		as = append(as, "with "+app)
	}
	w.As = strings.Join(as, ", ")
	return w
}

// purposeInWords says what a code of v3-ActReason means, for those that are
// common.
func purposeInWords(code string) string {
	words := map[string]string{
		"": "Not stated", "TREAT": "Treatment", "ETREAT": "Emergency treatment", "BTG": "Emergency: the usual limits were overridden", "COC": "Coordination of care",
		"HPAYMT": "Payment", "HOPERAT": "Running the clinic", "HRESCH": "Research", "PATRQT": "Request of the patient", "PUBHLTH": "Public health", "HLEGAL": "Legal",
	}
	return cmp.Or(words[code], code)
}
