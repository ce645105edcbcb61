package store_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// A trailTest is the audit trail of a tenant of a test's own, its log and its
// vault. A nil tenant is the platform.
type trailTest struct {
	*store.Ledger
	f      *storetest.Fixture
	tenant *tenant.Tenant
	slug   string
	vault  ledger.Dir
	clock  time.Duration // how far its clock is ahead
}

func newTrail(t testing.TB, mode tenant.Mode) *trailTest {
	t.Helper()
	f := storetest.New(t)
	slug := "trail-" + strings.ToLower(rand.Text()[:12])
	if _, _, err := f.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: mode}); err != nil {
		t.Fatal(err)
	}
	return openTrail(t, f, f.Tenant(t, slug))
}

func openTrail(t testing.TB, f *storetest.Fixture, x *tenant.Tenant) *trailTest {
	t.Helper()
	r := &trailTest{f: f, tenant: x, slug: ledger.Platform, vault: ledger.Dir(t.TempDir())}
	if x != nil {
		r.slug = x.Slug.String()
	}
	r.open(t, r.vault)
	return r
}

// open opens the log of the trail, with its checkpoints in the vault.
func (r *trailTest) open(t testing.TB, vault ledger.Vault) {
	t.Helper()
	var err error
	r.Ledger, err = store.OpenLedger(store.LedgerConfig{
		DatabaseURL: r.f.URLs.Log, RegistryURL: r.f.URLs.LogRegistry, Registry: r.f.Registry, Keys: r.f.Keyring, Vault: vault,
		Every: time.Nanosecond, Now: func() time.Time { r.clock += time.Millisecond; return time.Now().Add(r.clock) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
}

// record adds entries to the trail.
func (r *trailTest) record(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		e := audit.Entry{Interaction: fhir.Read, Type: "Patient", Entity: fhir.Ref{Type: "Patient", ID: fmt.Sprint("p", i)}, Status: 200,
			Recorded: time.Now(), Origin: audit.Origin{RequestID: rand.Text()}}
		var err error
		if r.tenant == nil {
			err = r.f.Registry.AppendPlatform(t.Context(), []audit.Entry{e})
		} else {
			err = r.f.DB.Record(t.Context(), r.f.Grant(t, r.slug, "system/*.rs"), e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// log makes leaves of all entries, and a checkpoint of them.
func (r *trailTest) log(t testing.TB) {
	t.Helper()
	r.sequence(t)
	if err := r.Checkpoint(t.Context(), r.tenant); err != nil {
		t.Fatal(err)
	}
}

// logged adds entries to the trail and to the log.
func (r *trailTest) logged(t testing.TB, n int) {
	t.Helper()
	r.record(t, n)
	r.log(t)
}

func (r *trailTest) sequence(t testing.TB) {
	t.Helper()
	for more := true; more; {
		var err error
		if _, more, err = r.Sequence(t.Context(), r.tenant); err != nil {
			t.Fatal(err)
		}
	}
}

// verify returns what is wrong with the trail.
func (r *trailTest) verify(t testing.TB) ([]ledger.Fault, ledger.Report) {
	t.Helper()
	return r.verifyBy(t, r.vault, r.key(t))
}

func (r *trailTest) verifyBy(t testing.TB, vault ledger.Kept, key ledger.Key) ([]ledger.Fault, ledger.Report) {
	t.Helper()
	var faults []ledger.Fault
	v, err := ledger.NewVerifier(ledger.Rules{Key: key, Now: func() time.Time { return time.Now().Add(r.clock) }}, vault,
		func(f ledger.Fault) { faults = append(faults, f) })
	if err != nil {
		t.Fatal(err)
	}
	report, err := r.Verify(t.Context(), r.tenant, v)
	if err != nil {
		t.Fatal(err)
	}
	return faults, report
}

func (r *trailTest) key(t testing.TB) ledger.Key {
	t.Helper()
	text, err := r.f.Registry.LogVerifier(t.Context(), r.tenant)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ledger.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// super connects to the database of the trail as someone whom no trigger and no
// right holds back.
func (r *trailTest) super(t testing.TB) *pgx.Conn {
	t.Helper()
	database := "cordon_registry"
	if r.tenant != nil {
		conf, err := pgx.ParseConfig(appURL(r.f, r.tenant))
		if err != nil {
			t.Fatal(err)
		}
		database = conf.Database
	}
	conn := connect(t, in(storetest.Superuser(t), database))
	must(t, conn, `SET session_replication_role = replica`)
	return conn
}

// fill puts schema and tenant into SQL.
func (r *trailTest) fill(sql string) string {
	schema, number, trail, where := "registry", "0", "registry.platform_audit", "true"
	if r.tenant != nil {
		schema, number = r.tenant.Placement.Schema, r.tenant.ID.String()
		trail, where = schema+".audit", "tenant_id = "+number
	}
	return strings.NewReplacer("{s}", schema, "{n}", number, "{trail}", trail, "{where}", where).Replace(sql)
}

// seqAt returns the entry of a leaf.
func (r *trailTest) seqAt(t testing.TB, leaf int) int64 {
	t.Helper()
	return query[int64](t, r.super(t), r.fill(`SELECT seq FROM {s}.audit_leaf WHERE tenant_id = {n} AND leaf = $1`), leaf)[0]
}

// kinds returns the kinds of faults, each once.
func kinds(faults []ledger.Fault) []ledger.Kind {
	var list []ledger.Kind
	for _, f := range faults {
		if !slices.Contains(list, f.Kind) {
			list = append(list, f.Kind)
		}
	}
	return list
}

// places are the trails that differ in where they are.
func places(t *testing.T) map[string]*trailTest {
	f := storetest.New(t)
	return map[string]*trailTest{
		"shared":   newTrail(t, tenant.Shared),
		"schema":   newTrail(t, tenant.Schema),
		"database": newTrail(t, tenant.Database),
		"platform": openTrail(t, f, nil),
	}
}

// copies of the tables, to undo a tampering with.
const (
	backup = `
		CREATE TEMP TABLE b_trail AS SELECT x FROM {trail} x WHERE {where};
		CREATE TEMP TABLE b_leaf  AS SELECT x FROM {s}.audit_leaf x WHERE tenant_id = {n};
		CREATE TEMP TABLE b_node  AS SELECT x FROM {s}.audit_node x WHERE tenant_id = {n};
		CREATE TEMP TABLE b_log   AS SELECT x FROM {s}.audit_log x  WHERE tenant_id = {n};`
	undo = `
		DELETE FROM {trail} WHERE {where};
		DELETE FROM {s}.audit_leaf WHERE tenant_id = {n};
		DELETE FROM {s}.audit_node WHERE tenant_id = {n};
		DELETE FROM {s}.audit_log  WHERE tenant_id = {n};
		INSERT INTO {trail} OVERRIDING SYSTEM VALUE SELECT (x).* FROM b_trail;
		INSERT INTO {s}.audit_leaf SELECT (x).* FROM b_leaf;
		INSERT INTO {s}.audit_node SELECT (x).* FROM b_node;
		INSERT INTO {s}.audit_log  SELECT (x).* FROM b_log;`
)

// seqOf stands for the number of the entry of a leaf.
func seqOf(leaf int) string {
	return fmt.Sprintf(`(SELECT seq FROM {s}.audit_leaf WHERE tenant_id = {n} AND leaf = %d)`, leaf)
}

// AUD-04, T280, T281, T282, T284: whoever owns the database, and all but what
// was signed, cannot change what is in the trail without being found out.
func TestTamperingIsFoundAndNamed(t *testing.T) {
	for place, r := range places(t) {
		t.Run(place, func(t *testing.T) {
			for _, n := range []int{8, 7, 5} {
				r.logged(t, n)
			}
			r.record(t, 2)
			r.sequence(t)
			conn := r.super(t)
			must(t, conn, r.fill(backup))
			size := int(query[int64](t, conn, r.fill(`SELECT size FROM {s}.audit_log WHERE tenant_id = {n}`))[0])
			signed := size - 2
			if faults, report := r.verify(t); len(faults) > 0 || report.Leaves != int64(size) || report.Signed != int64(signed) {
				t.Fatalf("nobody has touched it: %v, %+v", faults, report)
			}
			first, middle, last := 0, signed-8, size-1
			for _, tt := range []struct {
				what string
				sql  string
				want ledger.Kind
				leaf int // that has to be named; -1: none can be
			}{
				{"one column of an entry is changed", `UPDATE {trail} SET outcome = 12 - outcome WHERE seq = ` + seqOf(middle), ledger.Changed, middle},
				{"the first entry says another time", `UPDATE {trail} SET recorded = recorded - interval '1 microsecond' WHERE seq = ` + seqOf(first), ledger.Changed, first},
				{"the newest entry is back-dated, which no checkpoint has", `UPDATE {trail} SET recorded = recorded - interval '1 day' WHERE seq = ` + seqOf(last), ledger.Changed, last},
				{"an entry says a time that is none", `UPDATE {trail} SET recorded = 'infinity' WHERE seq = ` + seqOf(middle), ledger.Changed, middle},
				{"an entry is removed", `DELETE FROM {trail} WHERE seq = ` + seqOf(middle), ledger.Missing, middle},
				{"an entry is removed with its leaf", `DELETE FROM {trail} WHERE seq = ` + seqOf(middle) + `;
					DELETE FROM {s}.audit_leaf WHERE tenant_id = {n} AND leaf = ` + fmt.Sprint(middle), ledger.Missing, middle},
				{"the end is removed, with all that tells of it", `DELETE FROM {trail} WHERE seq >= ` + seqOf(signed-3) + `;
					DELETE FROM {s}.audit_leaf WHERE tenant_id = {n} AND leaf >= ` + fmt.Sprint(signed-3) + `;
					UPDATE {s}.audit_log SET size = ` + fmt.Sprint(signed-3) + `, checkpoint = '' WHERE tenant_id = {n}`, ledger.Cut, signed - 3},
				{"all is removed", `DELETE FROM {trail} WHERE {where}; DELETE FROM {s}.audit_leaf WHERE tenant_id = {n};
					DELETE FROM {s}.audit_node WHERE tenant_id = {n}; DELETE FROM {s}.audit_log WHERE tenant_id = {n}`, ledger.Cut, 0},
				{"the log alone is removed", `DELETE FROM {s}.audit_leaf WHERE tenant_id = {n}; DELETE FROM {s}.audit_log WHERE tenant_id = {n}`, ledger.Cut, 0},
				{"two entries change places", `UPDATE {s}.audit_leaf SET leaf = 1000000 WHERE tenant_id = {n} AND leaf = ` + fmt.Sprint(middle) + `;
					UPDATE {s}.audit_leaf SET leaf = ` + fmt.Sprint(middle) + ` WHERE tenant_id = {n} AND leaf = ` + fmt.Sprint(middle+1) + `;
					UPDATE {s}.audit_leaf SET leaf = ` + fmt.Sprint(middle+1) + ` WHERE tenant_id = {n} AND leaf = 1000000`, ledger.Changed, middle},
				{"an entry is doubled", `INSERT INTO {trail} OVERRIDING SYSTEM VALUE
					SELECT (jsonb_populate_record(x, jsonb_build_object('seq', x.seq + 1000000007, 'tx', 0))).* FROM {trail} x WHERE seq = ` + seqOf(middle), ledger.Inserted, -1},
				{"a hash is changed, not the entry", `UPDATE {s}.audit_leaf SET hash = sha256(hash) WHERE tenant_id = {n} AND leaf = ` + fmt.Sprint(middle), ledger.Changed, middle},
				{"the log says that it is shorter", `UPDATE {s}.audit_log SET size = size - 1 WHERE tenant_id = {n}`, ledger.Unordered, size},
			} {
				t.Run(tt.what, func(t *testing.T) {
					defer must(t, conn, r.fill(undo))
					must(t, conn, r.fill(tt.sql))
					faults, _ := r.verify(t)
					if !slices.ContainsFunc(faults, func(f ledger.Fault) bool { return f.Kind == tt.want && f.Leaf == int64(tt.leaf) }) {
						t.Errorf("want %q of leaf %d; found %v", tt.want, tt.leaf, faults)
					}
				})
			}
			if faults, _ := r.verify(t); len(faults) > 0 {
				t.Errorf("what was undone is still found: %v", faults)
			}
		})
	}
}

// rewrite makes the hashes of the log again, as who knows all of this program
// would after changing an entry. What is signed it cannot make.
func (r *trailTest) rewrite(t testing.TB) {
	t.Helper()
	conn := r.super(t)
	must(t, conn, r.fill(`
		DELETE FROM {s}.audit_leaf WHERE tenant_id = {n};
		DELETE FROM {s}.audit_node WHERE tenant_id = {n};
		DELETE FROM {s}.audit_log  WHERE tenant_id = {n}`))
	r.sequence(t)
}

// T283: hashes that are made again do not help, and the entry is still named:
// the vault has the hashes of the leaves, too.
func TestRewritingTheLogIsFound(t *testing.T) {
	r := newTrail(t, tenant.Shared)
	r.logged(t, 10)
	r.logged(t, 10)
	seq := r.seqAt(t, 13)
	must(t, r.super(t), r.fill(`UPDATE {trail} SET outcome = 12 WHERE {where} AND seq = $1`), seq)
	r.rewrite(t)
	faults, _ := r.verify(t)
	id := audit.Entry{Seq: seq}.ID()
	if !slices.ContainsFunc(faults, func(f ledger.Fault) bool { return f.Kind == ledger.Changed && f.Entry == id && f.Leaf == 13 }) {
		t.Errorf("entry %s is not named: %v", id, faults)
	}
	if err := r.Checkpoint(t.Context(), r.tenant); err == nil || !strings.Contains(err.Error(), "does not begin with") {
		t.Errorf("the log was signed: %v", err)
	}
	t.Run("also without the leaves in the vault, between two checkpoints", func(t *testing.T) {
		files, err := r.vault.Files(ledger.Origin(r.slug))
		if err != nil {
			t.Fatal(err)
		}
		removeLeaves(t, r.vault, files)
		faults, _ := r.verify(t)
		if !slices.ContainsFunc(faults, func(f ledger.Fault) bool { return f.Kind == ledger.Rewritten && f.Leaf == 10 }) {
			t.Errorf("found %v", faults)
		}
	})
}

// T284: nothing is signed over a restored database, and whoever verifies is told.
func TestARestoredDatabaseIsFound(t *testing.T) {
	r := newTrail(t, tenant.Schema)
	r.logged(t, 5)
	conn := r.super(t)
	must(t, conn, r.fill(backup))
	r.logged(t, 5)
	must(t, conn, r.fill(undo))
	r.record(t, 3)
	r.sequence(t)
	if faults, _ := r.verify(t); !slices.Contains(kinds(faults), ledger.Cut) {
		t.Errorf("found %v", faults)
	}
	err := r.Checkpoint(t.Context(), r.tenant)
	if err == nil || !strings.Contains(err.Error(), "has 10 entries, the database has 8") {
		t.Errorf("got %v", err)
	}
	r.record(t, 4)
	r.sequence(t)
	if err := r.Checkpoint(t.Context(), r.tenant); err == nil || !strings.Contains(err.Error(), "does not begin with") {
		t.Errorf("the log was signed once it had grown: %v", err)
	}
	if faults, _ := r.verify(t); !slices.Contains(kinds(faults), ledger.Changed) {
		t.Errorf("found %v", faults)
	}
}

// T282: an entry that no server wrote is never numbered, and is named.
func TestAForgedEntryNeverGetsIntoTheLog(t *testing.T) {
	r := newTrail(t, tenant.Shared)
	r.logged(t, 3)
	conn := r.super(t)
	forged := audit.NextSeq()
	must(t, conn, r.fill(`INSERT INTO {trail} (tenant_id, seq, recorded, interaction, outcome, type, sealed)
		SELECT tenant_id, $1, now(), interaction, outcome, type, sealed FROM {trail} WHERE {where} LIMIT 1`), forged)
	_, _, err := r.Sequence(t.Context(), r.tenant)
	if err == nil || !strings.Contains(err.Error(), "1 entries that no server wrote") {
		t.Errorf("got %v", err)
	}
	r.logged(t, 3)
	faults, report := r.verify(t)
	id := audit.Entry{Seq: forged}.ID()
	if len(faults) != 1 || faults[0].Kind != ledger.Inserted || faults[0].Entry != id || report.Leaves != 6 {
		t.Errorf("found %v, %+v", faults, report)
	}
}

// T282: an entry that is moved to another tenant is missing in the one, and is
// not one of the other.
func TestAnEntryThatIsMovedToAnotherTenantIsFoundInBoth(t *testing.T) {
	from, to := newTrail(t, tenant.Shared), newTrail(t, tenant.Shared)
	from.logged(t, 4)
	to.logged(t, 4)
	moved := from.seqAt(t, 2)
	must(t, from.super(t), from.fill(`UPDATE {trail} SET tenant_id = $1 WHERE {where} AND seq = $2`), to.tenant.ID.Int(), moved)
	id := audit.Entry{Seq: moved}.ID()
	for what, tt := range map[string]struct {
		in   *trailTest
		kind ledger.Kind
	}{"where it was": {from, ledger.Missing}, "where it is": {to, ledger.Inserted}} {
		faults, _ := tt.in.verify(t)
		if len(faults) != 1 || faults[0].Kind != tt.kind || faults[0].Entry != id {
			t.Errorf("%s: found %v", what, faults)
		}
	}
}

// T282: who has the tenant's key can write an entry, but not one of the past.
func TestAnEntryOfThePastIsFoundWhoeverWroteIt(t *testing.T) {
	r := newTrail(t, tenant.Database)
	r.logged(t, 3)
	set, err := r.f.Keyring.Of(t.Context(), r.tenant.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, ago := range []time.Duration{time.Hour, -time.Hour} {
		e := audit.Entry{Seq: audit.NextSeq()}
		sealed, err := set.Seal(nil, keys.Audit, e.MarshalSealed(), fmt.Appendf(nil, "audit|%d|%d", r.tenant.ID.Int(), e.Seq))
		if err != nil {
			t.Fatal(err)
		}
		must(t, r.super(t), r.fill(`INSERT INTO {trail} (tenant_id, seq, recorded, interaction, outcome, sealed) VALUES ({n}, $1, $2, 1, 0, $3)`),
			e.Seq, time.Now().Add(-ago), sealed)
		r.log(t)
		faults, _ := r.verify(t)
		if !slices.ContainsFunc(faults, func(f ledger.Fault) bool { return f.Kind == ledger.BackDated && f.Entry == e.ID() }) {
			t.Errorf("found %v", faults)
		}
	}
}

func removeLeaves(t testing.TB, vault ledger.Dir, files []ledger.File) {
	t.Helper()
	for _, f := range files {
		if f.Leaves {
			if err := os.Remove(filepath.Join(string(vault), f.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// F015: entries that commit late, out of order or never, sequencers that work
// at the same time and are cut off at any moment: each committed entry becomes
// one leaf, and what was signed stays true.
func TestNoCommittedEntryIsLeftOut(t *testing.T) {
	r := newTrail(t, tenant.Shared)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	set, err := r.f.Keyring.Of(ctx, r.tenant.ID)
	if err != nil {
		t.Fatal(err)
	}
	var committed atomic.Int64
	write := func(conn *pgx.Conn, random *mathrand.Rand) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		n := 1 + random.IntN(4)
		for range n {
			e := audit.Entry{Seq: audit.NextSeq()}
			sealed, err := set.Seal(nil, keys.Audit, e.MarshalSealed(), fmt.Appendf(nil, "audit|%d|%d", r.tenant.ID.Int(), e.Seq))
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, r.fill(`INSERT INTO {trail} (tenant_id, seq, recorded, interaction, outcome, sealed) VALUES ({n}, $1, now(), 1, 0, $2)`), e.Seq, sealed); err != nil {
				return err
			}
		}
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		if random.IntN(5) == 0 {
			return nil
		}
		if err := tx.Commit(ctx); err != nil {
			return err
		}
		committed.Add(int64(n))
		return nil
	}
	var writers, others sync.WaitGroup
	done := make(chan struct{})
	for i := range 6 {
		conn := r.super(t)
		writers.Go(func() {
			random := mathrand.New(mathrand.NewPCG(1, uint64(i)))
			for range 60 {
				if err := write(conn, random); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var cut atomic.Int64
	for range 2 {
		twin := openTrail(t, r.f, r.tenant)
		twin.Vault = r.vault
		others.Go(func() {
			for {
				if _, _, err := twin.Sequence(ctx, r.tenant); err != nil {
					cut.Add(1)
				}
				if err := twin.Checkpoint(ctx, r.tenant); err != nil {
					cut.Add(1)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	killer := r.super(t)
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(200 * time.Millisecond):
			}
			if _, err := killer.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cordon_log' AND state <> 'idle'`); err != nil {
				t.Error(err)
				return
			}
		}
	})
	writers.Wait()
	close(done)
	others.Wait()
	r.clock += time.Minute // past that of the others
	r.log(t)
	faults, report := r.verify(t)
	if len(faults) > 0 || report.Leaves != committed.Load() || report.Signed != report.Leaves || report.Waiting != 0 {
		t.Errorf("committed %d: %v, %+v", committed.Load(), faults, report)
	}
	t.Logf("%d entries, %d checkpoints; the sequencers were cut off %d times", report.Leaves, report.Checkpoints, cut.Load())
}

// An entry can be committed when entries with later numbers are leaves already.
func TestALateEntryIsAppendedNotInserted(t *testing.T) {
	r := newTrail(t, tenant.Schema)
	late := r.super(t)
	tx, err := late.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	set, err := r.f.Keyring.Of(t.Context(), r.tenant.ID)
	if err != nil {
		t.Fatal(err)
	}
	seq := audit.NextSeq()
	sealed, err := set.Seal(nil, keys.Audit, (&audit.Entry{}).MarshalSealed(), fmt.Appendf(nil, "audit|%d|%d", r.tenant.ID.Int(), seq))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), r.fill(`INSERT INTO {trail} (tenant_id, seq, recorded, interaction, outcome, sealed) VALUES ({n}, $1, now(), 1, 0, $2)`), seq, sealed); err != nil {
		t.Fatal(err)
	}
	r.logged(t, 5)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.logged(t, 2)
	at := query[int64](t, r.super(t), r.fill(`SELECT leaf FROM {s}.audit_leaf WHERE tenant_id = {n} AND seq = $1`), seq)
	if len(at) != 1 || at[0] != 5 {
		t.Errorf("the late entry is leaf %v, want 5", at)
	}
	if faults, report := r.verify(t); len(faults) > 0 || report.Leaves != 8 {
		t.Errorf("%v, %+v", faults, report)
	}
}

// A trail of many entries, from before there was a log, is numbered in pieces.
func TestALogBeginsWithTheTrailThatIsThere(t *testing.T) {
	r := newTrail(t, tenant.Shared)
	set, err := r.f.Keyring.Of(t.Context(), r.tenant.ID)
	if err != nil {
		t.Fatal(err)
	}
	const n = 9000
	var rows [][]any
	for i := range n {
		seq := audit.NextSeq()
		sealed, err := set.Seal(nil, keys.Audit, (&audit.Entry{}).MarshalSealed(), fmt.Appendf(nil, "audit|%d|%d", r.tenant.ID.Int(), seq))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, []any{r.tenant.ID.Int(), seq, time.Now(), int16(1), int16(0), sealed, int64(i / 5000 * 3)})
	}
	if _, err := r.super(t).CopyFrom(t.Context(), pgx.Identifier{r.tenant.Placement.Schema, "audit"},
		[]string{"tenant_id", "seq", "recorded", "interaction", "outcome", "sealed", "tx"}, pgx.CopyFromRows(rows)); err != nil {
		t.Fatal(err)
	}
	r.logged(t, 3)
	if faults, report := r.verify(t); len(faults) > 0 || report.Leaves != n+3 || report.Signed != n+3 {
		t.Errorf("%v, %+v", faults, report)
	}
}

// A failingVault keeps checkpoints and says that it could not, as if the process
// had died in between.
type failingVault struct{ ledger.Dir }

func (f failingVault) Keep(ctx context.Context, c ledger.Checkpoint, signed []byte) error {
	return errors.Join(f.Dir.Keep(ctx, c, signed), errors.New("died"))
}

// F015
func TestACheckpointThatWasKeptAndNotStoredIsTakenUp(t *testing.T) {
	r := newTrail(t, tenant.Database)
	r.record(t, 3)
	r.sequence(t)
	r.Vault = failingVault{r.vault}
	if err := r.Checkpoint(t.Context(), r.tenant); err == nil {
		t.Fatal("the vault did not fail")
	}
	r.Vault, r.Every = r.vault, time.Hour
	if err := r.Checkpoint(t.Context(), r.tenant); err != nil {
		t.Fatal(err)
	}
	stored := query[string](t, r.super(t), r.fill(`SELECT checkpoint FROM {s}.audit_log WHERE tenant_id = {n}`))[0]
	kept, err := r.vault.Last(t.Context(), ledger.Origin(r.slug))
	if err != nil || stored == "" || stored != string(kept) {
		t.Errorf("kept %q, stored %q, %v", kept, stored, err)
	}
	r.Every = time.Nanosecond
	r.logged(t, 3)
	if faults, report := r.verify(t); len(faults) > 0 || report.Checkpoints != 2 || report.Signed != 6 {
		t.Errorf("%v, %+v", faults, report)
	}
}

// T286: what is missing from a vault, or is not signed by the key, is no silence.
func TestAVaultThatWasChangedIsFound(t *testing.T) {
	r := newTrail(t, tenant.Shared)
	for range 3 {
		r.logged(t, 4)
	}
	files, err := r.vault.Files(ledger.Origin(r.slug))
	if err != nil || len(files) != 6 {
		t.Fatalf("%v, %v", files, err)
	}
	var leaves, checkpoints []ledger.File
	for _, f := range files {
		if f.Leaves {
			leaves = append(leaves, f)
		} else {
			checkpoints = append(checkpoints, f)
		}
	}
	for _, tt := range []struct {
		what   string
		change func(dir ledger.Dir) error
		later  time.Duration
		want   ledger.Kind
	}{
		{"leaves are removed", func(d ledger.Dir) error { return os.Remove(filepath.Join(string(d), leaves[1].Name)) }, 0, ledger.Gap},
		{"leaves are changed", func(d ledger.Dir) error { return rewriteFile(d, leaves[1], make([]byte, 4*32)) }, 0, ledger.Rewritten},
		{"a checkpoint is changed", func(d ledger.Dir) error { return rewriteFile(d, checkpoints[1], []byte("x")) }, 0, ledger.Unverified},
		{"a checkpoint is another", func(d ledger.Dir) error {
			text, err := d.Read(checkpoints[0])
			return errors.Join(err, rewriteFile(d, checkpoints[1], text))
		}, 0, ledger.Unverified},
		{"the newest are removed", func(d ledger.Dir) error {
			return errors.Join(os.Remove(filepath.Join(string(d), leaves[2].Name)), os.Remove(filepath.Join(string(d), checkpoints[2].Name)))
		}, time.Hour, ledger.Stale},
		{"all is removed", func(d ledger.Dir) error { return os.RemoveAll(filepath.Join(string(d), r.slug)) }, time.Hour, ledger.Stale},
	} {
		t.Run(tt.what, func(t *testing.T) {
			vault := ledger.Dir(t.TempDir())
			if err := os.CopyFS(string(vault), os.DirFS(string(r.vault))); err != nil {
				t.Fatal(err)
			}
			if err := tt.change(vault); err != nil {
				t.Fatal(err)
			}
			r.clock += tt.later
			defer func() { r.clock -= tt.later }()
			if faults, _ := r.verifyBy(t, vault, r.key(t)); !slices.Contains(kinds(faults), tt.want) {
				t.Errorf("found %v", faults)
			}
		})
	}
	t.Run("the key is another", func(t *testing.T) {
		_, text, err := note.GenerateKey(rand.Reader, ledger.Origin(r.slug))
		if err != nil {
			t.Fatal(err)
		}
		key, err := ledger.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		if faults, report := r.verifyBy(t, r.vault, key); !slices.Contains(kinds(faults), ledger.Unverified) || report.Signed != 0 {
			t.Errorf("found %v", faults)
		}
	})
}

func rewriteFile(d ledger.Dir, f ledger.File, text []byte) error {
	name := filepath.Join(string(d), f.Name)
	return errors.Join(os.Remove(name), os.WriteFile(name, text, 0o444))
}

// BenchmarkSequence tells what the log costs for each entry: time of the process
// that numbers, and what the tables and indexes grow by.
func BenchmarkSequence(b *testing.B) {
	r := newTrail(b, tenant.Database)
	set, err := r.f.Keyring.Of(b.Context(), r.tenant.ID)
	if err != nil {
		b.Fatal(err)
	}
	var rows [][]any
	for range b.N {
		e := audit.Entry{Seq: audit.NextSeq(), Interaction: fhir.Read, Status: 200, Entity: fhir.Ref{Type: "Patient", ID: rand.Text()},
			Origin: audit.Origin{RequestID: rand.Text(), Address: "192.0.2.7", Method: "GET /fhir/harbor/Patient/x", Server: "cordon-1"},
			Agent:  audit.Agent{Client: "app", User: "Practitioner/7", Issuer: storetest.Issuer(r.slug), TokenID: rand.Text()}}
		sealed, err := set.Seal(nil, keys.Audit, e.MarshalSealed(), fmt.Appendf(nil, "audit|%d|%d", r.tenant.ID.Int(), e.Seq))
		if err != nil {
			b.Fatal(err)
		}
		rows = append(rows, []any{r.tenant.ID.Int(), e.Seq, time.Now(), int16(1), int16(0), e.Seq, e.Seq, e.Seq, sealed})
	}
	conn := r.super(b)
	if _, err := conn.CopyFrom(b.Context(), pgx.Identifier{r.tenant.Placement.Schema, "audit"},
		[]string{"tenant_id", "seq", "recorded", "interaction", "outcome", "agent", "patient", "entity", "sealed"}, pgx.CopyFromRows(rows)); err != nil {
		b.Fatal(err)
	}
	size := func(tables ...string) (n int64) {
		for _, table := range tables {
			n += query[int64](b, conn, r.fill(`SELECT pg_total_relation_size('{s}.`+table+`')`))[0]
		}
		return n
	}
	b.ResetTimer()
	r.sequence(b)
	b.StopTimer()
	b.ReportMetric(float64(size("audit"))/float64(b.N), "bytes-of-trail/op")
	b.ReportMetric(float64(size("audit_leaf", "audit_node", "audit_log")+query[int64](b, conn, r.fill(`SELECT pg_relation_size('{s}.audit_tx')`))[0])/float64(b.N), "bytes-of-log/op")
}
