package rest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// deidentified makes a tenant whose client "research" gets de-identified exports.
func deidentified(t *testing.T, slug string) (g *governed, research *client) {
	t.Helper()
	g = govern(t, newAPI(t), slug, shipped(t, "scopes"))
	g.settings(t, g.slug, func(s *tenant.Settings) { s.Export = tenant.Export{} })
	const subject = `"subject":{"reference":"Patient/p"}`
	g.has("Patient/p", `"name":[{"family":"Canary"}],"gender":"female","birthDate":"1970-05-06","address":[{"city":"Canary","state":"MA","postalCode":"02134"}]`,
		"Observation/o", `"status":"final","code":{"text":"Canary","coding":[{"system":"http://loinc.org","code":"8480-6"}]},`+subject+`,"effectiveDateTime":"2020-05-06","valueQuantity":{"value":120,"unit":"canary"}`,
		"Encounter/e", `"status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB","display":"Canary"},`+subject+`,"period":{"start":"2020-05-01","end":"2020-05-06"}`,
		"DocumentReference/d", `"status":"current",`+subject+`,"content":[{"attachment":{"title":"Canary"}}]`)
	return g, g.client(t, g.slug, exporter, func(tok *smart.Token) { tok.Client, tok.Subject = "research", "research" })
}

// A client that the tenant lists gets what is de-identified: no text, and no id
// or date that is one of the tenant's, but the same references and distances.
func TestAnExportIsDeidentifiedForWhomTheTenantSays(t *testing.T) {
	g, research := deidentified(t, "export-deid")
	research.must(200, "GET", "/Patient/p", "")
	g.settings(t, g.slug, func(s *tenant.Settings) { s.Export.Deidentified = []string{"research"} })
	m := research.manifest(research.kickOff("/Patient/$export?_since=2020-01-01T00:00:00Z"))
	got, _ := research.download(m)
	names := exportedNames(got, "")
	if len(names) != 3 || m.Deleted != nil {
		t.Fatalf("%v %+v", names, m)
	}
	all := fmt.Sprint(got)
	for _, gone := range []string{"anary", "Patient/p ", "Patient/p]", "end:2020-05-06", "birthDate:1970-05-06", "effectiveDateTime:2020-05-06", "02134", "versionId", "lastUpdated"} {
		if strings.Contains(all, gone) {
			t.Errorf("%s is left: %s", gone, all)
		}
	}
	patient, encounter, observation := got[names[2]], got[names[0]], got[names[1]]
	for what, want := range map[any]any{
		at(encounter, "subject", "reference"): names[2], at(observation, "subject", "reference"): names[2], at(patient, "gender"): "female",
		at(observation, "effectiveDateTime"): at(encounter, "period", "end"), at(patient, "address", 0, "postalCode"): "021",
		at(observation, "meta", "security", 0, "code"): "PSEUDED", at(observation, "valueQuantity", "value"): 120.0,
	} {
		if what != want || want == nil {
			t.Errorf("%v, want %v: %v", what, want, all)
		}
	}
	again, _ := research.export("/$export")
	if !slices.Equal(exportedNames(again, ""), names) {
		t.Errorf("again: %v, then %v", names, exportedNames(again, ""))
	}
	g.settings(t, g.slug, func(s *tenant.Settings) {
		s.Export.Deidentified, s.Export.Dates = []string{"research", "more"}, tenant.Years
	})
	years, _ := research.export("/$export")
	if date := at(years[names[0]], "period", "start"); date != "2020" {
		t.Errorf("by years: %v", date)
	}
	more := g.client(t, g.slug, exporter, func(tok *smart.Token) { tok.Client, tok.Subject = "more", "more" })
	others, _ := more.export("/$export")
	if list := exportedNames(others, ""); len(list) != 3 || list[2] == names[2] {
		t.Errorf("another client has the same pseudonyms: %v", list)
	}
}

// Who gets what is de-identified reads nothing by another way, and asks for
// nothing by what is not shown.
func TestWhoGetsDeidentifiedExportsGetsNothingElse(t *testing.T) {
	g, research := deidentified(t, "export-deid-else")
	g.settings(t, g.slug, func(s *tenant.Settings) { s.Export.Deidentified = []string{"research"} })
	for _, path := range []string{"/Patient/p", "/Patient", "/Patient/p/_history", "/Patient/p/$everything", "/$graphql?query={Patient(id:\"p\"){id}}", "/AuditEvent", "/Patient?_summary=count"} {
		research.must(403, "GET", strings.ReplaceAll(strings.ReplaceAll(path, "{", "%7B"), "\"", "%22"), "")
	}
	for _, body := range []string{`{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/p"}}]}`} {
		research.must(403, "POST", "", body)
	}
	research.must(403, "GET", "/Patient", "", "Prefer", "respond-async")
	research.must(200, "GET", "/metadata", "")
	for _, query := range []string{"_typeFilter=" + url.QueryEscape("Patient?name=canary"), "organizeOutputBy=Patient", "includeAssociatedData=LatestProvenanceResources", "_type=DocumentReference"} {
		research.must(400, "GET", "/$export?"+query, "", "Prefer", "respond-async")
	}
	research.must(400, "POST", "/Patient/$export", `{"resourceType":"Parameters","parameter":[{"name":"patient","valueReference":{"reference":"Patient/p"}}]}`, "Prefer", "respond-async, handling=lenient")
	g.client(t, g.slug, exporter).must(200, "GET", "/Patient/p", "")
}

// A file that was written before its client was listed is not given away.
func TestAFileFromBeforeAClientIsDeidentifiedIsKeptFromIt(t *testing.T) {
	g, research := deidentified(t, "export-deid-before")
	m := research.manifest(research.kickOff("/$export?_type=Patient"))
	file := strings.TrimPrefix(m.Output[0].URL, baseOf(g.slug))
	research.must(200, "GET", file, "")
	g.settings(t, g.slug, func(s *tenant.Settings) { s.Export.Deidentified = []string{"research"} })
	research.must(http.StatusGone, "GET", file, "")
}
