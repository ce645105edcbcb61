package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sync/errgroup"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/migrations"
	"github.com/cordon-fhir/cordon/tenant"
)

// MigratorConfig says where the databases are to be made, and by whom.
type MigratorConfig struct {
	// OwnerURL is a postgres:// URL of the role that will own every database,
	// schema and table. It needs CREATEDB and CREATEROLE, and nothing more: as
	// a role that is not a superuser it is held by row-level security and can
	// read no tenant's rows. No server runs as this role. Required.
	OwnerURL string

	// KMS and KEK seal the credentials of tenants, and wrap their keys: KEK is
	// the URI of the key-encryption key. Required.
	KMS keys.KMS
	KEK string

	// Secrets are the passwords of the roles that servers run as. Required.
	Secrets Secrets

	// Name begins the name of every database and role, so that two systems can
	// share a cluster. Default "cordon".
	Name string
}

// Secrets are the passwords of the roles that servers run as: at least 16
// printable ASCII characters each.
type Secrets struct {
	App      string // serves requests
	Audit    string // only adds to audit trails
	Log      string // makes logs of audit trails
	Registry string // reads the record of tenants
}

// URLs are what servers open the databases with. They hold the passwords.
type URLs struct {
	App      string
	Audit    string
	Registry string
	// Log and LogRegistry are the common database and the registry, for the
	// role that makes logs of audit trails.
	Log         string
	LogRegistry string
}

// A Migrator makes the databases and the places of tenants in them, and brings
// all of them to the newest shape. It acts as their owner.
type Migrator struct {
	cfg      MigratorConfig
	registry *sql.DB
}

// The schemas that are not of one tenant.
const (
	registrySchema = "registry"
	sharedSchema   = "shared"
)

var (
	systemName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)
	password   = regexp.MustCompile(`^[!-~]{16,128}$`)
)

// OpenMigrator returns a Migrator. It connects when it is used.
func OpenMigrator(ctx context.Context, cfg MigratorConfig) (*Migrator, error) {
	if cfg.Name == "" {
		cfg.Name = "cordon"
	}
	switch {
	case !systemName.MatchString(cfg.Name):
		return nil, errors.New("store: MigratorConfig.Name is malformed")
	case cfg.KMS == nil || cfg.KEK == "":
		return nil, errors.New("store: MigratorConfig.KMS and KEK are required")
	}
	for _, s := range []string{cfg.Secrets.App, cfg.Secrets.Audit, cfg.Secrets.Log, cfg.Secrets.Registry} {
		if !password.MatchString(s) {
			return nil, errors.New("store: MigratorConfig.Secrets need at least 16 printable ASCII characters each")
		}
	}
	m := &Migrator{cfg: cfg}
	conf, err := m.owner(m.registryDatabase())
	if err != nil {
		return nil, err
	}
	m.registry = stdlib.OpenDB(*conf)
	m.registry.SetMaxOpenConns(8)
	return m, nil
}

// Close closes the connections.
func (m *Migrator) Close() { m.registry.Close() }

// URLs returns what servers open the databases with.
func (m *Migrator) URLs() (URLs, error) {
	app, err := m.url(m.appRole(), m.cfg.Secrets.App, m.database())
	if err != nil {
		return URLs{}, err
	}
	audit, err := m.url(m.auditRole(), m.cfg.Secrets.Audit, m.database())
	if err != nil {
		return URLs{}, err
	}
	log, err := m.url(m.logRole(), m.cfg.Secrets.Log, m.database())
	if err != nil {
		return URLs{}, err
	}
	logRegistry, err := m.url(m.logRole(), m.cfg.Secrets.Log, m.registryDatabase())
	if err != nil {
		return URLs{}, err
	}
	reg, err := m.url(m.registryRole(), m.cfg.Secrets.Registry, m.registryDatabase())
	return URLs{App: app, Audit: audit, Registry: reg, Log: log, LogRegistry: logRegistry}, err
}

func (m *Migrator) database() string         { return m.cfg.Name }
func (m *Migrator) registryDatabase() string { return m.cfg.Name + "_registry" }
func (m *Migrator) appRole() string          { return m.cfg.Name + "_app" }
func (m *Migrator) auditRole() string        { return m.cfg.Name + "_audit" }
func (m *Migrator) logRole() string          { return m.cfg.Name + "_log" }
func (m *Migrator) registryRole() string     { return m.cfg.Name + "_registry" }

// own returns the name of a role or database of one tenant.
func (m *Migrator) own(id int32) string { return fmt.Sprintf("%s_t%d", m.cfg.Name, id) }

// url returns the URL of a database on the owner's server for another role.
func (m *Migrator) url(role, secret, database string) (string, error) {
	u, err := url.Parse(m.cfg.OwnerURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		// The URL holds a password, so the error of url.Parse is not shown.
		return "", errors.New("store: MigratorConfig.OwnerURL is not a postgres:// URL")
	}
	u.User = url.UserPassword(role, secret)
	u.Path = "/" + database
	q := u.Query()
	for _, k := range []string{"user", "password", "dbname", "database"} {
		q.Del(k)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// owner returns how the owner connects to the database, or to the one in
// OwnerURL if it is "".
func (m *Migrator) owner(database string) (*pgx.ConnConfig, error) {
	if u, err := url.Parse(m.cfg.OwnerURL); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, errors.New("store: MigratorConfig.OwnerURL is not a postgres:// URL")
	}
	conf, err := pgx.ParseConfig(m.cfg.OwnerURL)
	if err != nil {
		return nil, errors.New("store: MigratorConfig.OwnerURL is malformed")
	}
	if database != "" {
		conf.Database = database
	}
	return conf, nil
}

// on runs fn on a connection of the owner to the database.
func (m *Migrator) on(ctx context.Context, database string, fn func(*sql.Conn) error) error {
	conf, err := m.owner(database)
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*conf)
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connecting to database %s as its owner: %w", conf.Database, err)
	}
	defer conn.Close()
	return fn(conn)
}

// exec runs statements of text that holds only names of ours.
func exec(ctx context.Context, conn *sql.Conn, statements ...string) error {
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// exists reports whether the query, which has one argument, finds a row.
func exists(ctx context.Context, conn *sql.Conn, query, arg string) (bool, error) {
	var found bool
	err := conn.QueryRowContext(ctx, "SELECT EXISTS ("+query+")", arg).Scan(&found)
	return found, err
}

// lock makes others who lock the name wait until the connection closes or
// unlocks it.
func lock(ctx context.Context, conn *sql.Conn, name string) (unlock func(), err error) {
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock(hashtextextended($1, 0))`, name); err != nil {
		return nil, err
	}
	return func() {
		// A connection that cannot unlock is broken, and broken ones hold no lock.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(hashtextextended($1, 0))`, name)
	}, nil
}

// Bootstrap makes the roles, the registry and the place that tenants share,
// and brings them to the newest shape. It may be run at any time, and many
// times; it gives the roles their passwords anew.
func (m *Migrator) Bootstrap(ctx context.Context) error {
	err := m.on(ctx, "", func(conn *sql.Conn) error {
		unlock, err := lock(ctx, conn, "cordon.bootstrap."+m.cfg.Name)
		if err != nil {
			return err
		}
		defer unlock()
		for _, r := range []struct{ name, secret string }{
			{m.appRole(), m.cfg.Secrets.App},
			{m.auditRole(), m.cfg.Secrets.Audit},
			{m.logRole(), m.cfg.Secrets.Log},
			{m.registryRole(), m.cfg.Secrets.Registry},
		} {
			if err := makeRole(ctx, conn, r.name, r.secret); err != nil {
				return fmt.Errorf("making role %s: %w", r.name, err)
			}
		}
		if err := m.makeDatabase(ctx, conn, m.registryDatabase(), m.registryRole(), m.logRole()); err != nil {
			return err
		}
		return m.makeDatabase(ctx, conn, m.database(), m.appRole(), m.auditRole(), m.logRole())
	})
	if err != nil {
		return fmt.Errorf("bootstrapping: %w", err)
	}
	if err := m.migrateRegistry(ctx); err != nil {
		return err
	}
	if err := m.makeLogKeys(ctx); err != nil {
		return err
	}
	sharing, err := m.sharing(ctx)
	if err != nil {
		return err
	}
	_, _, err = m.place(ctx, m.shared(), sharing...)
	return err
}

// sharing returns the tenants that are served in the place that is shared, or
// soon will be.
func (m *Migrator) sharing(ctx context.Context) ([]admission, error) {
	list, err := rowsOf(ctx, m.registry, `
		SELECT id, policy_version
		FROM   registry.tenant
		WHERE  mode = 'shared' AND status <> 'suspended'
		ORDER  BY id`, nil,
		func(t *admission) []any { return []any{&t.number, &t.policy} })
	if err != nil {
		return nil, fmt.Errorf("listing tenants: %w", err)
	}
	return list, nil
}

// makeDatabase makes a database that only the roles may connect to, and in
// which they may do nothing until they are granted it.
func (m *Migrator) makeDatabase(ctx context.Context, conn *sql.Conn, name string, roles ...string) error {
	found, err := exists(ctx, conn, `SELECT FROM pg_database WHERE datname = $1`, name)
	if err == nil && !found {
		// Collation "C": equal on every machine, so no upgrade of a library
		// makes an index wrong.
		err = exec(ctx, conn, `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'`)
	}
	if err == nil {
		err = exec(ctx, conn, `REVOKE ALL ON DATABASE `+name+` FROM PUBLIC`)
	}
	for _, r := range roles {
		if err == nil {
			err = exec(ctx, conn, `GRANT CONNECT ON DATABASE `+name+` TO `+r)
		}
	}
	if err == nil {
		err = m.on(ctx, name, closeDatabase)
	}
	if err != nil {
		return fmt.Errorf("making database %s: %w", name, err)
	}
	return nil
}

// closeDatabase takes from PUBLIC what PostgreSQL grants to it. Large objects
// know no row-level security; only a superuser can take them away, so where
// the owner is none, whoever runs the cluster has to (pgserver does).
func closeDatabase(conn *sql.Conn) error {
	ctx := context.Background()
	return exec(ctx, conn, `
		DO $$
		DECLARE f regprocedure;
		BEGIN
			IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public'
			           AND pg_has_role(current_user, nspowner, 'USAGE')) THEN
				REVOKE ALL ON SCHEMA public FROM PUBLIC;
			END IF;
			IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
				FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
				         AND (proname LIKE 'lo\_%' OR proname IN ('loread', 'lowrite'))
				LOOP
					EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
				END LOOP;
			END IF;
		END
		$$`)
}

func (m *Migrator) migrateRegistry(ctx context.Context) error {
	return m.on(ctx, m.registryDatabase(), func(conn *sql.Conn) error {
		_, err := migrations.Up(ctx, conn, migrations.Registry,
			migrations.Names{Schema: registrySchema, App: m.registryRole(), Audit: m.registryRole(), Log: m.logRole()})
		return err
	})
}

// A site is where a schema of tables lies, and which roles serve it.
type site struct {
	database string
	names    migrations.Names
}

func (m *Migrator) shared() site {
	return site{m.database(), migrations.Names{Schema: sharedSchema, App: m.appRole(), Audit: m.auditRole(), Log: m.logRole()}}
}

// site returns where the tables of a tenant lie.
func (m *Migrator) site(mode tenant.Mode, id int32) site {
	own := m.own(id)
	schema := fmt.Sprintf("t%d", id)
	switch mode {
	case tenant.Schema:
		return site{m.database(), migrations.Names{Schema: schema, App: own, Login: m.appRole(), Audit: m.auditRole(), Log: m.logRole()}}
	case tenant.Database:
		return site{own, migrations.Names{Schema: schema, App: own, Audit: own + "_audit", Log: own + "_log"}}
	}
	return m.shared()
}

// place brings the tables at s to the newest shape, for the tenants, and returns the secret that signs tenant numbers there, which it
// makes if there is none.
func (m *Migrator) place(ctx context.Context, s site, tenants ...admission) (version uint, signer []byte, err error) {
	err = m.on(ctx, s.database, func(conn *sql.Conn) error {
		version, err = migrations.Up(ctx, conn, migrations.Placement, s.names)
		if err != nil {
			return err
		}
		secret := make([]byte, 32)
		rand.Read(secret)
		table := s.names.Schema + ".signer"
		if _, err := conn.ExecContext(ctx, `INSERT INTO `+table+` (secret) VALUES ($1) ON CONFLICT DO NOTHING`, secret); err != nil {
			return fmt.Errorf("making the signer of schema %s: %w", s.names.Schema, err)
		}
		if err := conn.QueryRowContext(ctx, `SELECT secret FROM `+table).Scan(&signer); err != nil {
			return fmt.Errorf("reading the signer of schema %s: %w", s.names.Schema, err)
		}
		return admit(ctx, conn, s, tenants...)
	})
	return version, signer, err
}

// An admission is a tenant, and the version of its access policy under which it
// is served.
type admission struct {
	number int32
	policy int64
}

// settings are what the gate signs for the tenants of $1 and versions of $2. The
// first version goes without saying: servers of releases that knew no policies
// serve those who have none.
const settings = `
	SELECT signed || '.' || encode(sha256(secret || sha256(secret || convert_to(signed, 'UTF8'))), 'hex') AS setting, n AS number
	FROM   {signer}, unnest($1::int[], $2::bigint[]) AS t (n, v),
	       LATERAL (SELECT CASE WHEN v > 1 THEN n || '.' || v ELSE n::text END AS signed) s`

// admit lets tenants into the place s: from now on, what the gate signs for
// them binds a transaction to them. See the function tenant().
func admit(ctx context.Context, conn *sql.Conn, s site, tenants ...admission) error {
	return bindTenants(ctx, conn, s, `INSERT INTO {binding} (setting, number) `+settings+` ON CONFLICT DO NOTHING`, tenants)
}

// readmit is admit for tenants whose policy has changed. Those who are kept out
// stay so.
func readmit(ctx context.Context, conn *sql.Conn, s site, tenants ...admission) error {
	return bindTenants(ctx, conn, s, `UPDATE {binding} b SET setting = x.setting FROM (`+settings+`) x WHERE b.number = x.number`, tenants)
}

func bindTenants(ctx context.Context, conn *sql.Conn, s site, statement string, tenants []admission) error {
	numbers, versions := make([]int32, len(tenants)), make([]int64, len(tenants))
	for i, t := range tenants {
		numbers[i], versions[i] = t.number, t.policy
	}
	statement = strings.NewReplacer("{signer}", s.names.Schema+".signer", "{binding}", s.names.Schema+".binding").Replace(statement)
	if _, err := conn.ExecContext(ctx, statement, numbers, versions); err != nil {
		return fmt.Errorf("letting tenants into schema %s: %w", s.names.Schema, err)
	}
	return nil
}

// expel undoes admit.
func expel(ctx context.Context, conn *sql.Conn, s site, tenants ...admission) error {
	numbers := make([]int32, len(tenants))
	for i, t := range tenants {
		numbers[i] = t.number
	}
	_, err := conn.ExecContext(ctx, `DELETE FROM `+s.names.Schema+`.binding WHERE number = ANY($1::int[])`, numbers)
	if err != nil {
		return fmt.Errorf("keeping tenants out of schema %s: %w", s.names.Schema, err)
	}
	return nil
}

// A State is how far the tables of a tenant have come.
type State struct {
	Slug    string
	Mode    string
	Status  string
	Version uint   // the step that its tables are at
	Latest  uint   // the last step there is
	Error   string // why the last migration failed; "" if it did not
}

// States returns the state of every tenant, as the registry has it.
func (m *Migrator) States(ctx context.Context) ([]State, error) {
	states, err := rowsOf(ctx, m.registry, `
		SELECT slug, mode, status, schema_version, schema_error
		FROM   registry.tenant
		ORDER  BY id`, nil,
		func(s *State) []any {
			s.Latest = migrations.Latest(migrations.Placement)
			return []any{&s.Slug, &s.Mode, &s.Status, &s.Version, &s.Error}
		})
	if err != nil {
		return nil, fmt.Errorf("reading states of migration: %w", err)
	}
	return states, nil
}

// Migrate brings the registry, the shared place and then the place of each
// tenant to the newest shape. It goes on past a tenant that fails: States
// tells which, and the error says that there was one. Run it again to go on.
func (m *Migrator) Migrate(ctx context.Context) error {
	to := fmt.Sprintf("to step %d of the registry and %d of tenants", migrations.Latest(migrations.Registry), migrations.Latest(migrations.Placement))
	has, err := m.hasTrail(ctx)
	if err == nil && has { // else there is nothing that could be changed
		err = ownerDid(ctx, m.registry, "begins to migrate "+to, audit.Success)
	}
	if err != nil {
		return err
	}
	if err := m.Bootstrap(ctx); err != nil {
		return err
	}
	if err := m.migrateAll(ctx); err != nil {
		return errors.Join(err, ownerDid(context.WithoutCancel(ctx), m.registry, "failed to migrate "+to, audit.MajorFailure))
	}
	return ownerDid(ctx, m.registry, "migrated "+to, audit.Success)
}

// hasTrail reports whether there is a platform's trail, as in a registry that was
// made before.
func (m *Migrator) hasTrail(ctx context.Context) (has bool, err error) {
	err = m.registry.QueryRowContext(ctx, `SELECT to_regclass('registry.platform_audit') IS NOT NULL`).Scan(&has)
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == noDatabase {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for the platform's audit trail: %w", err)
	}
	return has, nil
}

// noDatabase is the code of PostgreSQL's error for a database that is not there.
// https://www.postgresql.org/docs/15/errcodes-appendix.html
const noDatabase = "3D000"

// migrateAll brings what tenants have to the newest step.
func (m *Migrator) migrateAll(ctx context.Context) error {
	if _, err := m.registry.ExecContext(ctx, `
		UPDATE registry.tenant SET schema_version = $1, schema_error = '', updated = now()
		WHERE  mode = 'shared' AND status <> 'provisioning'`, migrations.Latest(migrations.Placement)); err != nil {
		return fmt.Errorf("recording the state of migration: %w", err)
	}
	if err := m.completeKeys(ctx); err != nil {
		return fmt.Errorf("making keys of new classes: %w", err)
	}
	type row struct {
		admission
		slug   string
		mode   tenant.Mode
		status tenant.Status
	}
	todo, err := rowsOf(ctx, m.registry, `
		SELECT id, policy_version, slug, mode, status
		FROM   registry.tenant
		WHERE  mode <> 'shared' AND status <> 'provisioning'
		ORDER  BY id`, nil,
		func(r *row) []any { return []any{&r.number, &r.policy, &r.slug, &r.mode, &r.status} })
	if err != nil {
		return fmt.Errorf("listing tenants: %w", err)
	}
	failed := make([]error, len(todo))
	var all errgroup.Group
	all.SetLimit(migratedAtOnce)
	for i, r := range todo {
		all.Go(func() error {
			if err := m.migrateTenant(ctx, r.admission, r.mode, r.status); err != nil {
				failed[i] = fmt.Errorf("migrating tenant %s: %w", r.slug, err)
			}
			return nil // the others go on
		})
	}
	_ = all.Wait()
	return errors.Join(failed...)
}

// migratedAtOnce is how many places are migrated side by side.
const migratedAtOnce = 4

// completeKeys gives tenants that were made before there was a class of data
// their key of it.
func (m *Migrator) completeKeys(ctx context.Context) error {
	slugs, err := rowsOf(ctx, m.registry, `
		SELECT slug FROM registry.tenant t
		WHERE  status <> 'provisioning' AND (SELECT count(DISTINCT class) FROM registry.keyset k WHERE k.tenant_id = t.id) < $1
		ORDER  BY id`, []any{len(keys.Classes)},
		func(slug *string) []any { return []any{slug} })
	if err != nil || len(slugs) == 0 {
		return err
	}
	conn, err := m.registry.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, slug := range slugs {
		if err := m.completeKeysOf(ctx, conn, slug); err != nil {
			return fmt.Errorf("%s: %w", slug, err)
		}
	}
	return nil
}

func (m *Migrator) completeKeysOf(ctx context.Context, conn *sql.Conn, slug string) error {
	unlock, err := lock(ctx, conn, "cordon.tenant."+slug)
	if err != nil {
		return err
	}
	defer unlock()
	t, err := tenant.NewRegistry(m).Tenant(ctx, slug)
	if err != nil {
		return err
	}
	return m.makeKeys(ctx, conn, t.ID)
}

func (m *Migrator) migrateTenant(ctx context.Context, t admission, mode tenant.Mode, status tenant.Status) error {
	var served []admission
	if status != tenant.Suspended {
		served = []admission{t}
	}
	var version uint
	err := m.makeLogRole(ctx, mode, t.number)
	if err == nil {
		version, _, err = m.place(ctx, m.site(mode, t.number), served...)
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	_, rerr := m.registry.ExecContext(ctx, `
		UPDATE registry.tenant
		SET    schema_version = CASE WHEN $3 <> '' AND $2 = 0 THEN schema_version ELSE $2 END,
		       schema_error = $3, updated = now()
		WHERE  id = $1`, t.number, version, text)
	if rerr != nil {
		rerr = fmt.Errorf("recording the state of migration: %w", rerr)
	}
	return errors.Join(err, rerr)
}
