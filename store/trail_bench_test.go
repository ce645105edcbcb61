package store_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// BenchmarkTrail is what a page of each search of the audit trail costs, and what
// an entry and each index on it take. CORDON_TRAIL says how many entries
// there are:
//
//	CORDON_TRAIL=10000000 go test ./store -run '^$' -bench Trail -benchtime 200x -timeout 2h
func BenchmarkTrail(b *testing.B) {
	n := trailSize(b)
	d := openDoor(b)
	const slug = "bench-trail"
	if _, _, err := d.Migrator.Provision(b.Context(), store.NewTenant{Slug: slug, Mode: tenant.Database}); err != nil {
		b.Fatal(err)
	}
	tn := d.Tenant(b, slug)
	conn := database(b, d.Fixture, tn)
	d.longTrail(b, conn, tn, n)
	d.trailSizes(b, conn, tn, n)
	day := func(i int) string {
		return trailBegun.AddDate(0, 0, i%max(1, n*trailStep/86_400)).Format(time.DateOnly)
	}
	for name, text := range map[string]func(i int) string{
		"everything":       func(int) string { return "" },
		"tenant and time":  func(i int) string { return "&date=" + day(i) },
		"actor":            func(i int) string { return fmt.Sprintf("&agent=Practitioner/%d", i%2000) },
		"patient":          func(i int) string { return fmt.Sprintf("&patient=Patient/%d", i%(n/100+10)) },
		"facility":         func(i int) string { return fmt.Sprintf("&site=Location/ward-%d", i%50) },
		"action":           func(int) string { return "&action=D" },
		"read":             func(int) string { return "&action=R" },
		"emergency":        func(int) string { return "&purpose=BTG" },
		"app":              func(i int) string { return fmt.Sprintf("&agent:identifier=app-%d", i%20) },
		"failures":         func(int) string { return "&outcome=8" },
		"actor and action": func(i int) string { return fmt.Sprintf("&agent=Practitioner/%d&action=U", i%2000) },
	} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for i := 7; b.Loop(); i += 7919 { // another one each time
				q := storetest.Query(b, "AuditEvent", "_count=20"+text(i))
				begun := time.Now()
				err := d.db.View(b.Context(), d.grant(b, slug, auditor), func(v *store.View) error {
					page, err := v.AuditEvents(b.Context(), q, store.Cursor{Page: 1})
					if err == nil && len(page.Entries) == 0 && page.Next == "" {
						b.Errorf("%s finds nothing", text(i))
					}
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
	}
}

// trailSize is how many entries there are.
func trailSize(b *testing.B) int {
	b.Helper()
	text := os.Getenv("CORDON_TRAIL")
	if text == "" {
		return 20_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkVerify is what it takes to hold a trail against its checkpoints and the
// hashes in the vault:
//
//	CORDON_TRAIL=1000000 go test ./store -run '^$' -bench Verify -benchtime 1x -timeout 1h
func BenchmarkVerify(b *testing.B) {
	n := trailSize(b)
	r := newTrail(b, tenant.Database)
	d := openDoor(b)
	conn := database(b, d.Fixture, r.tenant)
	d.longTrail(b, conn, r.tenant, n)
	r.log(b)
	for b.Loop() {
		seen := 0
		v, err := ledger.NewVerifier(ledger.Rules{Key: r.key(b), Late: 20 * 365 * 24 * time.Hour}, r.vault, func(ledger.Fault) { seen++ })
		if err != nil {
			b.Fatal(err)
		}
		report, err := r.Verify(b.Context(), r.tenant, v)
		if err != nil || seen > 0 || report.Signed != int64(n) {
			b.Fatalf("%d faults, %+v, %v", seen, report, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/entry")
}

// The entries of a longTrail are so many seconds apart.
const trailStep = 10

var trailBegun = time.Date(2022, 1, 1, 0, 0, 0, 0, time.UTC)

// longTrail fills the trail with n entries of a clinic, most of them reads and
// searches that succeed.
func (d *door) longTrail(b *testing.B, conn *pgx.Conn, tn *tenant.Tenant, n int) {
	b.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	kinds := []fhir.Interaction{fhir.Read, fhir.Read, fhir.Read, fhir.Read, fhir.Read, fhir.Read, fhir.SearchType, fhir.SearchType, fhir.SearchType, fhir.Update, fhir.Update, fhir.Create}
	staff := d.staff(b, tn.Slug.String())
	i := 0
	source := pgx.CopyFromFunc(func() ([]any, error) {
		if i == n {
			return nil, nil
		}
		i++
		at := trailBegun.Add(time.Duration(i) * trailStep * time.Second)
		e := audit.Entry{
			Seq: audit.SeqAt(at), Recorded: at,
			Interaction: kinds[rnd.IntN(len(kinds))], Type: "Observation", Status: 200,
			Entity: fhir.Ref{Type: "Observation", ID: "0198c2d4-7e1f-7a3b-9c5d-" + fmt.Sprintf("%012d", i)}, Version: 1,
			Patient: fhir.Ref{Type: "Patient", ID: strconv.Itoa(rnd.IntN(n/100 + 10))},
			Origin:  audit.Origin{RequestID: "0198c2d47e1f7a3b9c5d0198c2", Address: "192.0.2.77", Method: "GET /fhir/harbor/Observation/0198c2d4-7e1f-7a3b-9c5d", Server: "cordon-1"},
			Agent:   staff[rnd.IntN(len(staff))],
		}
		switch rnd.IntN(1000) {
		case 0:
			e.Agent.Purpose = "BTG"
		case 1, 2, 3:
			e.Interaction = fhir.Delete
		case 4, 5, 6, 7, 8, 9, 10:
			e.Outcome = audit.Serious
		}
		return d.db.TrailRow(b.Context(), tn, &e)
	})
	if _, err := conn.CopyFrom(b.Context(), pgx.Identifier{tn.Placement.Schema, "audit"}, store.TrailColumns, source); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(b.Context(), `VACUUM ANALYZE `+tn.Placement.Schema+`.audit`); err != nil {
		b.Fatal(err)
	}
}

// staff are 2,000 users of 20 apps at 50 wards.
func (d *door) staff(b *testing.B, slug string) []audit.Agent {
	b.Helper()
	list := make([]audit.Agent, 2000)
	for i := range list {
		list[i] = d.as(b, slug, smart.Token{
			Scope: "user/*.cruds", Client: "app-" + strconv.Itoa(i/100), User: "Practitioner/" + strconv.Itoa(i),
			Person: smart.Person{Roles: []string{"nurse"}, Location: "ward-" + strconv.Itoa(i%50)},
		}).Agent()
	}
	return list
}

// trailSizes logs what an entry takes.
func (d *door) trailSizes(b *testing.B, conn *pgx.Conn, tn *tenant.Tenant, n int) {
	b.Helper()
	for _, row := range query[string](b, conn, `
		SELECT c.relname || ': ' || round(pg_relation_size(c.oid)::numeric / `+strconv.Itoa(n)+`, 1) || ' bytes'
		FROM   pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
		WHERE  coalesce(i.indrelid, c.oid) = '`+tn.Placement.Schema+`.audit'::regclass
		ORDER  BY 1`) {
		b.Log(row)
	}
}
