package path

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

const patientJSON = `{"resourceType":"Patient","id":"7","active":true,
	"extension":[{"url":"http://example.org/a","valueAge":{"value":2,"unit":"years","system":"http://unitsofmeasure.org","code":"a"}}],
	"name":[{"use":"official","family":"Chalmers","given":["Peter","James"]},{"use":"usual","given":["Jim"]}],
	"birthDate":"1974-12-25","_birthDate":{"extension":[{"url":"http://example.org/time","valueDateTime":"1974-12-25T14:35:45-05:00"}]},
	"_gender":{"extension":[{"url":"http://example.org/absent","valueCode":"unknown"}]},
	"multipleBirthInteger":2,
	"contained":[{"resourceType":"Organization","id":"o","name":"Org"}],
	"managingOrganization":{"reference":"#o"}}`

func document(t testing.TB, json string) *fhir.Document {
	t.Helper()
	d, err := fhir.Parse([]byte(json), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// evaluate evaluates text on the resource and returns what it yields.
func evaluate(t testing.TB, ctx *Context, text, json string) []any {
	t.Helper()
	e, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	nodes, err := e.Eval(ctx, Root(document(t, json)))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var out []any
	for _, n := range nodes {
		out = append(out, n.Value())
	}
	return out
}

// FHIR's own rules for FHIRPath: choices, extensions of primitives, contained
// resources, constants, types.
// https://hl7.org/fhir/R4/fhirpath.html
func TestFHIR(t *testing.T) {
	for _, tt := range []struct {
		claim, expr string
		want        bool
	}{
		{"a choice is named without its type", "multipleBirth = 2", true},
		{"a choice is not named with its type", "multipleBirthInteger.empty()", true},
		{"a primitive has its extensions", "birthDate.extension('http://example.org/time').value is dateTime", true},
		{"a primitive may have extensions only", "gender.exists() and gender.hasValue().not()", true},
		{"what has extensions only is equal to no value", "(gender = 'male') = false", true},
		{"getValue is of a type of FHIRPath", "active.getValue() is System.Boolean", true},
		{"a reference to a contained resource is resolved", "managingOrganization.resolve().name = 'Org'", true},
		{"a resource is of the types it is derived from", "$this is DomainResource and $this is Resource", true},
		{"an element defined in place is a BackboneElement", "contained.first() is Organization and name.first() is Element", true},
		{"an Age is a Quantity", "extension.value is Quantity and extension.value is Age", true},
		{"%resource is the resource", "name.all(%resource.id = '7')", true},
		{"a type can begin a path", "Patient.name.count() = DomainResource.name.count()", true},
		{"another type yields nothing", "Observation.name.empty()", true},
		{"a date is moved by months of the calendar", "birthDate + 2 months = @1975-02-25", true},
		{"a date is moved by the age in a resource", "birthDate + extension.value.first() = @1976-12-25", true},
		{"the 31st moved to a shorter month is its last day", "@2020-01-31 + 1 month = @2020-02-29", true},
		{"a year is moved by 24 months as by two years", "@2014 + 24 months = @2016", true},
		{"days reach over centuries", "@1700-01-01 + 150000 days > @2100", true},
		{"decimals keep their digits", "1.10.toString() = '1.10' and 0.1 + 0.2 = 0.3", true},
		{"a small decimal has a ceiling", "0.001.ceiling() = 1 and (-0.001).floor() = -1", true},
		{"quantities of one kind are compared by UCUM", "5 'mg/dL' < 1 'g/L' and 37 'Cel' > 98 '[degF]'", true},
		{"quantities of two kinds are not", "(5 'mg' < 1 'cm').empty()", true},
		{"a month of the calendar is equivalent to one of UCUM", "1 month ~ 1 'mo' and (1 month = 1 'mo').empty()", true},
		{"12 months are a year", "12 months = 1 year", true},
		{"regular expressions match anywhere", "name.family.matches('alm') and name.family.matchesFull('alm').not()", true},
		{"groups can be substituted", "'11/30/1972'.replaceMatches('(?<m>\\\\d+)/(?<d>\\\\d+)/(?<y>\\\\d+)', '${d}-${m}-$3') = '30-11-1972'", true},
		{"characters are counted, not bytes", "'naïve'.length() = 5 and 'naïve'.substring(3) = 've'", true},
		{"the narrative is checked", "'<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>'.htmlChecks() and '<div><script/></div>'.htmlChecks().not()", true},
		{"$total aggregates", "(1|2|3).aggregate($total + $this, 0) = 6", true},
		{"an integer that overflows is nothing", "(2147483647 + 1).empty() and (2147483647 * 2147483647).empty()", true},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			got := evaluate(t, nil, tt.expr, patientJSON)
			if len(got) != 1 || got[0] != tt.want {
				t.Errorf("%s yields %v, want %v", tt.expr, got, tt.want)
			}
		})
	}
}

// A code, its absence and what nobody knows are told apart.
func TestTerminologyIsAsked(t *testing.T) {
	ctx := &Context{MemberOf: func(set string, n Node) (in, known bool, err error) {
		return n.Value() == "official", set == "http://example.org/vs", nil
	}}
	for expr, want := range map[string]any{
		"name.first().use.memberOf('http://example.org/vs')":    true,
		"name.last().use.memberOf('http://example.org/vs')":     false,
		"name.last().use.memberOf('http://example.org/other')":  nil,
		"name.family.first().memberOf('http://example.org/vs')": false,
	} {
		got := evaluate(t, ctx, expr, patientJSON)
		if want == nil && len(got) == 0 {
			continue
		}
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s yields %v, want %v", expr, got, want)
		}
	}
}

// Every invariant of R4 can be parsed.
func TestInvariantsOfR4(t *testing.T) {
	for _, i := range r4.Invariants() {
		if _, err := Parse(i.Expression); err != nil {
			t.Errorf("%s: %v\n\t%s", i.Key, err, i.Expression)
		}
	}
}

// What is no expression is refused, with the place and without the text.
func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "name.", "name..given", "(name", "name)", "name.given[", "'open", "`open", "1 +", "* 2", "name.nosuch()", "name.where()",
		"name.first(1)", "name is Secret", "@2020-13-01", "@T25", "$secret", "%", "a b", "99999999999", "name !", "'\\q'", "/* open",
		"'a'.matches('(')", "'a'.matches('" + strings.Repeat("a", maxRegex) + "a')", "1." + strings.Repeat("1", 80),
		strings.Repeat("(", 200) + "1" + strings.Repeat(")", 200), strings.Repeat("-", 300) + "1", "1" + strings.Repeat("+1", 20_000),
		strings.Repeat("a.where(", 200),
	} {
		_, err := Parse(text)
		var e *fhir.Error
		if !errors.As(err, &e) {
			t.Errorf("%.40s: got %v, want an error for the client", text, err)
			continue
		}
		if strings.Contains(err.Error(), "Secret") || strings.Contains(err.Error(), "secret") {
			t.Errorf("the error repeats the expression: %v", err)
		}
	}
}

// Group 10 of what is tried to break the server: no expression takes more
// steps or time than it is given.
func TestHostileExpressionsEnd(t *testing.T) {
	double := "'aaaaaaaaaaaaaaaa'" + strings.Repeat(".select($this & $this)", 60)
	for _, text := range []string{
		double,
		"'a'.repeat($this & 'a')",
		"(1|2|3|4|5|6|7|8).select(descendants().select(%resource.descendants().select(%resource.descendants().select(%resource.descendants()))))",
		"descendants().select(%resource.descendants().where(%resource.descendants() = %resource.descendants()))",
		"name.select(%resource.descendants()).combine(%resource.descendants()).repeat(%resource.descendants().combine(descendants()).select(now().toString() & $index.toString() & $this.type().name))",
		"'" + strings.Repeat("a", 5000) + "'.replace('', '" + strings.Repeat("b", 5000) + "')",
		"2.power(100000000).power(1000000000)",
		"9.9.power(200).power(200)",
		"'" + strings.Repeat("a", 9000) + "'.matches('(a|aa)+$b')",
		"(1|2|3|4|5|6|7|8).select('" + strings.Repeat("a", 9000) + "'.replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaaa').matches('(.{400}x){2}$'))",
	} {
		start := time.Now()
		e, err := Parse(text)
		if err == nil {
			_, err = e.Eval(&Context{Steps: 200_000}, Root(document(t, patientJSON)))
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("%.60s took %v (%v)", text, took, err)
		}
		var e2 *fhir.Error
		if err != nil && !errors.As(err, &e2) {
			t.Errorf("%.60s: got %v, want an error for the client", text, err)
		}
	}
	e := MustParse(double)
	if _, err := e.Eval(nil, Root(document(t, patientJSON))); !fhir.IsCode(err, fhir.TooCostly) {
		t.Errorf("doubling a string sixty times: got %v, want too-costly", err)
	}
}

// An error of the evaluation says where, and holds no value.
func TestErrorsHoldNoValues(t *testing.T) {
	e := MustParse("Patient.name.given.single()")
	_, err := e.Eval(nil, Root(document(t, patientJSON)))
	if err == nil || !strings.Contains(err.Error(), "character 20") || strings.Contains(err.Error(), "Peter") {
		t.Errorf("got %v", err)
	}
}

// One expression serves many goroutines, each with a document of its own.
func TestExprIsShared(t *testing.T) {
	e := MustParse("name.where(use = 'official').given.first() | multipleBirth.toString() | contained.name")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				out, err := e.Eval(nil, Root(document(t, patientJSON)))
				if err != nil || len(out) != 3 || out[0].Value() != "Peter" {
					t.Errorf("got %v, %v", out, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// FuzzEval looks for expressions and resources that make the engine panic or
// run without end.
func FuzzEval(f *testing.F) {
	for _, i := range r4.Invariants() {
		f.Add(i.Expression, patientJSON)
	}
	f.Add("name.sort(-family).first() ~ name[1]", patientJSON)
	f.Add("@2020-02-29T10:00:00.5+02:00 + 1.5 'mo' < now()", `{"resourceType":"Basic"}`)
	f.Add("1.5 'mg' / 3 'dL' = 0.5 'mg/dL'", `{"resourceType":"Basic"}`)
	f.Add("descendants().type().name.distinct()", patientJSON)
	f.Fuzz(func(t *testing.T, text, json string) {
		e, err := Parse(text)
		var wrong *fhir.Error
		if err != nil {
			if !errors.As(err, &wrong) {
				t.Fatalf("got %v, want an error for the client", err)
			}
			return
		}
		d, err := fhir.Parse([]byte(json), fhir.Limits{})
		if err != nil {
			return
		}
		start := time.Now()
		if _, err = e.Eval(&Context{Steps: 20_000}, Root(d)); err != nil && !errors.As(err, &wrong) {
			t.Fatalf("got %v, want an error for the client", err)
		}
		if took := time.Since(start); took > time.Minute {
			t.Fatalf("took %v", took)
		}
	})
}

func BenchmarkEval(b *testing.B) {
	for _, text := range []string{
		"name.family",
		"name.where(use = 'official').given",
		"hasValue() or (children().count() > id.count())",
		"contained.where((('#'+id in (%resource.descendants().reference | %resource.descendants().as(canonical) | %resource.descendants().as(uri) | %resource.descendants().as(url))) or descendants().where(reference = '#').exists() or descendants().where(as(canonical) = '#').exists() or descendants().where(as(canonical) = '#').exists()).not()).trace('unmatched', id).empty()",
		"name.exists() or telecom.exists() or address.exists() or organization.exists()",
	} {
		b.Run(text[:min(len(text), 30)], func(b *testing.B) {
			e := MustParse(text)
			root := Root(document(b, patientJSON))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Holds(nil, root); err != nil {
					b.Skip(err)
				}
			}
		})
	}
}
