package profile

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/ucum"
)

// base begins the canonical URLs of the definitions of R4.
const base = "http://hl7.org/fhir/StructureDefinition/"

// A profile is a StructureDefinition, compiled: what it asks for beyond the
// type that it is about, which is held elsewhere.
type profile struct {
	url, typ   string
	root       *node // nil if it asks for nothing more
	modifier   bool  // an extension that must be in modifierExtension
	contexts   []extensionContext
	invariants []invariant // of the context of an extension
}

// A node is what a profile says of one element, or of one slice of it.
type node struct {
	name  string // in its parent, without [x]
	label string // in words: "Patient.identifier:mrn"
	slice string

	min, max int // 0 and unbounded where the type says no less
	types    []kind
	// narrowed says that values may be of fewer types than in R4.
	narrowed  bool
	targets   *targets
	fixed     *valueOf
	pattern   *valueOf
	maxLength int
	binding   *binding
	rules     []invariant
	must      bool
	mustOnly  bool // nothing here or below but what must be supported

	children []*node
	slicing  *slicer
	slices   []*node

	content string // the node at that place says the rest
	parent  *node  // nil of the root, and when all is compiled
	kept    bool
}

// A kind is a type that the values of an element may have, and the profiles of
// which they must meet one.
type kind struct {
	code     string
	profiles []string
}

// targets are what references of an element may lead to.
type targets struct {
	profiles    []string // canonical; one must be met
	aggregation []string
	versioning  string
}

// An invariant is a constraint, parsed. rule is nil if that failed.
type invariant struct {
	key     string
	rule    *path.Expr
	warning bool
}

// A compiler makes one profile.
type compiler struct {
	// find returns a StructureDefinition, and how many bytes it has.
	find  func(canonical string) (*structure, int, error)
	spent int                 // steps
	depth int                 // of definitions that are made for another
	trees map[string]*element // by canonical, nil while one is made

	all  []*node
	byID map[string]*node // and by path
	from map[string][]*node
}

// Bounds on the work that one profile takes. A step takes some 50 ns; a snapshot
// of a thousand elements ten thousand for these and as many for its text.
const (
	maxCompile      = 1_000_000
	stepsPerElement = 10
	bytesRead       = 8 // of a definition, in a step
)

// spend counts n steps.
func (c *compiler) spend(n int) error {
	if c.spent += n; c.spent > maxCompile {
		return fhir.Errorf(fhir.TooCostly, "the profile, with those it is made of, is too much to work out")
	}
	return nil
}

// structure reads a StructureDefinition.
func (c *compiler) structure(canonical string) (*structure, error) {
	s, bytes, err := c.find(canonical)
	if err != nil {
		return nil, err
	}
	return s, c.spend(bytes / bytesRead)
}

// profile makes the profile with the canonical, or what it says of the element
// part.
func (c *compiler) profile(canonical, part string) (*profile, error) {
	s, err := c.structure(canonical)
	switch {
	case err != nil:
		return nil, err
	case s.specialization && s.kind == "logical":
		return nil, fhir.Errorf(fhir.NotSupported, "the StructureDefinition is that of a logical model")
	case s.specialization:
		return &profile{url: s.url, typ: s.typ}, nil
	}
	c.trees = map[string]*element{}
	root, err := c.snapshot(canonical, s)
	if errors.Is(err, errUnknown) {
		return nil, fhir.Errorf(fhir.Value, "the profile is derived from, or uses, one that is not known here")
	}
	if err != nil {
		return nil, err
	}
	return c.compile(s, root, part)
}

// compile makes the profile of s from the tree of its elements.
func (c *compiler) compile(s *structure, root *element, part string) (*profile, error) {
	p := &profile{url: s.url, typ: s.typ, contexts: s.contexts, modifier: s.typ == "Extension" && root.modifier}
	for i := range p.contexts {
		if p.contexts[i].kind == "fhirpath" {
			p.contexts[i].selecting = c.parse(constraint{expression: p.contexts[i].expression}).rule
		}
	}
	for _, x := range s.invariants {
		p.invariants = append(p.invariants, c.parse(constraint{key: "contextInvariant", expression: x}))
	}
	c.byID, c.from = map[string]*node{}, map[string][]*node{}
	top := c.node(nil, root, r4.TypeOf(s.typ), nil)
	if part != "" {
		if top = c.byID[part]; top == nil {
			return nil, fhir.Errorf(fhir.Value, "an element of a profile is named that it does not have")
		}
		p.typ = "BackboneElement"
	}
	top.min, top.max = 0, unbounded // of the resource itself nothing is asked
	if c.keep(); top.kept {
		p.root = top
		top.prune()
		for _, n := range c.all {
			if n.content != "" && n.kept {
				c.follow(n)
			}
		}
	}
	return p, c.spend(0)
}

// node compiles e, which is in what parent is of. elems are the elements of R4
// that it is about, one for each type; typ is the type of its values if they
// have children in common. Beyond the bound nothing more is compiled.
func (c *compiler) node(parent *node, e *element, typ *r4.Type, elems []r4.Element) *node {
	n := &node{
		name: e.name(), label: clipped(e.label(), maxLabel), slice: e.slice, min: max(e.min, 0), max: e.max, maxLength: e.maxLength,
		fixed: e.fixed, pattern: e.pattern, must: e.must, content: e.content, parent: parent,
	}
	if c.spend(stepsPerElement+len(e.types)+len(e.rules)) != nil {
		return n
	}
	if n.max == unsaid {
		n.max = unbounded
	}
	c.add(n, e)
	if e.slice == "" && len(elems) > 0 {
		if elems[0].Required() && n.min == 1 {
			n.min = 0
		}
		if !elems[0].Many() && n.max == 1 {
			n.max = unbounded
		}
	}
	c.types(n, e, elems)
	n.binding = ofProfile(e.binding, elems)
	c.rules(n, e)
	for _, child := range e.children {
		var of []r4.Element
		if typ != nil {
			of = typ.Choice(child.name())
		}
		n.children = append(n.children, c.node(n, child, childType(child, of), of))
	}
	if len(e.slices) > 0 || e.slicing != nil && e.slicing.rules == "closed" {
		n.slicing = c.slicer(e.slicing)
		for _, s := range e.slices {
			n.slices = append(n.slices, c.node(n, s, childType(s, elems), elems))
		}
	}
	return n
}

// add notes where n is found.
func (c *compiler) add(n *node, e *element) {
	c.all = append(c.all, n)
	c.byID[e.id] = n
	if _, taken := c.byID[e.path]; !taken {
		c.byID[e.path] = n
	}
	if n.content != "" {
		c.from[n.content] = append(c.from[n.content], n)
	}
}

// label returns how words name e: with the slices that it is in.
func (e *element) label() string {
	if e.id != "" {
		return e.id
	}
	if e.slice != "" {
		return e.path + ":" + e.slice
	}
	return e.path
}

// childType returns the type of the values of e that its children are of: that
// of the element in R4, or the one type that a profile leaves of a choice.
func childType(e *element, elems []r4.Element) *r4.Type {
	if len(e.types) == 1 {
		for i := range elems {
			if elems[i].Type() == e.types[0].code {
				elems = elems[i : i+1]
				break
			}
		}
	}
	if len(elems) != 1 {
		if len(e.types) == 1 {
			return r4.TypeOf(e.types[0].code)
		}
		return elementType
	}
	if elems[0].Primitive() != 0 {
		return elementType
	}
	if t := elems[0].Complex(); t.Path != "Resource" || len(e.types) != 1 {
		return t
	}
	return r4.TypeOf(e.types[0].code)
}

var elementType = r4.TypeOf("Element")

func isPrimitive(name string) bool {
	for p := r4.Base64Binary; p <= r4.XHTML; p++ {
		if p.String() == name {
			return true
		}
	}
	return false
}

// types compiles what e says of the types of its values, as far as it is more
// than what R4 says.
func (c *compiler) types(n *node, e *element, elems []r4.Element) {
	if len(e.types) == 0 || len(elems) == 0 {
		return
	}
	left := 0
	for i := range elems {
		if slices.ContainsFunc(e.types, func(t typeRef) bool { return t.code == elems[i].Type() }) {
			left++
		}
	}
	abstract := elems[0].Type() == "Resource"
	n.narrowed = left > 0 && left < len(elems) || abstract && e.types[0].code != "Resource"
	profiled := false
	for _, t := range e.types {
		n.types = append(n.types, kind{t.code, t.profiles})
		profiled = profiled || len(t.profiles) > 0
		if t.code == "Reference" || t.code == "canonical" {
			n.targets = narrower(t, elems)
		}
	}
	if !n.narrowed && !profiled {
		n.types = nil
	}
}

// narrower returns what t says of the targets of references, nil if it is no
// more than R4 does.
func narrower(t typeRef, elems []r4.Element) *targets {
	all := []fhir.Type(nil)
	for i := range elems {
		if elems[i].Type() == t.code {
			all = elems[i].Targets()
		}
	}
	told := &targets{aggregation: t.aggregation, versioning: t.versioning}
	if t.versioning == "either" {
		told.versioning = ""
	}
	of := 0
	for _, target := range t.targets {
		name, isBase := strings.CutPrefix(target, base)
		if isBase && name == "Resource" {
			of = -1
			break
		}
		if isBase && slices.Contains(all, fhir.Type(name)) {
			of++
		}
	}
	if of >= 0 && len(t.targets) > 0 && (of < len(t.targets) || of < len(all) || len(all) == 0) {
		told.profiles = t.targets
	}
	if told.profiles == nil && told.aggregation == nil && told.versioning == "" {
		return nil
	}
	return told
}

// ofProfile returns the binding if it says more than that of R4.
func ofProfile(b *binding, elems []r4.Element) *binding {
	if b == nil || b.strength == "example" || b.strength == "preferred" && b.maxValueSet == "" {
		return nil
	}
	url, _, _ := strings.Cut(b.valueSet, "|")
	for i := range elems {
		if v := elems[i].ValueSet(); v != nil && v.URL == url {
			return nil
		}
		if inR4 := bindingOf(&elems[i]); inR4 != nil && inR4.valueSet == url && (inR4.strength == "required" || b.strength != "required") && b.maxValueSet == "" {
			return nil
		}
	}
	return b
}

// rules compiles the invariants of e that are not those of its type, and what
// is like one.
func (c *compiler) rules(n *node, e *element) {
	for _, x := range e.rules {
		if !ofR4(x) {
			n.rules = append(n.rules, c.parse(x))
		}
	}
	if e.minValue != nil {
		n.rules = append(n.rules, c.bound("minValue", ">=", e.minValue))
	}
	if e.maxValue != nil {
		n.rules = append(n.rules, c.bound("maxValue", "<=", e.maxValue))
	}
}

// parse reads the expression of a constraint.
func (c *compiler) parse(of constraint) invariant {
	if c.spend(len(of.expression)/bytesPerToken) != nil {
		return invariant{key: of.key}
	}
	rule := parse(of)
	if rule.rule != nil {
		_ = c.spend(rule.rule.States()) // who adds it up fails
	}
	return rule
}

// bytesPerToken is how much of an expression is parsed in a step.
const bytesPerToken = 4

// parse reads the expression of a constraint.
func parse(c constraint) invariant {
	rule, err := path.Parse(cmp.Or(corrected[c.expression], c.expression))
	if err != nil {
		rule = nil
	}
	return invariant{c.key, rule, c.warning}
}

// bound returns minValue[x] or maxValue[x] as an invariant.
// https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.minValue_x_
func (c *compiler) bound(key, than string, v *valueOf) invariant {
	text := string(v.value.GetStringBytes())
	var x string
	switch v.typ {
	case "date", "dateTime", "instant":
		x = "$this " + than + " @" + text
	case "time":
		x = "$this " + than + " @T" + text
	case "Quantity":
		x = quantityBound(than, v.value)
	default:
		x = "$this " + than + " " + v.value.String()
	}
	return c.parse(constraint{key: key, expression: x})
}

// quantityBound holds quantities in comparable units of UCUM, and otherwise
// those in the unit of the bound.
func quantityBound(than string, v *fastjson.Value) string {
	value, system, code := v.Get("value").String(), text(v, "system"), text(v, "code")
	if system == ucum.System {
		return "value.empty() or system != '" + ucum.System + "' or $this " + than + " " + value + " '" + escape(code) + "'"
	}
	return "value.empty() or code != '" + escape(code) + "' or system != '" + escape(system) + "' or value " + than + " " + value
}

func escape(s string) string {
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], "'", `\'`)
}

// keep marks the nodes that say something, or that lead to one that does.
func (c *compiler) keep() {
	var next []*node
	for _, n := range c.all {
		if n.own() || n.must || n.slice != "" {
			next = append(next, n)
		}
	}
	told := map[*node][]*node{} // those whose content a node is
	for id, list := range c.from {
		if n := c.byID[id]; n != nil {
			told[n] = append(told[n], list...)
		}
	}
	for len(next) > 0 {
		n := next[len(next)-1]
		next = next[:len(next)-1]
		if n == nil || n.kept {
			continue
		}
		n.kept = true
		next = append(append(next, n.parent), told[n]...)
	}
	for _, n := range c.all {
		n.parent = nil
	}
}

// own reports whether n itself says something that can be broken.
func (n *node) own() bool {
	return n.min > 0 || n.max != unbounded || n.types != nil || n.targets != nil || n.fixed != nil || n.pattern != nil ||
		n.maxLength > 0 || n.binding != nil || len(n.rules) > 0 || n.slicing != nil
}

// follow makes n, whose element has the content of another, say what the node
// of that one says of the content.
func (c *compiler) follow(n *node) {
	to := c.byID[n.content]
	if to == nil || len(n.children) > 0 || c.spend(len(to.rules)) != nil {
		return
	}
	n.children = to.children
	n.rules = append(n.rules, to.rules...)
}

// prune drops the nodes that say nothing. It returns whether n holds nothing
// but what must be supported.
func (n *node) prune() bool {
	n.mustOnly = !n.own() && n.slice == "" && n.content == ""
	n.children = slices.DeleteFunc(n.children, func(c *node) bool { return !c.kept })
	for _, below := range [][]*node{n.children, n.slices} {
		for _, c := range below {
			if !c.prune() {
				n.mustOnly = false
			}
		}
	}
	return n.mustOnly
}
