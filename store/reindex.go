package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// The index is made again part by part, in order of rid. Each part is first
// held against what its resources say, in one pass over the tables; what
// differs is then put right resource by resource, each locked and read again,
// so that searches and writes go on. A part is done over if the process dies in
// it, which changes nothing.

// An IndexRequest asks for the index of a tenant to be made again, as after a
// change of what is read of resources.
type IndexRequest struct {
	// Number tells it from those before; a higher one is a new request.
	Number int64 `json:"number"`
	// Types are the types to index again; none means all.
	Types []fhir.Type `json:"types,omitempty"`
	// Standings says that it takes in the standings of resources that were stored
	// before the index had them.
	Standings bool `json:"standings,omitempty"`
}

func (r IndexRequest) seal(set *keys.Set, t *tenant.Tenant) ([]byte, error) {
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return set.Seal(nil, recordKey, plain, jobPlace(t, allJob))
}

func openRequest(set *keys.Set, t *tenant.Tenant, sealed []byte) (r IndexRequest, err error) {
	plain, err := set.Open(recordKey, sealed, jobPlace(t, allJob))
	if err == nil {
		err = json.Unmarshal(plain, &r)
	}
	return r, err
}

// numbers of the types; all if there are none.
func (r IndexRequest) numbers() []int16 {
	if len(r.Types) == 0 {
		return numbersOf(fhir.Types)
	}
	return numbersOf(r.Types)
}

// request writes down that the index is to be made again.
func (x *Indexer) request(ctx context.Context, t *tenant.Tenant, r IndexRequest) error {
	return x.update(ctx, t, "beginning to make the search index again", func(v *View, p smart.Permit) error {
		sealed, err := r.seal(v.keys, t)
		if err != nil {
			return err
		}
		return v.gate.Defer(p, gate.SQL(`
			INSERT INTO ~index_job (tenant_id, name, state, of, sealed)
			SELECT $1, 'all', 'b', (SELECT count(*) FROM ~resource WHERE tenant_id = $1 AND type = ANY (?::smallint[])), ?
			ON     CONFLICT (tenant_id, name) DO UPDATE
			SET    state = 'b', from_rid = DEFAULT, done = 0, of = excluded.of, sealed = excluded.sealed`, r.numbers(), sealed))
	})
}

// due has the index take in the standings that it lacks, and notes that it has them.
func (x *Indexer) due(ctx context.Context, t *tenant.Tenant, jobs []indexJob) error {
	r := IndexRequest{Types: search.StandingTypes, Standings: true}
	for _, j := range jobs {
		if j.parameter != nil {
			continue
		}
		switch {
		case j.state == search.CustomBuilding: // another one goes first
			return nil
		case j.request.Standings:
			defer x.DB.customs.forget(t.ID)
			return x.update(ctx, t, "ending the work on standings", func(v *View, p smart.Permit) error {
				return v.gate.Defer(p, gate.SQL(`DELETE FROM ~index_due WHERE tenant_id = $1`))
			})
		}
		r.Number = j.request.Number // an operator's are told apart by it
	}
	return x.request(ctx, t, r)
}

// An entry is a row of one of the index tables, in whatever form orders them
// all alike.
type entry struct {
	rid, key int64
	a, b, c  int64
	table    int8
}

// The tables of entries.
const (
	inToken int8 = iota
	inRef
	inNum
	inDate
	inStanding
)

func compareEntries(x, y entry) int {
	return cmp.Or(cmp.Compare(x.rid, y.rid), cmp.Compare(x.table, y.table), cmp.Compare(x.key, y.key), cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b), cmp.Compare(x.c, y.c))
}

// micros is a moment as PostgreSQL counts it.
func micros(t pgtype.Timestamptz) int64 {
	switch t.InfinityModifier {
	case pgtype.Infinity:
		return math.MaxInt64
	case pgtype.NegativeInfinity:
		return math.MinInt64
	}
	return t.Time.UnixMicro()
}

// bits are those of a number, of which there is but one zero.
func bits(f float64) int64 { return int64(math.Float64bits(f + 0)) }

// entries are the rows of the resource rid.
func (rows *indexRows) entries(rid int64, list []entry) []entry {
	ts := micros(rows.ts)
	for _, k := range rows.tokens {
		list = append(list, entry{rid: rid, table: inToken, key: k, a: ts})
	}
	for _, k := range rows.refs {
		list = append(list, entry{rid: rid, table: inRef, key: k.key, a: k.target, b: ts})
	}
	for _, k := range rows.nums {
		list = append(list, entry{rid: rid, table: inNum, key: k.key, a: bits(k.lo), b: bits(k.hi)})
	}
	for _, k := range rows.dates {
		list = append(list, entry{rid: rid, table: inDate, key: k.key, a: micros(k.lo), b: micros(k.hi)})
	}
	for _, k := range rows.stands {
		list = append(list, entry{rid: rid, table: inStanding, key: k.key, a: k.target, b: micros(k.lo), c: micros(k.hi)})
	}
	return list
}

// A part is some of the resources, with what is wrong about their index.
type part struct {
	from, next int64 // the first rid, and the first of the next part
	count      int
	last       bool
	suspects   []int64           // rids of resources whose index differs
	extra      map[int64][]entry // rows that should not be there
}

// partSize is how many resources are held against the index in one pass.
const partSize = 20_000

// again does the next part of the index made again.
func (x *Indexer) again(ctx context.Context, t *tenant.Tenant, j indexJob) (done bool, err error) {
	var found *part
	err = x.update(ctx, t, "holding the search index against the resources", func(v *View, p smart.Permit) error {
		found = nil
		from, ok, err := v.takeJob(ctx, p, j)
		if err != nil || !ok {
			return err
		}
		size := x.Part
		if size == 0 {
			size = partSize
		}
		found, err = v.compare(ctx, p, j.request, from, size)
		return err
	})
	if err != nil || found == nil {
		return err == nil, err
	}
	for some := range slices.Chunk(found.suspects, 200) {
		err := x.update(ctx, t, "putting the search index right", func(v *View, p smart.Permit) error {
			return v.putRight(ctx, p, some, found.extra)
		})
		if err != nil {
			return false, err
		}
	}
	err = x.update(ctx, t, "making the search index again", func(v *View, p smart.Permit) error {
		state := "b"
		if found.last {
			state = "r"
		}
		return v.gate.Defer(p, gate.SQL(`
			UPDATE ~index_job
			SET    from_rid = ?, done = done + ?, state = ?::text::"char"
			WHERE  tenant_id = $1 AND name = 'all' AND from_rid = ? AND state = 'b'`, found.next, found.count, state, found.from))
	})
	return found.last, err
}

// compare holds the index of the next resources against what they say.
func (v *View) compare(ctx context.Context, p smart.Permit, r IndexRequest, from int64, size int) (*part, error) {
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT rid, type, id, version, updated, ts, te, present, about, encounter, deleted, body
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid >= ? AND type = ANY (?::smallint[])
		ORDER  BY rid
		LIMIT  ?`, from, r.numbers(), size))
	if err != nil {
		return nil, err
	}
	out := &part{from: from, extra: map[int64][]entry{}}
	var want []entry
	wrong := map[int64]bool{}
	mine := map[int64]bool{}
	err = eachStored(rows, func(s storedRow) error {
		is, present, err := v.rowsOf(s.row)
		if err != nil {
			return err
		}
		out.count++
		out.next = s.rid
		mine[s.rid] = true
		want = is.entries(s.rid, want)
		if !s.agrees(is, present) {
			wrong[s.rid] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	to := out.next
	if out.last = out.count < size || out.next == math.MaxInt64; out.last {
		to = math.MaxInt64
	} else {
		out.next++
	}
	slices.SortFunc(want, compareEntries)
	seen := make([]bool, len(want))
	err = v.eachEntry(ctx, p, from, to, func(e entry) {
		if i, ok := slices.BinarySearchFunc(want, e, compareEntries); ok {
			seen[i] = true
		} else if mine[e.rid] || len(r.Types) == 0 { // rows of other types are not looked at
			out.extra[e.rid] = append(out.extra[e.rid], e)
			wrong[e.rid] = true
		}
	})
	if err != nil {
		return nil, err
	}
	for i, e := range want {
		if !seen[i] {
			wrong[e.rid] = true
		}
	}
	for rid := range wrong {
		out.suspects = append(out.suspects, rid)
	}
	slices.Sort(out.suspects)
	return out, nil
}

// A storedRow is a resource with what its row says for the index.
type storedRow struct {
	row
	ts, te           pgtype.Timestamptz
	about, encounter pgtype.Int8
	present          int64
}

// agrees reports whether the row says what the resource does.
func (s storedRow) agrees(is *indexRows, present uint64) bool {
	return micros(s.ts) == micros(is.ts) && s.te.Valid == is.te.Valid && (!s.te.Valid || micros(s.te) == micros(is.te)) && s.present == int64(present) &&
		s.about == is.about && s.encounter == is.encounter
}

func eachStored(rows pgx.Rows, fn func(storedRow) error) error {
	var s storedRow
	var number int16
	_, err := pgx.ForEachRow(rows, []any{&s.rid, &number, &s.ref.ID, &s.version, &s.updated, &s.ts, &s.te, &s.present, &s.about, &s.encounter, &s.deleted, &s.body}, func() error {
		s.ref.Type = fhir.TypeNumbered(number)
		return fn(s)
	})
	return err
}

// rowsOf returns what the index is to hold of a stored version.
func (v *View) rowsOf(r row) (rows *indexRows, present uint64, err error) {
	if r.deleted {
		rows, err = v.indexOf(&r)
		return rows, 0, err
	}
	res, err := v.open(r)
	if err != nil {
		return nil, 0, err
	}
	err = fhir.Peek(res.Body, func(d *fhir.Document) error {
		terms := v.schema.Index(d)
		rows, present = v.hash(d.Type, terms), terms.Present
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("reading back %s: %w", r.ref.Type, err)
	}
	return rows, present, nil
}

// eachEntry calls fn for each row of the index tables with a rid in the range.
// No index helps: a part is as large as it is so that there are few passes.
func (v *View) eachEntry(ctx context.Context, p smart.Permit, from, to int64, fn func(entry)) error {
	var e entry
	var ts, lo, hi pgtype.Timestamptz
	var x, y float64
	for table, scan := range []struct {
		q    gate.Clause
		into []any
		fill func()
	}{
		inToken: {gate.SQL(`SELECT rid, key, ts FROM ~idx_token`), []any{&e.rid, &e.key, &ts}, func() { e.a, e.b, e.c = micros(ts), 0, 0 }},
		inRef:   {gate.SQL(`SELECT rid, key, target, ts FROM ~idx_ref`), []any{&e.rid, &e.key, &e.a, &ts}, func() { e.b, e.c = micros(ts), 0 }},
		inNum:   {gate.SQL(`SELECT rid, key, lo, hi FROM ~idx_num`), []any{&e.rid, &e.key, &x, &y}, func() { e.a, e.b, e.c = bits(x), bits(y), 0 }},
		inDate:  {gate.SQL(`SELECT rid, key, lo, hi FROM ~idx_date`), []any{&e.rid, &e.key, &lo, &hi}, func() { e.a, e.b, e.c = micros(lo), micros(hi), 0 }},
		inStanding: {gate.SQL(`SELECT rid, key, target, lo, hi FROM ~idx_standing`), []any{&e.rid, &e.key, &e.a, &lo, &hi},
			func() { e.b, e.c = micros(lo), micros(hi) }},
	} {
		rows, err := v.query(ctx, p, scan.q.With(gate.SQL(`WHERE tenant_id = $1 AND rid BETWEEN ? AND ?`, from, to)))
		if err != nil {
			return err
		}
		e.table = int8(table)
		if _, err := pgx.ForEachRow(rows, scan.into, func() error {
			scan.fill()
			fn(e)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// putRight makes the index of the resources what they say, whatever was written
// since it was found to differ.
func (v *View) putRight(ctx context.Context, p smart.Permit, rids []int64, extra map[int64][]entry) error {
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT rid, type, id, version, updated, ts, te, present, about, encounter, deleted, body
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid = ANY (?::bigint[])
		ORDER  BY rid
		FOR    UPDATE`, rids))
	if err != nil {
		return err
	}
	w := &pending{beside: true}
	var right resourceCols
	var want []entry
	err = eachStored(rows, func(s storedRow) error {
		is, present, err := v.rowsOf(s.row)
		if err != nil {
			return err
		}
		want = is.entries(s.rid, want)
		w.custom(lockedRow{s.row, is.ts}, is, false)
		if !s.agrees(is, present) {
			right.add(s.row, present, is)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(want, compareEntries)
	for _, rid := range rids {
		for _, e := range extra[rid] {
			if _, stays := slices.BinarySearchFunc(want, e, compareEntries); !stays {
				w.drop(e)
			}
		}
	}
	qs := w.statements()
	if len(right.rid) > 0 {
		qs = append(qs, gate.SQL(`
			UPDATE ~resource r
			SET    ts = d.ts, te = d.te, present = d.present, about = d.about, encounter = d.encounter
			FROM   unnest(?::bigint[], ?::timestamptz[], ?::timestamptz[], ?::bigint[], ?::bigint[], ?::bigint[]) AS d (rid, ts, te, present, about, encounter)
			WHERE  r.tenant_id = $1 AND r.rid = d.rid`, right.rid, right.ts, right.te, right.present, right.about, right.encounter))
	}
	// As every write, this one is run again if a parameter has come meanwhile:
	// it would take the rows of that for wrong.
	qs = append(qs, gate.SQL(`SELECT ~hold_generation(?) WHERE $1::int <> 0`, v.schema.Generation()))
	for _, q := range qs {
		if err := v.gate.Defer(p, q); err != nil {
			return err
		}
	}
	return nil
}

// drop takes a row out of the index.
func (w *pending) drop(e entry) {
	switch e.table {
	case inToken:
		w.oldTokens.add(e.key, moment(e.a), e.rid)
	case inRef:
		w.oldRefs.add(refRow{e.key, e.a}, moment(e.b), e.rid)
	case inNum:
		w.oldNums.add(numRow{e.key, math.Float64frombits(uint64(e.a)), math.Float64frombits(uint64(e.b))}, e.rid)
	case inDate:
		w.oldDates.add(dateRow{e.key, moment(e.a), moment(e.b)}, e.rid)
	case inStanding:
		w.oldStands.add(standRow{e.key, e.a, moment(e.b), moment(e.c)}, e.rid)
	}
}

// moment undoes micros.
func moment(micros int64) pgtype.Timestamptz {
	switch micros {
	case math.MaxInt64:
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	case math.MinInt64:
		return pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	return pgtype.Timestamptz{Time: time.UnixMicro(micros).UTC(), Valid: true}
}

// An IndexStatus says how far the work on the index of a tenant is.
type IndexStatus struct {
	Parameters []SearchParameterStatus `json:"parameters"`
	// Reindex is the last request to make the index again; null if there was
	// none.
	Reindex *ReindexStatus `json:"reindex"`
}

// A ReindexStatus says how far an IndexRequest is.
type ReindexStatus struct {
	IndexRequest
	State   string `json:"state"` // "indexing" or "ready"
	Percent int    `json:"percent"`
}

// IndexStatus returns how far the work on the index of the tenant of g is.
func (db *DB) IndexStatus(ctx context.Context, g *smart.Grant) (IndexStatus, error) {
	set, err := db.Definitions(ctx, g)
	if err != nil {
		return IndexStatus{}, err
	}
	w, err := wanted(set)
	if err != nil {
		return IndexStatus{}, err
	}
	is, err := db.indexState(ctx, g)
	if err != nil {
		return IndexStatus{}, err
	}
	s := IndexStatus{Parameters: w.status(is.jobs)}
	for _, j := range is.jobs {
		if j.parameter == nil {
			s.Reindex = &ReindexStatus{j.request, string(j.state), j.percent()}
		}
	}
	return s, nil
}
