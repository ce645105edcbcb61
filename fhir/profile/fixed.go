package profile

import (
	"bytes"
	"strconv"

	"github.com/valyala/fastjson"
)

// equal reports whether v is exactly the value want, whatever the order of its
// members.
// https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.fixed_x_
func (r *run) equal(v, want *fastjson.Value) bool {
	if v == nil || want == nil || v.Type() != want.Type() || !r.step() {
		return v == want
	}
	switch want.Type() {
	case fastjson.TypeObject:
		return len(members(v)) == len(members(want)) && eachMember(want, func(name string, w *fastjson.Value) bool {
			return r.equal(v.Get(name), w)
		})
	case fastjson.TypeArray:
		a, b := v.GetArray(), want.GetArray()
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if !r.equal(a[i], b[i]) {
				return false
			}
		}
		return true
	}
	return equalScalar(v, want)
}

// contains reports whether v has everything that the pattern has.
// https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.pattern_x_
func (r *run) contains(v, pattern *fastjson.Value) bool {
	if v == nil || pattern == nil || v.Type() != pattern.Type() || !r.step() {
		return v == pattern
	}
	switch pattern.Type() {
	case fastjson.TypeObject:
		return eachMember(pattern, func(name string, p *fastjson.Value) bool { return r.contains(v.Get(name), p) })
	case fastjson.TypeArray:
		items := v.GetArray()
		for _, p := range pattern.GetArray() {
			found := false
			for _, item := range items {
				if found = r.contains(item, p); found {
					break
				}
			}
			if !found {
				return false
			}
		}
		return true
	}
	return equalScalar(v, pattern)
}

// equalScalar compares two strings, numbers or booleans of one JSON type.
// Numbers are equal as decimals.
func equalScalar(v, want *fastjson.Value) bool {
	switch want.Type() {
	case fastjson.TypeString:
		return bytes.Equal(v.GetStringBytes(), want.GetStringBytes())
	case fastjson.TypeNumber:
		a, b := v.String(), want.String()
		x, err1 := strconv.ParseFloat(a, 64)
		y, err2 := strconv.ParseFloat(b, 64)
		return a == b || err1 == nil && err2 == nil && x == y
	}
	return true
}

func members(v *fastjson.Value) []string {
	var names []string
	o, err := v.Object()
	if err != nil {
		return nil
	}
	o.Visit(func(key []byte, _ *fastjson.Value) { names = append(names, string(key)) })
	return names
}

// eachMember reports whether ok is true of every member of v.
func eachMember(v *fastjson.Value, ok func(name string, v *fastjson.Value) bool) bool {
	for _, name := range members(v) {
		if !ok(name, v.Get(name)) {
			return false
		}
	}
	return true
}
