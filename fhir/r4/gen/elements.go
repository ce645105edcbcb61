package main

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// primitives are the primitive types in the order of the constants of fhir/r4.
// https://hl7.org/fhir/R4/datatypes.html#primitive
var primitives = []string{"", "base64Binary", "boolean", "canonical", "code", "date", "dateTime", "decimal", "id",
	"instant", "integer", "markdown", "oid", "positiveInt", "string", "time", "unsignedInt", "uri", "url", "uuid", "xhtml"}

const fhirType = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"

// elementTables collects the rows of elements_gen.go.
type elementTables struct {
	types    []string       // paths of the types with elements, sorted
	number   map[string]int // place of a path in types
	targets  []string       // lists of reference targets, each a Go literal
	target   map[string]int
	valueSet map[string]int // place of a URL among the value sets that are checked
	out      bytes.Buffer
}

// writeElements writes the elements of every resource, datatype and backbone
// element.
func writeElements(p *definitions, root string) error {
	list, err := p.structures()
	if err != nil {
		return err
	}
	sets, err := p.checkedValueSets()
	if err != nil {
		return err
	}
	t := elementTables{number: map[string]int{}, target: map[string]int{}, valueSet: map[string]int{}}
	for i, v := range sets {
		t.valueSet[v.url] = i + 1
	}
	children := map[string][]element{}
	for _, s := range list {
		if s.Kind == "primitive-type" {
			continue
		}
		children[s.Name] = nil
		for _, e := range s.Snapshot.Element[1:] {
			parent := e.Path[:strings.LastIndexByte(e.Path, '.')]
			children[parent] = append(children[parent], e)
		}
	}
	t.types = slices.Sorted(maps.Keys(children))
	for i, path := range t.types {
		t.number[path] = i
	}
	var types bytes.Buffer
	row := 0
	for _, path := range t.types {
		first := row
		choice := 0
		for _, e := range children[path] {
			if strings.HasSuffix(e.Path, "[x]") {
				choice++
			}
			n, err := t.write(e, choice)
			if err != nil {
				return err
			}
			row += n
		}
		fmt.Fprintf(&types, "{Path: %q, first: %d, last: %d},\n", path, first, row)
	}
	var b bytes.Buffer
	b.WriteString("import \"github.com/cordon-fhir/cordon/fhir\"\n\n")
	fmt.Fprintf(&b, "// types are the types with elements, sorted by path: where their elements\n// begin and end.\nvar types = [...]Type{\n%s}\n\n", &types)
	fmt.Fprintf(&b, "// elements are the elements of all types, in the order of the standard.\nvar elements = [...]Element{\n%s}\n\n", &t.out)
	fmt.Fprintf(&b, "// targets are the lists of types that references may point to.\nvar targets = [...][]fhir.Type{\nnil,\n%s}\n", strings.Join(t.targets, ""))
	return writeGo(filepath.Join(root, "fhir/r4/elements_gen.go"), "r4", &b)
}

// write writes the rows of e, one for each of its types, and returns how many.
func (t *elementTables) write(e element, choice int) (int, error) {
	if e.Max == "0" {
		return 0, nil
	}
	if !strings.HasSuffix(e.Path, "[x]") {
		choice = 0
		if len(e.Type) > 1 {
			return 0, fmt.Errorf("%s has %d types and is no choice", e.Path, len(e.Type))
		}
	}
	if e.ContentReference != "" {
		e.Type = []elementType{{Code: e.ContentReference[1:]}}
	}
	for i, name := range e.names() {
		typ, prim := 0, 0
		of := e.Type[i]
		code := e.typeCode(of)
		if prim = slices.Index(primitives, code); prim < 0 {
			prim = 0
			if _, ok := t.number[e.Path]; ok {
				code = e.Path // its children are written out in place
			}
			n, ok := t.number[code]
			if !ok {
				return 0, fmt.Errorf("%s has unknown type %s", e.Path, code)
			}
			typ = n
		}
		many := 0
		if e.Max == "*" {
			many = 1
		} else if e.Max != "1" {
			return 0, fmt.Errorf("%s may occur %s times", e.Path, e.Max)
		}
		flags := many
		if e.IsSummary {
			flags |= 2
		}
		if e.IsModifier {
			flags |= 4
		}
		set := 0
		if e.Binding.Strength == "required" && (code == "code" || code == "Coding" || code == "CodeableConcept") {
			url, _, _ := strings.Cut(e.Binding.ValueSet, "|")
			set = t.valueSet[url]
		}
		fmt.Fprintf(&t.out, "{%q, %d, %d, %d, %d, %d, %d, %d},\n", name, typ, set, prim, e.Min, flags, choice, t.targetsOf(of))
	}
	return len(e.Type), nil
}

// typeCode returns the FHIR type of one type of e. Ids and values of
// primitives, and Extension.url, have a FHIRPath type and say in an extension
// what it stands for.
func (e element) typeCode(of elementType) string {
	if !strings.HasPrefix(of.Code, "http://hl7.org/fhirpath/") {
		return of.Code
	}
	if parent, ok := strings.CutSuffix(e.Path, ".id"); ok && e.IsSummary && !strings.Contains(parent, ".") {
		return "id" // of a resource; the package calls it a string
	}
	for _, x := range of.Extension {
		if x.URL == fhirType {
			return x.ValueURL
		}
	}
	return of.Code
}

// targetsOf returns the number of the list of types that a reference of the
// type may point to, 0 for any.
func (t *elementTables) targetsOf(of elementType) int {
	var names []string
	for _, profile := range of.TargetProfile {
		name := profile[strings.LastIndexByte(profile, '/')+1:]
		if name == "Resource" || name == "Any" {
			return 0
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return 0
	}
	slices.Sort(names)
	literal := fmt.Sprintf("{\"%s\"},\n", strings.Join(slices.Compact(names), `", "`))
	if t.target[literal] == 0 {
		t.targets = append(t.targets, literal)
		t.target[literal] = len(t.targets)
	}
	return t.target[literal]
}
