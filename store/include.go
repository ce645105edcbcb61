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

// maxIncluded and maxIncludedBytes bound what _include and _revinclude may add
// to a page, and maxRounds how often :iterate goes round.
const (
	maxIncluded      = 5000
	maxIncludedBytes = 64 << 20
	maxRounds        = 16
)

func tooManyIncluded() error {
	return fhir.Errorf(fhir.TooCostly, "the includes would add too much to the page; ask for a smaller one")
}

// include returns what q's includes add to the matches: what the Grant may
// see, each resource once. Types that it does not reach are left out without a
// word.
// https://hl7.org/fhir/R4/search.html#revinclude
func (v *View) include(ctx context.Context, q *search.Query, matches []fhir.Resource) ([]fhir.Resource, error) {
	have := map[fhir.Ref]bool{}
	for _, r := range matches {
		have[r.Ref] = true
	}
	var all []fhir.Resource
	bytes := 0
	fresh := matches
	for round := 0; len(fresh) > 0; round++ {
		if round == maxRounds {
			return nil, fhir.Errorf(fhir.TooCostly, "the includes go round more than %d times", maxRounds)
		}
		var next []fhir.Resource
		for _, inc := range q.Include {
			if round > 0 && !inc.Iterate {
				continue
			}
			var found []fhir.Resource
			var err error
			if inc.Reverse {
				found, err = v.including(ctx, inc, fresh)
			} else {
				found, err = v.included(ctx, inc, fresh, have)
			}
			if err != nil {
				return nil, err
			}
			for _, r := range found {
				if !have[r.Ref] {
					have[r.Ref] = true
					next = append(next, r)
					bytes += len(r.Body)
				}
			}
			if len(all)+len(next) > maxIncluded || bytes > maxIncludedBytes {
				return nil, tooManyIncluded()
			}
		}
		all = append(all, next...)
		fresh = next
	}
	return all, nil
}

// included follows references out of the sources.
func (v *View) included(ctx context.Context, inc search.Include, sources []fhir.Resource, have map[fhir.Ref]bool) ([]fhir.Resource, error) {
	wanted := map[fhir.Type][]int64{}
	asked := map[fhir.Ref]bool{}
	var names []search.Canonical
	for _, r := range sources {
		if inc.Source != "" && r.Ref.Type != inc.Source {
			continue
		}
		d, err := fhir.Reopen(r.Body)
		if err != nil {
			return nil, err
		}
		paths, cited := v.followed(inc, r.Ref.Type)
		for _, name := range v.schema.Canonicals(d, cited) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		for _, ref := range v.schema.References(d, paths) {
			if inc.Target != "" && ref.Type != inc.Target || have[ref] || asked[ref] {
				continue
			}
			if asked[ref] = true; len(asked) > maxIncluded {
				return nil, tooManyIncluded()
			}
			wanted[ref.Type] = append(wanted[ref.Type], v.rid(ref))
		}
	}
	var all []fhir.Resource
	for _, t := range fhir.Types {
		rids := wanted[t]
		if len(rids) == 0 {
			continue
		}
		p, err := v.gate.Permit(fhir.SearchType, t)
		if fhir.IsCode(err, fhir.Forbidden) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := v.openable(ctx, p, t, gate.SQL(`
			SELECT rid, id, version, updated, body
			FROM   ~resource
			WHERE  tenant_id = $1 AND type = ? AND rid = ANY(?::bigint[]) AND NOT deleted
			ORDER  BY id`, t.Number(), rids))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	named, err := v.calledBy(ctx, inc, names)
	return append(all, named...), err
}

// followed returns the elements of the type that inc follows: with references,
// and with canonical URLs. If inc is of all of them, they are those that the
// Grant may see.
func (v *View) followed(inc search.Include, t fhir.Type) (paths, cited []search.Path) {
	if inc.All {
		return slices.DeleteFunc(slices.Clone(search.ReferencePaths(t)), v.hides), slices.DeleteFunc(slices.Clone(search.CanonicalPaths(t)), v.hides)
	}
	return inc.Paths, inc.Cited
}

// calledBy returns the resources that the canonical URLs name.
func (v *View) calledBy(ctx context.Context, inc search.Include, names []search.Canonical) ([]fhir.Resource, error) {
	if len(names) == 0 {
		return nil, nil
	}
	if len(names) > maxTargets {
		return nil, tooManyIncluded()
	}
	var all []fhir.Resource
	for _, t := range search.CanonicalTypes() {
		if inc.Target != "" && t != inc.Target {
			continue
		}
		found, err := v.includingSome(ctx, t, search.Called(t, names))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// including follows references to what was found, backwards.
func (v *View) including(ctx context.Context, inc search.Include, found []fhir.Resource) ([]fhir.Resource, error) {
	var rids []int64
	var targets []string
	var names []search.Canonical
	for _, r := range found {
		if inc.Target != "" && r.Ref.Type != inc.Target {
			continue
		}
		rids, targets = append(rids, v.rid(r.Ref)), append(targets, r.Ref.String())
		if !search.HasURL(r.Ref.Type) {
			continue
		}
		d, err := fhir.Reopen(r.Body)
		if err != nil {
			return nil, err
		}
		if name, ok := search.CanonicalOf(d); ok {
			names = append(names, name)
		}
	}
	paths, cited := v.followed(inc, inc.Source)
	citing, err := v.includingSome(ctx, inc.Source, search.Cites(cited, names))
	if err != nil || len(rids) == 0 || len(paths) == 0 {
		return citing, err
	}
	p, err := v.gate.Permit(fhir.SearchType, inc.Source)
	if fhir.IsCode(err, fhir.Forbidden) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	free, err := v.free(ctx, p)
	if err != nil {
		return nil, err
	}
	if !free {
		var refer search.Or
		for _, path := range paths {
			for _, t := range targets {
				refer = append(refer, search.HasReference{Path: path, Target: t})
			}
		}
		referring, err := v.includingSome(ctx, inc.Source, refer)
		return append(citing, referring...), err
	}
	keys := make([]int64, len(paths))
	for i, path := range paths {
		keys[i] = v.refKey(path, search.Token{})
	}
	referring, err := v.openable(ctx, p, inc.Source, gate.SQL(`
		SELECT r.rid, r.id, r.version, r.updated, r.body
		FROM   (SELECT DISTINCT x.ts, x.rid FROM ~idx_ref x
		        WHERE  x.tenant_id = $1 AND x.key = ANY(?::bigint[]) AND x.target = ANY(?::bigint[])
		        ORDER  BY x.ts DESC, x.rid DESC LIMIT ?) f
		JOIN   ~resource r ON r.tenant_id = $1 AND r.rid = f.rid
		WHERE  NOT r.deleted
		ORDER  BY f.ts DESC, f.rid DESC`, keys, rids, maxIncluded+1))
	return append(citing, referring...), err
}

// includingSome searches the part of the type that the Grant allows: what else
// there is, however much, takes no room. Of a type that the Grant does not
// reach there is nothing.
func (v *View) includingSome(ctx context.Context, on fhir.Type, where search.Expr) ([]fhir.Resource, error) {
	if nothing, ok := where.(search.Or); ok && len(nothing) == 0 {
		return nil, nil
	}
	p, err := v.gate.Permit(fhir.SearchType, on)
	if fhir.IsCode(err, fhir.Forbidden) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pl, err := v.plan(ctx, p, on, where)
	if err != nil {
		return nil, err
	}
	to := &sheet{size: maxIncluded}
	err = v.indexed(ctx, []plan{pl}, newest, position{}, to)
	if err == nil && to.full {
		err = tooManyIncluded()
	}
	return to.found, err
}

// openable runs q, which returns rid, id, version, updated and body of
// resources of one type, and opens those that the permit covers.
func (v *View) openable(ctx context.Context, p smart.Permit, t fhir.Type, q gate.Clause) ([]fhir.Resource, error) {
	rows, err := v.query(ctx, p, q)
	if err != nil {
		return nil, fmt.Errorf("including %s: %w", t, err)
	}
	list, err := pgx.CollectRows(rows, func(rows pgx.CollectableRow) (row, error) {
		r := row{ref: fhir.Ref{Type: t}}
		err := rows.Scan(&r.rid, &r.ref.ID, &r.version, &r.updated, &r.body)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("including %s: %w", t, err)
	}
	var opened []fhir.Resource
	bytes := 0
	for _, r := range list {
		res, err := v.open(r)
		if err != nil {
			return nil, err
		}
		if bytes += len(res.Body); bytes > maxIncludedBytes {
			return nil, tooManyIncluded()
		}
		opened = append(opened, res)
	}
	covered, err := v.cover(ctx, p, opened...)
	if err != nil {
		return nil, err
	}
	var found []fhir.Resource
	for i, res := range opened {
		if covered[i] {
			found = append(found, res)
		}
	}
	return found, nil
}
