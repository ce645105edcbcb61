package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

const auditEvent fhir.Type = "AuditEvent"

// An AuditPage is a page of the audit trail.
type AuditPage struct {
	Entries []audit.Entry
	Total   *int // nil if it was not asked for, or there are too many to count
	Next    string
	// Unreadable are the ids of entries that the search may have found, which do not
	// open: no server wrote them so. Only who may see all of the trail is told.
	Unreadable []string
}

// trailBounds bound one page of the trail: how many entries are looked at by
// what is in clear of them, how many are opened, and how many one statement
// looks at. A page that comes to a bound ends there, maybe with fewer entries
// than asked for, and the next goes on.
type trailBounds struct{ seen, opened, step int }

var pageBounds = trailBounds{seen: 50_000, opened: 4_000, step: 5_000}

// AuditEvent returns the entry with the id, to who may see it.
func (v *View) AuditEvent(ctx context.Context, id string) (audit.Entry, error) {
	ref := fhir.Ref{Type: auditEvent, ID: id}
	e := audit.Entry{Interaction: fhir.Read, Type: auditEvent, Entity: ref}
	v.attempt(e)
	t, err := v.trail(fhir.Read, search.HasID{id})
	if err != nil {
		return audit.Entry{}, err
	}
	page, err := t.page(ctx, position{}, 1)
	if err != nil {
		return audit.Entry{}, err
	}
	switch {
	case len(page.unreadable) > 0:
		return audit.Entry{}, fhir.Errorf(fhir.Exception, "the entry cannot be opened: it is not as a server wrote it")
	case len(page.found) == 0 && !t.bound:
		return audit.Entry{}, v.gone(ctx, t.permit, ref)
	case len(page.found) == 0:
		return audit.Entry{}, unknown(ref)
	}
	v.note(e)
	return page.found[0], nil
}

// AuditEvents returns a page of the tenant's audit trail, newest first unless q
// sorts by date the other way: in the order in which what they tell of began.
// Only a Grant that may search AuditEvents gets any, of those that its scopes
// and the policy reach. c says where the page begins and, for an operation,
// whose page it is; q is what its Query says.
func (v *View) AuditEvents(ctx context.Context, q *search.Query, c Cursor) (*AuditPage, error) {
	if c.Interaction == "" {
		c.Interaction, c.Ref = fhir.SearchType, fhir.Ref{Type: auditEvent}
	}
	c.Query = cmp.Or(c.Query, applied(q))
	e := audit.Entry{Interaction: fhir.SearchType, Type: auditEvent, Query: c.Query}
	v.attempt(e)
	t, err := v.trail(fhir.SearchType, q.Where)
	if err != nil {
		return nil, err
	}
	if t.rising, err = risingTrail(q.Sort); err != nil {
		return nil, err
	}
	size := min(q.Count, MaxCount)
	if size < 0 {
		size = DefaultCount
	}
	if q.Summary == "count" {
		size = 0
	}
	page := &AuditPage{Total: c.After.Total}
	if c.Page <= 1 && (size == 0 || q.Total == search.TotalAccurate || q.Total == search.TotalEstimate) {
		if page.Total, err = t.total(ctx); err != nil {
			return nil, err
		}
		if page.Total == nil && size == 0 {
			return nil, fhir.Errorf(fhir.TooCostly, "there are too many entries to count; narrow the search")
		}
	}
	if size > 0 {
		if err := t.fill(ctx, page, c, size); err != nil {
			return nil, err
		}
	}
	v.note(e)
	return page, nil
}

// fill adds to the page what comes after the cursor.
func (t *trailWalk) fill(ctx context.Context, page *AuditPage, c Cursor, size int) error {
	part, err := t.page(ctx, c.After, size)
	if err != nil {
		return err
	}
	page.Entries = part.found
	for _, seq := range part.unreadable {
		page.Unreadable = append(page.Unreadable, audit.Entry{Seq: seq}.ID())
	}
	if part.after == nil {
		if c.Page <= 1 && page.Total == nil {
			n := len(page.Entries)
			page.Total = &n
		}
		return nil
	}
	part.after.Total = page.Total
	c.Page, c.After = c.Page+1, *part.after
	page.Next, err = t.seal(c)
	return err
}

// risingTrail reads the order that a search asks for: by date, which way.
func risingTrail(keys []search.SortKey) (bool, error) {
	switch {
	case len(keys) == 0:
		return false, nil
	case len(keys) > 1 || keys[0].Via != nil || !slices.Equal(keys[0].Paths, []search.Path{recordedPath}):
		return false, fhir.Errorf(fhir.NotSupported, "the audit trail is sorted by date or -date")
	}
	return !keys[0].Desc, nil
}

// A trailWalk is a walk through the audit trail: what is in clear of the entries,
// and the columns of keyed hashes, narrow it; the AuditEvent that an entry reads
// as decides.
type trailWalk struct {
	*View
	permit smart.Permit
	where  search.Expr
	bound  bool // only part of the trail may be seen, as by a patient
	timed  bool // where asks for nothing but when an entry was recorded
	rising bool
	narrow narrowing
}

func (v *View) trail(do fhir.Interaction, where search.Expr) (*trailWalk, error) {
	p, err := v.gate.Permit(do, auditEvent)
	if err != nil {
		return nil, err
	}
	t := &trailWalk{View: v, permit: p, where: search.Simplify(search.And{p.Where(), where}), bound: !all(p.Where())}
	t.narrow, t.timed = v.narrowing(t.where), dated(t.where, recordedPath)
	return t, nil
}

// A stretch is what a walk found: after is where it goes on, nil at the end.
type stretch struct {
	found      []audit.Entry
	after      *position
	unreadable []int64 // where an entry may be meant that does not open
}

// cut ends the stretch after the first n that were found.
func (s *stretch) cut(n int, rising bool) {
	s.found = s.found[:n]
	last := s.found[n-1].Seq
	s.after = &position{Seq: last}
	s.unreadable = slices.DeleteFunc(s.unreadable, func(seq int64) bool { return (seq > last) == rising })
}

// page walks from the position until it has found size entries, is at the end,
// or has come to a bound.
func (t *trailWalk) page(ctx context.Context, from position, size int) (*stretch, error) {
	out, bounds := &stretch{}, t.db.trail
	step, opened := min(size+1, bounds.step), 0
	for seen := 0; ; {
		rows, err := t.fetch(ctx, from.Seq, step)
		if err != nil {
			return nil, err
		}
		met := slices.DeleteFunc(slices.Clone(rows), func(r trailRow) bool { return !r.met })
		met = slices.CompactFunc(met, func(a, b trailRow) bool { return a.Seq == b.Seq }) // found along two indexes
		for some := range slices.Chunk(met, 100) {
			if err := t.add(ctx, out, some, size+1); err != nil {
				return nil, err
			}
			if len(out.found) > size { // one more than asked: there is a next page
				out.cut(size, t.rising)
				return out, nil
			}
		}
		if len(rows) < step {
			return out, nil
		}
		from.Seq = rows[len(rows)-1].Seq
		seen, opened = seen+len(rows), opened+len(met)
		if seen >= bounds.seen || opened >= bounds.opened {
			out.after = &position{Seq: from.Seq}
			return out, nil
		}
		step = min(step*4, bounds.step)
	}
}

// total counts what the walk finds, nil if that would take more than one page
// may.
func (t *trailWalk) total(ctx context.Context) (*int, error) {
	all, err := t.page(ctx, position{}, t.db.trail.seen)
	if err != nil || all.after != nil {
		return nil, err
	}
	n := len(all.found)
	return &n, nil
}

// A trailRow is an entry as far as it was read: met says that what is in clear
// of it meets the search, and that the rest was opened, unreadable that it could
// not be.
type trailRow struct {
	audit.Entry
	met, unreadable bool
}

// add adds those of rows that meet the search, as who asks may see them, until
// there are n.
func (t *trailWalk) add(ctx context.Context, to *stretch, rows []trailRow, n int) error {
	list := make([]audit.Entry, 0, len(rows))
	for _, r := range rows {
		switch {
		case !r.unreadable:
			list = append(list, r.Entry)
		case !t.bound: // whose else it is nobody can tell
			to.unreadable = append(to.unreadable, r.Seq)
		}
	}
	if err := t.completeLinked(ctx, t.permit, list); err != nil {
		return err
	}
	for _, e := range list {
		if len(to.found) == n {
			return nil
		}
		t.redact(&e)
		ok, err := t.meets(e)
		if err != nil {
			return err
		}
		if ok {
			to.found = append(to.found, e)
		}
	}
	return nil
}

// redact takes from an entry what tells of others to whoever may see but part
// of the trail: what was asked may name other patients, and where the staff
// were, with which token and at which of our machines is not theirs to know.
func (t *trailWalk) redact(e *audit.Entry) {
	if !t.bound {
		return
	}
	e.Query, e.Failed, e.Origin.Address, e.Origin.Server, e.Agent.TokenID, e.Glass.Reason = "", "", "", "", "", ""
	if e.Entity.Type == "Patient" && e.Patient.Type == "Patient" && e.Entity != e.Patient {
		e.Entity, e.Version = fhir.Ref{}, 0
	}
}

// meets reports whether the AuditEvent that e reads as meets the search.
func (t *trailWalk) meets(e audit.Entry) (ok bool, err error) {
	switch {
	case all(t.where):
		return true, nil
	case t.timed: // which is known without the AuditEvent
		at := e.Recorded.Truncate(time.Millisecond)
		return search.Match(t.where, &fhir.Resource{}, &search.Terms{Dates: []search.DateRange{{Path: recordedPath, Lo: at, Hi: at.Add(time.Millisecond)}}})
	}
	r := fhir.Resource{Ref: fhir.Ref{Type: auditEvent, ID: e.ID()}, Version: 1, Updated: e.Recorded, Body: audit.Render(e, t.schema.Base)}
	err = fhir.Peek(r.Body, func(d *fhir.Document) error {
		ok, err = search.Match(t.where, &r, t.schema.Index(d))
		return err
	})
	if errors.Is(err, search.ErrNeedsIndex) {
		return false, fhir.Errorf(fhir.Forbidden, "what the scopes, the policy or the search ask of AuditEvents follows references, which the audit trail does not support")
	}
	return ok, err
}

// fetch returns the next entries from the place on that the walk comes by, n
// unless it is at the end.
func (t *trailWalk) fetch(ctx context.Context, from int64, n int) ([]trailRow, error) {
	stmt, any := t.statement(from, n)
	if !any {
		return nil, nil
	}
	rows, err := t.query(ctx, t.permit, stmt.Custom(true))
	if err != nil {
		return nil, fmt.Errorf("reading the audit trail: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (trailRow, error) {
		var met bool
		e, err := t.scanTrail(row, &met)
		if errors.Is(err, errUnreadable) {
			return trailRow{e, met, true}, nil
		}
		return trailRow{e, met, false}, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the audit trail: %w", err)
	}
	return list, nil
}

// statement reads entries along one index, or along several whose rows are
// merged: so a page costs what it shows, however long the trail is. It reports
// false if there can be none.
func (t *trailWalk) statement(from int64, n int) (gate.Clause, bool) {
	within := t.narrow
	switch {
	case from != 0 && t.rising:
		within.low = max(within.low, from)
	case from != 0:
		within.high = min(within.high, from)
	}
	if within.none || within.low >= within.high-1 {
		return gate.Clause{}, false
	}
	rest, along := within.split()
	met := within.conditions(rest)
	var read gate.Clause
	for i, one := range along {
		if i > 0 {
			read = read.With(gate.SQL(`UNION ALL`))
		}
		read = read.With(gate.SQL(`(`), one.along(within, t.rising, n), gate.SQL(`)`))
	}
	return gate.SQL(`
		SELECT seq, coalesce(parent, 0), recorded, interaction, outcome, coalesce(type, 0), coalesce(version, 0),
		       CASE WHEN met THEN sealed END, met
		FROM   (SELECT r.*, coalesce(`).With(met, gate.SQL(`, false) AS met FROM (`), read, gate.SQL(`) r`),
		inOrder(t.rising, seqOf, n), gate.SQL(`) r`)), true
}
