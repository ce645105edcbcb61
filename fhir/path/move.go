package path

import (
	"time"

	"github.com/cockroachdb/apd/v3"
)

// units of durations, in the order of their length, and how many of the next
// smaller one each has when a date is too imprecise for the smaller.
// http://hl7.org/fhirpath/N1/#datetime-arithmetic
var units = []struct {
	word string
	part precision // that it changes
	span time.Duration
}{
	{"year", toYear, 365 * 24 * time.Hour},
	{"month", toMonth, 30 * 24 * time.Hour},
	{"week", toDay, 7 * 24 * time.Hour},
	{"day", toDay, 24 * time.Hour},
	{"hour", toHour, time.Hour},
	{"minute", toMinute, time.Minute},
	{"second", toSecond, time.Second},
	{"millisecond", toSecond, time.Millisecond},
}

// farthest bounds by how many units a date can be moved: there are fewer
// milliseconds in the years of the calendar.
const farthest = 1 << 49

// move adds a duration to a date or time, or subtracts it if sign is -1. It
// returns nil if the result is not in the calendar.
func (p pos) move(t Time, q *Quantity, sign int64) (any, error) {
	word := calendar[q.Unit]
	if word == "" {
		for w, code := range calendarUCUM {
			// A year or month of UCUM is so many seconds, not one of the calendar.
			if code == q.Unit && (q.inFHIR || w != "year" && w != "month") {
				word = w
			}
		}
	}
	for _, u := range units {
		if u.word != word {
			continue
		}
		if t.kind == clockKind && u.part < toHour {
			break
		}
		n, ok := whole(q.Value)
		if !ok {
			return nil, nil
		}
		fraction := time.Duration(0)
		if word == "second" {
			fraction = fractionOf(q.Value)
		}
		moved, ok := t.moved(sign*n, u.part, u.span, time.Duration(sign)*fraction)
		if !ok {
			return nil, nil
		}
		return moved, nil
	}
	return nil, p.fault("a date or time is moved by what is no duration of the calendar")
}

// whole returns the digits of d before the point.
func whole(d *apd.Decimal) (int64, bool) {
	w, ok := roundTo(d, 0, apd.RoundDown)
	if !ok {
		return 0, false
	}
	n, err := w.Int64()
	return n, err == nil && n < farthest && n > -farthest
}

// fractionOf returns the digits of d seconds after the point, to milliseconds.
func fractionOf(d *apd.Decimal) time.Duration {
	var frac apd.Decimal
	d.Modf(nil, &frac)
	ms, ok := roundTo(&frac, 3, apd.RoundDown)
	if !ok {
		return 0
	}
	ms.Exponent += 3
	n, _ := ms.Int64()
	return time.Duration(n) * time.Millisecond
}

// moved returns t moved by n units. What is finer than t is precise is turned
// into its smallest part first.
func (t Time) moved(n int64, part precision, span time.Duration, fraction time.Duration) (Time, bool) {
	if part > t.precision {
		coarse := units[0]
		for _, u := range units {
			if u.part == t.precision && u.word != "week" {
				coarse = u
				break
			}
		}
		if t.precision == toYear && part == toMonth {
			n /= 12
		} else {
			n /= int64(coarse.span / span)
		}
		part, span, fraction = coarse.part, coarse.span, 0
	}
	switch part {
	case toYear, toMonth:
		if n > 12*10_000 || n < -12*10_000 {
			return t, false
		}
		months := n
		if part == toYear {
			months = n * 12
		}
		m := t.parts[0]*12 + max(t.parts[1], 1) - 1 + int(months)
		if m < 12 || m >= 12*10_000 {
			return t, false
		}
		t.parts[0] = m / 12
		if t.precision >= toMonth {
			t.parts[1] = m%12 + 1
		}
		if t.precision >= toDay {
			t.parts[2] = min(t.parts[2], daysIn(t.parts[0], t.parts[1]))
		}
		return t, true
	}
	moved := t.instant()
	if part == toDay {
		if n > 4_000_000 || n < -4_000_000 {
			return t, false
		}
		moved = moved.AddDate(0, 0, int(n)*int(span/(24*time.Hour)))
	} else {
		limit := int64((1 << 62) / span)
		if n > limit || n < -limit {
			return t, false
		}
		moved = moved.Add(time.Duration(n) * span).Add(fraction)
	}
	if t.kind != clockKind && (moved.Year() < 1 || moved.Year() > 9999) {
		return t, false
	}
	u := t.at(moved)
	if t.precision < toSecond {
		for i := t.precision + 1; i <= toSecond; i++ {
			u.parts[i] = 0
		}
	}
	if span < time.Second || fraction != 0 {
		u.digits = max(u.digits, 3)
	}
	return u, true
}
