package path

import (
	"math"
	"strconv"

	"github.com/cockroachdb/apd/v3"
)

// mathFunctions work on numbers. Where there is no result, as for the root of
// a negative number, they yield nothing.
// http://hl7.org/fhirpath/N1/#math
var mathFunctions = map[string]function{
	"abs":      {eval: numeric(abs)},
	"ceiling":  {eval: numeric(toWhole(apd.RoundCeiling))},
	"floor":    {eval: numeric(toWhole(apd.RoundFloor))},
	"truncate": {eval: numeric(toWhole(apd.RoundDown))},
	"exp":      {eval: numeric(float(math.Exp))},
	"ln":       {eval: numeric(float(math.Log))},
	"sqrt": {eval: numeric(func(v any) any {
		d, ok := asDecimal(v)
		if !ok || d.Negative && !d.IsZero() {
			return nil
		}
		return found(compute(func(d, x, _ *apd.Decimal) (apd.Condition, error) { return quotient.Sqrt(d, x) }, d, nil))
	})},
	"log":   {min: 1, max: 1, eval: binaryNumeric(log)},
	"power": {min: 1, max: 1, eval: binaryNumeric(power)},
	"round": {max: 1, eval: round},
}

// found returns d as a value, nil if there is none.
func found(d *apd.Decimal, ok bool) any {
	if !ok {
		return nil
	}
	return trimmed(d)
}

func isNumber(v any) bool {
	switch v.(type) {
	case int64, *apd.Decimal, *Quantity:
		return true
	}
	return false
}

// number returns the input as a number; nil if it is empty.
func (c *call) number(r *run, in []Node) (any, error) {
	v, err := c.value(r, in)
	if err == nil && v == nil && len(in) == 0 {
		return nil, nil
	}
	if err == nil && !isNumber(v) {
		return nil, c.fault("%s is called on what is no number", c.name)
	}
	return v, err
}

func numeric(op func(any) any) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(r *run, c *call, in, _ []Node) ([]Node, error) {
		v, err := c.number(r, in)
		if err != nil || v == nil {
			return nil, err
		}
		return r.result(op(v)), r.step(8)
	}
}

func binaryNumeric(op func(x, y any) any) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(r *run, c *call, in, focus []Node) ([]Node, error) {
		x, err := c.number(r, in)
		if err != nil || x == nil {
			return nil, err
		}
		n, ok, err := c.arg(r, 0, focus)
		if err != nil || !ok {
			return nil, err
		}
		y := n.Value()
		if !isNumber(y) {
			return nil, c.fault("an argument of %s that is no number", c.name)
		}
		return r.result(op(x, y)), r.step(64)
	}
}

func abs(v any) any {
	switch v := v.(type) {
	case int64:
		return max(v, -v)
	case *Quantity:
		return &Quantity{Value: new(apd.Decimal).Abs(v.Value), Unit: v.Unit, Calendar: v.Calendar}
	}
	return new(apd.Decimal).Abs(v.(*apd.Decimal))
}

func toWhole(how apd.Rounder) func(any) any {
	return func(v any) any {
		d, ok := asDecimal(v)
		if !ok {
			return nil
		}
		w, ok := roundTo(d, 0, how)
		if !ok {
			return nil
		}
		return wholeNumber(w)
	}
}

// float applies what has no exact result. Fifteen digits of it are right.
func float(op func(float64) float64) func(any) any {
	return func(v any) any {
		d, ok := asDecimal(v)
		if !ok {
			return nil
		}
		f, _ := strconv.ParseFloat(d.Text('e'), 64)
		return fromFloat(op(f))
	}
}

func fromFloat(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	return found(parseDecimal(strconv.FormatFloat(f, 'e', 14, 64)))
}

func log(x, y any) any {
	a, ok1 := asDecimal(x)
	b, ok2 := asDecimal(y)
	if !ok1 || !ok2 {
		return nil
	}
	f, _ := a.Float64()
	g, _ := b.Float64()
	return fromFloat(math.Log(f) / math.Log(g))
}

// maxPower is the largest exponent for which a power is computed exactly.
const maxPower = 200

func power(x, y any) any {
	if n, ok := y.(int64); ok && n >= 0 && n <= maxPower {
		if a, ok := asDecimal(x); ok {
			d := apd.New(1, 0)
			for range n {
				if d, ok = compute(exact.Mul, d, a); !ok {
					return nil
				}
			}
			if _, isInt := x.(int64); isInt {
				return wholeNumber(d)
			}
			return d
		}
	}
	a, ok1 := asDecimal(x)
	b, ok2 := asDecimal(y)
	if !ok1 || !ok2 {
		return nil
	}
	f, _ := a.Float64()
	g, _ := b.Float64()
	return fromFloat(math.Pow(f, g))
}

// maxPrecision is how many digits after the point can be asked for.
const maxPrecision = 28

func round(r *run, c *call, in, focus []Node) ([]Node, error) {
	v, err := c.number(r, in)
	if err != nil || v == nil {
		return nil, err
	}
	digits := 0
	if len(c.args) == 1 {
		var ok bool
		if digits, ok, err = c.intArg(r, 0, focus); err != nil || !ok {
			return nil, err
		}
	}
	if digits < 0 || digits > maxPrecision {
		return nil, c.fault("round takes 0 to %d digits", maxPrecision)
	}
	q, isQuantity := v.(*Quantity)
	d, ok := asDecimal(v)
	if isQuantity {
		d, ok = q.Value, true
	}
	if ok {
		d, ok = roundTo(d, int32(digits), apd.RoundHalfUp)
	}
	switch {
	case !ok:
		return nil, nil
	case isQuantity:
		return r.one(Node{val: &Quantity{Value: d, Unit: q.Unit, Calendar: q.Calendar}}), nil
	}
	return r.one(Node{val: d}), nil
}
