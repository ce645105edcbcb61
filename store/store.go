// Package store keeps resources in PostgreSQL, one tenant at a time.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/blob"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// A PlatformLog keeps the audit entries of requests for which no tenant was
// proven, such as those without a token. Registry is one.
type PlatformLog interface {
	AppendPlatform(ctx context.Context, entries []audit.Entry) error
}

// A Watcher sees what is written to the audit trails. alert.Watcher is one.
type Watcher interface {
	// Entries sees entries that were written, before the answer leaves.
	Entries(*tenant.Tenant, []*audit.Entry)
	// NotAudited sees that entries could not be written; nil is the platform.
	NotAudited(*tenant.Tenant)
}

// Config is what a DB needs.
type Config struct {
	// DatabaseURL is the common database as the role cordon_app.
	DatabaseURL string // required
	// AuditURL is the common database as the role cordon_audit.
	AuditURL string // required

	Keys     *keys.Keyring // required
	Platform PlatformLog   // required

	// Packages is the registry that has the packages of definitions of the
	// tenants, and who broke which glass; nil if they have none.
	Packages *Registry

	// Watch sees what is written to the audit trails. Default: nobody does.
	Watch Watcher
	// Server is the name of this process in the audit trails. Default: that of
	// the machine.
	Server string

	// MaxConns bounds the connections to one database. Default 16.
	MaxConns int
	// Wait bounds how long a request waits for a connection. Default 5s.
	Wait time.Duration

	// Base returns the FHIR base URL of the tenant with the slug, without a
	// slash at its end. References to it are indexed as relative ones; nil
	// knows of none.
	Base func(slug string) string

	// Files says where bulk exports are written. Default: nowhere.
	Files FilesConfig

	// Lease is for how long a deferred request is taken up, unless that is
	// renewed. Default 30s.
	Lease time.Duration

	Log *oplog.Logger
}

func (c *Config) watch(t *tenant.Tenant, entries []*audit.Entry, err error) {
	switch {
	case c.Watch == nil:
	case err != nil:
		c.Watch.NotAudited(t)
	default:
		c.Watch.Entries(t, entries)
	}
}

// name is that of this process. A machine without one leaves it out.
func (c *Config) name() string {
	machine, _ := os.Hostname()
	return cmp.Or(c.Server, machine)
}

// DB is the door to the data of every tenant. It opens for a Grant only.
type DB struct {
	// Lease is that of Config.
	Lease time.Duration

	gate     *gate.Gate
	keys     *keys.Keyring
	platform PlatformLog
	watch    func(*tenant.Tenant, []*audit.Entry, error)
	server   string
	codec    *codec
	base     func(slug string) string
	packages *Registry
	files    blob.Store // nil if there is none
	rules    *rules
	customs  *customs
	few      int                   // fewMatches; tests take fewer
	trail    trailBounds           // pageBounds, likewise
	consents byTenant[atomic.Bool] // whether there were some of late
	opened   byTenant[openedConsents]
	warned   byTenant[atomic.Int64] // when, of a consent that cannot be followed

	subscriber Subscriber                      // nil: what a Subscription asks for is nobody's concern
	changed    atomic.Pointer[func(tenant.ID)] // is told that something was written
	log        *oplog.Logger
}

// Open connects to the databases. It fails if the server's role could see past
// row-level security, if a table is without it, or if a crash of the database
// would lose what was acknowledged.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Keys == nil || cfg.Platform == nil {
		return nil, errors.New("store: Config.Keys and Config.Platform are required")
	}
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	db := &DB{Lease: cmp.Or(cfg.Lease, 30*time.Second), keys: cfg.Keys, platform: cfg.Platform, watch: cfg.watch, server: cfg.name(), codec: c, base: cfg.Base, packages: cfg.Packages, rules: newRules(), customs: &customs{}, few: fewMatches, trail: pageBounds, log: cfg.Log}
	if db.base == nil {
		db.base = func(string) string { return "" }
	}
	if db.files, err = cfg.Files.open(ctx); err != nil {
		return nil, err
	}
	db.gate, err = gate.Open(ctx, gate.Config{
		DatabaseURL: cfg.DatabaseURL,
		AuditURL:    cfg.AuditURL,
		Seal:        db.sealEntry,
		Watch:       cfg.watch,
		MaxConns:    int32(cfg.MaxConns),
		Wait:        cfg.Wait,
		Log:         cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return db, nil
}

// Close waits for running transactions and closes the connections.
func (db *DB) Close() { db.gate.Close() }

// Ping reports whether the common database answers and is safe to use.
func (db *DB) Ping(ctx context.Context) error { return db.gate.Ping(ctx) }

// View runs fn on a snapshot of the tenant of g. What fn reads may leave the
// process only after View returns nil: by then the reads are audited. If they
// cannot be, View returns a *fhir.Error with code Transient.
func (db *DB) View(ctx context.Context, g *smart.Grant, fn func(*View) error) error {
	return db.gate.View(ctx, g, func(t *gate.Tx) error {
		v, err := db.view(ctx, t)
		if err != nil {
			return err
		}
		return fn(v)
	})
}

// Read is a View that reads one resource, in one round trip if that is enough to
// decide.
func (db *DB) Read(ctx context.Context, g *smart.Grant, ref fhir.Ref) (fhir.Resource, error) {
	r, err := db.readOnce(ctx, g, ref)
	if errors.Is(err, errTwoStatements) {
		err = db.View(ctx, g, func(v *View) error {
			r, err = v.Read(ctx, ref)
			return err
		})
	}
	if err != nil {
		return fhir.Resource{}, err
	}
	return r, nil
}

// readOnce is Read in one statement; errTwoStatements if it takes more.
func (db *DB) readOnce(ctx context.Context, g *smart.Grant, ref fhir.Ref) (r fhir.Resource, err error) {
	err = db.gate.Once(ctx, g, func(t *gate.Tx) error {
		v, err := db.view(ctx, t)
		if err != nil {
			return err
		}
		r, err = v.Read(ctx, ref)
		return err
	})
	return r, err
}

// Update runs fn on one transaction of the tenant of g and commits what it
// wrote together with the audit entries, or nothing. fn may be run again when
// the database asks for a retry (deadlock, serialization) or when it was
// Waiting, so it must not keep state from an earlier run.
func (db *DB) Update(ctx context.Context, g *smart.Grant, fn func(*Tx) error) error {
	return db.update(ctx, g, false, fn)
}

// Transaction is Update for a Bundle: each interaction in fn has an audit entry
// of its own, linked to that of the request.
func (db *DB) Transaction(ctx context.Context, g *smart.Grant, fn func(*Tx) error) error {
	return db.update(ctx, g, true, fn)
}

func (db *DB) update(ctx context.Context, g *smart.Grant, bundle bool, fn func(*Tx) error) error {
	var ruled bool // whether a rule of the tenant was written
	defer func() {
		if ruled {
			db.rules.forget(g.Tenant().ID)
		}
	}()
	var trying audit.Entry
	if bundle {
		trying.Interaction = fhir.Transaction
	}
	err := db.write(ctx, g, trying, func(v *View) error {
		v.bundle, v.writes = bundle, &pending{}
		tx := &Tx{View: *v}
		if err := fn(tx); err != nil {
			return err
		}
		ruled = ruled || tx.ruled
		return tx.deferWrites()
	})
	if tell := db.changed.Load(); err == nil && tell != nil {
		(*tell)(g.Tenant().ID)
	}
	return err
}

// job is write for work of the tenant's own, whose Grant g is. permit is the
// method of g that says what it is for.
func (db *DB) job(ctx context.Context, g *smart.Grant, permit func() (smart.Permit, error), doing string, fn func(*View, smart.Permit) error) error {
	p, err := permit()
	if err != nil {
		return err
	}
	err = db.write(ctx, g, audit.Entry{Interaction: fhir.Operation, Query: doing}, func(v *View) error { return fn(v, p) })
	if err != nil {
		return fmt.Errorf("%s of tenant %s: %w", doing, g.Tenant().ID, err)
	}
	return nil
}

// write runs fn on one transaction of the tenant of g, perhaps again; see
// Update. trying is its audit entry, unless fn notes another.
func (db *DB) write(ctx context.Context, g *smart.Grant, trying audit.Entry, fn func(*View) error) error {
	again := false
	return db.gate.Update(ctx, g, func(t *gate.Tx) error {
		if again { // perhaps because the tenant's search parameters have changed
			db.customs.forget(g.Tenant().ID)
		}
		again = true
		t.Trail().Main = trying
		v, err := db.view(ctx, t)
		if err != nil {
			return err
		}
		if err := fn(v); err != nil || db.packages == nil {
			return err
		}
		return db.packages.clock.check() // at the end, so that the trail tells what was tried
	})
}

func (db *DB) view(ctx context.Context, t *gate.Tx) (*View, error) {
	g := t.Grant()
	set, err := db.keys.Of(ctx, g.Tenant().ID)
	if err != nil {
		return nil, err
	}
	custom, err := db.Custom(ctx, g)
	if err != nil {
		return nil, err
	}
	schema := search.Schema{Base: db.base(g.Tenant().Slug.String()), Custom: custom}
	return &View{db: db, gate: t, grant: g, keys: set, schema: schema, standings: db.customs.of(g.Tenant().ID).standings(), consents: &consents{hint: db.consents.of(g.Tenant().ID)}}, nil
}

// View reads from a snapshot.
type View struct {
	db     *DB
	gate   *gate.Tx
	grant  *smart.Grant
	keys   *keys.Set
	schema search.Schema
	bundle bool     // note every interaction as a linked entry
	writes *pending // what a Tx has yet to write; nil in a View
	// standings says that the index has those of all resources.
	standings bool

	imports *ImportBatch // of which the writes are; nil if they are of no import

	endings  []*ending // what is known of the relations that a policy asks about
	consents *consents // what is known of those of patients
}

// allowed is the condition of p, in a form that the index answers.
func (v *View) allowed(p smart.Permit) search.Expr {
	if v.standings {
		return p.Where()
	}
	return search.Unheld(p.Where())
}

// note puts an interaction into the audit trail.
func (v *View) note(e audit.Entry) {
	trail := v.gate.Trail()
	if v.bundle {
		trail.Linked = append(trail.Linked, e)
		return
	}
	trail.Main = e
}

// Operation says that what v does from here on is part of the operation that e
// describes: it has audit entries of its own, linked to e.
func (v *View) Operation(e audit.Entry) {
	v.note(e)
	v.bundle = true
}

// attempt says in the audit trail what is being tried, for when it fails. A
// Bundle fails as a whole, under its own name.
func (v *View) attempt(e audit.Entry) {
	if !v.bundle {
		v.gate.Trail().Main = e
	}
}
