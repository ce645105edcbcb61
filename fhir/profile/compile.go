package profile

import (
	"cmp"
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

// compile makes the profile of s from the tree of its elements.
func compile(s *structure, root *element) *profile {
	p := &profile{url: s.url, typ: s.typ, contexts: s.contexts, modifier: s.typ == "Extension" && root.modifier}
	for _, x := range s.invariants {
		p.invariants = append(p.invariants, parse(constraint{key: "contextInvariant", expression: x}))
	}
	c := compiler{at: map[string]*node{}}
	top := c.node(root, r4.TypeOf(s.typ), nil)
	top.min, top.max = 0, unbounded // of the resource itself nothing is asked
	if c.keep(); top.kept {
		p.root = top
		top.prune()
		for _, n := range c.all {
			if n.content != "" && n.kept {
				n.follow(c.at[n.content])
			}
		}
	}
	return p
}

type compiler struct {
	all []*node
	at  map[string]*node // by id and by path
}

// node compiles e. elems are the elements of R4 that it is about, one for each
// type; typ is the type of its values if they have children in common.
func (c *compiler) node(e *element, typ *r4.Type, elems []r4.Element) *node {
	n := &node{
		name: e.name(), label: e.label(), slice: e.slice, min: max(e.min, 0), max: e.max, maxLength: e.maxLength,
		fixed: e.fixed, pattern: e.pattern, must: e.must, content: e.content,
	}
	if n.max == unsaid {
		n.max = unbounded
	}
	c.all = append(c.all, n)
	c.at[e.id] = n
	if _, taken := c.at[e.path]; !taken {
		c.at[e.path] = n
	}
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
		n.children = append(n.children, c.node(child, childType(child, of), of))
	}
	if len(e.slices) > 0 || e.slicing != nil && e.slicing.rules == "closed" {
		n.slicing = newSlicer(e.slicing)
		for _, s := range e.slices {
			n.slices = append(n.slices, c.node(s, childType(s, elems), elems))
		}
	}
	return n
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
			n.rules = append(n.rules, parse(x))
		}
	}
	if e.minValue != nil {
		n.rules = append(n.rules, bound("minValue", ">=", e.minValue))
	}
	if e.maxValue != nil {
		n.rules = append(n.rules, bound("maxValue", "<=", e.maxValue))
	}
}

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
func bound(key, than string, v *valueOf) invariant {
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
	return parse(constraint{key: key, expression: x})
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
	for again := true; again; {
		again = false
		for _, n := range slices.Backward(c.all) {
			if !n.kept && n.says(c.at) {
				n.kept, again = true, true
			}
		}
	}
}

func (n *node) says(at map[string]*node) bool {
	if n.own() || n.must || n.slice != "" {
		return true
	}
	for _, below := range [][]*node{n.children, n.slices} {
		if slices.ContainsFunc(below, func(n *node) bool { return n.kept }) {
			return true
		}
	}
	to := at[n.content]
	return n.content != "" && to != nil && to.kept
}

// own reports whether n itself says something that can be broken.
func (n *node) own() bool {
	return n.min > 0 || n.max != unbounded || n.types != nil || n.targets != nil || n.fixed != nil || n.pattern != nil ||
		n.maxLength > 0 || n.binding != nil || len(n.rules) > 0 || n.slicing != nil
}

// follow makes n, whose element has the content of another, say what the node
// of that one says of the content.
func (n *node) follow(to *node) {
	if to == nil || len(n.children) > 0 {
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
