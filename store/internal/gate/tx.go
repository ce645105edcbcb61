package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// A kind says how the statements of a Tx hang together.
type kind byte

const (
	once     kind = iota // one statement, its own transaction
	snapshot             // REPEATABLE READ, READ ONLY
	write                // READ COMMITTED: each statement sees what committed before it
)

// Tx is work for one tenant, under one Grant.
type Tx struct {
	gate   *Gate
	place  *place
	grant  *smart.Grant
	tenant *tenant.Tenant
	kind   kind
	rules  bool // for the server itself, under Permits for rules and no others

	conn     *pgxpool.Conn // nil until the first statement
	share    chan token    // holds one of ours while conn is not nil; nil is no bound
	begun    bool
	ended    bool
	custom   bool // statements are planned for their arguments
	deferred []Clause
	trail    Trail
}

// Grant returns the Grant that t works under.
func (t *Tx) Grant() *smart.Grant { return t.grant }

// Trail returns what t will write to the audit trail, to be filled in.
func (t *Tx) Trail() *Trail { return &t.trail }

// Permit asks the Grant, and notes the interaction in the trail.
func (t *Tx) Permit(do fhir.Interaction, on fhir.Type) (smart.Permit, error) {
	if t == nil || t.grant == nil || t.ended {
		return smart.Permit{}, ErrClosed
	}
	return t.grant.Permit(do, on)
}

// Query runs q under p. The caller closes the rows.
func (t *Tx) Query(ctx context.Context, p smart.Permit, q Clause) (pgx.Rows, error) {
	if !p.From(t.grant) || p.ForRules() != t.rules || t.ended {
		return nil, ErrClosed
	}
	br, err := t.send(ctx, q)
	if err != nil {
		return nil, err
	}
	rows, err := br.Query()
	if err != nil {
		br.Close()
		return nil, translate(err)
	}
	return &batchRows{Rows: rows, br: br}, nil
}

// batchRows are the rows of the last statement of a batch.
type batchRows struct {
	pgx.Rows
	br  pgx.BatchResults
	err error
}

func (r *batchRows) Close() {
	r.Rows.Close()
	if err := r.br.Close(); err != nil && r.err == nil {
		r.err = err
	}
}

func (r *batchRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return translate(err)
	}
	return translate(r.err)
}

// Exec runs q under p for its effect, now. Writes are better deferred.
func (t *Tx) Exec(ctx context.Context, p smart.Permit, q Clause) error {
	rows, err := t.Query(ctx, p, q)
	if err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// Defer keeps a write for the end, when all go to the database in one round
// trip with the audit trail and the commit.
func (t *Tx) Defer(p smart.Permit, q Clause) error {
	if !p.From(t.grant) || p.ForRules() || t.ended || t.kind != write {
		return ErrClosed
	}
	t.deferred = append(t.deferred, q)
	return nil
}

// Flush sends what was deferred, so that the next statement sees it.
func (t *Tx) Flush(ctx context.Context) error {
	if len(t.deferred) == 0 {
		return nil
	}
	d := t.deferred
	t.deferred = nil
	br, err := t.send(ctx, d...)
	if err != nil {
		return err
	}
	return translate(finish(br, len(d)))
}

// send sends the statements in one round trip, behind what begins and binds
// the transaction if that has not happened. The results are those of the
// statements alone.
func (t *Tx) send(ctx context.Context, qs ...Clause) (pgx.BatchResults, error) {
	if err := t.acquire(ctx); err != nil {
		return nil, err
	}
	b := &pgx.Batch{}
	lead := 0
	if !t.begun {
		lead = t.queueBegin(b)
		t.begun = true
	} else if t.kind == once {
		return nil, ErrTwoStatements
	}
	for _, q := range qs {
		if q.custom != t.custom {
			t.custom = q.custom
			lead++ // only before the first: there is one, or none is custom
			b.Queue(`SELECT set_config('plan_cache_mode', $1, true)`, planMode[q.custom])
		}
		t.queue(b, q)
	}
	br := t.conn.SendBatch(ctx, b)
	for range lead {
		if _, err := br.Exec(); err != nil {
			br.Close()
			return nil, translate(err)
		}
	}
	if lead > 0 && t.kind == write {
		crash(afterBegin)
	}
	return br, nil
}

// queueBegin queues what begins and binds the transaction, and returns how
// many statements that is.
func (t *Tx) queueBegin(b *pgx.Batch) int {
	switch t.kind {
	case snapshot:
		b.Queue(`BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY`)
	case write:
		b.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED`)
	}
	text, args := bind(t.tenant)
	b.Queue(text, args...)
	return b.Len()
}

// planMode is the setting for statements that are custom, and for others.
// https://www.postgresql.org/docs/15/runtime-config-query.html#GUC-PLAN-CACHE-MODE
var planMode = map[bool]string{true: "force_custom_plan", false: "force_generic_plan"}

func (t *Tx) queue(b *pgx.Batch, q Clause) {
	b.Queue(q.render(t.tenant.Placement.Schema), append([]any{t.tenant.ID.Int()}, q.args...)...)
}

func (t *Tx) acquire(ctx context.Context) error {
	if t.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, t.gate.cfg.Wait)
	defer cancel()
	share := t.place.share(t.tenant.ID)
	if share != nil {
		select {
		case share <- token{}:
		case <-ctx.Done():
			return fhir.Errorf(fhir.Throttled, "too many requests of this tenant are under way, try again")
		}
	}
	conn, err := t.place.pool.Acquire(ctx)
	if err != nil {
		if share != nil {
			<-share
		}
		return t.gate.unavailable("waiting for a connection", err)
	}
	t.conn, t.share = conn, share
	return nil
}

// commitTimeout bounds a commit, for a database that neither answers nor
// breaks the connection. Whether it took place nobody can tell then.
const commitTimeout = time.Minute

// commit sends what was deferred, the trail and the commit in one round trip.
func (t *Tx) commit(ctx context.Context) error {
	// From here on the client's leaving changes nothing: a commit that is
	// half sent must be seen to its end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	entries := t.trail.settle(t.grant, nil)
	rows := make([]AuditRow, len(entries))
	for i, e := range entries {
		var err error
		if rows[i], err = t.gate.cfg.Seal(ctx, t.tenant, e); err != nil {
			return fmt.Errorf("sealing an audit entry: %w", err)
		}
	}
	if err := t.acquire(ctx); err != nil {
		return err
	}
	b := &pgx.Batch{}
	begun := t.begun
	if !begun { // one batch is one transaction, begun and committed with it
		text, args := bind(t.tenant)
		b.Queue(text, args...)
	}
	for _, q := range t.deferred {
		t.queue(b, q)
	}
	t.deferred = nil
	t.queue(b, insertAudit(rows))
	if begun {
		b.Queue(`COMMIT`)
	}
	crash(beforeCommit)
	if err := finish(t.conn.SendBatch(ctx, b), b.Len()); err != nil {
		return translate(err)
	}
	crash(afterCommit)
	t.begun = false
	t.gate.cfg.Watch(t.tenant, entries, nil)
	return nil
}

// run does fn and ends t, also when fn panics: what it held, connection and
// locks, must not stay with it.
func (t *Tx) run(ctx context.Context, fn func(*Tx) error) error {
	defer t.end(ctx)
	return fn(t)
}

// end gives the connection back. A transaction that is still open is rolled
// back; if that fails the pool throws the connection away.
func (t *Tx) end(ctx context.Context) {
	t.ended = true
	if t.conn == nil {
		return
	}
	if t.conn.Conn().PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		_, _ = t.conn.Exec(ctx, `ROLLBACK`) // the pool closes a connection that is not idle
		cancel()
	}
	t.conn.Release()
	t.conn = nil
	if t.share != nil {
		<-t.share
	}
}

// errAgain asks for the transaction to be run again.
type errAgain struct{ state string }

func (e errAgain) Error() string { return "database asks for a retry, SQLSTATE " + e.state }

func again(err error) bool {
	var a errAgain
	return errors.As(err, &a)
}

// translate strips from a database error what may hold values of rows, and
// marks what can be tried again.
func translate(err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if pg.Code == "28000" && pg.Routine == "exec_stmt_raise" { // of tenant(): suspended since we looked, or of another policy
			return unknown{smart.Elsewhere()}
		}
		switch pg.Code {
		case "40001", "40P01", "23505": // serialization, deadlock, someone else's equal key
			return errAgain{pg.Code}
		case "57014", "55P03": // statement timeout, lock timeout
			return fhir.Errorf(fhir.TooCostly, "the database took longer than a request may have it; ask for less")
		case "53100", "53200", "53300", "57P01", "57P02", "57P03": // full, too many, shutting down
			return fhir.Errorf(fhir.Transient, "the server cannot reach its database, try again")
		}
	}
	if lost(err) {
		return fhir.Errorf(fhir.Transient, "the server cannot reach its database, try again")
	}
	if pg == nil {
		return err // not of the database
	}
	return Scrub(err)
}

// Steadily runs fn, and again if the connection that it was given turns out to
// have been closed before: PostgreSQL restarted, or somebody ended it. Nothing
// of the first run took place. The error is scrubbed, and says when the database
// cannot be reached.
func Steadily(fn func() error) error {
	err := fn()
	var pg *pgconn.PgError
	if pgconn.SafeToRetry(err) || errors.As(err, &pg) && pg.Code == "57P01" {
		err = fn()
	}
	return translate(err)
}

// lost reports whether the connection broke. What was sent before a commit is
// undone; whether a commit took place nobody can tell.
func lost(err error) bool {
	var op *net.OpError
	return pgconn.Timeout(err) || pgconn.SafeToRetry(err) || errors.As(err, &op) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// Scrub returns of a database error what may be logged and told: never its
// Detail or Message, which can hold values of rows.
func Scrub(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return scrubbed("SQLSTATE " + pg.Code + " in " + pg.Routine)
	}
	var conn *pgconn.ConnectError
	if errors.As(err, &conn) {
		return scrubbed("no connection")
	}
	return scrubbed(oplog.Text(err))
}

type scrubbed string

func (s scrubbed) Error() string { return string(s) }
func (s scrubbed) Cause() string { return string(s) }

func backoff(ctx context.Context, try int) {
	wait := time.Duration(1<<try) * time.Millisecond
	select {
	case <-ctx.Done():
	case <-time.After(wait/2 + rand.N(wait)):
	}
}
