package rest

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/smart"
)

// AUD-01, CP-07: an entry says who did what, from where, at which tenant and
// server, when, and what was decided under which version of the policy, whoever it
// was and however it went.
func TestAnEntrySaysWhoDidWhatWhereAndWhatWasDecided(t *testing.T) {
	began := time.Now().Add(-time.Second)
	g := govern(t, newAPI(t), "audited", shipped(t, "scopes"))
	asNurse := func(tok *smart.Token) {
		tok.User, tok.Person = "Practitioner/n", smart.Person{Roles: []string{"nurse"}, Location: "ward-1"}
	}
	nurse, narrow := g.client(t, g.slug, "user/*.cruds", asNurse), g.client(t, g.slug, "user/Observation.rs", asNurse)
	system := g.client(t, g.slug, "system/*.cruds", byClient("etl"))
	nurse.must(201, "PUT", "/Patient/p", `{"resourceType":"Patient","id":"p"}`)
	nurse.must(200, "GET", "/Patient/p", "")
	nurse.must(200, "GET", "/Patient?_id=p", "")
	nurse.must(404, "GET", "/Patient/none", "")
	narrow.must(403, "GET", "/Patient/p", "")
	nurse.must(200, "POST", "", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/p"}}]}`)
	system.must(200, "GET", "/Patient/p", "")
	system.must(400, "GET", "/Patient?nothing=1", "")
	policy := "urn:cordon:policy:" + strconv.FormatInt(g.Tenant(t, g.slug).PolicyVersion, 10)

	list, _ := shown(t, g.client(t, g.slug, "system/AuditEvent.rs").must(200, "GET", "/AuditEvent?_count=100", ""))["entry"].([]any)
	if len(list) < 9 { // the batch has one of its own, and one of what is in it
		t.Fatalf("%d entries", len(list))
	}
	outcomes := map[any]int{}
	for _, x := range list {
		e := at(x, "resource")
		outcomes[at(e, "outcome")]++
		who, tenant, decided := "", false, []any(nil)
		for _, agent := range at(e, "agent").([]any) {
			name := at(agent, "who", "identifier", "value")
			tenant = tenant || name == baseOf(g.slug)
			if p, ok := at(agent, "policy").([]any); ok {
				decided = p
				who, _ = at(agent, "who", "reference").(string)
				if who == "" {
					who, _ = name.(string)
				}
			}
		}
		when, err := time.Parse(time.RFC3339, at(e, "recorded").(string))
		machine, _ := os.Hostname()
		for what, ok := range map[string]bool{
			"who":           who == "Practitioner/n" || who == "etl",
			"what":          at(e, "subtype", 0, "code") != nil && at(e, "action") != nil && at(e, "entity", 0) != nil,
			"from where":    at(e, "agent", 0, "network", "address") == "192.0.2.1",
			"which tenant":  tenant,
			"which server":  at(e, "source", "observer", "display") == machine,
			"what decided":  slices.Contains(decided, any(policy)) && len(decided) == 2, // and the token
			"how it went":   at(e, "outcome") == "0" || at(e, "outcomeDesc") != nil,
			"when":          err == nil && when.After(began) && when.Before(time.Now().Add(time.Second)),
			"at which ward": who != "Practitioner/n" || at(e, "source", "site") == "Location/ward-1",
		} {
			if !ok {
				t.Errorf("it is not said %s: %v", what, e)
			}
		}
	}
	if outcomes["0"] < 5 || outcomes["4"] < 2 {
		t.Errorf("outcomes %v", outcomes)
	}
}
