package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cordon-fhir/cordon/tenant"
)

// A Ledger is the connections of the role that makes logs of audit trails. It
// reads and numbers entries, whose content is sealed, and nothing else: it has
// no right on any record.
type Ledger struct {
	database, registry string

	mu     sync.Mutex
	places map[string]*place // by DSN
	closed bool
}

// OpenLedger returns a Ledger of the common database and the registry, both as
// that role. It connects when it is used.
func OpenLedger(databaseURL, registryURL string) (*Ledger, error) {
	if databaseURL == "" || registryURL == "" {
		return nil, errors.New("gate: a Ledger needs the URLs of the database and the registry")
	}
	return &Ledger{database: databaseURL, registry: registryURL, places: map[string]*place{}}, nil
}

// Close closes the connections.
func (l *Ledger) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, p := range l.places {
		p.pool.Close()
	}
	l.places = nil
}

// registrySchema is where the tables of the platform are.
const registrySchema = "registry"

// A LedgerTx is a transaction on the audit trail of one tenant, or of the
// platform, which sees one snapshot of it.
type LedgerTx struct {
	tx     pgx.Tx
	schema string
	number int32
}

// Run runs fn in a transaction that is bound to the tenant, for nil to the
// platform, and commits it.
func (l *Ledger) Run(ctx context.Context, t *tenant.Tenant, fn func(*LedgerTx) error) error {
	p, err := l.place(ctx, t)
	if err != nil {
		return err
	}
	err = pgx.BeginTxFunc(ctx, p.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		x := &LedgerTx{tx: tx, schema: registrySchema}
		if t != nil {
			x.schema, x.number = t.Placement.Schema, t.ID.Int()
			if _, err := tx.Exec(ctx, `SELECT set_config('cordon.tenant', $1, true)`, sign(t.Placement.Signer, t.ID, t.PolicyVersion)); err != nil {
				return err
			}
		}
		return fn(x)
	})
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return err
	}
	switch pe.Code {
	case "28000":
		return ErrUnbound
	case "40001", "40P01":
		return ErrBusy
	}
	return Scrub(err)
}

// ErrUnbound means that the database does not know the tenant as we do: it is
// suspended, or its access policy has just changed.
var ErrUnbound = errors.New("gate: the database does not know the tenant")

// ErrBusy means that another process has done the work, or does it now.
var ErrBusy = errors.New("gate: another process is at the same work")

// Query runs q, whose $1 is the number of the tenant. The caller closes the
// rows.
func (x *LedgerTx) Query(ctx context.Context, q Clause) (pgx.Rows, error) {
	return x.tx.Query(ctx, q.render(x.schema), append([]any{x.number}, q.args...)...)
}

// Exec runs q for its effect.
func (x *LedgerTx) Exec(ctx context.Context, q Clause) error {
	_, err := x.tx.Exec(ctx, q.render(x.schema), append([]any{x.number}, q.args...)...)
	return err
}

// Queries runs the statements in one round trip, and each reads the rows of one.
func (x *LedgerTx) Queries(ctx context.Context, qs []Clause, each func(i int, rows pgx.Rows) error) error {
	b := &pgx.Batch{}
	for _, q := range qs {
		b.Queue(q.render(x.schema), append([]any{x.number}, q.args...)...)
	}
	br := x.tx.SendBatch(ctx, b)
	for i := range qs {
		rows, err := br.Query()
		if err == nil {
			err = each(i, rows)
		}
		if err != nil {
			return errors.Join(err, br.Close())
		}
	}
	return br.Close()
}

// place returns the database of the tenant, connected and checked.
func (l *Ledger) place(ctx context.Context, t *tenant.Tenant) (*place, error) {
	dsn := l.registry
	switch {
	case t == nil:
	case t.Placement.DSN == "":
		dsn = l.database
	case t.Placement.LogDSN == "":
		return nil, errors.New("the tenant has no role for its audit log yet: migrate")
	default:
		dsn = t.Placement.LogDSN
	}
	p, err := l.connected(ctx, dsn)
	if err != nil || t == nil {
		return p, err
	}
	// Whatever the mode, the role that logs in is the one that acts.
	return p, p.check(ctx, tenant.Placement{Schema: t.Placement.Schema})
}

func (l *Ledger) connected(ctx context.Context, dsn string) (*place, error) {
	l.mu.Lock()
	p, closed := l.places[dsn], l.closed
	l.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if p != nil {
		return p, nil
	}
	pool, err := connect(ctx, dsn, ledgerConns)
	if err != nil {
		return nil, fmt.Errorf("connecting for the audit log: %w", err)
	}
	bad, err := forgets(ctx, pool)
	if err == nil && len(bad) > 0 {
		err = fmt.Errorf("the audit log would not be kept: %s", strings.Join(bad, "; "))
	}
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("connecting for the audit log: %w", Scrub(err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if other := l.places[dsn]; other != nil || l.closed { // someone was faster
		pool.Close()
		if l.closed {
			return nil, ErrClosed
		}
		return other, nil
	}
	p = &place{pool: pool, checked: map[string]bool{}}
	l.places[dsn] = p
	return p, nil
}

// ledgerConns is how many connections there are to one database: one works, and
// one is for who verifies meanwhile.
const ledgerConns = 2
