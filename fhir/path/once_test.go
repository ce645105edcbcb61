package path

import (
	"errors"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
)

// What is the same for each item is evaluated once, so that a rule that
// compares each element with the resource takes no more than twice the time for
// twice the elements.
func TestWhatDoesNotDependOnTheItemIsEvaluatedOnce(t *testing.T) {
	names := strings.TrimSuffix(strings.Repeat(`{"family":"x","given":["a"]},`, 2000), ",")
	d := document(t, `{"resourceType":"Patient","name":[`+names+`]}`)
	for _, text := range []string{
		"name.all(family.startsWith(%resource.name.first().family.replaceMatches('y', '') & ''))",
		"name.where(family in %resource.descendants().ofType(string).distinct()).count() = 2000",
		"name.all(given.all($this in %rootResource.name.given.distinct()))",
	} {
		holds, err := MustParse(text).Holds(&Context{Steps: 200_000}, Root(d))
		if err != nil || !holds {
			t.Errorf("%s: %t, %v", text, holds, err)
		}
	}
}

// What depends on the item, or on what was found before, is not.
func TestWhatDependsOnTheItemIsEvaluatedEachTime(t *testing.T) {
	for _, tt := range []struct {
		expr string
		want any
	}{
		{"name.where(%resource.name.where(use = 'usual').given.first() in given).use", "usual"},
		{"name.select(iif($index = %resource.name.count() - 1, given, {})).first()", "Jim"},
		{"(1|2|3).aggregate(iif(%resource.active, $total, 0) + $this, %resource.name.count()) ", int64(8)},
		{"name.aggregate($total + given.count() + %resource.name.count(), 0)", int64(7)},
		{"name.select(given.where($this = %resource.name.given[2])).first()", "Jim"},
		{"%resource.name.select(given.count() + %resource.name.count()).last()", int64(3)},
	} {
		if got := evaluate(t, nil, tt.expr, patientJSON); len(got) != 1 || got[0] != tt.want {
			t.Errorf("%s yields %v, want %v", tt.expr, got, tt.want)
		}
	}
}

// Evaluations that share a Work end together when it does, or when its context
// ends.
func TestEvaluationsShareTheirWork(t *testing.T) {
	n := Root(document(t, patientJSON))
	e := MustParse("descendants().count() > 0")
	w := NewWork(t.Context(), 1000)
	var err error
	done := 0
	for ; err == nil && done < 100; done++ {
		_, err = e.Holds(&Context{Work: w}, n)
	}
	if !fhir.IsCode(err, fhir.TooCostly) || done < 2 {
		t.Errorf("after %d evaluations: got %v, want too-costly", done, err)
	}
}

// Regular expressions that unfold to large programs, alone or together, are
// refused before they take memory.
func TestRegularExpressionsAreBounded(t *testing.T) {
	large := "'a'.matches('" + strings.Repeat("a{1000}", 200) + "')"
	many := strings.TrimSuffix(strings.Repeat("'a'.matches('a{900}') and ", 20), " and ")
	for _, text := range []string{large, many} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%.40s: is not refused", text)
		}
	}
	_, err := MustParse("'a'.matches('a{1000}a{1000}a{1000}' & 'a{1000}a{1000}a{1000}')").Eval(nil)
	var known *fhir.Error
	if !errors.As(err, &known) {
		t.Errorf("one that is computed: got %v", err)
	}
}
