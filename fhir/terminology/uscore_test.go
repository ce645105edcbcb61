package terminology_test

import (
	"errors"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// usCore returns the definitions of a version over those of R4, or skips the
// test.
func usCore(t *testing.T, version string) *canonical.Set {
	t.Helper()
	p, err := canonical.ReadPackage(fhirtest.Open(t, "us-core/hl7.fhir.us.core-"+version+".tgz"))
	if err != nil {
		t.Fatal(err)
	}
	return canonical.NewSet(canonical.Core(), p.Definitions)
}

// Each value set of US Core can be listed, or lacks a licensed code system.
func TestValueSetsOfUSCore(t *testing.T) {
	for version, want := range map[string]int{"3.1.1": 19, "6.1.0": 15} {
		t.Run(version, func(t *testing.T) {
			set := usCore(t, version)
			s := terminology.New(set)
			listed, why := 0, map[string][]string{}
			for d := range set.All("ValueSet") {
				if _, ok := canonical.Core().Find("ValueSet", d.URL); ok {
					continue
				}
				_, err := s.Expand(t.Context(), all(d.URL))
				var e *fhir.Error
				switch {
				case err == nil:
					listed++
				case errors.As(err, &e) && (e.Code() == fhir.BusinessRule || e.Code() == fhir.TooCostly):
					why[e.Error()] = append(why[e.Error()], d.ID)
				default:
					t.Errorf("%s: %v", d.URL, err)
				}
			}
			if t.Logf("%d are listed; the others: %v", listed, why); listed < want {
				t.Errorf("%d are listed, want %d", listed, want)
			}
		})
	}
}

func TestCodesOfUSCore(t *testing.T) {
	s := terminology.New(usCore(t, "3.1.1"))
	const core, cdc = "http://hl7.org/fhir/us/core/ValueSet/", "urn:oid:2.16.840.1.113883.6.238"
	for _, tt := range []struct {
		valueSet, system, code string
		want                   terminology.Answer
	}{
		{"omb-race-category", cdc, "2106-3", terminology.In},
		{"omb-race-category", cdc, "1586-7", terminology.Out},
		{"detailed-race", cdc, "1586-7", terminology.In},
		{"detailed-race", cdc, "2106-3", terminology.Out},
		{"detailed-ethnicity", cdc, "2148-5", terminology.In},
		{"birthsex", "http://terminology.hl7.org/CodeSystem/v3-AdministrativeGender", "F", terminology.In},
		{"birthsex", "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "UNK", terminology.In},
		{"birthsex", "http://terminology.hl7.org/CodeSystem/v3-AdministrativeGender", "X", terminology.Out},
		{"simple-language", "urn:ietf:bcp:47", "en", terminology.In},
		{"simple-language", "urn:ietf:bcp:47", "es-MX", terminology.In},
		{"simple-language", "urn:ietf:bcp:47", "zh-Hant", terminology.Out},
		{"simple-language", "urn:ietf:bcp:47", "x-private", terminology.Out},
		{"us-core-condition-code", "http://snomed.info/sct", "38341003", terminology.Unknown},
		{"us-core-condition-code", "http://example.org", "38341003", terminology.Out},
	} {
		if got, err := s.InValueSet(core+tt.valueSet, tt.system, tt.code); err != nil || got != tt.want {
			t.Errorf("%s has %s|%s: got %v, %v, want %v", tt.valueSet, tt.system, tt.code, got, err, tt.want)
		}
	}
}
