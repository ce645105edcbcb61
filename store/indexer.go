package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// An Indexer works on the indexes of tenants beside the writes: it takes in
// search parameters that are new, and takes out those that are gone. Several
// processes may run one: each step is a transaction, done once.
type Indexer struct {
	DB *DB // required
	// Tenants returns the tenants to look after. Required.
	Tenants func(context.Context) ([]*tenant.Tenant, error)
	// Every is how often all tenants are looked at. Default 2s.
	Every time.Duration
	// Requests returns what operators asked for, by number of tenant; nil if there is
	// nobody to ask.
	Requests func(context.Context) (map[int32]IndexRequest, error)
	// Report is told how far the work is, when that changes. It may be nil.
	Report func(context.Context, tenant.ID, IndexStatus) error
	// Batch is how many resources are indexed in one transaction, which
	// writers of these wait for. Default 200.
	Batch int
	// Part is how many resources are held against the index in one pass over
	// it, when it is made again. Default 20,000.
	Part int
	// Turn bounds how long one tenant is worked on while others wait. Default 1s.
	Turn time.Duration

	Log *oplog.Logger

	settled  map[string]bool // steps before which no older transaction is left
	reported map[tenant.ID]string
	requests map[int32]IndexRequest
	idle     map[tenant.ID]visit
}

// Run works until ctx is done.
func (x *Indexer) Run(ctx context.Context) {
	x.Every = cmp.Or(x.Every, 2*time.Second)
	for ctx.Err() == nil {
		if busy := x.round(ctx); busy {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(x.Every):
		}
	}
}

// round gives each tenant its turn.
func (x *Indexer) round(ctx context.Context) (busy bool) {
	list, err := x.Tenants(ctx)
	x.failed(ctx, "listing tenants for the search index", "", err)
	if x.Requests != nil && err == nil {
		x.requests, err = x.Requests(ctx)
		x.failed(ctx, "reading requests for the search index", "", err)
	}
	for _, t := range list {
		now := x.stateOf(t)
		if last, ok := x.idle[t.ID]; ok && last.same(now) {
			continue
		}
		more, err := x.turn(ctx, t)
		x.failed(ctx, "working on the search index", t.Slug.String(), err)
		busy = busy || more && err == nil
		delete(x.idle, t.ID)
		if !more && err == nil {
			if x.idle == nil {
				x.idle = map[tenant.ID]visit{}
			}
			x.idle[t.ID] = now
		}
	}
	return busy
}

// turn tends one tenant. Whatever a definition of it does to this program, the
// others are served.
func (x *Indexer) turn(ctx context.Context, t *tenant.Tenant) (more bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			x.Log.Error("panic in the work on the search index", oplog.Tenant(t.Slug.String()), oplog.Stack())
			err = errors.New("store: panic in the work on the search index")
		}
	}()
	if more, err = x.Tend(ctx, t); err == nil {
		err = x.report(ctx, t)
	}
	return more, err
}

func (x *Indexer) failed(ctx context.Context, doing oplog.Constant, slug string, err error) {
	if err != nil && ctx.Err() == nil {
		x.Log.Error(doing, oplog.Tenant(slug), oplog.Cause(gate.Scrub(err)))
	}
}

// A visit is what was known of a tenant when nothing was left to do for it.
type visit struct {
	rules, packages, request int64
	at                       time.Time
}

// idleFor is how long a tenant is left alone whose rules nobody is known to
// have changed: another process may have.
const idleFor = 10 * time.Second

func (x *Indexer) stateOf(t *tenant.Tenant) visit {
	_, rules := x.DB.rules.of(t.ID).look()
	return visit{rules, t.Packages, x.requests[t.ID.Int()].Number, time.Now()}
}

func (v visit) same(now visit) bool {
	return now.at.Sub(v.at) < idleFor && v.rules == now.rules && v.packages == now.packages && v.request == now.request
}

// Tend does what is to be done for the tenant, for as long as its turn is.
// more says that something is left.
func (x *Indexer) Tend(ctx context.Context, t *tenant.Tenant) (more bool, err error) {
	turn := x.Turn
	if turn == 0 {
		turn = time.Second
	}
	until := time.Now().Add(turn)
	jobs, generation, err := x.plan(ctx, t)
	if err != nil {
		return false, err
	}
	for _, j := range jobs {
		if j.state == search.CustomReady {
			continue
		}
		if j.parameter == nil {
			if done, err := x.again(ctx, t, j); err != nil || !done {
				return true, err
			}
			continue
		}
		if err := x.settle(ctx, t, fmt.Sprint(t.ID, j.name, j.state, generation)); err != nil {
			return true, err
		}
		for {
			if time.Now().After(until) {
				return true, nil
			}
			done, err := x.step(ctx, t, j)
			if err != nil {
				return true, err
			}
			if done {
				break
			}
		}
	}
	return false, nil
}

// plan writes down what the tenant's definitions want of the index, and
// returns the jobs.
func (x *Indexer) plan(ctx context.Context, t *tenant.Tenant) ([]indexJob, int64, error) {
	g := smart.IndexJob(t)
	set, err := x.DB.Definitions(ctx, g)
	if err != nil {
		return nil, 0, err
	}
	w, err := wanted(set)
	if err != nil {
		return nil, 0, err
	}
	is, err := x.DB.indexState(ctx, g)
	if err != nil {
		return nil, 0, err
	}
	jobs, generation := is.jobs, is.generation
	var come []*search.CustomParameter
	var gone []indexJob
	for _, c := range w.list {
		if !slices.ContainsFunc(jobs, func(j indexJob) bool { return j.name == c.Print }) {
			come = append(come, c)
		}
	}
	for _, j := range jobs {
		_, stays := w.kept[j.name]
		if j.parameter != nil && j.state != search.CustomRemoving && !stays {
			gone = append(gone, j)
		}
	}
	r, asked := x.requests[t.ID.Int()]
	asked = asked && !slices.ContainsFunc(jobs, func(j indexJob) bool { return j.parameter == nil && j.request.Number >= r.Number })
	if len(come)+len(gone) == 0 && !asked && !is.due {
		return jobs, generation, nil
	}
	if asked {
		if err := x.request(ctx, t, r); err != nil {
			return nil, 0, err
		}
	}
	if len(come)+len(gone) > 0 {
		if err := x.register(ctx, t, w, come, gone); err != nil {
			return nil, 0, err
		}
	}
	if is.due && !asked {
		if err := x.due(ctx, t, jobs); err != nil {
			return nil, 0, err
		}
	}
	is, err = x.DB.indexState(ctx, g)
	return is.jobs, is.generation, err
}

// report tells how far the work is.
func (x *Indexer) report(ctx context.Context, t *tenant.Tenant) error {
	if x.Report == nil {
		return nil
	}
	s, err := x.DB.IndexStatus(ctx, smart.IndexJob(t))
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%+v %+v", s.Parameters, s.Reindex)
	if x.reported[t.ID] == text {
		return nil
	}
	if err := x.Report(ctx, t.ID, s); err != nil {
		return err
	}
	if x.reported == nil {
		x.reported = map[tenant.ID]string{}
	}
	x.reported[t.ID] = text
	return nil
}

// update runs fn in a transaction of the tenant's own work on its index.
func (x *Indexer) update(ctx context.Context, t *tenant.Tenant, doing string, fn func(*View, smart.Permit) error) error {
	g := smart.IndexJob(t)
	return x.DB.job(ctx, g, g.PermitIndex, doing, fn)
}

// register begins to build what comes and to remove what goes, and makes a new
// generation.
func (x *Indexer) register(ctx context.Context, t *tenant.Tenant, w *wantedParameters, come []*search.CustomParameter, gone []indexJob) error {
	defer x.DB.customs.forget(t.ID)
	return x.update(ctx, t, "changing the search parameters", func(v *View, p smart.Permit) error {
		for _, c := range come {
			sealed, err := w.kept[c.Print].seal(v.keys, t, c.Print)
			if err != nil {
				return err
			}
			if err := v.gate.Defer(p, gate.SQL(`
				INSERT INTO ~index_job (tenant_id, name, state, of, sealed)
				SELECT $1, ?, 'b', (SELECT count(*) FROM ~resource WHERE tenant_id = $1 AND type = ANY (?::smallint[]) AND NOT deleted), ?
				ON CONFLICT DO NOTHING`, c.Print, numbersOf(c.Types()), sealed)); err != nil {
				return err
			}
		}
		for _, j := range gone {
			if err := v.gate.Defer(p, gate.SQL(`
				UPDATE ~index_job
				SET    state = 'd', from_rid = DEFAULT, done = 0
				WHERE  tenant_id = $1 AND name = ? AND state <> 'd'`, j.name)); err != nil {
				return err
			}
		}
		return nextGeneration(v, p)
	})
}

func nextGeneration(v *View, p smart.Permit) error {
	return v.gate.Defer(p, gate.SQL(`
		INSERT INTO ~index_generation AS g (tenant_id, generation)
		VALUES ($1, 1)
		ON     CONFLICT (tenant_id) DO UPDATE SET generation = g.generation + 1`))
}

func numbersOf(types []fhir.Type) []int16 {
	list := make([]int16, len(types))
	for i, t := range types {
		list[i] = t.Number()
	}
	return list
}

// patience bounds how long older transactions are waited for in one turn.
const patience = 20 * time.Second

// settle waits until every transaction is over that can have begun before the
// generation was there.
func (x *Indexer) settle(ctx context.Context, t *tenant.Tenant, step string) error {
	if x.settled[step] {
		return nil
	}
	var last int64
	err := x.update(ctx, t, "waiting for writes", func(v *View, p smart.Permit) error {
		rows, err := v.query(ctx, p, gate.SQL(`SELECT pg_current_xact_id()::text::bigint WHERE $1::int <> 0`))
		if err != nil {
			return err
		}
		last, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		return err
	})
	if err != nil {
		return err
	}
	g := smart.IndexJob(t)
	p, err := g.PermitRules("SearchParameter")
	if err != nil {
		return err
	}
	for until := time.Now().Add(patience); ; {
		var oldest int64
		err := x.DB.gate.Rules(ctx, g, func(tx *gate.Tx) error {
			rows, err := tx.Query(ctx, p, gate.SQL(`SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint WHERE $1::int <> 0`))
			if err != nil {
				return err
			}
			oldest, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
			return err
		})
		switch {
		case err != nil:
			return fmt.Errorf("waiting for writes of tenant %s: %w", t.ID, err)
		case oldest > last:
			if x.settled == nil || len(x.settled) > 10_000 {
				x.settled = map[string]bool{}
			}
			x.settled[step] = true
			return nil
		case time.Now().After(until):
			return fmt.Errorf("waiting for writes of tenant %s: a transaction takes too long", t.ID)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// step does the next resources of the job. done says that it is over, or that
// another process works on it.
func (x *Indexer) step(ctx context.Context, t *tenant.Tenant, j indexJob) (done bool, err error) {
	size := x.Batch
	if size == 0 {
		size = 200
	}
	err = x.update(ctx, t, "indexing by a search parameter", func(v *View, p smart.Permit) error {
		done = false
		from, ok, err := v.takeJob(ctx, p, j)
		if err != nil || !ok {
			done = !ok
			return err
		}
		batch, err := v.lockResources(ctx, p, j.parameter.Types(), from, size)
		if err != nil {
			return err
		}
		w := &pending{beside: true}
		for _, r := range batch {
			rows, err := v.customRows(j.parameter, r)
			if err != nil {
				return err
			}
			w.custom(r, rows, j.state == search.CustomRemoving)
		}
		for _, q := range w.statements() {
			if err := v.gate.Defer(p, q); err != nil {
				return err
			}
		}
		if done = len(batch) < size; done {
			return v.endJob(p, j)
		}
		return v.gate.Defer(p, gate.SQL(`UPDATE ~index_job SET from_rid = ?, done = done + ? WHERE tenant_id = $1 AND name = ?`,
			batch[len(batch)-1].rid+1, len(batch), j.name))
	})
	if done {
		x.DB.customs.forget(t.ID)
	}
	return done, err
}

// takeJob locks the job, and returns where it goes on. It is not ok if somebody
// else has it, or if it is not what it was.
func (v *View) takeJob(ctx context.Context, p smart.Permit, j indexJob) (from int64, ok bool, err error) {
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT from_rid, state::text
		FROM   ~index_job
		WHERE  tenant_id = $1 AND name = ?
		FOR    UPDATE SKIP LOCKED`, j.name))
	if err != nil {
		return 0, false, err
	}
	var state string
	_, err = pgx.ForEachRow(rows, []any{&from, &state}, func() error {
		ok = jobStates[state] == j.state
		return nil
	})
	return from, ok, err
}

// endJob makes the parameter ready, or forgets it.
func (v *View) endJob(p smart.Permit, j indexJob) error {
	end := gate.SQL(`UPDATE ~index_job SET state = 'r' WHERE tenant_id = $1 AND name = ?`, j.name)
	if j.state == search.CustomRemoving {
		end = gate.SQL(`DELETE FROM ~index_job WHERE tenant_id = $1 AND name = ?`, j.name)
	}
	if err := v.gate.Defer(p, end); err != nil {
		return err
	}
	return nextGeneration(v, p)
}

// A lockedRow is a resource that nobody changes meanwhile.
type lockedRow struct {
	row
	ts pgtype.Timestamptz
}

// lockResources returns the next resources of the types that are there, in
// order of rid, locked: whoever writes one waits, and finds it indexed.
func (v *View) lockResources(ctx context.Context, p smart.Permit, types []fhir.Type, from int64, n int) ([]lockedRow, error) {
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT rid, type, id, version, updated, ts, body
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid >= ? AND type = ANY (?::smallint[]) AND NOT deleted
		ORDER  BY rid
		LIMIT  ?
		FOR    UPDATE`, from, numbersOf(types), n))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(c pgx.CollectableRow) (r lockedRow, err error) {
		var number int16
		err = c.Scan(&r.rid, &number, &r.ref.ID, &r.version, &r.updated, &r.ts, &r.body)
		r.ref.Type = fhir.TypeNumbered(number)
		return r, err
	})
}

// customRows returns what the index holds of r for the parameter.
func (v *View) customRows(c *search.CustomParameter, r lockedRow) (rows *indexRows, err error) {
	res, err := v.open(r.row)
	if err != nil {
		return nil, err
	}
	err = fhir.Peek(res.Body, func(d *fhir.Document) error {
		rows = v.hash(d.Type, v.schema.IndexCustom(c, d))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading back %s: %w", r.ref.Type, err)
	}
	return rows, nil
}

// custom adds the rows of r, or takes them out.
func (w *pending) custom(r lockedRow, rows *indexRows, remove bool) {
	tokens, refs, nums, dates := &w.tokens, &w.refs, &w.nums, &w.dates
	if remove {
		tokens, refs, nums, dates = &w.oldTokens, &w.oldRefs, &w.oldNums, &w.oldDates
	}
	for _, k := range rows.tokens {
		tokens.add(k, r.ts, r.rid)
	}
	for _, k := range rows.refs {
		refs.add(k, r.ts, r.rid)
	}
	for _, k := range rows.nums {
		nums.add(k, r.rid)
	}
	for _, k := range rows.dates {
		dates.add(k, r.rid)
	}
	for _, k := range rows.stands {
		w.stands.add(k, r.rid)
	}
}
