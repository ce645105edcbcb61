package store_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

const benchObservation = `{"resourceType":"Observation","id":"%s","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"vital-signs"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"8302-2","display":"Body Height"}],"text":"Body Height"},"subject":{"reference":"Patient/bench"},"encounter":{"reference":"Encounter/bench"},"effectiveDateTime":"2016-08-07T06:39:08-04:00","issued":"2016-08-07T06:39:08.456-04:00","valueQuantity":{"value":183.3,"unit":"cm","system":"http://unitsofmeasure.org","code":"cm"}}`

func BenchmarkRead(b *testing.B) {
	d := openDoor(b)
	ref := fhir.Ref{Type: "Observation", ID: "bench"}
	d.put(b, storetest.A1, ref.String(), benchObservation, "bench")
	b.ReportAllocs()
	g := d.grant(b, storetest.A1, everything)
	for b.Loop() {
		if _, err := d.db.Read(context.Background(), g.Entry(), ref); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	d := openDoor(b)
	doc := document(b, benchObservation, "bench")
	g := d.grant(b, storetest.A1, everything)
	b.ReportAllocs()
	for b.Loop() {
		err := d.db.Update(context.Background(), g.Entry(), func(tx *store.Tx) error {
			_, err := tx.Create(context.Background(), "", doc)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	d := openDoor(b)
	for i := range 50 {
		id := fmt.Sprintf("bs%d", i)
		d.put(b, storetest.A1, "Observation/"+id, benchObservation, id)
	}
	params, _ := search.ParseQuery("patient=bench&code=http://loinc.org|8302-2&_count=1")
	g := d.grant(b, storetest.A1, everything)
	b.ReportAllocs()
	for b.Loop() {
		q, err := search.Parse("Observation", params, search.Options{})
		if err != nil {
			b.Fatal(err)
		}
		err = d.db.View(context.Background(), g.Entry(), func(v *store.View) error {
			_, err := v.Search(context.Background(), q)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

const benchConsent = `{"resourceType":"Consent","id":"bc","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],"patient":{"reference":"Patient/%s"},"policyRule":{"coding":[{"code":"OPTIN"}]},"provision":{"provision":[{"type":"deny","securityLabel":[{"code":"PSY"}]}]}}`

// BenchmarkConsent reads and searches with a consent in force: of somebody else,
// and of the patient.
func BenchmarkConsent(b *testing.B) {
	d := openDoor(b)
	for i := range 50 {
		id := fmt.Sprintf("bc%d", i)
		d.put(b, storetest.A1, "Observation/"+id, benchObservation, id)
	}
	params, _ := search.ParseQuery("patient=bench&code=http://loinc.org|8302-2&_count=1")
	g := d.grant(b, storetest.A1, everything)
	for _, of := range []string{"other", "bench"} {
		d.put(b, storetest.A1, "Consent/bc", benchConsent, of)
		b.Run("read/of "+of, func(b *testing.B) {
			for b.Loop() {
				if _, err := d.db.Read(context.Background(), g.Entry(), fhir.Ref{Type: "Observation", ID: "bc0"}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("search/of "+of, func(b *testing.B) {
			for b.Loop() {
				q, err := search.Parse("Observation", params, search.Options{})
				if err != nil {
					b.Fatal(err)
				}
				err = d.db.View(context.Background(), g.Entry(), func(v *store.View) error {
					_, err := v.Search(context.Background(), q)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
