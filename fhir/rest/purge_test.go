package rest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// purge removes what the tenant has of the patient.
func (a *api) purge(t testing.TB, slug, patient string) {
	t.Helper()
	asked, err := a.Migrator.AskPurge(t.Context(), slug, "ops", patient, "x")
	if err == nil {
		_, err = a.Migrator.ApprovePurge(t.Context(), slug, "chief", asked.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	x := &store.Purger{DB: a.DB, Registry: a.Registry, Tenants: func(context.Context) ([]*tenant.Tenant, error) {
		return []*tenant.Tenant{a.Tenant(t, slug)}, nil
	}}
	if err := x.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := a.Migrator.Purges(t.Context(), slug)
	if err != nil || list[0].Done.IsZero() {
		t.Fatal(list, err)
	}
}

// BULK-05: nothing that is kept shows what was purged: not the files of an export, nor
// an answer that waits for who asked; and no interaction finds it.
func TestNothingKeptShowsWhatWasPurged(t *testing.T) {
	a := newAPI(t)
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			slug := "purged-" + string(mode)
			if _, _, err := a.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: mode}); err != nil {
				t.Fatal(err)
			}
			staff, c := a.client(t, slug, all), a.client(t, slug, exporter)
			p, q := "p"+fresh(), "q"+fresh()
			for _, id := range []string{p, q} {
				staff.must(201, "PUT", "/Patient/"+id, patient(id, "Doe"))
				staff.must(201, "PUT", "/Basic/of"+id, `{"resourceType":"Basic","id":"of`+id+`","code":{"text":"x"},"subject":{"reference":"Patient/`+id+`"}}`)
			}
			export := func(id string) string {
				return c.kickedOff("POST", "/Patient/$export", `{"resourceType":"Parameters","parameter":[
					{"name":"_type","valueString":"Patient"},{"name":"patient","valueReference":{"reference":"Patient/`+id+`"}}]}`)
			}
			gone, stays := export(p), export(q)
			file := strings.TrimPrefix(c.manifest(gone).Output[0].URL, baseOf(slug))
			kept := c.manifest(stays)
			answer := staff.ask("GET", "/Patient?_id="+p, "")
			if w := staff.await(answer); !strings.Contains(w.Body.String(), p) {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			a.purge(t, slug, p)
			never := staff.must(404, "GET", "/Patient/never-there", "").Body.String()
			for _, path := range []string{"/Patient/" + p, "/Basic/of" + p, "/Patient/" + p + "/_history/1"} {
				if w := staff.must(404, "GET", path, ""); path == "/Patient/"+p && w.Body.String() != never {
					t.Errorf("%s: %s", path, w.Body)
				}
			}
			c.must(404, "GET", file, "")
			c.must(404, "GET", gone, "")
			staff.must(404, "GET", answer, "")
			if got, _ := c.download(kept); len(got) != 1 {
				t.Errorf("of another patient: %v", got)
			}
			staff.must(201, "PUT", "/Patient/"+p, patient(p, "New"))
			want := []string{"Basic/of" + q, "Patient/" + p, "Patient/" + q}
			if got := entries(t, staff.must(200, "GET", "/_history", "")); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
				t.Errorf("the history has %v, want %v", got, want)
			}
			if got := entries(t, staff.must(200, "GET", "/Patient/"+p+"/_history", "")); len(got) != 1 {
				t.Errorf("its own has %v", got)
			}
		})
	}
}
