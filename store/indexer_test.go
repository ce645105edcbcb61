package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// own makes a tenant that no other test writes to.
func (d *door) own(t testing.TB, slug string, mode tenant.Mode) *tenant.Tenant {
	t.Helper()
	if _, _, err := d.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Name: slug, Mode: mode}); err != nil {
		t.Fatal(err)
	}
	return d.Tenant(t, slug)
}

// parameter stores a SearchParameter of the tenant.
func (d *door) parameter(t testing.TB, slug, code, kind, on, expression string) {
	t.Helper()
	d.put(t, slug, "SearchParameter/"+code, `{"resourceType":"SearchParameter","id":%q,"url":"http://x.org/%s","name":"X","description":"x","status":"active","code":%q,"base":[%q],"type":%q,"expression":%q}`,
		code, code, code, on, kind, expression)
}

// tend lets an index job do all that there is to do.
func (d *door) tend(t testing.TB, slug string, batch int) {
	t.Helper()
	x := &store.Indexer{DB: d.db, Batch: batch}
	for begun := time.Now(); ; {
		more, err := x.Tend(t.Context(), d.Tenant(t, slug))
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("the index job does not end")
		}
	}
}

// found returns the ids that a search by all of the tenant's parameters finds.
func (d *door) found(t testing.TB, slug string, on fhir.Type, query string) ([]string, error) {
	t.Helper()
	var ids []string
	custom, err := d.db.Custom(t.Context(), d.grant(t, slug, everything))
	if err != nil {
		return nil, err
	}
	params, err := search.ParseQuery(query + "&_count=1000")
	if err != nil {
		t.Fatal(err)
	}
	q, err := search.Parse(on, params, search.Options{Base: base(slug), Custom: custom})
	if err != nil {
		return nil, err
	}
	err = d.db.View(t.Context(), d.grant(t, slug, everything), func(v *store.View) error {
		page, err := v.Search(t.Context(), q)
		if err != nil {
			return err
		}
		for _, r := range page.Matches {
			ids = append(ids, r.Ref.ID)
		}
		return nil
	})
	slices.Sort(ids)
	return ids, err
}

// settled is found, once what this process knows is no longer a second old.
func (d *door) settled(t testing.TB, slug string, on fhir.Type, query string) string {
	t.Helper()
	var err error
	var ids []string
	for range 40 {
		if ids, err = d.found(t, slug, on, query); err == nil {
			return strings.Join(ids, " ")
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err.Error()
}

// indexRows counts the rows that the index has of the tenant.
func (d *door) indexRows(t testing.TB, slug string) int {
	t.Helper()
	x := d.Tenant(t, slug)
	conn := database(t, d.Fixture, x)
	n := 0
	for _, table := range []string{"idx_token", "idx_ref", "idx_num", "idx_date", "idx_standing"} {
		n += query[int](t, conn, `SELECT count(*) FROM `+x.Placement.Schema+`.`+table+` WHERE tenant_id = $1`, x.ID.Int())[0]
	}
	return n
}

const colored = `{"resourceType":"Patient","id":%q,"name":[{"family":"Index"}],"extension":[{"url":"http://x.org/color","valueCode":%q},{"url":"http://x.org/weight","valueQuantity":{"value":%d,"system":"http://unitsofmeasure.org","code":"kg"}}],
	"contact":[{"organization":{"reference":"Organization/%s"}}]}`

func TestAParameterOfATenantIsIndexedOnlineAndRemoved(t *testing.T) {
	d := openDoor(t)
	for i, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		slug, neighbour := fmt.Sprint("index-", i), fmt.Sprint("neighbour-", i)
		d.own(t, slug, mode)
		d.own(t, neighbour, mode)
		for _, s := range []string{slug, neighbour} {
			for i := range 25 {
				id := fmt.Sprint("p", i)
				d.put(t, s, "Patient/"+id, colored, id, []string{"red", "green", "blue"}[i%3], i, "o"+fmt.Sprint(i%2))
			}
		}
		rows, others := d.indexRows(t, slug), d.indexRows(t, neighbour)
		d.parameter(t, slug, "color", "token", "Patient", "Patient.extension.where(url='http://x.org/color').value")
		d.parameter(t, slug, "weight", "quantity", "Patient", "Patient.extension('http://x.org/weight')")
		d.parameter(t, slug, "employer", "reference", "Patient", "Patient.contact.organization")
		d.parameter(t, slug, "shade", "string", "Patient", "Patient.extension.where(url='http://x.org/color').value.select('dark ' + $this)")
		plain := d.indexRows(t, slug) // with the SearchParameters themselves
		if _, err := d.found(t, slug, "Patient", "color=red"); !fhir.IsCode(err, fhir.NotSupported) {
			t.Errorf("%s: before it is indexed: %v", slug, err)
		}
		d.tend(t, slug, 7)
		for query, want := range map[string]string{
			"color=red&weight=lt10":                    "p0 p3 p6 p9",
			"weight=21000|http://unitsofmeasure.org|g": "p21",
			"color:missing=true":                       "",
			"employer=o1&color=blue":                   "p11 p17 p23 p5",
			"shade=dark%20gr&weight=le4||kg":           "p1 p4",
			"color=red&_sort=-weight&weight=gt20":      "p21 p24",
		} {
			if got := d.settled(t, slug, "Patient", query); got != want {
				t.Errorf("%s: %s finds %q, want %q", slug, query, got, want)
			}
		}
		if _, err := d.found(t, neighbour, "Patient", "color=red"); !fhir.IsCode(err, fhir.NotSupported) || strings.Contains(err.Error(), "ready") {
			t.Errorf("%s: a neighbour can tell: %v", slug, err)
		}
		d.tend(t, neighbour, 7)
		if d.indexRows(t, neighbour) != others {
			t.Errorf("%s: a neighbour has rows for it", slug)
		}
		status, err := d.db.SearchParameters(t.Context(), d.grant(t, slug, everything))
		if err != nil || len(status) != 4 || status[0].State != "ready" || status[0].Percent != 100 {
			t.Errorf("%s: %+v, %v", slug, status, err)
		}

		// What is written from now on is found; what is replaced is not.
		d.put(t, slug, "Patient/p0", colored, "p0", "green", 0, "o0")
		d.put(t, slug, "Patient/new", colored, "new", "red", 1, "o0")
		d.delete(t, slug, "Patient/p3")
		if got := d.settled(t, slug, "Patient", "color=red&weight=lt10"); got != "new p6 p9" {
			t.Errorf("%s: after writes it finds %s", slug, got)
		}

		for _, code := range []string{"color", "weight", "employer", "shade"} {
			d.delete(t, slug, "SearchParameter/"+code)
		}
		d.tend(t, slug, 7)
		if _, err := d.found(t, slug, "Patient", "color=red"); !fhir.IsCode(err, fhir.NotSupported) {
			t.Errorf("%s: after it is removed: %v", slug, err)
		}
		d.put(t, slug, "Patient/p0", colored, "p0", "red", 0, "o0")
		d.put(t, slug, "Patient/p3", colored, "p3", "red", 3, "o1")
		d.delete(t, slug, "Patient/new")
		if got := d.indexRows(t, slug); got != rows || plain <= rows {
			t.Errorf("%s: %d rows are left of %d, with %d before", slug, got, plain, rows)
		}
	}
}

// What the server sets in a resource is indexed as it is set, whatever the
// client sent, and what depends on the time is of the time of the version: so
// the rows of a version are found again when it is replaced.
func TestAParameterOfATenantMayReadWhatTheServerSets(t *testing.T) {
	d := openDoor(t)
	const slug = "stamped"
	d.own(t, slug, tenant.Shared)
	const sent = `{"resourceType":"Patient","id":%q,"meta":{"versionId":"77","lastUpdated":"2020-01-01T00:00:00Z"},"name":[{"family":%q}]}`
	d.put(t, slug, "Patient/before", sent, "before", "a")
	rows := d.indexRows(t, slug)
	for _, p := range [][3]string{
		{"stamped", "date", "Patient.meta.lastUpdated"}, {"rid", "token", "Patient.id"}, {"number", "token", "Patient.meta.versionId"},
		{"clock", "string", "now().toString()"}, {"recent", "token", "Patient.where(meta.lastUpdated > now() - 5 seconds).exists()"},
	} {
		d.parameter(t, slug, p[0], p[1], "Patient", p[2])
	}
	d.tend(t, slug, 7)
	for range 3 {
		for _, id := range []string{"before", "after"} {
			d.put(t, slug, "Patient/"+id, sent, id, "b")
		}
	}
	today := time.Now().UTC().Format("2006")
	for query, want := range map[string]string{
		"stamped=2020": "", "stamped=" + today: "after before", "rid=after": "after", "number=77": "", "number=3": "after", "number=4": "before",
		"clock=" + today: "after before", "recent=true": "after before",
	} {
		if got := d.settled(t, slug, "Patient", query); got != want {
			t.Errorf("%s finds %q, want %q", query, got, want)
		}
	}
	d.delete(t, slug, "Patient/after")
	for _, code := range []string{"stamped", "rid", "number", "clock", "recent"} {
		d.delete(t, slug, "SearchParameter/"+code)
	}
	d.tend(t, slug, 7)
	d.put(t, slug, "Patient/before", sent, "before", "a")
	if got := d.indexRows(t, slug); got != rows {
		t.Errorf("%d rows are left of %d", got, rows)
	}
}

// Two processes write while parameters come and go, and jobs break off in the
// middle. Whatever they know and whenever they learn of it, the index is in
// the end what the resources say, and nothing of it is left when all is gone.
func TestParametersComeAndGoWhileProcessesWrite(t *testing.T) {
	a, b := openDoor(t), openDoor(t)
	const slug = "index-race"
	a.own(t, slug, tenant.Shared)
	colors := []string{"red", "green", "blue"}
	for i := range 60 {
		a.put(t, slug, fmt.Sprint("Patient/p", i), colored, fmt.Sprint("p", i), colors[i%3], i, "o1")
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i, d := range []*door{a, b, a, b} {
		writers.Add(1)
		go func() {
			defer writers.Done()
			random := rand.New(rand.NewPCG(uint64(i), *seedFlag))
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := random.IntN(80)
				ref := fhir.Ref{Type: "Patient", ID: fmt.Sprint("p", n)}
				doc := document(t, colored, ref.ID, colors[random.IntN(3)], random.IntN(40), "o1")
				err := d.db.Update(t.Context(), d.grant(t, slug, everything), func(tx *store.Tx) error {
					if random.IntN(5) == 0 {
						_, _, err := tx.Delete(t.Context(), ref, 0)
						return err
					}
					_, _, err := tx.Put(t.Context(), ref, doc, 0)
					return err
				})
				if err != nil && !fhir.IsCode(err, fhir.Conflict) {
					t.Error(err)
					return
				}
			}
		}()
	}
	// work tends the index with a process that dies again and again.
	work := func() {
		t.Helper()
		for i := range 60 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(5+i*3)*time.Millisecond)
			x := &store.Indexer{DB: []*door{a, b}[i%2].db, Batch: 5}
			more, err := x.Tend(ctx, a.Tenant(t, slug))
			cancel()
			if err == nil && !more {
				return
			}
		}
		a.tend(t, slug, 5)
	}
	for range 3 {
		a.parameter(t, slug, "color", "token", "Patient", "Patient.extension.where(url='http://x.org/color').value")
		b.parameter(t, slug, "weight", "number", "Patient", "Patient.extension('http://x.org/weight').value.value")
		work()
		a.delete(t, slug, "SearchParameter/color")
		b.parameter(t, slug, "weight", "quantity", "Patient", "Patient.extension('http://x.org/weight').value")
		work()
	}
	a.parameter(t, slug, "color", "token", "Patient", "Patient.extension.where(url='http://x.org/color').value")
	work()
	close(stop)
	writers.Wait()
	a.tend(t, slug, 50)
	a.same2(t, slug)

	for n := range 80 {
		ref := fhir.Ref{Type: "Patient", ID: fmt.Sprint("p", n)}
		err := b.db.Update(t.Context(), b.grant(t, slug, everything), func(tx *store.Tx) error {
			_, _, err := tx.Delete(t.Context(), ref, 0)
			return err
		})
		if err != nil && !fhir.IsCode(err, fhir.NotFound) {
			t.Fatal(err)
		}
	}
	b.delete(t, slug, "SearchParameter/color")
	b.delete(t, slug, "SearchParameter/weight")
	b.tend(t, slug, 50)
	if n := a.indexRows(t, slug); n != 0 {
		t.Errorf("%d rows are left of nothing", n)
	}
}

// same2 holds what is found by the tenant's parameters to what is there.
func (d *door) same2(t *testing.T, slug string) {
	t.Helper()
	custom, err := d.db.Custom(t.Context(), d.grant(t, slug, everything))
	for i := 0; err == nil && len(custom.Parameters("Patient")) < 2 && i < 40; i++ {
		time.Sleep(50 * time.Millisecond)
		custom, err = d.db.Custom(t.Context(), d.grant(t, slug, everything))
	}
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := d.pages(t, func() *smart.Grant { return d.grant(t, slug, everything) }, "Patient", "_count=100")
	if err != nil || len(all) == 0 {
		t.Fatal(len(all), err)
	}
	schema := search.Schema{Base: base(slug), Custom: custom}
	for _, text := range []string{"color=red", "color=green", "color:missing=true", "weight=gt20", "weight=lt10||kg", "color=blue&weight=ge20"} {
		params, _ := search.ParseQuery(text)
		q, err := search.Parse("Patient", params, search.Options{Custom: custom})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, r := range all {
			doc, err := fhir.Reopen(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := search.Match(q.Where, &r, schema.Index(doc)); ok && err == nil {
				want = append(want, r.Ref.ID)
			}
		}
		slices.Sort(want)
		if got := d.settled(t, slug, "Patient", text); got != strings.Join(want, " ") || len(want) == 0 && text != "color:missing=true" {
			t.Errorf("%s finds %s, want %s", text, got, want)
		}
	}
}

func TestAWriteByAPastGenerationIsRunAgain(t *testing.T) {
	a, b := openDoor(t), openDoor(t)
	const slug = "index-stale"
	a.own(t, slug, tenant.Schema)
	b.put(t, slug, "Patient/before", colored, "before", "red", 1, "o1") // b knows of no parameters
	a.parameter(t, slug, "color", "token", "Patient", "Patient.extension.where(url='http://x.org/color').value")
	runs := 0
	err := b.db.Update(t.Context(), b.grant(t, slug, everything), func(tx *store.Tx) error {
		if runs++; runs == 1 {
			// Between what b knows and what it writes, the parameter comes.
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			x := &store.Indexer{DB: a.db}
			if _, err := x.Tend(ctx, a.Tenant(t, slug)); err != nil {
				t.Error(err)
			}
		}
		_, _, err := tx.Put(t.Context(), fhir.Ref{Type: "Patient", ID: "between"}, document(t, colored, "between", "red", 1, "o1"), 0)
		return err
	})
	if err != nil || runs != 2 {
		t.Errorf("it was run %d times: %v", runs, err)
	}
	a.tend(t, slug, 100)
	if got := b.settled(t, slug, "Patient", "color=red"); got != "before between" {
		t.Errorf("it finds %s", got)
	}
}

func TestASearchByAPastGenerationIsRefused(t *testing.T) {
	a, b := openDoor(t), openDoor(t)
	const slug = "index-past"
	a.own(t, slug, tenant.Shared)
	a.put(t, slug, "Patient/p", colored, "p", "red", 1, "o1")
	a.parameter(t, slug, "color", "token", "Patient", "Patient.extension.where(url='http://x.org/color').value")
	a.tend(t, slug, 100)
	if got := b.settled(t, slug, "Patient", "color=red"); got != "p" {
		t.Fatalf("it finds %s", got)
	}
	a.delete(t, slug, "SearchParameter/color")
	a.tend(t, slug, 100)
	if ids, err := b.found(t, slug, "Patient", "color=red"); err == nil {
		t.Errorf("a search by what is gone finds %v", ids)
	} else if !fhir.IsCode(err, fhir.Transient) && !fhir.IsCode(err, fhir.NotSupported) {
		t.Error(err)
	}
}

func TestASearchParameterThatCannotBeIsRefused(t *testing.T) {
	d := openDoor(t)
	for _, expression := range []string{"Patient.nome", "Patient.name.where(", "Patient.name.nothing()"} {
		err := d.db.Update(t.Context(), d.grant(t, storetest.A1, everything), func(tx *store.Tx) error {
			_, err := tx.Create(t.Context(), "", document(t, `{"resourceType":"SearchParameter","url":"http://x.org/bad","name":"X","description":"x","status":"active","code":"bad","base":["Patient"],"type":"string","expression":%q}`, expression))
			return err
		})
		var fe *fhir.Error
		if !errors.As(err, &fe) || fe.Code() != fhir.Value || !slices.Equal(fe.Issues[0].Expression, []string{"SearchParameter.expression"}) {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

// No Grant of a client opens what the index job may look into, and the job's
// opens nothing that a client can ask for.
func TestOnlyTheIndexJobLooksIntoAllResources(t *testing.T) {
	d := openDoor(t)
	if _, err := d.grant(t, storetest.A1, everything).PermitIndex(); !fhir.IsCode(err, fhir.Forbidden) {
		t.Errorf("a client has the Permit of the index job: %v", err)
	}
	job := smart.IndexJob(d.Tenant(t, storetest.A1))
	for _, on := range fhir.Types {
		for _, do := range []fhir.Interaction{fhir.Read, fhir.Vread, fhir.SearchType, fhir.SearchSystem, fhir.HistoryType, fhir.HistorySystem, fhir.Create, fhir.Update, fhir.Patch, fhir.Delete, fhir.Operation} {
			if _, err := job.Permit(do, on); !fhir.IsCode(err, fhir.Forbidden) {
				t.Fatalf("the index job may %s %s", do, on)
			}
		}
	}
	if _, err := d.db.Read(t.Context(), job, fhir.Ref{Type: "Patient", ID: "x"}); !fhir.IsCode(err, fhir.Forbidden) {
		t.Errorf("the index job reads: %v", err)
	}
	if err := d.db.Update(t.Context(), smart.IndexJob(d.Tenant(t, storetest.A1)), func(tx *store.Tx) error {
		_, err := tx.Create(t.Context(), "", document(t, `{"resourceType":"Patient"}`))
		return err
	}); !fhir.IsCode(err, fhir.Forbidden) {
		t.Errorf("the index job writes: %v", err)
	}
}

// S-18: a parameter of R4 that a tenant defines again under another code finds
// what that of R4 finds, compiled and evaluated by FHIRPath.
func TestAParameterOfATenantFindsWhatTheSameOneOfR4Finds(t *testing.T) {
	d := openDoor(t)
	const slug = "index-same"
	d.own(t, slug, tenant.Shared)
	types := []fhir.Type{"Patient", "Observation", "Encounter", "Condition", "MedicationRequest", "DiagnosticReport", "Location", "RiskAssessment", "ValueSet"}
	docs := slices.DeleteFunc(specExamples(t), func(d *fhir.Document) bool { return !slices.Contains(types, d.Type) })
	docs = append(docs, syntheaRecord(t, "Alexis_Toy_68cd1181-6359-4047-a77f-a165d7912480.json", true)...)
	w := d.fill(t, slug, docs)
	random := rand.New(rand.NewPCG(*seedFlag, 7))
	chosen := map[fhir.Type][]search.Parameter{}
	n := 0
	for _, on := range types {
		all := slices.Clone(search.Parameters(on))
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, p := range all {
			def, ok := canonical.Core().Find("SearchParameter", p.Definition)
			if !ok || p.Name[0] == '_' || p.Type == "composite" || p.Type == "special" || len(chosen[on]) == 6 {
				continue
			}
			var sp struct {
				Expression string   `json:"expression"`
				Target     []string `json:"target"`
			}
			if err := json.Unmarshal(def.JSON(), &sp); err != nil {
				t.Fatal(err)
			}
			if n++; n%2 == 0 && p.Name != "deceased" { // that is boolean or not by what it reads
				sp.Expression = "(" + sp.Expression + ").where(true)"
			}
			target, err := json.Marshal(sp.Target)
			if err != nil {
				t.Fatal(err)
			}
			d.put(t, slug, fmt.Sprint("SearchParameter/s", n), `{"resourceType":"SearchParameter","id":"s%d","url":"http://x.org/s%d","name":"X","description":"x","status":"active","code":%q,"base":[%q],"type":%q,"target":%s,"expression":%q}`,
				n, n, "c-"+p.Name, string(on), p.Type, strings.ReplaceAll(string(target), "null", "[]"), sp.Expression)
			chosen[on] = append(chosen[on], p)
		}
	}
	d.tend(t, slug, 500)
	status, err := d.db.SearchParameters(t.Context(), d.grant(t, slug, everything))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range status {
		if s.State != "ready" {
			t.Errorf("%+v", s)
		}
	}
	a := newAsker(t, w, base(slug), *seedFlag)
	asked, found := 0, 0
	for asked < 150 {
		on := pick(a, types)
		if len(w.byType[on]) == 0 || len(chosen[on]) == 0 {
			continue
		}
		p := pick(a, chosen[on])
		query := a.plain(p, pick(a, w.byType[on]))
		if a.in(10) {
			query = "&" + p.Name + ":missing=" + pick(a, []string{"true", "false"})
		}
		if query = strings.TrimPrefix(query, "&"); query == "" || strings.Contains(query, "=ap") && p.Type == "date" {
			continue
		}
		asked++
		want, err := d.found(t, slug, on, query)
		if err != nil {
			continue // a date that cannot be
		}
		got := d.settled(t, slug, on, "c-"+query)
		if got != strings.Join(want, " ") {
			t.Errorf("%s?%s finds %v, %v; c- finds %s", on, query, want, err, got)
		}
		found += len(want)
	}
	t.Logf("%d searches by %d parameters found %d", asked, n, found)
}

// The parameters that US Core adds to R4 come and go with the package.
func TestTheParametersOfAPackageAreIndexed(t *testing.T) {
	d := openDoor(t)
	file, err := os.ReadFile(fhirtest.Path(t, fhirtest.USCore6))
	if err != nil {
		t.Fatal(err)
	}
	const slug, neighbour = "index-guide", "index-noguide"
	for _, s := range []string{slug, neighbour} {
		d.own(t, s, tenant.Schema)
		d.put(t, s, "Patient/p", `{"resourceType":"Patient","id":"p","extension":[{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-race","extension":[
			{"url":"ombCategory","valueCoding":{"system":"urn:oid:2.16.840.1.113883.6.238","code":"2106-3"}},{"url":"text","valueString":"White"}]}]}`)
		d.put(t, s, "Condition/c", `{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/p"},"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/condition-assertedDate","valueDateTime":"2020-05-01"}]}`)
		d.put(t, s, "Goal/g", `{"resourceType":"Goal","id":"g","lifecycleStatus":"active","subject":{"reference":"Patient/p"},"description":{"coding":[{"code":"walk"}]}}`)
	}
	rows := d.indexRows(t, slug)
	pack, err := canonical.ReadPackage(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Migrator.InstallPackage(t.Context(), slug, sha256.Sum256(file), pack); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // until the tenant is known to have it
	d.tend(t, slug, 100)
	status, err := d.db.SearchParameters(t.Context(), d.grant(t, slug, everything))
	if err != nil || len(status) != 7 {
		t.Errorf("%+v, %v", status, err)
	}
	for _, s := range status {
		if s.State != "ready" {
			t.Errorf("%+v", s)
		}
	}
	for query, on := range map[string]fhir.Type{"race=2106-3": "Patient", "asserted-date=2020-05": "Condition", "description=walk": "Goal"} {
		if got := d.settled(t, slug, on, query); len(got) != 1 {
			t.Errorf("%s finds %s", query, got)
		}
		if _, err := d.found(t, neighbour, on, query); !fhir.IsCode(err, fhir.NotSupported) {
			t.Errorf("%s: a neighbour without the package: %v", query, err)
		}
	}
	if err := d.Migrator.RemovePackage(t.Context(), slug, "hl7.fhir.us.core", "6.1.0"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	d.tend(t, slug, 100)
	if n := d.indexRows(t, slug); n != rows {
		t.Errorf("%d rows are left, want %d", n, rows)
	}
}
