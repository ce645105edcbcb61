// Package ucum reads units of the Unified Code for Units of Measure and
// converts quantities between them.
//
// https://ucum.org/ucum
package ucum

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cordon-fhir/cordon/fhir"
)

// System is the code system of the units.
// https://hl7.org/fhir/R4/terminologies-systems.html
const System = "http://unitsofmeasure.org"

// A Unit is what a unit expression means: so much of a product of base units.
// The zero Unit is that of no expression.
type Unit struct {
	// scale and offset give the value in base units: value×scale + offset.
	// The offset is nil but for temperatures such as Cel.
	scale, offset *big.Rat
	dimension     []power
	canonical     string
	// alone says that the unit is of no ratio scale, so that it has no
	// products and no powers.
	alone bool
	quick quick
}

// A power is a base unit with its exponent.
type power struct {
	base string
	exp  int
}

// Parse reads a unit expression in the case-sensitive form, such as "mg/dL".
// The error is a *fhir.Error that does not hold the code. What a unit means is
// remembered, so that Parse of a common one costs little.
// https://ucum.org/ucum#section-Syntax-Rules
func Parse(code string) (Unit, error) {
	if found, ok := known.Load(code); ok {
		return found.(*parsed).of()
	}
	p := &parsed{}
	p.unit, p.err = parse(code)
	if len(code) <= maxLength && knownCount.Add(1) <= maxKnown {
		known.Store(strings.Clone(code), p)
	}
	return p.of()
}

// maxKnown bounds how many codes are remembered. There are some thousands in
// use; whatever else is sent must not fill the memory.
const maxKnown = 20_000

var (
	known      sync.Map // code → *parsed
	knownCount atomic.Int64
)

type parsed struct {
	unit Unit
	err  *fhir.Error
}

// of returns what was parsed. The caller may add to its error.
func (p *parsed) of() (Unit, error) {
	if p.err != nil {
		return Unit{}, fhir.Errorf(p.err.Code(), "%s", p.err.Issues[0].Diagnostics)
	}
	return p.unit, nil
}

// Canonical names the base units that u is measured in, "g.m-3", or "1" if it
// has none. Units whose Canonical is equal measure the same and can be compared.
func (u Unit) Canonical() string { return u.canonical }

// ToBase returns the value v of unit u in base units, exactly.
func (u Unit) ToBase(v *big.Rat) *big.Rat {
	out := new(big.Rat).Mul(v, u.scale)
	if u.offset != nil {
		out.Add(out, u.offset)
	}
	return out
}

// FromBase returns the value v in base units as a value of unit u, exactly.
func (u Unit) FromBase(v *big.Rat) *big.Rat {
	out := new(big.Rat).Set(v)
	if u.offset != nil {
		out.Sub(out, u.offset)
	}
	return out.Quo(out, u.scale)
}

// Convert returns the value v of one unit as a value of another, exactly. ok is
// false if they do not measure the same.
func Convert(v *big.Rat, from, to Unit) (_ *big.Rat, ok bool) {
	if from.canonical == "" || from.canonical != to.canonical {
		return nil, false
	}
	return to.FromBase(from.ToBase(v)), true
}

// Times returns the unit of a product. The error is a *fhir.Error: Celsius and
// other units that are of no ratio scale have none.
func (u Unit) Times(o Unit) (Unit, error) { return u.combined(o, 1) }

// Over returns the unit of a quotient; errors are as for Times.
func (u Unit) Over(o Unit) (Unit, error) { return u.combined(o, -1) }

func (u Unit) combined(o Unit, exp int) (Unit, error) {
	var r reader
	p, err := r.power(o, exp)
	if err == nil {
		p, err = r.product(u, p)
	}
	if err != nil {
		return Unit{}, err
	}
	return p.named(), nil
}

// one is the unit of numbers.
func one() Unit { return Unit{scale: big.NewRat(1, 1)} }

// named returns u with what is worked out of its parts.
func (u Unit) named() Unit {
	var b strings.Builder
	for _, p := range u.dimension {
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(p.base)
		if p.exp != 1 {
			b.WriteString(strconv.Itoa(p.exp))
		}
	}
	if u.canonical = b.String(); u.canonical == "" {
		u.canonical = "1"
	}
	u.quick = quickOf(u)
	return u
}

// add returns the powers of a and b together, in order of base unit.
func add(a, b []power) []power {
	sum := slices.Clone(a)
	for _, p := range b {
		i, found := slices.BinarySearchFunc(sum, p, func(x, y power) int { return strings.Compare(x.base, y.base) })
		if !found {
			sum = slices.Insert(sum, i, p)
			continue
		}
		if sum[i].exp += p.exp; sum[i].exp == 0 {
			sum = slices.Delete(sum, i, i+1)
		}
	}
	return sum
}
