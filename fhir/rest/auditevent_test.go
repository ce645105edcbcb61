package rest

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// TEN-22: the trail is for auditors, and for patients what is
// about themselves, whatever the policy is.
func TestTheTrailIsForAuditorsAndWhatIsAboutAPatientForThePatient(t *testing.T) {
	for _, policy := range []string{"scopes", "clinic", "insurer", "patient-app"} {
		t.Run(policy, func(t *testing.T) {
			g := govern(t, newAPI(t), "trail-"+policy, shipped(t, policy))
			g.has("Patient/p", `"active":true`, "Patient/q", `"active":true`)
			g.service().must(200, "GET", "/Patient?_id=p,q&active=true", "")
			role := func(names ...string) smart.Person { return smart.Person{Roles: names} }

			auditor := g.staff("Practitioner/a", role("auditor"))
			body := auditor.must(200, "GET", "/AuditEvent?patient=Patient/p", "").Body.String()
			if strings.Count(body, `"code":"search-type"`) == 0 || !strings.Contains(body, "Patient/p") || !strings.Contains(body, `"network":{"address":"192`) && !strings.Contains(body, `"urn:ietf:params:oauth:jti:`) {
				t.Errorf("the auditor sees %s", body)
			}
			if got := auditor.do("GET", "/Patient/p", "").Code; policy != "scopes" && got != 403 {
				t.Errorf("the auditor reads a patient: %d", got)
			}
			if other := auditor.must(200, "GET", "/Patient/p/AuditEvent", "").Body.String(); strings.Count(other, `"fullUrl"`) < strings.Count(body, `"fullUrl"`) {
				t.Errorf("the compartment has %s, the search %s", other, body)
			}

			own := g.staff("Patient/p", smart.Person{})
			mine := own.must(200, "GET", "/AuditEvent?_count=100", "").Body.String()
			if !strings.Contains(mine, `"code":"search-type"`) || !strings.Contains(mine, "Patient/p") {
				t.Errorf("the patient does not see who searched: %s", mine)
			}
			for _, of := range []string{"Patient/q", "oauth:jti", `"network":{"address":"192`} {
				if strings.Contains(mine, of) {
					t.Errorf("the patient sees %s in %s", of, mine)
				}
			}
			for _, path := range []string{"/AuditEvent?patient=Patient/q", "/Patient/q/AuditEvent", "/AuditEvent?entity=Patient/q", "/AuditEvent?patient:not=Patient/p", "/AuditEvent?address=192"} {
				if w := own.do("GET", path, ""); w.Code == 200 && strings.Contains(w.Body.String(), `"fullUrl"`) {
					t.Errorf("the patient finds entries by %s: %s", path, w.Body)
				}
			}
			theirs := at(shown(t, auditor.must(200, "GET", "/AuditEvent?patient=Patient/q&_count=1", "")), "entry", 0, "resource", "id").(string)
			own.must(404, "GET", "/AuditEvent/"+theirs, "")

			for who, c := range map[string]*client{
				"a nurse":                        g.staff("Practitioner/n", onShift("ward-1", "nurse")),
				"a physician":                    g.staff("Practitioner/d", role("physician")),
				"staff for the patient they see": g.client(t, g.slug, "patient/*.rs", func(tok *smart.Token) { tok.User, tok.Patient = "Practitioner/d", "p" }),
				"another for the patient":        g.client(t, g.slug, "patient/*.rs", func(tok *smart.Token) { tok.User, tok.Patient = "RelatedPerson/r", "p" }),
				"a client for other types":       g.client(t, g.slug, "system/Patient.rs"),
			} {
				for _, path := range []string{"/AuditEvent", "/AuditEvent?patient=Patient/p", "/Patient/p/AuditEvent", "/AuditEvent/" + theirs} {
					if w := c.do("GET", path, ""); w.Code != 403 {
						t.Errorf("%s gets %s: %d %s", who, path, w.Code, w.Body)
					}
				}
			}
			if policy != "scopes" {
				g.service().must(403, "GET", "/AuditEvent", "")
			}
			if got := auditor.must(200, "GET", "/AuditEvent?subtype=read,search-type&entity-role=24&agent=Practitioner/a", "").Body.String(); !strings.Contains(got, `"code":"search-type"`) {
				t.Errorf("that the trail was read is not in the trail: %s", got)
			}
		})
	}
}

// AUD-06, AUD-17, IR-04: what is asked of the trail is answered truly, or refused by name.
func TestTheTrailIsSearchedByWhatAnEntryReadsAs(t *testing.T) {
	a := newAPI(t)
	for _, slug := range storetest.Slugs[:3] {
		t.Run(slug, func(t *testing.T) {
			id := fresh()
			doctor := a.client(t, slug, "user/*.cruds", func(tok *smart.Token) {
				tok.Client, tok.User, tok.Purpose = "Ward-App-"+id, "Practitioner/"+id, "ETREAT"
				tok.Person = smart.Person{Roles: []string{"physician"}, Location: "ward-" + id}
			})
			doctor.must(201, "PUT", "/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`"}`)
			doctor.must(200, "GET", "/Patient/"+id, "")
			doctor.must(404, "GET", "/Patient/"+fresh(), "")
			auditor := a.client(t, slug, "system/AuditEvent.rs", byClient("auditor-"+id))
			next := a.client(t, map[string]string{storetest.A1: storetest.A2, storetest.S1: storetest.S2, storetest.D1: storetest.A1}[slug], "system/AuditEvent.rs")
			for query, want := range map[string]int{
				"patient=" + id: 2, "entity=Patient/" + id: 2, "agent=Practitioner/" + id: 3, "agent=ward-app-" + id: 3, "agent:identifier=Ward-App-" + id: 3,
				"site=Location/ward-" + id: 3, "agent=Practitioner/" + id + "&purpose=ETREAT": 3, "agent=Practitioner/" + id + "&purpose=BTG": 0,
				"agent=Practitioner/" + id + "&agent-role=physician&outcome=4": 1, "patient=" + id + "&action=U": 1, "patient=" + id + "&action:not=U": 1,
				"patient=" + id + "&subtype=read&date=gt2020": 1, "patient=" + id + "&date=lt2020": 0, "patient=" + id + "&entity-type=1&type=rest": 2,
			} {
				w := auditor.must(200, "GET", "/AuditEvent?_total=accurate&_count=1&"+query, "")
				if got := at(shown(t, w), "total"); got != float64(want) {
					t.Errorf("%s: %v entries, want %d", query, got, want)
				}
				if w := next.must(200, "GET", "/AuditEvent?"+query, ""); strings.Contains(w.Body.String(), `"fullUrl"`) {
					t.Errorf("%s finds entries of the tenant next door: %s", query, w.Body)
				}
			}
			w := auditor.must(200, "GET", "/Practitioner/"+id+"/AuditEvent?_sort=date&_count=2", "")
			if got := at(shown(t, w), "entry", 0, "resource", "action"); got != "U" {
				t.Errorf("the oldest is %v: %s", got, w.Body)
			}
			link := at(shown(t, w), "link", 2, "url").(string)
			w = auditor.must(200, "GET", strings.TrimPrefix(link, baseOf(slug)), "")
			if got := at(shown(t, w), "entry", 0, "resource", "outcome"); got != "4" || strings.Count(w.Body.String(), `"fullUrl"`) != 1 {
				t.Errorf("the second page is %s", w.Body)
			}
			doctorsOwn := a.client(t, slug, "system/AuditEvent.rs", byClient("other-"+id))
			doctorsOwn.must(400, "GET", strings.TrimPrefix(link, baseOf(slug)), "") // somebody else's page
			for _, query := range []string{
				"patient.identifier=x", "agent:Practitioner.name=x", "_has:Provenance:target:agent=x", "_include=AuditEvent:patient", "_revinclude=Provenance:target",
				"_sort=agent", "_sort=-date,action", "_filter=action eq R", "_list=x", "_content=x", "unknown=x", "date=xx", "agent:foo=x",
			} {
				if w := auditor.do("GET", "/AuditEvent?"+strings.ReplaceAll(query, " ", "+"), ""); w.Code != 400 || strings.Contains(w.Body.String(), "eq R") {
					t.Errorf("%s: %d %s", query, w.Code, w.Body)
				}
			}
		})
	}
}
