package rest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// paramsOf returns the parameters of the name that a call answers with, over all
// its pages, each as its parts: name=value.
func (c *client) paramsOf(name, path string) (all []string) {
	c.t.Helper()
	for path != "" {
		answer := shown(c.t, c.must(200, "GET", path, ""))
		path = ""
		list, _ := answer["parameter"].([]any)
		for _, p := range list {
			p := p.(map[string]any)
			if p["name"] == "next" {
				path = strings.TrimPrefix(p["valueUri"].(string), baseOf(c.slug))
			}
			if p["name"] != name {
				continue
			}
			text := ""
			for _, part := range p["part"].([]any) {
				for key, value := range part.(map[string]any) {
					if key != "name" {
						text += " " + part.(map[string]any)["name"].(string) + "=" + strings.Trim(strings.ReplaceAll(fmt.Sprint(value), " ", "_"), `"`)
					}
				}
			}
			all = append(all, text+" ")
		}
	}
	return all
}

// AUD-11, AUD-12: a patient, and nobody else but an auditor, learns who saw the
// record, in what role and what for.
func TestAPatientLearnsWhoSawTheirRecord(t *testing.T) {
	a := newAPI(t)
	for _, slug := range storetest.Slugs[:3] {
		t.Run(slug, func(t *testing.T) {
			p, q, doc := fresh(), fresh(), fresh()
			all := a.client(t, slug, "system/*.cruds")
			for id, body := range map[string]string{
				"Patient/" + p: `"active":true`, "Patient/" + q: `"active":true`, "Organization/" + doc: `"name":"Harbor Clinic"`,
				"Practitioner/" + doc: `"name":[{"family":"Wong","given":["Ada"]}]`,
			} {
				on, name, _ := strings.Cut(id, "/")
				all.must(201, "PUT", "/"+id, `{"resourceType":"`+on+`","id":"`+name+`",`+body+`}`)
			}
			doctor := a.client(t, slug, "user/*.cruds", func(tok *smart.Token) {
				tok.Client, tok.User, tok.Purpose = "ward-app", "Practitioner/"+doc, "BTG"
				tok.Person = smart.Person{Roles: []string{"physician"}, Organizations: []string{doc}}
			})
			doctor.must(200, "GET", "/Patient/"+p, "")
			doctor.must(200, "GET", "/Patient?_id="+p+","+q, "")
			research := a.client(t, slug, "system/*.rs", func(tok *smart.Token) { tok.Client, tok.Purpose = "study-"+doc, "HRESCH" })
			research.must(200, "GET", "/Patient/"+p, "")

			patient := func(id string) *client {
				return a.client(t, slug, "user/*.rs", func(tok *smart.Token) { tok.User = "Patient/" + id })
			}
			log := patient(p).paramsOf("access", "/Patient/"+p+"/$access-log?_count=2")
			found := 0
			for _, one := range log {
				if strings.Contains(one, " user=Practitioner/"+doc+" ") {
					found++
					for _, want := range []string{" who=Ada_Wong ", " role=physician ", " organization=Harbor_Clinic ", " app=ward-app ", " purpose=BTG ", " emergency=true ", " event=AuditEvent/"} {
						if !strings.Contains(one, want) {
							t.Errorf("%s lacks %s", one, want)
						}
					}
				}
				if strings.Contains(one, q) {
					t.Errorf("the other patient is in the log: %s", one)
				}
			}
			if found != 2 || len(log) < 4 {
				t.Errorf("%d accesses of the doctor in %d:\n%s", found, len(log), strings.Join(log, "\n"))
			}
			for _, one := range patient(q).paramsOf("access", "/Patient/"+p+"/$access-log") {
				if !strings.Contains(one, " user=Patient/"+q+" ") { // but what they tried themselves
					t.Errorf("another patient sees %s", one)
				}
			}
			doctor.must(403, "GET", "/Patient/"+p+"/$access-log", "")

			auditor := a.client(t, slug, "user/*.rs", func(tok *smart.Token) {
				tok.Client, tok.User, tok.Person = "desk", "Practitioner/auditor-"+doc, smart.Person{Roles: []string{"auditor"}}
			})
			if n := len(auditor.paramsOf("access", "/AuditEvent/$timeline?agent=Practitioner/"+doc)); n != 4 {
				t.Errorf("%d entries in the timeline of the doctor, want 4: a read, a search of two patients, a refusal", n)
			}
			told := strings.Join(auditor.paramsOf("access", "/AuditEvent/$disclosures?_count=1&patient="+p), "\n")
			if !strings.Contains(told, " app=study-"+doc+" ") || strings.Contains(told, "BTG") || strings.Contains(told, "user=Patient/"+p) {
				t.Errorf("accounted for are\n%s", told)
			}
			affected := auditor.paramsOf("patient", "/AuditEvent/$affected-patients?agent=Practitioner/"+doc+"&_count=1")
			counts := map[string]int{}
			for _, one := range affected {
				for _, id := range []string{p, q} {
					if strings.Contains(one, "reference=Patient/"+id+" entries=1 ") {
						counts[id]++
					}
				}
			}
			if counts[p] != 2 || counts[q] != 1 {
				t.Errorf("affected are %v", affected)
			}
			for _, bad := range []string{"/AuditEvent/$timeline", "/AuditEvent/$affected-patients", "/AuditEvent/$disclosures?patient=x/y/z", "/AuditEvent/$timeline?agent=x&start=now", "/AuditEvent/$timeline?agent=x&foo=1"} {
				if w := auditor.do("GET", bad, ""); w.Code != 400 {
					t.Errorf("%s: %d %s", bad, w.Code, w.Body)
				}
			}
			for _, path := range []string{"/AuditEvent/$timeline?agent=x", "/AuditEvent/$disclosures?patient=" + p, "/AuditEvent/$affected-patients?agent=x"} {
				doctor.must(403, "GET", path, "")
				next := a.client(t, map[string]string{storetest.A1: storetest.A2, storetest.S1: storetest.S2, storetest.D1: storetest.A1}[slug], "system/AuditEvent.rs")
				if w := next.must(200, "GET", path, ""); strings.Contains(w.Body.String(), "part") {
					t.Errorf("%s next door: %s", path, w.Body)
				}
			}
		})
	}
}
