package store

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// A Beside narrows what an export shows of Provenance to what is told of the
// resources that it shows.
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html#query-parameters
type Beside struct {
	// Of are what the export shows of each type, changed after Since and not after
	// Until; zero is no bound.
	Of           map[fhir.Type]ExportQuery
	Since, Until time.Time
	// Latest keeps of each of them the most recent one only.
	Latest bool
}

// A told is a Provenance, and what it tells of.
type told struct {
	fhir.Resource
	about    []string // the patients
	recorded time.Time
	targets  []fhir.Ref
}

// newer reports whether it was recorded after the other.
func (t *told) newer(o *told) bool {
	if c := t.recorded.Compare(o.recorded); c != 0 {
		return c > 0
	}
	if c := t.Updated.Compare(o.Updated); c != 0 {
		return c > 0
	}
	return t.Ref.ID > o.Ref.ID
}

const (
	// besideBytes bounds the bodies of a batch that wait for their targets.
	besideBytes = 4 << 20
	// targetsAtOnce is of how many targets the Provenance is looked up at once.
	targetsAtOnce = 100
)

// targetPaths are the elements that say what a Provenance tells of. They take any
// type.
var targetPaths = search.Paths("Provenance", "target", "Patient")

// wait keeps a Provenance until it is known what of its targets is shown. It
// reports whether there is no room for more.
func (x *exporter) wait(res fhir.Resource, about []string) (full bool, err error) {
	t, err := x.told(res)
	if err != nil {
		return false, err
	}
	t.about = about
	x.waiting = append(x.waiting, t)
	x.waitingBytes += len(res.Body)
	return x.waitingBytes > besideBytes, nil
}

// told reads what a Provenance tells of.
func (x *exporter) told(res fhir.Resource) (*told, error) {
	t := &told{Resource: res}
	err := fhir.Peek(res.Body, func(d *fhir.Document) error {
		for _, ref := range x.schema.References(d, targetPaths) {
			if _, exported := x.q.Beside.Of[ref.Type]; exported {
				t.targets = append(t.targets, fhir.Ref{Type: fhir.Type(strings.Clone(string(ref.Type))), ID: strings.Clone(ref.ID)})
			}
		}
		t.recorded, _ = time.Parse(time.RFC3339, string(d.Tree.GetStringBytes("recorded")))
		return nil
	})
	return t, err
}

// showWaiting shows what waits, as far as it tells of what the export shows.
func (x *exporter) showWaiting(ctx context.Context) error {
	shown, err := x.targets(ctx)
	if err != nil {
		return err
	}
	var latest map[fhir.Ref]*told
	if x.q.Beside.Latest {
		if latest, err = x.latest(ctx, shown); err != nil {
			return err
		}
	}
	for _, t := range x.waiting {
		about, show := t.about, false
		for _, ref := range t.targets {
			of, there := shown[ref]
			if !there {
				continue
			}
			show = show || latest == nil || !latest[ref].newer(t)
			about = append(about, of...)
		}
		if !show {
			continue
		}
		res, err := x.shown(t.Resource)
		if err != nil {
			return err
		}
		x.tell(about)
		x.out.Show(res)
	}
	return nil
}

// targets returns those of what waits that the export shows, with the patients of
// whom each tells.
func (x *exporter) targets(ctx context.Context) (map[fhir.Ref][]string, error) {
	ids := map[fhir.Type][]string{}
	seen := map[fhir.Ref]bool{}
	for _, t := range x.waiting {
		for _, ref := range t.targets {
			if !seen[ref] {
				seen[ref] = true
				ids[ref.Type] = append(ids[ref.Type], ref.ID)
			}
		}
	}
	shown := map[fhir.Ref][]string{}
	for on, list := range ids {
		p, err := x.gate.Permit(fhir.SearchType, on)
		if err != nil {
			return nil, err
		}
		of := &exporter{View: x.View, q: x.q.Beside.Of[on], at: x.at, permit: p, out: x.out}
		for some := range slices.Chunk(list, maxFetch) {
			if err := of.among(ctx, some, x.q.Beside, shown); err != nil {
				return nil, err
			}
		}
	}
	return shown, nil
}

// among adds those of the ids whose resources the export shows.
func (x *exporter) among(ctx context.Context, ids []string, b *Beside, shown map[fhir.Ref][]string) error {
	until := x.at
	if !b.Until.IsZero() && b.Until.Before(until) {
		until = b.Until
	}
	add := func(res fhir.Resource) error {
		about, err := x.about(res)
		if err == nil && x.concerns(about) && res.Updated.After(b.Since) {
			shown[res.Ref] = about
		}
		return err
	}
	pl, err := x.plan(ctx, until, search.HasID(ids))
	if err != nil {
		return err
	}
	if err := x.scan(ctx, pl, func(_ row, res fhir.Resource) error { return add(res) }); err != nil {
		return err
	}
	rids := make([]int64, len(ids))
	for i, id := range ids {
		rids[i] = x.rid(fhir.Ref{Type: x.q.Type, ID: id})
	}
	s := ExportSlice{Type: x.q.Type, from: mark{rid: math.MinInt64}, to: until, at: x.at}
	for {
		moved, bound, err := x.movedOf(ctx, s, false, rids)
		if err != nil {
			return err
		}
		for _, m := range moved {
			then, ok, err := x.standing(ctx, m)
			if err == nil && ok {
				err = add(then)
			}
			if err != nil {
				return err
			}
		}
		if len(moved) < exportMoved {
			return nil
		}
		s.from = bound
	}
}

// latest returns of each resource that is shown the most recent Provenance that
// the Grant may see.
func (x *exporter) latest(ctx context.Context, shown map[fhir.Ref][]string) (map[fhir.Ref]*told, error) {
	best := map[fhir.Ref]*told{}
	keep := func(t *told) {
		for _, ref := range t.targets {
			if _, there := shown[ref]; there && (best[ref] == nil || t.newer(best[ref])) {
				best[ref] = t
			}
		}
	}
	for _, t := range x.waiting {
		keep(t)
	}
	refs := make([]fhir.Ref, 0, len(shown))
	for ref := range shown {
		refs = append(refs, ref)
	}
	for some := range slices.Chunk(refs, targetsAtOnce) {
		if err := x.provenanceOf(ctx, some, keep); err != nil {
			return nil, err
		}
	}
	return best, nil
}

// provenanceOf shows fn all Provenance of the resources, without what is in it.
func (x *exporter) provenanceOf(ctx context.Context, refs []fhir.Ref, fn func(*told)) error {
	or := search.Or{}
	for _, ref := range refs {
		or = append(or, search.Refers(targetPaths, ref))
	}
	every := &exporter{View: x.View, q: ExportQuery{Type: x.q.Type, Beside: x.q.Beside}, at: x.at, permit: x.permit, out: x.out}
	pl, err := every.plan(ctx, x.at, search.Simplify(or))
	if err != nil {
		return err
	}
	return every.scan(ctx, pl, func(_ row, res fhir.Resource) error {
		t, err := every.told(res)
		if err == nil {
			t.Body = nil
			fn(t)
		}
		return err
	})
}
