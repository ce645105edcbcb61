package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// A purge looks at every version of every resource of the tenant, for an index knows
// current versions alone: not what was deleted, nor of whom it told before. It goes
// from rid to rid and removes in the transaction in which it looks, so that a server
// that dies leaves nothing half removed, and whoever goes on begins anew.
//
// What tells of nobody else goes as a whole. Of the rest those versions go that tell
// of the patient alone; a current one is deleted first.

// purgeAtOnce bounds the resources of one transaction.
const purgeAtOnce = 1000

// purged is what came of a purge.
type purged struct{ resources, versions, shared int64 }

// purge removes what the tenant has of the patient, while h says that nothing of it
// is on hold.
func (db *DB) purge(ctx context.Context, t *tenant.Tenant, of approvedPurge, h *Holds) (done purged, err error) {
	ready := func(v *View, p smart.Permit) error { return (&purgeWork{View: v, permit: p}).importing(ctx) }
	if err := db.purgeStep(ctx, t, of.approvedBy, ready); err != nil {
		return done, err
	}
	kept := map[int64]bool{}
	for again := true; again; { // what was written meanwhile goes too
		again = false
		for at := int64(math.MinInt64); ; {
			var w *purgeWork
			if err := db.purgeStep(ctx, t, of.approvedBy, func(v *View, p smart.Permit) error {
				w = &purgeWork{View: v, permit: p, of: of, holds: h, told: kept}
				return w.step(ctx, at)
			}); err != nil {
				return done, err
			}
			for _, rid := range w.kept {
				kept[rid] = true
			}
			again = again || w.removed > 0
			if w.read < purgeAtOnce {
				break
			}
			at = w.last
		}
	}
	err = db.purgeStep(ctx, t, of.approvedBy, func(v *View, p smart.Permit) error {
		w := &purgeWork{View: v, permit: p, of: of, holds: h}
		done, err = w.end(ctx, int64(len(kept)))
		return err
	})
	if err != nil {
		return done, err
	}
	return done, db.Sweep(ctx, t)
}

// purgeStep runs fn in a transaction of a purge.
func (db *DB) purgeStep(ctx context.Context, t *tenant.Tenant, operator string, fn func(*View, smart.Permit) error) error {
	g := smart.Purge(t, operator)
	return db.job(ctx, g, g.PermitPurge, "looking for what is of a patient", fn)
}

// A purgeWork is the work of one transaction.
type purgeWork struct {
	*View
	permit smart.Permit
	of     approvedPurge
	holds  *Holds

	told          map[int64]bool // what the trail has as kept
	kept          []int64
	read, removed int
	last          int64
}

// step looks at the resources after the rid and removes what is to go.
func (w *purgeWork) step(ctx context.Context, after int64) error {
	rids, err := w.next(ctx, after)
	if err != nil || len(rids) == 0 {
		return err
	}
	w.read, w.last = len(rids), rids[len(rids)-1]
	found, err := w.find(ctx, rids)
	if err != nil || len(found) == 0 {
		return err
	}
	versions, err := w.versions(ctx, found)
	if err != nil {
		return err
	}
	beside, err := w.removeAll(ctx, versions)
	if err != nil {
		return err
	}
	if versions, err = w.versions(ctx, beside); err != nil {
		return err
	}
	if _, err = w.removeAll(ctx, versions); err != nil {
		return err
	}
	return w.holds.Still(ctx)
}

// next returns the rids after one, in order.
func (w *purgeWork) next(ctx context.Context, after int64) ([]int64, error) {
	rows, err := w.query(ctx, w.permit, gate.SQL(`SELECT rid FROM ~resource WHERE tenant_id = $1 AND rid > ? ORDER BY rid LIMIT ?`, after, purgeAtOnce))
	if err != nil {
		return nil, fmt.Errorf("looking for what is of a patient: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// find returns those of the rids of which some version tells of the patient.
func (w *purgeWork) find(ctx context.Context, rids []int64) (found []int64, err error) {
	rows, err := w.query(ctx, w.permit, allVersions(rids))
	if err != nil {
		return nil, fmt.Errorf("looking for what is of a patient: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scanVersion(rows)
		if err != nil {
			return nil, err
		}
		v, err := w.version(r)
		if err != nil {
			return nil, err
		}
		if v.ours && (len(found) == 0 || !slices.Contains(found, r.rid)) {
			found = append(found, r.rid)
		}
	}
	return found, rows.Err()
}

// allVersions asks for all that is stored of the resources, by version.
func allVersions(rids []int64) gate.Clause {
	return gate.SQL(`
		SELECT rid, type, id, version, updated, deleted, body, 1::bigint
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid = ANY(?::bigint[])
		UNION ALL
		SELECT h.rid, h.type, h.id, h.version, h.updated, h.deleted, h.body, 0
		FROM   ~history h
		WHERE  h.tenant_id = $1 AND h.rid = ANY(?::bigint[])`, rids, rids)
}

// A purgeVersion is a version, and of whom it tells.
type purgeVersion struct {
	row
	ours   bool // it tells of the patient
	others bool // it tells of others
	beside []int64
}

// version says of whom a version tells.
func (w *purgeWork) version(r row) (v purgeVersion, err error) {
	v.row = r
	if r.deleted {
		return v, nil
	}
	res, err := w.open(r)
	if err != nil {
		return v, err
	}
	err = fhir.Peek(res.Body, func(d *fhir.Document) error {
		for _, id := range w.schema.About(d) {
			if id == w.of.patient.ID {
				v.ours = true
			} else {
				v.others = true
			}
		}
		return nil
	})
	if r.ref.Type == "Binary" {
		v.ours, v.others, err = w.secures(res.Body)
	}
	if v.ours {
		for _, m := range binaryName.FindAllSubmatch(res.Body, -1) {
			v.beside = append(v.beside, w.rid(fhir.Ref{Type: "Binary", ID: string(m[1])}))
		}
	}
	return v, err
}

// binaryName is how a resource names a Binary in which an attachment of it is.
var binaryName = regexp.MustCompile(`"(?:[^"\\]*/)?Binary/([A-Za-z0-9\-.]{1,64})(?:/_history/[^"\\]*)?"`)

// secures says whom the security context of a Binary names.
// https://hl7.org/fhir/R4/binary-definitions.html#Binary.securityContext
func (w *purgeWork) secures(body []byte) (ours, others bool, err error) {
	var b struct {
		SecurityContext struct {
			Reference string `json:"reference"`
		} `json:"securityContext"`
	}
	err = json.Unmarshal(body, &b)
	ref, notRef := fhir.ParseRef(b.SecurityContext.Reference)
	if err != nil || notRef != nil || ref.Type != "Patient" {
		return false, false, err
	}
	return ref == w.of.patient, ref != w.of.patient, nil
}

// versions returns all versions of the resources, which are locked, by rid.
func (w *purgeWork) versions(ctx context.Context, rids []int64) (map[int64][]purgeVersion, error) {
	if len(rids) == 0 {
		return nil, nil
	}
	if err := w.gate.Exec(ctx, w.permit, gate.SQL(`SELECT FROM ~resource WHERE tenant_id = $1 AND rid = ANY(?::bigint[]) ORDER BY rid FOR UPDATE`, rids)); err != nil {
		return nil, fmt.Errorf("locking what is of a patient: %w", err)
	}
	rows, err := w.query(ctx, w.permit, allVersions(rids))
	if err != nil {
		return nil, fmt.Errorf("reading what is of a patient: %w", err)
	}
	defer rows.Close()
	list := map[int64][]purgeVersion{}
	for rows.Next() {
		r, err := scanVersion(rows)
		if err != nil {
			return nil, err
		}
		v, err := w.version(r)
		if err != nil {
			return nil, err
		}
		list[r.rid] = append(list[r.rid], v)
	}
	for _, versions := range list {
		slices.SortFunc(versions, func(a, b purgeVersion) int { return int(a.version - b.version) })
	}
	return list, rows.Err()
}

// removeAll removes what is to go of resources, and returns the Binaries that it names.
func (w *purgeWork) removeAll(ctx context.Context, resources map[int64][]purgeVersion) (beside []int64, err error) {
	rids := make([]int64, 0, len(resources))
	for rid := range resources {
		rids = append(rids, rid)
	}
	slices.Sort(rids)
	for _, rid := range rids {
		versions := resources[rid]
		if err := w.remove(ctx, versions); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(versions, func(v purgeVersion) bool { return v.others }) {
			continue
		}
		for _, v := range versions {
			beside = append(beside, v.beside...)
		}
	}
	return beside, nil
}

// remove removes what is to go of one resource.
func (w *purgeWork) remove(ctx context.Context, versions []purgeVersion) error {
	current := versions[len(versions)-1]
	whole := !slices.ContainsFunc(versions, func(v purgeVersion) bool { return v.others })
	going := versions
	if !whole {
		going = slices.DeleteFunc(slices.Clone(versions), func(v purgeVersion) bool { return !v.ours || v.others })
		if slices.ContainsFunc(versions, func(v purgeVersion) bool { return v.ours && v.others }) {
			w.leave(current)
		}
	}
	if len(going) == 0 {
		return nil
	}
	if last := going[len(going)-1]; last.version == current.version && !last.deleted {
		if err := w.forget(ctx, current.row, !whole); err != nil {
			return err
		}
	}
	hash, numbers := sha256.New(), make([]int64, len(going))
	for i, v := range going {
		hash.Write(v.body)
		numbers[i] = v.version
	}
	sum := hash.Sum(nil)
	for _, q := range []gate.Clause{
		gate.SQL(`
			INSERT INTO ~removed (tenant_id, rid, purge, at, versions, whole, hash)
			VALUES ($1, ?, ?, ?, ?, ?, ?)`, current.rid, w.of.id, now(), len(going), whole, sum),
		gate.SQL(`DELETE FROM ~history WHERE tenant_id = $1 AND rid = ? AND version = ANY(?::bigint[])`, current.rid, numbers),
		gate.SQL(`DELETE FROM ~resource WHERE tenant_id = $1 AND rid = ? AND version = ANY(?::bigint[])`, current.rid, numbers),
	} {
		if err := w.gate.Exec(ctx, w.permit, q); err != nil {
			return fmt.Errorf("removing what is of a patient: %w", err)
		}
	}
	w.removed++
	w.tell(current, fmt.Sprintf("removed %d versions, as stored with the SHA-256 %s", len(going), hex.EncodeToString(sum)))
	return nil
}

// forget takes a current version out of the index. If the resource stays, it is
// deleted by that, and the version goes to its history.
func (w *purgeWork) forget(ctx context.Context, current row, stays bool) error {
	was, err := w.indexOf(&current)
	if err != nil {
		return err
	}
	tx := &Tx{View: *w.View}
	tx.writes = &pending{}
	if stays {
		next := row{rid: current.rid, ref: current.ref, version: current.version + 1, updated: now(), deleted: true, body: []byte{}}
		if !next.updated.After(current.updated) {
			next.updated = current.updated.UTC().Add(time.Millisecond)
		}
		tx.store(w.permit, next, &current, 0, was, &indexRows{ts: stamp(time.Time{})}, "d")
	} else {
		tx.writes.unindex(w.permit, was, current.rid)
	}
	tx.consents.changed(current.ref.Type)
	return tx.flush(ctx)
}

// tell notes in the audit trail what came of a resource.
func (w *purgeWork) tell(v purgeVersion, what string) {
	e := audit.Entry{
		Interaction: audit.Removed, Type: v.ref.Type, Entity: v.ref, Patient: w.of.patient,
		Reason: fmt.Sprintf("purge %s, asked for by %s, approved by %s: %s", w.of.id, w.of.askedBy, w.of.approvedBy, what),
	}
	trail := w.gate.Trail()
	trail.Linked = append(trail.Linked, e)
}

// leave notes that a resource stays.
func (w *purgeWork) leave(v purgeVersion) {
	if w.kept = append(w.kept, v.rid); !w.told[v.rid] {
		w.tell(v, "kept, for it tells of others too")
	}
}

// end removes the answers and the exports that are kept and may show what is gone,
// and says in the audit trail what was removed.
func (w *purgeWork) end(ctx context.Context, shared int64) (done purged, err error) {
	if err := w.importing(ctx); err != nil {
		return done, err
	}
	if err := w.forgetAnswers(ctx); err != nil {
		return done, err
	}
	done.shared = shared
	err = w.one(ctx, w.permit, gate.SQL(`
		SELECT count(DISTINCT rid), coalesce(sum(versions), 0)::bigint FROM ~removed WHERE tenant_id = $1 AND purge = ?`, w.of.id), &done.resources, &done.versions)
	if err != nil {
		return done, err
	}
	w.note(audit.Entry{
		Interaction: audit.Removed, Type: "Patient", Entity: w.of.patient, Patient: w.of.patient,
		Reason: fmt.Sprintf("purge %s, asked for by %s, approved by %s: removed %d versions of %d resources; %d are kept, for they tell of others too",
			w.of.id, w.of.askedBy, w.of.approvedBy, done.versions, done.resources, shared),
	})
	return done, w.holds.Still(ctx)
}

// errImporting says that an import is under way, which may bring back what is removed.
var errImporting = errors.New("store: a purge waits for an import to end")

// importing returns errImporting while one is.
func (w *purgeWork) importing(ctx context.Context) error {
	var n int
	err := w.one(ctx, w.permit, gate.SQL(`SELECT count(*) FROM ~deferred WHERE tenant_id = $1 AND import AND NOT done AND until > ?`, now()), &n)
	if err == nil && n > 0 {
		err = errImporting
	}
	return err
}

// forgetAnswers removes the answers to deferred requests, imports with what they were
// given among them, and the exports that are
// under way or of whose files one has a record of the patient. Who asked asks again.
func (w *purgeWork) forgetAnswers(ctx context.Context) error {
	rows, err := w.query(ctx, w.permit, gate.SQL(`SELECT job::text, about FROM ~export_file WHERE tenant_id = $1`))
	if err != nil {
		return fmt.Errorf("looking for exports: %w", err)
	}
	key := w.rid(w.of.patient)
	var jobs []string
	var job string
	var about []byte
	_, err = pgx.ForEachRow(rows, []any{&job, &about}, func() error {
		if tellsOf(about, key) {
			jobs = append(jobs, job)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking for exports: %w", err)
	}
	return w.gate.Exec(ctx, w.permit, gate.SQL(`
		DELETE FROM ~deferred WHERE tenant_id = $1 AND (done AND NOT export OR export AND NOT done OR id = ANY(?::uuid[]))`, jobs))
}

// tellsOf reports whether the patient is among those of a file.
func tellsOf(about []byte, patient int64) bool {
	for b := range slices.Chunk(about, 8) {
		if int64(binary.BigEndian.Uint64(b)) == patient {
			return true
		}
	}
	return false
}
