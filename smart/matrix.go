package smart

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// Matrix is what p allows each kind of principal on each type, as a table: the
// letters of SMART, in capitals where it is on every resource of the type and
// small where it is on those that the rules speak of. Types with the same row share
// it, and those of which nobody has anything are left out.
func (p *Policy) Matrix(title string) string {
	var who []persona
	for _, one := range p.personas() {
		if len(p.reach(one.access)) > 0 {
			who = append(who, one)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n| types |", title)
	for _, one := range who {
		fmt.Fprintf(&b, " %s |", one.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(who)) + "\n")
	types := map[string][]string{}
	var order []string
	for _, on := range fhir.Types {
		row := p.row(who, on)
		if strings.Trim(row, " |") == "" {
			continue
		}
		if types[row] == nil {
			order = append(order, row)
		}
		types[row] = append(types[row], string(on))
	}
	for _, row := range order {
		fmt.Fprintf(&b, "| %s |%s\n", strings.Join(types[row], ", "), row)
	}
	return b.String()
}

func (p *Policy) row(who []persona, on fhir.Type) string {
	var b strings.Builder
	for _, one := range who {
		fmt.Fprintf(&b, " %s |", p.cell(one.access, on))
	}
	return b.String()
}

// cell is what p allows on the type.
func (p *Policy) cell(a *access, on fhir.Type) string {
	var b strings.Builder
	for i, letter := range alphabet {
		if on == auditEvent && letter != 'r' && letter != 's' {
			continue // no scope allows it
		}
		switch where := p.decide(a, question{letter: 1 << i, on: on}, time.Unix(0, 0)).where; {
		case everything(where):
			b.WriteString(strings.ToUpper(string(letter)))
		case !nothing(where):
			b.WriteRune(letter)
		}
	}
	return b.String()
}

// Matrices is the Matrix of each policy that comes with Cordon, on one page.
func Matrices() string {
	var b strings.Builder
	b.WriteString(`# What the policies that come with Cordon allow

The letters of SMART: create, read, update, delete, search. In capitals: every resource of the type; small: those that the rules speak
of. Types that are not there nobody has anything of. What scopes and consents keep from somebody is not counted here.
`)
	names := Profiles()
	slices.Sort(names)
	for _, name := range names {
		p, err := ReadPolicy(profiles[name])
		if err != nil {
			panic(err) // a test reads it
		}
		b.WriteString("\n" + p.Matrix(name))
	}
	return b.String()
}
