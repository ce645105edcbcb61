package search

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// ErrNeedsIndex says that a condition is about other resources, so that one
// resource alone cannot answer it.
var ErrNeedsIndex = errors.New("search: the condition is about other resources")

// Match reports whether e holds for the resource with the terms. Deletions
// match nothing. It evaluates what the index holds, so that both give the same
// answer; the parts that an index only narrows are decided here.
func Match(e Expr, r *fhir.Resource, t *Terms) (bool, error) {
	if r.Deleted {
		return false, nil
	}
	return matches(e, r, t)
}

func matches(e Expr, r *fhir.Resource, t *Terms) (bool, error) {
	switch e := e.(type) {
	case And:
		for _, m := range e {
			if ok, err := matches(m, r, t); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	case Or:
		for _, m := range e {
			if ok, err := matches(m, r, t); ok || err != nil {
				return ok, err
			}
		}
		return false, nil
	case Not:
		ok, err := matches(e.X, r, t)
		return !ok && err == nil, err
	case HasToken:
		return slices.Contains(t.Tokens, Token(e)), nil
	case HasReference:
		return slices.Contains(t.Refs, Reference(e)), nil
	case HasText:
		return slices.ContainsFunc(t.Strings, func(s String) bool { return s.Path == e.Path && e.matches(s.Text) }), nil
	case InDate:
		return slices.ContainsFunc(t.Dates, func(d DateRange) bool { return d.Path == e.Path && d.within(e.Bounds) }), nil
	case InNumber:
		return slices.ContainsFunc(t.Numbers, func(n NumberRange) bool {
			return n.Path == e.Path && n.Unit == e.Unit && n.within(e.Bounds)
		}), nil
	case Within:
		return e.holds(t), nil
	case HasWords:
		return e.holds(t), nil
	case HasContained:
		return e.holds(r, t)
	case Other:
		return e.holds(t), nil
	case Present:
		return r.Ref.Type == e.Type && t.Present&(1<<e.Bit) != 0, nil
	case HasID:
		return slices.Contains(e, r.Ref.ID), nil
	case Updated:
		return DateRange{Lo: r.Updated}.within(e), nil
	}
	return false, ErrNeedsIndex
}

// within reports whether d meets all bounds.
func (d DateRange) within(bounds []DateBound) bool {
	for _, b := range bounds {
		end := d.Lo
		if b.End == Hi {
			end = d.Hi
		}
		if !b.Op.holds(end.Compare(b.T)) {
			return false
		}
	}
	return true
}

// within reports whether n meets all bounds.
func (n NumberRange) within(bounds []NumberBound) bool {
	for _, b := range bounds {
		end := n.Lo
		if b.End == Hi {
			end = n.Hi
		}
		order := 0
		switch {
		case end < b.V:
			order = -1
		case end > b.V:
			order = 1
		}
		if !b.Op.holds(order) {
			return false
		}
	}
	return true
}

// holds reports whether the comparison holds for what Compare said.
func (o Op) holds(order int) bool {
	switch o {
	case LT:
		return order < 0
	case LE:
		return order <= 0
	case GT:
		return order > 0
	case GE:
		return order >= 0
	}
	return order == 0
}

// Exact reports whether an index alone answers e, so that no body need be
// opened.
func Exact(e Expr) bool {
	switch e := e.(type) {
	case Chain:
		return Exact(e.X)
	case ReverseChain:
		return Exact(e.X)
	case HasText:
		return e.Exact()
	case Within, HasWords, Other, HasContained:
		return false
	}
	return each(e, Exact)
}

// Sort values: of several, the earliest counts in ascending and the latest in
// descending order. ok is false if there is no value; such resources are last.

// SortTime returns the range by whose beginning k, a key of kind ByDate, orders,
// in either direction, as an index has it. Without a beginning it has no value.
func SortTime(t *Terms, k SortKey) (r DateRange, ok bool) {
	for _, d := range t.Dates {
		if d.Lo.IsZero() || !slices.Contains(k.Paths, d.Path) {
			continue
		}
		if order := cmp.Or(d.Lo.Compare(r.Lo), d.Hi.Compare(r.Hi)); !ok || order < 0 != k.Desc {
			r, ok = d, true
		}
	}
	return r, ok
}

// SortNumber returns the range by whose beginning k, a key of kind ByNumber,
// orders, in either direction.
func SortNumber(t *Terms, k SortKey) (r NumberRange, ok bool) {
	for _, n := range t.Numbers {
		if n.Unit != "" || !slices.Contains(k.Paths, n.Path) {
			continue
		}
		if order := cmp.Or(cmp.Compare(n.Lo, r.Lo), cmp.Compare(n.Hi, r.Hi)); !ok || order < 0 != k.Desc {
			r, ok = n, true
		}
	}
	return r, ok
}

// Valued returns the conditions of the resources that have a value to be sorted
// by, and of those that lack one; nil where all have, or no index has the order.
func (k SortKey) Valued() (has, lacks Expr) {
	if k.Via != nil || len(k.Paths) != 1 || k.Present == nil {
		return nil, nil
	}
	if k.Kind == ByNumber {
		return k.Present, Not{k.Present}
	}
	var open Expr = InDate{k.Paths[0], []DateBound{{Lo, EQ, time.Time{}}}}
	has = InDate{k.Paths[0], []DateBound{{Lo, GT, time.Time{}}}}
	if !IsSingle(k.Paths[0]) {
		open = And{open, Not{has}}
	}
	return has, Or{Not{k.Present}, open}
}

// SortText returns the text by which k, a key of kind ByText, orders: for each
// of its elements in turn the least, or greatest, value, folded.
func SortText(t *Terms, k SortKey) (s string, ok bool) {
	for _, path := range k.Paths {
		best, found := "", false
		take := func(v string) {
			if !found || (v < best) != k.Desc && v != best {
				best, found = v, true
			}
		}
		for _, v := range t.Strings {
			if v.Path == path {
				take(fold(v.Text))
			}
		}
		for _, v := range t.Tokens {
			if v.Path == path && !isFull(v.Value) {
				take(v.Value)
			}
		}
		for _, v := range t.Refs {
			if v.Path == path {
				take(v.Target)
			}
		}
		if found {
			s, ok = s+best+"\x00", true
		}
	}
	return s, ok
}
