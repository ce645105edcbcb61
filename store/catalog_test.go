package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// These tests ask PostgreSQL itself what the roles of the server may do, in
// every place that tenants have.

// sign returns the setting that binds a transaction to x.
func sign(x *tenant.Tenant) string { return signed(x.Placement.Signer, x.ID.String()) }

func signed(secret []byte, number string) string {
	inner := sha256.Sum256(append(slices.Clone(secret), number...))
	outer := sha256.Sum256(append(slices.Clone(secret), inner[:]...))
	return number + "." + hex.EncodeToString(outer[:])
}

// appURL returns how the server connects to the database of x.
func appURL(f *storetest.Fixture, x *tenant.Tenant) string {
	if x.Placement.DSN != "" {
		return x.Placement.DSN
	}
	return f.URLs.App
}

func auditURL(f *storetest.Fixture, x *tenant.Tenant) string {
	if x.Placement.AuditDSN != "" {
		return x.Placement.AuditDSN
	}
	return f.URLs.Audit
}

func logURL(f *storetest.Fixture, x *tenant.Tenant) string {
	if x.Placement.LogDSN != "" {
		return x.Placement.LogDSN
	}
	return f.URLs.Log
}

// bind makes conn act for x with the setting.
func bind(t testing.TB, conn *pgx.Conn, x *tenant.Tenant, setting string) {
	t.Helper()
	if x.Placement.Role != "" {
		must(t, conn, `SET ROLE `+x.Placement.Role)
	}
	must(t, conn, `SELECT set_config('cordon.tenant', $1, false)`, setting)
}

func must(t testing.TB, conn *pgx.Conn, sql string, args ...any) int64 {
	t.Helper()
	tag, err := conn.Exec(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag.RowsAffected()
}

// code returns the SQLSTATE with which conn refuses sql, "" if it does not.
func code(t testing.TB, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	if err == nil {
		return ""
	}
	pe, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		t.Fatalf("%s: %v", sql, err)
	}
	return pe.Code
}

// tables are those of a tenant's place, and what the server's role may do there.
var tables = map[string]string{
	"resource":  "DELETE INSERT SELECT UPDATE", // TestTheDatabaseRemovesNoVersionThatNothingTells
	"history":   "DELETE INSERT SELECT",        // the same
	"removed":   "INSERT SELECT",
	"idx_token": "DELETE INSERT SELECT",
	"idx_ref":   "DELETE INSERT SELECT",
	"idx_num":   "DELETE INSERT SELECT",
	"idx_date":  "DELETE INSERT SELECT",

	"idx_standing": "DELETE INSERT SELECT",
	"index_due":    "DELETE SELECT",

	"change": "INSERT SELECT",
	"audit":  "INSERT SELECT",

	"index_generation": "INSERT SELECT UPDATE",
	"index_job":        "DELETE INSERT SELECT UPDATE",
	"deferred":         "DELETE INSERT SELECT UPDATE",
	"export_slice":     "DELETE INSERT SELECT UPDATE",
	"export_file":      "DELETE INSERT SELECT UPDATE",
	"import_input":     "DELETE INSERT SELECT UPDATE",
	"import_fault":     "DELETE INSERT SELECT",

	"subscription":       "DELETE INSERT SELECT UPDATE",
	"subscription_feed":  "INSERT SELECT UPDATE",
	"subscription_event": "DELETE INSERT SELECT",

	"audit_leaf": "SELECT",
	"audit_node": "SELECT",
	"audit_log":  "SELECT",
}

// logTables are those that the role that makes logs of audit trails has rights
// on, and which.
var logTables = map[string]string{
	"audit":      "DELETE INSERT SELECT", // TestTheDatabaseRemovesNothingWithoutItsTombstone
	"audit_leaf": "INSERT SELECT",
	"audit_node": "INSERT SELECT",
	"audit_log":  "INSERT SELECT UPDATE",
}

// put inserts one row of every table for the tenant number n.
func put(schema string, n int32, rid int64) []string {
	row := func(table, columns, values string) string {
		return fmt.Sprintf(`INSERT INTO %s.%s (tenant_id, %s) VALUES (%d, %s)`, schema, table, columns, n,
			strings.ReplaceAll(values, "RID", fmt.Sprint(rid)))
	}
	return []string{
		row("resource", "rid, present, updated, version, type, deleted, id, body", `RID, 0, now(), 1, 103, false, 'RID', ''`),
		row("history", "rid, updated, version, type, deleted, id, body", `RID, now(), 1, 103, false, 'RID', ''`),
		row("idx_token", "key, ts, rid", `1, now(), RID`),
		row("idx_ref", "key, target, ts, rid", `1, 1, now(), RID`),
		row("idx_num", "key, lo, hi, rid", `1, 0, 1, RID`),
		row("idx_date", "key, lo, hi, rid", `1, now(), now(), RID`),
		row("idx_standing", "key, target, lo, hi, rid", `1, 1, now(), now(), RID`),
		row("change", "seq, rid, updated, version, type, op", `RID, RID, now(), 1, 103, 'c'`),
		row("audit", "seq, recorded, interaction, outcome, sealed", `RID, now(), 1, 0, ''`),
		row("index_job", "name, state, sealed", `'RID', 'r', ''`),
		row("removed", "rid, at, versions, whole, purge, hash", `RID, now(), 1, true, 'RID', ''`),
		row("index_generation", "generation", `RID`),
		row("deferred", "id, owner, until, expires, done, answer", `lpad('RID', 32, '0')::uuid, 1, now(), now(), false, ''`),
		row("export_slice", "job, n, type, deletions, from_updated, from_rid, to_updated", `lpad('RID', 32, '0')::uuid, 1, 103, false, now(), 0, now()`),
		row("import_input", "job, n, type", `lpad('RID', 32, '0')::uuid, 1, 103`),
		row("import_fault", "job, n, line, faults, outcomes", `lpad('RID', 32, '0')::uuid, 1, 0, 1, ''`),
		row("subscription", "rid, owner, due, state, id, sealed", `RID, 1, now(), 'e', 'RID', ''`),
		row("subscription_feed", "xid", `RID`),
		row("subscription_event", "rid, n, focus, at, version, type, op", `RID, 1, RID, now(), 1, 103, 'c'`),
		row("export_file", "job, id, n, type, kind, made", `lpad('RID', 32, '0')::uuid, lpad('RID', 32, '0')::uuid, 1, 103, 'o', now()`),
	}
}

// putLog does the same with the tables of the log, for its role.
func putLog(schema string, n int32) []string {
	return []string{
		fmt.Sprintf(`INSERT INTO %s.audit_leaf (tenant_id, leaf, seq, hash) VALUES (%d, 0, 0, sha256(''))`, schema, n),
		fmt.Sprintf(`INSERT INTO %s.audit_node (tenant_id, level, n, hash) VALUES (%d, 8, 0, sha256(''))`, schema, n),
		fmt.Sprintf(`INSERT INTO %s.audit_log (tenant_id) VALUES (%d)`, schema, n),
	}
}

// onePerPlace are the slugs whose places differ.
var onePerPlace = []string{storetest.A1, storetest.S1, storetest.S2, storetest.D1}

// database connects as superuser to the database of x.
func database(t testing.TB, f *storetest.Fixture, x *tenant.Tenant) *pgx.Conn {
	t.Helper()
	conf, err := pgx.ParseConfig(appURL(f, x))
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, in(storetest.Superuser(t), conf.Database))
}

// T292
func TestRolesCanDoNothingByThemselves(t *testing.T) {
	f := storetest.New(t)
	conn := connect(t, storetest.Superuser(t))
	roles := query[string](t, conn, `SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'cordon\_%' AND rolname <> 'cordon_owner' ORDER BY 1`)
	if len(roles) < 7 {
		t.Fatalf("found only %v", roles)
	}
	for _, r := range roles {
		got := query[bool](t, conn, `
			SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolinherit
			FROM   pg_roles WHERE rolname = $1`, r)
		if got[0] {
			t.Errorf("%s has an attribute that it must not have", r)
		}
		if m := query[string](t, conn, `
			SELECT g.rolname::text FROM pg_auth_members JOIN pg_roles g ON g.oid = roleid JOIN pg_roles m ON m.oid = member
			WHERE  m.rolname = $1 AND NOT ($1 = 'cordon_app' AND g.rolname ~ '^cordon_t[0-9]+$' AND NOT g.rolcanlogin)`, r); len(m) > 0 {
			t.Errorf("%s is a member of %v", r, m)
		}
	}
	for _, slug := range onePerPlace {
		owned := query[string](t, database(t, f, f.Tenant(t, slug)), `
			SELECT c.oid::regclass || ' of ' || rolname FROM pg_class c JOIN pg_roles r ON r.oid = relowner
			WHERE  rolname LIKE 'cordon\_%' AND rolname <> 'cordon_owner'`)
		if len(owned) > 0 {
			t.Errorf("roles of the server own %v", owned)
		}
	}
}

// TEN-01, T293: both directions of every command that is granted are held to
// the tenant, and nothing more is granted.
func TestEveryTableOfTenantsIsUnderForcedRowLevelSecurity(t *testing.T) {
	f := storetest.New(t)
	for _, slug := range onePerPlace {
		x := f.Tenant(t, slug)
		conn := database(t, f, x)
		schema := x.Placement.Schema
		app, audit, log := "cordon_app", "cordon_audit", "cordon_log"
		if x.Mode != tenant.Shared {
			app = "cordon_t" + x.ID.String()
		}
		if x.Mode == tenant.Database {
			audit, log = app+"_audit", app+"_log"
		}

		type table struct {
			Name, Granted string
			RLS           bool
		}
		rows, err := conn.Query(t.Context(), `
			SELECT c.relname,
			       coalesce((SELECT string_agg(privilege_type, ' ' ORDER BY privilege_type)
			                 FROM aclexplode(c.relacl) WHERE grantee = $2::regrole), ''),
			       c.relrowsecurity AND c.relforcerowsecurity
			FROM   pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
			WHERE  c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`, schema, app)
		if err != nil {
			t.Fatal(err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, c := range found {
			if !c.RLS {
				t.Errorf("%s: %s is not under forced row-level security", slug, c.Name)
			}
			got[c.Name] = c.Granted
		}
		if d := cmp.Diff(tables, got); d != "" {
			t.Errorf("%s: grants differ: %s", slug, d)
		}

		bound := "(tenant_id = ( SELECT " + schema + ".tenant() AS tenant))"
		var want []string
		for role, tables := range map[string]map[string]string{app: tables, log: logTables} {
			for name, granted := range tables {
				for cmd := range strings.FieldsSeq(granted) {
					using, check := bound, bound
					if cmd == "INSERT" {
						using = "-"
					}
					if cmd == "SELECT" || cmd == "DELETE" {
						check = "-"
					}
					want = append(want, strings.Join([]string{name, cmd, role, using, check}, " "))
				}
			}
		}
		want = append(want, "audit INSERT "+audit+" - true")
		slices.Sort(want)
		policies := query[string](t, conn, `
			SELECT concat_ws(' ', tablename, cmd, role, coalesce(qual, '-'), coalesce(with_check, '-'))
			FROM   pg_policies, unnest(roles) AS role WHERE schemaname = $1 AND permissive = 'PERMISSIVE'`, schema)
		slices.Sort(policies)
		if d := cmp.Diff(want, policies); d != "" {
			t.Errorf("%s: policies differ: %s", slug, d)
		}

		others := query[string](t, conn, `
			SELECT c.relname || ' ' || coalesce(g.grantee::regrole::text, '') || ' ' || g.privilege_type
			FROM   pg_class c CROSS JOIN aclexplode(c.relacl) g
			WHERE  c.relnamespace = $1::regnamespace AND g.grantee NOT IN ($2::regrole, c.relowner)
			AND    NOT (c.relname = 'audit' AND g.grantee = $3::regrole AND g.privilege_type = 'INSERT')
			AND    NOT (g.grantee = $4::regrole AND g.privilege_type = ANY (string_to_array($5::jsonb ->> c.relname, ' ')))`, schema, app, audit, log, logTables)
		if len(others) > 0 {
			t.Errorf("%s: others are granted %v", slug, others)
		}
	}
}

// T295: so no unique index and no foreign key answers whether another
// tenant has something, and so tables can be distributed by tenant.
func TestEveryKeyLeadsWithTheTenant(t *testing.T) {
	f := storetest.New(t)
	for _, slug := range onePerPlace {
		x := f.Tenant(t, slug)
		bad := query[string](t, database(t, f, x), `
			SELECT i.indexrelid::regclass::text
			FROM   pg_index i JOIN pg_class c ON c.oid = i.indrelid
			JOIN   pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
			WHERE  c.relnamespace = $1::regnamespace AND i.indkey[0] <> a.attnum
			UNION ALL
			SELECT conname FROM pg_constraint WHERE connamespace = $1::regnamespace AND contype IN ('f', 'x')
			UNION ALL
			SELECT attrelid::regclass || '.' || attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
			WHERE  c.relnamespace = $1::regnamespace AND attnum > 0
			AND   (attidentity <> '' OR atttypid IN ('jsonb'::regtype, 'json'::regtype, 'numeric'::regtype))
			UNION ALL
			SELECT oid::regclass::text FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind IN ('S', 'v', 'm', 'f')`,
			x.Placement.Schema)
		if len(bad) > 0 {
			t.Errorf("%s: %v", slug, bad)
		}
	}
}

// T294
func TestOnlyTheNamedFunctionRunsAsItsOwner(t *testing.T) {
	f := storetest.New(t)
	for _, slug := range onePerPlace {
		x := f.Tenant(t, slug)
		conn := database(t, f, x)
		got := query[string](t, conn, `
			SELECT n.nspname || '.' || p.proname || ' ' || coalesce(array_to_string(p.proconfig, ','), '')
			FROM   pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
			WHERE  p.prosecdef AND n.nspname = $1`, x.Placement.Schema)
		want := []string{x.Placement.Schema + ".tenant search_path=pg_catalog, pg_temp"}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", slug, d)
		}
		if more := query[string](t, conn, `
			SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
			WHERE  n.nspname NOT IN ('pg_catalog', 'information_schema')
			AND   (has_function_privilege('public', p.oid, 'EXECUTE') OR (p.prosecdef AND p.proname <> 'tenant'))`); len(more) > 0 {
			t.Errorf("%s: %v", slug, more)
		}
	}
}

// TEN-09, TEN-10, T291, T306: whoever can run SQL as the server cannot become
// another tenant, and without a tenant there is an error, not an empty chart.
func TestTheTenantIsSigned(t *testing.T) {
	f := storetest.New(t)
	for _, slug := range storetest.Slugs {
		x := f.Tenant(t, slug)
		good := sign(x)
		other := fmt.Sprint(x.ID.Int() + 1)
		for claim, setting := range map[string]string{
			"empty":                             "",
			"a number alone":                    x.ID.String(),
			"the number of another":             other,
			"another's number, this signature":  other + good[strings.Index(good, "."):],
			"signed with another secret":        signed(make([]byte, 32), x.ID.String()),
			"signed with no secret":             signed(nil, x.ID.String()),
			"signed, of no tenant there":        signed(x.Placement.Signer, "2000000000"),
			"a signature in capitals":           strings.ToUpper(good),
			"something behind it":               good + "0",
			"a space before it":                 " " + good,
			"a point only":                      ".",
			"SQL":                               "1' OR '1'='1",
			"a number that is signed otherwise": "0" + good,
		} {
			t.Run(slug+": "+claim+" is refused", func(t *testing.T) {
				conn := connect(t, appURL(f, x))
				bind(t, conn, x, setting)
				for table := range tables {
					_, err := conn.Exec(t.Context(), `SELECT count(*) FROM `+x.Placement.Schema+`.`+table)
					pe, ok := errors.AsType[*pgconn.PgError](err)
					if !ok || pe.Code != "28000" {
						t.Fatalf("%s: got %v, want 28000", table, err)
					}
					if setting != "" && len(setting) > 3 && strings.Contains(pe.Message+pe.Detail+pe.Hint+pe.Where, setting) {
						t.Errorf("the error repeats the setting: %+v", pe)
					}
				}
			})
		}
		t.Run(slug+": unset is refused", func(t *testing.T) {
			conn := connect(t, appURL(f, x))
			if x.Placement.Role != "" {
				must(t, conn, `SET ROLE `+x.Placement.Role)
			}
			for table := range tables {
				if got := code(t, conn, `SELECT count(*) FROM `+x.Placement.Schema+`.`+table); got != "28000" {
					t.Errorf("%s: got %s, want 28000", table, got)
				}
			}
			for _, insert := range put(x.Placement.Schema, x.ID.Int(), 1) {
				if got := code(t, conn, insert); got != "28000" {
					t.Errorf("%s: got %s, want 28000", insert, got)
				}
			}
		})
		t.Run(slug+": after a transaction that was bound nothing is bound", func(t *testing.T) {
			conn := connect(t, appURL(f, x))
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if x.Placement.Role != "" {
				must(t, conn, `SET LOCAL ROLE `+x.Placement.Role)
			}
			must(t, conn, `SELECT set_config('cordon.tenant', $1, true)`, good)
			must(t, conn, `SELECT count(*) FROM `+x.Placement.Schema+`.resource`)
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := "28000"
			if x.Mode == tenant.Schema {
				want = "42501" // the role has gone too
			}
			if got := code(t, conn, `SELECT count(*) FROM `+x.Placement.Schema+`.resource`); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
		t.Run(slug+": the secret is nobody's to read", func(t *testing.T) {
			for _, url := range []string{appURL(f, x), auditURL(f, x)} {
				conn := connect(t, url)
				for _, secret := range []string{`SELECT secret FROM ` + x.Placement.Schema + `.signer`, `SELECT setting FROM ` + x.Placement.Schema + `.binding`} {
					if got := code(t, conn, secret); got != "42501" {
						t.Errorf("%s: got %s, want 42501", secret, got)
					}
				}
			}
			conn := connect(t, appURL(f, x))
			bind(t, conn, x, good)
			for _, secret := range []string{`SELECT secret FROM ` + x.Placement.Schema + `.signer`, `SELECT count(*) FROM ` + x.Placement.Schema + `.binding`} {
				if got := code(t, conn, secret); got != "42501" {
					t.Errorf("%s: got %s, want 42501", secret, got)
				}
			}
			if got := query[string](t, conn, `SELECT prosrc FROM pg_proc WHERE proname = 'tenant'`); strings.Contains(strings.Join(got, ""), hex.EncodeToString(x.Placement.Signer)) {
				t.Error("the secret is in the source of a function")
			}
		})
	}
}

// TEN-01, T297, T301: over tenants that share a place, in all directions.
func TestOneTenantAtATime(t *testing.T) {
	f := storetest.New(t)
	// Tenants of its own: the rows that it makes hold no resources.
	for _, slug := range []string{"alpha-this", "alpha-that"} {
		if _, _, err := f.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Name: slug, Mode: tenant.Shared}); err != nil {
			t.Fatal(err)
		}
	}
	a, b := f.Tenant(t, "alpha-this"), f.Tenant(t, "alpha-that")
	for i, x := range []*tenant.Tenant{a, b} {
		conn := connect(t, appURL(f, x))
		bind(t, conn, x, sign(x))
		must(t, database(t, f, x), `INSERT INTO shared.index_due VALUES ($1)`, x.ID.Int()) // which no server may
		for _, insert := range put("shared", x.ID.Int(), int64(1000+i)) {
			must(t, conn, insert)
		}
		logs := connect(t, logURL(f, x))
		bind(t, logs, x, sign(x))
		for _, insert := range putLog("shared", x.ID.Int()) {
			must(t, logs, insert)
		}
	}
	conn := connect(t, f.URLs.App)
	bind(t, conn, a, sign(a))
	t.Run("the role that makes logs is held to the tenant, too", func(t *testing.T) {
		logs := connect(t, logURL(f, a))
		for table := range logTables {
			if got := code(t, logs, `SELECT count(*) FROM shared.`+table); got != "28000" {
				t.Errorf("%s, unbound: got %s, want 28000", table, got)
			}
		}
		bind(t, logs, a, sign(a))
		for table := range logTables {
			if got := query[int32](t, logs, `SELECT DISTINCT tenant_id FROM shared.`+table); len(got) != 1 || got[0] != a.ID.Int() {
				t.Errorf("%s shows %v", table, got)
			}
		}
		for _, insert := range putLog("shared", b.ID.Int()) {
			if got := code(t, logs, insert); got != "42501" {
				t.Errorf("%s: got %s", insert, got)
			}
		}
		if n := must(t, logs, `UPDATE shared.audit_log SET size = 0 WHERE tenant_id = $1`, b.ID.Int()); n != 0 {
			t.Error("the log of another tenant was changed")
		}
		for table := range tables {
			if logTables[table] == "" {
				if got := code(t, logs, `SELECT FROM shared.`+table); got != "42501" {
					t.Errorf("%s: got %s", table, got)
				}
			}
		}
	})
	t.Run("a statement that forgets the tenant sees one tenant", func(t *testing.T) {
		for table := range tables {
			if got := query[int32](t, conn, `SELECT DISTINCT tenant_id FROM shared.`+table); len(got) != 1 || got[0] != a.ID.Int() {
				t.Errorf("%s shows %v", table, got)
			}
		}
	})
	t.Run("nothing is stored for another tenant, and no answer tells what it has", func(t *testing.T) {
		for _, rid := range []int64{1001, 2001} { // there, and not there
			for _, insert := range put("shared", b.ID.Int(), rid) {
				if got := code(t, conn, insert); got != "42501" {
					t.Errorf("%s: got %s", insert, got)
				}
				if strings.Contains(insert, "resource") {
					if got := code(t, conn, insert+` ON CONFLICT (tenant_id, rid) DO UPDATE SET version = 9`); got != "42501" {
						t.Errorf("upsert: got %s", got)
					}
				}
			}
		}
		if got := code(t, conn, `COPY shared.change FROM STDIN`); got == "" {
			t.Error("COPY was accepted")
		}
		if got := code(t, conn, `UPDATE shared.resource SET tenant_id = $1`, b.ID.Int()); got != "42501" {
			t.Errorf("moving rows: got %s", got)
		}
	})
	t.Run("nothing of another tenant is changed, locked or removed", func(t *testing.T) {
		for _, sql := range []string{
			`UPDATE shared.resource SET version = 9 WHERE tenant_id = $1`,
			`SELECT FROM shared.resource WHERE tenant_id = $1 FOR UPDATE`,
			`DELETE FROM shared.idx_token WHERE tenant_id = $1 RETURNING *`,
			`MERGE INTO shared.resource r USING (SELECT 1001 AS rid) s ON r.tenant_id = $1 AND r.rid = s.rid WHEN MATCHED THEN UPDATE SET version = 9`,
		} {
			if n := must(t, conn, sql, b.ID.Int()); n != 0 {
				t.Errorf("%s touched %d rows", sql, n)
			}
		}
	})
	t.Run("a statement prepared for one tenant shows the next only its own", func(t *testing.T) {
		must(t, conn, `SET plan_cache_mode = force_generic_plan`)
		for range 3 {
			for _, x := range []*tenant.Tenant{a, b} {
				bind(t, conn, x, sign(x))
				if got := query[int32](t, conn, `SELECT DISTINCT tenant_id FROM shared.history WHERE rid > $1`, 0); len(got) != 1 || got[0] != x.ID.Int() {
					t.Errorf("tenant %s sees %v", x.ID, got)
				}
			}
		}
		bind(t, conn, a, sign(a))
	})
	t.Run("errors of functions in WHERE tell nothing of rows that are hidden", func(t *testing.T) {
		// Would divide by zero for each row of b, if it came to see one.
		if got := query[int32](t, conn, `SELECT tenant_id FROM shared.resource WHERE 1 / (tenant_id - $1) > 100`, b.ID.Int()); len(got) != 0 {
			t.Errorf("got %v", got)
		}
		if got := query[int32](t, conn, `SELECT tenant_id FROM shared.resource WHERE id = '1001' AND id::int / 0 = 1`); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("the owner sees no tenant's rows", func(t *testing.T) {
		storetest.Superuser(t) // where the server is not ours, the owner may be one
		owner := connect(t, in(f.OwnerURL, "cordon"))
		for table := range tables {
			if got := query[int64](t, owner, `SELECT count(*) FROM shared.`+table); got[0] != 0 {
				t.Errorf("%s shows the owner %d rows", table, got[0])
			}
		}
	})
}

// Places keep tenants apart before rows do.
func TestAPlaceIsClosedToOthers(t *testing.T) {
	f := storetest.New(t)
	for _, slug := range onePerPlace {
		x := f.Tenant(t, slug)
		for _, other := range onePerPlace {
			y := f.Tenant(t, other)
			if slug == other {
				continue
			}
			t.Run(slug+" does not reach "+other, func(t *testing.T) {
				conf, err := pgx.ParseConfig(appURL(f, x))
				if err != nil {
					t.Fatal(err)
				}
				target, err := pgx.ParseConfig(appURL(f, y))
				if err != nil {
					t.Fatal(err)
				}
				if conf.Database != target.Database {
					conf.Database = target.Database
					if conn, err := pgx.ConnectConfig(t.Context(), conf); err == nil {
						conn.Close(t.Context())
						t.Fatal("connected to the other's database")
					}
					return
				}
				conn := connect(t, appURL(f, x))
				bind(t, conn, x, sign(x))
				want := "42501"
				if x.Mode == tenant.Shared {
					// Without SET ROLE the login role has no right there.
					want = "42501"
				}
				if got := code(t, conn, `SELECT FROM `+y.Placement.Schema+`.resource`); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				if y.Placement.Role == "" {
					return
				}
				// Even as the other's role, the number has to be signed there.
				must(t, conn, `SET ROLE `+y.Placement.Role)
				for _, setting := range []string{sign(x), signed(x.Placement.Signer, y.ID.String())} {
					must(t, conn, `SELECT set_config('cordon.tenant', $1, false)`, setting)
					if got := code(t, conn, `SELECT FROM `+y.Placement.Schema+`.resource`); got != "28000" {
						t.Errorf("got %s, want 28000", got)
					}
				}
			})
		}
	}
}

// T298, T308
func TestTheServersRoleCanDoNothingElse(t *testing.T) {
	f := storetest.New(t)
	storetest.Superuser(t) // large objects are closed where the server is ours
	for _, slug := range onePerPlace {
		x := f.Tenant(t, slug)
		schema := x.Placement.Schema
		urls := []string{appURL(f, x), auditURL(f, x), logURL(f, x)}
		for i, url := range urls {
			conn := connect(t, url)
			switch i {
			case 0:
				bind(t, conn, x, sign(x))
			case 2: // which never becomes another role
				must(t, conn, `SELECT set_config('cordon.tenant', $1, false)`, sign(x))
			}
			for _, sql := range []string{
				`TRUNCATE ` + schema + `.resource`,
				`TRUNCATE ` + schema + `.audit`,
				`DELETE FROM ` + schema + `.audit_leaf`,
				`UPDATE ` + schema + `.audit_leaf SET seq = 0`,
				`UPDATE ` + schema + `.audit_node SET n = 0`,
				`DELETE FROM ` + schema + `.audit_log`,
				`LOCK TABLE ` + schema + `.audit IN ACCESS EXCLUSIVE MODE`,
				`CREATE TABLE ` + schema + `.mine ()`,
				`CREATE TABLE public.mine ()`,
				`CREATE TEMP TABLE mine ()`,
				`CREATE SCHEMA mine`,
				`CREATE FUNCTION ` + schema + `.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'`,
				`CREATE VIEW ` + schema + `.mine AS SELECT 1`,
				`CREATE EVENT TRIGGER mine ON ddl_command_start EXECUTE FUNCTION ` + schema + `.append_only()`,
				`CREATE TRIGGER mine BEFORE INSERT ON ` + schema + `.resource EXECUTE FUNCTION ` + schema + `.append_only()`,
				`ALTER TABLE ` + schema + `.resource DISABLE ROW LEVEL SECURITY`,
				`ALTER TABLE ` + schema + `.audit DISABLE TRIGGER append_only`,
				`DROP POLICY resource_select ON ` + schema + `.resource`,
				`DROP TABLE ` + schema + `.audit`,
				`CREATE EXTENSION dblink`,
				`CREATE FOREIGN DATA WRAPPER mine`,
				`CREATE ROLE mine`,
				`SELECT pg_read_file('/etc/passwd')`,
				`SELECT pg_ls_dir('.')`,
				`SELECT lo_create(0)`,
				`SELECT lo_from_bytea(0, '')`,
				`SELECT lo_get(1)`,
				`COPY (SELECT 1) TO PROGRAM 'true'`,
				`COPY (SELECT 1) TO '/tmp/x'`,
				`SELECT pg_create_logical_replication_slot('mine', 'pgoutput')`,
				`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> current_user`,
				`SET session_replication_role = replica`,
				`SET log_statement = 'all'`,
				`SELECT rolpassword FROM pg_authid`,
			} {
				if got := code(t, conn, sql); got == "" {
					t.Errorf("%s: %s was accepted", slug, sql)
				}
			}
		}
		if got := code(t, connect(t, appURL(f, x)), `SET row_security = off; SELECT FROM `+schema+`.resource`); got != "42501" {
			t.Errorf("%s: row_security off: got %s", slug, got)
		}
	}
}

// AUD-04, AUD-08: nothing is changed in, or removed from, a trail.
func TestTheTrailIsAppendOnly(t *testing.T) {
	f := storetest.New(t)
	for _, slug := range onePerPlace {
		x := f.Tenant(t, slug)
		table := x.Placement.Schema + ".audit"
		for _, who := range []struct {
			name string
			conn *pgx.Conn
		}{{"the server", connect(t, appURL(f, x))}, {"the auditor", connect(t, auditURL(f, x))}, {"a superuser", database(t, f, x)}} {
			t.Run(slug+": by "+who.name, func(t *testing.T) {
				if who.name == "the server" {
					bind(t, who.conn, x, sign(x))
				}
				for _, sql := range []string{
					`UPDATE ` + table + ` SET outcome = 0`, `DELETE FROM ` + table, `TRUNCATE ` + table,
					`INSERT INTO ` + table + ` (tenant_id, seq, recorded, interaction, outcome, sealed)
					 VALUES (` + x.ID.String() + `, -1, now(), 1, 0, '') ON CONFLICT (tenant_id, seq) DO UPDATE SET outcome = 0`,
				} {
					if got := code(t, who.conn, sql); got != "42501" {
						t.Errorf("%s: got %q, want 42501", sql, got)
					}
				}
			})
		}
		t.Run(slug+": nor in its log, by a superuser", func(t *testing.T) {
			conn := database(t, f, x)
			for _, log := range []string{"audit_leaf", "audit_node", "audit_log"} {
				for _, sql := range []string{`DELETE FROM `, `TRUNCATE `} {
					if got := code(t, conn, sql+x.Placement.Schema+"."+log); got != "42501" {
						t.Errorf("%s %s: got %q, want 42501", sql, log, got)
					}
				}
			}
		})
		t.Run(slug+": the auditor adds and reads nothing", func(t *testing.T) {
			conn := connect(t, auditURL(f, x))
			must(t, conn, `BEGIN`) // for who reads the trail it is a forgery
			must(t, conn, `INSERT INTO `+table+` (tenant_id, seq, recorded, interaction, outcome, sealed) VALUES ($1, 5000, now(), 1, 0, '')`, x.ID.Int())
			must(t, conn, `ROLLBACK`)
			for t2 := range tables {
				if got := code(t, conn, `SELECT FROM `+x.Placement.Schema+`.`+t2); got != "42501" {
					t.Errorf("%s: got %s", t2, got)
				}
			}
			if got := code(t, conn, `INSERT INTO `+table+` (tenant_id, seq, recorded, interaction, outcome, sealed)
				VALUES ($1, 5001, now(), 1, 0, '') RETURNING seq`, x.ID.Int()); got != "42501" {
				t.Errorf("RETURNING: got %s", got)
			}
		})
	}
}

// The role of the control plane has nothing to do with rows of
// tenants, and the server's roles nothing with the registry.
func TestTheRegistryIsApart(t *testing.T) {
	f := storetest.New(t)
	reach := func(url, database string) error {
		conn, err := pgx.Connect(t.Context(), in(url, database))
		if err == nil {
			conn.Close(context.Background())
		}
		return err
	}
	d1 := f.Tenant(t, storetest.D1)
	conf, err := pgx.ParseConfig(d1.Placement.DSN)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := pgx.ParseConfig(f.URLs.Registry)
	if err != nil {
		t.Fatal(err)
	}
	app, err := pgx.ParseConfig(f.URLs.App)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ who, url, database string }{
		{"the registry's role", f.URLs.Registry, app.Database},
		{"the registry's role", f.URLs.Registry, conf.Database},
		{"the server's role", f.URLs.App, reg.Database},
		{"the server's role", f.URLs.App, conf.Database},
		{"the auditor", f.URLs.Audit, reg.Database},
		{"the role of one tenant", d1.Placement.DSN, reg.Database},
		{"the role of one tenant", d1.Placement.DSN, app.Database},
		{"the auditor of one tenant", d1.Placement.AuditDSN, app.Database},
		{"the role of the logs of many", f.URLs.Log, conf.Database},
		{"the role of the log of one tenant", d1.Placement.LogDSN, app.Database},
		{"the role of the log of one tenant", d1.Placement.LogDSN, reg.Database},
	} {
		if reach(c.url, c.database) == nil {
			t.Errorf("%s reaches database %s", c.who, c.database)
		}
	}
	conn := connect(t, f.URLs.Registry)
	for _, sql := range []string{
		`UPDATE registry.tenant SET status = 'active'`, `DELETE FROM registry.tenant`, `TRUNCATE registry.tenant CASCADE`,
		`INSERT INTO registry.keyset VALUES (1, 'x', '', '', '')`, `UPDATE registry.keyset SET data = ''`,
		`INSERT INTO registry.operator VALUES ('me', '', '', false)`, `UPDATE registry.operator SET disabled = false`,
		`SELECT FROM registry.platform_audit`, `DELETE FROM registry.platform_audit`, `DELETE FROM registry.client`,
		`INSERT INTO registry.log_key VALUES (99, '', '', '')`, `SELECT FROM registry.audit_leaf`,
		`UPDATE registry.assertion SET expires = now()`, `CREATE TABLE registry.mine ()`, `CREATE TEMP TABLE mine ()`,
	} {
		if got := code(t, conn, sql); got != "42501" {
			t.Errorf("%s: got %q, want 42501", sql, got)
		}
	}
	logs := connect(t, f.URLs.LogRegistry)
	for _, sql := range []string{
		`SELECT FROM registry.tenant`, `SELECT FROM registry.keyset`, `SELECT FROM registry.log_key`, `SELECT FROM registry.client`,
		`INSERT INTO registry.platform_audit DEFAULT VALUES`, `UPDATE registry.audit_leaf SET seq = 0`, `DELETE FROM registry.audit_log`,
	} {
		if got := code(t, logs, sql); got != "42501" {
			t.Errorf("the role of the logs: %s: got %q, want 42501", sql, got)
		}
	}
	super := connect(t, in(storetest.Superuser(t), reg.Database))
	for _, sql := range []string{`DELETE FROM registry.tenant WHERE id = -1`, `DELETE FROM registry.platform_audit`, `TRUNCATE registry.platform_audit`,
		`DELETE FROM registry.audit_leaf`, `UPDATE registry.audit_node SET n = 0`, `TRUNCATE registry.audit_log`, `UPDATE registry.log_key SET verifier = ''`} {
		if got := code(t, super, sql); got != "42501" {
			t.Errorf("%s: got %q, want 42501", sql, got)
		}
	}
}
