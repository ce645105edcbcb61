package path

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

// An invariant of R4, compiled.
type invariant struct {
	key  string
	expr *Expr
}

// publishedWrong are invariants of R4 that say other than they mean.
var publishedWrong = map[string]string{
	"bdl-8": "yields nothing for an entry without fullUrl",
	"que-7": "asks for a Boolean of FHIRPath where a boolean of FHIR stands",
	"ras-2": "compares a decimal with what is not there",
}

// The invariants of R4 hold where the standard's own valid examples stand,
// but for those that ask for names without spaces, which many lack.
func TestInvariantsHoldOnTheExamples(t *testing.T) {
	ofType, ofElement := map[string][]invariant{}, map[[2]string][]invariant{}
	for _, i := range r4.Invariants() {
		x := invariant{i.Key, MustParse(i.Expression)}
		if strings.HasPrefix(i.Expression, "name.matches(") || publishedWrong[i.Key] != "" {
			continue
		}
		if i.Element == "" {
			ofType[i.Type] = append(ofType[i.Type], x)
		} else {
			ofElement[[2]string{i.Type, i.Element}] = append(ofElement[[2]string{i.Type, i.Element}], x)
		}
	}
	checks := 0
	for name, d := range fhirtest.Resources(t, fhirtest.Examples) {
		if validate.Resource(d) != nil {
			continue
		}
		ctx := &Context{RootResource: Root(d), MemberOf: func(string, Node) (in, known bool, err error) { return true, true, nil }}
		check := func(list []invariant, n Node) {
			for _, x := range list {
				checks++
				if ok, err := x.expr.Holds(ctx, n); err != nil || !ok {
					t.Errorf("%s: %s at a %s: %v, %v", name, x.key, n.Type(), ok, err)
				}
			}
		}
		var walk func(n Node)
		walk = func(n Node) {
			outer := ctx.Resource
			if fhir.Type(n.Type()).Known() {
				ctx.Resource = n
			}
			check(ofType[n.Type()], n)
			for c := range n.Children() {
				name := c.Element().Name
				if choice := c.Element().Choice(); choice != "" {
					name = choice
				}
				check(ofElement[[2]string{n.Type(), name}], c)
				walk(c)
			}
			ctx.Resource = outer
		}
		walk(Root(d))
	}
	t.Logf("%d checks", checks)
	if checks < 20_000 {
		t.Errorf("%d checks, want 20,000 at least", checks)
	}
}
