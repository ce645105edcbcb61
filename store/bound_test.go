package store_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestAnUpdateOfManyTermsIsNotQuadratic(t *testing.T) { // T219
	d := openDoor(t)
	var create time.Duration
	for _, code := range []string{"a", "b"} {
		var b strings.Builder
		for i := range 30_000 {
			fmt.Fprintf(&b, `,{"system":"http://example.org/many","code":"%s%d"}`, code, i)
		}
		begun := time.Now()
		d.put(t, storetest.A1, "Basic/many-terms", `{"resourceType":"Basic","id":"many-terms","code":{"coding":[%s]}}`, b.String()[1:])
		took := time.Since(begun)
		if create == 0 {
			create = took
			continue
		}
		if took > 4*create { // one by one it was seven times
			t.Errorf("the create took %v, the update %v", create, took)
		}
	}
	if got := ids(d.search(t, d.grant(t, storetest.A1, everything), "Basic", "code=a7").Matches); got != "" {
		t.Errorf("the old code finds %s", got)
	}
	if got := ids(d.search(t, d.grant(t, storetest.A1, everything), "Basic", "code=b7").Matches); got != "Basic/many-terms" {
		t.Errorf("the new code finds %q", got)
	}
}

// TestPagesOfLargeResourcesAreShort holds that no page takes memory without
// bound, and that all pages together still have everything once.
func TestPagesOfLargeResourcesAreShort(t *testing.T) { // T219 F052
	d := openDoor(t)
	const large = 12 << 20
	blank := strings.Repeat("A", large)
	for i := range 4 {
		d.put(t, storetest.A1, fmt.Sprintf("Binary/large%d", i), `{"resourceType":"Binary","id":"large%d","contentType":"x","data":"%s"}`, i, blank)
	}
	size := func(list []fhir.Resource) (n int) {
		for _, r := range list {
			n += len(r.Body)
		}
		return n
	}
	for _, order := range []string{"", "&_sort=_lastUpdated", "&_sort=_source"} {
		q := storetest.Query(t, "Binary", "_id=large0,large1,large2,large3&_count=10"+order)
		seen := ""
		for c := (store.Cursor{Page: 1}); ; {
			var page *store.Page
			err := d.db.View(t.Context(), d.grant(t, storetest.A1, everything), func(v *store.View) (err error) {
				page, err = v.SearchFrom(t.Context(), q, c)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if n := size(page.Matches); n > 3*large {
				t.Errorf("a page of %d bytes", n)
			}
			seen += " " + ids(page.Matches)
			if page.Next == "" {
				break
			}
			if c, err = d.db.OpenCursor(t.Context(), d.grant(t, storetest.A1, everything), page.Next); err != nil {
				t.Fatal(err)
			}
		}
		if got := sorted(seen); got != "Binary/large0 Binary/large1 Binary/large2 Binary/large3" {
			t.Errorf("%q: %s", order, got)
		}
	}
	var page *store.HistoryPage
	err := d.db.View(t.Context(), d.grant(t, storetest.A1, everything), func(v *store.View) (err error) {
		page, err = v.History(t.Context(), store.HistoryQuery{Ref: fhir.Ref{Type: "Binary"}, Count: 10})
		return err
	})
	if err != nil || size(page.Versions) > 3*large || page.Next == "" {
		t.Errorf("a history of %d bytes, next %q: %v", size(page.Versions), page.Next, err)
	}
}

// TestRevincludeFindsTheOwnRecordAmongManyOthers holds that what refers to the
// same resource and is hidden takes no room.
func TestRevincludeFindsTheOwnRecordAmongManyOthers(t *testing.T) { // T087
	d := openDoor(t)
	const format = `{"resourceType":"Observation","id":"%s","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%s"},` +
		`"performer":[{"reference":"Practitioner/busy"}],"effectiveDateTime":"%d-01-01"}`
	d.put(t, storetest.A1, "Practitioner/busy", `{"resourceType":"Practitioner","id":"busy"}`)
	d.put(t, storetest.A1, "Observation/busy-own", format, "busy-own", "busy-a", 1990)
	err := d.db.Update(t.Context(), d.grant(t, storetest.A1, everything), func(tx *store.Tx) error {
		for range 5100 {
			id := store.NewID()
			if _, err := tx.Create(t.Context(), id, document(t, format, id, "busy-b", 2020)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	g := d.as(t, storetest.A1, smart.Token{Scope: "patient/*.rs", Client: "tester", Patient: "busy-a"})
	page := d.search(t, g, "Practitioner", "_id=busy&_revinclude=Observation:performer")
	if got := ids(page.Included); got != "Observation/busy-own" {
		t.Errorf("included %q", got)
	}
}

// F051: one tenant's requests that wait for each other leave connections to
// the others, and the excess is told to come again.
func TestNoTenantHoldsAllConnections(t *testing.T) {
	f := storetest.New(t)
	db, err := store.Open(t.Context(), store.Config{
		DatabaseURL: f.URLs.App, AuditURL: f.URLs.Audit, Keys: f.Keyring, Platform: f.Registry, Base: storetest.Base,
		MaxConns: 4, Wait: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	d := openDoor(t)
	d.put(t, storetest.A2, "Patient/bystander", `{"resourceType":"Patient","id":"bystander"}`)

	holds, done := make(chan struct{}), make(chan struct{})
	var wait sync.WaitGroup
	lock := func(tx *store.Tx) error {
		return tx.Lock(t.Context(), fhir.Create, "Patient", "the same criteria")
	}
	first := f.Grant(t, storetest.A1, everything)
	wait.Go(func() {
		if err := db.Update(t.Context(), first, func(tx *store.Tx) error {
			err := lock(tx)
			close(holds)
			<-done
			return err
		}); err != nil {
			t.Error(err)
		}
	})
	<-holds
	var throttled atomic.Int32
	for range 8 {
		g := f.Grant(t, storetest.A1, everything)
		wait.Go(func() {
			err := db.Update(t.Context(), g, lock)
			if fhir.IsCode(err, fhir.Throttled) {
				throttled.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(100 * time.Millisecond) // they are all there
	for range 20 {
		if _, err := db.Read(t.Context(), f.Grant(t, storetest.A2, everything), fhir.Ref{Type: "Patient", ID: "bystander"}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(1200 * time.Millisecond) // longer than they wait for a connection
	close(done)
	wait.Wait()
	if n := throttled.Load(); n != 7 {
		t.Errorf("%d of 8 were told to come again, want 7: one has the second connection", n)
	}
}
