package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// AUTHZ-13: a database from before standings were kept answers as it did, and
// takes them in by itself.
func TestStandingsThatAreNotKeptYetAreFoundOutAndTakenIn(t *testing.T) {
	clinic, _ := smart.Profile("clinic")
	for i, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		d := openDoor(t)
		slug := fmt.Sprint("standing-", i)
		d.own(t, slug, mode)
		for p, member := range []string{"us", "us", "other"} {
			id := fmt.Sprint("p", p)
			d.put(t, slug, "Patient/"+id, `{"resourceType":"Patient","id":%q}`, id)
			d.put(t, slug, "CareTeam/"+id, `{"resourceType":"CareTeam","id":%q,"status":"active","subject":{"reference":"Patient/%s"},"participant":[{"member":{"reference":"Practitioner/%s"}}]}`, id, id, member)
			d.put(t, slug, "Encounter/"+id, `{"resourceType":"Encounter","id":%q,"status":"in-progress","class":{"code":"x"},"subject":{"reference":"Patient/%s"},"location":[{"location":{"reference":"Location/w"}}]}`, id, id)
		}
		d.choose(t, slug, clinic)
		want := d.rows(t, slug)
		x := d.Tenant(t, slug)
		conn := database(t, d.Fixture, x)
		for _, sql := range []string{`DELETE FROM %s.idx_standing WHERE tenant_id = %d`, `INSERT INTO %s.index_due VALUES (%d)`} {
			if _, err := conn.Exec(t.Context(), fmt.Sprintf(sql, x.Placement.Schema, x.ID.Int())); err != nil {
				t.Fatal(err)
			}
		}
		db := openDB(t, d.Fixture) // a server that starts now
		sees := func(when string) {
			t.Helper()
			for _, role := range []string{"nurse", "physician"} {
				grant := func() *smart.Grant {
					return d.as(t, slug, smart.Token{Scope: "user/*.rs", Client: "tester", User: "Practitioner/us",
						Person: smart.Person{Roles: []string{role}, Facilities: []string{"w"}, Location: "w", ShiftEnd: 1 << 40}})
				}
				list, _, err := (&door{d.Fixture, db, d.verifier}).pages(t, grant, "Patient", "")
				got := refsOf(list)
				slices.SortFunc(got, func(a, b fhir.Ref) int { return strings.Compare(a.ID, b.ID) })
				if err != nil || fmt.Sprint(got) != "[Patient/p0 Patient/p1]" {
					t.Errorf("%s, %s: a %s sees %v, %v", mode, when, role, got, err)
				}
			}
		}
		sees("before")
		due := func() int {
			return query[int](t, conn, `SELECT count(*) FROM `+x.Placement.Schema+`.index_due WHERE tenant_id = $1`, x.ID.Int())[0]
		}
		for round := 0; due() > 0; round++ {
			if round == 100 {
				t.Fatal("they are not taken in")
			}
			if _, err := store.NewIndexer(db, nil, 50).Tend(t.Context(), x); err != nil {
				t.Fatal(err)
			}
		}
		if got := d.rows(t, slug); got != want {
			t.Errorf("%s: the index is %s, want %s", mode, got, want)
		}
		sees("after")
		if d.rows(t, slug) != want {
			t.Errorf("%s: it is not left alone", mode)
		}
	}
}
