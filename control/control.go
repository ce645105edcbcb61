// Package control serves the API by which operators make tenants, suspend them
// and register their clients.
//
// It reads no clinical rows: it speaks to the registry, and to PostgreSQL as
// the owner of the databases, whom row-level security holds. Every act is in
// the platform's audit trail before it begins, and again before its answer
// leaves.
package control

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
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

	// Log is told of each request. Default slog.Default.
	Log *slog.Logger
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// New returns the handler of everything below /control/v1/.
func New(cfg Config) (http.Handler, error) {
	if cfg.Migrator == nil || cfg.Registry == nil || cfg.URL == "" {
		return nil, errors.New("control: Config needs Migrator, Registry and URL")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &api{cfg, tenant.NewRegistry(cfg.Registry)}, nil
}

type api struct {
	Config
	tenants *tenant.Registry
}

// A call is one request of an operator who has proved to be one.
type call struct {
	slug string // what stands for {slug} in the path; a slug, if the route has one
	body []byte
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
}

var routes = []route{
	{http.MethodGet, "/tenants", (*api).listTenants},
	{http.MethodPost, "/tenants", (*api).createTenant},
	{http.MethodGet, "/tenants/{slug}", (*api).showTenant},
	{http.MethodPost, "/tenants/{slug}/suspend", (*api).suspend},
	{http.MethodPost, "/tenants/{slug}/resume", (*api).resume},
	{http.MethodGet, "/tenants/{slug}/clients", (*api).listClients},
	{http.MethodPost, "/tenants/{slug}/clients", (*api).putClient},
	{http.MethodGet, "/migrations", (*api).migrations},
}

const prefix = "/control/v1"

// find returns the route of a request and the slug in its path. The path is
// taken as it was sent: nothing is decoded, cleaned or redirected.
func find(method, path string) (route, string, error) {
	rest, ok := strings.CutPrefix(path, prefix)
	known := false
	for _, r := range routes {
		slug, match := r.match(rest)
		if !ok || !match {
			continue
		}
		if r.method == method {
			return r, slug, nil
		}
		known = true
	}
	if known {
		return route{}, "", fhir.Errorf(fhir.NotSupported, "the method is not supported here").WithStatus(http.StatusMethodNotAllowed)
	}
	return route{}, "", fhir.Errorf(fhir.NotFound, "there is no such path")
}

func (r route) match(path string) (slug string, ok bool) {
	want, got := strings.Split(r.path, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return "", false
	}
	for i := range want {
		switch {
		case want[i] == "{slug}":
			if _, err := tenant.ParseSlug(got[i]); err != nil {
				return "", false
			}
			slug = got[i]
		case want[i] != got[i]:
			return "", false
		}
	}
	return slug, true
}
