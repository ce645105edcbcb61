package path

import (
	"hash/maphash"
	"slices"
	"strings"
	"unicode"

	"github.com/cockroachdb/apd/v3"
)

// equalCollections is a = b: the items are equal and in the same order.
// http://hl7.org/fhirpath/N1/#equals
func equalCollections(r *run, a, b []Node) (ternary, error) {
	if len(a) == 0 || len(b) == 0 {
		return isUnknown, nil
	}
	if len(a) != len(b) {
		return isFalse, nil
	}
	all := isTrue
	for i := range a {
		t, err := r.equal(a[i], b[i])
		if err != nil || t == isFalse {
			return t, err
		}
		all = min(all, t)
	}
	return all, nil
}

// equal compares two items.
func (r *run) equal(a, b Node) (ternary, error) {
	if err := r.step(1 + a.weight() + b.weight()); err != nil {
		return isUnknown, err
	}
	if s, ok := a.text(); ok {
		if t, ok := b.val.(string); ok {
			return ternaryOf(string(s) == t), nil
		}
		if t, ok := b.text(); ok {
			return ternaryOf(string(s) == string(t)), nil
		}
	}
	x, y := a.Value(), b.Value()
	if x == nil || y == nil {
		if x != nil || y != nil {
			return isFalse, nil
		}
		return r.equalTrees(a, b, r.equal)
	}
	if t, ok := x.(bool); ok {
		u, ok := y.(bool)
		return ternaryOf(ok && t == u), nil
	}
	if t, ok := x.(typeInfo); ok {
		return ternaryOf(t == y), nil
	}
	order, known, comparable := compare(x, y)
	switch {
	case !comparable:
		return isFalse, nil
	case !known:
		return isUnknown, nil
	}
	return ternaryOf(order == 0), nil
}

// equalTrees compares the children of two elements, in whatever order their
// names are.
func (r *run) equalTrees(a, b Node, equal func(a, b Node) (ternary, error)) (ternary, error) {
	if a.json != nil && a.json == b.json && a.side == b.side {
		return isTrue, nil
	}
	x, y := a.sorted(), b.sorted()
	if err := r.step(len(x) + len(y)); err != nil {
		return isUnknown, err
	}
	if len(x) != len(y) || a.Type() != b.Type() {
		return isFalse, nil
	}
	all := isTrue
	for i := range x {
		if x[i].elem.Name != y[i].elem.Name {
			return isFalse, nil
		}
		t, err := equal(x[i], y[i])
		if err != nil || t == isFalse {
			return t, err
		}
		all = min(all, t)
	}
	return all, nil
}

// sorted returns the children of n by name.
func (n Node) sorted() []Node {
	c := slices.Collect(n.Children())
	slices.SortStableFunc(c, func(a, b Node) int { return strings.Compare(a.elem.Name, b.elem.Name) })
	return c
}

// equivalentCollections is a ~ b: the items are equivalent in any order.
// http://hl7.org/fhirpath/N1/#equivalent
func equivalentCollections(r *run, a, b []Node) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	used := make([]bool, len(b))
next:
	for i := range a {
		for j := range b {
			if used[j] {
				continue
			}
			t, err := r.equivalent(a[i], b[j])
			if err != nil {
				return false, err
			}
			if t == isTrue {
				used[j] = true
				continue next
			}
		}
		return false, nil
	}
	return true, nil
}

// equivalent compares two items loosely: strings without regard to case and
// white space, decimals to the precision of the less precise.
func (r *run) equivalent(a, b Node) (ternary, error) {
	// A string is folded, rune by rune.
	if err := r.step(1 + 16*(a.weight()+b.weight())); err != nil {
		return isUnknown, err
	}
	x, y := a.Value(), b.Value()
	if x == nil && y == nil {
		return r.equalTrees(a, b, r.equivalent)
	}
	if s, ok := x.(string); ok {
		t, ok := y.(string)
		return ternaryOf(ok && folded(s) == folded(t)), nil
	}
	if d, e, ok := decimalPair(x, y); ok {
		return ternaryOf(equivalentDecimals(d, e)), nil
	}
	if q, p, ok := quantities(x, y); ok {
		return ternaryOf(q.equivalent(p)), nil
	}
	t, err := r.equal(a, b)
	return ternaryOf(t == isTrue), err
}

// folded returns s in lower case with single spaces.
func folded(s string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(s), unicode.IsSpace), " ")
}

func equivalentDecimals(x, y *apd.Decimal) bool {
	n := min(decimals(trimmed(x)), decimals(trimmed(y)))
	a, ok1 := roundTo(x, n, apd.RoundHalfUp)
	b, ok2 := roundTo(y, n, apd.RoundHalfUp)
	return ok1 && ok2 && a.Cmp(b) == 0
}

// A set holds items of which no two are equal.
type set struct {
	r     *run
	items []Node
	byKey map[uint64][]int32 // nil as long as there are few items
}

// few is how many items are compared one by one.
const few = 8

// add adds n and reports whether it was not there.
func (s *set) add(n Node) (bool, error) {
	if err := s.r.step(stepsPerItem); err != nil {
		return false, err
	}
	if s.byKey == nil && len(s.items) == few {
		s.byKey = make(map[uint64][]int32)
		for i, n := range s.items {
			k := s.r.key(n)
			s.byKey[k] = append(s.byKey[k], int32(i))
		}
	}
	there, k, err := s.has(n)
	if err != nil || there {
		return false, err
	}
	if s.byKey != nil {
		s.byKey[k] = append(s.byKey[k], int32(len(s.items)))
	}
	s.items = append(s.items, n)
	return true, nil
}

// has reports whether an item equal to n is there, and the key of n.
func (s *set) has(n Node) (bool, uint64, error) {
	if s.byKey == nil {
		ok, err := s.r.contains(s.items, n)
		return ok, 0, err
	}
	k := s.r.key(n)
	for _, i := range s.byKey[k] {
		if t, err := s.r.equal(s.items[i], n); err != nil || t == isTrue {
			return err == nil, k, err
		}
	}
	return false, k, nil
}

// newSet returns a set of the items.
func (r *run) newSet(items []Node) (*set, error) {
	s := &set{r: r}
	for _, n := range items {
		if _, err := s.add(n); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// contains reports whether an item is equal to n.
func (r *run) contains(items []Node, n Node) (bool, error) {
	for i := range items {
		if t, err := r.equal(items[i], n); err != nil || t == isTrue {
			return err == nil, err
		}
	}
	return false, nil
}

// union returns the items of both without those that are equal to another.
func (r *run) union(a, b []Node) ([]Node, error) {
	s, err := r.newSet(a)
	if err != nil {
		return nil, err
	}
	for _, n := range b {
		if _, err := s.add(n); err != nil {
			return nil, err
		}
	}
	return s.items, nil
}

var seed = maphash.MakeSeed()

// key returns a number that is equal for equal items.
func (r *run) key(n Node) uint64 {
	r.spent(1 + n.weight())
	if s, ok := n.text(); ok {
		return maphash.Bytes(seed, s)
	}
	v := n.Value()
	switch v := v.(type) {
	case nil:
		var sum uint64
		for c := range n.Children() {
			sum += r.key(c) ^ maphash.String(seed, c.elem.Name)
		}
		return sum
	case string:
		return maphash.String(seed, v)
	case Time:
		if v.zoned && v.precision >= toHour {
			v = v.utc()
			v.offset = 0
		}
		return maphash.Comparable(seed, v.parts)
	case bool:
		return maphash.Comparable(seed, v)
	case typeInfo:
		return maphash.String(seed, v.name)
	}
	return 0 // numbers and quantities: equal ones are written in many ways
}
