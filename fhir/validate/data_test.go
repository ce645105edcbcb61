package validate_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir/fhirtest"
)

// examples yields the examples in a package file, by name.
func examples(t testing.TB, name string) map[string][]byte {
	t.Helper()
	list := map[string][]byte{}
	for path, body := range fhirtest.Files(t, name) {
		base := filepath.Base(path)
		if strings.HasSuffix(base, ".json") && base != "package.json" && !strings.HasPrefix(base, ".") {
			list[base] = body
		}
	}
	return list
}

// bundles returns the bundles in a folder of the test data, by name.
func bundles(t testing.TB, folder string) map[string][]byte {
	t.Helper()
	list := map[string][]byte{}
	err := filepath.WalkDir(fhirtest.Path(t, folder), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		list[filepath.Base(path)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
