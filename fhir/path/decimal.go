package path

import (
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// Bounds on decimals. R4 asks for 18 digits at least; what division yields is
// cut at as many digits as a document's longest number has.
const (
	maxDigits   = 64
	maxExponent = 400
)

// exact is the arithmetic of decimals.
// http://hl7.org/fhirpath/N1/#math-2
var exact = apd.Context{
	Precision:   maxDigits,
	MaxExponent: maxExponent,
	MinExponent: -maxExponent,
	Traps:       apd.DefaultTraps &^ (apd.Subnormal | apd.Underflow),
	Rounding:    apd.RoundHalfUp,
}

// quotient is the arithmetic of what has no exact result, such as 1 / 3.
var quotient = *exact.WithPrecision(34)

// parseDecimal reads a number with an optional fraction and exponent.
func parseDecimal(s string) (*apd.Decimal, bool) {
	if len(s) > maxDigits || strings.ContainsAny(s, "_nNiI") {
		return nil, false
	}
	d, cond, err := exact.NewFromString(s)
	if err != nil || cond.Overflow() || d.Form != apd.Finite || d.Exponent > maxExponent || d.Exponent < -maxExponent {
		return nil, false
	}
	return d, true
}

// asDecimal returns an integer or a decimal as a decimal.
func asDecimal(v any) (*apd.Decimal, bool) {
	switch v := v.(type) {
	case int64:
		return apd.New(v, 0), true
	case *apd.Decimal:
		return v, true
	}
	return nil, false
}

// decimals returns how many digits d has after the point.
func decimals(d *apd.Decimal) int32 { return max(-d.Exponent, 0) }

// roundTo returns d with n digits after the point.
func roundTo(d *apd.Decimal, n int32, how apd.Rounder) (*apd.Decimal, bool) {
	c := exact
	c.Rounding = how
	out := new(apd.Decimal)
	cond, err := c.Quantize(out, d, -n)
	// Quantize does not round up or down what has no digit where it cuts.
	if err == nil && out.IsZero() && !d.IsZero() && d.NumDigits()+int64(d.Exponent+n) < 0 &&
		(how == apd.RoundCeiling && !d.Negative || how == apd.RoundFloor && d.Negative) {
		out.SetFinite(1, -n)
		out.Negative = d.Negative
	}
	return out, err == nil && !cond.InvalidOperation()
}

// trimmed returns d without zeros at the end.
func trimmed(d *apd.Decimal) *apd.Decimal {
	out, _ := new(apd.Decimal).Reduce(d)
	return out
}
