package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A bulk export shows the resources as they were at one time, whatever changes
// while it is under way: of each resource the version that was current then, if
// the client may see that version and may see what has become of it. What was
// deleted since is left out.
//
// It goes through the resources of a type in order of their last change. The
// version that was current at the time has its place in this order for ever,
// first in one table and later perhaps in the other, so that any part of the
// order can be read at any time, and again, with the same result.
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html

// An ExportQuery says which resources of a type an export shows.
type ExportQuery struct {
	Type fhir.Type
	// Any are searches of the type, one of which must match. None means that
	// every resource will do.
	Any []*search.Query
	// OfPatients says that only what tells of a patient is shown, and Patients
	// of whom; nil is of anybody.
	OfPatients bool
	Patients   []string
	// Beside, if it is not nil, says of what is shown Provenance is; OfPatients does
	// not narrow that.
	Beside *Beside
}

// An ExportSlice is a part of the order of the resources of a type.
type ExportSlice struct {
	N         int
	Type      fhir.Type
	Deletions bool // it is of those that were deleted
	Done      bool

	from mark      // what is not after it is written
	to   time.Time // the last change that can be in it
	at   time.Time // the time that the export shows the resources of
}

// Last reports whether the slice ends where an export ends that is of all that was
// changed since.
func (s ExportSlice) Last() bool { return s.to.Equal(s.at) }

// AllOf is all of a type, as it is now, that was changed after since; zero is
// without a bound.
func AllOf(t fhir.Type, since time.Time) ExportSlice {
	at := now()
	return ExportSlice{Type: t, from: startOf(since), to: at, at: at}
}

// startOf is the mark before all that was changed after since.
func startOf(since time.Time) mark {
	if since.IsZero() {
		return mark{rid: math.MinInt64}
	}
	return endOf(since)
}

// A mark is a place in the order.
type mark struct {
	updated time.Time // zero: before all time
	rid     int64
}

func (m mark) after(n mark) bool {
	if c := m.updated.Compare(n.updated); c != 0 {
		return c > 0
	}
	return m.rid > n.rid
}

// endOf is the mark behind all that was changed at the time.
func endOf(t time.Time) mark { return mark{t, math.MaxInt64} }

// An ExportBatch is what Export has shown.
type ExportBatch struct {
	Show func(fhir.Resource) // takes what is shown; a deletion has no Body
	// Whose, if it is not nil, takes the ids of the patients of whom each tells,
	// before Show does.
	Whose func(ids []string)
	// Room says whether more can be taken.
	Room func() bool
	// Told says of a patient, by the key that the database knows, whether the
	// audit trail has them already.
	Told  func(patient int64) bool
	About []int64 // the patients whose records were shown
	told  map[int64]bool
}

// Export shows what comes next in the slice, and returns the rest of it. The entry of the audit trail
// names each patient whom no other entry of the export names.
func (v *View) Export(ctx context.Context, q ExportQuery, s ExportSlice, out *ExportBatch) (ExportSlice, error) {
	out.About, out.told = nil, map[int64]bool{}
	x := &exporter{View: v, q: q, at: s.at, out: out, entry: audit.Entry{Interaction: fhir.Operation, Type: q.Type, Query: "$export"}}
	v.attempt(x.entry)
	var err error
	if x.permit, err = v.gate.Permit(fhir.SearchType, q.Type); err != nil {
		return s, err
	}
	if s.Deletions {
		s, err = x.deletions(ctx, s)
	} else {
		s, err = x.resources(ctx, s)
	}
	if err != nil {
		return s, err
	}
	s.Done = !endOf(s.to).after(s.from)
	v.note(x.entry)
	return s, nil
}

// An exporter shows one batch.
type exporter struct {
	*View
	q      ExportQuery
	at     time.Time
	out    *ExportBatch
	entry  audit.Entry
	permit smart.Permit
	pl     plan

	// waiting is Provenance of which it is not known yet whether it is shown.
	waiting      []*told
	waitingBytes int
}

// exportAtOnce bounds the resources of a batch, and exportMoved those of which
// another version is shown than the current one.
const (
	exportAtOnce = 2000
	exportMoved  = 64
)

// plan makes the plan of what is asked and allowed, of changes up to a time.
func (x *exporter) plan(ctx context.Context, to time.Time, more ...search.Expr) (plan, error) {
	any := search.Or{}
	for _, q := range x.q.Any {
		if err := x.mayAsk(q); err != nil {
			return plan{}, err
		}
		any = append(any, q.Where)
	}
	where := append(search.And{search.Updated{{Op: search.LE, T: to}}}, more...)
	if len(any) > 0 {
		where = append(where, any)
	}
	if whose := x.q.whose(); whose != nil {
		where = append(where, whose)
	}
	pl, err := x.View.plan(ctx, x.permit, x.q.Type, search.Simplify(where))
	if err != nil {
		return pl, err
	}
	for _, q := range x.q.Any {
		if err := x.hold(ctx, q, []plan{pl}); err != nil {
			return pl, err
		}
	}
	return pl, nil
}

// maxBegun is how many patients' records are looked up in the index. Of more
// all resources are read, and those of others passed over.
const maxBegun = 500

// whose returns the condition that a resource tells of one of few patients, nil
// if the index is not asked for that.
func (q *ExportQuery) whose() search.Expr {
	if q.Patients == nil || len(q.Patients) > maxBegun || q.Beside != nil {
		return nil
	}
	or := search.Or{}
	for _, id := range q.Patients {
		if q.Type == "Patient" {
			or = append(or, search.HasID{id})
			continue
		}
		e, ok := search.Compartment("Patient", id, q.Type)
		if q.Type == "Device" { // which is in no compartment
			e, ok = search.DeviceOf(id), true
		}
		if !ok {
			return nil
		}
		if list, ok := e.(search.Or); ok {
			or = append(or, list...)
		} else {
			or = append(or, e)
		}
	}
	return or
}

// resources shows what comes next of what is not deleted.
func (x *exporter) resources(ctx context.Context, s ExportSlice) (ExportSlice, error) {
	moved, bound, err := x.moved(ctx, s, false)
	if err != nil {
		return s, err
	}
	if x.pl, err = x.plan(ctx, bound.updated); err != nil {
		return s, err
	}
	from := s.from
	if s.from, err = x.current(ctx, s.from, bound); err != nil {
		return s, err
	}
	for _, m := range moved {
		if m.then.mark().after(from) && !m.then.mark().after(s.from) {
			if err := x.showMoved(ctx, m); err != nil {
				return s, err
			}
		}
	}
	if x.q.Beside != nil {
		return s, x.showWaiting(ctx)
	}
	return s, nil
}

// current shows what has not changed since, up to the bound, and returns how far
// it came.
func (x *exporter) current(ctx context.Context, from, bound mark) (mark, error) {
	if search.Equal(x.pl.where, search.Or{}) {
		return bound, nil // nothing can meet it
	}
	n := exportAtOnce
	if x.pl.by != nil { // they are opened together
		n = maxFetch
	}
	o := order{by: search.ByUpdated, asc: true}
	after := position{Type: x.q.Type.Number(), RID: from.rid}
	if !from.updated.IsZero() {
		after.Time = &from.updated
	}
	reached, stopped := from, false
	read, err := x.fetch(ctx, x.pl, o, after, n, func(c candidate) (bool, error) {
		if c.mark().after(bound) {
			reached, stopped = bound, true
			return false, nil
		}
		reached = c.mark()
		res, ok, err := x.holds(x.pl, o, c)
		if err != nil || !ok {
			return true, err
		}
		stopped, err = x.show(res)
		return !stopped, err
	})
	if err != nil {
		return from, err
	}
	if !stopped && read < n {
		return bound, nil
	}
	return reached, nil
}

func (r row) mark() mark { return mark{r.updated.UTC(), r.rid} }

// show shows a resource, as the Grant may see it, if it is of the patients. It
// reports whether there is no room for more.
func (x *exporter) show(res fhir.Resource) (full bool, err error) {
	about, err := x.about(res)
	if err != nil {
		return false, err
	}
	if x.q.Beside != nil {
		return x.wait(res, about)
	}
	if !x.concerns(about) {
		return false, nil
	}
	if res, err = x.shown(res); err != nil {
		return false, err
	}
	if x.out.Whose != nil {
		x.out.Whose(about)
	}
	x.tell(about)
	x.out.Show(res)
	return !x.out.Room(), nil
}

// about returns the patients of whom a resource tells.
func (x *exporter) about(res fhir.Resource) (ids []string, err error) {
	err = fhir.Peek(res.Body, func(d *fhir.Document) error {
		ids = x.schema.About(d)
		return nil
	})
	return ids, err
}

func (x *exporter) concerns(about []string) bool {
	switch {
	case !x.q.OfPatients:
		return true
	case x.q.Patients == nil:
		return len(about) > 0
	}
	return slices.ContainsFunc(about, func(id string) bool {
		_, found := slices.BinarySearch(x.q.Patients, id)
		return found
	})
}

// tell notes whose records are shown, for the file and for the audit trail.
func (x *exporter) tell(about []string) {
	for _, id := range about {
		ref := fhir.Ref{Type: "Patient", ID: id}
		rid := x.rid(ref)
		if x.out.told[rid] {
			continue
		}
		x.out.told[rid] = true
		x.out.About = append(x.out.About, rid)
		if x.out.Told(rid) {
			continue
		}
		if x.entry.Patient.IsZero() {
			x.entry.Patient = ref
			continue
		}
		trail := x.gate.Trail()
		trail.Linked = append(trail.Linked, audit.Entry{Interaction: fhir.Operation, Type: x.q.Type, Patient: ref})
	}
}

// A movedRow is a resource that was changed since the time.
type movedRow struct{ then, now row }

// moved returns resources whose version of then is in the slice and that were
// changed since, those that are deleted then or not, and how far the slice is to
// be read with them.
func (x *exporter) moved(ctx context.Context, s ExportSlice, deleted bool) ([]movedRow, mark, error) {
	return x.movedOf(ctx, s, deleted, nil)
}

// movedOf is moved for resources that the database knows by the keys; nil is any.
func (x *exporter) movedOf(ctx context.Context, s ExportSlice, deleted bool, rids []int64) ([]movedRow, mark, error) {
	rows, err := x.query(ctx, x.permit, gate.SQL(`
		SELECT h.rid, h.id, h.version, h.updated, h.deleted, h.body, r.version, r.updated, r.deleted, r.body
		FROM   ~resource r, LATERAL (
		       SELECT rid, id, version, updated, deleted, body
		       FROM   ~history
		       WHERE  tenant_id = $1 AND rid = r.rid AND updated <= ?
		       ORDER  BY version DESC
		       LIMIT  1) h
		WHERE  r.tenant_id = $1 AND r.type = ? AND r.updated > ? AND r.version > 1 AND h.deleted = ?
		AND    (?::bigint[] IS NULL OR r.rid = ANY(?::bigint[]))
		AND    (h.updated, h.rid) > (?, ?) AND h.updated <= ?
		ORDER  BY h.updated, h.rid
		LIMIT  ?`, x.at, x.q.Type.Number(), x.at, deleted, rids, rids, stamp(s.from.updated), s.from.rid, s.to, exportMoved))
	if err != nil {
		return nil, mark{}, fmt.Errorf("looking for what was changed since: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(rows pgx.CollectableRow) (movedRow, error) {
		m := movedRow{then: row{ref: fhir.Ref{Type: x.q.Type}}}
		err := rows.Scan(&m.then.rid, &m.then.ref.ID, &m.then.version, &m.then.updated, &m.then.deleted, &m.then.body,
			&m.now.version, &m.now.updated, &m.now.deleted, &m.now.body)
		m.now.rid, m.now.ref = m.then.rid, m.then.ref
		return m, err
	})
	if err != nil {
		return nil, mark{}, fmt.Errorf("looking for what was changed since: %w", err)
	}
	if len(list) < exportMoved {
		return list, endOf(s.to), nil
	}
	return list, list[len(list)-1].then.mark(), nil
}

// showMoved shows the version of then, if it stands.
func (x *exporter) showMoved(ctx context.Context, m movedRow) error {
	then, stands, err := x.standing(ctx, m)
	if err == nil && stands {
		_, err = x.show(then)
	}
	return err
}

// standing returns the version of then, and whether it is asked for and the Grant
// covers it and the current version.
func (x *exporter) standing(ctx context.Context, m movedRow) (then fhir.Resource, stands bool, err error) {
	if m.now.deleted {
		return then, false, nil
	}
	now, err := x.open(m.now)
	if err != nil {
		return then, false, err
	}
	if then, err = x.open(m.then); err != nil {
		return then, false, err
	}
	may, err := x.cover(ctx, x.permit, now, then)
	if err != nil || !may[0] || !may[1] {
		return then, false, err
	}
	stands, err = x.asked(ctx, then)
	return then, stands, err
}

// asked reports whether a version that is no longer current matches one of the
// searches. One that is about other resources only the current version can
// answer.
func (x *exporter) asked(ctx context.Context, then fhir.Resource) (matches bool, err error) {
	if len(x.q.Any) == 0 {
		return true, nil
	}
	any := search.Or{}
	for _, q := range x.q.Any {
		any = append(any, q.Where)
	}
	err = fhir.Peek(then.Body, func(d *fhir.Document) error {
		matches, err = search.Match(search.Simplify(any), &then, x.schema.Index(d))
		return err
	})
	if !errors.Is(err, search.ErrNeedsIndex) {
		return matches, err
	}
	pl, err := x.plan(ctx, search.Forever, search.HasID{then.Ref.ID})
	if err != nil {
		return false, err
	}
	err = x.scan(ctx, pl, func(row, fhir.Resource) error {
		matches = true
		return nil
	})
	return matches, err
}

// deletions shows what was deleted, to who could have seen what was there.
func (x *exporter) deletions(ctx context.Context, s ExportSlice) (ExportSlice, error) {
	moved, bound, err := x.moved(ctx, s, true)
	if err != nil {
		return s, err
	}
	gone, err := x.deleted(ctx, s, bound)
	if err != nil {
		return s, err
	}
	from := s.from
	if s.from = bound; len(gone) == maxFetch {
		s.from = gone[maxFetch-1].now.mark()
	}
	moved = slices.DeleteFunc(moved, func(m movedRow) bool {
		at := m.then.mark()
		return !at.after(from) || at.after(s.from)
	})
	now := make([]row, len(moved))
	for i, m := range moved {
		now[i] = m.now
	}
	seen, err := x.seen(ctx, map[fhir.Type]smart.Permit{x.permit.On(): x.permit}, now)
	if err != nil {
		return s, err
	}
	for i, m := range moved {
		if !seen[i] {
			continue
		}
		before, err := x.past(ctx, x.permit, m.then, m.then.version-1)
		if err != nil {
			return s, err
		}
		gone = append(gone, movedRow{before, m.then})
	}
	return s, x.showGone(ctx, gone)
}

// deleted returns what is deleted, and was deleted in the slice up to the bound,
// with what it was before.
func (x *exporter) deleted(ctx context.Context, s ExportSlice, bound mark) ([]movedRow, error) {
	rows, err := x.query(ctx, x.permit, gate.SQL(`
		SELECT r.rid, r.id, r.version, r.updated, h.version, h.updated, h.deleted, h.body
		FROM   ~resource r
		JOIN   ~history h ON h.tenant_id = $1 AND h.rid = r.rid AND h.version = r.version - 1
		WHERE  r.tenant_id = $1 AND r.type = ? AND r.deleted
		AND    (r.updated, r.rid) > (?, ?) AND (r.updated, r.rid) <= (?, ?)
		ORDER  BY r.updated, r.rid
		LIMIT  ?`, x.q.Type.Number(), stamp(s.from.updated), s.from.rid, bound.updated, bound.rid, maxFetch))
	if err != nil {
		return nil, fmt.Errorf("looking for what was deleted: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(rows pgx.CollectableRow) (movedRow, error) {
		m := movedRow{now: row{ref: fhir.Ref{Type: x.q.Type}, deleted: true}}
		err := rows.Scan(&m.now.rid, &m.now.ref.ID, &m.now.version, &m.now.updated,
			&m.then.version, &m.then.updated, &m.then.deleted, &m.then.body)
		m.then.rid, m.then.ref = m.now.rid, m.now.ref
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for what was deleted: %w", err)
	}
	return list, nil
}

// showGone shows deletions of what the Grant covered and what is of the
// patients.
func (x *exporter) showGone(ctx context.Context, gone []movedRow) error {
	gone = slices.DeleteFunc(gone, func(m movedRow) bool { return m.then.deleted })
	before := make([]fhir.Resource, len(gone))
	for i, m := range gone {
		var err error
		if before[i], err = x.open(m.then); err != nil {
			return err
		}
	}
	may, err := x.cover(ctx, x.permit, before...)
	if err != nil {
		return err
	}
	for i, m := range gone {
		about, err := x.about(before[i])
		if err != nil {
			return err
		}
		if may[i] && x.concerns(about) {
			x.tell(about)
			x.out.Show(fhir.Resource{Ref: m.now.ref, Version: m.now.version, Updated: m.now.updated.UTC(), Deleted: true})
		}
	}
	return nil
}
