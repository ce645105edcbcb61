package main

import (
	"os"
	"path/filepath"
	"testing"
)

// packageFile returns the R4 package, or skips the test.
func packageFile(t *testing.T, root string) string {
	t.Helper()
	data := os.Getenv("CORDON_TEST_DATA")
	if data == "" {
		data = filepath.Join(root, "../shared/data")
	}
	file := filepath.Join(data, "definitions/hl7.fhir.r4.core-4.0.1.tgz")
	if _, err := os.Stat(file); err != nil {
		t.Skip("the R4 package is not in CORDON_TEST_DATA/definitions")
	}
	return file
}

// The committed tables are what the package gives, byte for byte.
func TestTablesAreUpToDate(t *testing.T) {
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	file := packageFile(t, root)
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
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(filepath.Dir(packageFile(t, root)), "hl7.fhir.r4.examples-4.0.1.tgz")
	if _, err := os.Stat(other); err != nil {
		t.Skip("the package of examples is not in CORDON_TEST_DATA/definitions")
	}
	if _, err := readPackage(other); err == nil {
		t.Error("the package of examples was accepted")
	}
}
