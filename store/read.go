package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// row is a resource as a table keeps it.
type row struct {
	rid     int64
	ref     fhir.Ref
	version int64
	updated time.Time
	deleted bool
	body    []byte // sealed
	// opened is the resource, if it was opened before. withheld says that a
	// consent keeps it from who asks.
	opened   *fhir.Resource
	withheld bool
	seq      int64 // of its change, where that was read
}

// unknown is the answer for what is not there, and for what the Grant may not
// see: nobody can tell one from the other.
func unknown(ref fhir.Ref) error {
	return fhir.Errorf(fhir.NotFound, "%s is not known", ref)
}

func gone(ref fhir.Ref) error {
	return fhir.Errorf(fhir.Deleted, "%s was deleted", ref)
}

// Read returns the current version of the resource. The error is a
// *fhir.Error: Forbidden if the Grant does not reach the type, NotFound if
// there is none that it may see, Deleted if the last version is a deletion.
func (v *View) Read(ctx context.Context, ref fhir.Ref) (fhir.Resource, error) {
	return v.read(ctx, fhir.Read, ref, 0)
}

// Vread returns one version of the resource; errors as for Read. Whether it may
// be seen is decided by the current version as well, so that what was hidden
// later is hidden in its past too.
func (v *View) Vread(ctx context.Context, ref fhir.Ref, version int64) (fhir.Resource, error) {
	return v.read(ctx, fhir.Vread, ref, version)
}

func (v *View) read(ctx context.Context, do fhir.Interaction, ref fhir.Ref, version int64) (fhir.Resource, error) {
	v.attempt(audit.Entry{Interaction: do, Type: ref.Type, Entity: ref})
	p, err := v.gate.Permit(do, ref.Type)
	if err != nil {
		return fhir.Resource{}, err
	}
	cur, err := v.current(ctx, p, ref)
	if err != nil {
		return fhir.Resource{}, err
	}
	if err := v.visible(ctx, p, cur); err != nil {
		return fhir.Resource{}, err
	}
	found := cur
	if version != 0 && version != cur.version {
		if found, err = v.past(ctx, p, cur, version); err != nil {
			return fhir.Resource{}, err
		}
		if err := v.visible(ctx, p, found); err != nil {
			return fhir.Resource{}, err
		}
	}
	if found.deleted {
		return fhir.Resource{}, gone(ref)
	}
	r, err := v.open(found)
	if err != nil {
		return fhir.Resource{}, err
	}
	v.noteOf(v.disclosed(do, r), v.patients(r))
	return v.shown(r)
}

// current returns the newest version, deletion or not.
func (v *View) current(ctx context.Context, p smart.Permit, ref fhir.Ref) (row, error) {
	f := v.foresee(p, ref)
	stmt, err := f.statement(ctx)
	if err != nil {
		return row{}, err
	}
	rows, err := v.query(ctx, p, stmt)
	if err != nil {
		return row{}, fmt.Errorf("reading %s: %w", ref.Type, err)
	}
	r, err := f.learn(rows)
	if err != nil {
		return row{}, fmt.Errorf("reading %s: %w", ref.Type, err)
	}
	if r == nil {
		return row{}, cmp.Or(v.pretend(ctx, p, ref), unknown(ref))
	}
	return *r, nil
}

// past returns an older version of what cur is the newest version of.
func (v *View) past(ctx context.Context, p smart.Permit, cur row, version int64) (row, error) {
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT rid, version, updated, deleted, body
		FROM   ~history
		WHERE  tenant_id = $1 AND rid = ? AND version = ?`, cur.rid, int32(min(version, 1<<31-1))))
	if err != nil {
		return row{}, fmt.Errorf("reading a version of %s: %w", cur.ref.Type, err)
	}
	found := row{ref: cur.ref}
	r, err := pgx.CollectExactlyOneRow(rows, func(rows pgx.CollectableRow) (row, error) {
		err := rows.Scan(&found.rid, &found.version, &found.updated, &found.deleted, &found.body)
		return found, err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return row{}, unknown(cur.ref)
	}
	if err != nil {
		return row{}, fmt.Errorf("reading a version of %s: %w", cur.ref.Type, err)
	}
	return r, nil
}

// query runs q after what the transaction has yet to write, so that it sees it.
func (v *View) query(ctx context.Context, p smart.Permit, q gate.Clause) (pgx.Rows, error) {
	if v.writes != nil {
		if err := v.flush(ctx); err != nil {
			return nil, err
		}
	}
	return v.gate.Query(ctx, p, q)
}

// errTwoStatements says that a read needs more than the one statement that
// DB.Read has.
var errTwoStatements = gate.ErrTwoStatements

// Waiting is what fn of a View or an Update returns if it cannot go on without
// what others have to be asked for: it is run again once For has returned, and
// meanwhile no connection is held. Like any run but the last, it leaves nothing.
type Waiting = gate.Waiting

// visible returns nil if the permit covers the version, else the error for an
// unknown resource, and the trail says what kept it.
func (v *View) visible(ctx context.Context, p smart.Permit, r row) error {
	if free, err := v.free(ctx, p); free || err != nil {
		return err
	}
	res, ok, err := v.deciding(ctx, p, r)
	if err != nil {
		return err
	}
	if !ok {
		return unknown(r.ref)
	}
	if ok, err = v.covers(ctx, p, res); err != nil {
		return err
	}
	if !ok {
		v.failed(p, res)
		return unknown(r.ref)
	}
	return nil
}

// deciding returns what decides who may see the version: its content, or that of
// the version before a deletion. It is false if there is none.
func (v *View) deciding(ctx context.Context, p smart.Permit, r row) (res fhir.Resource, ok bool, err error) {
	if r.deleted {
		if r.version < 2 {
			return res, false, nil
		}
		r, err = v.past(ctx, p, r, r.version-1)
		if fhir.IsCode(err, fhir.NotFound) || err == nil && r.deleted {
			return res, false, nil
		}
		if err != nil {
			return res, false, err
		}
	}
	res, err = v.open(r)
	return res, err == nil, err
}

// seen reports which of the versions the permits of their types cover.
func (v *View) seen(ctx context.Context, permits map[fhir.Type]smart.Permit, versions []row) ([]bool, error) {
	seen := make([]bool, len(versions))
	at := map[fhir.Type][]int{}
	for i, r := range versions {
		at[r.ref.Type] = append(at[r.ref.Type], i)
	}
	for on, list := range at {
		if err := v.seenOf(ctx, permits[on], versions, list, seen); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// seenOf is seen for the versions of one type, which are at these places. No more
// of them than fit on a page are open at once.
func (v *View) seenOf(ctx context.Context, p smart.Permit, versions []row, at []int, seen []bool) error {
	free, err := v.free(ctx, p)
	if err != nil {
		return err
	}
	var opened []fhir.Resource
	var of []int
	bytes := 0
	for n, i := range at {
		if seen[i] = free; free {
			continue
		}
		res, ok, err := v.deciding(ctx, p, versions[i])
		if err != nil {
			return err
		}
		if ok {
			opened, of, bytes = append(opened, res), append(of, i), bytes+len(res.Body)
		}
		if len(opened) == 0 || bytes < maxPage && n < len(at)-1 {
			continue
		}
		covered, err := v.cover(ctx, p, opened...)
		if err != nil {
			return err
		}
		for k, i := range of {
			seen[i] = covered[k]
		}
		opened, of, bytes = nil, nil, 0
	}
	return nil
}

// failed says in the audit trail what of the scopes, the policy and the consents
// kept the resource from who asked. It goes by what was found out for the decision.
func (v *View) failed(p smart.Permit, res fhir.Resource) {
	codes := v.grant.Failed(p.Interaction(), p.On(), func(where search.Expr) bool {
		ok := false
		err := fhir.Peek(res.Body, func(d *fhir.Document) (err error) {
			where = search.Settle(where, func(link search.Expr) (holds, known bool) { return v.heldFor(p, link, res.Ref, d), true })
			ok, err = search.Match(where, &res, v.schema.Index(d))
			return err
		})
		return ok && err == nil
	})
	v.gate.Trail().Main.Failed = codes
}

// heldFor reports whether it was found out that the chain of a policy holds for the
// document. It asks nothing: who is refused must not wait longer for it.
func (v *View) heldFor(p smart.Permit, link search.Expr, ref fhir.Ref, d *fhir.Document) bool {
	for _, r := range v.related(p.On(), link) {
		end := v.knownEnding(r.end)
		if end != nil && slices.ContainsFunc(r.ends(v, ref, d), func(rid int64) bool { return end.holds[rid] }) {
			return true
		}
	}
	return false
}

// pretend does for a resource that never was what is done for one that is hidden: it
// finds out what would decide, and by what somebody would be refused. Were the
// answer there sooner, it would tell one from the other.
func (v *View) pretend(ctx context.Context, p smart.Permit, ref fhir.Ref) error {
	where, _ := search.Apart(v.allowed(p))
	if all(where) {
		return nil
	}
	if v.writes != nil { // else it was asked together with the resource
		var list []asking
		for _, r := range v.related(p.On(), where) {
			list = append(list, asking{r.end, []int64{v.rid(ref)}})
		}
		if err := v.ask(ctx, p, list...); err != nil {
			return err
		}
	}
	v.grant.Failed(p.Interaction(), p.On(), func(search.Expr) bool { return false })
	return nil
}

// all reports whether where is no condition at all.
func all(where search.Expr) bool {
	and, ok := where.(search.And)
	return ok && len(and) == 0
}

// open decrypts a version.
func (v *View) open(r row) (fhir.Resource, error) {
	res := fhir.Resource{Ref: r.ref, Version: r.version, Updated: r.updated.UTC(), Deleted: r.deleted}
	if r.deleted {
		return res, nil
	}
	if r.opened != nil {
		return *r.opened, nil
	}
	var err error
	res.Body, err = v.db.codec.open(v.keys, v.grant.Tenant().ID.Int(), r.ref, r.version, r.body)
	return res, err
}

// disclosed is the audit entry for a resource that leaves.
func (v *View) disclosed(do fhir.Interaction, r fhir.Resource) audit.Entry {
	e := audit.Entry{Interaction: do, Type: r.Ref.Type, Entity: r.Ref, Version: r.Version}
	if ps := v.patients(r); len(ps) > 0 {
		through := func(p fhir.Ref) bool { return v.grant.Through(p) != (audit.Glass{}) }
		e.Patient = ps[max(0, slices.IndexFunc(ps, through))]
	}
	return e
}

// patients returns the patients whose record the resource belongs to; if none, as
// of a Device, those of whom it tells.
func (v *View) patients(r fhir.Resource) []fhir.Ref {
	if r.Deleted {
		return nil
	}
	if r.Ref.Type == "Patient" {
		return []fhir.Ref{r.Ref}
	}
	var list []fhir.Ref
	err := fhir.Peek(r.Body, func(d *fhir.Document) error {
		for _, p := range v.schema.PatientsOf(d) {
			list = append(list, fhir.Ref{Type: "Patient", ID: strings.Clone(p.ID)})
		}
		if len(list) == 0 {
			for _, id := range v.schema.About(d) {
				list = append(list, fhir.Ref{Type: "Patient", ID: id})
			}
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return list
}
