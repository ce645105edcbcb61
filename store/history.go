package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A HistoryQuery asks for versions, newest first.
// https://hl7.org/fhir/R4/http.html#history
type HistoryQuery struct {
	Ref   fhir.Ref  // Type and ID, Type alone, or zero for the system
	Since time.Time // zero: all
	At    time.Time // zero: all; else those current at that instant
	Count int       // page size
	Query string    // the query as asked, kept in the cursor
}

// A HistoryPage is a page of versions. Deletions have no Body.
type HistoryPage struct {
	Versions []fhir.Resource
	Total    *int // only for an instance
	Next     string
}

// interaction is the name of what q asks for.
func (q HistoryQuery) interaction() fhir.Interaction {
	switch {
	case q.Ref.ID != "":
		return fhir.HistoryInstance
	case q.Ref.Type != "":
		return fhir.HistoryType
	}
	return fhir.HistorySystem
}

// History returns versions, newest first. The history of an instance that the
// Grant may not see, or that never was, is NotFound.
func (v *View) History(ctx context.Context, q HistoryQuery) (*HistoryPage, error) {
	return v.HistoryFrom(ctx, q, Cursor{Page: 1})
}

// HistoryFrom is History at a cursor.
func (v *View) HistoryFrom(ctx context.Context, q HistoryQuery, c Cursor) (*HistoryPage, error) {
	do := q.interaction()
	v.attempt(audit.Entry{Interaction: do, Type: q.Ref.Type, Entity: q.Ref})
	types := []fhir.Type{q.Ref.Type}
	if q.Ref.Type == "" {
		if types = v.grant.Types(do); len(types) == 0 {
			return nil, fhir.Errorf(fhir.Forbidden, "the token does not allow the history of the system")
		}
	}
	permits := map[fhir.Type]smart.Permit{}
	numbers := make([]int16, 0, len(types))
	var p smart.Permit
	for _, t := range types {
		var err error
		if p, err = v.gate.Permit(do, t); err != nil {
			return nil, err
		}
		permits[t] = p
		numbers = append(numbers, t.Number())
	}
	var instance row
	if q.Ref.ID != "" {
		var err error
		if instance, err = v.current(ctx, p, q.Ref); err != nil {
			return nil, err
		}
		if err := v.visible(ctx, p, instance); err != nil {
			return nil, err
		}
	}
	page := &HistoryPage{}
	shown := shown{view: v, now: map[int64]bool{instance.rid: true}}
	after := c.After
	for examined, bytes := 0, 0; ; {
		want := min(q.Count+1-len(page.Versions), maxFetch)
		rows, err := v.versions(ctx, p, q, instance.rid, numbers, after, want)
		if err != nil {
			return nil, err
		}
		examined += len(rows)
		seen, err := shown.seen(ctx, permits, rows)
		if err != nil {
			return nil, err
		}
		for i, r := range rows {
			if !seen[i] {
				after = afterVersion(r)
				continue
			}
			if len(page.Versions) == q.Count { // one more than asked: there is a next page
				return v.endHistory(do, q, c, page, &after)
			}
			res, err := v.open(r)
			if err != nil {
				return nil, err
			}
			if bytes += len(res.Body); bytes > maxPage && len(page.Versions) > 0 {
				return v.endHistory(do, q, c, page, &after)
			}
			page.Versions = append(page.Versions, res)
			after = afterVersion(r)
		}
		if len(rows) < want {
			break
		}
		if examined > maxExamined {
			return nil, tooCostly()
		}
	}
	if q.Ref.ID != "" && q.Since.IsZero() && q.At.IsZero() {
		free, err := v.free(ctx, p)
		if err != nil {
			return nil, err
		}
		if free {
			n := int(instance.version)
			page.Total = &n
		}
	}
	return v.endHistory(do, q, c, page, nil)
}

func afterVersion(r row) position {
	t := r.updated.UTC()
	return position{Time: &t, RID: r.rid, Version: r.version, Seq: r.seq}
}

// shown tells which resources may be seen as they are now. What is hidden now
// is hidden in its past too, as it is for Vread.
type shown struct {
	view *View
	now  map[int64]bool
}

// seen reports which of the versions may be seen. Each is decided once, together
// with the current ones of the resources that are new to s.
func (s shown) seen(ctx context.Context, permits map[fhir.Type]smart.Permit, versions []row) ([]bool, error) {
	current, err := s.current(ctx, permits, versions)
	if err != nil {
		return nil, err
	}
	at := map[audit.ShownVersion]int{}
	for i, r := range versions {
		at[audit.ShownVersion{RID: r.rid, Version: r.version}] = i
	}
	list, decides := slices.Clone(versions), map[int64]int{}
	for _, r := range current {
		i, there := at[audit.ShownVersion{RID: r.rid, Version: r.version}]
		if !there {
			i, list = len(list), append(list, r)
		}
		decides[r.rid] = i
	}
	seen, err := s.view.seen(ctx, permits, list)
	if err != nil {
		return nil, err
	}
	for rid, i := range decides {
		s.now[rid] = seen[i]
	}
	seen = seen[:len(versions)]
	for i, r := range versions {
		seen[i] = seen[i] && s.now[r.rid]
	}
	return seen, nil
}

// current returns the current versions of the resources that are new to s. Where
// nothing is hidden it need not look.
func (s shown) current(ctx context.Context, permits map[fhir.Type]smart.Permit, versions []row) ([]row, error) {
	var rids []int64
	var p smart.Permit
	for _, r := range versions {
		if _, ok := s.now[r.rid]; ok {
			continue
		}
		free, err := s.view.free(ctx, permits[r.ref.Type])
		if err != nil {
			return nil, err
		}
		if s.now[r.rid] = free; !free {
			rids, p = append(rids, r.rid), permits[r.ref.Type]
		}
	}
	if len(rids) == 0 {
		return nil, nil
	}
	return s.view.versionsOf(ctx, p, gate.SQL(`
		SELECT rid, type, id, version, updated, deleted, body, 0::bigint
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid = ANY(?::bigint[])`, rids))
}

// versions returns up to n versions after the position, newest first: current
// ones and past ones, merged in the order of their indexes.
func (v *View) versions(ctx context.Context, p smart.Permit, q HistoryQuery, rid int64, types []int16, after position, n int) ([]row, error) {
	where := gate.SQL(`WHERE tenant_id = $1`)
	if rid != 0 {
		where = where.With(gate.SQL(`AND rid = ?`, rid))
	} else if q.Ref.Type != "" {
		where = where.With(gate.SQL(`AND type = ?`, types[0]))
	} else if q.At.IsZero() {
		return v.changes(ctx, p, q, types, after, n)
	} else {
		where = where.With(gate.SQL(`AND type = ANY(?::smallint[])`, types))
	}
	if !q.Since.IsZero() {
		where = where.With(gate.SQL(`AND updated >= ?`, q.Since))
	}
	if !q.At.IsZero() {
		where = where.With(gate.SQL(`AND updated <= ?`, q.At))
	}
	if after.Time != nil {
		where = where.With(gate.SQL(`AND (updated, rid, version) < (?, ?, ?)`, *after.Time, after.RID, int32(after.Version)))
	}
	const (
		columns = `SELECT rid, type, id, version, updated, deleted, body, 0::bigint AS seq FROM`
		order   = `ORDER BY updated DESC, rid DESC, version DESC LIMIT ?`
	)
	stmt := gate.SQL(`(`+columns+` ~resource`).With(where, gate.SQL(order+`)`, n),
		gate.SQL(`UNION ALL (`+columns+` ~history`), where, gate.SQL(order+`)`, n), gate.SQL(order, n))
	if !q.At.IsZero() {
		// Of each resource the newest version that is not after At.
		stmt = gate.SQL(`SELECT DISTINCT ON (updated, rid, version) a.* FROM (`+columns+` ~resource`).With(where,
			gate.SQL(`UNION ALL `+columns+` ~history`), where, gate.SQL(`) a
			WHERE NOT EXISTS (SELECT 1 FROM ~resource n WHERE n.tenant_id = $1 AND n.rid = a.rid AND n.updated <= ? AND n.version > a.version)
			AND   NOT EXISTS (SELECT 1 FROM ~history  n WHERE n.tenant_id = $1 AND n.rid = a.rid AND n.updated <= ? AND n.version > a.version)`,
				q.At, q.At), gate.SQL(order, n))
	}
	return v.versionsOf(ctx, p, stmt)
}

// versionsOf returns the versions that the statement reads.
func (v *View) versionsOf(ctx context.Context, p smart.Permit, stmt gate.Clause) ([]row, error) {
	rows, err := v.query(ctx, p, stmt)
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanVersion)
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", err)
	}
	return list, nil
}

func scanVersion(rows pgx.CollectableRow) (row, error) {
	var r row
	var number int16
	err := rows.Scan(&r.rid, &number, &r.ref.ID, &r.version, &r.updated, &r.deleted, &r.body, &r.seq)
	r.ref.Type = fhir.TypeNumbered(number)
	return r, err
}

// changes is versions for the whole system: the outbox has them in order, where
// the other tables would have to be sorted. Of what was purged it has more than they,
// and an id that is used again begins with the first version again.
func (v *View) changes(ctx context.Context, p smart.Permit, q HistoryQuery, types []int16, after position, n int) ([]row, error) {
	stmt := gate.SQL(`
		SELECT c.rid, c.type, coalesce(r.id, h.id), c.version, c.updated, coalesce(r.deleted, h.deleted), coalesce(r.body, h.body), c.seq
		FROM   ~change c
		LEFT   JOIN ~resource r ON r.tenant_id = $1 AND r.rid = c.rid AND r.version = c.version
		LEFT   JOIN ~history  h ON h.tenant_id = $1 AND h.rid = c.rid AND h.version = c.version
		WHERE  c.tenant_id = $1 AND coalesce(r.updated, h.updated) = c.updated`)
	if len(types) < len(fhir.Types) {
		stmt = stmt.With(gate.SQL(`AND c.type = ANY(?::smallint[])`, types))
	}
	if !q.Since.IsZero() {
		// seq follows the clock, but updated decides: a minute is margin.
		stmt = stmt.With(gate.SQL(`AND c.seq >= ? AND c.updated >= ?`, audit.SeqAt(q.Since.Add(-time.Minute)), q.Since))
	}
	if after.Seq != 0 {
		stmt = stmt.With(gate.SQL(`AND c.seq < ?`, after.Seq))
	}
	rows, err := v.query(ctx, p, stmt.With(gate.SQL(`ORDER BY c.seq DESC LIMIT ?`, n)))
	if err != nil {
		return nil, fmt.Errorf("reading the history of the system: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanVersion)
	if err != nil {
		return nil, fmt.Errorf("reading the history of the system: %w", err)
	}
	return list, nil
}

func (v *View) endHistory(do fhir.Interaction, q HistoryQuery, c Cursor, page *HistoryPage, next *position) (*HistoryPage, error) {
	if next != nil {
		var err error
		page.Next, err = v.seal(Cursor{Interaction: do, Ref: q.Ref, Query: q.Query, Page: c.Page + 1, After: *next})
		if err != nil {
			return nil, err
		}
	}
	v.noteAll(audit.Entry{Interaction: do, Type: q.Ref.Type, Entity: q.Ref, Query: q.Query}, page.Versions)
	return page, v.showAll(page.Versions)
}

// noteAll puts a search or history into the audit trail, with every patient
// whose record it disclosed, and every resource that is seen through a broken
// glass.
func (v *View) noteAll(e audit.Entry, disclosed ...[]fhir.Resource) {
	seen := map[fhir.Ref]bool{}
	var about []fhir.Ref
	for _, list := range disclosed {
		for _, r := range list {
			for _, p := range v.patients(r) {
				if !seen[p] {
					seen[p] = true
					about = append(about, p)
				}
			}
			v.noteThrough(r)
		}
	}
	v.noteOf(e, about)
}

// noteThrough puts a resource that is seen through a broken glass into the audit
// trail, beside the search or history that found it.
func (v *View) noteThrough(r fhir.Resource) {
	if !v.grant.HasBroken() {
		return
	}
	if e := v.disclosed(fhir.Read, r); v.grant.Through(e.Patient) != (audit.Glass{}) {
		trail := v.gate.Trail()
		trail.Linked = append(trail.Linked, e)
	}
}

// noteOf puts into the audit trail what disclosed the records of the patients,
// or changed them: each finds it in theirs. Of a resource that is of several
// records all of them are told; what else was asked for concerns the one alone.
func (v *View) noteOf(e audit.Entry, about []fhir.Ref) {
	if v.imports != nil { // the batch has an entry, and so has each patient
		v.imports.tell(v, about)
		return
	}
	for i, p := range about {
		if i == 0 {
			e.Patient = p
			continue
		}
		trail := v.gate.Trail()
		linked := audit.Entry{Interaction: e.Interaction, Type: e.Type, Patient: p}
		if e.Interaction != fhir.SearchType && e.Interaction != fhir.SearchSystem {
			linked.Entity, linked.Version = e.Entity, e.Version
		}
		trail.Linked = append(trail.Linked, linked)
	}
	v.note(e)
}

// maxExamined bounds how many bodies one request opens to find what it may
// return.
const maxExamined = 10_000

func tooCostly() error {
	return fhir.Errorf(fhir.TooCostly, "the request would read more than %d resources one by one; narrow it", maxExamined)
}
