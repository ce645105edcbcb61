package rest

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// T140: a document holds all that its Composition refers to, or there is none.
func TestADocumentIsWholeOrIsNotMade(t *testing.T) {
	a := newAPI(t)
	r := aRecord()
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			r.fill(c)
			compose := func(id, subject, entry string) {
				c.must(201, "PUT", "/Composition/"+id, `{"resourceType":"Composition","id":"`+id+`","status":"final","type":{"text":"x"},"date":"2020-01-01","title":"x",`+
					`"subject":{"reference":"Patient/`+subject+`"},"author":[{"reference":"Practitioner/`+r.practitioner+`"}],`+
					`"section":[{"title":"y","section":[{"title":"z","entry":[{"reference":"`+entry+`"}]}]}]}`)
			}
			id, hidden, broken := r.p+"-doc", r.p+"-hid", r.p+"-bro"
			compose(id, r.p, "Observation/"+r.p+"-1")
			compose(hidden, r.p, "Observation/"+r.other+"-1")
			compose(broken, r.p, "Observation/not-there")

			mine := a.client(t, slug, "patient/*.rs", inContext(r.p))
			w := mine.must(200, "GET", "/Composition/"+id+"/$document", "")
			got := entries(t, w)
			same(t, "entries", got, []string{"Composition/" + id, "Patient/" + r.p, "Practitioner/" + r.practitioner, "Observation/" + r.p + "-1", "Encounter/" + r.encounter, "Organization/" + r.practitioner})
			if got[0] != "Composition/"+id || at(shown(t, w), "type") != "document" || at(shown(t, w), "identifier", "value") == nil {
				t.Errorf("not a document: %s", w.Body)
			}
			d, err := fhir.Parse(w.Body.Bytes(), fhir.Limits{})
			if err == nil {
				err = validate.Resource(d)
			}
			if err != nil {
				t.Error(err)
			}
			mine.must(200, "GET", "/Composition/$document?id=Composition/"+id, "")
			unknown := mine.must(404, "GET", "/Composition/"+fresh(), "").Body.String()
			for _, id := range []string{hidden, broken} {
				if w := mine.must(404, "GET", "/Composition/"+id+"/$document", ""); w.Body.String() != unknown {
					t.Errorf("%s: %s", id, w.Body)
				}
			}
			c.must(200, "GET", "/Composition/"+hidden+"/$document", "")
			a.client(t, slug, "patient/*.rs", inContext(r.other)).must(404, "GET", "/Composition/"+id+"/$document", "")
			a.client(t, slug, "patient/Composition.rs", inContext(r.p)).must(404, "GET", "/Composition/"+id+"/$document", "")

			c.must(405, "GET", "/Composition/"+id+"/$document?persist=true", "")
			mine.must(403, "POST", "/Composition/"+id+"/$document?persist=true", "")
			w = c.must(200, "POST", "/Composition/"+id+"/$document?persist=true", "")
			stored := strings.Split(strings.TrimPrefix(w.Header().Get("Location"), baseOf(slug)), "/_history/")[0]
			if got := entries(t, c.must(200, "GET", stored, "")); len(got) != 6 {
				t.Errorf("stored: %v", got)
			}
			c.must(400, "POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"POST","url":"Composition/`+id+`/$document?persist=true"}}]}`)
		})
	}
	c := a.client(t, storetest.A1, all)
	if w := c.must(400, "GET", "/Composition/"+r.p+"-doc/$document?graph=http://x.test/g", ""); !strings.Contains(w.Body.String(), "graph") {
		t.Errorf("graph: %s", w.Body)
	}
	c.must(400, "GET", "/Composition/$document", "")
	c.must(400, "GET", "/Composition/"+r.p+"-doc/$document?id=x", "")
	c.must(400, "GET", "/Composition/$document?id=https://other.test/Composition/1", "")
}

// T140: what is further away comes along, once, unless it is missing, hidden, or
// of another patient: nobody can tell which.
func TestADocumentHoldsWhatItsCompositionLeadsTo(t *testing.T) {
	a := newAPI(t)
	for _, slug := range storetest.Slugs[:3] {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			id := fresh()
			put := func(what, more string) {
				t.Helper()
				typ, name, _ := strings.Cut(what, "/")
				c.must(201, "PUT", "/"+what, `{"resourceType":"`+typ+`","id":"`+name+`",`+more+`}`)
			}
			ref := func(member, to string) string { return `"` + member + `":{"reference":"` + to + `"}` }
			coded := `"status":"final","code":{"text":"x"}`
			put("Organization/"+id+"-top", `"name":"top"`)
			put("Organization/"+id, `"name":"x",`+ref("partOf", "Organization/"+id+"-top"))
			put("Practitioner/"+id, `"active":true`)
			put("Patient/"+id+"-other", `"active":true`)
			put("Patient/"+id, ref("managingOrganization", "Organization/"+id)+`,"link":[{"type":"seealso",`+ref("other", "Patient/"+id+"-other")+`}]`)
			put("Observation/"+id+"-others", coded+`,`+ref("subject", "Patient/"+id+"-other"))
			put("Observation/"+id+"-first", coded+`,`+ref("subject", "Patient/"+id))
			put("Observation/"+id+"-base", coded+`,`+ref("subject", "Patient/"+id)+`,"derivedFrom":[{"reference":"Observation/`+id+`-others"},{"reference":"Observation/`+id+`-first"},{"reference":"Observation/gone"}]`)
			put("Observation/"+id, coded+`,`+ref("subject", "Patient/"+id)+`,"derivedFrom":[{"reference":"Observation/`+id+`-base"},{"reference":"https://other.test/Observation/1"}]`)
			put("Composition/"+id, `"status":"final","type":{"text":"x"},"date":"2020-01-01","title":"x",`+ref("subject", "Patient/"+id)+
				`,"author":[{"reference":"Practitioner/`+id+`"}],"section":[{"entry":[{"reference":"Observation/`+id+`"}]}]`)
			want := []string{
				"Composition/" + id, "Patient/" + id, "Practitioner/" + id, "Observation/" + id,
				"Observation/" + id + "-base", "Observation/" + id + "-first", "Organization/" + id, "Organization/" + id + "-top",
			}
			same(t, "for staff", entries(t, c.must(200, "GET", "/Composition/"+id+"/$document", "")), want)
			mine := a.client(t, slug, "patient/*.rs", inContext(id))
			same(t, "for the patient", entries(t, mine.must(200, "GET", "/Composition/"+id+"/$document", "")), want)
			narrow := a.client(t, slug, "system/Composition.r system/Patient.r system/Practitioner.r system/Observation.r")
			same(t, "without the right to see organizations", entries(t, narrow.must(200, "GET", "/Composition/"+id+"/$document", "")), want[:6])
		})
	}
}
