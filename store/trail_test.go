package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

const auditor = "system/AuditEvent.rs"

// trail returns what the search of the audit trail finds, page by page.
func (d *door) trail(t testing.TB, g *smart.Grant, text string) (all []audit.Entry) {
	t.Helper()
	q := storetest.Query(t, "AuditEvent", text)
	err := d.db.View(t.Context(), g, func(v *store.View) error {
		for c := (store.Cursor{Page: 1}); ; {
			page, err := v.AuditEvents(t.Context(), q, c)
			if err != nil {
				return err
			}
			if all = append(all, page.Entries...); page.Next == "" {
				return nil
			}
			if c, err = v.OpenCursor(t.Context(), page.Next); err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return all
}

// happenings writes n entries of all kinds to the trail of the tenant, about
// patients of the name.
func (d *door) happenings(t testing.TB, slug, name string, n int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(7, 7))
	some := func(list ...string) string { return list[rnd.IntN(len(list))] }
	for range n {
		g := d.as(t, slug, smart.Token{
			Scope: everything, Client: some("App-"+name, "Batch-"+name), User: some("", "Practitioner/"+name, "Patient/"+name),
			Purpose: some("", "", "TREAT", "BTG"), Person: smart.Person{Roles: []string{"nurse"}, Location: some("", name+"-1", name+"-2")},
		})
		e := audit.Entry{
			Interaction: []fhir.Interaction{fhir.Read, fhir.Read, fhir.SearchType, fhir.Update, fhir.Patch, fhir.Delete, fhir.Operation, ""}[rnd.IntN(8)],
			Outcome:     []audit.Outcome{0, 0, 0, 4, 8, 12}[rnd.IntN(6)], Type: "Observation",
		}
		if rnd.IntN(3) > 0 {
			e.Patient = fhir.Ref{Type: "Patient", ID: some(name, name+"-b")}
		}
		if rnd.IntN(2) > 0 {
			e.Entity = fhir.Ref{Type: fhir.Type(some("Observation", "Patient")), ID: some(name, name+"-b")}
		}
		if err := d.db.Record(t.Context(), g, e); err != nil {
			t.Fatal(err)
		}
	}
}

// older makes of every third entry of the tenant one of a release that kept
// less in columns, as the owner of the database could.
func (d *door) older(t testing.TB, slug string) {
	t.Helper()
	tn := d.Tenant(t, slug)
	conn := database(t, d.Fixture, tn)
	for _, stmt := range []string{
		`ALTER TABLE %s.audit DISABLE TRIGGER append_only`,
		`UPDATE %s.audit SET client = NULL, site = NULL, purpose = NULL WHERE (seq >> 10) %% 3 = 0`,
		`ALTER TABLE %[1]s.audit ENABLE TRIGGER append_only; ANALYZE %[1]s.audit`,
	} {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(stmt, tn.Placement.Schema)); err != nil {
			t.Fatal(err)
		}
	}
}

// meeting returns the ids of the entries that read as AuditEvents which meet
// the search.
func meeting(t testing.TB, slug, text string, of []audit.Entry) (ids []string) {
	t.Helper()
	q := storetest.Query(t, "AuditEvent", text)
	for _, e := range of {
		r := fhir.Resource{Ref: fhir.Ref{Type: "AuditEvent", ID: e.ID()}, Updated: e.Recorded, Body: audit.Render(e, base(slug))}
		err := fhir.Peek(r.Body, func(d *fhir.Document) error {
			ok, err := search.Match(q.Where, &r, search.Schema{Base: base(slug)}.Index(d))
			if ok {
				ids = append(ids, e.ID())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func idsOf(list []audit.Entry) (ids []string) {
	for _, e := range list {
		ids = append(ids, e.ID())
	}
	return ids
}

// AUD-05: an index narrows, the entry as it reads decides.
func TestASearchOfTheTrailFindsWhatMeetsItAndNothingElse(t *testing.T) {
	d := openDoor(t)
	d.db.SetTrail(60, 40, 25)
	eachMode(t, func(t *testing.T, like string) {
		const name = "trailed"
		slug := name + "-" + like // of its own: others leave entries that nobody can open
		if _, _, err := d.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: storetest.Modes[like]}); err != nil {
			t.Fatal(err)
		}
		d.happenings(t, slug, name, 150)
		d.older(t, slug)
		all := d.trail(t, d.grant(t, slug, auditor), "_count=100&date=ge2021")
		middle := all[len(all)/2].Recorded.Format("2006-01-02T15:04:05.000Z")
		for _, text := range []string{
			"patient=Patient/trailed", "patient=trailed-b", "entity=Patient/trailed", "entity=Observation/trailed,Observation/trailed-b",
			"agent=Practitioner/trailed", "agent=Patient/trailed", "agent:identifier=APP-trailed", "agent:identifier=batch-trailed,app-trailed",
			"agent:identifier=" + base(slug), "agent-role=nurse", "agent:Practitioner=trailed",
			"purpose=BTG", "purpose=http://terminology.hl7.org/CodeSystem/v3-ActReason|TREAT", "purpose=btg,TREAT", "purpose:not=BTG", "purpose:missing=true",
			"site=Location/trailed-1", "site=Location/trailed-1,Location/trailed-2", "site=" + base(slug),
			"action=D", "action=U", "action=R", "action=E,D", "action=http://hl7.org/fhir/audit-event-action|U",
			"subtype=patch", "subtype=http://hl7.org/fhir/restful-interaction|read", "subtype=vread", "type=rest", "type=http://terminology.hl7.org/CodeSystem/audit-event-type|rest",
			"outcome=8", "outcome=4,12", "outcome=0", "outcome:not=0", "entity-type=1", "entity-role=4", "address=10.", "altid=x", "agent-name=x",
			"policy=urn:cordon:policy:1", "_id=" + all[0].ID() + "," + all[7].ID(), "_id=x",
			"date=" + middle, "date=ne" + middle, "date=gt" + middle, "date=ge" + middle, "date=lt" + middle, "date=le" + middle, "date=sa" + middle, "date=eb" + middle,
			"date=ge2021&date=lt2300", "date=2019", "date=ap2019", "_lastUpdated=gt" + middle,
			"patient=Patient/trailed&action=U,D", "agent=Practitioner/trailed&purpose=BTG&outcome=0", "agent:identifier=app-trailed&site=Location/trailed-2&date=gt" + middle,
			"purpose=BTG&action=R&patient=trailed", "entity=Patient/trailed&outcome=0&entity-role=1",
		} {
			want := meeting(t, slug, text, all)
			for _, shape := range []string{"&_count=7", "&_count=40&_sort=date"} {
				got := d.trail(t, d.grant(t, slug, auditor), "date=le"+all[0].Recorded.Format("2006-01-02T15:04:05.000Z")+"&"+text+shape)
				ids := idsOf(got)
				if strings.Contains(shape, "_sort=date") {
					slices.Reverse(ids)
				}
				if diff := cmp.Diff(want, ids); diff != "" {
					t.Fatalf("%s%s: (-want +got)\n%s", text, shape, diff)
				}
			}
		}
	})
}

// Of what is searched for, each index shows a page at the cost of that
// page, whatever the statistics say of how common it is.
func TestEachSearchOfTheTrailGoesAlongAnIndexOfIts(t *testing.T) {
	d := openDoor(t)
	const slug = "long-trail"
	if _, _, err := d.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Shared}); err != nil {
		t.Fatal(err)
	}
	tn := d.Tenant(t, slug)
	set, err := d.Keyring.Of(t.Context(), tn.ID)
	if err != nil {
		t.Fatal(err)
	}
	conn := database(t, d.Fixture, tn)
	// Half of the entries are of one user about one patient, and all of it is
	// long ago: who only knows how common it is would go through what is new.
	if _, err := conn.Exec(t.Context(), `
		INSERT INTO shared.audit (tenant_id, seq, recorded, agent, patient, entity, client, site, purpose, interaction, outcome, sealed)
		SELECT $1, i << 10, now(), CASE WHEN i < 20000 THEN $2::bigint ELSE i END, CASE WHEN i < 20000 THEN $3::bigint ELSE i END, i,
		       i % 7, i % 5, nullif(i % 3, 0), 1 + i % 15, CASE WHEN i % 50 = 0 THEN 8 ELSE 0 END, '\\x00'
		FROM   generate_series(1, 40000) i`, tn.ID.Int(), set.Hash("a", "Practitioner/7"), set.Hash("s", "Patient/7")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `ANALYZE shared.audit`); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                     "audit_pkey",
		"action=R":             "audit_pkey",
		"outcome=0":            "audit_pkey",
		"agent=Practitioner/7": "audit_agent",
		"patient=Patient/7":    "audit_agent audit_entity audit_patient",
		"entity=Observation/7": "audit_entity audit_patient",
		"agent:identifier=app": "audit_agent audit_client audit_older",
		"site=Location/7":      "audit_older audit_site",
		"purpose=BTG":          "audit_older audit_purpose",
		"outcome=8":            "audit_outcome",
		"outcome=4,8,12":       "audit_outcome",
		"action=D":             "audit_interaction",
		"subtype=patch":        "audit_interaction",
		"agent=Practitioner/7&action=D&outcome=8": "audit_agent",
		"patient=7&date=gt2024&_sort=date":        "audit_agent audit_entity audit_patient",
	} {
		err := d.db.View(t.Context(), d.grant(t, slug, auditor), func(v *store.View) error {
			plan, err := v.ExplainTrail(t.Context(), storetest.Query(t, "AuditEvent", text))
			if err != nil {
				return err
			}
			var used []string
			for _, line := range plan {
				if _, index, ok := strings.Cut(line, " using "); ok {
					index, _, _ = strings.Cut(index, " ")
					used = append(used, index)
				}
				if strings.Contains(line, "Seq Scan") || strings.Contains(line, "Bitmap") {
					used = append(used, "more")
				}
			}
			slices.Sort(used)
			if got := strings.Join(slices.Compact(used), " "); got != want {
				t.Errorf("%s goes along %s, want %s:\n%s", text, got, want, strings.Join(plan, "\n"))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// AUD-04: an entry that does not open hides none of the others. Who may see all of
// the trail is told of it; a patient, whose it need not be, is not.
func TestAnEntryThatCannotBeOpenedIsNamedAndTheSearchGoesOn(t *testing.T) {
	d := openDoor(t)
	d.db.SetTrail(60, 40, 25)
	eachMode(t, func(t *testing.T, like string) {
		slug := "unreadable-" + like
		if _, _, err := d.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: storetest.Modes[like]}); err != nil {
			t.Fatal(err)
		}
		d.happenings(t, slug, "unread", 40)
		tn := d.Tenant(t, slug)
		conn := database(t, d.Fixture, tn)
		must(t, conn, `SET session_replication_role = replica`)
		table := tn.Placement.Schema + ".audit"
		bad := query[int64](t, conn, `UPDATE `+table+` SET sealed = CASE WHEN seq % 2048 < 1024 THEN '' ELSE set_byte(sealed, 9, get_byte(sealed, 9) # 1) END
			WHERE tenant_id = $1 AND seq IN (SELECT seq FROM `+table+` WHERE tenant_id = $1 ORDER BY seq LIMIT 11 OFFSET 5) RETURNING seq`, tn.ID.Int())
		var want []string
		for _, seq := range slices.Backward(slices.Sorted(slices.Values(bad))) {
			want = append(want, audit.Entry{Seq: seq}.ID())
		}
		for _, text := range []string{"_count=7", "_count=100", "_count=3&_sort=date"} {
			var found, unreadable []string
			err := d.db.View(t.Context(), d.grant(t, slug, auditor), func(v *store.View) error {
				for c := (store.Cursor{Page: 1}); ; {
					page, err := v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", text), c)
					if err != nil {
						return err
					}
					found, unreadable = append(found, idsOf(page.Entries)...), append(unreadable, page.Unreadable...)
					if page.Next == "" {
						return nil
					}
					if c, err = v.OpenCursor(t.Context(), page.Next); err != nil {
						return err
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text, "_sort=date") {
				slices.Reverse(unreadable)
			}
			if diff := cmp.Diff(want, unreadable); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", text, diff)
			}
			if len(found) < 29 {
				t.Errorf("%s: %d of the others are found", text, len(found))
			}
		}
		err := d.db.View(t.Context(), d.grant(t, slug, auditor), func(v *store.View) error {
			_, err := v.AuditEvent(t.Context(), want[0])
			return err
		})
		if !fhir.IsCode(err, fhir.Exception) {
			t.Errorf("it is read: %v", err)
		}
		patient := d.as(t, slug, smart.Token{Scope: "patient/*.rs", Client: "app", User: "Patient/unread", Patient: "unread"})
		err = d.db.View(t.Context(), patient, func(v *store.View) error {
			page, err := v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "_count=100"), store.Cursor{Page: 1})
			if err == nil && (len(page.Entries) == 0 || len(page.Unreadable) > 0) {
				t.Errorf("a patient finds %d entries and is told of %v", len(page.Entries), page.Unreadable)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// AUD-12: what is of two records is in the trail of both, with its name.
func TestAnAccessIsInTheTrailOfEachPatientWhoseRecordItWas(t *testing.T) {
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		const both = `{"resourceType":"Observation","id":"of-two","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/one-of"},"performer":[{"reference":"Patient/two-of"}]}`
		d.put(t, slug, "Observation/of-two", both)
		ref := fhir.Ref{Type: "Observation", ID: "of-two"}
		if _, err := d.db.Read(t.Context(), d.grant(t, slug, everything), ref); err != nil {
			t.Fatal(err)
		}
		for _, patient := range []string{"one-of", "two-of"} {
			var did []string
			for _, e := range d.trail(t, d.grant(t, slug, auditor), "_sort=date&patient=Patient/"+patient) {
				did = append(did, string(e.Interaction)+" "+e.Entity.String()+" "+e.Agent.Client)
			}
			want := []string{"update Observation/of-two tester", "read Observation/of-two tester"}
			if diff := cmp.Diff(want, did); diff != "" {
				t.Errorf("the trail of %s (-want +got):\n%s", patient, diff)
			}
		}
	})
}
