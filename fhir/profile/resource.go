package profile

import (
	"errors"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
)

// resource holds a resource, and those in it, against the base definitions and
// the profiles that it claims.
func (r *run) resource(n path.Node) {
	t := n.ComplexType()
	if !r.options.Errors && t.Element("text") != nil && !n.JSON().Exists("text", "div") && r.scope.resource.JSON() == r.scope.root.JSON() {
		r.warn(fhir.Invariant, "dom-6: a resource should have narrative")
	}
	var b *bundle
	if t.Path == "Bundle" {
		b = r.scope.inBundle()
	}
	r.object(n, b)
	if r.options.Claimed {
		for _, c := range n.JSON().GetArray("meta", "profile") {
			r.named(string(c.GetStringBytes()), n, false)
		}
		switch t.Path {
		case "Questionnaire":
			r.whens(n)
		case "QuestionnaireResponse":
			r.response(n)
		}
	}
}

// named holds n against the profile with the canonical. must says that not to
// know the profile is an error.
func (r *run) named(canonical string, n path.Node, must bool) {
	p, err := (*profile)(nil), errUnknown
	if !strings.Contains(canonical, "#") { // what is said of one element is no profile of a resource
		p, err = r.profile(canonical)
	}
	var unusable *fhir.Error
	switch {
	case errors.Is(err, errUnknown) && must:
		r.fault(fhir.NotFound, "a profile that the resource must meet is not known here")
		return
	case errors.Is(err, errUnknown):
		r.warn(fhir.NotFound, "a profile that the resource claims is not known here, and was not checked")
		return
	case errors.As(err, &unusable):
		r.fault(fhir.NotSupported, "the profile %s cannot be used: %s", canonical, unusable.Issues[0].Diagnostics)
		return
	case err != nil:
		r.fault(fhir.Exception, "the profile %s cannot be read", canonical)
		return
	}
	if t := n.ComplexType().Path; p.typ != t && p.typ != "Resource" && p.typ != "DomainResource" {
		r.fault(fhir.Value, "the profile %s is for a %s, not for a %s", p.url, p.typ, t)
		return
	}
	r.against(p, n)
}

// object holds the members of n against the base definitions. b is the index
// of n if it is a Bundle.
func (r *run) object(n path.Node, b *bundle) {
	if !r.step() {
		return
	}
	if t := n.ComplexType(); t != nil {
		r.evaluate(n, rulesOfR4().ofType[t])
	}
	begin := len(r.nodes)
	r.nodes = n.AppendChildren(r.nodes)
	end := len(r.nodes)
	for i := begin; i < end; i++ {
		c := r.nodes[i]
		r.at = append(r.at, c)
		r.value(n, c, b)
		r.at = r.at[:len(r.at)-1]
	}
	r.nodes = r.nodes[:begin]
}

// value holds one value, c in n, against the base definitions.
func (r *run) value(n, c path.Node, b *bundle) {
	e := c.Element()
	if rules := rulesOfR4().ofElement[e]; rules != nil {
		r.evaluate(c, rules.invariants)
		if rules.binding != nil {
			r.bound(rules.binding, c)
		}
	}
	t := c.ComplexType()
	if t == nil {
		if c.Sibling() != nil {
			r.object(c, nil)
		}
		return
	}
	switch {
	case e.Type() == "Resource":
		r.inner(n, c, b)
		return
	case t.Path == "Extension":
		r.extension(n, c)
	case t.Path == "Reference":
		r.reference(c)
	case t.Path == "Coding":
		r.coding(c)
	}
	r.object(c, b)
}

// inner walks a resource inside another: contained, in an entry of a Bundle,
// or in Parameters.
func (r *run) inner(n, c path.Node, b *bundle) {
	if c.ComplexType().Path == "Resource" {
		return // of no type that there is
	}
	s := scopeOf(c, b, stringIn(n.JSON(), "fullUrl"))
	if c.Element().Name == "contained" {
		s = r.scope.contained(c)
	} else if b != nil {
		r.fullURL(r.scope.resource, n, c)
	}
	r.enter(s, func() { r.resource(c) })
}

// any holds a resource against those of the profiles that are about its type.
// If it meets none, the faults are those by the profile that it claims, or else
// by the first.
func (r *run) any(canonicals []string, n path.Node) {
	var about []string
	for _, c := range canonicals {
		p, err := r.profile(c)
		if err != nil {
			r.named(c, n, true) // nobody knows what it is about
			continue
		}
		if p.typ != n.ComplexType().Path {
			continue
		}
		if r.meets(p, n) {
			return
		}
		about = append(about, c)
	}
	if len(about) == 0 {
		return
	}
	if len(about) > 1 {
		r.fault(fhir.BusinessRule, "the resource meets none of the %d profiles of which one is required", len(about))
	}
	worst := about[0]
	for _, c := range n.JSON().GetArray("meta", "profile") {
		if slices.Contains(about, string(c.GetStringBytes())) {
			worst = string(c.GetStringBytes())
		}
	}
	r.named(worst, n, true)
}
