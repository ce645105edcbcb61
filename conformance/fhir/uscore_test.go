package fhirconf

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// guides are the releases of US Core that certification asks for.
var guides = []string{"us-core/hl7.fhir.us.core-3.1.1.tgz", "us-core/hl7.fhir.us.core-6.1.0.tgz"}

// A requirement is what a guide's CapabilityStatement wants of a server.
// https://hl7.org/fhir/us/core/STU6.1/CapabilityStatement-us-core-server.html
type requirement struct {
	canonical string
	resources []any
}

// requirements reads the guides.
func requirements(t *testing.T) (all []requirement) {
	t.Helper()
	for _, name := range guides {
		p, err := canonical.ReadPackage(bytes.NewReader(testData(t, name)))
		if err != nil {
			t.Fatal(err)
		}
		d, ok := canonical.NewSet(nil, p.Definitions).Find("CapabilityStatement", "http://hl7.org/fhir/us/core/CapabilityStatement/us-core-server")
		if !ok {
			t.Fatalf("%s has no requirements", name)
		}
		var v any
		if err := json.Unmarshal(d.JSON(), &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, requirement{d.Canonical(), list(at(v, "rest", 0, "resource"))})
	}
	return all
}

// extensionOf returns the first extension with a URL that ends so.
func extensionOf(v any, end string) any {
	for _, e := range list(at(v, "extension")) {
		if strings.HasSuffix(fmt.Sprint(at(e, "url")), end) {
			return e
		}
	}
	return nil
}

// expected reports whether a guide says of v that servers SHALL or SHOULD.
func expected(v any) bool {
	code := at(extensionOf(v, "expectation"), "valueCode")
	return code == "SHALL" || code == "SHOULD"
}

// clinical returns the parameters and combinations of them that US Core 3.1.1
// or 6.1.0 asks for, by type, those with a patient first: "patient+code".
func clinical(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	add := func(on string, names ...string) {
		slices.SortFunc(names, func(a, b string) int {
			if (a == "patient") != (b == "patient") {
				return map[bool]int{true: -1, false: 1}[a == "patient"]
			}
			return strings.Compare(a, b)
		})
		if joined := strings.Join(names, "+"); !slices.Contains(found[on], joined) {
			found[on] = append(found[on], joined)
		}
	}
	for _, r := range requirements(t) {
		for _, resource := range r.resources {
			on := fmt.Sprint(at(resource, "type"))
			for _, p := range list(at(resource, "searchParam")) {
				if expected(p) {
					add(on, fmt.Sprint(at(p, "name")))
				}
			}
			for _, e := range list(at(resource, "extension")) {
				if !strings.HasSuffix(fmt.Sprint(at(e, "url")), "search-parameter-combination") || !expected(e) {
					continue
				}
				var names []string
				for _, part := range list(at(e, "extension")) {
					if at(part, "url") == "required" {
						names = append(names, fmt.Sprint(at(part, "valueString")))
					}
				}
				add(on, names...)
			}
		}
	}
	for _, list := range found {
		slices.SortFunc(list, func(a, b string) int {
			if p := strings.HasPrefix(a, "patient"); p != strings.HasPrefix(b, "patient") {
				return map[bool]int{true: -1, false: 1}[p]
			}
			return strings.Compare(a, b)
		})
	}
	return found
}

// installGuides gives the tenant US Core, and waits until its search
// parameters are part of the index.
func installGuides(t *testing.T, s *server, slug string) {
	t.Helper()
	for _, name := range guides {
		file := testData(t, name)
		p, err := canonical.ReadPackage(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Migrator.InstallPackage(t.Context(), slug, sha256.Sum256(file), p); err != nil {
			t.Fatal(err)
		}
	}
	s.Tenants.Forget(slug)
	x := &store.Indexer{DB: s.DB}
	for range 100 {
		more, err := x.Tend(t.Context(), s.Tenant(t, slug))
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
	}
	t.Fatal("the search parameters of US Core are not ready")
}

// reference loads the reference patients into a tenant of its own for these
// tests, once, and returns what it holds by type.
func reference(t *testing.T, s *server) (*client, map[string][]any) {
	t.Helper()
	c := s.client(t, storetest.S2, all)
	if len(c.find("/Group?_id=1a")) == 0 {
		installGuides(t, s, storetest.S2)
		for _, name := range []string{"patient_85", "patient_355", "patient_907", "patient_908", "patient_client_test"} {
			c.must(200, "POST", "", valid(t, testData(t, "inferno/uscore_bundle_"+name+".json")))
		}
		c.put("%s", testData(t, "inferno/uscore_group_1a.json"))
	}
	held := map[string][]any{}
	for on := range clinical(t) {
		held[on] = c.every("/" + on + "?_count=200")
	}
	held["Provenance"], held["Medication"] = c.every("/Provenance?_count=200"), c.every("/Medication?_count=200")
	held["Endpoint"] = c.every("/Endpoint?_count=200")
	return c, held
}

// valid returns the Bundle without the entries that FHIR does not allow.
func valid(t *testing.T, bundle []byte) string {
	t.Helper()
	var b map[string]any
	if err := json.Unmarshal(bundle, &b); err != nil {
		t.Fatal(err)
	}
	b["resourceType"] = "Bundle"
	b["entry"] = slices.DeleteFunc(list(b["entry"]), func(e any) bool {
		body, err := json.Marshal(at(e, "resource"))
		if err != nil {
			t.Fatal(err)
		}
		d, err := fhir.Parse(body, fhir.Limits{})
		return err != nil || validate.Resource(d) != nil
	})
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// every returns the matches of a search, through all its pages.
func (c *client) every(path string) (found []any) {
	c.t.Helper()
	for a := c.must(200, "GET", path, ""); ; a = c.must(200, "GET", a.link("next"), "") {
		for _, e := range list(a.at("entry")) {
			if at(e, "search", "mode") == "match" {
				found = append(found, at(e, "resource"))
			}
		}
		if a.link("next") == "" {
			return found
		}
	}
}

func idsOf(resources []any) []string {
	ids := []string{}
	for _, r := range resources {
		ids = append(ids, at(r, "id").(string))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// A use is one search: a value for each of its parameters.
type use struct {
	on     string
	params []param
}

type param struct{ name, value string }

func (u use) query() string {
	v := url.Values{}
	for _, p := range u.params {
		v.Add(p.name, p.value)
	}
	return v.Encode()
}

// matches reports whether the resource meets each parameter of u.
func (u use) matches(r any) bool {
	for _, p := range u.params {
		if !meets(u.on, p.name, p.value, r) {
			return false
		}
	}
	return true
}

// check holds what the server finds to what matches, both ways, by GET and, if
// post is set, by POST.
func (u use) check(t *testing.T, c *client, held []any, post bool) {
	t.Helper()
	want := []any{}
	for _, r := range held {
		if u.matches(r) {
			want = append(want, r)
		}
	}
	got := c.every("/" + u.on + "?_count=200&" + u.query())
	if diff := cmp.Diff(idsOf(want), idsOf(got)); diff != "" {
		t.Errorf("%s?%s: %s", u.on, u.query(), diff)
	}
	if post {
		a := c.must(200, "POST", "/"+u.on+"/_search", "_count=200&_total=accurate&"+u.query())
		if a.at("total") != float64(len(got)) {
			t.Errorf("POST %s/_search %s: total %v, want %d", u.on, u.query(), a.at("total"), len(got))
		}
	}
}

// uses returns searches by the parameters, with values of up to n resources
// that have one for each.
func uses(on, names string, held []any, n int) (list []use) {
	for _, r := range held {
		u := use{on: on}
		for name := range strings.SplitSeq(names, "+") {
			if vs := values(on, name, r); len(vs) > 0 {
				u.params = append(u.params, param{name, vs[len(list)%len(vs)]})
			}
		}
		if len(u.params) == 1+strings.Count(names, "+") && !slices.ContainsFunc(list, func(o use) bool { return slices.Equal(o.params, u.params) }) {
			if list = append(list, u); len(list) == n {
				break
			}
		}
	}
	return list
}

func TestTheSearchesOfUSCoreFindWhatMatches(t *testing.T) { // U-01 S-10 S-11 S-14 S-15
	c, held := reference(t, newServer(t))
	for on, combinations := range clinical(t) {
		t.Run(on, func(t *testing.T) {
			c := &client{t, c.base, c.token}
			for _, names := range combinations {
				list := uses(on, names, held[on], 6)
				if len(list) == 0 {
					t.Errorf("the reference patients have nothing for %s", names)
				}
				for i, u := range list {
					u.check(t, c, held[on], i == 0)
					for j, p := range u.params {
						for _, other := range variants(on, p.name, p.value, i) {
							v := use{on, slices.Clone(u.params)}
							v.params[j].value = other
							v.check(t, c, held[on], false)
						}
					}
				}
			}
		})
	}
}

func TestTheCapabilityStatementMeetsUSCore(t *testing.T) { // U-03 U-04 H-52
	s := newServer(t)
	c, _ := reference(t, s)
	body := c.must(200, "GET", "/metadata", "")
	instantiates := fmt.Sprint(body.at("instantiates"))
	ours := map[string]any{}
	for _, r := range list(body.at("rest", 0, "resource")) {
		ours[fmt.Sprint(at(r, "type"))] = r
	}
	for _, r := range requirements(t) {
		if !strings.Contains(instantiates, r.canonical) {
			t.Errorf("instantiates has %s, want %s", instantiates, r.canonical)
		}
		for _, want := range r.resources {
			on := fmt.Sprint(at(want, "type"))
			got := ours[on]
			for _, profile := range list(at(want, "supportedProfile")) {
				ofOther := !strings.HasPrefix(fmt.Sprint(profile), "http://hl7.org/fhir/us/core/") // a guide that it depends on
				if !ofOther && !slices.Contains(list(at(got, "supportedProfile")), profile) {
					t.Errorf("%s: %v is not supported", on, profile)
				}
			}
			for _, p := range list(at(want, "searchParam")) {
				there := slices.ContainsFunc(list(at(got, "searchParam")), func(o any) bool {
					return at(o, "name") == at(p, "name") && at(o, "type") == at(p, "type")
				})
				if !there && expected(p) {
					t.Errorf("%s has no search parameter %v", on, at(p, "name"))
				}
			}
			for _, i := range list(at(want, "interaction")) {
				there := slices.ContainsFunc(list(at(got, "interaction")), func(o any) bool { return at(o, "code") == at(i, "code") })
				if !there && expected(i) {
					t.Errorf("%s has no interaction %v", on, at(i, "code"))
				}
			}
			for _, i := range list(at(want, "searchRevInclude")) {
				if !slices.Contains(list(at(got, "searchRevInclude")), i) {
					t.Errorf("%s has no _revinclude %v", on, i)
				}
			}
		}
	}
	neighbour := s.client(t, storetest.S1, all)
	if a := neighbour.must(200, "GET", "/metadata", ""); strings.Contains(string(a.body), "us/core") {
		t.Error("a tenant without US Core claims it")
	}
}

func TestSeveralValuesAreAlternatives(t *testing.T) { // U-01 S-04
	c, held := reference(t, newServer(t))
	for on, names := range map[string][]string{
		"CarePlan": {"status"}, "CareTeam": {"status"}, "Device": {"status"}, "DiagnosticReport": {"status"}, "DocumentReference": {"status"},
		"MedicationDispense": {"status", "type"}, "MedicationRequest": {"intent", "status"}, "Observation": {"status"}, "Procedure": {"status"}, "ServiceRequest": {"status"},
	} {
		for _, name := range names {
			var all []string
			for _, r := range held[on] {
				for _, v := range values(on, name, r) {
					if !slices.Contains(all, v) {
						all = append(all, v)
					}
				}
			}
			all = append(all, "nonsense")
			u := use{on, []param{{"patient", "85"}, {name, strings.Join(all, ",")}}}
			u.check(t, c, held[on], true)
		}
	}
}

func TestIncludesOfUSCoreBringWhatIsReferred(t *testing.T) { // U-02 S-30
	c, held := reference(t, newServer(t))
	provenance := 0
	for on, combinations := range clinical(t) {
		if !strings.HasPrefix(combinations[0], "patient") && on != "DocumentReference" && on != "Encounter" {
			continue
		}
		query := "/" + on + "?_count=200&patient=85&_revinclude=Provenance:target"
		if strings.HasPrefix(combinations[0], "patient+intent") {
			query += "&intent=order,plan"
		}
		a := c.must(200, "GET", query, "")
		matches := a.refs("match")
		want := []string{}
		for _, p := range held["Provenance"] {
			for _, target := range list(at(p, "target")) {
				if slices.Contains(matches, fmt.Sprint(at(target, "reference"))) {
					want = append(want, "Provenance/"+at(p, "id").(string))
					break
				}
			}
		}
		got := a.refs("include")
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
		provenance += len(got)
	}
	if provenance == 0 {
		t.Error("no Provenance is included at all")
	}
	for _, tt := range []struct{ query, from, to string }{
		{"/MedicationRequest?patient=85&intent=order,plan&_include=MedicationRequest:medication", "medicationReference", "Medication"},
		{"/MedicationDispense?patient=85&_include=MedicationDispense:medication", "medicationReference", "Medication"},
		{"/PractitionerRole?_include=PractitionerRole:endpoint", "endpoint", "Endpoint"},
		{"/PractitionerRole?_include=PractitionerRole:practitioner", "practitioner", "Practitioner"},
		{"/CareTeam?patient=85&_include=CareTeam:participant:Practitioner", "participant.member", "Practitioner"},
		{"/CareTeam?patient=85&_include=CareTeam:participant:Patient", "participant.member", "Patient"},
	} {
		a := c.must(200, "GET", tt.query+"&_count=200", "")
		want := []string{}
		for _, e := range list(a.at("entry")) {
			for _, v := range reach(at(e, "resource"), strings.Split(tt.from, ".")) {
				if ref := fmt.Sprint(at(v, "reference")); at(e, "search", "mode") == "match" && strings.HasPrefix(ref, tt.to+"/") {
					want = append(want, ref)
				}
			}
		}
		slices.Sort(want)
		want = slices.Compact(want)
		got := a.refs("include")
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || tt.to == "Medication" && strings.HasPrefix(tt.query, "/MedicationRequest") && len(got) == 0 {
			t.Errorf("%s: %v %s", tt.query, got, diff)
		}
	}
}

func TestReferencesOfTheReferencePatientsResolve(t *testing.T) { // U-05
	c, held := reference(t, newServer(t))
	seen := map[string]bool{}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, m := range v {
				walk(m)
			}
		case map[string]any:
			if ref, ok := v["reference"].(string); ok && strings.Count(ref, "/") == 1 && !seen[ref] {
				seen[ref] = true
				if a := c.do("GET", "/"+ref, ""); a.status != 200 && !strings.Contains(ref, "nobody") {
					t.Errorf("%s: %d", ref, a.status)
				}
			}
			for _, m := range v {
				walk(m)
			}
		}
	}
	for _, on := range []string{"Encounter", "CareTeam", "MedicationRequest", "Provenance", "PractitionerRole", "Goal"} {
		for _, r := range held[on] {
			walk(r)
		}
	}
	if len(seen) < 50 {
		t.Errorf("%d references", len(seen))
	}
}

// granular are the two sets of scopes that a patient chooses categories with.
// https://hl7.org/fhir/us/core/STU6.1/scopes.html
var granular = [][]string{
	{
		"patient/Condition.rs?category=http://terminology.hl7.org/CodeSystem/condition-category|encounter-diagnosis",
		"patient/Condition.rs?category=http://hl7.org/fhir/us/core/CodeSystem/condition-category|health-concern",
		"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
		"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|social-history",
	},
	{
		"patient/Condition.rs?category=http://terminology.hl7.org/CodeSystem/condition-category|problem-list-item",
		"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs",
		"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|survey",
		"patient/Observation.rs?category=http://hl7.org/fhir/us/core/CodeSystem/us-core-category|sdoh",
	},
}

// granted reports whether one of the scopes is for the resource's category.
func granted(scopes []string, on string, r any) bool {
	return slices.ContainsFunc(scopes, func(scope string) bool {
		of, category, _ := strings.Cut(strings.TrimPrefix(scope, "patient/"), ".rs?category=")
		return of == on && meets(on, "category", category, r)
	})
}

func TestGranularScopesShowTheirCategoriesOnly(t *testing.T) { // U-08 A-42
	s := newServer(t)
	_, held := reference(t, s)
	combinations := clinical(t)
	for i, scopes := range granular {
		shown := map[string]int{}
		for _, id := range []string{"85", "355"} {
			c := s.client(t, storetest.S2, strings.Join(append([]string{"patient/Patient.rs", "patient/Encounter.rs", "patient/Provenance.rs"}, scopes...), " "),
				func(tok *smart.Token) { tok.Patient = id })
			for _, on := range []string{"Condition", "Observation"} {
				var seen []any
				hidden := 0
				for _, r := range held[on] {
					if granted(scopes, on, r) && meets(on, "patient", id, r) {
						seen = append(seen, r)
						c.must(200, "GET", "/"+on+"/"+at(r, "id").(string), "")
						continue
					}
					if hidden++; hidden%5 == 0 {
						c.refused(404, "GET", "/"+on+"/"+at(r, "id").(string), "")
						c.refused(404, "GET", "/"+on+"/"+at(r, "id").(string)+"/_history/1", "")
					}
				}
				shown[on] += len(seen)
				for _, names := range combinations[on] {
					for _, u := range uses(on, names, held[on], 4) {
						u.check(t, c, seen, true)
					}
				}
				// What is hidden is not told by what refers to it.
				for _, r := range held[on] {
					if !slices.ContainsFunc(seen, func(o any) bool { return at(o, "id") == at(r, "id") }) {
						if got := c.find("/Patient?_has:" + on + ":patient:_id=" + at(r, "id").(string)); len(got) > 0 {
							t.Errorf("%s/%v is told of by _has", on, at(r, "id"))
						}
						break
					}
				}
			}
			if got := c.must(200, "GET", "/Encounter?patient="+id+"&_count=200&_revinclude=Condition:encounter", ""); len(got.refs("match")) == 0 && id == "85" {
				t.Errorf("no Encounter of %s", id)
			} else {
				for _, e := range list(got.at("entry")) {
					if at(e, "search", "mode") == "include" && !granted(scopes, "Condition", at(e, "resource")) {
						t.Errorf("%v is included", at(e, "fullUrl"))
					}
				}
			}
			c.must(200, "GET", "/Patient/"+id, "")
			c.refused(403, "GET", "/Immunization?patient="+id, "")
		}
		if shown["Condition"] == 0 || shown["Observation"] == 0 {
			t.Errorf("set %d shows %v", i, shown)
		}
	}
}
