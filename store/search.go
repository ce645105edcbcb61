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

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A Page is a page of search results.
type Page struct {
	// Matches are the resources found, in the order asked for.
	Matches []fhir.Resource
	// Included are those that _include and _revinclude add.
	Included []fhir.Resource
	// Total is the number of matches; nil if it was not asked for.
	Total *int
	// Next is the sealed cursor of the next page, "" on the last.
	Next string
}

// DefaultCount and MaxCount are the page sizes of searches and histories.
const (
	DefaultCount = 20
	MaxCount     = 1000
)

// Search returns the first page of the answer to q.
// https://hl7.org/fhir/R4/search.html
func (v *View) Search(ctx context.Context, q *search.Query) (*Page, error) {
	return v.SearchFrom(ctx, q, Cursor{Page: 1})
}

// SearchFrom returns the page of q at the cursor; q is what Cursor.Query says.
func (v *View) SearchFrom(ctx context.Context, q *search.Query, c Cursor) (*Page, error) {
	do := interaction(q)
	entry := audit.Entry{Interaction: do, Type: q.Type, Query: c.Query}
	if c.Query == "" {
		entry.Query = applied(q)
	}
	v.attempt(entry)
	plans, err := v.plans(ctx, do, q)
	if err != nil {
		return nil, err
	}
	if err := v.hold(ctx, q, plans); err != nil {
		return nil, err
	}
	page := &Page{}
	size := q.Count
	if size < 0 {
		size = DefaultCount
	}
	size = min(size, MaxCount)
	if q.Summary == "count" {
		size = 0
	}
	var next *position
	if size > 0 {
		to := &sheet{size: size}
		if c.Page == 1 {
			to.skip = q.Offset
		}
		if err := v.fill(ctx, q, plans, c.After, to); err != nil {
			return nil, err
		}
		page.Matches, next = to.found, to.next()
		if err := v.keepFound(ctx, q, page.Matches); err != nil {
			return nil, err
		}
	}
	switch {
	case c.After.Total != nil && v.keeps() == nil: // counted on the first page
		page.Total = c.After.Total
	case size == 0 || c.After.Total != nil || q.Total == search.TotalAccurate || q.Total == search.TotalEstimate:
		page.Total, err = v.total(ctx, q, plans)
		if fhir.IsCode(err, fhir.TooCostly) && q.Total == search.TotalEstimate && size > 0 {
			err = nil // an estimate is not worth refusing the page
		}
		if err != nil {
			return nil, err
		}
	case c.Page == 1 && next == nil && q.Total == "" && q.Offset == 0: // all of it is here
		n := len(page.Matches)
		page.Total = &n
	}
	if next != nil {
		next.Total = page.Total
		page.Next, err = v.seal(Cursor{Interaction: do, Ref: fhir.Ref{Type: q.Type}, Query: entry.Query, Page: c.Page + 1, After: *next})
		if err != nil {
			return nil, err
		}
	}
	if len(q.Include) > 0 && len(page.Matches) > 0 {
		if page.Included, err = v.include(ctx, q, page.Matches); err != nil {
			return nil, err
		}
	}
	v.noteAll(entry, page.Matches, page.Included)
	if err := v.showAll(page.Matches); err != nil {
		return nil, err
	}
	return page, v.showAll(page.Included)
}

// fill adds to the page what comes after the position, in the order of q.
func (v *View) fill(ctx context.Context, q *search.Query, plans []plan, after position, to *sheet) error {
	o, indexed := v.order(q)
	switch {
	case indexed:
		return v.indexed(ctx, plans, o, after, to)
	case q.Type == "":
		if o, ok := mergedOrder(q.Sort); ok && after.Keys == nil && to.left()*len(plans) <= maxExamined {
			return v.merged(ctx, plans, o, after, to)
		}
		return v.sorted(ctx, plans, q.Sort, after, to)
	case len(plans) == 0:
		return nil
	}
	return v.ordered(ctx, plans[0], q.Sort, after, to)
}

func interaction(q *search.Query) fhir.Interaction {
	if q.Type == "" {
		return fhir.SearchSystem
	}
	return fhir.SearchType
}

// applied is the query as it was understood, URL-encoded.
func applied(q *search.Query) string {
	var b strings.Builder
	for i, p := range q.Applied {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// Count returns how many resources q matches.
func (v *View) Count(ctx context.Context, q *search.Query) (int, error) {
	do := interaction(q)
	entry := audit.Entry{Interaction: do, Type: q.Type, Query: applied(q)}
	v.attempt(entry)
	plans, err := v.plans(ctx, do, q)
	if err != nil {
		return 0, err
	}
	if err := v.hold(ctx, q, plans); err != nil {
		return 0, err
	}
	n, err := v.total(ctx, q, plans)
	if err != nil {
		return 0, err
	}
	v.note(entry)
	return *n, nil
}

// Match returns up to two of the resources that q matches, for a conditional
// interaction. They are not audited as read: nothing of them leaves.
func (v *View) Match(ctx context.Context, q *search.Query) ([]fhir.Ref, error) {
	plans, err := v.plans(ctx, fhir.SearchType, q)
	if err != nil {
		return nil, err
	}
	if err := v.hold(ctx, q, plans); err != nil {
		return nil, err
	}
	two := &sheet{size: 2}
	if err := v.indexed(ctx, plans, newest, position{}, two); err != nil {
		return nil, err
	}
	if err := v.keepFound(ctx, q, two.found); err != nil {
		return nil, err
	}
	refs := make([]fhir.Ref, 0, 2)
	for _, r := range two.found {
		v.keep(r)
		refs = append(refs, r.Ref)
	}
	return refs, nil
}

// Found returns the one resource that q matches, as what the conditional
// interaction found in place of doing something.
func (v *View) Found(ctx context.Context, do fhir.Interaction, q *search.Query) (fhir.Resource, error) {
	v.attempt(audit.Entry{Interaction: do, Type: q.Type})
	plans, err := v.plans(ctx, fhir.SearchType, q)
	if err != nil {
		return fhir.Resource{}, err
	}
	if err := v.hold(ctx, q, plans); err != nil {
		return fhir.Resource{}, err
	}
	two := &sheet{size: 2}
	if err := v.indexed(ctx, plans, newest, position{}, two); err != nil {
		return fhir.Resource{}, err
	}
	if len(two.found) != 1 {
		return fhir.Resource{}, fhir.Errorf(fhir.Conflict, "the resource that meets the criteria is being changed by others, try again")
	}
	if err := v.keepFound(ctx, q, two.found); err != nil {
		return fhir.Resource{}, err
	}
	v.note(v.disclosed(do, two.found[0]))
	return v.shown(two.found[0])
}

// A plan is the search of one type.
type plan struct {
	on     fhir.Type
	permit smart.Permit
	where  search.Expr   // what was asked, and what the permit allows
	exact  bool          // the index alone answers it
	by     *search.Asker // whom the consents of patients are asked about; nil: nobody
	// followed are chains of a policy whose targets are known.
	followed []*reached
	// sql finds it in an order of the resource, walk along an element.
	sql, walk *compiled
}

// compiled is a plan as SQL. Making it can take searches of its own, for
// chains, so it is made once for all that is fetched by the plan.
type compiled struct {
	made        bool
	from, where gate.Clause
	scope       scope
}

// plans makes a plan for each type that q searches and the Grant allows, in
// order of number: pages go through the types in that order. Types of which
// nothing can match have none.
func (v *View) plans(ctx context.Context, do fhir.Interaction, q *search.Query) ([]plan, error) {
	if err := v.mayAsk(q); err != nil {
		return nil, err
	}
	types := []fhir.Type{q.Type}
	if q.Type == "" {
		types = v.grant.Types(do)
		if len(q.Types) > 0 {
			types = slices.SortedFunc(slices.Values(q.Types), func(a, b fhir.Type) int { return cmp.Compare(a.Number(), b.Number()) })
		}
		if len(types) == 0 {
			return nil, fhir.Errorf(fhir.Forbidden, "the token does not allow a search of the system")
		}
	}
	if q.Contained.Any() {
		if _, err := v.gate.Permit(do, q.Type); err != nil {
			return nil, err
		}
		containers := search.Containers()
		types = slices.DeleteFunc(v.grant.Types(do), func(t fhir.Type) bool { return !slices.Contains(containers, t) })
	}
	var plans []plan
	for _, t := range types {
		p, err := v.gate.Permit(do, t)
		if err != nil {
			return nil, err
		}
		pl, err := v.plan(ctx, p, t, q.On(t))
		if err != nil {
			return nil, err
		}
		if search.Equal(pl.where, search.Or{}) {
			continue // nothing can meet it
		}
		plans = append(plans, pl)
	}
	return plans, nil
}

// plan returns the plan to search what p allows of the type.
func (v *View) plan(ctx context.Context, p smart.Permit, on fhir.Type, where search.Expr) (plan, error) {
	allowed, by, err := v.where(ctx, p)
	if err != nil {
		return plan{}, err
	}
	where, followed, err := v.settledFor(ctx, p, search.Gather(search.Simplify(and(where, allowed))))
	if err != nil {
		return plan{}, err
	}
	pl := newPlan(on, p, where)
	pl.by, pl.followed = by, followed
	return pl, nil
}

func newPlan(on fhir.Type, p smart.Permit, where search.Expr) plan {
	where, by := search.Apart(where)
	return plan{on: on, permit: p, where: where, exact: answered(where), by: by, sql: &compiled{}, walk: &compiled{}}
}

// indexed adds to the page the matches in an order that an index has.
func (v *View) indexed(ctx context.Context, plans []plan, o order, after position, to *sheet) error {
	for _, pl := range plans {
		if after.Type > pl.on.Number() && len(plans) > 1 {
			continue
		}
		at := position{}
		if after.Type == pl.on.Number() || len(plans) == 1 {
			at = after
		}
		_, err := v.stream(ctx, pl, o, at, to.left, func(r fhir.Resource, c candidate) (bool, error) {
			return to.take(r, c.position(pl.on)), nil
		})
		if err != nil || to.full {
			return err
		}
	}
	return nil
}

// stream gives take the matches after the position, opened, in an order that an
// index has, until it wants no more. want says how many it may still want; ended
// says that there are no more. What is only narrowed by the index is opened up
// to a bound.
func (v *View) stream(ctx context.Context, pl plan, o order, after position, want func() int, take func(fhir.Resource, candidate) (more bool, err error)) (ended bool, err error) {
	for examined := 0; ; {
		stopped := false
		n := min(want(), maxFetch)
		if !pl.exact || o.repeats {
			n = maxFetch
		}
		read, err := v.fetch(ctx, pl, o, after, n, func(c candidate) (bool, error) {
			after = c.position(pl.on)
			res, ok, err := v.holds(pl, o, c)
			if err != nil || !ok {
				return true, err
			}
			c.opened = nil // it may be kept
			more, err := take(res, c)
			stopped = !more
			return more, err
		})
		if err != nil || stopped {
			return false, err
		}
		if read < n {
			return true, nil
		}
		if pl.exact && pl.by == nil { // what was read was wanted
			continue
		}
		if examined += read; examined > maxExamined {
			return false, tooManyOpened(pl.where)
		}
	}
}

// maxFetch bounds the candidates that one statement reads, and maxPage the
// bytes of a page: a resource can have millions.
const (
	maxFetch = 256
	maxPage  = 32 << 20
)

// holds opens a candidate and checks what the index could not.
func (v *View) holds(pl plan, o order, c candidate) (fhir.Resource, bool, error) {
	if c.withheld {
		return fhir.Resource{}, false, nil
	}
	res, err := v.open(c.row)
	if err != nil {
		return fhir.Resource{}, false, err
	}
	if pl.exact && !o.repeats {
		return res, true, nil
	}
	ok := false
	err = fhir.Peek(res.Body, func(d *fhir.Document) error {
		terms := v.schema.Index(d)
		if o.repeats && !c.leads(o, terms) {
			return nil
		}
		ok, err = v.check(pl.where, &res, terms)
		return err
	})
	return res, ok, err
}

// check holds an opened resource against what only its body can tell: each
// member of a conjunction that the index does not answer.
func (v *View) check(e search.Expr, r *fhir.Resource, t *search.Terms) (bool, error) {
	if list, ok := e.(search.And); ok {
		for _, x := range list {
			if ok, err := v.check(x, r, t); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	if answered(e) {
		return true, nil // the index has answered it
	}
	return search.Match(e, r, t)
}

// candidate is a row with its place in the order.
type candidate struct {
	row
	ts        time.Time
	none      bool  // ts is before all time
	along     bool  // of an order along an element, whose row begins and ends at
	low, high int64 // these rungs
}

func (c candidate) position(on fhir.Type) position {
	p := position{Type: on.Number(), ID: c.ref.ID, RID: c.rid}
	switch {
	case c.along:
		p.Low, p.High = &c.low, &c.high
	case !c.none:
		p.Time = &c.ts
	}
	return p
}

// statement builds FROM and WHERE for a plan. The members of its conjunction
// that are one key each are joined, so that the planner may begin with any of
// them; the rest are conditions.
func (v *View) statement(ctx context.Context, pl plan, resource bool) (from, where gate.Clause, s scope, err error) {
	c := &compiler{v: v, permit: pl.permit, followed: slices.Clone(pl.followed)}
	return c.statement(ctx, pl, resource)
}

// statement is View.statement. What the caller adds to it can name further rows.
func (c *compiler) statement(ctx context.Context, pl plan, resource bool) (from, where gate.Clause, s scope, err error) {
	v := c.v
	if err := c.followAll(ctx, pl.where); err != nil {
		return from, where, s, err
	}
	b := pl.start()
	s = scope{on: pl.on, needs: &resource, few: b.with == onePatient, custom: b.contested}
	where = always
	list, left := b.members, b.joins
	switch b.with {
	case oneCompartment:
		from = c.beginIn(&s, b.first().(search.Or))
		list, left = b.others(), 0
	case fewPatients:
		found, err := c.beginAt(ctx, &s, b)
		if err != nil {
			return from, where, s, err
		}
		if found.known {
			from, list, left = found.from, found.rest, 0
		}
	case standing:
		from = c.beginStanding(&s, b.first())
		list, left = b.others(), 0
	}
	var rest []search.Expr
	for _, e := range list {
		if left == 0 {
			rest = append(rest, e)
			continue
		}
		var x gate.Row
		var table gate.Clause
		switch e := e.(type) {
		case search.HasToken:
			x = c.row()
			table = gate.SQL(`~idx_token`).With(x.Alias())
			where = where.With(gate.SQL(`AND`), x.Col("tenant_id"), gate.SQL(`= $1 AND`), x.Col("key"), gate.SQL(`= ?`, v.tokenKey(search.Token(e))))
		case search.HasReference:
			x = c.row()
			table = gate.SQL(`~idx_ref`).With(x.Alias())
			where = where.With(gate.SQL(`AND`), x.Col("tenant_id"), gate.SQL(`= $1 AND`), x.Col("key"), gate.SQL(`= ? AND`, v.refKey(e.Path, e.Pair)),
				x.Col("target"), gate.SQL(`= ?`, v.target(e.Target)))
		default:
			rest = append(rest, e)
			continue
		}
		left--
		if s.anchor == 0 {
			s.anchor, from = x, table
			continue
		}
		from = from.With(gate.SQL(`,`), table)
		where = where.With(gate.SQL(`AND`), same(x, s))
	}
	s.alone = s.anchor == 0 && !s.custom
	for _, e := range rest {
		x, err := c.cond(ctx, s, e)
		if err != nil {
			return from, where, s, err
		}
		where = where.With(gate.SQL(`AND`), x)
	}
	switch {
	case b.with == standing:
		return from, where, s, nil
	case s.anchor == 0:
		return gate.SQL(`~resource r`), gate.SQL(`r.tenant_id = $1 AND r.type = ? AND NOT r.deleted AND`, pl.on.Number()).With(where), s, nil
	case *s.needs && b.with == fewPatients && s.few:
		return c.eachOf(from, s.anchor.Col("rid"), pl.on), where, s, nil
	case *s.needs:
		from = from.With(gate.SQL(`, ~resource r`))
		where = gate.SQL(`r.tenant_id = $1 AND NOT r.deleted AND r.rid =`).With(s.anchor.Col("rid"), gate.SQL(`AND`), where)
	}
	return from, where, s, nil
}

// compile makes the statement of the plan in the order, once.
func (v *View) compile(ctx context.Context, pl plan, o order) (compiled, error) {
	c := pl.sql
	if o.along != "" {
		c = pl.walk
	}
	if c.made {
		return *c, nil
	}
	var err error
	if o.along != "" {
		c.from, c.where, c.scope, err = v.walk(ctx, pl, o)
	} else {
		c.from, c.where, c.scope, err = v.statement(ctx, pl, true)
	}
	c.made = err == nil
	return *c, err
}

// fetch gives take up to n candidates after the position, one by one, until it
// wants no more. It returns how many there were.
func (v *View) fetch(ctx context.Context, pl plan, o order, after position, n int, take func(candidate) (more bool, err error)) (int, error) {
	sql, err := v.compile(ctx, pl, o)
	if err != nil {
		return 0, err
	}
	cols, where := o.columns(sql.scope), sql.where
	begun := after.RID != 0
	dated := o.by == search.ByDate && o.along == "" && o.asc // rising, what has no date comes last
	undated := dated && begun && after.Time == nil && after.Low == nil
	switch {
	case undated:
		where = where.With(gate.SQL(`AND`), cols[0], gate.SQL(`= '-infinity'`))
		cols = cols[1:]
	case dated:
		where = where.With(gate.SQL(`AND`), cols[0], gate.SQL(`> '-infinity'`))
	}
	switch {
	case undated:
		where = where.With(gate.SQL(`AND`), cols[0], gate.SQL(`> ?`, after.RID))
	case begun:
		where = where.With(gate.SQL(`AND`), o.beyond(cols, after))
	}
	keys := gate.SQL(`NULL::timestamptz, NULL::timestamptz`)
	switch {
	case o.along != "":
		keys = cols[0].With(gate.SQL(`,`), cols[1])
	case o.by == search.ByDate:
		keys = sql.scope.anchor.Col("ts").With(gate.SQL(`, NULL::timestamptz`))
	}
	stmt := gate.SQL(`SELECT r.rid, r.id, r.version, r.updated, r.body,`).With(keys, gate.SQL(`FROM`), sql.from,
		gate.SQL(`WHERE`), where, o.clause(cols), gate.SQL(`LIMIT ?`, n)).Custom(sql.scope.custom)
	rows, err := v.query(ctx, pl.permit, stmt)
	if err != nil {
		return 0, fmt.Errorf("searching %s: %w", pl.on, err)
	}
	defer rows.Close()
	read := 0
	var asked []candidate // whose patients' consents are asked first, together
	for rows.Next() {
		read++
		c, err := o.scan(rows, pl.on)
		if err != nil {
			return read, fmt.Errorf("searching %s: %w", pl.on, err)
		}
		if pl.by != nil {
			asked = append(asked, c)
			continue
		}
		if more, err := take(c); err != nil || !more {
			return read, err
		}
	}
	if rows.Close(); rows.Err() != nil {
		return read, fmt.Errorf("searching %s: %w", pl.on, rows.Err())
	}
	if err := v.withhold(ctx, pl, asked); err != nil {
		return read, err
	}
	for _, c := range asked {
		if more, err := take(c); err != nil || !more {
			return read, err
		}
	}
	if read < n && dated && !undated {
		more, err := v.fetch(ctx, pl, o, position{RID: math.MinInt64}, n-read, take)
		return read + more, err
	}
	return read, nil
}

// total counts what the plans of q match.
func (v *View) total(ctx context.Context, q *search.Query, plans []plan) (*int, error) {
	sum := 0
	for _, pl := range plans {
		n, err := v.totalOf(ctx, q, pl)
		if err != nil {
			return nil, err
		}
		sum += n
	}
	return &sum, nil
}

// totalOf counts what one plan matches, without reading a resource where the index
// alone answers.
func (v *View) totalOf(ctx context.Context, q *search.Query, pl plan) (n int, err error) {
	if v.keeps() != nil {
		return v.keepCounted(ctx, q, pl)
	}
	return v.count(ctx, pl)
}

// count is totalOf for an answer that is not kept.
func (v *View) count(ctx context.Context, pl plan) (n int, err error) {
	if !pl.exact || pl.by != nil {
		err := v.scan(ctx, pl, func(row, fhir.Resource) error {
			n++
			return nil
		})
		return n, err
	}
	from, where, s, err := v.statement(ctx, pl, false)
	if err != nil {
		return 0, err
	}
	rows, err := v.query(ctx, pl.permit, gate.SQL(`SELECT count(*) FROM`).With(from, gate.SQL(`WHERE`), where).Custom(s.custom))
	if err != nil {
		return 0, fmt.Errorf("counting %s: %w", pl.on, err)
	}
	if n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int]); err != nil {
		return 0, fmt.Errorf("counting %s: %w", pl.on, err)
	}
	return n, nil
}

// scan calls fn for every resource that the plan finds, opened. It is bounded.
func (v *View) scan(ctx context.Context, pl plan, fn func(row, fhir.Resource) error) error {
	at := position{}
	for examined := 0; ; {
		n, err := v.fetch(ctx, pl, newest, at, maxFetch, func(r candidate) (bool, error) {
			at = r.position(pl.on)
			res, ok, err := v.holds(pl, newest, r)
			if err != nil || !ok {
				return true, err
			}
			r.opened = nil // the row may be kept
			return true, fn(r.row, res)
		})
		if err != nil {
			return err
		}
		if n < maxFetch {
			return nil
		}
		if examined += n; examined >= maxExamined {
			return tooManyOpened(pl.where)
		}
	}
}

// targets returns the keys by which references find the resources of the type
// for which where holds. complete is false if there are more than maxTargets. Of
// those that it returns it is known afterwards for which of them the endings hold.
func (v *View) targets(ctx context.Context, p smart.Permit, on fhir.Type, where search.Expr, ends ...*ending) (keys []int64, complete bool, err error) {
	if !answered(where) {
		err := v.scan(ctx, newPlan(on, p, where), func(r row, _ fhir.Resource) error {
			keys = append(keys, r.rid)
			return nil
		})
		return keys, true, err
	}
	stmt, err := v.targeting(ctx, p, on, where, ends)
	if err != nil {
		return nil, false, err
	}
	rows, err := v.query(ctx, p, stmt)
	if err != nil {
		return nil, false, fmt.Errorf("following a chain to %s: %w", on, err)
	}
	var rid int64
	var facts []bool
	_, err = pgx.ForEachRow(rows, []any{&rid, &facts}, func() error {
		keys = append(keys, rid)
		for i, end := range ends {
			end.holds[rid] = facts[i]
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("following a chain to %s: %w", on, err)
	}
	return keys, len(keys) <= maxTargets, nil
}

// targeting is the statement of targets: beside each, which of the endings hold.
func (v *View) targeting(ctx context.Context, p smart.Permit, on fhir.Type, where search.Expr, ends []*ending) (gate.Clause, error) {
	c := &compiler{v: v, permit: p}
	from, cond, s, err := c.statement(ctx, plan{on: on, permit: p, where: where, exact: true}, len(ends) > 0)
	if err != nil {
		return gate.Clause{}, err
	}
	list := make([]relation, len(ends))
	for i, end := range ends {
		list[i].end = end
	}
	facts, err := c.facts(ctx, scope{on: on, anchor: s.anchor, res: s.res, few: true}, list)
	if err != nil {
		return gate.Clause{}, err
	}
	return gate.SQL(`SELECT`).With(s.anchor.Col("rid"), gate.SQL(`,`), facts, gate.SQL(`FROM`), from, gate.SQL(`WHERE`), cond,
		gate.SQL(`LIMIT ?`, maxTargets+1)), nil
}
