package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/store/pgserver"
)

// ownDatabase is where the tables of the ceilings are.
const ownDatabase = "cordonbench"

// A postgres is the PostgreSQL that everything is measured on.
type postgres struct {
	*pgserver.Server
	admin *pgx.Conn // the superuser, in ownDatabase
}

// startPostgres starts a PostgreSQL with full durability in dir, empty but for
// ownDatabase. With plans, it can write the plans of statements to its log.
func startPostgres(ctx context.Context, dir string, plans bool) (*postgres, error) {
	settings := map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
	if plans {
		settings["shared_preload_libraries"] = "auto_explain,pg_stat_statements"
		settings["auto_explain.log_analyze"] = "on"
		settings["auto_explain.log_buffers"] = "on"
	}
	server, err := pgserver.Start(ctx, pgserver.Config{Dir: dir, Settings: settings})
	if err != nil {
		return nil, err
	}
	p := &postgres{Server: server}
	if p.admin, err = p.database(ctx, "postgres"); err == nil {
		_, err = p.admin.Exec(ctx, `CREATE DATABASE `+ownDatabase)
		p.admin.Close(ctx)
	}
	if err == nil {
		p.admin, err = p.database(ctx, ownDatabase)
	}
	if err == nil && plans {
		_, err = p.admin.Exec(ctx, `CREATE EXTENSION pg_stat_statements`)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making database %s: %w", ownDatabase, err), p.discard())
	}
	return p, nil
}

// discard stops the server and removes its data.
func (p *postgres) discard() error {
	if p.admin != nil {
		p.admin.Close(context.Background())
	}
	return errors.Join(p.Stop(), os.RemoveAll(filepath.Dir(p.Data())))
}

// url returns the URL of a database for the superuser.
func (p *postgres) url(database string) string {
	return strings.Replace(p.SuperuserURL(), "/postgres?", "/"+database+"?", 1)
}

// database connects to a database as the superuser.
func (p *postgres) database(ctx context.Context, name string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, p.url(name))
	if err != nil {
		return nil, fmt.Errorf("connecting to database %s: %w", name, err)
	}
	return conn, nil
}

// each calls fn on every database that Cordon has made.
func (p *postgres) each(ctx context.Context, fn func(*pgx.Conn) error) error {
	rows, err := p.admin.Query(ctx, `
		SELECT datname FROM pg_database
		WHERE  datallowconn AND NOT datistemplate AND datname NOT IN ('postgres', $1)
		ORDER  BY datname`, ownDatabase)
	if err != nil {
		return fmt.Errorf("listing databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("listing databases: %w", err)
	}
	for _, name := range names {
		conn, err := p.database(ctx, name)
		if err != nil {
			return err
		}
		err = errors.Join(fn(conn), conn.Close(ctx))
		if err != nil {
			return fmt.Errorf("in database %s: %w", name, err)
		}
	}
	return nil
}

// vacuum does at once what autovacuum would do within minutes, so that it
// does not do it while something is measured.
func (p *postgres) vacuum(ctx context.Context) error {
	return p.each(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `VACUUM (ANALYZE)`)
		return err
	})
}

// Sizes are bytes on disk with indexes, by what is stored.
type Sizes struct {
	Current int64 `json:"current"` // the resources as they are
	History int64 `json:"history"`
	Index   int64 `json:"index"` // for search
	Change  int64 `json:"change"`
	Audit   int64 `json:"audit"`
	Other   int64 `json:"other"`
}

func (s Sizes) total() int64 { return s.Current + s.History + s.Index + s.Change + s.Audit + s.Other }

func (s Sizes) sub(t Sizes) Sizes {
	return Sizes{s.Current - t.Current, s.History - t.History, s.Index - t.Index,
		s.Change - t.Change, s.Audit - t.Audit, s.Other - t.Other}
}

// sizes measures all tables of Cordon.
func (p *postgres) sizes(ctx context.Context) (Sizes, error) {
	var s Sizes
	err := p.each(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `
			SELECT c.relname, pg_total_relation_size(c.oid)
			FROM   pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE  c.relkind IN ('r', 'm')
			AND    n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'`)
		if err != nil {
			return err
		}
		var name string
		var size int64
		_, err = pgx.ForEachRow(rows, []any{&name, &size}, func() error {
			*s.of(name) += size
			return nil
		})
		return err
	})
	if err != nil {
		return s, fmt.Errorf("measuring tables: %w", err)
	}
	return s, nil
}

// of returns where the size of a table is counted.
func (s *Sizes) of(table string) *int64 {
	switch {
	case table == "resource":
		return &s.Current
	case table == "history":
		return &s.History
	case table == "change":
		return &s.Change
	case strings.HasPrefix(table, "idx_"):
		return &s.Index
	case strings.HasPrefix(table, "audit"):
		return &s.Audit
	}
	return &s.Other
}

// plans returns the plans, with times and buffers, of the statements that run
// while fn does. They come from the sessions themselves: of the role that
// Cordon works as, under row-level security.
func (p *postgres) plans(ctx context.Context, fn func() error) ([]byte, error) {
	before, err := os.Stat(p.Log())
	if err != nil {
		return nil, fmt.Errorf("reading the log of PostgreSQL: %w", err)
	}
	if err := p.explain(ctx, "0"); err != nil {
		return nil, err
	}
	err = errors.Join(fn(), p.explain(ctx, "-1"))
	if err != nil {
		return nil, err
	}
	log, err := os.ReadFile(p.Log())
	if err != nil {
		return nil, fmt.Errorf("reading the log of PostgreSQL: %w", err)
	}
	return p.ofOthers(log[before.Size():]), nil
}

// ofOthers returns the messages in a log that are neither the postmaster's nor
// about our own session. The lines of a message after its first begin with a
// tab.
func (p *postgres) ofOthers(log []byte) []byte {
	postmaster, own := fmt.Appendf(nil, " [%d] ", p.PID()), fmt.Appendf(nil, " [%d] ", p.admin.PgConn().PID())
	var kept []byte
	keep := false
	for line := range bytes.Lines(log) {
		if line[0] != '\t' {
			keep = !bytes.Contains(line, postmaster) && !bytes.Contains(line, own)
		}
		if keep {
			kept = append(kept, line...)
		}
	}
	return kept
}

// statements returns what PostgreSQL spent on each statement while fn ran, the
// dearest first, as a table.
func (p *postgres) statements(ctx context.Context, fn func() error) ([]byte, error) {
	if _, err := p.admin.Exec(ctx, `SELECT pg_stat_statements_reset()`); err != nil {
		return nil, fmt.Errorf("counting statements: %w", err)
	}
	if err := fn(); err != nil {
		return nil, err
	}
	rows, err := p.admin.Query(ctx, `
		SELECT calls, total_exec_time, rows, shared_blks_hit + shared_blks_read, wal_bytes::float8, wal_fpi,
		       left(regexp_replace(query, '\s+', ' ', 'g'), 120)
		FROM   pg_stat_statements
		WHERE  query NOT LIKE '%pg_stat_statements%'
		ORDER  BY total_exec_time DESC
		LIMIT  20`)
	if err != nil {
		return nil, fmt.Errorf("counting statements: %w", err)
	}
	text := []byte("     calls  us/call rows/call blocks/call WAL bytes/call pages in WAL/call  statement\n")
	var calls, got, blocks, pages int64
	var took, wal float64
	var query string
	_, err = pgx.ForEachRow(rows, []any{&calls, &took, &got, &blocks, &wal, &pages, &query}, func() error {
		n := float64(calls)
		text = fmt.Appendf(text, "%10d %8.1f %9.1f %11.1f %14.0f %17.2f  %s\n",
			calls, 1000*took/n, float64(got)/n, float64(blocks)/n, wal/n, float64(pages)/n, query)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counting statements: %w", err)
	}
	return text, nil
}

// explain sets from which duration plans are written to the log.
func (p *postgres) explain(ctx context.Context, from string) error {
	for _, statement := range []string{
		`ALTER SYSTEM SET auto_explain.log_min_duration = ` + from,
		`SELECT pg_reload_conf()`,
	} {
		if _, err := p.admin.Exec(ctx, statement); err != nil {
			return fmt.Errorf("switching plans in the log: %w", err)
		}
	}
	sleep(ctx, 100*time.Millisecond) // sessions look for the signal when they are next idle
	return nil
}
