package search_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

func TestFaultsAreRefusedWithoutTheirValues(t *testing.T) { // S-03
	const secret = "zzsecretzz"
	for _, tt := range []struct {
		on    fhir.Type
		query string
		code  fhir.IssueCode
	}{
		{"Patient", "nosuch=" + secret, fhir.NotSupported},
		{"Patient", secret + "%20x=1", fhir.NotSupported},
		{"Patient", "name:above=" + secret, fhir.NotSupported},
		{"Patient", "gender:in=" + secret, fhir.NotSupported},
		{"Patient", "gender:not-in=" + secret, fhir.NotSupported},
		{"Patient", "_text=---", fhir.Invalid},
		{"Patient", "_content:exact=" + secret, fhir.NotSupported},
		{"Patient", "_list=$current-" + secret, fhir.NotSupported},
		{"Patient", "_list=Patient/" + secret, fhir.Invalid},
		{"Patient", "_filter=" + secret, fhir.Invalid},
		{"Patient", "identifier:in=" + secret, fhir.NotSupported},
		{"Patient", "_query=" + secret, fhir.NotSupported},
		{"Location", "near=" + secret, fhir.Invalid},
		{"Patient", "birthdate=" + secret, fhir.Invalid},
		{"Patient", "birthdate=2020-13", fhir.Invalid},
		{"Patient", "birthdate=2021-02-29", fhir.Invalid},
		{"Patient", "birthdate=2020-01-01T10", fhir.Invalid},
		{"Patient", "birthdate=xx2020", fhir.Invalid},
		{"Patient", "active=" + secret, fhir.Invalid},
		{"Patient", "name=%2C", fhir.Invalid},
		{"Patient", "name=---", fhir.Invalid},
		{"Patient", `name=a\` + secret, fhir.Invalid},
		{"Patient", "identifier=|", fhir.Invalid},
		{"Patient", "name:missing=" + secret, fhir.Invalid},
		{"Patient", "general-practitioner=" + secret + "/x", fhir.Invalid},
		{"Patient", "_count=-1", fhir.Invalid},
		{"Patient", "_count=" + secret, fhir.Invalid},
		{"Patient", "_count:exact=1", fhir.NotSupported},
		{"Patient", "_sort:desc=birthdate", fhir.NotSupported},
		{"Provenance", "target._tag=" + secret, fhir.Invalid},
		{"Patient", "_total=" + secret, fhir.Invalid},
		{"Patient", "_summary=" + secret, fhir.Invalid},
		{"Patient", "_sort=" + secret, fhir.NotSupported},
		{"Patient", "_contained=" + secret, fhir.Invalid},
		{"Patient", "_contained=true&_sort=name", fhir.NotSupported},
		{"Bundle", "_contained=true", fhir.NotSupported},
		{"Patient", "_include=" + secret, fhir.Invalid},
		{"Patient", "_include=Patient:" + secret, fhir.Invalid},
		{"Patient", "_include=Patient:name", fhir.Invalid},
		{"Patient", "_include=Patient:general-practitioner:Device", fhir.Invalid},
		{"Patient", "_include=Patient:link&_summary=text", fhir.Invalid},
		{"Patient", "_type=Patient", fhir.NotSupported},
		{"Patient", "_has:Observation:" + secret + ":code=1", fhir.Invalid},
		{"Patient", "_has:Observation:device:code=1", fhir.Invalid},
		{"Patient", "_has:Observation:patient:" + secret + "=1", fhir.NotSupported},
		{"Patient", "_has=" + secret, fhir.NotSupported},
		{"Observation", "subject.name=" + secret, fhir.Invalid},
		{"Observation", "subject.identifier=" + secret, fhir.Invalid},
		{"Observation", "subject:Encounter.status=" + secret, fhir.Invalid},
		{"Observation", "subject:Patient.nosuch=" + secret, fhir.NotSupported},
		{"Observation", "code.x=" + secret, fhir.Invalid},
		{"Observation", "value-quantity=" + secret, fhir.Invalid},
		{"Observation", "value-quantity=1|" + secret, fhir.Invalid},
		{"Observation", "value-quantity=NaN", fhir.Invalid},
		{"Observation", "value-quantity=Inf", fhir.Invalid},
		{"Observation", "value-quantity=1e999", fhir.Invalid},
		{"Observation", "code-value-quantity=" + secret, fhir.Invalid},
		{"Observation", "code-value-quantity:missing=true", fhir.NotSupported},
		{"Observation", "derived-from.status=x", fhir.Invalid},
		{"Observation", "has-member:AuditEvent.agent=x", fhir.Invalid},
		{"Provenance", "target:AuditEvent.agent=x", fhir.NotSupported},
		{"Provenance", "_include=AuditEvent:entity", fhir.NotSupported},
		{"Provenance", "_include=Provenance:target:AuditEvent", fhir.NotSupported},
		{"Patient", "_revinclude=AuditEvent:patient", fhir.NotSupported},
		{"Patient", "_has:AuditEvent:patient:action=R", fhir.NotSupported},
		{"Observation", strings.Repeat("has-member:Observation.", 7) + "status=x", fhir.TooCostly},
		{"Patient", strings.Repeat("_has:Observation:patient:has-member:Observation.", 4) + "status=x", fhir.Invalid},
		{"Group", strings.Repeat("_has:List:item:subject:Group.", 4) + "_id=x", fhir.TooCostly},
		{"Patient", "name=" + strings.Repeat("a,", 600), fhir.TooCostly},
		{"Patient", "name=" + strings.Repeat("a", 5000), fhir.TooCostly},
		{"", "name=" + secret, fhir.NotSupported},
		{"", "_type=" + secret, fhir.Invalid},
		{"", "_type=Patient,Observation&birthdate=2020", fhir.NotSupported},
		{"", "_tag=" + strings.Repeat("a,", 100), fhir.TooCostly},
		{"Nosuch", "_id=1", fhir.NotFound},
	} {
		_, err := parse(t, tt.on, tt.query)
		if !fhir.IsCode(err, tt.code) {
			t.Errorf("%s?%.60s: got %v, want %s", tt.on, tt.query, err, tt.code)
			continue
		}
		if name, _, _ := strings.Cut(tt.query, "="); strings.Contains(err.Error(), secret) && !strings.Contains(name, secret) {
			t.Errorf("%s: the error holds the value: %v", tt.query, err)
		}
	}
}

func TestLenientSearchesDropUnknownParametersOnly(t *testing.T) { // S-03
	o := search.Options{Lenient: true}
	q, err := search.Parse("Patient", []search.Param{{Name: "nosuch", Value: "1"}, {Name: "gender", Value: "male"}}, o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"nosuch"}, q.Ignored); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]search.Param{{Name: "gender", Value: "male"}}, q.Applied); diff != "" {
		t.Error(diff)
	}
	for _, p := range []search.Param{{Name: "gender:in", Value: "x"}, {Name: "birthdate", Value: "x"}} {
		if _, err := search.Parse("Patient", []search.Param{p}, o); err == nil {
			t.Errorf("%s passes", p.Name)
		}
	}
}

func TestQueriesAreDecodedInOrder(t *testing.T) {
	got, err := search.ParseQuery("b=1+2&a=%2B&b=&c&date=x%3D")
	if err != nil {
		t.Fatal(err)
	}
	want := []search.Param{{Name: "b", Value: "1 2"}, {Name: "a", Value: "+"}, {Name: "b"}, {Name: "c"}, {Name: "date", Value: "x="}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := search.ParseQuery("a=%zz"); !fhir.IsCode(err, fhir.Invalid) {
		t.Errorf("got %v, want invalid", err)
	}
	if _, err := search.ParseQuery(strings.Repeat("a=1&", 65)); !fhir.IsCode(err, fhir.TooCostly) {
		t.Errorf("got %v, want too-costly", err)
	}
}

func TestControlParameters(t *testing.T) { // S-40, S-41, S-30
	q, err := parse(t, "Observation", "_sort=-date,status,_id,-_lastUpdated,value-quantity&_count=0&_total=accurate&_summary=data&_elements=code,%20value"+
		"&_include=Observation:patient&_include:iterate=Patient:general-practitioner:Practitioner&_revinclude=Provenance:target&_include=Observation:*&_include=*&_format=json&_pretty=true&status=")
	if err != nil {
		t.Fatal(err)
	}
	want := &search.Query{
		Type:  "Observation",
		Where: search.And{},
		Sort: []search.SortKey{
			{Kind: search.ByDate, Paths: []search.Path{"Observation.effective"}, Desc: true, Present: search.Present{Type: "Observation", Bit: 17}},
			{Kind: search.ByText, Paths: []search.Path{"Observation.status"}},
			{Kind: search.ByID},
			{Kind: search.ByUpdated, Desc: true},
			{Kind: search.ByNumber, Paths: []search.Path{"Observation.value"}, Present: search.Present{Type: "Observation", Bit: 37}},
		},
		Total: search.TotalAccurate, Summary: "data", Elements: []string{"code", "value"},
		Include: []search.Include{
			{Source: "Observation", Paths: []search.Path{"Observation.subject"}, Target: "Patient"},
			{Iterate: true, Source: "Patient", Paths: []search.Path{"Patient.generalPractitioner"}, Target: "Practitioner"},
			{Reverse: true, Source: "Provenance", Paths: []search.Path{"Provenance.target"}},
			{Source: "Observation", All: true},
			{Source: "Observation", All: true},
		},
	}
	for _, p := range q.Applied {
		if p.Name == "_format" || p.Name == "_pretty" || p.Value == "" {
			t.Errorf("%s is among the applied", p.Name)
		}
	}
	q.Applied = nil
	if diff := cmp.Diff(want, q); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutConditionsEverythingMatches(t *testing.T) {
	q, err := parse(t, "Patient", "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(search.Expr(search.And{}), q.Where); diff != "" {
		t.Error(diff)
	}
	if q.Count != -1 {
		t.Errorf("got count %d, want -1", q.Count)
	}
}

func TestChains(t *testing.T) { // S-20, S-21
	code := search.Token{Path: "Observation.code", Value: "http://loinc.org|1-2"}
	for _, tt := range []struct {
		on    fhir.Type
		query string
		want  search.Expr
	}{
		{"Observation", "subject:Patient.gender=male", search.Chain{Paths: []search.Path{"Observation.subject"}, Type: "Patient", X: search.HasToken{Path: "Patient.gender", Value: "male"}}},
		{"Observation", "patient.gender=male", search.Chain{Paths: []search.Path{"Observation.subject"}, Type: "Patient", X: search.HasToken{Path: "Patient.gender", Value: "male"}}},
		{"Observation", "subject.gender=male", search.Chain{Paths: []search.Path{"Observation.subject"}, Type: "Patient", X: search.HasToken{Path: "Patient.gender", Value: "male"}}},
		{"Observation", "patient.organization.name:exact=X", search.Chain{Paths: []search.Path{"Observation.subject"}, Type: "Patient",
			X: search.Chain{Paths: []search.Path{"Patient.managingOrganization"}, Type: "Organization",
				X: search.Or{search.HasText{Path: "Organization.name", Op: search.Equals, Text: "X"}, search.HasText{Path: "Organization.alias", Op: search.Equals, Text: "X"}}}}},
		{"Observation", "encounter._id=e1", search.Chain{Paths: []search.Path{"Observation.encounter"}, Type: "Encounter", X: search.HasID{"e1"}}},
		{"Patient", "_has:Observation:patient:code=http://loinc.org|1-2", search.ReverseChain{Type: "Observation", Paths: []search.Path{"Observation.subject"}, X: search.And{}, Pair: code}},
		{"Patient", "_has:Observation:patient:status=final", search.ReverseChain{Type: "Observation", Paths: []search.Path{"Observation.subject"}, X: search.HasToken{Path: "Observation.status", Value: "final"}}},
		{"Practitioner", "_has:Encounter:participant:_has:Observation:encounter:status=final", search.ReverseChain{Type: "Encounter", Paths: []search.Path{"Encounter.participant.individual"},
			X: search.ReverseChain{Type: "Observation", Paths: []search.Path{"Observation.encounter"}, X: search.HasToken{Path: "Observation.status", Value: "final"}}}},
		{"Encounter", "subject:Patient._has:Group:member:_id=g", search.Chain{Paths: []search.Path{"Encounter.subject"}, Type: "Patient",
			X: search.ReverseChain{Type: "Group", Paths: []search.Path{"Group.member.entity"}, X: search.HasID{"g"}}}},
	} {
		q, err := parse(t, tt.on, tt.query)
		if err != nil {
			t.Errorf("%s: %v", tt.query, err)
			continue
		}
		if diff := cmp.Diff(tt.want, q.Where); diff != "" {
			t.Errorf("%s: %s", tt.query, diff)
		}
		if _, err := search.Match(q.Where, &fhir.Resource{}, &search.Terms{}); !errors.Is(err, search.ErrNeedsIndex) {
			t.Errorf("%s: got %v, want ErrNeedsIndex", tt.query, err)
		}
	}
}

func TestASearchOfSeveralTypesNegatesForAllTogether(t *testing.T) { // S-44
	q, err := parse(t, "", "_type=Patient,Observation&_tag:not=demo")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]fhir.Type{"Patient", "Observation"}, q.Types); diff != "" {
		t.Error(diff)
	}
	d := document(t, pressure)
	ok, err := search.Match(q.Where, &fhir.Resource{Ref: fhir.Ref{Type: "Observation", ID: "bp"}}, search.R4.Index(d))
	if ok || err != nil {
		t.Errorf("got %t, %v: a tag that is negated for one type is there for another", ok, err)
	}
}

func TestPairsAreUsed(t *testing.T) {
	pair := search.HasReference{Path: "Observation.subject", Target: "Patient/7", Pair: search.Token{Path: "Observation.code", Value: "s|c"}}
	for query, want := range map[string]search.Expr{
		"patient=7&code=s|c": pair,
		"patient=7&code=s|c&category=s|d": search.And{pair,
			search.HasToken{Path: "Observation.category", Value: "s|d"}},
		"patient=7&code=c": search.And{search.HasReference{Path: "Observation.subject", Target: "Patient/7"}, search.HasToken{Path: "Observation.code", Value: "c"}},
		"code=s|c&value-quantity=gt5": search.InNumber{Path: "Observation.code$Observation.value", Unit: "s|c",
			Bounds: []search.NumberBound{{End: search.Hi, Op: search.GT, V: 5}}},
		"value-quantity=gt5&value-quantity=lt7": search.InNumber{Path: "Observation.value",
			Bounds: []search.NumberBound{{End: search.Hi, Op: search.GT, V: 5}, {End: search.Lo, Op: search.LT, V: 7}}},
		"patient=7&subject=Patient/7,Group/1": search.HasReference{Path: "Observation.subject", Target: "Patient/7"},
		"_id=a&_id=a,b":                       search.And{search.HasID{"a"}, search.HasID{"a", "b"}},
		"patient=7&_id=_":                     search.Or{},
	} {
		q, err := parse(t, "Observation", query)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, q.Where); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
}

func TestCompartments(t *testing.T) { // H-55
	got, ok := search.Compartment("Patient", "7", "Observation")
	want := search.Or{
		search.HasReference{Path: "Observation.subject", Target: "Patient/7"},
		search.HasReference{Path: "Observation.performer", Target: "Patient/7"},
	}
	if diff := cmp.Diff(search.Expr(want), got); !ok || diff != "" {
		t.Error(diff)
	}
	if got, ok := search.Compartment("Patient", "7", "Patient"); !ok || !search.Equal(got, search.HasID{"7"}) {
		t.Errorf("got %v", got)
	}
	for _, on := range []fhir.Type{"Practitioner", "Organization", "Location", "Medication", "Substance", "Nosuch"} {
		got, ok := search.Compartment("Patient", "7", on)
		if ok {
			t.Errorf("%s is in the compartment of a patient", on)
		}
		if m, _ := search.Match(got, &fhir.Resource{Ref: fhir.Ref{Type: on, ID: "7"}}, &search.Terms{}); m {
			t.Errorf("the condition for %s holds", on)
		}
	}
	if _, ok := search.Compartment("Organization", "7", "Patient"); ok {
		t.Error("R4 defines no compartment of organizations")
	}
	for _, c := range []fhir.Type{"Patient", "Encounter", "Practitioner", "RelatedPerson", "Device"} {
		n := 0
		for _, on := range fhir.Types {
			if _, ok := search.Compartment(c, "7", on); ok {
				n++
			}
		}
		if n < 20 {
			t.Errorf("the compartment of %s has %d types", c, n)
		}
	}
}

func TestPatientsOfAResource(t *testing.T) {
	for json, want := range map[string][]fhir.Ref{
		`{"resourceType":"Observation","performer":[{"reference":"Patient/2"},{"reference":"Practitioner/3"}],"subject":{"reference":"Patient/1"}}`: {
			{Type: "Patient", ID: "1"}, {Type: "Patient", ID: "2"}},
		`{"resourceType":"Patient","id":"3","link":[{"other":{"reference":"Patient/4"}}]}`: {{Type: "Patient", ID: "3"}},
		`{"resourceType":"Coverage","beneficiary":{"reference":"Patient/5"}}`:              {{Type: "Patient", ID: "5"}},
		`{"resourceType":"Observation","subject":{"reference":"Group/1"}}`:                 nil,
		`{"resourceType":"Organization","partOf":{"reference":"Patient/1"}}`:               nil,
		`{"resourceType":"Observation","subject":{"reference":"http://x.org/Patient/1"}}`:  nil,
	} {
		if diff := cmp.Diff(want, search.R4.PatientsOf(document(t, json))); diff != "" {
			t.Errorf("%s: %s", json, diff)
		}
	}
}

func TestReferencesAreFoundInTheBody(t *testing.T) { // S-30
	d := document(t, pressure)
	want := []fhir.Ref{{Type: "Patient", ID: "7"}, {Type: "Practitioner", ID: "p1"}}
	got := search.R4.References(d, nil)
	slices.SortFunc(got, func(a, b fhir.Ref) int { return strings.Compare(a.String(), b.String()) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[:1], search.R4.References(d, []search.Path{"Observation.subject"})); diff != "" {
		t.Error(diff)
	}
}

func TestScopesTakePlainParametersOnly(t *testing.T) { // U-08
	e, err := search.ParseScope("Observation", "category=http://terminology.hl7.org/CodeSystem/observation-category|vital-signs")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := search.Match(e, &fhir.Resource{}, search.R4.Index(document(t, pressure))); !ok || err != nil {
		t.Errorf("got %t, %v", ok, err)
	}
	for _, query := range []string{"_list=1", "_filter=status+eq+final", "_text=x", "_content=x", "_contained=true",
		"", "category:not=x", "subject:Patient.name=x", "_has:Provenance:target:agent=x", "_sort=date", "_count=1", "_include=*", "nosuch=1",
		"category=", "category=x&status:missing=true", "_format=json", "&",
	} {
		if _, err := search.ParseScope("Observation", query); err == nil {
			t.Errorf("%s is taken", query)
		}
	}
}

func TestOnlyWhatTheIndexHoldsIsExact(t *testing.T) {
	for query, want := range map[string]bool{
		"name=pete": false, "name=peter": true, "name:contains=pet": false, "name:exact=P": false, "gender=male": true,
		"identifier=s|v": true, "identifier=s|": true, "birthdate=2000": true, "language:text=x": false, "_tag=a": true, "_tag=s|a": false,
		"organization.name=abc": true, "organization.name=abcde": true,
	} {
		q, err := parse(t, "Patient", query)
		if err != nil {
			t.Fatal(err)
		}
		if got := search.Exact(q.Where); got != want {
			t.Errorf("%s: got %t, want %t", query, got, want)
		}
	}
}

func TestSortValues(t *testing.T) { // S-40
	d := document(t, `{"resourceType":"Patient","id":"1","birthDate":"1990","name":[{"family":"Zorn","given":["Émile"]},{"family":"Abel"}]}`)
	terms := search.R4.Index(d)
	q, err := parse(t, "Patient", "_sort=family,-family,name,birthdate,gender")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range q.Sort {
		switch k.Kind {
		case search.ByText:
			s, _ := search.SortText(terms, k)
			got = append(got, strings.ReplaceAll(s, "\x00", "/"))
		case search.ByDate:
			at, _ := search.SortTime(terms, k)
			got = append(got, at.Lo.Format("2006-01-02"))
		}
	}
	if diff := cmp.Diff([]string{"abel/", "zorn/", "abel/emile/", "1990-01-01", ""}, got); diff != "" {
		t.Error(diff)
	}
}

func TestParametersAreListed(t *testing.T) { // S-18, H-52
	list := search.Parameters("Patient")
	i := slices.IndexFunc(list, func(p search.Parameter) bool { return p.Name == "general-practitioner" })
	want := search.Parameter{Name: "general-practitioner", Type: "reference", Definition: "http://hl7.org/fhir/SearchParameter/Patient-general-practitioner",
		Targets: []fhir.Type{"Organization", "Practitioner", "PractitionerRole"}}
	if i < 0 {
		t.Fatal("general-practitioner is missing")
	}
	if diff := cmp.Diff(want, list[i]); diff != "" {
		t.Error(diff)
	}
	if got := search.Parameters(""); len(got) != 6 {
		t.Errorf("got %v for the system", got)
	}
	if !slices.Contains(search.Includes("MedicationRequest"), "MedicationRequest:medication") || !slices.Contains(search.RevIncludes("Patient"), "Provenance:target") {
		t.Error("includes are missing")
	}
	for _, on := range fhir.Types {
		for _, p := range search.Parameters(on) {
			if p.Type == "composite" {
				continue
			}
			if _, err := parse(t, on, p.Name+":missing=true"); err != nil {
				t.Errorf("%s: %v", on, err)
			}
		}
	}
}
