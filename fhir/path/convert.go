package path

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// conversionFunctions turn values into those of another type. What cannot be
// converted yields nothing.
// http://hl7.org/fhirpath/N1/#conversion
var conversionFunctions = func() map[string]function {
	m := map[string]function{"iif": {min: 2, max: 3, eval: iif}, "toQuantity": {max: 1, eval: toQuantity}, "convertsToQuantity": {max: 1, eval: convertsTo(toQuantity)}}
	for name, convert := range map[string]func(any) any{
		"Boolean": toBoolean, "Integer": toInteger, "Decimal": toDecimal, "String": toString,
		"Date": toDate, "DateTime": toDateTime, "Time": toTime,
	} {
		to := func(r *run, c *call, in, _ []Node) ([]Node, error) {
			v, err := c.value(r, in)
			if err != nil || v == nil {
				return nil, err
			}
			return r.result(convert(v)), nil
		}
		m["to"+name] = function{eval: to}
		m["convertsTo"+name] = function{eval: convertsTo(to)}
	}
	return m
}()

// convertsTo reports whether the conversion yields something.
func convertsTo(to func(*run, *call, []Node, []Node) ([]Node, error)) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(r *run, c *call, in, focus []Node) ([]Node, error) {
		out, err := to(r, c, in, focus)
		if err != nil || len(in) == 0 {
			return nil, err
		}
		return boolean(len(out) > 0), nil
	}
}

// iif evaluates only the argument that its criterion chooses.
func iif(r *run, c *call, in, focus []Node) ([]Node, error) {
	if len(in) > 1 {
		return nil, c.fault("iif is called on several items")
	}
	if c.on != nil {
		focus = in
	}
	result, err := c.args[0].eval(r, focus)
	if err != nil {
		return nil, err
	}
	if r.ctx.Strict && len(result) == 1 {
		if _, ok := result[0].Value().(bool); !ok {
			return nil, c.fault("the criterion of iif is no boolean")
		}
	}
	holds, err := c.holds(result)
	if err != nil {
		return nil, err
	}
	switch {
	case holds:
		return c.args[1].eval(r, focus)
	case len(c.args) == 3:
		return c.args[2].eval(r, focus)
	}
	return nil, nil
}

func toBoolean(v any) any {
	switch v := v.(type) {
	case bool:
		return v
	case string:
		switch strings.ToLower(v) {
		case "true", "t", "yes", "y", "1", "1.0":
			return true
		case "false", "f", "no", "n", "0", "0.0":
			return false
		}
		return nil
	}
	d, ok := asDecimal(v)
	switch {
	case !ok:
		return nil
	case d.IsZero():
		return false
	case d.Cmp(apd.New(1, 0)) == 0:
		return true
	}
	return nil
}

func toInteger(v any) any {
	switch v := v.(type) {
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case int64:
		return v
	case string:
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			return nil
		}
		return n
	}
	return nil
}

// decimalText is the form of a decimal in a string.
var decimalText = regexp.MustCompile(`^[+-]?\d+(\.\d+)?$`)

func toDecimal(v any) any {
	switch v := v.(type) {
	case bool:
		return apd.New(toInteger(v).(int64), 0)
	case string:
		if len(v) <= maxDigits && decimalText.MatchString(v) {
			if d, ok := parseDecimal(v); ok {
				return d
			}
		}
		return nil
	}
	if d, ok := asDecimal(v); ok {
		return d
	}
	return nil
}

func toString(v any) any {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case *apd.Decimal:
		return v.Text('f')
	case Time:
		return v.String()
	case *Quantity:
		return v.String()
	}
	return nil
}

func toDate(v any) any {
	switch v := v.(type) {
	case string:
		if t, ok := parseTime(dateKind, v); ok {
			return t
		}
	case Time:
		if v.kind == clockKind {
			return nil
		}
		t := Time{kind: dateKind, precision: min(v.precision, toDay)}
		copy(t.parts[:3], v.parts[:3])
		return t
	}
	return nil
}

func toDateTime(v any) any {
	switch v := v.(type) {
	case string:
		if t, ok := parseTime(dateTimeKind, v); ok {
			return t
		}
	case Time:
		if v.kind == clockKind {
			return nil
		}
		v.kind = dateTimeKind
		return v
	}
	return nil
}

func toTime(v any) any {
	switch v := v.(type) {
	case string:
		if t, ok := parseTime(clockKind, strings.TrimPrefix(v, "T")); ok {
			return t
		}
	case Time:
		if v.kind == clockKind {
			return v
		}
	}
	return nil
}

// quantityText is the form of a quantity in a string.
// http://hl7.org/fhirpath/N1/#toquantityunit-string-quantity
var quantityText = regexp.MustCompile(`^([+-]?\d+(?:\.\d+)?)\s*(?:'([^']+)'|([a-zA-Z]+))?$`)

func asQuantityText(s string) any {
	m := quantityText.FindStringSubmatch(s)
	if m == nil {
		return nil
	}
	d, ok := parseDecimal(m[1])
	if !ok || m[3] != "" && calendar[m[3]] == "" {
		return nil
	}
	q := &Quantity{Value: d, Unit: m[2] + m[3], Calendar: m[3] != ""}
	if q.Unit == "" {
		q.Unit = "1"
	}
	return q
}

// toQuantity returns the input as a quantity, in the unit given if there is
// one.
func toQuantity(r *run, c *call, in, focus []Node) ([]Node, error) {
	v, err := c.value(r, in)
	if err != nil || v == nil {
		return nil, err
	}
	switch t := v.(type) {
	case string:
		v = asQuantityText(t)
	case bool:
		v = toDecimal(t)
	}
	q, ok := asQuantity(v)
	if !ok {
		return nil, nil
	}
	if len(c.args) == 1 {
		unit, given, err := c.stringArg(r, 0, focus)
		if err != nil || !given {
			return nil, err
		}
		if q, ok = q.in(&Quantity{Unit: unit, Calendar: calendar[unit] != ""}); !ok {
			return nil, nil
		}
	}
	return r.one(Node{val: q}), nil
}
