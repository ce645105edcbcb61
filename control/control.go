// Package control serves the API by which operators make tenants, choose how
// they are served and register their clients.
//
// It reads no clinical rows: it speaks to the registry, and to PostgreSQL as
// the owner of the databases, whom row-level security holds. What is asked about
// records it leaves to the servers to answer, by the registry. Every act is in
// the platform's audit trail before it begins, and again before its answer
// leaves.
package control

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// Config is what the control API needs.
type Config struct {
	Migrator *store.Migrator // required
	Registry *store.Registry // required

	// URL is the origin at which operators reach the API, without a slash at
	// its end: "https://control.example.org". It is the audience of their
	// tokens. Required.
	URL string

	// Log is told of each request.
	Log *oplog.Logger
	// Now tells the time. Default time.Now.
	Now func() time.Time
	// Version is that of the program, for evidence.
	Version string
	// Wait bounds how long an answer of the servers is waited for. Default 40s.
	Wait time.Duration
}

// New returns the handler of everything below /control/v1/.
func New(cfg Config) (http.Handler, error) {
	if cfg.Migrator == nil || cfg.Registry == nil || cfg.URL == "" {
		return nil, errors.New("control: Config needs Migrator, Registry and URL")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Wait == 0 {
		cfg.Wait = 40 * time.Second
	}
	return &api{cfg, tenant.NewRegistry(cfg.Registry), make(chan struct{}, 1)}, nil
}

type api struct {
	Config
	tenants *tenant.Registry
	// uploading is held by the one who unpacks a package: it takes memory.
	uploading chan struct{}
}

// A call is one request of an operator who has proved to be one.
type call struct {
	slug string // what stands for {slug} in the path; a slug, if the route has one
	item string // what else is named in the path: a package, client, login, provider, broken glass, legal hold or purge
	// number is what stands for {number} in the path.
	number int64
	// operator is who asks.
	operator string
	// request is the id of the request.
	request string
	body    []byte
	file    io.Reader // instead of body, where the route takes a file
}

// An answer is what an operator gets.
type answer struct {
	status int
	body   any
	// did says what was done, for the audit trail.
	did string
}

// A route is one act of the API. One with a method that changes something is
// audited before it begins, too.
type route struct {
	method, path string
	do           func(*api, context.Context, call) (answer, error)
	file         bool // the body is a file
}

var routes = []route{
	{method: http.MethodGet, path: "/tenants", do: (*api).listTenants},
	{method: http.MethodPost, path: "/tenants", do: (*api).createTenant},
	{method: http.MethodGet, path: "/tenants/{slug}", do: (*api).showTenant},
	{method: http.MethodPost, path: "/tenants/{slug}/suspend", do: (*api).suspend},
	{method: http.MethodPost, path: "/tenants/{slug}/resume", do: (*api).resume},
	{method: http.MethodGet, path: "/tenants/{slug}/clients", do: (*api).listClients},
	{method: http.MethodPost, path: "/tenants/{slug}/clients", do: (*api).putClient},
	{method: http.MethodPost, path: "/tenants/{slug}/clients/{client}/disable", do: (*api).disableClient},
	{method: http.MethodPost, path: "/tenants/{slug}/clients/{client}/enable", do: (*api).enableClient},
	{method: http.MethodPost, path: "/tenants/{slug}/signing-keys", do: (*api).rotateKeys},
	{method: http.MethodGet, path: "/tenants/{slug}/users", do: (*api).listUsers},
	{method: http.MethodPost, path: "/tenants/{slug}/users", do: (*api).addUser},
	{method: http.MethodPost, path: "/tenants/{slug}/users/{login}/password", do: (*api).setPassword},
	{method: http.MethodPost, path: "/tenants/{slug}/users/{login}/disable", do: (*api).disableUser},
	{method: http.MethodPost, path: "/tenants/{slug}/users/{login}/enable", do: (*api).enableUser},
	{method: http.MethodGet, path: "/tenants/{slug}/identity-providers", do: (*api).listProviders},
	{method: http.MethodPost, path: "/tenants/{slug}/identity-providers", do: (*api).putProvider},
	{method: http.MethodDelete, path: "/tenants/{slug}/identity-providers/{provider}", do: (*api).removeProvider},
	{method: http.MethodGet, path: "/tenants/{slug}/identity-providers/{provider}/users", do: (*api).listProviderUsers},
	{method: http.MethodPost, path: "/tenants/{slug}/identity-providers/{provider}/users", do: (*api).putProviderUser},
	{method: http.MethodGet, path: "/tenants/{slug}/issuer", do: (*api).showIssuer},
	{method: http.MethodPut, path: "/tenants/{slug}/issuer", do: (*api).putIssuer},
	{method: http.MethodDelete, path: "/tenants/{slug}/issuer", do: (*api).removeIssuer},
	{method: http.MethodGet, path: "/tenants/{slug}/settings", do: (*api).showSettings},
	{method: http.MethodPut, path: "/tenants/{slug}/settings", do: (*api).putSettings},
	{method: http.MethodGet, path: "/tenants/{slug}/packages", do: (*api).listPackages},
	{method: http.MethodPost, path: "/tenants/{slug}/packages", do: (*api).installPackage, file: true},
	{method: http.MethodDelete, path: "/tenants/{slug}/packages/{package}", do: (*api).removePackage},
	{method: http.MethodGet, path: "/tenants/{slug}/policy", do: (*api).showPolicy},
	{method: http.MethodGet, path: "/tenants/{slug}/policy/versions/{number}", do: (*api).showPolicyVersion},
	{method: http.MethodGet, path: "/tenants/{slug}/policy/changes", do: (*api).listPolicyChanges},
	{method: http.MethodPost, path: "/tenants/{slug}/policy/changes", do: (*api).proposePolicy},
	{method: http.MethodGet, path: "/tenants/{slug}/policy/changes/{number}", do: (*api).showPolicyChange},
	{method: http.MethodPost, path: "/tenants/{slug}/policy/changes/{number}/approve", do: (*api).approvePolicy},
	{method: http.MethodPost, path: "/tenants/{slug}/policy/explain", do: (*api).explainAccess},
	{method: http.MethodPost, path: "/tenants/{slug}/policy/dry-run", do: (*api).dryRun},
	{method: http.MethodPost, path: "/policy/check", do: (*api).checkPolicy},
	{method: http.MethodGet, path: "/tenants/{slug}/index", do: (*api).showIndex},
	{method: http.MethodPost, path: "/tenants/{slug}/reindex", do: (*api).reindex},
	{method: http.MethodGet, path: "/tenants/{slug}/break-glass", do: (*api).listGlasses},
	{method: http.MethodGet, path: "/tenants/{slug}/break-glass/{glass}", do: (*api).showGlass},
	{method: http.MethodPost, path: "/tenants/{slug}/break-glass/{glass}/end", do: (*api).endGlass},
	{method: http.MethodGet, path: "/tenants/{slug}/legal-holds", do: (*api).listHolds},
	{method: http.MethodPost, path: "/tenants/{slug}/legal-holds", do: (*api).placeHold},
	{method: http.MethodPost, path: "/tenants/{slug}/legal-holds/{hold}/lift", do: (*api).liftHold},
	{method: http.MethodGet, path: "/tenants/{slug}/purges", do: (*api).listPurges},
	{method: http.MethodPost, path: "/tenants/{slug}/purges", do: (*api).askPurge},
	{method: http.MethodPost, path: "/tenants/{slug}/purges/{purge}/approve", do: (*api).approvePurge},
	{method: http.MethodGet, path: "/alerts", do: (*api).listAlerts},
	{method: http.MethodGet, path: "/tenants/{slug}/alerts", do: (*api).listAlerts},
	{method: http.MethodGet, path: "/alerts/{number}", do: (*api).showAlert},
	{method: http.MethodPost, path: "/alerts/{number}/acknowledge", do: (*api).acknowledgeAlert},
	{method: http.MethodPost, path: "/alerts/{number}/close", do: (*api).closeAlert},
	{method: http.MethodGet, path: "/alert-sinks", do: (*api).listAlertSinks},
	{method: http.MethodPut, path: "/alert-sink", do: (*api).putAlertSink},
	{method: http.MethodDelete, path: "/alert-sink", do: (*api).removeAlertSink},
	{method: http.MethodPut, path: "/tenants/{slug}/alert-sink", do: (*api).putAlertSink},
	{method: http.MethodDelete, path: "/tenants/{slug}/alert-sink", do: (*api).removeAlertSink},
	{method: http.MethodGet, path: "/audit", do: (*api).listPlatform},
	{method: http.MethodGet, path: "/audit/before/{number}", do: (*api).listPlatform},
	{method: http.MethodGet, path: "/audit-key", do: (*api).showAuditKey},
	{method: http.MethodGet, path: "/tenants/{slug}/audit-key", do: (*api).showAuditKey},
	{method: http.MethodPost, path: "/audit-key", do: (*api).rotateAuditKey},
	{method: http.MethodPost, path: "/tenants/{slug}/audit-key", do: (*api).rotateAuditKey},
	{method: http.MethodPost, path: "/tenants/{slug}/evidence", do: (*api).evidence},
	{method: http.MethodGet, path: "/migrations", do: (*api).migrations},
}

const prefix = "/control/v1"

// find returns the route of a request and what its path names. The path is
// taken as it was sent: nothing is decoded, cleaned or redirected.
func find(method, path string) (route, call, error) {
	rest, ok := strings.CutPrefix(path, prefix)
	known := false
	for _, r := range routes {
		c, match := r.match(rest)
		if !ok || !match {
			continue
		}
		if r.method == method {
			return r, c, nil
		}
		known = true
	}
	if known {
		return route{}, call{}, fhir.Errorf(fhir.NotSupported, "the method is not supported here").WithStatus(http.StatusMethodNotAllowed)
	}
	return route{}, call{}, fhir.Errorf(fhir.NotFound, "there is no such path")
}

func (r route) match(path string) (c call, ok bool) {
	want, got := strings.Split(r.path, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return call{}, false
	}
	for i := range want {
		switch {
		case want[i] == "{slug}":
			if _, err := tenant.ParseSlug(got[i]); err != nil {
				return call{}, false
			}
			c.slug = got[i]
		case want[i] == "{client}":
			if !clientID.MatchString(got[i]) {
				return call{}, false
			}
			c.item = got[i]
		case want[i] == "{provider}":
			if !smart.ValidProvider(got[i]) {
				return call{}, false
			}
			c.item = got[i]
		case want[i] == "{login}":
			if !smart.ValidLogin(got[i]) {
				return call{}, false
			}
			c.item = got[i]
		case want[i] == "{glass}", want[i] == "{hold}", want[i] == "{purge}":
			if !glassID.MatchString(got[i]) {
				return call{}, false
			}
			c.item = got[i]
		case want[i] == "{package}":
			if !packageID.MatchString(got[i]) {
				return call{}, false
			}
			c.item = got[i]
		case want[i] == "{number}":
			if c.number, ok = number(got[i]); !ok {
				return call{}, false
			}
		case want[i] != got[i]:
			return call{}, false
		}
	}
	return c, true
}
