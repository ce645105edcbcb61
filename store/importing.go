package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// A bulk import is a deferred request that is worked on in batches of lines. What
// a batch stores, how far its input has come with it, and why lines were refused
// are one commit: each line is taken once, whoever dies when.

// An ImportInput is what is to be imported of one type, and how far it has come.
type ImportInput struct {
	N     int // from 1
	Type  fhir.Type
	Whole bool // all of it is here
	Done  bool
	// Fetched says that who works on the import fetches it; else it is uploaded
	// before.
	Fetched bool
	// Initial says that there must be no resource of the type when it is asked for.
	Initial bool

	Lines  int64 // that were taken, blank ones too
	Stored int64 // resources
	Faulty int64 // lines that were refused
}

// An Importing is how far an import has come.
type Importing []ImportInput

// Progress says how much is done, in less than 100 characters.
func (x Importing) Progress() string {
	var whole, done int
	var lines int64
	for _, in := range x {
		if in.Whole {
			whole++
		}
		if in.Done {
			done++
		}
		lines += in.Lines
	}
	if whole < len(x) {
		return fmt.Sprintf("%d of %d inputs are here", whole, len(x))
	}
	return fmt.Sprintf("%d lines taken, %d of %d inputs done", lines, done, len(x))
}

// Importing returns how far the import with the id has come.
func (db *DB) Importing(ctx context.Context, t *tenant.Tenant, job string) (x Importing, err error) {
	err = db.look(ctx, t, func(tx *gate.Tx, p smart.Permit) error {
		rows, err := tx.Query(ctx, p, gate.SQL(`
			SELECT n, type, whole IS NOT NULL, done, fetched, lines, stored, faulty FROM ~import_input
			WHERE  tenant_id = $1 AND job = ?
			ORDER  BY n`, job))
		if err != nil {
			return err
		}
		x, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (in ImportInput, err error) {
			var number int16
			err = row.Scan(&in.N, &number, &in.Whole, &in.Done, &in.Fetched, &in.Lines, &in.Stored, &in.Faulty)
			in.Type = fhir.TypeNumbered(number)
			return in, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking how far an import has come: %w", err)
	}
	return x, nil
}

// putInputs writes down the inputs of an import. Nobody takes it up before all that
// are uploaded are here.
func (v *View) putInputs(ctx context.Context, p smart.Permit, d Deferred, inputs []ImportInput) error {
	if err := v.vacant(ctx, inputs); err != nil {
		return err
	}
	types, fetched, uploads := make([]int16, len(inputs)), make([]bool, len(inputs)), false
	for i, in := range inputs {
		types[i], fetched[i] = in.Type.Number(), in.Fetched
		uploads = uploads || !in.Fetched
	}
	err := v.gate.Defer(p, gate.SQL(`
		INSERT INTO ~import_input (tenant_id, job, n, type, fetched)
		SELECT $1, ?, n, t, f FROM unnest(?::smallint[], ?::bool[]) WITH ORDINALITY AS x (t, f, n)`, d.ID, types, fetched))
	if err != nil || !uploads {
		return err
	}
	return v.gate.Defer(p, gate.SQL(`UPDATE ~deferred SET lease = until WHERE tenant_id = $1 AND id = ?`, d.ID))
}

// vacant checks that there are no resources, nor were any, of types that must have
// none. It is answered to those only who may write all of them.
func (v *View) vacant(ctx context.Context, inputs []ImportInput) error {
	for _, in := range inputs {
		if !in.Initial {
			continue
		}
		p, err := v.gate.Permit(fhir.Update, in.Type)
		if err == nil {
			err = v.writesAll(p, in.Type)
		}
		if err != nil {
			return err
		}
		var some bool
		err = v.one(ctx, p, gate.SQL(`SELECT EXISTS (SELECT FROM ~resource WHERE tenant_id = $1 AND type = ?)`, in.Type.Number()), &some)
		if err != nil {
			return err
		}
		if some {
			return fhir.Errorf(fhir.Conflict, "there are, or were, resources of type %s: an import in mode initial is of types that have none", in.Type)
		}
	}
	return nil
}

// writesAll refuses those who may not write every resource of the type, whom what
// is there could be told of.
func (v *View) writesAll(p smart.Permit, on fhir.Type) error {
	if where, _ := search.Apart(v.allowed(p)); !all(where) {
		return fhir.Errorf(fhir.Forbidden, "an import in mode initial is for those who may write every %s", on)
	}
	return nil
}

// maxImported bounds the bytes that are kept for one import, in gzip.
const maxImported = 64 << 30

// An Upload is one way in which an input comes. It counts once it is whole; what
// another attempt left goes with the import.
type Upload struct {
	db       *DB
	grant    *smart.Grant
	work     Work
	id       string
	n, parts int
	fetched  bool
}

// BeginUpload begins the input n of an import of the principal of g. The error is
// NotFound if there is none, and Conflict if it is here already.
func (db *DB) BeginUpload(ctx context.Context, g *smart.Grant, job string, n int) (*Upload, error) {
	err := db.ofUpload(ctx, g, func(v *View, p smart.Permit, owner int64) error {
		var whole bool
		err := v.one(ctx, p, gate.SQL(`
			SELECT i.whole IS NOT NULL
			FROM   ~deferred d
			JOIN   ~import_input i ON i.tenant_id = $1 AND i.job = d.id AND i.n = ? AND NOT i.fetched
			WHERE  d.tenant_id = $1 AND d.id = ? AND d.owner = ? AND d.import AND NOT d.done AND d.until > ?`, n, job, owner, now()), &whole)
		if err == nil && whole {
			err = isHere()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Upload{db: db, grant: g, work: Work{ID: job, Kind: Import}, id: uuid.NewString(), n: n}, nil
}

// BeginFetch begins the input n of an import that is worked on. What earlier
// attempts left is removed.
func (db *DB) BeginFetch(ctx context.Context, g *smart.Grant, w Work, n int) (*Upload, error) {
	kept, err := db.ofExport(ctx, g, w, gate.SQL(`lease = lease`), func(v *View, p smart.Permit) error {
		return v.gate.Defer(p, gate.SQL(`
			UPDATE ~export_file SET ready = false, made = '-infinity' WHERE tenant_id = $1 AND job = ? AND n = ? AND kind = 'i'`, w.ID, n))
	})
	if err == nil && !kept {
		err = errNotHeld
	}
	if err != nil {
		return nil, err
	}
	return &Upload{db: db, grant: g, work: w, id: uuid.NewString(), n: n, fetched: true}, nil
}

func isHere() error { return fhir.Errorf(fhir.Conflict, "this input is here already") }

func (db *DB) ofUpload(ctx context.Context, g *smart.Grant, fn func(v *View, p smart.Permit, owner int64) error) error {
	return db.ofPrincipal(ctx, g.Entry(), audit.Entry{Interaction: fhir.Operation, Query: Import.operation()}, fn)
}

// Put adds a part of whole lines, of which content is in gzip.
func (u *Upload) Put(ctx context.Context, content []byte, lines, plain int64) error {
	ctx, cancel := context.WithTimeout(ctx, (putTime-1)*u.db.Lease)
	defer cancel()
	set, err := u.db.keys.Of(ctx, u.grant.Tenant().ID)
	if err != nil {
		return err
	}
	at := sealedFile{job: u.work.ID, id: uuid.NewString(), grant: u.grant, keys: set, size: int64(len(content)), imports: true}
	sealed, hash, err := at.seal(content)
	if err != nil {
		return fmt.Errorf("sealing a part of an input: %w", err)
	}
	u.parts++
	err = u.db.ofUpload(ctx, u.grant, func(v *View, p smart.Permit, owner int64) error {
		var room bool
		err := v.one(ctx, p, gate.SQL(`
			SELECT (SELECT coalesce(sum(f.size), 0) FROM ~export_file f WHERE f.tenant_id = $1 AND f.job = d.id AND f.made > '-infinity') + ? <= ?
			FROM   ~deferred d
			WHERE  d.tenant_id = $1 AND d.id = ? AND d.owner = ? AND d.import AND NOT d.done`, at.size, int64(maxImported), at.job, owner), &room)
		switch {
		case err != nil:
			return err
		case !room:
			return fhir.Errorf(fhir.TooLong, "the inputs of one import are at most %d bytes in gzip", int64(maxImported))
		}
		return v.gate.Defer(p, gate.SQL(`
			INSERT INTO ~export_file (tenant_id, job, id, n, type, kind, made, lines, plain, size, hash, part, upload)
			SELECT $1, ?, ?, n, type, 'i', ?, ?, ?, ?, ?, ?, ? FROM ~import_input WHERE tenant_id = $1 AND job = ? AND n = ?`,
			at.job, at.id, now(), lines, plain, at.size, hash, u.parts, u.id, at.job, u.n))
	})
	if err != nil {
		return err
	}
	if err := u.db.files.Put(ctx, at.name(), sealed); err != nil {
		u.db.log.Error("keeping a part of an input", oplog.Cause(err))
		return fhir.Errorf(fhir.Transient, "the input cannot be kept now, try again")
	}
	return u.db.ofUpload(ctx, u.grant, func(v *View, p smart.Permit, _ int64) error {
		return v.gate.Defer(p, gate.SQL(`UPDATE ~export_file SET ready = true WHERE tenant_id = $1 AND job = ? AND id = ?`, at.job, at.id))
	})
}

// End says that the input is whole. With the last one of an import the work on it
// can begin, and begins is true.
func (u *Upload) End(ctx context.Context) (begins bool, err error) {
	err = u.db.ofUpload(ctx, u.grant, func(v *View, p smart.Permit, owner int64) error {
		var found int
		// The row is locked, so that of two inputs one is the last.
		err := v.one(ctx, p, gate.SQL(`
			SELECT 1 FROM ~deferred
			WHERE  tenant_id = $1 AND id = ? AND owner = ? AND import AND NOT done
			FOR    UPDATE`, u.work.ID, owner), &found)
		if err != nil {
			return err
		}
		err = v.one(ctx, p, gate.SQL(`
			WITH own AS (
				UPDATE ~import_input i SET whole = ?
				WHERE  i.tenant_id = $1 AND i.job = ? AND i.n = ? AND i.whole IS NULL
				AND    ? = (SELECT count(*) FROM ~export_file f WHERE f.tenant_id = $1 AND f.job = i.job AND f.upload = ? AND f.ready)
				RETURNING 1)
			SELECT 1 FROM own`, u.id, u.work.ID, u.n, u.parts, u.id), &found)
		if fhir.IsCode(err, fhir.NotFound) {
			return isHere()
		}
		if err != nil {
			return err
		}
		err = v.one(ctx, p, gate.SQL(`
			SELECT NOT EXISTS (SELECT FROM ~import_input i WHERE i.tenant_id = $1 AND i.job = ? AND i.whole IS NULL AND NOT i.fetched)`, u.work.ID), &begins)
		if err != nil || !begins || u.fetched { // who fetches has taken it up
			return err
		}
		return v.gate.Defer(p, gate.SQL(`UPDATE ~deferred SET lease = NULL WHERE tenant_id = $1 AND id = ?`, u.work.ID))
	})
	return begins, err
}

// ImportParts returns the parts of an input that is whole, in order.
func (db *DB) ImportParts(ctx context.Context, w Work, n int) (list []ExportFile, err error) {
	err = db.look(ctx, w.tenant, func(tx *gate.Tx, p smart.Permit) error {
		rows, err := tx.Query(ctx, p, exportFiles.With(gate.SQL(`
			WHERE tenant_id = $1 AND job = ? AND kind = 'i' AND ready
			AND   upload = (SELECT i.whole FROM ~import_input i WHERE i.tenant_id = $1 AND i.job = ? AND i.n = ?)
			ORDER BY part`, w.ID, w.ID, n)))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanFile)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the parts of an input: %w", err)
	}
	return list, nil
}

// OpenImportPart returns a reader of a part, in gzip.
func (db *DB) OpenImportPart(ctx context.Context, g *smart.Grant, w Work, f ExportFile) (io.Reader, error) {
	set, err := db.keys.Of(ctx, g.Tenant().ID)
	if err != nil {
		return nil, err
	}
	at := sealedFile{job: w.ID, id: f.ID, grant: g, keys: set, size: f.Size, imports: true}
	return &fileReader{ctx: ctx, file: at, files: db.files}, nil
}

// importedAt is the associated data of the answer to an import. It tells of no
// resource, and is of no version of the policy.
func (v *View) importedAt(id string) []byte {
	return fmt.Appendf(nil, "import|%s|%s|%s", v.grant.Tenant().ID, v.grant.Holder(), id)
}

func faultsAt(w Work, n int, line int64) []byte {
	return fmt.Appendf(nil, "fault|%s|%s|%d|%d", w.tenant.ID, w.ID, n, line)
}

// An ImportBatch is some lines of an input.
type ImportBatch struct {
	Input ImportInput // as it was before
	Lines int64       // how many lines are taken, blank ones too
	Last  bool        // the input is done then

	// Store stores what is on the lines. It may be called again, and begins anew
	// then: what it says is of the last time.
	Store func(*Tx) (stored, faulty int64, outcomes []byte, err error)

	// Told reports whether the audit trail has a patient already. When the batch is
	// stored About are those whom it had not.
	Told  func(patient int64) bool
	About []int64
	told  map[int64]bool

	hashes map[[3]string]int64 // of what its lines say
}

// tell notes whose records are written.
func (b *ImportBatch) tell(v *View, about []fhir.Ref) {
	for _, ref := range about {
		rid := v.rid(ref)
		if b.told[rid] {
			continue
		}
		b.told[rid] = true
		b.About = append(b.About, rid)
		if !b.Told(rid) {
			trail := v.gate.Trail()
			trail.Linked = append(trail.Linked, audit.Entry{Interaction: fhir.Operation, Type: b.Input.Type, Patient: ref, Query: Import.operation()})
		}
	}
}

// ImportLines stores a batch under g, and moves its input on behind it, in one
// commit. The error is that the work is somebody else's if the input is elsewhere
// by now. It returns how far the input is.
func (db *DB) ImportLines(ctx context.Context, g *smart.Grant, w Work, b *ImportBatch) (ImportInput, error) {
	next := b.Input
	err := db.update(ctx, g, false, func(tx *Tx) error {
		entry := audit.Entry{Interaction: fhir.Operation, Type: b.Input.Type, Query: Import.operation()}
		tx.Operation(entry)
		b.About, b.told, b.hashes, tx.imports = nil, map[int64]bool{}, map[[3]string]int64{}, b
		p, err := g.PermitAnswers()
		if err != nil {
			return err
		}
		if err := tx.moveOn(ctx, p, w, b); err != nil {
			return err
		}
		stored, faulty, outcomes, err := b.Store(tx)
		if err != nil {
			return err
		}
		next = b.Input
		next.Lines, next.Stored, next.Faulty, next.Done = next.Lines+b.Lines, next.Stored+stored, next.Faulty+faulty, b.Last
		entry.Query = fmt.Sprintf("$import lines %d to %d of input %d: %d stored, %d refused", b.Input.Lines+1, next.Lines, next.N, stored, faulty)
		tx.gate.Trail().Main = entry
		return tx.noteProgress(p, w, b, next, outcomes)
	})
	if err != nil {
		return b.Input, err
	}
	return next, nil
}

// moveOn moves the input on, if the work is w's and nobody else has done so. Who
// comes later waits here, and finds the input elsewhere.
func (tx *Tx) moveOn(ctx context.Context, p smart.Permit, w Work, b *ImportBatch) error {
	var found int
	err := tx.one(ctx, p, gate.SQL(`
		WITH own AS (
			SELECT 1 FROM ~deferred
			WHERE  tenant_id = $1 AND id = ? AND owner = ? AND holder = ? AND NOT done
			FOR    KEY SHARE),
		moved AS (
			UPDATE ~import_input SET lines = lines + ?, done = ?
			WHERE  tenant_id = $1 AND job = ? AND n = ? AND lines = ? AND NOT done AND EXISTS (SELECT FROM own)
			RETURNING 1)
		SELECT 1 FROM moved`, w.ID, tx.owner(), w.holder, b.Lines, b.Last, w.ID, b.Input.N, b.Input.Lines), &found)
	if fhir.IsCode(err, fhir.NotFound) {
		return errNotHeld
	}
	return err
}

// noteProgress writes what became of the lines.
func (tx *Tx) noteProgress(p smart.Permit, w Work, b *ImportBatch, next ImportInput, outcomes []byte) error {
	if err := tx.gate.Defer(p, gate.SQL(`
		UPDATE ~import_input SET stored = ?, faulty = ? WHERE tenant_id = $1 AND job = ? AND n = ?`, next.Stored, next.Faulty, w.ID, next.N)); err != nil {
		return err
	}
	if err := tx.gate.Defer(p, gate.SQL(`UPDATE ~deferred SET turn = 1 WHERE tenant_id = $1 AND id = ? AND turn > 1`, w.ID)); err != nil {
		return err
	}
	if len(outcomes) == 0 {
		return nil
	}
	sealed, err := tx.keys.Seal(nil, fileKey, outcomes, faultsAt(w, next.N, b.Input.Lines))
	if err != nil {
		return fmt.Errorf("sealing faults: %w", err)
	}
	return tx.gate.Defer(p, gate.SQL(`
		INSERT INTO ~import_fault (tenant_id, job, line, n, faults, outcomes) VALUES ($1, ?, ?, ?, ?, ?)`,
		w.ID, b.Input.Lines, next.N, next.Faulty-b.Input.Faulty, sealed))
}

// ImportFaults are why lines of one batch were refused.
type ImportFaults struct {
	Line     int64 // how many lines were taken before the batch
	Faults   int64
	Outcomes []byte // as Store gave them
}

// ImportFaults returns the faults of an input that are in no file yet, those of
// the first few batches.
func (db *DB) ImportFaults(ctx context.Context, w Work, n int) (list []ImportFaults, err error) {
	set, err := db.keys.Of(ctx, w.tenant.ID)
	if err != nil {
		return nil, err
	}
	err = db.look(ctx, w.tenant, func(tx *gate.Tx, p smart.Permit) error {
		rows, err := tx.Query(ctx, p, gate.SQL(`
			SELECT line, faults, outcomes FROM ~import_fault WHERE tenant_id = $1 AND job = ? AND n = ? ORDER BY line LIMIT 64`, w.ID, n))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f ImportFaults, err error) {
			if err = row.Scan(&f.Line, &f.Faults, &f.Outcomes); err == nil {
				f.Outcomes, err = set.Open(fileKey, f.Outcomes, faultsAt(w, n, f.Line))
			}
			return f, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading why lines were refused: %w", err)
	}
	return list, nil
}

// PutFaults writes the file that tells of an input's faults up to those of the
// batch behind the line, and forgets them.
func (db *DB) PutFaults(ctx context.Context, g *smart.Grant, w Work, f ExportFile, content []byte, upTo int64) error {
	f.Kind = ErrorFile
	return db.putFile(ctx, g, w, f, content, func(v *View, p smart.Permit) error {
		return v.gate.Defer(p, gate.SQL(`DELETE FROM ~import_fault WHERE tenant_id = $1 AND job = ? AND n = ? AND line <= ?`, w.ID, f.Slice, upTo))
	})
}

// DropInputs forgets what was to be imported, now that it is.
func (db *DB) DropInputs(ctx context.Context, g *smart.Grant, w Work) error {
	kept, err := db.ofExport(ctx, g, w, gate.SQL(`lease = lease`), func(v *View, p smart.Permit) error {
		return v.gate.Defer(p, gate.SQL(`UPDATE ~export_file SET ready = false, made = '-infinity' WHERE tenant_id = $1 AND job = ? AND kind = 'i'`, w.ID))
	})
	if err == nil && !kept {
		err = errNotHeld
	}
	return err
}

// IsFault reports whether an error of a line is the line's own, and the others
// can be stored without it.
func IsFault(err error) bool {
	var e *fhir.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() {
	case fhir.Login, fhir.Transient, fhir.Throttled, fhir.Exception:
		return false
	}
	return true
}
