package search_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

func location(lat, lon float64) string {
	return fmt.Sprintf(`{"resourceType":"Location","id":"1","position":{"longitude":%v,"latitude":%v}}`, lon, lat)
}

// S-17: the special parameter near.
func TestALocationIsFoundByItsDistance(t *testing.T) {
	// From Utrecht to Amsterdam it is 35 km as the crow flies.
	check(t, location(52.3731, 4.8922),
		[]string{"near=52.0907|5.1214|36|km", "near=52.0907|5.1214|36", "near=52.0907|5.1214", "near=52.0907|5.1214|36000|m", "near=52.0907|5.1214|22|[mi_us]",
			"near=52.3731|4.8922|0|km", "near=1|1|1|km,52.0907|5.1214|36|km", "near:missing=false", "near=52.0907|5.1214|30000|km"},
		[]string{"near=52.0907|5.1214|34|km", "near=52.0907|5.1214|21|[mi_us]", "near=52.0907|5.1214|36|m", "near=-52.0907|5.1214|36|km", "near:missing=true"})
	// Places on both sides of the line where the days meet are neighbours,
	// and so are those around a pole.
	check(t, location(-16.5, 179.99), []string{"near=-16.5|-179.99|3|km"}, []string{"near=-16.5|-179.99|2|km"})
	check(t, location(-16.5, -179.99), []string{"near=-16.5|179.99|3|km"}, []string{"near=-16.5|179.99|2|km"})
	check(t, location(89.99, 0), []string{"near=89.99|180|3|km"}, []string{"near=89.99|180|2|km"})
	check(t, `{"resourceType":"Location","id":"1"}`, []string{"near:missing=true"}, []string{"near=0|0|30000|km"})
}

func TestMalformedDistancesAreRefused(t *testing.T) {
	for value, code := range map[string]fhir.IssueCode{
		"1": fhir.Invalid, "1|2|3|km|x": fhir.Invalid, "x|2|3|km": fhir.Invalid, "1||3|km": fhir.Invalid, "91|2|3|km": fhir.Invalid,
		"1|181|3|km": fhir.Invalid, "1|2|-3|km": fhir.Invalid, "1|2||km": fhir.Invalid, "NaN|2|3|km": fhir.Invalid, "1|2|1e999|km": fhir.Invalid,
		"1|2|3|kg": fhir.NotSupported,
	} {
		if _, err := parse(t, "Location", "near="+value); !fhir.IsCode(err, code) {
			t.Errorf("near=%s: %v, want %s", value, err, code)
		}
	}
	if _, err := parse(t, "Location", "near:exact=1|2|3"); !fhir.IsCode(err, fhir.NotSupported) {
		t.Error(err)
	}
}

func TestTheBoxOfADistanceHoldsItsCircle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lat, lon := rapid.Float64Range(-90, 90).Draw(t, "lat"), rapid.Float64Range(-180, 180).Draw(t, "lon")
		near := func(a, span float64) float64 {
			return rapid.Float64Range(max(a-1, -span), min(a+1, span)).Draw(t, "near")
		}
		atLat, atLon := near(lat, 90), near(lon, 180)
		if rapid.Bool().Draw(t, "far") {
			atLon = rapid.Float64Range(-180, 180).Draw(t, "farLon")
		}
		d, err := fhir.Parse([]byte(location(lat, lon)), fhir.Limits{})
		if err != nil {
			t.Skip()
		}
		params := []search.Param{{Name: "near", Value: fmt.Sprintf("%v|%v|%v|km", atLat, atLon, rapid.Float64Range(0, 21000).Draw(t, "km"))}}
		q, err := search.Parse("Location", params, search.Options{})
		if err != nil {
			t.Skip()
		}
		all, ok := q.Where.(search.And)
		if !ok {
			t.Fatal(q.Where)
		}
		r, terms := &fhir.Resource{Ref: fhir.Ref{Type: "Location", ID: "1"}}, search.R4.Index(d)
		for _, e := range all {
			if w, is := e.(search.Within); is {
				if within, _ := search.Match(w, r, terms); !within {
					return
				}
			}
		}
		if ok, err := search.Match(q.Where, r, terms); !ok || err != nil {
			t.Fatalf("%v is within %v and not in its box", d.ID, params)
		}
	})
}
