package storetest

import (
	"cmp"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// The tenants that every Fixture has.
const (
	A1 = "alpha-one" // shared
	A2 = "alpha-two" // shared
	S1 = "sigma-one" // schema
	S2 = "sigma-two" // schema
	D1 = "delta-one" // database
)

// Slugs are the tenants that every Fixture has, one of each mode first.
var Slugs = []string{A1, S1, D1, A2, S2}

// Modes says in which partition mode each tenant is.
var Modes = map[string]tenant.Mode{
	A1: tenant.Shared, A2: tenant.Shared, S1: tenant.Schema, S2: tenant.Schema, D1: tenant.Database,
}

// KEK is the key-encryption key of a Fixture.
const KEK = "file://test"

// A Fixture is a system with tenants in every mode. The tests of one package
// share it, so they choose ids of their own, or make tenants of their own.
type Fixture struct {
	OwnerURL string
	Files    string // a directory
	URLs     store.URLs
	KMS      keys.KMS
	Migrator *store.Migrator
	Registry *store.Registry
	Keyring  *keys.Keyring
	Tenants  *tenant.Registry
	DB       *store.DB
	Verifier *smart.Verifier
}

// Origin is where a Fixture's tenants are said to be.
const Origin = "https://cordon.test"

// Base returns the FHIR base URL of a tenant.
func Base(slug string) string { return Origin + "/fhir/" + slug }

// Issuer returns the issuer of a tenant's tokens.
func Issuer(slug string) string { return Origin + "/auth/" + slug }

var fixture struct {
	once sync.Once
	err  error
	f    *Fixture
	dir  string
}

// New returns the Fixture of this test binary.
func New(t testing.TB) *Fixture {
	t.Helper()
	owner := Postgres(t)
	fixture.once.Do(func() { fixture.f, fixture.err = open(owner) })
	if fixture.err != nil {
		t.Fatal(fixture.err)
	}
	return fixture.f
}

func open(owner string) (*Fixture, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "cordon-kek")
	if err != nil {
		return nil, err
	}
	fixture.dir = dir
	f := &Fixture{OwnerURL: owner, Files: filepath.Join(dir, "files")}
	if f.KMS, err = keys.NewFileKMS(filepath.Join(dir, "kek")); err != nil {
		return nil, err
	}
	conf := store.MigratorConfig{
		OwnerURL: owner, KMS: f.KMS, KEK: KEK,
		Secrets: store.Secrets{App: rand.Text(), Audit: rand.Text(), Log: rand.Text(), Registry: rand.Text()},
	}
	if cluster.server == nil {
		conf.Name = systemName()
	}
	if f.Migrator, err = store.OpenMigrator(ctx, conf); err != nil {
		return nil, err
	}
	if err := f.Migrator.Bootstrap(ctx); err != nil {
		return nil, err
	}
	for _, slug := range []string{A1, A2, S1, S2, D1} {
		name := strings.ReplaceAll(slug, "-", " ")
		if _, _, err := f.Migrator.Provision(ctx, store.NewTenant{Slug: slug, Name: name, Mode: Modes[slug]}); err != nil {
			return nil, err
		}
	}
	if f.URLs, err = f.Migrator.URLs(); err != nil {
		return nil, err
	}
	if f.Registry, err = store.OpenRegistry(ctx, f.URLs.Registry, f.KMS); err != nil {
		return nil, err
	}
	f.Keyring = keys.NewKeyring(f.Registry, f.KMS)
	f.Tenants = tenant.NewRegistry(f.Registry)
	if f.DB, err = store.Open(ctx, store.Config{
		DatabaseURL: f.URLs.App, AuditURL: f.URLs.Audit, Keys: f.Keyring, Platform: f.Registry, Packages: f.Registry, Base: Base,
		Files: store.FilesConfig{Dir: f.Files},
	}); err != nil {
		return nil, err
	}
	f.Verifier, err = smart.NewVerifier(smart.Config{Tenants: f.Tenants, Keys: f.Keyring, Policies: f.Registry, Glasses: f.Registry, Base: Base, Issuer: Issuer})
	return f, err
}

// closeFixture closes what New opened.
func closeFixture() {
	if f := fixture.f; f != nil {
		f.DB.Close()
		f.Registry.Close()
		f.Migrator.Close()
	}
	os.RemoveAll(fixture.dir)
}

// Tenant returns the tenant with the slug.
func (f *Fixture) Tenant(t testing.TB, slug string) *tenant.Tenant {
	t.Helper()
	got, err := f.Tenants.Tenant(t.Context(), slug)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Token returns an access token of the tenant with the scopes.
func (f *Fixture) Token(t testing.TB, slug string, scopes ...string) string {
	t.Helper()
	return f.Sign(t, slug, smart.Token{Scope: strings.Join(scopes, " ")})
}

// Sign returns an access token of the tenant with the claims. Those that are
// not given are those of a good token.
func (f *Fixture) Sign(t testing.TB, slug string, claims smart.Token) string {
	t.Helper()
	set, err := f.Keyring.Of(t.Context(), f.Tenant(t, slug).ID)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	claims.Issuer = cmp.Or(claims.Issuer, Issuer(slug))
	claims.Audience = cmp.Or(claims.Audience, Base(slug))
	claims.Tenant = cmp.Or(claims.Tenant, slug)
	claims.Client = cmp.Or(claims.Client, "tester")
	claims.Subject = cmp.Or(claims.Subject, claims.Client)
	claims.ID = cmp.Or(claims.ID, rand.Text())
	claims.Issued = cmp.Or(claims.Issued, now.Unix())
	claims.NotYet = cmp.Or(claims.NotYet, now.Unix())
	claims.Expires = cmp.Or(claims.Expires, now.Add(5*time.Minute).Unix())
	bearer, err := claims.Sign(set)
	if err != nil {
		t.Fatal(err)
	}
	return bearer
}

// Grant returns a Grant for one request to the tenant with the scopes.
func (f *Fixture) Grant(t testing.TB, slug string, scopes ...string) *smart.Grant {
	t.Helper()
	o := audit.Origin{RequestID: rand.Text(), Method: "TEST", Server: "test", Trail: audit.NewTrail()}
	g, err := f.Verifier.Grant(t.Context(), slug, f.Token(t, slug, scopes...), o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Query reads a search, as "patient=Patient/7&_count=50" is one.
func Query(t testing.TB, on fhir.Type, text string) *search.Query {
	t.Helper()
	params, err := search.ParseQuery(text)
	if err != nil {
		t.Fatal(err)
	}
	q, err := search.Parse(on, params, search.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return q
}
