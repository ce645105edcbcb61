// Package fhirtest is what the tests of several packages share: published data
// to try things on, and what a client sends and reads.
package fhirtest

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
)

// The examples of the specification, and the guides of US Core.
// https://hl7.org/fhir/R4/downloads.html
const (
	Examples = "definitions/hl7.fhir.r4.examples-4.0.1.tgz"
	Core     = "definitions/hl7.fhir.r4.core-4.0.1.tgz"
	USCore3  = "us-core/hl7.fhir.us.core-3.1.1.tgz"
	USCore6  = "us-core/hl7.fhir.us.core-6.1.0.tgz"
)

// Path returns the path of a file or folder of the test data, or skips the
// test. The data are where the environment variable CORDON_TEST_DATA says, or
// in shared/data beside the repository.
func Path(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("CORDON_TEST_DATA")
	for up := ".."; dir == "" && len(up) < 30; up += "/.." {
		if _, err := os.Stat(filepath.Join(up, "go.mod")); err == nil {
			dir = filepath.Join(up, "../shared/data")
		}
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not in the folder of CORDON_TEST_DATA", name)
	}
	return path
}

// Open opens a file of the test data for as long as the test runs, or skips it.
func Open(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Open(Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Files yields what is in a package file of the test data, by the name that it
// has there ("package/Patient-example.json"), or skips the test.
func Files(t testing.TB, name string) iter.Seq2[string, []byte] {
	t.Helper()
	z, err := gzip.NewReader(Open(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(string, []byte) bool) {
		for r := tar.NewReader(z); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if !yield(h.Name, body) {
				return
			}
		}
	}
}

// Resources yields the resources in a package file of the test data that are
// well-formed, by name, or skips the test.
func Resources(t testing.TB, name string) iter.Seq2[string, *fhir.Document] {
	t.Helper()
	files := Files(t, name)
	return func(yield func(string, *fhir.Document) bool) {
		for name, body := range files {
			if d, err := fhir.Parse(body, fhir.Limits{}); err == nil && !yield(name, d) {
				return
			}
		}
	}
}
