package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/tenant"
)

// NewTenant asks for a tenant.
type NewTenant struct {
	Slug string
	Name string // for people; default Slug
	Mode tenant.Mode
	// Region is where its data may be processed. Default "local".
	Region string
}

var region = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

func (n NewTenant) check() (NewTenant, error) {
	if n.Name == "" {
		n.Name = n.Slug
	}
	if n.Region == "" {
		n.Region = "local"
	}
	if _, err := tenant.ParseSlug(n.Slug); err != nil {
		return n, fhir.Errorf(fhir.Invalid, "a slug is 3 to 32 of a-z, 0-9 and hyphen, begins with a letter and is not a reserved word")
	}
	if _, err := tenant.ParseMode(string(n.Mode)); err != nil {
		return n, fhir.Errorf(fhir.Invalid, "mode must be shared, schema or database")
	}
	if !region.MatchString(n.Region) {
		return n, fhir.Errorf(fhir.Invalid, "a region is a-z, 0-9 and hyphen and begins with a letter")
	}
	if len(n.Name) > 200 {
		return n, fhir.Errorf(fhir.Invalid, "a name has at most 200 bytes")
	}
	return n, nil
}

// Provision makes a tenant and returns it when it is ready to serve. created
// is false if it was ready before. The same request may be made any number of
// times, also at once: what is missing is made, nothing is made twice, and a
// process that dies on the way leaves a tenant that is not served and that the
// next request completes. A slug whose tenant differs from n is a *fhir.Error
// with code Conflict.
func (m *Migrator) Provision(ctx context.Context, n NewTenant) (row tenant.Row, created bool, err error) {
	n, err = n.check()
	if err != nil {
		return tenant.Row{}, false, err
	}
	conn, err := m.registry.Conn(ctx)
	if err != nil {
		return tenant.Row{}, false, fmt.Errorf("provisioning %s: %w", n.Slug, err)
	}
	defer conn.Close()
	unlock, err := lock(ctx, conn, "cordon.tenant."+n.Slug)
	if err != nil {
		return tenant.Row{}, false, fmt.Errorf("provisioning %s: %w", n.Slug, err)
	}
	defer unlock()

	row, err = m.TenantBySlug(ctx, n.Slug)
	if errors.Is(err, tenant.ErrUnknown) {
		if _, err = conn.ExecContext(ctx, `
			INSERT INTO registry.tenant (slug, name, mode, status, region, kek)
			VALUES ($1, $2, $3, 'provisioning', $4, $5)`,
			n.Slug, n.Name, string(n.Mode), n.Region, m.cfg.KEK); err == nil {
			row, err = m.TenantBySlug(ctx, n.Slug)
		}
	}
	if err != nil {
		return tenant.Row{}, false, fmt.Errorf("provisioning %s: %w", n.Slug, err)
	}
	if row.Mode != string(n.Mode) || row.Region != n.Region || row.Name != n.Name {
		return tenant.Row{}, false, fhir.Errorf(fhir.Conflict, "a tenant with this slug exists and differs")
	}
	if row.Status != string(tenant.Provisioning) {
		return row, false, nil
	}
	if err := m.provision(ctx, conn, row.Slug); err != nil {
		return tenant.Row{}, false, fmt.Errorf("provisioning %s: %w", n.Slug, err)
	}
	row, err = m.TenantBySlug(ctx, n.Slug)
	return row, err == nil, err
}

// provision makes what a tenant lacks, and at the end makes it active.
func (m *Migrator) provision(ctx context.Context, conn *sql.Conn, slug string) error {
	t, err := tenant.NewRegistry(m).Tenant(ctx, slug)
	if err != nil {
		return err
	}
	if err := m.makeKeys(ctx, conn, t.ID); err != nil {
		return fmt.Errorf("making keys: %w", err)
	}
	if err := m.makeLogKey(ctx, conn, t.ID.Int(), ledger.Origin(slug)); err != nil {
		return err
	}
	p, err := m.makePlace(ctx, conn, t)
	if err != nil {
		return err
	}
	version, signer, err := m.place(ctx, m.site(t.Mode, t.ID.Int()), admission{t.ID.Int(), t.PolicyVersion})
	if err != nil {
		return err
	}
	p.Signer = signer
	sealed, err := sealPlacement(m.cfg.KMS, m.cfg.KEK, t.ID, p)
	if err != nil {
		return fmt.Errorf("sealing the placement: %w", err)
	}
	_, err = conn.ExecContext(ctx, `
		UPDATE registry.tenant
		SET    schema = $2, role = $3, kek = $4, dsn = $5, audit_dsn = $6, log_dsn = $7, signer = $8,
		       schema_version = $9, schema_error = '', status = 'active', updated = now()
		WHERE  id = $1`,
		t.ID.Int(), p.Schema, p.Role, m.cfg.KEK, sealed.DSN, sealed.AuditDSN, sealed.LogDSN, sealed.Signer, version)
	return err
}

// makeKeys gives the tenant the keys that it lacks, all at once: keys that
// something is sealed with are never replaced here.
func (m *Migrator) makeKeys(ctx context.Context, conn *sql.Conn, id tenant.ID) error {
	lacks, err := keylessClasses(ctx, conn, id)
	if err != nil || len(lacks) == 0 {
		return err
	}
	wrapped, err := keys.Generate(m.cfg.KMS, m.cfg.KEK, id, lacks...)
	if err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, w := range wrapped {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO registry.keyset (tenant_id, class, kek, data, fingerprint)
			VALUES ($1, $2, $3, $4, $5)`, id.Int(), string(w.Class), w.KEK, w.Data, w.Fingerprint); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	if err := ownerDid(ctx, tx, fmt.Sprintf("made keys of tenant %s for %s", id, classes(wrapped)), audit.Success); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// classes says what keys are for.
func classes(list []keys.Wrapped) string {
	var names []string
	for _, w := range list {
		names = append(names, string(w.Class))
	}
	return strings.Join(names, ", ")
}

// keylessClasses returns the classes of which the tenant has no key.
func keylessClasses(ctx context.Context, conn *sql.Conn, id tenant.ID) ([]keys.Class, error) {
	has, err := rowsOf(ctx, conn, `SELECT class FROM registry.keyset WHERE tenant_id = $1`, []any{id.Int()},
		func(c *keys.Class) []any { return []any{c} })
	return slices.DeleteFunc(slices.Clone(keys.Classes), func(c keys.Class) bool { return slices.Contains(has, c) }), err
}

// makePlace makes the roles and the database of the tenant's mode. Roles that
// log in get a new password at each try: nobody has used the one before.
func (m *Migrator) makePlace(ctx context.Context, conn *sql.Conn, t *tenant.Tenant) (tenant.Placement, error) {
	s := m.site(t.Mode, t.ID.Int())
	p := tenant.Placement{Schema: s.names.Schema}
	switch t.Mode {
	case tenant.Schema:
		p.Role = s.names.App
		if err := makeRole(ctx, conn, p.Role, ""); err != nil {
			return p, fmt.Errorf("making role %s: %w", p.Role, err)
		}
		if err := exec(ctx, conn, `GRANT `+p.Role+` TO `+m.appRole()); err != nil {
			return p, fmt.Errorf("granting role %s: %w", p.Role, err)
		}
	case tenant.Database:
		secret, auditSecret, logSecret := rand.Text(), rand.Text(), rand.Text()
		if err := makeRole(ctx, conn, s.names.App, secret); err != nil {
			return p, fmt.Errorf("making role %s: %w", s.names.App, err)
		}
		if err := makeRole(ctx, conn, s.names.Audit, auditSecret); err != nil {
			return p, fmt.Errorf("making role %s: %w", s.names.Audit, err)
		}
		if err := makeRole(ctx, conn, s.names.Log, logSecret); err != nil {
			return p, fmt.Errorf("making role %s: %w", s.names.Log, err)
		}
		if err := m.makeDatabase(ctx, conn, s.database, s.names.App, s.names.Audit, s.names.Log); err != nil {
			return p, err
		}
		var err error
		if p.DSN, err = m.url(s.names.App, secret, s.database); err != nil {
			return p, err
		}
		if p.AuditDSN, err = m.url(s.names.Audit, auditSecret, s.database); err != nil {
			return p, err
		}
		if p.LogDSN, err = m.url(s.names.Log, logSecret, s.database); err != nil {
			return p, err
		}
	}
	return p, nil
}

// Suspend stops the serving of a tenant; Resume starts it again. Both may be
// repeated. The place of a suspended tenant does not know it, so no server
// reaches its rows when Suspend has returned, whatever it remembers. The error is tenant.ErrUnknown if there is none, and a *fhir.Error
// with code Conflict if it is not ready yet.
func (m *Migrator) Suspend(ctx context.Context, slug string) (tenant.Row, error) {
	return m.setStatus(ctx, slug, tenant.Suspended, expel)
}

// Resume undoes Suspend.
func (m *Migrator) Resume(ctx context.Context, slug string) (tenant.Row, error) {
	return m.setStatus(ctx, slug, tenant.Active, admit)
}

func (m *Migrator) setStatus(ctx context.Context, slug string, to tenant.Status,
	inPlace func(context.Context, *sql.Conn, site, ...admission) error) (tenant.Row, error) {
	if _, err := m.registry.ExecContext(ctx, `
		UPDATE registry.tenant SET status = $2, updated = now()
		WHERE  slug = $1 AND status <> 'provisioning' AND status <> $2`, slug, string(to)); err != nil {
		return tenant.Row{}, fmt.Errorf("changing the status of %s: %w", slug, err)
	}
	row, err := m.TenantBySlug(ctx, slug)
	if err == nil && row.Status == string(tenant.Provisioning) {
		return tenant.Row{}, fhir.Errorf(fhir.Conflict, "the tenant is not ready yet")
	}
	if err != nil {
		return tenant.Row{}, err
	}
	s := m.site(tenant.Mode(row.Mode), row.ID)
	return row, m.on(ctx, s.database, func(conn *sql.Conn) error { return inPlace(ctx, conn, s, admission{row.ID, row.PolicyVersion}) })
}

// TenantBySlug returns what the registry has of the tenant, without the
// secrets of its placement.
func (m *Migrator) TenantBySlug(ctx context.Context, slug string) (tenant.Row, error) {
	var r tenant.Row
	err := m.registry.QueryRowContext(ctx, `
		SELECT id, slug, name, mode, status, region, policy_version, schema, role
		FROM   registry.tenant
		WHERE  slug = $1`, slug).Scan(&r.ID, &r.Slug, &r.Name, &r.Mode, &r.Status, &r.Region,
		&r.PolicyVersion, &r.Placement.Schema, &r.Placement.Role)
	if errors.Is(err, sql.ErrNoRows) {
		return tenant.Row{}, tenant.ErrUnknown
	}
	if err != nil {
		return tenant.Row{}, fmt.Errorf("reading tenant %s: %w", slug, err)
	}
	return r, nil
}
