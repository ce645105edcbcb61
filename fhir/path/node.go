package path

import (
	"iter"
	"log/slog"
	"slices"
	"sync"

	"github.com/cockroachdb/apd/v3"
	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A Node is one item of a collection: an element or a resource in a tree, or a
// value of one of FHIRPath's own types. The zero Node is no item.
// http://hl7.org/fhirpath/N1/#collections
type Node struct {
	json *fastjson.Value // of an element; nil if a primitive has only extensions
	side *fastjson.Value // the sibling _name of a primitive element
	in   *fastjson.Value // the object that holds the element, nil at the root
	typ  *r4.Type        // of a complex element
	elem *r4.Element     // what the element is in the object that holds it
	// val is a value that is no element: bool, int64, *apd.Decimal, string,
	// Time, *Quantity or typeInfo.
	val   any
	index int32 // place in the array, -1 if the element does not repeat
}

// Root returns the resource d as a Node.
func Root(d *fhir.Document) Node { return Complex(r4.TypeOf(string(d.Type)), d.Tree) }

// Complex returns a value of the complex type t as a Node. If t is abstract
// the type of the resource is read from it.
func Complex(t *r4.Type, v *fastjson.Value) Node {
	return Node{json: v, typ: concrete(t, v), index: -1}
}

// String returns a string that is in no resource as a Node.
func String(s string) Node { return Node{val: s, index: -1} }

// Bool returns a boolean that is in no resource as a Node.
func Bool(b bool) Node { return Node{val: b, index: -1} }

// Integer returns an integer that is in no resource as a Node.
func Integer(n int64) Node { return Node{val: n, index: -1} }

// concrete returns the type of v, an object whose element has the type t.
func concrete(t *r4.Type, v *fastjson.Value) *r4.Type {
	if t != nil && (t.Path == "Resource" || t.Path == "DomainResource") {
		if name := v.GetStringBytes("resourceType"); name != nil {
			if c := r4.TypeOf(string(name)); c != nil {
				return c
			}
		}
	}
	return t
}

// LogValue keeps clinical content out of logs: only the type of n is shown.
func (n Node) LogValue() slog.Value { return slog.StringValue(n.Type()) }

// IsZero reports whether n is no item.
func (n Node) IsZero() bool { return n.val == nil && n.typ == nil && n.elem == nil }

// IsElement reports whether n is in a tree.
func (n Node) IsElement() bool { return n.val == nil && !n.IsZero() }

// JSON returns the value of an element in its tree. It is nil for what is no
// element and for a primitive that has only extensions.
func (n Node) JSON() *fastjson.Value { return n.json }

// Sibling returns the _name of a primitive element, nil if there is none.
// https://hl7.org/fhir/R4/json.html#primitive
func (n Node) Sibling() *fastjson.Value { return n.side }

// Parent returns the object that holds the element; nil at the root.
func (n Node) Parent() *fastjson.Value { return n.in }

// Element returns what n is in the object that holds it; nil at the root.
func (n Node) Element() *r4.Element { return n.elem }

// Index returns the place of n in its array, -1 if its element does not repeat.
func (n Node) Index() int { return int(n.index) }

// ComplexType returns the type of a complex element, nil for all else.
func (n Node) ComplexType() *r4.Type { return n.typ }

func (n Node) primitive() r4.Primitive {
	if n.elem == nil || n.typ != nil {
		return 0
	}
	return n.elem.Primitive()
}

// Type returns the name of the type of n: "Patient", "HumanName", "code", or
// "System.String" for a value that is no element.
func (n Node) Type() string {
	switch t := n.typeInfo(); t.space {
	case "System":
		return "System." + t.name
	default:
		return t.name
	}
}

// Value returns the value of n as a type of FHIRPath: a bool, int64,
// *apd.Decimal, string, Time or *Quantity; nil if it has none. Strings that it
// returns are copies.
// https://hl7.org/fhir/R4/fhirpath.html#types
func (n Node) Value() any {
	if n.val != nil {
		return n.val
	}
	if n.typ != nil {
		if q := n.quantity(); q != nil {
			return q
		}
		return nil
	}
	if n.json == nil {
		return nil
	}
	switch p := n.primitive(); p {
	case 0:
		return nil
	case r4.Boolean:
		switch n.json.Type() {
		case fastjson.TypeTrue:
			return true
		case fastjson.TypeFalse:
			return false
		}
		return nil
	case r4.Integer, r4.UnsignedInt, r4.PositiveInt:
		if n.json.Type() != fastjson.TypeNumber {
			return nil
		}
		i, err := n.json.Int64()
		if err != nil {
			return nil
		}
		return i
	case r4.Decimal:
		if d := decimalOf(n.json); d != nil {
			return d
		}
		return nil
	default:
		if n.json.Type() != fastjson.TypeString {
			return nil
		}
		s := string(n.json.GetStringBytes())
		if p == r4.Date || p == r4.DateTime || p == r4.Instant || p == r4.Time {
			if t, ok := parseElement(p, s); ok {
				return t
			}
			return nil
		}
		return s
	}
}

// text returns the characters of a string, without copying those of an
// element. They are valid as long as its tree.
func (n Node) text() ([]byte, bool) {
	switch p := n.primitive(); p {
	case 0, r4.Boolean, r4.Integer, r4.UnsignedInt, r4.PositiveInt, r4.Decimal, r4.Date, r4.DateTime, r4.Instant, r4.Time:
		return nil, false
	}
	if n.json == nil || n.json.Type() != fastjson.TypeString {
		return nil, false
	}
	return n.json.GetStringBytes(), true
}

// str returns the value of n if it is a string.
func (n Node) str() (string, bool) {
	if b, ok := n.text(); ok {
		return string(b), true
	}
	s, ok := n.val.(string)
	return s, ok
}

const (
	bytesPerStep = 64 // of a string that is read, or copied
	stepsPerItem = 4  // to keep an item in a collection that grows
)

// weight returns the steps it takes to read the value of n if it is a string.
func (n *Node) weight() int {
	if b, ok := n.text(); ok {
		return len(b) / bytesPerStep
	}
	s, _ := n.val.(string)
	return len(s) / bytesPerStep
}

// decimalOf reads a JSON number.
func decimalOf(v *fastjson.Value) *apd.Decimal {
	if v == nil || v.Type() != fastjson.TypeNumber {
		return nil
	}
	var buf [80]byte
	d, ok := parseDecimal(string(v.MarshalTo(buf[:0])))
	if !ok {
		return nil
	}
	return d
}

// Children yields the elements directly in n, each value of one that repeats,
// in the order of the document.
// http://hl7.org/fhirpath/N1/#tree-navigation
func (n Node) Children() iter.Seq[Node] { return slices.Values(n.appendChildren(nil)) }

// Child yields the values of the child called name: of any type, if it is a
// choice. There are none if the element cannot have such a child.
// https://hl7.org/fhir/R4/fhirpath.html#polymorphism
func (n Node) Child(name string) iter.Seq[Node] {
	return slices.Values(n.AppendChild(nil, name))
}

// A child is what a name stands for in a type.
type child struct {
	of    *r4.Type
	elems []r4.Element
}

type childKey struct {
	of   *r4.Type
	name string
}

// childTable has all of them.
var childTable = sync.OnceValue(func() map[childKey]*child {
	m := make(map[childKey]*child)
	types := r4.Types()
	for i := range types {
		t := &types[i]
		list := t.Elements()
		for i := range list {
			e := &list[i]
			if e.ChoiceNumber() == 0 {
				m[childKey{t, e.Name}] = &child{t, list[i : i+1]}
			} else if key := (childKey{t, e.Choice()}); m[key] == nil {
				m[key] = &child{t, t.Choice(e.Choice())}
			}
		}
	}
	return m
})

// elementsOf returns the elements of t that name stands for: those of value[x]
// for value. A choice has no child that is named with its type, such as
// valueQuantity.
// https://hl7.org/fhir/R4/fhirpath.html#polymorphism
func elementsOf(t *r4.Type, name string) *child {
	if c := childTable()[childKey{t, name}]; c != nil {
		return c
	}
	return &noChild
}

var noChild child

// elementType is the type of what stands beside a primitive value.
var elementType = r4.TypeOf("Element")

// object returns what can hold children of n, and its type.
func (n *Node) object() (*r4.Type, *fastjson.Value) {
	if n.typ != nil {
		return n.typ, n.json
	}
	if n.elem == nil {
		return nil, nil
	}
	return elementType, n.side
}

// members returns v as an object. v.Object would allocate an error if it is
// none.
func members(v *fastjson.Value) *fastjson.Object {
	if v == nil || v.Type() != fastjson.TypeObject {
		return nil
	}
	o, err := v.Object()
	if err != nil {
		return nil
	}
	return o
}

// AppendChildren is Children into a slice that the caller uses again.
func (n Node) AppendChildren(out []Node) []Node { return n.appendChildren(out) }

// AppendChild is Child into a slice that the caller uses again.
func (n Node) AppendChild(out []Node, name string) []Node {
	t, _ := n.object()
	if t == nil {
		return out
	}
	return n.appendChild(out, elementsOf(t, name).elems)
}

func (n *Node) appendChildren(out []Node) []Node {
	t, holder := n.object()
	o := members(holder)
	if o == nil {
		return out
	}
	o.Visit(func(key []byte, v *fastjson.Value) {
		name, sibling := key, false
		if len(key) > 1 && key[0] == '_' {
			if o.Get(string(key[1:])) != nil {
				return // it comes with its value
			}
			name, sibling = key[1:], true
		}
		e := t.Element(string(name))
		if e == nil {
			return
		}
		if sibling {
			v = nil
		}
		out = appendValues(out, holder, o, e, v)
	})
	return out
}

// appendChild appends the values of the elements, of which one at most is
// there.
func (n *Node) appendChild(out []Node, elems []r4.Element) []Node {
	_, holder := n.object()
	o := members(holder)
	if o == nil {
		return out
	}
	for i := range elems {
		e := &elems[i]
		v := o.Get(e.Name)
		if v == nil && (e.Primitive() == 0 || sibling(o, e.Name) == nil) {
			continue
		}
		out = appendValues(out, holder, o, e, v)
	}
	return out
}

// appendValues appends the values of element e of the object o. v is its value
// in JSON, nil if there is only the sibling.
func appendValues(out []Node, in *fastjson.Value, o *fastjson.Object, e *r4.Element, v *fastjson.Value) []Node {
	var side *fastjson.Value
	if e.Primitive() != 0 {
		side = sibling(o, e.Name)
	}
	n := Node{in: in, elem: e, typ: e.Complex(), index: -1}
	isArray := v != nil && v.Type() == fastjson.TypeArray || v == nil && side != nil && side.Type() == fastjson.TypeArray
	if !isArray {
		return appendValue(out, n, v, side)
	}
	var items, sides []*fastjson.Value
	if v != nil {
		items = v.GetArray()
	}
	if side != nil {
		sides = side.GetArray()
	}
	for i := range max(len(items), len(sides)) {
		var v, s *fastjson.Value
		if i < len(items) {
			v = items[i]
		}
		if i < len(sides) {
			s = sides[i]
		}
		n.index = int32(i)
		out = appendValue(out, n, v, s)
	}
	return out
}

// appendValue appends n as the element whose value is v, unless it is nothing.
func appendValue(out []Node, n Node, v, side *fastjson.Value) []Node {
	if v != nil && v.Type() == fastjson.TypeNull {
		v = nil
	}
	if side != nil && side.Type() != fastjson.TypeObject {
		side = nil
	}
	n.json, n.side = v, side
	switch {
	case n.typ != nil:
		if v == nil || v.Type() != fastjson.TypeObject {
			return out
		}
		n.typ = concrete(n.typ, v)
	case v == nil && side == nil:
		return out
	}
	return append(out, n)
}

// sibling returns the member _name of o.
func sibling(o *fastjson.Object, name string) *fastjson.Value {
	var buf [64]byte
	key := append(append(buf[:0], '_'), name...)
	return o.Get(string(key))
}
