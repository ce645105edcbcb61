package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// old is a time whose entries are kept no longer.
var old = time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)

// keep makes the tenant keep its entries for six years.
func (r *trailTest) keep() {
	r.tenant.Settings.Audit.KeepYears = 6
}

// aged adds an entry of the time about the patient, which is part of the request of
// the entry parent, and returns its number.
func (r *trailTest) aged(t testing.TB, at time.Time, patient string, parent int64) int64 {
	e := audit.Entry{Seq: audit.SeqAt(at) + audit.NextSeq()%(1<<30), Parent: parent, Recorded: at, Interaction: fhir.Read, Type: "Patient", Agent: audit.Agent{Client: "app"}}
	if patient != "" {
		e.Patient = fhir.Ref{Type: "Patient", ID: patient}
	}
	t.Helper()
	if err := r.f.DB.AppendEntry(t.Context(), r.tenant, &e); err != nil {
		t.Fatal(err)
	}
	return e.Seq
}

// sweep removes all that may be removed, and returns how much that was.
func (r *trailTest) sweep(t testing.TB) (n int) {
	for more := true; more; {
		removed, again, err := r.Sweep(t.Context(), r.tenant)
		if err != nil {
			t.Fatal(err)
		}
		n, more = n+removed, again
	}
	return n
}

// there returns which of the entries the trail has.
func (r *trailTest) there(t testing.TB, seqs ...int64) (list []bool) {
	t.Helper()
	has := query[int64](t, r.super(t), r.fill(`SELECT seq FROM {trail} WHERE {where}`))
	for _, seq := range seqs {
		list = append(list, slices.Contains(has, seq))
	}
	return list
}

// AUD-09, TEN-36: entries whose time is up go, and nothing else; all that was signed
// still verifies, and what is missing otherwise is named.
func TestWhatATenantKeepsNoLongerIsRemovedAndTheLogStillVerifies(t *testing.T) {
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			r := newTrail(t, mode)
			first, second := r.aged(t, old, "a", 0), r.aged(t, old.Add(time.Hour), "b", 0)
			r.aged(t, old.Add(2*time.Hour), "c", 0)
			r.logged(t, 3)
			last := r.aged(t, old.Add(3*time.Hour), "d", 0) // that no checkpoint has
			r.sequence(t)
			if n := r.sweep(t); n != 0 {
				t.Fatalf("%d entries of a trail that is kept for ever are gone", n)
			}
			r.keep()
			if n := r.sweep(t); n != 3 {
				t.Fatalf("%d entries are gone, want 3", n)
			}
			if got := r.there(t, first, second, last); !slices.Equal(got, []bool{false, false, true}) {
				t.Errorf("there are %v", got)
			}
			check := func(when string) {
				t.Helper()
				faults, report := r.verify(t)
				faults = slices.DeleteFunc(faults, func(f ledger.Fault) bool {
					return f.Kind == ledger.BackDated || f.Kind == ledger.Stale // as a test makes them old
				})
				if len(faults) > 0 || report.Removed != 3 {
					t.Errorf("%s: %v %+v", when, faults, report)
				}
			}
			check("before the tombstone is in the log")
			r.log(t)
			check("once it is")
			err := r.f.DB.View(t.Context(), r.f.Grant(t, r.slug, "system/AuditEvent.rs"), func(v *store.View) error {
				_, err := v.AuditEvent(t.Context(), audit.Entry{Seq: first}.ID())
				return err
			})
			if !fhir.IsCode(err, fhir.Deleted) {
				t.Errorf("a removed entry is %v", err)
			}
			err = r.f.DB.View(t.Context(), r.f.Grant(t, r.slug, "system/AuditEvent.rs"), func(v *store.View) error {
				_, err := v.LogInclusion(t.Context(), audit.Entry{Seq: first}.ID())
				return err
			})
			if !fhir.IsCode(err, fhir.Deleted) {
				t.Errorf("the proof of a removed entry is %v", err)
			}
			err = r.f.DB.View(t.Context(), r.f.Grant(t, r.slug, "system/AuditEvent.rs"), func(v *store.View) error {
				page, err := v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "agent:identifier=cordon-retention"), store.Cursor{Page: 1})
				if err == nil && (len(page.Entries) != 1 || !strings.HasPrefix(page.Entries[0].Reason, "removed 3 entries")) {
					t.Errorf("the trail says of it %+v", page.Entries)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}

			conn := r.super(t)
			must(t, conn, r.fill(backup))
			for what, tt := range map[string]struct {
				sql  string
				want ledger.Kind
				leaf int64
			}{
				"the tombstone is removed":           {`DELETE FROM {trail} WHERE {where} AND tombstone IS NOT NULL`, ledger.Missing, 0},
				"the tombstone is of another leaf":   {`UPDATE {trail} SET tombstone = replace(tombstone, '{[0,3)}', '{[0,4)}') WHERE {where} AND tombstone IS NOT NULL`, ledger.Unverified, -2},
				"an entry goes without a tombstone":  {`DELETE FROM {trail} WHERE {where} AND seq = ` + seqOf(4), ledger.Missing, 4},
				"the hash of a removed one changes":  {`UPDATE {s}.audit_leaf SET hash = sha256(hash) WHERE tenant_id = {n} AND leaf = 1`, ledger.Changed, 1},
				"the leaf of a removed one goes too": {`DELETE FROM {s}.audit_leaf WHERE tenant_id = {n} AND leaf = 1`, ledger.Missing, 1},
			} {
				must(t, conn, r.fill(tt.sql))
				faults, _ := r.verify(t)
				if !slices.ContainsFunc(faults, func(f ledger.Fault) bool { return f.Kind == tt.want && (f.Leaf == tt.leaf || tt.leaf == -2) }) {
					t.Errorf("%s: want %q of leaf %d; found %v", what, tt.want, tt.leaf, faults)
				}
				must(t, conn, r.fill(undo))
			}
			check("with all undone")

			// What came after a checkpoint is not older than that, whatever it says.
			if n := r.sweep(t); n != 1 {
				t.Fatalf("%d entries are gone, want 1", n)
			}
			if faults, _ := r.verify(t); !slices.ContainsFunc(faults, func(f ledger.Fault) bool { return f.Kind == ledger.Early && f.Entry == audit.Entry{Seq: last}.ID() }) {
				t.Errorf("a young entry was removed as an old one; found %v", faults)
			}
		})
	}
}

// AUD-04, AUD-09: the database refuses to remove what no tombstone of the same
// transaction names, what is not six years old, and a tombstone, whoever asks.
func TestTheDatabaseRemovesNothingWithoutItsTombstone(t *testing.T) {
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			r := newTrail(t, mode)
			r.keep()
			r.aged(t, old, "a", 0)
			r.log(t)
			r.sweep(t)
			kept := r.aged(t, old.Add(time.Minute), "b", 0)
			young := r.aged(t, time.Now(), "b", 0)
			r.log(t)
			leafOf := func(seq int64) int64 {
				return query[int64](t, r.super(t), r.fill(`SELECT leaf FROM {s}.audit_leaf WHERE tenant_id = {n} AND seq = $1`), seq)[0]
			}
			forged := func(leaf int64) string {
				return fmt.Sprintf(`INSERT INTO {s}.audit (tenant_id, seq, recorded, interaction, outcome, sealed, tombstone)
					VALUES ({n}, %d, now(), 1, 0, '', E'x\ntombstone\n{[%d,%d)}\n');`, audit.NextSeq(), leaf, leaf+1)
			}
			for what, sql := range map[string]string{
				"no tombstone":           fmt.Sprintf(`DELETE FROM {s}.audit WHERE tenant_id = {n} AND seq = %d`, kept),
				"one of another leaf":    forged(leafOf(kept)+1) + fmt.Sprintf(`DELETE FROM {s}.audit WHERE tenant_id = {n} AND seq = %d`, kept),
				"not six years old":      forged(leafOf(young)) + fmt.Sprintf(`DELETE FROM {s}.audit WHERE tenant_id = {n} AND seq = %d`, young),
				"a tombstone":            `DELETE FROM {s}.audit WHERE tenant_id = {n} AND tombstone IS NOT NULL`,
				"one of earlier":         forged(leafOf(kept)) + fmt.Sprintf(`COMMIT; BEGIN; SELECT set_config('cordon.tenant', '%s', true); DELETE FROM {s}.audit WHERE tenant_id = {n} AND seq = %d`, sign(r.tenant), kept),
				"all that the table has": `DELETE FROM {s}.audit`,
			} {
				conn := connect(t, logURL(r.f, r.tenant))
				if what == "one of earlier" {
					must(t, conn, `BEGIN`)
					must(t, conn, `SELECT set_config('cordon.tenant', $1, true)`, sign(r.tenant))
				} else {
					must(t, conn, `SELECT set_config('cordon.tenant', $1, false)`, sign(r.tenant))
				}
				if got := code(t, conn, r.fill(sql)); got != "42501" {
					t.Errorf("%s: got %q, want 42501", what, got)
				}
			}
		})
	}
}

// AUD-09, CP-06: what is on hold stays, with the entry of its request; it takes two
// to lift a hold.
func TestALegalHoldKeepsWhatItCovers(t *testing.T) {
	r := newTrail(t, tenant.Shared)
	r.keep()
	m, ctx := r.f.Migrator, t.Context()
	request := r.aged(t, old, "", 0)
	held := r.aged(t, old.Add(time.Second), "held", request)
	other := r.aged(t, old.Add(2*time.Second), "other", 0)
	r.log(t)
	all, err := m.PlaceHold(ctx, r.slug, "ops", fhir.Ref{}, "case 1")
	if err != nil {
		t.Fatal(err)
	}
	one, err := m.PlaceHold(ctx, r.slug, "ops", fhir.Ref{Type: "Patient", ID: "held"}, "case 2")
	if err != nil {
		t.Fatal(err)
	}
	if n := r.sweep(t); n != 0 {
		t.Fatalf("%d entries on hold are gone", n)
	}
	lift := func(id, operator string) (store.Hold, error) {
		return m.LiftHold(ctx, r.slug, operator, id, "the case is closed")
	}
	if h, err := lift(all.ID, "ops"); err != nil || h.LiftedBy != "" || h.AskedBy != "ops" {
		t.Fatalf("%+v %v", h, err)
	}
	if _, err := lift(all.ID, "ops"); !fhir.IsCode(err, fhir.Forbidden) {
		t.Errorf("one operator alone lifts it: %v", err)
	}
	if n := r.sweep(t); n != 0 {
		t.Fatalf("%d entries are gone of a hold that one asked to lift", n)
	}
	if h, err := lift(all.ID, "chief"); err != nil || h.LiftedBy != "chief" {
		t.Fatalf("%+v %v", h, err)
	}
	if _, err := lift(all.ID, "ops"); !fhir.IsCode(err, fhir.Conflict) {
		t.Errorf("it is lifted again: %v", err)
	}
	if _, err := lift("x", "ops"); !fhir.IsCode(err, fhir.NotFound) {
		t.Errorf("got %v", err)
	}
	if n := r.sweep(t); n != 1 {
		t.Errorf("%d entries are gone, want 1", n)
	}
	if got := r.there(t, request, held, other); !slices.Equal(got, []bool{true, true, false}) {
		t.Errorf("there are %v", got)
	}
	err = r.f.Registry.WithHolds(ctx, r.tenant, func(h *store.Holds) error {
		if !h.Cover(fhir.Ref{Type: "Patient", ID: "held"}) || h.Cover(fhir.Ref{Type: "Patient", ID: "other"}) || h.Cover(fhir.Ref{}) {
			t.Error("the holds are not those in force")
		}
		// Nobody else removes meanwhile.
		return r.f.Registry.WithHolds(ctx, r.tenant, func(*store.Holds) error { return errors.New("two remove at once") })
	})
	if err == nil || strings.Contains(err.Error(), "two remove") {
		t.Errorf("got %v", err)
	}
	list, err := m.Holds(ctx, r.slug)
	if err != nil || len(list) != 2 || list[0].ID != one.ID || list[1].ID != all.ID {
		t.Errorf("%+v %v", list, err)
	}
}

// AUD-09: who dies while removing has removed nothing, and the next goes on.
func TestWhoDiesWhileRemovingHasRemovedNothing(t *testing.T) {
	r := newTrail(t, tenant.Schema)
	r.keep()
	first := r.aged(t, old, "a", 0)
	r.logged(t, 2)
	conn := r.super(t)
	must(t, conn, r.fill(`
		CREATE FUNCTION {s}.die() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END' SECURITY DEFINER;
		CREATE TRIGGER die AFTER DELETE ON {s}.audit EXECUTE FUNCTION {s}.die()`))
	if n, _, err := r.Sweep(t.Context(), r.tenant); err == nil || n != 0 {
		t.Fatalf("%d %v", n, err)
	}
	r.log(t)
	if faults, report := r.verify(t); len(faults) > 0 || report.Removed != 0 || !r.there(t, first)[0] {
		t.Errorf("%v %+v", faults, report)
	}
	must(t, conn, r.fill(`DROP FUNCTION {s}.die() CASCADE`))
	if n := r.sweep(t); n != 1 {
		t.Errorf("%d entries are gone, want 1", n)
	}
}

// AUD-09: in whatever order entries come, holds are placed and lifted, and what is
// old is removed, the log verifies, and what is on hold is there.
func TestHoldsSweepsAndEntriesInAnyOrder(t *testing.T) {
	r := newTrail(t, tenant.Shared)
	r.keep()
	r.log(t)
	m := r.f.Migrator
	type entry struct {
		seq     int64
		patient string
	}
	var entries []entry
	gone := map[int64]bool{}
	held := map[string]string{} // by patient, the hold
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			patient := rapid.SampledFrom([]string{"a", "b", ""}).Draw(rt, "patient")
			switch rapid.SampledFrom([]string{"old", "old", "new", "log", "hold", "lift", "sweep"}).Draw(rt, "step") {
			case "old":
				n++
				entries = append(entries, entry{r.aged(t, old.Add(time.Duration(n)*time.Second), patient, 0), patient})
			case "new":
				r.aged(t, time.Now(), patient, 0)
			case "log":
				r.log(t)
			case "hold":
				if held[patient] != "" {
					continue
				}
				var of fhir.Ref
				if patient != "" {
					of = fhir.Ref{Type: "Patient", ID: patient}
				}
				h, err := m.PlaceHold(ctx, r.slug, "ops", of, "case")
				if err != nil {
					rt.Fatal(err)
				}
				held[patient] = h.ID
			case "lift":
				if held[patient] == "" {
					continue
				}
				for _, operator := range []string{"ops", "chief"} {
					if _, err := m.LiftHold(ctx, r.slug, operator, held[patient], "closed"); err != nil {
						rt.Fatal(err)
					}
				}
				delete(held, patient)
			case "sweep":
				r.sweep(t)
				all := make([]int64, len(entries))
				for i, e := range entries {
					all[i] = e.seq
				}
				for i, there := range r.there(t, all...) {
					e := entries[i]
					if !there && !gone[e.seq] && (held[""] != "" || e.patient != "" && held[e.patient] != "") {
						rt.Fatalf("entry %d of %q is gone, which is on hold", i, e.patient)
					}
					gone[e.seq] = !there
				}
			}
		}
		v, err := ledger.NewVerifier(ledger.Rules{Key: r.key(t), Late: 20 * 365 * 24 * time.Hour}, r.vault, func(f ledger.Fault) { rt.Errorf("%+v", f) })
		if err != nil {
			rt.Fatal(err)
		}
		report, err := r.Verify(ctx, r.tenant, v)
		if err != nil {
			rt.Fatal(err)
		}
		want := 0
		for _, g := range gone {
			if g {
				want++
			}
		}
		if report.Removed != int64(want) {
			rt.Fatalf("%d are removed, verify says %d", want, report.Removed)
		}
	})
	if !slices.Contains(slices.Collect(maps.Values(gone)), true) {
		t.Error("nothing was ever removed")
	}
}
