package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// Verify gives the trail of the tenant and its log, as one snapshot shows them,
// to v. It reads nothing but the two: whether they are what was signed is for v
// to say.
func (l *Ledger) Verify(ctx context.Context, t *tenant.Tenant, v *ledger.Verifier) (r ledger.Report, err error) {
	err = l.gate.Run(ctx, t, func(x *gate.LedgerTx) error {
		if err := x.Exec(ctx, gate.SQL(`SELECT set_config('statement_timeout', '0', true) WHERE $1::int >= 0`)); err != nil {
			return err
		}
		if err := verifyTombstones(ctx, x, t, v); err != nil {
			return err
		}
		if err := verifyLeaves(ctx, x, t, v); err != nil {
			return err
		}
		if err := verifyLoose(ctx, x, t, v); err != nil {
			return err
		}
		s, _, err := atMostOne(ctx, x, stateQuery, scanState)
		if err != nil {
			return err
		}
		r = v.End(s.size)
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("verifying %s: %w", originOf(t), err)
	}
	return r, nil
}

// verifyTombstones gives the tombstones in the trail to v. The platform's has none:
// it is kept for ever.
func verifyTombstones(ctx context.Context, x *gate.LedgerTx, t *tenant.Tenant, v *ledger.Verifier) error {
	if t == nil {
		return nil
	}
	rows, err := x.Query(ctx, gate.SQL(`
		SELECT e.seq, coalesce(l.leaf, -1), e.tombstone
		FROM   ~audit e
		LEFT   JOIN ~audit_leaf l ON l.tenant_id = $1 AND l.seq = e.seq
		WHERE  e.tenant_id = $1 AND e.tombstone IS NOT NULL
		ORDER  BY e.seq`))
	if err != nil {
		return err
	}
	return eachRow(rows, func() error {
		var seq, leaf int64
		var signed string
		if err := rows.Scan(&seq, &leaf, &signed); err != nil {
			return err
		}
		v.Tombstone(leaf, audit.Entry{Seq: seq}.ID(), []byte(signed))
		return nil
	})
}

// verifyBatch is how many leaves are read at once.
const verifyBatch = 5000

func verifyLeaves(ctx context.Context, x *gate.LedgerTx, t *tenant.Tenant, v *ledger.Verifier) error {
	tr := trailOf(t)
	page := gate.SQL(`SELECT l.leaf, l.seq, l.hash, e.seq IS NOT NULL AS found,`).With(tr.columns,
		gate.SQL(`FROM ~audit_leaf l LEFT JOIN`), tr.table, gate.SQL(`ON e.seq = l.seq AND`), tr.whose)
	for from := int64(-1) << 63; ; {
		first, _, err := atMostOne(ctx, x, gate.SQL(`SELECT min(leaf) FROM ~audit_leaf WHERE tenant_id = $1 AND leaf >= ?`, from), pgx.RowTo[*int64])
		if err != nil || first == nil {
			return err
		}
		from = *first + verifyBatch
		rows, err := x.Query(ctx, page.With(gate.SQL(`WHERE l.tenant_id = $1 AND l.leaf >= ? AND l.leaf < ? ORDER BY l.leaf`, *first, from)))
		if err != nil {
			return err
		}
		if err := eachRow(rows, func() error {
			leaf, err := scanLeaf(rows, originOf(t))
			if err != nil {
				return err
			}
			return v.Leaf(leaf)
		}); err != nil {
			return err
		}
	}
}

// eachRow calls fn for each row, and closes the rows.
func eachRow(rows pgx.Rows, fn func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := fn(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// scanLeaf reads a leaf, whatever somebody may have written there, and makes the
// record of its entry.
func scanLeaf(rows pgx.Rows, origin string) (l ledger.Leaf, err error) {
	values, err := rows.Values()
	if err != nil {
		return l, err
	}
	l.Number, _ = values[0].(int64)
	l.Seq, _ = values[1].(int64)
	l.ID = audit.Entry{Seq: l.Seq}.ID()
	hash, _ := values[2].([]byte)
	copy(l.Hash[:], hash)
	if found, _ := values[3].(bool); !found {
		return l, nil
	}
	var columns []string
	for _, f := range rows.FieldDescriptions()[4:] {
		columns = append(columns, f.Name)
	}
	e := trailEntry{columns: columns, values: values[4:]}
	l.Recorded, _ = e.column("recorded").(time.Time)
	l.Record = ledger.Record(origin, l.Number, columns, e.values)
	return l, nil
}

func verifyLoose(ctx context.Context, x *gate.LedgerTx, t *tenant.Tenant, v *ledger.Verifier) error {
	tr := trailOf(t)
	rows, err := x.Query(ctx, gate.SQL(`
		SELECT e.seq, CASE WHEN isfinite(e.recorded) THEN e.recorded END,
		       coalesce(e.tx <> ALL(s.pending) AND (e.tx < s.tx OR e.tx = s.tx AND e.seq <= s.seq), true)
		FROM`).With(tr.table, gate.SQL(`LEFT JOIN ~audit_log s ON s.tenant_id = $1 WHERE`), tr.whose, gate.SQL(`
		AND    NOT EXISTS (SELECT FROM ~audit_leaf l WHERE l.tenant_id = $1 AND l.seq = e.seq)
		ORDER  BY e.seq`)))
	if err != nil {
		return err
	}
	return eachRow(rows, func() error {
		var seq int64
		var recorded *time.Time
		var l ledger.Loose
		if err := rows.Scan(&seq, &recorded, &l.Settled); err != nil {
			return err
		}
		l.ID = audit.Entry{Seq: seq}.ID()
		if recorded != nil {
			l.Recorded = *recorded
		}
		v.Loose(l)
		return nil
	})
}
