package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// elsewhere are the invariants that fhir/validate and fhir/profile hold by
// other means than FHIRPath.
var elsewhere = []string{"ele-1", "ext-1", "dom-2", "dom-3", "dom-4", "dom-5", "dom-6", "txt-1", "txt-2", "ref-1"}

// writeInvariants writes the invariants of the base definitions, each with the
// type, or the element of a type, that it is about.
// https://hl7.org/fhir/R4/conformance-rules.html#constraints
func writeInvariants(p *definitions, root string) error {
	list, err := p.structures()
	if err != nil {
		return err
	}
	ofProfiles, err := p.rootConstraints()
	if err != nil {
		return err
	}
	parents := parentPaths(list)
	var b bytes.Buffer
	b.WriteString("// invariants are sorted by the names of the resources and datatypes.\nvar invariants = [...]Invariant{\n")
	for _, s := range list {
		for _, e := range s.Snapshot.Element {
			of, name := e.place(parents)
			all := e.Constraint
			for _, t := range e.Type {
				for _, profile := range t.Profile {
					all = append(all, ofProfiles[profile]...)
				}
			}
			for _, c := range all {
				if c.Expression == "" || slices.Contains(elsewhere, c.Key) {
					continue
				}
				fmt.Fprintf(&b, "{%q, %q, %q, %t, %q},\n", of, name, c.Key, c.Severity == "warning", c.Expression)
			}
		}
	}
	b.WriteString("}\n")
	return writeGo(filepath.Join(root, "fhir/r4/invariants_gen.go"), "r4", &b)
}

// rootConstraints returns what the profiles of datatypes, such as
// SimpleQuantity, ask of the whole value. Extensions are held against their
// definitions, not here.
func (p *definitions) rootConstraints() (map[string][]constraint, error) {
	profiles, err := all[structure](p, "StructureDefinition")
	if err != nil {
		return nil, err
	}
	constraints := map[string][]constraint{}
	for _, s := range profiles {
		if s.Derivation == "constraint" && s.Kind == "complex-type" && s.Type != "Extension" && len(s.Snapshot.Element) > 0 {
			constraints[s.URL] = slices.DeleteFunc(s.Snapshot.Element[0].Constraint, func(c constraint) bool {
				return !strings.HasPrefix(c.Key, "sqty") // the others come with the type
			})
		}
	}
	return constraints, nil
}

// parentPaths returns the paths of the elements that have children.
func parentPaths(list []structure) map[string]bool {
	parents := map[string]bool{}
	for _, s := range list {
		parents[s.Name] = true
		for _, e := range s.Snapshot.Element[1:] {
			parents[e.Path[:strings.LastIndexByte(e.Path, '.')]] = true
		}
	}
	return parents
}

// place returns the type that e is, or the type that it belongs to and its
// name in that, without [x].
func (e element) place(parents map[string]bool) (of, name string) {
	if parents[e.Path] {
		return e.Path, ""
	}
	dot := strings.LastIndexByte(e.Path, '.')
	return e.Path[:dot], strings.TrimSuffix(e.Path[dot+1:], "[x]")
}
