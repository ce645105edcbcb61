package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir/canonical"
)

// runTime are the types whose definitions are looked up when the server runs.
// The CapabilityStatements of the package are examples.
var runTime = []string{
	"CodeSystem", "CompartmentDefinition", "ConceptMap", "NamingSystem", "OperationDefinition", "SearchParameter",
	"StructureDefinition", "ValueSet",
}

// writeCanonical writes the definitions that are looked up at run time.
func writeCanonical(p *definitions, root string) error {
	var defs []*canonical.Definition
	for _, name := range sortedKeys(p.files) {
		if t, _, _ := strings.Cut(name, "-"); !slices.Contains(runTime, t) {
			continue
		}
		d, err := canonical.New(p.files[name])
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		defs = append(defs, d)
	}
	slices.SortStableFunc(defs, func(a, b *canonical.Definition) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.URL, b.URL))
	})
	packer := canonical.NewPacker(true)
	for _, d := range defs {
		packer.Add(d)
	}
	packed, err := packer.Pack().Append(nil)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "fhir/canonical/core.pack"), packed, 0o644)
}
