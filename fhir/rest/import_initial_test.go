package rest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// BULK-08: a first load stores what is on the lines of types that a tenant has none
// of, in every mode. What comes to be there meanwhile is not overwritten, its line is
// refused; so is an id that was on a line before.
func TestAFirstLoadStoresWhatIsNotThere(t *testing.T) {
	a := newAPI(t)
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			slug := "first-load-" + string(mode)
			if _, _, err := a.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: mode}); err != nil {
				t.Fatal(err)
			}
			c := a.client(t, slug, importer)
			where := c.kickImport(importing("initial", "Patient patients.ndjson", "Observation observations.ndjson"))
			c.must(201, "PUT", "/Patient/p-1", patient("p-1", "Before"))
			c.must(201, "PUT", "/Patient/p-2", patient("p-2", "Before"))
			c.must(204, "DELETE", "/Patient/p-2", "")
			const lines = 4500 // more than two batches
			var patients, observations []string
			for i := range lines {
				patients = append(patients, patient(fmt.Sprintf("p-%d", i), "First"))
				observations = append(observations, fmt.Sprintf(`{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p-%d"},"valueQuantity":{"value":%d,"unit":"kg"}}`, i, i))
			}
			patients = append(patients, patient("p-0", "Second"), patient("p-4499", "Second"), `nonsense`)
			c.upload(200, where, 1, lined(patients...))
			c.upload(200, where, 2, lined(observations...))
			m := c.imported(where)
			if m.Output[0].Count != lines-2 || m.Output[1].Count != lines {
				t.Errorf("%+v", m)
			}
			var told []string
			for _, f := range c.faults(m) {
				f, _, _ = strings.Cut(f, ":")
				told = append(told, strings.TrimPrefix(f, "conflict patients.ndjson line "))
			}
			slices.Sort(told)
			if want := []string{"2", "3", "4501", "4502", "structure patients.ndjson line 4503"}; !slices.Equal(told, want) {
				t.Errorf("the faults are %q", told)
			}
			for id, family := range map[string]string{"p-0": "First", "p-1": "Before", "p-4499": "First"} {
				if w := c.must(200, "GET", "/Patient/"+id, ""); !strings.Contains(w.Body.String(), family) || w.Header().Get("ETag") != `W/"1"` {
					t.Errorf("%s: %v %s", id, w.Header(), w.Body)
				}
			}
			c.must(410, "GET", "/Patient/p-2", "")
			for search, total := range map[string]int{
				"Patient?": lines - 1, "Patient?family=First&_id=p-4,p-4000": 2, "Observation?": lines,
				"Observation?subject=Patient/p-4400": 1, "Observation?value-quantity=gt4490": 9,
			} {
				if got := c.must(200, "GET", "/"+search+"&_summary=count", "").Body.String(); !strings.Contains(got, fmt.Sprintf(`"total":%d`, total)) {
					t.Errorf("%s finds %s, want %d", search, got, total)
				}
			}
			if versions, _ := c.walk("/Observation/_history?_count=1000"); len(versions) != lines {
				t.Errorf("%d versions of %d lines", len(versions), lines)
			}
			w := c.must(409, "POST", "/$import", importing("initial", "Device devices.ndjson", "Patient patients.ndjson"), "Prefer", "respond-async")
			if !strings.Contains(w.Body.String(), "resources of type Patient") {
				t.Error(w.Body)
			}
		})
	}
}

// BULK-08, AUTHZ-03: who may write only some of a type cannot ask for a first load of
// it: the answer would tell what is there.
func TestAFirstLoadIsForWhoMayWriteAllOfAType(t *testing.T) {
	a := newAPI(t)
	g := govern(t, a, "first-load-narrow", `
		@id("narrow")
		permit (principal == Client::"narrow", action, resource is Patient) when { resource.id == "seen" };
		@id("service")
		permit (principal in Role::"service", action, resource);`)
	narrow := g.client(t, g.slug, importer, func(tok *smart.Token) { tok.Client, tok.Subject = "narrow", "narrow" })
	ask := func(c *client) string {
		return c.must(403, "POST", "/$import", importing("initial", "Patient in.ndjson"), "Prefer", "respond-async").Body.String()
	}
	before := ask(narrow)
	g.has("Patient/hidden", `"active":true`)
	if after := ask(narrow); after != before {
		t.Errorf("%s, and with a Patient %s", before, after)
	}
	ask(a.client(t, g.slug, "system/Patient.rs"))
}
