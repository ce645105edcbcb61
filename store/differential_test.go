package store_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/consent"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

var (
	long     = flag.Bool("long", false, "ask twenty times as many random questions")
	seedFlag = flag.Uint64("seed", 1, "begin random questions here")
)

// A world is what a tenant holds, in memory: the answer to any search can be
// found by holding each resource against the condition.
type world struct {
	all    []*held
	byType map[fhir.Type][]*held
	byRef  map[fhir.Ref]*held
	types  []fhir.Type // that hold something, in order
	schema search.Schema
	gives  map[string][]*consent.Consent // by the id of the patient

	through *brokenGlass // of who asks; nil if none
}

type held struct {
	fhir.Resource
	doc   *fhir.Document
	terms *search.Terms
}

func newWorld(t testing.TB, schema search.Schema, list []fhir.Resource) *world {
	t.Helper()
	w := &world{schema: schema, byType: map[fhir.Type][]*held{}, byRef: map[fhir.Ref]*held{}, gives: map[string][]*consent.Consent{}}
	for _, r := range list {
		d, err := fhir.Reopen(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		h := &held{r, d, schema.Index(d)}
		w.all = append(w.all, h)
		w.byType[r.Ref.Type] = append(w.byType[r.Ref.Type], h)
		w.byRef[r.Ref] = h
		if c := consent.Read(schema, d); r.Ref.Type == "Consent" && c != nil {
			for _, patient := range schema.About(d) {
				w.gives[patient] = append(w.gives[patient], c)
			}
		}
	}
	for _, on := range fhir.Types {
		if len(w.byType[on]) > 0 {
			w.types = append(w.types, on)
		}
	}
	return w
}

// A test says whether a resource meets a condition.
type test func(*held) bool

// tester makes a test of e: chains by going through everything there is, the
// rest by search.Match. The error is that of a type that g does not reach.
func (w *world) tester(g *smart.Grant, e search.Expr) (test, error) {
	switch e := e.(type) {
	case search.And:
		return w.each(g, e, false)
	case search.Or:
		return w.each(g, e, true)
	case search.Not:
		x, err := w.tester(g, e.X)
		return func(h *held) bool { return !x(h) }, err
	case search.Chain:
		met, err := w.end(g, e.ByPolicy, e.Type, e.X)
		if e.Canonical {
			return func(h *held) bool {
				return slices.ContainsFunc(met, func(m *held) bool { return w.cites(h, m, e.Paths) })
			}, err
		}
		targets := map[fhir.Ref]bool{}
		for _, h := range met {
			targets[h.Ref] = true
		}
		return func(h *held) bool {
			return slices.ContainsFunc(w.schema.References(h.doc, e.Paths), func(r fhir.Ref) bool { return targets[r] })
		}, err
	case search.ReverseChain:
		met, err := w.end(g, e.ByPolicy, e.Type, e.X)
		if e.Canonical {
			return func(h *held) bool {
				return slices.ContainsFunc(met, func(m *held) bool { return w.cites(m, h, e.Paths) })
			}, err
		}
		targets := map[fhir.Ref]bool{}
		for _, h := range met {
			if e.Pair != (search.Token{}) && !slices.Contains(h.terms.Tokens, e.Pair) {
				continue
			}
			for _, r := range w.schema.References(h.doc, e.Paths) {
				targets[r] = true
			}
		}
		return func(h *held) bool { return targets[h.Ref] }, err
	}
	return func(h *held) bool {
		ok, err := search.Match(e, &h.Resource, h.terms)
		return ok && err == nil
	}, nil
}

// cites reports whether a names b by canonical URL at one of the paths.
func (w *world) cites(a, b *held, paths []search.Path) bool {
	name, ok := search.CanonicalOf(b.doc)
	return ok && slices.ContainsFunc(w.schema.Canonicals(a.doc, paths), func(c search.Canonical) bool {
		return c.URL == name.URL && (c.Version == "" || c.Version == name.Version)
	})
}

// each is tester for the members of And, or of Or.
func (w *world) each(g *smart.Grant, list []search.Expr, enough bool) (test, error) {
	var tests []test
	for _, e := range list {
		x, err := w.tester(g, e)
		if err != nil {
			return nil, err
		}
		tests = append(tests, x)
	}
	return func(h *held) bool {
		for _, x := range tests {
			if x(h) == enough {
				return enough
			}
		}
		return !enough
	}, nil
}

// met returns the resources of the type that g may search and that meet all of
// the conditions.
func (w *world) met(g *smart.Grant, on fhir.Type, conditions ...search.Expr) ([]*held, error) {
	if w.through != nil {
		return w.metThrough(g, on, conditions)
	}
	p, err := g.Permit(fhir.SearchType, on)
	if err != nil {
		return nil, err
	}
	allowed, by := search.Apart(p.Where())
	list, err := w.meeting(g, on, append(search.And{allowed}, conditions...))
	if by != nil {
		list = slices.DeleteFunc(list, func(h *held) bool { return !w.consented(by, h) })
	}
	return list, err
}

// end returns the resources at the end of a chain: those that g may search, or for
// a policy all there are.
func (w *world) end(g *smart.Grant, byPolicy bool, on fhir.Type, x search.Expr) ([]*held, error) {
	if byPolicy {
		return w.meeting(g, on, x)
	}
	return w.met(g, on, x)
}

// meeting returns the resources of the type that meet the condition.
func (w *world) meeting(g *smart.Grant, on fhir.Type, where search.Expr) ([]*held, error) {
	x, err := w.tester(g, where)
	if err != nil {
		return nil, err
	}
	var list []*held
	for _, h := range w.byType[on] {
		if x(h) {
			list = append(list, h)
		}
	}
	return list, nil
}

// consented asks all consents of each patient whom h is about: none may deny, and
// one has to permit where the tenant wants that.
func (w *world) consented(by *search.Asker, h *held) bool {
	for _, patient := range w.schema.About(h.doc) {
		if patient == by.Self || w.through != nil && w.through.overrides && patient == w.through.patient {
			continue
		}
		permitted := !consent.Needed(by)
		for _, c := range w.gives[patient] {
			switch c.Says(by, consent.Resource{Resource: h.Resource, Document: h.doc, Schema: w.schema}) {
			case consent.Deny:
				return false
			case consent.Permit:
				permitted = true
			}
		}
		if !permitted {
			return false
		}
	}
	return true
}

// answer returns what a search finds. Each parameter is read by itself, so that
// nothing is joined or simplified over several.
func (w *world) answer(t testing.TB, g *smart.Grant, q *search.Query) ([]*held, error) {
	t.Helper()
	var where []search.Expr
	o := search.Options{Base: base(g.Tenant().Slug.String())}
	for _, p := range q.Applied {
		one := []search.Param{p}
		if q.Type == "" && p.Name != "_type" {
			for _, p := range q.Applied {
				if p.Name == "_type" {
					one = append(one, p)
				}
			}
		}
		if strings.HasPrefix(p.Name, "_sort") {
			continue
		}
		part, err := search.Parse(q.Type, one, o)
		if err != nil {
			t.Fatal(err)
		}
		where = append(where, part.Where)
	}
	types := q.Types
	switch {
	case q.Type != "":
		types = []fhir.Type{q.Type}
	case len(types) == 0:
		types = g.Types(fhir.SearchSystem)
	}
	var list []*held
	for _, on := range types {
		some, err := w.met(g, on, where...)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	return list, nil
}

// compare orders two resources as the search asked for.
func (q ordered) compare(a, b *held) int {
	for _, k := range q.Sort {
		var c int
		var inA, inB bool
		switch k.Kind {
		case search.ByID:
			c, inA, inB = cmp.Compare(a.Ref.ID, b.Ref.ID), true, true
		case search.ByUpdated:
			c, inA, inB = a.Updated.Compare(b.Updated), true, true
		case search.ByDate:
			var x, y search.DateRange
			x, inA = search.SortTime(a.terms, k)
			y, inB = search.SortTime(b.terms, k)
			c = x.Lo.Compare(y.Lo)
		case search.ByNumber:
			var x, y search.NumberRange
			x, inA = search.SortNumber(a.terms, k)
			y, inB = search.SortNumber(b.terms, k)
			c = cmp.Compare(x.Lo, y.Lo)
		case search.ByText:
			var x, y string
			x, inA = search.SortText(a.terms, k)
			y, inB = search.SortText(b.terms, k)
			c = cmp.Compare(x, y)
		}
		switch {
		case inA && !inB:
			return -1
		case inB && !inA:
			return 1
		case c != 0 && inA && k.Desc:
			return -c
		case c != 0 && inA:
			return c
		}
	}
	if len(q.Sort) == 0 && q.Type != "" { // the newest first
		return b.terms.Time.Compare(a.terms.Time)
	}
	return 0
}

type ordered struct{ *search.Query }

// specExamples returns the examples of the specification that are valid.
// https://hl7.org/fhir/R4/examples.html
func specExamples(t testing.TB) []*fhir.Document {
	t.Helper()
	var list []*fhir.Document
	seen := map[fhir.Ref]bool{{Type: "AuditEvent"}: true}
	for name, d := range fhirtest.Resources(t, fhirtest.Examples) {
		if !strings.HasSuffix(name, ".json") || len(d.JSON) > 1<<18 || !d.Type.Known() || d.Type == "AuditEvent" || d.ID == "" || validate.Resource(d) != nil {
			continue
		}
		if ref := (fhir.Ref{Type: d.Type, ID: d.ID}); !seen[ref] {
			seen[ref] = true
			list = append(list, d)
		}
	}
	return list
}

// syntheaRecord returns the resources of a synthetic record, which refer to
// each other by type and id if linked is set, else by the urn:uuid of an entry.
func syntheaRecord(t testing.TB, name string, linked bool) []*fhir.Document {
	t.Helper()
	body, err := os.ReadFile(fhirtest.Path(t, filepath.Join("synthea", name)))
	if err != nil {
		t.Fatal(err)
	}
	var bundle struct {
		Entry []struct {
			FullURL  string
			Resource json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &bundle); err != nil {
		t.Fatal(err)
	}
	var links []string
	var docs []*fhir.Document
	for _, e := range bundle.Entry {
		d, err := fhir.Parse(e.Resource, fhir.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, `"`+e.FullURL+`"`, `"`+string(d.Type)+"/"+d.ID+`"`)
		docs = append(docs, d)
	}
	if !linked {
		return docs
	}
	link := strings.NewReplacer(links...)
	for i, e := range bundle.Entry {
		if docs[i], err = fhir.Parse([]byte(link.Replace(string(e.Resource))), fhir.Limits{}); err != nil {
			t.Fatal(err)
		}
	}
	return docs
}

// reread returns the documents with trees of their own, as one goroutine may
// walk a tree at a time.
func reread(t testing.TB, docs []*fhir.Document) []*fhir.Document {
	t.Helper()
	own := make([]*fhir.Document, len(docs))
	for i, d := range docs {
		var err error
		if own[i], err = fhir.Reopen(d.JSON); err != nil {
			t.Fatal(err)
		}
	}
	return own
}

// unconscious is the patient of a synthetic record, whose glass is broken. Their
// consent denies a part of it.
const unconscious = "983561b3-02dd-4227-88a7-835827bd9566"

// withConsents returns docs with random consents of the patients among them.
func withConsents(t testing.TB, docs []*fhir.Document) []*fhir.Document {
	t.Helper()
	out := slices.Clone(docs)
	for i, d := range docs {
		provision := drawnConsents.Example(i + int(*seedFlag))
		switch {
		case d.ID == unconscious:
			provision = `{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}]}`
		case d.Type != "Patient" || i%3 == 0:
			continue
		}
		out = append(out, document(t, `{"resourceType":"Consent","id":"random%d","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},
			"category":[{"text":"x"}],"policyRule":{"coding":[{"code":"OPTIN"}]},"patient":{"reference":"Patient/%s"},"provision":%s}`, i, d.ID, provision))
	}
	return out
}

// fill puts the documents into the tenant. Some get the content of another
// first, and some are deleted in the end, so that the index has to forget.
func (d *door) fill(t testing.TB, slug string, docs []*fhir.Document) *world {
	t.Helper()
	docs = reread(t, docs)
	consents := slices.DeleteFunc(slices.Clone(docs), func(d *fhir.Document) bool { return d.Type != "Consent" })
	docs = slices.DeleteFunc(docs, func(d *fhir.Document) bool { return d.Type == "Consent" })
	random := rand.New(rand.NewPCG(*seedFlag, 0))
	byType := map[fhir.Type][]*fhir.Document{}
	for _, doc := range docs {
		byType[doc.Type] = append(byType[doc.Type], doc)
	}
	update := func(fn func(*store.Tx) error) {
		t.Helper()
		if err := d.db.Update(t.Context(), d.grant(t, slug, everything), fn); err != nil {
			t.Fatal(err)
		}
	}
	var kept []fhir.Resource
	for some := range slices.Chunk(docs, 300) {
		var refs []fhir.Ref
		for _, doc := range some {
			refs = append(refs, fhir.Ref{Type: doc.Type, ID: doc.ID})
		}
		update(func(tx *store.Tx) error {
			for i, doc := range some {
				if random.IntN(4) == 0 {
					other := byType[doc.Type][random.IntN(len(byType[doc.Type]))]
					if _, _, err := tx.Put(t.Context(), refs[i], other, 0); err != nil {
						return err
					}
				}
			}
			return nil
		})
		update(func(tx *store.Tx) error {
			if err := tx.Fetch(t.Context(), refs...); err != nil {
				return err
			}
			for i, doc := range some {
				r, _, err := tx.Put(t.Context(), refs[i], doc, 0)
				if err != nil {
					return err
				}
				kept = append(kept, r)
			}
			return nil
		})
	}
	update(func(tx *store.Tx) error {
		for i, r := range slices.Backward(kept) {
			if random.IntN(20) == 0 && r.Ref.ID != "example" {
				if _, _, err := tx.Delete(t.Context(), r.Ref, 0); err != nil {
					return err
				}
				kept = slices.Delete(kept, i, i+1)
			}
		}
		return nil
	})
	update(func(tx *store.Tx) error { // last, as they keep what there is from who fills
		for _, doc := range consents {
			r, _, err := tx.Put(t.Context(), fhir.Ref{Type: doc.Type, ID: doc.ID}, doc, 0)
			if err != nil {
				return err
			}
			kept = append(kept, r)
		}
		return nil
	})
	return newWorld(t, search.Schema{Base: base(slug)}, kept)
}

// pages returns all that the search finds, page by page, and the total that
// the first page tells.
func (d *door) pages(t testing.TB, grant func() *smart.Grant, on fhir.Type, query string) (list []fhir.Resource, total *int, err error) {
	t.Helper()
	params, err := search.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	g := grant()
	o := search.Options{Base: base(g.Tenant().Slug.String())}
	q, err := search.Parse(on, params, o)
	if err != nil {
		t.Fatal(err)
	}
	var page *store.Page
	err = d.db.View(t.Context(), g, func(v *store.View) (err error) {
		page, err = v.Search(t.Context(), q)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	total = page.Total
	for list = page.Matches; page.Next != ""; list = append(list, page.Matches...) {
		g := grant()
		c, err := d.db.OpenCursor(t.Context(), g, page.Next)
		if err != nil {
			return nil, nil, err
		}
		if params, err = search.ParseQuery(c.Query); err != nil {
			t.Fatal(err)
		}
		if q, err = search.Parse(on, params, o); err != nil {
			t.Fatal(err)
		}
		err = d.db.View(t.Context(), g, func(v *store.View) (err error) {
			page, err = v.SearchFrom(t.Context(), q, c)
			return err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return list, total, nil
}

// difference says how what was found is not what is wanted, "" if it is.
func difference(got []fhir.Resource, want []*held) string {
	var b bytes.Buffer
	times := map[fhir.Ref]int{}
	for _, r := range got {
		times[r.Ref]++
	}
	for _, h := range want {
		if times[h.Ref] != 1 {
			fmt.Fprintf(&b, " %s is found %d times", h.Ref, times[h.Ref])
		}
		delete(times, h.Ref)
	}
	for ref := range times {
		fmt.Fprintf(&b, " %s is found and does not match", ref)
	}
	if b.Len() > 600 {
		b.Truncate(600)
	}
	return b.String()
}

// S-01..S-21, S-40: the index and the matcher are two evaluations of one condition,
// and give one answer, whatever consents say and whoever has broken a glass.
func TestSearchFindsWhatMatchesInMemory(t *testing.T) {
	d := openDoor(t)
	d.db.SetFew(10) // both ways to sort are taken
	docs := specExamples(t)
	docs = append(docs, syntheaRecord(t, "Alexis_Toy_68cd1181-6359-4047-a77f-a165d7912480.json", true)...)
	docs = append(docs, syntheaRecord(t, "Freda_O'Connell_00347da0-395c-40ed-ae52-96f1587480b5.json", false)...)
	docs = withConsents(t, docs)
	n := 400
	if *long {
		n *= 20
	}
	for i, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		slug := "same-" + string(mode) // nobody else's resources are in it
		if _, _, err := d.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Name: slug, Mode: mode}); err != nil {
			t.Fatal(err)
		}
		t.Run(slug, func(t *testing.T) {
			t.Parallel()
			w := d.fill(t, slug, docs)
			seed := *seedFlag*10 + uint64(i)
			t.Run("Whole", func(t *testing.T) {
				d.ask(t, w, n, func() *smart.Grant { return d.grant(t, slug, everything) }, newAsker(t, w, base(slug), seed))
			})
			for i, tok := range narrowTokens {
				t.Run(fmt.Sprint("Part", i), func(t *testing.T) {
					as := func() *smart.Grant { return d.as(t, slug, tok) }
					seen := d.sameForRead(t, w, as)
					if len(seen.all) > 0 {
						d.ask(t, w, n/10, as, newAsker(t, seen, base(slug), seed))
					}
					d.ask(t, w, n/40, as, newAsker(t, w, base(slug), seed)) // of what it may not see
				})
			}
			t.Run("Glass", func(t *testing.T) { d.askThroughGlass(t, w, slug, n/4, seed, mode == tenant.Schema) })
		})
	}
}

// narrowTokens see a part of the world: by compartment, by what a granular
// scope says, by both, and by type.
var narrowTokens = []smart.Token{
	{Client: "tester", Scope: "patient/*.rs", Patient: "example"},
	{Client: "tester", Scope: "patient/*.rs", Patient: unconscious},
	{Client: "tester", Scope: "patient/Patient.rs patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs patient/Condition.rs", Patient: "example"},
	{Client: "tester", Scope: "system/Observation.rs?category=laboratory system/Observation.rs?code=http://loinc.org|8302-2 system/Condition.rs?clinical-status=active system/Encounter.rs system/Patient.rs?gender=male"},
	{Client: "tester", Scope: "system/Patient.rs?name=eve system/Practitioner.rs?family=careful system/Observation.rs?date=ge2016&status=final system/MedicationRequest.rs?intent=order,plan"},
	{Client: "tester", Scope: "system/Patient.rs?organization=1 system/Organization.rs?name=health system/Observation.rs?value-quantity=gt6.2 system/DiagnosticReport.rs system/Encounter.rs?class=AMB"},
}

// ask holds n searches of a under what grant gives.
func (d *door) ask(t *testing.T, w *world, n int, grant func() *smart.Grant, a *asker) {
	found, nothing, refused := 0, 0, 0
	for range n {
		on, query := a.search()
		params, err := search.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		g := grant()
		q, err := search.Parse(on, params, search.Options{Base: a.base})
		if err != nil {
			t.Fatalf("%s?%s: %v", on, query, err)
		}
		want, err := w.answer(t, g, q)
		if fhir.IsCode(err, fhir.Forbidden) {
			// What can match nothing is answered without a look at the rest.
			if _, _, err := d.pages(t, grant, on, query); !fhir.IsCode(err, fhir.Forbidden) && !search.Equal(q.Where, search.Or{}) {
				t.Errorf("%s?%s: %v, want a refusal", on, query, err)
			}
			refused++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(want) == 0 {
			nothing++
		}
		found += len(want)
		query += fmt.Sprintf("&_count=%d", 1+len(want)/(1+a.IntN(4)))
		got, total, err := d.pages(t, grant, on, query)
		if err != nil {
			t.Errorf("%s?%s: %v", on, query, err)
			continue
		}
		if diff := difference(got, want); diff != "" {
			t.Errorf("%s?%s:%s", on, query, diff)
			continue
		}
		if q.Total == search.TotalAccurate && (total == nil || *total != len(want)) {
			t.Errorf("%s?%s: total is wrong, want %d", on, query, len(want))
		}
		for i := 1; i < len(got); i++ {
			if before, after := w.byRef[got[i-1].Ref], w.byRef[got[i].Ref]; (ordered{q}).compare(before, after) > 0 {
				t.Errorf("%s?%s: %s comes before %s", on, query, before.Ref, after.Ref)
				break
			}
		}
		if q.Type != "" && len(want) < 1000 && a.in(30) {
			d.compareIncludes(t, w, grant, on, query+"&_count=1000"+a.include(on)+a.include(on), want)
			d.compareMatch(t, grant(), q, want)
		}
	}
	t.Logf("%d searches found %d resources; %d found nothing, %d were refused", n, found, nothing, refused)
	if a.w == w || found > n/10 {
		return
	}
	t.Errorf("%d searches found %d resources: the questions are no good", n, found)
}

// compareIncludes holds what is included on a page of all matches to what they
// refer to, and to what refers to them, as far as the asker may see it.
func (d *door) compareIncludes(t *testing.T, w *world, grant func() *smart.Grant, on fhir.Type, query string, matches []*held) {
	t.Helper()
	page := d.search(t, grant(), on, query)
	params, _ := search.ParseQuery(query)
	q, err := search.Parse(on, params, search.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := grant()
	matched, added := map[fhir.Ref]bool{}, map[fhir.Ref]bool{}
	for _, h := range matches {
		matched[h.Ref] = true
	}
	var want []*held
	add := func(h *held) {
		if h == nil || matched[h.Ref] || added[h.Ref] {
			return
		}
		if seen, err := w.met(g, h.Ref.Type); err == nil && slices.Contains(seen, h) {
			added[h.Ref] = true
			want = append(want, h)
		}
	}
	for _, inc := range q.Include {
		paths, cited := inc.Paths, inc.Cited
		if inc.All {
			paths, cited = search.ReferencePaths(on), search.CanonicalPaths(on)
		}
		if inc.Reverse {
			for _, h := range w.byType[inc.Source] {
				if slices.ContainsFunc(w.schema.References(h.doc, paths), func(r fhir.Ref) bool { return matched[r] }) ||
					slices.ContainsFunc(matches, func(m *held) bool { return w.cites(h, m, cited) }) {
					add(h)
				}
			}
			continue
		}
		for _, h := range matches {
			for _, m := range w.all {
				if (inc.Target == "" || m.Ref.Type == inc.Target) && w.cites(h, m, cited) {
					add(m)
				}
			}
			for _, r := range w.schema.References(h.doc, paths) {
				if inc.Target == "" || r.Type == inc.Target {
					add(w.byRef[r])
				}
			}
		}
	}
	if diff := difference(page.Included, want); diff != "" {
		t.Errorf("%s?%s includes wrongly:%s", on, query, diff)
	}
}

// compareMatch holds what a conditional interaction would find to the matches.
func (d *door) compareMatch(t *testing.T, g *smart.Grant, q *search.Query, want []*held) {
	t.Helper()
	var got []fhir.Ref
	err := d.db.View(t.Context(), g, func(v *store.View) (err error) {
		got, err = v.Match(t.Context(), q)
		return err
	})
	if err != nil || len(got) != min(2, len(want)) {
		t.Errorf("%v: Match finds %v of %d, %v", q.Applied, got, len(want), err)
	}
	for _, ref := range got {
		if !slices.ContainsFunc(want, func(h *held) bool { return h.Ref == ref }) {
			t.Errorf("%v: Match finds %s", q.Applied, ref)
		}
	}
}

// sameForRead holds that Search finds what Permit.Where matches, and that Read
// shows the same and no other. It returns what is seen.
func (d *door) sameForRead(t *testing.T, w *world, grant func() *smart.Grant) *world {
	g := grant()
	var all []fhir.Resource
	for _, on := range w.types {
		want, err := w.met(g, on)
		if err != nil {
			if _, _, err := d.pages(t, grant, on, ""); !fhir.IsCode(err, fhir.Forbidden) {
				t.Errorf("%s: %v, want a refusal", on, err)
			}
			continue
		}
		got, total, err := d.pages(t, grant, on, "_count=500&_total=accurate")
		if err != nil {
			t.Fatal(err)
		}
		if diff := difference(got, want); diff != "" || *total != len(want) {
			t.Errorf("%s: total %d, want %d;%s", on, *total, len(want), diff)
		}
		all = append(all, got...)
		seen := map[fhir.Ref]bool{}
		err = d.db.View(t.Context(), grant(), func(v *store.View) error {
			for _, h := range w.byType[on] {
				_, err := v.Read(t.Context(), h.Ref)
				if _, vread := v.Vread(t.Context(), h.Ref, h.Version); (vread == nil) != (err == nil) {
					t.Errorf("%s is read: %v, in its version: %v", h.Ref, err, vread)
				}
				switch {
				case err == nil:
					seen[h.Ref] = true
				case !fhir.IsCode(err, fhir.NotFound):
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range want {
			if !seen[h.Ref] {
				t.Errorf("%s is found and not read", h.Ref)
			}
			delete(seen, h.Ref)
		}
		for ref := range seen {
			t.Errorf("%s is read and not found", ref)
		}
	}
	return newWorld(t, w.schema, all)
}

// throughPolicy lets staff see some things of everybody, and a record through a
// broken glass but for what is labelled with V.
const throughPolicy = `
@id("ask") permit (principal, action == Action::"breakGlass", resource);
@id("see") permit (principal, action in Action::"view", resource) when { context.breakGlass };
@id("some") permit (principal is User, action in Action::"view", resource) when {
	["Organization", "Practitioner", "Device"].contains(resource.type) || resource.categories.contains("laboratory") || resource.organizations.contains("1") };
@id("label") forbid (principal is User, action, resource) when { resource.labels.contains("V") };
@id("service") permit (principal is Client, action, resource);`

// A brokenGlass is what the model knows of one.
type brokenGlass struct {
	patient   string              // whose
	overrides bool                // what the consents of the patient say
	before    func() *smart.Grant // of who broke it, without it
}

// metThrough is met for who has broken a glass: what they saw before, of anybody,
// and the record of the one patient.
func (w *world) metThrough(g *smart.Grant, on fhir.Type, conditions []search.Expr) ([]*held, error) {
	p, err := g.Permit(fhir.SearchType, on)
	if err != nil {
		return nil, err
	}
	_, by := search.Apart(p.Where())
	before := func(*held) bool { return false }
	was := w.through.before()
	if p, err := was.Permit(fhir.SearchType, on); err == nil {
		allowed, _ := search.Apart(p.Where())
		if before, err = w.tester(was, allowed); err != nil {
			return nil, err
		}
	}
	list, err := w.meeting(g, on, search.And(conditions))
	return slices.DeleteFunc(list, func(h *held) bool { return !before(h) && !w.through.shows(w, h) || by != nil && !w.consented(by, h) }), err
}

// shows reports whether h is of the record, and nothing forbids it.
func (b *brokenGlass) shows(w *world, h *held) bool {
	for _, c := range h.doc.Tree.GetArray("meta", "security") {
		if string(c.GetStringBytes("code")) == "V" {
			return false
		}
	}
	of := w.schema.PatientsOf(h.doc)
	if h.Ref.Type == "Device" { // in no compartment
		of = w.schema.References(h.doc, []search.Path{"Device.patient"})
	}
	return slices.Contains(of, fhir.Ref{Type: "Patient", ID: b.patient})
}

// askThroughGlass breaks the glass of a patient: the asker sees the record, and
// exactly as before what is of others, on every path.
func (d *door) askThroughGlass(t *testing.T, w *world, slug string, n int, seed uint64, overrides bool) {
	d.choose(t, slug, throughPolicy)
	d.breakable(t, slug, overrides)
	in := func(session string) func() *smart.Grant {
		return func() *smart.Grant {
			return d.as(t, slug, smart.Token{Scope: "user/*.rs", Client: "tester", User: "Practitioner/u", Subject: "u", Session: session})
		}
	}
	before, through := in("other"), in("s-u")
	had := d.sameForRead(t, w, before)
	d.broken(t, slug, smart.Glass{User: "Practitioner/u", Client: "tester", Session: "s-u", Patient: unconscious})
	for end := time.Now().Add(time.Minute); !through().HasBroken() && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	broken := *w
	broken.through = &brokenGlass{unconscious, overrides, before}
	has := d.sameForRead(t, &broken, through)
	if len(has.all) < len(had.all)+20 || len(had.all) < 20 {
		t.Errorf("%d are seen, and %d through the glass: that is no test", len(had.all), len(has.all))
	}
	if again := d.sameForRead(t, w, before); len(again.all) != len(had.all) {
		t.Errorf("another session sees %d, and saw %d", len(again.all), len(had.all))
	}
	d.ask(t, &broken, n, through, newAsker(t, has, base(slug), seed))
	d.ask(t, &broken, n/10, through, newAsker(t, w, base(slug), seed)) // of what it may not see
}

func TestAChainToManyTargetsFindsTheSame(t *testing.T) { // S-20
	d := openDoor(t)
	var docs []*fhir.Document
	for i := range 1100 {
		active := ""
		if i%2 == 0 {
			active = `,"active":true`
		}
		docs = append(docs, document(t, `{"resourceType":"Patient","id":"many%d","gender":%q,"name":[{"family":"Many"}]%s}`, i, []string{"male", "female"}[i/550], active))
		if i%100 < 3 {
			docs = append(docs, document(t, `{"resourceType":"Observation","id":"many%d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/many%d"}}`, i, i))
		}
	}
	eachMode(t, func(t *testing.T, slug string) {
		w := d.fill(t, slug, docs)
		grant := func() *smart.Grant { return d.grant(t, slug, everything) }
		for _, query := range []string{
			"subject:Patient.family=many", "subject:Patient.family=many&subject:Patient.active=true", "subject:Patient.active:missing=true&subject:Patient.name=many",
			"subject:Patient.gender:not=male", "subject:Patient.name:exact=Many", "subject:Patient._lastUpdated=gt2000", "subject:Patient._id=many0,many1", "patient.name=many&status=final",
		} {
			params, _ := search.ParseQuery(query)
			q, err := search.Parse("Observation", params, search.Options{})
			if err != nil {
				t.Fatal(err)
			}
			want, err := w.answer(t, grant(), q)
			if err != nil || len(want) == 0 {
				t.Fatalf("%s: %d, %v", query, len(want), err)
			}
			got, _, err := d.pages(t, grant, "Observation", query+"&_count=9")
			got = slices.DeleteFunc(got, func(r fhir.Resource) bool { return !strings.HasPrefix(r.Ref.ID, "many") }) // other tests'
			if err != nil {
				t.Errorf("%s: %v", query, err)
			} else if diff := difference(got, want); diff != "" {
				t.Errorf("%s:%s", query, diff)
			}
		}
	})
}
