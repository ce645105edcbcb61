package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/conformance/harness"
	"github.com/cordon-fhir/cordon/store/pgserver"
)

// A system is a server, its PostgreSQL, and the wire between them.
type system struct {
	tmp, bin string
	pgConf   pgserver.Config
	pg       *pgserver.Server
	wire     *wire
	server   *server
	env      []string
	listen   string
	ops      string
	tenants  []*party          // one in each mode
	logKeys  map[string]string // public keys of the audit logs by tenant, "" is the platform
}

// startSystem makes the databases, a tenant in each mode and their clients, as
// `cordon dev` does, and then serves them with `cordon serve`.
func startSystem(ctx context.Context) (s *system, err error) {
	s = new(system)
	if s.tmp, err = harness.Dir("cordon-faults"); err != nil {
		return s, err
	}
	if s.bin, err = harness.Program(ctx, s.tmp, buildFlags()...); err != nil {
		return s, err
	}
	s.pgConf = pgserver.Config{Dir: filepath.Join(s.tmp, "pg"), Settings: map[string]string{"shared_buffers": "64MB"}}
	if s.pg, err = pgserver.Start(ctx, s.pgConf); err != nil {
		return s, err
	}
	s.pgConf.Port = s.pg.Port()
	if s.wire, err = newWire("127.0.0.1:" + strconv.Itoa(s.pg.Port())); err != nil {
		return s, err
	}
	if err := s.provision(ctx); err != nil {
		return s, err
	}
	s.server, err = s.serve(ctx, s.bin)
	return s, err
}

// buildFlags are the flags of go build for the server.
func buildFlags(more ...string) []string {
	if *serverRace {
		more = append(more, "-race")
	}
	return more
}

// provision lets `cordon dev` make everything, and keeps what a server needs
// to serve it.
func (s *system) provision(ctx context.Context) error {
	owner, err := url.Parse(s.pg.OwnerURL())
	if err != nil {
		return err
	}
	owner.Host = s.wire.address()
	dev, err := harness.Start(ctx, s.bin, filepath.Join(s.tmp, "dev"), "--demo", "--patients", "1", "--database", owner.String())
	if err != nil {
		return err
	}
	if err := s.askLogKeys(ctx, dev); err != nil {
		return err
	}
	if err := dev.Stop(); err != nil {
		return err
	}
	if err := s.configure(dev); err != nil {
		return err
	}
	modes := map[string]bool{}
	for _, t := range dev.Tenants {
		if modes[t.Mode] {
			continue
		}
		modes[t.Mode] = true
		p := &party{sys: s, slug: t.Slug, mode: t.Mode}
		for _, c := range t.Clients {
			switch c.ID {
			case "backend":
				err = p.backend.register(p, c.ID, "system/*.cruds", c.KeyFile)
			case "auditor":
				err = p.auditor.register(p, c.ID, "system/AuditEvent.rs", c.KeyFile)
			}
			if err != nil {
				return err
			}
		}
		if err := p.place(ctx); err != nil {
			return err
		}
		s.tenants = append(s.tenants, p)
	}
	if len(s.tenants) != 3 {
		return fmt.Errorf("the demo has tenants in %d modes", len(s.tenants))
	}
	return nil
}

// askLogKeys takes down the keys that the audit logs are verified with.
func (s *system) askLogKeys(ctx context.Context, dev *harness.Dev) (err error) {
	s.logKeys = map[string]string{}
	if s.logKeys[""], err = dev.Cordon(ctx, "audit", "key"); err != nil {
		return err
	}
	for _, t := range dev.Tenants {
		if s.logKeys[t.Slug], err = dev.Cordon(ctx, "audit", "key", "--tenant", t.Slug); err != nil {
			return err
		}
	}
	return nil
}

// configure makes the environment of `cordon serve`.
func (s *system) configure(dev *harness.Dev) (err error) {
	for _, a := range []*string{&s.listen, &s.ops} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*a = l.Addr().String()
		l.Close()
	}
	if s.env, err = dev.ServeEnv(s.wire.address()); err != nil {
		return err
	}
	s.env = append(s.env,
		"CORDON_PUBLIC_URL=http://"+s.listen,
		"CORDON_LISTEN="+s.listen,
		"CORDON_OPS_LISTEN="+s.ops,
		"CORDON_CHECKPOINTS="+filepath.Join(dev.Dir, "checkpoints"),
	)
	return nil
}

// A server is a running `cordon serve`.
type server struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // how it ended
}

// serve starts a server and returns when it is ready.
func (s *system) serve(ctx context.Context, bin string, env ...string) (*server, error) {
	p, err := s.launch(bin, env...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.ops+"/readyz", nil)
		if err != nil {
			return nil, err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("the server ended: %w\n%s", p.err, p.words())
		case <-ctx.Done():
			p.kill()
			return nil, fmt.Errorf("the server is not ready: %w\n%s", ctx.Err(), p.words())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// launch starts a server without waiting for it.
func (s *system) launch(bin string, env ...string) (*server, error) {
	out, err := os.CreateTemp(s.tmp, "serve-*.log")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &server{cmd: exec.Command(bin, "serve"), log: out.Name(), done: make(chan struct{})}
	p.cmd.Env = append(slices.Clone(s.env), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// kill ends the server at once.
func (p *server) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// words returns the end of what the server has logged.
func (p *server) words() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-3000):])
}

// errors returns the last lines in the log of the server that tell of a fault
// of its own.
func (p *server) errors() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, `"status":500`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-20):], "")
}

// races returns what the race detector has found in any server so far.
func (s *system) races() string {
	logs, err := filepath.Glob(filepath.Join(s.tmp, "serve-*.log"))
	if err != nil {
		return err.Error()
	}
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			return err.Error()
		}
		if i := bytes.Index(text, []byte("WARNING: DATA RACE")); i >= 0 {
			return string(text[i:min(len(text), i+5000)])
		}
	}
	return ""
}

// restart starts the server again after it has ended.
func (s *system) restart(t *testing.T) {
	t.Helper()
	var err error
	if s.server, err = s.serve(t.Context(), s.bin); err != nil {
		t.Fatal(err)
	}
}

// close prints the report and ends everything.
func (s *system) close() (err error) {
	if races := s.races(); races != "" {
		err = fmt.Errorf("the server has a data race:\n%s", races)
	}
	if s.server != nil {
		printReport()
		s.server.kill()
	}
	if s.wire != nil {
		s.wire.close()
	}
	if s.pg != nil {
		s.pg.Stop()
	}
	os.RemoveAll(s.tmp)
	return err
}

// asSuperuser runs fn on a connection to the database that sees every row.
func (s *system) asSuperuser(ctx context.Context, database string, fn func(*pgx.Conn) error) error {
	u, err := url.Parse(s.pg.SuperuserURL())
	if err != nil {
		return err
	}
	u.Path = "/" + database
	conn, err := pgx.Connect(ctx, u.String())
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	return fn(conn)
}

// postgres returns the numbers of the processes of PostgreSQL, its first one
// first.
func (s *system) postgres() ([]int, error) {
	pids := []int{s.pg.PID()}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return nil, err
		}
		_, rest, _ := strings.Cut(string(text), ") ") // the name before it may hold anything
		fields := strings.Fields(rest)
		if len(fields) > 1 && fields[1] == strconv.Itoa(s.pg.PID()) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// signalPostgres sends sig to every process of PostgreSQL. Its children are
// sessions of their own, so the group of the first does not reach them.
func (s *system) signalPostgres(t *testing.T, sig syscall.Signal) {
	t.Helper()
	pids, err := s.postgres()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig) // a child may have ended
	}
}

// restartPostgres starts the PostgreSQL again after it was killed.
func (s *system) restartPostgres(t *testing.T) {
	t.Helper()
	<-s.pg.Done()
	pg, err := pgserver.Start(t.Context(), s.pgConf)
	if err != nil {
		t.Fatal(err)
	}
	s.pg = pg
}

// gauge returns a figure of the server, as its metrics give it.
func (s *system) gauge(t *testing.T, name string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + s.ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("the server has no figure %s", name)
	return 0
}
