package rest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// S-42: contained resources follow the visibility of what contains them.
func TestContainedResourcesAreSearchedWithTheirContainers(t *testing.T) { // T089
	a := newAPI(t)
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		c, id := a.client(t, slug, all), fresh()
		coding := func(code string) string {
			return fmt.Sprintf(`"code":{"coding":[{"system":"s","code":"%s-%s"}]}`, id, code)
		}
		c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
		c.must(201, "PUT", "/Medication/"+id, `{"resourceType":"Medication","id":"`+id+`",`+coding("a")+`}`)
		for i, code := range []string{"a", "b", "a"} {
			c.must(201, "PUT", fmt.Sprintf("/MedicationRequest/%s-%d", id, i), fmt.Sprintf(`{"resourceType":"MedicationRequest","id":"%s-%d","status":"active","intent":"order",
				"subject":{"reference":"Patient/%s"},"medicationReference":{"reference":"#m"},"supportingInformation":[{"reference":"#other"}],"contained":[{"resourceType":"Medication","id":"other","status":"inactive"},{"resourceType":"Medication","id":"m",%s,"status":"active"}]}`,
				id, i, id, coding(code)))
		}
		code := "code=s|" + id + "-a"
		for query, want := range map[string][]string{
			code: {"/Medication/" + id}, code + "&_contained=false": {"/Medication/" + id},
			code + "&_contained=true":                                                 {"/MedicationRequest/" + id + "-0", "/MedicationRequest/" + id + "-2"},
			code + "&_contained=true&_count=1":                                        {"/MedicationRequest/" + id + "-2"},
			code + "&_contained=true&_containedType=container":                        {"/MedicationRequest/" + id + "-0", "/MedicationRequest/" + id + "-2"},
			code + "&_contained=true&_containedType=contained":                        {"/MedicationRequest/" + id + "-0#m", "/MedicationRequest/" + id + "-2#m"},
			code + "&_contained=both":                                                 {"/Medication/" + id, "/MedicationRequest/" + id + "-0", "/MedicationRequest/" + id + "-2"},
			code + "&_contained=both&_containedType=contained":                        {"/Medication/" + id, "/MedicationRequest/" + id + "-0#m", "/MedicationRequest/" + id + "-2#m"},
			code + "&status=inactive&_contained=true":                                 nil,
			"_filter=code+eq+s|" + id + "-b&_contained=true&_containedType=contained": {"/MedicationRequest/" + id + "-1#m"},
		} {
			s := shown(t, c.must(200, "GET", "/Medication?"+query, ""))
			var got []string
			if list, ok := at(s, "entry").([]any); ok {
				for _, e := range list {
					got = append(got, strings.TrimPrefix(at(e, "fullUrl").(string), baseOf(slug)))
				}
			}
			if slices.Sort(got); len(got) != len(want) || !strings.Contains(query, "_count") && !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", query, got, want)
			}
		}
		s := shown(t, c.must(200, "GET", "/Medication?"+code+"&_contained=both&_summary=count", ""))
		if at(s, "total") != 3.0 {
			t.Errorf("counts %v", at(s, "total"))
		}
		narrow := a.client(t, slug, "system/Medication.rs")
		s = shown(t, narrow.must(200, "GET", "/Medication?"+code+"&_contained=both", ""))
		if n := len(at(s, "entry").([]any)); n != 1 {
			t.Errorf("without a right to requests %d are found, want the Medication alone", n)
		}
		a.client(t, slug, "system/MedicationRequest.rs").must(403, "GET", "/Medication?"+code+"&_contained=true", "")
		for _, query := range []string{"_contained=x", "_containedType=contained", "_contained=true&_sort=status", "_contained=true&ingredient:Medication.status=active", "_contained=true&_containedType=x"} {
			c.must(400, "GET", "/Medication?"+query, "")
		}
		c.must(400, "GET", "/Patient/"+id+"/MedicationRequest?_contained=true", "")
		c.must(400, "GET", "?_contained=true", "")
	}
}
