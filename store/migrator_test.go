package store_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/migrations"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// in returns url with another database.
func in(url, database string) string {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		panic(err)
	}
	return strings.Replace(url, "/"+conf.Database+"?", "/"+database+"?", 1)
}

func query[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// newMigrator returns a Migrator for a system of its own on the test's server.
func newMigrator(t testing.TB, name string) *store.Migrator {
	t.Helper()
	storetest.Server(t) // what it makes is removed with the server
	f := storetest.New(t)
	m, err := store.OpenMigrator(t.Context(), store.MigratorConfig{
		OwnerURL: f.OwnerURL, KMS: f.KMS, KEK: storetest.KEK, Name: name,
		Secrets: store.Secrets{App: rand.Text(), Audit: rand.Text(), Log: rand.Text(), Registry: rand.Text()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// TEN-33: provisioned, and ready within seconds, in every mode.
func TestProvision(t *testing.T) {
	f := storetest.New(t)

	t.Run("each mode is ready when it is provisioned", func(t *testing.T) {
		for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
			row, created, err := f.Migrator.Provision(t.Context(), store.NewTenant{Slug: "quick-" + string(mode), Mode: mode})
			if err != nil {
				t.Fatal(err)
			}
			if !created || row.Status != "active" || row.Region != "local" {
				t.Errorf("got %+v, created %v", row, created)
			}
		}
	})
	t.Run("the same request again changes nothing", func(t *testing.T) {
		for slug, mode := range storetest.Modes {
			before, err := f.Registry.TenantBySlug(t.Context(), slug)
			if err != nil {
				t.Fatal(err)
			}
			_, created, err := f.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Name: before.Name, Mode: mode})
			if err != nil || created {
				t.Errorf("got created %v, error %v", created, err)
			}
			after, err := f.Registry.TenantBySlug(t.Context(), slug)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, after); d != "" {
				t.Errorf("%s changed: %s", slug, d)
			}
		}
	})
	t.Run("a slug in use with another mode, region or name is a conflict", func(t *testing.T) {
		name := "alpha one"
		for _, n := range []store.NewTenant{
			{Slug: storetest.A1, Name: name, Mode: tenant.Schema},
			{Slug: storetest.A1, Name: name, Mode: tenant.Shared, Region: "elsewhere"},
			{Slug: storetest.A1, Name: "other", Mode: tenant.Shared},
		} {
			if _, _, err := f.Migrator.Provision(t.Context(), n); !fhir.IsCode(err, fhir.Conflict) {
				t.Errorf("got %v, want a conflict", err)
			}
		}
	})
	t.Run("malformed requests are refused", func(t *testing.T) {
		for _, n := range []store.NewTenant{
			{Slug: "", Mode: tenant.Shared},
			{Slug: "Upper", Mode: tenant.Shared},
			{Slug: "registry", Mode: tenant.Shared},
			{Slug: "good", Mode: "public"},
			{Slug: "good", Mode: tenant.Shared, Region: "'; DROP"},
			{Slug: "good", Mode: tenant.Shared, Name: strings.Repeat("n", 201)},
		} {
			if _, _, err := f.Migrator.Provision(t.Context(), n); !fhir.IsCode(err, fhir.Invalid) {
				t.Errorf("%+v: got %v, want invalid", n, err)
			}
		}
	})
	t.Run("equal requests at once make one tenant", func(t *testing.T) {
		for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
			var made, failed int
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					_, created, err := f.Migrator.Provision(t.Context(), store.NewTenant{Slug: "race-" + string(mode), Mode: mode})
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						t.Error(err)
						failed++
					}
					if created {
						made++
					}
				})
			}
			wg.Wait()
			if made != 1 || failed != 0 {
				t.Errorf("%s: made %d, failed %d", mode, made, failed)
			}
		}
	})
	t.Run("tenants have keys of their own, and places of their own where the mode says so", func(t *testing.T) {
		prints := map[string]string{}
		dsns := map[string]string{}
		roles := map[string]string{}
		for _, slug := range storetest.Slugs {
			x := f.Tenant(t, slug)
			wrapped, err := f.Registry.Keys(t.Context(), x.ID)
			if err != nil {
				t.Fatal(err)
			}
			if len(wrapped) != len(keys.Classes) {
				t.Errorf("%s has %d keys, want %d", slug, len(wrapped), len(keys.Classes))
			}
			for _, w := range wrapped {
				if other, ok := prints[string(w.Fingerprint)]; ok {
					t.Errorf("%s and %s have an equal key", slug, other)
				}
				prints[string(w.Fingerprint)] = slug
			}
			p := x.Placement
			switch x.Mode {
			case tenant.Shared:
				if p.Schema != "shared" || p.Role != "" || p.DSN != "" || len(p.Signer) != 32 {
					t.Errorf("%s: got %s", slug, p)
				}
			case tenant.Schema:
				if p.Schema != "t"+x.ID.String() || p.Role == "" || p.DSN != "" || roles[p.Role] != "" {
					t.Errorf("%s: got %s", slug, p)
				}
				roles[p.Role] = slug
			case tenant.Database:
				if p.DSN == "" || p.AuditDSN == "" || p.DSN == p.AuditDSN || dsns[p.DSN] != "" {
					t.Errorf("%s: got %s", slug, p)
				}
				dsns[p.DSN] = slug
			}
		}
	})
}

// TEN-33: a process that dies at any point of provisioning loses nothing: the
// next request completes the tenant. Ending the context breaks the connection
// wherever the work is, which is what PostgreSQL sees when the process dies.
func TestProvisionResumes(t *testing.T) {
	f := storetest.New(t)
	for mode, times := range map[tenant.Mode]int{tenant.Shared: 8, tenant.Schema: 8, tenant.Database: 4} {
		t.Run("killed at any point and asked again, a tenant in mode "+string(mode)+" is whole", func(t *testing.T) {
			cuts := 0
			for i := range times {
				n := store.NewTenant{Slug: fmt.Sprintf("cut-%s-%d", mode, i), Mode: mode}
				for patience := time.Duration(500*(1+3*i)) * time.Microsecond; ; patience = patience * 3 / 2 {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					row, _, err := f.Migrator.Provision(ctx, n)
					cancel()
					if err == nil {
						if row.Status != "active" {
							t.Fatalf("%s is %s", n.Slug, row.Status)
						}
						break
					}
					if ctx.Err() == nil {
						t.Fatal(err)
					}
					cuts++
					// If it is served, it is whole.
					if got, err := f.Registry.TenantBySlug(t.Context(), n.Slug); err == nil && got.Status == "active" {
						whole(t, f, n.Slug)
					}
				}
				whole(t, f, n.Slug)
			}
			t.Logf("interrupted %d times", cuts)
			if cuts < times {
				t.Errorf("interrupted only %d times", cuts)
			}
		})
	}
}

// whole fails the test unless the tenant can be served.
func whole(t testing.TB, f *storetest.Fixture, slug string) {
	t.Helper()
	row, err := f.Registry.TenantBySlug(t.Context(), slug)
	if err != nil || row.Status != "active" {
		t.Fatalf("%s is %s, %v", slug, row.Status, err)
	}
	x := f.Tenant(t, slug)
	if got := resolves(t, f, x); got != x.ID.Int() {
		t.Errorf("%s: the database takes it for tenant %d", slug, got)
	}
	if _, err := f.Keyring.Of(t.Context(), x.ID); err != nil {
		t.Errorf("%s: %v", slug, err)
	}
}

// resolves binds a transaction to the tenant as the server does, and returns
// whom the database takes it for.
func resolves(t testing.TB, f *storetest.Fixture, x *tenant.Tenant) (n int32) {
	t.Helper()
	conn := connect(t, appURL(f, x))
	bind(t, conn, x, sign(x))
	if err := conn.QueryRow(t.Context(), `SELECT `+x.Placement.Schema+`.tenant()`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Suspending is told from the registry, and undone.
func TestSuspend(t *testing.T) {
	f := storetest.New(t)
	n := store.NewTenant{Slug: "pausing", Mode: tenant.Shared}
	if _, _, err := f.Migrator.Provision(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		do   func(context.Context, string) (tenant.Row, error)
		want tenant.Status
	}{
		{f.Migrator.Suspend, tenant.Suspended}, {f.Migrator.Suspend, tenant.Suspended},
		{f.Migrator.Resume, tenant.Active}, {f.Migrator.Resume, tenant.Active},
	} {
		row, err := step.do(t.Context(), n.Slug)
		if err != nil || row.Status != string(step.want) {
			t.Fatalf("got %s, %v; want %s", row.Status, err, step.want)
		}
		got, err := f.Registry.TenantBySlug(t.Context(), n.Slug)
		if err != nil || got.Status != string(step.want) {
			t.Errorf("the registry has %s, %v; want %s", got.Status, err, step.want)
		}
	}
	if _, err := f.Migrator.Suspend(t.Context(), "no-such-tenant"); !errors.Is(err, tenant.ErrUnknown) {
		t.Errorf("got %v, want unknown", err)
	}
}

func TestBootstrapAgain(t *testing.T) {
	m := newMigrator(t, "again")
	for range 3 {
		if err := m.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first := newMigrator(t, "atonce")
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := first.Bootstrap(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// One place that cannot be migrated does not hold up the others.
func TestMigrateGoesOn(t *testing.T) {
	m := newMigrator(t, "goeson")
	f := storetest.New(t)
	if err := m.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, slug := range []string{"one", "two", "three"} {
		if _, _, err := m.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Schema}); err != nil {
			t.Fatal(err)
		}
	}
	owner := connect(t, in(f.OwnerURL, "goeson"))
	sqlConn, closeConn := ownerConn(t, in(f.OwnerURL, "goeson"))
	defer closeConn()
	latest := migrations.Latest(migrations.Placement)
	before := latest - 1
	for _, n := range []string{"1", "2", "3"} {
		if _, err := migrations.To(t.Context(), sqlConn, migrations.Placement,
			migrations.Names{Schema: "t" + n, App: "goeson_t" + n, Audit: "goeson_audit", Log: "goeson_log"}, before); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := owner.Exec(t.Context(), fmt.Sprintf(`ALTER TABLE t2.schema_migrations ADD CONSTRAINT stuck CHECK (version < %d)`, latest)); err != nil {
		t.Fatal(err)
	}

	if err := m.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "two") {
		t.Errorf("got %v, want an error that names the tenant", err)
	}
	want := []store.State{
		{Slug: "one", Mode: "schema", Status: "active", Version: latest, Latest: latest},
		{Slug: "two", Mode: "schema", Status: "active", Version: before, Latest: latest, Error: "why"},
		{Slug: "three", Mode: "schema", Status: "active", Version: latest, Latest: latest},
	}
	check := func() {
		t.Helper()
		got, err := m.States(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i].Error != "" {
				got[i].Error = "why"
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	check()

	if _, err := owner.Exec(t.Context(), `ALTER TABLE t2.schema_migrations DROP CONSTRAINT stuck`); err != nil {
		t.Fatal(err)
	}
	if err := m.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	want[1].Version, want[1].Error = latest, ""
	check()
}

func ownerConn(t testing.TB, url string) (conn *sql.Conn, closeConn func()) {
	t.Helper()
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*conf)
	if conn, err = db.Conn(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn, func() {
		conn.Close()
		db.Close()
	}
}

// shape is everything that the catalog says about a schema, as text.
const shape = `
	SELECT 'table ' || c.relname || ' ' || c.relkind::text || ' ' || c.relrowsecurity || c.relforcerowsecurity || ' ' ||
	       coalesce(c.relacl::text, '') || ' ' || coalesce(c.reloptions::text, '') || ' ' ||
	       coalesce(obj_description(c.oid, 'pg_class'), '')
	FROM   pg_class c WHERE c.relnamespace = $1::text::regnamespace
	UNION ALL
	SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' ||
	       a.attnotnull || a.attstorage::text || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
	FROM   pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	       LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
	WHERE  c.relnamespace = $1::text::regnamespace
	UNION ALL
	SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = $1::text
	UNION ALL
	SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = $1::text::regnamespace
	UNION ALL
	SELECT 'policy ' || p::text FROM pg_policies p WHERE schemaname = $1::text
	UNION ALL
	SELECT 'function ' || pg_get_functiondef(oid) || coalesce(proacl::text, '') FROM pg_proc WHERE pronamespace = $1::text::regnamespace
	UNION ALL
	SELECT 'trigger ' || pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
	WHERE  c.relnamespace = $1::text::regnamespace AND NOT tgisinternal
	UNION ALL
	SELECT 'schema ' || coalesce(nspacl::text, '') FROM pg_namespace WHERE nspname = $1::text
	ORDER BY 1`

// UPG-08
func TestMigrationsLeadUpAndDown(t *testing.T) {
	f := storetest.New(t)
	m := newMigrator(t, "updown")
	if err := m.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		set      migrations.Set
		database string
		names    migrations.Names
	}{
		{migrations.Registry, "updown_registry", migrations.Names{Schema: "trial", App: "updown_registry", Audit: "updown_registry", Log: "updown_log"}},
		{migrations.Placement, "updown", migrations.Names{Schema: "trial", App: "updown_app", Audit: "updown_audit", Log: "updown_log"}},
	} {
		t.Run("each step of "+string(tt.set)+" undoes what it did, and can be done again", func(t *testing.T) {
			url := in(f.OwnerURL, tt.database)
			conn, closeConn := ownerConn(t, url)
			defer closeConn()
			look := connect(t, url)
			shapes := map[uint][]string{}
			at := func(step uint) {
				t.Helper()
				got, err := migrations.To(t.Context(), conn, tt.set, tt.names, step)
				if err != nil || got != step {
					t.Fatalf("to step %d: at %d, %v", step, got, err)
				}
				now := query[string](t, look, shape, tt.names.Schema)
				if want, seen := shapes[step]; seen {
					if d := cmp.Diff(want, now); d != "" {
						t.Errorf("step %d is not what it was: %s", step, d)
					}
				}
				shapes[step] = now
			}
			last := migrations.Latest(tt.set)
			at(0)
			for step := uint(1); step <= last; step++ {
				at(step)
				at(step - 1)
				at(step)
			}
			at(0)
			at(last)
			at(last)
			at(0)
			for _, left := range shapes[0] {
				if !strings.Contains(left, "schema_migrations") && !strings.HasPrefix(left, "schema ") {
					t.Errorf("left at step 0: %s", left)
				}
			}
		})
	}
}

// T309: whoever looks while migrations run finds no table of tenants open.
func TestNoTableIsEverOpen(t *testing.T) {
	f := storetest.New(t)
	m := newMigrator(t, "probed")
	if err := m.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	url := in(f.OwnerURL, "probed")
	ctx, stop := context.WithCancel(t.Context())
	var probes, seen int
	var wg sync.WaitGroup
	prober := connect(t, url)
	wg.Go(func() {
		for ctx.Err() == nil {
			var open, tables int
			if err := prober.QueryRow(t.Context(), `
				SELECT count(*) FILTER (WHERE NOT (c.relrowsecurity AND c.relforcerowsecurity)
				                        OR NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid)), count(*)
				FROM   pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
				WHERE  c.relkind = 'r' AND c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = 'trial')`).Scan(&open, &tables); err != nil {
				t.Error(err)
				return
			}
			if open > 0 {
				t.Errorf("%d tables are open", open)
				return
			}
			probes++
			seen = max(seen, tables)
		}
	})
	conn, closeConn := ownerConn(t, url)
	defer closeConn()
	names := migrations.Names{Schema: "trial", App: "probed_app", Audit: "probed_audit", Log: "probed_log"}
	for range 10 {
		if _, err := migrations.Up(t.Context(), conn, migrations.Placement, names); err != nil {
			t.Error(err)
		}
		if _, err := migrations.To(t.Context(), conn, migrations.Placement, names, 0); err != nil {
			t.Error(err)
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d probes", probes)
	if probes < 50 || seen == 0 {
		t.Errorf("only %d probes, which saw %d tables", probes, seen)
	}
}

// What a migration has begun and not ended is as if it never was.
func TestMigrationInterrupted(t *testing.T) {
	f := storetest.New(t)
	m := newMigrator(t, "interrupted")
	if err := m.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := migrations.Names{Schema: "trial", App: "interrupted_app", Audit: "interrupted_audit", Log: "interrupted_log"}
	url := in(f.OwnerURL, "interrupted")
	for patience := time.Millisecond; ; patience += 2 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		conn, closeConn := ownerConn(t, url)
		_, err := migrations.Up(ctx, conn, migrations.Placement, names)
		closeConn()
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			t.Fatal(err)
		}
	}
	got := query[string](t, connect(t, url), shape, "trial")
	want := query[string](t, connect(t, url), shape, "shared")
	for i := range got {
		got[i] = strings.ReplaceAll(got[i], "trial", "shared")
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("differs from a schema that was never interrupted: %s", d)
	}
}

// Names reach SQL as they are, so nothing but a plain identifier may pass.
func TestMigrationNames(t *testing.T) {
	f := storetest.New(t)
	conn, closeConn := ownerConn(t, f.OwnerURL)
	defer closeConn()
	for _, bad := range []string{"", "Shared", `a"b`, "a; DROP TABLE b", "a b", "1a", strings.Repeat("a", 64), "a\n"} {
		for _, n := range []migrations.Names{
			{Schema: bad, App: "a", Audit: "a", Log: "a"}, {Schema: "a", App: bad, Audit: "a", Log: "a"},
			{Schema: "a", App: "a", Audit: bad, Log: "a"}, {Schema: "a", App: "a", Audit: "a", Log: bad},
		} {
			if _, err := migrations.Up(t.Context(), conn, migrations.Placement, n); err == nil {
				t.Errorf("%q was accepted", bad)
			}
		}
	}
}

// Mistakes in the configuration are told at once, without the password.
func TestMigratorConfig(t *testing.T) {
	kms, err := keys.NewFileKMS(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	good := store.MigratorConfig{
		OwnerURL: "postgres://owner:hunter2hunter2@localhost/postgres", KMS: kms, KEK: storetest.KEK,
		Secrets: store.Secrets{App: rand.Text(), Audit: rand.Text(), Log: rand.Text(), Registry: rand.Text()},
	}
	for claim, change := range map[string]func(*store.MigratorConfig){
		"no KMS":            func(c *store.MigratorConfig) { c.KMS = nil },
		"no KEK":            func(c *store.MigratorConfig) { c.KEK = "" },
		"a short password":  func(c *store.MigratorConfig) { c.Secrets.App = "short" },
		"no password":       func(c *store.MigratorConfig) { c.Secrets.Registry = "" },
		"a malformed name":  func(c *store.MigratorConfig) { c.Name = "a; DROP" },
		"not a URL":         func(c *store.MigratorConfig) { c.OwnerURL = "host=x password=hunter2hunter2" },
		"a malformed URL":   func(c *store.MigratorConfig) { c.OwnerURL = "postgres://o:hunter2hunter2@h:port/x" },
		"a malformed query": func(c *store.MigratorConfig) { c.OwnerURL += "?sslmode=hunter2hunter2" },
	} {
		t.Run(claim+" is refused", func(t *testing.T) {
			c := good
			change(&c)
			m, err := store.OpenMigrator(t.Context(), c)
			if err == nil {
				m.Close()
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

func TestMain(m *testing.M) { storetest.Main(m) }
