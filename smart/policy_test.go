package smart

import (
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
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

// AUTHZ-21: what cannot be answered is not in force for a moment.
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
			p, err := readPolicy(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.where(a, question{canRead, "Patient"}, time.Now()); !search.Equal(got, tt.want) {
				t.Errorf("got %s, want %s", search.Shape(got), search.Shape(tt.want))
			}
		})
	}
	if got := (*Policy)(nil).where(a, question{canRead, "Patient"}, time.Now()); !nothing(got) {
		t.Errorf("no policy allows %s", search.Shape(got))
	}
}
