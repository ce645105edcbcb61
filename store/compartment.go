package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A RecordQuery asks for a resource with all that is in its compartment, and
// what that refers to.
// https://hl7.org/fhir/R4/compartmentdefinition.html
type RecordQuery struct {
	// Of is whose compartment it is. Without an ID it is every one of the type
	// that the Grant may search, one after the other.
	Of fhir.Ref
	// Types are those of the answer; none means all.
	Types []fhir.Type
	// Since leaves out what was changed before.
	Since time.Time
	// Start and End leave out what ended before, or began at or after. What has
	// no date is not left out.
	Start, End time.Time
	// Beside are the types outside of the compartment of which comes along what
	// is referred to.
	Beside []fhir.Type
	Count  int
	// Operation and Query are what was asked, kept in the cursor.
	Operation, Query string
}

// Record returns the page of a record at the cursor, of which the zero Cursor
// is the first: the resource, what is in its compartment, newest first, and
// with each page what it refers to, once. The error is that of Read if the
// Grant may not read the resource. Types that it may not search are left out,
// and so are lists of other patients, for who may not see them.
func (v *View) Record(ctx context.Context, q RecordQuery, c Cursor) (*Page, error) {
	r := &recorder{View: v, q: q, page: &Page{}, permits: map[fhir.Type]smart.Permit{}}
	if q.Count <= 0 || q.Count > MaxCount {
		r.q.Count = MaxCount
	}
	if err := r.prepare(c); err != nil {
		return nil, err
	}
	next, err := r.records(ctx, c.After)
	if err != nil {
		return nil, err
	}
	if err := r.beside(ctx); err != nil {
		return nil, err
	}
	if next == nil {
		return r.page, nil
	}
	next.Beside = r.had
	r.page.Next, err = v.seal(Cursor{
		Interaction: fhir.Operation, Operation: q.Operation, Ref: q.Of, Query: q.Query, Page: max(c.Page, 1) + 1, After: *next,
	})
	return r.page, err
}

// A recorder makes one page.
type recorder struct {
	*View
	q        RecordQuery
	page     *Page
	bytes    int
	permits  map[fhir.Type]smart.Permit // of the types that are returned
	own      smart.Permit               // to read what the compartment is of
	members  []fhir.Type
	refs     map[fhir.Ref]bool // to types outside of the compartment
	patients []fhir.Ref        // whom the record that is being added is about
	given    map[fhir.Ref]bool // what is on the page, where a resource can be in two records
	had      []byte            // the keys of what came along before, 8 bytes each
}

// maxBeside bounds how much of what came along a cursor remembers. What is
// beyond may come again.
const maxBeside = 256

// maxRecords bounds the records that one page begins.
const maxRecords = 20

// prepare asks for the permits.
func (r *recorder) prepare(c Cursor) (err error) {
	if r.own, err = r.gate.Permit(fhir.Read, r.q.Of.Type); err != nil {
		return err
	}
	r.had, r.refs = c.After.Beside, map[fhir.Ref]bool{}
	if r.q.Of.ID == "" {
		r.given = map[fhir.Ref]bool{}
	}
	dated := !r.q.Start.IsZero() || !r.q.End.IsZero()
	permit := func(t fhir.Type) bool {
		if len(r.q.Types) > 0 && !slices.Contains(r.q.Types, t) {
			return false
		}
		if dated && r.hidesDate(t) {
			return false // whether it comes along would tell when it was
		}
		p, err := r.gate.Permit(fhir.SearchType, t)
		r.permits[t] = p
		return err == nil
	}
	for _, m := range r4.Compartment(r.q.Of.Type) {
		if m.Type != r.q.Of.Type && m.Type != "AuditEvent" && permit(m.Type) {
			r.members = append(r.members, m.Type)
		}
	}
	r.q.Beside = slices.DeleteFunc(slices.Clone(r.q.Beside), func(t fhir.Type) bool { return !permit(t) })
	return nil
}

// records fills the page and returns where the next one begins, nil after the
// last.
func (r *recorder) records(ctx context.Context, at position) (*position, error) {
	if r.q.Of.ID != "" {
		return r.record(ctx, r.q.Of, at)
	}
	if at.ID != "" {
		next, err := r.record(ctx, fhir.Ref{Type: r.q.Of.Type, ID: at.ID}, at)
		if fhir.IsCode(err, fhir.NotFound) || fhir.IsCode(err, fhir.Deleted) {
			err = nil // hidden or deleted since the page before
		}
		if next != nil || err != nil {
			return next, err
		}
	}
	p, err := r.gate.Permit(fhir.SearchType, r.q.Of.Type)
	if err != nil {
		return nil, err
	}
	pl, err := r.plan(ctx, p, r.q.Of.Type, search.And{})
	if err != nil {
		return nil, err
	}
	all := []plan{pl}
	some := &sheet{size: maxRecords}
	if err := r.indexed(ctx, all, order{by: search.ByID, asc: true}, position{ID: at.ID, RID: 1}, some); err != nil {
		return nil, err
	}
	found := some.found
	for _, one := range found {
		if len(r.page.Matches) == r.q.Count {
			return &position{ID: one.Ref.ID}, nil
		}
		if next, err := r.record(ctx, one.Ref, position{}); next != nil || err != nil {
			return next, err
		}
	}
	if len(found) == maxRecords {
		return &position{ID: found[len(found)-1].Ref.ID, RID: math.MinInt64, Time: &time.Time{}}, nil
	}
	return nil, nil
}

// record adds one record to the page, from the position on.
func (r *recorder) record(ctx context.Context, of fhir.Ref, at position) (*position, error) {
	cur, err := r.current(ctx, r.own, of)
	if err != nil {
		return nil, err
	}
	if err := r.visible(ctx, r.own, cur); err != nil {
		return nil, err
	}
	if cur.deleted {
		return nil, gone(of)
	}
	if at.RID == 0 {
		// What follows is after the resource itself and before all members.
		at = position{ID: of.ID, RID: math.MaxInt64, Time: &search.Forever}
		if (len(r.q.Types) == 0 || slices.Contains(r.q.Types, of.Type)) && !cur.updated.Before(r.q.Since) {
			res, err := r.open(cur)
			if err != nil {
				return nil, err
			}
			if err := r.add(of, res); err != nil {
				return nil, err
			}
		}
	}
	next, err := r.compartment(ctx, of, at)
	if err != nil {
		return nil, err
	}
	r.noteOf(audit.Entry{Interaction: fhir.SearchType, Type: of.Type, Entity: of}, r.patients)
	r.patients = nil
	return next, nil
}

// add puts a resource on the page and notes whom it is about and what it refers
// to.
func (r *recorder) add(of fhir.Ref, res fhir.Resource) error {
	seen, err := r.shown(res)
	if err != nil {
		return err
	}
	r.page.Matches = append(r.page.Matches, seen)
	r.bytes += len(res.Body)
	if r.given != nil {
		r.given[res.Ref] = true
	}
	r.noteThrough(res)
	return fhir.Peek(res.Body, func(d *fhir.Document) error {
		others := of.Type != "Patient"
		for _, ref := range r.schema.References(d, r.seenPaths(d.Type)) {
			others = others || ref.Type == "Patient" && ref != of
			if slices.Contains(r.q.Beside, ref.Type) && !r.refs[ref] {
				r.refs[fhir.Ref{Type: fhir.TypeNumbered(ref.Type.Number()), ID: strings.Clone(ref.ID)}] = true
			}
		}
		about := []fhir.Ref{of}
		if others { // it may be about them too
			about = r.schema.PatientsOf(d)
		}
		for _, p := range about {
			if !slices.Contains(r.patients, p) {
				r.patients = append(r.patients, fhir.Ref{Type: "Patient", ID: strings.Clone(p.ID)})
			}
		}
		return nil
	})
}

// seenPaths are the elements with references that the Grant may see; nil if it
// may see all.
func (r *recorder) seenPaths(t fhir.Type) []search.Path {
	if r.grant.Hidden(t) == nil {
		return nil
	}
	return slices.DeleteFunc(append([]search.Path{}, search.ReferencePaths(t)...), r.hides)
}

// compartment adds the members after the position, as many as there is room
// for.
func (r *recorder) compartment(ctx context.Context, of fhir.Ref, at position) (*position, error) {
	keys, within := r.keys(of)
	if len(keys) == 0 {
		return nil, nil
	}
	for examined := 0; ; {
		want := min(r.q.Count+1-len(r.page.Matches), maxFetch)
		rows, err := r.rows(ctx, of, keys, at, want)
		if err != nil {
			return nil, err
		}
		for _, c := range rows {
			res, ok, err := r.member(ctx, of, c.row, within[c.ref.Type])
			if err != nil {
				return nil, err
			}
			ok = ok && !r.given[c.ref]
			if ok && (len(r.page.Matches) == r.q.Count || r.bytes > maxPage) {
				return &at, nil
			}
			if ok {
				if err := r.add(of, res); err != nil {
					return nil, err
				}
			}
			at = c.position(c.ref.Type)
			at.ID = of.ID
		}
		if len(rows) < want {
			return nil, nil
		}
		if examined += len(rows); examined > maxExamined {
			return nil, tooCostly()
		}
	}
}

// keys returns the index keys of the elements by which members refer to what
// the compartment is of, and the condition for each type.
func (r *recorder) keys(of fhir.Ref) (keys []int64, within map[fhir.Type]search.Expr) {
	within = map[fhir.Type]search.Expr{}
	for _, t := range r.members {
		e, _ := search.Compartment(of.Type, of.ID, t)
		within[t] = e
		list, ok := e.(search.Or)
		if !ok {
			list = search.Or{e}
		}
		for _, one := range list {
			if ref, ok := one.(search.HasReference); ok && !r.hides(ref.Path) {
				keys = append(keys, r.refKey(ref.Path, ref.Pair))
			}
		}
	}
	return unique(keys), within
}

// rows returns the next n rows of the compartment, of whatever type.
func (r *recorder) rows(ctx context.Context, of fhir.Ref, keys []int64, at position, n int) ([]candidate, error) {
	after := time.Time{}
	if at.Time != nil {
		after = *at.Time
	}
	found := gate.SQL(`
		SELECT DISTINCT x.ts, x.rid FROM ~idx_ref x
		WHERE  x.tenant_id = $1 AND x.key = ANY(?::bigint[]) AND x.target = ? AND (x.ts, x.rid) < (?, ?)`,
		keys, r.rid(of), stamp(after), at.RID)
	where := gate.SQL(`WHERE NOT r.deleted`)
	if r.q.Since.IsZero() && r.q.Start.IsZero() && r.q.End.IsZero() {
		found = found.With(gate.SQL(`ORDER BY x.ts DESC, x.rid DESC LIMIT ?`, n)) // before any body is read
	}
	if !r.q.Since.IsZero() {
		where = where.With(gate.SQL(`AND r.updated >= ?`, r.q.Since))
	}
	if !r.q.Start.IsZero() {
		where = where.With(gate.SQL(`AND (r.ts = '-infinity' OR coalesce(r.te > ?, r.ts >= ?))`, r.q.Start, r.q.Start))
	}
	if !r.q.End.IsZero() {
		where = where.With(gate.SQL(`AND r.ts < ?`, r.q.End))
	}
	q := gate.SQL(`SELECT r.rid, r.type, r.id, r.version, r.updated, r.body, nullif(f.ts, '-infinity') FROM (`).With(found,
		gate.SQL(`) f JOIN ~resource r ON r.tenant_id = $1 AND r.rid = f.rid`), where,
		gate.SQL(`ORDER BY f.ts DESC, f.rid DESC LIMIT ?`, n))
	rows, err := r.query(ctx, r.own, q)
	if err != nil {
		return nil, fmt.Errorf("reading a compartment: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(rows pgx.CollectableRow) (candidate, error) {
		var c candidate
		var number int16
		var ts *time.Time
		err := rows.Scan(&c.rid, &number, &c.ref.ID, &c.version, &c.updated, &c.body, &ts)
		c.ref.Type = fhir.TypeNumbered(number)
		if c.none = ts == nil; !c.none {
			c.ts = ts.UTC()
		}
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading a compartment: %w", err)
	}
	return list, nil
}

// member opens a row and reports whether the Grant may see it. within is the
// condition that the index has answered for it.
func (r *recorder) member(ctx context.Context, of fhir.Ref, c row, within search.Expr) (fhir.Resource, bool, error) {
	p, known := r.permits[c.ref.Type]
	if !known || within == nil {
		return fhir.Resource{}, false, nil
	}
	res, err := r.open(c)
	if err != nil {
		return fhir.Resource{}, false, err
	}
	where, by, err := r.where(ctx, p)
	if err != nil {
		return fhir.Resource{}, false, err
	}
	if by != nil || !search.Equal(where, within) {
		if ok, err := r.covers(ctx, p, res); err != nil || !ok {
			return fhir.Resource{}, false, err
		}
	}
	switch c.ref.Type {
	case "Group", "List", "Provenance":
		ok, err := r.alone(ctx, of, res)
		return res, ok, err
	}
	return res, true, nil
}

// alone reports whether a resource that can list many patients names none but
// those whom the Grant may see whatever they are, and the one of the record.
func (r *recorder) alone(ctx context.Context, of fhir.Ref, res fhir.Resource) (bool, error) {
	if p, err := r.gate.Permit(fhir.Read, "Patient"); err == nil {
		if free, err := r.free(ctx, p); free || err != nil {
			return free, err
		}
	}
	alone := true
	err := fhir.Peek(res.Body, func(d *fhir.Document) error {
		alone = !slices.ContainsFunc(r.schema.References(d, nil), func(ref fhir.Ref) bool { return ref.Type == "Patient" && ref != of })
		return nil
	})
	return alone, err
}

// beside adds what the matches refer to outside of the compartment, in one
// statement.
func (r *recorder) beside(ctx context.Context) error {
	var rids []int64
	for ref := range r.refs {
		if rid := r.rid(ref); !r.cameBefore(rid) {
			rids = append(rids, rid)
		}
	}
	if len(rids) == 0 {
		return nil
	}
	if len(rids) > maxIncluded {
		return tooManyIncluded()
	}
	rows, err := r.query(ctx, r.own, gate.SQL(`
		SELECT rid, type, id, version, updated, body
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid = ANY(?::bigint[]) AND NOT deleted
		ORDER  BY type, id`, rids))
	if err != nil {
		return fmt.Errorf("reading what a record refers to: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return fmt.Errorf("reading what a record refers to: %w", err)
	}
	for _, c := range found {
		res, err := r.open(c)
		if err != nil {
			return err
		}
		if r.bytes += len(res.Body); r.bytes > maxPage+maxIncludedBytes {
			return tooManyIncluded()
		}
		ok, err := r.covers(ctx, r.permits[c.ref.Type], res)
		if err != nil {
			return err
		}
		if !ok || !r.refs[c.ref] {
			continue
		}
		r.page.Included = append(r.page.Included, res)
		if len(r.had) < 8*maxBeside {
			r.had = binary.BigEndian.AppendUint64(r.had, uint64(c.rid))
		}
	}
	if len(r.page.Included) > 0 {
		r.noteAll(audit.Entry{Interaction: fhir.SearchSystem}, r.page.Included)
	}
	return r.showAll(r.page.Included)
}

func (r *recorder) cameBefore(rid int64) bool {
	for b := range slices.Chunk(r.had, 8) {
		if len(b) == 8 && binary.BigEndian.Uint64(b) == uint64(rid) {
			return true
		}
	}
	return false
}
