package rest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/smart"
)

const labelPSY = `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PSY"}]}`

// the chart of a patient of whom something is labelled.
var labelled = []string{
	"Patient/p", `"name":[{"family":"Doe"}],"generalPractitioner":[{"reference":"Practitioner/gp"}]`,
	"Observation/plain", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}`,
	"Observation/psy", labelPSY + `,"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"},"derivedFrom":[{"reference":"Observation/plain"}]`,
	"Encounter/psy", labelPSY + `,"status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p"}`,
	"Condition/of-psy", `"subject":{"reference":"Patient/p"},"encounter":{"reference":"Encounter/psy"}`,
}

// What a label keeps from a user is as if it were not there.
func TestALabelHidesAResourceFromWhoLacksTheRoleForIt(t *testing.T) {
	g := govern(t, newAPI(t), "label-hides", shipped(t, "clinic"))
	g.has(labelled...)
	all := namesOf(labelled)
	open := []string{"Patient/p", "Observation/plain", "Condition/of-psy"}
	physician := func(roles ...string) *client {
		return g.staff("Practitioner/gp", smart.Person{Roles: append(roles, "physician")})
	}
	gp := physician()
	g.wantSeen("a physician", gp, all, open...)
	g.wantSeen("one for substance use", physician("substance-use"), all, open...)
	g.wantSeen("one for mental health", physician("mental-health"), all, all...)
	g.wantSeen("the patient", g.staff("Patient/p", smart.Person{}), all, all...)
	g.wantSeen("a service", g.service(), all, all...)
	t.Run("no path leads to it", func(t *testing.T) {
		for query, want := range map[string]int{
			"/Observation?patient=p":                                      1,
			"/Observation?_security=PSY":                                  0,
			"/Observation?_security:not=PSY":                              1,
			"/Condition?encounter.status=finished":                        0,
			"/Condition?_include=Condition:encounter":                     1,
			"/Observation?_id=plain&_revinclude=Observation:derived-from": 1,
			"/Observation?_has:Observation:derived-from:status=final":     0,
			"/Patient?_has:Encounter:patient:status=finished":             0,
			"/Patient?_has:Observation:patient:_security=PSY":             0,
			"/Patient/p/$everything":                                      3,
			"/Observation/_history":                                       1,
			"/?_type=Encounter,Observation":                               1,
			"/Observation?_filter=_security%20eq%20PSY":                   0,
		} {
			w := gp.do("GET", query, "")
			if got := strings.Count(w.Body.String(), `"fullUrl"`); w.Code != http.StatusOK || got != want {
				t.Errorf("%s: %d with %d entries, want %d: %s", query, w.Code, got, want, w.Body)
			}
		}
		if w := gp.do("GET", "/Observation/$meta", ""); strings.Contains(w.Body.String(), "PSY") {
			t.Errorf("the labels of the type: %s", w.Body)
		}
		w := gp.do("POST", "/$graphql", `{"query":"{o:Observation(id:\"psy\"){id} ObservationList(patient:\"p\"){id}}"}`, "Content-Type", "application/json")
		if strings.Contains(w.Body.String(), `"psy"`) || !strings.Contains(w.Body.String(), `"plain"`) {
			t.Errorf("graphql: %s", w.Body)
		}
		body := strings.Replace(`{"resourceType":"Observation","id":"psy",`+labelled[5]+`}`, labelPSY+",", "", 1)
		hidden := gp.do("PUT", "/Observation/psy", body)
		never := gp.do("PUT", "/Observation/never", strings.Replace(body, `"id":"psy"`, `"id":"never"`, 1))
		if hidden.Code != http.StatusNotFound || hidden.Code != never.Code {
			t.Errorf("replacing it: %d, what never was: %d", hidden.Code, never.Code)
		}
	})
	t.Run("a label that comes later hides the past, and what was hidden shows once it goes", func(t *testing.T) {
		parameters := `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"security":[{"code":"HIV"}]}}]}`
		refs := []string{"Observation/plain"}
		g.wantSeen("before", gp, refs, refs...)
		g.service().do("POST", "/Observation/plain/$meta-add", parameters)
		g.wantSeen("after", gp, refs)
		g.service().do("POST", "/Observation/plain/$meta-delete", parameters)
		if got := gp.do("GET", "/Observation/plain", "").Code; got != http.StatusOK {
			t.Errorf("without it: %d", got)
		}
		if got := gp.do("GET", "/Observation/plain/_history/2", "").Code; got != http.StatusNotFound {
			t.Errorf("the version that has it: %d", got)
		}
	})
}

func TestLabelsAreChangedByWhoThePolicyLets(t *testing.T) {
	a := newAPI(t)
	g := govern(t, a, "label-change", `
		@id("all") permit (principal, action in [Action::"view", Action::"change"], resource);
		@id("labels") permit (principal in Role::"privacy", action == Action::"label", resource) when { !resource.labels.contains("V") };`)
	someone := g.staff("Practitioner/a", smart.Person{})
	officer := g.staff("Practitioner/b", smart.Person{Roles: []string{"privacy"}})
	const r, v = `"meta":{"security":[{"code":"R"}]},`, `"meta":{"security":[{"code":"V"}]},`
	put := func(c *client, labels string, want int, has string) {
		t.Helper()
		w := c.do("PUT", "/Basic/b", `{"resourceType":"Basic","id":"b",`+labels+`"code":{"text":"x"}}`)
		if w.Code != want {
			t.Errorf("PUT with %q: %d, want %d: %s", labels, w.Code, want, w.Body)
		}
		now := someone.do("GET", "/Basic/b", "").Body.String()
		if has == "" && strings.Contains(now, `"security"`) || !strings.Contains(now, has) {
			t.Errorf("after PUT with %q, want %q: %s", labels, has, now)
		}
	}
	put(someone, r, 201, `"code":"R"`) // whoever writes something labels it
	put(someone, "", 200, `"code":"R"`)
	put(someone, `"meta":{"tag":[{"code":"t"}]},`, 200, `"security":[{"code":"R"}],"tag":[{"code":"t"}]`)
	put(someone, r, 200, `"code":"R"`)
	put(someone, v, 403, `"code":"R"`)
	put(someone, `"meta":{"security":[{"code":"R"},{"code":"PSY"}]},`, 403, `"code":"R"`)
	put(officer, v, 403, `"code":"R"`) // out of what they may label
	put(officer, `"meta":{"security":[{"code":"N"}]},`, 200, `"code":"N"`)
	put(officer, "", 200, "")
	put(someone, r, 403, "")
	parameters := `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"security":[{"code":"R"}]}}]}`
	for _, tt := range []struct {
		c         *client
		operation string
		want      int
	}{
		{someone, "add", 403}, {officer, "add", 200}, {someone, "delete", 403}, {officer, "delete", 200},
	} {
		if w := tt.c.do("POST", "/Basic/b/$meta-"+tt.operation, parameters); w.Code != tt.want {
			t.Errorf("$meta-%s: %d, want %d: %s", tt.operation, w.Code, tt.want, w.Body)
		}
	}
	t.Run("where the scopes decide, by backend services", func(t *testing.T) {
		g := govern(t, a, "label-scopes", shipped(t, "scopes"))
		g.service().must(201, "PUT", "/Basic/labelled", `{"resourceType":"Basic","id":"labelled",`+r+`"code":{"text":"x"}}`)
		w := g.staff("Practitioner/a", smart.Person{}).must(200, "PUT", "/Basic/labelled", `{"resourceType":"Basic","id":"labelled","code":{"text":"y"}}`)
		if !strings.Contains(w.Body.String(), `"code":"R"`) {
			t.Errorf("a user took the label away: %s", w.Body)
		}
		w = g.service().must(200, "PUT", "/Basic/labelled", `{"resourceType":"Basic","id":"labelled","code":{"text":"y"}}`)
		if strings.Contains(w.Body.String(), `"code":"R"`) {
			t.Errorf("a service could not take it away: %s", w.Body)
		}
	})
}
