package profile

import (
	"errors"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// tree arranges the elements of a snapshot, which are listed depth first, as
// the tree that their paths and the names of their slices describe. It returns
// the root.
// https://hl7.org/fhir/R4/profiling.html#slicing
func tree(list []*element) (*element, error) {
	var open []*element // the last element at each depth
	for _, e := range list {
		depth := strings.Count(e.path, ".")
		switch {
		case depth == 0 && len(open) == 0:
			open = append(open, e)
			continue
		case depth == 0 || depth > len(open) || !strings.HasPrefix(e.path, open[depth-1].path+"."):
			return nil, fhir.Errorf(fhir.Structure, "the elements of the snapshot are not in the order of their paths")
		}
		parent := open[depth-1]
		if of := parent.sliced(e); of != nil {
			of.addSlice(e)
		} else {
			parent.children = append(parent.children, e)
		}
		open = append(open[:depth], e)
	}
	if len(open) == 0 {
		return nil, fhir.Errorf(fhir.Required, "the StructureDefinition has no elements")
	}
	return open[0], nil
}

// sliced returns the child of e that s is a slice of, nil if there is none. It
// is the last: what is sliced comes right before its slices.
func (e *element) sliced(s *element) *element {
	if last := len(e.children) - 1; s.slice != "" && last >= 0 && e.children[last].path == s.path {
		return e.children[last]
	}
	return nil
}

// addSlice adds s to the slices of e; a slice "a/b" is a slice of slice "a".
func (e *element) addSlice(s *element) {
	for strings.Contains(s.slice, "/") {
		i := slices.IndexFunc(e.slices, func(outer *element) bool { return isIn(s.slice, outer.slice) })
		if i < 0 {
			break
		}
		e = e.slices[i]
	}
	e.slices = append(e.slices, s)
}

// isIn reports whether the slice is one of the other, as "a/b" is of "a".
func isIn(slice, other string) bool {
	return len(slice) > len(other) && slice[len(other)] == '/' && slice[:len(other)] == other
}

// A snapshotter makes the snapshot of a profile that has only a differential.
// https://hl7.org/fhir/R4/profiling.html#snapshot
type snapshotter struct {
	*compiler
	root *element
	// open is where the last element of the differential was, and what it is
	// in.
	open []*element
}

// namesPerStep is how many names are compared in a step.
const namesPerStep = 16

// maxDerivation bounds how often a profile may be derived from another, or use
// it below, in a row.
const maxDerivation = 32

// tree returns the elements of the StructureDefinition with the canonical.
// Nobody may change them.
func (c *compiler) tree(canonical string) (*element, error) {
	if t, ok := c.trees[canonical]; ok {
		if t == nil {
			return nil, errCircular()
		}
		return t, nil
	}
	s, err := c.structure(canonical)
	if err != nil {
		return nil, err
	}
	return c.snapshot(canonical, s)
}

func errCircular() error {
	return fhir.Errorf(fhir.Value, "the profile is derived from itself, or by more than %d steps", maxDerivation)
}

// snapshot returns the tree of the elements of s, which has the canonical.
func (c *compiler) snapshot(canonical string, s *structure) (root *element, err error) {
	if c.depth++; c.depth > maxDerivation {
		return nil, errCircular()
	}
	c.trees[canonical] = nil // until it is made
	root, err = c.unfolded(s)
	c.trees[canonical] = root
	if err != nil {
		delete(c.trees, canonical)
	}
	c.depth--
	return root, err
}

func (c *compiler) unfolded(s *structure) (*element, error) {
	if len(s.snapshot) > 0 {
		return tree(s.snapshot)
	}
	if s.specialization || s.base == "" {
		return nil, fhir.Errorf(fhir.NotSupported, "the StructureDefinition has no snapshot, and defines a type of its own")
	}
	base, err := c.tree(s.base)
	if err != nil {
		return nil, err
	}
	g := snapshotter{compiler: c}
	if g.root, err = g.clone(base); err != nil {
		return nil, err
	}
	for _, d := range s.differential {
		if err := g.apply(d); err != nil {
			return nil, err
		}
	}
	return g.root, nil
}

// apply overlays one element of the differential.
func (g *snapshotter) apply(d *element) error {
	steps := strings.Split(d.path, ".")
	if steps[0] != g.root.path {
		return fhir.Errorf(fhir.Value, "an element of the differential is not of the type that the profile is for")
	}
	sliceNames := slicesInID(d, steps)
	at := []*element{g.root}
	for i := 1; i < len(steps); i++ {
		slice := d.slice
		if i < len(steps)-1 {
			slice = sliceNames[i]
		}
		next, err := g.step(at, steps[i], slice, i < len(steps)-1 && sliceNames[0] == "?")
		if err != nil {
			return err
		}
		at = append(at, next)
	}
	g.open = at
	last := at[len(at)-1]
	if err := g.spend(len(last.rules) + len(d.rules)); err != nil {
		return err
	}
	last.overlay(d)
	return nil
}

// slicesInID returns the name of the slice in each step of the id, "name" in
// "Patient.name:official.given". The first is "?" if the id does not tell.
func slicesInID(d *element, steps []string) []string {
	names := make([]string, len(steps))
	parts := strings.Split(d.id, ".")
	if len(parts) != len(steps) {
		names[0] = "?"
		return names
	}
	for i, p := range parts {
		_, names[i], _ = strings.Cut(p, ":")
	}
	return names
}

// step goes from the last of the elements to its child, or to a slice of that.
// Without ids, guess says, the slice is that where the element before was.
func (g *snapshotter) step(at []*element, name, slice string, guess bool) (*element, error) {
	parent := at[len(at)-1]
	if guess && len(at) < len(g.open) && slices.Equal(at, g.open[:len(at)]) && lastStep(g.open[len(at)].path) == name {
		return g.open[len(at)], nil
	}
	if len(parent.children) == 0 {
		if err := g.unfold(parent); err != nil {
			return nil, err
		}
	}
	if err := g.spend(len(parent.children) / namesPerStep); err != nil {
		return nil, err
	}
	child, typ := parent.named(name)
	if child == nil {
		return nil, fhir.Errorf(fhir.Value, "the differential names an element that the type does not have")
	}
	if typ != "" && slice == "" {
		slice = name
	}
	if slice == "" {
		return child, nil
	}
	return g.slice(child, slice, typ)
}

func lastStep(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// named returns the child of e with the name. Of a choice the name may tell
// one type, "valueQuantity", which is returned too.
func (e *element) named(name string) (child *element, typ string) {
	for _, c := range e.children {
		if lastStep(c.path) == name || strings.HasSuffix(c.path, "[x]") && c.name() == name {
			return c, ""
		}
	}
	for _, c := range e.children {
		if !strings.HasSuffix(c.path, "[x]") {
			continue
		}
		if t := c.typeNamed(name); t != "" {
			return c, t
		}
	}
	return nil, ""
}

// typeNamed returns the type of the choice e that the name tells, "Quantity"
// for "valueQuantity"; "" if it tells none.
func (e *element) typeNamed(name string) string {
	suffix, ok := strings.CutPrefix(name, e.name())
	for _, t := range e.types {
		if ok && strings.EqualFold(t.code, suffix) {
			return t.code
		}
	}
	return ""
}

// slice returns the slice of e with the name, which it makes if there is none.
// typ is the one type that its values have, "" if that is not said.
func (g *snapshotter) slice(e *element, name, typ string) (*element, error) {
	if err := g.spend(len(e.slices) / namesPerStep); err != nil {
		return nil, err
	}
	for _, s := range e.slices {
		if s.slice == name {
			return s, nil
		}
		if isIn(name, s.slice) {
			return g.slice(s, name, typ)
		}
	}
	whole := *e
	whole.slicing, whole.slices = nil, nil
	s, err := g.clone(&whole)
	if err != nil {
		return nil, err
	}
	s.slice, s.min = name, 0
	s.id = e.id + ":" + name
	if typ == "" && strings.HasSuffix(e.path, "[x]") {
		typ = e.typeNamed(name)
	}
	if typ != "" {
		s.types = slices.DeleteFunc(slices.Clone(s.types), func(t typeRef) bool { return t.code != typ })
	}
	if e.slicing == nil {
		e.slicing = implied(e)
	}
	e.slices = append(e.slices, s)
	return s, nil
}

// implied returns the slicing of an element for which none is declared.
func implied(e *element) *slicing {
	switch {
	case e.name() == "extension" || e.name() == "modifierExtension":
		return &slicing{by: []discriminator{{"value", "url"}}, rules: "open"}
	case strings.HasSuffix(e.path, "[x]"):
		return &slicing{by: []discriminator{{"type", "$this"}}, rules: "open"}
	}
	return &slicing{rules: "open"}
}

// unfold gives e the children of what it refers to, or of its type.
func (g *snapshotter) unfold(e *element) error {
	from, err := g.definition(e)
	if err != nil {
		return err
	}
	for _, c := range from.children {
		copied, err := g.clone(c)
		if err != nil {
			return err
		}
		e.children = append(e.children, copied)
	}
	return nil
}

// definition returns the element whose children e has.
func (g *snapshotter) definition(e *element) (*element, error) {
	if e.content != "" {
		from, err := g.at(g.root, e.content)
		if err != nil {
			return nil, err
		}
		if from == nil {
			return nil, fhir.Errorf(fhir.Value, "a contentReference of the profile leads to no element")
		}
		return from, nil
	}
	if len(e.types) != 1 {
		return g.tree(base + "Element")
	}
	if of := e.types[0].profiles; len(of) == 1 {
		t, err := g.tree(of[0])
		if !errors.Is(err, errUnknown) {
			return t, err
		}
	}
	return g.tree(base + e.types[0].code)
}

// at returns the element with the id or path, e or one below it.
func (c *compiler) at(e *element, path string) (*element, error) {
	if e.id == path || e.path == path && e.slice == "" {
		return e, nil
	}
	if err := c.spend(1); err != nil {
		return nil, err
	}
	for _, child := range e.children {
		if found, err := c.at(child, path); found != nil || err != nil {
			return found, err
		}
	}
	return nil, nil
}

// clone copies e with everything below it.
func (g *snapshotter) clone(e *element) (*element, error) {
	if err := g.spend(stepsPerElement); err != nil {
		return nil, err
	}
	c := *e
	c.children, c.slices = nil, nil
	for _, from := range e.children {
		child, err := g.clone(from)
		if err != nil {
			return nil, err
		}
		c.children = append(c.children, child)
	}
	for _, from := range e.slices {
		slice, err := g.clone(from)
		if err != nil {
			return nil, err
		}
		c.slices = append(c.slices, slice)
	}
	return &c, nil
}

// overlay puts what d says over e.
func (e *element) overlay(d *element) {
	if d.min >= 0 {
		e.min = d.min
	}
	if d.max != unsaid {
		e.max = d.max
	}
	if len(d.types) > 0 {
		e.types = d.types
	}
	if d.slicing != nil {
		e.slicing = d.slicing
	}
	if d.binding != nil {
		e.binding = d.binding
	}
	if d.maxLength > 0 {
		e.maxLength = d.maxLength
	}
	for _, v := range []struct{ to, from **valueOf }{
		{&e.fixed, &d.fixed}, {&e.pattern, &d.pattern}, {&e.minValue, &d.minValue}, {&e.maxValue, &d.maxValue},
	} {
		if *v.from != nil {
			*v.to = *v.from
		}
	}
	e.must = e.must || d.must
	e.rules = append(slices.Clip(e.rules), d.rules...)
}
