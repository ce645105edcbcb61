package search_test

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// escaper escapes what separates values within a value.
var escaper = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`)

func value(s string) string { return url.QueryEscape(escaper.Replace(s)) }

// word draws text as clients send it, with what is special to search.
func word() *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom([]rune(`aB1é'- .,|$\ß漢~^:/`)), 1, 90, -1)
}

func TestAResourceIsFoundByItsOwnValues(t *testing.T) { // S-10, S-11, S-12, S-13, S-15
	rapid.Check(t, func(t *rapid.T) {
		family, code, system := word().Draw(t, "family"), word().Draw(t, "code"), word().Draw(t, "system")
		number := rapid.Float64Range(-1e6, 1e6).Draw(t, "number")
		literal := strconv.FormatFloat(number, 'f', rapid.IntRange(0, 6).Draw(t, "digits"), 64)
		d, err := fhir.Parse(fmt.Appendf(nil, `{"resourceType":"Observation","id":"1",
			"code":{"coding":[{"system":%q,"code":%q}],"text":%q},"valueQuantity":{"value":%s,"unit":%q}}`,
			jsonText(system), jsonText(code), jsonText(family), literal, jsonText(code)), fhir.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := fhir.Parse(fmt.Appendf(nil, `{"resourceType":"Patient","id":"1","name":[{"family":%q}]}`, jsonText(family)), fhir.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		must(t, d, "code="+value(code), "code="+value(system)+"|"+value(code), "code:not="+value(code+"x"),
			"value-quantity="+literal, "value-quantity="+literal+"||"+value(code), "value-quantity=ge"+literal, "value-quantity=le"+literal,
			"code-value-quantity="+value(system)+"|"+value(code)+"$"+literal, "code="+value(system)+"|"+value(code)+"&value-quantity="+literal)
		must(t, p, "family:exact="+value(family))
		runes := []rune(family)
		part := string(runes[:rapid.IntRange(1, len(runes)).Draw(t, "part")])
		if hasLetter(part) {
			must(t, p, "family="+value(part), "name="+value(part), "family:contains="+value(part))
		}
	})
}

// jsonText is s for %q, whose escapes of a few runes are not those of JSON.
type jsonText string

func (s jsonText) Format(f fmt.State, _ rune) {
	fmt.Fprint(f, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(s))+`"`)
}

func hasLetter(s string) bool { return strings.ContainsAny(s, "aB1éß漢") }

// must holds that each search finds d, and that the index leads to it.
func must(t *rapid.T, d *fhir.Document, queries ...string) {
	for _, query := range queries {
		params, err := search.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := search.Parse(d.Type, params, search.Options{})
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		terms := search.R4.Index(d)
		r := &fhir.Resource{Ref: fhir.Ref{Type: d.Type, ID: d.ID}}
		if ok, err := search.Match(q.Where, r, terms); !ok || err != nil {
			t.Fatalf("%s does not find %s: %v", query, d.JSON, err)
		}
		if ok, err := search.Match(narrowed(q.Where), r, terms); !ok || err != nil {
			t.Fatalf("%s: the index does not lead to %s: %v", query, d.JSON, err)
		}
	}
}

// narrowed is what an index can answer of e: each text by its keys alone.
func narrowed(e search.Expr) search.Expr {
	switch e := e.(type) {
	case search.And:
		var out search.And
		for _, m := range e {
			out = append(out, narrowed(m))
		}
		return out
	case search.Or:
		out := search.Or{}
		for _, m := range e {
			out = append(out, narrowed(m))
		}
		return out
	case search.HasText:
		out := search.And{}
		for _, k := range e.Keys() {
			out = append(out, search.HasToken(k))
		}
		return out
	}
	return e
}

func TestExactTextsAreAnsweredByTheirKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, err := fhir.Parse(fmt.Appendf(nil, `{"resourceType":"Patient","id":"1","name":[{"family":%q}]}`, jsonText(word().Draw(t, "family"))), fhir.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		h := search.HasText{Path: "Patient.name.family", Op: search.StartsWith, Text: rapid.StringOfN(rapid.RuneFrom([]rune("aB1é '")), 1, 5, -1).Draw(t, "text")}
		terms := search.R4.Index(d)
		whole, _ := search.Match(h, &fhir.Resource{}, terms)
		keys, _ := search.Match(narrowed(h), &fhir.Resource{}, terms)
		if h.Exact() && whole != keys || whole && !keys {
			t.Fatalf("%q in %s: body %t, index %t", h.Text, d.JSON, whole, keys)
		}
	})
}

func TestSimplifyKeepsTheMeaning(t *testing.T) {
	d, err := fhir.Parse([]byte(`{"resourceType":"Observation","id":"1","subject":{"reference":"Patient/1"},
		"code":{"coding":[{"system":"s","code":"a"},{"system":"s","code":"b"}]},"category":[{"coding":[{"system":"s","code":"a"}]}],
		"valueQuantity":{"value":5,"unit":"mg"},"effectiveDateTime":"2020-05"}`), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	terms, r := search.R4.Index(d), &fhir.Resource{Ref: fhir.Ref{Type: "Observation", ID: "1"}}
	var leaves []search.Expr
	for _, query := range []string{"patient=1", "patient=2", "code=s|a", "code=s|b", "code=s|c", "category=s|a", "code=a", "value-quantity=gt4", "value-quantity=lt4",
		"value-quantity=lt6", "value-quantity=5||mg", "value-quantity=5||kg", "date=ge2020", "date=lt2021", "date=2019", "_id=1", "_id=2", "patient:missing=true", "code:not=s|a"} {
		params, _ := search.ParseQuery(query)
		q, err := search.Parse("Observation", params, search.Options{})
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, q.Where)
	}
	rapid.Check(t, func(t *rapid.T) {
		e := expr(t, leaves, 4)
		want, _ := search.Match(e, r, terms)
		simple := search.Simplify(e)
		if got, _ := search.Match(simple, r, terms); got != want {
			t.Fatalf("%#v is %t, simplified %#v is %t", e, want, simple, got)
		}
		if got, _ := search.Match(search.On("Observation", e), r, terms); got != want {
			t.Fatalf("%#v is %t, on its type %t", e, want, got)
		}
		if !search.Equal(simple, search.Simplify(simple)) && depth(simple) > depth(e) {
			t.Fatalf("%#v grows to %#v", e, simple)
		}
	})
}

// S-20, S-21: also of what is about other resources: two patients, linked to each
// other, with an observation each.
func TestSimplifyKeepsTheMeaningOfChains(t *testing.T) {
	type held struct {
		*fhir.Document
		terms *search.Terms
	}
	var all []held
	for i, body := range []string{
		`{"resourceType":"Patient","id":"1","active":true,"gender":"male","name":[{"family":"Ash"}],"link":[{"other":{"reference":"Patient/2"}}]}`,
		`{"resourceType":"Patient","id":"2","active":false,"gender":"female","name":[{"family":"Birch"}],"link":[{"other":{"reference":"Patient/1"}}]}`,
		`{"resourceType":"Observation","id":"1","code":{"coding":[{"system":"s","code":"a"}]},"subject":{"reference":"Patient/1"},"valueQuantity":{"value":1}}`,
		`{"resourceType":"Observation","id":"2","code":{"coding":[{"system":"s","code":"b"}]},"subject":{"reference":"Patient/2"},"valueQuantity":{"value":2}}`,
	} {
		d, err := fhir.Parse([]byte(body), fhir.Limits{})
		if err != nil {
			t.Fatal(i, err)
		}
		all = append(all, held{d, search.R4.Index(d)})
	}
	var meets func(h held, e search.Expr) bool
	refers := func(from, to held, paths []search.Path) bool {
		return slices.Contains(search.R4.References(from.Document, paths), fhir.Ref{Type: to.Type, ID: to.ID})
	}
	meets = func(h held, e search.Expr) bool {
		switch e := e.(type) {
		case search.And:
			return !slices.ContainsFunc(e, func(m search.Expr) bool { return !meets(h, m) })
		case search.Or:
			return slices.ContainsFunc(e, func(m search.Expr) bool { return meets(h, m) })
		case search.Not:
			return !meets(h, e.X)
		case search.Chain:
			return slices.ContainsFunc(all, func(to held) bool { return to.Type == e.Type && refers(h, to, e.Paths) && meets(to, e.X) })
		case search.ReverseChain:
			return slices.ContainsFunc(all, func(from held) bool {
				return from.Type == e.Type && refers(from, h, e.Paths) && meets(from, e.X) &&
					(e.Pair == (search.Token{}) || slices.Contains(from.terms.Tokens, e.Pair))
			})
		}
		ok, err := search.Match(e, &fhir.Resource{Ref: fhir.Ref{Type: h.Type, ID: h.ID}}, h.terms)
		return ok && err == nil
	}
	var leaves []search.Expr
	for _, query := range []string{"active=true", "link:Patient.gender=male", "link:Patient.gender=female", "link:Patient.name:contains=irc", "link:Patient.name:contains=shx", "link:Patient.gender:not=male",
		"_has:Observation:patient:code=s|a", "_has:Observation:patient:code=s|b", "_has:Observation:patient:value-quantity=1", "_has:Observation:patient:value-quantity=gt1", "_has:Observation:subject:code=a",
		"link:Patient._has:Observation:patient:code=a", "link:Patient._has:Observation:patient:value-quantity=2", "link:Patient.link:Patient.gender=male", "link:Patient.link:Patient.name=birch"} {
		q, err := parse(t, "Patient", query)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, q.Where)
	}
	rapid.Check(t, func(t *rapid.T) {
		e := expr(t, leaves, 4)
		simple := search.Simplify(e)
		for _, h := range all[:2] {
			if meets(h, e) != meets(h, simple) {
				t.Fatalf("%#v is %t for Patient/%s, simplified %#v is not", e, meets(h, e), h.ID, simple)
			}
		}
	})
}

func depth(e search.Expr) int {
	n := 0
	switch e := e.(type) {
	case search.And:
		for _, m := range e {
			n = max(n, depth(m))
		}
	case search.Or:
		for _, m := range e {
			n = max(n, depth(m))
		}
	case search.Not:
		n = depth(e.X)
	}
	return n + 1
}

func expr(t *rapid.T, leaves []search.Expr, deep int) search.Expr {
	kind := rapid.IntRange(0, 3).Draw(t, "kind")
	if deep == 0 || kind == 0 {
		return rapid.SampledFrom(leaves).Draw(t, "leaf")
	}
	if kind == 1 {
		return search.Not{X: expr(t, leaves, deep-1)}
	}
	var members []search.Expr
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		members = append(members, expr(t, leaves, deep-1))
	}
	if kind == 2 {
		return append(search.And{}, members...)
	}
	return append(search.Or{}, members...)
}

// FuzzParse holds that no query does more than be refused, and that what was
// understood means the same when it is read again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"name=peter&birthdate=ge1970", "_has:Observation:patient:code=http://loinc.org|1-2", "general-practitioner:Practitioner.name:exact=x",
		`identifier=a\|b|c\,d`, "_sort=-birthdate,name&_count=10&_include=Patient:link", "name:contains=%C3%89", "_lastUpdated=ap2020-01-01T10:00:00.123+01:00",
		"identifier:of-type=a|b|c", "_profile:below=http://x/y", "deceased=false", "link:identifier=x|y", "telecom=phone|1 2", "name:missing=true", "\x00=\xff", "name=\\",
	} {
		f.Add("Patient", seed)
		f.Add("Observation", seed)
		f.Add("", seed)
	}
	f.Add("Observation", "code-value-quantity=a$gt5||mg&component-code-value-concept=a$b,c|d$|e&value-quantity=1e-5|x|y")
	f.Add("MolecularSequence", "chromosome-variant-coordinate=1$ap10$ne20")
	f.Fuzz(func(t *testing.T, on, query string) {
		params, err := search.ParseQuery(query)
		if err != nil {
			return
		}
		o := search.Options{Base: base, Lenient: true}
		q, err := search.Parse(fhir.Type(on), params, o)
		if err != nil {
			if !fhir.IsCode(err, fhir.Invalid) && !fhir.IsCode(err, fhir.NotSupported) && !fhir.IsCode(err, fhir.TooCostly) && !fhir.IsCode(err, fhir.NotFound) {
				t.Fatalf("not a client's error: %v", err)
			}
			return
		}
		again, err := search.Parse(fhir.Type(on), q.Applied, o)
		if err != nil {
			t.Fatalf("what was applied is refused: %v", err)
		}
		if !strings.Contains(query, "ap") && !search.Equal(q.Where, again.Where) {
			t.Fatalf("read again, %q is %#v, was %#v", query, again.Where, q.Where)
		}
		if _, err := search.Match(q.Where, &fhir.Resource{}, &search.Terms{}); err != nil && err != search.ErrNeedsIndex {
			t.Fatal(err)
		}
	})
}

// FuzzIndex holds that no document makes Index fail.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(pressure))
	f.Add([]byte(patient))
	f.Add([]byte(`{"resourceType":"Observation","code":[[{"coding":{"code":{}}}],1,"x",null],"effectiveTiming":[],"valueQuantity":{"value":"1"},"component":{"code":{}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if d, err := fhir.Parse(body, fhir.Limits{}); err == nil {
			search.R4.Index(d)
			search.R4.References(d, nil)
		}
	})
}
