// Package storetest gives tests a real PostgreSQL with tenants in every
// partition mode.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/store/pgserver"
)

// cluster is the PostgreSQL of this test binary.
var cluster struct {
	once   sync.Once
	err    error
	server *pgserver.Server // nil if it is not ours
	owner  string
	super  string // "" if it is not known
	dir    string
}

// Postgres returns the URL of a PostgreSQL for a role that can make databases
// and roles: CORDON_TEST_DATABASE_URL (it should take 300 connections), or one
// of its own that this test binary starts for all its tests. A package that
// uses it has
//
//	func TestMain(m *testing.M) { storetest.Main(m) }
func Postgres(t testing.TB) (ownerURL string) {
	t.Helper()
	cluster.once.Do(func() { cluster.err = startCluster() })
	if cluster.err != nil {
		t.Fatal(cluster.err)
	}
	return cluster.owner
}

// Superuser is Postgres for a role that sees everything. It skips the test if
// CORDON_TEST_DATABASE_URL gives another role.
func Superuser(t testing.TB) (superuserURL string) {
	t.Helper()
	Postgres(t)
	if cluster.super == "" {
		t.Skip("needs a PostgreSQL of its own: unset CORDON_TEST_DATABASE_URL")
	}
	return cluster.super
}

// Server returns the server that Postgres started, for tests that kill it. It
// skips the test if the server is not ours.
func Server(t testing.TB) *pgserver.Server {
	t.Helper()
	Postgres(t)
	if cluster.server == nil {
		t.Skip("needs a PostgreSQL of its own: unset CORDON_TEST_DATABASE_URL")
	}
	return cluster.server
}

func startCluster() error {
	if url := os.Getenv("CORDON_TEST_DATABASE_URL"); url != "" {
		cluster.owner = url
		return nil
	}
	dir, err := os.MkdirTemp("", "cordon-test")
	if err != nil {
		return err
	}
	cluster.dir = dir
	// The server may run as another user, who has to pass through.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	s, err := pgserver.Start(context.Background(), pgserver.Config{
		Dir:      filepath.Join(dir, "pg"),
		Settings: map[string]string{"shared_buffers": "128MB", "max_connections": "300"},
	})
	if err != nil {
		return err
	}
	cluster.server, cluster.owner, cluster.super = s, s.OwnerURL(), s.SuperuserURL()
	return nil
}

// Main runs the tests of a package and then removes what they made.
func Main(m *testing.M) {
	code := m.Run()
	if err := clean(); err != nil {
		fmt.Fprintln(os.Stderr, "removing the databases of the test:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func clean() error {
	closeFixture()
	if cluster.dir != "" {
		var err error
		if cluster.server != nil {
			err = cluster.server.Stop()
		}
		return errors.Join(err, os.RemoveAll(cluster.dir))
	}
	if cluster.owner == "" {
		return nil
	}
	return dropAll(cluster.owner)
}

// systemName begins the names of what this test binary makes in a cluster that
// it shares with others.
func systemName() string { return fmt.Sprintf("cordon_test%d", os.Getpid()) }

func dropAll(owner string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, owner)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, q := range []string{
		`SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE starts_with(datname, $1)`,
		`SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE starts_with(rolname, $1)`,
	} {
		rows, err := conn.Query(ctx, q, systemName())
		if err != nil {
			return err
		}
		statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, s := range statements {
			if _, err := conn.Exec(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}
