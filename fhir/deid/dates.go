package deid

import (
	"fmt"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir/r4"
)

// Dates of a patient keep their distances: all go back by as many days, which are
// chosen by the key. Of what is of no patient, or of several, the year is shown.

// precisions are the forms of a date, with the day that stands for a month or a year.
// https://hl7.org/fhir/R4/datatypes.html#dateTime
var precisions = []struct {
	form, middle string
}{{"2006-01-02", ""}, {"2006-01", "-15"}, {"2006", "-07-01"}}

// date returns what is shown of a date. Nothing is of what tells of an age over 89: who was
// born so long ago is older now, whatever the date is of.
func (w *walk) date(as r4.Primitive, value string) []byte {
	day, _, timed := strings.Cut(value, "T")
	for _, p := range precisions {
		at, err := time.Parse("2006-01-02", day+p.middle)
		if err != nil || len(day) != len(p.form) {
			continue
		}
		begins, _ := time.Parse(p.form, day)
		shown := at.AddDate(0, 0, -w.shift)
		if first := w.Now.AddDate(-90, 0, 0); !begins.After(first) || !shown.After(first) {
			return nil
		}
		switch {
		case w.shift == 0 && as == r4.Instant:
			return nil // which is never a year
		case w.shift == 0:
			return fmt.Appendf(nil, "%q", at.Format("2006"))
		case !timed:
			return fmt.Appendf(nil, "%q", shown.Format(p.form))
		}
		clock, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return nil
		}
		return fmt.Appendf(nil, "%q", shown.Format(p.form)+clock.Format("T15:04:05Z07:00"))
	}
	return nil
}
