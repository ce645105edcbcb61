// Package gate is the only code that holds a database connection for clinical
// data. It binds each transaction to one tenant, runs no statement without a
// Permit, and lets nothing out before its audit entry is durable.
package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// Config is what a Gate needs.
type Config struct {
	// DatabaseURL is the common database, as the role that owns nothing.
	DatabaseURL string // required
	// AuditURL is the same database, as the role that only appends to the
	// audit trail.
	AuditURL string // required

	// Seal makes the row of an audit entry, with its private part sealed
	// under the tenant's audit key.
	Seal func(context.Context, *tenant.Tenant, *audit.Entry) (AuditRow, error) // required

	// Watch is told of the entries that were written to the trail of a tenant,
	// before what they are of leaves the process; with an error, of those that
	// could not be written. Default: nobody is.
	Watch func(*tenant.Tenant, []*audit.Entry, error)

	// MaxConns bounds the connections to one database. Default 16.
	MaxConns int32
	// Wait bounds how long a request waits for a connection; then it is
	// answered 503. Default 5s.
	Wait time.Duration

	Log *oplog.Logger
}

// A Gate is the databases of all tenants.
type Gate struct {
	cfg Config

	mu     sync.Mutex
	places map[string]*place // by DSN; "" is the common database
	closed bool
}

// A place is one database: its connections and its audit writer.
type place struct {
	pool    *pgxpool.Pool
	auditor *auditor

	mu      sync.Mutex
	checked map[string]bool          // schemas that were found safe
	shares  map[tenant.ID]chan token // nil in the database of one tenant
}

// A token is the right to hold one connection.
type token struct{}

// share returns what a tenant may hold of the connections, as the room for its
// tokens; nil is no bound. Among tenants it is half of them: whatever one does,
// be it requests that wait for each other, the others find some free.
func (p *place) share(id tenant.ID) chan token {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shares == nil {
		return nil
	}
	if p.shares[id] == nil {
		p.shares[id] = make(chan token, max(1, p.pool.Config().MaxConns/2))
	}
	return p.shares[id]
}

// Open connects to the common database. It fails if the database would not
// hold the boundary or the data: see check.
func Open(ctx context.Context, cfg Config) (*Gate, error) {
	if cfg.DatabaseURL == "" || cfg.AuditURL == "" || cfg.Seal == nil {
		return nil, errors.New("gate: DatabaseURL, AuditURL and Seal are required")
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 16
	}
	if cfg.Wait == 0 {
		cfg.Wait = 5 * time.Second
	}
	if cfg.Watch == nil {
		cfg.Watch = func(*tenant.Tenant, []*audit.Entry, error) {}
	}
	g := &Gate{cfg: cfg, places: map[string]*place{}}
	if _, err := g.place(ctx, tenant.Placement{}); err != nil {
		return nil, err
	}
	return g, nil
}

// Close waits for what is running and closes every connection.
func (g *Gate) Close() {
	g.mu.Lock()
	g.closed = true
	places := g.places
	g.places = map[string]*place{}
	g.mu.Unlock()
	for _, p := range places {
		p.auditor.close()
		p.pool.Close()
	}
}

// place returns the database of a placement, connected and checked.
func (g *Gate) place(ctx context.Context, at tenant.Placement) (*place, error) {
	g.mu.Lock()
	p, closed := g.places[at.DSN], g.closed
	g.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if p != nil {
		return p, p.check(ctx, at)
	}
	app, trail := g.cfg.DatabaseURL, g.cfg.AuditURL
	if at.DSN != "" {
		app, trail = at.DSN, at.AuditDSN
	}
	pool, err := connect(ctx, app, g.cfg.MaxConns)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	p = &place{pool: pool, checked: map[string]bool{}}
	if at.DSN == "" {
		p.shares = map[tenant.ID]chan token{}
	}
	if err := p.check(ctx, at); err != nil {
		pool.Close()
		return nil, err
	}
	if p.auditor, err = newAuditor(ctx, trail, g.cfg.Log); err != nil {
		pool.Close()
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if other := g.places[at.DSN]; other != nil || g.closed { // someone was faster
		p.auditor.close()
		pool.Close()
		if g.closed {
			return nil, ErrClosed
		}
		return other, nil
	}
	g.places[at.DSN] = p
	return p, nil
}

func connect(ctx context.Context, dsn string, conns int32) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("malformed database URL") // the error would show the password
	}
	cfg.MaxConns = conns
	cfg.MaxConnIdleTime = 5 * time.Minute
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	cfg.ConnConfig.StatementCacheCapacity = 512
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = planMode[false]
	// A search can have dozens of conditions, each a semi-join. Among more than
	// this many tables the planner must not try every order: with ten it
	// thinks for seconds.
	cfg.ConnConfig.RuntimeParams["join_collapse_limit"] = "5"
	cfg.ConnConfig.RuntimeParams["from_collapse_limit"] = "5"
	return pgxpool.NewWithConfig(ctx, cfg)
}

// ErrClosed means that a statement came without a tenant or without a permit,
// or after Close. It is a bug in this program, never the client's fault.
var ErrClosed = errors.New("gate: closed")

// unavailable says that the database cannot be reached. The words are for the
// client; the cause is for the log.
func (g *Gate) unavailable(doing oplog.Constant, err error) error {
	g.cfg.Log.Error("database unavailable", oplog.Doing(doing), oplog.Cause(Scrub(err)))
	return fhir.Errorf(fhir.Transient, "the server cannot reach its database, try again")
}

// Ping reports whether the common database answers.
func (g *Gate) Ping(ctx context.Context) error {
	p, err := g.place(ctx, tenant.Placement{})
	if err != nil {
		return err
	}
	return p.pool.Ping(ctx)
}

// Append writes entries to the audit trail of the tenant, without any other
// work. It returns once they are durable. A request whose trail was late once
// does not wait for it again.
func (g *Gate) Append(ctx context.Context, t *tenant.Tenant, entries ...*audit.Entry) error {
	return g.append(ctx, t, false, entries...)
}

// AppendAgain is Append for an entry that may have been written before: then
// nothing is added.
func (g *Gate) AppendAgain(ctx context.Context, t *tenant.Tenant, e *audit.Entry) error {
	return g.append(ctx, t, true, e)
}

func (g *Gate) append(ctx context.Context, t *tenant.Tenant, again bool, entries ...*audit.Entry) error {
	trail := entries[0].Origin.Trail
	if trail != nil && trail.Late {
		return g.unavailable("writing the audit trail", errLate)
	}
	p, err := g.place(ctx, t.Placement)
	if err != nil {
		return g.unavailable("writing the audit trail", err)
	}
	rows := make([]AuditRow, len(entries))
	for i, e := range entries {
		if rows[i], err = g.cfg.Seal(ctx, t, e); err != nil {
			return fmt.Errorf("sealing an audit entry: %w", err)
		}
	}
	// Once begun the entry is written even if the client has gone.
	err = p.auditor.append(context.WithoutCancel(ctx), pending{schema: t.Placement.Schema, rows: rows, again: again})
	g.cfg.Watch(t, entries, err)
	if err != nil {
		if trail != nil {
			trail.Late = errors.Is(err, errLate) || absent(err)
		}
		return g.unavailable("writing the audit trail", err)
	}
	crash(afterEntry)
	return nil
}

// bind is the statement that binds a transaction to a tenant: it becomes the
// tenant's role and sets the tenant's signed number, both until it ends.
func bind(t *tenant.Tenant) (text string, args []any) {
	signed := sign(t.Placement.Signer, t.ID, t.PolicyVersion)
	if t.Placement.Role == "" {
		return `SELECT set_config('cordon.tenant', $1, true)`, []any{signed}
	}
	return `SELECT set_config('role', $1, true), set_config('cordon.tenant', $2, true)`, []any{t.Placement.Role, signed}
}

// View runs fn on a snapshot of the tenant of grant and then makes the trail
// of fn durable, also when fn fails. What fn read may leave the process when
// View returns nil.
func (g *Gate) View(ctx context.Context, grant *smart.Grant, fn func(*Tx) error) error {
	return g.view(ctx, grant, snapshot, fn)
}

// Once is View for an fn that runs one statement. It saves the round trips of
// a transaction.
func (g *Gate) Once(ctx context.Context, grant *smart.Grant, fn func(*Tx) error) error {
	return g.view(ctx, grant, once, fn)
}

// Rules runs fn on a snapshot in which only a Permit for rules opens anything.
// It is the one way to read without an audit entry: the server looks at what
// the tenant wants it to work by, and none of it leaves the process.
func (g *Gate) Rules(ctx context.Context, grant *smart.Grant, fn func(*Tx) error) error {
	return g.known(ctx, grant, func() error {
		t, err := g.begin(ctx, grant, snapshot)
		if err != nil {
			return err
		}
		t.rules = true
		return t.run(ctx, fn)
	})
}

func (g *Gate) view(ctx context.Context, grant *smart.Grant, k kind, fn func(*Tx) error) error {
	t, err := g.attempt(ctx, grant, k, fn)
	if t == nil || errors.Is(err, ErrTwoStatements) {
		return err // nothing left; View runs it again and writes the trail
	}
	crash(beforeAudit)
	if aerr := g.Append(ctx, t.tenant, t.trail.settle(grant, err)...); aerr != nil {
		return aerr
	}
	crash(afterAudit)
	grant.Origin().Trail.Written = true
	return err
}

// attempt runs fn, and again as often as it has to wait for others. Of the runs
// but the last nothing is left, and no connection is held between them. t is
// nil if there was no run.
func (g *Gate) attempt(ctx context.Context, grant *smart.Grant, k kind, fn func(*Tx) error) (t *Tx, err error) {
	for waits := 0; ; waits++ {
		err = g.known(ctx, grant, func() (err error) {
			if t, err = g.begin(ctx, grant, k); err != nil {
				return err
			}
			return t.run(ctx, fn)
		})
		var wait *Waiting
		if !errors.As(err, &wait) {
			return t, err
		}
		if waits == maxWaits {
			return t, fhir.Errorf(fhir.Transient, "the request has to wait for others again and again, try later")
		}
		if err = wait.For(ctx); err != nil {
			return t, err
		}
	}
}

// maxWaits is how often one request may wait for others.
const maxWaits = 5

// Waiting is the error of an fn that cannot go on without what others have to
// be asked for. It is run again once For has returned: nobody may hold a
// connection, and locks, while waiting for what is not the database.
type Waiting struct{ For func(context.Context) error }

func (*Waiting) Error() string { return "waiting for others" }

// retries is how often an Update is run again when the database asks for it.
const retries = 5

// Update runs fn in a transaction of the tenant of grant and commits what fn
// deferred together with its trail. When fn fails nothing is kept but the
// trail. When the database asks for a retry, fn is run again.
func (g *Gate) Update(ctx context.Context, grant *smart.Grant, fn func(*Tx) error) error {
	for try := 1; ; try++ {
		t, err := g.attempt(ctx, grant, write, func(t *Tx) error {
			if err := fn(t); err != nil {
				return err
			}
			return t.commit(ctx)
		})
		if t == nil {
			return err
		}
		if err == nil {
			grant.Origin().Trail.Written = true
			return nil
		}
		if again(err) && try <= retries && ctx.Err() == nil {
			backoff(ctx, try)
			continue
		}
		if again(err) {
			err = fhir.Errorf(fhir.Conflict, "the resource is being changed by others, try again")
		}
		if aerr := g.Append(ctx, t.tenant, t.trail.settle(grant, err)...); aerr != nil {
			return aerr
		}
		grant.Origin().Trail.Written = true
		return err
	}
}

func (g *Gate) begin(ctx context.Context, grant *smart.Grant, k kind) (*Tx, error) {
	if grant == nil || grant.Tenant() == nil || grant.Tenant().ID.IsZero() || grant.Origin().Trail == nil {
		return nil, ErrClosed
	}
	p, err := g.place(ctx, grant.Tenant().Placement)
	if err != nil {
		return nil, g.unavailable("opening the tenant's database", err)
	}
	return &Tx{gate: g, place: p, grant: grant, tenant: grant.Tenant(), kind: k}, nil
}

// finish reads the n results of br, closes it and returns its first error.
func finish(br pgx.BatchResults, n int) error {
	for range n {
		if _, err := br.Exec(); err != nil {
			br.Close()
			return err
		}
	}
	return br.Close()
}

// ErrTwoStatements means that fn of Once ran a second statement. Nothing it
// read is out; View can run it.
var ErrTwoStatements = errors.New("gate: a second statement in Once")
