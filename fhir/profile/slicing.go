package profile

import (
	"strings"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
)

// A slicer tells the slices of an element apart.
// https://hl7.org/fhir/R4/profiling.html#discriminator
type slicer struct {
	by      []told
	ordered bool
	closed  bool
	atEnd   bool // what is in no slice comes last
}

// A told is a discriminator, parsed.
type told struct {
	kind  string
	steps []step
}

// A step of the path of a discriminator. Of resolve(), extension(url) and
// ofType(type) it is a call.
type step struct {
	call string // "" for the name of a child
	arg  string // the name, URL or type
}

// maxDiscriminator bounds the steps of one discriminator.
const maxDiscriminator = 20

func (c *compiler) slicer(s *slicing) *slicer {
	if s == nil || c.spend(len(s.by)) != nil {
		return &slicer{}
	}
	out := &slicer{ordered: s.ordered, closed: s.rules == "closed", atEnd: s.rules == "openAtEnd"}
	for _, d := range s.by {
		steps, ok := steps(d.path)
		if !ok {
			steps, d.kind = nil, ""
		}
		out.by = append(out.by, told{d.kind, steps})
	}
	return out
}

// steps parses the restricted FHIRPath of a discriminator.
// https://hl7.org/fhir/R4/profiling.html#discriminator
func steps(text string) (list []step, ok bool) {
	for text != "" {
		var s step
		end := strings.IndexAny(text, ".(")
		if end < 0 {
			end = len(text)
		}
		s.arg, text = text[:end], text[end:]
		if strings.HasPrefix(text, "(") {
			close := strings.IndexByte(text, ')')
			if close < 0 {
				return nil, false
			}
			s = step{s.arg, strings.Trim(text[1:close], "'\"` ")}
			text = text[close+1:]
		}
		text = strings.TrimPrefix(text, ".")
		switch s.call {
		case "", "resolve", "extension", "ofType", "as":
		default:
			return nil, false
		}
		if s.arg != "$this" || s.call != "" {
			list = append(list, s)
		}
		if len(list) > maxDiscriminator {
			return nil, false
		}
	}
	return list, true
}

// sliced sorts the values of an element into its slices, and holds each
// against the slice that it is in.
func (r *run) sliced(n *node, parent path.Node, values []path.Node) {
	if !r.steps(len(n.slices)) {
		return
	}
	counts := make([]int, len(n.slices))
	last, outside := 0, false
	for _, v := range values {
		i := r.sliceOf(n, v)
		if i < 0 {
			outside = true
			r.unsliced(n, v)
			continue
		}
		counts[i]++
		r.in(v, func() {
			if n.slicing.ordered && i < last {
				r.fault(fhir.Structure, "%s is out of the order of the slices", n.slices[i].label)
			}
			if n.slicing.atEnd && outside {
				r.fault(fhir.Structure, "%s comes after a value that is in no slice", n.slices[i].label)
			}
			s := n.slices[i]
			r.node(s, v)
			if s.slicing != nil {
				r.sliced(s, parent, []path.Node{v})
			}
		})
		last = max(last, i)
	}
	for i, s := range n.slices {
		r.count(s, parent, counts[i])
	}
}

// unsliced holds v, which is in none of the slices of n, against what may be
// outside of them.
func (r *run) unsliced(n *node, v path.Node) {
	for _, s := range n.slices {
		if s.slice == "@default" {
			r.in(v, func() { r.node(s, v) })
			return
		}
	}
	if n.slicing.closed {
		r.in(v, func() { r.fault(fhir.Structure, "%s is in none of the slices, and there may be no others", n.label) })
	}
}

// sliceOf returns which slice v is in, -1 if it is in none.
func (r *run) sliceOf(n *node, v path.Node) int {
	if len(n.slicing.by) == 0 {
		return r.sliceByFit(n, v)
	}
	for i, s := range n.slices {
		if s.slice != "@default" && r.isIn(n.slicing, s, v) {
			return i
		}
	}
	return -1
}

// sliceByFit returns the first slice that v conforms to, as there is no
// discriminator.
func (r *run) sliceByFit(n *node, v path.Node) int {
	for i, s := range n.slices {
		if r.fits(s, v) {
			return i
		}
	}
	return -1
}

func (r *run) fits(n *node, v path.Node) bool {
	return r.try(func() { r.node(n, v) })
}

// isIn reports whether v is in the slice s by all discriminators.
func (r *run) isIn(by *slicer, s *node, v path.Node) bool {
	for i := range by.by {
		if !r.steps(4) || !r.discriminates(&by.by[i], s, v) {
			return false
		}
	}
	return true
}

// discriminates reports whether v is in s as far as d tells.
// https://hl7.org/fhir/R4/valueset-discriminator-type.html
func (r *run) discriminates(d *told, s *node, v path.Node) bool {
	wanted := r.wanted(d, s)
	values := r.reached(v, d.steps)
	switch d.kind {
	case "value", "pattern":
		return r.hasValue(d, s, wanted, values, v)
	case "exists":
		return exists(wanted, len(values) > 0)
	case "type":
		return r.hasType(wanted, values, d.steps)
	case "profile":
		return r.hasProfile(wanted, values, d.steps)
	}
	return r.fits(s, v)
}

// A want is what a slice says at the path of a discriminator: a node, or a part
// of a fixed value or pattern above it.
type want struct {
	node  *node
	fixed *fastjson.Value
	exact bool // else fixed is a pattern
}

// A wantedKey is a discriminator and one of the slices that it tells apart.
type wantedKey struct {
	by    *told
	slice *node
}

// wanted returns what the slice says at the path of d.
func (r *run) wanted(d *told, s *node) []want {
	key := wantedKey{d, s}
	list, known := r.wants[key]
	if !known {
		list = r.defined([]*node{s}, d.steps)
		if r.wants == nil {
			r.wants = map[wantedKey][]want{}
		}
		r.wants[key] = list
	}
	return list
}

// defined returns what the slices say at the end of the steps. Slices within
// them are alternatives.
func (r *run) defined(from []*node, steps []step) []want {
	var wants []want
	for _, n := range from {
		wants = append(wants, want{node: n})
	}
	for _, s := range steps {
		var next []want
		for _, w := range wants {
			next = append(next, r.below(w, s)...)
		}
		wants = next
	}
	return wants
}

// below returns what w says one step further.
func (r *run) below(w want, s step) []want {
	if !r.step() {
		return nil
	}
	if w.node == nil {
		return parts(w, s)
	}
	n := w.node
	switch s.call {
	case "ofType", "as", "resolve":
		return []want{w}
	case "extension":
		return r.extensionsOf(n, s.arg)
	}
	var out []want
	if n.fixed != nil {
		out = append(out, parts(want{fixed: n.fixed.value, exact: true}, s)...)
	}
	if n.pattern != nil {
		out = append(out, parts(want{fixed: n.pattern.value}, s)...)
	}
	for _, from := range r.withProfiles(n) {
		for _, c := range from.children {
			if c.name != s.arg || !r.steps(4+4*len(c.slices)) {
				continue
			}
			out = append(out, want{node: c})
			for _, slice := range c.slices {
				out = append(out, want{node: slice})
			}
		}
	}
	return out
}

// withProfiles returns n and the roots of the profiles that its type has.
func (r *run) withProfiles(n *node) []*node {
	out := []*node{n}
	for _, k := range n.types {
		for _, canonical := range k.profiles {
			if p, err := r.profile(canonical); err == nil && p.root != nil {
				out = append(out, p.root)
			}
		}
	}
	return out
}

// parts returns the members of a fixed value or pattern, each item of a list.
func parts(w want, s step) []want {
	if s.call != "" || w.fixed == nil {
		return nil
	}
	v := w.fixed.Get(s.arg)
	if v == nil {
		return nil
	}
	if v.Type() != fastjson.TypeArray {
		return []want{{fixed: v, exact: w.exact}}
	}
	var out []want
	for _, item := range v.GetArray() {
		out = append(out, want{fixed: item, exact: w.exact})
	}
	return out
}

// extensionsOf returns the slices of extension in n that have the URL.
func (r *run) extensionsOf(n *node, url string) []want {
	var out []want
	for _, c := range n.children {
		if c.name != "extension" {
			continue
		}
		for _, s := range c.slices {
			if r.step() && r.extensionURL(s) == url {
				out = append(out, want{node: s})
			}
		}
	}
	return out
}

// extensionURL returns the URL of the extensions in the slice.
func (r *run) extensionURL(s *node) string {
	for _, from := range r.withProfiles(s) {
		for _, c := range from.children {
			if c.name == "url" && c.fixed != nil {
				return string(c.fixed.value.GetStringBytes())
			}
		}
	}
	for _, k := range s.types {
		for _, p := range k.profiles {
			url, _, _ := strings.Cut(p, "|")
			return url
		}
	}
	return ""
}

// reached returns the values at the end of the steps.
func (r *run) reached(v path.Node, steps []step) []path.Node {
	values := []path.Node{v}
	for _, s := range steps {
		var next []path.Node
		for _, v := range values {
			if r.step() {
				next = r.follow(next, v, s)
			}
		}
		values = next
	}
	return values
}

func (r *run) follow(to []path.Node, v path.Node, s step) []path.Node {
	switch s.call {
	case "ofType", "as":
		if v.Type() == s.arg {
			to = append(to, v)
		}
	case "resolve":
		reference := stringIn(v.JSON(), "reference")
		if v.Type() == "canonical" || v.Type() == "uri" {
			reference = string(v.JSON().GetStringBytes())
		}
		if n, _, ok := r.scope.resolve(reference); ok {
			to = append(to, n)
		}
	case "extension":
		for x := range v.Child("extension") {
			if r.step() && stringIn(x.JSON(), "url") == s.arg {
				to = append(to, x)
			}
		}
	default:
		for c := range v.Child(s.arg) {
			to = append(to, c)
		}
	}
	return to
}

// hasValue reports whether one of the values is what the slice fixes. A slice
// that fixes none asks by its cardinality whether there is a value.
func (r *run) hasValue(d *told, s *node, wanted []want, values []path.Node, v path.Node) bool {
	decided := false
	for _, w := range wanted {
		match, tells := r.matcher(w)
		if !tells {
			continue
		}
		decided = true
		for _, v := range values {
			if r.step() && match(v) {
				return true
			}
		}
	}
	if decided {
		return false
	}
	if len(d.steps) == 1 && d.steps[0].arg == "url" {
		if url := r.extensionURL(s); url != "" {
			return stringIn(v.JSON(), "url") == url
		}
	}
	for _, w := range wanted {
		if w.node != nil && (w.node.max == 0 || w.node.min > 0) && w.node != s {
			return exists(wanted, len(values) > 0)
		}
	}
	return r.fits(s, v)
}

// matcher returns how to tell whether a value is what w fixes. tells is false
// if w fixes none.
func (r *run) matcher(w want) (match func(path.Node) bool, tells bool) {
	n := w.node
	switch {
	case n == nil && w.exact:
		return func(v path.Node) bool { return r.equal(v.JSON(), w.fixed) }, true
	case n == nil:
		return func(v path.Node) bool { return r.contains(v.JSON(), w.fixed) }, true
	case n.fixed != nil:
		return func(v path.Node) bool { return r.equal(v.JSON(), n.fixed.value) }, true
	case n.pattern != nil:
		return func(v path.Node) bool { return r.contains(v.JSON(), n.pattern.value) }, true
	case n.binding != nil && n.binding.strength == "required":
		return func(v path.Node) bool {
			in, known := r.inValueSet(n.binding.valueSet, v)
			return in || !known // it may be
		}, true
	}
	return nil, false
}

// exists reports whether the slice asks for what there is: a value, or none.
func exists(wanted []want, there bool) bool {
	for _, w := range wanted {
		if w.node == nil || w.node.min > 0 {
			return there
		}
		if w.node.max == 0 {
			return !there
		}
	}
	return there
}

// hasType reports whether a value is of a type that the slice leaves.
func (r *run) hasType(wanted []want, values []path.Node, steps []step) bool {
	resolved := len(steps) > 0 && steps[len(steps)-1].call == "resolve"
	for _, w := range wanted {
		if w.node == nil {
			continue
		}
		for _, v := range values {
			if !r.steps(1 + len(w.node.types)) {
				return false
			}
			if resolved && r.isTarget(w.node, v) || !resolved && isKind(w.node, v) {
				return true
			}
		}
	}
	return false
}

func isKind(n *node, v path.Node) bool {
	for _, k := range n.types {
		if k.code == v.Type() || isAbstract(k.code) {
			return true
		}
	}
	return false
}

// isTarget reports whether v is of the type of a profile that references may
// lead to.
func (r *run) isTarget(n *node, v path.Node) bool {
	if n.targets == nil {
		return true
	}
	for _, canonical := range n.targets.profiles {
		if p, err := r.profile(canonical); err == nil && p.typ == v.Type() {
			return true
		}
	}
	return false
}

// hasProfile reports whether a value meets a profile that the slice names.
func (r *run) hasProfile(wanted []want, values []path.Node, steps []step) bool {
	resolved := len(steps) > 0 && steps[len(steps)-1].call == "resolve"
	for _, w := range wanted {
		if w.node == nil {
			continue
		}
		var canonicals []string
		if resolved && w.node.targets != nil {
			canonicals = w.node.targets.profiles
		}
		for _, k := range w.node.types {
			if !resolved {
				canonicals = append(canonicals, k.profiles...)
			}
		}
		for _, canonical := range canonicals {
			p, err := r.profile(canonical)
			for _, v := range values {
				if err == nil && r.step() && r.meets(p, v) {
					return true
				}
			}
		}
	}
	return false
}
