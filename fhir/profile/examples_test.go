package profile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/profile"
)

// faulty lists the examples that break what they are examples of.
var faulty = map[string]string{
	"Basic-referral.json":                               "modifier extensions that nothing defines",
	"Bundle-b0a5e4277-83c4-4adb-87e2-e3efe3369b6f.json": "media types with parameters that would have to be quoted",
	"Bundle-lri-example.json":                           "each fullUrl ends with another id than that of the resource",
	"Bundle-3a0707d3-549e-4467-b8b8-5a2ab3800efe.json":  "a fullUrl ends with another id",
	"Bundle-10bb101f-a121-4264-a920-67be9cb82c74.json":  "a fullUrl ends with another id",
	"Bundle-66c8856b-ba11-4876-8aa8-467aad8c11a2.json":  "a fullUrl ends with another id",
	"Bundle-docref-example-2.json":                      "a fullUrl ends with another id",
	"Bundle-uscore-mo3.json":                            "a relative fullUrl",
	"3.1.1 Observation-satO2-fiO2.json":                 "L/min, which the vital signs profile of R4 does not allow",
}

// The examples of US Core are valid by the profiles that they claim.
func TestExamplesOfUSCore(t *testing.T) {
	for version, file := range map[string]string{"3.1.1": fhirtest.USCore3, "6.1.0": fhirtest.USCore6} {
		t.Run(version, func(t *testing.T) {
			v := profile.New(guide(t, file), nil)
			for name, body := range examples(t, file, "package/example/") {
				issues := errorsIn(validate1(t, v, parse(t, body), profile.Options{Claimed: true}))
				judge(t, name, issues, faulty[name]+faulty[version+" "+name])
			}
		})
	}
}

// The examples of the specification are valid by the base definitions.
func TestExamplesOfTheSpecification(t *testing.T) {
	v := profile.New(canonical.Core(), nil)
	for name, body := range examples(t, fhirtest.Examples, "package/") {
		judge(t, name, errorsIn(validate1(t, v, parse(t, body), profile.Options{})), faulty[name])
	}
}

// Real records are valid by what R4 says of them, and those that show what US
// Core asks for by that, but for faults that are theirs.
func TestRealRecords(t *testing.T) {
	known := map[string]string{
		"the code is not in the value set http://hl7.org/fhir/us/core/ValueSet/omb-race-category":                     "a race that is none of the five",
		"the extension http://hl7.org/fhir/StructureDefinition/capabilitystatement-expectation must not be used here": "an expectation in a SearchParameter",
		"the code is not in the value set http://hl7.org/fhir/ValueSet/hl7-work-group":                                "a work group of the same",
		"the code is not in the value set http://hl7.org/fhir/ValueSet/ucum-vitals-common":                            "a unit that vital signs do not have",
		"the code is not in the value set http://hl7.org/fhir/us/core/ValueSet/us-core-observation-smokingstatus-max": "a smoking status of a later version",
		"CareTeam.participant.member must not refer to a RelatedPerson":                                               "a member of a later version",
		"CareTeam.participant.member must not refer to a PractitionerRole":                                            "a member of a later version",
		"Patient.gender must have a value":                                                                            "a patient without gender",
	}
	v := profile.New(guide(t, fhirtest.USCore3), nil)
	for _, folder := range []string{"synthea", "inferno"} {
		files, err := filepath.Glob(filepath.Join(fhirtest.Path(t, folder), "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatal("there are no records", err)
		}
		for _, file := range files {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range parse(t, body).Tree.GetArray("entry") {
				d := parse(t, e.Get("resource").MarshalTo(nil))
				for _, i := range validate1(t, v, d, profile.Options{Errors: true, Claimed: folder == "inferno"}) {
					if known[i.Diagnostics] == "" {
						t.Errorf("%s: %s: %s at %s", filepath.Base(file), d.Type, i.Diagnostics, i.Expression)
					}
				}
			}
		}
	}
}

// judge reports errors in an example for which no reason is known, and reasons
// that no longer give errors.
func judge(t *testing.T, name string, errs []fhir.Issue, reason string) {
	t.Helper()
	if reason != "" {
		if len(errs) == 0 {
			t.Errorf("%s: no error, although there is %s", name, reason)
		}
		return
	}
	for _, i := range errs {
		t.Errorf("%s: %s at %s", name, i.Diagnostics, i.Expression)
	}
}
