package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// A purgeTest is a tenant with the records of p, who is to be purged, and of q.
type purgeTest struct {
	*door
	slug   string
	tenant *tenant.Tenant
	purger *store.Purger
}

func newPurge(t testing.TB, slug string, mode tenant.Mode) *purgeTest {
	d := openDoor(t)
	r := &purgeTest{door: d, slug: slug, tenant: d.own(t, slug, mode)}
	r.purger = &store.Purger{DB: d.db, Registry: d.Registry, Tenants: func(context.Context) ([]*tenant.Tenant, error) { return []*tenant.Tenant{r.tenant}, nil }}
	put := func(ref, rest string) {
		on, id, _ := strings.Cut(ref, "/")
		d.put(t, slug, ref, `{"resourceType":%q,"id":%q%s}`, on, id, rest)
	}
	of := func(patient string) string {
		return `,"status":"final","code":{"text":"x"},"effectiveDateTime":"2024-01-01","valueQuantity":{"value":7},"subject":{"reference":"Patient/` + patient + `"}`
	}
	for _, id := range []string{"p", "q"} {
		put("Patient/"+id, `,"name":[{"family":"Then"}]`)
		put("Patient/"+id, `,"name":[{"family":"Now"}],"birthDate":"1980-01-01"`)
		put("Observation/of-"+id, of(id))
		put("Observation/of-"+id, of(id))
		put("Observation/deleted-"+id, of(id))
		d.delete(t, slug, "Observation/deleted-"+id)
		put("Binary/named-"+id, `,"contentType":"text/plain","data":"YQ=="`)
		put("Binary/secured-"+id, `,"contentType":"text/plain","data":"YQ==","securityContext":{"reference":"Patient/`+id+`"}`)
	}
	put("DocumentReference/of-p", `,"status":"current","subject":{"reference":"Patient/p"},"content":[{"attachment":{"url":"Binary/named-p"}},
		{"attachment":{"url":"`+base(slug)+`/Binary/secured-q/_history/1"}}]`)
	put("Observation/to-q", of("p"))
	put("Observation/to-q", of("q"))
	put("Observation/from-q", of("q"))
	put("Observation/from-q", of("p"))
	put("Appointment/both", `,"status":"booked","participant":[{"status":"accepted","actor":{"reference":"Patient/p"}},{"status":"accepted","actor":{"reference":"Patient/q"}}]`)
	put("Practitioner/dr", `,"name":[{"family":"Doe"}]`)
	return r
}

// stored returns what the tables have, as Type/id/version.
func (r *purgeTest) stored(t testing.TB) (list []string) {
	t.Helper()
	s, n := r.tenant.Placement.Schema, r.tenant.ID.Int()
	conn := database(t, r.Fixture, r.tenant)
	for _, row := range query[string](t, conn, fmt.Sprintf(`
		SELECT type || ' ' || id || ' ' || version FROM %[1]s.resource WHERE tenant_id = %[2]d
		UNION ALL SELECT type || ' ' || id || ' ' || version FROM %[1]s.history WHERE tenant_id = %[2]d`, s, n)) {
		var number int16
		var id string
		var version int
		if _, err := fmt.Sscan(row, &number, &id, &version); err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprint(fhir.TypeNumbered(number), "/", id, "/", version))
	}
	slices.Sort(list)
	if stray := query[int64](t, conn, fmt.Sprintf(`
		SELECT count(*) FROM (SELECT rid, tenant_id FROM %[1]s.idx_token UNION ALL SELECT rid, tenant_id FROM %[1]s.idx_ref
			UNION ALL SELECT rid, tenant_id FROM %[1]s.idx_num UNION ALL SELECT rid, tenant_id FROM %[1]s.idx_date UNION ALL SELECT rid, tenant_id FROM %[1]s.idx_standing) i
		WHERE i.tenant_id = %[2]d AND NOT EXISTS (SELECT FROM %[1]s.resource r WHERE r.tenant_id = %[2]d AND r.rid = i.rid AND NOT r.deleted)`, s, n))[0]; stray > 0 {
		t.Errorf("the index has %d rows of what is not there", stray)
	}
	return list
}

// stays is what a purge of p leaves.
var stays = []string{
	"Appointment/both/1", "Binary/named-q/1", "Binary/secured-q/1", "Observation/deleted-q/1", "Observation/deleted-q/2", "Observation/from-q/1", "Observation/from-q/3",
	"Observation/of-q/1", "Observation/of-q/2", "Observation/to-q/2", "Patient/q/1", "Patient/q/2", "Practitioner/dr/1",
}

func (r *purgeTest) ask(t testing.TB) store.Purge {
	t.Helper()
	p, err := r.Migrator.AskPurge(t.Context(), r.slug, "ops", "p", "the contract ended")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *purgeTest) round(t testing.TB) store.Purge {
	t.Helper()
	if err := r.purger.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := r.Migrator.Purges(t.Context(), r.slug)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	return list[0]
}

// TEN-01, CP-06: what two operators agreed on is removed, every version of it and
// nothing of anybody else, in every mode; before that, nothing.
func TestAPurgeRemovesWhatIsOfThePatient(t *testing.T) {
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			r := newPurge(t, "purge-"+string(mode), mode)
			m, ctx := r.Migrator, t.Context()
			before := r.stored(t)
			asked := r.ask(t)
			if _, err := m.ApprovePurge(ctx, r.slug, "ops", asked.ID); !fhir.IsCode(err, fhir.Forbidden) {
				t.Errorf("one operator alone approves: %v", err)
			}
			if p := r.round(t); !p.Done.IsZero() || !slices.Equal(r.stored(t), before) {
				t.Fatal("a purge that nobody approved is done")
			}
			if p, err := m.ApprovePurge(ctx, r.slug, "chief", asked.ID); err != nil || p.ApprovedBy != "chief" {
				t.Fatal(p, err)
			}
			for what, err := range map[string]error{
				"Conflict":  second(m.ApprovePurge(ctx, r.slug, "third", asked.ID)),
				"Not Found": second(m.ApprovePurge(ctx, r.slug, "third", "nothing")),
			} {
				if err == nil {
					t.Error(what)
				}
			}
			p := r.round(t)
			if got := r.stored(t); !slices.Equal(got, stays) {
				t.Fatalf("left %v\nwant %v", got, stays)
			}
			if p.Done.IsZero() || p.Resources != 8 || p.Versions != 11 || p.Shared != 1 {
				t.Errorf("%+v", p)
			}
			for _, ref := range []string{"Patient/p", "Observation/of-p", "Observation/deleted-p", "Binary/named-p"} {
				id, _ := fhir.ParseRef(ref)
				if _, err := r.db.Read(ctx, r.grant(t, r.slug, everything), id); !fhir.IsCode(err, fhir.NotFound) {
					t.Errorf("%s: %v", ref, err)
				}
			}
			if page := r.search(t, r.grant(t, r.slug, everything), "Observation", "subject=Patient/p"); len(page.Matches) != 0 {
				t.Errorf("found %v", page.Matches)
			}
			told := query[int64](t, database(t, r.Fixture, r.tenant), fmt.Sprintf(
				`SELECT count(*) FROM %s.audit WHERE tenant_id = %d AND interaction = 18 AND outcome = 0`, r.tenant.Placement.Schema, r.tenant.ID.Int()))[0]
			if told != 8+1+1 { // each resource, the one that is kept, and the whole
				t.Errorf("the trail tells %d times of it", told)
			}
		})
	}
}

func second(_ store.Purge, err error) error { return err }

// CP-06: a legal hold keeps what it covers from being purged, as long as it is in force.
func TestALegalHoldKeepsWhatIsToBePurged(t *testing.T) {
	for of, patient := range map[string]fhir.Ref{"all": {}, "p": {Type: "Patient", ID: "p"}} {
		t.Run(of, func(t *testing.T) {
			r := newPurge(t, "purge-held-"+of, tenant.Shared)
			m, ctx := r.Migrator, t.Context()
			h, err := m.PlaceHold(ctx, r.slug, "ops", patient, "case")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.ApprovePurge(ctx, r.slug, "chief", r.ask(t).ID); err != nil {
				t.Fatal(err)
			}
			before := r.stored(t)
			if p := r.round(t); p.Held.IsZero() || !p.Done.IsZero() || !slices.Equal(r.stored(t), before) {
				t.Fatalf("what is on hold was purged: %+v", p)
			}
			for _, operator := range []string{"ops", "chief"} {
				if _, err := m.LiftHold(ctx, r.slug, operator, h.ID, "closed"); err != nil {
					t.Fatal(err)
				}
			}
			if p := r.round(t); p.Done.IsZero() || !slices.Equal(r.stored(t), stays) {
				t.Errorf("%+v", p)
			}
		})
	}
}

// A purge that is cut off anywhere ends in the next round, and counts each version once.
func TestAPurgeThatIsCutOffGoesOn(t *testing.T) {
	r := newPurge(t, "purge-cut", tenant.Shared)
	if _, err := r.Migrator.ApprovePurge(t.Context(), r.slug, "chief", r.ask(t).ID); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*2*time.Millisecond)
		_ = r.purger.Round(ctx)
		cancel()
	}
	p := r.round(t)
	for end := time.Now().Add(time.Minute); p.Done.IsZero() && time.Now().Before(end); p = r.round(t) { // who was cut off holds its lock for a moment
	}
	if p.Resources != 8 || p.Versions != 11 || !slices.Equal(r.stored(t), stays) {
		t.Errorf("%+v", p)
	}
}

// Nothing but an approved purge has its Permit, and that permits nothing else.
func TestOnlyAPurgeRemoves(t *testing.T) {
	d := openDoor(t)
	if _, err := d.grant(t, storetest.A1, everything).PermitPurge(); !fhir.IsCode(err, fhir.Forbidden) {
		t.Errorf("a client has the Permit of a purge: %v", err)
	}
	job := smart.Purge(d.Tenant(t, storetest.A1), "ops")
	for _, on := range fhir.Types {
		for _, do := range []fhir.Interaction{fhir.Read, fhir.Vread, fhir.SearchType, fhir.HistoryType, fhir.Create, fhir.Update, fhir.Patch, fhir.Delete, fhir.Operation} {
			if _, err := job.Permit(do, on); !fhir.IsCode(err, fhir.Forbidden) {
				t.Fatalf("a purge may %s %s", do, on)
			}
		}
	}
}

// T293: the database lets no version be removed of which nothing tells in the same
// transaction, and what tells stays.
func TestTheDatabaseRemovesNoVersionThatNothingTells(t *testing.T) {
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			r := newPurge(t, "purge-lock-"+string(mode), mode)
			fill := strings.NewReplacer("{s}", r.tenant.Placement.Schema, "{n}", r.tenant.ID.String()).Replace
			tell := fmt.Sprintf(`INSERT INTO {s}.removed (tenant_id, rid, purge, at, versions, whole, hash)
				SELECT tenant_id, rid, 'x', now(), 1, true, '' FROM {s}.resource WHERE tenant_id = {n} AND id = 'p'; -- %d`, audit.NextSeq()) + "\n"
			begin := fmt.Sprintf(`BEGIN; SELECT set_config('cordon.tenant', '%s', true);`, sign(r.tenant))
			for what, sql := range map[string]string{
				"a resource of which nothing tells": `DELETE FROM {s}.resource WHERE tenant_id = {n} AND id = 'of-p'`,
				"a version of which nothing tells":  `DELETE FROM {s}.history WHERE tenant_id = {n} AND id = 'of-p'`,
				"one besides the one that is told":  tell + `DELETE FROM {s}.resource WHERE tenant_id = {n} AND id IN ('p', 'q')`,
				"what was told before":              tell + `COMMIT;` + begin + `DELETE FROM {s}.resource WHERE tenant_id = {n} AND id = 'p'`,
				"what tells":                        `DELETE FROM {s}.removed WHERE tenant_id = {n}`,
				"all that the table has":            `DELETE FROM {s}.history`,
			} {
				if got := code(t, connect(t, appURL(r.Fixture, r.tenant)), fill(begin+sql)); got != "42501" {
					t.Errorf("%s: got %q, want 42501", what, got)
				}
			}
		})
	}
}

// A purge waits for an import to end, which may bring back what it removes.
func TestAPurgeWaitsForImports(t *testing.T) {
	r := newPurge(t, "purge-import", tenant.Shared)
	conn := database(t, r.Fixture, r.tenant)
	must(t, conn, fmt.Sprintf(`INSERT INTO %s.deferred (tenant_id, id, owner, until, expires, done, answer, import)
		VALUES (%d, gen_random_uuid(), 1, now() + interval '1 hour', now() + interval '1 hour', false, '', true)`, r.tenant.Placement.Schema, r.tenant.ID.Int()))
	if _, err := r.Migrator.ApprovePurge(t.Context(), r.slug, "chief", r.ask(t).ID); err != nil {
		t.Fatal(err)
	}
	before := r.stored(t)
	if p := r.round(t); !p.Done.IsZero() || !slices.Equal(r.stored(t), before) {
		t.Errorf("%+v", p)
	}
	must(t, conn, fmt.Sprintf(`UPDATE %s.deferred SET done = true WHERE tenant_id = %d`, r.tenant.Placement.Schema, r.tenant.ID.Int()))
	if p := r.round(t); p.Done.IsZero() || !slices.Equal(r.stored(t), stays) {
		t.Errorf("%+v", p)
	}
}
