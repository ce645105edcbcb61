package rest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// cohort makes three patients: ann, a woman with diabetes and an HbA1c of 8.1 %, bea, a
// woman with an HbA1c of 6.0 %, and cal, a man with diabetes.
func cohort(c *client) (ids map[string]string) {
	mark := fresh()
	ids = map[string]string{"ann": "ann" + mark, "bea": "bea" + mark, "cal": "cal" + mark, "mark": mark}
	for name, gender := range map[string]string{"ann": "female", "bea": "female", "cal": "male"} {
		c.must(201, "PUT", "/Patient/"+ids[name], fmt.Sprintf(`{"resourceType":"Patient","id":%q,"gender":%q,"identifier":[{"value":%q}]}`, ids[name], gender, mark))
	}
	for _, name := range []string{"ann", "cal"} {
		c.must(201, "PUT", "/Condition/c"+ids[name], fmt.Sprintf(`{"resourceType":"Condition","id":"c%s","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]},
			"code":{"coding":[{"system":"http://example.org","code":"dm%s"}]},"subject":{"reference":"Patient/%s"}}`, ids[name], mark, ids[name]))
	}
	for name, value := range map[string]string{"ann": "8.1", "bea": "6.0"} {
		c.must(201, "PUT", "/Observation/o"+ids[name], fmt.Sprintf(`{"resourceType":"Observation","id":"o%s","status":"final","effectiveDateTime":"2024-03-01",
			"code":{"coding":[{"system":"http://loinc.org","code":"4548-4"}]},"subject":{"reference":"Patient/%s"},
			"valueQuantity":{"value":%s,"unit":"%%","system":"http://unitsofmeasure.org","code":"%%"}}`, ids[name], ids[name], value))
	}
	return ids
}

// exports does exports side by side, and returns what is in each.
func (c *client) exports(paths ...string) (list []map[string]map[string]any) {
	c.t.Helper()
	for some := range slices.Chunk(paths, 5) {
		var places []string
		for _, path := range some {
			places = append(places, c.kickOff(path))
		}
		for _, where := range places {
			got, _ := c.download(c.manifest(where))
			list = append(list, got)
		}
	}
	return list
}

func filter(expression string) string {
	return fmt.Sprintf(`{"url":"http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter","valueExpression":{"language":"application/x-fhir-query","expression":%q}}`, expression)
}

// memberFilterDefinition is what makes the extension known to a tenant.
const memberFilterDefinition = `{"resourceType":"StructureDefinition","id":"member-filter","url":"` + memberFilter + `","name":"MemberFilter",
	"status":"active","fhirVersion":"4.0.1","kind":"complex-type","abstract":false,"context":[{"type":"element","expression":"Group"}],"type":"Extension",
	"baseDefinition":"http://hl7.org/fhir/StructureDefinition/Extension","derivation":"constraint","differential":{"element":[
	{"id":"Extension","path":"Extension","isModifier":true,"isModifierReason":"who is in the group"},
	{"id":"Extension.url","path":"Extension.url","fixedUri":"` + memberFilter + `"},
	{"id":"Extension.value[x]","path":"Extension.value[x]","min":1,"type":[{"code":"Expression"}]}]}}`

// B-30, AUTHZ-03: a group has the members that its filters or its characteristics
// find, among what its client may see; what it says that cannot be told is refused.
func TestAGroupHasWhoMeetsWhatItAsks(t *testing.T) {
	a := newAPI(t)
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		t.Run(slug, func(t *testing.T) {
			staff, c := a.client(t, slug, all), a.client(t, slug, exporter)
			staff.do("PUT", "/StructureDefinition/member-filter", memberFilterDefinition)
			ids := cohort(staff)
			hba1c := `"code":{"coding":[{"system":"http://loinc.org","code":"4548-4"}]}`
			ours := filter("Patient?identifier=" + ids["mark"])
			diabetes := filter("Condition?code=http://example.org|dm" + ids["mark"] + "&clinical-status=active")
			entity := func(name string) string { return `{"entity":{"reference":"Patient/` + ids[name] + `"}}` }
			put := func(id, rest string) string {
				staff.must(201, "PUT", "/Group/"+id, `{"resourceType":"Group","id":"`+id+`","name":"x",`+rest+`}`)
				return id
			}
			inner := put("in"+fresh(), `"type":"person","actual":true,"member":[`+entity("ann")+`,`+entity("bea")+`]`)
			tests := []struct {
				claim, group string
				want         []string
			}{
				{"a filter finds patients by what is in their record", `"actual":false,"modifierExtension":[` + diabetes + `]`, []string{"ann", "cal"}},
				{"of two filters both must find them", `"actual":false,"modifierExtension":[` + diabetes + `,` + filter("Patient?gender=female") + `]`, []string{"ann"}},
				{"with members a filter is for those alone", `"actual":true,"modifierExtension":[` + diabetes + `],"member":[` + entity("bea") + `,` + entity("cal") + `]`, []string{"cal"}},
				{"a group in it brings its own members", `"actual":true,"member":[{"entity":{"reference":"Group/` + inner + `"}},` + entity("bea") + `]`, []string{"ann", "bea"}},
				{"a filter is for the members of groups in it too", `"actual":true,"modifierExtension":[` + diabetes + `],"member":[{"entity":{"reference":"Group/` + inner + `"}}]`, []string{"ann"}},
				{"a gender is a characteristic", `"actual":false,"modifierExtension":[` + ours + `],"characteristic":[{"code":{"text":"gender"},"exclude":false,
					"valueCodeableConcept":{"coding":[{"system":"http://hl7.org/fhir/administrative-gender","code":"male"}]}}]`, []string{"cal"}},
				{"so is what was observed, in a range and a period", `"actual":false,"modifierExtension":[` + ours + `],"characteristic":[{` + hba1c + `,"exclude":false,
					"valueRange":{"low":{"value":7,"unit":"%","system":"http://unitsofmeasure.org","code":"%"}},"period":{"start":"2024-01-01","end":"2024-12-31"}}]`, []string{"ann"}},
				{"and what was observed at another time is not", `"actual":false,"modifierExtension":[` + ours + `],"characteristic":[{` + hba1c + `,"exclude":false,
					"valueRange":{"low":{"value":7}},"period":{"start":"2025-01-01"}}]`, nil},
				{"who has an excluded characteristic is left out", `"actual":false,"modifierExtension":[` + ours + `],"characteristic":[{` + hba1c + `,"exclude":true,
					"valueQuantity":{"value":7,"comparator":">"}}]`, []string{"bea", "cal"}},
				{"of an actual group they only say what its members are like", `"actual":true,"member":[` + entity("cal") + `],"characteristic":[{` + hba1c + `,"exclude":false,"valueBoolean":true}]`, []string{"cal"}},
			}
			var paths []string
			for _, tt := range tests {
				paths = append(paths, "/Group/"+put("g"+fresh(), `"type":"person",`+tt.group)+"/$export?_type=Patient,Observation")
			}
			for i, got := range c.exports(paths...) {
				var want []string
				for _, name := range tests[i].want {
					want = append(want, "Patient/"+ids[name])
				}
				if names := exportedNames(got, "Patient/"); !slices.Equal(names, want) {
					t.Errorf("%s: got %v, want %v", tests[i].claim, names, tests[i].want)
				}
				for name := range got {
					if of, ok := strings.CutPrefix(name, "Observation/o"); ok && got["Patient/"+of] == nil {
						t.Errorf("%s: %s is of nobody in the group", tests[i].claim, name)
					}
				}
			}
			for claim, group := range map[string]string{
				"a filter in another language":          `"type":"person","actual":false,"modifierExtension":[{"url":"http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter","valueExpression":{"language":"text/cql","expression":"x"}}]`,
				"an unknown parameter":                  `"type":"person","actual":false,"modifierExtension":[` + filter("Condition?nonsense=1") + `]`,
				"a filter without criteria":             `"type":"person","actual":false,"modifierExtension":[` + filter("Patient?") + `]`,
				"what chooses nothing":                  `"type":"person","actual":false,"modifierExtension":[` + filter("Condition?_sort=code") + `]`,
				"a type of no record":                   `"type":"person","actual":false,"modifierExtension":[` + filter("Location?name=x") + `]`,
				"a characteristic that is only a word":  `"type":"person","actual":false,"characteristic":[{"code":{"text":"tall"},"exclude":false,"valueBoolean":true}]`,
				"a characteristic that is a reference":  `"type":"person","actual":false,"characteristic":[{` + hba1c + `,"exclude":false,"valueReference":{"reference":"Organization/1"}}]`,
				"a range without an end":                `"type":"person","actual":false,"characteristic":[{` + hba1c + `,"exclude":false,"valueRange":{"extension":[{"url":"http://example.org/x","valueBoolean":true}]}}]`,
				"no members, and nothing asked of them": `"type":"person","actual":false`,
				"a group of devices":                    `"type":"device","actual":false,"modifierExtension":[` + ours + `]`,
				"a group in it that is not there":       `"type":"person","actual":true,"member":[{"entity":{"reference":"Group/nobody"}}]`,
			} {
				id := put("g"+fresh(), group)
				if w := c.do("GET", "/Group/"+id+"/$export", "", "Prefer", "respond-async"); w.Code != 400 && w.Code != 422 {
					t.Errorf("%s: %d %s", claim, w.Code, w.Body)
				}
			}
			// Who may not see what a filter looks at finds nobody by it.
			id := put("g"+fresh(), `"type":"person","actual":false,"modifierExtension":[`+diabetes+`]`)
			a.client(t, slug, "system/Group.rs system/Patient.rs").must(403, "GET", "/Group/"+id+"/$export", "", "Prefer", "respond-async")
		})
	}
}

// B-03: with associated data comes the Provenance of what is exported and of nothing
// else, all of it or the latest.
func TestProvenanceComesWithWhatIsExported(t *testing.T) {
	a := newAPI(t)
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		t.Run(slug, func(t *testing.T) {
			staff, c := a.client(t, slug, all), a.client(t, slug, exporter)
			ids := cohort(staff)
			put := func(id, recorded string, targets ...string) {
				staff.must(201, "PUT", "/Provenance/"+id+ids["mark"], `{"resourceType":"Provenance","id":"`+id+ids["mark"]+`","recorded":"`+recorded+`",
					"target":[{"reference":"`+strings.Join(targets, `"},{"reference":"`)+`"}],"agent":[{"who":{"display":"x"}}]}`)
			}
			put("new", "2024-03-02T00:00:00+02:00", "Observation/o"+ids["ann"])
			put("old", "2024-03-01T00:00:00Z", "Observation/o"+ids["ann"])
			put("both", "2024-01-01T00:00:00Z", "Observation/o"+ids["ann"], "Patient/"+ids["ann"])
			put("cond", "2024-04-01T00:00:00Z", "Condition/c"+ids["ann"])
			put("other", "2024-04-01T00:00:00Z", "Observation/o"+ids["bea"], "Patient/"+ids["bea"])
			group := "g" + fresh()
			staff.must(201, "PUT", "/Group/"+group, `{"resourceType":"Group","id":"`+group+`","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/`+ids["ann"]+`"}}]}`)
			tests := []struct {
				query string
				want  []string
			}{
				{"_type=Patient,Observation&includeAssociatedData=RelevantProvenanceResources", []string{"both", "new", "old"}},
				{"_type=Patient,Observation&includeAssociatedData=LatestProvenanceResources", []string{"both", "new"}},
				{"_type=Observation&includeAssociatedData=LatestProvenanceResources", []string{"new"}},
				{"_type=Observation,Condition&includeAssociatedData=LatestProvenanceResources", []string{"cond", "new"}},
				{"_type=Condition,Provenance&includeAssociatedData=RelevantProvenanceResources", []string{"cond"}},
				{"_type=Observation&includeAssociatedData=LatestProvenanceResources,RelevantProvenanceResources", []string{"both", "new", "old"}},
				{"_type=Observation&_typeFilter=Observation%3Fstatus%3Dpreliminary&includeAssociatedData=RelevantProvenanceResources", nil},
				{"_type=Observation,Provenance", []string{"both"}}, // what tells of the patient
			}
			var paths []string
			for _, tt := range tests {
				paths = append(paths, "/Group/"+group+"/$export?"+tt.query)
			}
			for i, got := range c.exports(paths...) {
				var want []string
				for _, name := range tests[i].want {
					want = append(want, "Provenance/"+name+ids["mark"])
				}
				if names := exportedNames(got, "Provenance/"); !slices.Equal(names, want) {
					t.Errorf("%s: got %v, want %v", tests[i].query, names, want)
				}
			}
			c.must(400, "GET", "/$export?includeAssociatedData=_everything", "", "Prefer", "respond-async")
			a.client(t, slug, "system/Observation.rs").must(403, "GET", "/$export?includeAssociatedData=LatestProvenanceResources", "", "Prefer", "respond-async")
		})
	}
}

// B-03, B-11: what was changed since the time of an export has its Provenance of then,
// and what was deleted has none.
func TestProvenanceIsOfWhatThereWas(t *testing.T) {
	staff := newAPI(t).client(t, storetest.A1, all)
	since, id := time.Now().UTC(), fresh()
	time.Sleep(5 * time.Millisecond)
	provenance := func(name, of, recorded string) string {
		return `{"resourceType":"Provenance","id":"` + name + id + `","recorded":"` + recorded + `","target":[{"reference":"Basic/` + of + id + `"}],"agent":[{"who":{"display":"x"}}]}`
	}
	basic := func(name, code string) string {
		return `{"resourceType":"Basic","id":"` + name + id + `","code":{"text":"` + code + `"}}`
	}
	for _, name := range []string{"stays", "changes", "goes"} {
		staff.must(201, "PUT", "/Basic/"+name+id, basic(name, "then"))
		staff.must(201, "PUT", "/Provenance/"+name+id, provenance(name, name, "2024-01-01T00:00:00Z"))
	}
	x := begin(t, storetest.A1, exporter, "/$export?_type=Basic&includeAssociatedData=LatestProvenanceResources&_since="+since.Format(time.RFC3339Nano))
	staff.must(200, "PUT", "/Basic/changes"+id, basic("changes", "now"))
	staff.must(204, "DELETE", "/Basic/goes"+id, "")
	staff.must(200, "PUT", "/Provenance/stays"+id, provenance("stays", "stays", "2020-01-01T00:00:00Z"))
	staff.must(201, "PUT", "/Provenance/newer"+id, provenance("newer", "stays", "2024-02-01T00:00:00Z"))
	x.work()
	got, _ := x.download(x.manifest(x.where))
	if names := exportedNames(got, "Provenance/"); !slices.Equal(names, []string{"Provenance/changes" + id, "Provenance/stays" + id}) {
		t.Errorf("exported %v", names)
	}
	if r := got["Provenance/stays"+id]; r["recorded"] != "2024-01-01T00:00:00Z" {
		t.Errorf("not as it was: %v", r)
	}
}

// B-30: who asks for it is told the state of an export apart from the status of the
// answer.
func TestTheStateOfAnExportIsToldApart(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, exporter)
	w := c.must(202, "GET", "/$export?_type=Organization", "", "Prefer", "respond-async, separate-export-status")
	if got := w.Header().Get("Preference-Applied"); got != "respond-async, separate-export-status" {
		t.Errorf("applied %q", got)
	}
	where := strings.TrimPrefix(w.Header().Get("Content-Location"), baseOf(c.slug))
	if w := c.exported(strings.TrimSuffix(where, "?"+separateStatus)); w.Code != 200 || w.Header().Get("X-Export-Status") != "" {
		t.Errorf("done: %d %v", w.Code, w.Header())
	}
	if w := c.must(200, "GET", where, ""); w.Header().Get("X-Export-Status") != "200 OK" || !strings.Contains(w.Body.String(), "transactionTime") {
		t.Errorf("done: %v %s", w.Header(), w.Body)
	}
	x := begin(t, storetest.A1, exporter, "/$export?_type=Organization")
	if w := x.must(200, "GET", x.where+"?"+separateStatus, ""); w.Header().Get("X-Export-Status") != "202 Accepted" || w.Header().Get("X-Progress") == "" || w.Body.Len() > 0 {
		t.Errorf("under way: %v %s", w.Header(), w.Body)
	}
	c.must(202, "DELETE", where, "")
	c.must(404, "GET", where, "")
}
