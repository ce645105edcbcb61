package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/evidence"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/migrations"
	"github.com/cordon-fhir/cordon/tenant"
)

// Evidence returns what the databases say of a tenant: where its rows are, what
// PostgreSQL lets whom do with them, its keys and who the operators are. It reads
// no row of the tenant.
func (m *Migrator) Evidence(ctx context.Context, slug string) (f evidence.Facts, err error) {
	row, err := m.TenantBySlug(ctx, slug)
	if err != nil {
		return f, err
	}
	f.Tenant = evidence.Tenant{Slug: row.Slug, Number: row.ID, Mode: row.Mode, Region: row.Region, Status: row.Status}
	s := m.site(tenant.Mode(row.Mode), row.ID)
	f.Places = m.places(row, s)
	f.Build.SchemaLatest = migrations.Latest(migrations.Placement)
	if err := m.registry.QueryRowContext(ctx, `SELECT schema_version FROM registry.tenant WHERE id = $1`, row.ID).Scan(&f.Build.Schema); err != nil {
		return f, fmt.Errorf("reading evidence of %s: %w", slug, err)
	}
	if f.Keys, err = m.keyEvidence(ctx, row.ID); err != nil {
		return f, err
	}
	if f.Operators, err = rowsOf(ctx, m.registry, `SELECT id, name, disabled FROM registry.operator ORDER BY id`, nil,
		func(o *evidence.Operator) []any { return []any{&o.ID, &o.Name, &o.Disabled} }); err != nil {
		return f, err
	}
	return f, m.on(ctx, s.database, func(conn *sql.Conn) error { return catalogue(ctx, conn, s.names.Schema, &f) })
}

// places are the copies of a tenant's data that servers make.
func (m *Migrator) places(row tenant.Row, s site) []evidence.Place {
	tables := "database " + s.database + ", schema " + s.names.Schema
	whose := ", its own"
	if s.names.Schema == sharedSchema {
		whose = ", shared with other tenants"
	}
	registry := "database " + m.registryDatabase() + ", schema " + registrySchema
	in := func(what, where, sealed, kept string) evidence.Place {
		return evidence.Place{What: what, Where: where, Region: row.Region, Sealed: sealed, Kept: kept}
	}
	return []evidence.Place{
		in("resources and their history", tables+whose, "bodies under the key clinical; ids, types, times, and dates and numbers that are searched, in clear", "until deleted; history always"),
		in("search index", tables+whose, "values as hashes under the key index", "as long as the resource"),
		in("audit trail and its log", tables+whose, "entries under the key audit; time, interaction, type and outcome in clear", "always"),
		in("answers that are fetched later", tables+whose, "under the key clinical", "1 hour"),
		in("checkpoints of the audit log", "the directory of checkpoints of the servers", "nothing of records is in them", "always"),
		in("files of bulk exports", "the directory of files of the servers", "under the key export", "until they expire or are deleted"),
		in("clients, users, policy, settings", registry, "policy, secrets and break-glass under the key-encryption key; names, scopes and roles in clear", "always"),
		in("keys", registry, "wrapped by the key-encryption key, which is "+kekOf(m.cfg.KEK), "as long as the tenant"),
		in("open requests, keys and policies", "memory of the servers of the region", "in clear", "seconds to minutes"),
	}
}

// kekOf says where a key-encryption key is, by its URI.
func kekOf(uri string) string {
	scheme, _, _ := strings.Cut(uri, ":")
	return "in the key management service " + scheme
}

// algorithms of the keys, by class.
func algorithmOf(c keys.Class) string {
	switch c {
	case keys.Index:
		return "HMAC-SHA-256"
	case keys.Signing:
		return "ECDSA P-256"
	}
	return "AES-256-GCM"
}

func (m *Migrator) keyEvidence(ctx context.Context, id int32) ([]evidence.Key, error) {
	list, err := rowsOf(ctx, m.registry, `SELECT class, kek, left(encode(fingerprint, 'hex'), 16) FROM registry.keyset WHERE tenant_id = $1 ORDER BY class`, []any{id},
		func(k *evidence.Key) []any { return []any{&k.Class, &k.Wrapped, &k.Fingerprint} })
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Algorithm = algorithmOf(keys.Class(list[i].Class))
	}
	log := evidence.Key{Class: "audit log", Algorithm: "Ed25519"}
	var verifier string
	if err := m.registry.QueryRowContext(ctx, `SELECT verifier, kek FROM registry.log_key WHERE tenant_id = $1`, id).Scan(&verifier, &log.Wrapped); err != nil {
		return nil, fmt.Errorf("reading evidence: %w", err)
	}
	key, err := ledger.ParseKey(verifier)
	if err != nil {
		return nil, err
	}
	log.Fingerprint = hex.EncodeToString([]byte{byte(key.KeyHash() >> 24), byte(key.KeyHash() >> 16), byte(key.KeyHash() >> 8), byte(key.KeyHash())})
	return append(list, log), nil
}

// catalogue reads what PostgreSQL says of the tables of a schema.
// https://www.postgresql.org/docs/current/catalog-pg-class.html
func catalogue(ctx context.Context, conn *sql.Conn, schema string, f *evidence.Facts) (err error) {
	f.Tables, err = rowsOf(ctx, conn, `
		SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid)
		FROM   pg_class c
		WHERE  c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p')
		ORDER  BY c.relname`, []any{schema},
		func(t *evidence.Table) []any { return []any{&t.Name, &t.RowSecurity, &t.Forced, &t.Policies} })
	if err != nil {
		return err
	}
	f.Roles, err = rowsOf(ctx, conn, `
		WITH involved AS (
			SELECT c.relowner AS oid, true AS owner
			FROM   pg_class c
			WHERE  c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p')
			UNION  ALL
			SELECT a.grantee, false
			FROM   pg_class c, aclexplode(c.relacl) a
			WHERE  c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p')
		)
		SELECT coalesce(r.rolname, 'PUBLIC'), coalesce(r.rolcanlogin, true), coalesce(r.rolsuper, false), coalesce(r.rolbypassrls, false), bool_or(i.owner)
		FROM   involved i
		LEFT   JOIN pg_roles r ON r.oid = i.oid
		GROUP  BY 1, 2, 3, 4
		ORDER  BY 1`, []any{schema},
		func(r *evidence.Role) []any { return []any{&r.Name, &r.Login, &r.Superuser, &r.BypassesRLS, &r.Owner} })
	if err != nil {
		return err
	}
	f.Privileges, err = rowsOf(ctx, conn, `
		SELECT coalesce(r.rolname, 'PUBLIC'), c.relname, string_agg(DISTINCT a.privilege_type, ', ' ORDER BY a.privilege_type)
		FROM   pg_class c
		JOIN   LATERAL (
			SELECT grantee, privilege_type FROM aclexplode(c.relacl)
			UNION
			SELECT x.grantee, x.privilege_type || ' of some columns'
			FROM   pg_attribute t, aclexplode(t.attacl) x
			WHERE  t.attrelid = c.oid
		) a ON true
		LEFT   JOIN pg_roles r ON r.oid = a.grantee
		WHERE  c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p') AND a.grantee <> c.relowner
		GROUP  BY 1, 2
		ORDER  BY 1, 2`, []any{schema},
		func(p *evidence.Privilege) []any { return []any{&p.Role, &p.Table, &p.May} })
	return err
}

// rowsOf reads the rows of a query, each into where fields says.
func rowsOf[T any](ctx context.Context, in interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, query string, args []any, fields func(*T) []any) ([]T, error) {
	rows, err := in.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("reading evidence: %w", err)
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		var one T
		if err := rows.Scan(fields(&one)...); err != nil {
			return nil, fmt.Errorf("reading evidence: %w", err)
		}
		list = append(list, one)
	}
	return list, rows.Err()
}

// SignEvidence returns the statement as a note that is signed with the key of the
// audit log of the tenant.
func (r *Registry) SignEvidence(ctx context.Context, t *tenant.Tenant, s evidence.Statement) ([]byte, error) {
	signer, _, err := r.logSigner(ctx, t)
	if err != nil {
		return nil, err
	}
	s.Origin = signer.Name()
	return s.Sign(signer)
}
