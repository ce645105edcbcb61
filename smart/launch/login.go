package launch

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// loginForm is what the login page shows.
type loginForm struct {
	frame
	App    string // "" if no app asks
	Sealed string
	Fault  string
	// Providers are those that the user can log in by instead.
	Providers []smart.Provider
}

// showLogin asks who the user is.
func (s *Server) showLogin(ctx context.Context, c *call, b *browser, l login, r request, fault string) error {
	sealed, err := r.seal(b.keys, loginPage, b.secret)
	if err != nil {
		return err
	}
	providers, err := s.cfg.Registry.Providers(ctx, b.tenant)
	if err != nil {
		return err
	}
	f := loginForm{frame: s.frame(b, "Log in"), Sealed: sealed, Fault: fault, Providers: providers}
	if r.Client != "" {
		f.App = appName(l.client)
	}
	c.show(logIn(f), r)
	return nil
}

// showLoginFor is showLogin for what an app may have asked.
func (s *Server) showLoginFor(ctx context.Context, c *call, b *browser, r request, fault string) error {
	var l login
	if r.Client != "" {
		var err error
		if l, err = s.registered(ctx, c, r.Client); err != nil {
			return err
		}
	}
	return s.showLogin(ctx, c, b, l, r, fault)
}

// wrongLogin is all that is said of a login that is not accepted, whatever is
// wrong: that there is no such user, the password, the code, or too many tries.
const wrongLogin = "That did not work. Check the user name, the password and, if you use one, the code. After several tries you have to wait."

// A localLogin is what a user types.
type localLogin struct{ name, password, code string }

// logIn takes the form of the login page.
func (s *Server) logIn(ctx context.Context, c *call) error {
	form, b, r, err := s.opened(ctx, c, loginPage)
	if err != nil {
		return err
	}
	typed := localLogin{strings.ToLower(strings.TrimSpace(form.Get("login"))), form.Get("password"), strings.TrimSpace(form.Get("code"))}
	who, why, err := s.identify(ctx, c, b, typed)
	if err != nil {
		return err
	}
	c.grant = smart.Denied(b.tenant, agentOf(who), c.origin)
	if why != "" {
		c.failed = invalidLogin(why)
		return s.showLoginFor(ctx, c, b, r, wrongLogin)
	}
	if err := s.begin(ctx, c, b, who); err != nil {
		return err
	}
	c.note = "logged in"
	return s.loggedIn(ctx, c, b, r)
}

// loggedIn goes on with what the user has logged in for.
func (s *Server) loggedIn(ctx context.Context, c *call, b *browser, r request) error {
	if r.Client == "" {
		return s.showAccount(ctx, c, b)
	}
	l, err := s.registered(ctx, c, r.Client)
	if err != nil {
		return err
	}
	return s.next(ctx, c, b, l, r)
}

func invalidLogin(why string) *fault {
	return &fault{"access_denied", wrongLogin, http.StatusUnauthorized, why}
}

// patience bounds the wait for a turn to have a password checked.
const patience = 5 * time.Second

// identify returns who the user is, by an account of the tenant. If the login
// is not accepted it says why, for the audit trail, and names the account that
// was tried, if there is one. It takes as long if there is none.
func (s *Server) identify(ctx context.Context, c *call, b *browser, typed localLogin) (who store.Identity, why string, err error) {
	who = store.Identity{Source: store.LocalSource}
	account := store.Account{}
	if smart.ValidLogin(typed.name) {
		account, err = s.cfg.Registry.Account(ctx, b.tenant, typed.name)
	}
	known := err == nil && account.Login != ""
	if err != nil && !errors.Is(err, store.ErrUnknownAccount) {
		return who, "", err
	}
	who.Subject, who.User, who.Person = account.Login, account.User, account.Person
	allowed, err := s.cfg.Registry.Attempt(ctx, b.tenant, typed.name, c.origin.Address)
	if err != nil {
		return who, "", err
	}
	if !allowed {
		return who, "locked out after too many attempts", nil
	}
	turn, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	good, err := smart.IsPassword(turn, account.Hash, typed.password)
	switch {
	case turn.Err() != nil:
		return who, "", busy()
	case err != nil:
		return who, "", err
	case !known:
		return who, "no such user", nil
	case !good:
		return who, "the password is wrong", nil
	case account.Disabled:
		return who, "the account is disabled", nil
	}
	if why, err := s.second(ctx, b, account, typed.code); err != nil || why != "" {
		return who, why, err
	}
	return who, "", s.cfg.Registry.Succeeded(ctx, b.tenant, typed.name, c.origin.Address)
}

// second checks the one-time code of an account that has them.
func (s *Server) second(ctx context.Context, b *browser, a store.Account, code string) (why string, err error) {
	if !a.Coded {
		return "", nil
	}
	secret, err := s.cfg.Registry.OpenCodes(b.tenant, a)
	if err != nil {
		return "", err
	}
	step, ok := smart.CheckTOTP(secret, code, s.cfg.Now())
	if !ok {
		return "the one-time code is wrong", nil
	}
	fresh, err := s.cfg.Registry.UseCode(ctx, b.tenant, a.Login, step)
	if err == nil && !fresh {
		why = "the one-time code was used before"
	}
	return why, err
}
