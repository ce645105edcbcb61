// Package validate says what is wrong with a resource.
//
// https://hl7.org/fhir/R4/validation.html
package validate

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// Resource returns nil if d is a valid resource of R4, else a *fhir.Error with
// every fault, its rule and its place. It holds no value of the resource. The
// rules are those of the base specification: structure, cardinality, types,
// formats, required bindings, targets of references, and the invariants of
// Element, Extension, DomainResource and Narrative. Resources in d (contained,
// entries of a Bundle, Parameters) are held to the same rules.
func Resource(d *fhir.Document) error { return At(d, string(d.Type)) }

// At is Resource for a resource that the client knows by another place, such
// as Bundle.entry[2].resource: the places of the faults begin with it.
func At(d *fhir.Document, place string) error {
	w := walker{root: place}
	return w.run(d)
}

// Envelope is Resource for a Bundle, without the resources in its entries.
// A batch validates them one by one, so that one may fail and others not.
func Envelope(d *fhir.Document) error {
	w := walker{root: string(d.Type), envelope: true}
	return w.run(d)
}

// maxFaults is how many faults are reported at once.
const maxFaults = 100

// A walker walks one resource and collects what is wrong with it.
type walker struct {
	root     string
	envelope bool
	path     []step
	scope    scope
	issues   []fhir.Issue
	full     bool // there are maxFaults issues; nothing more is looked for
}

// A step of the way from the root: an element and, if it repeats, which one.
type step struct {
	element *r4.Element
	index   int // -1 if it does not repeat
}

var elementType = r4.TypeOf("Element")

func (w *walker) run(d *fhir.Document) error {
	var path [16]step
	w.path = path[:0]
	o, err := d.Tree.Object()
	if err != nil {
		return fhir.Errorf(fhir.Structure, "a resource is a JSON object")
	}
	w.resource(r4.TypeOf(string(d.Type)), o)
	if len(w.issues) == 0 {
		return nil
	}
	return &fhir.Error{Issues: w.issues}
}

// fault adds an issue at the current place.
func (w *walker) fault(code fhir.IssueCode, format string, args ...any) {
	if !w.full {
		w.faultAt(w.place(), code, format, args...)
	}
}

func (w *walker) faultAt(place string, code fhir.IssueCode, format string, args ...any) {
	if w.full {
		return
	}
	w.issues = append(w.issues, fhir.Issue{Severity: "error", Code: code, Diagnostics: fmt.Sprintf(format, args...), Expression: []string{place}})
	if len(w.issues) == maxFaults {
		w.full = true
		w.issues = append(w.issues, fhir.Issue{Severity: "information", Code: fhir.Informational,
			Diagnostics: fmt.Sprintf("validation stopped after %d faults", maxFaults)})
	}
}

// place returns the FHIRPath of the element that w is at. A choice is named
// without its type there.
// https://hl7.org/fhir/R4/fhirpath.html#polymorphism
func (w *walker) place() string {
	var b strings.Builder
	b.WriteString(w.root)
	for _, s := range w.path {
		name := s.element.Choice()
		if name == "" {
			name = s.element.Name
		}
		b.WriteString("." + name)
		if s.index >= 0 {
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		}
	}
	return b.String()
}

// resource walks a resource that is not contained: it has its own contained
// resources, which the references in it can name.
func (w *walker) resource(t *r4.Type, o *fastjson.Object) {
	outer := w.scope
	w.scope = scope{current: -1}
	w.object(t, o, ofResource)
	w.resolve()
	w.scope = outer
}

// What an object is, as far as the rules for its members differ.
type role int

const (
	ofElement   role = iota
	ofResource       // has resourceType, may be empty otherwise
	ofPrimitive      // is beside the value of a primitive, so id alone is enough
)

// object walks the members of an object of type t.
// https://hl7.org/fhir/R4/json.html#complex
func (w *walker) object(t *r4.Type, o *fastjson.Object, as role) {
	content := 0 // members but id: ele-1 asks for one
	var choices uint64
	o.Visit(func(key []byte, v *fastjson.Value) {
		if w.full || as == ofResource && string(key) == "resourceType" {
			return
		}
		name, sibling := key, false
		if len(key) > 1 && key[0] == '_' {
			name, sibling = key[1:], true
		}
		if string(name) != "id" {
			content++
		}
		e := t.Element(string(name))
		if e == nil || sibling && (e.Primitive() == 0 || e.Primitive() == r4.XHTML) {
			w.unknown(t, string(key))
			return
		}
		beside := sibling && o.Get(e.Name) != nil
		if bit := uint64(1) << e.ChoiceNumber(); bit > 1 && !beside {
			if choices&bit != 0 {
				w.fault(fhir.Structure, "%s[x] has more than one value", e.Choice())
			}
			choices |= bit
		}
		w.path = append(w.path, step{e, -1})
		if sibling {
			w.sibling(e, o.Get(e.Name), v)
		} else {
			w.member(e, o, v)
		}
		w.path = w.path[:len(w.path)-1]
	})
	for _, e := range t.Required() {
		w.required(t, e, o)
	}
	if o.Len() == 0 {
		w.fault(fhir.Structure, "an object must not be empty")
	} else if content == 0 && as == ofElement {
		w.fault(fhir.Invariant, "ele-1: an element must have a value or children")
	}
}

// unknown reports a member that t does not have. Its name is repeated only if
// it is the name of an element somewhere; else it could be anything.
func (w *walker) unknown(t *r4.Type, name string) {
	if !fhir.IsElementName(name) {
		name = "a member"
	}
	w.fault(fhir.Structure, "%s is not an element of %s; names are case-sensitive", name, t.Path)
}

// required reports that e is missing, with its value and the extensions that
// could stand in for it.
func (w *walker) required(t *r4.Type, e *r4.Element, o *fastjson.Object) {
	name := e.Name
	if e.Choice() != "" {
		name = e.Choice()
	}
	alternatives := t.Choice(name)
	for i := range alternatives {
		a := &alternatives[i]
		if o.Get(a.Name) != nil || a.Primitive() != 0 && o.Get("_"+a.Name) != nil {
			return
		}
	}
	w.path = append(w.path, step{e, -1})
	w.fault(fhir.Required, "%s must have %s", t.Path, name)
	w.path = w.path[:len(w.path)-1]
}

// member walks the value, or the values, of an element.
// https://hl7.org/fhir/R4/json.html#repeat
func (w *walker) member(e *r4.Element, o *fastjson.Object, v *fastjson.Value) {
	isArray := v.Type() == fastjson.TypeArray
	switch {
	case isArray && !e.Many():
		w.fault(fhir.Structure, "%s does not repeat and must not be an array", e.Name)
		return
	case !isArray && e.Many():
		w.fault(fhir.Structure, "%s repeats and must be an array", e.Name)
		return
	case !isArray:
		w.value(e, v)
		return
	}
	items := v.GetArray()
	if len(items) == 0 {
		w.fault(fhir.Structure, "an array must not be empty")
	}
	top := len(w.path) - 1
	for i, item := range items {
		w.path[top].index = i
		if item.Type() == fastjson.TypeNull && e.Primitive() != 0 {
			if !holds(o.Get("_"+e.Name), i) {
				w.fault(fhir.Structure, "a null in an array needs an extension in its place in _%s", e.Name)
			}
			continue
		}
		w.value(e, item)
	}
}

// holds reports whether v is an array with an object at i.
func holds(v *fastjson.Value, i int) bool {
	if v == nil || v.Type() != fastjson.TypeArray {
		return false
	}
	items := v.GetArray()
	return i < len(items) && items[i].Type() == fastjson.TypeObject
}

// sibling walks _name, which holds the id and the extensions of the primitive
// element name. base is the value of name, nil if there is none.
// https://hl7.org/fhir/R4/json.html#primitive
func (w *walker) sibling(e *r4.Element, base, v *fastjson.Value) {
	if !e.Many() {
		w.siblingObject(e, base == nil, v)
		return
	}
	if v.Type() != fastjson.TypeArray || len(v.GetArray()) == 0 {
		w.fault(fhir.Structure, "_%s must be an array that is not empty", e.Name)
		return
	}
	items := v.GetArray()
	var values []*fastjson.Value
	if base != nil {
		if values = base.GetArray(); len(values) != len(items) {
			w.fault(fhir.Structure, "%s and _%s must be arrays of one length", e.Name, e.Name)
			return
		}
	}
	top := len(w.path) - 1
	for i, item := range items {
		w.path[top].index = i
		alone := base == nil || values[i].Type() == fastjson.TypeNull
		if item.Type() == fastjson.TypeNull {
			if base == nil {
				w.fault(fhir.Structure, "a null in an array needs a value in its place in %s", e.Name)
			}
			continue
		}
		w.siblingObject(e, alone, item)
	}
}

func (w *walker) siblingObject(e *r4.Element, alone bool, v *fastjson.Value) {
	o, ok := object(v)
	if !ok {
		w.fault(fhir.Structure, "_%s must be an object with id or extension", e.Name)
		return
	}
	if alone {
		w.object(elementType, o, ofElement)
	} else {
		w.object(elementType, o, ofPrimitive)
	}
}

// object returns v as an object. v.Object would allocate an error if it is none.
func object(v *fastjson.Value) (*fastjson.Object, bool) {
	if v == nil || v.Type() != fastjson.TypeObject {
		return nil, false
	}
	o, err := v.Object()
	return o, err == nil
}

// value walks one value of an element.
func (w *walker) value(e *r4.Element, v *fastjson.Value) {
	if e.Primitive() != 0 {
		w.primitive(e, v)
		return
	}
	o, ok := object(v)
	t := e.Complex()
	if !ok {
		w.fault(fhir.Structure, "%s must be an object", e.Name)
		return
	}
	if t.Path == "Resource" {
		w.nested(e, o)
		return
	}
	w.object(t, o, ofElement)
	switch t.Path {
	case "Extension":
		w.extension(o)
	case "Reference":
		w.reference(e, o)
	case "Coding":
		w.coding(e, o)
	case "CodeableConcept":
		w.codeableConcept(e, o)
	}
}

// primitive holds a primitive value against the format of its type and the
// value set of its element.
func (w *walker) primitive(e *r4.Element, v *fastjson.Value) {
	if e.Primitive() == r4.XHTML {
		w.narrative(v)
		return
	}
	if rule := format(e.Primitive(), v); rule != "" {
		w.fault(fhir.Value, "%s is not a valid %s: %s", e.Name, e.Primitive(), rule)
		return
	}
	switch e.Primitive() {
	case r4.Code:
		if set := e.ValueSet(); set != nil && !set.HasCode(string(v.GetStringBytes())) {
			w.fault(fhir.CodeInvalid, "the code of %s is not in the value set %s", e.Name, set.URL)
		}
	case r4.Canonical, r4.URI, r4.URL:
		if s := v.GetStringBytes(); s[0] == '#' {
			w.fragment(string(s[1:]), nil, e.Primitive() == r4.Canonical)
		}
	}
}

// extension holds o against ext-1.
// https://hl7.org/fhir/R4/extensibility.html#Extension
func (w *walker) extension(o *fastjson.Object) {
	hasValue := false
	o.Visit(func(key []byte, _ *fastjson.Value) {
		name := strings.TrimPrefix(string(key), "_")
		hasValue = hasValue || strings.HasPrefix(name, "value")
	})
	if hasValue == (o.Get("extension") != nil) {
		w.fault(fhir.Invariant, "ext-1: an extension must have either a value[x] or extensions")
	}
}
