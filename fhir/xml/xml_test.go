package xml

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

// tree returns JSON in a form in which the order of members means nothing and
// the digits of numbers do.
func tree(t testing.TB, b []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return v
}

// Every valid example of the standard is the same after it went through XML,
// to the digits of its numbers and the bytes of its narrative.
func TestExamplesAreTheSameAfterXML(t *testing.T) {
	tried := 0
	for name, d := range fhirtest.Resources(t, fhirtest.Examples) {
		for _, indent := range []bool{false, true} {
			x, err := FromJSON(d.JSON, indent)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			back, err := ToJSON(x, fhir.Limits{})
			if err != nil {
				if validate.Resource(d) == nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			tried++
			if diff := cmp.Diff(tree(t, d.JSON), tree(t, back)); diff != "" && validate.Resource(d) == nil {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	t.Logf("%d round trips", tried)
	if tried < 2*700 {
		t.Errorf("%d round trips, want those of 700 examples at least", tried)
	}
}

// The examples that the standard gives in both formats say the same in both.
func TestXMLSaysWhatJSONSays(t *testing.T) {
	dir := fhirtest.Path(t, "test-cases/examples")
	files, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		x, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ToJSON(x, fhir.Limits{})
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
			continue
		}
		d, err := fhir.Parse(got, fhir.Limits{})
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
			continue
		}
		again, err := FromJSON(d.JSON, true)
		if err == nil {
			again, err = ToJSON(again, fhir.Limits{})
		}
		if err != nil || !cmp.Equal(tree(t, got), tree(t, again)) {
			t.Errorf("%s is not the same after JSON: %v", filepath.Base(file), err)
		}
	}
}

// https://hl7.org/fhir/R4/xml.html
func TestFormsOfTheStandard(t *testing.T) {
	for _, tt := range []struct{ claim, json, xml string }{
		{"id and extensions of a primitive stand in its element",
			`{"resourceType":"Patient","id":"7","name":[{"id":"n","given":["A",null],"_given":[{"id":"g"},{"extension":[{"url":"http://x","valueDecimal":1.50}]}]}],"birthDate":"1970-03","_birthDate":{"id":"b"}}`,
			`<Patient xmlns="http://hl7.org/fhir"><id value="7"/><name id="n"><given id="g" value="A"/><given><extension url="http://x"><valueDecimal value="1.50"/></extension></given></name><birthDate id="b" value="1970-03"/></Patient>`},
		{"a contained resource stands in an element of its name",
			`{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o"},{"resourceType":"Basic","id":"b"}]}`,
			`<Patient xmlns="http://hl7.org/fhir"><contained><Organization><id value="o"/></Organization></contained><contained><Basic><id value="b"/></Basic></contained></Patient>`},
		{"narrative stays as it is",
			`{"resourceType":"Basic","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">a &lt; <b>b</b><br/>\n</div>"}}`,
			`<Basic xmlns="http://hl7.org/fhir"><text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml">a &lt; <b>b</b><br/>` + "\n" + `</div></text></Basic>`},
		{"special characters are escaped",
			`{"resourceType":"Basic","language":"a&<>\"'\t\r\n\u00e9"}`,
			`<Basic xmlns="http://hl7.org/fhir"><language value="a&amp;&lt;&gt;&quot;'&#9;&#13;&#10;é"/></Basic>`},
		{"a resource may be empty", `{"resourceType":"Basic"}`, `<Basic xmlns="http://hl7.org/fhir"/>`},
		{"booleans and numbers have no quotes in JSON",
			`{"resourceType":"Patient","active":true,"multipleBirthInteger":-2}`,
			`<Patient xmlns="http://hl7.org/fhir"><active value="true"/><multipleBirthInteger value="-2"/></Patient>`},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			x, err := FromJSON([]byte(tt.json), false)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimPrefix(string(x), `<?xml version="1.0" encoding="UTF-8"?>`); got != tt.xml {
				t.Errorf("got  %s\nwant %s", got, tt.xml)
			}
			back, err := ToJSON([]byte(tt.xml), fhir.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tree(t, []byte(tt.json)), tree(t, back)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is not such XML is refused, with the place and without values.
func TestToJSONRefuses(t *testing.T) {
	patient := func(s string) string { return `<Patient xmlns="http://hl7.org/fhir">` + s + `</Patient>` }
	for _, tt := range []struct{ claim, xml, place string }{
		{"nothing", ``, ""},
		{"no XML", `{"resourceType":"Patient"}`, ""},
		{"XML that ends early", `<Patient xmlns="http://hl7.org/fhir"><active`, "Patient"},
		{"a document type", `<!DOCTYPE Patient [<!ENTITY secret "x">]>` + patient(``), ""},
		{"a file as an entity", `<!DOCTYPE Patient [<!ENTITY secret SYSTEM "file:///etc/passwd">]>` + patient(`<language value="&secret;"/>`), ""},
		{"an entity that is not declared", patient(`<language value="&secret;"/>`), "Patient"},
		{"an entity in narrative", patient(`<text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml">&nbsp;</div></text>`), "Patient.text.div"},
		{"a processing instruction", patient(`<?php secret ?>`), "Patient"},
		{"another encoding", `<?xml version="1.0" encoding="UTF-16"?>` + patient(``), ""},
		{"no namespace", `<Patient/>`, ""},
		{"another namespace", `<Patient xmlns="http://secret"/>`, ""},
		{"an element of another namespace", patient(`<x:active xmlns:x="http://secret" value="true"/>`), "Patient"},
		{"a prefix that is not bound", patient(`<x:active value="true"/>`), "Patient"},
		{"a div that is no XHTML", patient(`<text><status value="generated"/><div>x</div></text>`), "Patient.text"},
		{"an unknown type", `<Secret xmlns="http://hl7.org/fhir"/>`, ""},
		{"an unknown element", patient(`<secret value="x"/>`), "Patient"},
		{"elements in another order", patient(`<gender value="male"/><active value="true"/>`), "Patient"},
		{"an element twice that does not repeat", patient(`<active value="true"/><active value="true"/>`), "Patient"},
		{"an unknown attribute", patient(`<active value="true" secret="x"/>`), "Patient.active"},
		{"text as a value", patient(`<active>secret</active>`), "Patient.active"},
		{"an element with nothing", patient(`<active/>`), "Patient.active"},
		{"a boolean that is none", patient(`<active value="secret"/>`), "Patient.active"},
		{"a number that is none", patient(`<multipleBirthInteger value="2]"/>`), "Patient.multipleBirth"},
		{"a number in quotes", patient(`<multipleBirthInteger value="&quot;2&quot;"/>`), "Patient.multipleBirth"},
		{"an object as a number", patient(`<multipleBirthInteger value="{}"/>`), "Patient.multipleBirth"},
		{"two contained resources in one element", patient(`<contained><Basic/><Basic/></contained>`), "Patient.contained[0]"},
		{"no contained resource", patient(`<contained/>`), "Patient.contained[0]"},
		{"two resources", patient(``) + patient(``), ""},
		{"an attribute twice", patient(`<active value="true" value="false"/>`), "Patient.active"},
		{"nesting without end", `<Patient xmlns="http://hl7.org/fhir">` + strings.Repeat(`<contained><Patient>`, 500), "Patient"},
		{"narrative nested without end", patient(`<text><status value="generated"/>` + `<div xmlns="http://www.w3.org/1999/xhtml">` + strings.Repeat(`<b>`, 500)), "Patient.text.div"},
		{"bytes that are no UTF-8", patient(`<language value="` + "\xff" + `"/>`), "Patient"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			out, err := ToJSON([]byte(tt.xml), fhir.Limits{})
			var e *fhir.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %s, %v", out, err)
			}
			if strings.Contains(strings.ToLower(err.Error()), "secret") {
				t.Errorf("the error repeats what was sent: %v", err)
			}
			at := strings.Join(e.Issues[0].Expression, " ")
			if !strings.HasPrefix(at, tt.place) {
				t.Errorf("got the place %q, want %q (%v)", at, tt.place, err)
			}
		})
	}
}

// A text that XML cannot hold is an error, not malformed XML.
func TestFromJSONRefuses(t *testing.T) {
	_, err := FromJSON([]byte(`{"resourceType":"Basic","language":"`+"\uFFFE"+`"}`), false)
	if !fhir.IsCode(err, fhir.NotSupported) {
		t.Errorf("got %v", err)
	}
}

// FuzzToJSON holds that no XML makes the reader panic, and that what it reads
// is the same after it was written and read again.
func FuzzToJSON(f *testing.F) {
	f.Add([]byte(`<Patient xmlns="http://hl7.org/fhir"><id value="7"/><name id="n"><given value="A"/><given><extension url="http://x"><valueDecimal value="1.50"/></extension></given></name></Patient>`))
	f.Add([]byte(`<Bundle xmlns="http://hl7.org/fhir"><type value="batch"/><entry><resource><Basic><text><status value="empty"/><div xmlns="http://www.w3.org/1999/xhtml">x<br/></div></text></Basic></resource></entry></Bundle>`))
	f.Add([]byte(`<?xml version="1.0"?><!-- c --><f:Basic xmlns:f="http://hl7.org/fhir" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="x"><f:language value="a&#10;b"/></f:Basic>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		out, err := ToJSON(body, fhir.Limits{})
		if err != nil {
			var e *fhir.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an error for the client", err)
			}
			return
		}
		d, err := fhir.Parse(out, fhir.Limits{})
		if err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if validate.Resource(d) != nil {
			return
		}
		x, err := FromJSON(d.JSON, false)
		if err != nil {
			return // a character that XML cannot have
		}
		back, err := ToJSON(x, fhir.Limits{})
		if err != nil {
			t.Fatalf("%v in %s", err, x)
		}
		if !cmp.Equal(tree(t, out), tree(t, back)) {
			t.Fatalf("%s became %s", out, back)
		}
	})
}
