package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A LogPage is a page of an export of the audit trail.
type LogPage struct {
	Lines []byte // of the file
	Next  string
}

// LogExport returns a page of an export of the trail: what the search finds, with
// proofs, and signed with the key of the log. It is for those who may read all of
// the trail. Of what is found only what keep says is taken.
func (v *View) LogExport(ctx context.Context, q *search.Query, c Cursor, why string, keep func(audit.Entry) bool) (*LogPage, error) {
	p, err := v.permitLog(fhir.SearchType)
	if err != nil {
		return nil, err
	}
	found, err := v.AuditEvents(ctx, q, c)
	if err != nil {
		return nil, err
	}
	checkpoint, size, err := v.logHead(ctx, p)
	if err != nil {
		return nil, err
	}
	x := logExport{View: v, size: size, hashes: remembered(v.logHashes(ctx, p))}
	for _, e := range found.Entries {
		if keep(e) {
			x.entries = append(x.entries, ledger.ExportEntry{ID: e.ID(), Event: audit.Render(e, v.schema.Base)})
		}
	}
	for _, id := range found.Unreadable {
		x.entries = append(x.entries, ledger.ExportEntry{ID: id})
	}
	if err := x.prove(ctx); err != nil {
		return nil, err
	}
	signer, _, err := v.db.packages.logSigner(ctx, v.grant.Tenant())
	if err != nil {
		return nil, err
	}
	agent := v.grant.Agent()
	lines, said, err := ledger.WritePage(ledger.Page{
		Origin: originOf(v.grant.Tenant()), Number: max(c.Page, 1), After: c.Said, Last: found.Next == "",
		Asked: ledger.Asked{Client: agent.Client, User: agent.User, Why: why, Query: c.Query}, Time: time.Now().UTC().Truncate(time.Millisecond),
	}, checkpoint, x.entries, signer)
	if err != nil || found.Next == "" {
		return &LogPage{Lines: lines}, err
	}
	next, err := v.OpenCursor(ctx, found.Next)
	if err != nil {
		return nil, err
	}
	next.Said = said
	sealed, err := v.seal(next)
	return &LogPage{lines, sealed}, err
}

// A logExport is the work on one page.
type logExport struct {
	*View
	size    int64
	hashes  ledger.Source
	entries []ledger.ExportEntry
}

// prove adds what the log has of the entries, as far as the checkpoint covers them.
func (x *logExport) prove(ctx context.Context) error {
	p, err := x.permitLog(fhir.SearchType)
	if err != nil {
		return err
	}
	seqs := make([]int64, len(x.entries))
	for i, e := range x.entries {
		if seqs[i], err = audit.ParseID(e.ID); err != nil {
			return err
		}
	}
	records := map[string]ledger.Leaf{}
	rows, err := x.query(ctx, p, recordsQuery.With(gate.SQL(`AND l.leaf < ? AND e.seq = ANY(?::bigint[])`, x.size, seqs)))
	if err != nil {
		return fmt.Errorf("reading an audit log: %w", err)
	}
	err = eachRow(rows, func() error {
		l, err := scanLeaf(rows, originOf(x.grant.Tenant()))
		records[l.ID] = l
		return err
	})
	if err != nil {
		return fmt.Errorf("reading an audit log: %w", err)
	}
	tree := ledger.NewTree(x.size, x.hashes)
	for i := range x.entries {
		e := &x.entries[i]
		l, ok := records[e.ID]
		if !ok {
			continue // the checkpoint is older
		}
		proof, err := tlog.ProveRecord(x.size, l.Number, tree)
		if err != nil {
			return fmt.Errorf("proving an audit entry: %w", err)
		}
		e.Record = string(l.Record)
		for _, h := range proof {
			e.Hashes = append(e.Hashes, h[:])
		}
	}
	return nil
}

// remembered returns a Source that reads each range once: leaves of one page lie
// close together.
func remembered(from ledger.Source) ledger.Source {
	known := map[ledger.Range][]tlog.Hash{}
	return func(ranges []ledger.Range) ([][]tlog.Hash, error) {
		var missing []ledger.Range
		for _, r := range ranges {
			if _, ok := known[r]; !ok {
				missing = append(missing, r)
			}
		}
		found, err := from(missing)
		if err != nil {
			return nil, err
		}
		if len(found) != len(missing) {
			return nil, errors.New("store: hashes of an audit log are missing")
		}
		for i, r := range missing {
			known[r] = found[i]
		}
		all := make([][]tlog.Hash, len(ranges))
		for i, r := range ranges {
			all[i] = known[r]
		}
		return all, nil
	}
}
