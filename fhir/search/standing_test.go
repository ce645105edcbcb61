package search_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// AUTHZ-13
func TestAStandingIsThereWhenTheResourceNamesSomebodyAtThatMoment(t *testing.T) {
	days := func(t *rapid.T, label string) string {
		return rapid.SampledFrom([]string{"", "2020-01-05", "2020-01-10", "2020-01-15T12:00:00Z", "2020-01-15T12:00:00.5+02:00", "2020-01", "soon"}).Draw(t, label)
	}
	period := func(t *rapid.T) string {
		if rapid.Bool().Draw(t, "no period") {
			return ""
		}
		var parts []string
		for _, end := range []string{"start", "end"} {
			if d := days(t, end); d != "" {
				parts = append(parts, fmt.Sprintf(`"%s":"%s"`, end, d))
			}
		}
		return fmt.Sprintf(`,"period":{%s}`, strings.Join(parts, ","))
	}
	rapid.Check(t, func(t *rapid.T) {
		on := rapid.SampledFrom([]fhir.Type{"CareTeam", "Encounter"}).Draw(t, "type")
		lists := map[string]string{"participant": "member"}
		status := []string{"active", "inactive", "entered-in-error"}
		if on == "Encounter" {
			lists = map[string]string{"participant": "individual", "location": "location"}
			status = []string{"planned", "arrived", "in-progress", "onleave", "finished"}
		}
		body := fmt.Sprintf(`{"resourceType":%q,"id":"a","status":%q,"subject":{"reference":%q}%s`, on, rapid.SampledFrom(status).Draw(t, "status"),
			rapid.SampledFrom([]string{"Patient/1", "Patient/2", "Group/1", "#p"}).Draw(t, "subject"), period(t))
		for _, list := range []string{"participant", "location"} {
			if lists[list] == "" {
				continue
			}
			var items []string
			for range rapid.IntRange(0, 3).Draw(t, "items") {
				at := ""
				if list == "location" && rapid.Bool().Draw(t, "has a status") {
					at = fmt.Sprintf(`,"status":%q`, rapid.SampledFrom([]string{"active", "planned", "completed"}).Draw(t, "status of location"))
				}
				items = append(items, fmt.Sprintf(`{%q:{"reference":%q}%s%s}`, lists[list],
					rapid.SampledFrom([]string{"Practitioner/7", "Location/7", "Practitioner/8", "http://elsewhere.org/Practitioner/7"}).Draw(t, "who"), period(t), at))
			}
			body += fmt.Sprintf(`,%q:[%s]`, list, strings.Join(items, ","))
		}
		body += "}"
		d, err := fhir.Parse([]byte(body), fhir.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		terms := search.R4.Index(d)
		r := fhir.Resource{Ref: fhir.Ref{Type: on, ID: "a"}}
		for _, code := range []string{"participant", "location"} {
			for _, who := range []fhir.Ref{{Type: "Practitioner", ID: "7"}, {Type: "Location", ID: "7"}} {
				for day := range 40 {
					at := time.Date(2019, 12, 31, 12, 0, 0, 0, time.UTC).AddDate(0, 0, day)
					link, ok := search.Stands(on, code, who, at).(search.ReverseChain)
					if !ok {
						continue
					}
					names, err := search.Match(link.X, &r, terms)
					if err != nil {
						t.Fatal(err)
					}
					for _, patient := range []string{"Patient/1", "Patient/2"} {
						want := names && strings.Contains(body, `"subject":{"reference":"`+patient+`"}`)
						got := false
						for _, s := range terms.Standings {
							got = got || s.How == link.Stand.How && s.Who == link.Stand.Who && s.Of == patient && !s.Lo.After(at) && s.Hi.After(at)
						}
						if got != want {
							t.Fatalf("%s at %s: a standing of %s to %s: %v, want %v: %+v", body, at, who, patient, got, want, terms.Standings)
						}
					}
				}
			}
		}
	})
}
