package smart

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A Mask is the elements of a type that a policy hides: they can be neither
// read nor written, and no search may depend on them. The nil Mask hides
// nothing.
type Mask map[string]bool

// Hides reports whether the member of the resource with the name is hidden, or
// the choice of members with the name.
func (m Mask) Hides(name string) bool { return m[strings.TrimPrefix(name, "_")] }

// HidesAsked is Hides for an element that a search depends on. What is no
// element of the type, such as a parameter that the tenant adds, could be made
// of any: it is hidden where anything is.
func (m Mask) HidesAsked(on fhir.Type, name string) bool {
	if m == nil {
		return false
	}
	t := r4.TypeOf(string(on))
	return m[name] || t == nil || name != "meta" && len(t.Choice(name)) == 0
}

// kept are members that no mask can hide: without them there is no resource.
var kept = []string{"resourceType", "id", "meta", "implicitRules"}

// beside are members that tell of others: they go where anything is hidden.
var beside = []string{"text", "contained"}

// mask adds to masks what an annotation says: @mask names elements to hide,
// @only those to show of their types, both as "Patient.name, Patient.telecom".
func (r *rule) mask(annotation, text string) error {
	if r.masks == nil {
		r.masks = map[fhir.Type]Mask{}
	}
	for path := range strings.SplitSeq(text, ",") {
		path = strings.TrimSpace(path)
		on, name, _ := strings.Cut(path, ".")
		t := r4.TypeOf(on)
		if !fhir.Type(on).Known() || t == nil || len(t.Choice(name)) == 0 || slices.Contains(kept, name) {
			return fhir.Errorf(fhir.Invalid, "the rule at line %d has an @%s of what is no element to hide: %s", r.line, annotation, short(path))
		}
		m := r.masks[fhir.Type(on)]
		if m == nil {
			m = Mask{}
			for _, name := range beside {
				m[name] = true
			}
			if annotation == "only" {
				m.hideAll(t)
			}
			r.masks[fhir.Type(on)] = m
		}
		for _, e := range t.Choice(name) {
			if annotation == "only" {
				delete(m, e.Name)
				delete(m, name)
			} else {
				m[e.Name], m[name] = true, true
			}
		}
	}
	return nil
}

func (m Mask) hideAll(t *r4.Type) {
	for _, e := range t.Elements() {
		if slices.Contains(kept, e.Name) {
			continue
		}
		m[e.Name] = true
		if e.Choice() != "" {
			m[e.Choice()] = true
		}
	}
}

// short is the text as far as it is worth repeating.
func short(text string) string { return text[:min(len(text), 64)] }

// Hidden returns what the policy hides from g in resources of the type. Where
// several permits apply, what a permit shows that holds for every resource of the
// type is shown; else only what all of them show.
func (g *Grant) Hidden(on fhir.Type) Mask {
	if g == nil || g.access == nil || g.policy == nil || !g.policy.masks {
		return nil
	}
	questions := []question{{letter: canRead, on: on}, {letter: canSearch, on: on}, {letter: canCreate, on: on}, {letter: canUpdate, on: on}}
	if len(g.glasses) > 0 {
		questions = append(questions, question{canRead, on, true}, question{canSearch, on, true})
	}
	var hidden Mask
	for _, q := range questions {
		for name := range g.access.judged.of(g.policy, g.access, q, g.at.Truncate(time.Second)).hidden {
			if hidden == nil {
				hidden = Mask{}
			}
			hidden[name] = true
		}
	}
	return hidden
}

// masks are those of the permits that may hold for a resource.
type masks struct {
	always    []Mask // of permits that hold for all
	sometimes []Mask
}

func (m *masks) add(one Mask, always bool) {
	if always {
		m.always = append(m.always, one)
	} else {
		m.sometimes = append(m.sometimes, one)
	}
}

// hidden returns what none of the permits that always hold shows; without one,
// what some permit hides.
func (m *masks) hidden() Mask {
	hidden := Mask{}
	if len(m.always) > 0 {
		maps.Copy(hidden, m.always[0])
		for _, other := range m.always[1:] {
			maps.DeleteFunc(hidden, func(name string, _ bool) bool { return !other[name] })
		}
	} else {
		for _, other := range m.sometimes {
			maps.Copy(hidden, other)
		}
	}
	if len(hidden) == 0 {
		return nil
	}
	return hidden
}
