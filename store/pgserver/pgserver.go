// Package pgserver runs a PostgreSQL server of our own, for a laptop and for
// tests: with the settings that Cordon asks of a server in production.
package pgserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Config says where the server is to be.
type Config struct {
	// Dir is where the server keeps its data, log and passwords. It is made if
	// need be; a server that was there before is started again. Required. If
	// we are root and the server's user cannot enter it, the data are put
	// under /var/lib/cordon instead.
	Dir string

	// Port to listen on, on 127.0.0.1. Default: one that is free.
	Port int

	// Settings are added to those of the package, and replace them.
	Settings map[string]string
}

// A Server is a running PostgreSQL.
type Server struct {
	port   int
	data   string
	log    string
	super  string // password
	owner  string // password
	proc   *process
	stderr *os.File
}

// Owner and Superuser are the roles that a new server has. The owner may make
// databases and roles; it is no superuser, so row-level security holds it.
const (
	Owner     = "cordon_owner"
	Superuser = "postgres"
)

// settings are what Cordon asks of a server. Nothing a client sends is logged:
// statements hold clinical content, and so do their parameters.
var settings = map[string]string{
	"listen_addresses":                  "127.0.0.1",
	"unix_socket_directories":           "",
	"password_encryption":               "scram-sha-256",
	"fsync":                             "on",
	"full_page_writes":                  "on",
	"synchronous_commit":                "on",
	"wal_level":                         "replica",
	"max_wal_size":                      "4GB",
	"checkpoint_timeout":                "15min",
	"max_connections":                   "300",
	"autovacuum_naptime":                "5s", // what was just loaded needs statistics for good plans
	"shared_buffers":                    "256MB",
	"jit":                               "off",
	"timezone":                          "UTC",
	"log_timezone":                      "UTC",
	"logging_collector":                 "off",
	"log_statement":                     "none",
	"log_min_error_statement":           "panic",
	"log_min_duration_statement":        "-1",
	"log_parameter_max_length":          "0",
	"log_parameter_max_length_on_error": "0",
	"log_error_verbosity":               "terse",
	"shared_preload_libraries":          "",
}

// startTimeout bounds the wait for a server to be ready, and for one that is
// still going down to be gone. Recovery after a crash may take a while.
const startTimeout = 2 * time.Minute

// Start starts the server in cfg.Dir, and first makes it if there is none. It
// returns when the server accepts connections. The server stops when this
// process ends, however it ends (on Linux; elsewhere only Stop stops it).
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("pgserver: Config.Dir is required")
	}
	who, err := account()
	if err != nil {
		return nil, err
	}
	dir, err := who.home(cfg.Dir)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	bin, err := find(ctx, who, data)
	if err != nil {
		return nil, err
	}
	s := &Server{data: data, log: filepath.Join(dir, "postgres.log"), port: cfg.Port}
	if err := s.secrets(dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		if err := s.initialize(ctx, bin, who, dir); err != nil {
			return nil, fmt.Errorf("making a database cluster: %w", err)
		}
	}
	if s.port == 0 {
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
	}
	if err := s.start(ctx, bin, who, cfg.Settings); err != nil {
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	return s, nil
}

// Port returns the port that the server listens on.
func (s *Server) Port() int { return s.port }

// PID returns the number of the server's process.
func (s *Server) PID() int { return s.proc.pid }

// Log returns the name of the file that the server logs to.
func (s *Server) Log() string { return s.log }

// Data returns the server's data directory.
func (s *Server) Data() string { return s.data }

// OwnerURL returns the URL of database postgres for Owner.
func (s *Server) OwnerURL() string { return s.url(Owner, s.owner) }

// SuperuserURL returns the URL of database postgres for Superuser.
func (s *Server) SuperuserURL() string { return s.url(Superuser, s.super) }

func (s *Server) url(user, password string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(user, password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Done is closed when the server's process has ended.
func (s *Server) Done() <-chan struct{} { return s.proc.done }

// Stop ends the server's sessions and the server, and waits for it. What was
// committed is on disk.
func (s *Server) Stop() error {
	defer s.stderr.Close()
	s.proc.signal(os.Interrupt)
	select {
	case <-s.proc.done:
		return nil
	case <-time.After(time.Minute):
		s.proc.signal(os.Kill)
		<-s.proc.done
		return errors.New("pgserver: PostgreSQL did not stop within a minute")
	}
}

// Kill ends the server as a power cut would, and waits for it.
func (s *Server) Kill() {
	defer s.stderr.Close()
	s.proc.killAll()
	<-s.proc.done
}

// secrets reads the passwords of the server in dir, or makes them.
func (s *Server) secrets(dir string) error {
	for _, f := range []struct {
		name   string
		secret *string
	}{{"superuser.password", &s.super}, {"owner.password", &s.owner}} {
		path := filepath.Join(dir, f.name)
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			text = []byte(rand.Text())
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			return fmt.Errorf("keeping the passwords of PostgreSQL: %w", err)
		}
		*f.secret = string(text)
	}
	return nil
}

// closing takes from PUBLIC what PostgreSQL grants to it in every database.
// Large objects know no row-level security.
const closing = `DO $$ DECLARE f regprocedure; BEGIN ` +
	`REVOKE ALL ON SCHEMA public FROM PUBLIC; ` +
	`FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace ` +
	`AND (proname LIKE 'lo\_%' OR proname IN ('loread', 'lowrite')) LOOP ` +
	`EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f); END LOOP; END $$;` + "\n"

// initialize makes the cluster beside its place and moves it there when it is
// complete, so that one that was killed on the way is begun anew. What is in
// its place and is no cluster is left alone: then moving fails.
func (s *Server) initialize(ctx context.Context, bin string, who user, dir string) error {
	made := filepath.Join(dir, "making")
	if err := os.RemoveAll(made); err != nil {
		return err
	}
	if err := who.mkdir(made); err != nil {
		return err
	}
	defer os.RemoveAll(made)
	cluster := filepath.Join(made, "data")
	pwfile := filepath.Join(made, "password")
	if err := who.write(pwfile, s.super); err != nil {
		return err
	}
	if err := who.run(ctx, made, "", filepath.Join(bin, "initdb"), "-D", cluster, "-U", Superuser, "--pwfile", pwfile,
		"-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--data-checksums"); err != nil {
		return err
	}
	// In single-user mode a line is a statement; the new databases that are
	// made from template0 inherit what is taken away there.
	for database, statements := range map[string]string{
		"template0": closing,
		"template1": closing,
		"postgres": closing +
			"CREATE ROLE " + Owner + " LOGIN CREATEDB CREATEROLE NOSUPERUSER NOBYPASSRLS NOREPLICATION PASSWORD '" + s.owner + "';\n" +
			"REVOKE ALL ON DATABASE template1 FROM PUBLIC;\n" +
			"REVOKE ALL ON DATABASE postgres FROM PUBLIC;\n" +
			"GRANT CONNECT ON DATABASE postgres TO " + Owner + ";\n",
	} {
		if err := who.run(ctx, made, statements, filepath.Join(bin, "postgres"), "--single", "-D", cluster,
			"-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", database); err != nil {
			return err
		}
	}
	return os.Rename(cluster, s.data)
}

// start runs the server and waits until it is ready. One that our last process
// left behind may still be going down; then it tries again.
func (s *Server) start(ctx context.Context, bin string, who user, extra map[string]string) error {
	args := []string{"-D", s.data, "-p", strconv.Itoa(s.port)}
	for k, v := range settings {
		if _, replaced := extra[k]; !replaced {
			args = append(args, "-c", k+"="+v)
		}
	}
	for k, v := range extra {
		args = append(args, "-c", k+"="+v)
	}
	deadline := time.Now().Add(startTimeout)
	for {
		out, err := os.Create(s.log)
		if err != nil {
			return err
		}
		cmd := who.command(filepath.Dir(s.data), filepath.Join(bin, "postgres"), args...)
		cmd.Stdout, cmd.Stderr = out, out
		proc, err := launch(cmd)
		if err != nil {
			out.Close()
			return err
		}
		s.proc, s.stderr = proc, out
		ready, err := s.await(ctx, deadline)
		if ready {
			return nil
		}
		out.Close()
		if err != nil {
			proc.signal(os.Interrupt)
			<-proc.done
			return err
		}
		why := s.lastWords()
		busy := strings.Contains(why, "postmaster.pid") || strings.Contains(why, "pre-existing shared memory")
		if !busy || time.Now().After(deadline) {
			return fmt.Errorf("the server ended: %s", why)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// await waits until the server says in its lock file that it is ready. false
// with no error means that its process ended.
func (s *Server) await(ctx context.Context, deadline time.Time) (bool, error) {
	for {
		if text, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid")); err == nil {
			lines := strings.Split(string(text), "\n")
			if len(lines) > 7 && lines[0] == strconv.Itoa(s.proc.pid) && strings.TrimSpace(lines[7]) == "ready" {
				return true, nil
			}
		}
		select {
		case <-s.proc.done:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return false, errors.New("the server is not ready; see " + s.log)
		}
	}
}

// lastWords returns the first line of the log that says why the server ended.
func (s *Server) lastWords() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	for line := range bytes.Lines(text) {
		if _, why, ok := bytes.Cut(line, []byte("FATAL:")); ok {
			return string(bytes.TrimSpace(why))
		}
	}
	return "see " + s.log
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// run runs a program to its end. Its words are in the error if it fails.
func (u user) run(ctx context.Context, dir, stdin, program string, args ...string) error {
	cmd := u.command(dir, program, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), io.Discard, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("running %s: %w: %s", filepath.Base(program), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

func (u user) command(dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C", "TZ=UTC"}
	u.become(cmd)
	return cmd
}
