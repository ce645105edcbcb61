package pgserver

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func scan[T any](t *testing.T, url, query string) (v T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, query).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// serverDir is a directory that also another user may enter.
func serverDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "pgserver")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + "/pg"
}

func start(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	return s
}

func TestServer(t *testing.T) {
	dir := serverDir(t)
	s := start(t, dir)

	t.Run("durability and checksums are on and nothing sent is logged", func(t *testing.T) {
		for setting, want := range map[string]string{
			"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on",
			"log_min_error_statement": "panic", "log_parameter_max_length": "0",
			"log_parameter_max_length_on_error": "0", "log_error_verbosity": "terse", "shared_preload_libraries": "",
		} {
			if got := scan[string](t, s.SuperuserURL(), "SHOW "+setting); got != want {
				t.Errorf("%s is %s, want %s", setting, got, want)
			}
		}
	})
	t.Run("the owner is no superuser", func(t *testing.T) {
		if scan[bool](t, s.OwnerURL(), "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user") {
			t.Error("the owner can see past row-level security")
		}
	})
	t.Run("large objects are nobody's in a new database", func(t *testing.T) {
		if scan[bool](t, s.OwnerURL(), "SELECT has_function_privilege('lo_create(oid)', 'EXECUTE')") {
			t.Error("the owner can make large objects")
		}
	})
	t.Run("a wrong password is refused", func(t *testing.T) {
		url := strings.Replace(s.SuperuserURL(), s.super, "wrong", 1)
		if conn, err := pgx.Connect(t.Context(), url); err == nil {
			conn.Close(t.Context())
			t.Error("connected without the password")
		}
	})
	t.Run("what was stored is there after a crash and after a restart", func(t *testing.T) {
		scan[int](t, s.SuperuserURL(), "SELECT 1")
		conn, err := pgx.Connect(t.Context(), s.SuperuserURL())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "CREATE TABLE public.kept AS SELECT 7 AS n"); err != nil {
			t.Fatal(err)
		}
		s.Kill()
		again := start(t, dir)
		if got := scan[int](t, again.SuperuserURL(), "SELECT n FROM public.kept"); got != 7 {
			t.Errorf("after a crash got %d, want 7", got)
		}
		if err := again.Stop(); err != nil {
			t.Fatal(err)
		}
		third := start(t, dir)
		if got := scan[int](t, third.SuperuserURL(), "SELECT n FROM public.kept"); got != 7 {
			t.Errorf("after a restart got %d, want 7", got)
		}
	})
}
