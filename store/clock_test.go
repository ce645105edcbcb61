package store_test

import (
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// AUD-07: who records and writes under a wrong time does not write; it goes on once
// the clock is right. What it refuses is in the audit trail as anything else.
func TestAServerWhoseClockIsOffDoesNotWrite(t *testing.T) {
	d := openDoor(t)
	registry, err := store.OpenRegistry(t.Context(), d.URLs.Registry, d.KMS)
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close()
	var seen heard
	db, err := store.Open(t.Context(), store.Config{
		DatabaseURL: d.URLs.App, AuditURL: d.URLs.Audit, Keys: d.Keyring, Platform: registry, Packages: registry, Base: base, Watch: &seen,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	write := func(slug string) error {
		return db.Update(t.Context(), d.grant(t, slug, everything), func(tx *store.Tx) error {
			_, err := tx.Create(t.Context(), "", document(t, `{"resourceType":"Basic","code":{"text":"x"}}`))
			return err
		})
	}
	for _, off := range []time.Duration{0, 300 * time.Millisecond, -time.Minute, time.Minute, -24 * time.Hour, 0} {
		registry.SetClock(func() time.Time { return time.Now().Add(off) })
		if _, _, err := registry.RevokedSince(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		wrong := off.Abs() > time.Second
		for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
			if err := write(slug); fhir.IsCode(err, fhir.Transient) != wrong || err != nil != wrong {
				t.Errorf("the clock is off by %s: a write is %v", off, err)
			}
			if e := seen.last; e == nil || e.Interaction != fhir.Create || (e.Outcome != audit.Success) != wrong {
				t.Errorf("the clock is off by %s: the trail says %+v", off, e)
			}
			seen.last = nil
			if err := db.View(t.Context(), d.grant(t, slug, everything), func(*store.View) error { return nil }); err != nil {
				t.Errorf("the clock is off by %s: a read is %v", off, err)
			}
		}
		if err := registry.CheckClock(t.Context()); (err != nil) != wrong {
			t.Errorf("the clock is off by %s: the check says %v", off, err)
		}
	}
}

// heard keeps the last entry of an audit trail that was written.
type heard struct{ last *audit.Entry }

func (h *heard) Entries(_ *tenant.Tenant, list []*audit.Entry) { h.last = list[len(list)-1] }

func (h *heard) NotAudited(*tenant.Tenant) {}
