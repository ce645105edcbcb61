package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cordon-fhir/cordon/store/blob"
	"github.com/cordon-fhir/cordon/store/blob/s3test"
)

// stores returns each kind of Store there is, and the server of the one in a bucket.
func stores(t *testing.T) (*s3test.Server, map[string]blob.Store) {
	t.Helper()
	dir, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server := s3test.Start(t)
	cfg := server.Bucket(t, "files", false)
	cfg.URL += "/of/cordon/"
	return server, map[string]blob.Store{"directory": dir, "bucket": open(t, cfg)}
}

func open(t *testing.T, cfg blob.S3Config) *blob.S3 {
	t.Helper()
	s, err := blob.OpenS3(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(ctx context.Context, s blob.Store, name string, offset, n int64) ([]byte, error) {
	r, err := s.Open(ctx, name, offset, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestAnObjectIsReadAsItWasWritten(t *testing.T) {
	_, all := stores(t)
	for kind, s := range all {
		t.Run(kind, func(t *testing.T) {
			ctx := t.Context()
			content := make([]byte, 3<<20)
			random := rand.NewChaCha8([32]byte{1})
			random.Read(content)
			const name = "0198-a/job-1/file-1"
			if _, err := read(ctx, s, name, 0, 10); !errors.Is(err, blob.ErrAbsent) {
				t.Errorf("before it is there: %v", err)
			}
			if err := s.Remove(ctx, name); err != nil {
				t.Errorf("removing what is not there: %v", err)
			}
			if err := s.Put(ctx, name, content); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				from := rand.Int64N(int64(len(content)))
				n := 1 + rand.Int64N(int64(len(content))-from)
				got, err := read(ctx, s, name, from, n)
				if err != nil || !bytes.Equal(got, content[from:from+n]) {
					t.Fatalf("%d bytes from %d: %d bytes, %v", n, from, len(got), err)
				}
			}
			if err := s.Put(ctx, name, []byte("another")); err != nil {
				t.Fatal(err)
			}
			if got, err := read(ctx, s, name, 0, 7); string(got) != "another" || err != nil {
				t.Errorf("written again: %q, %v", got, err)
			}
			if err := s.Remove(ctx, name); err != nil {
				t.Fatal(err)
			}
			if _, err := read(ctx, s, name, 0, 7); !errors.Is(err, blob.ErrAbsent) {
				t.Errorf("removed: %v", err)
			}
		})
	}
}

// AUD-04
func TestOfAllWhoWriteANewObjectOneDoes(t *testing.T) {
	s := open(t, s3test.Start(t).Bucket(t, "checkpoints", false))
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { errs[i] = s.PutNew(t.Context(), "log/1.checkpoint", fmt.Append(nil, i)) })
	}
	wg.Wait()
	winner := slices.Index(errs, nil)
	for i, err := range errs {
		if i != winner && !errors.Is(err, blob.ErrExists) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if got, err := s.Get(t.Context(), "log/1.checkpoint"); err != nil || string(got) != fmt.Sprint(winner) {
		t.Errorf("got %q, %v; %d has written", got, err, winner)
	}
	for _, name := range []string{"log/2.checkpoint", "other/1.checkpoint"} {
		if err := s.PutNew(t.Context(), name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.List(t.Context(), "log/", ""); err != nil || !slices.Equal(got, []string{"log/1.checkpoint", "log/2.checkpoint"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := s.Get(t.Context(), "log/3.checkpoint"); !errors.Is(err, blob.ErrAbsent) {
		t.Errorf("got %v", err)
	}
}

// F033: what fails for a moment is asked again, what fails for longer is told,
// and nothing is half there.
func TestAnObjectStoreThatFailsLosesNothing(t *testing.T) {
	server, all := stores(t)
	s, ctx := all["bucket"], t.Context()
	for name, fault := range map[string]*s3test.Fault{
		"busy":         {Status: 503, Times: 2},
		"cut":          {Times: 1},
		"cut after it": {Method: "PUT", After: true, Times: 1},
	} {
		server.Fail(fault)
		if err := s.Put(ctx, "a/"+name[:3], []byte(name)); err != nil || fault.Seen() == 0 {
			t.Errorf("%s: %v, after %d faults", name, err, fault.Seen())
		}
		server.Fail(nil)
		if got, err := read(ctx, s, "a/"+name[:3], 0, int64(len(name))); string(got) != name || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	server.Fail(&s3test.Fault{Method: "PUT", Status: 507})
	if err := s.Put(ctx, "a/full", []byte("x")); err == nil {
		t.Error("a full store took an object")
	}
	server.Fail(&s3test.Fault{Method: "PUT", Status: 200})
	if err := s.Put(ctx, "a/full", []byte("x")); err == nil {
		t.Error("a store that says it has an object was believed")
	}
	server.Fail(&s3test.Fault{Method: "GET", Status: 500})
	if _, err := read(ctx, s, "a/cut", 0, 3); err == nil || errors.Is(err, blob.ErrAbsent) {
		t.Errorf("a store that fails: %v", err)
	}
	server.Fail(nil)
	if _, err := read(ctx, s, "a/full", 0, 1); !errors.Is(err, blob.ErrAbsent) {
		t.Errorf("got %v", err)
	}
}

// AUD-04: a name can be taken before what takes it can be read.
func TestWhoWritesANewObjectWaitsUntilItIsThere(t *testing.T) {
	server := s3test.Start(t)
	s := open(t, server.Bucket(t, "checkpoints", false))
	for name, fault := range map[string]*s3test.Fault{
		"taken":    {Method: "PUT", Status: 412, Times: 2},
		"conflict": {Method: "PUT", Status: 409, Times: 1},
	} {
		server.Fail(fault)
		if err := s.PutNew(t.Context(), name, []byte(name)); err != nil || fault.Seen() == 0 {
			t.Errorf("%s: %v, after %d faults", name, err, fault.Seen())
		}
		server.Fail(nil)
		if got, err := s.Get(t.Context(), name); string(got) != name || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	server.Fail(&s3test.Fault{Method: "PUT", Status: 412})
	if err := s.PutNew(t.Context(), "never", nil); err == nil || errors.Is(err, blob.ErrExists) {
		t.Errorf("what never comes: %v", err)
	}
}

func TestABucketIsSaidExactly(t *testing.T) {
	server := s3test.Start(t)
	good := server.Bucket(t, "files", false)
	for claim, change := range map[string]func(*blob.S3Config){
		"no bucket":        func(c *blob.S3Config) { c.URL = "s3://" },
		"another bucket":   func(c *blob.S3Config) { c.URL = "s3://others" },
		"no URL":           func(c *blob.S3Config) { c.URL = "files" },
		"no origin":        func(c *blob.S3Config) { c.Endpoint = "127.0.0.1" },
		"a path":           func(c *blob.S3Config) { c.Endpoint += "/files" },
		"another protocol": func(c *blob.S3Config) { c.Endpoint = "ftp://127.0.0.1" },
		"another secret":   func(c *blob.S3Config) { c.SecretKey = "x" },
		"nobody's key":     func(c *blob.S3Config) { c.AccessKey = "x" },
		"nobody listening": func(c *blob.S3Config) { c.Endpoint = "http://127.0.0.1:1" },
	} {
		cfg := good
		change(&cfg)
		if _, err := blob.OpenS3(t.Context(), cfg); err == nil {
			t.Errorf("%s: it was opened", claim)
		}
	}
}

func TestABucketSaysWhetherItKeepsVersions(t *testing.T) {
	server := s3test.Start(t)
	for name, want := range map[string]bool{"plain": false, "locked": true} {
		if s := open(t, server.Bucket(t, name, want)); s.Keeps != want {
			t.Errorf("%s: %t", name, s.Keeps)
		}
	}
}

// AUD-04: who may do everything with a bucket with locks cannot take away what
// was put there first.
func TestABucketWithLocksHasWhatWasPutThereFirst(t *testing.T) {
	s, ctx := open(t, s3test.Start(t).Bucket(t, "locked", true)), t.Context()
	for name, later := range map[string]func() error{
		"log/1": func() error { return s.Remove(ctx, "log/1") },
		"log/2": func() error { return s.Put(ctx, "log/2", []byte("another")) },
	} {
		if err := errors.Join(s.PutNew(ctx, name, []byte(name)), later()); err != nil {
			t.Fatal(err)
		}
	}
	names, err := s.Originals(ctx, "log/")
	if err != nil || !slices.Equal(names, []string{"log/1", "log/2"}) {
		t.Fatalf("got %v, %v", names, err)
	}
	for _, name := range names {
		if got, err := s.GetOriginal(ctx, name); err != nil || string(got) != name {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if _, err := s.GetOriginal(ctx, "log/"); !errors.Is(err, blob.ErrAbsent) {
		t.Errorf("got %v", err)
	}
}

func TestABucketIsListedFromANameOn(t *testing.T) {
	s, ctx := open(t, s3test.Start(t).Bucket(t, "listed", false)), t.Context()
	for _, name := range []string{"a/1/x", "a/1/y", "a/2/x", "b/3/x"} {
		if err := errors.Join(s.PutNew(ctx, name, []byte(name)), s.PutNew(ctx, name, []byte(name))); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.List(ctx, "a/", "a/1/x"); err != nil || !slices.Equal(got, []string{"a/1/y", "a/2/x"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := s.Folders(ctx, "a/"); err != nil || !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("got %v, %v", got, err)
	}
}
