package smart

import (
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// What a refusal can fail by, beside what a policy asks of resources and requests.
const (
	failedScope   = "scope"
	failedRole    = "role" // no rule is about who asks
	failedType    = "type" // none of those lets them do this to the type
	failedConsent = "consent"
	failedGlass   = "break-glass"
)

// codes are those of what a policy can ask, by the name in Cedar.
var codes = map[string]string{
	"resource.id": "id", "resource.patients": "patient", "resource.careTeam": "care-team", "resource.generalPractitioner": "general-practitioner",
	"resource.encounterStaff": "encounter-staff", "resource.encounters": "encounter", "resource.locations": "location",
	"resource.organizations": "organization", "resource.labels": "label", "resource.categories": "category", "resource.openTasks": "task",
	"resource.type":   failedType,
	"context.onShift": "shift", "context.purpose": "purpose", "context.breakGlass": failedGlass, "context.now": "time",
	"principal.facilities": "facility", "principal.departments": "department", "principal.organizations": "organization",
	"principal.encounter": "encounter", "principal.patient": "patient", "principal.location": "location",
	"principal.roles": failedRole, "principal.type": failedRole, "principal.user": failedRole, "principal.client": failedRole,
}

// Failed returns codes of what the interaction is refused by, separated by
// spaces: of each rule of the policy that is for who asks what of it fails, of each
// that forbids what it is about. holds reports whether a condition holds for the
// resource that it is refused on; nil asks about the type, and the answer is "" if
// there are resources on which the interaction is allowed. It is for the audit
// trail: who was refused learns nothing of it.
func (g *Grant) Failed(do fhir.Interaction, on fhir.Type, holds func(search.Expr) bool) string {
	if g == nil || g.access == nil || g.tenant == nil || !on.Known() || holds == nil && g.where(do, on) != nil {
		return ""
	}
	forbids := holds
	if holds == nil {
		holds, forbids = func(e search.Expr) bool { return !nothing(e) }, everything
	}
	q := question{letter: letterOf(do), on: on}
	scoped := g.access.ask(q)
	if scoped == nil || !holds(scoped) {
		return failedScope
	}
	if g.policy == nil || g.policy.open {
		return failedConsent
	}
	at := g.at.Truncate(time.Second)
	f := failing{residual{env: g.access.principal().env(q, at), on: on, now: at}, holds, forbids}
	if list := f.of(g.policy); len(list) > 0 {
		return strings.Join(list, " ")
	}
	return failedConsent
}

// A failing finds out what of a policy fails.
type failing struct {
	residual
	// holds is asked of what permits, forbids of what forbids.
	holds, forbids func(search.Expr) bool
}

func (f *failing) met(n ast.IsNode, holds func(search.Expr) bool) bool {
	e, err := f.condition(n)
	return err == nil && holds(e)
}

// of returns what no permit holds by, and what is forbidden for; none if the policy
// allows it.
func (f *failing) of(p *Policy) (list []string) {
	var unmet, forbidden []string
	permitted, known := false, false
	for _, r := range p.rules {
		switch {
		case !r.permits:
			if f.met(r.body, f.forbids) {
				forbidden = append(forbidden, f.asked(r.body)...)
			}
		case f.met(r.body, f.holds):
			permitted = true
		default:
			who, list := f.unmet(r.body)
			known = known || who
			unmet = append(unmet, list...)
		}
	}
	switch {
	case permitted:
		list = forbidden
	case len(unmet) > 0:
		list = append(unmet, forbidden...)
	case known:
		list = append(forbidden, failedType)
	default:
		list = append(forbidden, failedRole)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) > 1 { // that no glass is broken goes without saying
		list = slices.DeleteFunc(list, func(code string) bool { return code == failedGlass })
	}
	return list
}

// unmet returns what of the conditions of a permit is not met, if the rule is about
// the type; who says that it is for who asks, and for what they do.
func (f *failing) unmet(body ast.IsNode) (who bool, list []string) {
	who, does := true, true
	for _, one := range conjuncts(body) {
		if f.met(one, f.holds) {
			continue
		}
		asked := f.asked(one)
		switch {
		case len(asked) == 0 && aboutType(one):
			does = false
		case len(asked) == 0: // the head of the rule: the action, or who it is for
			who = false
		case slices.Contains(asked, failedRole):
			who = false
		case slices.Contains(asked, failedType):
			does = false
		default:
			list = append(list, asked...)
		}
	}
	if !who || !does {
		return who, nil
	}
	return who, list
}

// conjuncts returns the members of a conjunction.
func conjuncts(n ast.IsNode) []ast.IsNode {
	if and, ok := n.(ast.NodeTypeAnd); ok {
		return append(conjuncts(and.Left), conjuncts(and.Right)...)
	}
	return []ast.IsNode{n}
}

// asked returns the codes of what n asks of the resource; if that is nothing, of the
// request.
func (f *failing) asked(n ast.IsNode) []string {
	var of [2][]string // the resource, others
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		access, ok := n.(ast.NodeTypeAccess)
		if !ok {
			return true
		}
		v, ok := access.Arg.(ast.NodeTypeVariable)
		if !ok {
			return true
		}
		if code := codes[string(v.Name)+"."+string(access.Value)]; code != "" && v.Name == "resource" && code != failedType {
			of[0] = append(of[0], code)
		} else if code != "" {
			of[1] = append(of[1], code)
		}
		return true
	})
	if len(of[0]) > 0 {
		return of[0]
	}
	if len(of[1]) > 1 { // where somebody is is what the others are compared with
		of[1] = slices.DeleteFunc(of[1], func(code string) bool { return code == "location" })
	}
	return of[1]
}

// aboutType reports whether n asks the type of the resource.
func aboutType(n ast.IsNode) bool {
	is, ok := n.(ast.NodeTypeIs)
	return ok && isResource(is.Left)
}
