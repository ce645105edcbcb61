package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
)

// writeBindings writes the bindings that are not in the table of elements:
// the extensible ones, and the required ones whose value sets the package does
// not suffice to enumerate.
// https://hl7.org/fhir/R4/terminologies.html#strength
func writeBindings(p *definitions, root string) error {
	list, err := p.structures()
	if err != nil {
		return err
	}
	sets, err := p.checkedValueSets()
	if err != nil {
		return err
	}
	checked := map[string]bool{}
	for _, v := range sets {
		checked[v.url] = true
	}
	var b bytes.Buffer
	b.WriteString("// bindings are sorted by the names of the resources and datatypes.\nvar bindings = [...]Binding{\n")
	for _, s := range list {
		for _, e := range s.Snapshot.Element[1:] {
			url, _, _ := strings.Cut(e.Binding.ValueSet, "|")
			strength := e.Binding.Strength
			if url == "" || strength != "extensible" && strength != "required" || strength == "required" && checked[url] {
				continue
			}
			dot := strings.LastIndexByte(e.Path, '.')
			fmt.Fprintf(&b, "{%q, %q, %t, %q},\n", e.Path[:dot], strings.TrimSuffix(e.Path[dot+1:], "[x]"), strength == "required", url)
		}
	}
	b.WriteString("}\n")
	return writeGo(filepath.Join(root, "fhir/r4/bindings_gen.go"), "r4", &b)
}
