package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// Whoever waits for others holds no connection meanwhile, and nothing of what
// was done before is left: it is done again.
func TestWaitingForOthersHoldsNoConnection(t *testing.T) {
	d := openDoor(t)
	db, err := store.Open(t.Context(), store.Config{
		DatabaseURL: d.URLs.App, AuditURL: d.URLs.Audit, Keys: d.Keyring, Platform: d.Registry,
		MaxConns: 2, Wait: time.Second, // of which one tenant may have one
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	d.db = db
	d.put(t, storetest.A1, "Patient/waits", `{"resourceType":"Patient","id":"waits"}`)
	ref := fhir.Ref{Type: "Patient", ID: "waits"}
	others := func(ctx context.Context) error {
		_, err := db.Read(ctx, d.grant(t, storetest.A1, everything), ref)
		return err
	}
	runs := 0
	err = db.View(t.Context(), d.grant(t, storetest.A1, everything), func(v *store.View) error {
		if _, err := v.Read(t.Context(), ref); err != nil {
			return err
		}
		if runs++; runs == 1 {
			return &store.Waiting{For: others}
		}
		return nil
	})
	if err != nil || runs != 2 {
		t.Errorf("a View: %d runs, %v", runs, err)
	}
	runs = 0
	err = db.Update(t.Context(), d.grant(t, storetest.A1, everything), func(tx *store.Tx) error {
		if _, err := tx.Read(t.Context(), ref); err != nil {
			return err
		}
		r, _, err := tx.Put(t.Context(), ref, document(t, `{"resourceType":"Patient","id":"waits","active":true}`), 0)
		if err != nil {
			return err
		}
		if r.Version != 2 {
			t.Errorf("what was given up was kept: version %d", r.Version)
		}
		if runs++; runs == 1 {
			return &store.Waiting{For: others}
		}
		return nil
	})
	if err != nil || runs != 2 {
		t.Errorf("an Update: %d runs, %v", runs, err)
	}
}

// Waiting has an end, and what goes wrong meanwhile is the answer.
func TestWaitingForOthersEnds(t *testing.T) {
	d := openDoor(t)
	failed := errors.New("the others failed")
	for want, reply := range map[error]error{failed: failed, nil: nil} {
		runs := 0
		err := d.db.Update(t.Context(), d.grant(t, storetest.A1, everything), func(*store.Tx) error {
			runs++
			return &store.Waiting{For: func(context.Context) error { return reply }}
		})
		if want != nil && !errors.Is(err, want) || want == nil && !fhir.IsCode(err, fhir.Transient) || runs > 10 {
			t.Errorf("%d runs: got %v, want %v", runs, err, want)
		}
	}
}
