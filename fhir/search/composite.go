package search

import (
	"slices"
	"strings"
)

// Composites match several values of one item. Where the item can occur once
// only, that is what And says. Where it repeats, the index holds the values of
// each item joined: tokens as one token, and numbers as numbers whose unit is
// the token.
// https://hl7.org/fhir/R4/search.html#combining

// join indexes the components of one item.
func (x *indexer) join(j *join, item value) {
	all := x.terms
	defer func() { x.terms = all }()
	for i, p := range slices.Backward(j.parts) { // a code is there more often than a value of the type
		from := item
		if p.root {
			from = x.root
		}
		x.terms = x.emptyScratch(i)
		x.object(p.tree, from)
		all.TooMany = all.TooMany || x.terms.TooMany
		if len(x.terms.Tokens)+len(x.terms.Refs)+len(x.terms.Numbers) == 0 {
			return
		}
	}
	x.terms = all
	first := x.scratch[0]
	for _, t := range first.Tokens {
		x.combine(j.path, escapeComponent(t.Value), x.scratch[1:len(j.parts)])
	}
	for _, r := range first.Refs {
		x.combine(j.path, escapeComponent(r.Target), x.scratch[1:len(j.parts)])
	}
}

// emptyScratch returns empty terms for the component i.
func (x *indexer) emptyScratch(i int) *Terms {
	for len(x.scratch) <= i {
		x.scratch = append(x.scratch, &Terms{})
	}
	t := x.scratch[i]
	*t = Terms{Tokens: t.Tokens[:0], Refs: t.Refs[:0], Dates: t.Dates[:0], Numbers: t.Numbers[:0], Strings: t.Strings[:0]}
	return t
}

// combine indexes what the other components hold, under the first.
func (x *indexer) combine(path Path, first string, rest []*Terms) {
	if x.full() {
		return
	}
	for _, t := range rest[0].Tokens {
		x.token(path, x.compose(first, "$", t.Value))
	}
	for _, r := range rest[0].Refs {
		x.token(path, x.compose(first, "$", r.Target))
	}
	for _, n := range rest[0].Numbers {
		switch {
		case len(rest) == 2:
			for _, m := range rest[1].Numbers {
				x.terms.Numbers = append(x.terms.Numbers, NumberRange{path, first, n.Lo, m.Hi})
			}
		case n.Unit == "":
			x.terms.Numbers = append(x.terms.Numbers, NumberRange{path, first, n.Lo, n.Hi})
		default:
			x.terms.Numbers = append(x.terms.Numbers, NumberRange{path, x.compose(first, "$", n.Unit), n.Lo, n.Hi})
		}
	}
}

// expr returns the condition that the value a$b or a$b$c sets.
func (c composite) expr(name, text string, o Options) (Expr, error) {
	values := splitEscaped(text, '$')
	if len(values) != len(c.components) {
		return nil, invalid(name, "must have as many values joined by $ as it has components")
	}
	if c.joined {
		return c.joinedExpr(name, values, o)
	}
	var and And
	for i, p := range c.components {
		e, err := p.any(name, "", values[i], o)
		if err != nil {
			return nil, err
		}
		and = append(and, e)
	}
	return and, nil
}

// joinedExpr returns the condition on components that are joined in the index.
func (c composite) joinedExpr(name string, values []string, o Options) (Expr, error) {
	firsts, err := c.components[0].spelled(name, values[0], o)
	if err != nil {
		return nil, err
	}
	var or Or
	for _, first := range firsts {
		first = escapeComponent(first)
		switch kindOf[c.components[1].Type] {
		case tokens, references:
			seconds, err := c.components[1].spelled(name, values[1], o)
			if err != nil {
				return nil, err
			}
			for _, second := range seconds {
				or = append(or, HasToken{c.path, first + "$" + second})
			}
		default:
			e, err := c.numbers(name, first, values[1:])
			if err != nil {
				return nil, err
			}
			or = append(or, e)
		}
	}
	return or.simple(), nil
}

// numbers returns the condition on numbers joined to the token first. Of two
// numbers, the index holds one as the low end and the other as the high end.
func (c composite) numbers(name, first string, values []string) (Expr, error) {
	e := c.components[1].elements[0]
	if len(values) == 1 {
		list, err := readQuantity(name, values[0])
		or := Or{}
		for _, m := range list {
			unit := first
			if m.unit != "" {
				unit += "$" + m.unit
			}
			or = appendOnce(or, e.inNumber(c.path, unit, m.numberRange))
		}
		return or.simple(), err
	}
	and := And{}
	for i, end := range []End{Lo, Hi} {
		r, err := readNumber(name, values[i])
		if err != nil {
			return nil, err
		}
		var or Or
		for _, bounds := range r.bounds(true) {
			for j := range bounds {
				bounds[j].End = end
			}
			or = append(or, InNumber{c.path, first, bounds})
		}
		and = append(and, or.simple())
	}
	return mergeNumbers(and), nil
}

// mergeNumbers joins conditions on one NumberRange into one, so that one and
// the same range must meet them.
func mergeNumbers(and And) Expr {
	alternatives := Or{InNumber{}}
	for _, e := range and {
		members, ok := e.(Or)
		if !ok {
			members = Or{e}
		}
		var next Or
		for _, a := range alternatives {
			for _, m := range members {
				n := m.(InNumber)
				n.Bounds = append(append([]NumberBound(nil), a.(InNumber).Bounds...), n.Bounds...)
				next = append(next, n)
			}
		}
		alternatives = next
	}
	return alternatives.simple()
}

// spelled returns the tokens that the value of a component can stand for.
func (p *parameter) spelled(name, text string, o Options) ([]string, error) {
	e, err := p.any(name, "", text, o)
	if err != nil {
		return nil, err
	}
	members, ok := e.(Or)
	if !ok {
		members = Or{e}
	}
	var list []string
	for _, m := range members {
		switch m := m.(type) {
		case HasToken:
			list = append(list, m.Value)
		case HasReference:
			list = append(list, m.Target)
		default:
			return nil, unsupported(name, "does not take system| in a composite")
		}
	}
	return list, nil
}

// splitEscaped splits s at each sep that is not escaped, and keeps escapes.
func splitEscaped(s string, sep byte) []string {
	var list []string
	for {
		at := cut(s, sep)
		if at < 0 {
			return append(list, s)
		}
		list = append(list, s[:at])
		s = s[at+1:]
	}
}

// unescape resolves the escapes of a value.
// https://hl7.org/fhir/R4/search.html#escaping
func unescape(name, s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
			if i == len(s) || strings.IndexByte(`,|$\`, s[i]) < 0 {
				return "", invalid(name, `has a \ that escapes nothing`)
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), nil
}
