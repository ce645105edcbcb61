package rest

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// trailExport follows the pages of an export and returns its lines.
func (c *client) trailExport(t testing.TB, slug, query string) (lines []byte, pages int) {
	t.Helper()
	for path := "/AuditEvent/$log-export?" + query; path != ""; pages++ {
		w := c.must(200, "GET", path, "")
		path = ""
		for _, p := range at(shown(t, w), "parameter").([]any) {
			switch at(p, "name") {
			case "lines":
				text, err := base64.StdEncoding.DecodeString(at(p, "valueBase64Binary").(string))
				if err != nil {
					t.Fatal(err)
				}
				lines = append(lines, text...)
			case "next":
				path = strings.TrimPrefix(at(p, "valueUri").(string), baseOf(slug))
			}
		}
	}
	return lines, pages
}

// AUD-10: what the trail says is given away with proofs, whoever asked and why is in
// it and in the trail, and it is for those who may read all of the trail.
func TestAnExportOfTheTrailProvesItselfWithoutTheServer(t *testing.T) {
	a, f := newAPI(t), storetest.New(t)
	for _, slug := range storetest.Slugs[:3] {
		t.Run(slug, func(t *testing.T) {
			key, sign := openLog(t, f, slug)
			id := fresh()
			doctor := a.client(t, slug, "system/Patient.cruds", byClient("doctor-"+id))
			doctor.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
			for range 4 {
				doctor.must(200, "GET", "/Patient/"+id, "")
			}
			sign()
			doctor.must(200, "GET", "/Patient/"+id, "") // that no checkpoint has yet

			auditor := a.client(t, slug, "system/AuditEvent.rs", byClient("auditor-"+id))
			lines, pages := auditor.trailExport(t, slug, "_count=2&patient="+id+"&why="+url.QueryEscape("asked for by the court"))
			var faults []string
			r := ledger.CheckExport(lines, key, nil, func(s string) { faults = append(faults, s) })
			if len(faults) > 0 || r.Entries != 6 || r.Proven != 5 || r.Unsigned != 1 || r.Pages != 3 || pages != 3 || r.Asked.Why != "asked for by the court" || r.Asked.Client != "auditor-"+id {
				t.Errorf("%v %+v of %d pages", faults, r, pages)
			}
			asked := auditor.must(200, "GET", "/AuditEvent?agent=auditor-"+id+"&subtype=operation", "").Body.String()
			if strings.Count(asked, `"fullUrl"`) != 3 {
				t.Errorf("the export is in the trail as %s", asked)
			}
			for why, status := range map[string]int{"": 400, "why=": 400, "why=%20": 400, "why=x&patient=a%20b": 400, "why=" + strings.Repeat("x", 501): 400, "why=x&why=y": 400} {
				if w := auditor.do("GET", "/AuditEvent/$log-export?"+why, ""); w.Code != status {
					t.Errorf("%s: %d %s", why, w.Code, w.Body)
				}
			}
			doctor.must(403, "GET", "/AuditEvent/$log-export?why=x&patient="+id, "")
			own := a.client(t, slug, "patient/*.rs", func(tok *smart.Token) { tok.User, tok.Patient = "Patient/"+id, id })
			own.must(403, "GET", "/AuditEvent/$log-export?why=x&patient="+id, "")
		})
	}
}
