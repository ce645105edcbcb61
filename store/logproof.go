package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// LogCheckpoint returns the newest checkpoint of the tenant's audit log, signed.
// Like the proofs it is for those who may read all of the trail.
func (v *View) LogCheckpoint(ctx context.Context) ([]byte, error) {
	p, err := v.permitLog(fhir.SearchType)
	if err != nil {
		return nil, err
	}
	text, _, err := v.logHead(ctx, p)
	return text, err
}

// LogInclusion proves that the entry of the trail is in the log of the newest
// checkpoint.
func (v *View) LogInclusion(ctx context.Context, id string) (ledger.Proof, error) {
	p, err := v.permitLog(fhir.Read)
	if err != nil {
		return ledger.Proof{}, err
	}
	text, size, err := v.logHead(ctx, p)
	if err != nil {
		return ledger.Proof{}, err
	}
	leaf, record, err := v.logRecord(ctx, p, id)
	if err != nil {
		return ledger.Proof{}, err
	}
	if leaf >= size {
		return ledger.Proof{}, errUnsigned
	}
	hashes, err := tlog.ProveRecord(size, leaf, ledger.NewTree(size, v.logHashes(ctx, p)))
	if err != nil {
		return ledger.Proof{}, fmt.Errorf("proving an audit entry: %w", err)
	}
	return ledger.Proof{Checkpoint: text, Record: record, Hashes: hashes}, nil
}

// LogConsistency proves that the log of from leaves is the beginning of the one
// of to; of the newest checkpoint if to is 0.
func (v *View) LogConsistency(ctx context.Context, from, to int64) (ledger.Proof, error) {
	p, err := v.permitLog(fhir.SearchType)
	if err != nil {
		return ledger.Proof{}, err
	}
	text, size, err := v.logHead(ctx, p)
	if err != nil {
		return ledger.Proof{}, err
	}
	if to == 0 {
		to = size
	}
	if from < 1 || from > to || to > size {
		return ledger.Proof{}, fhir.Errorf(fhir.Invalid, "from and to are sizes of the log: 1 to %d, and from is not more than to", size)
	}
	hashes, err := tlog.ProveTree(to, from, ledger.NewTree(to, v.logHashes(ctx, p)))
	if err != nil {
		return ledger.Proof{}, fmt.Errorf("proving an audit log: %w", err)
	}
	proof := ledger.Proof{From: from, To: to, Hashes: hashes}
	if to == size {
		proof.Checkpoint = text
	}
	return proof, nil
}

// LogLeaves returns which leaf of the log each of the entries is, by Seq, as far as
// the newest checkpoint covers it.
func (v *View) LogLeaves(ctx context.Context, entries []audit.Entry) (map[int64]int64, error) {
	p, err := v.permitLog(fhir.SearchType)
	if err != nil {
		return nil, err
	}
	_, size, err := v.logHead(ctx, p)
	if errors.Is(err, errUnsigned) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	seqs := make([]int64, len(entries))
	for i, e := range entries {
		seqs[i] = e.Seq
	}
	rows, err := v.query(ctx, p, gate.SQL(`SELECT l.seq, l.leaf FROM ~audit_leaf l WHERE l.tenant_id = $1 AND l.seq = ANY (?) AND l.leaf < ?`, seqs, size))
	if err != nil {
		return nil, fmt.Errorf("reading an audit log: %w", err)
	}
	leaves := map[int64]int64{}
	var seq, leaf int64
	_, err = pgx.ForEachRow(rows, []any{&seq, &leaf}, func() error { leaves[seq] = leaf; return nil })
	if err != nil {
		return nil, fmt.Errorf("reading an audit log: %w", err)
	}
	return leaves, nil
}

// errUnsigned says that what is asked for is not covered by a checkpoint.
var errUnsigned = fhir.Errorf(fhir.Conflict, "no checkpoint has that yet; one is made every few seconds")

// permitLog asks whether all of the trail may be read: the log tells how much
// there is of it.
func (v *View) permitLog(do fhir.Interaction) (smart.Permit, error) {
	p, err := v.gate.Permit(do, "AuditEvent")
	if err == nil && !all(p.Where()) {
		err = fhir.Errorf(fhir.Forbidden, "the log of the audit trail is for those who may read all of it")
	}
	return p, err
}

// logHead returns the newest checkpoint and its size.
func (v *View) logHead(ctx context.Context, p smart.Permit) (text []byte, size int64, err error) {
	rows, err := v.query(ctx, p, stateQuery)
	if err != nil {
		return nil, 0, fmt.Errorf("reading a checkpoint: %w", err)
	}
	s, err := pgx.CollectExactlyOneRow(rows, scanState)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && s.checkpoint == "" {
		return nil, 0, errUnsigned
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading a checkpoint: %w", err)
	}
	// Whoever gets it verifies the signature; the server needs the size alone.
	if _, err := fmt.Sscanf(s.checkpoint[strings.IndexByte(s.checkpoint, '\n')+1:], "%d\n", &size); err != nil {
		return nil, 0, errors.New("store: malformed checkpoint")
	}
	return []byte(s.checkpoint), size, nil
}

// recordsQuery reads entries for scanLeaf.
var recordsQuery = gate.SQL(`SELECT l.leaf, e.seq, ''::bytea, true,`).With(entryColumns,
	gate.SQL(`FROM ~audit e LEFT JOIN ~audit_leaf l ON l.tenant_id = $1 AND l.seq = e.seq WHERE e.tenant_id = $1`))

// logRecord returns the leaf of an entry, and what is hashed of it.
func (v *View) logRecord(ctx context.Context, p smart.Permit, id string) (leaf int64, record []byte, err error) {
	ref := fhir.Ref{Type: "AuditEvent", ID: id}
	seq, err := audit.ParseID(id)
	if err != nil {
		return 0, nil, unknown(ref)
	}
	rows, err := v.query(ctx, p, recordsQuery.With(gate.SQL(`AND e.seq = ?`, seq)))
	if err != nil {
		return 0, nil, fmt.Errorf("reading an audit entry: %w", err)
	}
	var found, numbered bool
	err = eachRow(rows, func() error {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		found, numbered = true, values[0] != nil
		l, err := scanLeaf(rows, originOf(v.grant.Tenant()))
		leaf, record = l.Number, l.Record
		return err
	})
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("reading an audit entry: %w", err)
	case !found:
		return 0, nil, v.gone(ctx, p, ref)
	case !numbered:
		return 0, nil, errUnsigned
	}
	return leaf, record, nil
}

// logHashes returns the stored hashes of the log.
func (v *View) logHashes(ctx context.Context, p smart.Permit) ledger.Source {
	return func(ranges []ledger.Range) ([][]tlog.Hash, error) {
		found := make([][]tlog.Hash, len(ranges))
		for i, r := range ranges {
			rows, err := v.query(ctx, p, hashesQuery(r))
			if err != nil {
				return nil, err
			}
			if found[i], err = pgx.CollectRows(rows, scanHash); err != nil {
				return nil, err
			}
		}
		return found, nil
	}
}
