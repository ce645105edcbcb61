// Package xml turns the XML of resources into JSON, which is what Cordon keeps
// and works on, and JSON into XML.
//
// https://hl7.org/fhir/R4/xml.html
package xml

import (
	"encoding/xml"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// The namespaces of a document.
const (
	namespace = "http://hl7.org/fhir"
	xhtml     = "http://www.w3.org/1999/xhtml"
	schema    = "http://www.w3.org/2001/XMLSchema-instance" // of xsi:schemaLocation, which says nothing
)

// elementType is the type of a primitive but for its value: with id and
// extensions.
var elementType = r4.TypeOf("Element")

// A form is how an element stands in XML.
type form int

const (
	asElement   form = iota
	asAttribute      // url of an Extension, and id of what is no resource
	asNarrative      // div, whose content is XHTML
	asResource       // around a resource
)

// formOf returns the form of element e of type t.
func formOf(t *r4.Type, e *r4.Element) form {
	switch {
	case e.Primitive() == r4.XHTML:
		return asNarrative
	case e.Primitive() == 0 && e.Complex().Path == "Resource":
		return asResource
	case e.Name == "id" && !fhir.Type(t.Path).Known(), e.Name == "url" && t.Path == "Extension":
		return asAttribute
	}
	return asElement
}

// isBare reports whether JSON writes values of the type without quotes.
// https://hl7.org/fhir/R4/json.html#primitive
func isBare(p r4.Primitive) bool {
	switch p {
	case r4.Boolean, r4.Integer, r4.UnsignedInt, r4.PositiveInt, r4.Decimal:
		return true
	}
	return false
}

// attribute returns the value of the attribute that has no namespace.
func attribute(start *xml.StartElement, name string) (string, bool) {
	for _, a := range start.Attr {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value, true
		}
	}
	return "", false
}
