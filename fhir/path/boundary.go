package path

import (
	"github.com/cockroachdb/apd/v3"

	"github.com/cordon-fhir/cordon/fhir/ucum"
)

// boundaryFunctions tell about the precision of values.
// http://hl7.org/fhirpath/#lowboundaryprecision-integer-decimal--date--datetime--time
var boundaryFunctions = map[string]function{
	"lowBoundary":  {max: 1, eval: boundary(false)},
	"highBoundary": {max: 1, eval: boundary(true)},
	"precision":    {eval: valuePrecision},
	"comparable":   {min: 1, max: 1, eval: comparableQuantities},
}

// timeDigits is how many digits a time has at each precision, with those of
// its fraction at the end.
var timeDigits = [...]int{4, 6, 8, 10, 12, 14, 17}

// clockDigits is how many digits a Time has less than a DateTime.
const clockDigits = 8

// boundary returns the least, or the greatest, value that the input can stand
// for, to the precision given.
func boundary(high bool) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(r *run, c *call, in, focus []Node) ([]Node, error) {
		v, err := c.value(r, in)
		if err != nil || v == nil {
			return nil, err
		}
		digits := -1
		if len(c.args) == 1 {
			n, ok, err := c.intArg(r, 0, focus)
			if err != nil {
				return nil, err
			}
			if ok {
				if digits = n; digits < 0 {
					return nil, nil
				}
			}
		}
		switch v := v.(type) {
		case Time:
			return r.result(v.boundary(digits, high)), nil
		case *Quantity:
			d, ok := decimalBoundary(v.Value, digits, high)
			if !ok {
				return nil, nil
			}
			return r.one(Node{val: &Quantity{Value: d, Unit: v.Unit, Calendar: v.Calendar}}), nil
		}
		d, ok := asDecimal(v)
		if !ok {
			return nil, c.fault("%s is called on what has no precision", c.name)
		}
		if d, ok = decimalBoundary(d, digits, high); !ok {
			return nil, nil
		}
		return r.one(Node{val: d}), nil
	}
}

// decimalBoundary moves d by half of its last digit.
func decimalBoundary(d *apd.Decimal, digits int, high bool) (*apd.Decimal, bool) {
	if digits < 0 {
		digits = 8
	}
	if digits > maxPrecision {
		return nil, false
	}
	half, op, how := apd.New(5, min(d.Exponent, 0)-1), exact.Sub, apd.RoundFloor
	if high {
		op, how = exact.Add, apd.RoundCeiling
	}
	moved, ok := compute(op, d, half)
	if !ok {
		return nil, false
	}
	return roundTo(moved, int32(digits), how)
}

// boundary returns t to so many digits, with its missing parts at their least
// or their greatest; nil if it cannot have so many. A time zone that is missing
// is the easternmost or the westernmost.
func (t Time) boundary(digits int, high bool) any {
	if digits < 0 {
		digits = 17
		if t.kind == dateKind {
			digits = 8
		}
	} else if t.kind == clockKind {
		digits += clockDigits
	}
	want := precision(0)
	for int(want) < len(timeDigits) && timeDigits[want] != digits {
		want++
	}
	first, last := toYear, toSecond+1 // which stands for the fraction
	switch t.kind {
	case dateKind:
		last = toDay
	case clockKind:
		first = toHour
	}
	if want < first || want > last {
		return nil
	}
	if high && t.precision == toHour {
		t.precision = toMinute // FHIR has no times without minutes
	}
	out := t
	out.digits, out.nanos = 0, 0
	for i := t.precision + 1; i <= toSecond; i++ {
		low, top := 0, 59
		switch i {
		case toMonth:
			low, top = 1, 12
		case toDay:
			low, top = 1, daysIn(out.parts[0], out.parts[1])
		case toHour:
			top = 23
		}
		if out.parts[i] = low; high {
			out.parts[i] = top
		}
	}
	if want > toSecond {
		out.digits, out.nanos = 3, t.nanos-t.nanos%1e6
		if high && (t.precision < toSecond || t.digits == 0) {
			out.nanos = 999e6
		}
	}
	if out.precision = min(want, toSecond); t.kind == dateTimeKind && want >= toHour && !t.zoned {
		out.zoned, out.offset = true, 14*60
		if high {
			out.offset = -12 * 60
		}
	}
	if want < toHour {
		out.zoned, out.offset = false, 0
	}
	for i := out.precision + 1; i <= toSecond; i++ {
		out.parts[i] = 0
	}
	return out
}

// valuePrecision returns how many digits a date or time has, or a decimal
// after its point.
func valuePrecision(r *run, c *call, in, _ []Node) ([]Node, error) {
	v, err := c.value(r, in)
	if err != nil || v == nil {
		return nil, err
	}
	if t, ok := v.(Time); ok {
		n := timeDigits[t.precision]
		if t.digits > 0 {
			n = timeDigits[toSecond] + int(t.digits)
		}
		if t.kind == clockKind {
			n -= clockDigits
		}
		return r.one(Node{val: int64(n)}), nil
	}
	d, ok := asDecimal(v)
	if !ok {
		return nil, c.fault("precision is called on what has none")
	}
	return r.one(Node{val: int64(decimals(d))}), nil
}

// comparableQuantities reports whether two quantities measure the same.
func comparableQuantities(r *run, c *call, in, focus []Node) ([]Node, error) {
	v, err := c.value(r, in)
	if err != nil || v == nil {
		return nil, err
	}
	n, ok, err := c.arg(r, 0, focus)
	if err != nil || !ok {
		return nil, err
	}
	q, p, ok := quantities(v, n.Value())
	if !ok {
		return nil, c.fault("comparable is called on what is no quantity")
	}
	for _, x := range []*Quantity{q, p} {
		if code, ok := x.definite(); ok {
			if _, err := ucum.Parse(code); err != nil {
				return boolean(false), nil
			}
		}
	}
	_, known := q.compare(p)
	return boolean(known), nil
}
