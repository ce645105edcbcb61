package demo

import (
	"html"
	"strings"
)

// The code systems that the records use.
// https://hl7.org/fhir/R4/terminologies-systems.html
const (
	snomed = "http://snomed.info/sct"
	loinc  = "http://loinc.org"
	icd10  = "http://hl7.org/fhir/sid/icd-10-cm"
	rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
	cvx    = "http://hl7.org/fhir/sid/cvx"
	ucum   = "http://unitsofmeasure.org"
	omb    = "urn:oid:2.16.840.1.113883.6.238"
	hl7    = "http://terminology.hl7.org/CodeSystem/"
	usCore = "http://hl7.org/fhir/us/core/StructureDefinition/"
	mrn    = "https://records.cedarpoint.example/mrn"
	npi    = "http://hl7.org/fhir/sid/us-npi"
	bcp47  = "urn:ietf:bcp:47"
)

// A code is a coding as the tables of this package write it.
type code struct{ system, code, display string }

func (c code) coding() object {
	return obj("system", c.system, "code", c.code, "display", c.display)
}

// concept returns a CodeableConcept; its text is the display of the first.
func concept(codes ...code) object {
	codings := make(array, len(codes))
	for i, c := range codes {
		codings[i] = c.coding()
	}
	return obj("coding", codings, "text", codes[0].display)
}

// status returns the CodeableConcept of a bare code.
func status(system, c string) object {
	return obj("coding", array{obj("system", hl7+system, "code", c)})
}

func reference(typ, id, display string) object {
	return obj("reference", typ+"/"+id, "display", display)
}

func quantity(value decimal, unit, ucumCode string) object {
	return obj("value", value, "unit", unit, "system", ucum, "code", ucumCode)
}

// narrative returns the text of a resource.
// https://hl7.org/fhir/R4/narrative.html
func narrative(title string, lines ...string) object {
	var b strings.Builder
	b.WriteString(`<div xmlns="http://www.w3.org/1999/xhtml"><p><b>` + html.EscapeString(title) + `</b></p>`)
	for _, l := range lines {
		if l != "" {
			b.WriteString("<p>" + html.EscapeString(l) + "</p>")
		}
	}
	b.WriteString("</div>")
	return obj("status", "generated", "div", b.String())
}

// resource begins a resource that claims a US Core profile, or none.
func resource(typ, id, profile string, text object) object {
	var meta object
	if profile != "" {
		meta = obj("profile", array{usCore + profile})
	}
	return obj("resourceType", typ, "id", id, "meta", meta, "text", text)
}

// and appends members to a resource that resource began.
func (o object) and(pairs ...any) object { return append(o, obj(pairs...)...) }
