package path

import (
	"cmp"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/cordon-fhir/cordon/fhir/ucum"
)

// A binary is an operator between two expressions.
// http://hl7.org/fhirpath/N1/#operations
type binary struct {
	pos
	op          operator
	left, right expr
}

// An operator computes its result from its operands. It may leave the right
// one alone if the left one decides.
type operator func(r *run, b *binary, focus []Node) ([]Node, error)

// operators are all but is and as, whose right side is a type.
var operators map[string]operator

func init() {
	operators = map[string]operator{
		"=": equalOp(equalCollections, false), "!=": equalOp(equalCollections, true),
		"~": equivalentOp(false), "!~": equivalentOp(true),
		"<":   orderOp(func(c int) bool { return c < 0 }),
		"<=":  orderOp(func(c int) bool { return c <= 0 }),
		">":   orderOp(func(c int) bool { return c > 0 }),
		">=":  orderOp(func(c int) bool { return c >= 0 }),
		"and": logicOp(func(a, b ternary) ternary { return min(a, b) }, isFalse),
		"or":  logicOp(func(a, b ternary) ternary { return max(a, b) }, isTrue),
		"xor": logicOp(func(a, b ternary) ternary {
			if a == isUnknown || b == isUnknown {
				return isUnknown
			}
			return ternaryOf(a != b)
		}, never),
		"implies": logicOp(func(a, b ternary) ternary { return max(-a, b) }, isFalse),
		"|":       unionOp,
		"in":      containsOp(func(b *binary) (expr, expr) { return b.left, b.right }),
		"contains": containsOp(func(b *binary) (expr, expr) {
			return b.right, b.left
		}),
		"+": valueOp(plus), "-": valueOp(minus), "*": valueOp(times), "/": valueOp(divide),
		"div": valueOp(wholeDivide), "mod": valueOp(modulo), "&": concatenateOp,
	}
}

func (b *binary) eval(r *run, focus []Node) ([]Node, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	return b.op(r, b, focus)
}

// both evaluates the two operands.
func (b *binary) both(r *run, focus []Node) (left, right []Node, err error) {
	if left, err = b.left.eval(r, focus); err != nil {
		return nil, nil, err
	}
	right, err = b.right.eval(r, focus)
	return left, right, err
}

// A ternary is a boolean that may be unknown. The order makes and the smaller,
// or the larger, and not the negative.
// http://hl7.org/fhirpath/N1/#boolean-logic
type ternary int

const (
	isFalse   ternary = -1
	isUnknown ternary = 0
	isTrue    ternary = 1
	never     ternary = 2
)

func ternaryOf(b bool) ternary {
	if b {
		return isTrue
	}
	return isFalse
}

func (t ternary) collection() []Node {
	if t == isUnknown {
		return nil
	}
	return boolean(t == isTrue)
}

// logic evaluates e as an operand of a boolean operator.
func (b *binary) logic(r *run, e expr, focus []Node) (ternary, error) {
	c, err := e.eval(r, focus)
	if err != nil {
		return isUnknown, err
	}
	if len(c) > 1 {
		return isUnknown, b.fault("a collection of several items where a boolean must be")
	}
	is, known, err := truth(c)
	if err != nil || !known {
		return isUnknown, err
	}
	return ternaryOf(is), nil
}

// logicOp is an operator that the left operand decides if it is decided.
func logicOp(op func(a, b ternary) ternary, decided ternary) operator {
	return func(r *run, b *binary, focus []Node) ([]Node, error) {
		left, err := b.logic(r, b.left, focus)
		if err != nil {
			return nil, err
		}
		if left == decided {
			return op(left, isUnknown).collection(), nil
		}
		right, err := b.logic(r, b.right, focus)
		if err != nil {
			return nil, err
		}
		return op(left, right).collection(), nil
	}
}

func equalOp(equal func(*run, []Node, []Node) (ternary, error), not bool) operator {
	return func(r *run, b *binary, focus []Node) ([]Node, error) {
		left, right, err := b.both(r, focus)
		if err != nil {
			return nil, err
		}
		t, err := equal(r, left, right)
		if not {
			t = -t
		}
		return t.collection(), err
	}
}

func equivalentOp(not bool) operator {
	return func(r *run, b *binary, focus []Node) ([]Node, error) {
		left, right, err := b.both(r, focus)
		if err != nil {
			return nil, err
		}
		is, err := equivalentCollections(r, left, right)
		return boolean(is != not), err
	}
}

// orderOp compares two values.
// http://hl7.org/fhirpath/N1/#comparison
func orderOp(holds func(int) bool) operator {
	return func(r *run, b *binary, focus []Node) ([]Node, error) {
		x, y, ok, err := b.values(r, focus)
		if err != nil || !ok {
			return nil, err
		}
		order, known, comparable := compare(x, y)
		if !comparable {
			return nil, b.fault("values of types that cannot be compared")
		}
		if !known {
			return nil, nil
		}
		return boolean(holds(order)), nil
	}
}

// values evaluates the operands as single values. ok is false if one is
// missing.
func (b *binary) values(r *run, focus []Node) (x, y any, ok bool, err error) {
	left, right, err := b.both(r, focus)
	if err != nil {
		return nil, nil, false, err
	}
	l, ok1, err := b.single(left)
	if err != nil {
		return nil, nil, false, err
	}
	m, ok2, err := b.single(right)
	if err != nil || !ok1 || !ok2 {
		return nil, nil, false, err
	}
	if err := r.step(l.weight() + m.weight()); err != nil {
		return nil, nil, false, err
	}
	x, y = l.Value(), m.Value()
	if l.valueless() || m.valueless() {
		return nil, nil, false, nil
	}
	if x == nil || y == nil {
		return nil, nil, false, b.fault("an element that has no value of its own where a value must be")
	}
	return x, y, true, nil
}

// valueless reports whether n is a primitive element that has only extensions.
func (n Node) valueless() bool { return n.primitive() != 0 && n.json == nil }

// compare orders two values. known is false if their precision or their units
// do not tell, comparable if their types never can.
func compare(x, y any) (order int, known, comparable bool) {
	if s, ok := x.(string); ok {
		t, ok := y.(string)
		return strings.Compare(s, t), ok, ok
	}
	if t, ok := x.(Time); ok {
		u, ok := y.(Time)
		if !ok || !t.kind.comparable(u.kind) {
			return 0, false, false
		}
		order, known = t.compare(u)
		return order, known, true
	}
	if i, ok := x.(int64); ok {
		if j, ok := y.(int64); ok {
			return cmp.Compare(i, j), true, true
		}
	}
	a, ok1 := asDecimal(x)
	b, ok2 := asDecimal(y)
	if ok1 && ok2 {
		return a.Cmp(b), true, true
	}
	q, p, ok := quantities(x, y)
	if !ok {
		return 0, false, false
	}
	order, known = q.compare(p)
	return order, known, true
}

// quantities returns two values as quantities, one of which is one.
func quantities(x, y any) (q, p *Quantity, ok bool) {
	q, ok1 := asQuantity(x)
	p, ok2 := asQuantity(y)
	_, is1 := x.(*Quantity)
	_, is2 := y.(*Quantity)
	return q, p, ok1 && ok2 && (is1 || is2)
}

// asQuantity returns a number as a quantity without a unit.
func asQuantity(v any) (*Quantity, bool) {
	if q, ok := v.(*Quantity); ok {
		return q, true
	}
	d, ok := asDecimal(v)
	return &Quantity{Value: d, Unit: "1"}, ok
}

// unionOp is a | b.
// http://hl7.org/fhirpath/N1/#union-collections
func unionOp(r *run, b *binary, focus []Node) ([]Node, error) {
	left, right, err := b.both(r, focus)
	if err != nil {
		return nil, err
	}
	return r.union(left, right)
}

// containsOp is item in collection, and its converse.
// http://hl7.org/fhirpath/N1/#collections-2
func containsOp(sides func(*binary) (item, collection expr)) operator {
	return func(r *run, b *binary, focus []Node) ([]Node, error) {
		item, collection := sides(b)
		items, err := item.eval(r, focus)
		if err != nil {
			return nil, err
		}
		n, ok, err := b.single(items)
		if err != nil || !ok {
			return nil, err
		}
		all, err := collection.eval(r, focus)
		if err != nil {
			return nil, err
		}
		found, err := r.contains(all, n)
		return boolean(found), err
	}
}

// concatenateOp is a & b, which takes what is missing as the empty string.
// http://hl7.org/fhirpath/N1/#string-concatenation
func concatenateOp(r *run, b *binary, focus []Node) ([]Node, error) {
	left, right, err := b.both(r, focus)
	if err != nil {
		return nil, err
	}
	var s [2]string
	for i, c := range [][]Node{left, right} {
		n, ok, err := b.single(c)
		if err != nil {
			return nil, err
		}
		if !ok || n.valueless() {
			continue
		}
		if s[i], ok = n.str(); !ok {
			return nil, b.fault("an operand of & that is no string")
		}
	}
	return b.text(r, s[0]+s[1])
}

// maxString is how long a string may become.
const maxString = 1 << 20

// text returns s as a collection, unless it is too long.
func (p pos) text(r *run, s string) ([]Node, error) {
	if len(s) > maxString {
		return nil, costly()
	}
	return r.one(Node{val: s}), r.step(1 + len(s)/bytesPerStep)
}

// valueOp is an operator of arithmetic. op returns nil if there is no result.
// http://hl7.org/fhirpath/N1/#math-2
func valueOp(op func(p pos, x, y any) (any, error)) operator {
	return func(r *run, b *binary, focus []Node) ([]Node, error) {
		x, y, ok, err := b.values(r, focus)
		if err != nil || !ok {
			return nil, err
		}
		v, err := op(b.pos, x, y)
		if err != nil || v == nil {
			return nil, err
		}
		if s, ok := v.(string); ok {
			return b.text(r, s)
		}
		return r.one(Node{val: v}), nil
	}
}

func plus(p pos, x, y any) (any, error) {
	if s, ok := x.(string); ok {
		if t, ok := y.(string); ok {
			return s + t, nil
		}
	}
	if t, ok := x.(Time); ok {
		if q, ok := y.(*Quantity); ok {
			return p.move(t, q, 1)
		}
	}
	return p.sum(x, y, exact.Add, func(a, b int64) int64 { return a + b })
}

func minus(p pos, x, y any) (any, error) {
	if t, ok := x.(Time); ok {
		if q, ok := y.(*Quantity); ok {
			return p.move(t, q, -1)
		}
	}
	return p.sum(x, y, exact.Sub, func(a, b int64) int64 { return a - b })
}

// arithmetic is an operation of apd.
type arithmetic func(d, x, y *apd.Decimal) (apd.Condition, error)

// sum adds or subtracts.
func (p pos) sum(x, y any, op arithmetic, ints func(a, b int64) int64) (any, error) {
	if i, ok := x.(int64); ok {
		if j, ok := y.(int64); ok {
			return integer(ints(i, j)), nil
		}
	}
	if a, b, ok := decimalPair(x, y); ok {
		return result(compute(op, a, b))
	}
	q, u, ok := quantities(x, y)
	if !ok {
		return nil, p.fault("operands whose types do not fit")
	}
	u, ok = u.in(q)
	if !ok {
		return nil, nil
	}
	v, ok := compute(op, q.Value, u.Value)
	if !ok {
		return nil, nil
	}
	return &Quantity{Value: v, Unit: q.Unit, Calendar: q.Calendar}, nil
}

func decimalPair(x, y any) (a, b *apd.Decimal, ok bool) {
	a, ok1 := asDecimal(x)
	b, ok2 := asDecimal(y)
	return a, b, ok1 && ok2
}

// integer returns n as a value, nil if an Integer cannot hold it.
func integer(n int64) any {
	if n != int64(int32(n)) {
		return nil
	}
	return n
}

// compute returns the result of op. ok is false if there is none, as where a
// divisor is zero or the result is out of range.
func compute(op arithmetic, a, b *apd.Decimal) (d *apd.Decimal, ok bool) {
	d = new(apd.Decimal)
	cond, err := op(d, a, b)
	return d, err == nil && d.Form == apd.Finite && !cond.Overflow()
}

// result returns d as a value, nil if there is none.
func result(d *apd.Decimal, ok bool) (any, error) {
	if !ok {
		return nil, nil
	}
	return d, nil
}

func times(p pos, x, y any) (any, error) {
	if i, ok := x.(int64); ok {
		if j, ok := y.(int64); ok {
			return integer(i * j), nil
		}
	}
	if a, b, ok := decimalPair(x, y); ok {
		return result(compute(exact.Mul, a, b))
	}
	return p.scale(x, y, exact.Mul, ucum.Unit.Times)
}

func divide(p pos, x, y any) (any, error) {
	if a, b, ok := decimalPair(x, y); ok {
		d, ok := compute(quotient.Quo, a, b)
		return found(d, ok), nil
	}
	return p.scale(x, y, quotient.Quo, ucum.Unit.Over)
}

// scale multiplies or divides quantities.
func (p pos) scale(x, y any, op arithmetic, units func(a, b ucum.Unit) (ucum.Unit, error)) (any, error) {
	q, u, ok := quantities(x, y)
	if !ok {
		return nil, p.fault("operands whose types do not fit")
	}
	if q, ok = product(q, u, op, units); !ok {
		return nil, nil
	}
	return q, nil
}

func wholeDivide(p pos, x, y any) (any, error) {
	d, ok, err := p.computeNumbers(exact.QuoInteger, x, y)
	if err != nil || !ok {
		return nil, err
	}
	return wholeNumber(d), nil
}

func modulo(p pos, x, y any) (any, error) {
	d, ok, err := p.computeNumbers(exact.Rem, x, y)
	if err != nil || !ok {
		return nil, err
	}
	_, isInt1 := x.(int64)
	if _, isInt2 := y.(int64); isInt1 && isInt2 {
		return wholeNumber(d), nil
	}
	return d, nil
}

// computeNumbers is compute for operands that must be numbers.
func (p pos) computeNumbers(op arithmetic, x, y any) (d *apd.Decimal, ok bool, err error) {
	a, b, ok := decimalPair(x, y)
	if !ok {
		return nil, false, p.fault("operands whose types do not fit")
	}
	d, ok = compute(op, a, b)
	return d, ok, nil
}

// wholeNumber returns a decimal as an Integer, nil if it is none.
func wholeNumber(d *apd.Decimal) any {
	n, err := d.Int64()
	if err != nil {
		return nil
	}
	return integer(n)
}

// A sign is + or - before an expression.
type sign struct {
	pos
	minus bool
	on    expr
}

func (s *sign) eval(r *run, focus []Node) ([]Node, error) {
	n, ok, err := s.operand(r, s.on, focus)
	if err != nil || !ok {
		return nil, err
	}
	v := n.Value()
	if !s.minus {
		switch v.(type) {
		case int64, *apd.Decimal, *Quantity:
			return r.one(n), nil
		}
	}
	switch v := v.(type) {
	case int64:
		return r.one(Node{val: -v}), nil
	case *apd.Decimal:
		return r.one(Node{val: new(apd.Decimal).Neg(v)}), nil
	case *Quantity:
		return r.one(Node{val: &Quantity{Value: new(apd.Decimal).Neg(v.Value), Unit: v.Unit, Calendar: v.Calendar}}), nil
	}
	return nil, s.fault("a sign before what is no number")
}
