package path

import (
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// typeInfo is what type() returns: the name of a type and the space it is in.
// http://hl7.org/fhirpath/N1/#reflection
type typeInfo struct{ space, name string }

// typeInfo returns the type of n.
func (n Node) typeInfo() typeInfo {
	switch v := n.val.(type) {
	case nil:
		switch {
		case n.typ != nil:
			return typeInfo{"FHIR", n.typ.Path}
		case n.elem != nil:
			return typeInfo{"FHIR", n.elem.Type()}
		}
		return typeInfo{}
	case bool:
		return typeInfo{"System", "Boolean"}
	case int64:
		return typeInfo{"System", "Integer"}
	case *apd.Decimal:
		return typeInfo{"System", "Decimal"}
	case Time:
		return typeInfo{"System", v.kind.String()}
	case *Quantity:
		return typeInfo{"System", "Quantity"}
	case typeInfo:
		return typeInfo{"System", "TypeInfo"}
	}
	return typeInfo{"System", "String"}
}

// A typeName is a type as an expression names it.
// http://hl7.org/fhirpath/N1/#models
type typeName struct{ space, name string }

// systemTypes are the types of FHIRPath itself.
var systemTypes = []string{"Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity"}

// resolve finds the space of a type that is named alone, first among those of
// FHIR. It reports whether the type is known.
func (t *typeName) resolve() bool {
	switch t.space {
	case "System":
		return true // a type that is none is that of no value
	case "FHIR":
		return isFHIRType(t.name)
	}
	if isFHIRType(t.name) {
		t.space = "FHIR"
		return true
	}
	t.space = "System"
	for _, s := range systemTypes {
		if s == t.name {
			return true
		}
	}
	return false
}

// profiledTypes are types that R4 names in its definitions but that only
// constrain another.
var profiledTypes = map[string]string{"SimpleQuantity": "Quantity", "MoneyQuantity": "Quantity"}

func isFHIRType(name string) bool {
	return r4.TypeOf(name) != nil || primitives[name] != 0 || profiledTypes[name] != ""
}

// primitives maps the names of the primitive types to them.
var primitives = func() map[string]r4.Primitive {
	m := make(map[string]r4.Primitive)
	for p := r4.Base64Binary; p <= r4.XHTML; p++ {
		m[p.String()] = p
	}
	return m
}()

// is reports whether n is of the type t or of one derived from it.
func (t typeName) is(n Node) bool {
	info := n.typeInfo()
	if info.space != t.space {
		return false
	}
	want := t.name
	if base := profiledTypes[want]; base != "" {
		want = base
	}
	for name := info.name; name != ""; name = superType(name) {
		if name == want {
			return true
		}
		if info.space == "System" {
			return false
		}
	}
	return false
}

// exactly reports whether n is of the type t itself. A resource may be named by
// a type it is derived from.
func (t typeName) exactly(n Node) bool {
	if n.primitive() != 0 {
		return t.space == "FHIR" && n.elem.Type() == t.name
	}
	return t.is(n)
}

// loosely is exactly, or whether n is a primitive whose value is of the type t
// of FHIRPath.
func (t typeName) loosely(n Node) bool {
	if t.exactly(n) {
		return true
	}
	return t.space == "System" && n.primitive() != 0 && strings.EqualFold(n.elem.Type(), t.name)
}

// superType returns the type that a type of FHIR is derived from.
// https://hl7.org/fhir/R4/types.html
func superType(name string) string {
	switch name {
	case "code", "id", "markdown":
		return "string"
	case "canonical", "oid", "url", "uuid":
		return "uri"
	case "positiveInt", "unsignedInt":
		return "integer"
	case "Age", "Count", "Distance", "Duration":
		return "Quantity"
	case "Bundle", "Binary", "Parameters", "DomainResource":
		return "Resource"
	case "BackboneElement":
		return "Element"
	case "Resource", "Element":
		return ""
	}
	if fhir.Type(name).Known() {
		return "DomainResource"
	}
	t := r4.TypeOf(name)
	if t != nil && t.Element("modifierExtension") != nil && !strings.HasPrefix(name, "ElementDefinition.") {
		return "BackboneElement"
	}
	return "Element"
}
