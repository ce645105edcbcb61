package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/cordon-fhir/cordon/smart/backend"
)

// sys is the running system that the tests of this package attack. They share
// it, so no test runs in parallel with another.
var sys *system

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if list := flag.Lookup("test.list"); list != nil && list.Value.String() != "" {
		return m.Run()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s, err := startSystem(ctx)
	if s != nil {
		defer s.close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the system:", err)
		if log, lerr := os.ReadFile(s.logFile()); lerr == nil {
			fmt.Fprintf(os.Stderr, "its log ends with:\n%s\n", log[max(0, len(log)-4000):])
		}
		return 1
	}
	sys = s
	return m.Run()
}

// A system is a server with tenants, and all that an observer can see of it.
type system struct {
	dir    string // of `cordon dev`
	bin    string
	scrap  []string // directories to remove
	server *exec.Cmd
	ended  chan error

	FHIR    string `json:"fhir"`
	Auth    string `json:"auth"`
	Control string `json:"control"`
	Ops     string `json:"ops"`

	OperatorKeyFile string `json:"operator_key_file"`
	Operator        string `json:"operator"`

	http  *http.Client
	super string // URL of database postgres for the superuser
	conns map[string]*pgx.Conn
	app   string // password of cordon_app

	A1, A2, S1, S2, D1, Z9 *party
	parties                []*party // all but Z9
}

// X0 is the slug of a tenant that never existed.
const X0 = "xray-zero"

// repository returns the root of the module.
func repository() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, serr := os.Stat(filepath.Join(dir, "go.mod")); serr == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod above the test's directory")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// build makes the program. CORDON_TEST_BINARY names one to use instead: that is
// how the same tests run against a program with a fault in it.
func build(ctx context.Context, dir string, args ...string) (string, error) {
	if bin := os.Getenv("CORDON_TEST_BINARY"); bin != "" && len(args) == 0 {
		return bin, nil
	}
	root, err := repository()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "cordon")
	args = append([]string{"build", "-o", bin}, args...)
	if underRace {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/cordon")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return bin, nil
}

func startSystem(ctx context.Context) (*system, error) {
	tmp, err := os.MkdirTemp("", "cordon-conformance")
	if err != nil {
		return nil, err
	}
	s := &system{scrap: []string{tmp}, dir: filepath.Join(tmp, "dev"), conns: map[string]*pgx.Conn{}, ended: make(chan error, 1)}
	// PostgreSQL may run as another user, who has to pass through.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return s, err
	}
	if s.bin, err = build(ctx, tmp); err != nil {
		return s, err
	}
	if err := s.start(ctx); err != nil {
		return s, err
	}
	s.http = &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, s.makeTenants(ctx)
}

// start runs `cordon dev` and waits until it is ready.
func (s *system) start(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(s.dir, "console.log"))
	if err != nil {
		return err
	}
	defer out.Close()
	s.server = exec.Command(s.bin, "dev", "--dir", s.dir, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--ops", "127.0.0.1:0",
		"--alert-networks", "127.0.0.1/32")
	s.server.Stdout, s.server.Stderr = out, out
	if err := s.server.Start(); err != nil {
		return err
	}
	go func() { s.ended <- s.server.Wait() }()
	for {
		text, err := os.ReadFile(filepath.Join(s.dir, "dev.json"))
		if err == nil {
			if err := json.Unmarshal(text, s); err != nil {
				return fmt.Errorf("reading dev.json: %w", err)
			}
			return s.openDatabase()
		}
		select {
		case err := <-s.ended:
			s.server = nil
			words, _ := os.ReadFile(out.Name())
			return fmt.Errorf("the server ended: %w\n%s", err, words)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// openDatabase finds out how to reach the database as its superuser, and as
// the role that the server has.
func (s *system) openDatabase() error {
	var secrets struct {
		App  string `json:"app"`
		Port int    `json:"postgres_port"`
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "secrets.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &secrets); err != nil {
		return fmt.Errorf("reading secrets.json: %w", err)
	}
	password, err := os.ReadFile(filepath.Join(s.dir, "pg", "superuser.password"))
	if err != nil {
		return fmt.Errorf("the database is not in the directory of the server: %w", err)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", string(password)),
		Host: "127.0.0.1:" + strconv.Itoa(secrets.Port), Path: "/postgres", RawQuery: "sslmode=disable"}
	s.super, s.app = u.String(), secrets.App
	return nil
}

// close stops the server and its database and removes what they left.
func (s *system) close() {
	for _, c := range s.conns {
		c.Close(context.Background())
	}
	if s.server != nil {
		s.server.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.ended:
		case <-time.After(time.Minute):
			s.server.Process.Kill()
			<-s.ended
		}
	}
	for _, dir := range s.scrap {
		os.RemoveAll(dir)
	}
}

// cordon runs a command of the program against the server.
func (s *system) cordon(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Env = append(os.Environ(), "CORDON_DIR="+s.dir)
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("cordon %s: %w: %s", strings.Join(args[:2], " "), err, faults.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// A party is a tenant with its actors.
type party struct {
	sys    *system
	slug   string
	mode   string
	base   string
	number int32
	// database and schema hold its rows.
	database, schema string
	canaries         map[string]string // by place
	actors           map[string]*actor
	home             *home // nil until somebody logs in
}

// actors are the clients that every tenant has. dr1 and dr2 are users; pA and
// pB are patients with the right to write in their own record.
var actors = []struct{ id, scopes, user, patient, roles string }{
	{id: "backend", scopes: "system/*.cruds"},
	{id: "reader", scopes: "system/*.rs"},
	{id: "writer", scopes: "system/*.cud"},
	{id: "finder", scopes: "system/Observation.cus system/Patient.cus"},
	{id: "lab", scopes: "system/Observation.cruds?category=laboratory"},
	{id: "billing", scopes: "system/Coverage.rs system/Claim.rs"},
	{id: "auditor", scopes: "system/AuditEvent.rs", roles: "auditor"},
	{id: "dr1", scopes: "user/*.cruds", user: "Practitioner/dr1"},
	{id: "dr2", scopes: "user/*.cruds", user: "Practitioner/dr2"},
	{id: "pA", scopes: "patient/*.cruds", user: "Patient/p1", patient: "p1"},
	{id: "pB", scopes: "patient/*.cruds", user: "Patient/p2", patient: "p2"},
}

func (s *system) makeTenants(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(3)
	for _, x := range []struct {
		at         **party
		slug, mode string
	}{
		{&s.A1, "alpha-one", "shared"}, {&s.A2, "alpha-two", "shared"},
		{&s.S1, "sigma-one", "schema"}, {&s.S2, "sigma-two", "schema"},
		{&s.D1, "delta-one", "database"}, {&s.Z9, "zulu-nine", "shared"},
	} {
		p := &party{sys: s, slug: x.slug, mode: x.mode, base: s.FHIR + "/" + x.slug, actors: map[string]*actor{}}
		*x.at = p
		if x.at != &s.Z9 {
			s.parties = append(s.parties, p)
		}
		g.Go(func() error {
			if err := p.provision(gctx); err != nil {
				return fmt.Errorf("making tenant %s: %w", p.slug, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, p := range append(s.parties, s.Z9) {
		if err := p.place(ctx); err != nil {
			return err
		}
		if err := p.seed(ctx); err != nil {
			return fmt.Errorf("seeding %s: %w", p.slug, err)
		}
	}
	_, err := s.cordon(ctx, "tenant", "suspend", s.Z9.slug)
	return err
}

// provision makes the tenant and registers its clients, as an operator would.
func (p *party) provision(ctx context.Context) error {
	if _, err := p.sys.cordon(ctx, "tenant", "create", "--mode", p.mode, p.slug); err != nil {
		return err
	}
	for _, a := range actors {
		var more []string
		if a.user != "" {
			more = append(more, "--user", a.user)
		}
		if a.patient != "" {
			more = append(more, "--patient", a.patient)
		}
		if a.roles != "" {
			more = append(more, "--roles", a.roles)
		}
		if err := p.addClient(ctx, a.id, a.scopes, more...); err != nil {
			return err
		}
	}
	return nil
}

// addClient registers a client that signs, with more of what is said of it on
// the command line.
func (p *party) addClient(ctx context.Context, id, scopes string, more ...string) error {
	file, err := p.sys.cordon(ctx, append([]string{"client", "add", "--tenant", p.slug, id, "--scopes", scopes}, more...)...)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	key := new(jose.JSONWebKey)
	if err := json.Unmarshal(text, key); err != nil {
		return fmt.Errorf("reading the key of %s: %w", id, err)
	}
	p.actors[id] = p.actor(id, scopes, key)
	return nil
}

// place asks the registry where the rows of the tenant are.
func (p *party) place(ctx context.Context) error {
	conn, err := p.sys.asSuperuser(ctx, "cordon_registry")
	if err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, `SELECT id, schema FROM registry.tenant WHERE slug = $1`, p.slug).Scan(&p.number, &p.schema); err != nil {
		return fmt.Errorf("looking up %s: %w", p.slug, err)
	}
	p.database = "cordon"
	if p.mode == "database" {
		p.database = fmt.Sprintf("cordon_t%d", p.number)
	}
	return nil
}

// asSuperuser returns a connection that sees every row.
func (s *system) asSuperuser(ctx context.Context, database string) (*pgx.Conn, error) {
	if c := s.conns[database]; c != nil && !c.IsClosed() {
		return c, nil
	}
	c, err := s.connect(ctx, database, "", "")
	if err != nil {
		return nil, err
	}
	s.conns[database] = c
	return c, nil
}

// connect returns a new connection to the database, for the superuser if role
// is "".
func (s *system) connect(ctx context.Context, database, role, password string) (*pgx.Conn, error) {
	u, err := url.Parse(s.super)
	if err != nil {
		return nil, err
	}
	u.Path = "/" + database
	if role != "" {
		u.User = url.UserPassword(role, password)
	}
	conf, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, conf)
}

// An actor is a client of a tenant who earns tokens when it needs them.
type actor struct {
	*party
	*backend.Service
	id string
}

func (p *party) actor(id, scopes string, key *jose.JSONWebKey) *actor {
	return &actor{party: p, id: id, Service: &backend.Service{
		TokenURL: p.sys.Auth + "/" + p.slug + "/token", Client: id, Scope: scopes, Key: key, HTTP: p.sys.http,
		Prepare: func(r *http.Request) { r.Header.Set("X-Request-Id", "observer-token-"+rand.Text()) },
	}}
}

// serveOnce starts a second data plane on the same database. It returns
// nil and stops it if it serves, else its last words.
func (s *system) serveOnce(t testing.TB) (string, error) {
	t.Helper()
	var secrets struct{ App, Audit, Registry, Log string }
	text, err := os.ReadFile(filepath.Join(s.dir, "secrets.json"))
	if err == nil {
		err = json.Unmarshal(text, &secrets)
	}
	if err != nil {
		t.Fatal(err)
	}
	login := func(role, password, database string) string {
		u, err := url.Parse(s.super)
		if err != nil {
			t.Fatal(err)
		}
		u.User, u.Path = url.UserPassword(role, password), "/"+database
		return u.String()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.bin, "serve", "--public-url", "http://127.0.0.1", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
		"--kek-dir", filepath.Join(s.dir, "kek"))
	cmd.Env = append(os.Environ(),
		"CORDON_DATABASE_URL="+login("cordon_app", secrets.App, "cordon"), "CORDON_AUDIT_URL="+login("cordon_audit", secrets.Audit, "cordon"),
		"CORDON_LOG_URL="+login("cordon_log", secrets.Log, "cordon"),
		"CORDON_REGISTRY_URL="+login("cordon_registry", secrets.Registry, "cordon_registry"))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return string(out), nil // it was still serving
	}
	return string(out), err
}
