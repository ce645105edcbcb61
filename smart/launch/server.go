// Package launch is the authorization server of the tenants.
//
// It lets users log in and agree to what an app may do for them, opened by the
// app or by an EHR, and gives the app tokens for it. Backend services get
// theirs by a signed assertion; a registered client with a launch context acts
// for its user and patient in the same way.
//
// https://hl7.org/fhir/smart-app-launch/
package launch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/limit"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/federation"
	"github.com/cordon-fhir/cordon/smart/jwks"
	"github.com/cordon-fhir/cordon/smart/outside"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// Clients is the record of registered clients. store.Registry is one.
type Clients interface {
	// Client returns smart.ErrUnknownClient if the tenant has none of the id.
	Client(ctx context.Context, t *tenant.Tenant, id string) (smart.Client, error)
	// UseAssertion notes that the client has used the assertion that expires at
	// exp. fresh is false if it had used it before, on any process.
	UseAssertion(ctx context.Context, t *tenant.Tenant, client, jti string, exp time.Time) (fresh bool, err error)
}

// Config is what a Server needs.
type Config struct {
	Clients Clients          // required
	Tenants *tenant.Registry // required
	Keys    *keys.Keyring    // required

	// Base returns the FHIR base URL of a tenant, Issuer the URL under which
	// its endpoints are, both without a slash at the end. Required.
	Base   func(slug string) string
	Issuer func(slug string) string

	// Record writes an entry to the audit trail of the Grant's tenant, without
	// a Grant to that of the platform. Nothing is answered before it returns
	// nil. store.DB.Record is one. Required.
	Record func(ctx context.Context, g *smart.Grant, e audit.Entry) error

	// Serving users takes all three of these. Default: only backend services
	// are served.
	Registry *store.Registry
	DB       *store.DB
	Verifier *smart.Verifier

	// Outside knows the authorization servers that tenants trust instead of this
	// one. Required for tenants that do.
	Outside *outside.Client

	// IdentityNetworks are networks in which tenants' identity providers may be
	// although they are not of the public internet. Default none.
	IdentityNetworks []netip.Prefix
	// ClientNetworks are the same for where clients publish their keys.
	ClientNetworks []netip.Prefix

	// Region is where this server runs. It answers 421 for tenants of other
	// regions. Default: it serves every tenant.
	Region string

	// Alert is told of what looks like an attack. Default: nobody is.
	Alert func(smart.Alert)
	// Limit refuses those who ask too much. Default: one of its own.
	Limit *limit.Limiter
	// LoginFailed is told that somebody could not prove who they are. Default:
	// nobody is.
	LoginFailed func(tenant, address, request string)
	// Address returns the IP address of the client. Default: who holds the
	// connection.
	Address func(*http.Request) string
	// Now tells the time. Default time.Now.
	Now func() time.Time
	// Log gets a line for each request.
	Log *oplog.Logger
}

// A Server is the authorization server of all tenants.
type Server struct {
	cfg        Config
	router     *echo.Echo
	federation *federation.Client
	keys       *jwks.Reader // of clients
}

// New returns a Server for the paths under /auth/.
func New(cfg Config) (*Server, error) {
	if cfg.Clients == nil || cfg.Tenants == nil || cfg.Keys == nil || cfg.Base == nil || cfg.Issuer == nil || cfg.Record == nil {
		return nil, errors.New("launch: Config needs Clients, Tenants, Keys, Base, Issuer and Record")
	}
	if users := cfg.Registry != nil; users != (cfg.DB != nil) || users != (cfg.Verifier != nil) {
		return nil, errors.New("launch: Config needs Registry, DB and Verifier together")
	}
	if cfg.Address == nil {
		cfg.Address = connection
	}
	if cfg.Alert == nil {
		cfg.Alert = func(smart.Alert) {}
	}
	if cfg.LoginFailed == nil {
		cfg.LoginFailed = func(string, string, string) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Limit == nil {
		cfg.Limit = limit.New(limit.Config{Now: cfg.Now})
	}
	s := &Server{cfg: cfg, router: echo.New(), federation: federation.New(federation.Config{Private: cfg.IdentityNetworks, Now: cfg.Now}),
		keys: jwks.New(jwks.Config{Private: cfg.ClientNetworks, Now: cfg.Now})}
	s.router.HTTPErrorHandler = func(err error, c echo.Context) {
		s.serve(c, "none", func(context.Context, *call) error { return noSuchEndpoint(err) })
	}
	s.router.POST("/auth/:tenant/token", s.endpoint("token", s.token))
	s.router.GET("/auth/:tenant/jwks", s.endpoint("jwks", s.jwks))
	for _, name := range []string{"token", "introspect", "revoke"} {
		s.router.OPTIONS("/auth/:tenant/"+name, s.endpoint(name, s.preflight))
	}
	if cfg.Registry != nil {
		s.router.POST("/auth/:tenant/register", s.endpoint("register", s.register))
		s.router.GET("/auth/:tenant/register/:client", s.endpoint("register", s.readRegistration))
		s.router.PUT("/auth/:tenant/register/:client", s.endpoint("register", s.updateRegistration))
		s.router.DELETE("/auth/:tenant/register/:client", s.endpoint("register", s.removeRegistration))
		s.router.POST("/auth/:tenant/introspect", s.endpoint("introspect", s.introspect))
		s.router.POST("/auth/:tenant/revoke", s.endpoint("revoke", s.revoke))
		s.router.GET("/auth/:tenant/brands", s.endpoint("brands", s.brands))
		s.router.POST("/auth/:tenant/launch", s.endpoint("launch", s.openLaunch))
		s.router.GET("/auth/:tenant/.well-known/openid-configuration", s.endpoint("openid-configuration", s.openID))
		s.router.GET("/auth/:tenant/authorize", s.page("authorize", s.authorize))
		s.router.POST("/auth/:tenant/authorize", s.page("authorize", s.authorize))
		s.router.POST("/auth/:tenant/login", s.page("login", s.logIn))
		s.router.POST("/auth/:tenant/federate", s.page("federate", s.federate))
		s.router.GET("/auth/:tenant/callback/:provider", s.page("callback", s.callback))
		s.router.POST("/auth/:tenant/patient", s.page("patient", s.choosePatient))
		s.router.POST("/auth/:tenant/encounter", s.page("encounter", s.chooseEncounter))
		s.router.POST("/auth/:tenant/consent", s.page("consent", s.agree))
		s.router.GET("/auth/:tenant/account", s.page("account", s.account))
		s.router.POST("/auth/:tenant/account", s.page("account", s.account))
		s.router.GET("/auth/:tenant/account/access", s.page("account/access", s.accesses))
		s.router.GET("/auth/:tenant/emergency", s.page("emergency", s.emergency))
		s.router.POST("/auth/:tenant/emergency", s.page("emergency", s.emergency))
		s.router.GET("/auth/:tenant/emergencies", s.page("emergencies", s.emergencies))
		s.router.POST("/auth/:tenant/emergencies", s.page("emergencies", s.emergencies))
	}
	return s, nil
}

// ServeHTTP answers the requests under /auth/.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.router.ServeHTTP(w, r) }

// A call is one request on its way to its answer.
type call struct {
	http   *http.Request
	slug   string
	item   string // what the path names at the tenant
	origin audit.Origin
	// tenant is that of the path, nil if there is none that is served, or that
	// has its authorization server elsewhere.
	tenant *tenant.Tenant
	// grant names who proved to be who, nil as long as nobody has.
	grant *smart.Grant
	// refused is set if too much was asked.
	refused *limit.Report
	// header and answer are what is answered if there is no error.
	header http.Header
	answer any
	// client is who asks, as far as it says: its pages may read the answer.
	client *smart.Client

	// created says that the answer is of something new.
	created bool
	// empty says that there is nothing to answer.
	empty bool

	// html says that a person reads the answer: a page, or the way to one.
	html     bool
	page     templ.Component
	redirect string
	cookie   *http.Cookie
	// note says in the audit trail what was done; failed that it was not,
	// although a page is answered.
	note   string
	failed *fault
	// backTo is the address that forms of the page may end at, "" for ours.
	backTo string
}

// show answers with a page, whose forms may lead back to the app of r.
func (c *call) show(p templ.Component, r request) { c.page, c.backTo = p, r.RedirectURI }

// An endpoint fills in the answer of a call.
type endpoint func(context.Context, *call) error

func (s *Server) endpoint(name string, do endpoint) echo.HandlerFunc {
	return func(c echo.Context) error {
		s.serve(c, name, do)
		return nil
	}
}

// page is endpoint for what people see.
func (s *Server) page(name string, do endpoint) echo.HandlerFunc {
	return func(c echo.Context) error {
		cl := s.call(c)
		cl.html = true
		s.answer(c.Response(), cl, name, do)
		return nil
	}
}

// serve answers a program.
func (s *Server) serve(c echo.Context, name string, do endpoint) {
	s.answer(c.Response(), s.call(c), name, do)
}

func (s *Server) call(c echo.Context) *call {
	r := c.Request()
	return &call{http: r, slug: c.Param("tenant"), item: c.Param("client"), origin: s.origin(r), header: http.Header{}}
}

// answer answers a request, once that it came is in the audit trail.
func (s *Server) answer(w http.ResponseWriter, cl *call, name string, do endpoint) {
	begun := s.cfg.Now()
	r := cl.http
	err := s.do(r.Context(), cl, do)
	if refused := (*refusal)(nil); errors.As(err, &refused) && !errors.As(err, new(*fault)) {
		cl.redirect = refused.to.redirect(s.cfg.Issuer(cl.slug), url.Values{"error": {refused.code}, "error_description": {refused.why}})
		cl.failed = &fault{refused.code, refused.why, http.StatusSeeOther, refused.why}
		err = nil
	}
	status, body := cl.status(), cl.answer
	entry := audit.Entry{
		Recorded: begun, Interaction: fhir.Operation, Origin: cl.origin, Status: status, Reason: name,
	}
	if cl.note != "" {
		entry.Reason += ": " + cl.note
	}
	fault := cl.failed
	if err != nil {
		fault = s.fault(r.Context(), cl, err)
		status, body = fault.status, fault
	}
	if fault != nil {
		entry.Status, entry.Outcome = status, outcomeOf(fault.status)
		entry.Reason = fmt.Sprintf("%s: %s, %s", name, fault.Code, fault.why)
	}
	if fault != nil && fault.status == http.StatusUnauthorized {
		s.cfg.LoginFailed(cl.slug, cl.origin.Address, cl.origin.RequestID)
	}
	if auditErr := s.record(r.Context(), cl, entry); auditErr != nil {
		s.cfg.Log.Error("auditing a request", oplog.Request(cl.origin.RequestID), oplog.Cause(auditErr))
		fault = unavailable()
		err, status, body, cl.header, cl.cookie = fault, fault.status, fault, http.Header{}, nil
	}
	if cl.html {
		if err != nil {
			cl.redirect, cl.page, cl.backTo = "", problem(problemForm{frame{Title: "That did not work"}, fault.Description}), ""
		}
		writePage(w, cl, status)
	} else {
		write(w, cl, status, body)
	}
	s.cfg.Log.Info("auth", oplog.Named("endpoint", name), oplog.Status(status),
		oplog.Request(cl.origin.RequestID), oplog.Took(s.cfg.Now().Sub(begun)))
}

// status is that of an answer without an error.
func (c *call) status() int {
	switch {
	case c.redirect != "":
		return http.StatusSeeOther
	case c.failed != nil:
		return c.failed.status
	case c.created:
		return http.StatusCreated
	case c.empty:
		return http.StatusNoContent
	}
	return http.StatusOK
}

// do runs the endpoint. A panic is an error of ours.
func (s *Server) do(ctx context.Context, c *call, do endpoint) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.grant = nil
			err = fmt.Errorf("panic of type %T", p) // its text may hold a secret
		}
	}()
	// A tenant has one spelling: nothing in the path is decoded.
	if r := c.http; r.URL.EscapedPath() != r.URL.Path {
		return noSuchEndpoint(echo.ErrNotFound)
	}
	if err := c.limit(s.cfg.Limit.Login(c.origin.Address)); err != nil {
		return err
	}
	if c.tenant, err = s.served(ctx, c.slug); err != nil {
		return err
	}
	return do(ctx, c)
}

// served returns the tenant with the slug, nil if it is none of ours. One of
// another region is refused before anything of the request but its head is read.
// https://www.rfc-editor.org/rfc/rfc9110#status.421
func (s *Server) served(ctx context.Context, slug string) (*tenant.Tenant, error) {
	t, err := s.cfg.Tenants.Tenant(ctx, slug)
	switch {
	case errors.Is(err, tenant.ErrUnknown), err == nil && t.Status != tenant.Active:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("looking up the tenant: %w", err)
	case s.cfg.Region != "" && t.Region != s.cfg.Region:
		return nil, elsewhere()
	case t.Issuer != 0:
		return nil, nil
	}
	return t, nil
}

// record waits for the audit trail, also when the client does not.
func (s *Server) record(ctx context.Context, c *call, e audit.Entry) error {
	if c.refused != nil && !c.refused.Write {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if c.grant != nil {
		e.Agent = c.grant.Agent()
	}
	return s.cfg.Record(ctx, c.grant, e)
}

func outcomeOf(status int) audit.Outcome {
	switch {
	case status == http.StatusUnauthorized:
		return audit.Serious
	case status < http.StatusInternalServerError:
		return audit.MinorFailure
	}
	return audit.MajorFailure
}

func (s *Server) origin(r *http.Request) audit.Origin {
	id := r.Header.Get("X-Request-Id")
	if !wellFormedID(id) || len(r.Header.Values("X-Request-Id")) != 1 {
		id = rand.Text()
	}
	return audit.Origin{
		RequestID: id, Address: s.cfg.Address(r), Method: shape(r), Trail: audit.NewTrail(),
	}
}

// wellFormedID reports whether a client's X-Request-Id is taken: 1 to 64 of
// letters, digits, dot, hyphen and underscore.
func wellFormedID(id string) bool {
	return len(id) > 0 && len(id) <= 64 && !strings.ContainsFunc(id, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_'
	})
}

// names are those of our endpoints.
var names = []string{
	".well-known/openid-configuration", "account", "account/access", "authorize", "brands", "callback", "consent", "emergencies", "emergency", "encounter", "federate", "introspect", "jwks",
	"launch", "login", "patient", "register", "revoke", "token",
}

// shape returns the method and path of a request as far as they have the form
// of ours.
func shape(r *http.Request) string {
	method, path := "other", "/auth/?"
	switch r.Method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		method = r.Method
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/auth/")
	slug, name, _ := strings.Cut(rest, "/")
	if _, err := tenant.ParseSlug(slug); ok && err == nil {
		path = "/auth/" + slug + "/?"
		if base, item, ok := strings.Cut(name, "/"); ok && (base == "callback" && smart.ValidProvider(item) || base == "register" && validName(item)) {
			name = base
		}
		if slices.Contains(names, name) {
			path = "/auth/" + slug + "/" + name
		}
	}
	return method + " " + path
}

func connection(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// tenant returns the tenant of the call and its keys, nil if there is none.
func (s *Server) tenant(ctx context.Context, c *call) (*tenant.Tenant, *keys.Set, error) {
	if c.tenant == nil {
		return nil, nil, nil
	}
	set, err := s.cfg.Keys.Of(ctx, c.tenant.ID)
	if err != nil {
		return nil, nil, err
	}
	return c.tenant, set, nil
}
