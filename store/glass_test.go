package store_test

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// breakable lets glasses be broken at the tenant, each as soon as it is asked for;
// overrides says that consents keep nothing behind one.
func (d *door) breakable(t testing.TB, slug string, overrides bool) {
	t.Helper()
	s, version, err := d.Migrator.Settings(t.Context(), slug)
	if err == nil {
		s.BreakGlass = tenant.BreakGlass{Mode: tenant.GlassImmediate, ReviewWithin: 60, OverridesConsent: overrides}
		_, err = d.Migrator.PutSettings(t.Context(), slug, s, version)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.Tenants.Forget(slug)
}

// broken breaks a glass, for ten minutes unless it says for how long, and returns
// its id.
func (d *door) broken(t testing.TB, slug string, g smart.Glass) string {
	t.Helper()
	g.ID, g.Tenant, g.Purpose, g.Reason = rand.Text(), slug, "BTG", "because"
	if g.Expires == 0 {
		g.NotYet, g.Expires = time.Now().Unix(), time.Now().Add(10*time.Minute).Unix()
	}
	if err := d.db.Broken(t.Context(), d.Tenant(t, slug), g); err != nil {
		t.Fatal(err)
	}
	return g.ID
}

const mayBreak = `
@id("ask") permit (principal, action == Action::"breakGlass", resource);
@id("see") permit (principal, action in Action::"view", resource) when { context.breakGlass };
@id("decide") permit (principal, action in [Action::"approveBreakGlass", Action::"reviewBreakGlass"], resource) when { principal.user == "Practitioner/officer" };
@id("service") permit (principal is Client, action, resource);`

// glassed makes a tenant at which who has logged in can break a glass.
func (d *door) glassed(t testing.TB, slug string) {
	t.Helper()
	d.governed(t, slug)
	d.choose(t, slug, mayBreak)
	d.breakable(t, slug, false)
	d.put(t, slug, "Patient/p", `{"resourceType":"Patient","id":"p"}`)
}

// user is a Grant of who has logged in.
func (d *door) user(t testing.TB, slug, name string) *smart.Grant {
	t.Helper()
	return d.as(t, slug, smart.Token{Scope: "user/*.rs", Client: "tester", User: "Practitioner/" + name, Subject: name, Session: "s-" + name})
}

// ends are the entries that tell of ends of broken glasses.
func (d *door) ends(t testing.TB, slug string) (list []audit.Entry) {
	t.Helper()
	err := d.db.View(t.Context(), d.grant(t, slug, everything), func(v *store.View) error {
		page, err := v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "_count=100&purpose=BTG"), store.Cursor{})
		if err != nil {
			return err
		}
		list = nil
		for _, e := range page.Entries {
			if e.Interaction == audit.GlassEnded {
				list = append(list, e)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// G-07: an end is told once, whoever ended it, by however many servers, and if
// one dies between.
func TestTheEndOfABrokenGlassIsToldOnce(t *testing.T) {
	d := openDoor(t)
	const slug = "glass-ends"
	d.glassed(t, slug)
	on := d.Tenant(t, slug)
	past := func(from, to time.Duration) smart.Glass {
		return smart.Glass{User: "Practitioner/a", Client: "tester", Session: "s", Patient: "p", NotYet: time.Now().Add(-from).Unix(), Expires: time.Now().Add(-to).Unix()}
	}
	d.broken(t, slug, past(20*time.Minute, 15*time.Minute))
	d.broken(t, slug, past(10*time.Minute, 5*time.Minute))
	ended := d.broken(t, slug, smart.Glass{User: "Practitioner/b", Client: "tester", Session: "s", Patient: "p"})
	d.broken(t, slug, smart.Glass{User: "Practitioner/c", Client: "tester", Session: "s", Patient: "p"}) // goes on
	if err := d.Registry.EndGlass(t.Context(), on, ended, "Practitioner/b"); err != nil {
		t.Fatal(err)
	}
	if err := d.db.DieTelling(t.Context(), on); err != nil {
		t.Fatal(err)
	}
	lost := d.broken(t, slug, smart.Glass{User: "Practitioner/d", Client: "tester", Session: "s", Patient: "p"})
	if err := d.Registry.EndGlass(t.Context(), on, lost, "operator robin"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 3 {
		x := store.GlassEnds{DB: d.db, Every: time.Millisecond, Tenants: func(context.Context) ([]*tenant.Tenant, error) { return []*tenant.Tenant{on}, nil }}
		all.Go(func() { x.Run(ctx) })
	}
	late := d.broken(t, slug, past(4*time.Minute, time.Minute))
	told := func() bool {
		for _, e := range d.ends(t, slug) {
			if e.Glass.ID == late && e.Glass.Reason == "because" && e.Agent.User == "Practitioner/a" && e.Patient.ID == "p" {
				return true
			}
		}
		return false
	}
	for end := time.Now().Add(time.Minute); !told() && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
	}
	stop()
	all.Wait()
	list := d.ends(t, slug)
	if len(list) != 5 {
		t.Errorf("%d ends are told: %+v", len(list), list)
	}
	byOperator := func(e audit.Entry) bool { return e.Glass.ID == lost && e.Reason == "ended by operator robin" }
	if !slices.ContainsFunc(list, byOperator) {
		t.Errorf("who ended it is not told: %+v", list)
	}
}

// BG-01: what the registry says is held by its table, and by the tenant's
// signature: who can write to it can neither approve what is theirs, nor change
// or copy what was approved.
func TestWhoCanWriteToTheRegistryBreaksNoGlass(t *testing.T) {
	d := openDoor(t)
	const slug = "glass-forged"
	d.glassed(t, slug)
	id := d.broken(t, slug, smart.Glass{User: "Practitioner/a", Client: "tester", Session: "s-a", Patient: "p"})
	if !d.user(t, slug, "a").HasBroken() || d.user(t, slug, "b").HasBroken() {
		t.Fatal("it is not of who broke it alone")
	}
	if d.as(t, slug, smart.Token{Scope: "user/*.rs", Client: "tester", User: "Practitioner/b", Subject: "b", Session: "s-a"}).HasBroken() {
		t.Error("another user in the same login has it")
	}
	conn := connect(t, d.URLs.Registry)
	exec := func(sql string, args ...any) error {
		_, err := conn.Exec(t.Context(), sql, args...)
		return err
	}
	forged := `INSERT INTO registry.glass (tenant_id, id, fhir_user, subject, client, session, patient, alone, request, begins, until, signed)
		SELECT tenant_id, $2, 'Practitioner/b', 'b', client, 's-b', patient, true, request, begins, until, signed FROM registry.glass WHERE id = $1`
	if err := exec(forged, id, rand.Text()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(smart.RevocationDelay)
	if d.user(t, slug, "b").HasBroken() {
		t.Error("a copy of another's opens")
	}
	for what, sql := range map[string]string{
		"lasts longer":         `UPDATE registry.glass SET until = until + interval '1 hour' WHERE id = $1`,
		"is signed anew":       `UPDATE registry.glass SET signed = 'x' WHERE id = $1`,
		"is another's":         `UPDATE registry.glass SET fhir_user = 'Practitioner/b' WHERE id = $1`,
		"goes":                 `DELETE FROM registry.glass WHERE id = $1`,
		"is for longer":        `INSERT INTO registry.glass (tenant_id, id, fhir_user, subject, client, session, patient, alone, request, begins, until, signed) SELECT tenant_id, id || 'x', fhir_user, subject, client, session, patient, true, request, begins, begins + interval '5 hours', signed FROM registry.glass WHERE id = $1`,
		"needs no approval":    `INSERT INTO registry.glass (tenant_id, id, fhir_user, subject, client, session, patient, alone, request, begins, until, signed) SELECT tenant_id, id || 'x', fhir_user, subject, client, session, patient, false, request, begins, until, signed FROM registry.glass WHERE id = $1`,
		"is approved by them":  `INSERT INTO registry.glass (tenant_id, id, fhir_user, subject, client, session, patient, alone, request, decided, decided_by, decider) SELECT tenant_id, id || 'x', fhir_user, subject, client, session, patient, false, request, now(), fhir_user, 'x' FROM registry.glass WHERE id = $1`,
		"is approved by that":  `INSERT INTO registry.glass (tenant_id, id, fhir_user, subject, client, session, patient, alone, request, decided, decided_by, decider) SELECT tenant_id, id || 'x', fhir_user, subject, client, session, patient, false, request, now(), 'Practitioner/x', subject FROM registry.glass WHERE id = $1`,
		"is reviewed too soon": `UPDATE registry.glass SET reviewed = now(), reviewed_by = 'x', reviewer = 'x', review = 'x' WHERE id = $1`,
	} {
		if err := exec(sql, id); err == nil {
			t.Errorf("one that %s is kept", what)
		}
	}
	if err := d.Registry.EndGlass(t.Context(), d.Tenant(t, slug), id, "x"); err != nil {
		t.Fatal(err)
	}
	if err := exec(`UPDATE registry.glass SET ended = NULL, ended_by = NULL WHERE id = $1`, id); err == nil {
		t.Error("what has ended goes on")
	}
	if err := exec(`UPDATE registry.glass SET reviewed = now(), reviewed_by = fhir_user, reviewer = 'x', review = 'x' WHERE id = $1`, id); err == nil {
		t.Error("who broke it has reviewed it")
	}
}

// BG-03: a glass of which nobody can be alerted, or that the audit trail cannot
// tell of, is not broken.
func TestAGlassIsNotBrokenUnlessAlertAndAuditEntryAreKept(t *testing.T) {
	d := openDoor(t)
	const slug = "glass-kept"
	d.glassed(t, slug)
	ref := fhir.Ref{Type: "Patient", ID: "p"}
	for what, at := range map[string]struct{ database, schema, table, when string }{
		"the alert":       {"cordon_registry", "registry", "alert", `NEW.rule LIKE 'break-glass%'`},
		"the audit trail": {"cordon", "shared", "audit", `NEW.interaction = 16`},
	} {
		t.Run(what, func(t *testing.T) {
			user := strings.ReplaceAll(what, " ", "-")
			owner := connect(t, in(d.OwnerURL, at.database))
			exec := func(sql string) {
				t.Helper()
				if _, err := owner.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			exec(`CREATE FUNCTION ` + at.schema + `.fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$`)
			exec(`CREATE TRIGGER fails BEFORE INSERT ON ` + at.schema + `.` + at.table + ` FOR EACH ROW WHEN (` + at.when + `) EXECUTE FUNCTION ` + at.schema + `.fails()`)
			_, err := d.db.BreakGlass(t.Context(), d.user(t, slug, user), store.GlassRequest{Patient: ref, Reason: "x"})
			exec(`DROP FUNCTION ` + at.schema + `.fails CASCADE`)
			if !fhir.IsCode(err, fhir.Transient) {
				t.Errorf("got %v", err)
			}
			time.Sleep(smart.RevocationDelay)
			if d.user(t, slug, user).HasBroken() {
				t.Error("it is broken")
			}
			if _, err := d.db.BreakGlass(t.Context(), d.user(t, slug, user), store.GlassRequest{Patient: ref, Reason: "x"}); err != nil {
				t.Fatalf("later: %v", err)
			}
			if !d.user(t, slug, user).HasBroken() {
				t.Error("later it is not broken")
			}
		})
	}
}
