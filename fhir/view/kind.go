package view

import (
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A Kind says what the cells of a column can hold.
type Kind uint8

// The kinds.
const (
	Any     Kind = iota // a primitive; the column does not say which
	Text                // a string, which dates and times are too: they need not be whole
	Boolean             //
	Integer             //
	Decimal             //
	Instant             // a string with a moment in it
	Complex             // JSON of a complex type
)

// kinds are those of the primitive types. All others are Text.
var kinds = map[string]Kind{
	"boolean": Boolean, "integer": Integer, "positiveInt": Integer, "unsignedInt": Integer, "integer64": Integer,
	"decimal": Decimal, "instant": Instant,
	"base64Binary": Text, "canonical": Text, "code": Text, "date": Text, "dateTime": Text, "id": Text, "markdown": Text,
	"oid": Text, "string": Text, "time": Text, "uri": Text, "url": Text, "uuid": Text, "xhtml": Text,
}

// systemKinds are those of the types of FHIRPath itself.
var systemKinds = map[string]Kind{
	"Boolean": Boolean, "Integer": Integer, "Decimal": Decimal, "String": Text, "Date": Text, "DateTime": Text, "Time": Text,
}

// kindOf returns what a column of the type holds, and which complex type.
func kindOf(uri string) (k Kind, of string, known bool) {
	if uri == "" {
		return Any, "", true
	}
	if name, ok := strings.CutPrefix(uri, "http://hl7.org/fhirpath/System."); ok {
		k, known = systemKinds[name]
		return k, "", known
	}
	name := strings.TrimPrefix(uri, "http://hl7.org/fhir/StructureDefinition/")
	if k, known = kinds[name]; known {
		return k, "", true
	}
	return Complex, name, r4.TypeOf(name) != nil
}

// A Value is what a cell holds: nil, a bool, an int64, a Number, a string, JSON
// or a List.
type Value any

// A Number is a decimal as FHIR writes it, with all its digits.
type Number string

// JSON is that of an element of a complex type.
type JSON []byte

// A List is what a cell of a collection holds.
type List []Value

// value returns what n is in a cell of the column. ok is false if it is of
// another type.
func (c Column) value(n path.Node) (v Value, ok bool) {
	if t := n.ComplexType(); t != nil {
		if c.Kind != Complex || t.Path != c.of {
			return nil, false
		}
		return JSON(n.JSON().MarshalTo(nil)), true
	}
	if n.IsElement() && n.JSON() == nil {
		return nil, true // it has extensions alone
	}
	v = primitive(n)
	switch v := v.(type) {
	case bool:
		return v, c.Kind == Boolean || c.Kind == Any
	case int64:
		return v, c.Kind == Integer || c.Kind == Decimal || c.Kind == Any
	case Number:
		return v, c.Kind == Decimal || c.Kind == Any
	case string:
		if c.Kind == Instant {
			_, err := time.Parse(time.RFC3339, v)
			return v, err == nil
		}
		return v, c.Kind == Text || c.Kind == Any
	}
	return nil, false
}

// primitive returns the value of n as it is written, nil if it has none.
func primitive(n path.Node) Value {
	if j := n.JSON(); j != nil {
		switch j.Type() {
		case fastjson.TypeString:
			return string(j.GetStringBytes())
		case fastjson.TypeNumber:
			if i, isInt := n.Value().(int64); isInt {
				return i
			}
			return Number(j.MarshalTo(nil))
		}
	}
	switch v := n.Value().(type) {
	case bool, int64, string:
		return v
	case *apd.Decimal:
		return Number(v.Text('f'))
	case path.Time:
		return v.String()
	}
	return nil
}

// weight is about how many steps it takes to copy v.
func weight(v Value) int {
	switch v := v.(type) {
	case string:
		return 1 + len(v)/64
	case JSON:
		return 1 + len(v)/64
	case List:
		n := 1
		for _, x := range v {
			n += weight(x)
		}
		return n
	}
	return 1
}
