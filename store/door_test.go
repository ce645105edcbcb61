package store_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// door is a DB on the Fixture, and what makes Grants for it.
type door struct {
	*storetest.Fixture
	db       *store.DB
	verifier *smart.Verifier
}

func base(slug string) string { return "https://cordon.test/fhir/" + slug }

func openDoor(t testing.TB) *door {
	t.Helper()
	f := storetest.New(t)
	v, err := smart.NewVerifier(smart.Config{Tenants: f.Tenants, Keys: f.Keyring, Policies: f.Registry, Glasses: f.Registry, Base: base, Issuer: base})
	if err != nil {
		t.Fatal(err)
	}
	return &door{f, openDB(t, f), v}
}

func openDB(t testing.TB, f *storetest.Fixture) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{
		DatabaseURL: f.URLs.App, AuditURL: f.URLs.Audit, Keys: f.Keyring, Platform: f.Registry, Packages: f.Registry, Base: base,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// grant returns a Grant for one request of a client of the tenant.
func (d *door) grant(t testing.TB, slug, scope string) *smart.Grant {
	t.Helper()
	return d.as(t, slug, smart.Token{Scope: scope, Client: "tester"})
}

func (d *door) as(t testing.TB, slug string, tok smart.Token) *smart.Grant {
	t.Helper()
	set, err := d.Keyring.Of(t.Context(), d.Tenant(t, slug).ID)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tok.Issuer, tok.Audience, tok.Tenant, tok.Subject = base(slug), base(slug), slug, cmp.Or(tok.Subject, "tester")
	tok.Issued, tok.NotYet, tok.Expires, tok.ID = now.Unix(), now.Unix(), now.Add(time.Minute).Unix(), fmt.Sprint(now.UnixNano())
	bearer, err := tok.Sign(set)
	if err != nil {
		t.Fatal(err)
	}
	g, err := d.verifier.Grant(t.Context(), slug, bearer, audit.Origin{RequestID: "r1", Trail: audit.NewTrail()})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

const everything = "system/*.cruds"

func document(t testing.TB, format string, args ...any) *fhir.Document {
	t.Helper()
	d, err := fhir.Parse(fmt.Appendf(nil, format, args...), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *door) put(t testing.TB, slug, ref, format string, args ...any) fhir.Resource {
	t.Helper()
	r, err := fhir.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	var got fhir.Resource
	err = d.db.Update(t.Context(), d.grant(t, slug, everything), func(tx *store.Tx) (err error) {
		got, _, err = tx.Put(t.Context(), r, document(t, format, args...), 0)
		return err
	})
	if err != nil {
		t.Fatalf("putting %s: %v", ref, err)
	}
	return got
}

func (d *door) search(t testing.TB, g *smart.Grant, on fhir.Type, query string) *store.Page {
	t.Helper()
	params, err := search.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	q, err := search.Parse(on, params, search.Options{Base: base(g.Tenant().Slug.String())})
	if err != nil {
		t.Fatal(err)
	}
	var page *store.Page
	err = d.db.View(t.Context(), g, func(v *store.View) (err error) {
		page, err = v.Search(t.Context(), q)
		return err
	})
	if err != nil {
		t.Fatalf("searching %s?%s: %v", on, query, err)
	}
	return page
}

func ids(list []fhir.Resource) string {
	var out []string
	for _, r := range list {
		out = append(out, r.Ref.String())
	}
	return strings.Join(out, " ")
}

// eachMode runs a test in a tenant of each partition mode.
func eachMode(t *testing.T, fn func(t *testing.T, slug string)) {
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		t.Run(string(storetest.Modes[slug]), func(t *testing.T) { fn(t, slug) })
	}
}

func TestAResourceIsReadAsItWasWritten(t *testing.T) {
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		put := d.put(t, slug, "Observation/exact", `{"resourceType":"Observation","id":"exact","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.50e2}}`)
		got, err := d.db.Read(t.Context(), d.grant(t, slug, everything), put.Ref)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Body) != string(put.Body) || got.Version != put.Version || !got.Updated.Equal(put.Updated) {
			t.Errorf("got %s, want %s", got.Body, put.Body)
		}
		if !strings.Contains(string(got.Body), `1.50e2`) {
			t.Errorf("the number lost its spelling: %s", got.Body)
		}
	})
}

func TestVersionsFollowEachOther(t *testing.T) {
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		ref := fhir.Ref{Type: "Patient", ID: "versions"}
		for i := range 3 {
			r := d.put(t, slug, ref.String(), `{"resourceType":"Patient","id":"versions","birthDate":"198%d-01-01","name":[{"family":"V%d"}]}`, i, i)
			if r.Version != int64(i+1) {
				t.Fatalf("version %d, want %d", r.Version, i+1)
			}
		}
		var deleted fhir.Resource
		err := d.db.Update(t.Context(), d.grant(t, slug, everything), func(tx *store.Tx) (err error) {
			deleted, _, err = tx.Delete(t.Context(), ref, 0)
			return err
		})
		if err != nil || deleted.Version != 4 {
			t.Fatalf("deleting: version %d, %v", deleted.Version, err)
		}
		_, err = d.db.Read(t.Context(), d.grant(t, slug, everything), ref)
		if !fhir.IsCode(err, fhir.Deleted) {
			t.Errorf("reading what is deleted: %v", err)
		}
		if page := d.search(t, d.grant(t, slug, everything), "Patient", "_id=versions"); len(page.Matches) != 0 {
			t.Errorf("a search found what is deleted: %s", ids(page.Matches))
		}
		err = d.db.View(t.Context(), d.grant(t, slug, everything), func(v *store.View) error {
			for n := int64(1); n <= 3; n++ {
				if _, err := v.Vread(t.Context(), ref, n); err != nil {
					t.Errorf("version %d: %v", n, err)
				}
			}
			h, err := v.History(t.Context(), store.HistoryQuery{Ref: ref, Count: 10})
			if err != nil {
				return err
			}
			if len(h.Versions) != 4 || !h.Versions[0].Deleted || h.Versions[3].Version != 1 {
				t.Errorf("history: %v", h.Versions)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if r := d.put(t, slug, ref.String(), `{"resourceType":"Patient","id":"versions"}`); r.Version != 5 {
			t.Errorf("version after deletion: %d, want 5", r.Version)
		}
	})
}

func TestSearchesFindWhatTheIndexHolds(t *testing.T) {
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		d.put(t, slug, "Patient/sf1", `{"resourceType":"Patient","id":"sf1","identifier":[{"system":"urn:mrn","value":"SF-1"}],"name":[{"family":"Quigleyson","given":["Ana María"]}],"birthDate":"1970-05-05","gender":"female"}`)
		d.put(t, slug, "Patient/sf2", `{"resourceType":"Patient","id":"sf2","identifier":[{"system":"urn:mrn","value":"SF-2"}],"name":[{"family":"Quigleyton","given":["Bo"]}],"birthDate":"1980-06-06","gender":"male"}`)
		for i := range 5 {
			d.put(t, slug, fmt.Sprintf("Observation/sf%d", i), `{"resourceType":"Observation","id":"sf%d","status":"final",
				"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],
				"code":{"coding":[{"system":"http://loinc.org","code":"sf-glucose","display":"Glucose in blood"}]},
				"subject":{"reference":"Patient/sf%d"},"effectiveDateTime":"2020-01-0%dT10:00:00Z",
				"valueQuantity":{"value":%d,"unit":"mg/dL","system":"http://unitsofmeasure.org","code":"mg/dL"}}`, i, 1+i%2, i+1, 100+i)
		}
		for _, tt := range []struct {
			on    fhir.Type
			query string
			want  string
		}{
			{"Patient", "identifier=urn:mrn|SF-1", "Patient/sf1"},
			{"Patient", "identifier=SF-2", "Patient/sf2"},
			{"Patient", "family=quigley&_sort=_id", "Patient/sf1 Patient/sf2"},
			{"Patient", "family=quigleyso", "Patient/sf1"},
			{"Patient", "given=ana%20mar", "Patient/sf1"},
			{"Patient", "family:exact=Quigleyson", "Patient/sf1"},
			{"Patient", "family:exact=quigleyson", ""},
			{"Patient", "name:contains=igleyt", "Patient/sf2"},
			{"Patient", "family=quigley&birthdate=ge1975-01-01", "Patient/sf2"},
			{"Patient", "family=quigley&gender:not=male", "Patient/sf1"},
			{"Patient", "family=quigley&telecom:missing=true&_sort=-_id", "Patient/sf2 Patient/sf1"},
			{"Patient", "family=quigley&_sort=birthdate", "Patient/sf1 Patient/sf2"},
			{"Patient", "family=quigley&_sort=-family", "Patient/sf2 Patient/sf1"},
			{"Observation", "code=http://loinc.org|sf-glucose", "Observation/sf4 Observation/sf3 Observation/sf2 Observation/sf1 Observation/sf0"},
			{"Observation", "patient=sf1&code=http://loinc.org|sf-glucose", "Observation/sf4 Observation/sf2 Observation/sf0"},
			{"Observation", "patient=Patient/sf1&code=sf-glucose&date=le2020-01-03", "Observation/sf2 Observation/sf0"},
			{"Observation", "code=sf-glucose&value-quantity=gt102&_sort=_id", "Observation/sf3 Observation/sf4"},
			{"Observation", "code=http://loinc.org|sf-glucose&value-quantity=101|http://unitsofmeasure.org|mg/dL", "Observation/sf1"},
			{"Observation", "code-value-quantity=http://loinc.org|sf-glucose$lt101", "Observation/sf0"},
			{"Observation", "code=sf-glucose&subject:Patient.family=quigleyt", "Observation/sf3 Observation/sf1"},
			{"Observation", "patient.name:contains=igleyt", "Observation/sf3 Observation/sf1"},
			{"Observation", "code:text=glucose&subject=Patient/sf2", "Observation/sf3 Observation/sf1"},
			{"Patient", "_has:Observation:patient:code=http://loinc.org|sf-glucose&_sort=_id", "Patient/sf1 Patient/sf2"},
			{"Patient", "_has:Observation:patient:value-quantity=gt103&family=quigley", "Patient/sf1"},
			{"Observation", "code=sf-glucose,nothing&_count=2&_sort=-date", "Observation/sf4 Observation/sf3"},
			{"Patient", "family=quigley&_tag=x", ""},
			{"Patient", "family=quigley&_sort=_id&_offset=1", "Patient/sf2"},
			{"Observation", "code=sf-glucose&_offset=3", "Observation/sf1 Observation/sf0"},
		} {
			t.Run(string(tt.on)+"?"+tt.query, func(t *testing.T) {
				if got := ids(d.search(t, d.grant(t, slug, everything), tt.on, tt.query).Matches); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
		page := d.search(t, d.grant(t, slug, everything), "Observation", "code=sf-glucose&_count=2&_total=accurate&_include=Observation:subject")
		if page.Total == nil || *page.Total != 5 || page.Next == "" || len(page.Included) != 2 {
			t.Errorf("page: total %v, next %t, included %s", page.Total, page.Next != "", ids(page.Included))
		}
		page = d.search(t, d.grant(t, slug, everything), "Patient", "_id=sf1&_revinclude=Observation:patient")
		if len(page.Included) != 3 {
			t.Errorf("revinclude: %s", ids(page.Included))
		}
	})
}

func TestAScopeNarrowsEveryPath(t *testing.T) { // AUTHZ-11 AUTHZ-16
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		for _, p := range []string{"sc1", "sc2"} {
			d.put(t, slug, "Patient/"+p, `{"resourceType":"Patient","id":"%s","name":[{"family":"Scoped"}]}`, p)
			d.put(t, slug, "Condition/"+p, `{"resourceType":"Condition","id":"%s","subject":{"reference":"Patient/%s"},"code":{"text":"x"}}`, p, p)
		}
		own := smart.Token{Scope: "patient/*.cruds", Client: "app", Patient: "sc1"}
		if got := ids(d.search(t, d.as(t, slug, own), "Condition", "").Matches); got != "Condition/sc1" {
			t.Errorf("search: %s", got)
		}
		page := d.search(t, d.as(t, slug, own), "Patient", "family=scoped&_total=accurate&_revinclude=Condition:patient")
		if ids(page.Matches) != "Patient/sc1" || *page.Total != 1 || ids(page.Included) != "Condition/sc1" {
			t.Errorf("search: %s, total %d, included %s", ids(page.Matches), *page.Total, ids(page.Included))
		}
		_, hidden := d.db.Read(t.Context(), d.as(t, slug, own), fhir.Ref{Type: "Condition", ID: "sc2"})
		_, never := d.db.Read(t.Context(), d.as(t, slug, own), fhir.Ref{Type: "Condition", ID: "sc3"})
		if hidden == nil || strings.ReplaceAll(hidden.Error(), "sc2", "sc3") != never.Error() {
			t.Errorf("hidden: %v; never existed: %v", hidden, never)
		}
		err := d.db.Update(t.Context(), d.as(t, slug, own), func(tx *store.Tx) error {
			_, _, err := tx.Put(t.Context(), fhir.Ref{Type: "Condition", ID: "sc1"},
				document(t, `{"resourceType":"Condition","id":"sc1","subject":{"reference":"Patient/sc2"},"code":{"text":"moved"}}`), 0)
			return err
		})
		if !fhir.IsCode(err, fhir.Forbidden) {
			t.Errorf("moving a condition to another patient: %v", err)
		}
	})
}

func TestOneTenantNeverSeesAnother(t *testing.T) {
	d := openDoor(t)
	for _, slug := range storetest.Slugs {
		d.put(t, slug, "Patient/same", `{"resourceType":"Patient","id":"same","name":[{"family":"Of-%s"}],"identifier":[{"system":"urn:mrn","value":"%s"}]}`, slug, slug)
	}
	for _, slug := range storetest.Slugs {
		got, err := d.db.Read(t.Context(), d.grant(t, slug, everything), fhir.Ref{Type: "Patient", ID: "same"})
		if err != nil || !strings.Contains(string(got.Body), "Of-"+slug) {
			t.Errorf("%s reads %s, %v", slug, got.Body, err)
		}
		for _, other := range storetest.Slugs {
			want := ""
			if other == slug {
				want = "Patient/same"
			}
			if got := ids(d.search(t, d.grant(t, slug, everything), "Patient", "identifier=urn:mrn|"+other).Matches); got != want {
				t.Errorf("%s searching for %s finds %q", slug, other, got)
			}
		}
	}
}

func TestEqualConditionalCreatesMakeOneRow(t *testing.T) { // H-25
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		query := "identifier=urn:race|1"
		params, _ := search.ParseQuery(query)
		var made sync.Map
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				q, err := search.Parse("Patient", params, search.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				g := d.grant(t, slug, everything)
				err = d.db.Update(context.Background(), g, func(tx *store.Tx) error {
					if err := tx.Lock(t.Context(), fhir.Create, "Patient", query); err != nil {
						return err
					}
					found, err := tx.Match(t.Context(), q)
					if err != nil || len(found) > 0 {
						return err
					}
					r, err := tx.Create(t.Context(), "", document(t, `{"resourceType":"Patient","identifier":[{"system":"urn:race","value":"1"}]}`))
					made.Store(r.Ref, true)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := d.search(t, d.grant(t, slug, everything), "Patient", query).Matches; len(got) != 1 {
			t.Errorf("%d rows", len(got))
		}
	})
}

func TestPagesAreSealedAndComplete(t *testing.T) { // H-50
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		for i := range 25 {
			d.put(t, slug, fmt.Sprintf("Basic/pg%02d", i), `{"resourceType":"Basic","id":"pg%02d","code":{"coding":[{"system":"urn:x","code":"pg"}]},"created":"2020-01-%02d"}`, i, i/2+1)
		}
		for _, query := range []string{"code=urn:x|pg&_count=4", "code=urn:x|pg&_count=4&_sort=-created", "code=urn:x|pg&_count=4&_sort=created", "code=urn:x|pg&_count=4&_sort=_id", "code=urn:x|pg&_count=4&_sort=-_lastUpdated"} {
			seen := map[string]int{}
			g := d.grant(t, slug, everything)
			page := d.search(t, g, "Basic", query)
			for {
				for _, r := range page.Matches {
					seen[r.Ref.String()]++
				}
				if page.Next == "" {
					break
				}
				next := d.grant(t, slug, everything)
				c, err := d.db.OpenCursor(t.Context(), next, page.Next)
				if err != nil {
					t.Fatal(err)
				}
				other := d.grant(t, slug, "system/Basic.rs")
				if _, err := d.db.OpenCursor(t.Context(), other, page.Next); !fhir.IsCode(err, fhir.Invalid) {
					t.Errorf("another principal opened the cursor: %v", err)
				}
				params, _ := search.ParseQuery(c.Query)
				q, err := search.Parse("Basic", params, search.Options{})
				if err != nil {
					t.Fatal(err)
				}
				err = d.db.View(t.Context(), next, func(v *store.View) (err error) {
					page, err = v.SearchFrom(t.Context(), q, c)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if len(seen) != 25 {
				t.Errorf("%s: %d of 25 seen", query, len(seen))
			}
			for ref, n := range seen {
				if n != 1 {
					t.Errorf("%s: %s %d times", query, ref, n)
				}
			}
		}
	})
}

func TestPagesOfSeveralTypesComeInAnyOrderOfTypes(t *testing.T) { // S-01 H-50
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		want := map[string]bool{}
		for _, on := range []string{"Basic", "Flag", "List"} {
			for i := range 3 {
				ref := fmt.Sprintf("%s/ty%d", on, i)
				d.put(t, slug, ref, `{"resourceType":%q,"id":"ty%d","meta":{"tag":[{"code":"ty"}]}}`, on, i)
				want[ref] = true
			}
		}
		for _, types := range []string{"Basic,Flag,List", "List,Flag,Basic", "Flag,List,Basic"} {
			got := map[string]bool{}
			list, _, err := d.pages(t, func() *smart.Grant { return d.grant(t, slug, everything) }, "", "_type="+types+"&_tag=ty&_count=2")
			for _, r := range list {
				got[r.Ref.String()] = true
			}
			if err != nil || len(list) != len(want) || !maps.Equal(got, want) {
				t.Errorf("_type=%s: %s, %v", types, ids(list), err)
			}
		}
	})
}

func TestDatesSortByTheirBeginningWithWhateverElse(t *testing.T) { // S-40
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		for i, effective := range []string{
			`,"effectiveDateTime":"2016"`, `,"effectiveDateTime":"2016-05"`, `,"effectivePeriod":{"start":"2016-05-10","end":"2020"}`, `,"effectiveDateTime":"2016-05-18"`,
			`,"effectivePeriod":{"end":"2017"}`, ``,
		} {
			d.put(t, slug, fmt.Sprintf("Observation/so%d", i), `{"resourceType":"Observation","id":"so%d","status":"final","code":{"coding":[{"system":"urn:x","code":"so"}]}%s}`, i, effective)
		}
		down := "Observation/so3 Observation/so2 Observation/so1 Observation/so0"
		for _, sort := range []string{"-date", "-date,_id", "-date,status"} {
			if got := ids(d.search(t, d.grant(t, slug, everything), "Observation", "code=urn:x|so&_sort="+sort).Matches); !strings.HasPrefix(got, down) {
				t.Errorf("_sort=%s: %s", sort, got)
			}
		}
		up := "Observation/so0 Observation/so1 Observation/so2 Observation/so3 Observation/so4 Observation/so5"
		if got := ids(d.search(t, d.grant(t, slug, everything), "Observation", "code=urn:x|so&_sort=date,_id").Matches); got != up {
			t.Errorf("_sort=date,_id: %s", got)
		}
	})
}

func TestManyConditionsArePlannedSoon(t *testing.T) { // S-50
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		var identifiers []string
		for i := range 11 {
			identifiers = append(identifiers, fmt.Sprintf(`{"system":"urn:pl","value":"%d"}`, i))
		}
		d.put(t, slug, "Patient/pl", `{"resourceType":"Patient","id":"pl","identifier":[%s]}`, strings.Join(identifiers, ","))
		query := ""
		for i := range identifiers {
			query += fmt.Sprintf("&identifier=urn:pl|%d", i)
			begun := time.Now()
			if got := ids(d.search(t, d.grant(t, slug, everything), "Patient", query[1:]).Matches); got != "Patient/pl" {
				t.Errorf("%d conditions: %s", i+1, got)
			}
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("%d conditions take %v", i+1, took)
			}
		}
	})
}

func TestEveryViewAndUpdateHasOneEntry(t *testing.T) {
	d := openDoor(t)
	eachMode(t, func(t *testing.T, slug string) {
		auditor := func(text string) []audit.Entry {
			t.Helper()
			var page *store.AuditPage
			err := d.db.View(t.Context(), d.grant(t, slug, "system/AuditEvent.rs"), func(v *store.View) (err error) {
				page, err = v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", text), store.Cursor{Page: 1})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return page.Entries
		}
		ref := fhir.Ref{Type: "Patient", ID: "audited"}
		d.put(t, slug, ref.String(), `{"resourceType":"Patient","id":"audited"}`)
		if _, err := d.db.Read(t.Context(), d.grant(t, slug, everything), ref); err != nil {
			t.Fatal(err)
		}
		d.db.Read(t.Context(), d.grant(t, slug, "system/Condition.rs"), ref) // refused
		got := auditor("entity=" + ref.String())
		want := []struct {
			do      fhir.Interaction
			outcome audit.Outcome
		}{{fhir.Read, audit.Serious}, {fhir.Read, audit.Success}, {fhir.Update, audit.Success}}
		if len(got) != len(want) {
			t.Fatalf("%d entries: %+v", len(got), got)
		}
		for i, w := range want {
			if got[i].Interaction != w.do || got[i].Outcome != w.outcome || got[i].Agent.Client != "tester" {
				t.Errorf("entry %d: %+v, want %v", i, got[i], w)
			}
		}
		if list := auditor("action=U&patient=" + ref.String()); len(list) != 1 {
			t.Errorf("%d updates of the patient", len(list))
		}
	})
}
