package deid

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/terminology"
	"github.com/cordon-fhir/cordon/fhir/ucum"
)

// A code is shown if it is of a code system that everybody has, and can be one of it. What
// somebody else made up may be the number of a patient.

// systems are the forms of codes of systems that R4 does not define.
// https://hl7.org/fhir/R4/terminologies-systems.html
var systems = map[string]func(string) bool{
	"http://snomed.info/sct":                                  func(code string) bool { return snomed.MatchString(code) && verhoeff(code) },
	"http://loinc.org":                                        loinc,
	"http://unitsofmeasure.org":                               func(code string) bool { return unit(code) == code },
	"http://www.nlm.nih.gov/research/umls/rxnorm":             regexp.MustCompile(`^[0-9]{1,7}$`).MatchString,
	"http://hl7.org/fhir/sid/cvx":                             regexp.MustCompile(`^[0-9]{1,3}$`).MatchString,
	"http://hl7.org/fhir/sid/icd-10":                          icd10,
	"http://hl7.org/fhir/sid/icd-10-cm":                       icd10,
	"http://www.cms.gov/Medicare/Coding/ICD10":                regexp.MustCompile(`^[0-9A-HJ-NP-Z]{7}$`).MatchString,
	"http://hl7.org/fhir/sid/icd-9-cm":                        regexp.MustCompile(`^([0-9]{3}|V[0-9]{2}|E[0-9]{3})(\.[0-9]{1,2})?$`).MatchString,
	"http://www.ama-assn.org/go/cpt":                          regexp.MustCompile(`^[0-9]{4}[0-9FTUM]$`).MatchString,
	"http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets": regexp.MustCompile(`^[A-V][0-9]{4}$`).MatchString,
	"http://www.whocc.no/atc":                                 regexp.MustCompile(`^[A-V]([0-9]{2}([A-Z]([A-Z]([0-9]{2})?)?)?)?$`).MatchString,
	"http://nucc.org/provider-taxonomy":                       regexp.MustCompile(`^[0-9]{3}[0-9A-Z]{6}X$`).MatchString,
	"http://dicom.nema.org/resources/ontology/DCM":            regexp.MustCompile(`^([A-Z]{2,6}|1[0-9]{5})$`).MatchString,
	"urn:ietf:bcp:47":                                         regexp.MustCompile(`^[a-z]{2,3}(-[A-Z]{2})?$`).MatchString,
}

var (
	snomed = regexp.MustCompile(`^[1-9][0-9]{2,14}[01]0[0-9]$`)
	icd10  = regexp.MustCompile(`^[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?$`).MatchString
	loincs = regexp.MustCompile(`^([0-9]{1,7}|L[AP][0-9]{1,7})-[0-9]$`)
)

// coding returns what is shown of a Coding.
// https://hl7.org/fhir/R4/datatypes.html#Coding
func coding(value []byte) []byte {
	var system, code string
	for name, value := range fhir.Members(value) {
		switch string(name) {
		case "system":
			system = text(value)
		case "code":
			code = text(value)
		}
	}
	if !common(system, code) {
		return nil
	}
	return fmt.Appendf(nil, `{"system":%q,"code":%q}`, system, code)
}

// common reports whether the code is one of a code system that everybody has.
func common(system, code string) bool {
	if can := systems[system]; can != nil {
		return can(code)
	}
	if strings.Contains(system, "|") {
		return false
	}
	return terminology.New(canonical.Core()).Judge(terminology.Coding{System: system, Code: code}) == terminology.Right
}

// loinc reports whether the code has the check digit of LOINC, by Luhn. Those of answers
// and parts have another.
// https://loinc.org/kb/users-guide/
func loinc(code string) bool {
	if !loincs.MatchString(code) {
		return false
	}
	digits, check, _ := strings.Cut(code, "-")
	if digits[0] == 'L' {
		return true
	}
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			d *= 2
		}
		sum += d/10 + d%10
	}
	return (10-sum%10)%10 == int(check[0]-'0')
}

// verhoeff reports whether the digits end in their check digit.
// https://confluence.ihtsdotools.org/display/DOCRELFMT/6.4+Check-digit
func verhoeff(digits string) bool {
	c := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		for range i % 8 {
			d = permuted[d]
		}
		c = dihedral(c, d)
	}
	return c == 0
}

var permuted = [10]int{1, 5, 7, 6, 2, 8, 3, 0, 9, 4}

// dihedral multiplies in the group of the symmetries of a pentagon.
func dihedral(a, b int) int {
	switch {
	case a < 5 && b < 5:
		return (a + b) % 5
	case a < 5:
		return 5 + (a+b)%5
	case b < 5:
		return 5 + (a-b+5)%5
	}
	return (a - b + 5) % 5
}

// unit returns a unit without its annotations, which can say anything, "" if it is none.
func unit(code string) string {
	if strings.Contains(code, "{") {
		code = annotation.ReplaceAllString(code, "")
		if code == "" || code[0] == '/' {
			code = "1" + code
		}
	}
	if _, err := ucum.Parse(code); err != nil || long.MatchString(code) {
		return ""
	}
	return code
}

var (
	annotation = regexp.MustCompile(`\{[^{}]*\}`)
	long       = regexp.MustCompile(`[0-9]{4}`) // a factor that is none
)

// quantity returns what is shown of a Quantity. An age over 89 is one of 90.
// https://hl7.org/fhir/R4/datatypes.html#Quantity
func (w *walk) quantity(t *r4.Type, value []byte) []byte {
	var system, code string
	var list [][]byte
	var number *big.Rat
	for name, value := range fhir.Members(value) {
		switch string(name) {
		case "system":
			system = text(value)
		case "code":
			code = unit(text(value))
		case "value", "comparator":
			e := t.Element(string(name))
			kept := w.primitive(e, value)
			if kept == nil {
				continue
			}
			if e.Name == "value" {
				number, _ = new(big.Rat).SetString(string(kept))
			}
			list = append(list, fmt.Appendf(nil, "%q:%s", e.Name, kept))
		}
	}
	if system != ucum.System || code == "" {
		return join(list...)
	}
	if number != nil && tooOld(number, code) {
		list, code = [][]byte{[]byte(`"value":90`)}, "a"
	}
	return join(append(list, fmt.Appendf(nil, `"system":%q,"code":%q`, ucum.System, code))...)
}

// perYear is how many of a unit are a year.
var perYear = map[string]float64{"a": 1, "mo": 12, "wk": 52.1775, "d": 365.25}

// tooOld reports whether so much, as an age, is over 89. What is counted in weeks or days
// and is so long can be nothing else.
func tooOld(n *big.Rat, code string) bool {
	years, ok := perYear[code]
	v, _ := n.Float64()
	return ok && v >= 90*years
}
