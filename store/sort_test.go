package store_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// inOrder holds that pages of each size have what memory says, in that order.
func (d *door) inOrder(t *testing.T, w *world, grant func() *smart.Grant, on fhir.Type, sizes []int, queries ...string) {
	t.Helper()
	for _, query := range queries {
		params, _ := search.ParseQuery(query)
		q, err := search.Parse(on, params, search.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want, err := w.answer(t, grant(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range sizes {
			got, _, err := d.pages(t, grant, on, fmt.Sprintf("%s&_count=%d", query, size))
			if err != nil {
				t.Errorf("%s by %d: %v", query, size, err)
				continue
			}
			if diff := difference(got, want); diff != "" {
				t.Errorf("%s by %d:%s", query, size, diff)
			}
			for i := 1; i < len(got); i++ {
				if (ordered{q}).compare(w.byRef[got[i-1].Ref], w.byRef[got[i].Ref]) > 0 {
					t.Errorf("%s by %d: %s comes before %s", query, size, got[i-1].Ref, got[i].Ref)
					break
				}
			}
		}
	}
}

// S-40: dates and numbers are sorted along their index, however many match.
func TestSortingByDatesAndNumbersGoesAlongTheIndex(t *testing.T) {
	random := rand.New(rand.NewPCG(40, 0))
	var docs []*fhir.Document
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	for i := range 150 {
		docs = append(docs, document(t, `{"resourceType":"Observation","id":"o%d","status":%q,"code":{"text":"x"}%s%s%s}`, i, pick("final", "amended"),
			pick(``, fmt.Sprintf(`,"effectiveDateTime":"20%02d"`, 10+random.IntN(5)), `,"effectivePeriod":{"end":"2012"}`),
			pick(``, fmt.Sprintf(`,"valueQuantity":{"value":%d%s}`, random.IntN(9)-4, pick(``, `,"comparator":"<"`, `,"comparator":">"`)),
				fmt.Sprintf(`,"valueDateTime":"19%d"`, 90+random.IntN(5)), fmt.Sprintf(`,"valuePeriod":{"start":"199%d-01-01T00:00:00+01:00"}`, random.IntN(5)), `,"valuePeriod":{"end":"1990"}`),
			pick(``, fmt.Sprintf(`,"component":[{"code":{"text":"x"},"valueQuantity":{"value":%d}},{"code":{"text":"y"},"valueQuantity":{"value":%d}},{"code":{"text":"z"},"valueQuantity":{"value":2,"comparator":">"}}]`, random.IntN(5), random.IntN(5)))))
		docs = append(docs, document(t, `{"resourceType":"CarePlan","id":"c%d","status":"active","intent":"plan","subject":{"display":"x"}%s%s}`, i,
			pick(``, `,"period":{"start":"2020-01-02"}`, `,"period":{"start":"2021"}`),
			pick(``, fmt.Sprintf(`,"activity":[{"detail":{"status":"scheduled","scheduledPeriod":{"start":"202%d"}}},{"detail":{"status":"scheduled","scheduledPeriod":{"end":"2022"}}},{"detail":{"status":"scheduled","scheduledPeriod":{"start":"202%d-01-01"}}}]`, random.IntN(5), random.IntN(5)),
				`,"activity":[{"detail":{"status":"scheduled","scheduledPeriod":{"end":"2022"}}}]`)))
		docs = append(docs, document(t, `{"resourceType":"Condition","id":"d%d","subject":{"display":"x"}%s%s%s}`, i,
			pick(``, fmt.Sprintf(`,"onsetDateTime":"20%02d"`, 10+random.IntN(5)), `,"onsetPeriod":{"end":"2012"}`),
			pick(``, `,"recordedDate":"2011"`), pick(``, `,"abatementDateTime":"2020"`, `,"abatementDateTime":"2021"`)))
	}
	d := openDoor(t)
	d.db.SetFew(0)
	d.worlds(t, docs, func(t *testing.T, d *door, w *world, slug string) {
		grant := func() *smart.Grant { return d.grant(t, slug, everything) }
		sizes := []int{3, 50, 149, 200}
		d.inOrder(t, w, grant, "Observation", sizes, "_sort=value-quantity", "_sort=-value-quantity", "_sort=value-date", "_sort=-value-date",
			"_sort=component-value-quantity", "_sort=-component-value-quantity", "status=final&_sort=value-quantity", "value-quantity=gt0&_sort=-value-quantity", "value-quantity=gt0&_sort=value-date", "value-date=gt1900&_sort=value-quantity",
			"value-date=lt1993&_sort=value-date", "value-quantity:missing=true&_sort=-value-quantity", "component-value-quantity=1&_sort=component-value-quantity",
			"_sort=value-quantity,-date", "_sort=-value-quantity,status,date", "_sort=-date,value-quantity", "_sort=date,-value-date,_id", "_sort=status,-value-quantity",
			"_sort=value-date,value-quantity", "_sort=-_lastUpdated,date", "status:text=x&_sort=value-quantity", "_filter=status+ne+final&_sort=-value-quantity,date")
		d.inOrder(t, w, grant, "CarePlan", sizes, "_sort=activity-date", "_sort=-activity-date", "_sort=date,activity-date", "_sort=-activity-date,-date", "activity-date=ge2022&_sort=activity-date")
		d.inOrder(t, w, grant, "Condition", sizes, "_sort=onset-date", "_sort=-onset-date", "_sort=onset-date,-recorded-date", "_sort=-abatement-date,onset-date,recorded-date", "onset-date=gt2010&_sort=-onset-date")
	})
}

// S-40, AUTHZ-11: so they are for whom the policy asks of other resources what they
// may see.
func TestSortingGoesAlongTheIndexUnderAPolicyThatAsksOfOthers(t *testing.T) {
	d := openDoor(t)
	d.db.SetFew(0)
	const slug = "policy-sorts"
	d.governed(t, slug)
	d.choose(t, slug, `
		@id("gp") permit (principal is User, action in Action::"view", resource) when { resource.generalPractitioner.contains(principal.user) };
		@id("service") permit (principal is Client, action, resource);`)
	for i := range 6 {
		who := []string{"u", "v"}[i%2]
		d.put(t, slug, "Patient/"+who, `{"resourceType":"Patient","id":%q,"generalPractitioner":[{"reference":"Practitioner/%s"}]}`, who, who)
		d.put(t, slug, fmt.Sprintf("Observation/o%d", i), `{"resourceType":"Observation","id":"o%d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%s"},"valueQuantity":{"value":%d}}`, i, who, i*5%7)
	}
	for query, want := range map[string]string{
		"_sort=value-quantity": "Observation/o0 Observation/o2 Observation/o4", "_sort=-value-quantity": "Observation/o4 Observation/o2 Observation/o0",
		"_sort=value-quantity&_id=o0,o1,o2": "Observation/o0 Observation/o2",
	} {
		if got := ids(d.search(t, d.user(t, slug, "u"), "Observation", query).Matches); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

// S-40: what an index has the order of has no bound; of the rest the answer says
// what the bound is.
func TestManyMatchesAreSortedByTheIndexAlone(t *testing.T) {
	d := openDoor(t)
	slug := tenantNamed(t, d, "shared")
	for range 3 {
		err := d.db.Update(t.Context(), d.grant(t, slug, everything), func(tx *store.Tx) error {
			for i := range 3500 {
				id := store.NewID()
				doc := document(t, `{"resourceType":"RiskAssessment","id":%q,"status":"final","subject":{"display":"x"},"prediction":[{"probabilityDecimal":0.%d}]}`, id, 1+i%97)
				if _, err := tx.Create(t.Context(), id, doc); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	page := d.search(t, d.grant(t, slug, everything), "RiskAssessment", "_sort=-probability&_count=2")
	if len(page.Matches) != 2 || !strings.Contains(string(page.Matches[0].Body), "0.97") || page.Next == "" {
		t.Errorf("got %s, next %q", ids(page.Matches), page.Next)
	}
	for query, bound := range map[string]string{"_sort=identifier": "by a date or a number", "_sort=condition,probability": "more than 10000", "_sort=patient.birthdate": "more than 10000"} {
		q := storetest.Query(t, "RiskAssessment", query)
		err := d.db.View(t.Context(), d.grant(t, slug, everything), func(v *store.View) error {
			_, err := v.Search(t.Context(), q)
			return err
		})
		if !fhir.IsCode(err, fhir.TooCostly) || !strings.Contains(err.Error(), bound) {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// S-40: a search can be sorted by what its matches refer to, as far as the
// client may see that.
func TestSortingGoesByWhatIsReferredTo(t *testing.T) {
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		name := store.NewID()[24:]
		for i, p := range []string{`"birthDate":"1980","name":[{"family":"Moon"}]`, `"birthDate":"1970","name":[{"family":"Zorn"}]`, `"name":[{"family":"Abel"}]`} {
			d.put(t, slug, fmt.Sprintf("Patient/%s%d", name, i), `{"resourceType":"Patient","id":"%s%d",%s}`, name, i, p)
		}
		for i, subject := range []string{name + "0", name + "1", name + "2", name + "0", "nobody"} {
			d.put(t, slug, fmt.Sprintf("Flag/%s%d", name, i), `{"resourceType":"Flag","id":"%s%d","identifier":[{"value":%q}],"status":"active","code":{"text":"x"},"subject":{"reference":"Patient/%s"},"period":{"start":"202%d"}}`,
				name, i, name, subject, i)
		}
		for sort, want := range map[string]string{
			"patient.birthdate,date": "1 0 3 2 4", "-patient.birthdate,-date": "3 0 1 4 2", "subject:Patient.name,date": "2 0 3 1 4", "-patient.family,-date": "1 3 0 2 4",
			"identifier,-patient._id,date": "2 1 0 3 4", "date,patient.name": "0 1 2 3 4",
		} {
			for _, count := range []int{1, 2, 9} {
				got, _, err := d.pages(t, func() *smart.Grant { return d.grant(t, slug, everything) }, "Flag", fmt.Sprintf("identifier=%s&_sort=%s&_count=%d", name, sort, count))
				if err != nil {
					t.Fatal(err)
				}
				if s := strings.ReplaceAll(ids(got), "Flag/"+name, ""); s != want {
					t.Errorf("_sort=%s by %d: %s, want %s", sort, count, s, want)
				}
			}
		}
		// A patient that the client may not see is as one that is not there.
		part := func() *smart.Grant {
			return d.grant(t, slug, "system/Flag.rs system/Patient.rs?_id="+name+"0")
		}
		got, _, err := d.pages(t, part, "Flag", "identifier="+name+"&_sort=patient.birthdate,date")
		if s := strings.ReplaceAll(ids(got), "Flag/"+name, ""); err != nil || s != "0 3 1 2 4" {
			t.Errorf("sorted by what is hidden: %s, %v", s, err)
		}
		_, _, err = d.pages(t, func() *smart.Grant { return d.grant(t, slug, "system/Flag.rs") }, "Flag", "identifier="+name+"&_sort=patient.birthdate")
		if !fhir.IsCode(err, fhir.Forbidden) {
			t.Errorf("sorted by a type out of reach: %v", err)
		}
	})
	for _, sort := range []string{"patient.nonsense", "subject.name", "status.name", "patient.organization.name", "patient:Device.status", "patient.", ".name", "entity:AuditEvent.date", "patient.general-practitioner:x"} {
		if _, err := search.Parse("Flag", []search.Param{{Name: "_sort", Value: sort}}, search.Options{}); err == nil {
			t.Errorf("_sort=%s is understood", sort)
		}
	}
}

// S-40, S-44: the resources of several types are merged by _lastUpdated, however
// many there are.
func TestSeveralTypesAreSortedTogetherByTheIndex(t *testing.T) {
	var docs []*fhir.Document
	for i := range 40 {
		on := []string{"Basic", "Group", "Endpoint"}[i*7%3]
		rest := map[string]string{
			"Basic": `"code":{"text":"x"}`, "Group": `"type":"person","actual":true`,
			"Endpoint": `"status":"active","connectionType":{"code":"x"},"payloadType":[{"text":"x"}],"address":"http://x.org"`,
		}[on]
		docs = append(docs, document(t, `{"resourceType":%q,"id":"m%d","meta":{"tag":[{"code":%q}]},%s}`, on, i, []string{"a", "b"}[i%2], rest))
	}
	worlds(t, docs, func(t *testing.T, d *door, w *world, slug string) {
		grant := func() *smart.Grant { return d.grant(t, slug, everything) }
		d.inOrder(t, w, grant, "", []int{1, 7, 39, 60}, "_type=Basic,Group,Endpoint&_sort=_lastUpdated", "_type=Basic,Group,Endpoint&_sort=-_lastUpdated&_tag=a", "_type=Group,Basic&_sort=_lastUpdated&_tag=b")
	})
}
