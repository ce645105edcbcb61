package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
)

// AUTHZ-12: what a policy and the consents of a patient ask about a resource is
// read with it.
func TestAReadUnderAPolicyIsOneStatement(t *testing.T) {
	d := openDoor(t)
	const slug = "one-statement"
	d.governed(t, slug)
	clinic, _ := smart.Profile("clinic")
	d.put(t, slug, "Patient/p", `{"resourceType":"Patient","id":"p"}`)
	d.put(t, slug, "CareTeam/c", `{"resourceType":"CareTeam","id":"c","status":"active","subject":{"reference":"Patient/p"},"participant":[{"member":{"reference":"Practitioner/us"}}]}`)
	d.put(t, slug, "Encounter/e", `{"resourceType":"Encounter","id":"e","status":"in-progress","class":{"code":"x"},"subject":{"reference":"Patient/p"},"location":[{"location":{"reference":"Location/w"}}]}`)
	d.put(t, slug, "Observation/o", `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"},"encounter":{"reference":"Encounter/e"}}`)
	for _, consents := range []bool{false, true} {
		if consents {
			scopes, _ := smart.Profile("scopes")
			d.choose(t, slug, scopes)
			d.put(t, slug, "Consent/k", `{"resourceType":"Consent","id":"k","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],
				"patient":{"reference":"Patient/p"},"provision":{"type":"permit"}}`)
		}
		d.choose(t, slug, clinic)
		for _, role := range []string{"nurse", "physician"} {
			for _, ref := range []fhir.Ref{{Type: "Patient", ID: "p"}, {Type: "Observation", ID: "o"}, {Type: "Encounter", ID: "e"}} {
				token := smart.Token{Scope: "user/*.rs", Client: "tester", User: "Practitioner/us",
					Person: smart.Person{Roles: []string{role}, Facilities: []string{"w"}, Location: "w", ShiftEnd: 1 << 40}}
				read := func(by func(*smart.Grant) error) {
					t.Helper()
					if err := by(d.as(t, slug, token)); err != nil {
						t.Errorf("%s, %s, with consents %v: %v", role, ref, consents, err)
					}
				}
				read(func(g *smart.Grant) error { // which may find out that there are consents
					_, err := d.db.Read(t.Context(), g, ref)
					return err
				})
				read(func(g *smart.Grant) error { return d.db.ReadOnce(t.Context(), g, ref) })
			}
		}
	}
}

// AUTHZ-11, AUTHZ-12: what is kept beside a resource says what to ask early, and
// decides nothing: were it wrong, or not there, all would be decided the same.
func TestWhatIsKeptBesideAResourceDecidesNothing(t *testing.T) {
	d := openDoor(t)
	const slug = "beside-random"
	d.governed(t, slug)
	all := d.world(t, slug)
	x := d.Tenant(t, slug)
	conn := database(t, d.Fixture, x)
	for i := range 8 {
		one := trials.Example(i + 300)
		d.choose(t, slug, one.policy)
		w := newWorld(t, search.Schema{Base: base(slug)}, slices.Concat(all, d.consents(t, slug, i)))
		for _, spoil := range []string{
			`UPDATE %s.resource SET about = NULL, encounter = NULL WHERE tenant_id = $1 AND $2::int >= 0 AND $3 <> 0`,
			`UPDATE %s.resource r
			 SET about = (SELECT o.rid FROM %[1]s.resource o WHERE o.type = $3 ORDER BY md5((o.rid # r.rid)::text || $2::int) LIMIT 1),
			     encounter = (SELECT o.rid FROM %[1]s.resource o ORDER BY md5((o.rid # r.rid)::text || $2::int) LIMIT 1)
			 WHERE tenant_id = $1`,
		} {
			if _, err := conn.Exec(t.Context(), fmt.Sprintf(spoil, x.Placement.Schema), x.ID.Int(), i, fhir.Type("Patient").Number()); err != nil {
				t.Fatal(err)
			}
			for _, on := range []fhir.Type{"Patient", "Encounter", "Observation", "Task"} {
				d.agree(t, slug, w, one, on, slices.DeleteFunc(refsOf(all), func(r fhir.Ref) bool { return r.Type != on }))
			}
		}
	}
}
