package profile

import (
	"strings"
	"sync"

	"github.com/cordon-fhir/cordon/fhir/r4"
)

// baseRules are the invariants and bindings of the base definitions, by what
// they are about.
type baseRules struct {
	ofType    map[*r4.Type][]invariant
	ofElement map[*r4.Element]*elementRules
	texts     map[string]bool // keys with expressions
}

type elementRules struct {
	invariants []invariant
	binding    *binding
}

// rulesOfR4 returns the rules of R4, parsed when they are first needed.
// https://hl7.org/fhir/R4/conformance-rules.html#constraints
var rulesOfR4 = sync.OnceValue(func() *baseRules {
	b := &baseRules{map[*r4.Type][]invariant{}, map[*r4.Element]*elementRules{}, map[string]bool{}}
	for _, i := range r4.Invariants() {
		b.texts[i.Key+" "+i.Expression] = true
		rule := parse(constraint{i.Key, i.Expression, i.Warning})
		if i.Element == "" {
			t := r4.TypeOf(i.Type)
			b.ofType[t] = append(b.ofType[t], rule)
			continue
		}
		b.each(i.Type, i.Element, func(r *elementRules) { r.invariants = append(r.invariants, rule) })
	}
	for _, bound := range r4.Bindings() {
		told := &binding{strength: "extensible", valueSet: bound.ValueSet}
		if bound.Required {
			told.strength = "required"
		}
		b.each(bound.Type, bound.Element, func(r *elementRules) { r.binding = told })
	}
	return b
})

// each calls fn with the rules of each element of the choice.
func (b *baseRules) each(typ, choice string, fn func(*elementRules)) {
	elems := r4.TypeOf(typ).Choice(choice)
	for i := range elems {
		r := b.ofElement[&elems[i]]
		if r == nil {
			r = &elementRules{}
			b.ofElement[&elems[i]] = r
		}
		fn(r)
	}
}

// ofR4 reports whether the constraint is one of R4's, which a snapshot
// repeats.
func ofR4(c constraint) bool {
	switch c.key {
	case "ele-1", "ext-1", "txt-1", "txt-2", "ref-1":
		return true
	}
	return strings.HasPrefix(c.key, "dom-") || rulesOfR4().texts[c.key+" "+c.expression]
}

// bindingOf returns the binding of e in R4 that Element.ValueSet does not
// tell.
func bindingOf(e *r4.Element) *binding {
	if r := rulesOfR4().ofElement[e]; r != nil {
		return r.binding
	}
	return nil
}

// corrected are expressions that as they were published are wrong for values
// that they are not about, or for all, and what takes their place.
var corrected = map[string]string{
	// an entry without fullUrl
	"fullUrl.contains('/_history/').not()": "fullUrl.exists() implies fullUrl.contains('/_history/').not()",
	// the type of the answer is boolean
	"operator = 'exists' implies (answer is Boolean)": "operator = 'exists' implies (answer is boolean)",
	// more than one, it is meant to say
	"enableWhen.count() > 2 implies enableBehavior.exists()": "enableWhen.count() > 1 implies enableBehavior.exists()",
	// a prediction without probability, or with a Range
	"probability is decimal implies (probability as decimal) <= 100": "probability.ofType(decimal).all($this <= 100)",
	// a resource without name
	"name.matches('[A-Z]([A-Za-z0-9_]){0,254}')": "name.exists() implies name.matches('^[A-Z]([A-Za-z0-9_]){0,254}$')",
	// a Period
	"($this as dateTime).toString().length() >= 8": "($this is dateTime) implies $this.toString().length() >= 8",
	// elements are no booleans
	"(component.empty() and hasMember.empty()) implies (dataAbsentReason or value)": "(component.empty() and hasMember.empty()) implies (dataAbsentReason.exists() or value.exists())",
}
