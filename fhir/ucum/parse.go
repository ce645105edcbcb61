package ucum

import (
	"math/big"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// Limits of one expression, far above what is in use.
const (
	maxLength   = 100
	maxDepth    = 8
	maxExponent = 50
	maxBits     = 2048 // of the numerator or denominator of a scale
)

// The errors hold no code: it may be what somebody typed into the wrong field.

func errSyntax() *fhir.Error {
	return fhir.Errorf(fhir.Invalid, "the unit is not an expression of UCUM")
}

func errAtom() *fhir.Error {
	return fhir.Errorf(fhir.Invalid, "the unit has a part that is not a known unit of UCUM")
}

func errAlone() *fhir.Error {
	return fhir.Errorf(fhir.Invalid, "the unit has a part on a scale of its own, which takes no products or powers")
}

func errLarge() *fhir.Error {
	return fhir.Errorf(fhir.TooCostly, "the unit is too large an expression")
}

func parse(code string) (Unit, *fhir.Error) {
	if len(code) > maxLength {
		return Unit{}, errLarge()
	}
	if code == "" {
		return Unit{}, errSyntax()
	}
	r := reader{text: code}
	u, err := r.term()
	if err == nil && r.at < len(r.text) {
		err = errSyntax()
	}
	if err != nil {
		return Unit{}, err
	}
	return u.named(), nil
}

// A reader reads one expression from left to right.
type reader struct {
	text  string
	at    int
	depth int
}

// next returns the character to be read, 0 at the end.
func (r *reader) next() byte {
	if r.at == len(r.text) {
		return 0
	}
	return r.text[r.at]
}

// skip passes over c if it is next.
func (r *reader) skip(c byte) bool {
	if r.next() != c || c == 0 {
		return false
	}
	r.at++
	return true
}

// term reads components with dots and slashes between them, from left to
// right: a/b.c is (a/b).c.
func (r *reader) term() (Unit, *fhir.Error) {
	if r.depth++; r.depth > maxDepth {
		return Unit{}, errLarge()
	}
	defer func() { r.depth-- }()
	u, divide := one(), r.skip('/')
	for {
		c, err := r.component()
		if err == nil && divide {
			c, err = r.power(c, -1)
		}
		if err == nil {
			u, err = r.product(u, c)
		}
		if err != nil {
			return Unit{}, err
		}
		if divide = r.skip('/'); !divide && !r.skip('.') {
			return u, nil
		}
	}
}

// component reads a unit with its exponent and annotation, a number, or a term
// in parentheses.
func (r *reader) component() (Unit, *fhir.Error) {
	var u Unit
	var err *fhir.Error
	switch c := r.next(); {
	case c == '{':
		return one(), r.annotation()
	case c == '(':
		r.at++
		if u, err = r.term(); err == nil && !r.skip(')') {
			err = errSyntax()
		}
		return u, err
	case '0' <= c && c <= '9' && !r.ten():
		u, err = r.factor()
	default:
		u, err = r.simple()
	}
	if err == nil && r.next() == '{' {
		err = r.annotation()
	}
	return u, err
}

// ten reports whether 10* or 10^ comes next, which are units.
func (r *reader) ten() bool {
	rest := r.text[r.at:]
	return strings.HasPrefix(rest, "10*") || strings.HasPrefix(rest, "10^")
}

// annotation passes over {…}, which means nothing.
func (r *reader) annotation() *fhir.Error {
	for r.at++; ; r.at++ {
		switch c := r.next(); {
		case c == '}':
			r.at++
			return nil
		case c < 0x20 || c > 0x7e || c == '{':
			return errSyntax()
		}
	}
}

func (r *reader) digits() string {
	begin := r.at
	for c := r.next(); '0' <= c && c <= '9'; c = r.next() {
		r.at++
	}
	return r.text[begin:r.at]
}

func (r *reader) factor() (Unit, *fhir.Error) {
	n, ok := new(big.Rat).SetString(r.digits())
	if !ok || n.Sign() == 0 {
		return Unit{}, errSyntax()
	}
	return Unit{scale: n}, nil
}

// simple reads an atom with its prefix and exponent.
func (r *reader) simple() (Unit, *fhir.Error) {
	u, err := find(r.symbol())
	if err != nil {
		return u, err
	}
	exp, signed := 1, false
	if c := r.next(); c == '+' || c == '-' {
		r.at++
		signed = true
		if c == '-' {
			exp = -1
		}
	}
	digits := r.digits()
	if digits == "" {
		if signed {
			return Unit{}, errSyntax()
		}
		return u, nil
	}
	n := 0
	for _, c := range digits {
		if n = 10*n + int(c-'0'); n > maxExponent {
			return Unit{}, errLarge()
		}
	}
	return r.power(u, exp*n)
}

// symbol reads up to what cannot be in a symbol. In square brackets it can be
// anything.
func (r *reader) symbol() string {
	begin := r.at
	if r.ten() {
		r.at += len("10*")
		return r.text[begin:r.at]
	}
	for c := r.next(); c > 0x20 && c < 0x7f && !strings.ContainsRune("+-./(){}]0123456789", rune(c)); c = r.next() {
		if c == '[' {
			end := strings.IndexByte(r.text[r.at:], ']')
			if end < 0 {
				break
			}
			r.at += end
		}
		r.at++
	}
	// The number in the names of two calories and of a volt's reference is
	// part of them.
	if s := r.text[begin:r.at]; strings.HasSuffix(s, "_") {
		r.digits()
	}
	return r.text[begin:r.at]
}

// power returns u to the power of exp.
func (r *reader) power(u Unit, exp int) (Unit, *fhir.Error) {
	if exp == 1 {
		return u, nil
	}
	if u.alone {
		return Unit{}, errAlone()
	}
	n := exp
	if exp < 0 {
		n = -exp
	}
	out := one()
	for range n {
		out.scale.Mul(out.scale, u.scale)
		if tooLarge(out.scale) {
			return Unit{}, errLarge()
		}
	}
	if exp < 0 {
		out.scale.Inv(out.scale)
	}
	for _, p := range u.dimension {
		if p.exp *= exp; p.exp != 0 {
			out.dimension = append(out.dimension, p)
		}
	}
	return out, nil
}

// product returns a times b.
func (r *reader) product(a, b Unit) (Unit, *fhir.Error) {
	if a.plain() {
		return b, nil
	}
	if b.plain() {
		return a, nil
	}
	if a.alone || b.alone {
		return Unit{}, errAlone()
	}
	out := Unit{scale: new(big.Rat).Mul(a.scale, b.scale), dimension: add(a.dimension, b.dimension)}
	if tooLarge(out.scale) {
		return Unit{}, errLarge()
	}
	return out, nil
}

// plain reports whether u is the number one.
func (u Unit) plain() bool {
	return !u.alone && len(u.dimension) == 0 && u.scale.IsInt() && u.scale.Num().IsInt64() && u.scale.Num().Int64() == 1
}

func tooLarge(v *big.Rat) bool { return v.Num().BitLen() > maxBits || v.Denom().BitLen() > maxBits }
