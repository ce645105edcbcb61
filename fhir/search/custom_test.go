package search_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// definition returns a SearchParameter.
func definition(code, kind, expression string, bases ...string) []byte {
	return []byte(`{"resourceType":"SearchParameter","url":"http://x.org/` + code + `","status":"active","code":"` + code + `","type":"` + kind +
		`","base":["` + strings.Join(bases, `","`) + `"],"expression":"` + expression + `"}`)
}

func none(string) ([]byte, bool) { return nil, false }

func custom(t testing.TB, state search.CustomState, definitions ...[]byte) *search.Custom {
	t.Helper()
	var list []*search.CustomParameter
	var states []search.CustomState
	for _, d := range definitions {
		c, err := search.CompileCustom(d, none)
		if err != nil {
			t.Fatalf("%s: %v", d, err)
		}
		list, states = append(list, c), append(states, state)
	}
	return search.NewCustom(1, list, states)
}

const person = `{"resourceType":"Patient","id":"1","active":true,"contained":[{"resourceType":"Practitioner","id":"p","birthDate":"1960-02-03","name":[{"family":"White"}],
	"identifier":[{"system":"urn:npi","value":"77"}]},{"resourceType":"Organization","id":"o","name":"Planet"}],"extension":[{"url":"http://x.org/race","extension":[
	{"url":"ombCategory","valueCoding":{"system":"urn:oid:2.16.840.1.113883.6.238","code":"2106-3","display":"White"}},{"url":"text","valueString":"White"}]},
	{"url":"http://x.org/seen","valueDateTime":"2020-05-01"},{"url":"http://x.org/dose","valueQuantity":{"value":5.4,"system":"http://unitsofmeasure.org","code":"g"}}],
	"name":[{"use":"official","family":"Kent","given":["Clark"]},{"use":"nickname","given":["Superman"]}],
	"managingOrganization":{"reference":"Organization/7"},"contact":[{"name":{"family":"Lane"},"organization":{"reference":"Organization/8"}}]}`

var definitions = [][]byte{
	definition("race", "token", "Patient.extension.where(url = 'http://x.org/race').extension.value.code", "Patient"),
	definition("seen", "date", "Patient.extension.where(url='http://x.org/seen').valueDateTime", "Patient"),
	definition("dose", "quantity", "Patient.extension('http://x.org/dose').value.as(Quantity)", "Patient"),
	definition("official", "string", "Patient.name.where(use='official')", "Patient"),
	definition("nick", "string", "Patient.name.where(use='nickname').given.first()", "Patient"),
	definition("employer", "reference", "Patient.contact.organization", "Patient"),
	definition("keeper", "reference", "Patient.contact.organization.where(resolve() is Organization) | Patient.managingOrganization.where(true)", "Patient"),
	definition("full", "string", "Patient.name.select(given.first() + ' ' + family)", "Patient"),
	definition("names", "number", "Patient.name.count()", "Patient"),
	definition("share", "number", "Patient.name.count() / 8", "Patient"),
	definition("again", "date", "Patient.extension('http://x.org/seen').value + 1 month", "Patient"),
	definition("from", "date", "iif(Patient.active, @2001-02-03, @2002)", "Patient"),
	definition("moment", "date", "iif(Patient.active, @2001-02-03T04:05:06.7Z, @2002T)", "Patient"),
	definition("more", "quantity", "Patient.extension('http://x.org/dose').value + 1 'g'", "Patient"),
	definition("term", "quantity", "iif(Patient.active, 2 years, 1 year)", "Patient"),
	definition("page", "uri", "'http://x.org/p/' + Patient.id", "Patient"),
	definition("twin", "reference", "'Person/' + Patient.id", "Patient"),
	definition("desk", "reference", "'http://cordon.test/fhir/x/Organization/' + Patient.id | '#o' | 'nonsense'", "Patient"),
	definition("editor", "string", "Patient.contained.ofType(Practitioner).name.family", "Patient"),
	definition("edited", "date", "Patient.contained.where($this is Practitioner).birthDate", "Patient"),
	definition("npi", "token", "(Patient.contained as Practitioner).identifier", "Patient"),
	definition("known", "string", "Patient.descendants().ofType(HumanName).family", "Patient"),
	definition("press", "string", "Patient.contained.name", "Patient"),
}

func TestAParameterOfATenantIsSearched(t *testing.T) { // S-18
	d := document(t, person)
	c := custom(t, search.CustomReady, definitions...)
	terms := search.Schema{Base: "http://cordon.test/fhir/x", Custom: c}.Index(d)
	finds := func(query string) bool {
		t.Helper()
		params, err := search.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := search.Parse("Patient", params, search.Options{Custom: c})
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if q.Custom != c {
			t.Errorf("%s: the query does not say that it depends on the tenant's parameters", query)
		}
		ok, err := search.Match(q.Where, &fhir.Resource{Ref: fhir.Ref{Type: "Patient", ID: "1"}}, terms)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	for _, query := range []string{
		"race=2106-3", "race:missing=false", "seen=2020-05", "seen=ge2020-05-01", "dose=5400||mg", "official=kent", "official=clark", "official:exact=Kent", "nick=super", "nick:contains=perman",
		"employer=Organization/8", "keeper=Organization/7", "keeper=8", "full=clark%20kent", "names=2", "race:not=x", "official:missing=false", "nick:missing=false", "_sort=seen&race=2106-3",
		"share=0.25", "share=gt0.2", "again=2020-06-01", "again=ge2020-06", "again:missing=false", "from=2001-02-03", "from=2001", "moment=2001-02-03T04:05:06.7Z", "moment=sa2001-02-03T04:05:06.6Z",
		"more=6400||mg", "more=gt6", "term=2", "term=2||years", "page=http://x.org/p/1", "page:below=http://x.org/p",
		"twin=Person/1", "twin:Person=1", "twin:missing=false", "desk=Organization/1", "editor=white", "edited=1960-02", "npi=urn:npi|77", "known=lane", "known=white", "press=planet",
	} {
		if !finds(query) {
			t.Errorf("%s does not find it", query)
		}
	}
	for _, query := range []string{"race=2106-4", "race:missing=true", "seen=2021", "dose=5401||mg", "official=superman", "nick=clark", "nick:missing=true", "employer=Organization/7", "names=1", "full=lane",
		"share=0.5", "again=2020-05-01", "from=2002", "moment=2001-02-04", "more=5400||mg", "term=1", "page=http://x.org/p/2", "page:missing=true",
		"twin=Person/2", "desk=Organization/o", "editor=kent", "edited=1961", "npi=urn:npi|78", "press=kent"} {
		if finds(query) {
			t.Errorf("%s finds it", query)
		}
	}
	if got := c.Parameters("Patient"); len(got) != len(definitions) || got[0].Name != "again" {
		t.Errorf("clients are told of %v", got)
	}
	if got := c.Parameters("Observation"); got != nil {
		t.Errorf("Observation has %v", got)
	}
}

func TestAParameterOfATenantIsRefusedUntilItIsReady(t *testing.T) {
	c := custom(t, search.CustomBuilding, definitions...)
	for _, query := range []string{"race=1", "race:missing=true", "_sort=race", "_include=Patient:employer", "employer:Organization.name=x", "employer.name=x"} {
		params, _ := search.ParseQuery(query)
		for _, lenient := range []bool{false, true} {
			_, err := search.Parse("Patient", params, search.Options{Custom: c, Lenient: lenient})
			if !fhir.IsCode(err, fhir.NotSupported) || !strings.Contains(err.Error(), "not ready") {
				t.Errorf("%s: %v", query, err)
			}
		}
	}
	params, _ := search.ParseQuery("_has:Patient:employer:race=1")
	if _, err := search.Parse("Organization", params, search.Options{Custom: c}); !fhir.IsCode(err, fhir.NotSupported) {
		t.Errorf("_has: %v", err)
	}
	if got := c.Parameters("Patient"); got != nil {
		t.Errorf("clients are told of %v", got)
	}
	params, _ = search.ParseQuery("race=1")
	if _, err := search.Parse("Patient", params, search.Options{}); !fhir.IsCode(err, fhir.NotSupported) || strings.Contains(err.Error(), "not ready") {
		t.Errorf("a tenant without it is told %v", err)
	}
}

func TestWhatIsRemovedIsStillKnownOfThePast(t *testing.T) {
	d := document(t, person)
	removing := search.Schema{Custom: custom(t, search.CustomRemoving, definitions...)}
	ready := search.Schema{Custom: custom(t, search.CustomReady, definitions...)}
	if diff := cmp.Diff(search.R4.Index(d), removing.Index(d), cmpopts.IgnoreUnexported(search.Terms{})); diff != "" {
		t.Errorf("it is still written: %s", diff)
	}
	if diff := cmp.Diff(ready.Index(d), removing.IndexPast(d), cmpopts.IgnoreUnexported(search.Terms{})); diff != "" {
		t.Errorf("it is forgotten: %s", diff)
	}
	if diff := cmp.Diff(ready.Index(d), ready.IndexPast(d), cmpopts.IgnoreUnexported(search.Terms{})); diff != "" {
		t.Errorf("the past differs from the present: %s", diff)
	}
}

func TestTheTermsOfAParameterAloneAreThoseItAdds(t *testing.T) {
	d := document(t, person)
	for _, def := range definitions {
		c, err := search.CompileCustom(def, none)
		if err != nil {
			t.Fatal(err)
		}
		alone := search.R4.IndexCustom(c, d)
		base := search.R4.Index(d)
		both := search.Schema{Custom: search.NewCustom(1, []*search.CustomParameter{c}, []search.CustomState{search.CustomReady})}.Index(d)
		for _, tok := range both.Tokens {
			if slices.Contains(base.Tokens, tok) == slices.Contains(alone.Tokens, tok) {
				t.Errorf("%s: %v", c.Code, tok)
			}
		}
		if len(alone.Tokens)+len(alone.Refs)+len(alone.Dates)+len(alone.Numbers) == 0 ||
			len(both.Tokens) != len(base.Tokens)+len(alone.Tokens) || len(both.Refs) != len(base.Refs)+len(alone.Refs) ||
			len(both.Dates) != len(base.Dates)+len(alone.Dates) || len(both.Numbers) != len(base.Numbers)+len(alone.Numbers) {
			t.Errorf("%s: %+v", c.Code, alone)
		}
	}
}

func TestR4sOwnParametersStay(t *testing.T) {
	_, err := search.CompileCustom(definition("family", "string", "Patient.name.given", "Patient"), none)
	if !errors.Is(err, search.ErrNotSearched) {
		t.Errorf("Patient.family: %v", err)
	}
	c, err := search.CompileCustom(definition("family", "string", "Patient.name.given | Group.name", "Patient", "Group"), none)
	if err != nil || !slices.Equal(c.Shadowed, []fhir.Type{"Patient"}) || !slices.Equal(c.Types(), []fhir.Type{"Group"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAnotherMeaningHasAnotherPrint(t *testing.T) {
	print := func(d []byte) string {
		c, err := search.CompileCustom(d, none)
		if err != nil {
			t.Fatal(err)
		}
		return c.Print
	}
	a := print(definition("a", "string", "Patient.name.given", "Patient"))
	if a != print(definition("a", "string", "Patient.name.given", "Patient")) {
		t.Error("equal definitions differ")
	}
	for _, other := range [][]byte{definition("b", "string", "Patient.name.given", "Patient"), definition("a", "token", "Patient.name.given", "Patient"), definition("a", "string", "Patient.name.family", "Patient")} {
		if a == print(other) {
			t.Errorf("%s has the print of another", other)
		}
	}
}

func TestAFaultInASearchParameterIsTold(t *testing.T) {
	for _, tt := range []struct {
		definition []byte
		at         string
	}{
		{definition("x", "string", "Patient.nome", "Patient"), "SearchParameter.expression"},
		{definition("x", "string", "Observation.code", "Patient"), "SearchParameter.expression"},
		{definition("x", "string", "Patient.name.where(", "Patient"), "SearchParameter.expression"},
		{definition("x", "date", "Patient.name", "Patient"), "SearchParameter.expression"},
		{definition("x", "special", "Patient.name", "Patient"), "SearchParameter.type"},
		{definition("x", "string", "Patient.name", "Patientt"), "SearchParameter.base"},
		{definition("x:y", "string", "Patient.name", "Patient"), "SearchParameter.code"},
		{definition("_x", "string", "Patient.name", "Patient"), "SearchParameter.code"},
		{definition("x", "composite", "Patient", "Patient"), "SearchParameter.expression"},
	} {
		_, err := search.CompileCustom(tt.definition, none)
		var fe *fhir.Error
		if !errors.As(err, &fe) || !slices.Equal(fe.Issues[0].Expression, []string{tt.at}) {
			t.Errorf("%s: %+v", tt.definition, err)
		}
	}
	draft := []byte(strings.ReplaceAll(string(definition("x", "string", "Patient.nome", "Patient")), "active", "draft"))
	if _, err := search.CompileCustom(draft, none); !errors.Is(err, search.ErrNotSearched) {
		t.Errorf("a draft: %v", err)
	}
}

func FuzzCompileCustom(f *testing.F) {
	for _, d := range definitions {
		f.Add(d)
	}
	doc := document(f, person)
	f.Fuzz(func(_ *testing.T, d []byte) {
		if c, err := search.CompileCustom(d, none); err == nil {
			search.R4.IndexCustom(c, doc)
		}
	})
}
