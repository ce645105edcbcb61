package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// An answer that is kept is given away only while who comes for it may still see
// every version of a resource that it shows: by a label, a consent, a care team or
// whatever else decides, as it is when they come. The same goes for what it tells
// of and does not show: what a number counts, and what a match was found by. So the
// answer is kept together with what it rests on.

// A basis is what a kept answer rests on.
type basis struct {
	// Shows is what it shows, counts, and found something by.
	Shows []audit.ShownVersion `json:"shows"`
	// Beyond are types of which it tells something to who may see all of them:
	// it holds for as long as they may.
	Beyond []fhir.Type `json:"beyond,omitempty"`
}

// keeps collects what the request shows, nil if its answer is not kept.
func (v *View) keeps() *audit.Shown { return v.grant.Origin().Trail.Shown }

// keptAt is the associated data of an answer that has its basis before it.
func (v *View) keptAt(id string) []byte { return append([]byte("kept2|"), v.answerOf(id)...) }

// sealAnswer seals the answer, and before it what it rests on. The files of an
// export have a basis of their own, and that of an import tells of no resource.
func (v *View) sealAnswer(w Work, answer []byte) ([]byte, error) {
	switch w.Kind {
	case Export:
		return v.keys.Seal(nil, answerKey, answer, v.answerOf(w.ID))
	case Import:
		return v.keys.Seal(nil, answerKey, answer, v.importedAt(w.ID))
	}
	shown := v.keeps()
	if shown == nil {
		return nil, errors.New("store: nobody knows what the answer shows")
	}
	var b basis
	b.Shows, b.Beyond = shown.All()
	plain, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return v.keys.Seal(nil, answerKey, append(append(plain, '\n'), answer...), v.keptAt(w.ID))
}

// openAnswer opens what sealAnswer sealed, if the Grant may still see it.
func (v *View) openAnswer(ctx context.Context, p smart.Permit, d Deferred, sealed []byte) ([]byte, error) {
	if d.Kind != Asked {
		place := v.answerOf(d.ID)
		if d.Kind == Import {
			place = v.importedAt(d.ID)
		}
		answer, err := v.keys.Open(answerKey, sealed, place)
		if err != nil {
			return nil, unknownAnswer()
		}
		return answer, nil
	}
	plain, err := v.keys.Open(answerKey, sealed, v.keptAt(d.ID))
	if err != nil {
		return nil, unknownAnswer()
	}
	head, answer, _ := bytes.Cut(plain, []byte{'\n'})
	var b basis
	if err := json.Unmarshal(head, &b); err != nil {
		return nil, fmt.Errorf("reading what an answer rests on: %w", err)
	}
	stands, err := v.stands(ctx, p, b)
	if err == nil && !stands {
		err = fhir.Errorf(fhir.Deleted, "not all that the answer shows may be seen any more; ask again")
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// stands reports whether the Grant may see all that an answer rests on.
func (v *View) stands(ctx context.Context, p smart.Permit, b basis) (bool, error) {
	for _, on := range b.Beyond {
		if free, err := v.seesEvery(ctx, on); err != nil || !free {
			return false, err
		}
	}
	for some := range slices.Chunk(b.Shows, maxFetch) {
		rows, err := v.asShown(ctx, p, some)
		if err != nil || rows == nil {
			return false, err
		}
		if ok, err := v.seesAll(ctx, rows); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// anyVersion is the version of what is shown without content, such as a deletion.
const anyVersion = 0

// asShown returns the versions, and the current ones of the same resources: as
// for Vread both decide. It is nil if one of them is not there any more.
func (v *View) asShown(ctx context.Context, p smart.Permit, list []audit.ShownVersion) ([]row, error) {
	rids, versions := make([]int64, len(list)), make([]int64, len(list))
	for i, s := range list {
		rids[i], versions[i] = s.RID, s.Version
	}
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT rid, type, id, version, updated, deleted, body, 0::bigint
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid = ANY(?::bigint[])
		UNION ALL
		SELECT h.rid, h.type, h.id, h.version, h.updated, h.deleted, h.body, 0
		FROM   unnest(?::bigint[], ?::bigint[]) AS k (rid, version)
		JOIN   ~history h ON h.tenant_id = $1 AND h.rid = k.rid AND h.version = k.version`, rids, rids, versions))
	if err != nil {
		return nil, fmt.Errorf("reading what an answer shows: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanVersion)
	if err != nil {
		return nil, fmt.Errorf("reading what an answer shows: %w", err)
	}
	there := map[audit.ShownVersion]bool{}
	for _, r := range found {
		there[audit.ShownVersion{RID: r.rid, Version: r.version}] = true
		there[audit.ShownVersion{RID: r.rid, Version: anyVersion}] = true
	}
	if slices.ContainsFunc(list, func(s audit.ShownVersion) bool { return !there[s] }) {
		return nil, nil
	}
	return found, nil
}

// seesAll reports whether the Grant may see all of the versions.
func (v *View) seesAll(ctx context.Context, rows []row) (bool, error) {
	permits := map[fhir.Type]smart.Permit{}
	for _, r := range rows {
		if _, ok := permits[r.ref.Type]; ok {
			continue
		}
		p, err := v.anyPermit(r.ref.Type)
		if err != nil || p.On() == "" {
			return false, err
		}
		permits[r.ref.Type] = p
	}
	seen, err := v.seen(ctx, permits, rows)
	return err == nil && !slices.Contains(seen, false), err
}

// seesEvery reports whether the Grant may see every resource of the type.
func (v *View) seesEvery(ctx context.Context, on fhir.Type) (bool, error) {
	p, err := v.anyPermit(on)
	if err != nil || p.On() == "" {
		return false, err
	}
	return v.free(ctx, p)
}

// keep notes that the answer tells of the resource.
func (v *View) keep(r fhir.Resource) {
	v.keeps().Add(audit.ShownVersion{RID: v.rid(r.Ref), Version: r.Version})
}

// keepFound is keepWitnesses for matches of q.
func (v *View) keepFound(ctx context.Context, q *search.Query, matches []fhir.Resource) error {
	for _, res := range matches {
		if err := v.keepWitnesses(ctx, q.On(res.Ref.Type), res); err != nil {
			return err
		}
	}
	return nil
}

// keepWitnesses notes what a match was found by, if the answer is kept: of what each
// chain of the search leads to from it, one resource that the Grant may see.
func (v *View) keepWitnesses(ctx context.Context, where search.Expr, res fhir.Resource) error {
	if v.keeps() == nil || !search.Follows(where) {
		return nil
	}
	return fhir.Peek(res.Body, func(d *fhir.Document) error { return v.keepWitness(ctx, where, res.Ref, d) })
}

// keepWitness is keepWitnesses for the document of one match.
func (v *View) keepWitness(ctx context.Context, where search.Expr, ref fhir.Ref, d *fhir.Document) error {
	var on fhir.Type
	var meets, end search.Expr
	switch e := where.(type) {
	case search.Chain:
		on, meets, end = e.Type, e.X, v.endOf(e, d)
	case search.ReverseChain:
		on, meets, end = e.Type, e.X, v.beginOf(e, ref, d)
	default:
		for _, m := range search.Members(where) {
			if err := v.keepWitness(ctx, m, ref, d); err != nil {
				return err
			}
		}
		return nil
	}
	p, err := v.gate.Permit(fhir.SearchType, on)
	if err != nil {
		return err
	}
	free, err := v.free(ctx, p)
	if free {
		v.keeps().AddBeyond(on)
	}
	if err != nil || free && !search.Follows(meets) {
		return err
	}
	pl, err := v.plan(ctx, p, on, search.Simplify(search.And{end, meets}))
	if err != nil {
		return err
	}
	one := &sheet{size: 1}
	if err := v.indexed(ctx, []plan{pl}, newest, position{}, one); err != nil {
		return err
	}
	for _, r := range one.found {
		v.keep(r)
		err = v.keepWitnesses(ctx, meets, r)
	}
	return err
}

// keepCounted counts what one plan of q matches, for an answer that is kept. What it
// counts is kept with it, unless who asks may see all of the type.
func (v *View) keepCounted(ctx context.Context, q *search.Query, pl plan) (n int, err error) {
	free, err := v.free(ctx, pl.permit)
	if err != nil {
		return 0, err
	}
	if free {
		v.keeps().AddBeyond(pl.on)
		if !search.Follows(q.Where) {
			return v.count(ctx, pl)
		}
	}
	for at := (position{}); ; {
		some := &sheet{size: maxFetch}
		if err := v.indexed(ctx, []plan{pl}, newest, at, some); err != nil {
			return 0, err
		}
		for _, res := range some.found {
			if !free {
				v.keep(res)
			}
		}
		if err := v.keepFound(ctx, q, some.found); err != nil {
			return 0, err
		}
		n += len(some.found)
		next := some.next()
		switch {
		case next == nil:
			return n, nil
		case n > maxExamined:
			return 0, fhir.Errorf(fhir.TooCostly, "a number of more than %d resources is not kept for who may see some of them only; ask for it without respond-async", maxExamined)
		}
		at = *next
	}
}

// endOf returns the condition to be what the chain leads to from the document.
func (v *View) endOf(e search.Chain, d *fhir.Document) search.Expr {
	if e.Canonical {
		return search.Called(e.Type, v.schema.Canonicals(d, e.Paths))
	}
	ids := search.HasID{}
	for _, to := range v.schema.References(d, e.Paths) {
		if to.Type == e.Type {
			ids = append(ids, strings.Clone(to.ID))
		}
	}
	return ids
}

// beginOf returns the condition to be what leads by the chain to the resource.
func (v *View) beginOf(e search.ReverseChain, ref fhir.Ref, d *fhir.Document) search.Expr {
	if e.Canonical {
		var names []search.Canonical
		if name, ok := search.CanonicalOf(d); ok {
			names = append(names, name)
		}
		return search.Cites(e.Paths, names)
	}
	begin := search.Refers(e.Paths, ref)
	if e.Pair != (search.Token{}) {
		begin = search.And{begin, search.HasToken(e.Pair)}
	}
	return begin
}

// anyPermit returns a permit to read resources of the type in some way, zero if
// there is none.
func (v *View) anyPermit(on fhir.Type) (smart.Permit, error) {
	for _, do := range []fhir.Interaction{fhir.SearchType, fhir.Read, fhir.HistoryType} {
		p, err := v.gate.Permit(do, on)
		if err == nil || !fhir.IsCode(err, fhir.Forbidden) {
			return p, err
		}
	}
	return smart.Permit{}, nil
}
