package launch

import (
	"context"
	"net/http"
	"strings"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// accountForm is what the page of a user's own account shows.
// https://hl7.org/fhir/smart-app-launch/conformance.html, management_endpoint
type accountForm struct {
	frame
	Sealed string
	Apps   []allowedApp
	// Record says that the user is a patient, who can see who saw their record.
	Record bool
	// Emergency says that they may ask for emergency access, Emergencies that they
	// decide about that of others.
	Emergency, Emergencies bool
}

// An allowedApp is what a user has let an app do.
type allowedApp struct {
	ID, Name, Since string
	Words           []string
	Offline         bool
}

// account shows a user what they have let apps do, and takes it back.
func (s *Server) account(ctx context.Context, c *call) error {
	if c.http.Method == http.MethodPost {
		return s.changeAccount(ctx, c)
	}
	return s.showOwn(ctx, c, s.showAccount)
}

// showOwn shows a page to who has logged in, and else the login.
func (s *Server) showOwn(ctx context.Context, c *call, show func(context.Context, *call, *browser) error) error {
	b, err := s.browser(ctx, c)
	if err != nil {
		return err
	}
	if !b.loggedIn() {
		return s.showLogin(ctx, c, b, login{}, request{Begun: s.cfg.Now()}, "")
	}
	return show(ctx, c, b)
}

func (s *Server) showAccount(ctx context.Context, c *call, b *browser) error {
	approvals, err := s.cfg.Registry.Approvals(ctx, b.tenant, b.session.Identity)
	if err != nil {
		return err
	}
	sealed, err := s.sealOwn(b, accountPage)
	if err != nil {
		return err
	}
	f := accountForm{frame: s.frame(b, "Your account"), Sealed: sealed, Record: !b.patient(s.cfg.Base(c.slug)).IsZero()}
	g, err := s.grantIn(ctx, c, b, smart.AccountClient, b.session.ID)
	if err != nil {
		return err
	}
	may := func(act smart.GlassAct) bool { _, err := g.PermitGlass(act); return err == nil }
	f.Emergency = may(smart.BreakGlass) && b.tenant.Settings.BreakGlass.On()
	f.Emergencies = may(smart.ApproveGlass) || may(smart.ReviewGlass)
	for _, a := range approvals {
		client, err := s.cfg.Clients.Client(ctx, b.tenant, a.Client)
		if err != nil {
			client.ID = a.Client // one that is no longer registered
		}
		words, scopes, _ := smart.SplitScopes(a.Scope)
		app := allowedApp{ID: a.ID, Name: appName(client), Since: a.Created.UTC().Format("2 January 2006 15:04 UTC"), Offline: a.Offline}
		records, identity := choices(words, scopes)
		for _, ch := range append(records, identity...) {
			if !ch.Part {
				app.Words = append(app.Words, ch.Words)
			}
		}
		f.Apps = append(f.Apps, app)
	}
	c.show(accountOf(f), request{})
	return nil
}

// changeAccount takes the form of the account page: it takes back what an app
// may do, or logs the user out.
func (s *Server) changeAccount(ctx context.Context, c *call) error {
	form, b, err := s.openedOwn(ctx, c, accountPage)
	if err != nil {
		return err
	}
	if form.Get("answer") == "logout" {
		return s.logOut(ctx, c, b)
	}
	if err := s.takeBack(ctx, b, form.Get("revoke")); err != nil {
		return err
	}
	c.note = "took back what an app may do"
	s.settle(ctx)
	return s.showAccount(ctx, c, b)
}

func (s *Server) takeBack(ctx context.Context, b *browser, id string) error {
	mine, err := s.cfg.Registry.Approvals(ctx, b.tenant, b.session.Identity)
	if err != nil {
		return err
	}
	for _, a := range mine {
		if a.ID == id {
			return s.cfg.Registry.Revoke(ctx, b.tenant, id)
		}
	}
	return invalidRequest("there is no such permission of yours")
}

// logOut ends the session. What apps may do for as long as it lasts ends too.
func (s *Server) logOut(ctx context.Context, c *call, b *browser) error {
	if err := s.cfg.Registry.EndSession(ctx, b.tenant, b.session.ID); err != nil {
		return err
	}
	c.note = "logged out"
	s.settle(ctx)
	b.session = store.Session{}
	b.setCookie(c, newSecret())
	return s.showLogin(ctx, c, b, login{}, request{Begun: s.cfg.Now()}, "")
}

// words joins what an app may do for people.
func (a allowedApp) words() string { return strings.Join(a.Words, "; ") }
