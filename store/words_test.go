package store_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// Errors of ours go to the log, where an id that a client chose may name a
// patient.
func TestErrorsOfOursDoNotHoldIds(t *testing.T) { // T260
	d := openDoor(t)
	ref := fhir.Ref{Type: "Patient", ID: "canary-mrn-4711"}
	d.put(t, storetest.A1, ref.String(), `{"resourceType":"Patient","id":"%s"}`, ref.ID)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	errs := map[string]error{}
	d.db.Update(t.Context(), d.grant(t, storetest.A1, everything), func(tx *store.Tx) error {
		if _, err := tx.Read(t.Context(), ref); err != nil { // so that there is a connection
			t.Error(err)
		}
		_, errs["read"] = tx.Read(gone, ref)
		_, errs["vread"] = tx.Vread(gone, ref, 2)
		_, errs["history"] = tx.History(gone, store.HistoryQuery{Ref: ref, Count: 1})
		_, _, errs["put"] = tx.Put(gone, ref, document(t, `{"resourceType":"Patient","id":"%s"}`, ref.ID), 0)
		_, errs["search"] = tx.Search(gone, storetest.Query(t, "Patient", "_id="+ref.ID))
		return nil
	})
	for name, err := range errs {
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
