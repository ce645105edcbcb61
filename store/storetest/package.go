package storetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"testing"
)

// PackageFile returns the file of a package with the definitions, which are
// JSON. It depends on R4, and on a package "other.guide" that is nowhere.
// https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
func PackageFile(t testing.TB, name, version string, definitions ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	add := func(name, body string) {
		if err := w.WriteHeader(&tar.Header{Name: "package/" + name, Size: int64(len(body)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	add("package.json", fmt.Sprintf(`{"name":%q,"version":%q,"canonical":"http://guide.example.org","fhirVersions":["4.0.1"],`+
		`"dependencies":{"hl7.fhir.r4.core":"4.0.1","other.guide":"1.0.0"}}`, name, version))
	for i, d := range definitions {
		add(fmt.Sprintf("%d.json", i), d)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
