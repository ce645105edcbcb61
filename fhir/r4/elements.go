package r4

import (
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
)

// A Type is a resource type, a complex datatype, or an element whose children
// are defined in place, such as Patient.contact.
// https://hl7.org/fhir/R4/structuredefinition.html
type Type struct {
	// Path names the type: "Patient", "Patient.contact", "HumanName".
	Path        string
	first, last uint16     // its rows in elements
	required    []*Element // filled with index
}

// An Element is a member that JSON may have in an object of a Type. A choice
// such as value[x] is one Element for each of its types.
// https://hl7.org/fhir/R4/elementdefinition.html
type Element struct {
	// Name is the name in JSON, "valueQuantity".
	Name      string
	typ       uint16 // place in types, if primitive is 0
	valueSet  uint16 // place in valueSets
	primitive Primitive
	min       uint8
	flags     uint8
	choice    uint8 // number of the choice in its type, 0 if it is none
	targets   uint16
}

const (
	flagMany = 1 << iota
	flagSummary
	flagModifier
)

// A Primitive is a primitive type, or 0 for none.
// https://hl7.org/fhir/R4/datatypes.html#primitive
type Primitive uint8

// The primitive types.
const (
	Base64Binary Primitive = 1 + iota
	Boolean
	Canonical
	Code
	Date
	DateTime
	Decimal
	ID
	Instant
	Integer
	Markdown
	OID
	PositiveInt
	String
	Time
	UnsignedInt
	URI
	URL
	UUID
	XHTML
)

var primitiveNames = [...]string{"", "base64Binary", "boolean", "canonical", "code", "date", "dateTime", "decimal", "id",
	"instant", "integer", "markdown", "oid", "positiveInt", "string", "time", "unsignedInt", "uri", "url", "uuid", "xhtml"}

// String returns the name of the type, "positiveInt".
func (p Primitive) String() string { return primitiveNames[p] }

// TypeOf returns the type with the path, nil if R4 has none.
func TypeOf(path string) *Type {
	i, ok := index.types[path]
	if !ok {
		return nil
	}
	return &types[i]
}

// Types returns all types, sorted by path. They must not be changed.
func Types() []Type { return types[:] }

// ElementOf returns the element of the type at path that JSON names so, nil if
// there is none.
func ElementOf(path, name string) *Element {
	t := TypeOf(path)
	if t == nil {
		return nil
	}
	return t.Element(name)
}

// Elements returns the elements of t in the order of the standard. They must
// not be changed.
func (t *Type) Elements() []Element { return elements[t.first:t.last] }

// Element returns the element that JSON names so, nil if t has none.
func (t *Type) Element(name string) *Element {
	for slot := hash(t.first, name); ; slot++ {
		i := index.slots[slot%slots]
		if i == 0 {
			return nil
		}
		if i--; i >= t.first && i < t.last && elements[i].Name == name {
			return &elements[i]
		}
	}
}

// Required returns the elements that an object of t must have. A choice is
// represented by its first Element.
func (t *Type) Required() []*Element { return t.required }

// Choice returns the Elements of the choice called name: those of value[x] for
// "value". It returns one Element if name is no choice, and none if t has no
// such element.
func (t *Type) Choice(name string) []Element {
	list := t.Elements()
	for i := range list {
		e := &list[i]
		if e.Name == name {
			return list[i : i+1]
		}
		if e.choice != 0 && e.Choice() == name {
			end := i
			for end < len(list) && list[end].choice == e.choice {
				end++
			}
			return list[i:end]
		}
	}
	return nil
}

// Type returns the type of the values of e: "Quantity", "string",
// "Patient.contact", or "Resource" where any resource may stand.
func (e *Element) Type() string {
	if e.primitive != 0 {
		return e.primitive.String()
	}
	return types[e.typ].Path
}

// Complex returns the type of the values of e, nil if it is primitive.
func (e *Element) Complex() *Type {
	if e.primitive != 0 {
		return nil
	}
	return &types[e.typ]
}

// Primitive returns the primitive type of e, 0 if its type is complex.
func (e *Element) Primitive() Primitive { return e.primitive }

// Required reports whether there must be a value. For a choice it means that
// one of its Elements must have a value.
func (e *Element) Required() bool { return e.min > 0 }

// Many reports whether e may repeat, and so is an array in JSON.
func (e *Element) Many() bool { return e.flags&flagMany != 0 }

// Summary reports whether e is in the answer to _summary=true.
// https://hl7.org/fhir/R4/search.html#summary
func (e *Element) Summary() bool { return e.flags&flagSummary != 0 }

// Modifier reports whether e changes the meaning of what holds it.
func (e *Element) Modifier() bool { return e.flags&flagModifier != 0 }

// ChoiceNumber is equal for the Elements of one choice of a type and 0 for an
// element that is no choice.
func (e *Element) ChoiceNumber() int { return int(e.choice) }

// Choice returns the name of the choice without [x], "value" for
// "valueQuantity", and "" if e is no choice.
func (e *Element) Choice() string {
	if e.choice == 0 {
		return ""
	}
	suffix := len(e.Type())
	return e.Name[:len(e.Name)-suffix]
}

// Targets returns the types that a Reference or canonical may point to. None
// means any.
func (e *Element) Targets() []fhir.Type { return targets[e.targets] }

// ValueSet returns the value set that the codes of e must be from, nil if
// there is none or it is not enumerable.
func (e *Element) ValueSet() *ValueSet {
	if e.valueSet == 0 {
		return nil
	}
	return &valueSets[e.valueSet]
}

// Summary returns the names in JSON of the elements of the type that are in
// the answer to _summary=true, in the order of the standard.
// https://hl7.org/fhir/R4/search.html#summary
func Summary(t fhir.Type) []string {
	return topLevel(t, (*Element).Summary)
}

// Mandatory returns the names in JSON of the elements of the type that must
// have a value; all of a choice, one of which must. _elements and
// _summary=text keep them.
// https://hl7.org/fhir/R4/search.html#elements
func Mandatory(t fhir.Type) []string {
	return topLevel(t, (*Element).Required)
}

func topLevel(t fhir.Type, keep func(*Element) bool) []string {
	typ := TypeOf(string(t))
	if typ == nil {
		return nil
	}
	var names []string
	list := typ.Elements()
	for i := range list {
		if keep(&list[i]) {
			names = append(names, list[i].Name)
		}
	}
	return names
}

// A ValueSet is the value set of a required binding.
// https://hl7.org/fhir/R4/terminologies.html#required
type ValueSet struct {
	URL     string
	systems []system
}

type system struct {
	url   string
	codes []string // sorted
}

// HasCode reports whether the code is in v, whatever its system.
func (v *ValueSet) HasCode(code string) bool {
	for i := range v.systems {
		if _, ok := slices.BinarySearch(v.systems[i].codes, code); ok {
			return true
		}
	}
	return false
}

// Has reports whether the code of the system is in v.
func (v *ValueSet) Has(system, code string) bool {
	for i := range v.systems {
		if v.systems[i].url == system {
			_, ok := slices.BinarySearch(v.systems[i].codes, code)
			return ok
		}
	}
	return false
}

// Systems returns the code systems that v has codes of.
func (v *ValueSet) Systems() []string {
	list := make([]string, len(v.systems))
	for i := range v.systems {
		list[i] = v.systems[i].url
	}
	return list
}

// System returns the system of the code in v, which search implies for an
// element of type code; "" if v has no such code.
func (v *ValueSet) System(code string) string {
	for i := range v.systems {
		if _, ok := slices.BinarySearch(v.systems[i].codes, code); ok {
			return v.systems[i].url
		}
	}
	return ""
}

// slots is the size of the hash table over elements: a power of two, about
// twice as large as there are elements.
const slots = 1 << 15

// index finds types by path and elements by type and name.
var index = func() (x struct {
	types map[string]uint16
	slots [slots]uint16 // place in elements, counted from 1
}) {
	x.types = make(map[string]uint16, len(types))
	for i := range types {
		t := &types[i]
		x.types[t.Path] = uint16(i)
		for e := t.first; e < t.last; e++ {
			slot := hash(t.first, elements[e].Name)
			for x.slots[slot%slots] != 0 {
				slot++
			}
			x.slots[slot%slots] = e + 1
			if elements[e].Required() && (elements[e].choice == 0 || e == t.first || elements[e-1].choice != elements[e].choice) {
				t.required = append(t.required, &elements[e])
			}
		}
	}
	return x
}()

// hash is FNV-1a over the name, begun with the type.
func hash(t uint16, name string) uint32 {
	h := uint32(2166136261) ^ uint32(t)*2654435761
	for i := 0; i < len(name); i++ {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h ^ h>>15
}
