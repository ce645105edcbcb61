package store_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/migrations"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// registryContent are the columns of the registry that could hold words. Of a patient
// they have which one it is: in the context of a launch and of an approval, of a client
// that acts for one, of an account, and sealed in a legal hold, a purge, a broken glass
// and an inquiry. None has what is in a record: who adds a column says so here.
var registryContent = map[string]string{
	"access_key":        "data fingerprint kek",
	"account":           "fhir_user hash login person totp",
	"alert":             "acknowledged_by acknowledged_why address addressed client closed_by closed_why fhir_user requests rule state",
	"alert_sink":        "kek secret url",
	"approval":          "acr amr challenge client code context fhir_user id nonce person redirect_uri scope session source subject",
	"assertion":         "client jti",
	"audit_leaf":        "hash",
	"audit_log":         "checkpoint",
	"audit_node":        "hash",
	"client":            "encounter fhir_user id jwks jwks_uri launch_url method name patient person purpose redirect_uris registration scopes secret",
	"glass":             "client decided_by decider ended_by fhir_user id request review reviewed_by reviewer session signed subject",
	"identity_provider": "config issuer name secret",
	"identity_request":  "browser data state",
	"identity_user":     "provider subject",
	"index_work":        "reported types",
	"inquiry":           "answer kek question",
	"keyset":            "class data fingerprint kek",
	"launch":            "app context handle opener subject",
	"legal_hold":        "asked_by asked_why id kek lifted_by patient placed_by why",
	"log_key":           "data kek verifier",
	"log_succession":    "data kek said",
	"login_attempt":     "subject",
	"operator":          "id jwk name",
	"operator_token":    "jti operator",
	"outside_issuer":    "audience config issuer secret",
	"package":           "canonical contents dependencies hash name packed packed_hash version",
	"platform_audit":    "address client fhir_user interaction issuer method reason request_id server token_id",
	"policy":            "approved_by kek note proposal proposed_by text",
	"purge":             "approved_by asked_by id kek patient why",
	"refresh_token":     "approval hash",
	"revocation":        "id",
	"session":           "acr amr fhir_user id person secret source subject",
	"signing_key":       "data kek kid",
	"tenant":            "audit_dsn dsn kek log_dsn mode name region role schema schema_error settings signer slug status",
	"tenant_package":    "hash name version",
}

// CP-03: tables with content of records, or an index of it, are in the places of tenants
// alone; the registry has no column but those that are known to hold none.
func TestRecordsAreInTheDataPlanesTablesOnly(t *testing.T) {
	f := storetest.New(t)
	conn := connect(t, in(storetest.Superuser(t), "cordon_registry"))
	got := map[string]string{}
	for _, line := range query[string](t, conn, `
		SELECT c.relname || ' ' || string_agg(a.attname, ' ' ORDER BY a.attname COLLATE "C")
		FROM   pg_class c
		JOIN   pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE  c.relnamespace = 'registry'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname <> 'schema_migrations'
		AND    a.atttypid <> ALL (ARRAY['int2', 'int4', 'int8', 'bool', 'timestamptz', 'xid8', 'int8[]']::regtype[])
		GROUP  BY c.relname`) {
		table, columns, _ := strings.Cut(line, " ")
		got[table] = columns
	}
	if d := cmp.Diff(registryContent, got); d != "" {
		t.Errorf("columns of the registry differ: %s", d)
	}
	places := []string{"registry"}
	for _, slug := range storetest.Slugs {
		places = append(places, f.Tenant(t, slug).Placement.Schema)
	}
	for _, url := range []string{in(storetest.Superuser(t), "cordon_registry"), appURL(f, f.Tenant(t, storetest.A1)), appURL(f, f.Tenant(t, storetest.D1))} {
		conf, err := pgx.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		conn := connect(t, in(storetest.Superuser(t), conf.Database))
		for _, schema := range query[string](t, conn, `
			SELECT DISTINCT c.relnamespace::regnamespace::text FROM pg_class c
			WHERE  c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
			AND    c.relname = ANY ($1)`, clinicalTables) {
			if schema == "registry" || !slices.Contains(places, schema) && !strings.HasPrefix(schema, "t") {
				t.Errorf("%s of %s has tables of records", schema, conf.Database)
			}
		}
	}
}

// clinicalTables are those with content of records, or an index of it.
var clinicalTables = []string{"resource", "history", "idx_token", "idx_ref", "idx_num", "idx_date", "idx_standing", "change", "deferred", "export_slice", "export_file", "subscription", "subscription_event"}

// TEN-26: no role of PostgreSQL but the superuser's may read the tables of two places,
// and where tenants share a place each statement is bound to one by its signature
// (TestTheTenantIsSigned); no key is of two tenants; and there is no account of more
// than one, but those of operators, who have no way to a record.
func TestNoRoleAccountOrKeyReadsTheRecordsOfTwoTenants(t *testing.T) {
	f := storetest.New(t)
	for _, mode := range []tenant.Mode{tenant.Schema, tenant.Database} {
		if _, _, err := f.Migrator.Provision(t.Context(), store.NewTenant{Slug: "lone-" + string(mode), Mode: mode}); err != nil {
			t.Fatal(err)
		}
	}
	reads := map[string][]string{}
	super := connect(t, storetest.Superuser(t))
	for _, name := range query[string](t, super, `SELECT datname::text FROM pg_database WHERE datname LIKE 'cordon%'`) {
		conn := connect(t, in(storetest.Superuser(t), name))
		for _, line := range query[string](t, conn, `
			SELECT DISTINCT r.rolname || ' ' || c.relnamespace::regnamespace
			FROM   pg_class c, pg_roles r
			WHERE  c.relname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT r.rolsuper
			AND    c.relowner <> r.oid AND r.rolname NOT LIKE 'pg\_%' AND has_table_privilege(r.oid, c.oid, 'SELECT')`, clinicalTables) {
			role, schema, _ := strings.Cut(line, " ")
			reads[role] = append(reads[role], name+"."+schema)
		}
		// The owner of the tables is held by their policies, of which none is for it.
		if open := query[string](t, conn, `
			SELECT c.oid::regclass::text FROM pg_class c
			WHERE  c.relname = ANY ($1) AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
			UNION ALL
			SELECT p.tablename || ' to ' || r FROM pg_policies p, unnest(p.roles) r
			WHERE  p.tablename = ANY ($1) AND p.cmd IN ('SELECT', 'ALL') AND (r = 'public' OR r IN (SELECT tableowner FROM pg_tables))`, clinicalTables); len(open) > 0 {
			t.Errorf("%s: who owns the tables reads %v", name, open)
		}
	}
	if len(reads) < 5 {
		t.Errorf("found only %v", reads)
	}
	for role, places := range reads {
		if len(places) > 1 {
			t.Errorf("%s reads %v", role, places)
		}
	}
	if members := query[string](t, super, `
		SELECT member::regrole || ' in ' || roleid::regrole FROM pg_auth_members
		WHERE  roleid::regrole::text LIKE 'pg\_%' AND member::regrole::text NOT LIKE 'pg\_%'`); len(members) > 0 {
		t.Errorf("members of what PostgreSQL lets read everything: %v", members)
	}
	registry := connect(t, in(storetest.Superuser(t), "cordon_registry"))
	for what, sql := range map[string]string{
		"a key":               `SELECT encode(fingerprint, 'hex') FROM registry.keyset GROUP BY 1 HAVING count(DISTINCT tenant_id) > 1`,
		"a key of tokens":     `SELECT encode(fingerprint, 'hex') FROM registry.access_key GROUP BY 1 HAVING count(DISTINCT tenant_id) > 1`,
		"a key of ID tokens":  `SELECT kid FROM registry.signing_key GROUP BY 1 HAVING count(DISTINCT tenant_id) > 1`,
		"a key of audit logs": `SELECT verifier FROM registry.log_key GROUP BY 1 HAVING count(DISTINCT tenant_id) > 1`,
		"a role":              `SELECT role FROM registry.tenant WHERE mode = 'schema' GROUP BY 1 HAVING count(*) > 1`,
		"an account that is not of one tenant": `
			SELECT c.relname::text FROM pg_class c
			WHERE  c.relnamespace = 'registry'::regnamespace AND c.relkind = 'r'
			AND    c.relname = ANY ('{client,account,session,launch,approval,refresh_token,identity_provider,identity_user,outside_issuer,access_key,signing_key,keyset,glass}')
			AND    NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
			                   WHERE i.indrelid = c.oid AND i.indisprimary AND a.attname = 'tenant_id' AND a.attnotnull)`,
	} {
		if found := query[string](t, registry, sql); len(found) > 0 {
			t.Errorf("%s is of two tenants: %v", what, found)
		}
	}
}

// TEN-02, TEN-03: what lets a server reach the schema or the database of a tenant is of
// that tenant alone. That the suite holds in each mode is what package conformance
// shows, whose pairs have all of them.
func TestTheCredentialsOfATenantAreItsOwn(t *testing.T) {
	f := storetest.New(t)
	seen := map[string]string{}
	unique := func(what, value, slug string) {
		t.Helper()
		if value == "" || seen[what+value] != "" {
			t.Errorf("%s of %s is that of %q", what, slug, seen[what+value])
		}
		seen[what+value] = slug
	}
	for _, mode := range []tenant.Mode{tenant.Schema, tenant.Database} {
		for _, n := range []string{"one", "two"} {
			slug := "own-" + string(mode) + "-" + n
			if _, _, err := f.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: mode}); err != nil {
				t.Fatal(err)
			}
			p := f.Tenant(t, slug).Placement
			unique("the schema", p.Schema, slug)
			unique("what signs its number", string(p.Signer), slug)
			if mode == tenant.Schema {
				unique("the role", p.Role, slug)
				continue
			}
			for _, dsn := range []string{p.DSN, p.AuditDSN, p.LogDSN} {
				conf, err := pgx.ParseConfig(dsn)
				if err != nil {
					t.Fatal(err)
				}
				unique("the login", conf.User, slug)
				unique("the password", conf.Password, slug)
			}
			conf, err := pgx.ParseConfig(p.DSN)
			if err != nil {
				t.Fatal(err)
			}
			unique("the database", conf.Database, slug)
		}
	}
}

// fanOut is how many schemas a migration is tried on; CORDON_FAN_OUT=500 is the goal.
func fanOut(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("CORDON_FAN_OUT"))
	if err != nil {
		return 8
	}
	return n
}

// UPG-10: schemas are migrated several at once; a migration that is broken off says of
// each tenant how far it is, and goes on from there.
func TestAMigrationOfManySchemasIsResumed(t *testing.T) {
	m := newMigrator(t, "fanout")
	f := storetest.New(t)
	if err := m.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := fanOut(t)
	sqlConn, closeConn := ownerConn(t, in(f.OwnerURL, "fanout"))
	defer closeConn()
	latest := migrations.Latest(migrations.Placement)
	for i := 1; i <= n; i++ {
		row, _, err := m.Provision(t.Context(), store.NewTenant{Slug: fmt.Sprintf("many-%d", i), Mode: tenant.Schema})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := migrations.To(t.Context(), sqlConn, migrations.Placement, migrations.Names{
			Schema: fmt.Sprintf("t%d", row.ID), App: fmt.Sprintf("fanout_t%d", row.ID), Audit: "fanout_audit", Log: "fanout_log"}, latest-1); err != nil {
			t.Fatal(err)
		}
	}
	registry := connect(t, in(storetest.Superuser(t), "fanout_registry"))
	must(t, registry, `UPDATE registry.tenant SET schema_version = $1`, latest-1)
	behind := func() (n int) {
		states, err := m.States(t.Context())
		if err != nil {
			t.Error(err)
		}
		for _, s := range states {
			if s.Version != latest {
				n++
			}
		}
		return n
	}
	// It ends when some are done and others are not.
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for ctx.Err() == nil && behind() == n {
		}
	}()
	err := m.Migrate(ctx)
	left := behind()
	t.Logf("%d of %d are left after %v", left, n, err != nil)
	if err == nil && left > 0 || left == n {
		t.Errorf("%d of %d are left, and the error is %v", left, n, err)
	}
	if err := m.Migrate(t.Context()); err != nil || behind() > 0 {
		t.Errorf("%d are left: %v", behind(), err)
	}
}

// aged adds a row to the table that expired four days ago, whatever else it holds.
func aged(t *testing.T, conn *pgx.Conn, table string, number int32) {
	t.Helper()
	var columns, values []string
	for _, line := range query[string](t, conn, `
		SELECT a.attname || ' ' || CASE
		           WHEN a.attname = 'tenant_id' THEN $2::text
		           WHEN a.atttypid = 'timestamptz'::regtype THEN 'now() - interval ''4 days'''
		           WHEN a.atttypid = ANY ('{int2,int4,int8}'::regtype[]) THEN '7'
		           WHEN a.atttypid = 'bool'::regtype THEN 'false'
		           WHEN a.atttypid = 'bytea'::regtype THEN 'sha256(''aged'')'
		           WHEN a.atttypid = 'jsonb'::regtype THEN '''{}'''
		           WHEN a.atttypid = 'text[]'::regtype THEN '''{}'''
		           WHEN a.atttypid = 'xid8'::regtype THEN 'pg_current_xact_id()'
		           ELSE '''aged''' END
		FROM   pg_attribute a
		WHERE  a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity = ''
		AND    (a.attnotnull OR a.attname IN ('asked', 'last'))`, table, fmt.Sprint(number)) {
		column, value, _ := strings.Cut(line, " ")
		columns, values = append(columns, column), append(values, value)
	}
	must(t, conn, `INSERT INTO `+table+` (`+strings.Join(columns, ", ")+`) VALUES (`+strings.Join(values, ", ")+`)`)
}

// TEN-30: whatever a table of the registry keeps for a time is gone when that is over,
// also in a table that comes later; and so are the answers, slices and files of what was
// deferred.
func TestWhatIsKeptForATimeIsSwept(t *testing.T) {
	f := storetest.New(t)
	conn := connect(t, in(storetest.Superuser(t), "cordon_registry"))
	must(t, conn, `SET session_replication_role = replica`)
	ends := map[string]string{"registry.inquiry": "asked", "registry.login_attempt": "last"}
	for _, line := range query[string](t, conn, `
		SELECT a.attrelid::regclass || ' ' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		WHERE  c.relnamespace = 'registry'::regnamespace AND c.relkind = 'r' AND a.attname LIKE '%expires'`) {
		table, column, _ := strings.Cut(line, " ")
		ends[table] = column
	}
	if len(ends) < 10 {
		t.Fatalf("found only %v", ends)
	}
	for table := range ends {
		aged(t, conn, table, f.Tenant(t, storetest.A1).ID.Int())
	}
	f.Registry.Purge(t.Context())
	f.Registry.Purge(t.Context()) // an approval goes after its refresh tokens
	for table, column := range ends {
		if left := query[int64](t, conn, `SELECT count(*) FROM `+table+` WHERE `+column+` < now() - interval '3 days'`)[0]; left > 0 {
			t.Errorf("%s keeps %d rows whose time is over", table, left)
		}
	}
	for _, slug := range storetest.Slugs {
		x := f.Tenant(t, slug)
		conn := database(t, f, x)
		must(t, conn, `SET session_replication_role = replica`)
		schema, number := x.Placement.Schema, x.ID.Int()
		for _, sql := range put(schema, number, 987654) {
			if strings.Contains(sql, ".deferred ") || strings.Contains(sql, ".export_") {
				must(t, conn, sql)
			}
		}
		must(t, conn, fmt.Sprintf(`UPDATE %s.export_file SET made = now() - interval '4 days' WHERE tenant_id = %d AND job = lpad('987654', 32, '0')::uuid`, schema, number))
		if err := f.DB.Sweep(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		for _, table := range []string{"deferred", "export_slice", "export_file"} {
			column := map[bool]string{true: "id", false: "job"}[table == "deferred"]
			if left := query[int64](t, conn, fmt.Sprintf(`SELECT count(*) FROM %s.%s WHERE tenant_id = %d AND %s = lpad('987654', 32, '0')::uuid`, schema, table, number, column))[0]; left > 0 {
				t.Errorf("%s: %s keeps what is over", slug, table)
			}
		}
	}
}
