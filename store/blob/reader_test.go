package blob_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cordon-fhir/cordon/store/blob"
	"github.com/cordon-fhir/cordon/store/blob/s3test"
)

// BULK-08: an object that is cut off is read on from there, as the one version that was
// begun; of a server that gives nothing more it is an error, and so is another version.
func TestAnObjectIsReadOnFromWhereItWasCutOff(t *testing.T) {
	ctx, server := t.Context(), s3test.Start(t)
	cfg := server.Bucket(t, "loads", false)
	bucket, err := blob.OpenS3(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 3<<20)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	if err := bucket.Put(ctx, "a/b", content); err != nil {
		t.Fatal(err)
	}
	r, err := blob.NewReader(cfg, "s3://kept//checkpoints/", "s3://all", "/a/directory", "")
	if err != nil {
		t.Fatal(err)
	}
	cuts := &s3test.Fault{Method: "GET", Bytes: 1 << 20, Times: 2}
	server.Fail(cuts)
	o, err := r.Open(ctx, "s3://loads/a/b", "")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got, err := io.ReadAll(o)
	if err != nil || !bytes.Equal(got, content) || cuts.Seen() != 2 {
		t.Errorf("%d bytes of %d, cut off %d times: %v", len(got), len(content), cuts.Seen(), err)
	}

	server.Fail(&s3test.Fault{Method: "GET", Bytes: 1 << 20, Times: 1})
	if o, err = r.Open(ctx, "s3://loads/a/b", ""); err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := bucket.Put(ctx, "a/b", content[1:]); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(o); !errors.Is(err, blob.ErrChanged) {
		t.Errorf("%d bytes of two versions: %v", len(got), err)
	}
	for url, want := range map[string]error{
		"s3://loads/a/c":               blob.ErrAbsent,
		"s3://nothing/a":               blob.ErrAbsent,
		"s3://kept/checkpoints/harbor": blob.ErrOwn,
		"s3://all/a":                   blob.ErrOwn,
	} {
		if _, err := r.Open(ctx, url, ""); !errors.Is(err, want) {
			t.Errorf("%s: %v", url, err)
		}
	}
	if r.Own("s3://kept/checkpoints2/a") {
		t.Error("what is beside the server's own is taken for it")
	}
}
