package rest

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// A record is what two patients of one tenant have, the second to be hidden
// from whoever asks for the first.
type record struct {
	p, other, practitioner, encounter string
}

// fill puts a record into the tenant. Its ids are the same in every tenant.
func (r record) fill(c *client) {
	put := func(t, id, body string) {
		c.t.Helper()
		c.must(201, "PUT", "/"+t+"/"+id, `{"resourceType":"`+t+`","id":"`+id+`",`+body+`}`)
	}
	subject := func(p string) string { return `"subject":{"reference":"Patient/` + p + `"}` }
	put("Practitioner", r.practitioner, `"active":true`)
	put("Organization", r.practitioner, `"name":"x"`)
	put("Organization", r.other, `"name":"SECRET of the other"`)
	for _, p := range []string{r.p, r.other} {
		owner := r.practitioner
		if p == r.other {
			owner = r.other
		}
		put("Patient", p, `"name":[{"family":"of `+c.slug+`"}],"managingOrganization":{"reference":"Organization/`+owner+`"}`)
	}
	put("Encounter", r.encounter, subject(r.p)+`,"status":"finished","class":{"code":"AMB"},"period":{"start":"2020-05-01","end":"2020-05-03"}`)
	for day := 1; day <= 9; day++ {
		for _, p := range []string{r.p, r.other} {
			put("Observation", fmt.Sprintf("%s-%d", p, day), subject(p)+`,"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"`+
				[]string{"laboratory", "vital-signs"}[day%2]+`"}]}],"code":{"text":"x"},"effectiveDateTime":"2020-0`+fmt.Sprint(day)+`-01","performer":[{"reference":"Practitioner/`+r.practitioner+`"}]`+
				`,"encounter":{"reference":"Encounter/`+r.encounter+`"}`)
		}
	}
	put("AllergyIntolerance", r.p, `"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]},"patient":{"reference":"Patient/`+r.p+`"}`)
	put("Group", r.p, `"type":"person","actual":true,"member":[{"entity":{"reference":"Patient/`+r.p+`"}},{"entity":{"reference":"Patient/`+r.other+`"}}]`)
	put("List", r.p, `"status":"current","mode":"working",`+subject(r.p)+`,"entry":[{"item":{"reference":"Patient/`+r.other+`"}}]`)
	put("List", r.other, `"status":"current","mode":"working",`+subject(r.p)+`,"entry":[{"item":{"reference":"Observation/`+r.p+`-1"}}]`)
	put("Provenance", r.p, `"target":[{"reference":"Patient/`+r.p+`"},{"reference":"Patient/`+r.other+`"}],"recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}]`)
}

func aRecord() record {
	return record{"p" + fresh(), "q" + fresh(), "d" + fresh(), "e" + fresh()}
}

// entries returns what an answer holds, as Type/id in order.
func entries(t testing.TB, w *httptest.ResponseRecorder) []string {
	t.Helper()
	var refs []string
	list, _ := at(shown(t, w), "entry").([]any)
	for _, e := range list {
		refs = append(refs, fmt.Sprint(at(e, "resource", "resourceType"), "/", at(e, "resource", "id")))
	}
	return refs
}

// walk follows the links of the pages of an answer.
func (c *client) walk(path string) (refs []string, pages int) {
	c.t.Helper()
	for path != "" {
		w := c.must(200, "GET", path, "")
		refs = append(refs, entries(c.t, w)...)
		if pages++; pages > 1000 {
			c.t.Fatal("the pages do not end")
		}
		path = c.next(w)
	}
	return refs, pages
}

// next returns the path of the next page, "" if there is none.
func (c *client) next(w *httptest.ResponseRecorder) string {
	c.t.Helper()
	links, _ := at(shown(c.t, w), "link").([]any)
	for _, l := range links {
		if at(l, "relation") == "next" {
			return strings.TrimPrefix(at(l, "url").(string), baseOf(c.slug))
		}
	}
	return ""
}

// T132, T133, T230: the record of a patient is what the caller may see of it,
// page by page, and nothing of another patient.
func TestEverythingOfAPatientIsTheirRecordAndNothingElse(t *testing.T) {
	a := newAPI(t)
	r := aRecord()
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			r.fill(c)
			path := "/Patient/" + r.p + "/$everything"
			want := []string{"Patient/" + r.p, "Encounter/" + r.encounter, "AllergyIntolerance/" + r.p, "List/" + r.other,
				"Organization/" + r.practitioner, "Practitioner/" + r.practitioner}
			for day := 1; day <= 9; day++ {
				want = append(want, fmt.Sprintf("Observation/%s-%d", r.p, day))
			}
			others := []string{"Group/" + r.p, "List/" + r.p, "Provenance/" + r.p}

			mine := a.client(t, slug, "patient/*.rs", inContext(r.p))
			one, pages := mine.walk(path)
			if pages != 1 {
				t.Errorf("%d pages", pages)
			}
			dated := slices.DeleteFunc(slices.Clone(one), func(ref string) bool { return !strings.HasPrefix(ref, "Observation/") })
			if slices.Reverse(dated); one[0] != "Patient/"+r.p || !slices.IsSorted(dated) {
				t.Errorf("not the patient first and then the newest: %v", one)
			}
			same(t, "by the patient", one, want)
			few, pages := mine.walk(path + "?_count=3")
			if pages != 5 {
				t.Errorf("%d pages of three", pages)
			}
			same(t, "in pages of three", few, want)
			staff, _ := c.walk(path)
			same(t, "by the staff", staff, append(slices.Clone(want), others...))

			got, _ := a.client(t, slug, "patient/Patient.rs patient/Observation.rs?category=laboratory patient/Practitioner.rs", inContext(r.p)).walk(path + "?_count=2")
			same(t, "by a narrow token", got, []string{"Patient/" + r.p, "Practitioner/" + r.practitioner,
				"Observation/" + r.p + "-2", "Observation/" + r.p + "-4", "Observation/" + r.p + "-6", "Observation/" + r.p + "-8"})
			if w := mine.do("GET", "/Patient/"+r.other+"/$everything", ""); w.Code != 404 || w.Body.String() != mine.do("GET", "/Patient/"+fresh(), "").Body.String() {
				t.Errorf("another's record: %d %s", w.Code, w.Body)
			}
			a.client(t, slug, "patient/Observation.rs", inContext(r.p)).must(403, "GET", path, "")
			for _, path := range []string{path, "/Patient/$everything"} {
				body := a.client(t, slug, "patient/*.rs", inContext(r.p)).do("GET", path, "").Body.String()
				if strings.Contains(body, r.other) && !strings.Contains(body, `"List"`) || strings.Contains(body, "SECRET") || strings.Contains(body, "Patient/"+r.other) {
					t.Errorf("%s shows something of another patient: %s", path, body)
				}
			}
		})
	}
}

// same reports what two sets of references do not share, and what comes twice.
func same(t *testing.T, how string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", how, got, want)
	}
}

// The parameters of $everything narrow it, on every page.
func TestEverythingIsNarrowedByItsParameters(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	r := aRecord()
	r.fill(c)
	path := "/Patient/" + r.p + "/$everything"
	observations := func(days ...int) (refs []string) {
		for _, d := range days {
			refs = append(refs, fmt.Sprintf("Observation/%s-%d", r.p, d))
		}
		return refs
	}
	for _, tt := range []struct {
		query string
		want  []string
	}{
		{"_type=Observation", observations(1, 2, 3, 4, 5, 6, 7, 8, 9)},
		{"_type=Observation&start=2020-08-01", observations(8, 9)},
		{"_type=Observation&end=2020-02-01", observations(1, 2)},
		{"_type=Observation&start=2020-03-01&end=2020-04-30", observations(3, 4)},
		{"_type=Encounter&start=2020-05-03", []string{"Encounter/" + r.encounter}},
		{"_type=Encounter&start=2020-05-04", nil},
		{"_type=Encounter&end=2020-05-01", []string{"Encounter/" + r.encounter}},
		{"_type=Encounter&end=2020-04-30", nil},
		{"_type=AllergyIntolerance&start=2020-08-01", []string{"AllergyIntolerance/" + r.p}},
		{"_type=Patient,Practitioner", []string{"Patient/" + r.p}},
		{"_type=Patient&_type=Organization", []string{"Patient/" + r.p, "Organization/" + r.practitioner}},
		{"_since=2999-01-01T00:00:00Z", nil},
		{"_since=2000-01-01T00:00:00Z&_type=Patient", []string{"Patient/" + r.p}},
	} {
		got, _ := c.walk(path + "?" + tt.query + "&_count=2")
		same(t, tt.query, got, tt.want)
	}
	for query, want := range map[string]string{
		"_type=Nonsense": "_type", "_type=AuditEvent": "/AuditEvent", "_since=CANARY": "_since", "start=CANARY": "start", "_count=0": "_count", "_sort=date": "_sort",
	} {
		w := c.must(400, "GET", path+"?"+query, "")
		if !strings.Contains(w.Body.String(), want) || strings.Contains(w.Body.String(), "CANARY") {
			t.Errorf("%s: %s", query, w.Body)
		}
	}
	w := c.must(200, "POST", path, `{"resourceType":"Parameters","parameter":[{"name":"_type","valueCode":"Observation"},{"name":"_count","valueInteger":4}]}`)
	next := c.next(w)
	if len(entries(t, w)) != 4 || next == "" {
		t.Fatalf("posted: %s", w.Body)
	}
	got, _ := c.walk(next)
	same(t, "after what was posted", append(entries(t, w), got...), observations(1, 2, 3, 4, 5, 6, 7, 8, 9))

	// T133: a page is of who asked, what was asked, and where.
	sealed := next[strings.Index(next, "?"):]
	mine := a.client(t, storetest.A1, "patient/*.rs", inContext(r.p))
	mine.must(400, "GET", next, "")
	a.client(t, storetest.A2, all).must(400, "GET", next, "")
	c.must(400, "GET", "/Patient/"+r.other+"/$everything"+sealed, "")
	c.must(400, "GET", "/Patient/$everything"+sealed, "")
	c.must(400, "GET", "/Patient/"+r.p+"/$meta"+sealed, "")
	c.must(400, "GET", "/Patient"+sealed, "")
}

// T134
func TestEverythingOfAnEncounterIsWhatTheCallerMaySee(t *testing.T) {
	a := newAPI(t)
	for _, slug := range storetest.Slugs {
		r := aRecord()
		c := a.client(t, slug, all)
		r.fill(c)
		path := "/Encounter/" + r.encounter + "/$everything?_type=Encounter,Patient,Observation&_count=5"
		want := []string{"Encounter/" + r.encounter, "Patient/" + r.p}
		for day := 1; day <= 9; day++ {
			want = append(want, fmt.Sprintf("Observation/%s-%d", r.p, day))
		}
		mine, _ := a.client(t, slug, "patient/*.rs", inContext(r.p)).walk(path)
		same(t, "by the patient", mine, want)
		for day := 1; day <= 9; day++ {
			want = append(want, fmt.Sprintf("Observation/%s-%d", r.other, day))
		}
		staff, _ := c.walk(path)
		same(t, "by the staff", staff, append(want, "Patient/"+r.other))
		a.client(t, slug, "patient/*.rs", inContext(r.other)).must(404, "GET", path, "")
	}
}

// Everything of the type goes from one patient to the next.
func TestEverythingOfAllPatientsIsPaged(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S1, all)
	var want []string
	for i := range 45 {
		id := fmt.Sprintf("%s-%02d", fresh(), i)
		c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
		want = append(want, "Patient/"+id)
		if i%9 == 0 {
			c.must(201, "PUT", "/Observation/"+id, `{"resourceType":"Observation","id":"`+id+`","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/`+id+`"}}`)
			want = append(want, "Observation/"+id)
		}
	}
	for _, count := range []int{11, 500} {
		got, _ := c.walk(fmt.Sprintf("/Patient/$everything?_count=%d", count))
		seen := map[string]bool{}
		for _, ref := range got {
			if seen[ref] && slices.Contains(want, ref) { // what is of two patients comes with each
				t.Errorf("by %d: %s comes twice", count, ref)
			}
			seen[ref] = true
		}
		for _, ref := range want {
			if !seen[ref] {
				t.Errorf("by %d: %s is missing", count, ref)
			}
		}
	}
	all := entries(t, c.must(200, "GET", "/Patient/$everything?_count=500", ""))
	if slices.Sort(all); len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Error("a page holds a resource twice")
	}
	id := strings.TrimPrefix(want[0], "Patient/")
	got, _ := a.client(t, storetest.S1, "patient/*.rs", inContext(id)).walk("/Patient/$everything?_count=1")
	same(t, "by the patient", got, []string{"Patient/" + id, "Observation/" + id})
}

// Each page has its place in the audit trail of the patients whom it shows; the
// encounter is one of two.
func TestEveryPageOfARecordIsAuditedUnderThePatient(t *testing.T) {
	a := newAPI(t)
	for _, slug := range storetest.Slugs[:3] {
		r := aRecord()
		c := a.client(t, slug, all)
		r.fill(c)
		for _, first := range []string{"/Patient/" + r.p + "/$everything?_count=3", "/Encounter/" + r.encounter + "/$everything?_count=6"} {
			var requests []string
			for path := first; path != ""; {
				requests = append(requests, fmt.Sprint(r.p, "-", fresh()))
				path = c.next(c.must(200, "GET", path, "", "X-Request-Id", requests[len(requests)-1]))
			}
			if len(requests) < 3 {
				t.Fatalf("%d pages", len(requests))
			}
			trail := ""
			for _, p := range map[bool][]string{true: {r.p}, false: {r.p, r.other}}[strings.HasPrefix(first, "/Patient")] {
				trail += c.must(200, "GET", "/AuditEvent?_count=100&patient="+url.QueryEscape("Patient/"+p), "").Body.String()
			}
			for page, id := range requests {
				if !strings.Contains(trail, id) {
					t.Errorf("%s: page %d is not in the trail of the patient", slug, page+1)
				}
			}
		}
	}
}

// Everything that leaves is in the audit trail, under the operation.
func TestEverythingIsAudited(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.D1, all)
	r := aRecord()
	r.fill(c)
	c.must(200, "GET", "/Patient/"+r.p+"/$everything?_count=5", "", "X-Request-Id", r.p)
	c.must(404, "GET", "/Patient/"+fresh()+"/$everything", "")
	w := c.must(200, "GET", "/AuditEvent?patient="+url.QueryEscape("Patient/"+r.p)+"&_count=3", "")
	found := 0
	list, _ := at(shown(t, w), "entry").([]any)
	for _, e := range list {
		if subtype := at(e, "resource", "subtype", 0, "code"); subtype == "operation" || subtype == "search-type" || subtype == "search-system" {
			found++
		}
	}
	if found < 2 {
		t.Errorf("%d entries of the patient are of the operation: %s", found, w.Body)
	}
}
