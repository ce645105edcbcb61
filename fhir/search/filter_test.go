package search_test

import (
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

func filters(list ...string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = "_filter=" + url.QueryEscape(s)
	}
	return out
}

// S-02: https://hl7.org/fhir/R4/search_filter.html
func TestFiltersCompareAsTheStandardSays(t *testing.T) {
	check(t, `{"resourceType":"Patient","id":"1","active":true,"gender":"male","birthDate":"2014-10-12",
		"name":[{"family":"Chalmers","given":["Peter","James"]},{"given":["Jim"]}],
		"identifier":[{"system":"urn:oid:1.2","value":"12345"},{"value":"99"}],"generalPractitioner":[{"reference":"Practitioner/7"}],
		"telecom":[{"system":"email","value":"p@example.org"}],"meta":{"profile":["http://a.test/p"],"lastUpdated":"2020-01-01T00:00:00Z"}}`,
		filters(
			`name co "hal"`, `name co hal`, `given eq "peter"`, `given eq PETER`, `given eq "peter" and birthdate ge 2014-10-10`,
			`given sw "pet"`, `given ew "mes"`, `family eq "chalmers"`, `family ne "smith"`, `given ne "peter"`, `name pr true`, `address pr false`,
			`birthdate eq 2014`, `birthdate gt 2014-10-11`, `birthdate lt 2015`, `birthdate le 2014-10-12`, `birthdate sa 2014-09`, `birthdate eb 2014-11`,
			`birthdate po 2014-10`, `birthdate ne 2013`, `gender eq male`, `gender ne female`, `active eq true`, `active ne false`,
			`identifier eq urn:oid:1.2|12345`, `identifier eq "urn:oid:1.2|12345"`, `identifier eq 99`, `identifier ne 99`, `identifier eq |99`,
			`general-practitioner re Practitioner/7`, `general-practitioner eq 7`, `general-practitioner ne Practitioner/8`, `_id eq 1`, `_id ne 2`,
			`_profile eq http://a.test/p`, `email eq p@example.org`, `deceased eq false`, `deceased ne true`,
			`not (gender eq female)`, `not(gender eq female)`, `(gender eq female) or (gender eq male)`,
			`gender eq female or gender eq male and active eq true`, // from left to right
			`gender eq male or active eq true and gender eq male`,
			`(given eq jim and (family eq x or family eq chalmers)) and not (birthdate lt 2000)`,
			`  given   eq   jim  `, `given eq "ji\u006d"`,
		),
		filters(
			`name co "xal"`, `given eq "pet"`, `given sw "ames"`, `given ew "jam"`, `name pr false`, `address pr true`, `family ne "CHALMERS"`,
			`birthdate po 2015`, `birthdate gt 2014-10-12`, `gender ne male`, `identifier eq |12345`, `general-practitioner ne Practitioner/7`,
			`general-practitioner re Practitioner/8`, `_id ne 1`, `deceased eq true`, `not (gender eq male)`,
			`gender eq male or active eq true and gender eq female`, `not (not (gender eq female))`,
		))
	check(t, `{"resourceType":"Observation","id":"1","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"1234-5"}]},
		"effectivePeriod":{"start":"2020-02-01","end":"2020-03-01"},"valueQuantity":{"value":5.4,"unit":"g","system":"http://unitsofmeasure.org","code":"g"}}`,
		filters(`code eq http://loinc.org|1234-5`, `value-quantity gt 5`, `value-quantity eq 5.4|http://unitsofmeasure.org|g`, `value-quantity ap 5`, `date po 2020-02-15`,
			`date po 2020-01`+` or date po 2020`, `code-value-quantity eq 1234-5$5.4`, `value-quantity ne 6`),
		filters(`code eq 5`, `value-quantity lt 5`, `date po 2021`, `date eq 2020-02-15`))
}

func TestMalformedFiltersAreRefused(t *testing.T) {
	for filter, code := range map[string]fhir.IssueCode{
		"": "", "name": fhir.Invalid, "name eq": fhir.Invalid, "name zz x": fhir.Invalid, "name eq x or": fhir.Invalid, "name eq x y": fhir.Invalid,
		"(name eq x": fhir.Invalid, "name eq x)": fhir.Invalid, "not name eq x": fhir.Invalid, `name eq "x`: fhir.Invalid, `name eq ""`: fhir.Invalid,
		"and name eq x": fhir.Invalid, "name eq x and and name eq y": fhir.Invalid, "nosuch eq x": fhir.NotSupported, "name gt x": fhir.NotSupported,
		"birthdate eq x": fhir.Invalid, "birthdate eq gt2010": fhir.Invalid, "birthdate co 2010": fhir.NotSupported, "name pr maybe": fhir.Invalid,
		"general-practitioner.name eq x": fhir.Invalid, "general-practitioner:Practitioner.nosuch eq x": fhir.NotSupported, "name.family eq x": fhir.Invalid,
		"link[active eq true]": fhir.Invalid, "link[active eq true].": fhir.Invalid, "link[active eq true.name eq x": fhir.Invalid, "_has:Observation:patient eq x": fhir.Invalid,
		"_has:AuditEvent:patient:action eq R": fhir.NotSupported, "name:exact eq x": fhir.NotSupported, `name eq "---"`: fhir.Invalid, "identifier sw 1": fhir.NotSupported,
		"_tag ne a|b": fhir.NotSupported, "_filter eq x": fhir.NotSupported, "gender in http://x": fhir.NotSupported,
		"link:Patient.name eq x or name ew y": fhir.NotSupported, "not (link:Patient.active eq true and name ew y)": fhir.NotSupported,
		"link:Patient.name eq x and name ew y": "", "link:Patient.active eq true or active eq true": "", "not (link:Patient.name ew x)": "",
		"link:Patient[name ew x or _has:Observation:patient:code eq x].active eq true": fhir.NotSupported,
		strings.Repeat("(", 40) + "name eq x":                                          fhir.TooCostly, "name eq x" + strings.Repeat(" and name eq x", 120): fhir.TooCostly,
		"name eq x" + strings.Repeat(" or name eq longerlonger", 200): fhir.TooCostly,
		strings.Repeat("link:Patient.", 7) + "name eq x":              fhir.TooCostly,
	} {
		_, err := parse(t, "Patient", "_filter="+url.QueryEscape(filter))
		if code == "" && err != nil || code != "" && !fhir.IsCode(err, code) {
			t.Errorf("%.60s: %v, want %s", filter, err, code)
		}
	}
}

// S-45: each link is looked up by itself, so that how many there are is bounded,
// and alternatives about what the same references lead to are one.
func TestAlternativesFollowTheSameReferencesOnce(t *testing.T) {
	many := func(n int, sep, arm string) string {
		arms := make([]string, n)
		for i := range arms {
			arms[i] = strings.ReplaceAll(arm, "#", strconv.Itoa(i))
		}
		return strings.Join(arms, sep)
	}
	for _, tt := range []struct {
		on     fhir.Type
		filter string
		links  int // 0: too costly
	}{
		{"Observation", many(90, " or ", `subject:Patient.name co "a#"`), 1},
		{"Observation", many(45, " or ", `(subject:Patient.name co "a#" or subject:Patient.gender eq g#)`), 2}, // what an index tells stays apart
		{"Observation", many(60, " or ", "subject:Patient.link:Patient.gender eq g#"), 2},
		{"Observation", many(45, " or ", "subject:Patient[active eq true].gender eq g#"), 1},
		{"Patient", many(60, " or ", "_has:Observation:patient:value-quantity gt #"), 1},
		{"Patient", many(30, " or ", "_has:Observation:patient:code eq s|#"), 30}, // the index holds each joined with the reference
		{"Patient", many(33, " or ", "_has:Observation:patient:code eq s|#"), 0},
		{"Patient", many(3, " or ", "(link:Patient.gender eq # or general-practitioner:Practitioner.gender eq #)"), 2},
		{"Patient", many(32, " and ", "link:Patient.gender eq g#"), 32},
		{"Patient", many(33, " and ", "link:Patient.gender eq g#"), 0},
		{"Patient", many(17, " and ", "link:Patient.link:Patient.gender eq g#"), 0},
		{"Patient", many(33, " and ", "not (link:Patient.gender eq g#)"), 0},
	} {
		q, err := parse(t, tt.on, "_filter="+url.QueryEscape(tt.filter))
		if tt.links == 0 {
			if !fhir.IsCode(err, fhir.TooCostly) {
				t.Errorf("%.60s…: %v", tt.filter, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%.60s…: %v", tt.filter, err)
		} else if n := countLinks(q.Where); n != tt.links {
			t.Errorf("%.60s…: follows %d references, want %d", tt.filter, n, tt.links)
		}
	}
	if _, err := parse(t, "Patient", many(33, "&", "link:Patient.family=f#")); !fhir.IsCode(err, fhir.TooCostly) {
		t.Errorf("many chains: %v", err)
	}
	if _, err := parse(t, "", "_type=Observation,Condition&patient._id=1"); err != nil {
		t.Errorf("of two types: %v", err)
	}
	if _, err := parse(t, "", many(20, "&", "patient.family=f#")+"&_type=Observation,Condition,Procedure"); err != nil {
		t.Errorf("the chains of each type count by themselves: %v", err)
	}
}

func countLinks(e search.Expr) (n int) {
	switch e := e.(type) {
	case search.Chain:
		return 1 + countLinks(e.X)
	case search.ReverseChain:
		return 1 + countLinks(e.X)
	case search.Not:
		return countLinks(e.X)
	case search.And:
		for _, m := range e {
			n += countLinks(m)
		}
	case search.Or:
		for _, m := range e {
			n += countLinks(m)
		}
	}
	return n
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{`name co "pet"`, `given eq "peter" and birthdate ge 2014-10-10`, `link[active eq true].name re x`, `not (a or (b eq \u00) `, `_has:Observation:patient:code eq 1`} {
		f.Add(s)
	}
	d, err := fhir.Parse([]byte(`{"resourceType":"Patient","id":"1","name":[{"family":"a"}]}`), fhir.Limits{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := search.Parse("Patient", []search.Param{{Name: "_filter", Value: s}}, search.Options{})
		if err == nil {
			_, _ = search.Match(q.Where, &fhir.Resource{Ref: fhir.Ref{Type: "Patient", ID: "1"}}, search.R4.Index(d))
		}
	})
}

// S-02: _text is about the narrative, _content about all that a resource says.
func TestWordsAreFoundInNarrativeAndContent(t *testing.T) {
	for _, on := range []string{"DiagnosticReport", "Procedure"} { // with words in the index, and without
		check(t, `{"resourceType":"`+on+`","id":"1","meta":{"source":"urn:hidden"},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><p>Pulmonary em<b>bol</b>ism</p><p>of the left&nbsp;lung &amp; heart</p></div>"},
			"status":"final","code":{"text":"Überweisung des Hausarztes"},"conclusion":"no sign of fracture","presentedForm":[{"contentType":"text/plain; charset=utf-8","data":"TWFsaWduYW50IG1lbGFub21h"}]}`,
			[]string{"_text=embolism", "_text=EMBOLISM+lung", "_text=%22pulmonary+embolism%22", "_text=nosuch,lung", "_content=embolism+fracture", "_content=uberweisung", "_content=Melanoma",
				"_content=%22sign+of+fracture%22+hausarztes", "_content=malignant,nosuch", "_text=embolism&_content=final", "_text=left+lung+heart"},
			[]string{"_text=fracture", "_text=embol", "_text=bol", "_text=%22embolism+pulmonary%22", "_content=melanom", "_content=%22fracture+sign%22", "_content=embolism+nosuch", "_content=hidden",
				"_content=xmlns", "_text=p"})
	}
}
