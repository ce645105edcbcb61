package search

import (
	"math"
	"strconv"
	"strings"
)

// ucum is the code system of units.
// https://hl7.org/fhir/R4/terminologies-systems.html
const ucum = "http://unitsofmeasure.org"

// A numberRange is a number of a search with its prefix and the range that
// its precision implies.
// https://hl7.org/fhir/R4/search.html#number
type numberRange struct {
	prefix    string
	v, lo, hi float64
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
	// The ends are written out in decimal and read as the index reads
	// numbers, so that both are rounded in the same way.
	e := strconv.Itoa(scale - len(part) - 1)
	r.v, _ = strconv.ParseFloat(text, 64)
	r.lo, _ = strconv.ParseFloat(strconv.FormatInt(digits*10-5, 10)+"e"+e, 64)
	r.hi, _ = strconv.ParseFloat(strconv.FormatInt(digits*10+5, 10)+"e"+e, 64)
	return r, nil
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
		gap := math.Abs(r.v) / 10
		return [][]NumberBound{{{Lo, LE, max(r.hi, r.v+gap)}, {Hi, GE, min(r.lo, r.v-gap)}}}
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
	return e.inNumber(e.path, []string{""}, r), nil
}

func (e element) inNumber(path Path, units []string, r numberRange) Expr {
	var or Or
	for _, unit := range units {
		for _, b := range r.bounds(e.all("integer") || e.all("positiveInt") || e.all("unsignedInt")) {
			or = append(or, InNumber{path, unit, b})
		}
	}
	return or.simple()
}

// quantity returns the condition that a quantity parameter sets on e: number,
// or number|system|code, or number||code-or-unit.
// https://hl7.org/fhir/R4/search.html#quantity
func (e element) quantity(name, text string) (Expr, error) {
	r, units, err := readQuantity(name, text)
	if err != nil {
		return nil, err
	}
	if !e.single || units[0] == "" {
		return e.inNumber(e.path, units, r), nil
	}
	or := Or{}
	for _, u := range units {
		or = append(or, HasText{e.path + unitSuffix, Equals, u})
	}
	return And{e.inNumber(e.path, []string{""}, r), or.simple()}, nil
}

// readQuantity also returns the spellings that the unit has in the index.
func readQuantity(name, text string) (r numberRange, units []string, err error) {
	number, unit, hasUnit := strings.Cut(text, "|")
	if r, err = readNumber(name, number); err != nil || !hasUnit || unit == "|" {
		return r, []string{""}, err
	}
	at := cut(unit, '|')
	if at < 0 || at == len(unit)-1 {
		return r, nil, invalid(name, "must be number, number|system|code or number||unit")
	}
	system, err := unescape(name, unit[:at])
	if err != nil {
		return r, nil, err
	}
	code, err := unescape(name, unit[at+1:])
	if err != nil {
		return r, nil, err
	}
	if system == "" {
		return r, []string{unitOf(ucum, code), unitOf("", code)}, nil
	}
	return r, []string{unitOf(system, code)}, nil
}

// unitOf spells a unit. Units are case-sensitive: mg is not Mg. A unit of UCUM
// is indexed under its system only, any other also without one, so that
// number||unit finds both.
func unitOf(system, code string) string { return escape(system) + "|" + escape(code) }
