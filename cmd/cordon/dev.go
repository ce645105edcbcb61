package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/pgserver"
)

// devCommand runs both planes in one process, for one person.
type devCommand struct {
	Dir      devDir `default:"dev" env:"CORDON_DIR" placeholder:"DIR" help:"Where its data and keys are kept. Default: dev."`
	Listen   string `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address of FHIR and tokens."`
	Control  string `default:"127.0.0.1:8081" placeholder:"ADDR" help:"Address of the control API."`
	Ops      string `default:"127.0.0.1:8082" placeholder:"ADDR" help:"Address of health and metrics."`
	Database string `placeholder:"URL" help:"PostgreSQL to use, as a role that may make databases and roles. Without it one is started."`
	Demo     bool   `help:"Make the demo tenants, with the same synthetic records in each."`
	Patients int    `default:"12" help:"Patients in each demo tenant."`
	Pprof    bool   `help:"Also serve profiles of this process at the address of health and metrics, under /debug/pprof/."`

	networkFlags
}

// operator is who a development server registers for the control API, and
// reviewer who approves what takes two.
const (
	operator = "dev"
	reviewer = "reviewer"
)

// Run starts a PostgreSQL, makes the databases, serves both planes, and says
// so in dev.json. When ctx is done it lets running requests finish, closes the
// databases and stops the PostgreSQL.
func (d *devCommand) Run(ctx context.Context, c console) (err error) {
	unlock, err := d.open()
	if err != nil {
		return err
	}
	defer unlock()
	at, err := d.listen(ctx)
	if err != nil {
		return err
	}
	defer at.close()
	logFile, err := os.OpenFile(d.Dir.path("cordon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	defer logFile.Close()
	log := oplog.New(slog.NewJSONHandler(logFile, nil))

	secrets, isNew, err := d.Dir.secrets()
	if err != nil {
		return err
	}
	kms, err := keys.NewFileKMS(d.Dir.path("kek"))
	if err != nil {
		return err
	}
	ownerURL := d.Database
	var db *devDatabase
	if ownerURL == "" {
		if db, err = startDatabase(ctx, d.Dir, &secrets, isNew, log); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.stop()) }()
		ownerURL = db.OwnerURL()
	}
	migrator, urls, err := d.migrate(ctx, store.MigratorConfig{OwnerURL: ownerURL, KMS: kms, KEK: rootKEK, Secrets: secrets.roles()})
	if err != nil {
		return err
	}
	defer migrator.Close()
	if err := writeJSON(d.Dir.path("database.json"), urls); err != nil {
		return err
	}

	ops := newOps(log)
	ops.profiled = d.Pprof
	plane, err := openDataPlane(ctx, dataPlaneConfig{
		registryURL: urls.Registry, databaseURL: urls.App, auditURL: urls.Audit,
		logURL: urls.Log, logRegistryURL: urls.LogRegistry, vault: ledger.Dir(d.Dir.path("checkpoints")),
		kms: kms, public: publicURL("http://" + address(at.data)), networks: d.networkFlags, files: store.FilesConfig{Dir: d.Dir.path("files")}, ops: ops, log: log,
	})
	if err != nil {
		return err
	}
	defer plane.close()
	server := d.server(at)
	controlAPI, err := newControl(migrator, plane.registry, server.Control, log)
	if err != nil {
		return err
	}

	g, running := errgroup.WithContext(ctx)
	g.Go(func() error {
		return serve(running, log, ops,
			endpoint{name: "FHIR", listen: at.data, handler: plane.handler},
			endpoint{name: "control", listen: at.control, handler: controlAPI},
			endpoint{name: "ops", listen: at.ops, handler: ops.handler()})
	})
	if db != nil {
		g.Go(func() error { return db.keepAlive(running) })
	}
	g.Go(func() error {
		err := d.prepare(running, server, c)
		if ctx.Err() != nil {
			return nil // told to stop before it was ready
		}
		return err
	})
	return g.Wait()
}

// devListeners are where a development server answers.
type devListeners struct{ data, control, ops net.Listener }

func (l *devListeners) close() {
	for _, l := range []net.Listener{l.data, l.control, l.ops} {
		if l != nil {
			l.Close()
		}
	}
}

// listen takes the three addresses before anything else is started.
func (d *devCommand) listen(ctx context.Context) (*devListeners, error) {
	l := &devListeners{}
	for _, at := range []struct {
		flag, address string
		listener      *net.Listener
	}{{"listen", d.Listen, &l.data}, {"control", d.Control, &l.control}, {"ops", d.Ops, &l.ops}} {
		var err error
		if *at.listener, err = listen(ctx, at.flag, at.address); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// migrate makes the databases and the operator of the control plane.
func (d *devCommand) migrate(ctx context.Context, cfg store.MigratorConfig) (*store.Migrator, store.URLs, error) {
	m, err := store.OpenMigrator(ctx, cfg)
	if err != nil {
		return nil, store.URLs{}, err
	}
	if err = m.Migrate(ctx); err == nil {
		err = putOperator(ctx, m, store.Operator{ID: operator, Name: "Developer"}, d.Dir.path("operator.jwk"))
	}
	if err == nil {
		err = putOperator(ctx, m, store.Operator{ID: reviewer, Name: "Reviewer"}, d.Dir.path("reviewer.jwk"))
	}
	var urls store.URLs
	if err == nil {
		urls, err = m.URLs()
	}
	if err != nil {
		m.Close()
	}
	return m, urls, err
}

// rootKEK is the key that wraps the keys of a development server's tenants.
const rootKEK = "file://root"

// open makes the directory, if need be, and takes it for this process.
// dev.json goes away until the server is ready.
func (d *devCommand) open() (unlock func(), err error) {
	abs, err := filepath.Abs(string(d.Dir))
	if err != nil {
		return nil, err
	}
	d.Dir = devDir(abs)
	// The user that PostgreSQL runs as must pass through to reach pg; all else
	// in it is readable to the owner alone.
	if err := os.MkdirAll(abs, 0o711); err != nil {
		return nil, fmt.Errorf("making the directory: %w", err)
	}
	lock, err := os.OpenFile(d.Dir.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("another cordon dev runs in %s", abs)
	}
	unlock = func() {
		os.Remove(d.Dir.path("dev.json"))
		lock.Close()
	}
	if err := os.Remove(d.Dir.path("dev.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		lock.Close()
		return nil, err
	}
	return unlock, nil
}

// server returns what dev.json is to say, but for the tenants.
func (d *devCommand) server(at *devListeners) *devServer {
	return &devServer{
		FHIR:            "http://" + address(at.data) + "/fhir",
		Auth:            "http://" + address(at.data) + "/auth",
		Control:         "http://" + address(at.control),
		Ops:             "http://" + address(at.ops),
		Operator:        operator,
		OperatorKeyFile: d.Dir.path("operator.jwk"),
	}
}

// address returns where a client on this machine reaches the listener.
func address(l net.Listener) string {
	a := l.Addr().(*net.TCPAddr)
	if a.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", a.Port)
	}
	return a.String()
}

// A devDatabase is a PostgreSQL of our own. It is started again if it ends,
// at the same port.
type devDatabase struct {
	*pgserver.Server
	config pgserver.Config
	log    *oplog.Logger
}

// startDatabase starts the PostgreSQL in dir. Its port is chosen once and kept
// in secrets, for the placements of tenants name it.
func startDatabase(ctx context.Context, dir devDir, secrets *devSecrets, isNew bool, log *oplog.Logger) (*devDatabase, error) {
	db := &devDatabase{config: pgserver.Config{Dir: dir.path("pg"), Port: secrets.Port}, log: log}
	began := time.Now()
	var err error
	if db.Server, err = pgserver.Start(ctx, db.config); err != nil {
		return nil, err
	}
	made, err := os.Stat(filepath.Join(db.Data(), "PG_VERSION"))
	if err == nil && isNew && made.ModTime().Before(began.Add(-time.Second)) {
		// Its tenants were sealed with a key that is gone.
		err = fmt.Errorf("%s is new, but %s holds the database of an earlier one; remove it first", dir, filepath.Dir(db.Data()))
		os.Remove(dir.path("secrets.json"))
	}
	if err != nil {
		return nil, errors.Join(err, db.Stop())
	}
	db.config.Port = db.Port()
	if secrets.Port != db.Port() {
		secrets.Port = db.Port()
		if err := writeJSON(dir.path("secrets.json"), *secrets); err != nil {
			return nil, errors.Join(err, db.Stop())
		}
	}
	return db, nil
}

// keepAlive starts the PostgreSQL again when it ends, until ctx is done.
func (db *devDatabase) keepAlive(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-db.Done():
		}
		db.log.Error("PostgreSQL ended; starting it again")
		again, err := pgserver.Start(ctx, db.config)
		switch {
		case err == nil:
			db.Server = again
		case ctx.Err() == nil:
			return err
		}
	}
}

func (db *devDatabase) stop() error {
	select {
	case <-db.Done():
		return nil
	default:
		return db.Stop()
	}
}
