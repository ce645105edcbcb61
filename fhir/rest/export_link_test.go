package rest

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// B-20: where a tenant allows that, who has the URL of a file has that file, without a
// token and as long as its client may have it; and nothing writes the link down.
func TestAFileIsAtALinkWhereTheTenantAllowsThat(t *testing.T) {
	const slug = storetest.D1
	on := storetest.New(t).Tenant(t, slug)
	c, _, disable, release := mayLeave(t, on, "linked", exporter)
	release()
	allow := func(links bool) {
		c.settings(t, slug, func(s *tenant.Settings) { s.Export.Links = links })
		storetest.New(t).Tenants.Forget(slug)
	}
	staff := newAPI(t).client(t, slug, all)
	staff.must(201, "POST", "/Organization", `{"resourceType":"Organization","name":"x"}`)
	staff.must(201, "POST", "/Location", `{"resourceType":"Location","name":"x"}`)
	where := c.kickOff("/$export?_type=Organization,Location")
	if m := c.manifest(where); !m.RequiresAccessToken || strings.Contains(m.Output[0].URL, "?") {
		t.Errorf("without the setting: %+v", m)
	}
	allow(true)
	defer allow(false)
	m := c.manifest(where)
	if m.RequiresAccessToken || len(m.Output) != 2 {
		t.Fatalf("%+v", m)
	}
	path := func(f bulk.FileItem) string { return strings.TrimPrefix(f.URL, baseOf(slug)) }
	file, link, _ := strings.Cut(path(m.Output[0]), "?")
	other, _, _ := strings.Cut(path(m.Output[1]), "?")
	nobody := &client{c.api, t, slug, ""}
	got := nobody.must(200, "GET", file+"?"+link, "").Body.String()
	if want := c.must(200, "GET", file, "").Body.String(); got != want || got == "" {
		t.Errorf("%q, want %q", got, want)
	}
	nobody.must(206, "GET", file+"?"+link, "", "Range", "bytes=0-9")
	for claim, at := range map[string]string{
		"no link": file, "a link to another file": other + "?" + link, "a link to no file": where + "?" + link, "to what is no export": "/Organization?" + link, "a changed one": file + "?" + link[:len(link)-2] + "AA",
	} {
		if w := nobody.do("GET", at, ""); w.Code != 401 {
			t.Errorf("%s: %d %s", claim, w.Code, w.Body)
		}
	}
	if w := nobody.do("DELETE", file+"?"+link, ""); w.Code != 401 && w.Code != 405 {
		t.Errorf("DELETE: %d", w.Code)
	}
	if w := (&client{c.api, t, storetest.A1, ""}).do("GET", file+"?"+link, ""); w.Code != 401 {
		t.Errorf("at another tenant: %d", w.Code)
	}
	allow(false)
	nobody.must(401, "GET", file+"?"+link, "")
	allow(true)
	nobody.must(200, "GET", file+"?"+link, "")
	disable()
	nobody.must(401, "GET", file+"?"+link, "")
	secret := strings.TrimPrefix(link, "_link=")
	if strings.Contains(c.logged.String(), secret[:40]) {
		t.Error("a link is in the log")
	}
	auditor := newAPI(t).client(t, slug, "system/AuditEvent.rs")
	if trail := auditor.must(200, "GET", "/AuditEvent?_count=200&_sort=-date", "").Body.String(); strings.Contains(trail, secret[:40]) || !strings.Contains(trail, "linked") {
		t.Error("a link is in the audit trail, or the client is not")
	}
}
