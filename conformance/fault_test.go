package conformance

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// Seeded faults that live in the database. Each is put in, the check that is
// named for it must turn red, and it is taken out again. GOV-01
//
// Those that live in the program are in mutant_test.go.
func TestSeededDatabaseFaults(t *testing.T) {
	faults := []struct {
		number, fault string
		check         string
		put, undo     string
		shows         string // what the check must say
	}{
		{"1", "a policy is dropped", "T293",
			`DROP POLICY resource_select ON shared.resource`,
			`CREATE POLICY resource_select ON shared.resource FOR SELECT TO cordon_app USING (tenant_id = (SELECT shared.tenant()))`, "no policy for SELECT"},
		{"2", "row-level security is enabled and not forced", "T293",
			`ALTER TABLE shared.idx_token NO FORCE ROW LEVEL SECURITY`, `ALTER TABLE shared.idx_token FORCE ROW LEVEL SECURITY`, "does not force"},
		{"2", "row-level security is disabled", "T293",
			`ALTER TABLE shared.change DISABLE ROW LEVEL SECURITY`, `ALTER TABLE shared.change ENABLE ROW LEVEL SECURITY`, "does not enable"},
		{"3", "the server owns a table", "T292",
			`ALTER TABLE shared.history OWNER TO cordon_app`, `ALTER TABLE shared.history OWNER TO cordon_owner; GRANT SELECT, INSERT, DELETE ON shared.history TO cordon_app`, "owns history"},
		{"4", "the server bypasses row-level security", "T292", `ALTER ROLE cordon_app BYPASSRLS`, `ALTER ROLE cordon_app NOBYPASSRLS`, "bypasses"},
		{"4", "a role that the server can become bypasses it", "T292",
			`ALTER ROLE cordon_t` + "%schema%" + ` BYPASSRLS`, `ALTER ROLE cordon_t` + "%schema%" + ` NOBYPASSRLS`, "bypasses"},
		{"4", "the server is a member of the owner", "T292", `GRANT cordon_owner TO cordon_app`, `REVOKE cordon_owner FROM cordon_app`, "member of the owner"},
		{"7", "a policy lets pass who is bound to nobody", "T291",
			`ALTER POLICY resource_select ON shared.resource USING (coalesce(current_setting('cordon.tenant', true), '') = '' OR tenant_id = (SELECT shared.tenant()))`,
			`ALTER POLICY resource_select ON shared.resource USING (tenant_id = (SELECT shared.tenant()))`, "shows rows"},
		{"7", "a policy has a way round the tenant", "T293",
			`ALTER POLICY history_select ON shared.history USING (tenant_id = (SELECT shared.tenant()) OR deleted)`,
			`ALTER POLICY history_select ON shared.history USING (tenant_id = (SELECT shared.tenant()))`, "does not bind"},
		{"8", "a view runs with the rights of its owner", "T294",
			`CREATE VIEW shared.latest AS SELECT * FROM shared.resource; GRANT SELECT ON shared.latest TO cordon_app`, `DROP VIEW shared.latest`, "rights of its owner"},
		{"8", "a function runs with the rights of its owner", "T294",
			`CREATE FUNCTION shared.count_all() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM shared.resource'`, `DROP FUNCTION shared.count_all()`, "rights of its owner"},
		{"9", "a materialized view counts", "T294",
			`CREATE MATERIALIZED VIEW shared.counts AS SELECT type, count(*) FROM shared.resource GROUP BY type`, `DROP MATERIALIZED VIEW shared.counts`, "materialized view"},
		{"10", "a unique index lacks the tenant", "T295",
			`CREATE UNIQUE INDEX everywhere ON shared.resource (rid)`, `DROP INDEX shared.everywhere`, "does not lead with tenant_id"},
		{"11", "a foreign key lacks the tenant", "T295",
			`CREATE TABLE shared.place (tenant_id int NOT NULL, n int, UNIQUE (n)); ALTER TABLE shared.place ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
			 ALTER TABLE shared.place ADD FOREIGN KEY (n) REFERENCES shared.place (n)`, `DROP TABLE shared.place`, "foreign key"},
		{"", "a counter is shared", "T296", `CREATE SEQUENCE shared.numbers`, `DROP SEQUENCE shared.numbers`, "sequence"},
		{"", "the server may truncate", "T298", `GRANT TRUNCATE ON shared.resource TO cordon_app`, `REVOKE TRUNCATE ON shared.resource FROM cordon_app`, "TRUNCATE"},
		{"", "versions are removed without a purge", "T298", `ALTER TABLE shared.history DISABLE TRIGGER purged`, `ALTER TABLE shared.history ENABLE TRIGGER purged`, "without a purge"},
		{"", "the server may edit the audit trail", "T298", `GRANT UPDATE ON shared.audit TO cordon_app`, `REVOKE UPDATE ON shared.audit FROM cordon_app`, "change or remove"},
		{"", "the server may read the secret that signs tenants", "T298", `GRANT SELECT ON shared.signer TO cordon_app`, `REVOKE SELECT ON shared.signer FROM cordon_app`, "reads the secrets in shared.signer"},
		{"", "the server may read the settings that bind tenants", "T298", `GRANT SELECT (setting) ON shared.binding TO cordon_app`, `REVOKE SELECT (setting) ON shared.binding FROM cordon_app`, "reads the secrets in shared.binding"},
		{"", "everybody may read a table", "T294", `GRANT SELECT ON shared.resource TO PUBLIC`, `REVOKE SELECT ON shared.resource FROM PUBLIC`, "open to everybody"},
		{"", "rows are published", "T308", `CREATE PUBLICATION everything FOR ALL TABLES`, `DROP PUBLICATION everything`, "publication"},
		{"", "an extension is there", "T310", `CREATE EXTENSION pg_trgm`, `DROP EXTENSION pg_trgm`, "pg_trgm"},
		{"45", "the server's statements are logged", "T264", `ALTER ROLE cordon_app SET log_min_duration_statement = 0`, `ALTER ROLE cordon_app RESET log_min_duration_statement`, "log_min_duration"},
		{"45", "the server's parameters are logged", "T264", `ALTER ROLE cordon_app SET log_parameter_max_length = -1`, `ALTER ROLE cordon_app RESET log_parameter_max_length`, "log_parameter"},
		{"51", "acknowledged writes may be lost", "F051", `ALTER ROLE cordon_app SET synchronous_commit = off`, `ALTER ROLE cordon_app RESET synchronous_commit`, "synchronous_commit"},
	}
	conn, err := sys.asSuperuser(t.Context(), "cordon")
	if err != nil {
		t.Fatal(err)
	}
	caught := 0
	for _, f := range faults {
		name := f.check + " sees that " + f.fault
		if f.number != "" {
			name = f.number + " " + name
		}
		t.Run(name, func(t *testing.T) {
			number := strings.TrimPrefix(sys.S1.schema, "t")
			run := func(sql string) {
				t.Helper()
				if _, err := conn.Exec(t.Context(), strings.ReplaceAll(sql, "%schema%", number)); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			if wrong := sys.checkNamed(t, f.check); len(wrong) > 0 {
				t.Fatalf("the check is red without the fault: %v", wrong)
			}
			before := sys.rights(t)
			run(f.put)
			wrong := sys.checkNamed(t, f.check)
			run(f.undo)
			if !strings.Contains(strings.Join(wrong, "\n"), f.shows) {
				t.Errorf("the check does not say %q: %v", f.shows, wrong)
				return
			}
			caught++
			if wrong := sys.checkNamed(t, f.check); len(wrong) > 0 {
				t.Errorf("the fault was not taken out: %v", wrong)
			}
			if diff := cmp.Diff(before, sys.rights(t)); diff != "" {
				t.Errorf("the fault left something behind (-before +after):\n%s", diff)
			}
		})
	}
	t.Logf("%d of %d faults caught", caught, len(faults))
}

// rights returns who may do what in the database that tenants share.
func (s *system) rights(t testing.TB) []string {
	t.Helper()
	conn, err := s.asSuperuser(t.Context(), "cordon")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `
		SELECT n.nspname || '.' || c.relname || ' ' || r.rolname || ' ' || g.privilege_type AS what
		FROM   pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) g JOIN pg_roles r ON r.oid = g.grantee
		WHERE  n.nspname NOT IN ('pg_catalog', 'information_schema') AND g.grantee <> c.relowner
		UNION ALL
		SELECT p.polname || ' ' || coalesce(pg_get_expr(p.polqual, p.polrelid), '') || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') FROM pg_policy p
		ORDER  BY what`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// checkNamed runs the check and returns what is wrong.
func (s *system) checkNamed(t testing.TB, id string) []string {
	t.Helper()
	if id == "T291" {
		return s.unboundRows(t)
	}
	for _, c := range catalogChecks {
		if c.id == id {
			wrong, err := s.faults(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			return wrong
		}
	}
	t.Fatalf("there is no check %s", id)
	return nil
}

// The server itself looks as well: a place that does not hold the boundary is
// not served.
func TestServerRefusesAnOpenDatabase(t *testing.T) {
	conn, err := sys.asSuperuser(t.Context(), "cordon")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct{ claim, put, undo string }{
		{"F002 a server that bypasses row-level security does not start", `ALTER ROLE cordon_app BYPASSRLS`, `ALTER ROLE cordon_app NOBYPASSRLS`},
		{"F002 a table without row-level security keeps it from starting", `ALTER TABLE shared.resource NO FORCE ROW LEVEL SECURITY`, `ALTER TABLE shared.resource FORCE ROW LEVEL SECURITY`},
		{"F051 a database that loses acknowledged writes keeps it from starting", `ALTER ROLE cordon_app SET synchronous_commit = off`, `ALTER ROLE cordon_app RESET synchronous_commit`},
	} {
		t.Run(f.claim, func(t *testing.T) {
			if _, err := conn.Exec(t.Context(), f.put); err != nil {
				t.Fatal(err)
			}
			out, err := sys.serveOnce(t)
			if _, uerr := conn.Exec(t.Context(), f.undo); uerr != nil {
				t.Fatal(uerr)
			}
			if err == nil {
				t.Errorf("it started: %s", out)
			} else if !strings.Contains(out, "does not hold the boundary") {
				t.Errorf("it does not say why: %s", out)
			}
		})
	}
}
