package smart

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/tenant"
)

func TestTheProfilesArePolicies(t *testing.T) {
	for _, name := range Profiles() {
		text, _ := Profile(name)
		if _, err := ParsePolicy(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !scopesPolicy.open {
		t.Error("the policy of who chose none is not the scopes alone")
	}
}

// What cannot be answered is not in force for a moment.
func TestAPolicyThatCannotBeAnsweredIsRefusedWithThePlace(t *testing.T) {
	rule := func(scope, when string) string {
		return `@id("a") permit (` + scope + `) when { ` + when + ` };`
	}
	const anybody = `principal, action, resource`
	for claim, tt := range map[string]struct{ text, want string }{
		"not Cedar":                      {`permit everything;`, "not Cedar"},
		"no id":                          {`permit (principal, action, resource);`, "line 1 needs an @id"},
		"an id twice":                    {`@id("a") permit (principal, action, resource);` + "\n" + `@id("a") permit (principal, action, resource);`, "rule a, line 2: another rule has the id"},
		"an annotation of others":        {`@id("a") @mask("Patient.name") @color("red") permit (principal, action, resource);`, "@"},
		"an attribute that is none":      {rule(anybody, `resource.ssn == "1"`), "resources have no such attribute"},
		"a principal's that is none":     {rule(anybody, `principal.mood == "good"`), "this has no value"},
		"a context's that is none":       {rule(anybody, `context.moon`), "this has no value"},
		"a set compared":                 {rule(anybody, `resource.labels == ["R"]`), "contains"},
		"a pattern":                      {rule(anybody, `resource.id like "a*"`), "cannot be found by this"},
		"two attributes":                 {rule(anybody, `resource.labels.contains(resource.id)`), "contains"},
		"a number":                       {rule(anybody, `resource.patients.contains(7)`), "compared with a text"},
		"no truth":                       {rule(anybody, `principal.user`), "neither true nor false"},
		"a type that is none":            {rule(`principal, action, resource is Patinet`, `true`), "there is no such type"},
		"a type in a list that is none":  {rule(anybody, `["Patinet"].contains(resource.type)`), "no such type of resource"},
		"a type compared that is none":   {rule(anybody, `resource.type == "Patinet"`), "no such type of resource"},
		"an action that is none":         {rule(`principal, action == Action::"raed", resource`, `true`), "no such entity"},
		"an entity that is none":         {rule(`principal in Group::"x", action, resource`, `true`), "no such entity"},
		"one resource":                   {rule(`principal, action, resource == Patient::"7"`, `true`), "no such entity"},
		"behind what is false":           {rule(anybody, `false && resource.id like "a*"`), "cannot be found by this"},
		"behind what is true":            {rule(anybody, `true || resource.id like "a*"`), "cannot be found by this"},
		"in a branch that nobody enters": {rule(anybody, `if false then resource.id like "a*" else true`), "cannot be found by this"},
		"of a role that nobody has":      {rule(`principal in Role::"x", action, resource`, `resource has id`), "cannot be found by this"},
		"in an unless":                   {`@id("a") forbid (principal, action, resource) unless { resource.weight };`, "no such attribute"},
		"too long":                       {`@id("a") permit (principal, action, resource); //` + strings.Repeat("x", MaxPolicy), "at most"},
	} {
		t.Run(claim, func(t *testing.T) {
			_, err := ParsePolicy(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && !fhir.IsCode(err, fhir.Invalid) && !fhir.IsCode(err, fhir.Structure) && !fhir.IsCode(err, fhir.TooLong) {
				t.Errorf("%v is not for the client", err)
			}
		})
	}
}

func TestAForbidOverridesEveryPermitAndWhatFailsAllowsNothing(t *testing.T) {
	a := &access{person: Person{Roles: []string{"nurse"}}}
	for claim, tt := range map[string]struct {
		text string
		want search.Expr
	}{
		"no rule":            {``, no},
		"a permit":           {`@id("a") permit (principal, action, resource);`, yes},
		"of another role":    {`@id("a") permit (principal in Role::"x", action, resource);`, no},
		"of the role":        {`@id("a") permit (principal in Role::"nurse", action, resource);`, yes},
		"of another type":    {`@id("a") permit (principal, action, resource is Claim);`, no},
		"of another action":  {`@id("a") permit (principal, action in Action::"change", resource);`, no},
		"a forbid":           {`@id("a") permit (principal, action, resource); @id("b") forbid (principal, action, resource);`, no},
		"a forbid of others": {`@id("a") permit (principal, action, resource); @id("b") forbid (principal in Role::"x", action, resource);`, yes},
		"a permit that fails": {`@id("a") permit (principal, action, resource);
			@id("b") permit (principal, action, resource) when { 9223372036854775807 + 1 > 0 };`, no},
		"a forbid that fails": {`@id("a") permit (principal, action, resource);
			@id("b") forbid (principal, action, resource) when { 9223372036854775807 + 1 > 0 };`, no},
		"a label forbidden": {`@id("a") permit (principal, action, resource);
			@id("b") forbid (principal, action, resource) when { resource.labels.contains("R") };`,
			search.Not{X: search.HasToken{Path: "Patient.meta.security", Value: "r"}}},
	} {
		t.Run(claim, func(t *testing.T) {
			p, err := ReadPolicy(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.decide(a, question{letter: canRead, on: "Patient"}, time.Now()).where; !search.Equal(got, tt.want) {
				t.Errorf("got %s, want %s", search.Shape(got), search.Shape(tt.want))
			}
		})
	}
	if got := (*Policy)(nil).decide(a, question{letter: canRead, on: "Patient"}, time.Now()).where; !nothing(got) {
		t.Errorf("no policy allows %s", search.Shape(got))
	}
}

// AUTHZ-22: the page of each policy that comes with Cordon is
// what the policy decides, type by action by role, and fits on a page.
// Regenerate with: cordon policy explain-page --profile NAME > docs/policies/NAME.md
func TestThePageOfAPolicyIsWhatItDecides(t *testing.T) {
	for _, name := range Profiles() {
		text, _ := Profile(name)
		p, err := ParsePolicy(text)
		if err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile("../docs/policies/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(page), p.Page(name)); diff != "" {
			t.Errorf("%s (-docs +policy):\n%s", name, diff)
		}
		if lines := strings.Count(string(page), "\n"); lines > 55 {
			t.Errorf("the page of %s has %d lines", name, lines)
		}
	}
}

// Both have to allow it, and what the policy refuses the answer tells apart from
// what the scopes do.
func TestAGrantIsWhatScopesAndPolicyBothAllow(t *testing.T) {
	policy, err := ParsePolicy(`@id("a") permit (principal, action in Action::"view", resource) when { resource is Patient && resource.id == "p" };`)
	if err != nil {
		t.Fatal(err)
	}
	scopes, err := ParseScopes("system/Patient.cr system/Observation.r")
	if err != nil {
		t.Fatal(err)
	}
	g := &Grant{tenant: &tenant.Tenant{}, access: &access{scopes: scopes}, policy: policy, at: time.Now()}
	p, err := g.Permit(fhir.Read, "Patient")
	if where, by := search.Apart(p.Where()); err != nil || by == nil || !search.Equal(where, search.HasID{"p"}) {
		t.Errorf("got %s, %v", search.Shape(p.Where()), err)
	}
	for do, want := range map[fhir.Interaction]string{fhir.Create: "policy", fhir.SearchType: "scope"} {
		if _, err := g.Permit(do, "Patient"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", do, err)
		}
	}
	if _, err := g.Permit(fhir.Read, "Observation"); !fhir.IsCode(err, fhir.Forbidden) {
		t.Errorf("a type that the policy leaves out: %v", err)
	}
	g.access.scopes, err = ParseScopes("patient/Patient.r")
	if err != nil {
		t.Fatal(err)
	}
	g.access.patient, g.access.decided = "q", atomic.Pointer[map[question]answer]{}
	p, err = g.Permit(fhir.Read, "Patient")
	if where, _ := search.Apart(p.Where()); err != nil || !search.Equal(search.Simplify(where), search.And{search.HasID{"q"}, search.HasID{"p"}}) {
		t.Errorf("got %s, %v", search.Shape(p.Where()), err)
	}
	g.policy = nil
	if _, err := g.Permit(fhir.Read, "Patient"); err == nil {
		t.Error("without a policy something is allowed")
	}
}

func TestAPolicyExplainsWhatItDecidesWithoutValues(t *testing.T) {
	text, _ := Profile("clinic")
	p, err := ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	explain := func(who Asker, on fhir.Type) string {
		lines, err := p.Explain(who, fhir.Read, on, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	who := Asker{User: "Practitioner/secret-7", Person: Person{Roles: []string{"physician"}}}
	got := explain(who, "Observation")
	for _, want := range []string{"nurse: does not apply", "physician: permits each Observation by (Observation.subject to Patient where", "CareTeam.participant.member", "decision: allowed for the resources"} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not say %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "secret-7") {
		t.Errorf("it tells who is looked for:\n%s", got)
	}
	who.Person.Roles = []string{"scheduling"}
	if got := explain(who, "Patient"); !strings.Contains(got, "hidden: parts of every Patient") {
		t.Errorf("got:\n%s", got)
	}
}
