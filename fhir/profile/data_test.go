package profile_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/profile"
)

// data returns the path of a file of the test data, or skips the test.
func data(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("CORDON_TEST_DATA")
	if dir == "" {
		_, here, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(here), "../../../shared/data")
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err != nil {
		t.Skipf("%s is not in the test data; CORDON_TEST_DATA says where it is", name)
	}
	return file
}

// guides are the packages that were read, by name of the file.
var guides sync.Map

// guide returns the definitions of a package of the test data, over those of
// R4.
func guide(t testing.TB, name string) *canonical.Set {
	t.Helper()
	file := data(t, name)
	read, _ := guides.LoadOrStore(name, sync.OnceValues(func() (*canonical.Set, error) {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		p, err := canonical.ReadPackage(f)
		if err != nil {
			return nil, err
		}
		return canonical.NewSet(canonical.Core(), p.Definitions), nil
	}))
	set, err := read.(func() (*canonical.Set, error))()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

const (
	usCore3 = "us-core/hl7.fhir.us.core-3.1.1.tgz"
	usCore6 = "us-core/hl7.fhir.us.core-6.1.0.tgz"
	r4File  = "definitions/hl7.fhir.r4.examples-4.0.1.tgz"
)

// examples returns the resources in the folder of a package file, by name.
func examples(t testing.TB, name, folder string) map[string][]byte {
	t.Helper()
	f, err := os.Open(data(t, name))
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
		dir, base := filepath.Split(h.Name)
		if first, _, _ := strings.Cut(base, "-"); dir != folder || !strings.HasSuffix(base, ".json") || !fhir.Type(first).Known() {
			continue
		}
		if list[base], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func parse(t testing.TB, body []byte) *fhir.Document {
	t.Helper()
	d, err := fhir.Parse(body, fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// validate1 returns the issues.
func validate1(t testing.TB, v *profile.Validator, d *fhir.Document, o profile.Options) []fhir.Issue {
	t.Helper()
	issues, err := v.Validate(t.Context(), d, o)
	if err != nil {
		t.Fatal(err)
	}
	return issues
}

// errorsIn returns the errors among issues.
func errorsIn(issues []fhir.Issue) []fhir.Issue {
	var list []fhir.Issue
	for _, i := range issues {
		if i.Severity == "error" {
			list = append(list, i)
		}
	}
	return list
}
