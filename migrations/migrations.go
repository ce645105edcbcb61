// Package migrations holds the shape of the databases, as numbered steps that
// lead up and down, and takes a schema from one step to another.
//
// There are two sets. Registry is for the record of tenants; Placement is for
// the tables of tenants, and the same in every partition mode. A step is one
// idea, and one transaction: a schema is never between two steps, and no table
// is ever without its policies. The server of the release before runs on it.
package migrations

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"regexp"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/source/iofs"
)

//go:embed registry/*.sql placement/*.sql
var files embed.FS

// A Set is a sequence of steps.
type Set string

// The sets.
const (
	Registry  Set = "registry"
	Placement Set = "placement"
)

// Names are what the steps call the schema and the roles.
type Names struct {
	// Schema is where the objects are made. It is created if need be.
	Schema string
	// App is the role that serves requests.
	App string
	// Login is the role that logs in to become App. Default App. It sees that
	// the objects are there, no more.
	Login string
	// Audit is the role that only adds to the audit trail.
	Audit string
	// Log is the role that makes a log of it.
	Log string
}

// identifier is a name that needs no quotes.
var identifier = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

func (n Names) login() string { return cmp.Or(n.Login, n.App) }

func (n Names) check() error {
	for _, s := range []string{n.Schema, n.App, n.login(), n.Audit, n.Log} {
		if !identifier.MatchString(s) {
			return fmt.Errorf("migrations: malformed name of a schema or role")
		}
	}
	return nil
}

// Latest returns the number of the last step of s.
func Latest(s Set) uint {
	entries, err := files.ReadDir(string(s))
	if err != nil {
		return 0
	}
	return uint(len(entries) / 2)
}

// Up takes the schema to the last step of s, from wherever it is, and returns
// the step it is at then, also with an error. conn must be of the owner; two
// calls for one schema run one after the other.
func Up(ctx context.Context, conn *sql.Conn, s Set, n Names) (uint, error) {
	return To(ctx, conn, s, n, Latest(s))
}

// To is Up for any step, also one that lies below; at 0 nothing is left but
// the schema, empty but for its own step.
func To(ctx context.Context, conn *sql.Conn, s Set, n Names, step uint) (uint, error) {
	if err := n.check(); err != nil {
		return 0, err
	}
	src, err := iofs.New(files, string(s))
	if err != nil {
		return 0, fmt.Errorf("reading migrations of %s: %w", s, err)
	}
	d := &driver{ctx: ctx, conn: conn, names: n}
	if err := d.prepare(); err != nil {
		return 0, fmt.Errorf("preparing schema %s: %w", n.Schema, err)
	}
	m, err := migrate.NewWithInstance("iofs", src, "postgres", d)
	if err != nil {
		return 0, fmt.Errorf("preparing schema %s: %w", n.Schema, err)
	}
	m.LockTimeout = lockTimeout
	if step == 0 {
		err = m.Down()
	} else {
		err = m.Migrate(step)
	}
	if errors.Is(err, migrate.ErrNoChange) {
		err = nil
	}
	at, verr := Version(ctx, conn, n)
	if err := errors.Join(err, verr); err != nil {
		return at, fmt.Errorf("migrating schema %s: %w", n.Schema, err)
	}
	return at, nil
}

// Version returns the step that the schema is at, 0 if it is at none.
func Version(ctx context.Context, conn *sql.Conn, n Names) (uint, error) {
	if err := n.check(); err != nil {
		return 0, err
	}
	d := &driver{ctx: ctx, conn: conn, names: n}
	var begun bool
	err := conn.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, n.Schema+".schema_migrations").Scan(&begun)
	if err != nil || !begun {
		return 0, err
	}
	v, _, err := d.Version()
	return uint(max(v, 0)), err
}
