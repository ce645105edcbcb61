package ucum

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Float returns the value of unit u that a decimal of FHIR spells, in base
// units and rounded once: quantities that are equal have equal Floats, whatever
// their units. ok is false if the text is no decimal or out of range.
func (u Unit) Float(decimal string) (v float64, ok bool) {
	digits, exp, ok := split(decimal)
	if ok && u.offset == nil {
		if v, exact := u.quick.times(digits, exp); exact {
			return v, true
		}
	}
	r, ok := rat(decimal)
	if !ok {
		return 0, false
	}
	v, _ = u.ToBase(r).Float64()
	return v, !math.IsInf(v, 0)
}

// maxScale bounds the exponents of decimals: 1e999999999 would fill the memory.
const maxScale = 400

// rat reads a decimal exactly.
func rat(decimal string) (*big.Rat, bool) {
	mantissa, exponent, has := strings.Cut(strings.ToLower(decimal), "e")
	if has {
		n, err := strconv.Atoi(exponent)
		if err != nil || n > maxScale || n < -maxScale {
			return nil, false
		}
	}
	if len(mantissa) > maxScale || strings.Trim(mantissa, "-.0123456789") != "" {
		return nil, false
	}
	return new(big.Rat).SetString(decimal)
}

// split reads a decimal of few digits as digits×10^exp; ok is false if it
// has more, or an exponent.
func split(decimal string) (digits int64, exp int, ok bool) {
	text := strings.TrimPrefix(decimal, "-")
	if text == "" || len(text) > 16 {
		return 0, 0, false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case '0' <= c && c <= '9':
			digits = 10*digits + int64(c-'0')
		case c == '.' && exp == 0 && i > 0 && i < len(text)-1:
			exp = i + 1 - len(text)
		default:
			return 0, 0, false
		}
	}
	if len(text) < len(decimal) {
		digits = -digits
	}
	return digits, exp, true
}

// quick is a scale num/den × 10^exp of small numbers, so that most values are
// converted by one operation on two numbers that float64 holds exactly: its
// result is rounded once, as that of the exact arithmetic is.
type quick struct {
	num, den int64 // 0 if the scale is no such number
	exp      int
}

const exactInt = 1 << 53

func quickOf(u Unit) quick {
	num, den := new(big.Int).Set(u.scale.Num()), new(big.Int).Set(u.scale.Denom())
	ten, rest := big.NewInt(10), new(big.Int)
	q := quick{}
	strip := func(n *big.Int, by int) {
		for next := new(big.Int); ; q.exp += by {
			if next.QuoRem(n, ten, rest); rest.Sign() != 0 {
				return
			}
			n.Set(next)
		}
	}
	strip(num, 1)
	strip(den, -1)
	if num.CmpAbs(big.NewInt(exactInt)) > 0 || den.CmpAbs(big.NewInt(exactInt)) > 0 {
		return quick{}
	}
	q.num, q.den = num.Int64(), den.Int64()
	return q
}

// times returns digits×10^exp×q; exact is false if that takes more than one
// rounding.
func (q quick) times(digits int64, exp int) (v float64, exact bool) {
	if q.num == 0 || digits > exactInt/q.num || digits < -exactInt/q.num {
		return 0, false
	}
	num, den := digits*q.num, q.den
	switch exp += q.exp; {
	case exp == 0:
		return float64(num) / float64(den), true
	case exp > 0 && exp < len(tens) && den == 1:
		return float64(num) * tens[exp], true
	case exp < 0 && -exp < len(tens) && den == 1:
		return float64(num) / tens[-exp], true
	}
	return 0, false
}

// tens are the powers of ten that float64 holds exactly.
var tens = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}
