package smart

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// Page explains p on one page, for whoever has to answer for it: its rules in
// their own words, what each can be about, and what each role reaches by all of
// them together. It is made from the rules as they decide.
func (p *Policy) Page(title string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Access policy: %s\n\nWhat a request may touch, its scopes and this policy must both allow. What no rule allows is refused.\n\n", title)
	b.WriteString("| rule | says | about |\n|---|---|---|\n")
	everyone := p.everyone()
	system := &access{client: "app", person: everyone.person}
	patient := aPatient()
	for _, r := range p.rules {
		name, everyone, system := r.id, everyone, system
		alone := &Policy{rules: []rule{r.permit()}, open: p.open}
		if !r.permits {
			name += " (never)"
			everyone, system = staff(), &access{client: "app"} // roles are what it spares
		}
		lets := alone.reach(everyone)
		if r.permits {
			lets = append(lets, alone.emergency(everyone)...)
		}
		about := cmp.Or(strings.Join(lets, "; "), strings.Join(alone.reach(patient), "; "), strings.Join(alone.reach(system), "; "), "nothing")
		fmt.Fprintf(&b, "| %s | %s%s | %s |\n", name, cmp.Or(r.says, "-"), r.hides(), about)
	}
	b.WriteString("\nTogether they let these see and change, of each type all resources or those that the rules speak of:\n\n")
	b.WriteString("| who | what |\n|---|---|\n")
	for _, who := range p.personas() {
		fmt.Fprintf(&b, "| %s | %s |\n", who.name, cmp.Or(strings.Join(append(p.reach(who.access), p.emergency(who.access)...), "; "), "nothing"))
	}
	return b.String()
}

// permit returns r as a permit, to ask what it is about.
func (r rule) permit() rule {
	r.permits = true
	return r
}

// hides says what r leaves hidden, "" for nothing.
func (r rule) hides() string {
	var list []string
	for _, on := range slices.Sorted(maps.Keys(r.masks)) {
		list = append(list, string(on))
	}
	if len(list) == 0 {
		return ""
	}
	return " Parts of " + strings.Join(list, ", ") + " stay hidden."
}

// A persona is a kind of principal that a policy tells from others.
type persona struct {
	name   string
	access *access
}

// Roles are those that the rules name, in order.
func (p *Policy) Roles() []string {
	var list []string
	for _, r := range p.rules {
		ast.Inspect(ast.NewNode(r.body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				list = append(list, rolesIn(v.Value)...)
			}
			return true
		})
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func rolesIn(v types.Value) (list []string) {
	switch v := v.(type) {
	case types.EntityUID:
		if v.Type == roleType {
			list = append(list, string(v.ID))
		}
	case types.Set:
		for one := range v.All() {
			list = append(list, rolesIn(one)...)
		}
	}
	return list
}

// personas are a patient, staff and clients without a role, and each role that
// the rules name: as a user, or if that reaches nothing as a client.
func (p *Policy) personas() []persona {
	list := []persona{
		{"a patient", aPatient()},
		{"staff without a role", staff()},
		{"a client without a role", &access{client: "app"}},
	}
	for _, role := range p.Roles() {
		user := staff(role)
		if client := (&access{client: "app", person: user.person}); len(p.reach(user)) == 0 && len(p.reach(client)) > 0 {
			list = append(list, persona{role + ", a client", client})
			continue
		}
		list = append(list, persona{role, user})
	}
	return list
}

// staff is a user at work with the roles.
func staff(roles ...string) *access {
	a := &access{client: "app", user: fhir.Ref{Type: "Practitioner", ID: "a"}, encounter: "a", purpose: "TREAT", person: everybody.person}
	a.person.Roles = roles
	return a
}

// aPatient is a user who is a patient.
func aPatient() *access { return &access{client: "app", user: fhir.Ref{Type: "Patient", ID: "a"}} }

// everyone has every role at once and is staff whose app was opened for a patient.
func (p *Policy) everyone() *access {
	a := staff(p.Roles()...)
	a.patient = "a"
	return a
}

// reach says in words what p allows: "read and search all of Claim, Coverage".
func (p *Policy) reach(a *access) []string {
	by := map[string][]string{} // the types of which the same is allowed
	var order []string
	for _, on := range fhir.Types {
		says := p.allows(a, on)
		if says == "" {
			continue
		}
		if by[says] == nil {
			order = append(order, says)
		}
		by[says] = append(by[says], string(on))
	}
	var list []string
	for _, says := range order {
		of := strings.Join(by[says], ", ")
		switch n := len(by[says]); {
		case n == len(fhir.Types):
			of = "every type"
		case n > maxNamed:
			of = fmt.Sprintf("%d types with %s", n, strings.Join(by[says][:3], ", "))
		}
		list = append(list, says+" "+of)
	}
	return list
}

// emergency says in words what p lets do about breaking glasses: who breaks one is
// staff.
func (p *Policy) emergency(a *access) (list []string) {
	if !a.isStaff() || p.open {
		return nil
	}
	through := 0
	for _, on := range fhir.Types {
		if recordOf("a", on) != nil && p.opens(a, on) {
			through++
		}
	}
	if through > 0 {
		list = append(list, fmt.Sprintf("once they have broken the glass of a patient, view that record, %d types", through))
	}
	for _, do := range []struct {
		letter letters
		words  string
	}{{canBreakGlass, "break the glass"}, {canApproveGlass, "approve that"}, {canReviewGlass, "review that"}} {
		switch where := p.decide(a, question{letter: do.letter, on: "Patient"}, time.Unix(0, 0)).where; {
		case everything(where):
			list = append(list, do.words+" of every patient")
		case !nothing(where):
			list = append(list, do.words+" of some patients")
		}
	}
	return list
}

// maxNamed is how many types are worth naming.
const maxNamed = 24

// opens reports whether who has broken a glass sees more resources of the type.
func (p *Policy) opens(a *access, on fhir.Type) bool {
	q := question{letter: canRead, on: on}
	without := p.decide(a, q, time.Unix(0, 0)).where
	q.glass = true
	return !search.Equal(without, p.decide(a, q, time.Unix(0, 0)).where)
}

// allows says which actions are allowed on the type: on all of its resources, or
// some.
func (p *Policy) allows(a *access, on fhir.Type) string {
	var all, some []string
	for _, do := range actions {
		if GlassAct(do.letter).known() {
			continue
		}
		switch where := p.decide(a, question{letter: do.letter, on: on}, time.Unix(0, 0)).where; {
		case everything(where):
			all = append(all, string(do.uid.ID))
		case !nothing(where):
			some = append(some, string(do.uid.ID))
		}
	}
	var list []string
	for _, x := range []struct {
		word string
		list []string
	}{{"all", all}, {"some", some}} {
		if len(x.list) > 0 {
			list = append(list, inWords(x.list)+" "+x.word+" of")
		}
	}
	return strings.Join(list, " and ")
}

// inWords shortens the names of actions to those of their groups.
func inWords(names []string) string {
	text := strings.Join(names, ", ")
	text = strings.Replace(text, "read, search", "view", 1)
	return strings.Replace(text, "create, update, delete", "change", 1)
}
