package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
)

// Ceilings are what the same bytes cost without FHIR, tenants, audit and
// encryption, on the same PostgreSQL: one synced insert into a table with one
// index, and one read by primary key. Bare is the statement alone; its CPU is
// PostgreSQL's. Thin is an HTTP server that does one statement per request.
type Ceilings struct {
	BareInsert Figure `json:"bare_insert"`
	BareRead   Figure `json:"bare_read"`
	ThinInsert Figure `json:"thin_insert"`
	ThinRead   Figure `json:"thin_read"`
}

// ceilingClients is how many connections the ceilings are taken with.
const ceilingClients = 8

// ceilingRows is how many rows there are to read.
const ceilingRows = 20000

const (
	insertRow = `INSERT INTO row_written (body) VALUES ($1) RETURNING id`
	selectRow = `SELECT body FROM row_read WHERE id = $1`
)

// A ceiling takes Ceilings.
type ceiling struct {
	bench
	url    string // of the database with the tables
	bodies [][]byte
	thin   *thinProcess
}

// newCeiling makes the tables and starts the thin server. The rows have the
// bytes of the bodies.
func newCeiling(ctx context.Context, b bench, p *postgres, bodies [][]byte) (*ceiling, error) {
	// Text would be compressed if it is long; Cordon's own bytes cannot be.
	_, err := p.admin.Exec(ctx, `
		CREATE TABLE row_written (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL);
		CREATE TABLE row_read    (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body bytea NOT NULL);
		ALTER TABLE row_written ALTER COLUMN body SET STORAGE EXTERNAL;
		ALTER TABLE row_read    ALTER COLUMN body SET STORAGE EXTERNAL`)
	if err == nil {
		_, err = p.admin.CopyFrom(ctx, pgx.Identifier{"row_read"}, []string{"body"},
			pgx.CopyFromSlice(ceilingRows, func(i int) ([]any, error) { return []any{bodies[i%len(bodies)]}, nil }))
	}
	if err == nil {
		_, err = p.admin.Exec(ctx, `VACUUM (ANALYZE) row_read`)
	}
	if err != nil {
		return nil, fmt.Errorf("making the tables of the ceilings: %w", err)
	}
	thin, err := startThin(ctx, p.url(ownDatabase))
	if err != nil {
		return nil, err
	}
	return &ceiling{bench: b, url: p.url(ownDatabase), bodies: bodies, thin: thin}, nil
}

func (c *ceiling) close() { c.thin.stop() }

// take measures the four ceilings.
func (c *ceiling) take(ctx context.Context, d time.Duration) (Ceilings, error) {
	var all Ceilings
	for _, x := range []struct {
		name   string
		into   *Figure
		server int
		work   workload
	}{
		{"bare insert", &all.BareInsert, 0, c.bare(ctx, c.insert)},
		{"bare read", &all.BareRead, 0, c.bare(ctx, c.read)},
		{"thin insert", &all.ThinInsert, c.thin.pid(), c.overHTTP(func() []byte {
			return plainRequest("POST", "/row", c.thin.address, pick(c.bodies))
		}, http.StatusCreated)},
		{"thin read", &all.ThinRead, c.thin.pid(), c.overHTTP(func() []byte {
			return plainRequest("GET", fmt.Sprintf("/row/%d", 1+rand.IntN(ceilingRows)), c.thin.address, nil)
		}, http.StatusOK)},
	} {
		f, err := c.measure(ctx, x.name, x.server, ceilingClients, d, x.work)
		if err != nil {
			return all, err
		}
		if f.Errors > 0 || f.Ops == 0 {
			return all, fmt.Errorf("measuring %s: %s", x.name, f.Problem)
		}
		*x.into = f
	}
	return all, nil
}

// bare gives each client a connection of its own.
func (c *ceiling) bare(ctx context.Context, do func(context.Context, *pgx.Conn) (counts, error)) workload {
	return func(int) (op, func(), error) {
		conn, err := pgx.Connect(ctx, c.url)
		if err != nil {
			return nil, nil, err
		}
		return func() (counts, error) { return do(ctx, conn) }, func() { conn.Close(ctx) }, nil
	}
}

func (c *ceiling) insert(ctx context.Context, conn *pgx.Conn) (counts, error) {
	var id int64
	err := conn.QueryRow(ctx, insertRow, pick(c.bodies)).Scan(&id)
	return counts{ops: 1}, err
}

func (c *ceiling) read(ctx context.Context, conn *pgx.Conn) (counts, error) {
	var body []byte
	err := conn.QueryRow(ctx, selectRow, 1+rand.Int64N(ceilingRows)).Scan(&body)
	return counts{ops: 1, bytes: len(body)}, err
}

// overHTTP sends requests to the thin server.
func (c *ceiling) overHTTP(request func() []byte, status int) workload {
	requests := make([][]byte, 1000)
	for i := range requests {
		requests[i] = request()
	}
	return send(c.thin.address, requests, status, nil)
}

func pick[T any](list []T) T { return list[rand.IntN(len(list))] }

// thinURL names the environment variable that makes this program the thin
// server.
const thinURL = "CORDONBENCH_THIN_URL"

// serveThin is the thin server: what Echo and pgx cost, and nothing else. It
// prints its address and ends when its standard input does.
func serveThin(ctx context.Context, databaseURL string) error {
	cfg, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	cfg.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	defer pool.Close()
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.POST("/row", func(c echo.Context) error {
		body, err := io.ReadAll(c.Request().Body)
		if err != nil {
			return err
		}
		var id int64
		if err := pool.QueryRow(c.Request().Context(), insertRow, body).Scan(&id); err != nil {
			return err
		}
		c.Response().Header().Set("Location", "/row/"+strconv.FormatInt(id, 10))
		return c.Blob(http.StatusCreated, "application/json", body)
	})
	e.GET("/row/:id", func(c echo.Context) error {
		id, err := strconv.ParseInt(c.Param("id"), 10, 64)
		if err != nil {
			return err
		}
		var body []byte
		if err := pool.QueryRow(c.Request().Context(), selectRow, id).Scan(&body); err != nil {
			return err
		}
		return c.Blob(http.StatusOK, "application/json", body)
	})
	failed := make(chan error, 1)
	go func() { failed <- e.Start("127.0.0.1:0") }()
	for e.ListenerAddr() == nil {
		select {
		case err := <-failed:
			return fmt.Errorf("serving: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
	fmt.Println(e.ListenerAddr())
	_, _ = io.Copy(io.Discard, os.Stdin) // it ends with who started us
	return e.Close()
}

// A thinProcess is the thin server, running.
type thinProcess struct {
	cmd     *exec.Cmd
	stdin   io.Closer
	address string
}

// startThin runs this program again as the thin server, so that its CPU can be
// told from that of the load generator.
func startThin(ctx context.Context, databaseURL string) (*thinProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting the thin server: %w", err)
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), thinURL+"="+databaseURL)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the thin server: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the thin server: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the thin server: %w", err)
	}
	t := &thinProcess{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.stop()
		return nil, errors.New("the thin server did not start")
	}
	t.address = strings.TrimSpace(line)
	return t, nil
}

func (t *thinProcess) pid() int { return t.cmd.Process.Pid }

func (t *thinProcess) stop() {
	t.stdin.Close()
	_ = t.cmd.Wait() // how it ended is of no interest
}
