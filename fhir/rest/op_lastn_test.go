package rest

import (
	"fmt"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// T140: the last observations of each kind are those that the caller may see.
func TestTheLastObservationsOfEachKind(t *testing.T) {
	a := newAPI(t)
	p, other := fresh(), fresh()
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			put := func(id, subject, code, date, category string) {
				c.must(201, "PUT", "/Observation/"+id, `{"resourceType":"Observation","id":"`+id+`","status":"final","code":`+code+`,"subject":{"reference":"Patient/`+subject+
					`"},"effectiveDateTime":"`+date+`","category":[{"coding":[{"code":"`+category+`"}]}]}`)
			}
			sugar := `{"coding":[{"system":"l","code":"sugar"}]}`
			both := `{"coding":[{"system":"own","code":"glu"},{"system":"l","code":"sugar"}]}`
			own := `{"coding":[{"system":"own","code":"glu"}]}`
			for day := 1; day <= 4; day++ {
				put(fmt.Sprintf("%s-pulse-%d", p, day), p, `{"text":"Pulse"}`, fmt.Sprintf("2020-02-0%d", day), "vital-signs")
				put(fmt.Sprintf("%s-other-%d", p, day), other, sugar, fmt.Sprintf("2020-02-0%d", day), "laboratory")
			}
			put(p+"-sugar-1", p, sugar, "2020-01-01", "laboratory")
			put(p+"-sugar-2", p, both, "2020-01-02", "laboratory")
			put(p+"-sugar-3", p, own, "2020-01-03", "laboratory")
			ref := func(names ...string) (refs []string) {
				for _, n := range names {
					refs = append(refs, "Observation/"+p+"-"+n)
				}
				return refs
			}
			for query, want := range map[string][]string{
				"patient=" + p:                                ref("pulse-4", "sugar-3"),
				"subject=Patient/" + p + "&max=2":             ref("pulse-4", "pulse-3", "sugar-3", "sugar-2"),
				"patient=" + p + "&category=laboratory&max=9": ref("sugar-1", "sugar-2", "sugar-3"),
				"patient=" + p + "&code=l|sugar":              ref("sugar-2"),
				"patient=" + p + "&date=lt2020-02-02":         ref("pulse-1", "sugar-3"),
				"patient=" + fresh():                          nil,
				"subject=Patient/" + p + "&patient=" + other:  nil,
			} {
				same(t, query, entries(t, c.must(200, "GET", "/Observation/$lastn?"+query, "")), want)
			}
			same(t, "laboratory only", entries(t, a.client(t, slug, "patient/Observation.rs?category=laboratory", inContext(p)).
				must(200, "GET", "/Observation/$lastn?patient="+p, "")), ref("sugar-3"))
			same(t, "another's", entries(t, a.client(t, slug, "patient/*.rs", inContext(p)).must(200, "GET", "/Observation/$lastn?patient="+other, "")), nil)
			a.client(t, slug, "patient/Patient.rs", inContext(p)).must(403, "GET", "/Observation/$lastn?patient="+p, "")
		})
	}
	c := a.client(t, storetest.A1, all)
	for _, query := range []string{"", "?code=x", "?patient=", "?patient=1&max=0", "?patient=1&_sort=date", "?patient=1&_include=*", "?patient=1&nonsense=1"} {
		c.must(400, "GET", "/Observation/$lastn"+query, "")
	}
	c.must(422, "GET", "/Observation/$lastn?patient=1&max=1000", "")
}
