package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// worlds gives fn a tenant of each mode, of its own, that holds the documents.
func worlds(t *testing.T, docs []*fhir.Document, fn func(t *testing.T, d *door, w *world, slug string)) {
	t.Helper()
	openDoor(t).worlds(t, docs, fn)
}

func (d *door) worlds(t *testing.T, docs []*fhir.Document, fn func(t *testing.T, d *door, w *world, slug string)) {
	t.Helper()
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			slug := tenantNamed(t, d, mode)
			fn(t, d, d.keep(t, slug, docs), slug)
		})
	}
}

// keep puts the documents into the tenant as they are.
func (d *door) keep(t *testing.T, slug string, docs []*fhir.Document) *world {
	t.Helper()
	docs = reread(t, docs)
	var kept []fhir.Resource
	err := d.db.Update(t.Context(), d.grant(t, slug, everything), func(tx *store.Tx) error {
		kept = nil
		for _, doc := range docs {
			r, _, err := tx.Put(t.Context(), fhir.Ref{Type: doc.Type, ID: doc.ID}, doc, 0)
			if err != nil {
				return err
			}
			kept = append(kept, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return newWorld(t, search.Schema{Base: base(slug)}, kept)
}

// tenantNamed provisions a tenant for one test and returns its slug.
func tenantNamed(t *testing.T, d *door, mode tenant.Mode) string {
	t.Helper()
	slug := "w" + store.NewID()[24:]
	if _, _, err := d.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Name: slug, Mode: mode}); err != nil {
		t.Fatal(err)
	}
	return slug
}

// same holds that each search finds something, and what memory says.
func (d *door) same(t *testing.T, w *world, grant func() *smart.Grant, on fhir.Type, queries ...string) {
	t.Helper()
	for _, query := range queries {
		params, err := search.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		g := grant()
		q, err := search.Parse(on, params, search.Options{Base: base(g.Tenant().Slug.String())})
		if err != nil {
			t.Errorf("%s?%s: %v", on, query, err)
			continue
		}
		want, err := w.answer(t, g, q)
		if err != nil {
			t.Errorf("%s?%s: %v", on, query, err)
			continue
		}
		if len(want) == 0 {
			t.Errorf("%s?%s finds nothing: the question is no good", on, query)
		}
		got, total, err := d.pages(t, grant, on, query+"&_count=2&_total=accurate")
		if err != nil {
			t.Errorf("%s?%s: %v", on, query, err)
			continue
		}
		if diff := difference(got, want); diff != "" {
			t.Errorf("%s?%s:%s", on, query, diff)
		}
		if *total != len(want) {
			t.Errorf("%s?%s: total %d, want %d", on, query, *total, len(want))
		}
	}
}

func TestPlacesAreFoundByTheirDistance(t *testing.T) { // S-17
	var docs []*fhir.Document
	for i := range 40 {
		docs = append(docs, document(t, `{"resourceType":"Location","id":"at%d","status":%q,"position":{"longitude":%d.5,"latitude":%d.25}}`,
			i, []string{"active", "inactive"}[i%2], -179+i*9, 60-i*3))
	}
	docs = append(docs, document(t, `{"resourceType":"Encounter","id":"e","status":"planned","class":{"code":"AMB"},"location":[{"location":{"reference":"Location/at20"}}]}`))
	worlds(t, docs, func(t *testing.T, d *door, w *world, slug string) {
		grant := func() *smart.Grant { return d.grant(t, slug, everything) }
		d.same(t, w, grant, "Location", "near=0|1|1000|km", "near=60|179|500|km", "near=0|0|20000|km&status=active", "near=88|0|8000|[mi_us]",
			"near=60|-178.5|40|km,0.25|1.5|10", "near=0|0|3000|km&_sort=_id", "near:missing=false&near=0|0|9000")
		d.same(t, w, grant, "Encounter", "location.near=0.25|1.5|10|km")
		d.same(t, w, func() *smart.Grant {
			return d.grant(t, slug, "system/Location.rs?near=0|0|3000|km system/Encounter.rs")
		}, "Location", "status=active", "near=0|0|9000|km")
	})
}

// S-02, S-45: _list, _filter, _text and _content.
func TestListsFiltersAndWordsFindTheSame(t *testing.T) {
	docs := family(t)
	add := func(json string, args ...any) { docs = append(docs, document(t, json, args...)) }
	add(`{"resourceType":"List","id":"a","status":"current","mode":"working","entry":[{"item":{"reference":"Patient/c1"}},{"item":{"reference":"Observation/c2"}},{"item":{"reference":"Patient/c3"},"deleted":true}]}`)
	add(`{"resourceType":"List","id":"b","status":"current","mode":"snapshot","subject":{"reference":"Patient/c2"},"entry":[{"item":{"reference":"Patient/c2"}},{"item":{"reference":"Patient/c3/_history/1"}}]}`)
	for i := range 4 {
		add(`{"resourceType":"DiagnosticReport","id":"r%d","status":"final","code":{"text":"x-ray %d"},"subject":{"reference":"Patient/c%d"},"conclusion":"fracture of the %s arm","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">narrative %d</div>"}}`,
			i, i, i, []string{"left", "right"}[i%2], i)
	}
	worlds(t, docs, func(t *testing.T, d *door, w *world, slug string) {
		grant := func() *smart.Grant { return d.grant(t, slug, everything) }
		d.same(t, w, grant, "Patient", "_list=a", "_list=List/b", "_list="+base(slug)+"/List/b", "_list=a,b&active=true", "link:Patient._list=b",
			"_filter=name+co+%22hain%22+and+active+eq+true", "_filter=link:Patient%5Bactive+eq+false%5D.name+ew+3", "_filter=link:Patient.name+eq+chain4+or+_has:Observation:patient:value-quantity+gt+7",
			"_filter=not+(general-practitioner:Practitioner.name+eq+doctor1)", "_filter=family+ne+chain3+and+name+ne+chain4", "_has:DiagnosticReport:subject:_content=fracture+left",
			"_filter=link:Patient.name+co+ain4+or+link:Patient.name+co+ain6+or+link:Patient.active+eq+false+or+link:Patient.gender+eq+male",
			"_filter=link:Patient.name+co+ain4+or+link:Patient._has:Group:member:_id+eq+c1+or+link:Patient._has:Group:member:_id+eq+c2+or+link:Patient.link:Patient.name+co+ain1+or+link:Patient.link:Patient.name+co+ain8",
			"_filter=_has:Observation:patient:value-quantity+gt+7+or+_has:Observation:patient:value-quantity+lt+1+or+_has:Observation:patient:code+eq+s|c1+or+_has:Observation:patient:code+eq+s|c2",
			"_filter=not+(link:Patient.name+co+ain4+or+link:Patient.name+co+ain6)")
		d.same(t, w, grant, "Observation", "_list=a", "subject:Patient._list=a", "_filter=code+ne+s|c1+and+value-quantity+lt+5", "subject:Patient._filter=name+sw+chain+and+active+eq+true")
		d.same(t, w, grant, "DiagnosticReport", "_text=narrative", "_text=narrative+2", "_content=fracture+left", "_content=%22left+arm%22,%22x+ray+1%22&_sort=_id", "subject:Patient._list=b&_content=arm")
		d.same(t, w, grant, "", "_list=a&_type=Patient,Observation", "_type=DiagnosticReport,Patient&_content=arm,chain1")
		// What the token does not reach lists nothing, and is in no list.
		part := func() *smart.Grant {
			return d.as(t, slug, smart.Token{Client: "tester", Scope: "patient/*.rs", Patient: "c2"})
		}
		for query, want := range map[string]int{"_list=a": 0, "_list=b": 1, "_filter=name+co+hain": 1, "_filter=not+(name+eq+x)": 1, "_content=chain3": 0} {
			if page := d.search(t, part(), "Patient", query+"&_total=accurate"); len(page.Matches) != want || *page.Total != want {
				t.Errorf("a patient's token: %s finds %d of %d, want %d", query, len(page.Matches), *page.Total, want)
			}
		}
	})
}

// S-40: by the main date the index has both orders; what has no date is last.
func TestSortingByTheMainDateGoesByTheIndex(t *testing.T) {
	var docs []*fhir.Document
	for i := range 30 {
		born := ""
		if i%3 > 0 {
			born = fmt.Sprintf(`,"birthDate":"19%02d-01-%02d"`, i%5*10, 1+i%2)
		}
		docs = append(docs, document(t, `{"resourceType":"Patient","id":"b%d","gender":%q%s}`, i, []string{"male", "female"}[i%2], born))
	}
	worlds(t, docs, func(t *testing.T, d *door, w *world, slug string) {
		grant := func() *smart.Grant { return d.grant(t, slug, everything) }
		for _, query := range []string{"_sort=birthdate", "_sort=-birthdate", "_sort=birthdate&gender=male", "_sort=birthdate&birthdate:missing=true", "_sort=birthdate&birthdate=gt1950"} {
			params, _ := search.ParseQuery(query)
			q, err := search.Parse("Patient", params, search.Options{})
			if err != nil {
				t.Fatal(err)
			}
			want, err := w.answer(t, grant(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{1, 4, 10, 11, 50} {
				got, _, err := d.pages(t, grant, "Patient", fmt.Sprintf("%s&_count=%d", query, size))
				if err != nil {
					t.Fatal(err)
				}
				if diff := difference(got, want); diff != "" {
					t.Errorf("%s by %d:%s", query, size, diff)
				}
				for i := 1; i < len(got); i++ {
					if (ordered{q}).compare(w.byRef[got[i-1].Ref], w.byRef[got[i].Ref]) > 0 {
						t.Errorf("%s by %d: %s comes before %s", query, size, got[i-1].Ref, got[i].Ref)
					}
				}
			}
			if lines := strings.Join(store.Explain(q), "\n"); strings.Contains(lines, "opening every match") {
				t.Errorf("%s: %s", query, lines)
			}
		}
	})
}
