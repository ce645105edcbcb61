package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/cordon-fhir/cordon/control"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/store"
)

// controlCommand runs the control plane. It reads no clinical rows: its role
// has no right on them.
type controlCommand struct {
	migratorFlags
	listenFlags
	ControlURL string `required:"" env:"CORDON_CONTROL_URL" placeholder:"URL" help:"Origin that operators use; their tokens name it."`
	Listen     string `env:"CORDON_CONTROL_LISTEN" default:"127.0.0.1:8081" placeholder:"ADDR" help:"Address of the control API."`
}

// Run serves until ctx is done.
func (s *controlCommand) Run(ctx context.Context, c console) error {
	log := oplog.New(slog.NewJSONHandler(c.err, nil))
	public, err := parsePublicURL(s.ControlURL)
	if err != nil {
		return err
	}
	tls, err := readTLS(s.TLSCert, s.TLSKey)
	if err != nil {
		return err
	}
	main, err := listen(ctx, "listen", s.Listen)
	if err != nil {
		return err
	}
	defer main.Close()
	side, err := listen(ctx, "ops-listen", s.OpsListen)
	if err != nil {
		return err
	}
	defer side.Close()

	migrator, kms, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer migrator.Close()
	registry, err := store.OpenRegistry(ctx, s.RegistryURL, kms)
	if err != nil {
		return err
	}
	defer registry.Close()
	handler, err := newControl(migrator, registry, string(public), log)
	if err != nil {
		return err
	}
	ops := newOps(log)
	ops.check("registry", registry.Ping)
	return serve(ctx, log, ops,
		endpoint{name: "control", listen: main, handler: handler, tls: tls},
		endpoint{name: "ops", listen: side, handler: ops.handler()})
}

// newControl returns the control API. url is its origin, which operators'
// tokens must name.
func newControl(m *store.Migrator, r *store.Registry, url string, log *oplog.Logger) (http.Handler, error) {
	return control.New(control.Config{Migrator: m, Registry: r, URL: url, Log: log})
}
