package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/conformance/harness"
)

const module = "github.com/cordon-fhir/cordon"

// A goPackage is what go list says of one.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Doc                                string
	GoFiles                            []string
}

func packages(t testing.TB) []goPackage {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Doc,GoFiles", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module+"/")
		all = append(all, p)
	}
}

// mayImport says which of our packages each may import: a name with /... stands
// for all below it. What is not here may import none of ours. Nothing points
// up, and the packages that face the outside do not know each other.
var mayImport = map[string][]string{
	// leaves
	"fhir":               {},
	"fhir/profile":       {"fhir", "fhir/canonical", "fhir/path", "fhir/r4", "fhir/terminology", "fhir/ucum"},
	"fhir/path":          {"fhir", "fhir/r4", "fhir/regex", "fhir/ucum", "fhir/validate"},
	"fhir/terminology":   {"fhir", "fhir/canonical", "fhir/regex", "fhir/ucum"},
	"fhir/r4":            {"fhir"},
	"fhir/canonical":     {"fhir"},
	"fhir/r4/gen":        {"fhir", "fhir/canonical", "fhir/r4", "fhir/r4/expression"},
	"fhir/r4/expression": {"fhir", "fhir/r4"},
	"fhir/search":        {"fhir", "fhir/path", "fhir/r4", "fhir/r4/expression", "fhir/ucum"},
	"fhir/consent":       {"fhir", "fhir/search"}, // held against resources as searches are
	"fhir/xml":           {"fhir", "fhir/r4"},
	"fhir/deid":          {"fhir", "fhir/canonical", "fhir/r4", "fhir/terminology", "fhir/ucum"}, // codes that everybody has
	"fhir/regex":         {},
	"fhir/ucum":          {"fhir"},
	"fhir/fhirtest":      {"fhir"},
	"fhir/view":          {"fhir", "fhir/path", "fhir/r4", "fhir/validate"},
	"smart/smarttest":    {},
	"smart/backend":      {}, // speaks to the server over HTTP, as anybody
	"fhir/validate":      {"fhir", "fhir/r4"},
	"tenant":             {},
	"alert":              {"audit", "fhir", "limit", "oplog", "outbound", "smart", "tenant"}, // who is slowed is for limit to do
	"limit":              {"tenant"},                                                         // what a tenant may ask is set there
	"audit":              {"fhir"},
	"audit/ledger":       {}, // hashes and signatures: it need not know of what
	"audit/ledgertest":   {"audit/ledger"},
	"evidence":           {"audit/ledger"},
	"evidence/collect":   {"evidence"},
	"keys":               {"tenant"},
	"migrations":         {},
	"oplog":              {},
	// asks the terminology servers of others
	"fhir/terminology/external": {"fhir", "fhir/terminology", "outbound"},
	"outbound":                  {},
	// who is asking
	"smart": {"audit", "fhir", "fhir/r4", "fhir/search", "keys", "tenant"},
	// asks identity providers, so that smart asks nobody
	"smart/federation": {"outbound", "smart"},
	// and their other authorization servers
	"smart/outside": {"outbound", "smart", "smart/jwks", "tenant"},
	"smart/jwks":    {"outbound"},
	// the store, which asks smart for Permits and is asked by those above
	"store/internal/gate": {"audit", "fhir", "oplog", "smart", "tenant"},
	"store":               {"alert", "audit", "audit/ledger", "evidence", "fhir", "fhir/canonical", "fhir/consent", "fhir/r4", "fhir/search", "keys", "migrations", "oplog", "smart", "store/blob", "store/internal/gate", "tenant"},
	"store/blob":          {},
	"store/blob/s3test":   {"store/blob"},
	"store/pgserver":      {},
	"store/storetest":     {"audit", "fhir", "fhir/search", "keys", "smart", "store", "store/pgserver", "tenant"},
	// jobs that outlive a request, for those who face the outside
	"bulk":          {"fhir", "fhir/deid", "fhir/r4", "fhir/search", "fhir/view", "smart", "store", "store/blob", "tenant"},
	"subscriptions": {"audit", "fhir", "fhir/path", "fhir/search", "oplog", "outbound", "smart", "store", "tenant"},
	// what faces the outside
	"fhir/rest":    {"alert", "audit", "audit/ledger", "bulk", "fhir", "fhir/canonical", "fhir/deid", "fhir/path", "fhir/profile", "fhir/r4", "fhir/search", "fhir/terminology", "fhir/terminology/external", "fhir/validate", "fhir/view", "fhir/xml", "limit", "oplog", "outbound", "smart", "store", "store/blob", "subscriptions", "tenant"},
	"smart/launch": {"audit", "fhir", "fhir/search", "keys", "limit", "oplog", "smart", "smart/federation", "smart/jwks", "smart/outside", "store", "tenant"},
	"control":      {"alert", "audit", "evidence", "fhir", "fhir/canonical", "keys", "oplog", "smart", "store", "tenant"},
	"breakout":     {"smart/backend"}, // attacks a server over HTTP, as anybody
	"conformance":  {},
	// which runs the program as anybody
	"conformance/harness": {},
	// which puts all of it together
	"cmd/...": {"..."},
}

// homes says which packages may import a driver, outside their tests.
var homes = map[string][]string{
	// cmd/cordonbench measures PostgreSQL without Cordon, to compare.
	"github.com/jackc/pgx":            {"store", "store/internal/gate", "store/storetest", "cmd/cordonbench", "conformance/harness"},
	"github.com/minio/minio-go":       {"store/blob", "store/blob/s3test"},
	"github.com/coreos/go-oidc":       {"smart/federation", "smart/outside"},
	"golang.org/x/oauth2":             {"smart/federation"},
	"github.com/cedar-policy":         {"smart"},
	"github.com/labstack/echo":        {"fhir/rest", "smart/launch", "control", "cmd/..."},
	"github.com/google/fhir":          {"cmd/cordonbench"}, // never in the server
	"github.com/golang-migrate":       {"migrations"},
	"github.com/tink-crypto":          {"keys"},
	"github.com/evanphx/json-patch":   {"fhir/rest"},
	"github.com/prometheus":           {"cmd/cordon"},
	"github.com/alecthomas/kong":      {"cmd/..."},
	"github.com/schollz/progressbar":  {"cmd/cordon"},
	"github.com/parquet-go":           {"fhir/view"},
	"database/sql":                    {"store", "migrations"},
	"unsafe":                          {"fhir/search"}, // which looks at bytes as text, and copies none
	"github.com/jackc/pgx/v5/pgxpool": {"store", "store/internal/gate", "cmd/cordonbench"},
	"golang.org/x/crypto":             {"smart"}, // Argon2id
	"github.com/go-jose/go-jose":      {"breakout", "smart", "smart/backend", "smart/jwks", "smart/launch", "smart/outside", "smart/smarttest", "store", "control", "cmd/cordon"},
	"golang.org/x/mod":                {"audit/ledger", "evidence", "store"}, // tlog and note
	"encoding/xml":                    {"fhir/validate", "fhir/xml"},         // narrative is XHTML
	// What is logged is made of Fields: nothing else can write a line. The
	// types that hold data say how little of it they would show.
	"log":                         {"oplog", "cmd/cordon", "fhir", "fhir/path", "keys"},
	"net/http/pprof":              {"cmd/cordon"}, // cordon dev --pprof
	"github.com/chromedp":         {},             // drives the browser of tests
	"github.com/dgrijalva/jwt-go": {},
	"github.com/golang-jwt/jwt":   {},
	"encoding/gob":                {},
}

// testHomes is homes for the imports of tests.
var testHomes = map[string][]string{
	"github.com/jackc/pgx":   {"store", "store/...", "conformance", "conformance/...", "control", "smart/launch", "fhir/rest", "cmd/...", "migrations", "deploy"},
	"github.com/google/fhir": {"fhir/validate"},
	"github.com/chromedp":    {"conformance/browser"},
	"github.com/zitadel":     {"smart/launch"},
}

func matches(list []string, name string) bool {
	return slices.ContainsFunc(list, func(x string) bool {
		prefix, all := strings.CutSuffix(x, "...")
		return x == name || all && strings.HasPrefix(name, prefix)
	})
}

// of returns the entry of table that is for the name.
func of(table map[string][]string, name string) (list []string, found bool) {
	for key, x := range table {
		if matches([]string{key}, name) {
			return x, true
		}
	}
	return nil, false
}

// The map of the packages is true. GOV-05
func TestArchitecture(t *testing.T) {
	all := packages(t)
	t.Run("no import points up or aside", func(t *testing.T) {
		for _, p := range all {
			may, known := of(mayImport, p.ImportPath)
			for _, path := range p.Imports {
				name, ours := strings.CutPrefix(path, module+"/")
				if !ours {
					continue
				}
				if !known || !matches(may, name) {
					t.Errorf("%s imports %s", p.ImportPath, name)
				}
			}
		}
	})
	t.Run("each driver has one home", func(t *testing.T) {
		for _, p := range all {
			for _, path := range p.Imports {
				for driver, home := range homes {
					if (path == driver || strings.HasPrefix(path, driver+"/")) && !matches(home, p.ImportPath) {
						t.Errorf("%s imports %s, whose home is %v", p.ImportPath, path, home)
					}
				}
			}
			for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
				for driver, home := range testHomes {
					if (path == driver || strings.HasPrefix(path, driver+"/")) && !matches(home, p.ImportPath) {
						t.Errorf("the tests of %s import %s, whose home is %v", p.ImportPath, path, home)
					}
				}
			}
		}
	})
	t.Run("each package says what it is for", func(t *testing.T) {
		for _, p := range all {
			if len(p.GoFiles) > 0 && p.Doc == "" {
				t.Errorf("%s has no package comment", p.ImportPath)
			}
		}
	})
	t.Run("the folders are the table of contents", func(t *testing.T) {
		root, err := harness.Root()
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		contents := []string{
			"cmd", "fhir", "store", "smart", "subscriptions", "bulk", "migrations", "conformance", "deploy",
			"tenant", "audit", "keys", "summarize", "control", "docs", "tools", "bin", "dev", "bench-results", "alert", "limit", "outbound", "oplog", "evidence", "breakout",
		}
		for _, e := range entries {
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(contents, e.Name()) {
				t.Errorf("there is a folder %s", e.Name())
			}
		}
	})
}
