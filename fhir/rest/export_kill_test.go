package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// exportWorker names the variable that makes the test binary a server that works
// on the exports of one tenant until it is killed.
const exportWorker = "CORDON_TEST_EXPORT_WORKER"

// A killed server has this to start with.
type workplace struct {
	URLs  store.URLs
	Files string
	Slug  string
}

// killedLease is the lease of a server that is killed.
const killedLease = 500 * time.Millisecond

// fatal ends a server that is killed later, unless all is well.
func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// atWork opens what a server that is killed works with: the workplace is in the
// variable.
func atWork(ctx context.Context, variable string) (Config, *tenant.Tenant) {
	var at workplace
	fatal(json.Unmarshal([]byte(os.Getenv(variable)), &at))
	kms, err := keys.NewFileKMS(filepath.Join(filepath.Dir(at.Files), "kek"))
	fatal(err)
	registry, err := store.OpenRegistry(ctx, at.URLs.Registry, kms)
	fatal(err)
	ring, tenants := keys.NewKeyring(registry, kms), tenant.NewRegistry(registry)
	db, err := store.Open(ctx, store.Config{
		DatabaseURL: at.URLs.App, AuditURL: at.URLs.Audit, Keys: ring, Platform: registry, Packages: registry, Base: baseOf,
		Files: store.FilesConfig{Dir: at.Files}, Lease: killedLease, Wait: time.Minute,
	})
	fatal(err)
	v, err := smart.NewVerifier(smart.Config{Tenants: tenants, Keys: ring, Policies: registry, Base: baseOf, Issuer: baseOf})
	fatal(err)
	on, err := tenants.Tenant(ctx, at.Slug)
	fatal(err)
	return Config{DB: db, Verifier: v, Tenants: tenants, Base: baseOf, SmartConfiguration: func(string) []byte { return nil }}, on
}

func workOnExports() {
	ctx := context.Background()
	cfg, on := atWork(ctx, exportWorker)
	s := New(cfg).server
	for {
		fatal(s.tend(ctx, on))
		time.Sleep(20 * time.Millisecond)
	}
}

// worker returns what starts a server that does the variable's work for the tenant.
func (a *api) worker(t *testing.T, variable, slug string) (start func() *exec.Cmd) {
	env, err := json.Marshal(workplace{a.URLs, a.Files, slug})
	if err != nil {
		t.Fatal(err)
	}
	return func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), variable+"="+string(env))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		return cmd
	}
}

// killed starts and kills servers, ten times, each when it has got on.
func killed(t *testing.T, start func() *exec.Cmd, done func() int) {
	t.Helper()
	for range 10 {
		cmd, before := start(), done()
		for end := time.Now().Add(time.Minute); done() <= before; time.Sleep(2 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no progress from %d", before)
			}
		}
		time.Sleep(rand.N(20 * time.Millisecond))
		cmd.Process.Kill()
		cmd.Wait()
	}
	t.Logf("killed ten times, the last time with %d done", done())
}

// BULK-06, T178: servers that are killed in the middle of an export, ten times,
// lose nothing, write nothing twice, and leave no file behind.
func TestKillingServersTenTimesHarmsNoExport(t *testing.T) {
	first := newAPI(t)
	first.busy(t)
	const slug = "export-killed"
	if _, _, err := first.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Schema}); err != nil {
		t.Fatal(err)
	}
	on := first.Tenant(t, slug)
	staff := first.client(t, slug, all)
	var want []string
	types := []string{"Patient", "Organization", "Practitioner", "Location", "Basic", "Group", "Substance", "Medication"}
	for _, typ := range types {
		var entries []string
		for i := range 40 {
			id := fmt.Sprintf("%s-%d", strings.ToLower(typ), i)
			want = append(want, typ+"/"+id)
			more := map[string]string{"Organization": `,"name":"x"`, "Basic": `,"code":{"text":"x"}`, "Group": `,"type":"person","actual":true`, "Substance": `,"code":{"text":"x"}`}[typ]
			entries = append(entries, asking("PUT", typ+"/"+id, `{"resourceType":"`+typ+`","id":"`+id+`"`+more+`}`))
		}
		staff.must(200, "POST", "", posting("transaction", entries...))
	}
	slices.Sort(want)
	c := first.client(t, slug, exporter)
	where := c.kickOff("/$export")
	job := strings.TrimPrefix(where, "/_export/")
	db := first.handler.(*server).DB
	done := func() int {
		x, err := db.Exporting(t.Context(), on, job)
		if err != nil {
			t.Fatal(err)
		}
		return x.Done
	}
	start := first.worker(t, exportWorker, slug)
	killed(t, start, done)
	if c.do("GET", where, "").Code != 202 {
		t.Error("it was done before the last server was killed")
	}
	last := start()
	m := c.manifest(where)
	last.Process.Kill()
	last.Wait()
	got, _ := c.download(m) // which fails on what is there twice
	if names := exportedNames(got, ""); !slices.Equal(names, want) {
		t.Errorf("%d of %d are there", len(names), len(want))
	}

	_, tidy := other(t, func(c *Config) { c.DB.Lease = lastsShort })
	time.Sleep(5 * lastsShort)
	if err := tidy.DB.Sweep(t.Context(), on); err != nil {
		t.Fatal(err)
	}
	if n := first.fileCount(t, slug); n != len(m.Output) {
		t.Errorf("%d files are kept, the manifest has %d", n, len(m.Output))
	}
	c.must(202, "DELETE", where, "")
	if n := first.fileCount(t, slug); n != 0 {
		t.Errorf("%d files are left", n)
	}
}
