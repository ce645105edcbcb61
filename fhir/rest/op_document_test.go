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
			same(t, "entries", got, []string{"Composition/" + id, "Patient/" + r.p, "Practitioner/" + r.practitioner, "Observation/" + r.p + "-1"})
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
			if got := entries(t, c.must(200, "GET", stored, "")); len(got) != 4 {
				t.Errorf("stored: %v", got)
			}
			c.must(400, "POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"POST","url":"Composition/`+id+`/$document?persist=true"}}]}`)
		})
	}
	c := a.client(t, storetest.A1, all)
	c.must(400, "GET", "/Composition/$document", "")
	c.must(400, "GET", "/Composition/"+r.p+"-doc/$document?id=x", "")
	c.must(400, "GET", "/Composition/$document?id=https://other.test/Composition/1", "")
}
