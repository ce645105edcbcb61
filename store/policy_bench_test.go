package store_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// BenchmarkPolicy is what the access policy of a clinic adds to a read and to
// searches of a nurse and a physician, as against the scopes alone. It says how
// much of the processor this process takes, which is not what PostgreSQL does.
func BenchmarkPolicy(b *testing.B) {
	d := openDoor(b)
	const patients, theirs = 300, 20
	clinic, _ := smart.Profile("clinic")
	for slug, policy := range map[string]string{"bench-scopes": "", "bench-clinic": clinic} {
		d.governed(b, slug)
		for i := range patients {
			p := fmt.Sprintf("p%d", i)
			d.put(b, slug, "Patient/"+p, `{"resourceType":"Patient","id":"%s"}`, p)
			member := "other"
			if i < theirs {
				member = "us"
			}
			d.put(b, slug, "CareTeam/"+p, `{"resourceType":"CareTeam","id":"%s","status":"active","subject":{"reference":"Patient/%s"},"participant":[{"member":{"reference":"Practitioner/%s"}}]}`, p, p, member)
			d.put(b, slug, "Encounter/"+p, `{"resourceType":"Encounter","id":"%s","status":"in-progress","class":{"code":"x"},"subject":{"reference":"Patient/%s"},"location":[{"location":{"reference":"Location/w"}}]}`, p, p)
			d.put(b, slug, "Observation/"+p, `{"resourceType":"Observation","id":"%s","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8302-2"}]},"subject":{"reference":"Patient/%s"},"effectiveDateTime":"2016-08-07T06:39:08-04:00"}`, p, p)
		}
		if policy != "" {
			d.choose(b, slug, policy)
		}
	}
	person := smart.Person{Facilities: []string{"w"}, Location: "w", ShiftEnd: 1 << 40}
	for _, who := range []string{"scopes", "nurse", "physician"} {
		slug := "bench-clinic"
		if who == "scopes" {
			slug = "bench-scopes"
		}
		person.Roles = []string{who}
		g := d.as(b, slug, smart.Token{Scope: "user/*.cruds", Client: "tester", User: "Practitioner/us", Person: person})
		b.Run("read/"+who, func(b *testing.B) {
			measured(b, func() error {
				_, err := d.db.Read(context.Background(), g.Entry(), fhir.Ref{Type: "Observation", ID: "p7"})
				return err
			})
		})
		for name, query := range map[string]string{"of a patient": "patient=p7&_count=20", "by code": "code=http://loinc.org|8302-2&_count=20", "newest": "_count=20"} {
			params, err := search.ParseQuery(query)
			if err != nil {
				b.Fatal(err)
			}
			b.Run("search "+name+"/"+who, func(b *testing.B) {
				measured(b, func() error {
					q, err := search.Parse("Observation", params, search.Options{Base: base(slug)})
					if err != nil {
						return err
					}
					return d.db.View(context.Background(), g.Entry(), func(v *store.View) error {
						page, err := v.Search(context.Background(), q)
						if err == nil && len(page.Matches) == 0 {
							err = fmt.Errorf("nothing found")
						}
						return err
					})
				})
			})
		}
	}
}

// measured runs fn, and reports the processor time of this process for each.
func measured(b *testing.B, fn func() error) {
	spent := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := spent()
	b.ReportAllocs()
	for b.Loop() {
		if err := fn(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(spent()-before)/float64(b.N)/1000, "cpu-µs/op")
}
