package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A searchParameter is a SearchParameter, as far as the tables need it.
// https://hl7.org/fhir/R4/searchparameter.html
type searchParameter struct {
	ID, URL, Code, Type, Expression string
	Base, Target                    []string
	Component                       []struct{ Definition, Expression string }
}

// examples of the standard are in the package, but are no part of it: their
// bases or their expressions are nonsense.
var exampleParameters = map[string]bool{"example": true, "example-extension": true, "example-reference": true}

// writeSearch writes the search parameters and the compartments.
func writeSearch(p *definitions, root string) error {
	c, err := newSearchCompiler(p)
	if err != nil {
		return err
	}
	tables := map[string][]r4.SearchParameter{}
	for _, sp := range c.parameters {
		if err := c.compile(sp, tables); err != nil {
			return fmt.Errorf("compiling %s: %w", sp.ID, err)
		}
	}
	var b bytes.Buffer
	fmt.Fprint(&b, "import \"github.com/cordon-fhir/cordon/fhir\"\n\nvar searchParameters = [][]SearchParameter{\n")
	for i, t := range c.types {
		list := tables[t]
		slices.SortFunc(list, func(a, b r4.SearchParameter) int { return strings.Compare(a.Code, b.Code) })
		for j := 1; j < len(list); j++ {
			if list[j].Code == list[j-1].Code {
				return fmt.Errorf("%s has two search parameters %s", t, list[j].Code)
			}
		}
		nameApart(list)
		fmt.Fprintf(&b, "%d: { // %s\n", i+1, t)
		for _, sp := range list {
			printParameter(&b, sp)
		}
		fmt.Fprint(&b, "},\n")
	}
	fmt.Fprint(&b, "}\n\n")
	if err := printCompartments(&b, p); err != nil {
		return err
	}
	return writeGo(filepath.Join(root, "fhir/r4/search_gen.go"), "r4", &b)
}

// A searchCompiler compiles the expressions of search parameters.
type searchCompiler struct {
	types      []string // resource types, in order of number
	abstract   map[string]bool
	elements   map[string]element // by path
	parameters []searchParameter
	byURL      map[string]searchParameter
	valueSets  map[string]valueSetSystems
}

// valueSetSystems is a ValueSet, as far as its systems go.
type valueSetSystems struct {
	URL     string
	Compose struct {
		Include []struct {
			System   string
			ValueSet []string
		}
	}
}

func newSearchCompiler(p *definitions) (*searchCompiler, error) {
	structures, err := p.structures()
	if err != nil {
		return nil, err
	}
	c := &searchCompiler{
		abstract:  map[string]bool{},
		elements:  map[string]element{},
		byURL:     map[string]searchParameter{},
		valueSets: map[string]valueSetSystems{},
	}
	for _, s := range structures {
		if s.Kind == "resource" && !s.Abstract {
			c.types = append(c.types, s.Name)
		}
		for _, e := range s.Snapshot.Element {
			c.elements[e.Path] = e
		}
	}
	if c.parameters, err = all[searchParameter](p, "SearchParameter"); err != nil {
		return nil, err
	}
	c.parameters = slices.DeleteFunc(c.parameters, func(sp searchParameter) bool {
		return sp.Expression == "" || len(sp.Base) == 0 || exampleParameters[sp.ID]
	})
	for _, sp := range c.parameters {
		c.byURL[sp.URL] = sp
	}
	sets, err := all[valueSetSystems](p, "ValueSet")
	for _, vs := range sets {
		c.valueSets[vs.URL] = vs
	}
	return c, err
}

// compile adds sp to the tables of the types that it is for.
func (c *searchCompiler) compile(sp searchParameter, tables map[string][]r4.SearchParameter) error {
	bases := sp.Base
	if slices.Contains(bases, "Resource") || slices.Contains(bases, "DomainResource") {
		bases = c.types
	}
	for _, t := range bases {
		out := r4.SearchParameter{Code: sp.Code, Type: sp.Type, URL: sp.URL}
		if sp.Type == "composite" {
			if err := c.composite(&out, sp, t); err != nil {
				return err
			}
		} else {
			targets := map[string]bool{}
			branches, err := c.union(sp.Expression, t, t, sp.Type, targets)
			if err != nil {
				return err
			}
			if len(branches) == 0 {
				return fmt.Errorf("%s reads nothing of %s", sp.Expression, t)
			}
			out.Branches = merge(branches)
			for i, b := range out.Branches {
				out.Branches[i].Single = c.single(b.Path)
			}
			out.Targets = c.targets(sp.Target, targets)
		}
		tables[t] = append(tables[t], out)
	}
	return nil
}

// targets returns the declared targets that the elements read can have; none
// if they can have any.
func (c *searchCompiler) targets(declared []string, possible map[string]bool) []fhir.Type {
	if slices.Contains(declared, "Resource") || len(declared) > 100 {
		declared = c.types
		if possible["Resource"] {
			return nil
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
// can occur but once in a resource.
func (c *searchCompiler) single(path string) bool {
	parts := strings.Split(path, ".")
	for i := 2; i <= len(parts); i++ {
		at := strings.Join(parts[:i], ".")
		e, ok := c.elements[at]
		if !ok {
			e, ok = c.elements[at+"[x]"]
		}
		if !ok || e.Max != "1" {
			return false
		}
	}
	return true
}

// composite compiles the components of sp, once for each base of type t.
func (c *searchCompiler) composite(out *r4.SearchParameter, sp searchParameter, t string) error {
	for _, base := range splitOutside(sp.Expression, '|') {
		base = strings.TrimSpace(base)
		if root, _, _ := strings.Cut(base, "."); root != t {
			continue
		}
		sc := r4.SearchComposite{Path: base}
		for _, name := range strings.Split(base, ".")[1:] {
			sc.Steps = append(sc.Steps, r4.SearchStep{Name: name})
		}
		for at := base; at != t; at = at[:strings.LastIndexByte(at, '.')] {
			sc.Repeats = sc.Repeats || c.elements[at].Max != "1"
		}
		for _, part := range sp.Component {
			def, ok := c.byURL[part.Definition]
			if !ok {
				return fmt.Errorf("component %s is not known", part.Definition)
			}
			from, expr := base, part.Expression
			if rest, ok := strings.CutPrefix(expr, "%resource."); ok {
				from, expr = t, rest
			}
			component := r4.SearchComponent{Root: from != base && sc.Repeats}
			// DocumentReference-relationship names its two definitions in
			// the wrong order, so that the expression has the last word.
			for _, kind := range []string{def.Type, "token", "reference"} {
				component.Type = kind
				for _, branch := range splitOutside(expr, '|') {
					branches, err := c.union(from+"."+strings.TrimSpace(branch), t, from, kind, map[string]bool{})
					if err != nil {
						return err
					}
					component.Branches = append(component.Branches, branches...)
				}
				if component.Branches = merge(component.Branches); len(component.Branches) > 0 {
					break
				}
			}
			if len(component.Branches) == 0 {
				return fmt.Errorf("component %s reads nothing", part.Expression)
			}
			for i, b := range component.Branches {
				if !sc.Repeats && from != t {
					component.Branches[i].Steps = append(slices.Clone(sc.Steps), b.Steps...)
				}
				component.Branches[i].Single = !sc.Repeats && c.single(b.Path)
			}
			sc.Components = append(sc.Components, component)
		}
		out.Composites = append(out.Composites, sc)
	}
	return nil
}

// union compiles the members of a union that begin at type t. Steps are
// counted from the element from.
func (c *searchCompiler) union(expr, t, from, kind string, targets map[string]bool) ([]r4.SearchBranch, error) {
	var list []r4.SearchBranch
	for _, s := range splitOutside(expr, '|') {
		ops, err := parseBranch(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", s, err)
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
		b, ok, err := c.branch(ops, strings.Count(from, "."), kind, targets)
		if err != nil {
			return nil, fmt.Errorf("resolving %s: %w", s, err)
		}
		if ok {
			list = append(list, b)
		}
	}
	return list, nil
}

// An op is one step of an expression: a name and what restricts it.
type op struct {
	name    string
	as      string // as, ofType
	only    string // where(resolve() is T), where(system='x')
	key, is string // where(key='is'), extension('is'), where(hasExtension('is'))
	first   bool   // [0]
	exists  bool
}

// parseBranch reads the part of FHIRPath that search parameters use.
func parseBranch(s string) ([]op, error) {
	if path, rest, ok := strings.Cut(s, ".exists() and "); ok {
		if rest != path+" != false" {
			return nil, fmt.Errorf("unknown condition %q", rest)
		}
		ops, err := parseBranch(path)
		if err == nil {
			ops[len(ops)-1].exists = true
		}
		return ops, err
	}
	var ops []op
	if strings.HasPrefix(s, "(") {
		inner, rest, _ := strings.Cut(s[1:], ")")
		path, as, ok := strings.Cut(inner, " as ")
		if !ok {
			return nil, fmt.Errorf("unknown parentheses")
		}
		var err error
		if ops, err = parseBranch(path); err != nil {
			return nil, err
		}
		ops[len(ops)-1].as = as
		s = strings.TrimPrefix(rest, ".")
	}
	for _, part := range splitOutside(s, '.') {
		if part == "" {
			continue
		}
		fn, arg, call := strings.Cut(strings.TrimSuffix(part, ")"), "(")
		if !call {
			name, first := strings.CutSuffix(part, "[0]")
			ops = append(ops, op{name: name, first: first})
			continue
		}
		if len(ops) == 0 {
			return nil, fmt.Errorf("a function at the beginning")
		}
		last := &ops[len(ops)-1]
		switch text := strings.Trim(arg, "'"); {
		case fn == "as", fn == "ofType":
			last.as = arg
		case fn == "extension":
			ops = append(ops, op{name: "extension", key: "url", is: text}, op{name: "value"})
		case fn == "where" && strings.HasPrefix(arg, "resolve() is "):
			last.only = strings.TrimPrefix(arg, "resolve() is ")
		case fn == "where" && strings.HasPrefix(arg, "hasExtension("):
			last.key, last.is = "extension", strings.Trim(strings.TrimPrefix(arg, "hasExtension("), "')")
		case fn == "where" && strings.HasPrefix(arg, "system="):
			last.only = strings.Trim(strings.TrimPrefix(arg, "system="), "'")
		case fn == "where" && strings.Count(arg, "=") == 1:
			key, is, _ := strings.Cut(arg, "=")
			last.key, last.is = key, strings.Trim(is, "'")
		default:
			return nil, fmt.Errorf("unknown function %s", fn)
		}
	}
	return ops, nil
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

// branch compiles one member of a union; ok is false if it reads elements of
// types that no search of the kind can read.
func (c *searchCompiler) branch(ops []op, skip int, kind string, targets map[string]bool) (b r4.SearchBranch, ok bool, err error) {
	at := ops[0].name
	b.Path = at
	for i, o := range ops[1:] {
		e, base, err := c.child(at, o.name)
		if err != nil {
			return b, false, err
		}
		types := e.Type
		if o.as != "" {
			types = slices.DeleteFunc(slices.Clone(types), func(t elementType) bool { return !strings.EqualFold(t.Code, o.as) })
			if len(types) == 0 && !(kind == "quantity" && o.as == "SampledData") {
				return b, false, fmt.Errorf("%s is never %s", e.Path, o.as)
			}
		}
		b.Path += "." + o.name
		if o.is != "" {
			b.Path += "[" + o.is[strings.LastIndexByte(o.is, '/')+1:] + "]"
		}
		if o.only != "" {
			b.Only = o.only
		}
		if i < len(ops)-2 {
			if len(types) != 1 && e.ContentReference == "" {
				return b, false, fmt.Errorf("%s has several types in the middle of a path", e.Path)
			}
			name := o.name
			at = cmp.Or(strings.TrimPrefix(e.ContentReference, "#"), e.Path)
			if e.ContentReference == "" {
				name = base + choiceSuffix(e, types[0].Code)
				if code := types[0].Code; code != "BackboneElement" && code != "Element" {
					at = code
				}
			}
			if i >= skip {
				b.Steps = append(b.Steps, r4.SearchStep{Name: name, Key: o.key, Is: o.is, First: o.first})
			}
			continue
		}
		for _, t := range types {
			code := t.Code
			if strings.HasSuffix(code, "System.String") {
				code = "id"
			}
			name := base + choiceSuffix(e, t.Code)
			switch {
			case o.exists:
				b.Leaves = append(b.Leaves, r4.SearchLeaf{Name: name, Type: "exists"})
			case kind == "special", slices.Contains(searchable[kind], code):
				leaf := r4.SearchLeaf{Name: name, Type: code}
				if code == "code" {
					leaf.Systems = c.systems(e.Binding.ValueSet)
				}
				b.Leaves = append(b.Leaves, leaf)
			}
			for _, profile := range t.TargetProfile {
				targets[profile[strings.LastIndexByte(profile, '/')+1:]] = true
			}
			if len(t.TargetProfile) == 0 {
				targets["Resource"] = true
			}
		}
		if b.Only != "" && kind == "reference" {
			clear(targets)
			targets[b.Only] = true
		}
	}
	return b, len(b.Leaves) > 0, nil
}

// child returns the element name of the element at the path at, and its name
// without [x].
func (c *searchCompiler) child(at, name string) (element, string, error) {
	for _, spelled := range []string{name, name + "[x]"} {
		if e, ok := c.elements[at+"."+spelled]; ok {
			return e, name, nil
		}
	}
	return element{}, "", fmt.Errorf("%s has no element %s", at, name)
}

func choiceSuffix(e element, code string) string {
	if !strings.HasSuffix(e.Path, "[x]") {
		return ""
	}
	return strings.ToUpper(code[:1]) + code[1:]
}

// systems returns the code systems of a value set.
func (c *searchCompiler) systems(canonical string) []string {
	url, _, _ := strings.Cut(canonical, "|")
	set := map[string]bool{}
	for _, include := range c.valueSets[url].Compose.Include {
		if include.System != "" {
			set[include.System] = true
		}
		for _, other := range include.ValueSet {
			for _, s := range c.systems(other) {
				set[s] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// merge joins the branches that read one element as different types.
func merge(list []r4.SearchBranch) []r4.SearchBranch {
	var out []r4.SearchBranch
	for _, b := range list {
		i := slices.IndexFunc(out, func(o r4.SearchBranch) bool { return o.Path == b.Path && o.Only == b.Only })
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

// nameApart gives the branches of one path that parameters of one type read
// as different types a path of their own, after their names in JSON.
func nameApart(list []r4.SearchParameter) {
	leaves := map[string]string{}
	apart := map[string]bool{}
	for _, sp := range list {
		for _, b := range sp.Branches {
			key := sp.Type + " " + b.Path
			names := fmt.Sprint(b.Leaves)
			if was, ok := leaves[key]; ok && was != names {
				apart[key] = true
			}
			leaves[key] = names
		}
	}
	for i, sp := range list {
		var branches []r4.SearchBranch
		for _, b := range sp.Branches {
			if !apart[sp.Type+" "+b.Path] {
				branches = append(branches, b)
				continue
			}
			for _, l := range b.Leaves {
				one := b
				one.Path = b.Path[:strings.LastIndexByte(b.Path, '.')+1] + l.Name
				one.Leaves = []r4.SearchLeaf{l}
				branches = append(branches, one)
			}
		}
		list[i].Branches = branches
	}
}

// splitOutside splits s at sep where it is in no parentheses and no quotes.
func splitOutside(s string, sep byte) []string {
	var parts []string
	depth, quoted, begin := 0, false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case quoted:
		case s[i] == '(':
			depth++
		case s[i] == ')':
			depth--
		case s[i] == sep && depth == 0:
			parts = append(parts, s[begin:i])
			begin = i + 1
		}
	}
	return append(parts, s[begin:])
}

func printParameter(b *bytes.Buffer, sp r4.SearchParameter) {
	fmt.Fprintf(b, "{Code: %q, Type: %q, URL: %q", sp.Code, sp.Type, sp.URL)
	if len(sp.Targets) > 0 {
		fmt.Fprintf(b, ", Targets: []fhir.Type{")
		for i, t := range sp.Targets {
			if i > 0 {
				fmt.Fprint(b, ", ")
			}
			fmt.Fprintf(b, "%q", t)
		}
		fmt.Fprint(b, "}")
	}
	printBranches(b, sp.Branches)
	if len(sp.Composites) > 0 {
		fmt.Fprint(b, ", Composites: []SearchComposite{\n")
		for _, c := range sp.Composites {
			fmt.Fprintf(b, "{Path: %q", c.Path)
			printSteps(b, c.Steps)
			fmt.Fprintf(b, ", Repeats: %t, Components: []SearchComponent{\n", c.Repeats)
			for _, part := range c.Components {
				fmt.Fprintf(b, "{Type: %q, Root: %t", part.Type, part.Root)
				printBranches(b, part.Branches)
				fmt.Fprint(b, "},\n")
			}
			fmt.Fprint(b, "}},\n")
		}
		fmt.Fprint(b, "}")
	}
	fmt.Fprint(b, "},\n")
}

func printBranches(b *bytes.Buffer, list []r4.SearchBranch) {
	if len(list) == 0 {
		return
	}
	fmt.Fprint(b, ", Branches: []SearchBranch{\n")
	for _, br := range list {
		fmt.Fprintf(b, "{Path: %q", br.Path)
		printSteps(b, br.Steps)
		fmt.Fprint(b, ", Leaves: []SearchLeaf{")
		for i, l := range br.Leaves {
			if i > 0 {
				fmt.Fprint(b, ", ")
			}
			fmt.Fprintf(b, "{Name: %q, Type: %q", l.Name, l.Type)
			if len(l.Systems) > 0 {
				fmt.Fprintf(b, ", Systems: %#v", l.Systems)
			}
			fmt.Fprint(b, "}")
		}
		fmt.Fprint(b, "}")
		if br.Only != "" {
			fmt.Fprintf(b, ", Only: %q", br.Only)
		}
		if br.Single {
			fmt.Fprint(b, ", Single: true")
		}
		fmt.Fprint(b, "},\n")
	}
	fmt.Fprint(b, "}")
}

func printSteps(b *bytes.Buffer, list []r4.SearchStep) {
	if len(list) == 0 {
		return
	}
	fmt.Fprint(b, ", Steps: []SearchStep{")
	for i, s := range list {
		if i > 0 {
			fmt.Fprint(b, ", ")
		}
		fmt.Fprintf(b, "{Name: %q", s.Name)
		if s.Key != "" {
			fmt.Fprintf(b, ", Key: %q, Is: %q", s.Key, s.Is)
		}
		if s.First {
			fmt.Fprint(b, ", First: true")
		}
		fmt.Fprint(b, "}")
	}
	fmt.Fprint(b, "}")
}

// A compartmentDefinition is a CompartmentDefinition.
type compartmentDefinition struct {
	ID       string
	Code     string
	Resource []struct {
		Code  string
		Param []string
	}
}

func printCompartments(b *bytes.Buffer, p *definitions) error {
	list, err := all[compartmentDefinition](p, "CompartmentDefinition")
	if err != nil {
		return err
	}
	fmt.Fprint(b, "var compartments = map[fhir.Type][]CompartmentMember{\n")
	for _, c := range list {
		if c.ID == "example" {
			continue
		}
		fmt.Fprintf(b, "%q: {\n", c.Code)
		for _, r := range c.Resource {
			// {def} is the resource itself.
			params := slices.DeleteFunc(slices.Clone(r.Param), func(s string) bool { return s == "{def}" })
			if len(params) > 0 {
				fmt.Fprintf(b, "{Type: %q, Parameters: %#v},\n", r.Code, params)
			}
		}
		fmt.Fprint(b, "},\n")
	}
	fmt.Fprint(b, "}\n")
	return nil
}
