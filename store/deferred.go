package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A Deferred is a request that is answered later.
// https://hl7.org/fhir/R4/async.html
type Deferred struct {
	ID string
	// Until is when whoever works on it has given up.
	Until time.Time
	// Expires is when the answer is thrown away.
	Expires time.Time
	Done    bool
	Answer  []byte
}

// maxDeferred bounds the requests that one principal has in work at a time.
const maxDeferred = 10

// answerLife is how long an answer is kept after its work should have ended.
const answerLife = time.Hour

// Defer notes a request, which e describes, to be answered within the time. It
// belongs to the principal of g: nobody else finds it or can open its answer.
func (db *DB) Defer(ctx context.Context, g *smart.Grant, e audit.Entry, within time.Duration) (Deferred, error) {
	d := Deferred{ID: uuid.NewString(), Until: now().Add(within)}
	d.Expires = d.Until.Add(answerLife)
	err := db.ofPrincipal(ctx, g, e, func(v *View, p smart.Permit, owner int64) error {
		var working int
		err := v.one(ctx, p, gate.SQL(`
			WITH old AS (DELETE FROM ~deferred WHERE tenant_id = $1 AND expires < ?)
			SELECT count(*) FROM ~deferred WHERE tenant_id = $1 AND owner = ? AND NOT done AND until > ?`, now(), owner, now()), &working)
		if err != nil {
			return err
		}
		if working >= maxDeferred {
			return fhir.Errorf(fhir.Throttled, "%d requests of this client are in work already", maxDeferred)
		}
		return v.gate.Defer(p, gate.SQL(`
			INSERT INTO ~deferred (tenant_id, id, owner, until, expires, done, answer)
			VALUES ($1, ?, ?, ?, ?, false, '')`, d.ID, owner, d.Until, d.Expires))
	})
	return d, err
}

// Answer keeps the answer to a deferred request. kept is false if the request
// was cancelled meanwhile.
func (db *DB) Answer(ctx context.Context, g *smart.Grant, id string, answer []byte) (kept bool, err error) {
	err = db.ofPrincipal(ctx, g, audit.Entry{Interaction: fhir.Operation}, func(v *View, p smart.Permit, owner int64) error {
		sealed, err := v.keys.Seal(nil, keys.Cursor, answer, v.answerOf(id))
		if err != nil {
			return fmt.Errorf("sealing an answer: %w", err)
		}
		var n int
		err = v.one(ctx, p, gate.SQL(`
			WITH kept AS (UPDATE ~deferred SET done = true, answer = ? WHERE tenant_id = $1 AND id = ? AND owner = ? RETURNING 1)
			SELECT count(*) FROM kept`, sealed, id, owner), &n)
		kept = n > 0
		return err
	})
	return kept, err
}

// Deferred returns a request of the principal of g. The error for any other is
// NotFound.
func (db *DB) Deferred(ctx context.Context, g *smart.Grant, id string) (Deferred, error) {
	d := Deferred{ID: id}
	err := db.ofPrincipal(ctx, g, audit.Entry{Interaction: fhir.Operation}, func(v *View, p smart.Permit, owner int64) error {
		var sealed []byte
		err := v.one(ctx, p, gate.SQL(`
			SELECT until, expires, done, answer FROM ~deferred
			WHERE  tenant_id = $1 AND id = ? AND owner = ? AND expires > ?`, id, owner, now()), &d.Until, &d.Expires, &d.Done, &sealed)
		if err != nil || !d.Done {
			return err
		}
		if d.Answer, err = v.keys.Open(keys.Cursor, sealed, v.answerOf(id)); err != nil {
			return unknownAnswer()
		}
		return nil
	})
	return d, err
}

// Cancel forgets a request of the principal of g, and its answer.
func (db *DB) Cancel(ctx context.Context, g *smart.Grant, id string) error {
	return db.ofPrincipal(ctx, g, audit.Entry{Interaction: fhir.Operation}, func(v *View, p smart.Permit, owner int64) error {
		var found int
		return v.one(ctx, p, gate.SQL(`
			WITH gone AS (DELETE FROM ~deferred WHERE tenant_id = $1 AND id = ? AND owner = ? RETURNING 1)
			SELECT 1 FROM gone`, id, owner), &found)
	})
}

// ofPrincipal runs fn in a transaction of its own, with the name under which
// the requests of the principal of g are found.
func (db *DB) ofPrincipal(ctx context.Context, g *smart.Grant, e audit.Entry, fn func(v *View, p smart.Permit, owner int64) error) error {
	p, err := g.PermitAnswers()
	if err != nil {
		return err
	}
	return db.gate.Update(ctx, g, func(t *gate.Tx) error {
		t.Trail().Main = e
		v, err := db.view(ctx, t)
		if err != nil {
			return err
		}
		return fn(v, p, v.keys.Hash("q", g.Principal()))
	})
}

// answerOf is the associated data of an answer: whose it is, under which
// policy it was made, and to which request.
func (v *View) answerOf(id string) []byte {
	return fmt.Appendf(nil, "answer|%s|%d|%s|%s", v.grant.Tenant().ID, v.grant.Tenant().PolicyVersion, v.grant.Principal(), id)
}

func unknownAnswer() error { return fhir.Errorf(fhir.NotFound, "the request is not known") }

// one runs a statement with one row. The error is NotFound without any.
func (v *View) one(ctx context.Context, p smart.Permit, q gate.Clause, into ...any) error {
	rows, err := v.gate.Query(ctx, p, q)
	if err != nil {
		return fmt.Errorf("looking for a deferred request: %w", err)
	}
	_, err = pgx.CollectExactlyOneRow(rows, func(rows pgx.CollectableRow) (struct{}, error) {
		return struct{}{}, rows.Scan(into...)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return unknownAnswer()
	case err != nil:
		return fmt.Errorf("looking for a deferred request: %w", err)
	}
	return nil
}
