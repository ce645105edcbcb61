package fhirconf

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// clinical are the combinations of search parameters that US Core 3.1.1 or
// 6.1.0 wants of each type, those that it recommends among them. Parameters of
// its own, which R4 does not define, are left out.
// https://hl7.org/fhir/us/core/STU6.1/CapabilityStatement-us-core-server.html
var clinical = map[string][]string{
	"AllergyIntolerance": {"patient", "patient+clinical-status"},
	"CarePlan":           {"patient+category", "patient+category+status", "patient+category+date", "patient+category+status+date"},
	"CareTeam":           {"patient+status"},
	"Condition": {"patient", "patient+category", "patient+clinical-status", "patient+code", "patient+onset-date", "patient+recorded-date",
		"patient+category+clinical-status", "patient+abatement-date", "patient+category+encounter"},
	"Coverage":           {"patient"},
	"Device":             {"patient", "patient+type", "patient+status"},
	"DiagnosticReport":   {"patient", "patient+category", "patient+code", "patient+category+date", "patient+status", "patient+code+date"},
	"DocumentReference":  {"_id", "patient", "patient+type", "patient+category", "patient+category+date", "patient+period+type", "patient+status"},
	"Encounter":          {"_id", "patient", "patient+date", "identifier", "patient+class", "patient+status", "patient+type", "patient+location"},
	"Goal":               {"patient", "patient+lifecycle-status", "patient+target-date"},
	"Immunization":       {"patient", "patient+date", "patient+status"},
	"Location":           {"name", "address", "address-city", "address-state", "address-postalcode"},
	"MedicationDispense": {"patient", "patient+status", "patient+status+type"},
	"MedicationRequest":  {"patient+intent", "patient+intent+status", "patient+encounter+intent", "patient+authoredon+intent"},
	"Observation":        {"patient+category", "patient+code", "patient+category+date", "patient+category+status", "patient+code+date"},
	"Organization":       {"name", "address"},
	"Patient":            {"_id", "identifier", "name", "birthdate+name", "gender+name", "birthdate+family", "family+gender", "death-date+family"},
	"Practitioner":       {"name", "identifier", "_id"},
	"PractitionerRole":   {"specialty", "practitioner"},
	"Procedure":          {"patient", "patient+date", "patient+status", "patient+code+date"},
	"RelatedPerson":      {"_id", "patient", "name", "patient+name"},
	"ServiceRequest":     {"_id", "patient", "patient+category", "patient+code", "patient+category+authored", "patient+status", "patient+code+authored"},
	"Specimen":           {"_id", "patient"},
}

// reference loads the reference patients into a tenant of its own for these
// tests, once, and returns what it holds by type.
func reference(t *testing.T, s *server) (*client, map[string][]any) {
	t.Helper()
	c := s.client(t, storetest.S2, all)
	if len(c.find("/Group?_id=1a")) == 0 {
		for _, name := range []string{"85", "355", "907", "908"} {
			c.must(200, "POST", "", valid(t, testData(t, "inferno/uscore_bundle_patient_"+name+".json")))
		}
		c.put("%s", testData(t, "inferno/uscore_group_1a.json"))
	}
	held := map[string][]any{}
	for on := range clinical {
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
	for on, combinations := range clinical {
		t.Run(on, func(t *testing.T) {
			c := &client{t, c.base, c.token}
			for _, names := range combinations {
				list := uses(on, names, held[on], 6)
				if len(list) == 0 {
					t.Logf("the reference patients have nothing for %s", names)
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
	for on, combinations := range clinical {
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
				for _, names := range clinical[on] {
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
