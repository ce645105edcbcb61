package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// A bulk export is a deferred request that is worked on in slices. A slice is
// done by whole files: how far it came is kept with each, in one commit, so that
// whoever takes up the work goes on where the last whole file ends.

// An Exporting is how far an export has come.
type Exporting struct {
	At     time.Time // the time that it shows the resources of; zero if it has yet to be planned
	Slices []ExportSlice
	Done   int // of them
}

// exportRows is how many resources a slice has, about.
const exportRows = 50_000

// Progress says how much is done.
func (x Exporting) Progress() string {
	if len(x.Slices) == 0 {
		return "waiting"
	}
	return fmt.Sprintf("%d of %d parts done", x.Done, len(x.Slices))
}

// Exporting returns how far the export with the id has come.
func (db *DB) Exporting(ctx context.Context, t *tenant.Tenant, job string) (x Exporting, err error) {
	err = db.look(ctx, t, func(tx *gate.Tx, p smart.Permit) error {
		x, err = exporting(ctx, tx, p, job)
		return err
	})
	if err != nil {
		return x, fmt.Errorf("looking how far an export has come: %w", err)
	}
	return x, nil
}

// look runs fn without an entry in the audit trail: it sees what is known of
// the work, and no resource.
func (db *DB) look(ctx context.Context, t *tenant.Tenant, fn func(*gate.Tx, smart.Permit) error) error {
	g := smart.TakingUp(t)
	p, err := g.PermitRules("SearchParameter") // of any type
	if err != nil {
		return err
	}
	return db.gate.Rules(ctx, g, func(tx *gate.Tx) error { return fn(tx, p) })
}

func exporting(ctx context.Context, tx *gate.Tx, p smart.Permit, job string) (x Exporting, err error) {
	rows, err := tx.Query(ctx, p, gate.SQL(`
		SELECT d.at, s.n, s.type, s.deletions, s.done, s.from_updated, s.from_rid, s.to_updated
		FROM   ~deferred d
		JOIN   ~export_slice s ON s.tenant_id = $1 AND s.job = d.id
		WHERE  d.tenant_id = $1 AND d.id = ?
		ORDER  BY s.n`, job))
	if err != nil {
		return x, err
	}
	var s ExportSlice
	var number int16
	var from pgtype.Timestamptz
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&at, &s.N, &number, &s.Deletions, &s.Done, &from, &s.from.rid, &s.to}, func() error {
		s.Type, s.from.updated = fhir.TypeNumbered(number), time.Time{}
		if from.InfinityModifier == pgtype.Finite {
			s.from.updated = from.Time.UTC()
		}
		if s.Done {
			x.Done++
		}
		s.to, s.at, x.At = s.to.UTC(), at.UTC(), at.UTC()
		x.Slices = append(x.Slices, s)
		return nil
	})
	return x, err
}

// settleTime is by how much the clocks of servers may differ: so long after the
// time of an export none writes a resource with an earlier one.
const settleTime = 2 * maxClockOff

// An ExportPlan is what an export is cut into slices by.
type ExportPlan struct {
	Types []fhir.Type
	// By, if it is not empty, is the type of which each resource gathers what is
	// exported around it: the slices are of those, whenever they were changed.
	By fhir.Type
	// Deletions says that there are slices of what was deleted since.
	Deletions bool
	// Since and Until bound when a resource was changed last; zero is no bound.
	Since, Until time.Time
}

// PlanExport cuts the export into slices, of the resources that were changed
// after since and not after until. It returns once nothing that will be in it can
// still be on its way.
func (db *DB) PlanExport(ctx context.Context, g *smart.Grant, w Work, p ExportPlan) error {
	at := now()
	if err := db.settle(ctx, w); err != nil {
		return err
	}
	var slices []ExportSlice
	err := db.look(ctx, w.tenant, func(tx *gate.Tx, permit smart.Permit) (err error) {
		slices, err = p.cut(ctx, tx, permit, at)
		return err
	})
	if err != nil {
		return fmt.Errorf("planning an export: %w", err)
	}
	kept, err := db.ofExport(ctx, g, w, gate.SQL(`at = ?`, at), func(v *View, p smart.Permit) error { return putSlices(v, p, w.ID, slices) })
	if err == nil && !kept {
		err = errNotHeld
	}
	return err
}

// errNotHeld says that the work is no longer who does it.
var errNotHeld = fhir.Errorf(fhir.Transient, "the work is somebody else's now")

// settle returns when every transaction that could have an earlier time has
// ended.
func (db *DB) settle(ctx context.Context, w Work) error {
	var fence string
	for wait := settleTime; ; wait = 50 * time.Millisecond {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		settled := false
		err := db.look(ctx, w.tenant, func(tx *gate.Tx, p smart.Permit) error {
			q := gate.SQL(`SELECT pg_snapshot_xmax(pg_current_snapshot())::text, false WHERE $1 <> 0`)
			if fence != "" {
				q = gate.SQL(`SELECT ''::text, pg_snapshot_xmin(pg_current_snapshot()) >= ?::text::xid8 WHERE $1 <> 0`, fence)
			}
			rows, err := tx.Query(ctx, p, q)
			if err != nil {
				return err
			}
			var said string
			_, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) {
				return struct{}{}, row.Scan(&said, &settled)
			})
			if fence == "" {
				fence = said
			}
			return err
		})
		if err != nil || settled {
			return err
		}
	}
}

// to is the last change that an export at the time has.
func (p ExportPlan) to(at time.Time) time.Time {
	if !p.Until.IsZero() && p.Until.Before(at) {
		return p.Until
	}
	return at
}

// begin is the mark behind which the plan begins.
func (p ExportPlan) begin() mark { return startOf(p.Since) }

// All is the whole of the type in an export that s is a slice of.
func (p ExportPlan) All(t fhir.Type, s ExportSlice) ExportSlice {
	return ExportSlice{Type: t, from: p.begin(), to: p.to(s.at), at: s.at}
}

// cut returns the slices of an export at the time.
func (p ExportPlan) cut(ctx context.Context, tx *gate.Tx, permit smart.Permit, at time.Time) (list []ExportSlice, err error) {
	for _, t := range p.Types {
		if p.Deletions {
			list = append(list, ExportSlice{Type: t, Deletions: true, from: p.begin(), to: p.to(at)})
		}
		if p.By != "" {
			continue
		}
		if list, err = cut(ctx, tx, permit, list, t, p.begin(), p.to(at)); err != nil {
			return nil, err
		}
	}
	if p.By == "" {
		return list, nil
	}
	return cut(ctx, tx, permit, list, p.By, startOf(time.Time{}), at)
}

// cut adds the slices of a type, of what was changed after the mark.
func cut(ctx context.Context, tx *gate.Tx, p smart.Permit, list []ExportSlice, t fhir.Type, from mark, to time.Time) ([]ExportSlice, error) {
	for {
		rows, err := tx.Query(ctx, p, gate.SQL(`
			SELECT updated FROM ~resource
			WHERE  tenant_id = $1 AND type = ? AND (updated, rid) > (?, ?) AND updated <= ?
			ORDER  BY updated, rid
			OFFSET ?
			LIMIT  1`, t.Number(), stamp(from.updated), from.rid, to, exportRows))
		if err != nil {
			return nil, err
		}
		cuts, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
		if err != nil {
			return nil, err
		}
		if len(cuts) == 0 || !cuts[0].Before(to) {
			return append(list, ExportSlice{Type: t, from: from, to: to}), nil
		}
		list = append(list, ExportSlice{Type: t, from: from, to: cuts[0].UTC()})
		from = endOf(cuts[0].UTC())
	}
}

func putSlices(v *View, p smart.Permit, job string, list []ExportSlice) error {
	var types []int16
	var deletions []bool
	var froms []pgtype.Timestamptz
	var rids []int64
	var tos []time.Time
	for _, s := range list {
		types, deletions = append(types, s.Type.Number()), append(deletions, s.Deletions)
		froms, rids, tos = append(froms, stamp(s.from.updated)), append(rids, s.from.rid), append(tos, s.to)
	}
	return v.gate.Defer(p, gate.SQL(`
		INSERT INTO ~export_slice (tenant_id, job, n, type, deletions, from_updated, from_rid, to_updated)
		SELECT $1, ?, row_number() OVER (), * FROM unnest(?::smallint[], ?::bool[], ?::timestamptz[], ?::bigint[], ?::timestamptz[])`,
		job, types, deletions, froms, rids, tos))
}

// ofExport changes the row of an export or import, if the work is w's, and runs
// fn in the same transaction. Progress is noted: the work may be begun anew as often as if
// it were the first time.
func (db *DB) ofExport(ctx context.Context, g *smart.Grant, w Work, set gate.Clause, fn func(*View, smart.Permit) error) (kept bool, err error) {
	err = db.ofPrincipal(ctx, g.Entry(), audit.Entry{Interaction: fhir.Operation, Query: w.Kind.operation()}, func(v *View, p smart.Permit, owner int64) error {
		var n int
		err := v.one(ctx, p, gate.SQL(`WITH own AS (UPDATE ~deferred SET turn = 1,`).With(set, gate.SQL(`
			WHERE  tenant_id = $1 AND id = ? AND owner = ? AND holder = ? AND NOT done
			RETURNING 1)
			SELECT count(*) FROM own`, w.ID, owner, w.holder)), &n)
		if kept = n > 0; err != nil || !kept {
			return err
		}
		return fn(v, p)
	})
	return kept, err
}

// An ExportFile is a file of an export.
type ExportFile struct {
	ID       string
	Slice    int
	Type     fhir.Type
	Kind     FileKind
	Lines    int64
	Plain    int64 // bytes
	Size     int64 // bytes in gzip
	Made     time.Time
	Hash     []byte
	Patients []int64 // whose records are in it, by the keys that the database knows
	// Sources are the resources that the rows of a table are made of, without bodies.
	Sources []fhir.Resource
}

// A FileKind says what is in a file.
type FileKind string

// The kinds of files.
const (
	OutputFile   FileKind = "o"
	DeletionFile FileKind = "d"
	ErrorFile    FileKind = "e"
	BlockFile    FileKind = "b" // of resources of several types, by patient
	MaskedFile   FileKind = "m" // of resources that are de-identified
	// Of rows that are made of resources.
	JSONTable    FileKind = "j"
	NDJSONTable  FileKind = "n"
	CSVTable     FileKind = "c"
	ParquetTable FileKind = "p"
	InputFile    FileKind = "i" // of what is to be imported
)

// Table reports whether the file is of rows.
func (k FileKind) Table() bool {
	return k == JSONTable || k == NDJSONTable || k == CSVTable || k == ParquetTable
}

// Type returns the type of the resources in a file of the kind, of an export of
// the type.
func (k FileKind) Type(of fhir.Type) fhir.Type {
	switch k {
	case DeletionFile:
		return "Bundle"
	case ErrorFile:
		return "OperationOutcome"
	}
	return of
}

// PutExportFile writes a file, of which content is in gzip, and notes how far its
// slice has come with it. Nobody sees the one without the other. f gives what is
// known of the file; s may be nil.
func (db *DB) PutExportFile(ctx context.Context, g *smart.Grant, w Work, f ExportFile, content []byte, s *ExportSlice) error {
	return db.putFile(ctx, g, w, f, content, func(v *View, p smart.Permit) error {
		if s == nil {
			return nil
		}
		return putSlice(v, p, w.ID, s)
	})
}

// putFile writes a file, and calls also in the transaction that makes it known.
func (db *DB) putFile(ctx context.Context, g *smart.Grant, w Work, f ExportFile, content []byte, also func(*View, smart.Permit) error) error {
	f.ID = uuid.NewString()
	ctx, cancel := context.WithTimeout(ctx, (putTime-1)*db.Lease)
	defer cancel()
	set, err := db.keys.Of(ctx, g.Tenant().ID)
	if err != nil {
		return err
	}
	if f.Kind.Table() {
		content = append(sourcesOf(set, f.Sources), content...)
	}
	f.Size = int64(len(content))
	at := sealedFile{job: w.ID, id: f.ID, grant: g, keys: set, size: f.Size, imports: w.Kind == Import}
	sealed, hash, err := at.seal(content)
	if err != nil {
		return fmt.Errorf("sealing a file: %w", err)
	}
	f.Hash = hash
	if err := db.beginFile(ctx, g, w, f); err != nil {
		return err
	}
	if err := db.files.Put(ctx, at.name(), sealed); err != nil {
		return fmt.Errorf("keeping a file: %w", err)
	}
	return db.endFile(ctx, g, w, f, also)
}

// beginFile makes a file known that is about to be written.
func (db *DB) beginFile(ctx context.Context, g *smart.Grant, w Work, f ExportFile) error {
	kept, err := db.ofExport(ctx, g, w, gate.SQL(`lease = lease`), func(v *View, p smart.Permit) error {
		return v.gate.Defer(p, gate.SQL(`
			INSERT INTO ~export_file (tenant_id, job, id, n, type, kind, made)
			VALUES ($1, ?, ?, ?, ?, ?::text::"char", ?)`, w.ID, f.ID, f.Slice, f.Type.Number(), string(f.Kind), now()))
	})
	if err == nil && !kept {
		err = errNotHeld
	}
	return err
}

// endFile says that a file is whole.
func (db *DB) endFile(ctx context.Context, g *smart.Grant, w Work, f ExportFile, also func(*View, smart.Permit) error) error {
	about := make([]byte, 0, 8*len(f.Patients))
	for _, rid := range f.Patients {
		about = binary.BigEndian.AppendUint64(about, uint64(rid))
	}
	kept, err := db.ofExport(ctx, g, w, gate.SQL(`lease = lease`), func(v *View, p smart.Permit) error {
		if err := v.gate.Defer(p, gate.SQL(`
			UPDATE ~export_file SET ready = true, made = ?, lines = ?, plain = ?, size = ?, hash = ?, about = ?
			WHERE  tenant_id = $1 AND job = ? AND id = ?`, f.Made, f.Lines, f.Plain, f.Size, f.Hash, about, w.ID, f.ID)); err != nil {
			return err
		}
		return also(v, p)
	})
	if err == nil && !kept {
		err = errNotHeld
	}
	return err
}

// EndExportSlice notes how far a slice has come of which there is nothing to
// write.
func (db *DB) EndExportSlice(ctx context.Context, g *smart.Grant, w Work, s *ExportSlice) error {
	kept, err := db.ofExport(ctx, g, w, gate.SQL(`lease = lease`), func(v *View, p smart.Permit) error { return putSlice(v, p, w.ID, s) })
	if err == nil && !kept {
		err = errNotHeld
	}
	return err
}

func putSlice(v *View, p smart.Permit, job string, s *ExportSlice) error {
	return v.gate.Defer(p, gate.SQL(`
		UPDATE ~export_slice SET from_updated = ?, from_rid = ?, done = ?
		WHERE  tenant_id = $1 AND job = ? AND n = ?`, stamp(s.from.updated), s.from.rid, s.Done, job, s.N))
}

// ExportFiles returns the files that are whole, in order.
func (db *DB) ExportFiles(ctx context.Context, w Work) (list []ExportFile, err error) {
	err = db.look(ctx, w.tenant, func(tx *gate.Tx, p smart.Permit) error {
		rows, err := tx.Query(ctx, p, exportFiles.With(gate.SQL(`
			WHERE tenant_id = $1 AND job = ? AND ready AND kind <> 'i'
			ORDER BY kind DESC, n, made, id`, w.ID)))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanFile)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing files: %w", err)
	}
	return list, nil
}

var exportFiles = gate.SQL(`SELECT id::text, n, type, kind::text, lines, plain, size, made, hash, about FROM ~export_file`)

func scanFile(rows pgx.CollectableRow) (f ExportFile, err error) {
	var number int16
	var about []byte
	err = rows.Scan(&f.ID, &f.Slice, &number, &f.Kind, &f.Lines, &f.Plain, &f.Size, &f.Made, &f.Hash, &about)
	f.Type, f.Made = fhir.TypeNumbered(number), f.Made.UTC()
	for b := range slices.Chunk(about, 8) {
		f.Patients = append(f.Patients, int64(binary.BigEndian.Uint64(b)))
	}
	return f, err
}

// OpenExportFile returns a file of an export of the principal of g, and a reader
// of its bytes in gzip. The error for any other, and for those that are no longer
// there, is NotFound; it is Forbidden if g may not search the type, and Deleted
// if a consent of a patient whose record is in it has changed since, or if
// g may not see all that is in it any more.
// For a file of an import it is the same; that holds no resources.
func (db *DB) OpenExportFile(ctx context.Context, g *smart.Grant, kind Kind, job, id string) (f ExportFile, r io.ReadSeeker, err error) {
	if db.files == nil {
		return f, nil, unknownAnswer()
	}
	set, err := db.keys.Of(ctx, g.Tenant().ID)
	if err != nil {
		return f, nil, err
	}
	at := sealedFile{job: job, id: id, grant: g, keys: set, imports: kind == Import}
	var in []audit.ShownVersion
	looked := false
	inside := func(kind FileKind, size int64) ([]audit.ShownVersion, error) {
		if at.size = size; looked {
			return in, nil
		}
		return nil, &Waiting{For: func(ctx context.Context) (err error) {
			in, err = db.inFile(ctx, at, kind)
			looked = err == nil
			return err
		}}
	}
	err = db.View(ctx, g, func(v *View) error {
		v.attempt(audit.Entry{Interaction: fhir.Operation, Query: kind.operation()})
		if f, err = v.exportFile(ctx, kind, job, id, inside); err != nil {
			return err
		}
		v.note(audit.Entry{Interaction: fhir.Operation, Type: f.Kind.Type(f.Type), Query: kind.operation()})
		return nil
	})
	if err != nil {
		return f, nil, err
	}
	at.size = f.Size
	file := &fileReader{ctx: ctx, file: at, files: db.files}
	if f.Kind.Table() {
		if err := file.behindSources(); err != nil {
			return f, nil, err
		}
		f.Size -= file.from
	}
	return f, file, nil
}

func (v *View) exportFile(ctx context.Context, kind Kind, job, id string, inside contents) (f ExportFile, err error) {
	p, err := v.grant.PermitAnswers()
	if err != nil {
		return f, err
	}
	var answer []byte
	err = v.one(ctx, p, gate.SQL(`
		SELECT answer FROM ~deferred
		WHERE  tenant_id = $1 AND id = ? AND owner = ? AND expires > ? AND export = ? AND import = ? AND (done OR answer <> '')`, job, v.owner(), now(), kind == Export, kind == Import), &answer)
	if err != nil {
		return f, err
	}
	if _, err := v.openAnswer(ctx, p, Deferred{ID: job, Kind: kind}, answer); err != nil {
		return f, err
	}
	rows, err := v.query(ctx, p, exportFiles.With(gate.SQL(`WHERE tenant_id = $1 AND job = ? AND id = ? AND ready`, job, id)))
	if err != nil {
		return f, fmt.Errorf("looking for a file: %w", err)
	}
	f, err = pgx.CollectExactlyOneRow(rows, scanFile)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return f, unknownAnswer()
	case err != nil:
		return f, fmt.Errorf("looking for a file: %w", err)
	case f.Kind == InputFile: // nobody gets back what they gave
		return f, unknownAnswer()
	case f.Kind == ErrorFile:
		return f, nil
	case f.Kind != MaskedFile && v.grant.Tenant().Settings.Export.Deidentifies(v.grant.Agent().Client):
		return f, fhir.Errorf(fhir.Deleted, "this file is not de-identified; export again")
	}
	return f, v.stillMay(ctx, f, inside)
}

// stillMay returns nil if the Grant may still have the file: no consent of a
// patient in it has changed, no label hides something in it that did not, and who
// sees a part of the type sees what is in it. Of a file of several types all that is
// in it has to be seen; what is in one that is de-identified nobody can tell.
func (v *View) stillMay(ctx context.Context, f ExportFile, inside contents) error {
	on := f.Type
	if f.Kind == BlockFile {
		on = "Patient"
	}
	p, err := v.gate.Permit(fhir.SearchType, on)
	if err != nil {
		return err
	}
	touched, err := v.consentsChanged(ctx, p, f)
	if err != nil {
		return err
	}
	if touched {
		return fhir.Errorf(fhir.Deleted, "consents of patients in this file have changed since it was written; export again")
	}
	if f.Kind == BlockFile || sharesType(p) && f.Kind != MaskedFile {
		in, err := inside(f.Kind, f.Size)
		if err != nil {
			return err
		}
		return v.seesAllIn(ctx, p, in)
	}
	labelled, err := v.labelledSince(ctx, p, f)
	if err != nil {
		return err
	}
	if labelled {
		return fhir.Errorf(fhir.Deleted, "something in this file has been labelled since it was written; export again")
	}
	return nil
}

// maxChanged bounds the consents, and the versions of what was hidden, that are
// looked at for one file.
const maxChanged = 1000

// consentsChanged reports whether a consent of a patient in the file has changed
// since it was written, or so many that nobody looks.
func (v *View) consentsChanged(ctx context.Context, p smart.Permit, f ExportFile) (bool, error) {
	rows, err := v.query(ctx, p, gate.SQL(`
		WITH changed AS (
			SELECT rid, type, id, version, updated, deleted, body FROM ~resource
			WHERE  tenant_id = $1 AND type = ? AND updated > ?
			ORDER  BY updated
			LIMIT  ?)
		SELECT *, 0::bigint FROM changed
		UNION ALL
		SELECT h.rid, h.type, h.id, h.version, h.updated, h.deleted, h.body, 0
		FROM   changed c
		JOIN   ~history h ON h.tenant_id = $1 AND h.rid = c.rid
		LIMIT  ?`, fhir.Type("Consent").Number(), f.Made, maxChanged+1, maxChanged+1))
	if err != nil {
		return false, fmt.Errorf("looking for changed consents: %w", err)
	}
	changed, err := pgx.CollectRows(rows, scanVersion)
	if err != nil {
		return false, fmt.Errorf("looking for changed consents: %w", err)
	}
	touched := len(changed) > maxChanged
	for _, r := range changed {
		if touched || r.deleted {
			continue
		}
		res, err := v.open(r)
		if err != nil {
			return false, err
		}
		err = fhir.Peek(res.Body, func(d *fhir.Document) error {
			for _, id := range v.schema.About(d) {
				touched = touched || slices.Contains(f.Patients, v.rid(fhir.Ref{Type: "Patient", ID: id}))
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	return touched, nil
}

// PseudonymKey returns the key under which what the client of g gets is
// de-identified. No other client, and no other tenant, has an equal one.
func (db *DB) PseudonymKey(ctx context.Context, g *smart.Grant) ([]byte, error) {
	set, err := db.keys.Of(ctx, g.Tenant().ID)
	if err != nil {
		return nil, err
	}
	var key []byte
	for part := range 4 { // each is 64 bits of a keyed hash
		key = binary.BigEndian.AppendUint64(key, uint64(set.Hash("deid", g.Agent().Client, strconv.Itoa(part))))
	}
	return key, nil
}
