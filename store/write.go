package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// Tx is a View that can also write. It sees its own writes.
type Tx struct {
	View
	fetched map[fhir.Ref]*row // nil row: there is none
	ruled   bool              // something of smart.RuleTypes was written
}

// NewID returns an id for a resource that is about to be created.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// Lock makes other transactions of the tenant that Lock an equal name wait
// until this one ends. Conditional interactions lock their criteria, so that
// equal ones happen one after the other.
func (tx *Tx) Lock(ctx context.Context, do fhir.Interaction, on fhir.Type, name string) error {
	tx.attempt(audit.Entry{Interaction: do, Type: on})
	p, err := tx.gate.Permit(do, on)
	if err != nil {
		return err
	}
	if err := tx.gate.Exec(ctx, p, gate.SQL(`SELECT pg_advisory_xact_lock(?) WHERE $1 <> 0`, tx.lockKey(name))); err != nil {
		return fmt.Errorf("locking criteria: %w", err)
	}
	return nil
}

// Fetch reads the current versions of refs for a later Put or Delete, locked,
// in one round trip. Put and Delete fetch what was not fetched.
func (tx *Tx) Fetch(ctx context.Context, refs ...fhir.Ref) error {
	if tx.fetched == nil {
		tx.fetched = map[fhir.Ref]*row{}
	}
	var rids []int64
	var p smart.Permit
	for _, ref := range refs {
		if _, ok := tx.fetched[ref]; ok {
			continue
		}
		tx.fetched[ref] = nil
		var err error
		if p, err = tx.writePermit(ref.Type); err != nil {
			return err
		}
		rids = append(rids, tx.rid(ref))
	}
	if len(rids) == 0 {
		return nil
	}
	// The rows are locked in one order by everybody, so that two Bundles
	// wait for each other in turn and not in a circle.
	rows, err := tx.query(ctx, p, gate.SQL(`
		SELECT rid, type, id, version, updated, deleted, body,`).With(tx.anyConsent(), gate.SQL(`
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid = ANY(?::bigint[])
		ORDER  BY rid
		FOR    UPDATE`, rids)))
	if err != nil {
		return fmt.Errorf("locking resources: %w", err)
	}
	var r row
	var number int16
	var consents bool
	_, err = pgx.ForEachRow(rows, []any{&r.rid, &number, &r.ref.ID, &r.version, &r.updated, &r.deleted, &r.body, &consents}, func() error {
		tx.consents.tell(consents)
		found := r
		found.ref.Type = fhir.TypeNumbered(number)
		tx.fetched[found.ref] = &found
		r.body = nil
		return nil
	})
	if err != nil {
		return fmt.Errorf("locking resources: %w", err)
	}
	return nil
}

// writePermit is a permit to lock a resource of the type before changing it:
// whichever of update, patch and delete the Grant has.
func (tx *Tx) writePermit(t fhir.Type) (smart.Permit, error) {
	p, err := tx.gate.Permit(fhir.Update, t)
	if err == nil {
		return p, nil
	}
	if p, derr := tx.gate.Permit(fhir.Delete, t); derr == nil {
		return p, nil
	}
	return smart.Permit{}, err
}

// fetch returns the locked current version, nil if there is none.
func (tx *Tx) fetch(ctx context.Context, ref fhir.Ref) (*row, error) {
	if err := tx.Fetch(ctx, ref); err != nil {
		return nil, err
	}
	r := tx.fetched[ref]
	if r != nil && tx.writes.rids[r.rid] { // a second version must come after the first
		if err := tx.flush(ctx); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Create stores d as the first version of a resource of its type under a
// new id, which it chooses, unless id is set. d has passed
// fhir/validate; its id, meta.versionId and meta.lastUpdated
// are replaced.
func (tx *Tx) Create(ctx context.Context, id string, d *fhir.Document) (fhir.Resource, error) {
	if id == "" {
		id = NewID()
	}
	ref := fhir.Ref{Type: d.Type, ID: id}
	tx.attempt(audit.Entry{Interaction: fhir.Create, Type: d.Type})
	p, err := tx.gate.Permit(fhir.Create, d.Type)
	if err == nil {
		err = tx.mayHave(d)
	}
	if err != nil {
		return fhir.Resource{}, err
	}
	return tx.put(ctx, p, fhir.Create, ref, d, nil)
}

// Put stores d as the next version of the resource, or as the first.
// created tells which. If ifMatch is not 0 the current version must be that,
// else the error has code Conflict and status 412. Put of a resource that the
// Grant may not see is NotFound.
func (tx *Tx) Put(ctx context.Context, ref fhir.Ref, d *fhir.Document, ifMatch int64) (r fhir.Resource, created bool, err error) {
	return tx.replace(ctx, fhir.Update, ref, d, ifMatch)
}

// Patch is Put under the name of the interaction patch.
func (tx *Tx) Patch(ctx context.Context, ref fhir.Ref, d *fhir.Document, ifMatch int64) (fhir.Resource, error) {
	r, _, err := tx.replace(ctx, fhir.Patch, ref, d, ifMatch)
	return r, err
}

// Add stores d as the first version of a resource of which there was none, under an
// id that the client chose. The error is Conflict if there is one or was, whoever
// may see it: Add is for those who may write all of the type, to whom Put tells as
// much.
func (tx *Tx) Add(ctx context.Context, ref fhir.Ref, d *fhir.Document) (fhir.Resource, error) {
	tx.attempt(audit.Entry{Interaction: fhir.Update, Type: ref.Type, Entity: ref})
	p, err := tx.gate.Permit(fhir.Update, ref.Type)
	if err == nil {
		err = tx.writesAll(p, ref.Type)
	}
	if err == nil {
		err = tx.mayReplace(ref.Type)
	}
	if err == nil {
		err = tx.Fetch(ctx, ref)
	}
	if err != nil {
		return fhir.Resource{}, err
	}
	if tx.fetched[ref] != nil {
		return fhir.Resource{}, fhir.Errorf(fhir.Conflict, "there is, or was, such a resource")
	}
	return tx.put(ctx, p, fhir.Update, ref, d, nil)
}

func (tx *Tx) replace(ctx context.Context, do fhir.Interaction, ref fhir.Ref, d *fhir.Document, ifMatch int64) (r fhir.Resource, created bool, err error) {
	p, old, err := tx.take(ctx, do, ref)
	if err != nil {
		return fhir.Resource{}, false, err
	}
	if err := match(old, ifMatch); err != nil {
		return fhir.Resource{}, false, err
	}
	r, err = tx.put(ctx, p, do, ref, d, old)
	return r, old == nil || old.deleted, err
}

// take returns the current version, locked, if the Grant may do the interaction
// to it; nil if there is none.
func (tx *Tx) take(ctx context.Context, do fhir.Interaction, ref fhir.Ref) (smart.Permit, *row, error) {
	tx.attempt(audit.Entry{Interaction: do, Type: ref.Type, Entity: ref})
	p, err := tx.gate.Permit(do, ref.Type)
	if err == nil && do != fhir.Delete {
		err = tx.mayReplace(ref.Type)
	}
	if err != nil {
		return p, nil, err
	}
	old, err := tx.fetch(ctx, ref)
	switch {
	case err != nil:
	case old == nil:
		err = tx.pretend(ctx, p, ref)
	default:
		err = tx.visible(ctx, p, *old)
	}
	return p, old, err
}

// match checks If-Match against what is there.
func match(old *row, ifMatch int64) error {
	if ifMatch == 0 || old != nil && !old.deleted && old.version == ifMatch {
		return nil
	}
	return fhir.Errorf(fhir.Conflict, "the resource is not at the version that If-Match names").WithStatus(412)
}

// Current returns the current version, locked, for a change that depends on
// it; errors as for Read.
func (tx *Tx) Current(ctx context.Context, do fhir.Interaction, ref fhir.Ref) (fhir.Resource, error) {
	_, old, err := tx.take(ctx, do, ref)
	if err != nil {
		return fhir.Resource{}, err
	}
	if old == nil {
		return fhir.Resource{}, unknown(ref)
	}
	if old.deleted {
		return fhir.Resource{}, gone(ref)
	}
	return tx.open(*old)
}

// Next returns the version that the next Put of the resource will make; errors
// as for Put.
func (tx *Tx) Next(ctx context.Context, do fhir.Interaction, ref fhir.Ref) (int64, error) {
	_, old, err := tx.take(ctx, do, ref)
	if err != nil {
		return 0, err
	}
	if old == nil {
		return 1, nil
	}
	return old.version + 1, nil
}

// put writes the version after old.
func (tx *Tx) put(ctx context.Context, p smart.Permit, do fhir.Interaction, ref fhir.Ref, d *fhir.Document, old *row) (fhir.Resource, error) {
	r := fhir.Resource{Ref: ref, Version: 1, Updated: now()}
	next := row{rid: tx.rid(ref), ref: ref}
	if old != nil {
		r.Version = old.version + 1
		if !r.Updated.After(old.updated) { // the clock went back; time in a resource does not
			r.Updated = old.updated.UTC().Add(time.Millisecond)
		}
	}
	d, err := tx.labelled(ctx, old, d)
	if err == nil {
		d, err = tx.subscribe(ctx, p, ref, d)
	}
	if err != nil {
		return fhir.Resource{}, err
	}
	r.Body = d.Stamp(ref.ID, r.Version, r.Updated)
	if ref.Type == "SearchParameter" {
		if err := checkParameter(r.Body); err != nil {
			return fhir.Resource{}, err
		}
	}
	terms, err := tx.terms(d, r.Body)
	if err != nil {
		return fhir.Resource{}, err
	}
	if terms.TooMany {
		return fhir.Resource{}, fhir.Errorf(fhir.TooCostly, "the resource has more than %d values that searches look at", search.MaxTerms)
	}
	if where, _ := search.Apart(tx.allowed(p)); !all(where) { // a consent keeps nobody from writing down what is new
		where, err := tx.settled(ctx, p, where, r)
		if err != nil {
			return fhir.Resource{}, err
		}
		ok, err := search.Match(where[0], &r, terms)
		if err != nil {
			return fhir.Resource{}, err
		}
		if !ok {
			tx.failed(p, r)
			return fhir.Resource{}, fhir.Errorf(fhir.Forbidden, "the resource would be outside what the token allows")
		}
	}
	next.version, next.updated = r.Version, r.Updated
	if next.body, err = tx.db.codec.seal(tx.keys, tx.grant.Tenant().ID.Int(), r); err != nil {
		return fhir.Resource{}, fmt.Errorf("sealing %s: %w", ref.Type, err)
	}
	oldKeys, err := tx.indexOf(old)
	if err != nil {
		return fhir.Resource{}, err
	}
	op := "u"
	if old == nil {
		op = "c"
	}
	tx.store(p, next, old, terms.Present, oldKeys, tx.hash(ref.Type, terms), op)
	tx.consents.changed(ref.Type)
	e := audit.Entry{Interaction: do, Type: ref.Type, Entity: ref, Version: r.Version}
	about := tx.schema.PatientsOf(d)
	if ref.Type == "Patient" {
		about = []fhir.Ref{ref}
	}
	tx.noteOf(e, about)
	return r, nil
}

// terms returns those of d, which body is with what Stamp set. R4's parameters
// read none of that in the index; those of a tenant may.
func (tx *Tx) terms(d *fhir.Document, body []byte) (*search.Terms, error) {
	if !tx.schema.Custom.Adds(d.Type) {
		return tx.schema.Index(d), nil
	}
	stamped, err := fhir.Reopen(body)
	if err != nil {
		return nil, fmt.Errorf("reading a stamped %s: %w", d.Type, err)
	}
	return tx.schema.Index(stamped), nil
}

// Delete stores a deletion as the next version. deleted is false if there was
// nothing to delete.
func (tx *Tx) Delete(ctx context.Context, ref fhir.Ref, ifMatch int64) (r fhir.Resource, deleted bool, err error) {
	p, old, err := tx.take(ctx, fhir.Delete, ref)
	if err != nil {
		return fhir.Resource{}, false, err
	}
	if err := match(old, ifMatch); err != nil {
		return fhir.Resource{}, false, err
	}
	if old == nil || old.deleted {
		tx.note(audit.Entry{Interaction: fhir.Delete, Type: ref.Type, Entity: ref})
		if old == nil {
			return fhir.Resource{Ref: ref}, false, nil
		}
		return fhir.Resource{Ref: ref, Version: old.version, Updated: old.updated.UTC(), Deleted: true}, false, nil
	}
	was, err := tx.open(*old)
	if err != nil {
		return fhir.Resource{}, false, err
	}
	next := row{rid: old.rid, ref: ref, version: old.version + 1, updated: now(), deleted: true, body: []byte{}}
	if !next.updated.After(old.updated) {
		next.updated = old.updated.UTC().Add(time.Millisecond)
	}
	oldKeys, err := tx.indexOf(old)
	if err != nil {
		return fhir.Resource{}, false, err
	}
	tx.store(p, next, old, 0, oldKeys, &indexRows{ts: stamp(time.Time{})}, "d")
	if ref.Type == subscriptionType {
		if err := tx.unsubscribe(p, old.rid); err != nil {
			return fhir.Resource{}, false, err
		}
	}
	tx.consents.changed(ref.Type)
	e := tx.disclosed(fhir.Delete, was)
	e.Version = next.version
	tx.note(e)
	return fhir.Resource{Ref: ref, Version: next.version, Updated: next.updated, Deleted: true}, true, nil
}

// indexRows are the rows of one resource in the index tables.
type indexRows struct {
	ts pgtype.Timestamptz
	te pgtype.Timestamptz // null without the element that dates the type
	// about and encounter are rids that an access policy is likely to ask of; null
	// if there are none.
	about, encounter pgtype.Int8

	tokens []int64
	refs   []refRow
	nums   []numRow
	dates  []dateRow
	stands []standRow
	others *indexRows // of a stored version: references that may be there instead; may be nil
}

// otherwise returns the rows that may be there instead.
func (rows *indexRows) otherwise() *indexRows {
	if rows.others == nil {
		return &indexRows{}
	}
	return rows.others
}

type refRow struct{ key, target int64 }
type numRow struct {
	key    int64
	lo, hi float64
}
type dateRow struct {
	key    int64
	lo, hi pgtype.Timestamptz
}
type standRow struct {
	key, target int64
	lo, hi      pgtype.Timestamptz
}

// hash makes the index rows of terms.
func (v *View) hash(on fhir.Type, t *search.Terms) *indexRows {
	rows := &indexRows{ts: stamp(t.Time)}
	for _, x := range t.Tokens {
		rows.tokens = append(rows.tokens, v.tokenKey(x))
	}
	for _, x := range t.Refs {
		rows.refs = append(rows.refs, refRow{v.refKey(x.Path, x.Pair), v.target(x.Target)})
	}
	for _, x := range t.Numbers {
		rows.nums = append(rows.nums, numRow{v.numberKey(x.Path, x.Unit), finite(x.Lo), finite(x.Hi)})
	}
	main, _ := search.MainDate(on)
	for _, x := range t.Dates {
		if x.Path == main {
			rows.te = stamp(x.Hi)
			continue
		}
		rows.dates = append(rows.dates, dateRow{v.dateKey(x.Path), stamp(x.Lo), stamp(x.Hi)})
	}
	for _, x := range t.Standings {
		rows.stands = append(rows.stands, standRow{v.standKey(x.How, x.Who), v.target(x.Of), stamp(x.Lo), stamp(x.Hi)})
	}
	rows.about = v.firstOf(t, "Patient", search.SubjectPaths(on))
	rows.encounter = v.firstOf(t, "Encounter", search.EncounterPaths(on))
	// Two terms can have one hash; a row is there once.
	rows.tokens = unique(rows.tokens)
	rows.refs = unique(rows.refs)
	rows.nums = unique(rows.nums)
	rows.dates = unique(rows.dates)
	rows.stands = unique(rows.stands)
	return rows
}

// firstOf returns the rid of the first resource of the type to which one of the
// paths refers, null if there is none.
func (v *View) firstOf(t *search.Terms, to fhir.Type, paths []search.Path) pgtype.Int8 {
	for _, x := range t.Refs {
		if x.Pair != (search.Token{}) || !slices.Contains(paths, x.Path) {
			continue
		}
		if ref, err := fhir.ParseRef(x.Target); err == nil && ref.Type == to {
			return pgtype.Int8{Int64: v.rid(ref), Valid: true}
		}
	}
	return pgtype.Int8{}
}

func unique[T comparable](list []T) []T {
	if len(list) < 16 {
		for i := 1; i < len(list); {
			if slices.Contains(list[:i], list[i]) {
				list = slices.Delete(list, i, i+1)
				continue
			}
			i++
		}
		return list
	}
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(x T) bool {
		dup := seen[x]
		seen[x] = true
		return dup
	})
}

// indexOf computes the index rows of a stored version from its body, so that
// they can be deleted by their primary keys: the tables need no second index.
func (v *View) indexOf(old *row) (*indexRows, error) {
	if old == nil || old.deleted {
		return &indexRows{ts: stamp(time.Time{})}, nil
	}
	r, err := v.open(*old)
	if err != nil {
		return nil, err
	}
	var rows *indexRows
	err = fhir.Peek(r.Body, func(d *fhir.Document) error {
		rows = v.hash(d.Type, v.schema.IndexPast(d))
		if bytes.Contains(r.Body, []byte("/"+v.grant.Tenant().Slug.String())) {
			rows.others = v.otherBases(d)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading back %s: %w", old.ref.Type, err)
	}
	return rows, nil
}

// otherBases returns the rows of references of d that are there if it was
// written while the server had another base URL: what was relative then need
// not be so now, nor the other way round. It is nil if there are none.
func (v *View) otherBases(d *fhir.Document) *indexRows {
	root := "/" + v.grant.Tenant().Slug.String() + "/"
	bases := []string{""}
	for _, r := range (search.Schema{Custom: v.schema.Custom}).IndexPast(d).Refs {
		at := strings.Index(r.Target, root)
		if at < 0 || len(bases) > maxBases {
			continue
		}
		if base := r.Target[:at+len(root)-1]; !slices.Contains(bases, base) {
			bases = append(bases, base)
		}
	}
	if len(bases) == 1 {
		return nil
	}
	others := &indexRows{}
	for _, base := range bases {
		rows := v.hash(d.Type, search.Schema{Base: base, Custom: v.schema.Custom}.IndexPast(d))
		others.refs, others.stands = append(others.refs, rows.refs...), append(others.stands, rows.stands...)
	}
	return others
}

// maxBases bounds the base URLs that a resource is held against.
const maxBases = 8
