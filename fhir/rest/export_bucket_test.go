package rest

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/blob"
	"github.com/cordon-fhir/cordon/store/blob/s3test"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// newBucketAPI is newAPI whose files are in a bucket.
func newBucketAPI(t *testing.T) (*api, *s3test.Server, *blob.S3) {
	t.Helper()
	f, server := storetest.New(t), s3test.Start(t)
	cfg := server.Bucket(t, "exports", false)
	bucket, err := blob.OpenS3(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{
		DatabaseURL: f.URLs.App, AuditURL: f.URLs.Audit, Keys: f.Keyring, Platform: f.Registry, Packages: f.Registry, Base: baseOf,
		Files: store.FilesConfig{S3: cfg}, Lease: time.Second, Wait: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return newAPI(t, func(c *Config) { c.DB = db }), server, bucket
}

// F032, F033, F034, BULK-05: an export into a bucket whose server is full, busy, cuts
// connections, says that it has what it has not, or is slow, is in the end what one
// into a directory is. Nothing in the bucket can be read, and nothing stays there.
func TestAnExportBearsTheFaultsOfItsObjectStore(t *testing.T) {
	const slug, canary = storetest.S1, "Quetzalcoatlus"
	dir := newAPI(t)
	dir.client(t, slug, all).must(201, "POST", "/Patient", `{"resourceType":"Patient","name":[{"family":"`+canary+`"}]}`)
	want, _ := dir.client(t, slug, exporter).export("/Patient/$export")

	a, faults, bucket := newBucketAPI(t)
	a.busy(t) // it is worked on below
	_, s := other(t, func(c *Config) { c.DB = a.handler.(*server).DB })
	on, c := a.Tenant(t, slug), a.client(t, slug, exporter)
	where := c.kickOff("/Patient/$export")
	until := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
			if err := s.tend(t.Context(), on); err != nil || time.Now().After(end) {
				t.Fatalf("no %s: %v\n%s", what, err, a.logged)
			}
		}
	}
	for what, f := range map[string]*s3test.Fault{
		"full": {Method: "PUT", Status: 507}, "busy": {Status: 503}, "cut": {}, "cut after it": {Method: "PUT", After: true}, "wrong": {Method: "PUT", Status: 200},
	} {
		faults.Fail(f)
		until("fault: "+what, func() bool { return f.Seen() > 0 })
		if w := c.do("GET", where, ""); w.Code != 202 && w.Code != 429 {
			t.Fatalf("%s: %d %s", what, w.Code, w.Body)
		}
	}
	slow := &s3test.Fault{Wait: 200 * time.Millisecond, Rate: 64 << 10}
	faults.Fail(slow)
	until("end", func() bool { return c.do("GET", where, "").Code == 200 })
	if slow.Seen() == 0 {
		t.Error("it did not end in a slow bucket")
	}
	got, _ := c.download(c.manifest(where))
	faults.Fail(nil)
	if a, b := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(a, b) || len(a) == 0 {
		t.Errorf("got %d resources, a directory has %d", len(a), len(b))
	}
	for _, name := range objectsIn(t, bucket) {
		content, err := bucket.Get(t.Context(), name)
		if err != nil || strings.Contains(string(content), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.must(202, "DELETE", where, "")
	until("empty bucket", func() bool { return len(objectsIn(t, bucket)) == 0 })
}

func objectsIn(t *testing.T, bucket *blob.S3) []string {
	t.Helper()
	names, err := bucket.List(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestFilesAreNotKeptWhereWhatIsRemovedStays(t *testing.T) {
	f, cfg := storetest.New(t), s3test.Start(t).Bucket(t, "kept", true)
	_, err := store.Open(t.Context(), store.Config{
		DatabaseURL: f.URLs.App, AuditURL: f.URLs.Audit, Keys: f.Keyring, Platform: f.Registry, Packages: f.Registry, Base: baseOf,
		Files: store.FilesConfig{S3: cfg},
	})
	if err == nil || !strings.Contains(err.Error(), "versions") {
		t.Errorf("got %v", err)
	}
}
