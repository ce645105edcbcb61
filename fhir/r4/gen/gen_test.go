package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cordon-fhir/cordon/fhir/fhirtest"
)

// The committed tables are what the package gives, byte for byte.
func TestTablesAreUpToDate(t *testing.T) {
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	file := fhirtest.Path(t, fhirtest.Core)
	dir := t.TempDir()
	for _, folder := range []string{"fhir/r4", "fhir/canonical"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := generate(file, dir); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return err
		}
		if string(got) != string(want) {
			t.Errorf("%s is not what make generate writes", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A package that is not the one the tables are for is refused.
func TestAnotherPackageIsRefused(t *testing.T) {
	if _, err := readPackage(fhirtest.Path(t, fhirtest.Examples)); err == nil {
		t.Error("the package of examples was accepted")
	}
}
