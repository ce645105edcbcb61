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
	o.used, o.spent = new(bool), new(int)
	r := &reader{query: q, o: o, types: []fhir.Type{t}}
	if t == "" {
		r.types = q.Types
		if len(q.Types) == 0 {
			r.types = fhir.Types
		}
	}
	r.o.types = len(r.types)
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
	for _, t := range r.types {
		if links(On(t, q.Where)) > maxLinks {
			return nil, fhir.Errorf(fhir.TooCostly, "a search follows at most %d references in all", maxLinks)
		}
	}
	if err := q.checkContained(); err != nil {
		return nil, err
	}
	if mixes(q.Where) {
		return nil, fhir.Errorf(fhir.NotSupported, "the search joins by or, or denies, a chain together with what only an opened resource tells, such as a part of a text; ask for the two by themselves")
	}
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

// spend counts what a value stands for, where it is more than itself.
func (o Options) spend(name string, n int) error {
	if *o.spent += n; *o.spent > maxLeaves {
		return tooCostly(name, "is one too many: what the values of a search stand for is more than %d conditions", maxLeaves)
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
	return follow(tb, name, o, depth, func(tb *table, code, modifier string, depth int) (Expr, error) {
		if special := specials[code]; special != nil {
			if modifier != "" {
				return nil, unsupportedModifier(code + ":" + modifier)
			}
			return special(tb, code, value, o, depth)
		}
		p, err := tb.parameter(code, o)
		if err != nil {
			return nil, err
		}
		return p.read(modifier, value, o)
	})
}

// specials are the parameters of every type that are about no element.
var specials map[string]func(tb *table, name, value string, o Options, depth int) (Expr, error)

func init() { // they refer to specials through follow
	specials = map[string]func(*table, string, string, Options, int) (Expr, error){
		"_list": readList, "_filter": readFilter, "_text": readWords, "_content": readWords, "_query": refuseQuery,
	}
}

// refuseQuery refuses _query, also in a lenient search: without the query that
// it names, the answer would be another one.
// https://hl7.org/fhir/R4/search.html#query
func refuseQuery(_ *table, name, _ string, _ Options, _ int) (Expr, error) {
	return nil, unsupported(name, "names a query, and there are none")
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
	if modifier == "not" || modifier == "not-in" {
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
	if p.Type == "composite" {
		return nil, unsupported(name, "is not for composites")
	}
	present := p.present()
	if value == "true" {
		return Not{present}, nil
	}
	return present, nil
}

// present is the condition that p, which is no composite, has a value.
func (p *parameter) present() Expr {
	switch {
	case p.custom != nil:
		return HasToken{p.custom.present(p.of()), "true"}
	case direct[p.Code], p.elements[0].has("exists"):
		return And{} // there always is a value
	}
	return Present{p.of(), p.bit}
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
	var refused error
	for _, e := range p.elements {
		x, err := e.expr(p, name, modifier, text, o)
		if err != nil && !p.custom.evaluated() {
			return nil, err
		}
		if err != nil { // what another datatype may take
			refused = err
			continue
		}
		or = appendOnce(or, x)
	}
	if len(or) == 0 && refused != nil {
		return nil, refused
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
		case "in", "not-in", "above", "below":
			return e.codes(name, modifier, text, o)
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
		case modifier == "above" || modifier == "below":
			return e.versions(name, modifier, text)
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
	if modifier == "" {
		return HasToken{e.path, text}, nil
	}
	return e.hierarchy(name, modifier, text)
}

// hierarchy returns the condition of :above and :below on a URL, path by path.
// Other URIs have no hierarchy.
func (e element) hierarchy(name, modifier, text string) (Expr, error) {
	hierarchical := strings.Contains(text, "://")
	switch {
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
