package rest

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/profile"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// parametersOf writes Parameters; each value is given as "name:type=json".
func parametersOf(values ...string) string {
	var list []string
	for _, v := range values {
		name, rest, _ := strings.Cut(v, ":")
		typ, json, _ := strings.Cut(rest, "=")
		if typ == "resource" {
			list = append(list, fmt.Sprintf(`{"name":%q,"resource":%s}`, name, json))
			continue
		}
		list = append(list, fmt.Sprintf(`{"name":%q,"value%s":%s}`, name, typ, json))
	}
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(list, ",") + `]}`
}

const genders = "http://hl7.org/fhir/ValueSet/administrative-gender"

// H-53, https://hl7.org/fhir/R4/terminology-service.html
func TestTerminologyOperationsAnswerAsTheStandardSays(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	gender := "url=" + url.QueryEscape(genders)
	actCode := "system=" + url.QueryEscape("http://terminology.hl7.org/CodeSystem/v3-ActCode")
	inline := `{"resourceType":"ValueSet","status":"active","compose":{"include":[{"system":"http://hl7.org/fhir/administrative-gender","concept":[{"code":"other"}]}]}}`
	for _, tt := range []struct {
		claim, method, path, body string
		want                      int
		says                      string
	}{
		{"$expand lists a value set", "GET", "/ValueSet/$expand?" + gender, "", 200, `"contains":[{"system":"http://hl7.org/fhir/administrative-gender","code":"male","display":"Male"}`},
		{"with a filter", "GET", "/ValueSet/$expand?filter=fem&" + gender, "", 200, `"total":1`},
		{"by pages", "GET", "/ValueSet/$expand?count=1&offset=1&" + gender, "", 200, `"contains":[{"system":"http://hl7.org/fhir/administrative-gender","code":"female","display":"Female"}]`},
		{"and says by what", "GET", "/ValueSet/$expand?count=1&offset=1&" + gender, "", 200, `{"name":"version","valueUri":"http://hl7.org/fhir/administrative-gender|4.0.1"}`},
		{"one that is posted", "POST", "/ValueSet/$expand", inline, 200, `"code":"other","display":"Other"`},
		{"one in Parameters", "POST", "/ValueSet/$expand", parametersOf("valueSet:resource="+inline, "includeDesignations:Boolean=true"), 200, `"total":1`},
		{"none", "GET", "/ValueSet/$expand", "", 400, "one of url and valueSet"},
		{"one that is not known", "GET", "/ValueSet/$expand?url=http://example.org/none", "", 404, notFound},
		{"one of another version", "GET", "/ValueSet/$expand?valueSetVersion=9&" + gender, "", 404, notFound},
		{"one without an end", "GET", "/ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/mimetypes", "", 422, "too-costly"},
		{"one of a code system that is not here", "GET", "/ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/clinical-findings", "", 422, "ValueSet.compose.include[0].system"},
		{"with what R4 does not have", "GET", "/ValueSet/$expand?colour=red&" + gender, "", 400, "no parameter colour"},
		{"with a count that is none", "GET", "/ValueSet/$expand?count=-1&" + gender, "", 400, "parameter count is not of type unsignedInt"},

		{"$validate-code says yes", "GET", "/ValueSet/$validate-code?system=http://hl7.org/fhir/administrative-gender&code=male&" + gender, "", 200, `{"name":"result","valueBoolean":true},{"name":"display","valueString":"Male"}`},
		{"or no", "GET", "/ValueSet/$validate-code?system=http://hl7.org/fhir/administrative-gender&code=m&" + gender, "", 200, `{"name":"result","valueBoolean":false},{"name":"message"`},
		{"of a wrong display", "GET", "/ValueSet/$validate-code?system=http://hl7.org/fhir/administrative-gender&code=male&display=Frau&" + gender, "", 200, `"valueBoolean":false`},
		{"of a code alone", "GET", "/ValueSet/$validate-code?inferSystem=true&code=male&" + gender, "", 200, `"valueBoolean":true`},
		{"of a concept", "POST", "/ValueSet/$validate-code", parametersOf(`url:Uri="`+genders+`"`, `codeableConcept:CodeableConcept={"coding":[{"system":"x","code":"y"},{"system":"http://hl7.org/fhir/administrative-gender","code":"male"}]}`), 200, `"valueBoolean":true`},
		{"of two things at once", "POST", "/ValueSet/$validate-code", parametersOf(`url:Uri="`+genders+`"`, `code:Code="male"`, `coding:Coding={"code":"male"}`), 400, "exactly one of"},
		{"in a code system", "GET", "/CodeSystem/$validate-code?url=http://hl7.org/fhir/administrative-gender&code=female", "", 200, `"valueString":"Female"`},
		{"in a code system that is not known", "GET", "/CodeSystem/$validate-code?url=http://example.org/none&code=female", "", 404, notFound},
		{"of a coding", "POST", "/CodeSystem/$validate-code", parametersOf(`coding:Coding={"system":"http://hl7.org/fhir/administrative-gender","code":"none"}`), 200, `"valueBoolean":false`},

		{"$lookup tells of a code", "GET", "/CodeSystem/$lookup?code=ACCTRECEIVABLE&" + actCode, "", 200, `{"name":"name","valueString":"v3.ActCode"}`},
		{"its properties", "GET", "/CodeSystem/$lookup?code=ACCTRECEIVABLE&property=parent&" + actCode, "", 200, `{"name":"property","part":[{"name":"code","valueCode":"parent"},{"name":"value","valueCode":"_ActAccountCode"}`},
		{"a code that is not known", "GET", "/CodeSystem/$lookup?code=NOSUCH&" + actCode, "", 404, notFound},
		{"a code without system", "GET", "/CodeSystem/$lookup?code=x", "", 400, "together with its system"},
		{"a currency", "GET", "/CodeSystem/$lookup?code=CHF&system=urn:iso:std:iso:4217", "", 200, "ISO 4217"},

		{"$subsumes relates two codes", "GET", "/CodeSystem/$subsumes?codeA=_ActAccountCode&codeB=ACCTRECEIVABLE&" + actCode, "", 200, `{"name":"outcome","valueCode":"subsumes"}`},
		{"given as codings", "POST", "/CodeSystem/$subsumes", parametersOf(`codingA:Coding={"system":"http://hl7.org/fhir/administrative-gender","code":"male"}`, `codingB:Coding={"system":"http://hl7.org/fhir/administrative-gender","code":"male"}`), 200, `"equivalent"`},
		{"or given twice", "POST", "/CodeSystem/$subsumes", parametersOf(`codeA:Code="male"`, `codingA:Coding={"system":"http://hl7.org/fhir/administrative-gender","code":"female"}`, `codeB:Code="male"`, `system:Uri="http://hl7.org/fhir/administrative-gender"`), 400, "given twice"},
		{"of different systems", "POST", "/CodeSystem/$subsumes", parametersOf(`codingA:Coding={"system":"a","code":"male"}`, `codingB:Coding={"system":"b","code":"male"}`), 400, "different code systems"},

		{"$translate finds what says the same", "GET", "/ConceptMap/$translate?url=http://hl7.org/fhir/ConceptMap/cm-administrative-gender-v3&system=http://hl7.org/fhir/administrative-gender&code=male", "", 200, `{"name":"result","valueBoolean":true},{"name":"match","part":[{"name":"equivalence","valueCode":"`},
		{"backward", "GET", "/ConceptMap/$translate?reverse=true&url=http://hl7.org/fhir/ConceptMap/cm-administrative-gender-v3&system=http://terminology.hl7.org/CodeSystem/v3-AdministrativeGender&code=M", "", 200, `"code":"male"`},
		{"or nothing", "GET", "/ConceptMap/$translate?url=http://hl7.org/fhir/ConceptMap/cm-administrative-gender-v3&system=http://example.org&code=x", "", 200, `{"name":"result","valueBoolean":false}`},
		{"by a map that is not known", "GET", "/ConceptMap/$translate?url=http://example.org/none&system=http://example.org&code=x", "", 404, notFound},
	} {
		w := c.do(tt.method, tt.path, tt.body)
		if w.Code != tt.want || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s: got %d %s, want %d and %s", tt.claim, w.Code, w.Body, tt.want, tt.says)
		}
	}
	// What would have no effect is refused by its name.
	for _, tt := range []struct{ path, body, says string }{
		{"/ValueSet/$expand", parametersOf("valueSet:resource="+inline, `url:Uri="`+genders+`"`), "url and valueSet"},
		{"/ValueSet/$expand", parametersOf("valueSet:resource="+inline, `valueSetVersion:String="9"`), "parameter valueSetVersion"},
		{"/ValueSet/$validate-code", parametersOf(`url:Uri="`+genders+`"`, `coding:Coding={"code":"male"}`, `system:Uri="x"`), "parameter system"},
		{"/ValueSet/$validate-code", parametersOf(`url:Uri="`+genders+`"`, `coding:Coding={"code":"male"}`, `display:String="x"`), "parameter display"},
		{"/CodeSystem/$lookup", parametersOf(`coding:Coding={"system":"http://hl7.org/fhir/administrative-gender","code":"male"}`, `version:String="9"`), "parameter version"},
		{"/CodeSystem/$subsumes", parametersOf(`codingA:Coding={"system":"a","code":"x"}`, `codingB:Coding={"system":"a","code":"x"}`, `system:Uri="b"`), "parameter system"},
		{"/ConceptMap/$translate", parametersOf(`coding:Coding={"system":"a","code":"x"}`, `system:Uri="b"`), "parameter system"},
	} {
		if w := c.must(400, "POST", tt.path, tt.body); !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s: %s", tt.path, w.Body)
		}
	}
	w := c.must(200, "POST", "", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"ValueSet/$expand?`+gender+`"}}]}`)
	if got := at(shown(t, w), "entry", 0, "resource", "expansion", "total"); got != 4.0 {
		t.Errorf("in a batch: %s", w.Body)
	}
}

// What would take too long is refused, at once.
func TestTermsThatTakeTooLongAreRefused(t *testing.T) {
	c := newAPI(t).client(t, storetest.A1, all)
	include := `{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","filter":[{"property":"code","op":"regex","value":"(c|c|c)*(((0|1)*){0,9}){0,50}5?"}]}`
	w := c.do("POST", "/ValueSet/$expand", `{"resourceType":"ValueSet","status":"active","compose":{"include":[`+include+strings.Repeat(","+include, 199)+`]}}`)
	if w.Code != 422 || !strings.Contains(w.Body.String(), "too-costly") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// The display is a part that the answer must have, and empty strings are none.
// https://hl7.org/fhir/R4/codesystem-operation-lookup.html
func TestLookupWithoutDisplayAnswersTheCode(t *testing.T) {
	c := newAPI(t).client(t, storetest.A1, all)
	c.must(201, "POST", "/CodeSystem", `{"resourceType":"CodeSystem","url":"http://example.org/plain","status":"active","content":"complete","concept":[{"code":"bare"}]}`)
	w := c.must(200, "GET", "/CodeSystem/$lookup?system=http://example.org/plain&code=bare", "")
	if !strings.Contains(w.Body.String(), `{"name":"display","valueString":"bare"}`) {
		t.Errorf("got %s", w.Body)
	}
}

// ownTerms are a code system and what is made of it, each tenant's with codes
// of its own under the same URLs.
func ownTerms(mark string) []string {
	return []string{
		`{"resourceType":"CodeSystem","id":"own","url":"http://example.org/own","status":"active","content":"complete","concept":[{"code":"` + mark + `","display":"Of ` + mark + `"}]}`,
		`{"resourceType":"ValueSet","id":"own","url":"http://example.org/vs","status":"active","compose":{"include":[{"system":"http://example.org/own"}]}}`,
		`{"resourceType":"ConceptMap","id":"own","url":"http://example.org/map","status":"active","group":[{"source":"http://example.org/own","target":"http://example.org/other","element":[{"code":"` + mark + `","target":[{"code":"to-` + mark + `","equivalence":"equal"}]}]}]}`,
	}
}

// T105: a neighbour's definitions never answer, whatever their URL.
func TestTermsOfATenantAreNotThoseOfItsNeighbours(t *testing.T) {
	a := newAPI(t)
	questions := []string{
		"/ValueSet/$expand?url=http://example.org/vs", "/ValueSet/own/$expand",
		"/ConceptMap/$translate?url=http://example.org/map&system=http://example.org/own&code=",
		"/CodeSystem/$lookup?system=http://example.org/own&code=",
	}
	ask := func(c *client, q, mark string) string {
		if strings.HasSuffix(q, "code=") {
			q += mark
		}
		w := c.do("GET", q, "")
		return fmt.Sprint(w.Code, " ", w.Body)
	}
	for i, slug := range storetest.Slugs {
		c := a.client(t, slug, all)
		for _, q := range questions {
			if got := ask(c, q, storetest.Slugs[(i+1)%len(storetest.Slugs)]); !strings.Contains(got, "404 ") || !strings.Contains(got, notFound) {
				t.Errorf("%s before it has any: %s answers %s", slug, q, got)
			}
		}
		for _, r := range ownTerms(slug) {
			typ, _, _ := strings.Cut(strings.TrimPrefix(r, `{"resourceType":"`), `"`)
			c.must(201, "PUT", "/"+typ+"/own", r)
		}
		for _, q := range questions {
			got := ask(c, q, slug)
			if !strings.HasPrefix(got, "200 ") || !strings.Contains(got, slug) {
				t.Errorf("%s has its own: %s answers %s", slug, q, got)
			}
			for _, other := range storetest.Slugs {
				if other != slug && strings.Contains(got, "-"+other) || other != slug && strings.Contains(got, "Of "+other) {
					t.Errorf("%s sees what %s has: %s", slug, other, got)
				}
			}
		}
	}
}

// A42, A43: what answers are made of must be within the scopes.
func TestTermsAreForThoseWhoMayReadThem(t *testing.T) {
	a := newAPI(t)
	for _, tt := range []struct {
		claim, scope string
		want         int
	}{
		{"who may read everything", "system/*.rs", 200},
		{"who may read the three types", "system/ValueSet.r system/CodeSystem.r system/ConceptMap.r", 200},
		{"who may read one of them", "system/ValueSet.rs", 403},
		{"who may read some of them", "system/ValueSet.rs?status=active system/CodeSystem.rs system/ConceptMap.rs", 403},
		{"who may search only", "system/*.s", 403},
	} {
		a.client(t, storetest.A1, tt.scope).must(tt.want, "GET", "/ValueSet/$expand?url="+genders, "")
	}
	a.client(t, storetest.A1, "patient/*.rs", inContext(fresh())).must(403, "GET", "/ValueSet/$expand?url="+genders, "")
	a.client(t, storetest.A1, "user/*.rs", ofUser("Practitioner/1")).must(200, "GET", "/ValueSet/$expand?url="+genders, "")
}

// T003: each call is in the audit trail, also one that was refused.
func TestTerminologyOperationsAreAudited(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	id := fresh()
	path := "/ValueSet/" + id
	c.must(201, "PUT", path, `{"resourceType":"ValueSet","id":"`+id+`","status":"active","compose":{"include":[{"valueSet":["`+genders+`"]}]}}`)
	c.must(200, "GET", path+"/$expand", "")
	a.client(t, storetest.A1, "system/ValueSet.rs").must(403, "GET", path+"/$expand", "")
	var seen []string
	for _, e := range at(shown(t, c.must(200, "GET", "/AuditEvent?entity=ValueSet/"+id, "")), "entry").([]any) {
		seen = append(seen, fmt.Sprint(at(e, "resource", "subtype", 0, "code"), " ", at(e, "resource", "outcome")))
	}
	slices.Sort(seen)
	if want := []string{"operation 0", "operation 8", "read 0", "update 0"}; !slices.Equal(seen, want) {
		t.Errorf("the trail has %v, want %v", seen, want)
	}
}

// H-52
func TestTheTerminologyIsDescribed(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S1, all)
	c.must(201, "PUT", "/CodeSystem/mine", `{"resourceType":"CodeSystem","id":"mine","url":"http://example.org/CANARY","status":"active","content":"complete","concept":[{"code":"x"}]}`)
	w := c.must(200, "GET", "/metadata?mode=terminology", "", "Authorization", "")
	if strings.Contains(w.Body.String(), "CANARY") {
		t.Error("it tells strangers what the tenant wrote")
	}
	said := shown(t, w)
	systems := map[any]bool{}
	for _, s := range at(said, "codeSystem").([]any) {
		systems[at(s, "uri")] = true
	}
	for _, url := range []string{"http://hl7.org/fhir/administrative-gender", "http://terminology.hl7.org/CodeSystem/v3-ActCode", "http://unitsofmeasure.org", "urn:iso:std:iso:4217"} {
		if !systems[url] {
			t.Errorf("it does not name %s", url)
		}
	}
	if systems["http://snomed.info/sct"] {
		t.Error("it names a code system without content")
	}
	d, err := fhir.Parse(w.Body.Bytes(), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	issues, err := profile.New(canonical.Core(), nil).Validate(t.Context(), d, profile.Options{Errors: true})
	if err := cmp.Or(validate.Resource(d), profile.Error(issues), err); err != nil {
		t.Error(err)
	}
	for _, p := range at(said, "expansion", "parameter").([]any) {
		if name := fmt.Sprint(at(p, "name")); name != "valueSet" && name != "url" {
			w := c.do("GET", "/ValueSet/$expand?"+name+"=x&url="+genders, "")
			if strings.Contains(w.Body.String(), "no parameter") {
				t.Errorf("it claims %s, which is not taken", name)
			}
		}
	}
}

// A definition answers the same however it is named: by its URL, as the resource
// that the operation is called on, or by itself in the request; by GET and by POST.
func TestADefinitionAnswersTheSameHoweverItIsNamed(t *testing.T) {
	c := newAPI(t).client(t, storetest.D1, all)
	url := "http://example.org/" + fresh()
	codes := `{"resourceType":"CodeSystem","id":"ID","url":"` + url + `/cs","version":"3","status":"active","hierarchyMeaning":"is-a","content":"complete","concept":[{"code":"a","display":"A","concept":[{"code":"b","display":"B"}]}]}`
	set := `{"resourceType":"ValueSet","id":"ID","url":"` + url + `/vs","version":"3","status":"active","compose":{"include":[{"system":"` + url + `/cs","version":"3"}]}}`
	table := `{"resourceType":"ConceptMap","id":"ID","url":"` + url + `/cm","version":"3","status":"active","group":[{"source":"` + url + `/cs","target":"http://x.test","element":[{"code":"a","target":[{"code":"z","equivalence":"equal"}]}]}]}`
	id := fresh()
	for typ, body := range map[string]string{"CodeSystem": codes, "ValueSet": set, "ConceptMap": table} {
		c.must(201, "PUT", "/"+typ+"/"+id, strings.Replace(body, "ID", id, 1))
	}
	for _, tt := range []struct{ op, typ, at, given, definition, rest, says string }{
		{"$expand", "ValueSet", "/vs", "valueSet", set, "", `"total":2`},
		{"$validate-code", "ValueSet", "/vs", "valueSet", set, "code=b&system=" + url + "/cs", `"valueBoolean":true`},
		{"$validate-code", "CodeSystem", "/cs", "codeSystem", codes, "code=b", `"valueBoolean":true`},
		{"$subsumes", "CodeSystem", "/cs", "", codes, "codeA=a&codeB=b", `"valueCode":"subsumes"`},
		{"$translate", "ConceptMap", "/cm", "conceptMap", table, "code=a&system=" + url + "/cs", `"code":"z"`},
	} {
		named := "url=" + url + tt.at
		if tt.op == "$subsumes" {
			named = "system=" + url + tt.at
		}
		var body []string
		for p := range strings.SplitSeq(tt.rest, "&") {
			if name, value, ok := strings.Cut(p, "="); ok {
				typ := "Code"
				if name == "system" {
					typ = "Uri"
				}
				body = append(body, fmt.Sprintf("%s:%s=%q", name, typ, value))
			}
		}
		posted := ""
		if len(body) > 0 {
			posted = parametersOf(body...)
		}
		ways := map[string][3]string{
			"by URL, GET":       {"GET", "/" + tt.typ + "/" + tt.op + "?" + named + "&" + tt.rest, ""},
			"by URL, POST":      {"POST", "/" + tt.typ + "/" + tt.op + "?" + named, posted},
			"on instance, GET":  {"GET", "/" + tt.typ + "/" + id + "/" + tt.op + "?" + tt.rest, ""},
			"on instance, POST": {"POST", "/" + tt.typ + "/" + id + "/" + tt.op, posted},
		}
		if tt.given != "" {
			ways["in the request"] = [3]string{"POST", "/" + tt.typ + "/" + tt.op, parametersOf(append(body, tt.given+":resource="+strings.Replace(tt.definition, `"id":"ID",`, "", 1))...)}
		}
		for how, w := range ways {
			if got := c.must(200, w[0], w[1], w[2]).Body.String(); !strings.Contains(got, tt.says) {
				t.Errorf("%s %s: %s", tt.op, how, got)
			}
		}
		if tt.op != "$expand" && tt.op != "$subsumes" {
			c.must(400, "GET", "/"+tt.typ+"/"+id+"/"+tt.op+"?url=http://other.test&"+tt.rest, "")
		}
	}
	c.must(400, "GET", "/CodeSystem/"+id+"/$subsumes?codeA=a&codeB=b&system=http://other.test", "")
	c.must(400, "GET", "/ValueSet/"+id+"/$expand?valueSetVersion=9", "")
}
