package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// BULK-08: lines of an import are taken once, by who has taken the import up.
func TestLinesOfAnImportAreTakenOnce(t *testing.T) {
	d := openDoor(t)
	ctx, on := t.Context(), d.Tenant(t, storetest.S2)
	grant := d.grant(t, storetest.S2, everything)
	job, err := d.DB.Defer(ctx, grant, audit.Entry{Interaction: fhir.Operation}, []byte("an import"), time.Minute, store.Import, store.ImportInput{Type: "Patient"})
	if err != nil {
		t.Fatal(err)
	}
	if _, found, err := d.DB.TakeUp(ctx, on); found || err != nil {
		t.Fatal("an import is taken up whose input is not here", err)
	}
	up, err := d.DB.BeginUpload(ctx, grant, job.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Put(ctx, []byte("x"), 2, 1); err != nil {
		t.Fatal(err)
	}
	if begins, err := up.End(ctx); !begins || err != nil {
		t.Fatal(begins, err)
	}
	w, found, err := d.DB.TakeUp(ctx, on)
	if !found || err != nil {
		t.Fatal(err)
	}
	take := func(w store.Work, in store.ImportInput) (store.ImportInput, error) {
		b := &store.ImportBatch{Input: in, Lines: 1, Told: func(int64) bool { return false }}
		b.Store = func(tx *store.Tx) (stored, faulty int64, outcomes []byte, err error) {
			_, err = tx.Create(ctx, "", document(t, `{"resourceType":"Patient"}`))
			return 1, 0, nil, err
		}
		return d.DB.ImportLines(ctx, d.grant(t, storetest.S2, everything), w, b)
	}
	first := store.ImportInput{N: 1, Type: "Patient"}
	second, err := take(w, first)
	if err != nil || second.Lines != 1 || second.Stored != 1 {
		t.Fatal(second, err)
	}
	if _, err := take(w, first); !fhir.IsCode(err, fhir.Transient) {
		t.Errorf("a line was taken twice: %v", err)
	}
	if err := d.DB.PutBack(ctx, w); err != nil {
		t.Fatal(err)
	}
	if _, err := take(w, second); !fhir.IsCode(err, fhir.Transient) {
		t.Errorf("lines were taken by who had put the import back: %v", err)
	}
	w, _, err = d.DB.TakeUp(ctx, on)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := take(w, second); err != nil {
		t.Error(err)
	}
	x, err := d.DB.Importing(ctx, on, job.ID)
	if err != nil || len(x) != 1 || x[0].Lines != 2 || x[0].Stored != 2 || !strings.HasPrefix(x.Progress(), "2 lines") {
		t.Error(x, err)
	}
}
