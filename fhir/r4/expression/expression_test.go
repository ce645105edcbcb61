package expression_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/r4/expression"
)

func TestTheParametersOfUSCoreCompile(t *testing.T) {
	for _, version := range []string{"3.1.1", "6.1.0"} {
		pack, err := canonical.ReadPackage(fhirtest.Open(t, "us-core/hl7.fhir.us.core-"+version+".tgz"))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, d := range pack.Definitions {
			if d.Type != "SearchParameter" {
				continue
			}
			var sp expression.Parameter
			if err := json.Unmarshal(d.JSON(), &sp, json.MatchCaseInsensitiveNames(true)); err != nil {
				t.Fatal(err)
			}
			n++
			for _, on := range sp.Bases() {
				if _, err := new(expression.Compiler).Compile(sp, on); err != nil {
					t.Errorf("%s %s: %s %v", version, d.ID, sp.Expression, err)
				}
			}
		}
		if n < 70 {
			t.Errorf("%s has %d search parameters", version, n)
		}
	}
}

func TestAChoiceInThePathHasABranchForEachType(t *testing.T) {
	sp := expression.Parameter{Code: "race", Type: "token", Base: []string{"Patient"},
		Expression: "Patient.extension.where(url = 'http://x.org/race').extension.value.code"}
	out, err := new(expression.Compiler).Compile(sp, "Patient")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, b := range out.Branches {
		names = append(names, b.Steps[len(b.Steps)-1].Name)
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "valueCoding") || strings.Contains(got, "valuePeriod") {
		t.Errorf("it reads below %s", got)
	}
}

func TestWhatIsNotCompiledIsTold(t *testing.T) {
	for expr, beyond := range map[string]bool{
		"Patient.name.where(use='official' and family.exists())":  true,
		"Patient.name.where(use='official')":                      true,
		"Patient.name.first().family":                             true,
		"Patient.name[1].family":                                  true,
		"Patient.name.family | Patient.name.select(given)":        true,
		"iif(Patient.active, Patient.name, {})":                   true,
		"Patient.telecom.where(system='phone').where(use='home')": true,
		"Patient": true,
		"Patient.contained.ofType(Practitioner).name.family": true,
		"Patient.contained.as(Practitioner)":                 true,
		"Patient.contained.name":                             true,
		"Patient.nome":                                       false,
		"Patient.name.family.x":                              false,
		"Patient.name.as(Coding)":                            false,
		"Observation.code":                                   false,
		"":                                                   true,
		"Patient." + strings.Repeat("contact.", 20) + "name": true,
	} {
		sp := expression.Parameter{Code: "x", Type: "string", Base: []string{"Patient"}, Expression: expr}
		_, err := new(expression.Compiler).Compile(sp, "Patient")
		if err == nil || errors.Is(err, expression.ErrBeyond) != beyond {
			t.Errorf("%s: %v, beyond is to be %t", expr, err, beyond)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{"Patient.name", "(Patient.deceased as dateTime)", "Patient.extension('x').value.ofType(Coding)", "Patient.deceased.exists() and Patient.deceased != false"} {
		f.Add(s, "token")
	}
	f.Fuzz(func(_ *testing.T, expr, kind string) {
		sp := expression.Parameter{Code: "x", Type: kind, Base: []string{"Patient"}, Expression: expr}
		c := expression.Compiler{Find: func(string) (expression.Parameter, bool) { return sp, true }}
		_, _ = c.Compile(sp, fhir.Type("Patient"))
	})
}
