package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A compiler turns an Expr into SQL over the index. Every row of an index table
// that has a column ts holds the ts of its resource, so rows of one resource
// meet on (ts, rid), the end of their primary keys.
type compiler struct {
	v      *View
	permit smart.Permit // of what the statement is for
	rows   gate.Row     // names given so far
	// followed are chains whose targets were looked up already.
	followed []*reached
}

// reached is the targets of a chain, as View.targets returns them.
type reached struct {
	chain    search.Chain
	targets  []int64
	complete bool
}

// A scope is what a condition is on: rows of one resource.
type scope struct {
	on     fhir.Type
	anchor gate.Row // a row with ts and rid
	res    gate.Row // the row of resource
	along  gate.Row // the row of an element that the order goes along
	alone  bool     // no other condition has an index to begin with
	few    bool     // the anchor has few rows: conditions are looked up for each
	custom bool     // the statement is to be planned for its values
	needs  *bool    // set when a condition uses res
}

func (c *compiler) row() gate.Row {
	c.rows++
	return c.rows
}

var (
	always = gate.SQL(`true`)
	never  = gate.SQL(`false`)
)

// cond returns the condition that e puts on the scope. Where an index can only
// narrow e, the condition holds for more than e does.
func (c *compiler) cond(ctx context.Context, s scope, e search.Expr) (gate.Clause, error) {
	switch e := e.(type) {
	case search.And:
		return c.join(ctx, s, gate.SQL(`AND`), always, e)
	case search.Or:
		return c.or(ctx, s, e)
	case search.Not:
		if !answered(e.X) {
			return always, nil // what only an opened body can deny, nothing here may exclude
		}
		x, err := c.cond(ctx, s, e.X)
		x = gate.SQL(`NOT (`).With(x, gate.SQL(`)`))
		if without, ok := search.Implied(s.on, e.X); ok { // most have no label: no index need be asked for each
			*s.needs = true
			x = gate.SQL(`(`).With(s.res.Col("present"), gate.SQL(`& ? = 0 OR`, int64(1)<<without.Bit), x, gate.SQL(`)`))
		}
		return x, err
	case search.HasToken:
		return c.tokens(s, []int64{c.v.tokenKey(search.Token(e))}), nil
	case search.HasReference:
		return c.refs(s, []int64{c.v.refKey(e.Path, e.Pair)}, []int64{c.v.target(e.Target)}), nil
	case search.InDate:
		return c.date(s, e), nil
	case search.InNumber:
		return c.number(s, e), nil
	case search.Present:
		*s.needs = true
		return gate.SQL(`(`).With(s.res.Col("present"), gate.SQL(`& ?) <> 0`, int64(1)<<e.Bit)), nil
	case search.HasID:
		rids := make([]int64, len(e))
		for i, id := range e {
			rids[i] = c.v.rid(fhir.Ref{Type: s.on, ID: id})
		}
		return s.anchor.Col("rid").With(gate.SQL(`= ANY(?::bigint[])`, rids)), nil
	case search.Updated:
		*s.needs = true
		all := always
		for _, b := range e {
			all = all.With(gate.SQL(`AND`), compare(s.res.Col("updated"), b.Op, stamp(b.T)))
		}
		return all, nil
	case search.Chain:
		return c.chain(ctx, s, e)
	case search.ReverseChain:
		if e.Stand.Who != "" {
			return c.stands(s, e.Stand.At, []int64{c.v.standKey(e.Stand.How, e.Stand.Who)}), nil
		}
		return c.reverse(ctx, s, e)
	}
	if n, ok := e.(narrowed); ok {
		return c.join(ctx, s, gate.SQL(`AND`), always, tokens(n.Keys()))
	}
	return gate.Clause{}, fmt.Errorf("store: no SQL for %T", e)
}

// narrowed is a condition that tokens can narrow and an opened body decides.
type narrowed interface{ Keys() []search.Token }

func tokens(list []search.Token) []search.Expr {
	out := make([]search.Expr, len(list))
	for i, t := range list {
		out[i] = search.HasToken(t)
	}
	return out
}

// join puts word between the conditions of list; empty stands for none.
func (c *compiler) join(ctx context.Context, s scope, word, empty gate.Clause, list []search.Expr) (gate.Clause, error) {
	if len(list) == 0 {
		return empty, nil
	}
	out := gate.SQL(`(`)
	for i, e := range list {
		x, err := c.cond(ctx, s, e)
		if err != nil {
			return gate.Clause{}, err
		}
		if i > 0 {
			out = out.With(word)
		}
		out = out.With(x)
	}
	return out.With(gate.SQL(`)`)), nil
}

// or is join for Or. Tokens, and references by one element, are looked up
// together.
func (c *compiler) or(ctx context.Context, s scope, list search.Or) (gate.Clause, error) {
	var keys []int64
	var order []int64
	targets := map[int64][]int64{}
	var rest []search.Expr
	var standing []int64
	var moment time.Time
	for _, e := range list {
		switch e := e.(type) {
		case search.ReverseChain:
			if e.Stand.Who == "" || len(standing) > 0 && !moment.Equal(e.Stand.At) {
				rest = append(rest, e)
				continue
			}
			standing, moment = append(standing, c.v.standKey(e.Stand.How, e.Stand.Who)), e.Stand.At
		case search.HasToken:
			keys = append(keys, c.v.tokenKey(search.Token(e)))
		case search.HasReference:
			k := c.v.refKey(e.Path, e.Pair)
			if targets[k] == nil {
				order = append(order, k)
			}
			targets[k] = append(targets[k], c.v.target(e.Target))
		case narrowed:
			if k := e.Keys(); len(k) == 1 {
				keys = append(keys, c.v.tokenKey(k[0]))
			} else {
				rest = append(rest, e.(search.Expr))
			}
		default:
			rest = append(rest, e)
		}
	}
	out, err := c.join(ctx, s, gate.SQL(`OR`), never, rest)
	if err != nil {
		return gate.Clause{}, err
	}
	if len(rest) == 0 && len(keys)+len(order)+len(standing) > 0 {
		out = gate.Clause{}
	}
	add := func(x gate.Clause) {
		if out.IsZero() {
			out = x
			return
		}
		out = out.With(gate.SQL(`OR`), x)
	}
	if len(keys) > 0 {
		add(c.tokens(s, keys))
	}
	if len(standing) > 0 {
		add(c.stands(s, moment, standing))
	}
	if sameTarget(order, targets) {
		add(c.refs(s, order, targets[order[0]])) // of one patient's compartment: one look-up
	} else {
		for _, k := range order {
			add(c.refs(s, []int64{k}, targets[k]))
		}
	}
	return gate.SQL(`(`).With(out, gate.SQL(`)`)), nil
}

// sameTarget reports whether all of several keys are asked for one target.
func sameTarget(keys []int64, targets map[int64][]int64) bool {
	return len(keys) > 1 && !slices.ContainsFunc(keys, func(k int64) bool {
		return len(targets[k]) != 1 || targets[k][0] != targets[keys[0]][0]
	})
}

// same says that x is a row of the resource that s is on.
func same(x gate.Row, s scope) gate.Clause {
	return x.Col("ts").With(gate.SQL(`=`), s.anchor.Col("ts"), gate.SQL(`AND`), x.Col("rid"), gate.SQL(`=`), s.anchor.Col("rid"))
}

// from names a row of a table, of the tenant.
func from(table gate.Clause, x gate.Row) gate.Clause {
	return table.With(x.Alias(), gate.SQL(`WHERE`), x.Col("tenant_id"), gate.SQL(`= $1 AND`))
}

func (c *compiler) tokens(s scope, keys []int64) gate.Clause {
	x := c.row()
	return from(gate.SQL(`EXISTS (SELECT 1 FROM ~idx_token`), x).With(oneOf(x.Col("key"), keys), gate.SQL(`AND`), same(x, s), s.end())
}

func (c *compiler) refs(s scope, keys, targets []int64) gate.Clause {
	x := c.row()
	return from(gate.SQL(`EXISTS (SELECT 1 FROM ~idx_ref`), x).With(oneOf(x.Col("key"), keys), gate.SQL(`AND`),
		oneOf(x.Col("target"), targets), gate.SQL(`AND`), same(x, s), s.end())
}

// stands holds for the patients to whom one of the keys stands at the moment.
func (c *compiler) stands(s scope, at time.Time, keys []int64) gate.Clause {
	x := c.row()
	now := stamp(at)
	in := from(gate.SQL(`~idx_standing`), x).With(oneOf(x.Col("key"), keys))
	goes := gate.SQL(`AND`).With(x.Col("lo"), gate.SQL(`<= ? AND`, now), x.Col("hi"), gate.SQL(`> ?`, now))
	return gate.SQL(`EXISTS (SELECT 1 FROM`).With(in, gate.SQL(`AND`), x.Col("target"), gate.SQL(`=`), s.anchor.Col("rid"), goes, s.end())
}

// end ends a sub-select. OFFSET 0 keeps the planner from joining it: it is run
// for each row of the anchor, and not begun with.
func (s scope) end() gate.Clause {
	if s.few {
		return gate.SQL(`OFFSET 0)`)
	}
	return gate.SQL(`)`)
}

// oneOf compares with one key, or several. One is its own form because an
// index scan for it keeps the order of the rest of the key.
func oneOf(col gate.Clause, keys []int64) gate.Clause {
	if len(keys) == 1 {
		return col.With(gate.SQL(`= ?`, keys[0]))
	}
	return col.With(gate.SQL(`= ANY(?::bigint[])`, keys))
}

func (c *compiler) date(s scope, e search.InDate) gate.Clause {
	if main, _ := search.MainDate(s.on); e.Path == main {
		return mainDate(s, e.Bounds)
	}
	x := c.row()
	in := from(gate.SQL(`~idx_date`), x).With(x.Col("key"), gate.SQL(`= ?`, c.v.dateKey(e.Path)))
	for _, b := range e.Bounds {
		in = in.With(gate.SQL(`AND`), compare(end(x, b.End), b.Op, stamp(b.T)))
	}
	return ranged(s, x, in)
}

// ranged says that the resource has a row x of those that in chooses. Rows of
// ranges are in no order that other rows are in; where nothing else narrows the
// search, they are looked up first.
func ranged(s scope, x gate.Row, in gate.Clause) gate.Clause {
	if s.alone {
		return s.anchor.Col("rid").With(gate.SQL(`= ANY (ARRAY(SELECT`), x.Col("rid"), gate.SQL(`FROM`), in, gate.SQL(`))`))
	}
	return gate.SQL(`EXISTS (SELECT 1 FROM`).With(in, gate.SQL(`AND`), x.Col("rid"), gate.SQL(`=`), s.anchor.Col("rid"), s.end())
}

// mainDate is date for the element that dates the type: ts is its beginning,
// which every index is in order of, and te its end.
func mainDate(s scope, bounds []search.DateBound) gate.Clause {
	*s.needs = true
	out := gate.SQL(`(`).With(s.res.Col("te"), gate.SQL(`IS NOT NULL`))
	for _, b := range bounds {
		col := s.anchor.Col("ts")
		if b.End == search.Hi {
			col = s.res.Col("te")
		}
		out = out.With(gate.SQL(`AND`), compare(col, b.Op, stamp(b.T)))
	}
	return out.With(gate.SQL(`)`))
}

func (c *compiler) number(s scope, e search.InNumber) gate.Clause {
	x := c.row()
	in := from(gate.SQL(`~idx_num`), x).With(x.Col("key"), gate.SQL(`= ?`, c.v.numberKey(e.Path, e.Unit)))
	for _, b := range e.Bounds {
		in = in.With(gate.SQL(`AND`), compare(end(x, b.End), b.Op, finite(b.V)))
	}
	return ranged(s, x, in)
}

func end(x gate.Row, e search.End) gate.Clause {
	if e == search.Hi {
		return x.Col("hi")
	}
	return x.Col("lo")
}

func compare(col gate.Clause, op search.Op, value any) gate.Clause {
	switch op {
	case search.LT:
		return col.With(gate.SQL(`< ?`, value))
	case search.LE:
		return col.With(gate.SQL(`<= ?`, value))
	case search.GT:
		return col.With(gate.SQL(`> ?`, value))
	case search.GE:
		return col.With(gate.SQL(`>= ?`, value))
	}
	return col.With(gate.SQL(`= ?`, value))
}

// maxTargets is how many targets of a chain are looked up first; with more the
// chain is a join.
const maxTargets = 1000

// chain holds where a reference points at a resource for which e.X holds; see
// along.
func (c *compiler) chain(ctx context.Context, s scope, e search.Chain) (gate.Clause, error) {
	p, inner, err := c.along(ctx, e.Type, e.ByPolicy, e.X)
	if err != nil {
		return gate.Clause{}, err
	}
	if e.Canonical {
		return c.citing(ctx, s, p, e, inner)
	}
	keys := c.v.linkKeys(e)
	f, err := c.follow(ctx, p, e, inner)
	if err != nil {
		return gate.Clause{}, err
	}
	if f.complete {
		if len(f.targets) == 0 {
			return never, nil
		}
		return c.refs(s, keys, f.targets), nil
	}
	x, y := c.row(), c.row()
	needs := true
	cond, err := c.cond(ctx, scope{on: e.Type, anchor: y, res: y, needs: &needs}, inner)
	if err != nil {
		return gate.Clause{}, err
	}
	return gate.SQL(`EXISTS (SELECT 1 FROM ~idx_ref`).With(x.Alias(), gate.SQL(`JOIN ~resource`), y.Alias(),
		gate.SQL(`ON`), y.Col("tenant_id"), gate.SQL(`= $1 AND`), y.Col("rid"), gate.SQL(`=`), x.Col("target"),
		gate.SQL(`AND`), y.Col("type"), gate.SQL(`= ? AND NOT`, e.Type.Number()), y.Col("deleted"),
		gate.SQL(`WHERE`), x.Col("tenant_id"), gate.SQL(`= $1 AND`), oneOf(x.Col("key"), keys), gate.SQL(`AND`), same(x, s),
		gate.SQL(`AND`), cond, gate.SQL(`)`)), nil
}

// follow returns the targets of the chain, and looks them up if they are not
// known.
func (c *compiler) follow(ctx context.Context, p smart.Permit, e search.Chain, inner search.Expr) (*reached, error) {
	for _, f := range c.followed {
		if search.Equal(f.chain, e) {
			return f, nil
		}
	}
	f := &reached{chain: e}
	var err error
	if f.targets, f.complete, err = c.v.targets(ctx, p, e.Type, inner); err != nil {
		return nil, err
	}
	c.followed = append(c.followed, f)
	return f, nil
}

// followAll looks up the targets of the chains of a policy in where, in one
// statement.
func (c *compiler) followAll(ctx context.Context, where search.Expr) error {
	var list []*reached
	var stmt gate.Clause
	for _, link := range search.Links(where) {
		e, ok := link.(search.Chain)
		if !ok || e.Canonical || !answered(e.X) || isFollowed(c.followed, e) {
			continue
		}
		at := len(list)
		list = append(list, &reached{chain: e})
		from, cond, s, err := c.v.statement(ctx, plan{on: e.Type, permit: c.permit, where: e.X, exact: true}, false)
		if err != nil {
			return err
		}
		one := gate.SQL(`(SELECT ?::int,`, at).With(s.anchor.Col("rid"), gate.SQL(`FROM`), from, gate.SQL(`WHERE`), cond, gate.SQL(`LIMIT ?)`, maxTargets+1))
		if at > 0 {
			one = stmt.With(gate.SQL(`UNION ALL`), one)
		}
		stmt = one
	}
	if len(list) < 2 {
		return nil // it is looked up where it is met
	}
	rows, err := c.v.query(ctx, c.permit, stmt)
	if err != nil {
		return fmt.Errorf("following the chains of a policy: %w", err)
	}
	var at int
	var rid int64
	_, err = pgx.ForEachRow(rows, []any{&at, &rid}, func() error {
		list[at].targets = append(list[at].targets, rid)
		return nil
	})
	if err != nil {
		return fmt.Errorf("following the chains of a policy: %w", err)
	}
	for _, f := range list {
		f.complete = len(f.targets) <= maxTargets
	}
	c.followed = append(c.followed, list...)
	return nil
}

// along returns the permit to follow a chain with, and the condition at its end:
// what the asker may search, or for a policy all there is, of which nothing is
// shown.
func (c *compiler) along(ctx context.Context, to fhir.Type, byPolicy bool, x search.Expr) (smart.Permit, search.Expr, error) {
	if byPolicy {
		return c.permit, x, nil
	}
	p, err := c.v.gate.Permit(fhir.SearchType, to)
	if err != nil {
		return p, nil, err
	}
	where, by, err := c.v.where(ctx, p)
	if by != nil {
		where = and(where, search.Consented{By: by})
	}
	return p, and(x, where), err
}

// linkKeys returns the keys of the references that the chain goes by.
func (v *View) linkKeys(e search.Chain) []int64 {
	keys := make([]int64, len(e.Paths))
	for i, path := range e.Paths {
		keys[i] = v.refKey(path, search.Token{})
	}
	return keys
}

// maxPatients is of how many patients, listed or found by a chain, the
// references are begun with.
const maxPatients = 20

// A beginning is rows that a statement begins with. They are known if there are
// few of them. The rest is what of the conjunction they do not say.
type beginning struct {
	known bool
	from  gate.Clause
	rest  search.And
}

// beginAt begins a statement with the references to the patients that its first
// member names, if they are few: then it needs no plan of its own, which costs more
// than running it. A token that the index holds joined with the reference is looked
// up along with it.
func (c *compiler) beginAt(ctx context.Context, s *scope, b start) (beginning, error) {
	path, pair, targets, err := c.patients(ctx, b.first())
	if err != nil || len(targets) > maxPatients {
		return beginning{}, err
	}
	rest := b.others()
	if pair == (search.Token{}) {
		at := slices.IndexFunc(rest, func(e search.Expr) bool {
			tok, ok := e.(search.HasToken)
			return ok && search.Paired(s.on, path, search.Token(tok))
		})
		if at >= 0 {
			pair, rest = search.Token(rest[at].(search.HasToken)), slices.Delete(slices.Clone(rest), at, at+1)
		}
	}
	slices.Sort(targets)
	targets = slices.Compact(targets)
	x, y, z := c.row(), c.row(), c.row()
	s.anchor, s.few, s.custom = x, true, false
	// One look-up for each patient, which OFFSET 0 keeps apart: of key = and
	// target = ANY the planner makes a walk over all that refers to anybody
	// where it takes the key for an average one. All of them are put in order
	// before the first resource is looked at: a page needs few.
	return beginning{true, gate.SQL(`(SELECT`).With(x.Col("ts"), gate.SQL(`,`), x.Col("rid"), gate.SQL(`FROM unnest(?::bigint[]) AS`, targets), y.Alias(),
		gate.SQL(`(target), LATERAL (SELECT`), z.Col("ts"), gate.SQL(`,`), z.Col("rid"),
		from(gate.SQL(`FROM ~idx_ref`), z), z.Col("key"), gate.SQL(`= ? AND`, c.v.refKey(path, pair)),
		z.Col("target"), gate.SQL(`=`), y.Col("target"), gate.SQL(`OFFSET 0) AS`), x.Alias(),
		gate.SQL(`ORDER BY`), x.Col("ts"), gate.SQL(`DESC,`), x.Col("rid"), gate.SQL(`DESC OFFSET 0) AS`), x.Alias()), rest}, nil
}

// eachOf looks the resource up for each row of from, which OFFSET 0 keeps the planner
// from turning round: they stay in their order, and are looked at no further than a
// page goes.
func (c *compiler) eachOf(rows, rid gate.Clause, on fhir.Type) gate.Clause {
	z := c.row()
	return rows.With(gate.SQL(`, LATERAL (SELECT`), z.Col("*"), from(gate.SQL(`FROM ~resource`), z), z.Col("rid"), gate.SQL(`=`), rid, gate.SQL(`AND`), z.Col("type"), gate.SQL(`= ? AND NOT`, on.Number()), z.Col("deleted"), gate.SQL(`OFFSET 0) AS r`))
}

// beginStanding begins a statement with the patients to whom somebody stands.
func (c *compiler) beginStanding(s *scope, e search.Expr) gate.Clause {
	x := c.row()
	s.few = true
	return c.eachOf(gate.SQL(`(`).With(c.listed(e), gate.SQL(`) AS`), x.Alias(), gate.SQL(`(rid)`)), x.Col("rid"), s.on)
}

// listed selects the rids of the patients, each once.
func (c *compiler) listed(e search.Expr) gate.Clause {
	list, ok := e.(search.Or)
	if !ok {
		list = search.Or{e}
	}
	var out gate.Clause
	add := func(one gate.Clause) {
		if !out.IsZero() {
			one = out.With(gate.SQL(`UNION`), one)
		}
		out = one
	}
	for _, e := range list {
		x := c.row()
		switch e := e.(type) {
		case search.ReverseChain:
			now := stamp(e.Stand.At)
			add(from(gate.SQL(`SELECT DISTINCT`).With(x.Col("target"), gate.SQL(`FROM ~idx_standing`)), x).With(
				x.Col("key"), gate.SQL(`= ? AND`, c.v.standKey(e.Stand.How, e.Stand.Who)),
				x.Col("lo"), gate.SQL(`<= ? AND`, now), x.Col("hi"), gate.SQL(`> ?`, now)))
		case search.HasReference:
			add(from(gate.SQL(`SELECT DISTINCT`).With(x.Col("rid"), gate.SQL(`FROM ~idx_ref`)), x).With(
				x.Col("key"), gate.SQL(`= ? AND`, c.v.refKey(e.Path, e.Pair)), x.Col("target"), gate.SQL(`= ?`, c.v.target(e.Target))))
		case search.Or:
			add(c.listed(e))
		}
	}
	return out
}

// beginIn has the search begin with what refers to one patient by any of the
// elements, each resource once.
func (c *compiler) beginIn(s *scope, or search.Or) gate.Clause {
	var keys []int64
	for _, x := range or {
		keys = append(keys, c.v.refKey(x.(search.HasReference).Path, search.Token{}))
	}
	x, z := c.row(), c.row()
	s.anchor, s.few = x, true
	return gate.SQL(`(SELECT DISTINCT`).With(z.Col("ts"), gate.SQL(`,`), z.Col("rid"), from(gate.SQL(`FROM ~idx_ref`), z),
		oneOf(z.Col("key"), keys), gate.SQL(`AND`), z.Col("target"), gate.SQL(`= ?) AS`, c.v.target(or[0].(search.HasReference).Target)), x.Alias())
}

// patients returns the patients that e names, and by which element, with the token
// that is joined with it. A chain's are kept, so that they are not looked up twice; if
// not all of them are known they are more than a statement begins with.
func (c *compiler) patients(ctx context.Context, e search.Expr) (path search.Path, pair search.Token, targets []int64, err error) {
	if list, ok := e.(search.Or); ok {
		for _, x := range list {
			ref := x.(search.HasReference)
			path, pair, targets = ref.Path, ref.Pair, append(targets, c.v.target(ref.Target))
		}
		return path, pair, targets, nil
	}
	chain := e.(search.Chain)
	p, inner, err := c.along(ctx, chain.Type, chain.ByPolicy, chain.X)
	if err != nil {
		return "", pair, nil, err
	}
	f, err := c.follow(ctx, p, chain, inner)
	if err != nil {
		return "", pair, nil, err
	}
	return chain.Paths[0], pair, slices.Clone(f.targets), nil
}

// reverse holds where a resource for which e.X holds points at this one; see
// along.
func (c *compiler) reverse(ctx context.Context, s scope, e search.ReverseChain) (gate.Clause, error) {
	p, inner, err := c.along(ctx, e.Type, e.ByPolicy, e.X)
	if err != nil {
		return gate.Clause{}, err
	}
	if e.Canonical {
		return c.cited(ctx, s, p, e, inner)
	}
	keys := make([]int64, len(e.Paths))
	for i, path := range e.Paths {
		keys[i] = c.v.refKey(path, e.Pair)
	}
	if !answered(inner) {
		return c.reverseOpened(ctx, s, p, e, inner)
	}
	x, y := c.row(), c.row()
	needs := false
	cond, err := c.cond(ctx, scope{on: e.Type, anchor: x, res: y, needs: &needs, few: s.few}, inner)
	if err != nil {
		return gate.Clause{}, err
	}
	out := gate.SQL(`EXISTS (SELECT 1 FROM ~idx_ref`).With(x.Alias())
	if needs {
		out = out.With(gate.SQL(`JOIN ~resource`), y.Alias(), gate.SQL(`ON`), y.Col("tenant_id"), gate.SQL(`= $1 AND`),
			y.Col("rid"), gate.SQL(`=`), x.Col("rid"))
	}
	return out.With(gate.SQL(`WHERE`), x.Col("tenant_id"), gate.SQL(`= $1 AND`), oneOf(x.Col("key"), keys), gate.SQL(`AND`),
		x.Col("target"), gate.SQL(`=`), s.anchor.Col("rid"), gate.SQL(`AND`), cond, s.end()), nil
}

// reverseOpened is reverse where bodies must be opened to know whether e.X
// holds: it collects what they refer to.
func (c *compiler) reverseOpened(ctx context.Context, s scope, p smart.Permit, e search.ReverseChain, inner search.Expr) (gate.Clause, error) {
	if e.Pair != (search.Token{}) { // which is joined with the reference, and no part of inner
		inner = and(inner, search.HasToken(e.Pair))
	}
	rids := []int64{} // not nil, which would be NULL, and its denial too
	err := c.v.scan(ctx, newPlan(e.Type, p, inner), func(r row, res fhir.Resource) error {
		d, err := fhir.Reopen(res.Body)
		if err != nil {
			return err
		}
		for _, ref := range c.v.schema.References(d, e.Paths) {
			rids = append(rids, c.v.rid(ref))
		}
		return nil
	})
	if err != nil {
		return gate.Clause{}, err
	}
	return s.anchor.Col("rid").With(gate.SQL(`= ANY(?::bigint[])`, rids)), nil
}

// citing is chain by canonical URL: it collects what the targets call
// themselves, which only their bodies tell.
func (c *compiler) citing(ctx context.Context, s scope, p smart.Permit, e search.Chain, inner search.Expr) (gate.Clause, error) {
	list, err := c.v.named(ctx, p, e.Type, inner, func(d *fhir.Document) []search.Canonical {
		if name, ok := search.CanonicalOf(d); ok {
			return []search.Canonical{name}
		}
		return nil
	})
	if err != nil {
		return gate.Clause{}, err
	}
	return c.cond(ctx, s, search.Cites(e.Paths, list))
}

// cited is reverse by canonical URL.
func (c *compiler) cited(ctx context.Context, s scope, p smart.Permit, e search.ReverseChain, inner search.Expr) (gate.Clause, error) {
	list, err := c.v.named(ctx, p, e.Type, inner, func(d *fhir.Document) []search.Canonical {
		return c.v.schema.Canonicals(d, e.Paths)
	})
	if err != nil {
		return gate.Clause{}, err
	}
	return c.cond(ctx, s, search.Called(s.on, list))
}

// named collects canonical URLs of the resources of the type for which where
// holds.
func (v *View) named(ctx context.Context, p smart.Permit, on fhir.Type, where search.Expr, of func(*fhir.Document) []search.Canonical) ([]search.Canonical, error) {
	var list []search.Canonical
	err := v.scan(ctx, newPlan(on, p, where), func(_ row, res fhir.Resource) error {
		d, err := fhir.Reopen(res.Body)
		if err != nil {
			return err
		}
		for _, name := range of(d) {
			if !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
		if len(list) > maxTargets {
			return fhir.Errorf(fhir.TooCostly, "the search follows more than %d canonical URLs", maxTargets)
		}
		return nil
	})
	return list, err
}

// answered reports whether the SQL for e decides it, so that no body need be
// held against it. Chains are always decided: what an index cannot tell of
// their targets is looked up first.
func answered(e search.Expr) bool {
	switch e.(type) {
	case search.And, search.Or, search.Not:
		return !slices.ContainsFunc(search.Members(e), func(x search.Expr) bool { return !answered(x) })
	case search.Chain, search.ReverseChain:
		return true
	case search.Consented:
		return false
	}
	return search.Exact(e)
}

// conjunction returns e as a conjunction, if need be of itself alone.
func conjunction(e search.Expr) search.And {
	if list, ok := e.(search.And); ok {
		return list
	}
	return search.And{e}
}

// and joins two conditions without nesting where one of them is none.
func and(a, b search.Expr) search.Expr {
	switch {
	case all(b):
		return a
	case all(a):
		return b
	}
	if list, ok := a.(search.And); ok {
		return append(list[:len(list):len(list)], b)
	}
	return search.And{a, b}
}
