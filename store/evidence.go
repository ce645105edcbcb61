package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/evidence"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/migrations"
	"github.com/cordon-fhir/cordon/smart"
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
	err = m.registry.QueryRowContext(ctx, `SELECT schema_version FROM registry.tenant WHERE id = $1`, row.ID).Scan(&f.Build.Schema)
	if err == nil {
		f.Keys, err = m.keyEvidence(ctx, row.ID)
	}
	if err == nil {
		f.Operators, err = rowsOf(ctx, m.registry, `SELECT id, name, disabled FROM registry.operator ORDER BY id`, nil,
			func(o *evidence.Operator) []any { return []any{&o.ID, &o.Name, &o.Disabled} })
	}
	if err == nil {
		err = m.on(ctx, s.database, func(conn *sql.Conn) error { return catalogue(ctx, conn, s.names.Schema, &f) })
	}
	if err != nil {
		return f, fmt.Errorf("reading evidence of %s: %w", slug, err)
	}
	return f, nil
}

// What of a tenant is sealed under which of its keys: with these it is sealed, and
// of these the evidence tells. Records of broken glasses are under smart.GlassKey.
const (
	recordKey       = keys.Clinical // resources, and what is to be indexed
	requestKey      = keys.Clinical // requests that are answered later
	subscriptionKey = keys.Clinical // what subscriptions ask for
	answerKey       = keys.Cursor   // and their answers
	entryKey        = keys.Audit    // audit entries
	fileKey         = keys.Export   // files of bulk exports and imports
)

// places are the copies of a tenant's data that servers make. Which servers those
// are the region of the tenant says; where a database is, nobody tells Cordon.
func (m *Migrator) places(row tenant.Row, s site) []evidence.Place {
	tables := "database " + s.database + ", schema " + s.names.Schema
	whose := ", its own"
	if s.names.Schema == sharedSchema {
		whose = ", shared with other tenants"
	}
	registry := "database " + m.registryDatabase() + ", schema " + registrySchema + ", shared with other tenants"
	under := func(what string, key keys.Class) string { return what + " under the key " + string(key) }
	const (
		database = "where the database server is: Cordon is not told"
		control  = "where the database server of the control plane is: Cordon is not told, and it serves all regions"
	)
	in := func(what, where, region, sealed, kept string) evidence.Place {
		return evidence.Place{What: what, Where: where, Region: region, Sealed: sealed, Kept: kept}
	}
	servers := "that of the servers that may serve the tenant: " + row.Region + ", unless one is told no region"
	return []evidence.Place{
		in("resources and their history", tables+whose, database, under("bodies", recordKey)+"; ids, types, times, and which search parameters they have, in clear", "always: what is deleted has one more version"),
		in("search index", tables+whose, database, under("values as hashes", keys.Index)+"; dates and numbers in clear", "as long as the resource"),
		in("audit trail and its log", tables+whose, database, under("entries", entryKey)+"; "+under("who, whose record and what as hashes", keys.Index)+"; time, interaction, type, version and outcome in clear", "for ever, or for the years of the setting audit.keepYears; leaves and tombstones for ever"),
		in("requests that are answered later", tables+whose, database, under("whole", requestKey), "until they are answered or given up"),
		in("what subscriptions ask for, and where they are told", tables+whose, database, under("whole", subscriptionKey), "until they are off or deleted"),
		in("events of subscriptions", tables+whose, database, "which version of which resource, as hashes, and times in clear", "7 days after they are told, or until the subscription is off"),
		in("answers that are fetched later", tables+whose, database, under("whole", answerKey), hours(answerLife)),
		in("checkpoints of the audit log", "the directory or bucket of checkpoints of the servers", servers+"; a bucket is where the operator made it", "nothing of records is in them", "always"),
		in("files of bulk exports", "the directory or bucket of files of the servers, and the list of them in "+tables, servers+"; a bucket is where the operator made it", under("files", fileKey)+"; the list "+under("whose records as hashes", keys.Index)+", types, counts and sizes in clear", hours(exportLife)+", or until they are deleted"),
		in("what is uploaded to be imported", "where the files of bulk exports are", servers+"; a bucket is where the operator made it", under("files", fileKey), "until it is imported, or for "+hours(2*exportLife)+" at most"),
		in("why lines of imports were refused", tables+whose+"; then where the files of bulk exports are", database, under("whole", fileKey)+"; how many lines of which type were taken in clear", hours(exportLife)+" after the import, or until they are deleted"),
		in("clients, users, policy, settings", registry, control, "policy, and secrets that are needed again, under the key-encryption key; passwords and other secrets as hashes; names, scopes and roles in clear", "always"),
		in("logins, and what users let apps do", registry, control, "secrets as hashes; ids of users and of the patients and encounters that apps are opened for in clear", "until a day after they are over"),
		in("broken glasses", registry, control, under("patient, reason and review", smart.GlassKey)+"; users, clients and times in clear", "always"),
		in("legal holds", registry, control, "the patient under the key-encryption key; why, operators and times in clear", "always"),
		in("questions of operators about access", registry, control, "under the key-encryption key", "10 minutes"),
		in("alerts", registry, control, "users, clients and addresses in clear; nothing of records is in them", "always"),
		in("keys", registry, control, "wrapped by the key-encryption key that is named with each", "as long as the tenant"),
		in("open requests, keys and policies", "memory of the servers", servers, "in clear", "seconds to minutes"),
	}
}

func hours(d time.Duration) string { return fmt.Sprintf("%.0f h", d.Hours()) }

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
	log, err := rowsOf(ctx, m.registry, logKeysQuery, []any{id}, (*logKeyRow).fields)
	if err != nil {
		return nil, err
	}
	shown, err := logKeyRows(log).list()
	if err != nil {
		return nil, err
	}
	for _, k := range shown {
		key, err := ledger.ParseKey(k.Key)
		if err != nil {
			return nil, err
		}
		list = append(list, evidence.Key{Class: "audit log", Algorithm: "Ed25519", Wrapped: k.Wrapped, Fingerprint: fmt.Sprintf("%08x", key.KeyHash()), Since: k.Since, Until: k.Until})
	}
	return list, nil
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
		WITH RECURSIVE involved AS (
			SELECT c.relowner AS oid, true AS owner
			FROM   pg_class c
			WHERE  c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p')
			UNION  ALL
			SELECT a.grantee, false
			FROM   pg_class c, aclexplode(c.relacl) a
			WHERE  c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p')
		), may_become AS (
			SELECT m.member AS oid, m.roleid AS becomes
			FROM   pg_auth_members m
			WHERE  m.roleid IN (SELECT oid FROM involved)
			UNION
			SELECT m.member, b.becomes
			FROM   may_become b
			JOIN   pg_auth_members m ON m.roleid = b.oid
		), listed AS (
			SELECT oid, owner FROM involved
			UNION  ALL
			SELECT oid, false FROM may_become
		)
		SELECT coalesce(r.rolname, 'PUBLIC'), coalesce(r.rolcanlogin, true), coalesce(r.rolsuper, false), coalesce(r.rolbypassrls, false), bool_or(l.owner),
		       ARRAY(SELECT o.rolname::text FROM may_become b JOIN pg_roles o ON o.oid = b.becomes WHERE b.oid = l.oid ORDER BY 1)
		FROM   listed l
		LEFT   JOIN pg_roles r ON r.oid = l.oid
		GROUP  BY l.oid, 1, 2, 3, 4
		ORDER  BY 1`, []any{schema},
		func(r *evidence.Role) []any {
			return []any{&r.Name, &r.Login, &r.Superuser, &r.BypassesRLS, &r.Owner, pgtype.NewMap().SQLScanner(&r.Becomes)}
		})
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
