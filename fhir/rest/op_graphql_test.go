package rest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// GraphQL reads what the caller may see, and nothing else.
func TestGraphQLSelectsFromWhatTheCallerMaySee(t *testing.T) {
	a := newAPI(t)
	r := aRecord()
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			r.fill(c)
			mine := a.client(t, slug, "patient/*.rs", inContext(r.p))
			ask := func(c *client, path, query string) string {
				t.Helper()
				w := c.must(200, "GET", path+"/$graphql?query="+url.QueryEscape(query), "")
				if got := w.Header().Get("Content-Type"); got != "application/json" {
					t.Errorf("Content-Type %s", got)
				}
				if !json.Valid(w.Body.Bytes()) {
					t.Errorf("not JSON: %s", w.Body)
				}
				return w.Body.String()
			}
			for _, tt := range []struct{ claim, path, query, want string }{
				{"one resource", "", `{ Patient(id: "` + r.p + `") { id name { family given } who: active } }`,
					`{"data":{"Patient":{"id":"` + r.p + `","name":[{"family":"of ` + slug + `","given":null}],"who":null}}}`},
				{"the resource in the path", "/Patient/" + r.p, `{ resourceType name(family: "nobody") { family } }`, `{"data":{"resourceType":"Patient","name":[]}}`},
				{"a search", "", `query q($n: Int = 2) { ObservationList(patient: "Patient/` + r.p + `", _count: $n, category: "laboratory") { effectiveDateTime } }`,
					`{"data":{"ObservationList":[{"effectiveDateTime":"2020-08-01"},{"effectiveDateTime":"2020-06-01"}]}}`},
				{"what is referred to", "", `{ Observation(id: "` + r.p + `-1") { subject { resource { ...on Patient { id } ...p } } performer { reference resource { __typename } } } } fragment p on Patient { managingOrganization { resource(type: Organization) { ...o } } } fragment o on Organization { __typename }`,
					`{"data":{"Observation":{"subject":{"resource":{"id":"` + r.p + `","managingOrganization":{"resource":{"__typename":"Organization"}}}},"performer":[{"reference":"Practitioner/` + r.practitioner + `","resource":{"__typename":"Practitioner"}}]}}}`},
				{"what refers to it", "/Patient/" + r.p, `{ ObservationList(_reference: "patient", date: "ge2020-09") { id } }`, `{"data":{"ObservationList":[{"id":"` + r.p + `-9"}]}}`},
				{"with conditions", "/Patient/" + r.p, `{ id @skip(if: true) resourceType @include(if: true) }`, `{"data":{"resourceType":"Patient"}}`},
			} {
				if got := ask(mine, tt.path, tt.query); got != tt.want {
					t.Errorf("%s:\ngot  %s\nwant %s", tt.claim, got, tt.want)
				}
			}
			// What is hidden is as what never was.
			hidden := ask(mine, "", `{ Patient(id: "`+r.other+`") { id } }`)
			if never := ask(mine, "", `{ Patient(id: "`+fresh()+`") { id } }`); hidden != never || !strings.Contains(hidden, `"errors"`) {
				t.Errorf("hidden %s, never %s", hidden, never)
			}
			for _, query := range []string{
				`{ List(id: "` + r.p + `") { entry { item { resource(optional: true) { ...on Patient { name { family } } } } } } }`,
				`{ PatientList { managingOrganization { resource { ...on Organization { name } } } } }`,
				`{ ObservationList(_count: 100) { subject { resource { ...on Patient { managingOrganization { resource { ...on Organization { name } } } } } } } }`,
			} {
				if got := ask(mine, "", query); strings.Contains(got, "SECRET") || strings.Count(got, "of "+slug) > 1 {
					t.Errorf("%s: %s", query, got)
				}
			}
			if got := ask(a.client(t, slug, "patient/Observation.rs?category=laboratory", inContext(r.p)), "", `{ ObservationList(_count: 50) { subject { resource(optional: true) { ...on Patient { id } } } } }`); strings.Count(got, "null") != 4 || strings.Contains(got, r.p) {
				t.Errorf("a narrow token: %s", got)
			}
			mine.must(404, "GET", "/Patient/"+r.other+"/$graphql?query={id}", "")
			a.client(t, slug, "patient/Observation.rs", inContext(r.p)).must(403, "GET", "/$graphql?query={PatientList{id}}", "")

			w := c.must(200, "POST", "/$graphql", `{"query":"query q($id: ID) { Patient(id: $id) { id } }","variables":{"id":"`+r.p+`"},"operationName":"q"}`, "Content-Type", "application/json")
			if w.Body.String() != `{"data":{"Patient":{"id":"`+r.p+`"}}}` {
				t.Errorf("posted: %s", w.Body)
			}
			c.must(200, "POST", "/$graphql", `{ Patient(id: "`+r.p+`") { id } }`, "Content-Type", "application/graphql; charset=utf-8")
		})
	}
}

// A query that is malformed, deep or costly is refused, and its words are not
// repeated.
func TestGraphQLIsBounded(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	r := aRecord()
	r.fill(c)
	var fragments strings.Builder
	for i := range 40 {
		fmt.Fprintf(&fragments, "fragment f%d on Patient { %s id } ", i, strings.Repeat(fmt.Sprintf("...f%d ", i+1), 50))
	}
	fragments.WriteString("fragment f40 on Patient { id }")
	for _, tt := range []struct {
		claim, query string
		want         int
	}{
		{"malformed", `{ Patient(id: "CANARY" `, 400},
		{"empty", `{}`, 400},
		{"a mutation", `mutation { PatientCreate(res: "x") { id } }`, 400},
		{"an unknown type", `{ CANARY { id } }`, 400},
		{"an unknown field", `{ PatientList { CANARY1 } }`, 400},
		{"an unknown argument", `{ PatientList(CANARY1: 1) { id } }`, 400},
		{"an include", `{ PatientList(_include: "*") { id } }`, 400},
		{"the audit trail", `{ AuditEventList { id } }`, 400},
		{"nothing of an object", `{ PatientList }`, 400},
		{"something of a primitive", `{ PatientList { id { x } } }`, 400},
		{"an unknown fragment", `{ PatientList { ...none } }`, 400},
		{"a fragment of itself", `{ PatientList { ...f } } fragment f on Patient { name { family } link { other { resource { ...f } } } }`, 422},
		{"too deep", `{ ObservationList { ` + strings.Repeat(`subject { resource { ObservationList(_reference: "subject") { `, 6) + `id` + strings.Repeat(`} } }`, 6) + ` } }`, 422},
		{"one name for two fields", `{ a: PatientList { id } a: ObservationList { id } }`, 400},
		{"too many searches", `{ ObservationList(patient: "` + r.p + `") { subject { resource { ... on Patient { a: ObservationList(_reference: "patient") { id } b: ObservationList(_reference: "patient") { id } c: ObservationList(_reference: "patient") { id } d: ObservationList(_reference: "patient") { id } e: ObservationList(_reference: "patient") { id } f: ObservationList(_reference: "patient") { id } } } } } }`, 422},
		{"fragments of fragments", `{ PatientList { ...f0 } } ` + fragments.String(), 200},
		{"a directive", `{ PatientList { id @flatten } }`, 400},
		{"no variable", `query q($x: String) { Patient(id: $x) { id } }`, 400},
	} {
		w := c.do("POST", "/$graphql", tt.query, "Content-Type", "application/graphql")
		if w.Code != tt.want || strings.Contains(w.Body.String(), "CANARY\"") {
			t.Errorf("%s: %d %.300s, want %d", tt.claim, w.Code, w.Body, tt.want)
		}
	}
	c.must(415, "POST", "/$graphql", "{}", "Content-Type", "text/plain")
	c.must(400, "POST", "/$graphql", "[", "Content-Type", "application/json")
	w := c.must(200, "POST", "", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"$graphql?query={PatientList{id}}"}}]}`)
	if at(shown(t, w), "entry", 0, "response", "status") != "400 Bad Request" {
		t.Errorf("in a Bundle: %s", w.Body)
	}
	c.must(200, "GET", "/$graphql?query={PatientList(_count:1){id}}", "", "Prefer", "respond-async")
}

// Whatever is asked, reading the query ends, and no fault in it is ours.
func FuzzGraphQL(f *testing.F) {
	f.Add(`{ Patient(id: "x") { name(use: official, _count: 1) { family } } }`)
	f.Add(`query q($a: [Int] = [1, 2], $b: X = {c: 1}) { PatientList(a: $a) { ...f @skip(if: $b) } } fragment f on Patient { ...f }`)
	f.Fuzz(func(t *testing.T, query string) {
		req := &request{in: arguments{{name: "query", json: quote(nil, query), typ: "string"}}}
		if err := parseGraphQL(req); err != nil {
			if !isClientError(err) {
				t.Error(err)
			}
			return
		}
		g := &graph{graphQuery: *req.graph, req: req}
		p := fhir.Resource{Ref: fhir.Ref{Type: "Patient", ID: "x"}, Body: []byte(patient("x", "y"))}
		fields, err := g.collect(resourceSpot(p).t, g.operation.SelectionSet)
		for _, x := range fields {
			_, aerr := g.arguments(x)
			if aerr != nil {
				err = aerr
			}
		}
		if err != nil && !isClientError(err) {
			t.Error(err)
		}
	})
}

// A connection leads through all that a search finds, page by page, for who
// began it alone.
func TestAGraphQLConnectionHasPages(t *testing.T) {
	a := newAPI(t)
	r := aRecord()
	for _, slug := range storetest.Slugs[:3] {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			r.fill(c)
			mine := a.client(t, slug, "patient/*.rs", inContext(r.p))
			ask := func(c *client, status int, path, query string) any {
				t.Helper()
				return at(shown(t, c.must(status, "GET", path+"/$graphql?query="+url.QueryEscape(query), "")), "data")
			}
			const fields = ` { count offset pagesize first next edges { mode score resource { id effectiveDateTime } } } }`
			for _, walk := range []struct{ path, first string }{
				{"", `{ c: ObservationConnection(patient: "Patient/` + r.p + `", _count: 4, date__missing: false)`},
				{"/Patient/" + r.p, `{ c: ObservationConnection(_reference: "patient", _count: 4)`},
			} {
				var dates []string
				query := walk.first
				for page := 0; ; page++ {
					got := ask(mine, 200, walk.path, query+fields)
					if n := at(got, "c", "offset"); at(got, "c", "count") != 9.0 || n != float64(4*page) || at(got, "c", "pagesize") != 4.0 || at(got, "c", "edges", 0, "mode") != "match" {
						t.Errorf("page %d: %v", page, got)
					}
					for _, e := range at(got, "c", "edges").([]any) {
						dates = append(dates, at(e, "resource", "effectiveDateTime").(string))
					}
					next, more := at(got, "c", "next").(string)
					if !more {
						break
					}
					reference := ""
					if walk.path != "" {
						reference = `, _reference: "patient"`
						if page == 0 { // the pages of one record are not those of another
							c.must(400, "GET", "/Patient/"+r.other+"/$graphql?query="+url.QueryEscape(`{ ObservationConnection(_cursor: "`+next+`"`+reference+`) { count } }`), "")
						}
					}
					query = `{ c: ObservationConnection(_cursor: "` + next + `"` + reference + `)`
					if page == 0 {
						for who, other := range map[string]*client{"another client": c, "another patient": a.client(t, slug, "patient/*.rs", inContext(r.other)), "another tenant": a.client(t, storetest.S2, "patient/*.rs", inContext(r.p))} {
							if walk.path == "" && other.do("GET", "/$graphql?query="+url.QueryEscape(query+fields), "").Code != 400 {
								t.Errorf("%s goes on", who)
							}
						}
						mine.must(400, "GET", "/$graphql?query="+url.QueryEscape(`{ PatientConnection(_cursor: "`+next+`") { count } }`), "")
					}
				}
				if len(dates) != 9 || !slices.IsSortedFunc(dates, func(a, b string) int { return strings.Compare(b, a) }) {
					t.Errorf("%s: the pages hold %v", walk.path, dates)
				}
			}
			if got := ask(mine, 200, "", `{ ObservationList(_count: 2, _offset: 8) { effectiveDateTime } }`); fmt.Sprint(got) != "map[ObservationList:[map[effectiveDateTime:2020-01-01]]]" {
				t.Errorf("_offset: %v", got)
			}
			if got := ask(mine, 200, "", `{ ObservationConnection { next edges { __typename } } }`); len(at(got, "ObservationConnection", "edges").([]any)) != 9 {
				t.Errorf("without arguments: %v", got)
			}
			for _, query := range []string{
				`{ PatientConnection { id } }`, `{ PatientConnection { edges { id } } }`, `{ PatientConnection { edges } }`, `{ PatientConnection }`,
				`{ PatientConnection(_cursor: "x") { count } }`, `{ PatientList(_cursor: "x") { id } }`, `{ AuditEventConnection { count } }`, `{ NonsenseConnection { count } }`,
				`{ PatientConnection(family__nonsense: "x") { count } }`, `{ Connection { count } }`,
			} {
				if w := mine.do("GET", "/$graphql?query="+url.QueryEscape(query), ""); w.Code != 400 {
					t.Errorf("%s: %d %s", query, w.Code, w.Body)
				}
			}
		})
	}
}
