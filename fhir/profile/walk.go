package profile

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// against holds n, a value of the type that p is about, against p. A value is
// held against a profile once, so profiles that lead in a circle end.
func (r *run) against(p *profile, n path.Node) {
	if p.root == nil || !r.step() {
		return
	}
	key, done := checkedKey{n.JSON(), p}, &r.checked
	if r.trial {
		done = &r.trying
	}
	if (*done)[key] {
		return
	}
	if *done == nil {
		*done = map[checkedKey]bool{}
	}
	if r.nested++; r.nested > maxNested {
		r.fault(fhir.TooCostly, "profiles are nested more than %d deep", maxNested)
		r.nested--
		return
	}
	(*done)[key] = true
	r.node(p.root, n)
	r.nested--
	delete(r.trying, key)
}

// node holds one value against what a profile says of its element.
func (r *run) node(n *node, v path.Node) {
	if !r.step() {
		return
	}
	if !r.kind(n, v) {
		return
	}
	r.fixed(n, v)
	if n.maxLength > 0 {
		if s := v.JSON().GetStringBytes(); len(s) > n.maxLength && r.steps(len(s)/bytesPerStep) && utf8.RuneCount(s) > n.maxLength {
			r.fault(fhir.TooLong, "%s must not be longer than %d characters", n.label, n.maxLength)
		}
	}
	if n.binding != nil {
		r.bound(n.binding, v)
	}
	if n.targets != nil {
		r.targets(n, v)
	}
	r.evaluate(v, n.rules)
	for _, c := range n.children {
		if !c.mustOnly || r.options.MustSupport {
			r.element(c, v)
		}
	}
}

// element holds the values that a child of parent has against n.
func (r *run) element(n *node, parent path.Node) {
	if !r.step() {
		return
	}
	begin := len(r.nodes)
	r.nodes = parent.AppendChild(r.nodes, n.name)
	values := r.nodes[begin:len(r.nodes):len(r.nodes)]
	r.count(n, parent, len(values))
	for _, v := range values {
		r.at = append(r.at, v)
		r.node(n, v)
		r.at = r.at[:len(r.at)-1]
	}
	if n.slicing != nil {
		r.sliced(n, parent, values)
	}
	r.nodes = r.nodes[:begin]
}

// count holds the number of values against the cardinality.
func (r *run) count(n *node, parent path.Node, have int) {
	if n.min == 0 && n.max == unbounded && !n.must {
		return
	}
	if n.name == "value" && parent.ComplexType() == nil {
		return // of a primitive
	}
	at := func(fn func()) { r.missing(n, parent, fn) }
	switch {
	case have < n.min && n.min == 1:
		at(func() { r.fault(fhir.Required, "%s must have a value", n.label) })
	case have < n.min:
		at(func() { r.fault(fhir.Required, "%s must have at least %d values, and has %d", n.label, n.min, have) })
	case n.max == 0 && have > 0:
		at(func() { r.fault(fhir.Structure, "%s must have no value", n.label) })
	case n.max != unbounded && have > n.max:
		at(func() { r.fault(fhir.Structure, "%s must have at most %d values, and has %d", n.label, n.max, have) })
	case have == 0 && n.must && r.options.MustSupport:
		at(func() { r.inform("%s must be supported, and has no value", n.label) })
	}
}

// missing calls fn at the element of n in parent, whether it has a value or
// not.
func (r *run) missing(n *node, parent path.Node, fn func()) {
	t := parent.ComplexType()
	if t == nil {
		t = elementType
	}
	outer := r.place
	where := r.where()
	if elems := t.Choice(n.name); len(elems) > 0 {
		name := elems[0].Choice()
		if name == "" {
			name = elems[0].Name
		}
		where += "." + name
	}
	at := r.at
	r.place, r.at = where, nil
	fn()
	r.place, r.at = outer, at
}

// kind holds the type of v against the types that n leaves, and v against the
// profiles of its type. It returns false if v is of no such type.
func (r *run) kind(n *node, v path.Node) bool {
	if n.types == nil || !r.steps(len(n.types)) {
		return true
	}
	of := v.Type()
	var profiles []string
	typed, free := false, false
	for _, k := range n.types {
		if k.code == of || isAbstract(k.code) {
			typed = true
			profiles = append(profiles, k.profiles...)
			free = free || len(k.profiles) == 0
		}
	}
	if !typed {
		if n.narrowed {
			r.fault(fhir.Structure, "%s must not be a %s", n.label, of)
		}
		return !n.narrowed
	}
	if free {
		return true
	}
	if e := v.Element(); e != nil && e.Type() == "Resource" {
		r.enter(r.entered(v), func() { r.oneOf(n, profiles, v) })
		return true
	}
	r.oneOf(n, profiles, v)
	return true
}

// entered returns the scope of a resource in the one that is walked.
func (r *run) entered(v path.Node) *scope {
	if v.Element().Name == "contained" {
		return r.scope.contained(v)
	}
	b, fullURL := r.scope.bundle, ""
	if r.scope.resource.Type() == "Bundle" {
		b, fullURL = r.scope.inBundle(), stringIn(v.Parent(), "fullUrl")
	}
	return scopeOf(v, b, fullURL)
}

func isAbstract(code string) bool {
	switch code {
	case "Resource", "DomainResource", "Element", "BackboneElement":
		return true
	}
	return false
}

// oneOf holds v against profiles of which it must meet one.
func (r *run) oneOf(n *node, canonicals []string, v path.Node) {
	var known []*profile
	for _, c := range canonicals {
		if p := r.find(c); p != nil {
			known = append(known, p)
		}
	}
	switch {
	case len(known) < len(canonicals):
		return // one that is not known may be met
	case len(known) == 1:
		if t := v.ComplexType(); t != nil && known[0].typ != t.Path && !isAbstract(known[0].typ) {
			r.fault(fhir.Value, "%s must be a %s", n.label, known[0].typ)
			return
		}
		r.against(known[0], v)
	case !slices.ContainsFunc(known, func(p *profile) bool { return r.meets(p, v) }):
		r.fault(fhir.Value, "%s meets none of the profiles %s", n.label, some(canonicals, ", "))
	}
}

// find returns the profile with the canonical, nil with a warning if it cannot
// be used.
func (r *run) find(canonical string) *profile {
	p, err := r.profile(canonical)
	if err == nil {
		return p
	}
	why := "is not known here"
	var unusable *fhir.Error
	if errors.As(err, &unusable) {
		why = "cannot be used (" + unusable.Issues[0].Diagnostics + ")"
	}
	r.warn(fhir.NotFound, "the profile %s %s, and was not checked", canonical, why)
	return nil
}

// fixed holds v against fixed[x] and pattern[x].
func (r *run) fixed(n *node, v path.Node) {
	if n.fixed != nil && n.fixed.value != nil && !r.equal(v.JSON(), n.fixed.value) {
		r.fault(fhir.Value, "%s does not have the value that the profile fixes", n.label)
	}
	if n.pattern != nil && n.pattern.value != nil && !r.contains(v.JSON(), n.pattern.value) {
		r.fault(fhir.Value, "%s does not have the pattern that the profile asks for", n.label)
	}
}

// targets holds a reference, or a canonical, against the profiles of what it
// may lead to: by its type, and if it leads to what is in the document, by the
// profiles.
// https://hl7.org/fhir/R4/references.html#contained
func (r *run) targets(n *node, v path.Node) {
	if v.Type() != "Reference" {
		return
	}
	literal := stringIn(v.JSON(), "reference")
	if literal == "" {
		if t := fhir.Type(stringIn(v.JSON(), "type")); t.Known() {
			r.targetType(n, t)
		}
		return
	}
	to, at, found := r.scope.resolve(literal)
	r.aggregated(n, literal, found)
	if n.targets.profiles == nil {
		return
	}
	if !found {
		t := typeOfReference(literal)
		if t == "" {
			t = fhir.Type(stringIn(v.JSON(), "type"))
		}
		if t.Known() {
			r.targetType(n, t)
		}
		return
	}
	met := false
	for _, canonical := range n.targets.profiles {
		p := r.find(canonical)
		if p == nil {
			met = true // it cannot be told
			continue
		}
		if !met {
			r.enter(at, func() { met = r.meets(p, to) })
		}
	}
	if !met {
		r.fault(fhir.Value, "%s refers to a %s that meets none of the profiles %s", n.label, to.Type(), some(n.targets.profiles, ", "))
	}
}

// targetType holds the type that a reference leads to against the profiles.
func (r *run) targetType(n *node, t fhir.Type) {
	if !r.steps(len(n.targets.profiles)) {
		return
	}
	for _, canonical := range n.targets.profiles {
		name, isBase := strings.CutPrefix(canonical, base)
		if isBase && r4.TypeOf(name) != nil {
			if name == string(t) || isAbstract(name) {
				return
			}
			continue
		}
		p := r.find(canonical)
		if p == nil || p.typ == string(t) || isAbstract(p.typ) {
			return
		}
	}
	if n.targets.profiles != nil {
		r.fault(fhir.Value, "%s must not refer to a %s", n.label, t)
	}
}

// aggregated holds a reference against the ways in which it may be resolved.
// https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.type.aggregation
func (r *run) aggregated(n *node, literal string, found bool) {
	if literal == "" {
		return
	}
	how := "referenced"
	switch {
	case strings.HasPrefix(literal, "#"):
		how = "contained"
	case found:
		how = "bundled"
	}
	may := n.targets.aggregation
	if len(may) > 0 && !slices.Contains(may, how) && !(how == "bundled" && slices.Contains(may, "referenced")) {
		r.fault(fhir.Value, "%s must not refer to what is %s", n.label, how)
	}
	versioned := strings.Contains(literal, "/_history/")
	if n.targets.versioning == "specific" && !versioned || n.targets.versioning == "independent" && versioned {
		r.fault(fhir.Value, "%s must be a reference that is %s", n.label, map[bool]string{true: "independent of the version", false: "to a version"}[versioned])
	}
}
