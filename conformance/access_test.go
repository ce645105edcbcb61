package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// Group 3 of the breakout suite: direct access to objects, versions, history.
func TestAccess(t *testing.T) {
	outside(t, 3)
	// That it alerts once an hour is for cmd/cordon to test.
	t.Run("T058 somebody is alerted", func(t *testing.T) {
		if sys.alertCounts(t)["enumeration"] == 0 {
			t.Error("nobody is")
		}
	})

	breakout(t, "T060 a history is of one tenant, from its beginning", func(p *probe) {
		for _, path := range []string{"/_history?", "/Patient/_history?", "/Patient/_history?_at=" + time.Now().UTC().Format(time.RFC3339) + "&"} {
			seen, next := 0, p.attacker.base+path+"_count=500"
			for ; next != ""; seen++ {
				b := p.bundle(p.send(p.as("backend", "GET", next)))
				for _, e := range b.Entry {
					if !strings.HasPrefix(e.FullURL, p.attacker.base+"/") {
						p.Errorf("%s: an entry of %s", path, e.FullURL)
					}
				}
				next = b.next()
			}
			if seen == 0 {
				p.Errorf("%s: no page", path)
			}
		}
	})

	once(t, "T074 what is said about a hidden patient is hidden", func(p *probe) {
		for _, ref := range []string{"Consent/c2", "Subscription/s2"} {
			kind, _, _ := strings.Cut(ref, "/")
			never := p.want(p.get("pA", "/"+kind+"/never-was"), 403, 404)
			p.same(ref, never, p.get("pA", "/"+ref))
			p.want(p.get("reader", "/"+ref), 200)
		}
		p.want(p.get("dr1", "/Patient/p2"), 200)
		events := p.bundle(p.get("auditor", "/AuditEvent?patient=Patient/p2&_count=1"))
		if len(events.Entry) != 1 {
			p.Fatalf("the audit trail has %d entries about patient B", len(events.Entry))
		}
		never := p.want(p.get("pA", "/AuditEvent/0000000000000001"), 404)
		p.same("AuditEvent", never, p.get("pA", "/"+refOf(events.Entry[0].Resource)))
		own := p.bundle(p.get("pA", "/AuditEvent?patient=Patient/p2"))
		if len(own.Entry) != 0 {
			p.Errorf("patient A finds %d entries about patient B", len(own.Entry))
		}
	})

	// AUTHZ-16
	once(t, "T075 no type leaves the Patient compartment", func(p *probe) {
		cases := 0
		for _, on := range fhir.Types {
			if ofPatientB[on] == "" {
				continue
			}
			cases++
			path := "/" + string(on) + "/"
			never := p.want(p.get("pA", path+"never-was"), 404)
			p.same(path, never, p.get("pA", path+hiddenID))
			p.same(path+"_history/1", p.get("pA", path+"never-was/_history/1"), p.get("pA", path+hiddenID+"/_history/1"))
			p.same(path+"_history", p.get("pA", path+"never-was/_history"), p.get("pA", path+hiddenID+"/_history"))
			for _, query := range []string{"?_id=" + hiddenID, "?_total=accurate", "?_summary=count"} {
				b := p.bundle(p.get("pA", "/"+string(on)+query))
				if slices.Contains(b.refs(), string(on)+"/"+hiddenID) {
					p.Errorf("%s%s finds the record of patient B", on, query)
				}
				if query == "?_id="+hiddenID && (len(b.Entry) > 0 || b.Total != nil && *b.Total > 0) {
					p.Errorf("%s%s counts the record of patient B", on, query)
				}
			}
			if b := p.bundle(p.get("pB", "/"+string(on)+"?_id="+hiddenID)); len(b.Entry) != 1 {
				p.Errorf("%s: patient B does not find what is theirs", on)
			}
			p.want(p.get("pB", path+hiddenID), 200)
		}
		p.Logf("%d types", cases)
	})

	// The types outside the compartment: 403 before any lookup, or public.
	once(t, "a patient reaches no type but those of the record and its surroundings", func(p *probe) {
		around := []fhir.Type{"Patient", "AuditEvent", "Location", "Medication", "Organization", "Practitioner", "PractitionerRole", "Substance", "Device"}
		for _, on := range fhir.Types {
			if ofPatientB[on] != "" || slices.Contains(around, on) {
				continue
			}
			never := p.want(p.get("pA", "/"+string(on)+"/never-was"), 403)
			p.same(string(on), never, p.get("pA", "/"+string(on)+"/x2"))
			p.want(p.get("pA", "/"+string(on)), 403)
		}
		p.want(p.get("pA", "/Practitioner/dr1"), 200)
		p.want(p.get("pA", "/Patient/p2"), 404)
		p.want(p.get("pA", "/Patient/p1"), 200)
	})
}

// Group 4 as far as group 14 and the seeded faults lean on it.
func TestSearch(t *testing.T) { outside(t, 4) }

// fresh returns an id that nothing has.
func (p *probe) fresh(word string) string {
	return fmt.Sprintf("%s-%d", word, requests.Add(1))
}

// labResult is an Observation about the patient.
func labResult(id, patient, category, text string) string {
	return fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","category":[{"coding":[{"code":%q}]}],"code":{"text":%q},"subject":{"reference":"Patient/%s"}}`,
		id, category, text, patient)
}
