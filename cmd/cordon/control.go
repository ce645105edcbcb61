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
	front, err := s.front(ctx, s.ControlURL, s.Listen)
	if err != nil {
		return err
	}
	defer front.close()

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
	handler, err := newControl(migrator, registry, string(front.public), log)
	if err != nil {
		return err
	}
	ops := newOps(log)
	ops.check("registry", registry.Ping)
	return front.serve(ctx, log, ops, "control", handler)
}

// newControl returns the control API. url is its origin, which operators'
// tokens must name.
func newControl(m *store.Migrator, r *store.Registry, url string, log *oplog.Logger) (http.Handler, error) {
	return control.New(control.Config{Migrator: m, Registry: r, URL: url, Log: log, Version: version()})
}
