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

// H-25, H-26, H-27, H-28, H-44, S-11: the same modifiers in criteria.
func TestCriteriaCanBeAboutCodeSystems(t *testing.T) {
	a := newAPI(t)
	c, name := a.client(t, storetest.S1, all), fresh()
	system, set := "http://codes.test/"+name, "http://sets.test/"+name
	c.must(201, "PUT", "/CodeSystem/"+name, fmt.Sprintf(`{"resourceType":"CodeSystem","id":%q,"url":%q,"status":"active","content":"complete","hierarchyMeaning":"is-a",
		"concept":[{"code":"animal","concept":[{"code":"dog"},{"code":"cat"}]},{"code":"stone"}]}`, name, system))
	c.must(201, "PUT", "/ValueSet/"+name, fmt.Sprintf(`{"resourceType":"ValueSet","id":%q,"url":%q,"status":"active",
		"compose":{"include":[{"system":%q,"concept":[{"code":"dog"},{"code":"stone"}]}]}}`, name, set, system))
	observed := func(code string) string {
		return fmt.Sprintf(`{"resourceType":"Observation","status":"final","code":{"coding":[{"system":%q,"code":%q}]},"subject":{"reference":"Patient/%s"}}`, system, code, name)
	}
	mine := "subject=Patient/" + name + "&"
	in, below, above := mine+"code:in="+set, mine+"code:below="+system+"|animal", mine+"code:above="+system+"|dog"
	for _, tt := range []struct {
		status              int
		method, query, body string
		headers             []string
	}{
		{201, "POST", "", observed("cat"), []string{"If-None-Exist", in}},
		{201, "POST", "", observed("dog"), []string{"If-None-Exist", in}},
		{200, "POST", "", observed("dog"), []string{"If-None-Exist", in}},
		{200, "POST", "", observed("dog"), []string{"If-None-Exist", above}},
		{412, "POST", "", observed("dog"), []string{"If-None-Exist", below}},
		{200, "PUT", in, observed("stone"), nil},
		{200, "PATCH", in, `[{"op":"replace","path":"/status","value":"amended"}]`, []string{"Content-Type", "application/json-patch+json"}},
		{400, "DELETE", mine + "code:in=http://nosuch.test", "", nil},
		{204, "DELETE", mine + "code:not-in=" + set, "", nil},
		{204, "DELETE", in, "", nil},
	} {
		path := "/Observation"
		if tt.query != "" {
			path += "?" + tt.query
		}
		if w := c.do(tt.method, path, tt.body, tt.headers...); w.Code != tt.status {
			t.Errorf("%s %s %v: %d %s, want %d", tt.method, tt.query, tt.headers, w.Code, w.Body, tt.status)
		}
	}
	if s := shown(t, c.must(200, "GET", "/Observation?"+mine+"_total=accurate", "")); at(s, "total") != 0.0 {
		t.Errorf("%v are left", at(s, "total"))
	}
	bundle := func(code string) string {
		return fmt.Sprintf(`{"resourceType":"Bundle","type":"transaction","entry":[{"resource":%s,"request":{"method":"POST","url":"Observation","ifNoneExist":%q}}]}`, observed(code), in)
	}
	for range 2 {
		c.must(200, "POST", "/", bundle("dog"))
	}
	if s := shown(t, c.must(200, "GET", "/Observation?"+mine+"_total=accurate", "")); at(s, "total") != 1.0 {
		t.Errorf("a transaction made %v", at(s, "total"))
	}
	// Who may not read the tenant's own value sets cannot ask about them here
	// either.
	a.client(t, storetest.S1, "system/Observation.cruds").must(400, "DELETE", "/Observation?"+in, "")
}
