package profile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/profile"
)

const here = "http://example.org/StructureDefinition/"

// derived returns a profile of the type with the elements of its differential.
func derived(name, typ, elements string) string {
	return fmt.Sprintf(`{"resourceType":"StructureDefinition","url":"%s%s","version":"1","name":"X","status":"active","kind":"%s","abstract":false,
		"type":"%s","baseDefinition":"http://hl7.org/fhir/StructureDefinition/%s","derivation":"constraint","differential":{"element":[%s]}}`,
		here, name, kindOf(typ), typ, typ, elements)
}

func kindOf(typ string) string {
	if fhir.Type(typ).Known() {
		return "resource"
	}
	return "complex-type"
}

func setOf(t testing.TB, definitions ...string) *canonical.Set {
	t.Helper()
	var list []*canonical.Definition
	for _, body := range definitions {
		d, err := canonical.New([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
	}
	return canonical.NewSet(canonical.Core(), list)
}

// A rule is a profile, a resource that meets it and some that do not.
type rule struct {
	claim     string
	typ       string
	elements  string // of the differential
	valid     []string
	faults    map[string]string // resource → place
	beside    []string          // other definitions
	ofWarning bool
}

const bySystem = `{"id":"Patient.identifier","path":"Patient.identifier","slicing":{"discriminator":[{"type":"value","path":"system"}],"rules":"%s","ordered":%s}},
	{"id":"Patient.identifier:a","path":"Patient.identifier","sliceName":"a","min":1,"max":"1"},
	{"id":"Patient.identifier:a.system","path":"Patient.identifier.system","min":1,"fixedUri":"urn:a"},
	{"id":"Patient.identifier:b","path":"Patient.identifier","sliceName":"b","max":"1"},
	{"id":"Patient.identifier:b.system","path":"Patient.identifier.system","min":1,"fixedUri":"urn:b"},
	{"id":"Patient.identifier:b.value","path":"Patient.identifier.value","min":1}`

func slicedBy(rules, ordered string) string { return fmt.Sprintf(bySystem, rules, ordered) }

const (
	a = `{"system":"urn:a","value":"1"}`
	b = `{"system":"urn:b","value":"1"}`
	c = `{"system":"urn:c","value":"1"}`
)

func identified(list ...string) string {
	return `{"resourceType":"Patient","identifier":[` + strings.Join(list, ",") + `]}`
}

func component(more string) string {
	return `{"resourceType":"Observation","status":"final","code":{"text":"x"},` + more + `}`
}

var rules = []rule{
	{
		claim: "an element that must be there", typ: "Patient", elements: `{"path":"Patient.birthDate","min":1}`,
		valid:  []string{`{"resourceType":"Patient","birthDate":"2000"}`, `{"resourceType":"Patient","_birthDate":{"extension":[{"url":"http://x.org","valueCode":"a"}]}}`},
		faults: map[string]string{`{"resourceType":"Patient","active":true}`: "Patient.birthDate"},
	},
	{
		claim: "an element that must not be there", typ: "Patient", elements: `{"path":"Patient.photo","max":"0"}`,
		valid:  []string{`{"resourceType":"Patient","active":true}`},
		faults: map[string]string{`{"resourceType":"Patient","photo":[{"title":"x"}]}`: "Patient.photo"},
	},
	{
		claim: "a number of values", typ: "Patient", elements: `{"path":"Patient.name","min":2,"max":"3"}`,
		valid: []string{`{"resourceType":"Patient","name":[{"text":"x"},{"text":"y"}]}`},
		faults: map[string]string{
			`{"resourceType":"Patient","name":[{"text":"x"}]}`:                                         "Patient.name",
			`{"resourceType":"Patient","name":[{"text":"x"},{"text":"y"},{"text":"z"},{"text":"zz"}]}`: "Patient.name",
		},
	},
	{
		claim: "an element of a datatype, in each value", typ: "Patient", elements: `{"path":"Patient.name.family","min":1}`,
		valid:  []string{`{"resourceType":"Patient","active":true}`, `{"resourceType":"Patient","name":[{"family":"x"}]}`},
		faults: map[string]string{`{"resourceType":"Patient","name":[{"family":"x"},{"text":"y"}]}`: "Patient.name[1].family"},
	},
	{
		claim: "fewer types of a choice", typ: "Observation", elements: `{"path":"Observation.value[x]","type":[{"code":"Quantity"},{"code":"string"}]}`,
		valid:  []string{component(`"valueString":"x"`), component(`"valueQuantity":{"value":1}`)},
		faults: map[string]string{component(`"valueBoolean":true`): "Observation.value"},
	},
	{
		claim: "one type of a choice, named in its path", typ: "Observation", elements: `{"path":"Observation.valueQuantity","min":1},{"path":"Observation.valueQuantity.unit","min":1}`,
		valid: []string{component(`"valueQuantity":{"unit":"x"}`)},
		faults: map[string]string{
			component(`"valueQuantity":{"value":1}`): "Observation.value.unit",
			component(`"valueBoolean":true`):         "Observation.value",
		},
	},
	{
		claim: "a fixed value, which is all there may be", typ: "Patient", elements: `{"path":"Patient.maritalStatus","fixedCodeableConcept":{"coding":[{"system":"urn:s","code":"M"}]}}`,
		valid: []string{`{"resourceType":"Patient","maritalStatus":{"coding":[{"code":"M","system":"urn:s"}]}}`, `{"resourceType":"Patient","active":true}`},
		faults: map[string]string{
			`{"resourceType":"Patient","maritalStatus":{"coding":[{"system":"urn:s","code":"S"}]}}`:            "Patient.maritalStatus",
			`{"resourceType":"Patient","maritalStatus":{"coding":[{"system":"urn:s","code":"M"}],"text":"x"}}`: "Patient.maritalStatus",
		},
	},
	{
		claim: "a pattern, which is the least there must be", typ: "Patient", elements: `{"path":"Patient.maritalStatus","patternCodeableConcept":{"coding":[{"system":"urn:s","code":"M"}]}}`,
		valid:  []string{`{"resourceType":"Patient","maritalStatus":{"text":"x","coding":[{"code":"Z"},{"display":"d","code":"M","system":"urn:s"}]}}`},
		faults: map[string]string{`{"resourceType":"Patient","maritalStatus":{"coding":[{"system":"urn:t","code":"M"}]}}`: "Patient.maritalStatus"},
	},
	{
		claim: "bounds of values", typ: "Observation", elements: `{"path":"Observation.valueInteger","minValueInteger":3,"maxValueInteger":5},{"path":"Observation.issued","minValueInstant":"2020-01-01T00:00:00Z"}`,
		valid: []string{component(`"valueInteger":3,"issued":"2021-01-01T00:00:00Z"`)},
		faults: map[string]string{
			component(`"valueInteger":2`):                "Observation.value",
			component(`"valueInteger":6`):                "Observation.value",
			component(`"issued":"2019-12-31T00:00:00Z"`): "Observation.issued",
		},
	},
	{
		claim: "a bound in another unit", typ: "Observation", elements: `{"path":"Observation.valueQuantity","maxValueQuantity":{"value":2,"system":"http://unitsofmeasure.org","code":"kg"}}`,
		valid:  []string{component(`"valueQuantity":{"value":2000,"system":"http://unitsofmeasure.org","code":"g"}`)},
		faults: map[string]string{component(`"valueQuantity":{"value":2001,"system":"http://unitsofmeasure.org","code":"g"}`): "Observation.value"},
	},
	{
		claim: "a length, in characters", typ: "Patient", elements: `{"path":"Patient.name.family","maxLength":3}`,
		valid:  []string{`{"resourceType":"Patient","name":[{"family":"äöü"}]}`},
		faults: map[string]string{`{"resourceType":"Patient","name":[{"family":"abcd"}]}`: "Patient.name[0].family"},
	},
	{
		claim: "a required binding", typ: "Patient", elements: `{"path":"Patient.maritalStatus","binding":{"strength":"required","valueSet":"http://hl7.org/fhir/ValueSet/administrative-gender"}}`,
		valid:  []string{`{"resourceType":"Patient","maritalStatus":{"coding":[{"system":"http://hl7.org/fhir/administrative-gender","code":"male"}]}}`},
		faults: map[string]string{`{"resourceType":"Patient","maritalStatus":{"coding":[{"system":"http://hl7.org/fhir/administrative-gender","code":"zz"}]}}`: "Patient.maritalStatus"},
	},
	{
		claim: "an extensible binding, with a warning", typ: "Patient", elements: `{"path":"Patient.communication.language","binding":{"strength":"extensible","valueSet":"http://hl7.org/fhir/ValueSet/administrative-gender"}}`,
		faults:    map[string]string{`{"resourceType":"Patient","communication":[{"language":{"coding":[{"system":"urn:x","code":"zz"}]}}]}`: "Patient.communication[0].language"},
		ofWarning: true,
	},
	{
		claim: "an invariant", typ: "Patient", elements: `{"path":"Patient","constraint":[{"key":"x-1","severity":"error","expression":"name.exists() or identifier.exists()"}]},{"path":"Patient.contact","constraint":[{"key":"x-2","severity":"error","expression":"%resource.active and gender.exists()"}]}`,
		valid: []string{`{"resourceType":"Patient","name":[{"text":"x"}],"active":true,"contact":[{"gender":"male","name":{"text":"x"}}]}`},
		faults: map[string]string{
			`{"resourceType":"Patient","active":true}`:                                           "Patient",
			`{"resourceType":"Patient","name":[{"text":"x"}],"contact":[{"name":{"text":"x"}}]}`: "Patient.contact[0]",
		},
	},
	{
		claim: "an invariant that is only a warning", typ: "Patient", elements: `{"path":"Patient","constraint":[{"key":"x-1","severity":"warning","expression":"name.exists()"}]}`,
		faults: map[string]string{`{"resourceType":"Patient","active":true}`: "Patient"}, ofWarning: true,
	},
	{
		claim: "an invariant that is no FHIRPath, with a warning", typ: "Patient", elements: `{"path":"Patient.name","constraint":[{"key":"x-1","severity":"error","expression":"((("}]}`,
		faults: map[string]string{`{"resourceType":"Patient","name":[{"text":"x"}]}`: "Patient.name[0]"}, ofWarning: true,
	},
	{
		claim: "open slices", typ: "Patient", elements: slicedBy("open", "false"),
		valid: []string{identified(a), identified(c, b, a)},
		faults: map[string]string{
			identified(b):                       "Patient.identifier",
			identified(a, a):                    "Patient.identifier",
			identified(a, `{"system":"urn:b"}`): "Patient.identifier[1].value",
		},
	},
	{
		claim: "closed slices", typ: "Patient", elements: slicedBy("closed", "false"), valid: []string{identified(b, a)},
		faults: map[string]string{identified(a, c): "Patient.identifier[1]"},
	},
	{
		claim: "slices that others come after", typ: "Patient", elements: slicedBy("openAtEnd", "false"), valid: []string{identified(b, a, c)},
		faults: map[string]string{identified(a, c, b): "Patient.identifier[2]"},
	},
	{
		claim: "slices in order", typ: "Patient", elements: slicedBy("open", "true"), valid: []string{identified(a, b), identified(a, c, b)},
		faults: map[string]string{identified(b, a): "Patient.identifier[1]"},
	},
	{
		claim: "slices by a pattern of the value itself", typ: "Observation",
		elements: `{"path":"Observation.category","slicing":{"discriminator":[{"type":"pattern","path":"$this"}],"rules":"open"}},
			{"path":"Observation.category","sliceName":"lab","min":1,"max":"1","patternCodeableConcept":{"coding":[{"system":"urn:s","code":"lab"}]}}`,
		valid:  []string{component(`"category":[{"text":"y"},{"coding":[{"system":"urn:s","code":"lab","display":"x"}]}]`)},
		faults: map[string]string{component(`"category":[{"coding":[{"system":"urn:s","code":"lap"}]}]`): "Observation.category"},
	},
	{
		claim: "slices by a nested path, where a pattern above it tells", typ: "Observation",
		elements: `{"path":"Observation.component","slicing":{"discriminator":[{"type":"value","path":"code.coding.code"}],"rules":"open"}},
			{"path":"Observation.component","sliceName":"sys","min":1},
			{"path":"Observation.component.code","patternCodeableConcept":{"coding":[{"code":"8480-6"}]}},
			{"path":"Observation.component.value[x]","min":1}`,
		valid:  []string{component(`"component":[{"code":{"text":"x"}},{"code":{"coding":[{"code":"1"},{"code":"8480-6"}]},"valueInteger":1}]`)},
		faults: map[string]string{component(`"component":[{"code":{"coding":[{"code":"8480-6"}]}}]`): "Observation.component[0].value"},
	},
	{
		claim: "slices by what exists", typ: "Patient",
		elements: `{"path":"Patient.telecom","slicing":{"discriminator":[{"type":"exists","path":"period"}],"rules":"closed"}},
			{"path":"Patient.telecom","sliceName":"old","max":"1"},{"path":"Patient.telecom.period","min":1},{"path":"Patient.telecom.rank","max":"0"},
			{"path":"Patient.telecom","sliceName":"now","max":"*"},{"path":"Patient.telecom.period","max":"0"}`,
		valid:  []string{`{"resourceType":"Patient","telecom":[{"use":"old","period":{"end":"2000"}},{"use":"home","rank":1},{"use":"work"}]}`},
		faults: map[string]string{`{"resourceType":"Patient","telecom":[{"rank":1,"period":{"end":"2000"}}]}`: "Patient.telecom[0].rank"},
	},
	{
		claim: "slices by the type of what is referred to", typ: "Observation",
		elements: `{"path":"Observation.performer","slicing":{"discriminator":[{"type":"type","path":"resolve()"}],"rules":"open"}},
			{"path":"Observation.performer","sliceName":"org","max":"1","type":[{"code":"Reference","targetProfile":["http://hl7.org/fhir/StructureDefinition/Organization"]}]},
			{"path":"Observation.performer.display","min":1}`,
		valid: []string{
			component(`"contained":[{"resourceType":"Organization","id":"o","name":"x"}],"performer":[{"reference":"#o","display":"x"}]`),
			component(`"contained":[{"resourceType":"Patient","id":"o"}],"performer":[{"reference":"#o"}]`),
		},
		faults: map[string]string{component(`"contained":[{"resourceType":"Organization","id":"o","name":"x"}],"performer":[{"reference":"#o"}]`): "Observation.performer[0].display"},
	},
	{
		claim: "slices by a profile", typ: "Bundle",
		elements: `{"path":"Bundle.entry","slicing":{"discriminator":[{"type":"profile","path":"resource"}],"rules":"open"}},
			{"path":"Bundle.entry","sliceName":"named","min":1,"max":"1"},
			{"path":"Bundle.entry.resource","min":1,"type":[{"code":"Patient","profile":["` + here + `named"]}]}`,
		beside: []string{derived("named", "Patient", `{"path":"Patient.name","min":1}`)},
		valid:  []string{`{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"urn:uuid:00000000-0000-0000-0000-000000000001","resource":{"resourceType":"Patient","name":[{"text":"x"}]}}]}`},
		faults: map[string]string{`{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"urn:uuid:00000000-0000-0000-0000-000000000001","resource":{"resourceType":"Patient","active":true}}]}`: "Bundle.entry"},
	},
	{
		claim: "slices by an extension", typ: "Patient",
		elements: `{"path":"Patient.name","slicing":{"discriminator":[{"type":"value","path":"extension('` + here + `kind').value"}],"rules":"open"}},
			{"id":"Patient.name:a","path":"Patient.name","sliceName":"a","max":"1"},
			{"id":"Patient.name:a.extension","path":"Patient.name.extension","slicing":{"discriminator":[{"type":"value","path":"url"}],"rules":"open"}},
			{"id":"Patient.name:a.extension:kind","path":"Patient.name.extension","sliceName":"kind","min":1,"type":[{"code":"Extension","profile":["` + here + `kind"]}]},
			{"id":"Patient.name:a.extension:kind.value[x]","path":"Patient.name.extension.value[x]","fixedCode":"a"},
			{"id":"Patient.name:a.family","path":"Patient.name.family","min":1}`,
		beside: []string{kind},
		valid:  []string{`{"resourceType":"Patient","name":[{"extension":[{"url":"` + here + `kind","valueCode":"b"}]},{"family":"x","extension":[{"url":"` + here + `kind","valueCode":"a"}]}]}`},
		faults: map[string]string{`{"resourceType":"Patient","name":[{"extension":[{"url":"` + here + `kind","valueCode":"a"}]}]}`: "Patient.name[0].family"},
	},
	{
		claim: "slices of slices", typ: "Patient",
		elements: slicedBy("open", "false") + `,{"id":"Patient.identifier:a.type","path":"Patient.identifier.type","min":1}`,
		valid:    []string{identified(`{"system":"urn:a","type":{"text":"x"}}`)},
		faults:   map[string]string{identified(a): "Patient.identifier[0].type"},
	},
	{
		claim: "the profile of a datatype", typ: "Patient", elements: `{"path":"Patient.name","type":[{"code":"HumanName","profile":["` + here + `family"]}]}`,
		beside: []string{derived("family", "HumanName", `{"path":"HumanName.family","min":1}`)},
		valid:  []string{`{"resourceType":"Patient","name":[{"family":"x"}]}`},
		faults: map[string]string{`{"resourceType":"Patient","name":[{"text":"x"}]}`: "Patient.name[0].family"},
	},
	{
		claim: "one of several profiles", typ: "Patient", elements: `{"path":"Patient.name","type":[{"code":"HumanName","profile":["` + here + `family","` + here + `text"]}]}`,
		beside: []string{derived("family", "HumanName", `{"path":"HumanName.family","min":1}`), derived("text", "HumanName", `{"path":"HumanName.text","min":1}`)},
		valid:  []string{`{"resourceType":"Patient","name":[{"family":"x"},{"text":"x"}]}`},
		faults: map[string]string{`{"resourceType":"Patient","name":[{"given":["x"]}]}`: "Patient.name[0]"},
	},
	{
		claim: "references to what meets a profile, in the document", typ: "Observation",
		elements: `{"path":"Observation.subject","type":[{"code":"Reference","targetProfile":["` + here + `named"]}]}`,
		beside:   []string{derived("named", "Patient", `{"path":"Patient.name","min":1}`)},
		valid: []string{
			component(`"contained":[{"resourceType":"Patient","id":"p","name":[{"text":"x"}]}],"subject":{"reference":"#p"}`),
			component(`"subject":{"reference":"Patient/7"}`), component(`"subject":{"display":"x"}`),
		},
		faults: map[string]string{
			component(`"contained":[{"resourceType":"Patient","id":"p"}],"subject":{"reference":"#p"}`): "Observation.subject",
			component(`"subject":{"reference":"Group/7"}`):                                              "Observation.subject",
		},
	},
	{
		claim: "the ways to refer", typ: "Observation", elements: `{"path":"Observation.subject","type":[{"code":"Reference","aggregation":["contained"]}]}`,
		valid:  []string{component(`"contained":[{"resourceType":"Patient","id":"p"}],"subject":{"reference":"#p"}`)},
		faults: map[string]string{component(`"subject":{"reference":"Patient/7"}`): "Observation.subject"},
	},
	{
		claim: "extensions, of which one must be there", typ: "Patient",
		elements: `{"path":"Patient.extension","sliceName":"kind","min":1,"type":[{"code":"Extension","profile":["` + here + `kind"]}]}`,
		beside:   []string{kind}, valid: []string{`{"resourceType":"Patient","extension":[{"url":"` + here + `kind","valueCode":"a"}]}`},
		faults: map[string]string{
			`{"resourceType":"Patient","active":true}`:                                              "Patient.extension",
			`{"resourceType":"Patient","extension":[{"url":"` + here + `kind","valueString":"a"}]}`: "Patient.extension[0].value",
		},
	},
	{
		claim: "what an element refers to by its content", typ: "Questionnaire", elements: `{"id":"Questionnaire.item","path":"Questionnaire.item"},{"id":"Questionnaire.item.text","path":"Questionnaire.item.text","min":1}`,
		valid:  []string{`{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"group","text":"x","item":[{"linkId":"2","type":"string","text":"x"}]}]}`},
		faults: map[string]string{`{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"group","text":"x","item":[{"linkId":"2","type":"string"}]}]}`: "Questionnaire.item[0].item[0].text"},
	},
}

// kind is the definition of an extension for patients and their names.
var kind = strings.Replace(derived("kind", "Extension", `{"path":"Extension.extension","max":"0"},{"path":"Extension.url","fixedUri":"`+here+`kind"},
	{"path":"Extension.value[x]","min":1,"type":[{"code":"code"}]}`), `"differential"`, `"context":[{"type":"element","expression":"Patient"},{"type":"element","expression":"HumanName"}],"differential"`, 1)

// A profile holds the resources that it is about to each kind of rule.
// https://hl7.org/fhir/R4/elementdefinition.html
func TestProfilesHold(t *testing.T) {
	for _, tt := range rules {
		t.Run(tt.claim, func(t *testing.T) {
			v := profile.New(setOf(t, append(tt.beside, derived("it", tt.typ, tt.elements))...), nil)
			for _, body := range tt.valid {
				for _, i := range errorsIn(validate1(t, v, parse(t, []byte(body)), profile.Options{Profiles: []string{here + "it"}})) {
					t.Errorf("%s: %s at %s", body, i.Diagnostics, i.Expression)
				}
			}
			for body, place := range tt.faults {
				severity := map[bool]string{true: "warning", false: "error"}[tt.ofWarning]
				issues := validate1(t, v, parse(t, []byte(body)), profile.Options{Profiles: []string{here + "it"}})
				found := false
				for _, i := range issues {
					found = found || i.Severity == severity && i.Expression[0] == place && !strings.HasPrefix(i.Diagnostics, "dom-6")
				}
				if !found || tt.ofWarning && len(errorsIn(issues)) > 0 {
					t.Errorf("%s: no %s at %s, but %v", body, severity, place, issues)
				}
			}
		})
	}
}
