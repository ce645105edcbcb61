package search

import (
	"strings"
	"time"
)

// parseDate reads a date, dateTime or instant as the time that it covers:
// from lo to before hi. Without a zone it is in UTC. Seconds may be missing.
// https://hl7.org/fhir/R4/datatypes.html#dateTime
func parseDate(s string) (lo, hi time.Time, ok bool) {
	n := [6]int{0, 1, 1} // year, month, day, hour, minute, second
	sep := [6]byte{0, '-', '-', 'T', ':', ':'}
	have, at := 0, 0
	for ; have < len(n); have++ {
		width := 2
		if have == 0 {
			width = 4
		} else if at == len(s) || s[at] != sep[have] {
			break
		} else {
			at++
		}
		if n[have], ok = digits(s, at, width); !ok {
			return lo, hi, false
		}
		at += width
	}
	if have == 4 {
		return lo, hi, false // an hour needs its minutes
	}
	precision := time.Minute
	nanos := 0
	if have == 6 {
		precision = time.Second
		nanos, precision, at, ok = fraction(s, at)
		if !ok {
			return lo, hi, false
		}
	}
	offset := time.Duration(0)
	if have >= 5 {
		if offset, at, ok = parseZone(s, at); !ok {
			return lo, hi, false
		}
	}
	leap := 0
	if n[5] == 60 {
		n[5], leap = 59, 1
	}
	lo = time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], nanos, time.UTC)
	if at != len(s) || n[0] < 1 || n[1] < 1 || n[1] > 12 || n[3] > 23 || n[4] > 59 || n[5] > 59 || lo.Day() != n[2] {
		return lo, hi, false
	}
	lo = lo.Add(time.Duration(leap)*time.Second - offset)
	switch have {
	case 1:
		hi = lo.AddDate(1, 0, 0)
	case 2:
		hi = lo.AddDate(0, 1, 0)
	case 3:
		hi = lo.AddDate(0, 0, 1)
	default:
		hi = lo.Add(precision)
	}
	if hi.After(Forever) {
		hi = Forever
	}
	return lo, hi, true
}

// digits reads the number of the width at s[at].
func digits(s string, at, width int) (n int, ok bool) {
	if at+width > len(s) {
		return 0, false
	}
	for _, c := range []byte(s[at : at+width]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// fraction reads the fraction of a second at s[at], if there is one. What is
// finer than a microsecond is dropped: an index keeps no more.
func fraction(s string, at int) (nanos int, precision time.Duration, end int, ok bool) {
	precision = time.Second
	if at == len(s) || s[at] != '.' {
		return 0, precision, at, true
	}
	for at++; at < len(s) && s[at] >= '0' && s[at] <= '9'; at++ {
		if precision > time.Microsecond {
			precision /= 10
			nanos += int(s[at]-'0') * int(precision)
		}
	}
	return nanos, precision, at, precision < time.Second
}

// parseZone reads the offset of the zone at s[at], if there is one.
func parseZone(s string, at int) (offset time.Duration, end int, ok bool) {
	switch {
	case at == len(s):
		return 0, at, true
	case s[at] == 'Z':
		return 0, at + 1, true
	case (s[at] == '+' || s[at] == '-') && len(s) == at+6 && s[at+3] == ':':
		h, ok1 := digits(s, at+1, 2)
		m, ok2 := digits(s, at+4, 2)
		offset = time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
		if s[at] == '-' {
			offset = -offset
		}
		return offset, at + 6, ok1 && ok2 && h <= 14 && m <= 59
	}
	return 0, at, false
}

// now tells the time for the prefix ap; tests set it.
var now = time.Now

// A dateRange is the range of a search value, with its prefix.
type dateRange struct {
	prefix string
	lo, hi time.Time
}

func readDate(name, text string) (dateRange, error) {
	r := dateRange{}
	r.prefix, text = cutPrefix(text)
	var ok bool
	if r.lo, r.hi, ok = parseDate(text); !ok {
		return r, invalid(name, "is not a date or time such as 2010-10-30, 2010-10 or 2010-10-30T08:15:00Z")
	}
	return r, nil
}

// bounds returns the bounds for the prefix; a date range meets the value if it
// meets all of one list.
// https://hl7.org/fhir/R4/search.html#prefix
func (r dateRange) bounds() [][]DateBound {
	switch r.prefix {
	case "ne":
		return [][]DateBound{{{Lo, LT, r.lo}}, {{Hi, GT, r.hi}}}
	case "gt":
		return [][]DateBound{{{Hi, GT, r.hi}}}
	case "lt":
		return [][]DateBound{{{Lo, LT, r.lo}}}
	case "ge": // overlaps what is above, or is contained
		return [][]DateBound{{{Lo, GE, r.lo}}, {{Hi, GT, r.hi}}}
	case "le":
		return [][]DateBound{{{Lo, LT, r.lo}}, {{Hi, LE, r.hi}}}
	case "sa":
		return [][]DateBound{{{Lo, GE, r.hi}}}
	case "eb":
		return [][]DateBound{{{Hi, LE, r.lo}}}
	case "ap":
		gap := now().Sub(r.lo) / 10
		if gap < 0 {
			gap = -gap
		}
		return [][]DateBound{{{Lo, LT, r.hi.Add(gap)}, {Hi, GT, r.lo.Add(-gap)}}}
	default:
		return [][]DateBound{{{Lo, GE, r.lo}, {Hi, LE, r.hi}}}
	}
}

// date returns the condition that a date parameter sets on e.
func (e element) date(name, text string) (Expr, error) {
	r, err := readDate(name, text)
	if err != nil {
		return nil, err
	}
	var or Or
	for _, b := range r.bounds() {
		or = append(or, InDate{e.path, e.narrow(b)})
	}
	return or.simple(), nil
}

// narrow adds to bounds what follows from them where e is never longer than
// a year: an index finds it by the low end.
func (e element) narrow(bounds []DateBound) []DateBound {
	if e.has("Period") || e.has("Timing") || len(bounds) != 1 || bounds[0].End != Hi || bounds[0].Op != GT {
		return bounds
	}
	return append(bounds, DateBound{Lo, GT, bounds[0].T.AddDate(-1, 0, -1)})
}

// cutPrefix splits a search value into its comparison prefix and the rest.
func cutPrefix(text string) (prefix, rest string) {
	if len(text) > 2 && strings.Contains("eq ne gt lt ge le sa eb ap", text[:2]) && text[0] >= 'a' && text[1] >= 'a' {
		return text[:2], text[2:]
	}
	return "eq", text
}
