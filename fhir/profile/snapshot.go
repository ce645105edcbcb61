package profile

import (
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
		if of := parent.child(e.path); of != nil && e.slice != "" {
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

// child returns the child of e with the path, nil if there is none.
func (e *element) child(path string) *element {
	for _, c := range e.children {
		if c.path == path {
			return c
		}
	}
	return nil
}

// addSlice adds s to the slices of e; a slice "a/b" is a slice of slice "a".
func (e *element) addSlice(s *element) {
	for _, outer := range e.slices {
		if strings.HasPrefix(s.slice, outer.slice+"/") {
			outer.addSlice(s)
			return
		}
	}
	e.slices = append(e.slices, s)
}

// A snapshotter makes the snapshot of a profile that has only a differential.
// https://hl7.org/fhir/R4/profiling.html#snapshot
type snapshotter struct {
	find func(canonical string) (*structure, error)
	root *element
	// open is where the last element of the differential was, and what it is
	// in.
	open []*element
	size int // elements that were made
}

// Bounds on what a profile may be derived from, and what its differential may
// unfold to.
const (
	maxDerivation = 32
	maxUnfolded   = 100_000
)

// snapshot returns the tree of the elements of s.
func snapshot(s *structure, find func(canonical string) (*structure, error), depth int) (*element, error) {
	if len(s.snapshot) > 0 {
		list := make([]*element, len(s.snapshot))
		for i, e := range s.snapshot { // the tree is made of copies
			c := *e
			list[i] = &c
		}
		return tree(list)
	}
	if depth > maxDerivation {
		return nil, fhir.Errorf(fhir.Value, "the profile is derived from itself, or by more than %d steps", maxDerivation)
	}
	if s.specialization || s.base == "" {
		return nil, fhir.Errorf(fhir.NotSupported, "the StructureDefinition has no snapshot, and defines a type of its own")
	}
	base, err := find(s.base)
	if err != nil {
		return nil, err
	}
	g := snapshotter{find: find}
	if g.root, err = snapshot(base, find, depth+1); err != nil {
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
	at[len(at)-1].overlay(d)
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
	for _, s := range e.slices {
		if s.slice == name {
			return s, nil
		}
		if strings.HasPrefix(name, s.slice+"/") {
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
		from := g.root.at(e.content)
		if from == nil {
			return nil, fhir.Errorf(fhir.Value, "a contentReference of the profile leads to no element")
		}
		return from, nil
	}
	canonical := base + "Element"
	if len(e.types) == 1 {
		canonical = base + e.types[0].code
		if len(e.types[0].profiles) == 1 {
			if s, err := g.find(e.types[0].profiles[0]); err == nil {
				return snapshot(s, g.find, 1)
			}
		}
	}
	s, err := g.find(canonical)
	if err != nil {
		return nil, err
	}
	return snapshot(s, g.find, 1)
}

// at returns the element with the id or path, below e.
func (e *element) at(path string) *element {
	if e.id == path || e.path == path && e.slice == "" {
		return e
	}
	for _, c := range e.children {
		if found := c.at(path); found != nil {
			return found
		}
	}
	return nil
}

// clone copies e with everything below it.
func (g *snapshotter) clone(e *element) (*element, error) {
	if g.size++; g.size > maxUnfolded {
		return nil, fhir.Errorf(fhir.TooLong, "the differential unfolds to more than %d elements", maxUnfolded)
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
