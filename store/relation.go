package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A relation is a chain that an access policy asks of resources, and what is at
// its end.
type relation struct {
	link search.Expr
	end  *ending
}

// An ending is a condition on resources at the end of relations, and for which
// of them it is known to hold.
type ending struct {
	on    fhir.Type
	where search.Expr
	alive bool           // only what is not deleted counts
	holds map[int64]bool // by rid
}

// related returns the relations in where.
func (v *View) related(on fhir.Type, where search.Expr) []relation {
	var list []relation
	for _, link := range search.Links(where) {
		e := &ending{on: on, where: link, holds: map[int64]bool{}}
		if chain, ok := link.(search.Chain); ok {
			e.on, e.where, e.alive = chain.Type, chain.X, true
		}
		list = append(list, relation{link, v.ending(e)})
	}
	return list
}

// ending returns what is known of an ending in this snapshot, or e, of which
// nothing is. A Tx sees its own writes and those of others, so that it asks each
// time.
func (v *View) ending(e *ending) *ending {
	if v.writes != nil {
		return e
	}
	if had := v.knownEnding(e); had != nil {
		return had
	}
	v.endings = append(v.endings, e)
	return e
}

// knownEnding returns what is known of an ending, nil if that is nothing.
func (v *View) knownEnding(e *ending) *ending {
	for _, had := range v.endings {
		if had.on == e.on && had.alive == e.alive && search.Equal(had.where, e.where) {
			return had
		}
	}
	return nil
}

// ends returns the resources at the end of the relation for the document of a
// resource: those it refers to, or itself. A new text has the references of its
// own, whatever the version before had.
func (r relation) ends(v *View, ref fhir.Ref, d *fhir.Document) []int64 {
	chain, ok := r.link.(search.Chain)
	if !ok {
		return []int64{v.rid(ref)}
	}
	var rids []int64
	for _, to := range v.schema.References(d, chain.Paths) {
		if to.Type == chain.Type {
			rids = append(rids, v.rid(to))
		}
	}
	return rids
}

// An asking is of an ending for resources.
type asking struct {
	end  *ending
	rids []int64
}

// ask finds out for which of the resources each ending holds, all in one statement
// under p. Nothing of them is shown.
func (v *View) ask(ctx context.Context, p smart.Permit, list ...asking) error {
	c := &compiler{v: v, permit: p}
	var stmt gate.Clause
	for i, a := range list {
		list[i].rids = slices.DeleteFunc(unique(a.rids), func(rid int64) bool {
			_, known := a.end.holds[rid]
			return known
		})
		if len(list[i].rids) == 0 {
			continue
		}
		one, err := c.asked(ctx, i, list[i])
		if err != nil {
			return err
		}
		if !stmt.IsZero() {
			one = stmt.With(gate.SQL(`UNION ALL`), one)
		}
		stmt = one
	}
	if stmt.IsZero() {
		return nil
	}
	rows, err := v.query(ctx, p, stmt)
	if err != nil {
		return fmt.Errorf("asking how a resource is related: %w", err)
	}
	for _, a := range list {
		for _, rid := range a.rids {
			a.end.holds[rid] = false
		}
	}
	var at int
	var rid int64
	_, err = pgx.ForEachRow(rows, []any{&at, &rid}, func() error {
		list[at].end.holds[rid] = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("asking how a resource is related: %w", err)
	}
	return nil
}

// asked is the statement that returns, beside at, for which of the resources the
// ending holds.
func (c *compiler) asked(ctx context.Context, at int, a asking) (gate.Clause, error) {
	needs := true
	cond, err := c.cond(ctx, scope{on: a.end.on, needs: &needs, few: true}, a.end.where)
	if err != nil {
		return gate.Clause{}, err
	}
	if a.end.alive {
		cond = gate.SQL(`NOT r.deleted AND`).With(cond)
	}
	return gate.SQL(`
		SELECT ?::int, r.rid
		FROM   ~resource r
		WHERE  r.tenant_id = $1 AND r.rid = ANY(?::bigint[]) AND r.type = ? AND`, at, a.rids, a.end.on.Number()).With(cond), nil
}

// settled returns the condition where of p as it is for each of the resources: what a
// policy asks about others is answered.
func (v *View) settled(ctx context.Context, p smart.Permit, where search.Expr, resources ...fhir.Resource) ([]search.Expr, error) {
	out := make([]search.Expr, len(resources))
	relations := v.related(p.On(), where)
	if len(relations) == 0 {
		for i := range out {
			out[i] = where
		}
		return out, nil
	}
	ends := make([][][]int64, len(resources)) // of each resource and relation
	for i, res := range resources {
		err := fhir.Peek(res.Body, func(d *fhir.Document) error {
			for _, r := range relations {
				ends[i] = append(ends[i], r.ends(v, res.Ref, d))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	list := make([]asking, len(relations))
	for j, r := range relations {
		list[j].end = r.end
	}
	for i := range resources {
		if decided(where, relations, ends[i]) {
			continue
		}
		for j := range relations {
			list[j].rids = append(list[j].rids, ends[i][j]...)
		}
	}
	if err := v.ask(ctx, p, list...); err != nil {
		return nil, err
	}
	if v.writes != nil {
		v.endings = v.endings[:0] // for what the trail says of this decision, and no other
		for _, r := range relations {
			v.endings = append(v.endings, r.end)
		}
	}
	for i := range resources {
		out[i] = search.Settle(where, func(link search.Expr) (holds, known bool) {
			j := slices.IndexFunc(relations, func(r relation) bool { return search.Equal(r.link, link) })
			return j >= 0 && slices.ContainsFunc(ends[i][j], func(rid int64) bool { return relations[j].end.holds[rid] }), true
		})
	}
	return out, nil
}

// decided reports whether what is known of the relations decides them all: what of them
// is not known is of no matter.
func decided(where search.Expr, relations []relation, ends [][]int64) bool {
	left := search.Settle(where, func(link search.Expr) (holds, known bool) {
		j := slices.IndexFunc(relations, func(r relation) bool { return search.Equal(r.link, link) })
		known = true
		for _, rid := range ends[j] {
			is, told := relations[j].end.holds[rid]
			holds, known = holds || is, known && told
		}
		return holds, holds || known
	})
	return len(search.Links(search.Simplify(left))) == 0
}

// maxNamed bounds the patients of whom is asked what else holds of them.
const maxNamed = 200

// namedBy returns which patients e lets a resource refer to, and by which element,
// if it says that and they are few. A chain of a policy is looked up for that, and
// what else is asked of those patients along with it.
func (v *View) namedBy(ctx context.Context, p smart.Permit, e search.Expr, asked []relation) (path search.Path, rids []int64, f *reached, err error) {
	if ref, ok := e.(search.HasReference); ok {
		to, err := fhir.ParseRef(ref.Target)
		if err != nil || to.Type != "Patient" || to.String() != ref.Target || !search.IsSingle(ref.Path) {
			return "", nil, nil, nil
		}
		return ref.Path, []int64{v.rid(to)}, nil, nil
	}
	chain, ok := e.(search.Chain)
	if !ok || !chain.ByPolicy || !toPatients(chain) {
		return "", nil, nil, nil
	}
	var ends []*ending
	for _, r := range asked {
		if c := r.link.(search.Chain); c.Paths[0] == chain.Paths[0] && !search.Equal(c, chain) {
			ends = append(ends, r.end)
		}
	}
	f = &reached{chain: chain}
	if f.targets, f.complete, err = v.targets(ctx, p, chain.Type, chain.X, ends...); err != nil || !f.complete || len(f.targets) > maxNamed {
		return "", nil, f, err
	}
	return chain.Paths[0], f.targets, f, nil
}

// settledFor returns the condition where of p as it is if it says which few
// patients a resource is about: what else a policy asks about these is answered,
// and need not be found out about everybody. What holds for some of them stays,
// with the answer in followed.
func (v *View) settledFor(ctx context.Context, p smart.Permit, where search.Expr) (settled search.Expr, followed []*reached, err error) {
	if len(search.Links(where)) == 0 {
		return where, nil, nil
	}
	ofPatients := slices.DeleteFunc(v.related(p.On(), where), func(r relation) bool {
		chain, ok := r.link.(search.Chain)
		return !ok || chain.Type != "Patient" || len(chain.Paths) != 1
	})
	var path search.Path
	var rids []int64
	members := conjunction(where)
	at := max(slices.IndexFunc(members, toPatient), 0) // one patient is the fewest
	for i := range members {
		var f *reached
		if path, rids, f, err = v.namedBy(ctx, p, members[(at+i)%len(members)], ofPatients); err != nil {
			return nil, nil, err
		}
		if f != nil {
			followed = append(followed, f)
		}
		if path != "" || f != nil {
			break
		}
	}
	if path == "" {
		return where, followed, nil
	}
	var list []asking
	var chains []search.Chain
	for _, r := range ofPatients {
		chain := r.link.(search.Chain)
		if chain.Paths[0] == path && !isFollowed(followed, chain) {
			list, chains = append(list, asking{r.end, slices.Clone(rids)}), append(chains, chain)
		}
	}
	if err := v.ask(ctx, p, list...); err != nil {
		return nil, nil, err
	}
	for i, chain := range chains {
		f := &reached{chain: chain, complete: true}
		for _, rid := range rids {
			if list[i].end.holds[rid] {
				f.targets = append(f.targets, rid)
			}
		}
		followed = append(followed, f)
	}
	settled = search.Simplify(search.Settle(where, func(link search.Expr) (holds, known bool) {
		for _, f := range followed[len(followed)-len(chains):] {
			if search.Equal(f.chain, link) {
				return len(f.targets) > 0, len(f.targets) == 0 || len(f.targets) == len(rids)
			}
		}
		return false, false
	}))
	return settled, followed, nil
}

func isFollowed(list []*reached, chain search.Chain) bool {
	return slices.ContainsFunc(list, func(f *reached) bool { return search.Equal(f.chain, chain) })
}

// cover reports which of the opened resources p covers.
func (v *View) cover(ctx context.Context, p smart.Permit, resources ...fhir.Resource) ([]bool, error) {
	where, by, err := v.where(ctx, p)
	if err != nil {
		return nil, err
	}
	covered, err := v.meet(ctx, p, where, resources)
	if err != nil || by == nil {
		return covered, err
	}
	return covered, v.consented(ctx, p, by, resources, covered)
}

// meet reports which of the opened resources meet the condition where of p.
func (v *View) meet(ctx context.Context, p smart.Permit, where search.Expr, resources []fhir.Resource) ([]bool, error) {
	covered := make([]bool, len(resources))
	if all(where) {
		for i := range covered {
			covered[i] = true
		}
		return covered, nil
	}
	conditions, err := v.settled(ctx, p, where, resources...)
	if err != nil {
		return nil, err
	}
	for i, res := range resources {
		err := fhir.Peek(res.Body, func(d *fhir.Document) error {
			covered[i], err = search.Match(conditions[i], &res, v.schema.Index(d))
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return covered, nil
}

// covers is cover for one resource.
func (v *View) covers(ctx context.Context, p smart.Permit, r fhir.Resource) (bool, error) {
	ok, err := v.cover(ctx, p, r)
	return err == nil && ok[0], err
}

// Readable reports whether the Grant, which wrote the resource or found it by
// search, may see its content.
func (v *View) Readable(ctx context.Context, r fhir.Resource) (bool, error) {
	p, err := v.gate.Permit(fhir.Read, r.Ref.Type)
	if err != nil {
		return false, nil
	}
	ok, err := v.covers(ctx, p, r)
	if ok {
		v.keep(r)
	}
	return ok, err
}
