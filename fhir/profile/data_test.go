package profile_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/profile"
)

// guides are the packages that were read, by name of the file.
var guides sync.Map

// guide returns the definitions of a package of the test data, over those of
// R4.
func guide(t testing.TB, name string) *canonical.Set {
	t.Helper()
	file := fhirtest.Path(t, name)
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

// examples returns the resources in the folder of a package file, by name.
func examples(t testing.TB, name, folder string) map[string][]byte {
	t.Helper()
	list := map[string][]byte{}
	for path, body := range fhirtest.Files(t, name) {
		dir, base := filepath.Split(path)
		if first, _, _ := strings.Cut(base, "-"); dir == folder && strings.HasSuffix(base, ".json") && fhir.Type(first).Known() {
			list[base] = body
		}
	}
	return list
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
