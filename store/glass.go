package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// glassRow is a broken glass, or a request to break one, as the registry keeps
// it. What names the patient is sealed.
type glassRow struct {
	id                             string
	user, subject, client, session string
	patient                        int64 // keyed hash
	alone                          bool
	request                        []byte
	requested, now                 time.Time
	decided                        *time.Time
	decidedBy                      *string
	begins, until                  *time.Time
	signed                         []byte
	ended                          *time.Time
	endedBy                        *string
	reviewed                       *time.Time
	reviewedBy                     *string
	review                         []byte
}

// decision is that a glass is broken.
type decision struct {
	begins, until time.Time
	signed        []byte
	sighting      alert.Sighting
}

// maxOpenGlasses bounds what a user has asked for or broken at a time.
const maxOpenGlasses = 5

// glassWaits is how long a request can be approved.
const glassWaits = time.Hour

// openGlass is the condition that a request can be approved, or that the glass is
// broken.
const openGlass = `(begins IS NULL AND decided IS NULL AND requested > now() - interval '1 hour'
	OR begins IS NOT NULL AND ended IS NULL AND until > now())`

// mayAddGlass returns nil if the user may ask for more: not who has let a review
// wait for longer than within, or asks too much.
func (r *Registry) mayAddGlass(ctx context.Context, in queryer, t *tenant.Tenant, g glassRow, within time.Duration) error {
	var open, same, overdue int
	err := in.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE `+openGlass+`),
		       count(*) FILTER (WHERE `+openGlass+` AND patient = $3),
		       count(*) FILTER (WHERE begins IS NOT NULL AND reviewed IS NULL AND coalesce(ended, until) <= now() - $4::interval)
		FROM   registry.glass
		WHERE  tenant_id = $1 AND fhir_user = $2`, t.ID.Int(), g.user, g.patient, within).Scan(&open, &same, &overdue)
	switch {
	case err != nil:
		return err
	case overdue > 0:
		return fhir.Errorf(fhir.Forbidden, "an earlier access in an emergency has to be reviewed first")
	case same > 0:
		return fhir.Errorf(fhir.Conflict, "this was asked for already")
	case open >= maxOpenGlasses:
		return fhir.Errorf(fhir.Forbidden, "at most %d can be open at a time: end one first", maxOpenGlasses)
	}
	return nil
}

// A queryer is a connection, or a transaction.
type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// addGlass stores a request, and with d that the glass is broken at once. Errors
// are those of mayAddGlass.
func (r *Registry) addGlass(ctx context.Context, t *tenant.Tenant, g glassRow, within time.Duration, d *decision) error {
	return r.withGlasses(ctx, func(tx pgx.Tx) error {
		if err := r.mayAddGlass(ctx, tx, t, g, within); err != nil {
			return err
		}
		of := decision{}
		if d != nil {
			of = *d
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO registry.glass (tenant_id, id, fhir_user, subject, client, session, patient, alone, request, begins, until, signed)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			t.ID.Int(), g.id, g.user, g.subject, g.client, g.session, g.patient, g.alone, g.request, nullable(of.begins), nullable(of.until), of.signed)
		if err == nil && d != nil {
			err = sightIn(ctx, tx, d.sighting)
		}
		return err
	})
}

// nullable is a time for SQL, NULL for none.
func nullable(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// withGlasses runs fn in a transaction in which nobody else opens an alert, nor
// breaks a glass.
func (r *Registry) withGlasses(ctx context.Context, fn func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(alertLock)); err != nil {
			return err
		}
		return fn(tx)
	})
}

// sightIn opens the alert of a sighting in the transaction.
func sightIn(ctx context.Context, tx pgx.Tx, s alert.Sighting) error {
	var b pgx.Batch
	queueSighting(&b, s)
	return tx.SendBatch(ctx, &b).Close()
}

// errDecided is the answer to who comes second, or late.
func errDecided() error {
	return fhir.Errorf(fhir.Conflict, "the request was decided already, or not in time")
}

// decideGlass notes who approved the request, with d, or refused it.
func (r *Registry) decideGlass(ctx context.Context, t *tenant.Tenant, id, by, subject string, d *decision) error {
	return r.withGlasses(ctx, func(tx pgx.Tx) error {
		of := decision{}
		if d != nil {
			of = *d
		}
		tag, err := tx.Exec(ctx, `
			UPDATE registry.glass
			SET    decided = now(), decided_by = $3, decider = $4, begins = $5, until = $6, signed = $7
			WHERE  tenant_id = $1 AND id = $2 AND begins IS NULL AND `+openGlass,
			t.ID.Int(), id, by, subject, nullable(of.begins), nullable(of.until), of.signed)
		if err == nil && tag.RowsAffected() == 0 {
			err = errDecided()
		}
		if err == nil && d != nil {
			err = sightIn(ctx, tx, d.sighting)
		}
		return err
	})
}

// EndGlass ends what is in force under the id, for somebody whom by names. The
// error is a *fhir.Error with code Conflict if nothing is. It holds on every
// server once smart.RevocationDelay has passed.
func (r *Registry) EndGlass(ctx context.Context, t *tenant.Tenant, id, by string) error {
	return r.changeGlass(ctx, fhir.Errorf(fhir.Conflict, "it has ended already, or never began"), `
		UPDATE registry.glass SET ended = now(), ended_by = $3
		WHERE  tenant_id = $1 AND id = $2 AND begins IS NOT NULL AND ended IS NULL AND until > now()`, t.ID.Int(), id, by)
}

// reviewGlass keeps what was found of what has ended.
func (r *Registry) reviewGlass(ctx context.Context, t *tenant.Tenant, id, by, subject string, review []byte) error {
	return r.changeGlass(ctx, fhir.Errorf(fhir.Conflict, "it has not ended, or was reviewed already"), `
		UPDATE registry.glass
		SET    ended = coalesce(ended, until), ended_by = coalesce(ended_by, ''),
		       reviewed = now(), reviewed_by = $3, reviewer = $4, review = $5
		WHERE  tenant_id = $1 AND id = $2 AND (ended IS NOT NULL OR until <= now()) AND reviewed IS NULL`,
		t.ID.Int(), id, by, subject, review)
}

func (r *Registry) changeGlass(ctx context.Context, none error, sql string, args ...any) error {
	var tag pgconn.CommandTag
	err := gate.Steadily(func() (err error) {
		tag, err = r.pool.Exec(ctx, sql, args...)
		return err
	})
	if err == nil && tag.RowsAffected() == 0 {
		err = none
	}
	return err
}

// selectGlass begins a statement whose rows scanGlass reads.
const selectGlass = `
	SELECT id, fhir_user, subject, client, session, patient, alone, request, requested, now(), decided, decided_by, begins, until, signed,
	       ended, ended_by, reviewed, reviewed_by, review
	FROM   registry.glass `

func scanGlass(row pgx.CollectableRow) (g glassRow, err error) {
	err = row.Scan(&g.id, &g.user, &g.subject, &g.client, &g.session, &g.patient, &g.alone, &g.request, &g.requested, &g.now,
		&g.decided, &g.decidedBy, &g.begins, &g.until, &g.signed, &g.ended, &g.endedBy, &g.reviewed, &g.reviewedBy, &g.review)
	return g, err
}

// maxGlasses bounds a list.
const maxGlasses = 200

// glasses returns those of the user, of all with "": first those that are in force
// or wait for an approval, then those that wait for a review, each the newest
// first.
func (r *Registry) glasses(ctx context.Context, t *tenant.Tenant, user string) (list []glassRow, err error) {
	err = gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, selectGlass+`
			WHERE  tenant_id = $1 AND ($2 = '' OR fhir_user = $2)
			ORDER  BY `+openGlass+` DESC, begins IS NOT NULL AND reviewed IS NULL DESC, requested DESC, id
			LIMIT  $3`, t.ID.Int(), user, maxGlasses)
		if err == nil {
			list, err = pgx.CollectRows(rows, scanGlass)
		}
		return err
	})
	return list, err
}

// glass returns the one with the id. The error is a *fhir.Error with code
// NotFound if there is none.
func (r *Registry) glass(ctx context.Context, t *tenant.Tenant, id string) (g glassRow, err error) {
	err = gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, selectGlass+`WHERE tenant_id = $1 AND id = $2`, t.ID.Int(), id)
		if err == nil {
			g, err = pgx.CollectExactlyOneRow(rows, scanGlass)
		}
		if errors.Is(err, pgx.ErrNoRows) {
			return fhir.Errorf(fhir.NotFound, "there is no such request")
		}
		return err
	})
	return g, err
}

var _ smart.Glasses = (*Registry)(nil)

// GlassesInForce returns what was approved and has not ended, of all tenants.
func (r *Registry) GlassesInForce(ctx context.Context) (list []smart.KeptGlass, err error) {
	err = gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, `
			SELECT tenant_id, id, signed
			FROM   registry.glass
			WHERE  begins IS NOT NULL AND told_at IS NULL AND ended IS NULL AND until > now()
			ORDER  BY tenant_id, id`)
		if err == nil {
			list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[smart.KeptGlass])
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading broken glasses: %w", err)
	}
	return list, nil
}

// tenantsWithGlasses returns the numbers of the tenants at which something is in
// force, or has ended and is not told of.
func (r *Registry) tenantsWithGlasses(ctx context.Context) (map[int32]bool, error) {
	rows, err := r.pool.Query(ctx, `SELECT DISTINCT tenant_id FROM registry.glass WHERE begins IS NOT NULL AND told_at IS NULL`)
	var ids []int32
	if err == nil {
		ids, err = pgx.CollectRows(rows, pgx.RowTo[int32])
	}
	if err != nil {
		return nil, fmt.Errorf("looking for broken glasses: %w", scrubbed(err))
	}
	some := make(map[int32]bool, len(ids))
	for _, id := range ids {
		some[id] = true
	}
	return some, nil
}

// endedGlasses notes what has ended by its time, or with the session that it was
// for, and returns what has ended and is not told of in the audit trail.
func (r *Registry) endedGlasses(ctx context.Context, t *tenant.Tenant) (list []glassRow, err error) {
	_, err = r.pool.Exec(ctx, `
		UPDATE registry.glass g
		SET    ended = least(until, now()), ended_by = ''
		WHERE  tenant_id = $1 AND begins IS NOT NULL AND told_at IS NULL AND ended IS NULL
		AND    (until <= now() OR EXISTS (
		            SELECT FROM registry.approval a
		            WHERE  a.tenant_id = $1 AND a.id = g.session AND a.revoked IS NOT NULL))`, t.ID.Int())
	if err != nil {
		return nil, fmt.Errorf("ending broken glasses: %w", scrubbed(err))
	}
	rows, err := r.pool.Query(ctx, selectGlass+`
		WHERE  tenant_id = $1 AND begins IS NOT NULL AND told_at IS NULL AND ended IS NOT NULL
		ORDER  BY id
		LIMIT  $2`, t.ID.Int(), maxGlasses)
	if err == nil {
		list, err = pgx.CollectRows(rows, scanGlass)
	}
	if err != nil {
		return nil, fmt.Errorf("reading ended glasses: %w", scrubbed(err))
	}
	return list, nil
}

// tellGlass returns the number of the entry that tells of the end: seq, if
// nobody has begun to tell before.
func (r *Registry) tellGlass(ctx context.Context, t *tenant.Tenant, id string, seq int64) (int64, error) {
	err := r.pool.QueryRow(ctx, `
		UPDATE registry.glass SET told = coalesce(told, $3)
		WHERE  tenant_id = $1 AND id = $2
		RETURNING told`, t.ID.Int(), id, seq).Scan(&seq)
	if err != nil {
		return 0, fmt.Errorf("telling of the end of a broken glass: %w", scrubbed(err))
	}
	return seq, nil
}

// toldGlass notes that the entry is written.
func (r *Registry) toldGlass(ctx context.Context, t *tenant.Tenant, id string) error {
	_, err := r.pool.Exec(ctx, `
		UPDATE registry.glass SET told_at = now()
		WHERE  tenant_id = $1 AND id = $2 AND told_at IS NULL`, t.ID.Int(), id)
	if err != nil {
		return fmt.Errorf("noting the end of a broken glass: %w", scrubbed(err))
	}
	return nil
}
