package rest

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/blob"
	"github.com/cordon-fhir/cordon/store/blob/s3test"
	"github.com/cordon-fhir/cordon/tenant"
)

// BULK-08, T173: an import fetches what is below a prefix of a bucket that its tenant
// has as a source, also when it is cut off; not what a neighbour has beside it, nor
// what the server keeps for itself, whoever registered that.
func TestAnImportFetchesFromTheBucketsOfItsTenant(t *testing.T) {
	server := s3test.Start(t)
	cfg := server.Bucket(t, "loads", false)
	own := server.Bucket(t, "kept", false)
	id := fresh()
	line := patient(id, "x")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, line)
	z.Close()
	long := strings.Repeat(`{"resourceType":"Basic","code":{"text":"`+strings.Repeat("x", 1000)+`"}}`+"\n", 3000)
	for name, content := range map[string]string{"ours/plain.ndjson": line + "\nnonsense\n", "ours/packed.ndjson.gz": packed.String(), "ours/long.ndjson": long, "theirs/a.ndjson": line} {
		putObject(t, cfg, name, content)
	}
	putObject(t, own, "exports/a.ndjson", line)
	objects, err := blob.NewReader(cfg, "s3://kept/exports")
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(t, func(c *Config) { c.ImportObjects = objects })
	bucketed := func(slug string, sources ...string) *client {
		if _, _, err := a.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Schema}); err != nil {
			t.Fatal(err)
		}
		a.sources(t, slug, sources...)
		return a.client(t, slug, importer)
	}
	c := bucketed("import-bucket", "s3://loads/ours/", "s3://kept/")
	cut := &s3test.Fault{Method: "GET", Bytes: 1 << 20, Times: 2}
	server.Fail(cut)
	m := c.imported(c.kickImport(importing("upsert", "Basic s3://loads/ours/long.ndjson")))
	if m.Output[0].Count != 3000 || cut.Seen() != 2 {
		t.Errorf("%+v, cut off %d times", m, cut.Seen())
	}
	m = c.imported(c.kickImport(importing("upsert", "Patient s3://loads/ours/plain.ndjson", "Patient s3://loads/ours/packed.ndjson.gz")))
	if m.Output[0].Count != 1 || m.Output[1].Count != 1 {
		t.Errorf("%+v", m)
	}
	if faults := c.faults(m); len(faults) != 1 || !strings.Contains(faults[0], "s3://loads/ours/plain.ndjson line 2:") {
		t.Errorf("%q", faults)
	}
	tagged := strings.Replace(importing("upsert", "Patient s3://loads/ours/plain.ndjson"), `{"name":"url"`, `{"name":"etag","valueString":"\"other\""},{"name":"url"`, 1)
	for what, body := range map[string]string{"absent": importing("upsert", "Patient s3://loads/ours/none"), "of another version": tagged} {
		if w := c.exported(c.kickImport(body)); w.Code != 422 {
			t.Errorf("what is %s: %d %s", what, w.Code, w.Body)
		}
	}
	neighbour := bucketed("import-bucket-neighbour", "s3://loads/theirs/")
	for url, by := range map[string]*client{
		"s3://loads/theirs/a.ndjson":         c,
		"s3://loads/ours/../theirs/a.ndjson": c,
		"s3://kept/exports/a.ndjson":         c, // below a source
		"s3://loads/ours/plain.ndjson":       neighbour,
	} {
		by.must(400, "POST", "/$import", importing("upsert", "Patient "+url), "Prefer", "respond-async")
	}
	without := newAPI(t).client(t, "import-bucket", importer)
	without.must(400, "POST", "/$import", importing("upsert", "Patient s3://loads/ours/plain.ndjson"), "Prefer", "respond-async")
}

func putObject(t *testing.T, cfg blob.S3Config, name, content string) {
	t.Helper()
	s, err := blob.OpenS3(t.Context(), cfg)
	if err == nil {
		err = s.Put(t.Context(), name, []byte(content))
	}
	if err != nil {
		t.Fatal(err)
	}
}
