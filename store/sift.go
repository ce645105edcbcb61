package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// errEnough ends a scan.
var errEnough = errors.New("store: enough")

// Sift shows keep what q matches, newest first, until it wants no more, and
// returns what it kept. That is what the audit trail calls disclosed: the rest
// must have no part in the answer but that it is not there. It is too costly to
// sift more than some thousands.
func (v *View) Sift(ctx context.Context, q *search.Query, keep func(fhir.Resource) (keep, more bool)) ([]fhir.Resource, error) {
	do := interaction(q)
	entry := audit.Entry{Interaction: do, Type: q.Type, Query: applied(q)}
	v.attempt(entry)
	plans, err := v.plans(ctx, do, q)
	if err != nil {
		return nil, err
	}
	var kept []fhir.Resource
	for _, pl := range plans {
		err := v.scan(ctx, pl, func(_ row, res fhir.Resource) error {
			res, err := v.shown(res)
			if err != nil {
				return err
			}
			wanted, more := keep(res)
			if wanted {
				kept = append(kept, res)
			}
			if !more {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	v.noteAll(entry, kept)
	return kept, nil
}

// ReadAll reads the resources that the Grant may read, in one statement. What
// it may not see, or is not there, is missing in the answer.
func (v *View) ReadAll(ctx context.Context, refs ...fhir.Ref) (map[fhir.Ref]fhir.Resource, error) {
	found := make(map[fhir.Ref]fhir.Resource, len(refs))
	permits := map[fhir.Type]smart.Permit{}
	var rids []int64
	var p smart.Permit
	for _, ref := range refs {
		if _, asked := permits[ref.Type]; !asked {
			one, err := v.gate.Permit(fhir.Read, ref.Type)
			if err != nil && !fhir.IsCode(err, fhir.Forbidden) {
				return nil, err
			}
			permits[ref.Type] = one
		}
		if one := permits[ref.Type]; one.On() != "" {
			p, rids = one, append(rids, v.rid(ref))
		}
	}
	if len(rids) == 0 {
		return found, nil
	}
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT rid, type, id, version, updated, body
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid = ANY(?::bigint[]) AND NOT deleted
		ORDER  BY rid`, rids))
	if err != nil {
		return nil, fmt.Errorf("reading resources: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return nil, fmt.Errorf("reading resources: %w", err)
	}
	for _, r := range list {
		res, err := v.open(r)
		if err != nil {
			return nil, err
		}
		ok, err := v.covers(ctx, permits[r.ref.Type], res)
		if err != nil {
			return nil, err
		}
		if ok {
			v.noteOf(v.disclosed(fhir.Read, res), v.patients(res))
			if found[r.ref], err = v.shown(res); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// scanRow reads rid, type, id, version, updated and body.
func scanRow(rows pgx.CollectableRow) (row, error) {
	var r row
	var number int16
	err := rows.Scan(&r.rid, &number, &r.ref.ID, &r.version, &r.updated, &r.body)
	r.ref.Type = fhir.TypeNumbered(number)
	return r, err
}
