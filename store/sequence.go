package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// sequenceBatch is how many entries become leaves in one transaction.
const sequenceBatch = 4000

// Sequence makes leaves of the entries of the tenant that have been committed
// and are none yet, in the order of the transactions that added them. It returns
// how many it made, and whether some are left.
//
// Which transactions had ended in the snapshot that was seen last is known, so
// an entry that is committed late is new and nothing else is: none is left out,
// and none comes before one that has its number.
//
// An entry whose sealed part does not open under the tenant's key was not
// written by a server. It never becomes a leaf, and is told of as Foreign.
func (l *Ledger) Sequence(ctx context.Context, t *tenant.Tenant) (made int, more bool, err error) {
	idle, err := l.idle(ctx, t)
	if err != nil || idle {
		return 0, false, err
	}
	opens, err := l.opener(ctx, t)
	if err != nil {
		return 0, false, err
	}
	var foreign []int64
	err = l.gate.Run(ctx, t, func(x *gate.LedgerTx) error {
		b := batch{trail: trailOf(t), origin: originOf(t), opens: opens}
		if err := b.run(ctx, x); err != nil {
			return err
		}
		made, more, foreign = len(b.leaves), b.more, b.foreign
		return nil
	})
	if errors.Is(err, gate.ErrBusy) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("numbering the entries of an audit trail: %w", err)
	}
	if len(foreign) > 0 {
		return made, more, &Foreign{Log: originOf(t), Seqs: foreign}
	}
	return made, more, nil
}

// Foreign says that there are entries in an audit trail that no server wrote.
type Foreign struct {
	Log  string
	Seqs []int64
}

// Cause returns the words of f, which hold nothing of an entry but its name.
func (f *Foreign) Cause() string { return f.Error() }

func (f *Foreign) Error() string {
	return fmt.Sprintf("%s: %d entries that no server wrote, the first of which is %016x", f.Log, len(f.Seqs), f.Seqs[0])
}

// idle reports whether there is nothing to number. It begins a log that there is
// none of yet.
func (l *Ledger) idle(ctx context.Context, t *tenant.Tenant) (idle bool, err error) {
	tr := trailOf(t)
	q := gate.SQL(`SELECT NOT EXISTS (SELECT FROM`).With(tr.table, gate.SQL(`WHERE`), tr.whose, gate.SQL(`AND e.tx > l.tx)
		AND NOT EXISTS (SELECT FROM`), tr.table, gate.SQL(`WHERE`), tr.whose, gate.SQL(`AND e.tx = l.tx AND e.seq > l.seq)
		AND NOT EXISTS (SELECT FROM`), tr.table, gate.SQL(`WHERE`), tr.whose, gate.SQL(`AND e.tx = ANY(l.pending))
		AND pg_snapshot_xmax(pg_current_snapshot())::text::bigint > l.tx
		FROM ~audit_log l WHERE l.tenant_id = $1`))
	err = l.gate.Run(ctx, t, func(x *gate.LedgerTx) error {
		var found bool
		if idle, found, err = atMostOne(ctx, x, q, pgx.RowTo[bool]); err != nil || found {
			return err
		}
		return x.Exec(ctx, gate.SQL(`INSERT INTO ~audit_log (tenant_id) VALUES ($1) ON CONFLICT (tenant_id) DO NOTHING`))
	})
	if errors.Is(err, gate.ErrBusy) {
		return true, nil
	}
	if err != nil {
		return true, fmt.Errorf("looking for new entries of an audit trail: %w", err)
	}
	return idle, nil
}

// opener returns what tells whether a server wrote an entry. What is of no
// tenant is not sealed.
func (l *Ledger) opener(ctx context.Context, t *tenant.Tenant) (func(seq int64, sealed []byte) bool, error) {
	if t == nil {
		return func(int64, []byte) bool { return true }, nil
	}
	set, err := l.Keys.Of(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	return func(seq int64, sealed []byte) bool {
		_, err := set.Open(entryKey, sealed, entryPlace(t.ID.Int(), seq))
		return err == nil
	}, nil
}

// A batch is the work of one transaction on one log.
type batch struct {
	trail  trail
	origin string
	opens  func(seq int64, sealed []byte) bool

	state   logState
	entries []trailEntry
	more    bool
	leaves  []newLeaf
	nodes   []ledger.Node
	foreign []int64
}

// A trailEntry is a row of an audit trail.
type trailEntry struct {
	tx, seq int64
	columns []string
	values  []any
}

type newLeaf struct {
	seq  int64
	hash tlog.Hash
}

func (b *batch) run(ctx context.Context, x *gate.LedgerTx) (err error) {
	if b.state, err = lockState(ctx, x); err != nil {
		return err
	}
	seen, err := snapshotOf(ctx, x)
	if err != nil {
		return err
	}
	if seen.end <= b.state.tx {
		return errMoved
	}
	if err := b.collect(ctx, x); err != nil {
		return err
	}
	next := seen.all()
	if b.more {
		last := b.entries[len(b.entries)-1]
		next = seen.upTo(last.tx, last.seq)
	}
	if err := b.number(ctx, x); err != nil {
		return err
	}
	return b.store(ctx, x, next)
}

// errMoved says that transactions are counted anew: which entries have been seen
// cannot be told, and none may be left out or counted twice.
var errMoved = errors.New("store: the tables of the audit log come from another cluster, whose transactions were others")

// collect reads the entries of transactions that have ended since. Those of
// transactions that had to be waited for come first, all of them: where a batch
// ends is told by the others alone.
func (b *batch) collect(ctx context.Context, x *gate.LedgerTx) error {
	from := gate.SQL(`SELECT e.tx,`).With(b.trail.columns, gate.SQL(`FROM`), b.trail.table, gate.SQL(`WHERE`), b.trail.whose)
	return x.Queries(ctx, []gate.Clause{
		from.With(gate.SQL(`AND e.tx = ANY(?::bigint[]) ORDER BY e.tx, e.seq`, b.state.pending)),
		from.With(gate.SQL(`AND e.tx = ? AND e.seq > ? ORDER BY e.seq LIMIT ?`, b.state.tx, b.state.seq, sequenceBatch)),
		from.With(gate.SQL(`AND e.tx > ? ORDER BY e.tx, e.seq LIMIT ?`, b.state.tx, sequenceBatch)),
	}, func(i int, rows pgx.Rows) error {
		found, err := pgx.CollectRows(rows, scanTrailEntry)
		if b.more || err != nil {
			return err
		}
		b.entries = append(b.entries, found...)
		b.more = i > 0 && len(found) == sequenceBatch
		return nil
	})
}

// scanTrailEntry reads the transaction of an entry and then its columns.
func scanTrailEntry(row pgx.CollectableRow) (e trailEntry, err error) {
	values, err := row.Values()
	if err != nil {
		return e, err
	}
	fields := row.FieldDescriptions()
	e.tx, _ = values[0].(int64)
	e.values = values[1:]
	e.columns = make([]string, len(e.values))
	for i := range e.values {
		e.columns[i] = fields[i+1].Name
	}
	e.seq, _ = e.column("seq").(int64)
	return e, nil
}

func (e *trailEntry) column(name string) any {
	if i := slices.Index(e.columns, name); i >= 0 {
		return e.values[i]
	}
	return nil
}

// number makes leaves of the entries.
func (b *batch) number(ctx context.Context, x *gate.LedgerTx) error {
	tree := ledger.NewTree(b.state.size, hashes(ctx, x))
	for _, e := range b.entries {
		sealed, _ := e.column("sealed").([]byte)
		if !b.opens(e.seq, sealed) {
			b.foreign = append(b.foreign, e.seq)
			continue
		}
		hash := tlog.RecordHash(ledger.Record(b.origin, tree.Size, e.columns, e.values))
		nodes, err := tree.Append(hash)
		if err != nil {
			return err
		}
		b.leaves = append(b.leaves, newLeaf{e.seq, hash})
		b.nodes = append(b.nodes, nodes...)
	}
	return nil
}

// store keeps the leaves and how far the log has come.
func (b *batch) store(ctx context.Context, x *gate.LedgerTx, next logState) error {
	size := b.state.size
	var numbers, seqs []int64
	var leaves [][]byte
	for i, l := range b.leaves {
		numbers, seqs, leaves = append(numbers, size+int64(i)), append(seqs, l.seq), append(leaves, l.hash[:])
	}
	var levels []int16
	var ns []int64
	var nodes [][]byte
	for _, n := range b.nodes {
		levels, ns, nodes = append(levels, int16(n.Level)), append(ns, n.N), append(nodes, n.Hash[:])
	}
	return x.Queries(ctx, []gate.Clause{
		gate.SQL(`INSERT INTO ~audit_leaf (tenant_id, leaf, seq, hash)
			SELECT $1, n, s, h FROM unnest(?::bigint[], ?::bigint[], ?::bytea[]) AS x (n, s, h)`, numbers, seqs, leaves),
		gate.SQL(`INSERT INTO ~audit_node (tenant_id, level, n, hash)
			SELECT $1, l, n, h FROM unnest(?::smallint[], ?::bigint[], ?::bytea[]) AS x (l, n, h)`, levels, ns, nodes),
		gate.SQL(`UPDATE ~audit_log SET size = ?, tx = ?, seq = ?, pending = ? WHERE tenant_id = $1`,
			size+int64(len(b.leaves)), next.tx, next.seq, next.pending),
	}, func(_ int, rows pgx.Rows) error {
		rows.Close()
		return rows.Err()
	})
}

// A snapshot says which transactions had ended: those before end that are not in
// progress.
// https://www.postgresql.org/docs/15/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
type snapshot struct {
	end      int64
	progress []int64
}

func snapshotOf(ctx context.Context, x *gate.LedgerTx) (s snapshot, err error) {
	text, _, err := atMostOne(ctx, x, gate.SQL(`SELECT pg_current_snapshot()::text WHERE $1::int >= 0`), pgx.RowTo[string])
	if err != nil {
		return s, err
	}
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, errors.New("store: a snapshot is not as PostgreSQL writes it")
	}
	if s.end, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
		return s, err
	}
	for p := range strings.SplitSeq(parts[2], ",") {
		if p == "" {
			continue
		}
		tx, err := strconv.ParseInt(p, 10, 64)
		if err != nil {
			return s, err
		}
		s.progress = append(s.progress, tx)
	}
	return s, nil
}

// all is the place of a log that has all that the snapshot shows.
func (s snapshot) all() logState { return s.upTo(s.end-1, math.MaxInt64) }

// upTo is the place of a log that has what the snapshot shows up to the entry.
func (s snapshot) upTo(tx, seq int64) logState {
	pending := []int64{}
	for _, p := range s.progress {
		if p <= tx {
			pending = append(pending, p)
		}
	}
	return logState{tx: tx, seq: seq, pending: pending}
}
