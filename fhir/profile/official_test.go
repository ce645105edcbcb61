package profile_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/profile"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/fhir/xml"
)

// A testCase is a row of the official test cases for validators.
type testCase struct {
	Name, File, Version, Module string
	UseTest                     *bool `json:"use-test"`
	Supporting, Profiles        []string
	Packages                    []string
	Java                        json.RawMessage
	Profile                     *struct {
		Source               string
		Supporting, Profiles []string
		Java                 json.RawMessage
	}
}

// elsewhere are the modules that are not about resources of R4: documents of
// other standards, signatures, another JSON, versions of packages.
var elsewhere = []string{"api", "cda", "cdshooks", "dsig", "fmt", "json5", "logical", "package-versioning", "shc", "versions", "xver"}

// beyond are the modules that are about what is not checked here: reports
// against their Measure, and code systems that are not in the test data.
var beyond = []string{"measure", "tx", "tx-advanced"}

// floor is how many verdicts of the other official cases, in percent, are ours
// at least.
const floor = 85

// The verdict on the official test cases, valid or not, is that of the
// official validator for so many of them. docs/validation.md says how many and
// why not more.
func TestOfficialCases(t *testing.T) {
	dir := filepath.Dir(fhirtest.Path(t, "test-cases/validator/manifest.json"))
	var manifest struct {
		Cases []testCase `json:"test-cases"`
	}
	read(t, filepath.Join(dir, "manifest.json"), &manifest)
	o := official{t: t, dir: dir, byModule: map[string][2]int{}}
	for _, c := range manifest.Cases {
		if c.UseTest != nil && !*c.UseTest || slices.Contains(elsewhere, c.Module) || !strings.HasPrefix(c.Version, "4.0") {
			continue
		}
		o.run(&c)
	}
	agreed, tried, all, allTried := 0, 0, 0, 0
	for _, module := range slices.Sorted(maps.Keys(o.byModule)) {
		n := o.byModule[module]
		t.Logf("%-16s %3d of %3d", module, n[0], n[1])
		all, allTried = all+n[0], allTried+n[1]
		if !slices.Contains(beyond, module) {
			agreed, tried = agreed+n[0], tried+n[1]
		}
	}
	t.Logf("%d of %d, %.1f %%; with what is beyond %d of %d; %d cases cannot be tried",
		agreed, tried, 100*float64(agreed)/float64(tried), all, allTried, o.skipped)
	if tried < 250 || agreed*100 < floor*tried {
		t.Errorf("%d of %d verdicts agree, want %d %%", agreed, tried, floor)
	}
}

type official struct {
	t        *testing.T
	dir      string
	byModule map[string][2]int
	skipped  int
}

func read(t testing.TB, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// run tries a case by itself, and by its profile if it names one.
func (o *official) run(c *testCase) {
	below := canonical.Core()
	for _, p := range c.Packages {
		if p != "hl7.fhir.us.core#3.1.1" {
			o.skipped++ // the package is not in the test data
			return
		}
		below = guide(o.t, fhirtest.USCore3)
	}
	supporting, ok := o.definitions(append(c.Supporting, c.Profiles...))
	body, err := o.resource(c.File)
	wantValid, known := o.outcome(c.Java)
	if !ok || err != nil && body == nil && !strings.HasSuffix(c.File, ".xml") {
		o.skipped++
		return
	}
	if known {
		o.count(c, "", wantValid, err, body, canonical.NewSet(below, supporting), nil)
	}
	if c.Profile == nil {
		return
	}
	more, ok := o.definitions(append(append([]string{c.Profile.Source}, c.Profile.Supporting...), c.Profile.Profiles...))
	wantValid, known = o.outcome(c.Profile.Java)
	if !ok || !known || len(more) == 0 {
		o.skipped++
		return
	}
	o.count(c, "by its profile", wantValid, err, body, canonical.NewSet(below, more, supporting), []string{more[0].URL})
}

// count compares the verdicts.
func (o *official) count(c *testCase, how string, want bool, malformed error, body []byte, set *canonical.Set, profiles []string) {
	var errs []fhir.Issue
	d, err := fhir.Parse(body, fhir.Limits{})
	if malformed == nil && err == nil {
		if broken, ok := validate.Resource(d).(*fhir.Error); ok {
			errs = broken.Issues
		}
		errs = append(errs, errorsIn(validateAll(o.t, set, d, profiles))...)
	}
	valid := malformed == nil && err == nil && len(errs) == 0
	n := o.byModule[c.Module]
	n[1]++
	if valid == want {
		n[0]++
	} else if testing.Verbose() {
		why := ""
		if len(errs) > 0 {
			why = errs[0].Diagnostics + " at " + errs[0].Expression[0]
		} else if malformed != nil || err != nil {
			why = "it is malformed"
		}
		o.t.Logf("%s %s %s: valid is %t; %s", c.Module, c.Name, how, want, why)
	}
	o.byModule[c.Module] = n
}

func validateAll(t testing.TB, set *canonical.Set, d *fhir.Document, profiles []string) []fhir.Issue {
	return validate1(t, profile.New(set, nil), d, profile.Options{Claimed: true, Profiles: profiles})
}

// resource reads a file as JSON.
func (o *official) resource(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(name, ".xml") {
		return xml.ToJSON(b, fhir.Limits{})
	}
	return b, nil
}

// definitions reads the files that a case is to be tried with.
func (o *official) definitions(names []string) ([]*canonical.Definition, bool) {
	var list []*canonical.Definition
	for _, name := range names {
		b, err := o.resource(name)
		if err != nil {
			return nil, false
		}
		d, err := canonical.New(b)
		if err != nil {
			continue // a resource that defines nothing
		}
		list = append(list, d)
	}
	return list, true
}

// outcome reads whether the official validator finds the case valid.
func (o *official) outcome(raw json.RawMessage) (valid, known bool) {
	var out struct{ Issue []struct{ Severity string } }
	var file string
	if json.Unmarshal(raw, &file) == nil {
		b, err := os.ReadFile(filepath.Join(o.dir, "outcomes", file))
		if err != nil {
			return false, false
		}
		raw = b
	}
	if json.Unmarshal(raw, &out) != nil {
		return false, false
	}
	for _, i := range out.Issue {
		if i.Severity == "error" || i.Severity == "fatal" {
			return false, true
		}
	}
	return true, true
}
