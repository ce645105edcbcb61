package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// sweepBatch is how many entries one transaction removes.
const sweepBatch = 4000

// Sweep removes entries of the tenant's trail that are older than its settings
// keep them, but for those that a legal hold covers. It returns how many it
// removed, and whether there may be more.
//
// Their leaves stay, and an entry of the same transaction is the tombstone. Only
// what a checkpoint has is removed, so nobody can cut off what nobody has signed.
func (l *Ledger) Sweep(ctx context.Context, t *tenant.Tenant) (removed int, more bool, err error) {
	years := t.Settings.Audit.KeepYears
	if years == 0 {
		return 0, false, nil
	}
	signer, trust, err := l.Registry.logSigner(ctx, t)
	if err != nil {
		return 0, false, err
	}
	set, err := l.Keys.Of(ctx, t.ID)
	if err != nil {
		return 0, false, err
	}
	s := sweep{checkpointing: checkpointing{Ledger: l, origin: originOf(t), signer: signer, trust: trust}, tenant: t, keys: set, years: max(years, ledger.LeastYears)}
	err = l.Registry.WithHolds(ctx, t, func(h *Holds) error {
		if h.Cover(fhir.Ref{}) {
			return nil
		}
		s.holds = h
		return l.gate.Run(ctx, t, func(x *gate.LedgerTx) error { return s.run(ctx, x) })
	})
	if errors.Is(err, gate.ErrBusy) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("removing old entries of an audit trail: %w", err)
	}
	return len(s.seqs), len(s.seqs) == sweepBatch, nil
}

// A sweep is the work of one transaction.
type sweep struct {
	checkpointing
	tenant *tenant.Tenant
	keys   *keys.Set
	years  int
	holds  *Holds

	now, before  time.Time
	seqs, leaves []int64
}

func (s *sweep) run(ctx context.Context, x *gate.LedgerTx) error {
	state, err := lockState(ctx, x)
	if err != nil {
		return err
	}
	newest, err := s.signed([]byte(state.checkpoint))
	if err != nil {
		return err
	}
	// By the clock that the database refuses younger ones by.
	rows, err := x.Query(ctx, gate.SQL(`SELECT now(), now() - make_interval(years => ?::int) WHERE $1::int > 0`, s.years))
	if err != nil {
		return err
	}
	if _, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (none struct{}, err error) {
		return none, row.Scan(&s.now, &s.before)
	}); err != nil {
		return err
	}
	s.before = s.before.Truncate(time.Millisecond) // as tombstones say it
	if err := s.collect(ctx, x, newest.Size); err != nil || len(s.seqs) == 0 {
		return err
	}
	if err := s.tell(ctx, x); err != nil {
		return err
	}
	if err := x.Exec(ctx, gate.SQL(`DELETE FROM ~audit WHERE tenant_id = $1 AND seq = ANY(?::bigint[])`, s.seqs)); err != nil {
		return err
	}
	return s.holds.Still(ctx)
}

// collect finds the oldest entries that may be removed. What is of a patient on
// hold stays, with the entry of its request, which says who asked.
func (s *sweep) collect(ctx context.Context, x *gate.LedgerTx, signed int64) error {
	patients, agents := []int64{}, []int64{}
	for _, p := range s.holds.patients {
		patients = append(patients, s.keys.Hash("s", p.String()))
		agents = append(agents, s.keys.Hash("a", p.String()))
	}
	rows, err := x.Query(ctx, gate.SQL(`
		WITH held AS MATERIALIZED (
			SELECT h.seq, h.parent
			FROM   ~audit h
			WHERE  h.tenant_id = $1
			AND    (h.patient = ANY(?::bigint[]) OR h.entity = ANY(?::bigint[]) OR h.agent = ANY(?::bigint[]))
		)
		SELECT e.seq, l.leaf
		FROM   ~audit e
		JOIN   ~audit_leaf l ON l.tenant_id = $1 AND l.seq = e.seq
		WHERE  e.tenant_id = $1 AND e.seq < ? AND e.recorded < ? AND l.leaf < ? AND e.tombstone IS NULL
		AND    e.seq NOT IN (SELECT seq FROM held UNION ALL SELECT parent FROM held WHERE parent IS NOT NULL)
		ORDER  BY e.seq
		LIMIT  ?`, patients, patients, agents, audit.SeqAt(s.before), s.before, signed, sweepBatch))
	if err != nil {
		return err
	}
	return eachRow(rows, func() error {
		var seq, leaf int64
		err := rows.Scan(&seq, &leaf)
		s.seqs, s.leaves = append(s.seqs, seq), append(s.leaves, leaf)
		return err
	})
}

// tell adds the entry that is the tombstone.
func (s *sweep) tell(ctx context.Context, x *gate.LedgerTx) error {
	slices.Sort(s.leaves)
	server := s.server()
	signed, err := ledger.Tombstone{
		Origin: s.origin, Leaves: ledger.Spans(s.leaves), Before: s.before, Years: s.years, Time: s.now, By: server,
	}.Sign(s.signer)
	if err != nil {
		return err
	}
	r, err := sealedRow(s.keys, s.tenant, &audit.Entry{
		Seq: audit.NextSeq(), Recorded: s.now, Interaction: audit.Removed, Type: auditEvent,
		Reason: fmt.Sprintf("removed %d entries of before %s, which are kept for %d years", len(s.seqs), s.before.UTC().Format(time.RFC3339), s.years),
		Origin: audit.Origin{Server: server, Method: "retention"}, Agent: audit.Agent{Client: retentionAgent},
	})
	if err != nil {
		return err
	}
	return x.Exec(ctx, gate.SQL(`
		INSERT INTO ~audit (tenant_id, seq, recorded, interaction, outcome, type, agent, site, sealed, tombstone)
		VALUES ($1, ?, ?, ?, ?, ?, ?, 0, ?, ?)`, r.Seq, r.Recorded, r.Interaction, r.Outcome, r.Type, r.Agent, r.Sealed, string(signed)))
}

// gone says why there is no such entry, to who may see all of the trail: it was
// removed, or never was.
func (v *View) gone(ctx context.Context, p smart.Permit, ref fhir.Ref) error {
	seq, err := audit.ParseID(ref.ID)
	if err != nil {
		return unknown(ref)
	}
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT EXISTS (
			SELECT FROM ~audit_leaf l
			JOIN   ~audit t ON t.tenant_id = $1 AND t.tombstone IS NOT NULL
			WHERE  l.tenant_id = $1 AND l.seq = ? AND split_part(t.tombstone, chr(10), 3)::int8multirange @> l.leaf)`, seq))
	if err != nil {
		return fmt.Errorf("looking for a removed audit entry: %w", err)
	}
	removed, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	if err != nil {
		return fmt.Errorf("looking for a removed audit entry: %w", err)
	}
	if removed {
		return fhir.Errorf(fhir.Deleted, "the entry was removed when its time was up")
	}
	return unknown(ref)
}

// retentionAgent is who removes, as AuditEvent.agent names it.
const retentionAgent = "cordon-retention"

// server returns the name of this process, in one line.
func (l *Ledger) server() string {
	machine, _ := os.Hostname()
	return cmp.Or(l.Server, machine, "cordon")
}

// A Sweeper removes what tenants keep no longer, beside the requests. Several
// processes may run one: of each tenant one at a time removes.
type Sweeper struct {
	Ledger *Ledger // required
	// Tenants returns the tenants to look after. Required.
	Tenants func(context.Context) ([]*tenant.Tenant, error)
	// Every is how often all are looked at. Default 1h.
	Every time.Duration
}

// Run works until ctx is done.
func (s *Sweeper) Run(ctx context.Context) {
	tick := time.NewTicker(cmp.Or(s.Every, time.Hour))
	defer tick.Stop()
	for {
		s.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Sweeper) round(ctx context.Context) {
	list, err := s.Tenants(ctx)
	if err != nil && ctx.Err() == nil {
		s.Ledger.Log.Error("listing tenants for their old audit entries", oplog.Cause(gate.Scrub(err)))
	}
	for _, t := range list {
		for more := true; more && ctx.Err() == nil; {
			if _, more, err = s.Ledger.Sweep(ctx, t); err != nil && ctx.Err() == nil && !errors.Is(err, gate.ErrUnbound) {
				s.Ledger.Log.Error("removing old audit entries", oplog.Tenant(t.Slug.String()), oplog.Cause(err))
			}
		}
	}
}
