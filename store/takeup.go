package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// Work is a deferred request that this process has taken up. It is the
// process's own for the time of its lease, which Renew begins anew; when that has
// run out another may take it up, and what this one answers is not kept.
type Work struct {
	ID      string
	Request []byte // as Defer got it
	// Turn counts how often the work was begun: 1 is the first time. More than
	// that means that whoever had it before stopped in the middle.
	Turn   int
	Kind   Kind
	tenant *tenant.Tenant
	holder string
}

func deferredPlace(t *tenant.Tenant, id string) []byte {
	return fmt.Appendf(nil, "request|%s|%s", t.ID, id)
}

// Waiting reports whether a deferred request of the tenant waits for somebody
// to take it up, and whether there are some to Sweep. It sees that and no more,
// and leaves no entry in the audit trail.
func (db *DB) Waiting(ctx context.Context, t *tenant.Tenant) (waiting, old bool, err error) {
	g := smart.TakingUp(t)
	p, err := g.PermitRules("SearchParameter") // of any type: no resource is read
	if err != nil {
		return false, false, err
	}
	err = db.gate.Rules(ctx, g, func(tx *gate.Tx) error {
		rows, err := tx.Query(ctx, p, gate.SQL(`
			SELECT count(*) FILTER (WHERE NOT done AND until > ? AND request <> '' AND (lease IS NULL OR lease < clock_timestamp())) > 0,
			       count(*) FILTER (WHERE expires < ?) > 0 OR EXISTS (SELECT 1`, now(), now()).With(db.leftFiles(), gate.SQL(`) OR EXISTS (SELECT 1 FROM`), leftSlices, gate.SQL(`) OR EXISTS (SELECT 1 FROM`), leftInputs, gate.SQL(`) OR EXISTS (SELECT 1 FROM`), leftFaults, gate.SQL(`)
			FROM   ~deferred WHERE tenant_id = $1`)))
		if err != nil {
			return err
		}
		_, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) {
			return struct{}{}, row.Scan(&waiting, &old)
		})
		return err
	})
	if err != nil {
		return false, false, fmt.Errorf("looking for deferred requests of tenant %s: %w", t.ID, err)
	}
	return waiting, old, nil
}

// TakeUp takes up the deferred request of the tenant that has waited longest.
// found is false if there is none.
func (db *DB) TakeUp(ctx context.Context, t *tenant.Tenant) (w Work, found bool, err error) {
	w = Work{tenant: t, holder: uuid.NewString()}
	var sealed []byte
	var export, imports bool
	err = db.takingUp(ctx, t, "taking up a deferred request", func(v *View, p smart.Permit) error {
		err := v.one(ctx, p, gate.SQL(`
			UPDATE ~deferred d
			SET    turn = turn + 1, holder = ?, lease = clock_timestamp() + ?::interval
			FROM   (SELECT id FROM ~deferred
			        WHERE  tenant_id = $1 AND NOT done AND until > ? AND request <> '' AND (lease IS NULL OR lease < clock_timestamp())
			        ORDER  BY until, id
			        LIMIT  1
			        FOR    UPDATE SKIP LOCKED) next
			WHERE  d.tenant_id = $1 AND d.id = next.id
			RETURNING d.id::text, d.turn, d.request, d.export, d.import`, w.holder, db.Lease, now()), &w.ID, &w.Turn, &sealed, &export, &imports)
		found, w.Kind = err == nil, kindOf(export, imports)
		if fhir.IsCode(err, fhir.NotFound) {
			return nil
		}
		return err
	})
	if err != nil || !found {
		return Work{}, false, err
	}
	set, err := db.keys.Of(ctx, t.ID)
	if err != nil {
		return Work{}, false, err
	}
	if w.Request, err = set.Open(requestKey, sealed, deferredPlace(t, w.ID)); err != nil {
		return Work{}, false, errors.Join(fmt.Errorf("opening a deferred request: %w", err), db.Drop(ctx, w))
	}
	return w, true, nil
}

// Renew begins the lease of w anew. held is false if w was cancelled or taken
// up by another: the work on it must end.
func (db *DB) Renew(ctx context.Context, w Work) (held bool, err error) {
	return db.ofWork(ctx, w, "going on with a deferred request", gate.SQL(`
		WITH own AS (
			UPDATE ~deferred SET lease = clock_timestamp() + ?::interval
			WHERE  tenant_id = $1 AND id = ? AND holder = ?
			RETURNING 1)
		SELECT count(*) FROM own`, db.Lease, w.ID, w.holder))
}

// PutBack ends the work on w as if it had never been begun: another may take it
// up at once.
func (db *DB) PutBack(ctx context.Context, w Work) error {
	_, err := db.ofWork(ctx, w, "putting back a deferred request", gate.SQL(`
		WITH own AS (
			UPDATE ~deferred SET lease = NULL, holder = NULL, turn = turn - 1
			WHERE  tenant_id = $1 AND id = ? AND holder = ?
			RETURNING 1)
		SELECT count(*) FROM own`, w.ID, w.holder))
	return err
}

// Drop forgets w: there is nobody left who may have an answer.
func (db *DB) Drop(ctx context.Context, w Work) error {
	_, err := db.ofWork(ctx, w, "dropping a deferred request", gate.SQL(`
		WITH own AS (DELETE FROM ~deferred WHERE tenant_id = $1 AND id = ? AND holder = ? RETURNING 1)
		SELECT count(*) FROM own`, w.ID, w.holder))
	return err
}

// Sweep throws away the answers of the tenant whose time is over, and files that
// nobody can ask for.
func (db *DB) Sweep(ctx context.Context, t *tenant.Tenant) error {
	err := db.takingUp(ctx, t, "throwing away old answers", func(v *View, p smart.Permit) error {
		if err := v.gate.Defer(p, gate.SQL(`DELETE FROM ~deferred WHERE tenant_id = $1 AND expires < ?`, now())); err != nil {
			return err
		}
		for _, left := range []gate.Clause{leftSlices, leftInputs, leftFaults} {
			if err := v.gate.Defer(p, gate.SQL(`DELETE FROM`).With(left)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return db.sweepFiles(ctx, t)
}

// ofWork runs a statement that counts the rows it changed.
func (db *DB) ofWork(ctx context.Context, w Work, doing string, q gate.Clause) (changed bool, err error) {
	err = db.takingUp(ctx, w.tenant, doing, func(v *View, p smart.Permit) error {
		var n int
		err := v.one(ctx, p, q, &n)
		changed = n > 0
		return err
	})
	return changed, err
}

// takingUp runs fn in a transaction of the tenant's own work on deferred
// requests.
func (db *DB) takingUp(ctx context.Context, t *tenant.Tenant, doing string, fn func(*View, smart.Permit) error) error {
	g := smart.TakingUp(t)
	return db.job(ctx, g, g.PermitTakingUp, doing, fn)
}
