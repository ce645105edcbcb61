package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// An InstalledPackage is a package of definitions that a tenant has.
type InstalledPackage struct {
	Name, Version string
	// Canonical is the base of the URLs of an implementation guide.
	Canonical    string
	Hash         Hash
	Dependencies map[string]string // version by name
	Contents     map[fhir.Type]int // how many definitions of each type
	Installed    time.Time
}

// A Hash is the SHA-256 of the file of a package.
type Hash [sha256.Size]byte

// String returns the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// What a tenant may have.
const (
	maxPackages     = 100
	maxPackageBytes = 512 << 20 // of all, packed
)

// InstallPackage gives the tenant the package, whose file has the hash, and
// returns it. Installing the same file again changes nothing; created is false
// then. A *fhir.Error with code Conflict says that the tenant has another file
// with this name and version. The error is tenant.ErrUnknown if there is no
// such tenant. Servers use it within a second.
func (m *Migrator) InstallPackage(ctx context.Context, slug string, hash Hash, p *canonical.Package) (got InstalledPackage, created bool, err error) {
	packed, err := p.Pack.Append(nil)
	if err != nil {
		return InstalledPackage{}, false, err
	}
	err = m.changePackages(ctx, slug, func(tx *sql.Tx, id int32) (changed bool, err error) {
		created, err = install(ctx, tx, id, hash, p, packed)
		if err != nil {
			return false, err
		}
		list, err := m.installed(ctx, tx, id)
		for _, x := range list {
			if x.Name == p.Name && x.Version == p.Version {
				got = x
			}
		}
		return created, err
	})
	return got, created, err
}

// install makes the rows of a package that the tenant does not have.
func install(ctx context.Context, tx *sql.Tx, id int32, hash Hash, p *canonical.Package, packed []byte) (created bool, err error) {
	var had []byte
	err = tx.QueryRowContext(ctx, `
		SELECT hash FROM registry.tenant_package
		WHERE  tenant_id = $1 AND name = $2 AND version = $3`, id, p.Name, p.Version).Scan(&had)
	switch {
	case err == nil && bytes.Equal(had, hash[:]):
		return false, nil
	case err == nil:
		return false, fhir.Errorf(fhir.Conflict, "the tenant has another package with this name and version: remove that first")
	case !errors.Is(err, sql.ErrNoRows):
		return false, err
	}
	var packages, size int64
	if err := tx.QueryRowContext(ctx, `
		SELECT count(*), coalesce(sum(length(p.packed)), 0)
		FROM   registry.tenant_package t JOIN registry.package p USING (hash)
		WHERE  t.tenant_id = $1`, id).Scan(&packages, &size); err != nil {
		return false, err
	}
	if packages >= maxPackages || size+int64(len(packed)) > maxPackageBytes {
		return false, fhir.Errorf(fhir.TooCostly, "a tenant has at most %d packages, and %d bytes of them", maxPackages, maxPackageBytes)
	}
	contents := map[fhir.Type]int{}
	for _, d := range p.Definitions {
		contents[d.Type]++
	}
	counts, err := json.Marshal(contents)
	if err != nil {
		return false, err
	}
	needs, err := json.Marshal(p.Dependencies, json.FormatNilMapAsNull(false))
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(packed)
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO registry.package (hash, name, version, canonical, dependencies, contents, packed, packed_hash)
		VALUES ($1, $2, $3, $4, $5::text::jsonb, $6::text::jsonb, $7, $8)
		ON CONFLICT (hash) DO NOTHING`,
		hash[:], p.Name, p.Version, p.Canonical, string(needs), string(counts), packed, sum[:]); err != nil {
		return false, err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO registry.tenant_package (tenant_id, name, version, hash)
		VALUES ($1, $2, $3, $4)`, id, p.Name, p.Version, hash[:])
	return true, err
}

// RemovePackage takes the package from the tenant. The error for one that the
// tenant does not have is a *fhir.Error with code NotFound, whoever else has it.
func (m *Migrator) RemovePackage(ctx context.Context, slug, name, version string) error {
	return m.changePackages(ctx, slug, func(tx *sql.Tx, id int32) (bool, error) {
		var hash []byte
		err := tx.QueryRowContext(ctx, `
			DELETE FROM registry.tenant_package
			WHERE  tenant_id = $1 AND name = $2 AND version = $3
			RETURNING hash`, id, name, version).Scan(&hash)
		if errors.Is(err, sql.ErrNoRows) {
			return false, fhir.Errorf(fhir.NotFound, "the tenant does not have this package")
		}
		if err != nil {
			return false, err
		}
		_, err = tx.ExecContext(ctx, `
			DELETE FROM registry.package p
			WHERE  hash = $1 AND NOT EXISTS (SELECT FROM registry.tenant_package t WHERE t.hash = p.hash)`, hash)
		return true, err
	})
}

// Packages returns which packages the tenant has, in order of name and version.
func (m *Migrator) Packages(ctx context.Context, slug string) (list []InstalledPackage, err error) {
	err = m.changePackages(ctx, slug, func(tx *sql.Tx, id int32) (bool, error) {
		list, err = m.installed(ctx, tx, id)
		return false, err
	})
	return list, err
}

// changePackages runs fn in a transaction in which nobody else changes which
// packages there are, and counts the change, if there was one.
func (m *Migrator) changePackages(ctx context.Context, slug string, fn func(tx *sql.Tx, id int32) (changed bool, err error)) error {
	tx, err := m.registry.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("changing the packages of %s: %w", slug, err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	// Removing content that is on its way to another tenant would be a race.
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('cordon.packages', 0))`); err != nil {
		return fmt.Errorf("changing the packages of %s: %w", slug, err)
	}
	var id int32
	err = tx.QueryRowContext(ctx, `SELECT id FROM registry.tenant WHERE slug = $1`, slug).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return tenant.ErrUnknown
	}
	var changed bool
	if err == nil {
		changed, err = fn(tx, id)
	}
	if err == nil && changed {
		_, err = tx.ExecContext(ctx, `UPDATE registry.tenant SET packages = packages + 1, updated = now() WHERE id = $1`, id)
	}
	if err == nil {
		err = tx.Commit()
	}
	var known *fhir.Error
	if err != nil && !errors.As(err, &known) {
		return fmt.Errorf("changing the packages of %s: %w", slug, err)
	}
	return err
}

// installedPackages is the statement that lists the packages of a tenant.
const installedPackages = `
	SELECT p.hash, t.name, t.version, p.canonical, p.dependencies, p.contents, t.installed
	FROM   registry.tenant_package t JOIN registry.package p USING (hash)
	WHERE  t.tenant_id = $1
	ORDER  BY t.name, t.version`

func (m *Migrator) installed(ctx context.Context, tx *sql.Tx, id int32) ([]InstalledPackage, error) {
	return collect(ctx, tx, scanPackage, installedPackages, id)
}

func scanPackage(scan func(...any) error) (p InstalledPackage, err error) {
	var hash, needs, counts []byte
	if err := scan(&hash, &p.Name, &p.Version, &p.Canonical, &needs, &counts, &p.Installed); err != nil {
		return p, err
	}
	if len(hash) != len(p.Hash) {
		return p, errors.New("a package has a malformed hash")
	}
	copy(p.Hash[:], hash)
	return p, errors.Join(json.Unmarshal(needs, &p.Dependencies), json.Unmarshal(counts, &p.Contents))
}

// Packages returns which packages the tenant has, in order of name and version.
func (r *Registry) Packages(ctx context.Context, id tenant.ID) (list []InstalledPackage, err error) {
	err = gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, installedPackages, id.Int())
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (InstalledPackage, error) { return scanPackage(row.Scan) })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the packages of tenant %s: %w", id, err)
	}
	return list, nil
}

// packed returns the definitions of a package that the tenant has. What is not
// as it was installed is an error.
func (r *Registry) packed(ctx context.Context, id tenant.ID, hash Hash) (*canonical.Pack, error) {
	var packed, sum []byte
	err := gate.Steadily(func() error {
		return r.pool.QueryRow(ctx, `
			SELECT p.packed, p.packed_hash
			FROM   registry.tenant_package t JOIN registry.package p USING (hash)
			WHERE  t.tenant_id = $1 AND t.hash = $2
			LIMIT  1`, id.Int(), hash[:]).Scan(&packed, &sum)
	})
	if err != nil {
		return nil, fmt.Errorf("reading a package of tenant %s: %w", id, err)
	}
	if got := sha256.Sum256(packed); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("package %s is not what was installed", hash)
	}
	return canonical.Unpack(packed)
}
