package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestTheHistoryOfATypeHidesThePastOfWhatIsHiddenNow(t *testing.T) { // T060 T061 T062
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		const format = `{"resourceType":"Basic","id":"%s","code":{"text":"x"},"subject":{"reference":"Patient/%s"}}`
		d.put(t, slug, "Basic/past-moved", format, "past-moved", "past-a")
		d.put(t, slug, "Basic/past-moved", format, "past-moved", "past-b") // it was the wrong record
		d.put(t, slug, "Basic/past-kept", format, "past-kept", "past-a")
		d.put(t, slug, "Basic/past-kept", format, "past-kept", "past-a")
		d.put(t, slug, "Basic/past-gone", format, "past-gone", "past-a")
		d.put(t, slug, "Basic/past-lost", format, "past-lost", "past-a")
		d.put(t, slug, "Basic/past-lost", format, "past-lost", "past-b")
		for _, id := range []string{"past-gone", "past-lost"} {
			err := d.db.Update(t.Context(), d.grant(t, slug, everything), func(tx *store.Tx) error {
				_, _, err := tx.Delete(t.Context(), fhir.Ref{Type: "Basic", ID: id}, 0)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, on := range []fhir.Type{"Basic", ""} {
			g := d.as(t, slug, smart.Token{Scope: "patient/Basic.rs", Client: "tester", Patient: "past-a"})
			var page *store.HistoryPage
			err := d.db.View(t.Context(), g, func(v *store.View) (err error) {
				page, err = v.History(t.Context(), store.HistoryQuery{Ref: fhir.Ref{Type: on}, Count: 50})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			want := "Basic/past-gone Basic/past-gone Basic/past-kept Basic/past-kept"
			if got := ids(page.Versions); sorted(got) != want {
				t.Errorf("history of %q: %s", on, got)
			}
		}
	})
}

func sorted(words string) string {
	list := strings.Fields(words)
	slices.Sort(list)
	return strings.Join(list, " ")
}

// entry returns the entry of the audit trail that g's request has, and those
// that are linked to it.
func (d *door) entry(t *testing.T, slug string, g *smart.Grant) (main audit.Entry, linked []audit.Entry) {
	t.Helper()
	var page *store.AuditPage
	err := d.db.View(t.Context(), d.grant(t, slug, "system/AuditEvent.rs"), func(v *store.View) (err error) {
		page, err = v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "_count=50"), store.Cursor{Page: 1})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		switch g.Origin().Trail.Seq {
		case e.Seq:
			main = e
		case e.Parent:
			linked = append(linked, e)
		}
	}
	return main, linked
}

func TestACountIsAuditedAsTheSearchThatItIs(t *testing.T) {
	d := openDoor(t)
	for scope, outcome := range map[string]audit.Outcome{everything: audit.Success, "system/Condition.rs": audit.Serious} {
		g := d.grant(t, storetest.A1, scope)
		d.db.View(t.Context(), g, func(v *store.View) error {
			_, err := v.Count(t.Context(), storetest.Query(t, "Patient", "family=counted"))
			return err
		})
		e, _ := d.entry(t, storetest.A1, g)
		if e.Interaction != fhir.SearchType || e.Type != "Patient" || e.Query != "family=counted" || e.Outcome != outcome {
			t.Errorf("%s: %+v", scope, e)
		}
	}
}

func TestWhatATransactionSearchesDoesNotNameIt(t *testing.T) {
	d := openDoor(t)
	g := d.grant(t, storetest.A1, everything)
	err := d.db.Transaction(t.Context(), g, func(tx *store.Tx) error {
		if _, err := tx.Search(t.Context(), storetest.Query(t, "Patient", "family=searched")); err != nil {
			return err
		}
		if _, err := tx.Count(t.Context(), storetest.Query(t, "Patient", "family=counted")); err != nil {
			return err
		}
		_, err := tx.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "action=R&date=ge2100"), store.Cursor{Page: 1})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e, linked := d.entry(t, storetest.A1, g)
	if e.Interaction != fhir.Transaction || e.Query != "" {
		t.Errorf("%+v", e)
	}
	var queries []string
	for _, l := range linked {
		queries = append(queries, l.Query)
	}
	slices.Sort(queries)
	if got := strings.Join(queries, " "); got != "action=R&date=ge2100 family=counted family=searched" {
		t.Errorf("linked entries of %q", got)
	}
}

func TestAPatientSeesWhoSearchedButNotWhatElseWasAsked(t *testing.T) { // T074
	d := openDoor(t)
	for _, id := range []string{"asked-a", "asked-b"} {
		d.put(t, storetest.A1, "Patient/"+id, `{"resourceType":"Patient","id":"%s"}`, id)
	}
	for _, order := range []string{"_id", "-_id"} { // each is named first once
		d.search(t, d.grant(t, storetest.A1, everything), "Patient", "_id=asked-a,asked-b&_sort="+order)
	}
	g := d.as(t, storetest.A1, smart.Token{Scope: "patient/AuditEvent.rs", Client: "tester", Patient: "asked-a"})
	var page *store.AuditPage
	err := d.db.View(t.Context(), g, func(v *store.View) (err error) {
		page, err = v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", ""), store.Cursor{Page: 1})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	searches := 0
	for _, e := range page.Entries {
		if e.Interaction == fhir.SearchType && e.Agent.Client == "tester" {
			searches++
		}
		if strings.Contains(e.Query, "asked-b") || e.Patient.ID == "asked-b" {
			t.Errorf("an entry names the other patient: %+v", e)
		}
	}
	if searches != 2 {
		t.Errorf("%d searches", searches)
	}
}

func TestAConditionalCreateThatFindsIsAuditedAsACreate(t *testing.T) {
	d := openDoor(t)
	d.put(t, storetest.A1, "Patient/found-a", `{"resourceType":"Patient","id":"found-a"}`)
	g := d.grant(t, storetest.A1, everything)
	err := d.db.Update(t.Context(), g, func(tx *store.Tx) error {
		_, err := tx.Found(t.Context(), fhir.Create, storetest.Query(t, "Patient", "_id=found-a"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e, _ := d.entry(t, storetest.A1, g)
	if e.Interaction != fhir.Create || e.Entity.String() != "Patient/found-a" || e.Version != 1 || e.Patient.ID != "found-a" {
		t.Errorf("%+v", e)
	}
}
