package migrations

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
)

// lockTimeout is how long a migration waits for another of the same schema.
const lockTimeout = 10 * time.Minute

// A driver runs steps on PostgreSQL. It differs from the ones that come with
// golang-migrate in that a step and the note that it was taken are one
// transaction: killed at any instant, a schema is at a step, never "dirty",
// and the next run goes on from there.
type driver struct {
	ctx   context.Context
	conn  *sql.Conn
	names Names
	tx    *sql.Tx // from the first SetVersion of a step to the second
}

var _ database.Driver = (*driver)(nil)

func (d *driver) fill(text string) string {
	return strings.NewReplacer(
		"{{schema}}", d.names.Schema,
		"{{app}}", d.names.App,
		"{{login}}", d.names.login(),
		"{{audit}}", d.names.Audit,
		"{{log}}", d.names.Log,
	).Replace(text)
}

// prepare makes the schema and the table that remembers its step.
func (d *driver) prepare() error {
	if err := d.Lock(); err != nil {
		return err
	}
	_, err := d.conn.ExecContext(d.ctx, d.fill(`
		CREATE SCHEMA IF NOT EXISTS {{schema}};
		REVOKE ALL ON SCHEMA {{schema}} FROM PUBLIC;
		CREATE TABLE IF NOT EXISTS {{schema}}.schema_migrations (
			one     boolean PRIMARY KEY DEFAULT true CHECK (one),
			version integer NOT NULL,
			taken   timestamptz NOT NULL DEFAULT now()
		);
		COMMENT ON TABLE {{schema}}.schema_migrations IS 'The step of migration that the schema is at.'`))
	return errors.Join(err, d.Unlock())
}

// Open is not used: a driver is made over a connection that is open.
func (d *driver) Open(string) (database.Driver, error) {
	return nil, errors.New("migrations: a driver is not opened by URL")
}

// Close leaves the connection to its owner.
func (d *driver) Close() error { return nil }

// Lock makes others who migrate the schema wait.
func (d *driver) Lock() error {
	_, err := d.conn.ExecContext(d.ctx, `SELECT pg_advisory_lock(hashtextextended('cordon.migrations.' || $1, 0))`, d.names.Schema)
	return err
}

// Unlock ends a step that failed, and lets others go on.
func (d *driver) Unlock() error {
	if d.tx != nil {
		err := d.tx.Rollback()
		d.tx = nil
		if err != nil && !errors.Is(err, sql.ErrTxDone) {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), 10*time.Second)
	defer cancel()
	_, err := d.conn.ExecContext(ctx, `SELECT pg_advisory_unlock(hashtextextended('cordon.migrations.' || $1, 0))`, d.names.Schema)
	return err
}

// SetVersion begins a step when dirty, and commits it when not.
func (d *driver) SetVersion(version int, dirty bool) error {
	if dirty {
		// Its statements end with d.ctx. Were it to end with that by itself, it would
		// take the connection from under Unlock.
		tx, err := d.conn.BeginTx(context.WithoutCancel(d.ctx), nil)
		if err != nil {
			return err
		}
		d.tx = tx
		return nil
	}
	tx := d.tx
	d.tx = nil
	if tx == nil {
		return errors.New("migrations: a step ended that had not begun")
	}
	if _, err := tx.ExecContext(d.ctx, d.fill(`
		INSERT INTO {{schema}}.schema_migrations (version) VALUES ($1)
		ON CONFLICT (one) DO UPDATE SET version = excluded.version, taken = now()`), version); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Run does the work of a step.
func (d *driver) Run(step io.Reader) error {
	text, err := io.ReadAll(step)
	if err != nil {
		return err
	}
	_, err = d.tx.ExecContext(d.ctx, d.fill(string(text)))
	return err
}

// Version returns the step that the schema is at. It is never dirty.
func (d *driver) Version() (int, bool, error) {
	var v int
	err := d.conn.QueryRowContext(d.ctx, d.fill(`SELECT version FROM {{schema}}.schema_migrations`)).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return database.NilVersion, false, nil
	}
	return v, false, err
}

// Drop is not used: nothing of a tenant is dropped by a migration tool.
func (d *driver) Drop() error {
	return errors.New("migrations: dropping a schema is not offered")
}
