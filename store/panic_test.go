package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// TestAPanicGivesTheConnectionBack holds that work that panics keeps neither a
// connection nor a lock, in a DB that has two connections.
func TestAPanicGivesTheConnectionBack(t *testing.T) { // T018
	d := openDoor(t)
	db, err := store.Open(t.Context(), store.Config{
		DatabaseURL: d.URLs.App, AuditURL: d.URLs.Audit, Keys: d.Keyring, Platform: d.Registry,
		MaxConns: 2, Wait: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	d.db = db
	for i, slug := range []string{storetest.A1, storetest.S1, storetest.A1, storetest.S1} {
		ref := fhir.Ref{Type: "Patient", ID: fmt.Sprintf("panic%d", i)}
		d.put(t, slug, ref.String(), `{"resourceType":"Patient","id":"%s"}`, ref.ID)
		panics(t, func() {
			db.View(t.Context(), d.grant(t, slug, everything), func(v *store.View) error {
				if _, err := v.Read(t.Context(), ref); err != nil {
					t.Error(err)
				}
				panic("in a View")
			})
		})
		panics(t, func() {
			db.Update(t.Context(), d.grant(t, slug, everything), func(tx *store.Tx) error {
				if _, _, err := tx.Put(t.Context(), ref, document(t, `{"resourceType":"Patient","id":"%s","active":true}`, ref.ID), 0); err != nil {
					t.Error(err)
				}
				panic("in an Update")
			})
		})
		if got := d.put(t, slug, ref.String(), `{"resourceType":"Patient","id":"%s"}`, ref.ID); got.Version != 2 {
			t.Errorf("%s: what panicked was kept: version %d", slug, got.Version)
		}
	}
}

func panics(t *testing.T, fn func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("the panic did not come through")
		}
	}()
	fn()
}
