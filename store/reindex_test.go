package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// rows returns what the index holds of the tenant, and what its rows say.
func (d *door) rows(t testing.TB, slug string) string {
	t.Helper()
	x := d.Tenant(t, slug)
	s := x.Placement.Schema
	return query[string](t, database(t, d.Fixture, x), `
		SELECT coalesce(md5(string_agg(line, ',' ORDER BY line)), '') || ' of ' || count(*)
		FROM  (SELECT concat_ws(' ', 't', rid, key, ts) AS line FROM `+s+`.idx_token WHERE tenant_id = $1
		       UNION ALL SELECT concat_ws(' ', 'r', rid, key, target, ts) FROM `+s+`.idx_ref  WHERE tenant_id = $1
		       UNION ALL SELECT concat_ws(' ', 'n', rid, key, lo, hi)     FROM `+s+`.idx_num  WHERE tenant_id = $1
		       UNION ALL SELECT concat_ws(' ', 'd', rid, key, lo, hi)     FROM `+s+`.idx_date WHERE tenant_id = $1
		       UNION ALL SELECT concat_ws(' ', 's', rid, key, target, lo, hi) FROM `+s+`.idx_standing WHERE tenant_id = $1
		       UNION ALL SELECT concat_ws(' ', 'x', rid, ts, te, present, 'a', about, 'e', encounter) FROM `+s+`.resource WHERE tenant_id = $1) all_of_it`, x.ID.Int())[0]
}

// spoil makes the index of the tenant wrong in every way.
func (d *door) spoil(t testing.TB, slug string) {
	t.Helper()
	x := d.Tenant(t, slug)
	conn := database(t, d.Fixture, x)
	for _, sql := range []string{
		`DELETE FROM %s.idx_token WHERE tenant_id = %d AND key %% 3 = 0`,
		`UPDATE %s.idx_token SET ts = ts + interval '1 day' WHERE tenant_id = %d AND key %% 5 = 1 AND isfinite(ts)`,
		`INSERT INTO %s.idx_token SELECT 77, ts, rid, tenant_id FROM (SELECT DISTINCT ts, rid, tenant_id FROM %[1]s.idx_token WHERE tenant_id = %[2]d) x`,
		`INSERT INTO %s.idx_token (key, ts, rid, tenant_id) VALUES (78, now(), 4711, %d)`,
		`DELETE FROM %s.idx_ref WHERE tenant_id = %d AND rid %% 2 = 0`,
		`UPDATE %s.idx_num SET hi = hi + 1 WHERE tenant_id = %d AND rid %% 2 = 0`,
		`DELETE FROM %s.idx_date WHERE tenant_id = %d AND rid %% 2 = 1`,
		`INSERT INTO %s.idx_date SELECT 79, '-infinity', 'infinity', rid, tenant_id FROM %[1]s.resource WHERE tenant_id = %[2]d`,
		`DELETE FROM %s.idx_standing WHERE tenant_id = %d AND rid %% 2 = 0`,
		`UPDATE %s.idx_standing SET hi = lo WHERE tenant_id = %d AND rid %% 2 = 1`,
		`INSERT INTO %s.idx_standing SELECT 80, 81, '-infinity', 'infinity', rid, tenant_id FROM %[1]s.resource WHERE tenant_id = %[2]d`,
		`UPDATE %s.resource SET present = present # 5, ts = '-infinity' WHERE tenant_id = %d AND rid %% 3 = 0`,
		`UPDATE %s.resource SET te = NULL, about = encounter, encounter = about WHERE tenant_id = %d AND rid %% 3 = 1`,
	} {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(sql, x.Placement.Schema, x.ID.Int())); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// reindex makes the index of the tenant again with processes that die.
func (d *door) reindex(t testing.TB, slug string, r store.IndexRequest) {
	t.Helper()
	x := d.Tenant(t, slug)
	requests := map[int32]store.IndexRequest{x.ID.Int(): r}
	for i := range 400 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+10*i)*time.Millisecond)
		more, err := store.NewIndexer(d.db, requests, 50).Tend(ctx, x)
		cancel()
		if err != nil || more {
			continue
		}
		// One that died may hold the job for a moment: then nothing is left for
		// this one to do, and yet it is not done.
		s, err := d.db.IndexStatus(t.Context(), d.grant(t, slug, everything))
		if err != nil {
			t.Fatal(err)
		}
		if s.Reindex != nil && s.Reindex.Number == r.Number && s.Reindex.State == "ready" {
			return
		}
	}
	t.Fatal("it does not end")
}

func TestTheIndexIsMadeAgainOnline(t *testing.T) {
	d := openDoor(t)
	docs := syntheaRecord(t, "Alexis_Toy_68cd1181-6359-4047-a77f-a165d7912480.json", true)
	for i, mode := range []tenant.Mode{tenant.Shared, tenant.Database} {
		slug, neighbour := fmt.Sprint("again-", i), fmt.Sprint("beside-", i)
		d.own(t, slug, mode)
		d.own(t, neighbour, mode)
		d.fill(t, slug, docs)
		d.fill(t, neighbour, docs)
		want, others := d.rows(t, slug), d.rows(t, neighbour)
		d.spoil(t, slug)
		if d.rows(t, slug) == want {
			t.Fatal("nothing is spoiled")
		}
		d.reindex(t, slug, store.IndexRequest{Number: 1})
		if got := d.rows(t, slug); got != want {
			t.Errorf("%s: it is %s, want %s", slug, got, want)
		}
		if d.rows(t, neighbour) != others {
			t.Errorf("%s: a neighbour's index was changed", slug)
		}
		s, err := d.db.IndexStatus(t.Context(), d.grant(t, slug, everything))
		if err != nil || s.Reindex == nil || s.Reindex.State != "ready" || s.Reindex.Percent != 100 || s.Reindex.Number != 1 {
			t.Errorf("%s: %+v, %v", slug, s.Reindex, err)
		}
	}
}

func TestTheIndexOfATypeIsMadeAgain(t *testing.T) {
	d := openDoor(t)
	const slug = "again-type"
	d.own(t, slug, tenant.Schema)
	d.put(t, slug, "Patient/p", colored, "p", "red", 1, "o1")
	d.put(t, slug, "Observation/o", `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}}`)
	d.spoil(t, slug)
	bad := d.rows(t, slug)
	d.reindex(t, slug, store.IndexRequest{Number: 1, Types: []fhir.Type{"Group"}})
	if d.rows(t, slug) != bad {
		t.Error("another type was changed")
	}
	d.reindex(t, slug, store.IndexRequest{Number: 2, Types: []fhir.Type{"Patient", "Observation"}})
	grant := func() *smart.Grant { return d.grant(t, slug, everything) }
	for on, query := range map[fhir.Type]string{"Patient": "name=index", "Observation": "subject=Patient/p&status=final"} {
		list, _, err := d.pages(t, grant, on, query)
		if err != nil || len(list) != 1 {
			t.Errorf("%s?%s finds %d, %v", on, query, len(list), err)
		}
	}
}

// Operators ask through the registry, and learn there what the servers say.
func TestTheControlPlaneAsksAndIsTold(t *testing.T) {
	d := openDoor(t)
	const slug = "again-asked"
	x := d.own(t, slug, tenant.Shared)
	d.put(t, slug, "Patient/p", colored, "p", "red", 1, "o1")
	want := d.rows(t, slug)
	d.spoil(t, slug)
	if _, err := d.Migrator.Reindex(t.Context(), "nobody-there", nil); !errors.Is(err, tenant.ErrUnknown) {
		t.Errorf("for nobody: %v", err)
	}
	if _, err := d.Migrator.Reindex(t.Context(), slug, []fhir.Type{"Patientt"}); !fhir.IsCode(err, fhir.Invalid) {
		t.Errorf("for no type: %v", err)
	}
	if r, err := d.Migrator.IndexReport(t.Context(), slug); err != nil || r.Requested.Number != 0 || !r.At.IsZero() {
		t.Errorf("before it is asked: %+v, %v", r, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&store.Indexer{
			DB: d.db, Every: 20 * time.Millisecond, Requests: d.Registry.IndexRequests, Report: d.Registry.ReportIndex,
			Tenants: func(context.Context) ([]*tenant.Tenant, error) { return []*tenant.Tenant{x}, nil },
		}).Run(ctx)
	}()
	defer func() { stop(); <-done }()
	for _, of := range [][]fhir.Type{nil, {"Patient"}} {
		asked, err := d.Migrator.Reindex(t.Context(), slug, of)
		if err != nil {
			t.Fatal(err)
		}
		if !within(10*time.Second, func() bool {
			r, err := d.Migrator.IndexReport(t.Context(), slug)
			if err != nil {
				t.Fatal(err)
			}
			return r.Reindex != nil && r.Reindex.Number == asked.Number && r.Reindex.State == "ready" && slices.Equal(r.Requested.Types, of)
		}) {
			r, err := d.Migrator.IndexReport(t.Context(), slug)
			t.Fatalf("it is not done: %+v, %v", r, err)
		}
		if got := d.rows(t, slug); got != want {
			t.Errorf("the index is %s, want %s", got, want)
		}
	}
	d.parameter(t, slug, "color", "token", "Patient", "Patient.extension.where(url='http://x.org/color').value")
	if !within(10*time.Second, func() bool {
		r, err := d.Migrator.IndexReport(t.Context(), slug)
		return err == nil && len(r.Parameters) == 1 && r.Parameters[0].State == "ready" && r.Parameters[0].Code == "color"
	}) {
		t.Error("the parameter is not reported to be ready")
	}
}

// A process that has not heard of a parameter does not take its rows for wrong.
func TestTheIndexMadeAgainKeepsWhatIsNew(t *testing.T) {
	a, b := openDoor(t), openDoor(t)
	const slug = "again-new"
	a.own(t, slug, tenant.Shared)
	b.put(t, slug, "Patient/p", colored, "p", "red", 1, "o1") // now b knows of no parameter
	a.parameter(t, slug, "color", "token", "Patient", "Patient.extension.where(url='http://x.org/color').value")
	a.tend(t, slug, 100)
	want := a.rows(t, slug)
	b.reindex(t, slug, store.IndexRequest{Number: 1})
	if got := a.rows(t, slug); got != want {
		t.Errorf("the index is %s, want %s", got, want)
	}
	if got := a.settled(t, slug, "Patient", "color=red"); got != "p" {
		t.Errorf("it finds %s", got)
	}
}
