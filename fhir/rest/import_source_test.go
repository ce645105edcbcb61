package rest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// A source serves what is imported, in good ways and bad.
type source struct {
	*httptest.Server
	line  string
	asked atomic.Int32 // what it must not be asked for
	cuts  atomic.Bool
}

func newSource(t *testing.T, line string) *source {
	s := &source{line: line}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *source) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ours/plain.ndjson":
		if r.URL.RawQuery != "sig=secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		io.WriteString(w, s.line+"\nnonsense\n")
	case "/ours/packed.ndjson.gz":
		z := gzip.NewWriter(w)
		io.WriteString(z, s.line)
		z.Close()
	case "/ours/tagged":
		w.Header().Set("ETag", `"one"`)
		io.WriteString(w, s.line)
	case "/ours/bomb":
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		io.Copy(z, io.LimitReader(zeros{}, 300<<20))
		z.Close()
	case "/ours/moved":
		http.Redirect(w, r, s.URL+"/private", http.StatusFound)
	case "/ours/cut":
		if s.cuts.Load() {
			w.Header().Set("Content-Length", "1000000")
			io.WriteString(w, s.line+"\n")
			return
		}
		io.WriteString(w, s.line+"\n"+s.line+"\n")
	case "/ours/long":
		for range 40 { // one line of 40 MB
			w.Write(bytes.Repeat([]byte{'x'}, 1<<20))
		}
		io.WriteString(w, "\n"+s.line)
	default:
		s.asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}
}

// fetching gives a new tenant the source, and returns a client that imports.
func fetching(t *testing.T, slug string, s *source, change ...func(*Config)) *client {
	t.Helper()
	a := newAPI(t, append(change, func(c *Config) { c.ImportNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })...)
	if _, _, err := a.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Shared}); err != nil {
		t.Fatal(err)
	}
	a.sources(t, slug, s.URL+"/ours/")
	return a.client(t, slug, importer)
}

// sources sets those of a tenant.
func (a *api) sources(t *testing.T, slug string, list ...string) {
	t.Helper()
	a.settings(t, slug, func(s *tenant.Settings) { s.Import.Sources = list })
}

// BULK-08, T173: an import fetches what is below a source of its tenant, in gzip or
// not and with a query, together with what is uploaded; nothing else is asked for,
// by a redirect neither, and a neighbour cannot have it.
func TestAnImportFetchesFromTheSourcesOfItsTenant(t *testing.T) {
	id := fresh()
	s := newSource(t, patient(id, "x"))
	c := fetching(t, "import-sources", s)
	where := c.kickImport(importing("upsert", "Patient "+s.URL+"/ours/plain.ndjson?sig=secret", "Patient up.ndjson", "Patient "+s.URL+"/ours/packed.ndjson.gz", "Patient "+s.URL+"/ours/long"))
	c.upload(404, where, 1, lined(patient(id, "x")))
	c.upload(200, where, 2, lined(patient(id, "x")))
	m := c.imported(where)
	for i, out := range m.Output {
		if out.Count != 1 {
			t.Errorf("input %d: %+v", i+1, out)
		}
	}
	if faults := c.faults(m); len(faults) != 2 || !strings.Contains(faults[0], s.URL+"/ours/plain.ndjson line 2:") || !strings.HasPrefix(faults[1], "too-long ") {
		t.Errorf("%q", faults)
	}
	tagged := func(tag string) string {
		return strings.Replace(importing("upsert", "Patient "+s.URL+"/ours/tagged"), `{"name":"url"`, `{"name":"etag","valueString":"`+tag+`"},{"name":"url"`, 1)
	}
	if m := c.imported(c.kickImport(tagged(`\"one\"`))); m.Output[0].Count != 1 {
		t.Errorf("%+v", m)
	}
	if w := c.exported(c.kickImport(tagged(`\"two\"`))); w.Code != 422 {
		t.Errorf("another version: %d %s", w.Code, w.Body)
	}
	for _, path := range []string{"moved", "none", "bomb", "plain.ndjson"} {
		where := c.kickImport(importing("upsert", "Patient "+s.URL+"/ours/"+path))
		if w := c.exported(where); w.Code < 400 || w.Code >= 500 || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if n := s.asked.Load(); n != 1 { // of none
		t.Errorf("the source was asked %d times for what it has not", n)
	}
	elsewhere := []string{s.URL + "/private/a", s.URL + "/ours/../private", s.URL + "/ours/%2e%2e/private", "http://169.254.169.254/a", "https://127.0.0.1/a", "file:///etc/passwd"}
	for _, url := range elsewhere {
		c.must(400, "POST", "/$import", importing("upsert", "Patient "+url), "Prefer", "respond-async")
	}
	if _, _, err := c.Migrator.Provision(t.Context(), store.NewTenant{Slug: "import-neighbour", Mode: tenant.Shared}); err != nil {
		t.Fatal(err)
	}
	c.api.client(t, "import-neighbour", importer).must(400, "POST", "/$import", importing("upsert", "Patient "+s.URL+"/ours/plain.ndjson?sig=secret"), "Prefer", "respond-async")
}

// BULK-08, T173: a source whose name leads behind the operator's walls is not
// reached, whoever registered it.
func TestASourceBehindTheWallsIsNotReached(t *testing.T) {
	id := fresh()
	s := newSource(t, patient(id, "x"))
	c := fetching(t, "import-walls", s)
	c.busy(t)
	where := c.kickImport(importing("upsert", "Patient "+s.URL+"/ours/packed.ndjson.gz"))
	_, within := other(t) // whose operator names no networks
	if err := within.work(took(t, within, c.Tenant(t, "import-walls")), c.Tenant(t, "import-walls")); !fhir.IsCode(err, fhir.Transient) {
		t.Error(err)
	}
	c.must(202, "GET", where, "")
	c.must(404, "GET", "/Patient/"+id, "")
}

// BULK-08: what a source cuts off is fetched again, and nothing of the first part is
// stored twice.
func TestWhatASourceCutsOffIsFetchedAgain(t *testing.T) {
	s := newSource(t, `{"resourceType":"Patient"}`)
	s.cuts.Store(true)
	c := fetching(t, "import-cut", s)
	release := c.busy(t)
	on := c.Tenant(t, "import-cut")
	_, worker := other(t, func(cfg *Config) {
		cfg.DB.Lease, cfg.ImportNetworks = killedLease, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	where := c.kickImport(importing("create", "Patient "+s.URL+"/ours/cut"))
	if err := worker.work(took(t, worker, on), on); !fhir.IsCode(err, fhir.Transient) {
		t.Fatal(err)
	}
	s.cuts.Store(false)
	time.Sleep(2 * killedLease)
	release()
	if m := c.imported(where); m.Output[0].Count != 2 {
		t.Errorf("%+v", m)
	}
	if got := c.must(200, "GET", "/Patient?_summary=count", "").Body.String(); !strings.Contains(got, `"total":2`) {
		t.Error(got)
	}
	if err := worker.DB.Sweep(t.Context(), on); err != nil {
		t.Fatal(err)
	}
	if n := c.fileCount(t, "import-cut"); n != 0 {
		t.Errorf("%d files are left", n)
	}
}
