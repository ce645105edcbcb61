package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// pending is what a Tx has yet to write, column by column, so that a Bundle
// goes to the database as one statement for each table.
type pending struct {
	permit smart.Permit
	any    bool
	rids   map[int64]bool // of the resources that have a version pending

	inserted, updated resourceCols
	history           resourceCols
	change            changeCols
	generation        int64 // of the index, that the rows are by
	beside            bool  // rows may be there already

	tokens, oldTokens tokenCols
	refs, oldRefs     refCols
	nums, oldNums     numCols
	dates, oldDates   dateCols

	stands, oldStands standCols
}

type resourceCols struct {
	rid, present []int64
	version      []int32
	types        []int16
	id           []string
	updated      []time.Time
	ts, te       []pgtype.Timestamptz
	deleted      []bool
	about        []pgtype.Int8
	encounter    []pgtype.Int8
	body         [][]byte
}

type changeCols struct {
	seq, rid []int64
	version  []int32
	types    []int16
	updated  []time.Time
	op       []string
}

// The rows of an index table go to it in the order of its key: neighbours lie on one
// page, and a batch of them is written in two thirds of the time.
type (
	tokenCols []tokenAt
	refCols   []refAt
	numCols   []numAt
	dateCols  []dateAt
	standCols []standAt
)

type tokenAt struct {
	key int64
	ts  pgtype.Timestamptz
	rid int64
}

type refAt struct {
	refRow
	ts  pgtype.Timestamptz
	rid int64
}

type numAt struct {
	numRow
	rid int64
}

type dateAt struct {
	dateRow
	rid int64
}

type standAt struct {
	standRow
	rid int64
}

func (c *resourceCols) add(r row, present uint64, is *indexRows) {
	c.rid, c.present = append(c.rid, r.rid), append(c.present, int64(present))
	c.version, c.types, c.id = append(c.version, int32(r.version)), append(c.types, r.ref.Type.Number()), append(c.id, r.ref.ID)
	c.updated, c.ts, c.te = append(c.updated, r.updated), append(c.ts, is.ts), append(c.te, is.te)
	c.about, c.encounter = append(c.about, is.about), append(c.encounter, is.encounter)
	c.deleted, c.body = append(c.deleted, r.deleted), append(c.body, r.body)
}

// store adds the version next after old, and the difference of its index rows.
func (tx *Tx) store(p smart.Permit, next row, old *row, present uint64, was, is *indexRows, op string) {
	w := tx.writes
	w.any, w.permit = true, p
	w.generation = tx.schema.Generation()
	// What FHIRPath ran out of time for is not in the rows that are removed; no
	// such row may be in the way of a write.
	w.beside = w.beside || tx.schema.Custom != nil
	tx.ruled = tx.ruled || slices.Contains(smart.RuleTypes, next.ref.Type)
	if w.rids == nil {
		w.rids = map[int64]bool{}
	}
	w.rids[next.rid] = true
	if old == nil {
		w.inserted.add(next, present, is)
	} else {
		w.updated.add(next, present, is)
		w.history.add(*old, 0, is)
	}
	w.change.seq, w.change.rid = append(w.change.seq, audit.NextSeq()), append(w.change.rid, next.rid)
	w.change.version, w.change.types = append(w.change.version, int32(next.version)), append(w.change.types, next.ref.Type.Number())
	w.change.updated, w.change.op = append(w.change.updated, next.updated), append(w.change.op, op)

	stays, stayed := *was, *is
	if was.ts != is.ts { // then every row that holds ts is another row
		stays.tokens, stays.refs, stayed.tokens, stayed.refs = nil, nil, nil, nil
	}
	for _, k := range without(is.tokens, stays.tokens) {
		w.tokens.add(k, is.ts, next.rid)
	}
	for _, k := range without(was.tokens, stayed.tokens) {
		w.oldTokens.add(k, was.ts, next.rid)
	}
	others := was.otherwise()
	for _, k := range without(is.refs, without(stays.refs, others.refs)) {
		w.refs.add(k, is.ts, next.rid)
	}
	for _, k := range without(slices.Concat(was.refs, others.refs), stayed.refs) {
		w.oldRefs.add(k, was.ts, next.rid)
	}
	for _, k := range without(is.stands, without(was.stands, others.stands)) {
		w.stands.add(k, next.rid)
	}
	for _, k := range without(slices.Concat(was.stands, others.stands), is.stands) {
		w.oldStands.add(k, next.rid)
	}
	for _, k := range without(is.nums, was.nums) {
		w.nums.add(k, next.rid)
	}
	for _, k := range without(was.nums, is.nums) {
		w.oldNums.add(k, next.rid)
	}
	for _, k := range without(is.dates, was.dates) {
		w.dates.add(k, next.rid)
	}
	for _, k := range without(was.dates, is.dates) {
		w.oldDates.add(k, next.rid)
	}
	// What comes next in this transaction builds on this version.
	if tx.fetched != nil || old != nil {
		if tx.fetched == nil {
			tx.fetched = map[fhir.Ref]*row{}
		}
		n := next
		tx.fetched[next.ref] = &n
	}
}

// unindex takes a resource out of the index.
func (w *pending) unindex(p smart.Permit, was *indexRows, rid int64) {
	w.any, w.permit = true, p
	for _, k := range was.tokens {
		w.oldTokens.add(k, was.ts, rid)
	}
	others := was.otherwise()
	for _, k := range slices.Concat(was.refs, others.refs) {
		w.oldRefs.add(k, was.ts, rid)
	}
	for _, k := range slices.Concat(was.stands, others.stands) {
		w.oldStands.add(k, rid)
	}
	for _, k := range was.nums {
		w.oldNums.add(k, rid)
	}
	for _, k := range was.dates {
		w.oldDates.add(k, rid)
	}
}

// without returns what list has and others lacks. A resource can have
// thousands of terms, so long lists are not compared one by one.
func without[T comparable](list, others []T) []T {
	if len(others) == 0 {
		return list
	}
	has := func(x T) bool { return slices.Contains(others, x) }
	if len(others) > 32 {
		set := make(map[T]struct{}, len(others))
		for _, x := range others {
			set[x] = struct{}{}
		}
		has = func(x T) bool { _, ok := set[x]; return ok }
	}
	var out []T
	for _, x := range list {
		if !has(x) {
			out = append(out, x)
		}
	}
	return out
}

func (c *tokenCols) add(key int64, ts pgtype.Timestamptz, rid int64) {
	*c = append(*c, tokenAt{key, ts, rid})
}

func (c *refCols) add(r refRow, ts pgtype.Timestamptz, rid int64) { *c = append(*c, refAt{r, ts, rid}) }
func (c *numCols) add(r numRow, rid int64)                        { *c = append(*c, numAt{r, rid}) }
func (c *dateCols) add(r dateRow, rid int64)                      { *c = append(*c, dateAt{r, rid}) }
func (c *standCols) add(r standRow, rid int64)                    { *c = append(*c, standAt{r, rid}) }

func (c tokenCols) columns() (key []int64, ts []pgtype.Timestamptz, rid []int64) {
	slices.SortFunc(c, func(a, b tokenAt) int {
		return cmp.Or(cmp.Compare(a.key, b.key), compareTimes(a.ts, b.ts), cmp.Compare(a.rid, b.rid))
	})
	for _, r := range c {
		key, ts, rid = append(key, r.key), append(ts, r.ts), append(rid, r.rid)
	}
	return key, ts, rid
}

func (c refCols) columns() (key, target []int64, ts []pgtype.Timestamptz, rid []int64) {
	slices.SortFunc(c, func(a, b refAt) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.target, b.target), compareTimes(a.ts, b.ts), cmp.Compare(a.rid, b.rid))
	})
	for _, r := range c {
		key, target, ts, rid = append(key, r.key), append(target, r.target), append(ts, r.ts), append(rid, r.rid)
	}
	return key, target, ts, rid
}

func (c numCols) columns() (key []int64, lo, hi []float64, rid []int64) {
	slices.SortFunc(c, func(a, b numAt) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.lo, b.lo), cmp.Compare(a.hi, b.hi), cmp.Compare(a.rid, b.rid))
	})
	for _, r := range c {
		key, lo, hi, rid = append(key, r.key), append(lo, r.lo), append(hi, r.hi), append(rid, r.rid)
	}
	return key, lo, hi, rid
}

func (c dateCols) columns() (key []int64, lo, hi []pgtype.Timestamptz, rid []int64) {
	slices.SortFunc(c, func(a, b dateAt) int {
		return cmp.Or(cmp.Compare(a.key, b.key), compareTimes(a.lo, b.lo), compareTimes(a.hi, b.hi), cmp.Compare(a.rid, b.rid))
	})
	for _, r := range c {
		key, lo, hi, rid = append(key, r.key), append(lo, r.lo), append(hi, r.hi), append(rid, r.rid)
	}
	return key, lo, hi, rid
}

func (c standCols) columns() (key, target []int64, lo, hi []pgtype.Timestamptz, rid []int64) {
	slices.SortFunc(c, func(a, b standAt) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.target, b.target), compareTimes(a.lo, b.lo), compareTimes(a.hi, b.hi), cmp.Compare(a.rid, b.rid))
	})
	for _, r := range c {
		key, target, lo, hi, rid = append(key, r.key), append(target, r.target), append(lo, r.lo), append(hi, r.hi), append(rid, r.rid)
	}
	return key, target, lo, hi, rid
}

// flush writes what is pending now, so that a statement can see it.
func (v *View) flush(ctx context.Context) error {
	if err := v.writes.deferAll(v.gate); err != nil {
		return err
	}
	return v.gate.Flush(ctx)
}

// deferWrites leaves what is pending to the commit.
func (tx *Tx) deferWrites() error { return tx.writes.deferAll(tx.gate) }

// deferAll hands the statements to the gate, deletions first.
func (w *pending) deferAll(t *gate.Tx) error {
	if !w.any {
		return nil
	}
	p := w.permit
	for _, q := range w.statements() {
		if err := t.Defer(p, q); err != nil {
			return err
		}
	}
	*w = pending{}
	return nil
}

func (w *pending) statements() []gate.Clause {
	var qs []gate.Clause
	end := gate.Clause{}
	if w.beside {
		end = gate.SQL(`ON CONFLICT DO NOTHING`)
	}
	if c := &w.inserted; len(c.rid) > 0 {
		qs = append(qs, gate.SQL(`
			INSERT INTO ~resource (tenant_id, rid, type, id, version, updated, ts, te, deleted, present, about, encounter, body)
			SELECT $1, * FROM unnest(?::bigint[], ?::smallint[], ?::text[], ?::int[], ?::timestamptz[],
			                         ?::timestamptz[], ?::timestamptz[], ?::bool[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bytea[])`,
			c.rid, c.types, c.id, c.version, c.updated, c.ts, c.te, c.deleted, c.present, c.about, c.encounter, c.body))
	}
	if c := &w.updated; len(c.rid) > 0 {
		qs = append(qs, gate.SQL(`
			UPDATE ~resource r
			SET    version = d.version, updated = d.updated, ts = d.ts, te = d.te, deleted = d.deleted, present = d.present,
			       about = d.about, encounter = d.encounter, body = d.body
			FROM   unnest(?::bigint[], ?::int[], ?::timestamptz[], ?::timestamptz[], ?::timestamptz[], ?::bool[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bytea[])
			       AS d (rid, version, updated, ts, te, deleted, present, about, encounter, body)
			WHERE  r.tenant_id = $1 AND r.rid = d.rid`,
			c.rid, c.version, c.updated, c.ts, c.te, c.deleted, c.present, c.about, c.encounter, c.body))
	}
	if c := &w.history; len(c.rid) > 0 {
		qs = append(qs, gate.SQL(`
			INSERT INTO ~history (tenant_id, rid, version, type, id, updated, deleted, body)
			SELECT $1, * FROM unnest(?::bigint[], ?::int[], ?::smallint[], ?::text[], ?::timestamptz[], ?::bool[], ?::bytea[])`,
			c.rid, c.version, c.types, c.id, c.updated, c.deleted, c.body))
	}
	if len(w.oldTokens) > 0 {
		key, ts, rid := w.oldTokens.columns()
		qs = append(qs, gate.SQL(`
			DELETE FROM ~idx_token x USING unnest(?::bigint[], ?::timestamptz[], ?::bigint[]) AS d (key, ts, rid)
			WHERE  x.tenant_id = $1 AND x.key = d.key AND x.ts = d.ts AND x.rid = d.rid`, key, ts, rid))
	}
	if len(w.oldRefs) > 0 {
		key, target, ts, rid := w.oldRefs.columns()
		qs = append(qs, gate.SQL(`
			DELETE FROM ~idx_ref x USING unnest(?::bigint[], ?::bigint[], ?::timestamptz[], ?::bigint[]) AS d (key, target, ts, rid)
			WHERE  x.tenant_id = $1 AND x.key = d.key AND x.target = d.target AND x.ts = d.ts AND x.rid = d.rid`, key, target, ts, rid))
	}
	if len(w.oldNums) > 0 {
		key, lo, hi, rid := w.oldNums.columns()
		qs = append(qs, gate.SQL(`
			DELETE FROM ~idx_num x USING unnest(?::bigint[], ?::float8[], ?::float8[], ?::bigint[]) AS d (key, lo, hi, rid)
			WHERE  x.tenant_id = $1 AND x.key = d.key AND x.lo = d.lo AND x.hi = d.hi AND x.rid = d.rid`, key, lo, hi, rid))
	}
	if len(w.oldDates) > 0 {
		key, lo, hi, rid := w.oldDates.columns()
		qs = append(qs, gate.SQL(`
			DELETE FROM ~idx_date x USING unnest(?::bigint[], ?::timestamptz[], ?::timestamptz[], ?::bigint[]) AS d (key, lo, hi, rid)
			WHERE  x.tenant_id = $1 AND x.key = d.key AND x.lo = d.lo AND x.hi = d.hi AND x.rid = d.rid`, key, lo, hi, rid))
	}
	if len(w.oldStands) > 0 {
		key, target, lo, hi, rid := w.oldStands.columns()
		qs = append(qs, gate.SQL(`
			DELETE FROM ~idx_standing x USING unnest(?::bigint[], ?::bigint[], ?::timestamptz[], ?::timestamptz[], ?::bigint[]) AS d (key, target, lo, hi, rid)
			WHERE  x.tenant_id = $1 AND x.key = d.key AND x.target = d.target AND x.lo = d.lo AND x.hi = d.hi AND x.rid = d.rid`,
			key, target, lo, hi, rid))
	}
	if len(w.tokens) > 0 {
		key, ts, rid := w.tokens.columns()
		qs = append(qs, gate.SQL(`
			INSERT INTO ~idx_token (tenant_id, key, ts, rid)
			SELECT $1, unnest(?::bigint[]), unnest(?::timestamptz[]), unnest(?::bigint[])`, key, ts, rid).With(end))
	}
	if len(w.refs) > 0 {
		key, target, ts, rid := w.refs.columns()
		qs = append(qs, gate.SQL(`
			INSERT INTO ~idx_ref (tenant_id, key, target, ts, rid)
			SELECT $1, unnest(?::bigint[]), unnest(?::bigint[]), unnest(?::timestamptz[]), unnest(?::bigint[])
			ON CONFLICT DO NOTHING`, key, target, ts, rid))
	}
	if len(w.nums) > 0 {
		key, lo, hi, rid := w.nums.columns()
		qs = append(qs, gate.SQL(`
			INSERT INTO ~idx_num (tenant_id, key, lo, hi, rid)
			SELECT $1, unnest(?::bigint[]), unnest(?::float8[]), unnest(?::float8[]), unnest(?::bigint[])`, key, lo, hi, rid).With(end))
	}
	if len(w.dates) > 0 {
		key, lo, hi, rid := w.dates.columns()
		qs = append(qs, gate.SQL(`
			INSERT INTO ~idx_date (tenant_id, key, lo, hi, rid)
			SELECT $1, unnest(?::bigint[]), unnest(?::timestamptz[]), unnest(?::timestamptz[]), unnest(?::bigint[])`, key, lo, hi, rid).With(end))
	}
	if len(w.stands) > 0 {
		key, target, lo, hi, rid := w.stands.columns()
		qs = append(qs, gate.SQL(`
			INSERT INTO ~idx_standing (tenant_id, key, target, lo, hi, rid)
			SELECT $1, unnest(?::bigint[]), unnest(?::bigint[]), unnest(?::timestamptz[]), unnest(?::timestamptz[]), unnest(?::bigint[])
			ON CONFLICT DO NOTHING`, key, target, lo, hi, rid))
	}
	if c := &w.change; len(c.rid) > 0 {
		qs = append(qs, gate.SQL(`
			INSERT INTO ~change (tenant_id, seq, rid, version, type, updated, op)
			SELECT $1, s, r, v, t, u, o::"char"
			FROM   ~hold_generation(?), unnest(?::bigint[], ?::bigint[], ?::int[], ?::smallint[], ?::timestamptz[], ?::text[]) AS x (s, r, v, t, u, o)`,
			w.generation, c.seq, c.rid, c.version, c.types, c.updated, c.op))
	}
	return qs
}
