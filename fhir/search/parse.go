package search

import (
	"errors"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// Parse reads a search on type t, or on the whole system if t is "": then only
// parameters that all of its _type have can be used. The error is a *fhir.Error
// that names the parameter and never holds its value.
//
// Date and time values without a zone are in UTC. An empty value says nothing.
// https://hl7.org/fhir/R4/search.html
func Parse(t fhir.Type, params []Param, o Options) (*Query, error) {
	if len(params) > maxParams {
		return nil, fhir.Errorf(fhir.TooCostly, "a search takes at most %d parameters", maxParams)
	}
	if t != "" && !t.Known() {
		return nil, fhir.Errorf(fhir.NotFound, "the resource type is not known")
	}
	q := &Query{Type: t, Count: -1}
	if t == "" {
		if err := q.readTypes(params); err != nil {
			return nil, err
		}
	}
	o.used = new(bool)
	r := &reader{query: q, o: o, types: []fhir.Type{t}}
	if t == "" {
		r.types = q.Types
		if len(q.Types) == 0 {
			r.types = fhir.Types
		}
	}
	where := And{}
	for _, p := range params {
		e, err := r.param(p)
		if errors.Is(err, errUnknown) {
			if !o.Lenient {
				return nil, unsupported(p.Name, "is not a search parameter here")
			}
			q.Ignored = append(q.Ignored, p.Name)
			continue
		}
		if err != nil {
			return nil, err
		}
		if e != nil {
			where = append(where, e)
		}
	}
	if q.Summary == "text" && len(q.Include) > 0 {
		return nil, invalid("_summary", "cannot be text together with includes")
	}
	q.Where = Simplify(where)
	if *o.used {
		q.Custom = o.Custom
	}
	return q, nil
}

// readTypes reads _type, which decides what the other parameters can be.
func (q *Query) readTypes(params []Param) error {
	for _, p := range params {
		if p.Name != "_type" || p.Value == "" {
			continue
		}
		if len(q.Types) > 0 {
			return invalid(p.Name, "can be given once")
		}
		for name := range strings.SplitSeq(p.Value, ",") {
			t := fhir.Type(name)
			if !t.Known() {
				return invalid(p.Name, "names a type that is not known")
			}
			if !slices.Contains(q.Types, t) {
				q.Types = append(q.Types, t)
			}
		}
	}
	return nil
}

// errUnknown says that there is no such parameter, which a lenient search lets
// pass.
var errUnknown = errors.New("search: unknown parameter")

// use notes that the search uses p. A parameter of the tenant is refused while
// its index is being made: the answer would lack what is not in it.
func (o Options) use(p *parameter) error {
	if p.custom == nil {
		return nil
	}
	if p.state != CustomReady {
		return unsupported(p.Code, "is not ready: what it reads is still being indexed")
	}
	if o.used != nil {
		*o.used = true
	}
	return nil
}

// A reader reads the parameters of one search.
type reader struct {
	query *Query
	types []fhir.Type
	o     Options
	// values counts the values of all parameters, once for each type.
	values int
}

// param reads one parameter. The condition is nil if it sets none.
func (r *reader) param(p Param) (Expr, error) {
	if len(p.Value) > maxLength {
		return nil, tooCostly(p.Name, "is longer than %d characters", maxLength)
	}
	if passedOver[p.Name] {
		return nil, nil
	}
	if p.Value == "" {
		return nil, nil
	}
	base, _, _ := strings.Cut(p.Name, ":")
	var e Expr
	var err error
	if control := controls[base]; control != nil {
		if p.Name != base && !strings.Contains(base, "include") {
			return nil, unsupportedModifier(p.Name)
		}
		err = control(r, p)
	} else {
		e, err = r.condition(p)
	}
	if err == nil {
		r.query.Applied = append(r.query.Applied, p)
	}
	return e, err
}

// condition reads a parameter that filters. In a search of several types it
// must be one of each, and means the same for all.
func (r *reader) condition(p Param) (Expr, error) {
	values := 1 + strings.Count(p.Value, ",")
	if values > maxValues {
		return nil, tooCostly(p.Name, "has more than %d values", maxValues)
	}
	if r.values += values * len(r.types); r.values > maxLeaves {
		return nil, tooCostly(p.Name, "is one too many: the values of a search, times its types, are more than %d", maxLeaves)
	}
	if len(r.types) == 1 {
		return readParam(r.o.Custom.table(r.types[0]), p.Name, p.Value, r.o, maxDepth)
	}
	// What is negated is negated for all types together: a resource of one
	// type never has the values of another.
	negated := false
	or := Or{}
	for _, t := range r.types {
		e, err := readParam(r.o.Custom.table(t), p.Name, p.Value, r.o, maxDepth)
		if err != nil {
			return nil, err
		}
		if not, ok := e.(Not); ok {
			negated, e = true, not.X
		}
		or = appendOnce(or, e)
	}
	if negated {
		return Not{or.simple()}, nil
	}
	return or.simple(), nil
}

// readParam reads a parameter of a type: name, name:modifier, a chain or _has.
func readParam(tb *table, name, value string, o Options, depth int) (Expr, error) {
	if depth == 0 {
		return nil, fhir.Errorf(fhir.TooCostly, "a search follows at most %d references in a row", maxDepth-1)
	}
	if rest, ok := strings.CutPrefix(name, "_has:"); ok {
		return readHas(tb, rest, value, o, depth)
	}
	head, rest, chained := strings.Cut(name, ".")
	code, modifier, _ := strings.Cut(head, ":")
	p := tb.byCode[code]
	if p == nil {
		return nil, errUnknown
	}
	if err := o.use(p); err != nil {
		return nil, err
	}
	if chained {
		return p.chain(modifier, rest, value, o, depth)
	}
	return p.read(modifier, value, o)
}

// chain reads "subject:Patient.name", whose modifier is the type, or
// "subject.name" where only one type of target has the parameter.
// https://hl7.org/fhir/R4/search.html#chaining
func (p *parameter) chain(modifier, rest, value string, o Options, depth int) (Expr, error) {
	if p.Type != "reference" {
		return nil, invalid(p.Code, "is no reference, so that it cannot be chained")
	}
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
	if end := strings.IndexAny(rest, ":."); end >= 0 {
		head = rest[:end]
	}
	targets = slices.DeleteFunc(slices.Clone(targets), func(t fhir.Type) bool {
		return t == auditEvent || head != "_has" && o.Custom.table(t).byCode[head] == nil || len(p.links(t, nil)) == 0
	})
	if len(targets) > 1 && (!common[head] || len(targets) > maxTargets) {
		return nil, invalid(p.Code, "can refer to several types; the chain must say which, as in subject:Patient.name")
	}
	var or Or
	for _, t := range targets {
		e, err := readParam(o.Custom.table(t), rest, value, o, depth-1)
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

// readHas reads what follows "_has:", as in Observation:patient:code.
// https://hl7.org/fhir/R4/search.html#has
func readHas(tb *table, rest, value string, o Options, depth int) (Expr, error) {
	part := strings.SplitN(rest, ":", 3)
	if len(part) != 3 || !fhir.Type(part[0]).Known() {
		return nil, invalid("_has", "must be as in _has:Observation:patient:code")
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
	e, err := readParam(from, part[2], value, o, depth-1)
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

// read reads the value of p, of which commas separate alternatives.
func (p *parameter) read(modifier, value string, o Options) (Expr, error) {
	name := p.Code
	if modifier != "" {
		name += ":" + modifier
	}
	if modifier == "missing" {
		return p.missing(name, value)
	}
	or := Or{}
	empty := true
	for _, text := range splitEscaped(value, ',') {
		if text == "" {
			continue
		}
		empty = false
		e, err := p.any(name, modifier, text, o)
		if err != nil {
			return nil, err
		}
		or = appendOnce(or, e)
	}
	if empty {
		return nil, invalid(name, "has only empty values")
	}
	if modifier == "not" {
		return Not{or.simple()}, nil
	}
	return or.simple(), nil
}

// missing reads name:missing.
// https://hl7.org/fhir/R4/search.html#modifiers
func (p *parameter) missing(name, value string) (Expr, error) {
	if value != "true" && value != "false" {
		return nil, invalid(name, "must be true or false")
	}
	var present Expr
	switch {
	case p.Type == "composite":
		return nil, unsupported(name, "is not for composites")
	case p.custom != nil:
		present = HasToken{p.custom.present(p.of()), "true"}
	case direct[p.Code], p.elements[0].has("exists"):
		present = And{} // there always is a value
	default:
		present = Present{p.of(), p.bit}
	}
	if value == "true" {
		return Not{present}, nil
	}
	return present, nil
}

// of returns the type that p is a parameter of.
func (p *parameter) of() fhir.Type {
	t, _, _ := strings.Cut(string(p.elements[0].path), ".")
	return fhir.Type(t)
}

// any returns the condition that one alternative sets on p: that it holds for
// some element.
func (p *parameter) any(name, modifier, text string, o Options) (Expr, error) {
	switch p.Code {
	case "_id":
		return readID(name, modifier, text)
	case "_lastUpdated":
		return readUpdated(name, modifier, text)
	}
	or := Or{}
	for _, c := range p.composites {
		if modifier != "" {
			return nil, unsupportedModifier(name)
		}
		e, err := c.expr(name, text, o)
		if err != nil {
			return nil, err
		}
		or = appendOnce(or, e)
	}
	for _, e := range p.elements {
		x, err := e.expr(p, name, modifier, text, o)
		if err != nil {
			return nil, err
		}
		or = appendOnce(or, x)
	}
	return or.simple(), nil
}

// expr returns the condition that one alternative sets on e.
func (e element) expr(p *parameter, name, modifier, text string, o Options) (Expr, error) {
	switch p.Type {
	case "string":
		return e.string(name, modifier, text)
	case "token":
		switch modifier {
		case "", "not":
			return e.token(name, text)
		case "text":
			text, err := unescape(name, text)
			return HasText{e.path + textSuffix, StartsWith, text}, err
		case "of-type":
			return e.ofType(name, text)
		}
	case "uri":
		return e.uri(name, modifier, text)
	case "reference":
		switch {
		case modifier == "identifier":
			id := element{path: e.path + identifierSuffix, types: identifierType}
			return id.token(name, text)
		case modifier == "" || fhir.Type(modifier).Known() && p.canTarget(fhir.Type(modifier)):
			return e.reference(p, name, text, fhir.Type(modifier), o)
		}
	case "date":
		if modifier == "" {
			return e.date(name, text)
		}
	case "number":
		if modifier == "" {
			return e.number(name, text)
		}
	case "quantity":
		if modifier == "" {
			return e.quantity(name, text)
		}
	case "special":
		if modifier == "" {
			return e.near(name, text)
		}
	}
	return nil, unsupportedModifier(name)
}

func unsupportedModifier(name string) error {
	return unsupported(name, "has a modifier that it does not take here")
}

// string returns the condition that a string parameter sets on e.
// https://hl7.org/fhir/R4/search.html#string
func (e element) string(name, modifier, text string) (Expr, error) {
	text, err := unescape(name, text)
	if err != nil {
		return nil, err
	}
	if modifier == "exact" {
		return HasText{e.path, Equals, text}, nil
	}
	if fold(text) == "" {
		return nil, invalid(name, "has neither letters nor digits to look for")
	}
	switch modifier {
	case "":
		return HasText{e.path, StartsWith, text}, nil
	case "contains":
		return Or{HasText{e.path, Contains, text}, HasText{e.path, ContainsBeyond, text}}, nil
	}
	return nil, unsupportedModifier(name)
}

// uri returns the condition that a URI parameter sets on e.
// https://hl7.org/fhir/R4/search.html#uri
func (e element) uri(name, modifier, text string) (Expr, error) {
	text, err := unescape(name, text)
	if err != nil {
		return nil, err
	}
	hierarchical := strings.Contains(text, "://")
	switch {
	case modifier == "":
		return HasToken{e.path, text}, nil
	case modifier == "below" && hierarchical:
		return HasText{e.path, Below, text}, nil
	case modifier == "above" && hierarchical:
		or := Or{HasToken{e.path, text}}
		root := strings.Index(text, "://") + len("://")
		for at := strings.LastIndexByte(text, '/'); at > root; at = strings.LastIndexByte(text[:at], '/') {
			or = append(or, HasToken{e.path, text[:at]}, HasToken{e.path, text[:at+1]})
		}
		return or, nil
	}
	return nil, unsupportedModifier(name)
}

// readID reads a value of _id. What cannot be an id is the id of nothing.
func readID(name, modifier, text string) (Expr, error) {
	if modifier != "" {
		return nil, unsupportedModifier(name)
	}
	if !fhir.ValidID(text) {
		return Or{}, nil
	}
	return HasID{text}, nil
}

// readUpdated reads a value of _lastUpdated, which is a moment and no range.
func readUpdated(name, modifier, text string) (Expr, error) {
	if modifier != "" {
		return nil, unsupportedModifier(name)
	}
	r, err := readDate(name, text)
	if err != nil {
		return nil, err
	}
	switch r.prefix {
	case "ne":
		return Or{Updated{{Lo, LT, r.lo}}, Updated{{Lo, GE, r.hi}}}, nil
	case "gt", "sa":
		return Updated{{Lo, GE, r.hi}}, nil
	case "lt", "eb":
		return Updated{{Lo, LT, r.lo}}, nil
	case "ge":
		return Updated{{Lo, GE, r.lo}}, nil
	case "le":
		return Updated{{Lo, LT, r.hi}}, nil
	case "ap":
		b := r.bounds()[0]
		return Updated{{Lo, LT, b[0].T}, {Lo, GE, b[1].T}}, nil
	}
	return Updated{{Lo, GE, r.lo}, {Lo, LT, r.hi}}, nil
}
