package path

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/ucum"
)

// An expr is a node of the tree that an expression is parsed to.
type expr interface {
	// eval evaluates it with the focus: the input of the expression or the
	// item that a function such as where() is at, which is $this.
	eval(r *run, focus []Node) ([]Node, error)
}

// A run is the state of one evaluation.
type run struct {
	ctx      *Context
	focus    []Node // of the whole expression: %context
	steps    int    // that are left
	deadline time.Time
	now      time.Time
	index    int // $index
	indexed  bool
	total    []Node // $total
	nodes    []Node // memory for results
	input    [1]Node
	known    map[*once][]Node
}

const (
	defaultSteps = 1_000_000
	defaultTime  = 2 * time.Second
	checkEvery   = 1 << 12 // steps between looks at the clock, or at a context
	chunk        = 64      // nodes allocated at once
)

var nothing Context

func (r *run) begin(ctx *Context, focus []Node) {
	if ctx == nil {
		ctx = &nothing
	}
	r.ctx, r.focus = ctx, focus
	if r.steps = ctx.Steps; r.steps <= 0 {
		r.steps = defaultSteps
	}
}

// end lets go of all that the evaluation has seen.
func (r *run) end() {
	clear(r.nodes)
	*r = run{nodes: r.nodes[:0]}
	runs.Put(r)
}

// step counts n steps of work.
func (r *run) step(n int) error {
	before := r.steps
	r.steps -= n
	if r.steps < 0 {
		return costly()
	}
	if w := r.ctx.Work; w != nil {
		if !w.Do(n) {
			return costly()
		}
		return nil
	}
	if before/checkEvery == r.steps/checkEvery {
		return nil
	}
	now := time.Now()
	if r.deadline.IsZero() {
		limit := r.ctx.Time
		if limit <= 0 {
			limit = defaultTime
		}
		r.deadline = now.Add(limit)
	}
	if now.After(r.deadline) {
		return costly()
	}
	return nil
}

// spent counts n steps where no error can be returned. The next step returns
// it.
func (r *run) spent(n int) {
	r.steps -= n
	if w := r.ctx.Work; w != nil {
		w.Do(n)
	}
}

func costly() error {
	return fhir.Errorf(fhir.TooCostly, "evaluating the FHIRPath expression takes too much work")
}

// one returns n as a collection.
func (r *run) one(n Node) []Node {
	if len(r.nodes) == cap(r.nodes) {
		r.nodes = make([]Node, 0, chunk)
	}
	r.nodes = append(r.nodes, n)
	i := len(r.nodes)
	return r.nodes[i-1 : i : i]
}

// room returns an empty collection to append to, with memory for some items.
// No other result may be made before it is kept.
func (r *run) room() []Node {
	if cap(r.nodes)-len(r.nodes) < 4 {
		r.nodes = make([]Node, 0, chunk)
	}
	return r.nodes[len(r.nodes):]
}

// keep returns the collection made in room.
func (r *run) keep(out []Node) []Node {
	if n := len(r.nodes) + len(out); n <= cap(r.nodes) {
		r.nodes = r.nodes[:n]
	} else {
		clear(r.nodes[len(r.nodes):cap(r.nodes)]) // they were copied from there
	}
	return out[:len(out):len(out)]
}

// time returns the moment of the evaluation, which is one for all of it.
func (r *run) time() time.Time {
	if r.now.IsZero() {
		if r.now = r.ctx.Now; r.now.IsZero() {
			r.now = time.Now()
		}
	}
	return r.now
}

var (
	yes = []Node{{val: true}}
	no  = []Node{{val: false}}
)

// boolean returns b as a collection.
func boolean(b bool) []Node {
	if b {
		return yes[:1:1]
	}
	return no[:1:1]
}

// A pos is where in the text of the expression an expr begins.
type pos struct{ at int }

// fault is an error of the evaluation at p.
func (p pos) fault(format string, args ...any) error {
	return &faultAt{p.at, fhir.Errorf(fhir.Invalid, format, args...)}
}

// A faultAt is an error at a byte of the expression. Eval, which knows the
// text, turns it into the *fhir.Error that it holds.
type faultAt struct {
	at  int
	err *fhir.Error
}

func (f *faultAt) Error() string { return f.err.Error() }

// single returns the only item of the collection; ok is false if there is
// none. More than one is an error.
// http://hl7.org/fhirpath/N1/#singleton-evaluation-of-collections
func (p pos) single(c []Node) (n Node, ok bool, err error) {
	switch len(c) {
	case 0:
		return Node{}, false, nil
	case 1:
		return c[0], true, nil
	}
	return Node{}, false, p.fault("a collection of several items where there must be one")
}

// truth returns a collection as a boolean: one item that is no boolean is
// true. known is false if the collection is empty.
func truth(c []Node) (b, known bool, err error) {
	switch len(c) {
	case 0:
		return false, false, nil
	case 1:
		if _, ok := c[0].text(); ok {
			return true, true, nil // without a copy of it
		}
		if b, ok := c[0].Value().(bool); ok {
			return b, true, nil
		}
		return true, true, nil
	}
	return false, false, pos{}.fault("a collection of several items where a boolean must be")
}

// A literal is a value written in the expression, or {}.
type literal struct{ value []Node }

func (l *literal) eval(r *run, _ []Node) ([]Node, error) {
	return l.value[:len(l.value):len(l.value)], r.step(1)
}

// A special is $this, $index or $total.
type special struct{ name string }

func (s *special) eval(r *run, focus []Node) ([]Node, error) {
	switch s.name {
	case "index":
		if !r.indexed {
			return nil, nil
		}
		return r.one(Node{val: int64(r.index)}), nil
	case "total":
		return r.total, nil
	}
	return focus, nil
}

// A member is a name in a path.
// http://hl7.org/fhirpath/N1/#path-selection
type member struct {
	pos
	on   expr // nil if it begins the path
	name string
	// typ is set if the name is that of a type, which can begin a path.
	typ  typeName
	last atomic.Pointer[child] // what name stood for last
}

func newMember(at pos, on expr, name string) *member {
	m := &member{pos: at, on: on, name: name}
	if on == nil && name[0] >= 'A' && name[0] <= 'Z' {
		if t := (typeName{"", name}); t.resolve() && t.space == "FHIR" {
			m.typ = t
		}
	}
	return m
}

func (m *member) eval(r *run, focus []Node) ([]Node, error) {
	in := focus
	if m.on != nil {
		var err error
		if in, err = m.on.eval(r, focus); err != nil {
			return nil, err
		}
	} else if m.typ.name != "" && len(in) > 0 && m.typ.is(in[0]) {
		return in, r.step(1)
	}
	if err := r.step(1 + len(in)); err != nil {
		return nil, err
	}
	out, known := r.room(), false
	for i := range in {
		n := &in[i]
		if info, ok := n.val.(typeInfo); ok {
			out, known = append(out, info.member(m.name)...), true
			continue
		}
		t, _ := n.object()
		if t == nil {
			continue
		}
		c := m.last.Load()
		if c == nil || c.of != t {
			c = elementsOf(t, m.name)
			m.last.Store(c)
		}
		known = known || len(c.elems) > 0
		out = n.appendChild(out, c.elems)
	}
	if r.ctx.Strict && !known && len(in) > 0 {
		return nil, m.fault("an element of its type has no such child")
	}
	return r.keep(out), r.step(len(out))
}

// member returns the name or the namespace of a type.
func (t typeInfo) member(name string) []Node {
	switch name {
	case "name":
		return []Node{{val: t.name}}
	case "namespace":
		return []Node{{val: t.space}}
	}
	return nil
}

// An indexer is expression[index].
// http://hl7.org/fhirpath/N1/#index-integer-collection
type indexer struct {
	pos
	on, index expr
}

func (x *indexer) eval(r *run, focus []Node) ([]Node, error) {
	in, err := x.on.eval(r, focus)
	if err != nil {
		return nil, err
	}
	index, err := x.index.eval(r, focus)
	if err != nil {
		return nil, err
	}
	n, ok, err := x.single(index)
	if err != nil || !ok {
		return nil, err
	}
	i, ok := n.Value().(int64)
	if !ok {
		return nil, x.fault("an index that is no integer")
	}
	if i < 0 || i >= int64(len(in)) {
		return nil, nil
	}
	return in[i : i+1 : i+1], nil
}

// A constant is %name.
// http://hl7.org/fhirpath/N1/#environment-variables
// https://hl7.org/fhir/R4/fhirpath.html#variables
type constant struct {
	pos
	name string
}

// constants are those that stand for a text.
var constants = map[string]string{
	"sct": "http://snomed.info/sct", "loinc": "http://loinc.org", "ucum": ucum.System,
}

func (c *constant) eval(r *run, _ []Node) ([]Node, error) {
	if nodes, ok := r.ctx.Constants[c.name]; ok {
		return nodes, nil
	}
	switch c.name {
	case "context":
		return r.focus, nil
	case "resource":
		return r.resource(), nil
	case "rootResource":
		if n := r.ctx.RootResource; !n.IsZero() {
			return r.one(n), nil
		}
		return r.resource(), nil
	}
	if s, ok := constants[c.name]; ok {
		return r.one(String(s)), nil
	}
	if len(c.name) > 3 && c.name[:3] == "vs-" {
		return r.one(String("http://hl7.org/fhir/ValueSet/" + c.name[3:])), nil
	}
	if len(c.name) > 4 && c.name[:4] == "ext-" {
		return r.one(String("http://hl7.org/fhir/StructureDefinition/" + c.name[4:])), nil
	}
	return nil, c.fault("a constant that is not known")
}

// knownConstant reports whether every evaluation knows the constant.
func knownConstant(name string) bool {
	switch name {
	case "context", "resource", "rootResource":
		return true
	}
	return constants[name] != "" || strings.HasPrefix(name, "vs-") || strings.HasPrefix(name, "ext-")
}

// resource returns the resource that holds the focus.
func (r *run) resource() []Node {
	if n := r.ctx.Resource; !n.IsZero() {
		return r.one(n)
	}
	if len(r.focus) == 1 && r.focus[0].typ != nil && fhir.Type(r.focus[0].typ.Path).Known() {
		return r.focus
	}
	return nil
}

// isType is x is T and x.is(T).
// http://hl7.org/fhirpath/N1/#types
type isType struct {
	pos
	on   expr
	want typeName
}

func (x *isType) eval(r *run, focus []Node) ([]Node, error) {
	n, ok, err := x.operand(r, x.on, focus)
	if err != nil || !ok {
		return nil, err
	}
	return boolean(x.want.is(n)), nil
}

// asType is x as T and x.as(T). Invariants of R4 such as dom-3 take it for
// ofType(), which N1 does not allow, and others name the type of FHIRPath that
// a primitive stands for.
type asType struct {
	pos
	on   expr
	want typeName
}

func (x *asType) eval(r *run, focus []Node) ([]Node, error) {
	if !r.ctx.Strict {
		in, err := x.on.eval(r, focus)
		if err != nil {
			return nil, err
		}
		return filter(in, x.want.loosely), r.step(len(in))
	}
	n, ok, err := x.operand(r, x.on, focus)
	if err != nil || !ok || !x.want.exactly(n) {
		return nil, err
	}
	return r.one(n), nil
}

// operand evaluates e, which must yield one item at most.
func (p pos) operand(r *run, e expr, focus []Node) (Node, bool, error) {
	c, err := e.eval(r, focus)
	if err != nil {
		return Node{}, false, err
	}
	if err := r.step(1); err != nil {
		return Node{}, false, err
	}
	return p.single(c)
}

// ofType is x.ofType(T).
// http://hl7.org/fhirpath/N1/#oftypetype-type-specifier-collection
type ofType struct {
	on   expr
	want typeName
}

func (x *ofType) eval(r *run, focus []Node) ([]Node, error) {
	in, err := x.on.eval(r, focus)
	if err != nil {
		return nil, err
	}
	return filter(in, x.want.exactly), r.step(len(in))
}

// filter returns the items that keep wants, and in itself if it wants all.
func filter(in []Node, keep func(Node) bool) []Node {
	for i := range in {
		if keep(in[i]) {
			continue
		}
		out := append([]Node(nil), in[:i]...)
		for _, n := range in[i+1:] {
			if keep(n) {
				out = append(out, n)
			}
		}
		return out
	}
	return in
}
