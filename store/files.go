package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/blob"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// FilesConfig says where files are kept: in a directory or in a bucket, which all
// servers of the same tenants share. The zero FilesConfig keeps none.
type FilesConfig struct {
	Dir string
	S3  blob.S3Config
}

func (c FilesConfig) open(ctx context.Context) (blob.Store, error) {
	switch {
	case c.S3.URL != "":
		return c.bucket(ctx)
	case c.Dir != "":
		return blob.OpenDir(c.Dir)
	}
	return nil, nil
}

func (c FilesConfig) bucket(ctx context.Context) (blob.Store, error) {
	s, err := blob.OpenS3(ctx, c.S3)
	if err != nil {
		return nil, err
	}
	if s.Keeps {
		return nil, fmt.Errorf("%s keeps versions: files that are removed would stay", c.S3.URL)
	}
	return s, nil
}

// KeepsFiles reports whether there is a place for files.
func (db *DB) KeepsFiles() bool { return db.files != nil }

// putTime bounds the writing of a file, in leases: whoever has not finished one
// in this time is dead, and what there is of it is removed.
const putTime = 4

// leftFiles is a FROM clause of the files that nobody can ask for: those of
// exports that are over, and those that whoever began them did not finish.
func (db *DB) leftFiles() gate.Clause {
	return gate.SQL(`
		FROM  ~export_file f
		WHERE f.tenant_id = $1
		AND   CASE WHEN f.ready THEN NOT EXISTS (SELECT 1 FROM ~deferred d WHERE d.tenant_id = $1 AND d.id = f.job) ELSE f.made < ? END`,
		now().Add(-putTime*db.Lease))
}

// leftSlices is a FROM clause of the slices of exports that are over.
var leftSlices = gate.SQL(`
	~export_slice s
	WHERE s.tenant_id = $1 AND NOT EXISTS (SELECT 1 FROM ~deferred d WHERE d.tenant_id = $1 AND d.id = s.job)`)

// leftInputs and leftFaults are those of imports that are over.
var (
	leftInputs = gate.SQL(`
	~import_input i
	WHERE i.tenant_id = $1 AND NOT EXISTS (SELECT 1 FROM ~deferred d WHERE d.tenant_id = $1 AND d.id = i.job)`)
	leftFaults = gate.SQL(`
	~import_fault i
	WHERE i.tenant_id = $1 AND NOT EXISTS (SELECT 1 FROM ~deferred d WHERE d.tenant_id = $1 AND d.id = i.job)`)
)

// maxSwept is how many files are removed at once.
const maxSwept = 1000

// sweepFiles removes the files of the tenant that nobody can ask for: first the
// object, then what is known of it.
func (db *DB) sweepFiles(ctx context.Context, t *tenant.Tenant) error {
	if db.files == nil {
		return nil
	}
	for {
		left, err := db.left(ctx, t)
		if err != nil || len(left) == 0 {
			return err
		}
		jobs, ids := make([]string, len(left)), make([]string, len(left))
		for i, f := range left {
			jobs[i], ids[i] = f.job, f.id
			if err := db.files.Remove(ctx, fileName(t.ID.String(), f.job, f.id)); err != nil {
				return err
			}
		}
		err = db.takingUp(ctx, t, "removing files", func(v *View, p smart.Permit) error {
			return v.gate.Defer(p, gate.SQL(`
				DELETE FROM ~export_file f USING unnest(?::uuid[], ?::uuid[]) AS d (job, id)
				WHERE  f.tenant_id = $1 AND f.job = d.job AND f.id = d.id`, jobs, ids))
		})
		if err != nil || len(left) < maxSwept {
			return err
		}
	}
}

type leftFile struct{ job, id string }

func (db *DB) left(ctx context.Context, t *tenant.Tenant) (list []leftFile, err error) {
	err = db.takingUp(ctx, t, "looking for files that are left", func(v *View, p smart.Permit) error {
		rows, err := v.gate.Query(ctx, p, gate.SQL(`SELECT f.job::text, f.id::text`).With(db.leftFiles(), gate.SQL(`LIMIT ?`, maxSwept)))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f leftFile, err error) {
			err = row.Scan(&f.job, &f.id)
			return f, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for files that are left: %w", err)
	}
	return list, nil
}
