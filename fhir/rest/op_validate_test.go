package rest

import (
	"cmp"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/profile"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// ofCore are the definitions of R4 alone.
var ofCore = &rules{validator: profile.New(canonical.Core(), nil)}

// Nothing is fetched to validate, and what it is about is not told to who may
// not see it. T136
// https://hl7.org/fhir/R4/resource-operation-validate.html
func TestValidateSaysWhatIsWrong(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	id, hidden := fresh(), fresh()
	c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
	a.client(t, storetest.A2, all).must(201, "PUT", "/Patient/"+hidden, patient(hidden, "x"))

	const obs = `{"resourceType":"Observation","status":"final","code":{"text":"x"}`
	in := func(resource, more string) string {
		return `{"resourceType":"Parameters","parameter":[{"name":"resource","resource":` + resource + `}` + more + `]}`
	}
	code := func(name, value string) string { return `,{"name":"` + name + `","valueCode":"` + value + `"}` }
	for _, tt := range []struct {
		claim, method, path, body string
		want                      int
		says                      string
	}{
		{"a valid resource, bare", "POST", "/Observation/$validate", obs + `,"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>"}}`, 200, "no issues were found"},
		{"a broken invariant, with its place", "POST", "/Observation/$validate", obs + `,"referenceRange":[{"age":{"low":{"value":1}}}]}`, 200, `obs-3: must hold`},
		{"the place", "POST", "/Observation/$validate", obs + `,"referenceRange":[{"age":{"low":{"value":1}}}]}`, 200, `"expression":["Observation.referenceRange[0]"]`},
		{"broken structure, and all else", "POST", "/Observation/$validate", obs + `,"colour":"CANARY","valueQuantity":{"code":"CANARY"}}`, 200, "qty-3"},
		{"a missing element", "POST", "/Observation/$validate", `{"resourceType":"Observation","status":"final"}`, 200, `"Observation.code"`},
		{"a profile that R4 defines", "POST", "/Observation/$validate?profile=http://hl7.org/fhir/StructureDefinition/bodyweight", obs + "}", 200, "Observation.category:VSCat must have a value"},
		{"a profile that is not known", "POST", "/Observation/$validate?profile=http://127.0.0.1:1/CANARY", obs + "}", 200, "not known here"},
		{"a profile that is claimed", "POST", "/Observation/$validate", obs + `,"meta":{"profile":["http://hl7.org/fhir/StructureDefinition/bodyweight"]}}`, 200, "Observation.subject must have a value"},
		{"in Parameters, with mode", "POST", "/Patient/$validate", in(patient("", "x"), code("mode", "create")), 200, `"severity":"warning"`},
		{"an update of another id", "POST", "/Patient/" + id + "/$validate", in(patient(fresh(), "x"), code("mode", "update")), 200, "does not have the id"},
		{"what is stored, by GET", "GET", "/Patient/" + id + "/$validate", "", 200, "dom-6"},
		{"a deletion", "GET", "/Patient/" + id + "/$validate?mode=delete", "", 200, "may be deleted"},
		{"another mode", "GET", "/Patient/" + id + "/$validate?mode=CANARY", "", 400, "mode is create"},
		{"no resource", "POST", "/Patient/$validate", `{"resourceType":"Parameters"}`, 400, "resource is missing"},
		{"mode profile without one", "POST", "/Patient/$validate", in(patient("", "x"), code("mode", "profile")), 400, "needs the parameter profile"},
		{"a resource of another type", "POST", "/Patient/$validate", obs + "}", 400, "not of the type"},
		{"an instance of another tenant", "GET", "/Patient/" + hidden + "/$validate", "", 404, notFound},
		{"no such instance", "POST", "/Patient/" + fresh() + "/$validate", patient("", "x"), 404, notFound},
	} {
		w := c.do(tt.method, tt.path, tt.body)
		if w.Code != tt.want || !strings.Contains(w.Body.String(), tt.says) || strings.Contains(w.Body.String(), "CANARY") {
			t.Errorf("%s: got %d %s, want %d and %q", tt.claim, w.Code, w.Body, tt.want, tt.says)
		}
	}
	narrow := a.client(t, storetest.A1, "system/Observation.r")
	narrow.must(403, "POST", "/Patient/$validate", patient("", "x"))
	narrow.must(403, "POST", "/Observation/$validate", in(obs+"}", code("mode", "create")))
	narrow.must(200, "POST", "/Observation/$validate", obs+"}")
}

// What breaks an invariant of R4 is not stored, by any way of writing.
func TestInvariantsHoldOnWrite(t *testing.T) {
	c := newAPI(t).client(t, storetest.A1, all)
	id := fresh()
	c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
	const broken = `{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"code":"CANARY"}}`
	const contact = `[{"op":"add","path":"/contact","value":[{"gender":"male"}]}]`
	for _, tt := range []struct{ claim, method, path, body, kind, place string }{
		{"create", "POST", "/Observation", broken, "", "Observation.value"},
		{"patch", "PATCH", "/Patient/" + id, contact, "application/json-patch+json", "Patient.contact[0]"},
		{"transaction", "POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":` + broken + `,"request":{"method":"POST","url":"Observation"}}]}`, "", "Bundle.entry[0].resource.value"},
	} {
		w := c.do(tt.method, tt.path, tt.body, "Content-Type", cmp.Or(tt.kind, "application/fhir+json"))
		if w.Code != 422 || !strings.Contains(w.Body.String(), `"`+tt.place+`"`) || strings.Contains(w.Body.String(), "CANARY") {
			t.Errorf("%s: got %d %s", tt.claim, w.Code, w.Body)
		}
	}
	w := c.must(200, "POST", "", `{"resourceType":"Bundle","type":"batch","entry":[{"resource":`+broken+`,"request":{"method":"POST","url":"Observation"}}]}`)
	if !strings.Contains(w.Body.String(), `"status":"422`) {
		t.Errorf("batch: %s", w.Body)
	}
}

// The level of validation is the tenant's choice, and its own profiles count
// at once. The other tenants keep theirs.
func TestValidationOnWriteIsASetting(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S2, all)
	set := func(v tenant.Validation) {
		t.Helper()
		a.settings(t, storetest.S2, func(s *tenant.Settings) { s.Validation = v })
	}
	t.Cleanup(func() { set(tenant.Validation{}) })
	const url = "http://example.org/StructureDefinition/named"
	c.must(201, "POST", "/StructureDefinition", `{"resourceType":"StructureDefinition","url":"`+url+`","name":"Named","status":"active","kind":"resource",
		"abstract":false,"type":"Patient","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Patient","derivation":"constraint",
		"differential":{"element":[{"id":"Patient.name","path":"Patient.name","min":1}]}}`)
	c.must(201, "POST", "/Questionnaire", `{"resourceType":"Questionnaire","url":"http://example.org/asking","status":"active","item":[{"linkId":"a","type":"string","required":true}]}`)
	const unanswered = `{"resourceType":"QuestionnaireResponse","status":"completed","questionnaire":"http://example.org/asking"}`
	const nameless = `{"resourceType":"Patient","active":true}`
	const broken = `{"resourceType":"Patient","contact":[{"gender":"male"}]}`
	const claims = `{"resourceType":"Patient","meta":{"profile":["` + url + `"]},"active":true}`
	for _, tt := range []struct {
		setting                  tenant.Validation
		nameless, broken, claims int
	}{
		{tenant.Validation{Level: tenant.Off}, 201, 201, 201},
		{tenant.Validation{}, 201, 422, 201},
		{tenant.Validation{Level: tenant.Base}, 201, 422, 201},
		{tenant.Validation{Level: tenant.Claimed}, 201, 422, 422},
		{tenant.Validation{Level: tenant.Required, Profiles: []string{url}}, 422, 422, 422},
		{tenant.Validation{Level: tenant.Required, Profiles: []string{"http://example.org/unknown"}}, 422, 422, 422},
	} {
		set(tt.setting)
		for body, want := range map[string]int{nameless: tt.nameless, broken: tt.broken, claims: tt.claims, `{"resourceType":"Patient","colour":1}`: 400} {
			if w := c.do("POST", "/Patient", body); w.Code != want {
				t.Errorf("%+v: %s: got %d %s, want %d", tt.setting, body, w.Code, w.Body, want)
			}
		}
		// A response claims its Questionnaire as a resource does its profile.
		if w := c.do("POST", "/QuestionnaireResponse", unanswered); w.Code != tt.claims {
			t.Errorf("%+v: %s: got %d %s, want %d", tt.setting, unanswered, w.Code, w.Body, tt.claims)
		}
	}
	set(tenant.Validation{Level: tenant.Required, Profiles: []string{url}})
	w := c.must(422, "POST", "/Patient", claims)
	if !strings.Contains(w.Body.String(), `"expression":["Patient.name"]`) {
		t.Errorf("the place: %s", w.Body)
	}
	c.must(201, "POST", "/Patient", patient("", "x"))
	c.must(201, "POST", "/Basic", `{"resourceType":"Basic","code":{"text":"x"}}`)
	other := a.client(t, storetest.S1, all)
	other.must(201, "POST", "/Patient", claims)
	other.must(201, "POST", "/QuestionnaireResponse", unanswered)
}
