package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A file of an export to who may see all of its type shows what was there when it was
// written, as the standard has it. That a resource has changed since takes nothing
// from that; but what was labelled since, so that a consent hides it, is hidden in the
// file too.

// labelledSince reports whether a resource that can be in the file has other
// labels by now and is hidden, or whether too much was changed to tell.
func (v *View) labelledSince(ctx context.Context, p smart.Permit, f ExportFile) (bool, error) {
	if free, err := v.free(ctx, p); free || err != nil {
		return false, err
	}
	at := endOf(f.Made)
	for examined := 0; examined < maxExamined; examined += maxFetch {
		changed, err := v.labels(ctx, p, gate.SQL(`
			SELECT rid, type, id, version, updated, deleted, body, 0::bigint FROM ~resource
			WHERE  tenant_id = $1 AND type = ? AND (updated, rid) > (?, ?) AND version > 1 AND NOT deleted
			ORDER  BY updated, rid
			LIMIT  ?`, f.Type.Number(), at.updated, at.rid, maxFetch))
		if err != nil {
			return false, err
		}
		if labelled, err := v.newlyLabelled(ctx, p, f, changed); labelled || err != nil {
			return labelled, err
		}
		if len(changed) < maxFetch {
			return false, nil
		}
		at = changed[maxFetch-1].mark()
	}
	return true, nil
}

// newlyLabelled reports whether one of the resources is hidden and was not, with
// other labels, at some time since the file was begun: only then it can be in it.
func (v *View) newlyLabelled(ctx context.Context, p smart.Permit, f ExportFile, changed []labels) (bool, error) {
	now := map[int64][]label{}
	var rids []int64
	for _, c := range changed {
		if !c.seen {
			now[c.rid] = c.list
			rids = append(rids, c.rid)
		}
	}
	if len(rids) == 0 {
		return false, nil
	}
	then, err := v.labels(ctx, p, gate.SQL(`
		SELECT h.rid, h.type, h.id, h.version, h.updated, h.deleted, h.body, 0::bigint FROM ~history h
		WHERE  h.tenant_id = $1 AND h.rid = ANY(?::bigint[]) AND NOT h.deleted
		AND    NOT EXISTS (SELECT 1 FROM ~history n WHERE n.tenant_id = $1 AND n.rid = h.rid AND n.version = h.version + 1 AND n.updated <= ?)
		LIMIT  ?`, rids, f.Made, maxChanged+1))
	if err != nil {
		return false, err
	}
	return len(then) > maxChanged || slices.ContainsFunc(then, func(t labels) bool { return t.seen && !slices.Equal(t.list, now[t.rid]) }), nil
}

// labels are those of a version, and whether the permit covers it.
type labels struct {
	row
	list []label
	seen bool
}

// labels returns the labels of the versions that q finds.
func (v *View) labels(ctx context.Context, p smart.Permit, q gate.Clause) ([]labels, error) {
	rows, err := v.query(ctx, p, q)
	if err != nil {
		return nil, fmt.Errorf("looking for what was labelled: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanVersion)
	if err != nil {
		return nil, fmt.Errorf("looking for what was labelled: %w", err)
	}
	list, opened := make([]labels, len(found)), make([]fhir.Resource, len(found))
	for i, r := range found {
		list[i].row = r
		if opened[i], err = v.open(r); err != nil {
			return nil, err
		}
		err = fhir.Peek(opened[i].Body, func(d *fhir.Document) error {
			list[i].list = labelsOf(d)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	covered, err := v.cover(ctx, p, opened...)
	for i, ok := range covered {
		list[i].seen = ok
	}
	return list, err
}
