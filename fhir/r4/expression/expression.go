// Package expression compiles the expressions of SearchParameters to the
// elements of R4 that they read.
//
// https://hl7.org/fhir/R4/searchparameter.html
package expression

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A Parameter is a SearchParameter, as far as it says what is searched.
type Parameter struct {
	ID, URL, Code, Type, Expression string
	Base, Target                    []string
	Component                       []Component
}

// A Component is a part of a composite Parameter.
type Component struct{ Definition, Expression string }

// A Compiler compiles Parameters.
type Compiler struct {
	// Find returns the Parameter with the canonical URL, which is a component
	// of another.
	Find func(url string) (Parameter, bool)
	// Systems returns the code systems that the codes of an element imply.
	// Default is those of its required value set.
	Systems func(at string, e *r4.Element) []string
}

// ErrBeyond says that an expression is more than steps from element to element
// with simple conditions, which is all that is compiled here.
var ErrBeyond = errors.New("is more than a path with simple conditions")

// ErrComponent says that Find does not know the definition of a component.
var ErrComponent = errors.New("has a component whose definition is not known")

// Bases returns the types that sp is for.
func (sp Parameter) Bases() []fhir.Type {
	if slices.Contains(sp.Base, "Resource") || slices.Contains(sp.Base, "DomainResource") {
		return fhir.Types
	}
	var list []fhir.Type
	for _, t := range sp.Base {
		list = append(list, fhir.Type(t))
	}
	return list
}

// Compile returns what sp reads of resources of the type. The error says what
// is wrong with the expression, and is ErrBeyond if nothing is wrong with it
// but it is not compiled.
func (c *Compiler) Compile(sp Parameter, t fhir.Type) (r4.SearchParameter, error) {
	out := r4.SearchParameter{Code: sp.Code, Type: sp.Type, URL: sp.URL}
	if sp.Type == "composite" {
		return out, c.composite(&out, sp, string(t))
	}
	targets := map[string]bool{}
	branches, err := c.union(sp.Expression, string(t), string(t), sp.Type, targets)
	if err != nil {
		return out, err
	}
	if len(branches) == 0 {
		return out, fmt.Errorf("reads nothing of %s", t)
	}
	out.Branches = merge(branches)
	for i, b := range out.Branches {
		out.Branches[i].Single = single(b.Path)
	}
	out.Targets = declaredTargets(sp.Target, targets)
	return out, nil
}

// declaredTargets returns the declared targets that the elements read can
// have; none if they can have any.
func declaredTargets(declared []string, possible map[string]bool) []fhir.Type {
	if slices.Contains(declared, "Resource") || len(declared) > 100 {
		if possible["Resource"] {
			return nil
		}
		declared = nil
		for _, t := range fhir.Types {
			declared = append(declared, string(t))
		}
	}
	var list []fhir.Type
	for _, t := range declared {
		if possible["Resource"] || possible[t] {
			list = append(list, fhir.Type(t))
		}
	}
	slices.Sort(list)
	return list
}

// single reports whether the element at the path, which is that of a branch,
// can occur but once in a resource. It is not told of elements of datatypes.
func single(path string) bool {
	parts := strings.Split(path, ".")
	at := parts[0]
	for i, name := range parts[1:] {
		of := r4.TypeOf(at)
		if of == nil {
			return false
		}
		list := of.Choice(name)
		if len(list) == 0 || list[0].Many() {
			return false
		}
		if at += "." + name; i < len(parts)-2 && (list[0].Complex() == nil || list[0].Type() != at) {
			return false
		}
	}
	return true
}

// composite compiles the components of sp, once for each base of type t.
func (c *Compiler) composite(out *r4.SearchParameter, sp Parameter, t string) error {
	for _, base := range splitOutside(sp.Expression, '|') {
		base = strings.TrimSpace(base)
		if root, _, _ := strings.Cut(base, "."); root != t {
			continue
		}
		sc := r4.SearchComposite{Path: base}
		at := t
		for _, name := range strings.Split(base, ".")[1:] {
			list := elementsOf(at, op{name: name})
			if len(list) != 1 {
				return ErrBeyond
			}
			at, sc.Repeats = list[0].Type(), sc.Repeats || list[0].Many()
			sc.Steps = append(sc.Steps, r4.SearchStep{Name: name})
		}
		for _, part := range sp.Component {
			component, err := c.component(&sc, part, base, t)
			if err != nil {
				return err
			}
			sc.Components = append(sc.Components, component)
		}
		if len(sc.Components) < 2 || len(sc.Components) > 3 {
			return errors.New("must have two or three components")
		}
		out.Composites = append(out.Composites, sc)
	}
	if len(out.Composites) == 0 {
		return fmt.Errorf("reads nothing of %s", t)
	}
	return nil
}

// component compiles one component of sc, whose base is base.
func (c *Compiler) component(sc *r4.SearchComposite, part Component, base, t string) (r4.SearchComponent, error) {
	def, ok := c.Find(part.Definition)
	if !ok {
		return r4.SearchComponent{}, ErrComponent
	}
	from, expr := base, part.Expression
	if rest, ok := strings.CutPrefix(expr, "%resource."); ok {
		from, expr = t, rest
	}
	component := r4.SearchComponent{Root: from != base && sc.Repeats}
	// DocumentReference-relationship names its two definitions in the wrong
	// order, so that the expression has the last word.
	for _, kind := range []string{def.Type, "token", "reference"} {
		component.Type = kind
		for _, branch := range splitOutside(expr, '|') {
			branches, err := c.union(from+"."+strings.TrimSpace(branch), t, from, kind, map[string]bool{})
			if err != nil {
				return component, err
			}
			component.Branches = append(component.Branches, branches...)
		}
		if component.Branches = merge(component.Branches); len(component.Branches) > 0 {
			break
		}
	}
	if len(component.Branches) == 0 {
		return component, errors.New("has a component that reads nothing")
	}
	for i, b := range component.Branches {
		if !sc.Repeats && from != t {
			component.Branches[i].Steps = append(slices.Clone(sc.Steps), b.Steps...)
		}
		component.Branches[i].Single = !sc.Repeats && single(b.Path)
	}
	return component, nil
}

// union compiles the members of a union that begin at type t. Steps are
// counted from the element from.
func (c *Compiler) union(expr, t, from, kind string, targets map[string]bool) ([]r4.SearchBranch, error) {
	var list []r4.SearchBranch
	for _, s := range splitOutside(expr, '|') {
		ops, err := parse(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		switch root := ops[0].name; {
		case root == t:
		case root == "Resource", root == "DomainResource":
			ops[0].name = t
		case root == strings.ToLower(root): // InsurancePlan-name begins at its elements
			ops = append([]op{{name: t}}, ops...)
		default:
			continue
		}
		branches, err := c.branches(ops, strings.Count(from, "."), kind, targets)
		if err != nil {
			return nil, err
		}
		list = append(list, branches...)
	}
	return list, nil
}

// searchable are the datatypes that each type of search parameter can read.
// SampledData and Ratio hold no one value to compare with.
// https://hl7.org/fhir/R4/search.html#table
var searchable = map[string][]string{
	"number":    {"integer", "positiveInt", "unsignedInt", "decimal"},
	"date":      {"date", "dateTime", "instant", "Period", "Timing"},
	"string":    {"string", "markdown", "HumanName", "Address"},
	"token":     {"Coding", "CodeableConcept", "Identifier", "ContactPoint", "code", "boolean", "id", "string", "uri", "canonical"},
	"reference": {"Reference", "canonical", "uri", "Resource"},
	"quantity":  {"Quantity", "Age", "Duration", "Money", "Range"},
	"uri":       {"uri", "url", "canonical", "oid", "uuid"},
	"special":   {},
}

// Searchable returns the datatypes that a type of search parameter can read.
func Searchable(kind string) []string { return searchable[kind] }

// A place is a type that steps have led to.
type place struct {
	at    string
	steps []r4.SearchStep
}

// branches compiles one member of a union: none if it reads elements of types
// that no search of the kind can read. Where a choice stands in the middle of
// the path, each of its types that the path goes on in has a branch.
func (c *Compiler) branches(ops []op, skip int, kind string, targets map[string]bool) ([]r4.SearchBranch, error) {
	path, only := ops[0].name, ""
	places := []place{{at: path}}
	last := len(ops) - 1
	if last == 0 {
		return nil, ErrBeyond
	}
	for i, o := range ops[1:last] {
		if o.system {
			o.key, o.is, o.only = "system", o.only, ""
		}
		path, only = path+"."+o.label(), cmp.Or(o.only, only)
		var next []place
		for _, p := range places {
			if entersResource(p.at, o) {
				return nil, ErrBeyond // what is there depends on the resource
			}
			for _, e := range elementsOf(p.at, o) {
				if e.Complex() == nil || len(elementsOf(e.Type(), ops[i+2])) == 0 {
					continue
				}
				steps := p.steps
				if i >= skip {
					steps = append(slices.Clone(steps), r4.SearchStep{Name: e.Name, Key: o.key, Is: o.is, First: o.first})
				}
				next = append(next, place{e.Type(), steps})
			}
		}
		if places = next; len(places) == 0 {
			return nil, fmt.Errorf("names an element that is not there, after %s", path[:strings.LastIndexByte(path, '.')])
		}
	}
	o := ops[last]
	only = cmp.Or(o.only, only)
	var list []r4.SearchBranch
	found := false
	for _, p := range places {
		if o.as != "" && entersResource(p.at, o) {
			return nil, ErrBeyond
		}
		b := r4.SearchBranch{Path: path + "." + o.label(), Steps: p.steps, Only: only}
		for _, e := range elementsOf(p.at, o) {
			found = true
			if leaf, ok := c.leaf(p.at, e, o, kind); ok {
				b.Leaves = append(b.Leaves, leaf)
			}
			for _, t := range e.Targets() {
				targets[string(t)] = true
			}
			if len(e.Targets()) == 0 {
				targets["Resource"] = true
			}
		}
		if len(b.Leaves) > 0 {
			list = append(list, b)
		}
	}
	if !found && (kind != "quantity" || o.as != "SampledData") {
		return nil, fmt.Errorf("names an element that is not there, after %s", path)
	}
	switch {
	case only != "" && kind == "reference":
		clear(targets)
		targets[only] = true
	case only != "" && slices.ContainsFunc(list, notContact):
		return nil, ErrBeyond
	}
	return list, nil
}

// notContact reports whether b reads what has no system to be told apart by.
func notContact(b r4.SearchBranch) bool {
	return slices.ContainsFunc(b.Leaves, func(l r4.SearchLeaf) bool { return l.Type != "ContactPoint" })
}

// leaf returns how the element that the last step names is read, if a search
// of the kind can read it.
func (c *Compiler) leaf(at string, e *r4.Element, o op, kind string) (r4.SearchLeaf, bool) {
	t := e.Type()
	if t == at+"."+e.Name {
		t = "BackboneElement"
	}
	leaf := r4.SearchLeaf{Name: e.Name, Type: t}
	switch {
	case o.exists:
		leaf.Type = "exists"
	case kind != "special" && !slices.Contains(searchable[kind], t):
		return leaf, false
	case t == "code" && c.Systems != nil:
		leaf.Systems = c.Systems(at, e)
	case t == "code" && e.ValueSet() != nil:
		leaf.Systems = e.ValueSet().Systems()
	}
	return leaf, true
}

// entersResource reports whether o leads from the type at into a resource that
// is a part of another.
func entersResource(at string, o op) bool {
	return slices.ContainsFunc(elementsOf(at, op{name: o.name}), func(e *r4.Element) bool { return e.Type() == "Resource" })
}

// elementsOf returns the elements of the type at that o is about.
func elementsOf(at string, o op) []*r4.Element {
	of := r4.TypeOf(at)
	if of == nil {
		return nil
	}
	list := of.Choice(o.name)
	var out []*r4.Element
	for i := range list {
		if e := &list[i]; o.as == "" || strings.EqualFold(e.Type(), o.as) {
			out = append(out, e)
		}
	}
	return out
}

// merge joins the branches that read one element as different types.
func merge(list []r4.SearchBranch) []r4.SearchBranch {
	var out []r4.SearchBranch
	for _, b := range list {
		i := slices.IndexFunc(out, func(o r4.SearchBranch) bool {
			return o.Path == b.Path && o.Only == b.Only && slices.Equal(o.Steps, b.Steps)
		})
		if i < 0 {
			out = append(out, b)
			continue
		}
		for _, l := range b.Leaves {
			if !slices.ContainsFunc(out[i].Leaves, func(o r4.SearchLeaf) bool { return o.Name == l.Name }) {
				out[i].Leaves = append(out[i].Leaves, l)
			}
		}
	}
	return out
}
