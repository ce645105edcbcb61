package store_test

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

func TestExplainTellsTheWayAndNoValue(t *testing.T) {
	const secret = "zzsecretzz"
	for _, tt := range []struct {
		on    fhir.Type
		query string
		want  []string
	}{
		{"Observation", "patient=" + secret + "&code=http://s|" + secret, []string{"Observation.subject joined with Observation.code", "orders as the index does"}},
		{"Patient", "name:exact=" + secret, []string{"up to 10000 resources, to decide: Patient.name.family, Patient.name.given"}},
		{"Patient", "name=" + secret + "&_sort=family", []string{"orders by opening every match"}},
		{"Observation", "value-quantity=gt11.25&_sort=-value-quantity,status", []string{"goes along the index", "equal in the first"}},
		{"Observation", "_sort=-date,patient.name", []string{"orders as the index does by what", "what the matches refer to"}},
		{"Observation", "subject:Patient.identifier=" + secret, []string{"looks up the Patient of the chain first"}},
		{"Patient", "_has:Observation:patient:code=s|" + secret + "&_total=accurate", []string{"what of Observation refers to it", "counts every match"}},
		{"Patient", "_content=" + secret + "&_filter=family+ne+" + secret, []string{"words of Patient"}},
		{"Location", "near=11.25|12.5|13|km", []string{"within a distance"}},
		{"", "_type=Patient,Observation&_lastUpdated=gt2020-02-02&_list=" + secret, []string{"searches each type by itself, in turn: Patient, Observation", "meta.lastUpdated in a range"}},
		{"", "_type=Patient,Observation&_sort=-_lastUpdated", []string{"merges them"}},
		{"", "_type=Patient,Observation&_sort=_tag", []string{"orders by opening every match"}},
		{"Observation", "code=a,b,c", []string{"Observation.code (3 values)"}},
		{"Patient", "", []string{"asks for: everything", "begins with every resource"}},
	} {
		params, err := search.ParseQuery(tt.query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := search.Parse(tt.on, params, search.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(store.Explain(q), "\n")
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s?%s: no %q in\n%s", tt.on, tt.query, want, got)
			}
		}
		for _, value := range []string{secret, "11.25", "12.5", "2020-02"} {
			if strings.Contains(got, value) {
				t.Errorf("%s?%s: a value is in\n%s", tt.on, tt.query, got)
			}
		}
	}
}
