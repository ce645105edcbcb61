package rest

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// S-11: the token modifiers :in, :not-in, :above and :below.
func TestModifiersAboutCodeSystemsAskTheTenantsTerminology(t *testing.T) {
	a := newAPI(t)
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		c, name := a.client(t, slug, all), fresh()
		system, set := "http://codes.test/"+name, "http://sets.test/"+name
		c.must(201, "PUT", "/CodeSystem/"+name, fmt.Sprintf(`{"resourceType":"CodeSystem","id":%q,"url":%q,"status":"active","content":"complete","hierarchyMeaning":"is-a",
			"concept":[{"code":"animal","concept":[{"code":"dog","concept":[{"code":"poodle"}]},{"code":"cat"}]},{"code":"stone"}]}`, name, system))
		c.must(201, "PUT", "/ValueSet/"+name, fmt.Sprintf(`{"resourceType":"ValueSet","id":%q,"url":%q,"status":"active",
			"compose":{"include":[{"system":%q,"concept":[{"code":"dog"},{"code":"stone"}]}]}}`, name, set, system))
		c.must(201, "PUT", "/Patient/"+name, patient(name, "x"))
		for _, code := range []string{"animal", "dog", "poodle", "cat", "stone", "unlisted"} {
			c.must(201, "PUT", "/Observation/"+name+"-"+code, fmt.Sprintf(`{"resourceType":"Observation","id":"%s-%s","status":"final","subject":{"reference":"Patient/%s"},"code":{"coding":[{"system":%q,"code":%q}]}}`,
				name, code, name, system, code))
		}
		for query, want := range map[string]float64{
			"code:in=" + set: 2, "code:in=ValueSet/" + name: 2, "code:in=" + baseOf(slug) + "/ValueSet/" + name: 2, "code:not-in=" + set: 4,
			"code:below=" + system + "|dog": 2, "code:below=" + system + "|animal": 4, "code:above=" + system + "|poodle": 3, "code:above=" + system + "|stone": 1,
			"code:in=" + set + "," + set: 2, "status:in=http://hl7.org/fhir/ValueSet/observation-status": 6,
			"_filter=" + url.QueryEscape("code in "+set+" and not (code sb "+system+"|stone)"): 1,
			"_filter=" + url.QueryEscape("code ss "+system+"|dog"):                             2,
		} {
			s := shown(t, c.must(200, "GET", "/Observation?subject="+name+"&_total=accurate&"+query, ""))
			if at(s, "total") != want {
				t.Errorf("%s: %v, want %v", query, at(s, "total"), want)
			}
		}
		s := shown(t, c.must(200, "GET", "/Patient?_total=accurate&_id="+name+"&_has:Observation:subject:code:in="+set, ""))
		if at(s, "total") != 1.0 {
			t.Errorf("_has: %v", at(s, "total"))
		}
		c.must(201, "PUT", "/CodeSystem/part-"+name, fmt.Sprintf(`{"resourceType":"CodeSystem","id":"part-%s","url":"%s/part","status":"active","content":"fragment","concept":[{"code":"dog"}]}`, name, system))
		for _, query := range []string{"code:below=" + system + "/part|dog", "code:in=http://nosuch.test", "code:below=dog", "code:below=http://nosuch.test|dog", "code:below=" + system + "|nosuch", "code:in=ValueSet/nosuch"} {
			c.must(400, "GET", "/Observation?"+query, "")
		}
		// What is the tenant's own is for those who may read it, and for no
		// other tenant.
		narrow := a.client(t, slug, "system/Observation.rs system/Patient.rs")
		narrow.must(400, "GET", "/Observation?code:in="+set, "")
		narrow.must(400, "GET", "/Observation?code:below="+system+"|dog", "")
		narrow.must(200, "GET", "/Observation?status:in=http://hl7.org/fhir/ValueSet/observation-status", "")
		for _, other := range []string{storetest.A2, storetest.S2} {
			if other != slug {
				a.client(t, other, all).must(400, "GET", "/Observation?code:in="+set, "")
			}
		}
	}
}
