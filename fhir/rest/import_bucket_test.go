package rest

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store/blob/s3test"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// BULK-08, T168: an upload into a bucket is refused while its server fails, and can be
// sent again; nothing of it can be read there, and nothing stays.
func TestAnImportBearsTheFaultsOfItsObjectStore(t *testing.T) {
	const slug, canary = storetest.S1, "Quetzalcoatlus"
	a, faults, bucket := newBucketAPI(t)
	a.busy(t) // it is worked on below
	_, s := other(t, func(c *Config) { c.DB = a.handler.(*server).DB })
	on, c, id := a.Tenant(t, slug), a.client(t, slug, importer), fresh()
	where := c.kickImport(importing("upsert", "Patient in.ndjson"))
	faults.Fail(&s3test.Fault{Method: "PUT", Status: 507})
	c.upload(503, where, 1, lined(patient(id, canary)))
	faults.Fail(nil)
	c.upload(200, where, 1, lined(patient(id, canary), "nonsense "+canary))
	for _, name := range objectsIn(t, bucket) {
		content, err := bucket.Get(t.Context(), name)
		if err != nil || strings.Contains(string(content), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.work(took(t, s, on), on); err != nil {
		t.Fatal(err)
	}
	m := c.imported(where)
	if faults := c.faults(m); m.Output[0].Count != 1 || len(faults) != 1 {
		t.Errorf("%+v %q", m, faults)
	}
	c.must(202, "DELETE", where, "")
	if left := objectsIn(t, bucket); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}
