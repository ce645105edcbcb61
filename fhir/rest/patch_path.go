package rest

import (
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A pathPatch is a FHIRPath Patch: what to do, in this order.
// https://hl7.org/fhir/R4/fhirpatch.html
type pathPatch []pathOp

// A pathOp is one operation of a FHIRPath Patch.
type pathOp struct {
	place string // in the Parameters
	kind  string
	path  *path.Expr
	name  string // of the element to add
	value patchValue
	index int // to insert at, or to move from
	to    int // to move to
}

// A patchValue is the content that an operation brings: one value, or parts of
// an element that no datatype describes.
type patchValue struct {
	typ   string // of the value, as in valueHumanName; "" if there are parts
	value []byte // nil if there are parts or only a sibling
	side  []byte // the sibling of a primitive value
	parts []patchPart
}

// A patchPart is a named part of a patchValue.
type patchPart struct {
	name string
	patchValue
}

// patchSteps bounds the work for the path of one operation.
const patchSteps = 100_000

// maxParts is how deep the parts of a value may nest.
const maxParts = 32

// decodePathPatch reads a FHIRPath Patch of at most max operations from a valid
// Parameters resource, which the client knows by the place.
func decodePathPatch(parameters []byte, place string, max int) (pathPatch, error) {
	var ops pathPatch
	var fault error
	elements(member(parameters, "parameter"), func(p []byte) bool {
		at := place + ".parameter[" + strconv.Itoa(len(ops)) + "]"
		if len(ops) == max {
			fault = tooManyOps(max)
			return false
		}
		op, err := decodePathOp(p, at)
		if err != nil {
			fault = err
			return false
		}
		ops = append(ops, op)
		return true
	})
	return ops, fault
}

// decodePathOp reads one operation.
func decodePathOp(p []byte, at string) (pathOp, error) {
	op := pathOp{place: at, index: -1, to: -1}
	wrong := func(format string, args ...any) (pathOp, error) {
		return op, fhir.Errorf(fhir.Invalid, format, args...).At(at)
	}
	if text(member(p, "name")) != "operation" {
		return wrong("a parameter of a FHIRPath Patch is called operation")
	}
	var fault error
	expr := ""
	elements(member(p, "part"), func(part []byte) bool {
		v, err := decodePatchValue(part, maxParts)
		if err != nil {
			fault = clientError(err).At(at)
			return false
		}
		switch text(member(part, "name")) {
		case "type":
			op.kind = text(v.value)
		case "path":
			expr = text(v.value)
		case "name":
			op.name = text(v.value)
		case "value":
			op.value = v
		case "index", "source":
			op.index = natural(v.value)
		case "destination":
			op.to = natural(v.value)
		default:
			fault = fhir.Errorf(fhir.Invalid, "the operation has a part that FHIRPath Patch does not have").At(at)
		}
		return fault == nil
	})
	if fault != nil {
		return op, fault
	}
	if expr == "" {
		return wrong("the operation has no path")
	}
	var err error
	if op.path, err = path.Parse(expr); err != nil {
		return op, clientError(err).At(at)
	}
	hasValue := op.value.typ != "" || op.value.parts != nil
	switch op.kind {
	case "add":
		if op.name == "" || !hasValue {
			return wrong("add needs a name and a value")
		}
	case "insert":
		if op.index < 0 || !hasValue {
			return wrong("insert needs a value and an index that is not negative")
		}
	case "replace":
		if !hasValue {
			return wrong("replace needs a value")
		}
	case "move":
		if op.index < 0 || op.to < 0 {
			return wrong("move needs a source and a destination that are not negative")
		}
	case "delete":
	default:
		return wrong("the type of the operation is none of add, insert, delete, replace and move")
	}
	return op, nil
}

// natural reads a number that is not negative; -1 stands for any other.
func natural(raw []byte) int {
	n := 0
	for _, c := range raw {
		if c < '0' || c > '9' || n > 1<<24 {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	if len(raw) == 0 {
		return -1
	}
	return n
}

// decodePatchValue reads the value or the parts of a part.
func decodePatchValue(part []byte, depth int) (v patchValue, err error) {
	if depth == 0 {
		return v, fhir.Errorf(fhir.Invalid, "the parts of a value nest more than %d deep", maxParts)
	}
	members(part, func(name string, value []byte) bool {
		switch typ, isValue := strings.CutPrefix(strings.TrimPrefix(name, "_"), "value"); {
		case isValue && name[0] == '_':
			v.typ, v.side = typ, value
		case isValue:
			v.typ, v.value = typ, value
		case name == "resource":
			v.typ, v.value = "Resource", value
		case name == "part":
			elements(value, func(p []byte) bool {
				var below patchValue
				if below, err = decodePatchValue(p, depth-1); err == nil {
					v.parts = append(v.parts, patchPart{text(member(p, "name")), below})
				}
				return err == nil
			})
		}
		return err == nil
	})
	return v, err
}

// element returns the element of t that name stands for and the value can be
// of: for a choice that of the type of the value.
func (v patchValue) element(t *r4.Type, name string) *r4.Element {
	name = strings.TrimSuffix(name, "[x]")
	choice := t.Choice(name)
	for i := range choice {
		e := &choice[i]
		if e.Choice() == "" || e.Name == name || e.Name == name+v.typ {
			return e
		}
	}
	return nil
}

// item returns the value as one of element e.
func (v patchValue) item(e *r4.Element) (item, error) {
	if v.parts == nil {
		return item{v.value, v.side}, nil
	}
	t := e.Complex()
	if t == nil || t.Path == "Resource" {
		return item{}, fhir.Errorf(fhir.Invalid, "a value with parts for an element that has a type")
	}
	o := object{typ: t}
	for _, p := range v.parts {
		below := p.element(t, p.name)
		if below == nil {
			return item{}, fhir.Errorf(fhir.Invalid, "a part of the value is no element of %s", t.Path)
		}
		it, err := p.item(below)
		if err != nil {
			return item{}, err
		}
		items := o.items(below)
		if len(items) > 0 && !below.Many() {
			return item{}, fhir.Errorf(fhir.Invalid, "two parts of the value are for %s, which does not repeat", below.Name)
		}
		o.setItems(below, append(items, it))
	}
	return item{value: o.bytes()}, nil
}

// apply returns the JSON of a resource after the operations. What they do not
// touch stays byte for byte.
func (ops pathPatch) apply(body []byte, limit int) ([]byte, error) {
	for _, op := range ops {
		d, err := fhir.Reopen(body)
		if err != nil {
			return nil, err
		}
		if body, err = op.apply(d); err != nil {
			return nil, clientError(err).At(op.place)
		}
		if len(body) > limit {
			return nil, fhir.Errorf(fhir.TooCostly, "the patch makes the resource too large")
		}
	}
	return body, nil
}

// apply does one operation.
func (op pathOp) apply(d *fhir.Document) ([]byte, error) {
	root := path.Root(d)
	found, err := op.path.Eval(&path.Context{Resource: root, Steps: patchSteps}, root)
	if err != nil {
		return nil, err
	}
	for _, n := range found {
		if !n.IsElement() {
			return nil, fhir.Errorf(fhir.Invalid, "the path leads to no element of the resource")
		}
	}
	switch op.kind {
	case "insert", "move":
		return op.changeList(d, found)
	case "delete":
		if len(found) == 0 {
			return d.JSON, nil
		}
	}
	if len(found) != 1 {
		return nil, fhir.Errorf(fhir.BusinessRule, "the path of the operation leads to %d elements where there must be one", len(found))
	}
	n := found[0]
	if op.kind == "add" {
		return op.add(d, n)
	}
	if n.Parent() == nil {
		return nil, fhir.Errorf(fhir.BusinessRule, "a patch cannot delete or replace the resource")
	}
	return change(d, n.Parent(), func(o *object) error {
		e := n.Element()
		items, i, err := o.at(e, n.Index())
		if err != nil {
			return err
		}
		if op.kind == "delete" {
			o.setItems(e, append(items[:i:i], items[i+1:]...))
			return nil
		}
		with := e
		if c := e.Choice(); c != "" {
			if with = op.value.element(o.typ, c); with == nil {
				return fhir.Errorf(fhir.Invalid, "the element cannot have a value of this type")
			}
		}
		it, err := op.value.item(with)
		if err != nil {
			return err
		}
		if with != e {
			o.setItems(e, nil)
			items, i = []item{{}}, 0
		}
		items[i] = it
		o.setItems(with, items)
		return nil
	})
}

// add gives n a child, or one more value of a child that repeats.
func (op pathOp) add(d *fhir.Document, n path.Node) ([]byte, error) {
	fill := func(o *object) error {
		e := op.value.element(o.typ, op.name)
		if e == nil {
			return fhir.Errorf(fhir.Invalid, "the element has no such child, or none of this type")
		}
		it, err := op.value.item(e)
		if err != nil {
			return err
		}
		if !e.Many() {
			for _, other := range o.typ.Choice(op.name) {
				o.setItems(&other, nil)
			}
			o.setItems(e, []item{it})
			return nil
		}
		o.setItems(e, append(o.items(e), it))
		return nil
	}
	if n.ComplexType() != nil {
		return change(d, n.JSON(), fill)
	}
	return change(d, n.Parent(), func(o *object) error {
		e := n.Element()
		items, i, err := o.at(e, n.Index())
		if err != nil {
			return err
		}
		beside := newObject(elementType, items[i].side)
		if err := fill(beside); err != nil {
			return err
		}
		items[i].side = beside.bytes()
		o.setItems(e, items)
		return nil
	})
}

// changeList inserts into a list, or moves what is in it. found is all of it.
func (op pathOp) changeList(d *fhir.Document, found []path.Node) ([]byte, error) {
	if len(found) == 0 {
		return nil, fhir.Errorf(fhir.BusinessRule, "the path of the operation leads to no list")
	}
	first := found[0]
	e := first.Element()
	for _, n := range found {
		if n.Parent() == nil || n.Parent() != first.Parent() || n.Element() != e || !e.Many() {
			return nil, fhir.Errorf(fhir.BusinessRule, "the path of the operation leads to what is not one list")
		}
	}
	return change(d, first.Parent(), func(o *object) error {
		items := o.items(e)
		outside := fhir.Errorf(fhir.BusinessRule, "an index of the operation is outside of the list")
		switch {
		case len(items) != len(found):
			return fhir.Errorf(fhir.BusinessRule, "the path of the operation leads to a part of a list only")
		case op.kind == "insert":
			if op.index > len(items) {
				return outside
			}
			it, err := op.value.item(e)
			if err != nil {
				return err
			}
			items = append(items[:op.index:op.index], append([]item{it}, items[op.index:]...)...)
		default:
			if op.index >= len(items) || op.to >= len(items) {
				return outside
			}
			moved := items[op.index]
			items = append(items[:op.index:op.index], items[op.index+1:]...)
			items = append(items[:op.to:op.to], append([]item{moved}, items[op.to:]...)...)
		}
		o.setItems(e, items)
		return nil
	})
}

// A step leads from an object to one in it: the name of a member, and the
// place in its array, -1 if it is none.
type step struct {
	name  string
	index int
}

// change returns the JSON of d with fn done to the object that is at, which is
// in its tree. An object that fn leaves empty goes, as FHIR has no such
// elements.
func change(d *fhir.Document, at *fastjson.Value, fn func(*object) error) ([]byte, error) {
	way, ok := find(d.Tree, at, nil)
	if !ok {
		return nil, misfit()
	}
	return changeAt(r4.TypeOf(string(d.Type)), d.JSON, way, fn)
}

// find returns the way from v to the object at.
func find(v, at *fastjson.Value, way []step) ([]step, bool) {
	if v == at {
		return way, true
	}
	if v.Type() != fastjson.TypeObject {
		return nil, false
	}
	o, err := v.Object()
	if err != nil {
		return nil, false
	}
	var out []step
	found := false
	o.Visit(func(key []byte, v *fastjson.Value) {
		switch {
		case found:
		case v.Type() == fastjson.TypeArray:
			for i, item := range v.GetArray() {
				if out, found = find(item, at, append(way, step{string(key), i})); found {
					break
				}
			}
		default:
			out, found = find(v, at, append(way, step{string(key), -1}))
		}
	})
	return out, found
}

// changeAt is change below the object raw of type t.
func changeAt(t *r4.Type, raw []byte, way []step, fn func(*object) error) ([]byte, error) {
	o := newObject(concrete(t, raw), raw)
	if len(way) == 0 {
		if err := fn(o); err != nil {
			return nil, err
		}
		return o.bytes(), nil
	}
	name, sibling := strings.CutPrefix(way[0].name, "_")
	e := o.typ.Element(name)
	if e == nil {
		return nil, misfit()
	}
	items, i, err := o.at(e, way[0].index)
	if err != nil {
		return nil, err
	}
	below, part := e.Complex(), &items[i].value
	if sibling {
		below, part = elementType, &items[i].side
	}
	if below == nil {
		return nil, misfit()
	}
	changed, err := changeAt(below, *part, way[1:], fn)
	if err != nil {
		return nil, err
	}
	*part = changed
	if len(changed) == len("{}") {
		if *part = nil; items[i].value == nil && items[i].side == nil {
			items = append(items[:i:i], items[i+1:]...)
		}
	}
	o.setItems(e, items)
	return o.bytes(), nil
}

// concrete returns the type of the object raw, whose element has the type t.
func concrete(t *r4.Type, raw []byte) *r4.Type {
	if t.Path == "Resource" {
		if c := r4.TypeOf(text(member(raw, "resourceType"))); c != nil {
			return c
		}
	}
	return t
}

// An item is one value of an element, and what stands beside it if it is
// primitive; nil if it is not there.
type item struct{ value, side []byte }

// An object is the JSON of an element, to be changed. Members that are not
// changed keep their bytes and their order.
type object struct {
	typ   *r4.Type
	names []string
	raw   [][]byte
}

func newObject(t *r4.Type, raw []byte) *object {
	o := &object{typ: t}
	if len(raw) > 0 && raw[0] == '{' {
		members(raw, func(name string, value []byte) bool {
			o.names, o.raw = append(o.names, name), append(o.raw, value)
			return true
		})
	}
	return o
}

// get returns the raw value of the member, nil if there is none.
func (o *object) get(name string) []byte {
	for i, n := range o.names {
		if n == name {
			return o.raw[i]
		}
	}
	return nil
}

// set gives the member a value, or removes it if that is nil.
func (o *object) set(name string, raw []byte) {
	for i, n := range o.names {
		if n != name {
			continue
		}
		if raw != nil {
			o.raw[i] = raw
			return
		}
		o.names = append(o.names[:i:i], o.names[i+1:]...)
		o.raw = append(o.raw[:i:i], o.raw[i+1:]...)
		return
	}
	if raw != nil {
		o.names, o.raw = append(o.names, name), append(o.raw, raw)
	}
}

// items returns the values of e.
func (o *object) items(e *r4.Element) []item {
	value, side := o.get(e.Name), o.get("_"+e.Name)
	if !e.Many() {
		if value == nil && side == nil {
			return nil
		}
		return []item{{value, side}}
	}
	var items []item
	elements(value, func(v []byte) bool {
		items = append(items, item{value: present(v)})
		return true
	})
	i := 0
	elements(side, func(v []byte) bool {
		if i == len(items) {
			items = append(items, item{})
		}
		items[i].side = present(v)
		i++
		return true
	})
	return items
}

// at returns the values of e, and the place among them of the one with the
// index, -1 if e does not repeat.
func (o *object) at(e *r4.Element, index int) ([]item, int, error) {
	items, i := o.items(e), max(index, 0)
	if i >= len(items) {
		return nil, 0, misfit()
	}
	return items, i, nil
}

// present returns v, nil if it is null.
func present(v []byte) []byte {
	if string(v) == "null" {
		return nil
	}
	return v
}

// setItems gives e the values.
func (o *object) setItems(e *r4.Element, items []item) {
	var values, sides [][]byte
	for _, it := range items {
		values, sides = append(values, it.value), append(sides, it.side)
	}
	o.set(e.Name, join(values, e.Many()))
	o.set("_"+e.Name, join(sides, e.Many()))
}

// join returns the values as JSON, nil if there are none.
func join(values [][]byte, array bool) []byte {
	out, some := []byte{'['}, false
	for i, v := range values {
		if v != nil && !array {
			return v
		}
		if i > 0 {
			out = append(out, ',')
		}
		if v == nil {
			out = append(out, "null"...)
			continue
		}
		some = true
		out = append(out, v...)
	}
	if !some {
		return nil
	}
	return append(out, ']')
}

// bytes returns the JSON of o.
func (o *object) bytes() []byte {
	out := []byte{'{'}
	for i, name := range o.names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(append(out, '"'), name...), '"', ':'), o.raw[i]...)
	}
	return append(out, '}')
}
