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
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A Deferred is a request that is answered later.
// https://hl7.org/fhir/R4/async.html
type Deferred struct {
	ID string
	// Until is when it is given up, if there is no answer.
	Until time.Time
	// Expires is when the answer is thrown away.
	Expires time.Time
	Kind    Kind
	Begun   bool // somebody works on it, or has
	Done    bool
	Answer  []byte // what there is of it
}

// A Kind says what a deferred request asks for.
type Kind byte

// The kinds.
const (
	Asked  Kind = iota // what any request may ask for
	Export             // a bulk export
	Import             // a bulk import
)

// operation is how the audit trail calls work of the kind.
func (k Kind) operation() string {
	if k == Import {
		return "$import"
	}
	return "$export"
}

// kindOf is the kind that the columns of a row say.
func kindOf(export, imports bool) Kind {
	switch {
	case export:
		return Export
	case imports:
		return Import
	}
	return Asked
}

// maxDeferred bounds the requests that one principal has in work at a time, and
// maxWaiting those of a tenant.
const (
	maxDeferred = 10
	maxWaiting  = 200
	// maxExports bounds the bulk exports of a tenant that are under way, and
	// maxImports its imports.
	maxExports = 10
	maxImports = 10
)

// answerLife is how long an answer is kept, and how long it is known that there
// was none in time; exportLife is that of a bulk export or import and its files.
const (
	answerLife = time.Hour
	exportLife = 24 * time.Hour
)

func lifeOf(k Kind) time.Duration {
	if k == Asked {
		return answerLife
	}
	return exportLife
}

// Defer keeps a request, which e describes, to be answered within the time. It
// belongs to the principal of g: nobody else finds it or can open its answer.
// Whoever takes it up gets the bytes of the request back. inputs are those of an
// import.
func (db *DB) Defer(ctx context.Context, g *smart.Grant, e audit.Entry, request []byte, within time.Duration, kind Kind, inputs ...ImportInput) (Deferred, error) {
	d := Deferred{ID: uuid.NewString(), Until: now().Add(within), Kind: kind}
	d.Expires = d.Until.Add(lifeOf(kind))
	err := db.ofPrincipal(ctx, g, e, func(v *View, p smart.Permit, owner int64) error {
		var own, all, exports, imports int
		err := v.one(ctx, p, gate.SQL(`
			SELECT count(*) FILTER (WHERE owner = ?), count(*), count(*) FILTER (WHERE export), count(*) FILTER (WHERE import)
			FROM   ~deferred WHERE tenant_id = $1 AND NOT done AND until > ?`, owner, now()), &own, &all, &exports, &imports)
		switch {
		case err != nil:
			return err
		case kind == Export && exports >= maxExports:
			return fhir.Errorf(fhir.Throttled, "%d exports of this tenant are under way already", maxExports)
		case kind == Import && imports >= maxImports:
			return fhir.Errorf(fhir.Throttled, "%d imports of this tenant are under way already", maxImports)
		case own >= maxDeferred:
			return fhir.Errorf(fhir.Throttled, "%d requests of this client are in work already", maxDeferred)
		case all >= maxWaiting:
			return fhir.Errorf(fhir.Throttled, "too many requests are to be answered later")
		}
		sealed, err := v.keys.Seal(nil, requestKey, request, deferredPlace(g.Tenant(), d.ID))
		if err != nil {
			return fmt.Errorf("sealing a request: %w", err)
		}
		err = v.gate.Defer(p, gate.SQL(`
			INSERT INTO ~deferred (tenant_id, id, owner, until, expires, done, answer, request, export, import)
			VALUES ($1, ?, ?, ?, ?, false, '', ?, ?, ?)`, d.ID, owner, d.Until, d.Expires, sealed, kind == Export, kind == Import))
		if err != nil || len(inputs) == 0 {
			return err
		}
		return v.putInputs(ctx, p, d, inputs)
	})
	return d, err
}

// Answer keeps the answer to a deferred request that was taken up; g is of who
// asked, and what it showed is in the answer. kept is false if it was cancelled
// meanwhile or is no longer w's to answer.
func (db *DB) Answer(ctx context.Context, g *smart.Grant, w Work, answer []byte) (kept bool, err error) {
	err = db.ofPrincipal(ctx, g, audit.Entry{Interaction: fhir.Operation}, func(v *View, p smart.Permit, owner int64) error {
		sealed, err := v.sealAnswer(w, answer)
		if err != nil {
			return fmt.Errorf("sealing an answer: %w", err)
		}
		var n int
		err = v.one(ctx, p, gate.SQL(`
			WITH kept AS (
				UPDATE ~deferred
				SET    done = true, answer = ?, expires = ?, request = '', holder = NULL, lease = NULL
				WHERE  tenant_id = $1 AND id = ? AND owner = ? AND holder = ?
				RETURNING 1)
			SELECT count(*) FROM kept`, sealed, now().Add(lifeOf(w.Kind)), w.ID, owner, w.holder), &n)
		kept = n > 0
		return err
	})
	return kept, err
}

// AnswerInPart keeps what there is of the answer to an export or import that was
// taken up and is not done.
func (db *DB) AnswerInPart(ctx context.Context, g *smart.Grant, w Work, answer []byte) error {
	return db.ofPrincipal(ctx, g, audit.Entry{Interaction: fhir.Operation}, func(v *View, p smart.Permit, owner int64) error {
		sealed, err := v.sealAnswer(w, answer)
		if err != nil {
			return fmt.Errorf("sealing an answer: %w", err)
		}
		return v.gate.Defer(p, gate.SQL(`
			UPDATE ~deferred SET answer = ?
			WHERE  tenant_id = $1 AND id = ? AND owner = ? AND holder = ? AND NOT done`, sealed, w.ID, owner, w.holder))
	})
}

// Deferred returns a request of the kind, of the principal of g. The error
// for any other is NotFound, and Deleted if the answer shows what g may see no
// longer.
func (db *DB) Deferred(ctx context.Context, g *smart.Grant, id string, kind Kind) (Deferred, error) {
	d := Deferred{ID: id, Kind: kind}
	err := db.ofPrincipal(ctx, g, audit.Entry{Interaction: fhir.Operation}, func(v *View, p smart.Permit, owner int64) error {
		var sealed []byte
		err := v.one(ctx, p, gate.SQL(`
			SELECT until, expires, turn > 0, done, answer FROM ~deferred
			WHERE  tenant_id = $1 AND id = ? AND owner = ? AND expires > ? AND export = ? AND import = ?`, id, owner, now(), kind == Export, kind == Import), &d.Until, &d.Expires, &d.Begun, &d.Done, &sealed)
		if err != nil || len(sealed) == 0 {
			return err
		}
		d.Answer, err = v.openAnswer(ctx, p, d, sealed)
		return err
	})
	if err != nil {
		return Deferred{}, err
	}
	return d, nil
}

// Cancel forgets a request of the kind, of the principal of g, and its answer.
func (db *DB) Cancel(ctx context.Context, g *smart.Grant, id string, kind Kind) error {
	return db.ofPrincipal(ctx, g, audit.Entry{Interaction: fhir.Operation}, func(v *View, p smart.Permit, owner int64) error {
		var found int
		return v.one(ctx, p, gate.SQL(`
			WITH gone AS (DELETE FROM ~deferred WHERE tenant_id = $1 AND id = ? AND owner = ? AND export = ? AND import = ? RETURNING 1)
			SELECT 1 FROM gone`, id, owner, kind == Export, kind == Import), &found)
	})
}

// ofPrincipal runs fn in a transaction of its own, with the name under which
// the requests of the principal of g are found.
func (db *DB) ofPrincipal(ctx context.Context, g *smart.Grant, e audit.Entry, fn func(v *View, p smart.Permit, owner int64) error) error {
	p, err := g.PermitAnswers()
	if err != nil {
		return err
	}
	return db.write(ctx, g, e, func(v *View) error {
		return fn(v, p, v.owner())
	})
}

// owner is the name under which the requests of the principal are found.
func (v *View) owner() int64 { return v.keys.Hash("q", v.grant.Holder()) }

// answerOf is the associated data of an answer: whose it is, under which
// policy it was made, and to which request.
func (v *View) answerOf(id string) []byte {
	return fmt.Appendf(nil, "answer|%s|%d|%s|%s", v.grant.Tenant().ID, v.grant.Tenant().PolicyVersion, v.grant.Holder(), id)
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
