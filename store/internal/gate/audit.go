package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
)

// A Trail is what a View or an Update will write to the audit trail.
type Trail struct {
	// Main is the entry of the request, or of one entry of a batch.
	Main audit.Entry
	// Linked are the entries of a transaction, and further patients whose
	// record a search disclosed. They count only if the work succeeds.
	Linked []audit.Entry
}

// settle returns the entries to write now that the work ended with err.
func (t *Trail) settle(g *smart.Grant, err error) []*audit.Entry {
	origin := g.Origin()
	now := time.Now().UTC()
	main := t.Main
	main.Seq, main.Parent = origin.Trail.Seq, origin.Trail.Parent
	main.Recorded, main.Origin, main.Agent = now, origin, g.Agent()
	main.Outcome, main.Reason = OutcomeOf(err)
	switch {
	case err == nil:
		main.Failed = "" // of what was tried on the way
	case main.Failed == "" && main.Outcome == audit.Serious:
		main.Failed = g.Failed(main.Interaction, main.Type, nil)
	}
	through(g, &main)
	entries := make([]*audit.Entry, 1, 1+len(t.Linked))
	entries[0] = &main
	if err != nil {
		return entries
	}
	for i := range t.Linked {
		e := &t.Linked[i]
		if e.Seq == 0 {
			e.Seq = audit.NextSeq()
		}
		// Who asked and from where is said by the parent; what an entry is
		// found by is its own.
		e.Parent, e.Recorded = main.Seq, now
		e.Origin = audit.Origin{RequestID: origin.RequestID}
		e.Agent = audit.Agent{Client: main.Agent.Client, User: main.Agent.User, Purpose: main.Agent.Purpose, Site: main.Agent.Site}
		through(g, e)
		entries = append(entries, e)
	}
	return entries
}

// through notes the broken glass through which g saw the record that e is about.
func through(g *smart.Grant, e *audit.Entry) {
	about := e.Patient
	if about.IsZero() {
		about = e.Entity
	}
	if e.Glass == (audit.Glass{}) {
		e.Glass = g.Through(about)
	}
}

// OutcomeOf says how work that ended with err reads in the audit trail.
func OutcomeOf(err error) (audit.Outcome, string) {
	if err == nil {
		return audit.Success, ""
	}
	var fe *fhir.Error
	if !errors.As(err, &fe) {
		return audit.MajorFailure, "internal error"
	}
	switch fe.Code() {
	case fhir.Login, fhir.Forbidden:
		return audit.Serious, string(fe.Code())
	case fhir.Transient, fhir.Exception:
		return audit.MajorFailure, string(fe.Code())
	}
	return audit.MinorFailure, string(fe.Code())
}

// An AuditRow is an entry as the database keeps it: numbers and keyed hashes
// to find it by, and the rest sealed. Of Parent, Type, Agent, Patient, Entity,
// Version, Purpose and Client 0 is SQL's NULL.
type AuditRow struct {
	Tenant      int32
	Seq         int64
	Parent      int64
	Recorded    time.Time
	Interaction int16
	Outcome     int16
	Type        int16
	Agent       int64
	Patient     int64
	Entity      int64
	Version     int32
	Purpose     int64
	Client      int32
	Site        int32
	Sealed      []byte
}

// insertAudit is the statement that appends rows, of one or many tenants.
func insertAudit(rows []AuditRow) Clause {
	n := len(rows)
	var (
		tenants     = make([]int32, n)
		seqs        = make([]int64, n)
		parents     = make([]int64, n)
		recorded    = make([]time.Time, n)
		interaction = make([]int16, n)
		outcome     = make([]int16, n)
		types       = make([]int16, n)
		agents      = make([]int64, n)
		patients    = make([]int64, n)
		entities    = make([]int64, n)
		versions    = make([]int32, n)
		purposes    = make([]int64, n)
		clients     = make([]int32, n)
		sites       = make([]int32, n)
		sealed      = make([][]byte, n)
	)
	for i, r := range rows {
		tenants[i], seqs[i], parents[i], recorded[i] = r.Tenant, r.Seq, r.Parent, r.Recorded
		interaction[i], outcome[i], types[i] = r.Interaction, r.Outcome, r.Type
		agents[i], patients[i], entities[i], versions[i], purposes[i], sealed[i] = r.Agent, r.Patient, r.Entity, r.Version, r.Purpose, r.Sealed
		clients[i], sites[i] = r.Client, r.Site
	}
	// $1 is the tenant that the transaction is bound to; the writer of
	// groups, which is bound to none, passes 0 and may append for any.
	return SQL(`
		INSERT INTO ~audit (tenant_id, seq, parent, recorded, interaction, outcome, type, agent, patient, entity, version, purpose, client, site, sealed)
		SELECT t, s, nullif(p, 0), r, i, o, nullif(ty, 0), nullif(a, 0), nullif(pa, 0), nullif(e, 0), nullif(v, 0), nullif(pu, 0), nullif(c, 0), si, se
		FROM   unnest(?::int[], ?::bigint[], ?::bigint[], ?::timestamptz[], ?::smallint[], ?::smallint[], ?::smallint[],
		              ?::bigint[], ?::bigint[], ?::bigint[], ?::int[], ?::bigint[], ?::int[], ?::int[], ?::bytea[])
		       AS x (t, s, p, r, i, o, ty, a, pa, e, v, pu, c, si, se)
		WHERE  $1::int IN (0, t)`,
		tenants, seqs, parents, recorded, interaction, outcome, types, agents, patients, entities, versions, purposes, clients, sites, sealed)
}

// An auditor appends the entries of reads to the audit trails of one database,
// as a role that can do nothing else. Entries that come while a commit is on
// its way share the next one, so that hundreds of reads cost one flush.
type auditor struct {
	pool *pgxpool.Pool
	log  *oplog.Logger
	work chan pending
	done chan struct{}

	mu     sync.RWMutex
	closed bool
}

// pending is entries that wait to be durable.
type pending struct {
	schema string
	rows   []AuditRow
	// again says that they may have been written before, by who died before it
	// could say so.
	again  bool
	result chan error // receives once
}

// maxGroup bounds the entries that share a commit.
const maxGroup = 1000

func newAuditor(ctx context.Context, dsn string, log *oplog.Logger) (*auditor, error) {
	pool, err := connect(ctx, dsn, 2)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connecting as the audit role: %w", Scrub(err))
	}
	if forgets, err := forgets(ctx, pool); err != nil || len(forgets) > 0 {
		pool.Close()
		if err != nil {
			return nil, fmt.Errorf("checking the audit role: %w", Scrub(err))
		}
		return nil, fmt.Errorf("the audit trail would not be kept: %s", strings.Join(forgets, "; "))
	}
	a := &auditor{pool: pool, log: log, work: make(chan pending, maxGroup), done: make(chan struct{})}
	go a.run()
	return a, nil
}

// close waits until all that was given to append is written.
func (a *auditor) close() {
	a.mu.Lock()
	closed := a.closed
	a.closed = true
	a.mu.Unlock()
	if closed {
		return
	}
	close(a.work)
	<-a.done
	a.pool.Close()
}

// errLate means that entries waited too long for their turn. They may yet be
// written; what they tell of was not given away.
var errLate = errors.New("the audit trail is not written in time")

// append returns when the rows are durable, or cannot be made so.
func (a *auditor) append(ctx context.Context, p pending) error {
	p.result = make(chan error, 1)
	a.mu.RLock()
	if a.closed {
		a.mu.RUnlock()
		return ErrClosed
	}
	late := time.NewTimer(writeTimeout)
	defer late.Stop()
	select {
	case a.work <- p:
		a.mu.RUnlock()
	case <-late.C:
		a.mu.RUnlock()
		return errLate
	}
	select {
	case err := <-p.result:
		return err
	case <-late.C:
		return errLate
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *auditor) run() {
	defer close(a.done)
	var group []pending
	for first := range a.work {
		group = append(group[:0], first)
		for n := len(first.rows); n < maxGroup; {
			select {
			case p, ok := <-a.work:
				if !ok {
					n = maxGroup
					continue
				}
				group = append(group, p)
				n += len(p.rows)
				continue
			default:
			}
			break
		}
		a.write(group)
	}
}

// write commits a group. If the database refuses it, each of its members is
// tried alone, so that one bad entry does not take others with it. If the
// database does not answer, none of them need wait for the others to find out.
func (a *auditor) write(group []pending) {
	err := a.commit(group)
	if err == nil || len(group) == 1 || absent(err) {
		for _, p := range group {
			p.result <- err
		}
		return
	}
	a.log.Warn("writing a group of audit entries", oplog.Number("entries", len(group)), oplog.Cause(Scrub(err)))
	for _, p := range group {
		p.result <- a.commit([]pending{p})
	}
}

// absent reports whether the database did not answer, or gave up waiting for a
// lock: no member of a group would fare better.
func absent(err error) bool {
	return fhir.IsCode(err, fhir.Transient) || fhir.IsCode(err, fhir.TooCostly)
}

// writeTimeout bounds one commit of audit entries; then the reads that wait
// for it are answered 503.
const writeTimeout = 5 * time.Second

func (a *auditor) commit(group []pending) error {
	type kind struct {
		schema string
		again  bool
	}
	byKind := map[kind][]AuditRow{}
	for _, p := range group {
		k := kind{p.schema, p.again}
		byKind[k] = append(byKind[k], p.rows...)
	}
	b := &pgx.Batch{}
	for k, rows := range byKind {
		q := insertAudit(rows)
		if k.again {
			q = q.With(SQL(`ON CONFLICT DO NOTHING`))
		}
		b.Queue(q.render(k.schema), append([]any{int32(0)}, q.args...)...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	return Steadily(func() error {
		// A batch is one transaction: all of the group is durable, or none.
		return finish(a.pool.SendBatch(ctx, b), b.Len())
	})
}
