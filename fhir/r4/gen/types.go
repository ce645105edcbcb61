package main

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// A structure is a StructureDefinition, as far as the tables need it.
// https://hl7.org/fhir/R4/structuredefinition.html
type structure struct {
	URL        string
	Name       string
	Type       string
	Kind       string // "resource", "complex-type" or "primitive-type"
	Abstract   bool
	Derivation string
	Snapshot   struct{ Element []element }
}

// An element is an ElementDefinition.
// https://hl7.org/fhir/R4/elementdefinition.html
type element struct {
	Path             string
	Min              int
	Max              string
	ContentReference string
	Type             []elementType
	IsModifier       bool
	IsSummary        bool
	Binding          struct{ Strength, ValueSet string }
	Constraint       []constraint
}

type constraint struct{ Key, Severity, Expression string }

type elementType struct {
	Code          string
	Profile       []string
	TargetProfile []string
	Extension     []struct{ URL, ValueURL string }
}

// structures returns what R4 defines: resources and datatypes, without
// profiles, patterns for logical models, and extensions, in order of name.
func (p *definitions) structures() ([]structure, error) {
	list, err := all[structure](p, "StructureDefinition")
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(s structure) bool {
		return s.Derivation == "constraint" || s.Kind == "logical" || s.Name == "MetadataResource"
	})
	slices.SortFunc(list, func(a, b structure) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// writeTypes writes the list of resource types.
func writeTypes(p *definitions, root string) error {
	list, err := p.structures()
	if err != nil {
		return err
	}
	var types []string
	for _, s := range list {
		if s.Kind == "resource" && !s.Abstract {
			types = append(types, s.Name)
		}
	}
	var b bytes.Buffer
	fmt.Fprint(&b, `// Types lists the resource types of R4 in order of name. The place of a type
// in it, counted from 1, is its number in storage and never changes.
// https://hl7.org/fhir/R4/resourcelist.html
var Types = []Type{
`)
	for _, t := range types {
		fmt.Fprintf(&b, "%q,\n", t)
	}
	fmt.Fprint(&b, "}\n\nvar typeNumbers = map[Type]int16{\n")
	for i, t := range types {
		fmt.Fprintf(&b, "%q: %d,\n", t, i+1)
	}
	fmt.Fprint(&b, "}\n")
	return writeGo(filepath.Join(root, "fhir/types.go"), "fhir", &b)
}

// writeNames writes the names of all elements, for the words of errors.
func writeNames(p *definitions, root string) error {
	list, err := p.structures()
	if err != nil {
		return err
	}
	names := map[string]bool{"resourceType": true}
	for _, s := range list {
		for _, e := range s.Snapshot.Element[1:] {
			for _, name := range e.names() {
				names[name] = true
			}
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "// elementNames holds the name of every element as JSON spells it, each between\n// line breaks.\nconst elementNames = `\n%s\n`\n",
		strings.Join(slices.Sorted(maps.Keys(names)), "\n"))
	return writeGo(filepath.Join(root, "fhir/names_gen.go"), "fhir", &b)
}

// names returns how JSON spells e: value[x] is one name per type.
func (e element) names() []string {
	name := e.Path[strings.LastIndexByte(e.Path, '.')+1:]
	base, choice := strings.CutSuffix(name, "[x]")
	if !choice {
		return []string{name}
	}
	var list []string
	for _, t := range e.Type {
		list = append(list, base+strings.ToUpper(t.Code[:1])+t.Code[1:])
	}
	return list
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
