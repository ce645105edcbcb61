package path

import (
	"math/big"

	"github.com/cockroachdb/apd/v3"
	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir/ucum"
)

// A Quantity is a value with a unit: a code of UCUM, or a calendar duration
// such as month, whose length depends on the date it is added to.
// http://hl7.org/fhirpath/N1/#quantity
type Quantity struct {
	Value    *apd.Decimal
	Unit     string
	Calendar bool

	// inFHIR says that it is in a resource, where years and months are always
	// those of the calendar.
	inFHIR bool
}

// calendar maps the words for calendar durations to their singular.
// http://hl7.org/fhirpath/N1/#time-valued-quantities
var calendar = map[string]string{
	"year": "year", "years": "year", "month": "month", "months": "month", "week": "week", "weeks": "week",
	"day": "day", "days": "day", "hour": "hour", "hours": "hour", "minute": "minute", "minutes": "minute",
	"second": "second", "seconds": "second", "millisecond": "millisecond", "milliseconds": "millisecond",
}

// calendarUCUM maps the calendar durations to the units of UCUM that have
// their name. Years and months differ from those in length.
var calendarUCUM = map[string]string{
	"year": "a", "month": "mo", "week": "wk", "day": "d", "hour": "h", "minute": "min", "second": "s", "millisecond": "ms",
}

// quantity returns an element of type Quantity, or of a type derived from it,
// as a value of FHIRPath; nil if it cannot be one. A comparator makes it a
// range, which is none.
func (n Node) quantity() *Quantity {
	if n.typ == nil || n.json == nil {
		return nil
	}
	if name := n.typ.Path; name != "Quantity" && superType(name) != "Quantity" {
		return nil
	}
	d := decimalOf(n.json.Get("value"))
	if d == nil || n.json.Exists("comparator") {
		return nil
	}
	q := &Quantity{Value: d, Unit: text(n.json, "unit"), inFHIR: true}
	if text(n.json, "system") == ucum.System {
		q.Unit = text(n.json, "code")
	}
	if q.Unit == "" {
		q.Unit = "1"
	}
	return q
}

func text(v *fastjson.Value, name string) string { return string(v.GetStringBytes(name)) }

// String returns q as FHIRPath writes it.
func (q *Quantity) String() string {
	if q.Calendar {
		return q.Value.Text('f') + " " + q.Unit
	}
	return q.Value.Text('f') + " '" + q.Unit + "'"
}

// definite returns the code of UCUM for the unit of q. Years and months of the
// calendar have none.
func (q *Quantity) definite() (code string, ok bool) {
	if !q.Calendar {
		return q.Unit, true
	}
	word := calendar[q.Unit]
	return calendarUCUM[word], word != "year" && word != "month"
}

// base returns the value of q in base units, and the name of those. Quantities
// whose base units are equal can be compared.
func (q *Quantity) base() (v *big.Rat, units string) {
	v = rational(q.Value)
	code, ok := q.definite()
	if !ok {
		if calendar[q.Unit] == "year" {
			v.Mul(v, big.NewRat(12, 1))
		}
		return v, "months"
	}
	u, err := ucum.Parse(code)
	if err != nil {
		return v, "other: " + code
	}
	return u.ToBase(v), u.Canonical()
}

// rational returns d, whose exponent is bounded, as a fraction.
func rational(d *apd.Decimal) *big.Rat {
	r, _ := new(big.Rat).SetString(d.Text('E'))
	return r
}

// compare orders two quantities. known is false if they do not measure the
// same.
func (q *Quantity) compare(p *Quantity) (order int, known bool) {
	if q.Unit == p.Unit && q.Calendar == p.Calendar {
		return q.Value.Cmp(p.Value), true
	}
	a, units := q.base()
	b, others := p.base()
	return a.Cmp(b), units == others
}

// in returns q in the unit of p.
func (q *Quantity) in(p *Quantity) (*Quantity, bool) {
	if q.Unit == p.Unit && q.Calendar == p.Calendar {
		return q, true
	}
	v, units := q.base()
	one, others := (&Quantity{Value: apd.New(1, 0), Unit: p.Unit, Calendar: p.Calendar}).base()
	if units != others {
		return nil, false
	}
	if code, ok := p.definite(); ok {
		if u, err := ucum.Parse(code); err == nil {
			v = u.FromBase(v)
		}
	} else {
		v.Quo(v, one)
	}
	d, ok := fromRational(v)
	return &Quantity{Value: d, Unit: p.Unit, Calendar: p.Calendar}, ok
}

// fromRational returns r as a decimal, rounded if it has none.
func fromRational(r *big.Rat) (*apd.Decimal, bool) {
	num, den := new(apd.BigInt).SetMathBigInt(r.Num()), new(apd.BigInt).SetMathBigInt(r.Denom())
	d := new(apd.Decimal)
	_, err := exact.Quo(d, apd.NewWithBigInt(num, 0), apd.NewWithBigInt(den, 0))
	if err != nil {
		return nil, false
	}
	return trimmed(d), true
}

// equivalent compares two quantities to the precision of the less precise. A
// year or month of the calendar is equivalent to that of UCUM.
func (q *Quantity) equivalent(p *Quantity) bool {
	a, b := *q, *p
	for _, x := range []*Quantity{&a, &b} {
		if x.Calendar {
			x.Unit, x.Calendar = calendarUCUM[calendar[x.Unit]], false
		}
	}
	c, ok := b.in(&a)
	return ok && equivalentDecimals(a.Value, c.Value)
}

// product multiplies two quantities, or divides them.
// http://hl7.org/fhirpath/N1/#math-2
func product(q, p *Quantity, op arithmetic, units func(a, b ucum.Unit) (ucum.Unit, error)) (*Quantity, bool) {
	var v [2]*apd.Decimal
	var u [2]ucum.Unit
	for i, x := range []*Quantity{q, p} {
		code, ok := x.definite()
		if !ok {
			return nil, false
		}
		var err error
		if u[i], err = ucum.Parse(code); err != nil {
			return nil, false
		}
		if v[i], ok = fromRational(u[i].ToBase(rational(x.Value))); !ok {
			return nil, false
		}
	}
	unit, err := units(u[0], u[1])
	if err != nil {
		return nil, false
	}
	d, ok := compute(op, v[0], v[1])
	return &Quantity{Value: d, Unit: unit.Canonical()}, ok
}
