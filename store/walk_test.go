package store_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// What a search reads for the records of a few patients does not grow with the
// number of others.
func TestOfFewPatientsOnlyTheirReferencesAreRead(t *testing.T) { // S-20
	const others = 4000 // with fewer the planner does right anyway
	d := openDoor(t)
	err := d.db.Update(t.Context(), d.grant(t, storetest.A1, everything), func(tx *store.Tx) error {
		for i := range others {
			r := document(t, `{"resourceType":"Observation","id":"walk%[1]d","status":"final","code":{"coding":[{"system":"s","code":"c%[1]d"}]},"subject":{"reference":"Patient/walk%[1]d"}}`, i)
			if _, err := tx.Create(t.Context(), r.ID, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d.put(t, storetest.A1, "Patient/walk399", `{"resourceType":"Patient","id":"walk399","name":[{"family":"Walker"}]}`)
	conn := database(t, d.Fixture, d.Tenant(t, storetest.A1))
	if _, err := conn.Exec(t.Context(), `VACUUM (ANALYZE)`); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"patient.family=walker": "Observation/walk399",
		"patient=walk7,walk8":   "Observation/walk7 Observation/walk8",
	} {
		before := refsRead(t, conn)
		again := &door{d.Fixture, openDB(t, d.Fixture), d.verifier}
		page := again.search(t, again.grant(t, storetest.A1, everything), "Observation", query)
		again.db.Close() // its sessions tell what they read when they end
		if got := sorted(ids(page.Matches)); got != want {
			t.Errorf("%s found %s", query, got)
		}
		after := before
		for range 500 {
			if after = refsRead(t, conn); after > before {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := after - before; n == 0 || n > 20 {
			t.Errorf("%s read %d references of %d", query, n, others)
		}
	}
}

// refsRead returns how many entries of the index of references were read by
// sessions that have ended.
func refsRead(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	return query[int](t, conn, `SELECT sum(idx_tup_read)::int FROM pg_stat_all_indexes WHERE indexrelname = 'idx_ref_pkey'`)[0]
}
