package store_test

import (
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// AUTHZ-13: the audit trail says by what somebody was refused, to who may see all of
// it.
func TestTheTrailSaysWhatARefusalFailedBy(t *testing.T) {
	d := openDoor(t)
	const slug = "failed-by"
	d.governed(t, slug)
	d.put(t, slug, "Patient/p", `{"resourceType":"Patient","id":"p"}`)
	d.put(t, slug, "Patient/v", `{"resourceType":"Patient","id":"v","meta":{"security":[{"code":"V"}]}}`)
	for _, p := range []string{"p", "v"} {
		d.put(t, slug, "CareTeam/"+p, `{"resourceType":"CareTeam","id":"%s","status":"active","subject":{"reference":"Patient/%s"},"participant":[{"member":{"reference":"Practitioner/us"}}]}`, p, p)
		d.put(t, slug, "Encounter/"+p, `{"resourceType":"Encounter","id":"%s","status":"in-progress","class":{"code":"x"},"subject":{"reference":"Patient/%s"},"location":[{"location":{"reference":"Location/w"}}]}`, p, p)
	}
	d.put(t, slug, "Consent/k", `{"resourceType":"Consent","id":"k","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],
		"patient":{"reference":"Patient/p"},"provision":{"type":"permit","provision":[{"type":"deny","purpose":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"HRESCH"}]}]}}`)
	clinic, _ := smart.Profile("clinic")
	d.choose(t, slug, clinic)
	nurse := func(facility, at string, shift int64) smart.Person {
		return smart.Person{Roles: []string{"nurse"}, Facilities: []string{facility}, Location: at, ShiftEnd: shift}
	}
	const shift = 1 << 40
	for _, tt := range []struct {
		user, patient, purpose string
		person                 smart.Person
		want                   string
	}{
		{"us", "p", "TREAT", nurse("w", "w", shift), ""},
		{"us", "p", "TREAT", nurse("w", "w", 1), "shift"},
		{"us", "p", "TREAT", nurse("x", "w", shift), "facility"},
		{"us", "p", "TREAT", nurse("x", "x", shift), "location"},
		{"them", "p", "TREAT", nurse("w", "w", shift), "care-team"},
		{"them", "p", "TREAT", nurse("x", "x", shift), "care-team location"},
		{"us", "v", "TREAT", nurse("w", "w", shift), "label"},
		{"us", "p", "HRESCH", nurse("w", "w", shift), "consent"},
		{"them", "p", "TREAT", smart.Person{Roles: []string{"physician"}}, "care-team encounter-staff general-practitioner"},
		{"them", "p", "TREAT", smart.Person{Roles: []string{"laboratory"}}, "type"},
		{"them", "p", "TREAT", smart.Person{}, "role"},
	} {
		g := d.as(t, slug, smart.Token{Scope: "user/*.cruds", Client: "app", User: "Practitioner/" + tt.user, Purpose: tt.purpose, Person: tt.person})
		_, err := d.db.Read(t.Context(), g, fhir.Ref{Type: "Patient", ID: tt.patient})
		if (err == nil) != (tt.want == "") {
			t.Fatalf("%+v: %v", tt, err)
		}
		auditor := d.as(t, slug, smart.Token{Scope: "user/*.rs", Client: "app", User: "Practitioner/a", Person: smart.Person{Roles: []string{"auditor"}}})
		if got := d.trail(t, auditor, "patient="+tt.patient+"&_count=1")[0]; got.Failed != tt.want {
			t.Errorf("%s at %+v on %s: failed by %q, want %q", tt.user, tt.person, tt.patient, got.Failed, tt.want)
		}
		own := d.as(t, slug, smart.Token{Scope: "patient/*.rs", Client: "app", User: "Patient/" + tt.patient, Patient: tt.patient})
		for _, e := range d.trail(t, own, "patient="+tt.patient+"&_count=1") {
			if e.Failed != "" {
				t.Errorf("the patient sees what others fail by: %q", e.Failed)
			}
		}
	}
	g := d.as(t, slug, smart.Token{Scope: "user/*.cruds", Client: "app", User: "Practitioner/us", Person: nurse("x", "x", shift)})
	err := d.db.Update(t.Context(), g, func(tx *store.Tx) error {
		_, _, err := tx.Put(t.Context(), fhir.Ref{Type: "Patient", ID: "p"}, document(t, `{"resourceType":"Patient","id":"p","active":true}`), 0)
		return err
	})
	if !fhir.IsCode(err, fhir.NotFound) {
		t.Fatal(err)
	}
	auditor := d.as(t, slug, smart.Token{Scope: "user/*.rs", Client: "app", User: "Practitioner/a", Person: smart.Person{Roles: []string{"auditor"}}})
	if got := d.trail(t, auditor, "patient=p&_count=1")[0]; got.Interaction != fhir.Update || got.Failed != "location" {
		t.Errorf("a write: %s failed by %q", got.Interaction, got.Failed)
	}
}
