package main

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/r4/expression"
)

// examples of the standard are in the package, but are no part of it: their
// bases or their expressions are nonsense.
var exampleParameters = map[string]bool{"example": true, "example-extension": true, "example-reference": true}

// writeSearch writes the search parameters and the compartments.
func writeSearch(p *definitions, root string) error {
	d, err := readSearch(p)
	if err != nil {
		return err
	}
	tables := map[fhir.Type][]r4.SearchParameter{}
	c := expression.Compiler{Find: d.find, Systems: d.systemsOf}
	for _, sp := range d.parameters {
		for _, t := range sp.Bases() {
			compiled, err := c.Compile(sp, t)
			if err != nil {
				return fmt.Errorf("compiling %s: %w", sp.ID, err)
			}
			tables[t] = append(tables[t], compiled)
		}
	}
	var b bytes.Buffer
	fmt.Fprint(&b, "import \"github.com/cordon-fhir/cordon/fhir\"\n\nvar searchParameters = [][]SearchParameter{\n")
	for i, t := range fhir.Types {
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

// searchDefinitions are the search parameters, and what their expressions do
// not say.
type searchDefinitions struct {
	elements   map[string]element // by path
	parameters []expression.Parameter
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

func readSearch(p *definitions) (*searchDefinitions, error) {
	structures, err := p.structures()
	if err != nil {
		return nil, err
	}
	d := &searchDefinitions{elements: map[string]element{}, valueSets: map[string]valueSetSystems{}}
	for _, s := range structures {
		for _, e := range s.Snapshot.Element {
			d.elements[e.Path] = e
		}
	}
	if d.parameters, err = all[expression.Parameter](p, "SearchParameter"); err != nil {
		return nil, err
	}
	d.parameters = slices.DeleteFunc(d.parameters, func(sp expression.Parameter) bool {
		return sp.Expression == "" || len(sp.Base) == 0 || exampleParameters[sp.ID]
	})
	sets, err := all[valueSetSystems](p, "ValueSet")
	for _, vs := range sets {
		d.valueSets[vs.URL] = vs
	}
	return d, err
}

func (d *searchDefinitions) find(url string) (expression.Parameter, bool) {
	i := slices.IndexFunc(d.parameters, func(sp expression.Parameter) bool { return sp.URL == url })
	if i < 0 {
		return expression.Parameter{}, false
	}
	return d.parameters[i], true
}

// systemsOf returns the code systems of an element, also of value sets that
// cannot be listed.
func (d *searchDefinitions) systemsOf(at string, e *r4.Element) []string {
	def, ok := d.elements[at+"."+e.Name]
	if !ok {
		def = d.elements[at+"."+e.Choice()+"[x]"]
	}
	return d.systems(def.Binding.ValueSet)
}

// systems returns the code systems of a value set.
func (d *searchDefinitions) systems(canonical string) []string {
	url, _, _ := strings.Cut(canonical, "|")
	set := map[string]bool{}
	for _, include := range d.valueSets[url].Compose.Include {
		if include.System != "" {
			set[include.System] = true
		}
		for _, other := range include.ValueSet {
			for _, s := range d.systems(other) {
				set[s] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
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
