package path

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A timeKind tells the types of Time apart.
type timeKind uint8

const (
	dateKind timeKind = iota
	dateTimeKind
	clockKind
)

func (k timeKind) String() string { return [...]string{"Date", "DateTime", "Time"}[k] }

// The precision of a Time: the smallest of its parts that is given.
type precision uint8

const (
	toYear precision = iota
	toMonth
	toDay
	toHour
	toMinute
	toSecond
)

// A Time is a Date, a DateTime or a Time of FHIRPath: a point in time known to
// some precision.
// http://hl7.org/fhirpath/N1/#date
type Time struct {
	kind      timeKind
	precision precision
	parts     [6]int // year, month, day, hour, minute, second
	nanos     int
	digits    uint8 // of the fraction of a second, as written
	zoned     bool  // it has a time zone
	offset    int   // of the zone, in minutes east of UTC
}

// parseLiteral reads what follows the @ of a literal.
func parseLiteral(s string) (Time, bool) {
	switch {
	case strings.HasPrefix(s, "T"):
		return parseTime(clockKind, s[1:])
	case strings.Contains(s, "T"):
		return parseTime(dateTimeKind, s)
	}
	return parseTime(dateKind, s)
}

// parseElement reads the value of a primitive of FHIR.
func parseElement(p r4.Primitive, s string) (Time, bool) {
	switch p {
	case r4.Date:
		return parseTime(dateKind, s)
	case r4.Time:
		return parseTime(clockKind, s)
	}
	return parseTime(dateTimeKind, s)
}

// parseTime reads a point in time of the kind. Any part may be the last, and
// all parts must be in the calendar.
func parseTime(kind timeKind, s string) (t Time, ok bool) {
	t.kind = kind
	first := 0
	if kind == clockKind {
		first = 3
	}
	last := 6
	if kind == dateKind {
		last = 3
	}
	for i := first; i < last; i++ {
		width := 2
		if i == 0 {
			width = 4
		}
		if i > first {
			switch {
			case i == 3 && kind == dateTimeKind && s == "T":
				return t, t.inCalendar() // @2015-02-04T
			case s == "" || s[0] != "--T::"[i-1]:
				return t.rest(s)
			}
			s = s[1:]
		}
		n, ok := number(s, width)
		if !ok {
			return t, false
		}
		t.parts[i], t.precision = n, precision(i)
		s = s[width:]
		if kind == dateTimeKind && i < 2 && s == "T" {
			return t, t.inCalendar() // @2015T
		}
	}
	return t.rest(s)
}

// rest reads the fraction and the time zone that may follow the parts.
func (t Time) rest(s string) (Time, bool) {
	if strings.HasPrefix(s, ".") && t.precision == toSecond {
		n := 1
		for n < len(s) && isDigit(s[n]) {
			n++
		}
		if n == 1 {
			return t, false
		}
		t.nanos, _ = number((s[1:n] + "000000000")[:9], 9)
		t.digits = uint8(min(n-1, 9))
		s = s[n:]
	}
	if s == "" {
		return t, t.inCalendar()
	}
	if t.kind != dateTimeKind || t.precision < toHour {
		return t, false
	}
	t.zoned = true
	if s == "Z" {
		return t, t.inCalendar()
	}
	if len(s) != 6 || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return t, false
	}
	h, ok1 := number(s[1:], 2)
	m, ok2 := number(s[4:], 2)
	t.offset = h*60 + m
	if s[0] == '-' {
		t.offset = -t.offset
	}
	return t, ok1 && ok2 && h <= 14 && m < 60 && t.inCalendar()
}

func number(s string, width int) (n int, ok bool) {
	if len(s) < width {
		return 0, false
	}
	for i := range width {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

func (t Time) inCalendar() bool {
	p := t.parts
	if t.kind != clockKind {
		if p[0] == 0 || t.precision >= toMonth && (p[1] < 1 || p[1] > 12) ||
			t.precision >= toDay && (p[2] < 1 || p[2] > daysIn(p[0], p[1])) {
			return false
		}
	}
	return p[3] < 24 && p[4] < 60 && p[5] <= 60
}

// daysIn returns how many days the month has.
func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// String returns t as FHIR writes it.
func (t Time) String() string {
	var b strings.Builder
	p := t.parts
	if t.kind != clockKind {
		fmt.Fprintf(&b, "%04d", p[0])
		for i := toMonth; i <= min(t.precision, toDay); i++ {
			fmt.Fprintf(&b, "-%02d", p[i])
		}
		if t.precision >= toHour {
			b.WriteByte('T')
		}
	}
	if t.precision >= toHour {
		fmt.Fprintf(&b, "%02d", p[3])
		for i := toMinute; i <= t.precision; i++ {
			fmt.Fprintf(&b, ":%02d", p[i])
		}
	}
	if t.digits > 0 {
		b.WriteString("." + fmt.Sprintf("%09d", t.nanos)[:t.digits])
	}
	if t.zoned {
		b.WriteString(zone(t.offset))
	}
	return b.String()
}

func zone(offset int) string {
	if offset == 0 {
		return "Z"
	}
	sign := '+'
	if offset < 0 {
		sign, offset = '-', -offset
	}
	return fmt.Sprintf("%c%02d:%02d", sign, offset/60, offset%60)
}

// utc returns t, which has a time zone, in UTC.
func (t Time) utc() Time { return t.add(-t.offset, time.Minute) }

// instant returns the earliest point that t can be, taken as if in UTC.
func (t Time) instant() time.Time {
	p := t.parts
	if t.kind == clockKind {
		return time.Date(1, 1, 1, p[3], p[4], p[5], t.nanos, time.UTC)
	}
	return time.Date(p[0], time.Month(max(p[1], 1)), max(p[2], 1), p[3], p[4], p[5], t.nanos, time.UTC)
}

// add moves t by n units and keeps its precision.
func (t Time) add(n int, unit time.Duration) Time {
	return t.at(t.instant().Add(time.Duration(n) * unit))
}

// at returns t moved to m.
func (t Time) at(m time.Time) Time {
	t.parts = [6]int{m.Year(), int(m.Month()), m.Day(), m.Hour(), m.Minute(), m.Second()}
	t.nanos = m.Nanosecond()
	return t
}

// fromTime returns m as a value of the kind, to milliseconds.
func fromTime(kind timeKind, m time.Time) Time {
	t := Time{kind: kind}.at(m)
	switch kind {
	case dateKind:
		t.precision = toDay
		t.parts[3], t.parts[4], t.parts[5], t.nanos = 0, 0, 0, 0
		return t
	case dateTimeKind:
		_, seconds := m.Zone()
		t.zoned, t.offset = true, seconds/60
	}
	t.precision, t.digits = toSecond, 3
	t.nanos -= t.nanos % 1e6
	return t
}

// farApart is more than two points whose zones are not known can differ by.
const farApart = 26 * time.Hour

// compare returns how t and u are ordered. known is false if their precision
// or their time zones do not tell. Both are of one kind, or one is a date and
// the other a dateTime.
// http://hl7.org/fhirpath/N1/#datetime-equality
func (t Time) compare(u Time) (order int, known bool) {
	if t.precision >= toHour && u.precision >= toHour && t.kind != clockKind {
		switch {
		case t.zoned && u.zoned:
			t, u = t.utc(), u.utc()
		case t.zoned != u.zoned:
			d := t.instant().Sub(u.instant())
			return cmp.Compare(d, 0), d > farApart || d < -farApart
		}
	}
	first := toYear
	if t.kind == clockKind {
		first = toHour
	}
	for i := first; i <= min(t.precision, u.precision); i++ {
		if t.parts[i] != u.parts[i] {
			return cmp.Compare(t.parts[i], u.parts[i]), true
		}
	}
	if t.precision != u.precision {
		return 0, false
	}
	return cmp.Compare(t.nanos, u.nanos), true
}

// comparable reports whether values of the two kinds can be compared.
func (k timeKind) comparable(other timeKind) bool {
	return (k == clockKind) == (other == clockKind)
}
