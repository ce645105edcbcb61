package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// LedgerConfig is what a Ledger needs.
type LedgerConfig struct {
	// DatabaseURL and RegistryURL are those of Migrator.URLs: Log and
	// LogRegistry. Required.
	DatabaseURL, RegistryURL string

	Registry *Registry     // required: it has the keys that sign
	Keys     *keys.Keyring // required: they tell the entries that the server wrote

	// Vault keeps the checkpoints outside the database. Without one, who can
	// change the database can also change what would give that away.
	Vault ledger.Vault

	// Every is how often there is a checkpoint, when there is something new.
	// Default 10s.
	Every time.Duration

	// Server is the name of this process. Default: that of the machine.
	Server string

	// Now tells the time. Default time.Now.
	Now func() time.Time
	Log *oplog.Logger
}

// A Ledger makes Merkle logs of the audit trails: that of each tenant, and that
// of the platform, for which the tenant is nil. Any number of processes may have
// one: what each does is a transaction, done once.
type Ledger struct {
	LedgerConfig
	gate *gate.Ledger
}

// OpenLedger returns a Ledger. It connects when it is used.
func OpenLedger(cfg LedgerConfig) (*Ledger, error) {
	if cfg.Registry == nil || cfg.Keys == nil {
		return nil, errors.New("store: LedgerConfig.Registry and Keys are required")
	}
	if cfg.Every == 0 {
		cfg.Every = 10 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	g, err := gate.OpenLedger(cfg.DatabaseURL, cfg.RegistryURL)
	if err != nil {
		return nil, err
	}
	return &Ledger{cfg, g}, nil
}

// Close closes the connections.
func (l *Ledger) Close() { l.gate.Close() }

// originOf returns the name of the log of the tenant.
func originOf(t *tenant.Tenant) string {
	if t == nil {
		return ledger.Origin(ledger.Platform)
	}
	return ledger.Origin(t.Slug.String())
}

// entryColumns are what is hashed of an entry: all of it but tx, which tells of
// this cluster and not of the event. One that is added later comes last, and may
// be NULL. What reads them reads the alias e.
var (
	entryColumns = gate.SQL(`e.tenant_id, e.seq, e.recorded, e.parent, e.interaction, e.outcome, e.type,
		       e.agent, e.patient, e.entity, e.version, e.sealed, e.client, e.site, e.purpose, e.tombstone`)
	platformColumns = gate.SQL(`e.seq, e.recorded, e.interaction, e.outcome, e.status, e.reason, e.request_id,
		       e.address, e.method, e.server, e.client, e.fhir_user, e.issuer, e.token_id`)
)

// A trail is where the entries of a log are.
type trail struct {
	columns, table, whose gate.Clause
}

func trailOf(t *tenant.Tenant) trail {
	if t == nil {
		return trail{platformColumns, gate.SQL(`~platform_audit e`), gate.SQL(`$1::int = 0`)}
	}
	return trail{entryColumns, gate.SQL(`~audit e`), gate.SQL(`e.tenant_id = $1`)}
}

// A place in a log: what audit_log holds.
type logState struct {
	size       int64
	tx, seq    int64
	pending    []int64
	checkpoint string
}

var (
	stateQuery = gate.SQL(`SELECT l.size, l.tx, l.seq, l.pending, l.checkpoint FROM ~audit_log l WHERE l.tenant_id = $1`)
	skipLocked = gate.SQL(`FOR UPDATE SKIP LOCKED`)
)

func scanState(row pgx.CollectableRow) (s logState, err error) {
	err = row.Scan(&s.size, &s.tx, &s.seq, &s.pending, &s.checkpoint)
	return s, err
}

// lockState returns the place in the log and keeps others from changing it until
// the transaction ends. If somebody else does that, the error is gate.ErrBusy.
func lockState(ctx context.Context, x *gate.LedgerTx) (logState, error) {
	s, found, err := atMostOne(ctx, x, stateQuery.With(skipLocked), scanState)
	if err == nil && !found {
		err = gate.ErrBusy
	}
	return s, err
}

// atMostOne returns the row that q has at most.
func atMostOne[T any](ctx context.Context, x *gate.LedgerTx, q gate.Clause, scan pgx.RowToFunc[T]) (got T, found bool, err error) {
	rows, err := x.Query(ctx, q)
	if err != nil {
		return got, false, err
	}
	got, err = pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return got, false, nil
	}
	return got, err == nil, err
}

// hashes returns the stored hashes of the log that x sees.
func hashes(ctx context.Context, x *gate.LedgerTx) ledger.Source {
	return func(ranges []ledger.Range) ([][]tlog.Hash, error) {
		found := make([][]tlog.Hash, len(ranges))
		qs := make([]gate.Clause, len(ranges))
		for i, r := range ranges {
			qs[i] = hashesQuery(r)
		}
		err := x.Queries(ctx, qs, func(i int, rows pgx.Rows) (err error) {
			found[i], err = pgx.CollectRows(rows, scanHash)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("reading the hashes of an audit log: %w", err)
		}
		return found, nil
	}
}

func hashesQuery(r ledger.Range) gate.Clause {
	if r.Level == 0 {
		return gate.SQL(`
			SELECT hash FROM ~audit_leaf
			WHERE  tenant_id = $1 AND leaf >= ? AND leaf < ?
			ORDER  BY leaf`, r.From, r.To)
	}
	return gate.SQL(`
		SELECT hash FROM ~audit_node
		WHERE  tenant_id = $1 AND level = ? AND n >= ? AND n < ?
		ORDER  BY n`, int16(r.Level), r.From, r.To)
}

func scanHash(row pgx.CollectableRow) (h tlog.Hash, err error) {
	var b []byte
	if err := row.Scan(&b); err != nil {
		return h, err
	}
	if len(b) != len(h) {
		return h, errors.New("store: a hash of an audit log is malformed")
	}
	return tlog.Hash(b), nil
}
