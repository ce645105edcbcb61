package smart

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/tenant"
)

var update = flag.Bool("update", false, "write docs/policies/matrix.md")

// AUTHZ-17: each cell of the page is what a Permit is given for, type by
// interaction by persona, under a token whose scopes allow everything.
func TestEveryCellOfTheMatrixIsWhatThePermitsSay(t *testing.T) {
	const file = "../docs/policies/matrix.md"
	page := Matrices()
	if *update {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), page); diff != "" {
		t.Errorf("the page (-docs +policies):\n%s", diff)
	}
	cells := 0
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		lines := strings.Split(strings.TrimSpace(section), "\n")
		policy, err := ReadPolicy(profiles[lines[0]])
		if err != nil {
			t.Fatal(err)
		}
		who := fields(lines[2])[1:]
		on := map[fhir.Type][]string{}
		for _, line := range lines[4:] {
			row := fields(line)
			for _, name := range strings.Split(row[0], ", ") {
				on[fhir.Type(name)] = row[1:]
			}
		}
		for _, one := range policy.personas() {
			g := granted(t, policy, one.access)
			for _, name := range fhir.Types {
				want := ""
				for i, w := range who {
					if w == one.name && on[name] != nil {
						want = on[name][i]
					}
				}
				cells++
				if got := g.letters(name); got != want {
					t.Errorf("%s: %s on %s: %q is permitted, the page has %q", lines[0], one.name, name, got, want)
				}
			}
		}
	}
	if cells < 3000 {
		t.Errorf("%d cells", cells)
	}
}

// fields are the cells of a row.
func fields(line string) []string {
	list := strings.Split(strings.Trim(line, "|"), "|")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// granted is the Grant of somebody whose scopes allow everything.
func granted(t *testing.T, p *Policy, a *access) *Grant {
	t.Helper()
	scopes, err := ParseScopes("system/*.cruds")
	if err != nil {
		t.Fatal(err)
	}
	who := &access{scopes: scopes, patient: a.patient, encounter: a.encounter, user: a.user, client: a.client, purpose: a.purpose, person: a.person}
	return &Grant{tenant: &tenant.Tenant{}, access: who, policy: p, at: time.Unix(0, 0)}
}
