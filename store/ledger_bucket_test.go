package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/store/blob"
	"github.com/cordon-fhir/cordon/store/blob/s3test"
	"github.com/cordon-fhir/cordon/tenant"
)

// inBucket has the trail keep its checkpoints in the bucket.
func (r *trailTest) inBucket(t *testing.T, cfg blob.S3Config) (*ledger.Bucket, *blob.S3) {
	t.Helper()
	s, err := blob.OpenS3(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	vault := ledger.NewBucket(s)
	r.open(t, vault)
	return vault, s
}

// AUD-04: a bucket is a vault as a directory is. What is removed from it or
// replaced in it is missed, and in a bucket with locks is still there.
func TestABucketIsAVault(t *testing.T) {
	server := s3test.Start(t)
	for name, locked := range map[string]bool{"plain": false, "locked": true} {
		t.Run(name, func(t *testing.T) {
			r := newTrail(t, tenant.Schema)
			cfg := server.Bucket(t, name, locked)
			cfg.URL += "/audit"
			r.inBucket(t, cfg)
			server.Fail(&s3test.Fault{Method: "PUT", Status: 507, Times: 1})
			r.record(t, 2)
			r.sequence(t)
			if err := r.Checkpoint(t.Context(), r.tenant); err == nil {
				t.Error("a checkpoint was signed that is not kept")
			}
			server.Fail(nil)
			r.log(t)
			r.logged(t, 3)
			vault, s := r.inBucket(t, cfg) // another server
			r.logged(t, 1)
			verify := func(want ...ledger.Kind) {
				t.Helper()
				faults, report := r.verifyBy(t, vault.Kept(t.Context()), r.key(t))
				if got := kinds(faults); len(want) == 0 && len(got) > 0 || len(want) > 0 && !slices.Contains(want, got[0]) || report.Leaves < 6 {
					t.Errorf("found %v in %+v, want one of %v", faults, report, want)
				}
			}
			verify()
			last, err := vault.Last(t.Context(), ledger.Origin(r.slug))
			if err != nil {
				t.Fatal(err)
			}
			names, err := s.List(t.Context(), r.slug+"/", "")
			if err != nil || len(names) != 6 {
				t.Fatalf("%v, %v", names, err)
			}
			if text, err := s.Get(t.Context(), names[len(names)-1]); err != nil || string(text) != string(last) {
				t.Errorf("the last is %q, %v", text, err)
			}
			if err := s.Put(t.Context(), names[0], []byte("x")); err != nil {
				t.Fatal(err)
			}
			for _, name := range names[1:] {
				if err := s.Remove(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
			r.clock += time.Hour
			if locked {
				verify()
			} else {
				verify(ledger.Rewritten, ledger.Unverified, ledger.Gap, ledger.Stale)
			}
		})
	}
}
