package rest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// BULK-08: servers that are killed in the middle of an import, ten times, store
// what is on each line once, tell of each fault once, and leave no file behind.
func TestKillingServersTenTimesHarmsNoImport(t *testing.T) {
	first := newAPI(t)
	first.busy(t)
	const slug = "import-killed"
	if _, _, err := first.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Schema}); err != nil {
		t.Fatal(err)
	}
	on := first.Tenant(t, slug)
	c := first.client(t, slug, importer)
	where := c.kickImport(importing("upsert", "Patient patients.ndjson", "Organization organizations.ndjson"))
	const lines = 12_000
	var patients, organizations strings.Builder
	var faults []string
	for i := range lines {
		fmt.Fprintf(&patients, `{"resourceType":"Patient","id":"p-%d"}`+"\n", i)
		if i%100 == 99 {
			organizations.WriteString("nonsense\n")
			faults = append(faults, fmt.Sprintf("organizations.ndjson line %d", i+1))
			continue
		}
		organizations.WriteString(`{"resourceType":"Organization","name":"x"}` + "\n") // which gets an id
	}
	c.upload(200, where, 1, patients.String())
	c.upload(200, where, 2, organizations.String())
	db, job := first.handler.(*server).DB, strings.TrimPrefix(where, "/_import/")
	start := first.worker(t, exportWorker, slug)
	killed(t, start, func() (n int) {
		x, err := db.Importing(t.Context(), on, job)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range x {
			n += int(in.Lines)
		}
		return n
	})
	if c.do("GET", where, "").Code != 202 {
		t.Error("it was done before the last server was killed")
	}
	last := start()
	m := c.imported(where)
	last.Process.Kill()
	last.Wait()
	if m.Output[0].Count != lines || m.Output[1].Count != lines-int64(len(faults)) {
		t.Errorf("%+v", m)
	}
	for typ, want := range map[string]int64{"Patient": lines, "Organization": lines - int64(len(faults))} {
		if got := c.must(200, "GET", "/"+typ+"?_summary=count", "").Body.String(); !strings.Contains(got, fmt.Sprintf(`"total":%d`, want)) {
			t.Errorf("%s: %s, want %d", typ, got, want)
		}
	}
	if versions, _ := c.walk("/Patient/_history?_count=1000"); len(versions) != lines {
		t.Errorf("%d versions of %d lines", len(versions), lines)
	}
	var told []string
	for _, f := range c.faults(m) {
		_, f, _ = strings.Cut(f, " ")
		f, _, _ = strings.Cut(f, ":")
		told = append(told, f)
	}
	if !slices.Equal(told, faults) {
		t.Errorf("%d faults, want %d", len(told), len(faults))
	}
	if err := db.Sweep(t.Context(), on); err != nil {
		t.Fatal(err)
	}
	if n := first.fileCount(t, slug); n != len(m.Error) {
		t.Errorf("%d files are kept, the manifest has %d", n, len(m.Error))
	}
	c.must(202, "DELETE", where, "")
	if n := first.fileCount(t, slug); n != 0 {
		t.Errorf("%d files are left", n)
	}
}
