package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// An order is one that an index has.
type order struct {
	by  search.SortKind // ByDate without an element stands for the main date
	asc bool
	// along is the element by whose beginnings resources are ordered, and
	// repeats says that a resource can have several of it.
	along   search.Path
	repeats bool
}

// newest is the order of the main date, the newest first.
var newest = order{by: search.ByDate}

// indexOrder returns the one order that answers q, if an index has it. Without
// _sort the newest main date comes first.
func indexOrder(q *search.Query) (order, bool) {
	if len(q.Sort) == 0 {
		return newest, true
	}
	if len(q.Sort) > 1 || q.Type == "" {
		return order{}, false
	}
	o, ok := orderOf(q.Type, q.Sort[0])
	if _, only := search.MainDate(q.Type); o.by == search.ByDate && !only {
		ok = false // another element stands in for what has no value
	}
	return o, ok && o.along == ""
}

// orderOf returns the order that an index has of the resources of the type that
// have a value to be sorted by.
func orderOf(on fhir.Type, k search.SortKey) (order, bool) {
	o := order{by: k.Kind, asc: !k.Desc}
	switch {
	case k.Via != nil || k.Kind == search.ByText:
		return order{}, false
	case k.Kind == search.ByID || k.Kind == search.ByUpdated:
		return o, true
	case len(k.Paths) != 1:
		return order{}, false
	}
	if main, _ := search.MainDate(on); k.Kind != search.ByDate || k.Paths[0] != main {
		o.along, o.repeats = k.Paths[0], !search.IsSingle(k.Paths[0])
	}
	return o, true
}

// fewMatches is how many matches are opened to be sorted, where an index has
// the order too: to go along it costs more the fewer of its resources match.
const fewMatches = 1000

// ordered adds to the page the matches of a search of one type, as the keys say.
// It goes in stages. In the first are the resources that have a value for the
// first key, in the order of its index; in the next those that have none, by
// the next key; in the last those that have no value at all, the newest first.
// What no index has the order of is opened and sorted, with all that is left.
func (v *View) ordered(ctx context.Context, pl plan, keys []search.SortKey, after position, to *sheet) error {
	if i := slices.IndexFunc(keys, func(k search.SortKey) bool { return k.Kind == search.ByID && k.Via == nil }); i >= 0 {
		keys = keys[:i+1] // no two are equal in it
	}
	for stage, k := range keys {
		has, lacks := k.Valued()
		if stage < after.Stage {
			pl = pl.and(lacks)
			continue
		}
		at := position{}
		if stage == after.Stage {
			at = after
		}
		at.Stage = stage
		o, indexed := orderOf(pl.on, k)
		open := !indexed
		if indexed && o.along != "" {
			var err error
			if open, err = v.few(ctx, pl, at); err != nil {
				return err
			}
		}
		if open {
			return v.sorted(ctx, []plan{pl}, keys[stage:], at, to)
		}
		held := pl
		if o.by == search.ByDate && o.along == "" {
			held = pl.and(has)
		}
		if err := v.along(ctx, held, o, keys[stage:], at, to); err != nil || to.full || lacks == nil {
			return err
		}
		pl = pl.and(lacks)
	}
	at := position{}
	if after.Stage == len(keys) {
		at = after
	}
	_, err := v.stream(ctx, pl, newest, at, to.left, func(r fhir.Resource, c candidate) (bool, error) {
		at := c.position(pl.on)
		at.Stage = len(keys)
		return to.take(r, at), nil
	})
	return err
}

// and returns the plan of what meets the condition as well.
func (pl plan) and(e search.Expr) plan {
	both := newPlan(pl.on, pl.permit, search.Simplify(and(pl.where, e)))
	both.by = pl.by
	return both
}

// few reports whether the plan has few matches, so that they are opened. What
// the page before has done is done on.
func (v *View) few(ctx context.Context, pl plan, after position) (bool, error) {
	if after.RID != 0 {
		return after.Low == nil, nil
	}
	from, where, s, err := v.statement(ctx, pl, false)
	if err != nil {
		return false, err
	}
	rows, err := v.query(ctx, pl.permit, gate.SQL(`SELECT count(*) FROM (SELECT 1 FROM`).With(from,
		gate.SQL(`WHERE`), where, gate.SQL(`LIMIT ?) found`, v.db.few+1)).Custom(s.custom))
	if err != nil {
		return false, fmt.Errorf("counting %s: %w", pl.on, err)
	}
	n, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	if err != nil {
		return false, fmt.Errorf("counting %s: %w", pl.on, err)
	}
	return n <= v.db.few, nil
}

// along adds to the page the matches in the order that an index has, which is
// that of the first key. If there are others, what is equal in it is read to its
// end, opened, and sorted by them.
func (v *View) along(ctx context.Context, pl plan, o order, keys []search.SortKey, after position, to *sheet) error {
	if len(keys) == 1 {
		_, err := v.stream(ctx, pl, o, after, to.left, func(r fhir.Resource, c candidate) (bool, error) {
			at := c.position(pl.on)
			at.Stage = after.Stage
			return to.take(r, at), nil
		})
		return err
	}
	from := after
	from.From = from.RID != 0
	for {
		var items []sortable
		equal := 0
		ended, err := v.stream(ctx, pl, o, from, func() int { return maxFetch }, func(r fhir.Resource, c candidate) (bool, error) {
			rung := c.rung(o)
			if len(items) == 0 || *items[len(items)-1].rung != rung {
				if equal = 0; len(items) >= to.left() {
					from = position{RID: c.rid, Low: &rung, High: &rung, From: true}
					return false, nil
				}
			}
			if equal++; equal > maxExamined {
				return false, fhir.Errorf(fhir.TooCostly, "more than %d matches are equal in what the search is sorted by first, and would be opened to sort them by the next; narrow the search, or sort by the first alone", maxExamined)
			}
			item, err := v.sortable(c.row, r, keys)
			item.rung = &rung
			items = append(items, item)
			return true, err
		})
		if err != nil {
			return err
		}
		if err := v.emit(ctx, items, keys, after, to); err != nil || ended || to.full {
			return err
		}
	}
}

// A sortable is a match with what it is sorted by.
type sortable struct {
	row  row // closed, for all of them open would be too much
	keys []string
	rung *int64 // in the order of the first key, if an index has it
	// links are what the resource refers to, for each key that is the
	// target's; the key is not known yet.
	links [][]int64
}

// sortable works out what an opened resource is sorted by.
func (v *View) sortable(r row, res fhir.Resource, keys []search.SortKey) (sortable, error) {
	s := sortable{row: r, keys: make([]string, len(keys))}
	d, err := fhir.Reopen(res.Body)
	if err != nil {
		return s, err
	}
	terms := v.schema.Index(d)
	for i, k := range keys {
		if k.Via == nil {
			s.keys[i] = sortText(&res, terms, k)
			continue
		}
		if s.links == nil {
			s.links = make([][]int64, len(keys))
		}
		for _, ref := range v.schema.References(d, k.Via.Paths) {
			if ref.Type == k.Via.Type {
				s.links[i] = append(s.links[i], v.rid(ref))
			}
		}
	}
	return s, nil
}

// emit adds items to the page, sorted by the keys, from after the position on.
func (v *View) emit(ctx context.Context, items []sortable, keys []search.SortKey, after position, to *sheet) error {
	for i, k := range keys {
		if k.Via != nil {
			if err := v.link(ctx, items, i, k); err != nil {
				return err
			}
		}
	}
	before := func(a []string, arid int64, b []string, brid int64) int {
		for i, k := range keys {
			if c := compareText(a[i], b[i], k.Desc); c != 0 {
				return c
			}
		}
		return cmp.Compare(arid, brid)
	}
	slices.SortFunc(items, func(a, b sortable) int { return before(a.keys, a.row.rid, b.keys, b.row.rid) })
	for _, it := range items {
		if after.RID != 0 && len(after.Keys) == len(keys) && before(it.keys, it.row.rid, after.Keys, after.RID) <= 0 {
			continue
		}
		res, err := v.open(it.row)
		if err != nil {
			return err
		}
		if !to.take(res, position{Stage: after.Stage, RID: it.row.rid, Keys: it.keys, Low: it.rung, High: it.rung}) {
			return nil
		}
	}
	return nil
}

// link finds the i-th key of the items, which is one of what they refer to: of
// several, the one that comes first. What the Grant may not search has no part
// in the order.
func (v *View) link(ctx context.Context, items []sortable, i int, k search.SortKey) error {
	p, err := v.gate.Permit(fhir.SearchType, k.Via.Type)
	if err != nil {
		return err
	}
	seen := map[int64]bool{}
	var rids []int64
	for _, it := range items {
		for _, rid := range it.links[i] {
			if !seen[rid] {
				seen[rid] = true
				rids = append(rids, rid)
			}
		}
	}
	if len(rids) > maxExamined {
		return fhir.Errorf(fhir.TooCostly, "the search is sorted by more than %d resources that the matches refer to; narrow it", maxExamined)
	}
	texts := make(map[int64]string, len(rids))
	for some := range slices.Chunk(rids, maxFetch) {
		rows, err := v.query(ctx, p, gate.SQL(`
			SELECT rid, type, id, version, updated, body
			FROM   ~resource
			WHERE  tenant_id = $1 AND rid = ANY(?::bigint[]) AND type = ? AND NOT deleted
			ORDER  BY rid`, some, k.Via.Type.Number()))
		if err != nil {
			return fmt.Errorf("sorting by %s: %w", k.Via.Type, err)
		}
		list, err := pgx.CollectRows(rows, scanRow)
		if err != nil {
			return fmt.Errorf("sorting by %s: %w", k.Via.Type, err)
		}
		if err := v.linked(ctx, p, list, k, texts); err != nil {
			return err
		}
	}
	for _, it := range items {
		for _, rid := range it.links[i] {
			if text := texts[rid]; it.keys[i] == "" || compareText(text, it.keys[i], k.Desc) < 0 {
				it.keys[i] = text
			}
		}
	}
	return nil
}

// linked adds to texts what resources that are referred to give the key, but for
// those that p does not cover.
func (v *View) linked(ctx context.Context, p smart.Permit, list []row, k search.SortKey, texts map[int64]string) error {
	opened := make([]fhir.Resource, len(list))
	for i, r := range list {
		var err error
		if opened[i], err = v.open(r); err != nil {
			return err
		}
	}
	covered, err := v.cover(ctx, p, opened...)
	if err != nil {
		return err
	}
	for i, res := range opened {
		if !covered[i] {
			continue
		}
		err := fhir.Peek(res.Body, func(d *fhir.Document) error {
			texts[list[i].rid] = strings.Clone(sortText(&res, v.schema.Index(d), k))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sorted adds to the page the matches in an order that only opened bodies have.
// It reads all of them, up to the bound.
func (v *View) sorted(ctx context.Context, plans []plan, keys []search.SortKey, after position, to *sheet) error {
	var items []sortable
	for _, pl := range plans {
		err := v.scan(ctx, pl, func(r row, res fhir.Resource) error {
			item, err := v.sortable(r, res, keys)
			if err != nil {
				return err
			}
			if items = append(items, item); len(items) > maxExamined {
				return tooManySorted()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return v.emit(ctx, items, keys, after, to)
}

func tooManySorted() error {
	return fhir.Errorf(fhir.TooCostly, "no index has the order that is asked for, and more than %d matches would be opened for it; narrow the search, or sort by a date or a number, _lastUpdated or _id", maxExamined)
}

// mergedOrder returns the order of the keys if the resources of every type have
// it, so that those of several can be merged: by _lastUpdated.
func mergedOrder(keys []search.SortKey) (order, bool) {
	if len(keys) != 1 || keys[0].Kind != search.ByUpdated || keys[0].Via != nil {
		return order{}, false
	}
	return order{by: search.ByUpdated, asc: !keys[0].Desc}, true
}

// merged adds to the page the matches of several types, in an order that all
// have. It reads as many of each type as the page has room for.
func (v *View) merged(ctx context.Context, plans []plan, o order, after position, to *sheet) error {
	var found []candidate
	for _, pl := range plans {
		left := to.left()
		_, err := v.stream(ctx, pl, o, after, func() int { return left }, func(_ fhir.Resource, c candidate) (bool, error) {
			found = append(found, c)
			left--
			return left > 0, nil
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		c := cmp.Or(a.ts.Compare(b.ts), cmp.Compare(a.rid, b.rid))
		if !o.asc {
			return -c
		}
		return c
	})
	for _, c := range found {
		r, err := v.open(c.row)
		if err != nil {
			return err
		}
		if !to.take(r, c.position(c.ref.Type)) {
			return nil
		}
	}
	return nil
}

// A sheet is a page that is being filled.
type sheet struct {
	size, skip int
	found      []fhir.Resource
	bytes      int
	last       position // of the last that is found
	full       bool     // there are more
}

// take adds the match at the position, if it belongs to the page. A page of
// large resources ends before it has size of them.
func (s *sheet) take(r fhir.Resource, at position) (more bool) {
	switch {
	case s.skip > 0:
		s.skip--
	case len(s.found) == s.size || len(s.found) > 0 && s.bytes+len(r.Body) > maxPage:
		s.full = true
	default:
		s.found, s.last = append(s.found, r), at
		s.bytes += len(r.Body)
	}
	return !s.full
}

// left is how many matches are yet to be read, with the one that says that
// there are more.
func (s *sheet) left() int { return s.skip + s.size + 1 - len(s.found) }

// next returns where the next page begins, nil if there is none.
func (s *sheet) next() *position {
	if !s.full {
		return nil
	}
	return &s.last
}

// columns are what the order goes by, in order.
func (o order) columns(s scope) []gate.Clause {
	switch {
	case o.along != "":
		return []gate.Clause{s.along.Col("lo"), s.along.Col("hi"), s.along.Col("rid")}
	case o.by == search.ByDate:
		return []gate.Clause{s.anchor.Col("ts"), s.anchor.Col("rid")}
	case o.by == search.ByUpdated:
		return []gate.Clause{gate.SQL(`r.updated`), gate.SQL(`r.rid`)}
	}
	return []gate.Clause{gate.SQL(`r.id`)}
}

// at returns the values of the columns at the position.
func (o order) at(p position) []any {
	switch {
	case o.along != "" && o.by == search.ByNumber:
		return []any{numberAt(*p.Low), numberAt(*p.High), p.RID}
	case o.along != "":
		return []any{moment(*p.Low), moment(*p.High), p.RID}
	case o.by == search.ByID:
		return []any{p.ID}
	case p.Low != nil:
		return []any{moment(*p.Low), p.RID}
	case p.Time == nil:
		return []any{stamp(time.Time{}), p.RID}
	case o.by == search.ByUpdated:
		return []any{*p.Time, p.RID}
	}
	return []any{stamp(*p.Time), p.RID}
}

// beyond is the condition of what comes after the position, or with From of
// what does not come before all that are equal to it in the first column.
func (o order) beyond(cols []gate.Clause, p position) gate.Clause {
	at := o.at(p)
	if p.From {
		if o.asc {
			return cols[0].With(gate.SQL(`>= ?`, at[0]))
		}
		return cols[0].With(gate.SQL(`<= ?`, at[0]))
	}
	left, right := gate.SQL(`(`).With(cols[0]), gate.SQL(`(?`, at[0])
	for i := range cols[1:] {
		left, right = left.With(gate.SQL(`,`), cols[i+1]), right.With(gate.SQL(`, ?`, at[i+1]))
	}
	if o.asc {
		return left.With(gate.SQL(`) >`), right, gate.SQL(`)`))
	}
	return left.With(gate.SQL(`) <`), right, gate.SQL(`)`))
}

// clause returns ORDER BY.
func (o order) clause(cols []gate.Clause) gate.Clause {
	out := gate.SQL(`ORDER BY`)
	for i, c := range cols {
		if i > 0 {
			out = out.With(gate.SQL(`,`))
		}
		if out = out.With(c); !o.asc {
			out = out.With(gate.SQL(`DESC`))
		}
	}
	return out
}

// scan reads a row of fetch.
func (o order) scan(rows pgx.Rows, on fhir.Type) (candidate, error) {
	c := candidate{row: row{ref: fhir.Ref{Type: on}}, along: o.along != ""}
	if c.along && o.by == search.ByNumber {
		var lo, hi float64
		err := rows.Scan(&c.rid, &c.ref.ID, &c.version, &c.updated, &c.body, &lo, &hi)
		c.low, c.high = rungOf(lo), rungOf(hi)
		return c, err
	}
	var lo, hi pgtype.Timestamptz
	err := rows.Scan(&c.rid, &c.ref.ID, &c.version, &c.updated, &c.body, &lo, &hi)
	switch {
	case c.along:
		c.low, c.high = micros(lo), micros(hi)
	case o.by == search.ByDate:
		c.ts, c.none = lo.Time.UTC(), lo.InfinityModifier != pgtype.Finite
	default:
		c.ts = c.updated.UTC()
	}
	return c, err
}

// rung is where the candidate is in the first column of the order.
func (c candidate) rung(o order) int64 {
	switch {
	case c.along:
		return c.low
	case c.none:
		return math.MinInt64
	}
	return c.ts.UnixMicro()
}

// walk builds FROM and WHERE for a plan that goes along the rows of an element.
// What else is asked is looked up for each: OFFSET 0 keeps the planner from
// beginning with the resources, which are in no order of the element, and from
// finding them by the partial index of those that are not deleted, which it may
// think as good as their key while it knows little of the tenant.
func (v *View) walk(ctx context.Context, pl plan, o order) (from, where gate.Clause, s scope, err error) {
	c := &compiler{v: v, permit: pl.permit}
	x := c.row()
	resource := true
	s = scope{on: pl.on, along: x, few: true, custom: true, needs: &resource}
	from, where = gate.SQL(`~idx_date`), gate.SQL(`AND`).With(x.Col("lo"), gate.SQL(`> '-infinity'`))
	key := v.dateKey(o.along)
	if o.by == search.ByNumber {
		from, where, key = gate.SQL(`~idx_num`), gate.Clause{}, v.numberKey(o.along, "")
	}
	from = from.With(x.Alias(), gate.SQL(`CROSS JOIN LATERAL (
		SELECT r.rid, r.id, r.version, r.updated, r.body, r.ts, r.te, r.present, r.deleted
		FROM   ~resource r
		WHERE  r.tenant_id = $1 AND r.rid =`), x.Col("rid"), gate.SQL(`OFFSET 0) r`))
	where = x.Col("tenant_id").With(gate.SQL(`= $1 AND`), x.Col("key"), gate.SQL(`= ?`, key), where, gate.SQL(`AND NOT r.deleted`))
	for _, e := range conjunction(pl.where) {
		cond, ok := bounded(x, o, e)
		if !ok {
			if cond, err = c.cond(ctx, s, e); err != nil {
				return from, where, s, err
			}
		}
		where = where.With(gate.SQL(`AND`), cond)
	}
	return from, where, s, nil
}

// bounded returns the condition that e puts on the very row that the order goes
// along, if it does. One element can hold a date or a number.
func bounded(x gate.Row, o order, e search.Expr) (gate.Clause, bool) {
	out := always
	switch e := e.(type) {
	case search.InDate:
		for _, b := range e.Bounds {
			out = out.With(gate.SQL(`AND`), compare(end(x, b.End), b.Op, stamp(b.T)))
		}
		return out, o.by == search.ByDate && e.Path == o.along && !o.repeats
	case search.InNumber:
		for _, b := range e.Bounds {
			out = out.With(gate.SQL(`AND`), compare(end(x, b.End), b.Op, finite(b.V)))
		}
		return out, o.by == search.ByNumber && e.Path == o.along && e.Unit == "" && !o.repeats
	}
	return out, false
}

// rungOf is a number as an integer of the same order, as micros is a date.
func rungOf(f float64) int64 {
	n := bits(f)
	if n < 0 {
		n ^= math.MaxInt64
	}
	return n
}

// numberAt undoes rungOf.
func numberAt(rung int64) float64 {
	if rung < 0 {
		rung ^= math.MaxInt64
	}
	return math.Float64frombits(uint64(rung))
}

// leads reports whether the row of the candidate is the one of several by which
// the resource with the terms is ordered.
func (c candidate) leads(o order, t *search.Terms) bool {
	k := search.SortKey{Kind: o.by, Paths: []search.Path{o.along}, Desc: !o.asc}
	if o.by == search.ByNumber {
		n, ok := search.SortNumber(t, k)
		return ok && rungOf(n.Lo) == c.low && rungOf(n.Hi) == c.high
	}
	d, ok := search.SortTime(t, k)
	return ok && micros(stamp(d.Lo)) == c.low && micros(stamp(d.Hi)) == c.high
}

// sortText is what a key orders by, as text that compares in the same order;
// "" if it is missing.
func sortText(r *fhir.Resource, t *search.Terms, k search.SortKey) string {
	switch k.Kind {
	case search.ByID:
		return r.Ref.ID
	case search.ByUpdated:
		return timeText(r.Updated)
	case search.ByDate:
		if d, ok := search.SortTime(t, k); ok {
			return timeText(d.Lo)
		}
	case search.ByNumber:
		if n, ok := search.SortNumber(t, k); ok {
			return fmt.Sprintf("%016x", uint64(rungOf(n.Lo))^1<<63)
		}
	case search.ByText:
		if s, ok := search.SortText(t, k); ok {
			return s
		}
	}
	return ""
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000") }

// compareText orders two sort texts; "" is a missing value and comes last
// either way.
func compareText(a, b string, desc bool) int {
	switch {
	case a == b:
		return 0
	case a == "":
		return 1
	case b == "":
		return -1
	case desc:
		return strings.Compare(b, a)
	}
	return strings.Compare(a, b)
}
