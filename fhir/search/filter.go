package search

import (
	"encoding/json"
	"slices"
	"strings"
)

// A filter is an expression of _filter, parsed: a comparison, or others joined
// by an operator.
// https://hl7.org/fhir/R4/search_filter.html
type filter struct {
	op    string // "and", "or", "not", or that of a comparison
	parts []*filter
	path  []step // of a comparison
	value string
}

// A step is one name of a path, which for a reference may be narrowed by a
// filter on what it refers to.
type step struct {
	name   string
	narrow *filter
}

// maxNested and maxCompared bound how deep a filter is nested, and how much it
// asks.
const (
	maxNested      = 16
	maxComparisons = 100
)

// readFilter reads _filter. Names are those of search parameters; operators
// are joined from left to right, neither before the other.
func readFilter(tb *table, name, value string, o Options, depth int) (Expr, error) {
	p := filterParser{name: name, rest: value}
	f, err := p.joined(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.rest != "" {
		return nil, p.fault("has something after its end")
	}
	if err := o.spend(name, p.comparisons); err != nil {
		return nil, err
	}
	return f.compile(tb, o, depth)
}

// A filterParser reads a filter from left to right.
type filterParser struct {
	name, rest  string
	comparisons int
}

func (p *filterParser) fault(words string) error { return invalid(p.name, words) }

func (p *filterParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// take passes over the text if it comes next.
func (p *filterParser) take(text string) bool {
	rest, ok := strings.CutPrefix(p.rest, text)
	if ok {
		p.rest = rest
	}
	return ok
}

// word takes what stands before a space or one of the stops.
func (p *filterParser) word(stops string) string {
	end := strings.IndexAny(p.rest, " \t\r\n"+stops)
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	return word
}

// joined reads filters between and, or.
func (p *filterParser) joined(nested int) (*filter, error) {
	if nested > maxNested {
		return nil, tooCostly(p.name, "is nested more than %d deep", maxNested)
	}
	left, err := p.one(nested)
	if err != nil {
		return nil, err
	}
	for {
		p.space()
		at := p.rest
		op := p.word(`()[]"`)
		if op != "and" && op != "or" {
			p.rest = at
			return left, nil
		}
		right, err := p.one(nested)
		if err != nil {
			return nil, err
		}
		left = &filter{op: op, parts: []*filter{left, right}}
	}
}

// one reads a filter in parentheses, its denial, or a comparison.
func (p *filterParser) one(nested int) (*filter, error) {
	p.space()
	at := p.rest
	not := p.word(`()[]"`) == "not"
	if not {
		p.space()
	}
	if not && !strings.HasPrefix(p.rest, "(") || !not {
		p.rest, not = at, false
	}
	if p.take("(") {
		f, err := p.joined(nested + 1)
		if err != nil {
			return nil, err
		}
		if p.space(); !p.take(")") {
			return nil, p.fault("lacks a closing parenthesis")
		}
		if not {
			f = &filter{op: "not", parts: []*filter{f}}
		}
		return f, nil
	}
	return p.comparison(nested)
}

// operators are those of comparisons.
var operators = strings.Fields("eq ne co sw ew gt lt ge le ap sa eb pr po ss sb in re")

// comparison reads a path, an operator and a value.
func (p *filterParser) comparison(nested int) (*filter, error) {
	if p.comparisons++; p.comparisons > maxComparisons {
		return nil, tooCostly(p.name, "has more than %d comparisons", maxComparisons)
	}
	f := &filter{}
	for {
		s := step{name: p.word(`()[]".`)}
		if s.name == "" {
			return nil, p.fault("lacks the name of a parameter where one must be")
		}
		if p.take("[") {
			var err error
			if s.narrow, err = p.joined(nested + 1); err != nil {
				return nil, err
			}
			if p.space(); !p.take("].") {
				return nil, p.fault("lacks ]. and a name after a filter in brackets")
			}
			f.path = append(f.path, s)
			continue
		}
		f.path = append(f.path, s)
		if !p.take(".") {
			break
		}
	}
	p.space()
	if f.op = p.word(`()[]"`); !slices.Contains(operators, f.op) {
		return nil, p.fault("lacks an operator such as eq after the name of a parameter")
	}
	p.space()
	var err error
	f.value, err = p.value()
	return f, err
}

// value reads a JSON string, or what stands before a space or bracket.
func (p *filterParser) value() (string, error) {
	if !strings.HasPrefix(p.rest, `"`) {
		if word := p.word(")]"); word != "" {
			return word, nil
		}
		return "", p.fault("lacks a value")
	}
	for end := 1; end < len(p.rest); end++ {
		switch p.rest[end] {
		case '\\':
			end++
		case '"':
			var s string
			if json.Unmarshal([]byte(p.rest[:end+1]), &s) != nil || s == "" {
				return "", p.fault("has a malformed or empty text")
			}
			p.rest = p.rest[end+1:]
			return s, nil
		}
	}
	return "", p.fault("has a text that does not end")
}

// compile returns the condition that f sets on resources of the type.
func (f *filter) compile(tb *table, o Options, depth int) (Expr, error) {
	switch f.op {
	case "and", "or", "not":
		var list []Expr
		for _, part := range f.parts {
			e, err := part.compile(tb, o, depth)
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
		switch f.op {
		case "and":
			return And(list), nil
		case "or":
			return Or(list), nil
		}
		return Not{list[0]}, nil
	}
	e, err := f.along(tb, f.path, o, depth)
	if err == errUnknown {
		err = unsupported("_filter", "names what is no search parameter here")
	}
	return e, err
}

// along follows the path to its last step, where the comparison is.
func (f *filter) along(tb *table, path []step, o Options, depth int) (Expr, error) {
	s := path[0]
	if rest, ok := strings.CutPrefix(s.name, "_has:"); ok {
		from := strings.SplitN(rest, ":", 3)
		if len(from) != 3 || s.narrow != nil {
			return nil, invalid("_has", "must be as in _has:Observation:patient:code")
		}
		path = append([]step{{name: from[2]}}, path[1:]...)
		return tb.has(rest, o, depth, func(tb *table, _, _ string, depth int) (Expr, error) { return f.along(tb, path, o, depth) })
	}
	code, modifier, _ := strings.Cut(s.name, ":")
	p, err := tb.parameter(code, o)
	if err != nil {
		return nil, err
	}
	if len(path) == 1 {
		if modifier != "" {
			return nil, unsupportedModifier(s.name)
		}
		return f.compare(p, o)
	}
	return p.chain(modifier, path[1].name, o, depth, func(tb *table, depth int) (Expr, error) {
		e, err := f.along(tb, path[1:], o, depth)
		if err != nil || s.narrow == nil {
			return e, err
		}
		narrow, err := s.narrow.compile(tb, o, depth)
		return And{narrow, e}, err
	})
}

// alike are the operators that search parameters of a type have as a prefix
// or by themselves. The value is read as theirs.
var alike = map[string]string{
	"token": "eq", "uri": "eq", "reference": "eq re", "composite": "eq", "special": "eq",
	"number": "eq ne gt lt ge le sa eb ap", "quantity": "eq ne gt lt ge le sa eb ap", "date": "eq ne gt lt ge le sa eb ap",
}

// textOps are the operators on strings.
var textOps = map[string]TextOp{"eq": Is, "ne": IsNot, "sw": StartsWith, "ew": EndsWith}

// compare returns the condition that the comparison sets on p. Values are
// taken as they are: what separates values in a search does not here, but for
// the parts of one.
func (f *filter) compare(p *parameter, o Options) (Expr, error) {
	if f.op == "pr" {
		absent := map[string]string{"true": "false", "false": "true"}[f.value]
		return p.missing(p.Code, absent)
	}
	text := strings.ReplaceAll(strings.ReplaceAll(f.value, `\`, `\\`), ",", `\,`)
	if p.Type == "token" || p.Type == "uri" || p.Type == "reference" {
		text = strings.ReplaceAll(text, "$", `\$`)
	}
	modifier := map[string]string{"in": "in", "ss": "below", "sb": "above"}[f.op]
	switch {
	case p.Type == "string":
		return f.compareText(p)
	case slices.Contains(strings.Fields(alike[p.Type]), f.op):
		if kindOf[p.Type]&(numbers|dates) != 0 && p.Type != "special" {
			text = f.op + text
		}
		return p.any(p.Code, "", text, o)
	case f.op == "po" && p.Type == "date":
		return p.overlapping(text, o)
	case modifier != "" && p.Type == "token":
		return p.any(p.Code, modifier, text, o)
	case f.op == "ne" && (p.Type == "token" || p.Type == "uri" || p.Type == "reference"):
		e, err := p.any(p.Code, "", text, o)
		if err != nil {
			return nil, err
		}
		return p.other(e)
	}
	return nil, unsupported(p.Code, "does not take the operator that _filter names for it")
}

// compareText is compare for a string.
func (f *filter) compareText(p *parameter) (Expr, error) {
	op, ok := textOps[f.op]
	if !ok && f.op != "co" {
		return nil, unsupported(p.Code, "is text, which _filter compares by eq, ne, co, sw, ew and pr")
	}
	if fold(f.value) == "" {
		return nil, invalid(p.Code, "has neither letters nor digits to look for")
	}
	var or Or
	for _, e := range p.elements {
		if f.op == "co" {
			or = append(or, HasText{e.path, Contains, f.value}, HasText{e.path, ContainsBeyond, f.value})
			continue
		}
		or = append(or, HasText{e.path, op, f.value})
	}
	return or.simple(), nil
}

// Other holds where an element that X is about has a value that is not the one
// that X asks for; it may have that as well. X is a HasToken, a HasReference or
// an Or of these, which are alternatives for one value. Only a body tells.
type Other struct{ X Expr }

func (Other) expr() {}

// Keys returns nothing: an index cannot narrow o.
func (Other) Keys() []Token { return nil }

// other returns the condition that p has a value other than those that e asks
// for.
func (p *parameter) other(e Expr) (Expr, error) {
	if direct[p.Code] || p.elements[0].has("exists") { // there is one value
		return Not{e}, nil
	}
	list, ok := e.(Or)
	if !ok {
		list = Or{e}
	}
	for _, x := range list {
		switch x.(type) {
		case HasToken, HasReference:
		default:
			return nil, unsupported(p.Code, "takes ne in _filter for a code, with or without its system, only")
		}
	}
	return And{Present{p.of(), p.bit}, Other{e}}, nil
}

// overlapping returns the condition that a date of p overlaps with the value.
func (p *parameter) overlapping(text string, o Options) (Expr, error) {
	if direct[p.Code] { // a moment overlaps with what it is in
		return p.any(p.Code, "", text, o)
	}
	lo, hi, ok := parseDate(text)
	if !ok {
		return nil, invalid(p.Code, "is compared with what is not a date or time")
	}
	var or Or
	for _, e := range p.elements {
		or = append(or, InDate{e.path, []DateBound{{Lo, LT, hi}, {Hi, GT, lo}}})
	}
	return or.simple(), nil
}

// holds reports whether o holds for a resource with the terms.
func (o Other) holds(t *Terms) bool {
	list, ok := o.X.(Or)
	if !ok {
		list = Or{o.X}
	}
	differs := func(e Expr) bool {
		switch e := e.(type) {
		case HasToken:
			return slices.ContainsFunc(t.Tokens, func(v Token) bool {
				return v.Path == e.Path && isFull(v.Value) == isFull(e.Value) && v.Value != e.Value && !slices.Contains(list, Expr(HasToken(v)))
			})
		case HasReference:
			return slices.ContainsFunc(t.Refs, func(r Reference) bool {
				return r.Path == e.Path && r.Pair == (Token{}) && r.Target != e.Target && !slices.Contains(list, Expr(HasReference(r)))
			})
		}
		return false
	}
	return slices.ContainsFunc(list, differs)
}
