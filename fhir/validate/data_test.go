package validate_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dataFile returns the path of a file of the test data, or skips the test.
func dataFile(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(dataFolder(t), name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not in the folder of CORDON_TEST_DATA", name)
	}
	return path
}

// dataFolder is the environment variable CORDON_TEST_DATA, or shared/data
// beside the repository.
func dataFolder(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("CORDON_TEST_DATA"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, "../shared/data")
}

// examples yields the examples in a package file, by name.
func examples(t testing.TB, name string) map[string][]byte {
	t.Helper()
	f, err := os.Open(dataFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Base(h.Name)
		if !strings.HasSuffix(base, ".json") || base == "package.json" || strings.HasPrefix(base, ".") {
			continue
		}
		if list[base], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// bundles returns the bundles in a folder of the test data, by name.
func bundles(t testing.TB, folder string) map[string][]byte {
	t.Helper()
	list := map[string][]byte{}
	err := filepath.WalkDir(dataFile(t, folder), func(path string, d fs.DirEntry, err error) error {
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
