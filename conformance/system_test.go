package conformance

import (
	"context"
	"crypto/rand"
	"encoding/json"
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

	attacks "github.com/cordon-fhir/cordon/breakout"
	"github.com/cordon-fhir/cordon/conformance/harness"
	"github.com/cordon-fhir/cordon/smart/backend"
)

// sys is the running system that the tests of this package attack. They share
// it, so no test runs in parallel with another.
var sys *system

func TestMain(m *testing.M) {
	harness.Main(m, func(ctx context.Context) (func() error, error) {
		s, err := startSystem(ctx)
		sys = s
		return s.close, err
	})
}

// A system is a server with tenants, and all that an observer can see of it.
type system struct {
	*harness.Dev
	tmp string

	http  *http.Client
	super string // URL of database postgres for the superuser
	conns map[string]*pgx.Conn
	app   string // password of cordon_app

	suite *attacks.Suite // what attacks it from outside

	A1, A2, S1, S2, D1, Z9 *party
	parties                []*party // all but Z9
}

// X0 is the slug of a tenant that never existed.
const X0 = "xray-zero"

// withRace are the flags of go build that build the server as this test was built.
func withRace(flags ...string) []string {
	if underRace {
		flags = append(flags, "-race")
	}
	return flags
}

func startSystem(ctx context.Context) (s *system, err error) {
	s = &system{conns: map[string]*pgx.Conn{}}
	if s.tmp, err = harness.Dir("cordon-conformance"); err != nil {
		return s, err
	}
	bin, err := harness.Program(ctx, s.tmp, withRace()...)
	if err != nil {
		return s, err
	}
	if s.Dev, err = harness.Start(ctx, bin, filepath.Join(s.tmp, "dev"), "--alert-networks", "127.0.0.1/32"); err != nil {
		return s, err
	}
	if err := s.openDatabase(); err != nil {
		return s, err
	}
	s.http = &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, s.makeTenants(ctx)
}

// openDatabase finds out how to reach the database as its superuser, and as
// the role that the server has.
func (s *system) openDatabase() error {
	secrets, err := s.Secrets()
	if err != nil {
		return err
	}
	password, err := os.ReadFile(filepath.Join(s.Dir, "pg", "superuser.password"))
	if err != nil {
		return fmt.Errorf("the database is not in the directory of the server: %w", err)
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", string(password)),
		Host: "127.0.0.1:" + strconv.Itoa(secrets.Port), Path: "/postgres", RawQuery: "sslmode=disable"}
	s.super, s.app = u.String(), secrets.App
	return nil
}

// close stops the server and its database and removes what they left.
func (s *system) close() (err error) {
	for _, c := range s.conns {
		c.Close(context.Background())
	}
	if s.Dev != nil {
		err = s.Stop()
	}
	os.RemoveAll(s.tmp)
	return err
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
	clients          []*attacks.Client // the same, for package breakout
	home             *home             // nil until somebody logs in
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
	if err := s.prepare(ctx); err != nil {
		return fmt.Errorf("seeding: %w", err)
	}
	_, err := s.Cordon(ctx, "tenant", "suspend", s.Z9.slug)
	return err
}

// provision makes the tenant and registers its clients, as an operator would.
func (p *party) provision(ctx context.Context) error {
	if _, err := p.sys.Cordon(ctx, "tenant", "create", "--mode", p.mode, p.slug); err != nil {
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
		p.clients[len(p.clients)-1].Patient = a.patient
	}
	return nil
}

// addClient registers a client that signs, with more of what is said of it on
// the command line.
func (p *party) addClient(ctx context.Context, id, scopes string, more ...string) error {
	file, err := p.sys.Cordon(ctx, append([]string{"client", "add", "--tenant", p.slug, id, "--scopes", scopes}, more...)...)
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
	p.clients = append(p.clients, &attacks.Client{ID: id, Actor: id, Scopes: strings.Fields(scopes), KeyFile: file})
	return nil
}

// place asks the registry where the rows of the tenant are.
func (p *party) place(ctx context.Context) error {
	conn, err := p.sys.asSuperuser(ctx, "cordon_registry")
	if err != nil {
		return err
	}
	p.number, p.database, p.schema, err = harness.PlaceOf(ctx, conn, p.slug)
	return err
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
	u, err := url.Parse(s.super)
	if err != nil {
		t.Fatal(err)
	}
	env, err := s.ServeEnv(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Bin, "serve", "--public-url", "http://127.0.0.1", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
	cmd.Env = env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return string(out), nil // it was still serving
	}
	return string(out), err
}
