// Package rest serves the RESTful API of FHIR R4 over HTTP, one interaction or
// operation per file.
//
// https://hl7.org/fhir/R4/http.html
package rest

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/semaphore"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/limit"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/blob"
	"github.com/cordon-fhir/cordon/tenant"
)

// Config is what the API needs to run.
type Config struct {
	DB       *store.DB        // required
	Verifier *smart.Verifier  // required
	Tenants  *tenant.Registry // required

	// Base returns the FHIR base URL of the tenant with the slug, without a
	// slash at its end: "https://host/fhir/harbor". Required. Whatever Host a
	// client sends, this is what answers say.
	Base func(slug string) string
	// SmartConfiguration returns the discovery document of the tenant's
	// authorization server, nil while that does not answer. Required.
	SmartConfiguration func(slug string) []byte

	// Region is where this server runs. It answers 421 for tenants of other
	// regions. Default: it serves every tenant.
	Region string

	// Version of this software, for the CapabilityStatement. Default "dev".
	Version string
	// Log gets one line per request.
	Log *oplog.Logger
	// Alert is told of attempts to reach another tenant. Default: nobody is.
	Alert func(smart.Alert)
	// Observe is told of each request that was answered: the pattern of its
	// route, the tenant's slug ("" if no tenant was proven), the status and
	// the time it took. Default: nobody is.
	Observe func(route, tenant string, status int, took time.Duration)
	// Now tells the time. Default time.Now.
	Now func() time.Time

	// Limit refuses those who ask too much. Default: one of its own.
	Limit *limit.Limiter
	// TrustedProxies may say in X-Forwarded-For whom they speak for. Default
	// none: the client is who holds the connection.
	TrustedProxies []netip.Prefix
	// Origins may call from a browser, "https://app.example". Default none;
	// the public documents are open to every origin.
	Origins []string
	// AppOrigins returns more of them: those of the apps that are registered.
	// Default none. If it fails nobody else may call from a browser.
	AppOrigins func(context.Context) ([]string, error)
	// TerminologyNetworks are networks in which tenants' terminology servers may
	// be, beside the public internet. Default none.
	TerminologyNetworks []netip.Prefix
	// ImportNetworks are those in which sources of imports may be. Default none.
	ImportNetworks []netip.Prefix
	// ImportObjects reads sources of imports that are in an object store. Default:
	// none is read.
	ImportObjects *blob.Reader

	Limits Limits
}

// Limits bound what one request may ask for.
type Limits struct {
	Body    int           // bytes of a body, decoded; default 16 MiB
	Bodies  int           // bytes of large bodies that are worked on at once; default 64 MiB
	Entries int           // entries of a batch or transaction; default 5,000
	Page    int           // resources on a page unless _count asks otherwise; default 20
	MaxPage int           // resources on a page at most; default 1,000
	PatchOp int           // operations of a JSON Patch; default 1,000
	Timeout time.Duration // of a whole request; default 60s
}

func (l Limits) orDefault() Limits {
	return Limits{
		Body:    cmp.Or(l.Body, 16<<20),
		Bodies:  cmp.Or(l.Bodies, 64<<20),
		Entries: cmp.Or(l.Entries, 5000),
		Page:    cmp.Or(l.Page, 20),
		MaxPage: cmp.Or(l.MaxPage, 1000),
		PatchOp: cmp.Or(l.PatchOp, 1000),
		Timeout: cmp.Or(l.Timeout, time.Minute),
	}
}

// A Handler serves everything below /fhir, and works on what is answered later.
type Handler struct{ server *server }

// ServeHTTP answers a request. The audit entry is durable before the first
// byte of the answer leaves.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.server.ServeHTTP(w, r) }

// New returns a Handler. It panics if Config lacks what is required.
func New(cfg Config) *Handler {
	if cfg.DB == nil || cfg.Verifier == nil || cfg.Tenants == nil || cfg.Base == nil || cfg.SmartConfiguration == nil {
		panic("rest: Config lacks DB, Verifier, Tenants, Base or SmartConfiguration")
	}
	h := &Handler{newServer(cfg)}
	cfg.DB.Subscribers(h.server.subscribed)
	return h
}

// A server answers requests.
type server struct {
	Config
	routes    *router
	described descriptions
	bodies    *semaphore.Weighted
	later     *later
	exports   exports
	uploads   uploads
	fetches   chan struct{}
	// processors has room for the lines of imports that are worked on at once.
	processors chan struct{}

	elsewhere elsewhere // the terminology servers of tenants
}

func newServer(cfg Config) *server {
	cfg.Version = cmp.Or(cfg.Version, "dev")
	if cfg.Alert == nil {
		cfg.Alert = func(smart.Alert) {}
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, string, int, time.Duration) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Limit == nil {
		cfg.Limit = limit.New(limit.Config{Now: cfg.Now})
	}
	cfg.Limits = cfg.Limits.orDefault()
	return &server{Config: cfg, routes: newRouter(), bodies: semaphore.NewWeighted(int64(cfg.Limits.Bodies)), later: newLater(), exports: exports{turn: exportTurn}, fetches: make(chan struct{}, fetchesAtOnce), processors: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))}
}

// A route is a line of the table of what is served.
type route struct {
	method string
	path   string // below the base of a tenant
	does   fhir.Interaction

	// operation is what the route calls, nil for the other interactions. The
	// paths of operations lead to one of these; see operations.
	operation *operation

	// later answers a request whose body is read while it comes, if streams is
	// set: it may take as long as that.
	streams bool
	later   func(context.Context, *call) (*response, error)

	// parse reads what the request says before the door opens; nil if there
	// is nothing to read but what every request has.
	parse func(*request) error
	// One of these answers.
	public func(context.Context, *server, *request) (*response, error)
	look   func(context.Context, *store.View, *request) (*response, error)
	change func(context.Context, *store.Tx, *request) (*response, error)
	whole  func(context.Context, *server, *request) (*response, error)
}

// table is the RESTful API: what is not in it is not served, and the
// CapabilityStatement claims what is.
func table() []route {
	return []route{
		{method: "GET", path: "/metadata", does: fhir.Capabilities, public: capabilities},
		{method: "GET", path: "/.well-known/smart-configuration", does: fhir.Capabilities, public: smartConfiguration},
		{method: "GET", path: "/openapi.json", does: fhir.Capabilities, whole: openAPI},

		{method: "GET", path: "/:type/:id", does: fhir.Read, look: read},
		{method: "GET", path: "/:type/:id/_history/:version", does: fhir.Vread, look: vread},
		{method: "PUT", path: "/:type/:id", does: fhir.Update, parse: parseUpdate, change: update},
		{method: "PUT", path: "/:type", does: fhir.Update, parse: parseConditional, change: conditionalUpdate},
		{method: "PATCH", path: "/:type/:id", does: fhir.Patch, parse: parsePatch, change: patch},
		{method: "PATCH", path: "/:type", does: fhir.Patch, parse: parseConditional, change: conditionalPatch},
		{method: "DELETE", path: "/:type/:id", does: fhir.Delete, change: remove},
		{method: "DELETE", path: "/:type", does: fhir.Delete, parse: parseConditional, change: conditionalDelete},
		{method: "POST", path: "/:type", does: fhir.Create, parse: parseCreate, change: create},

		{method: "GET", path: "/:type/:id/_history", does: fhir.HistoryInstance, parse: parseHistory, look: history},
		{method: "GET", path: "/:type/_history", does: fhir.HistoryType, parse: parseHistory, look: history},
		{method: "GET", path: "/_history", does: fhir.HistorySystem, parse: parseHistory, look: history},

		{method: "GET", path: "/:type", does: fhir.SearchType, parse: parseSearch, look: searchResources},
		{method: "POST", path: "/:type/_search", does: fhir.SearchType, parse: parseSearch, look: searchResources},
		{method: "GET", path: "", does: fhir.SearchSystem, parse: parseSearch, look: searchResources},
		{method: "POST", path: "/_search", does: fhir.SearchSystem, parse: parseSearch, look: searchResources},
		{method: "GET", path: "/:type/:id/:of", does: fhir.SearchType, parse: parseCompartment, look: searchCompartment},
		{method: "POST", path: "/:type/:id/:of/_search", does: fhir.SearchType, parse: parseCompartment, look: searchCompartment},

		{method: "POST", path: "", does: fhir.Transaction, whole: batchOrTransaction},

		{method: "GET", path: "/_async/:job", does: fhir.Operation, whole: pollAsync},
		{method: "DELETE", path: "/_async/:job", does: fhir.Operation, whole: cancelAsync},
		{method: "GET", path: "/_export/:job", does: fhir.Operation, whole: exportState},
		{method: "DELETE", path: "/_export/:job", does: fhir.Operation, whole: cancelExport},
		{method: "GET", path: exportFilePath, does: fhir.Operation, whole: exportFile},
		{method: "GET", path: "/_import/:job", does: fhir.Operation, whole: importState},
		{method: "DELETE", path: "/_import/:job", does: fhir.Operation, whole: cancelImport},
		{method: "GET", path: "/_import/:job/:file", does: fhir.Operation, whole: importFile},
		{method: "PUT", path: "/_import/:job/:file", does: fhir.Operation, streams: true, later: upload, whole: notInBundle},

		{method: "GET", path: "/$:op", does: fhir.Operation},
		{method: "POST", path: "/$:op", does: fhir.Operation},
		{method: "GET", path: "/:type/$:op", does: fhir.Operation},
		{method: "POST", path: "/:type/$:op", does: fhir.Operation},
		{method: "GET", path: "/:type/:id/$:op", does: fhir.Operation},
		{method: "POST", path: "/:type/:id/$:op", does: fhir.Operation},
		{method: "GET", path: "/:type/:id/_history/:version/$:op", does: fhir.Operation},
		{method: "POST", path: "/:type/:id/_history/:version/$:op", does: fhir.Operation},
	}
}

// root is what the paths of the API begin with.
const root = "/fhir/:tenant"

// A router finds the route of a method and path, for requests and for the
// entries of Bundles.
type router struct {
	echo       *echo.Echo
	table      map[string]*route // by method and pattern
	operations map[string][]*operationRoute
}

func newRouter() *router {
	r := &router{echo: echo.New(), table: map[string]*route{}, operations: map[string][]*operationRoute{}}
	for _, o := range operations() {
		r.operations[o.name] = append(r.operations[o.name], o.asRoute())
	}
	for _, rt := range table() {
		r.echo.Add(rt.method, root+rt.path, func(echo.Context) error { return nil })
		r.table[rt.method+" "+root+rt.path] = &rt
	}
	return r
}

// A place is where a path leads: a route and the names in the path.
type place struct {
	route               *route
	pattern             string
	tenant, typ, id, of string
	version, job, file  string
	view                string // the name of a view
}

// errNoRoute says that a path leads nowhere. A *fhir.Error with status 405
// says that it does, by other methods.
var errNoRoute = errors.New("rest: no such route")

// find returns the place of a path, which begins with /fhir/ and holds no
// escapes.
func (r *router) find(method, path string) (place, string, error) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	c := r.echo.AcquireContext()
	defer r.echo.ReleaseContext(c)
	c.Reset(nil, nil)
	r.echo.Router().Find(method, path, c)
	p := place{
		pattern: c.Path(), tenant: c.Param("tenant"), typ: c.Param("type"), id: c.Param("id"),
		of: c.Param("of"), version: c.Param("version"), job: c.Param("job"), file: c.Param("file"),
	}
	p.route = r.table[method+" "+p.pattern]
	switch {
	case p.route == nil:
	case p.route.does == fhir.Operation && p.route.whole == nil:
		return r.operation(p, method, c.Param("op"))
	default:
		return p, "", nil
	}
	if p.tenant == "" {
		// Without a route there are no names, but whose path it is decides
		// who may learn that.
		p.tenant, _, _ = strings.Cut(strings.TrimPrefix(path, "/fhir/"), "/")
	}
	allow, _ := c.Get(echo.ContextKeyHeaderAllow).(string)
	if allow == "" {
		p.pattern = "none"
		return p, "", errNoRoute
	}
	return p, allow, fhir.Errorf(fhir.NotSupported, "this interaction is not supported here").WithStatus(http.StatusMethodNotAllowed)
}
