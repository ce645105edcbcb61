package search

import (
	"errors"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// A reading makes the condition that a parameter sets on resources of a type,
// at the end of a chain or without one. The error is errUnknown if the type
// has no such parameter.
type reading func(tb *table, code, modifier string, depth int) (Expr, error)

// follow reads the name of a parameter of a type: name, name:modifier, a chain
// or _has. What it ends in is read by end.
func follow(tb *table, name string, o Options, depth int, end reading) (Expr, error) {
	if rest, ok := strings.CutPrefix(name, "_has:"); ok {
		return tb.has(rest, o, depth, end)
	}
	head, rest, chained := strings.Cut(name, ".")
	code, modifier, _ := strings.Cut(head, ":")
	if !chained {
		return end(tb, code, modifier, depth)
	}
	p, err := tb.parameter(code, o)
	if err != nil {
		return nil, err
	}
	return p.chain(modifier, rest, o, depth, func(t *table, depth int) (Expr, error) { return follow(t, rest, o, depth, end) })
}

func tooDeep() error {
	return fhir.Errorf(fhir.TooCostly, "a search follows at most %d references in a row", maxDepth)
}

// Follows reports whether e depends on other resources than those for which it
// holds.
func Follows(e Expr) bool { return links(e) > 0 }

// links counts the chains and reverse chains in e: each is looked up by itself.
func links(e Expr) (n int) {
	switch e := e.(type) {
	case Chain:
		return 1 + links(e.X)
	case ReverseChain:
		return 1 + links(e.X)
	}
	for _, m := range Members(e) {
		n += links(m)
	}
	return n
}

// chain reads "subject:Patient.name", whose modifier is the type, or
// "subject.name" where only one type of target has a parameter of the name; then
// reads the rest.
// https://hl7.org/fhir/R4/search.html#chaining
func (p *parameter) chain(modifier, rest string, o Options, depth int, then func(*table, int) (Expr, error)) (Expr, error) {
	if p.Type != "reference" {
		return nil, invalid(p.Code, "is no reference, so that it cannot be chained")
	}
	if depth == 0 {
		return nil, tooDeep()
	}
	targets, err := p.chained(modifier, rest, o)
	if err != nil {
		return nil, err
	}
	var or Or
	for _, t := range targets {
		e, err := then(o.Custom.table(t), depth-1)
		if errors.Is(err, errUnknown) {
			continue
		}
		if err != nil {
			return nil, err
		}
		or = append(or, p.links(t, e)...)
	}
	if len(or) == 0 {
		return nil, unsupported(p.Code, "is chained with what is no search parameter of its targets")
	}
	return or.simple(), nil
}

// chained returns the types that a chain by p leads to: the one that the
// modifier names, or those that have what comes next.
func (p *parameter) chained(modifier, rest string, o Options) ([]fhir.Type, error) {
	targets := p.Targets
	if targets == nil {
		targets = fhir.Types
	}
	if modifier != "" {
		if !fhir.Type(modifier).Known() || !p.canTarget(fhir.Type(modifier)) {
			return nil, invalid(p.Code, "cannot refer to the type that the chain names")
		}
		if targets = []fhir.Type{fhir.Type(modifier)}; targets[0] == auditEvent {
			return nil, ofTrail(p.Code)
		}
	}
	head := rest
	if end := strings.IndexAny(rest, ":.["); end >= 0 {
		head = rest[:end]
	}
	targets = slices.DeleteFunc(slices.Clone(targets), func(t fhir.Type) bool {
		return t == auditEvent || !o.Custom.table(t).knows(head) || len(p.links(t, nil)) == 0
	})
	if len(targets) > 1 && (!common[head] || len(targets) > maxTargets) {
		return nil, invalid(p.Code, "can refer to several types; the chain must say which, as in subject:Patient.name")
	}
	return targets, nil
}

// parameter returns the parameter with the code, if it can be used.
func (tb *table) parameter(code string, o Options) (*parameter, error) {
	p := tb.byCode[code]
	if p == nil {
		return nil, errUnknown
	}
	return p, o.use(p)
}

// knows reports whether the type has a parameter of the name, without
// modifiers.
func (tb *table) knows(name string) bool {
	return tb.byCode[name] != nil || name == "_has" || specials[name] != nil
}

// links returns the chains by p to resources of the type for which e holds.
func (p *parameter) links(t fhir.Type, e Expr) (list []Expr) {
	if paths := p.paths(t); len(paths) > 0 {
		list = append(list, Chain{Paths: paths, Type: t, X: e})
	}
	if paths := p.canonicals(t); len(paths) > 0 {
		list = append(list, Chain{Paths: paths, Canonical: true, Type: t, X: e})
	}
	return list
}

// auditEvent is the type of the audit trail, which is kept apart from what
// searches reach: it is searched by itself.
const auditEvent fhir.Type = "AuditEvent"

func ofTrail(name string) error {
	return unsupported(name, "leads to the audit trail, which is searched by itself at /AuditEvent")
}

// common are the parameters that mean the same for every type, so that a chain
// to them need not say the type.
var common = map[string]bool{"_id": true, "_lastUpdated": true, "_profile": true, "_security": true, "_source": true, "_tag": true}

// has reads what follows "_has:", as in Observation:patient:code.
// https://hl7.org/fhir/R4/search.html#has
func (tb *table) has(rest string, o Options, depth int, end reading) (Expr, error) {
	part := strings.SplitN(rest, ":", 3)
	if len(part) != 3 || !fhir.Type(part[0]).Known() {
		return nil, invalid("_has", "must be as in _has:Observation:patient:code")
	}
	if depth == 0 {
		return nil, tooDeep()
	}
	if fhir.Type(part[0]) == auditEvent {
		return nil, ofTrail("_has")
	}
	from := o.Custom.table(fhir.Type(part[0]))
	p := from.byCode[part[1]]
	if p == nil || p.Type != "reference" || !p.canTarget(tb.t) {
		return nil, invalid("_has", "names no reference from that type to the type searched")
	}
	if err := o.use(p); err != nil {
		return nil, err
	}
	e, err := follow(from, part[2], o, depth-1, end)
	if errors.Is(err, errUnknown) {
		return nil, unsupported("_has", "ends in what is no search parameter of that type")
	}
	if err != nil {
		return nil, err
	}
	or := Or{}
	if paths := p.paths(tb.t); len(paths) > 0 {
		or = append(or, ReverseChain{Type: from.t, Paths: paths, X: e})
	}
	if paths := p.canonicals(tb.t); len(paths) > 0 {
		or = append(or, ReverseChain{Type: from.t, Paths: paths, Canonical: true, X: e})
	}
	return or.simple(), nil
}
