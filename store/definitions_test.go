package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// valueSet is a ValueSet that a client stores.
const valueSet = `{"resourceType":"ValueSet","id":%q,"url":%q,"version":%q,"status":"active"}`

// version returns the version of the ValueSet that the tenant works by, "" if
// it has none.
func (d *door) version(t testing.TB, g *smart.Grant, url string) string {
	t.Helper()
	set, err := d.db.Definitions(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	found, ok := set.Find("ValueSet", url)
	if !ok {
		return ""
	}
	return found.Version
}

// within reports whether ok becomes true in time.
func within(d time.Duration, ok func() bool) bool {
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Since(begun) > d {
			return false
		}
	}
}

// T004, T010: what a tenant defines holds for all its clients, at once, and for
// nobody else.
func TestATenantsDefinitionsAreItsOwn(t *testing.T) {
	here, elsewhere := openDoor(t), openDoor(t) // two servers
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			t.Parallel()
			url := "http://example.org/ValueSet/of-" + slug
			others := slices.DeleteFunc(slices.Clone(storetest.Slugs), func(s string) bool { return s == slug })
			narrow := here.as(t, slug, smart.Token{Scope: "patient/Observation.r", Client: "app", Patient: "p1"})
			versions := func(want string) {
				t.Helper()
				for _, g := range []*smart.Grant{here.grant(t, slug, everything), narrow, here.grant(t, slug, "system/Patient.r")} {
					if got := here.version(t, g, url); got != want {
						t.Errorf("got version %q, want %q", got, want)
					}
				}
				if !within(1500*time.Millisecond, func() bool { return elsewhere.version(t, elsewhere.grant(t, slug, everything), url) == want }) {
					t.Errorf("the other server still has version %q, want %q", elsewhere.version(t, elsewhere.grant(t, slug, everything), url), want)
				}
				for _, s := range others {
					if got := here.version(t, here.grant(t, s, everything), url); got != "" {
						t.Errorf("%s has version %q", s, got)
					}
				}
			}
			versions("")
			here.put(t, slug, "ValueSet/own", valueSet, "own", url, "1")
			versions("1")
			here.put(t, slug, "ValueSet/own", valueSet, "own", url, "2")
			here.put(t, slug, "ValueSet/older", valueSet, "older", url, "0.9")
			versions("2")
			elsewhere.delete(t, slug, "ValueSet/own")
			if !within(1500*time.Millisecond, func() bool { return here.version(t, narrow, url) == "0.9" }) {
				t.Error("what the other server deleted is still there")
			}
			here.delete(t, slug, "ValueSet/older")
			versions("")
		})
	}
}

func (d *door) delete(t testing.TB, slug, ref string) {
	t.Helper()
	r, err := fhir.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	err = d.db.Update(t.Context(), d.grant(t, slug, everything), func(tx *store.Tx) error {
		_, _, err := tx.Delete(t.Context(), r, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Rules are read without an audit entry, so nothing but rules can be read so.
func TestRulesOpenNothingElse(t *testing.T) {
	d := openDoor(t)
	good := d.grant(t, storetest.A1, "system/Patient.r")
	t.Run("who is nobody gets none", func(t *testing.T) {
		denied := smart.Denied(d.Tenant(t, storetest.A1), audit.Agent{}, audit.Origin{Trail: audit.NewTrail()})
		for _, g := range []*smart.Grant{nil, {}, denied} {
			if set, err := d.db.Definitions(t.Context(), g); err == nil || set != nil {
				t.Errorf("got %v, %v", set, err)
			}
		}
	})
	t.Run("the permit is for these types only", func(t *testing.T) {
		for _, on := range append(slices.Clone(fhir.Types), "", "Nonsense") {
			p, err := good.PermitRules(on)
			if want := slices.Contains(smart.RuleTypes, on); want != (err == nil) || want != p.ForRules() || want != p.From(good) {
				t.Errorf("%q: got %v", on, err)
			}
			if _, err := good.Permit("apply", on); err == nil {
				t.Errorf("%q: a client may ask for it", on)
			}
		}
		if (smart.Permit{}).ForRules() {
			t.Error("the zero Permit is for rules")
		}
	})
	g, err := gate.Open(t.Context(), gate.Config{
		DatabaseURL: d.URLs.App, AuditURL: d.URLs.Audit,
		Seal: func(_ context.Context, t *tenant.Tenant, e *audit.Entry) (gate.AuditRow, error) {
			return gate.AuditRow{Tenant: t.ID.Int(), Seq: audit.NextSeq(), Recorded: e.Recorded, Interaction: 1, Sealed: []byte{}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	rule, err := good.PermitRules("ValueSet")
	if err != nil {
		t.Fatal(err)
	}
	read, err := good.Permit(fhir.Read, "Patient")
	if err != nil {
		t.Fatal(err)
	}
	count := gate.SQL(`SELECT count(*) FROM ~resource WHERE tenant_id = $1`)
	query := func(p smart.Permit) func(*gate.Tx) error {
		return func(tx *gate.Tx) error { return tx.Exec(t.Context(), p, count) }
	}
	for claim, got := range map[string]error{
		"a client's permit opens nothing without an audit entry": g.Rules(t.Context(), good, query(read)),
		"a permit for rules opens nothing in a view":             g.View(t.Context(), good, query(rule)),
		"a permit for rules opens nothing in an update":          g.Update(t.Context(), good, query(rule)),
		"a permit for rules writes nothing":                      g.Update(t.Context(), good, func(tx *gate.Tx) error { return tx.Defer(rule, count) }),
		"nothing is written where nothing is audited":            g.Rules(t.Context(), good, func(tx *gate.Tx) error { return tx.Defer(rule, count) }),
		"the permit of another Grant opens nothing":              g.Rules(t.Context(), d.grant(t, storetest.A1, everything), query(rule)),
	} {
		if !errors.Is(got, gate.ErrClosed) {
			t.Errorf("%s: got %v", claim, got)
		}
	}
	if err := g.Rules(t.Context(), good, query(rule)); err != nil {
		t.Errorf("the right way: %v", err)
	}
	if err := g.Rules(t.Context(), good, func(tx *gate.Tx) error {
		return tx.Exec(t.Context(), rule, gate.SQL(`DELETE FROM ~idx_token WHERE tenant_id = $1`))
	}); err == nil {
		t.Error("a statement that writes was run")
	}
}

// packageOf returns a package with a ValueSet of the URL and version.
func packageOf(t testing.TB, name, version, url string, more ...string) (store.Hash, *canonical.Package) {
	t.Helper()
	file := storetest.PackageFile(t, name, version, append(more, fmt.Sprintf(valueSet, "vs", url, version))...)
	p, err := canonical.ReadPackage(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(file), p
}

// T010: a package works for the tenant that has it, and no answer tells
// another that it is there.
func TestPackages(t *testing.T) {
	t.Parallel()
	f := storetest.New(t)
	const url = "http://guide.example.org/ValueSet/vs"
	hash, p := packageOf(t, "example.guide", "1.0.0", url)
	install := func(t testing.TB, slug string) (store.InstalledPackage, bool) {
		t.Helper()
		got, created, err := f.Migrator.InstallPackage(t.Context(), slug, hash, p)
		if err != nil {
			t.Fatal(err)
		}
		return got, created
	}
	d := &door{f, f.DB, f.Verifier}
	uses := func(t testing.TB, slug, want string) {
		t.Helper()
		if !within(2500*time.Millisecond, func() bool { return d.version(t, f.Grant(t, slug, everything), url) == want }) {
			t.Errorf("%s works by version %q, want %q", slug, d.version(t, f.Grant(t, slug, everything), url), want)
		}
	}
	for i, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			uses(t, slug, "")
			if err := f.Migrator.RemovePackage(t.Context(), slug, p.Name, p.Version); !fhir.IsCode(err, fhir.NotFound) {
				t.Errorf("removing what only others have: got %v", err)
			}
			got, created := install(t, slug)
			if !created || got.Hash != hash || got.Contents["ValueSet"] != 1 || got.Dependencies["other.guide"] != "1.0.0" {
				t.Errorf("got %v, %+v", created, got)
			}
			if _, created := install(t, slug); created {
				t.Error("it was installed twice")
			}
			uses(t, slug, "1.0.0")
			for _, later := range storetest.Slugs[i+1:] {
				if got := d.version(t, f.Grant(t, later, everything), url); got != "" {
					t.Errorf("%s works by it too", later)
				}
			}
			list, err := f.Registry.Packages(t.Context(), f.Tenant(t, slug).ID)
			if err != nil || len(list) != 1 {
				t.Errorf("got %v, %v", list, err)
			}
		})
	}
	t.Run("another content under the same name and version is a conflict", func(t *testing.T) {
		other, q := packageOf(t, "example.guide", "1.0.0", url, `{"resourceType":"ValueSet","url":"http://x"}`)
		if _, _, err := f.Migrator.InstallPackage(t.Context(), storetest.A1, other, q); !fhir.IsCode(err, fhir.Conflict) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the newest of two versions is used", func(t *testing.T) {
		newer, q := packageOf(t, "example.guide", "1.10.0", url)
		if _, _, err := f.Migrator.InstallPackage(t.Context(), storetest.A1, newer, q); err != nil {
			t.Fatal(err)
		}
		uses(t, storetest.A1, "1.10.0")
		if err := f.Migrator.RemovePackage(t.Context(), storetest.A1, "example.guide", "1.10.0"); err != nil {
			t.Fatal(err)
		}
		uses(t, storetest.A1, "1.0.0")
	})
	t.Run("an unknown tenant is unknown", func(t *testing.T) {
		if _, _, err := f.Migrator.InstallPackage(t.Context(), "nobody", hash, p); !errors.Is(err, tenant.ErrUnknown) {
			t.Errorf("got %v", err)
		}
		if _, err := f.Migrator.Packages(t.Context(), "nobody"); !errors.Is(err, tenant.ErrUnknown) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("what nobody has is not kept", func(t *testing.T) {
		owner := connect(t, in(f.OwnerURL, registryDatabase(t, f)))
		if got := query[int64](t, owner, `SELECT count(*) FROM registry.package WHERE name = 'example.guide'`); got[0] != 1 {
			t.Errorf("the content is there %d times", got[0])
		}
		for _, slug := range storetest.Slugs {
			if err := f.Migrator.RemovePackage(t.Context(), slug, p.Name, p.Version); err != nil {
				t.Error(err)
			}
			uses(t, slug, "")
		}
		if got := query[int64](t, owner, `SELECT count(*) FROM registry.package WHERE name = 'example.guide'`); got[0] != 0 {
			t.Errorf("the content is there %d times", got[0])
		}
	})
	t.Run("a server can change neither packages nor settings", func(t *testing.T) {
		conn := connect(t, f.URLs.Registry)
		for _, sql := range []string{
			`DELETE FROM registry.tenant_package`, `UPDATE registry.package SET packed = ''`, `INSERT INTO registry.tenant_package SELECT`,
			`UPDATE registry.tenant SET settings = '{}'`,
		} {
			if got := code(t, conn, sql); got != "42501" && !strings.HasPrefix(sql, "INSERT") || got == "" {
				t.Errorf("%s: got %q", sql, got)
			}
		}
	})
}

func TestSettings(t *testing.T) {
	f := storetest.New(t)
	if _, _, err := f.Migrator.Provision(t.Context(), store.NewTenant{Slug: "alpha-set", Mode: tenant.Shared}); err != nil {
		t.Fatal(err)
	}
	want := tenant.Settings{Validation: tenant.Validation{Level: tenant.Required, Profiles: []string{"http://example.org/p"}}}
	version, err := f.Migrator.PutSettings(t.Context(), "alpha-set", want, 1)
	if err != nil || version != 2 {
		t.Fatalf("got version %d, %v", version, err)
	}
	got, version, err := f.Migrator.Settings(t.Context(), "alpha-set")
	if err != nil || version != 2 || got.Validation.Level != tenant.Required {
		t.Errorf("got %+v version %d, %v", got, version, err)
	}
	f.Tenants.Forget("alpha-set")
	if x := f.Tenant(t, "alpha-set"); x.Settings.Validation.Level != tenant.Required || x.Settings.Validation.Profiles[0] != "http://example.org/p" {
		t.Errorf("servers see %+v", x.Settings)
	}
	if _, err := f.Migrator.PutSettings(t.Context(), "alpha-set", tenant.Settings{}, 1); !fhir.IsCode(err, fhir.Conflict) {
		t.Errorf("a stale change: got %v", err)
	}
	if _, err := f.Migrator.PutSettings(t.Context(), "nobody", tenant.Settings{}, 1); !errors.Is(err, tenant.ErrUnknown) {
		t.Errorf("an unknown tenant: got %v", err)
	}
	if _, err := f.Migrator.PutSettings(t.Context(), "alpha-set", tenant.Settings{Validation: tenant.Validation{Level: "lax"}}, 2); !fhir.IsCode(err, fhir.Invalid) {
		t.Errorf("a level that is none: got %v", err)
	}
	if x := f.Tenant(t, storetest.A1); x.Settings.Validation.Level != "" {
		t.Errorf("another tenant has %+v", x.Settings)
	}
}

// What is asked on every request costs no round trip.
func BenchmarkDefinitions(b *testing.B) {
	d := openDoor(b)
	g := d.grant(b, storetest.A1, everything)
	for b.Loop() {
		if _, err := d.db.Definitions(b.Context(), g); err != nil {
			b.Fatal(err)
		}
	}
}
