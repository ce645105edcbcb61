package demo

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// An object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

// An array is a JSON array.
type array []any

// A decimal is a number with the digits that it is written with: 7.0 stays 7.0.
type decimal string

// fixed returns v as a decimal with the number of digits after the point.
func fixed(v float64, digits int) decimal { return decimal(strconv.FormatFloat(v, 'f', digits, 64)) }

// obj returns the object with the names and values given by turns. Members
// whose value is nil, "" or an empty array are left out.
func obj(pairs ...any) object {
	o := make(object, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		o = o.with(pairs[i].(string), pairs[i+1])
	}
	return o
}

// with returns o with one more member, unless the value is empty.
func (o object) with(name string, value any) object {
	switch v := value.(type) {
	case nil:
		return o
	case string:
		if v == "" {
			return o
		}
	case array:
		if len(v) == 0 {
			return o
		}
	case object:
		if len(v) == 0 {
			return o
		}
	}
	return append(o, member{name, value})
}

// text returns the string member with the name.
func (o object) text(name string) string {
	for _, m := range o {
		if m.name == name {
			s, _ := m.value.(string)
			return s
		}
	}
	return ""
}

// appendJSON appends the JSON of v to b.
func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case object:
		b = append(b, '{')
		for i, m := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendQuote(b, m.name) // names are ASCII
			b = append(b, ':')
			b = appendJSON(b, m.value)
		}
		return append(b, '}')
	case array:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, e)
		}
		return append(b, ']')
	case string:
		q, err := json.Marshal(v)
		if err != nil {
			panic(err) // a string always has JSON
		}
		return append(b, q...)
	case decimal:
		return append(b, v...)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case bool:
		return strconv.AppendBool(b, v)
	}
	panic(fmt.Sprintf("demo: no JSON for %T", v))
}

// day and instant write a date and a dateTime.
// https://hl7.org/fhir/R4/datatypes.html#date
func day(t time.Time) string     { return t.Format("2006-01-02") }
func instant(t time.Time) string { return t.Format("2006-01-02T15:04:05-07:00") }
