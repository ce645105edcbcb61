// Command gen writes the tables of fhir, fhir/r4 and fhir/canonical from the official package
// of R4, hl7.fhir.r4.core 4.0.1. Equal packages give equal files.
//
// https://hl7.org/fhir/R4/downloads.html
package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// tables are the writers of generated files. Each writes below the root of
// the repository.
var tables = []func(p *definitions, root string) error{
	writeTypes,
	writeNames,
	writeSearch,
	writeElements,
	writeValueSets,
	writeInvariants,
	writeBindings,
	writeCanonical,
}

func main() {
	root, err := findRoot()
	if err == nil {
		file := flag.String("package", cmp.Or(os.Getenv("CORDON_PACKAGE"),
			filepath.Join(root, "../shared/data/definitions/hl7.fhir.r4.core-4.0.1.tgz")), "the package `file`")
		flag.Parse()
		err = generate(*file, root)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// generate writes every table of the package in file below root.
func generate(file, root string) error {
	p, err := readPackage(file)
	if err != nil {
		return err
	}
	for _, write := range tables {
		if err := write(p, root); err != nil {
			return err
		}
	}
	return nil
}

// findRoot returns the folder of go.mod.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = parent
	}
}
