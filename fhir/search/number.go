package search

import (
	"math"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir/ucum"
)

// A numberRange is a number of a search with its prefix, the range that its
// precision implies and, for the prefix ap, the range of what is about it.
// https://hl7.org/fhir/R4/search.html#number
type numberRange struct {
	prefix                     string
	v, lo, hi, least, greatest float64
	// spelled are the five in decimal. They are read as the index reads
	// numbers, so that both are rounded in the same way, in any unit.
	spelled [5]string
}

func readNumber(name, text string) (numberRange, error) {
	r := numberRange{}
	r.prefix, text = cutPrefix(text)
	if !isDecimal(text) {
		return r, invalid(name, "is not a number")
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	whole, part, _ := strings.Cut(mantissa, ".")
	scale, err := strconv.Atoi("0" + strings.TrimLeft(exponent, "+-"))
	if strings.HasPrefix(exponent, "-") {
		scale = -scale
	}
	digits, errDigits := strconv.ParseInt(whole+part, 10, 64)
	if err != nil || errDigits != nil || math.Abs(float64(digits)) > 1e17 || scale > 300 || scale < -300 {
		return r, invalid(name, "is a number out of range")
	}
	e := "e" + strconv.Itoa(scale-len(part)-1)
	gap := digits
	if gap < 0 {
		gap = -gap
	}
	for i, tenths := range []int64{10 * digits, 10*digits - 5, 10*digits + 5, 10*digits - max(gap, 5), 10*digits + max(gap, 5)} {
		r.spelled[i] = strconv.FormatInt(tenths, 10) + e
	}
	r.set(func(decimal string) (float64, bool) {
		f, err := strconv.ParseFloat(decimal, 64)
		return f, err == nil
	})
	return r, nil
}

// set works out the numbers of r as they are spelled; ok is false if one of
// them is out of range.
func (r *numberRange) set(read func(decimal string) (float64, bool)) (ok bool) {
	for i, to := range []*float64{&r.v, &r.lo, &r.hi, &r.least, &r.greatest} {
		if *to, ok = read(r.spelled[i]); !ok {
			return false
		}
	}
	return true
}

// isDecimal reports whether s is a decimal of FHIR, which has no leading plus
// and no names such as Inf.
// https://hl7.org/fhir/R4/datatypes.html#decimal
func isDecimal(s string) bool {
	s = strings.TrimPrefix(s, "-")
	mantissa, exponent, hasExponent := strings.Cut(strings.ToLower(s), "e")
	whole, part, hasPart := strings.Cut(mantissa, ".")
	if hasExponent && !isDigits(strings.TrimPrefix(strings.TrimPrefix(exponent, "-"), "+")) || hasPart && !isDigits(part) {
		return false
	}
	return isDigits(whole)
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// bounds returns the bounds for the prefix; a number meets the value if it
// meets all of one list. eq and ne go by the implied precision, unless exact.
// https://hl7.org/fhir/R4/search.html#prefix
func (r numberRange) bounds(exact bool) [][]NumberBound {
	switch r.prefix {
	case "gt":
		return [][]NumberBound{{{Hi, GT, r.v}}}
	case "lt":
		return [][]NumberBound{{{Lo, LT, r.v}}}
	case "ge":
		return [][]NumberBound{{{Hi, GE, r.v}}}
	case "le":
		return [][]NumberBound{{{Lo, LE, r.v}}}
	case "sa":
		return [][]NumberBound{{{Lo, GT, r.v}}}
	case "eb":
		return [][]NumberBound{{{Hi, LT, r.v}}}
	case "ap":
		return [][]NumberBound{{{Lo, LE, r.greatest}, {Hi, GE, r.least}}}
	case "ne":
		if exact {
			return [][]NumberBound{{{Lo, LT, r.v}}, {{Hi, GT, r.v}}}
		}
		return [][]NumberBound{{{Lo, LT, r.lo}}, {{Hi, GE, r.hi}}}
	default:
		if exact {
			return [][]NumberBound{{{Lo, GE, r.v}, {Hi, LE, r.v}}}
		}
		return [][]NumberBound{{{Lo, GE, r.lo}, {Hi, LT, r.hi}}}
	}
}

// number returns the condition that a number parameter sets on e.
func (e element) number(name, text string) (Expr, error) {
	r, err := readNumber(name, text)
	if err != nil {
		return nil, err
	}
	return e.inNumber(e.path, "", r), nil
}

func (e element) inNumber(path Path, unit string, r numberRange) Expr {
	var or Or
	for _, b := range r.bounds(e.all("integer") || e.all("positiveInt") || e.all("unsignedInt")) {
		or = append(or, InNumber{path, unit, b})
	}
	return or.simple()
}

// quantity returns the condition that a quantity parameter sets on e: number,
// or number|system|code, or number||code-or-unit.
// https://hl7.org/fhir/R4/search.html#quantity
func (e element) quantity(name, text string) (Expr, error) {
	list, err := readQuantity(name, text)
	if err != nil {
		return nil, err
	}
	or := Or{}
	for _, m := range list {
		if e.single && m.unit != "" && !m.base {
			or = append(or, And{e.inNumber(e.path, "", m.numberRange), HasText{e.path + unitSuffix, Equals, m.unit}})
			continue
		}
		or = append(or, e.inNumber(e.path, m.unit, m.numberRange))
	}
	return or.simple(), nil
}

// A measured is a number of a search with the unit that the index has it in.
type measured struct {
	numberRange
	unit string
	base bool // the unit is of base units of UCUM
}

// readQuantity returns what the text can stand for.
func readQuantity(name, text string) ([]measured, error) {
	number, unit, hasUnit := strings.Cut(text, "|")
	r, err := readNumber(name, number)
	if err != nil || !hasUnit || unit == "|" {
		return []measured{{numberRange: r}}, err
	}
	at := cut(unit, '|')
	if at < 0 || at == len(unit)-1 {
		return nil, invalid(name, "must be number, number|system|code or number||unit")
	}
	system, err := unescape(name, unit[:at])
	if err != nil {
		return nil, err
	}
	code, err := unescape(name, unit[at+1:])
	if err != nil {
		return nil, err
	}
	switch system {
	case "":
		return []measured{r.in(code), {r, unitOf("", code), false}}, nil
	case ucum.System:
		return []measured{r.in(code)}, nil
	}
	return []measured{{r, unitOf(system, code), false}}, nil
}

// in returns r, which is in the unit of UCUM, in base units, its ranges with
// it. Where that is not known the unit must be the same.
func (r numberRange) in(code string) measured {
	u, err := ucum.Parse(code)
	in := r
	if err != nil || !in.set(u.Float) {
		return measured{r, unitOf(ucum.System, code), false}
	}
	return measured{in, unitOf(ucum.System, u.Canonical()), true}
}

// unitOf spells a unit. Units are case-sensitive: mg is not Mg. A unit of UCUM
// is indexed under its system only, any other also without one, so that
// number||unit finds both. A unit of UCUM that is understood is indexed as the
// base units that it is made of, so that 5.4 g is found as 5400 mg.
func unitOf(system, code string) string { return escape(system) + "|" + escape(code) }
