package store_test

import (
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// S-15: a reference to the server's own base URL is one to the resource.
func TestAReferenceToTheOwnBaseIsARelativeOne(t *testing.T) {
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		all := func() *smart.Grant { return d.grant(t, slug, everything) }
		patient, id := store.NewID(), store.NewID()
		put := func(db *store.DB, json string, args ...any) {
			t.Helper()
			doc := document(t, json, args...)
			err := db.Update(t.Context(), all(), func(tx *store.Tx) error {
				_, _, err := tx.Put(t.Context(), fhir.Ref{Type: doc.Type, ID: doc.ID}, doc, 0)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		const about = `{"resourceType":"Observation","id":%q,"status":%q,"code":{"coding":[{"system":"s","code":"c"}]},"subject":{"reference":"%s/Patient/%s"}}`
		put(d.DB, `{"resourceType":"Patient","id":%q,"name":[{"family":"Absolute"}]}`, patient)
		put(d.DB, about, id, "final", base(slug), patient)
		finds := func(db *store.DB, g *smart.Grant, on fhir.Type, query string, want ...fhir.Type) {
			t.Helper()
			params, _ := search.ParseQuery(query)
			q, err := search.Parse(on, params, search.Options{Base: base(slug)})
			if err != nil {
				t.Fatal(err)
			}
			var page *store.Page
			err = db.View(t.Context(), g, func(v *store.View) (err error) {
				page, err = v.Search(t.Context(), q)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			var got []fhir.Type
			for _, r := range append(page.Matches, page.Included...) {
				got = append(got, r.Ref.Type)
			}
			if len(got) != len(want) || len(got) > 1 && got[1] != want[1] {
				t.Errorf("%s?%s finds %v, want %v", on, query, got, want)
			}
		}
		for _, query := range []string{
			"patient=" + patient, "patient=Patient/" + patient, "patient=" + base(slug) + "/Patient/" + patient, "patient=" + patient + "&code=s|c",
			"subject:Patient.family=absolute&_id=" + id, "subject:Patient._id=" + patient,
		} {
			finds(d.DB, all(), "Observation", query, "Observation")
		}
		finds(d.DB, all(), "Observation", "_id="+id+"&_include=Observation:subject", "Observation", "Patient")
		finds(d.DB, all(), "Patient", "_id="+patient+"&_has:Observation:subject:code=c&_revinclude=Observation:subject", "Patient", "Observation")
		finds(d.DB, d.as(t, slug, smart.Token{Client: "tester", Scope: "patient/*.rs", Patient: patient}), "Observation", "", "Observation")
		finds(d.DB, all(), "Observation", "patient=https://elsewhere.test/fhir/"+slug+"/Patient/"+patient)

		// The server moves: what was its own base URL is another's now, and
		// back. What is stored in between leaves nothing behind.
		moved, err := store.Open(t.Context(), store.Config{
			DatabaseURL: d.URLs.App, AuditURL: d.URLs.Audit, Keys: d.Keyring, Platform: d.Registry,
			Base: func(slug string) string { return "https://moved.test/fhir/" + slug },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer moved.Close()
		relative := "patient=Patient/" + patient
		put(moved, about, id, "amended", base(slug), patient)
		finds(moved, all(), "Observation", relative)
		put(d.DB, about, id, "corrected", base(slug), patient)
		finds(d.DB, all(), "Observation", relative, "Observation")
		put(moved, about, id, "final", "https://moved.test/fhir/"+slug, patient)
		finds(moved, all(), "Observation", relative, "Observation")
		put(d.DB, about, id, "final", "https://moved.test/fhir/"+slug, patient)
		finds(d.DB, all(), "Observation", relative)
	})
}
