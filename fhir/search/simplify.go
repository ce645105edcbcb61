package search

import (
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// simple returns the only member of o if it has but one.
func (o Or) simple() Expr {
	if len(o) == 1 {
		return o[0]
	}
	return o
}

// maxCompared bounds the lists that are searched for what they hold already.
const maxCompared = 32

// appendOnce appends e, or its members if it is an Or, without what list holds
// already as long as that is quickly seen.
func appendOnce(list Or, e Expr) Or {
	if members, ok := e.(Or); ok {
		for _, m := range members {
			list = appendOnce(list, m)
		}
		return list
	}
	if len(list) <= maxCompared && slices.ContainsFunc(list, func(m Expr) bool { return Equal(m, e) }) {
		return list
	}
	if ids, ok := e.(HasID); ok && len(list) > 0 {
		if had, ok := list[len(list)-1].(HasID); ok {
			list[len(list)-1] = append(slices.Clone(had), ids...)
			return list
		}
	}
	return append(list, e)
}

// Equal reports whether two conditions are the same, member by member.
func Equal(a, b Expr) bool {
	switch a := a.(type) {
	case And:
		b, ok := b.(And)
		return ok && slices.EqualFunc(a, b, Equal)
	case Or:
		b, ok := b.(Or)
		return ok && slices.EqualFunc(a, b, Equal)
	case Not:
		b, ok := b.(Not)
		return ok && Equal(a.X, b.X)
	case InDate:
		b, ok := b.(InDate)
		return ok && a.Path == b.Path && slices.Equal(a.Bounds, b.Bounds)
	case InNumber:
		b, ok := b.(InNumber)
		return ok && a.Path == b.Path && a.Unit == b.Unit && slices.Equal(a.Bounds, b.Bounds)
	case HasID:
		b, ok := b.(HasID)
		return ok && slices.Equal(a, b)
	case Updated:
		b, ok := b.(Updated)
		return ok && slices.Equal(a, b)
	case Chain:
		b, ok := b.(Chain)
		return ok && a.Type == b.Type && a.Canonical == b.Canonical && a.ByPolicy == b.ByPolicy && slices.Equal(a.Paths, b.Paths) && Equal(a.X, b.X)
	case ReverseChain:
		b, ok := b.(ReverseChain)
		return ok && a.Type == b.Type && a.Canonical == b.Canonical && a.ByPolicy == b.ByPolicy && a.Pair == b.Pair && slices.Equal(a.Paths, b.Paths) && Equal(a.X, b.X)
	case HasContained:
		b, ok := b.(HasContained)
		return ok && a.In == b.In && a.Type == b.Type && Equal(a.X, b.X)
	case Other:
		b, ok := b.(Other)
		return ok && Equal(a.X, b.X)
	case HasToken, HasReference, HasText, HasWords, Within, Present:
		switch b.(type) {
		case HasToken, HasReference, HasText, HasWords, Within, Present:
			return a == b
		}
	}
	return false
}

// Simplify returns a condition that means the same and is cheaper to answer:
// nested conditions are flattened, what follows from another condition is
// dropped, and conditions that the index holds joined become one.
func Simplify(e Expr) Expr {
	switch e := e.(type) {
	case And:
		return simplifyAnd(e)
	case Or:
		or := Or{}
		for _, m := range e {
			m = Simplify(m)
			if all, ok := m.(And); ok && len(all) == 0 {
				return all
			}
			or = appendOnce(or, m)
		}
		return or.joinLinks().simple()
	case Not:
		switch x := Simplify(e.X).(type) {
		case Not:
			return x.X
		case And:
			if len(x) == 0 {
				return Or{}
			}
			return Not{x}
		case Or:
			if len(x) == 0 {
				return And{}
			}
			return Not{x}
		default:
			return Not{x}
		}
	case Chain:
		e.X = Simplify(e.X)
		return e
	case ReverseChain:
		return e.paired()
	}
	return e
}

// joinLinks joins the members of o that are about what the same references lead
// to: each of them would be looked up by itself.
func (o Or) joinLinks() Or {
	out := Or{}
next:
	for _, m := range o {
		if isLink(m) {
			for i := range out {
				if both, ok := joinLinks(out[i], m); ok {
					out[i] = both
					continue next
				}
			}
		}
		out = append(out, m)
	}
	return out
}

func isLink(e Expr) bool {
	switch e.(type) {
	case Chain, ReverseChain:
		return true
	}
	return false
}

// joinLinks returns what holds where a or b does as one condition, if they are
// links by the same references whose conditions can be joined.
func joinLinks(a, b Expr) (both Expr, ok bool) {
	switch a := a.(type) {
	case Chain:
		b, is := b.(Chain)
		if !is || a.Type != b.Type || a.Canonical != b.Canonical || a.ByPolicy != b.ByPolicy || !slices.Equal(a.Paths, b.Paths) {
			return nil, false
		}
		a.X, ok = alternative(a.X, b.X)
		return a, ok
	case ReverseChain:
		b, is := b.(ReverseChain)
		if !is || a.Stand != b.Stand || a.Type != b.Type || a.Canonical != b.Canonical || a.ByPolicy != b.ByPolicy || a.Pair != b.Pair || !slices.Equal(a.Paths, b.Paths) {
			return nil, false
		}
		a.X, ok = alternative(a.X, b.X)
		return a, ok
	}
	return nil, false
}

// alternative returns what holds for the target of a link where a or b does. It
// keeps apart what an index tells, what only an opened body does, and what
// is about yet other resources: together they would cost more than by
// themselves, or could not be answered.
func alternative(a, b Expr) (Expr, bool) {
	if both, ok := joinLinks(a, b); ok {
		return both, true
	}
	if linked(a) || linked(b) || (len(Undecided(a)) > 0) != (len(Undecided(b)) > 0) {
		return nil, false
	}
	return Simplify(Or{a, b}), true
}

// On returns what e says of resources of the type: a condition on an element of
// another type holds for none of them.
func On(t fhir.Type, e Expr) Expr {
	on := func(p Path) Expr {
		if p.of() != t {
			return Or{}
		}
		return e
	}
	switch e := e.(type) {
	case Typed:
		if e.Type != t {
			return Or{}
		}
		return On(t, e.X)
	case HasToken:
		return on(e.Path)
	case HasReference:
		return on(e.Path)
	case HasText:
		return on(e.Path)
	case InDate:
		return on(e.Path)
	case InNumber:
		return on(e.Path)
	case Within:
		return on(e.Path)
	case Other:
		if x, ok := On(t, e.X).(Or); ok {
			return x
		}
	case HasWords:
		if e.Type != t {
			return Or{}
		}
	case Present:
		if e.Type != t {
			return Or{}
		}
	case Chain:
		e.Paths = slices.DeleteFunc(slices.Clone(e.Paths), func(p Path) bool { return p.of() != t })
		if len(e.Paths) == 0 {
			return Or{}
		}
		return e
	}
	return mapped(e, func(m Expr) Expr { return On(t, m) })
}

// flat returns the members of a and of the Ands within it, simplified.
func (a And) flat() And {
	var list And
	for _, m := range a {
		switch m := Simplify(m).(type) {
		case And:
			list = append(list, m...)
		default:
			list = append(list, m)
		}
	}
	return list
}

func simplifyAnd(a And) Expr {
	list := a.flat()
	var out And
	for i, m := range list {
		or, isOr := m.(Or)
		if isOr && len(or) == 0 {
			return Or{}
		}
		implied := slices.ContainsFunc(list[:i], func(o Expr) bool { return Equal(o, m) }) ||
			isOr && slices.ContainsFunc(list, func(o Expr) bool {
				return slices.ContainsFunc(or, func(x Expr) bool { return Equal(x, o) })
			})
		if !implied {
			out = append(out, m)
		}
	}
	out = Pairs(out)
	if len(out) == 1 {
		return out[0]
	}
	if out == nil {
		return And{}
	}
	return out
}

// maxPairs bounds what alternatives of two joined conditions multiply to.
const maxPairs = 64

// Pairs joins the conditions in a that the index holds joined: a reference with
// a token, a token with a number, and bounds on one and the same element.
func Pairs(a And) And {
	a = mergeBounds(a)
	for i, m := range a {
		refs, ok := alternatives[HasReference](m)
		if !ok {
			continue
		}
		best, joins := len(a), []HasToken(nil)
		for j, n := range a {
			toks, ok := alternatives[HasToken](n)
			if ok && paired(refs, toks) && (joins == nil || rankPair(refs[0], toks[0]) < rankPair(refs[0], joins[0])) {
				best, joins = j, toks
			}
		}
		if joins == nil {
			continue
		}
		or := Or{}
		for _, r := range refs {
			for _, tok := range joins {
				or = append(or, HasReference{r.Path, r.Target, Token(tok)})
			}
		}
		a = slices.Clone(a)
		a[i] = or.simple()
		return slices.Delete(a, best, best+1)
	}
	return joinNumbers(a)
}

// alternatives returns the members of e if all are of one kind.
func alternatives[T Expr](e Expr) ([]T, bool) {
	if one, ok := e.(T); ok {
		return []T{one}, true
	}
	or, ok := e.(Or)
	if !ok || len(or) == 0 {
		return nil, false
	}
	var list []T
	for _, m := range or {
		one, ok := m.(T)
		if !ok {
			return nil, false
		}
		list = append(list, one)
	}
	return list, true
}

// paired reports whether the index holds each reference joined with each token.
func paired(refs []HasReference, toks []HasToken) bool {
	if len(refs)*len(toks) > maxPairs {
		return false
	}
	for _, r := range refs {
		for _, t := range toks {
			if r.Pair != (Token{}) || !strings.HasPrefix(r.Target, "Patient/") || !isFull(t.Value) || rankPair(r, t) < 0 {
				return false
			}
		}
	}
	return true
}

// rankPair returns the place of the pair among those that the index holds
// joined, the most selective first; -1 if it does not.
func rankPair(r HasReference, t HasToken) int {
	tb := tableOf(r.Path.of())
	if tb == nil {
		return -1
	}
	return slices.Index(tb.pairs[r.Path], t.Path)
}

// of returns the type that the element is of.
func (p Path) of() fhir.Type {
	t, _, _ := strings.Cut(string(p), ".")
	return fhir.Type(t)
}

// joinNumbers joins a token with a number.
func joinNumbers(a And) And {
	for i, m := range a {
		tok, ok := m.(HasToken)
		if !ok || !isFull(tok.Value) {
			continue
		}
		tb := tableOf(tok.Path.of())
		for j, n := range a {
			num, ok := n.(InNumber)
			if !ok || tb == nil || !slices.Contains(tb.hotNumbers[tok.Path], num.Path) {
				continue
			}
			a = slices.Clone(a)
			unit := tok.Value
			if num.Unit != "" {
				unit += "$" + num.Unit
			}
			a[i] = InNumber{hotPath(tok.Path, num.Path), unit, num.Bounds}
			return slices.Delete(a, j, j+1)
		}
	}
	return a
}

// mergeBounds joins the bounds on an element that a resource has but once: the
// same value must meet them all.
func mergeBounds(a And) And {
	var out And
	for _, m := range a {
		merged := false
		for i, o := range out {
			switch m := m.(type) {
			case InDate:
				if o, ok := o.(InDate); ok && o.Path == m.Path && IsSingle(m.Path) {
					out[i], merged = InDate{m.Path, append(slices.Clone(o.Bounds), m.Bounds...)}, true
				}
			case InNumber:
				if o, ok := o.(InNumber); ok && o.Path == m.Path && o.Unit == m.Unit && IsSingle(m.Path) {
					out[i], merged = InNumber{m.Path, m.Unit, append(slices.Clone(o.Bounds), m.Bounds...)}, true
				}
			}
			if merged {
				break
			}
		}
		if !merged {
			out = append(out, m)
		}
	}
	return out
}

// IsSingle reports whether a resource has the element once at most.
func IsSingle(p Path) bool {
	tb := tableOf(p.of())
	return tb != nil && tb.single[p]
}

// paired returns r with its Pair set if its condition is one token that the
// index holds joined with the reference.
func (r ReverseChain) paired() Expr {
	r.X = Simplify(r.X)
	tok, ok := r.X.(HasToken)
	tb := tableOf(r.Type)
	if !ok || tb == nil || r.Canonical || r.Pair != (Token{}) || !isFull(tok.Value) {
		return r
	}
	for _, path := range r.Paths {
		if !slices.Contains(tb.pairs[path], tok.Path) {
			return r
		}
	}
	r.Pair, r.X = Token(tok), And{}
	return r
}

// Paired reports whether the index of the type holds references by the path joined
// with the token.
func Paired(on fhir.Type, path Path, tok Token) bool {
	tb := tableOf(on)
	return tb != nil && isFull(tok.Value) && slices.Contains(tb.pairs[path], tok.Path)
}
