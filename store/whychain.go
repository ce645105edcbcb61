package store

import (
	"context"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
)

// A search finds a resource along a chain, or by _has, only by what who asks may see
// too. That is explained end by end, each as if it were asked for itself.

// following is what is found out about the chains of a search.
type following struct {
	*hearing
	policy *smart.Policy
}

// follow explains what the chains of the search lead to, from the resource if there
// is one.
func (h *hearing) follow(ctx context.Context, p *smart.Policy) error {
	if h.asked == "" || h.Interaction != fhir.SearchType || h.Decision == denied {
		return nil
	}
	params, err := search.ParseQuery(h.asked)
	if err != nil {
		return err
	}
	q, err := search.Parse(h.ref.Type, params, search.Options{Lenient: true, Base: h.schema.Base, Custom: h.schema.Custom})
	if err != nil && !h.since.IsZero() {
		h.remark("the chains of the search, if it had any, are not explained")
		return nil
	}
	if err != nil {
		return err
	}
	f := following{h, p}
	has, holds, err := f.chains(ctx, search.Simplify(q.Where), h.res)
	switch {
	case err != nil || h.Decision == denied:
		return err
	case !has:
		h.remark("the search follows no chain; what it asks of the resource itself is not explained")
	case h.res == nil:
		h.remark("what a chain leads to depends on each resource: ask for one by its id")
	case !holds:
		h.decided(denied, 404, "chain")
	}
	return nil
}

// chains reports whether e has chains, and whether the resource can be found by them;
// what else is asked is taken as met.
func (f following) chains(ctx context.Context, e search.Expr, res *fhir.Resource) (has, holds bool, err error) {
	switch e := e.(type) {
	case search.Chain:
		holds, err = f.leads(ctx, e.Type, e.X, res, func(d *fhir.Document) search.Expr { return f.endOf(e, d) })
		return true, holds, err
	case search.ReverseChain:
		holds, err = f.leads(ctx, e.Type, e.X, res, func(d *fhir.Document) search.Expr { return f.beginOf(e, res.Ref, d) })
		return true, holds, err
	}
	_, any := e.(search.Or)
	_, not := e.(search.Not)
	holds = !any
	for _, m := range search.Members(e) {
		hasOne, one, err := f.chains(ctx, m, res)
		if err != nil {
			return false, false, err
		}
		has = has || hasOne
		if any {
			holds = holds || one
		} else {
			holds = holds && one
		}
	}
	switch {
	case !has:
		return false, true, nil
	case not:
		return true, !holds, nil
	}
	return true, holds, nil
}

// leads explains one chain, and reports whether it leads to something of the type that
// meets what is asked and may be seen.
func (f following) leads(ctx context.Context, on fhir.Type, meets search.Expr, res *fhir.Resource, end func(*fhir.Document) search.Expr) (bool, error) {
	of, err := f.other(on)
	if err != nil {
		return false, err
	}
	if res == nil || of.refused() {
		if err := of.ofType(); err != nil {
			return false, err
		}
		f.hear(of, "is what a chain leads to")
		if of.Decision == denied {
			f.decided(denied, of.Status, of.By)
			return false, nil
		}
		_, _, err := f.chains(ctx, meets, nil)
		return true, err
	}
	var at search.Expr
	if err := fhir.Peek(res.Body, func(d *fhir.Document) error { at = end(d); return nil }); err != nil {
		return false, err
	}
	some := &sheet{size: maxFacts}
	pl := newPlan(on, of.permit, search.Simplify(search.And{at, unseen(meets)}))
	if err := f.indexed(ctx, []plan{pl}, newest, position{}, some); err != nil {
		return false, err
	}
	if len(some.found) == 0 {
		f.step(Step{Step: "chain", Name: string(on), Result: "leads to nothing that the search asks for"})
	}
	if some.full {
		f.remark("a chain leads to more of %s than the %d that are named", on, maxFacts)
	}
	found := false
	for _, one := range some.found {
		ok, err := f.reaches(ctx, one, meets)
		if err != nil {
			return false, err
		}
		found = found || ok
	}
	return found, nil
}

// reaches explains whether what a chain leads to may be seen, and what chains lead on
// to from there.
func (f following) reaches(ctx context.Context, one fhir.Resource, meets search.Expr) (bool, error) {
	of, err := f.other(one.Ref.Type)
	if err != nil {
		return false, err
	}
	of.ref, of.res = one.Ref, &one
	if err := of.ofResource(ctx, one, false); err != nil {
		return false, err
	}
	ok, says := of.Decision == allowed, "is led to, and may be seen"
	if !ok {
		says = "is led to, and hidden: decided by " + of.By
	}
	f.hear(of, says)
	if !ok {
		return false, nil
	}
	_, holds, err := f.chains(ctx, meets, &one)
	return holds, err
}

// other begins the hearing about another type.
func (f following) other(on fhir.Type) (*hearing, error) {
	h := &hearing{View: f.View, ref: fhir.Ref{Type: on}, since: f.since,
		Explanation: Explanation{Interaction: fhir.SearchType, Who: f.Who, At: f.At, Policy: f.Policy}}
	var err error
	if h.permit, err = f.grant.PermitInquiry(on); err != nil {
		return nil, err
	}
	h.ruling, err = f.policy.Rule(f.grant.Tenant(), f.Who, fhir.SearchType, on, f.At)
	return h, err
}

// hear adds the steps of the other hearing.
func (f following) hear(of *hearing, says string) {
	name := string(of.ref.Type)
	if of.ref.ID != "" {
		name = of.ref.String()
	}
	f.step(Step{Step: "chain", Name: name, Result: says})
	for _, s := range of.Steps {
		s.Of = name
		f.step(s)
	}
	f.Notes = append(f.Notes, of.Notes...)
}

// unseen returns e with chains that also lead to what nobody may see: which of it may
// be is explained.
func unseen(e search.Expr) search.Expr {
	switch e := e.(type) {
	case search.Chain:
		e.ByPolicy, e.X = true, unseen(e.X)
		return e
	case search.ReverseChain:
		e.ByPolicy, e.X = true, unseen(e.X)
		return e
	case search.And:
		return search.And(unseenAll(e))
	case search.Or:
		return search.Or(unseenAll(e))
	case search.Not:
		return search.Not{X: unseen(e.X)}
	}
	return e
}

func unseenAll(list []search.Expr) []search.Expr {
	out := make([]search.Expr, len(list))
	for i, e := range list {
		out[i] = unseen(e)
	}
	return out
}
