package xml

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// FromJSON returns the XML of a resource whose JSON is compact and valid, such
// as that of what the store serves. Numbers and narrative keep their bytes. If
// indent is set, elements begin on lines of their own. A *fhir.Error says that
// a text has a character that XML cannot have.
func FromJSON(json []byte, indent bool) ([]byte, error) {
	e := encoder{indent: indent}
	e.out.Grow(len(json) + len(json)/2)
	e.out.WriteString(`<?xml version="1.0" encoding="UTF-8"?>`)
	if err := e.resource(json, true); err != nil {
		return nil, err
	}
	if indent {
		e.out.WriteByte('\n')
	}
	return e.out.Bytes(), nil
}

// An encoder writes one document.
type encoder struct {
	out    bytes.Buffer
	indent bool
	depth  int
}

// open writes the beginning of a start tag.
func (e *encoder) open(name string) {
	e.line()
	e.out.WriteString("<" + name)
	e.depth++
}

// line begins a line, if lines are wanted.
func (e *encoder) line() {
	if e.indent {
		e.out.WriteString("\n" + strings.Repeat("  ", e.depth))
	}
}

// empty ends a start tag as that of an element without content.
func (e *encoder) empty() {
	e.depth--
	e.out.WriteString("/>")
}

// close writes an end tag.
func (e *encoder) close(name string) {
	e.depth--
	e.line()
	e.out.WriteString("</" + name + ">")
}

// resource writes a resource, with its namespace if it is the root.
func (e *encoder) resource(json []byte, root bool) error {
	o := read(json)
	name := ""
	if raw := o.get("resourceType"); raw != nil {
		b, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return fmt.Errorf("writing XML: %w", err)
		}
		name = string(b)
	}
	t := r4.TypeOf(name)
	if t == nil || !fhir.Type(name).Known() {
		return fmt.Errorf("writing XML: a resource without a type of R4")
	}
	e.open(name)
	if root {
		e.out.WriteString(` xmlns="` + namespace + `"`)
	}
	return e.content(t, o, nil, name)
}

// An object is the JSON of an element, cut into its members.
type object struct {
	names, raw [][]byte
}

func read(json []byte) object {
	var o object
	for name, value := range fhir.Members(json) {
		o.names, o.raw = append(o.names, name), append(o.raw, value)
	}
	return o
}

// get returns the raw value of a member, nil if there is none.
func (o object) get(name string) []byte {
	for i, n := range o.names {
		if string(n) == name {
			return o.raw[i]
		}
	}
	return nil
}

// beside returns the raw value of the member _name.
func (o object) beside(name string) []byte {
	for i, n := range o.names {
		if len(n) > 1 && n[0] == '_' && string(n[1:]) == name {
			return o.raw[i]
		}
	}
	return nil
}

// content writes the attributes and the children of an element of type t, in
// the order of the standard, and ends it. Its start tag is open. value is that
// of a primitive, if it has one.
func (e *encoder) content(t *r4.Type, o object, value []byte, name string) error {
	list := t.Elements()
	for i := range list {
		if formOf(t, &list[i]) != asAttribute {
			continue
		}
		if raw := o.get(list[i].Name); raw != nil {
			if err := e.attribute(list[i].Name, raw); err != nil {
				return err
			}
		}
	}
	if value != nil {
		if err := e.attribute("value", value); err != nil {
			return err
		}
	}
	begun := false
	for i := range list {
		c := &list[i]
		if formOf(t, c) == asAttribute {
			continue
		}
		value, side := o.get(c.Name), []byte(nil)
		if c.Primitive() != 0 {
			side = o.beside(c.Name)
		}
		if value == nil && side == nil {
			continue
		}
		if !begun {
			begun = true
			e.out.WriteByte('>')
		}
		if err := e.element(t, c, value, side); err != nil {
			return err
		}
	}
	if begun {
		e.close(name)
	} else {
		e.empty()
	}
	return nil
}

// element writes the values of element c of type t.
func (e *encoder) element(t *r4.Type, c *r4.Element, value, side []byte) error {
	if !c.Many() {
		return e.value(t, c, value, side)
	}
	values, sides := items(value), items(side)
	for i := range max(len(values), len(sides)) {
		var v, s []byte
		if i < len(values) {
			v = values[i]
		}
		if i < len(sides) {
			s = sides[i]
		}
		if err := e.value(t, c, v, s); err != nil {
			return err
		}
	}
	return nil
}

// items returns the items of an array; those that are null are nil.
func items(raw []byte) [][]byte {
	if len(raw) == 0 || raw[0] != '[' {
		return nil
	}
	var list [][]byte
	for v := range fhir.Items(raw) {
		if string(v) == "null" {
			v = nil
		}
		list = append(list, v)
	}
	return list
}

// value writes one value.
func (e *encoder) value(t *r4.Type, c *r4.Element, value, side []byte) error {
	if formOf(t, c) == asNarrative {
		div, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return fmt.Errorf("writing XML: %w", err)
		}
		e.line()
		e.out.Write(bytes.TrimSpace(div))
		return nil
	}
	e.open(c.Name)
	switch {
	case formOf(t, c) == asResource:
		e.out.WriteByte('>')
		if err := e.resource(value, false); err != nil {
			return err
		}
		e.close(c.Name)
		return nil
	case c.Primitive() == 0:
		return e.content(c.Complex(), read(value), nil, c.Name)
	}
	return e.content(elementType, read(side), value, c.Name)
}

// attribute writes an attribute whose value is the JSON raw.
func (e *encoder) attribute(name string, raw []byte) error {
	e.out.WriteString(" " + name + `="`)
	if raw[0] != '"' {
		e.out.Write(raw)
		e.out.WriteByte('"')
		return nil
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return fmt.Errorf("writing XML: %w", err)
	}
	if err := e.escape(text); err != nil {
		return err
	}
	e.out.WriteByte('"')
	return nil
}

// escape writes text as the value of an attribute. Tabs and line breaks are
// written as references, because a reader makes spaces of them else.
// https://www.w3.org/TR/xml/#AVNormalize
func (e *encoder) escape(text []byte) error {
	done := 0
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		with := ""
		switch r {
		case '&':
			with = "&amp;"
		case '<':
			with = "&lt;"
		case '>':
			with = "&gt;"
		case '"':
			with = "&quot;"
		case '\t':
			with = "&#9;"
		case '\n':
			with = "&#10;"
		case '\r':
			with = "&#13;"
		case 0xFFFE, 0xFFFF:
			return impossible()
		default:
			if r < ' ' {
				return impossible()
			}
		}
		if with != "" {
			e.out.Write(text[done:i])
			e.out.WriteString(with)
			done = i + n
		}
		i += n
	}
	e.out.Write(text[done:])
	return nil
}

// impossible is the error of a text that XML cannot hold.
// https://www.w3.org/TR/xml/#charsets
func impossible() error {
	return fhir.Errorf(fhir.NotSupported, "the resource has a character that XML cannot have; it can be served as JSON").WithStatus(406)
}
