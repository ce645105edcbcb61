package path

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

func itoa(n int) string { return strconv.Itoa(n) }

// A parser reads the grammar of FHIRPath by precedence.
// http://hl7.org/fhirpath/N1/#operator-precedence
type parser struct {
	lexer
	depth     int
	states    int                 // of all regular expressions
	more      map[string]function // beside those of FHIRPath
	constants []string            // that are named
}

func (p *parser) parse() (expr, error) {
	if err := p.next(); err != nil {
		return nil, err
	}
	e, err := p.expression(0)
	if err == nil && p.kind != tokEnd {
		err = p.fault(p.start, "something follows the end of the expression")
	}
	return e, err
}

// precedence of the binary operators, the loosest first. Unary signs bind
// tighter than all of them, and paths tighter than signs.
var precedence = map[string]int{
	"implies": 1,
	"or":      2, "xor": 2,
	"and": 3,
	"in":  4, "contains": 4,
	"=": 5, "~": 5, "!=": 5, "!~": 5,
	"<": 6, "<=": 6, ">": 6, ">=": 6,
	"|":  7,
	"is": 8, "as": 8,
	"+": 9, "-": 9, "&": 9,
	"*": 10, "/": 10, "div": 10, "mod": 10,
}

const signPrecedence = 11

// nest counts a level deeper; it is undone by depth--.
func (p *parser) nest() error {
	if p.depth++; p.depth > maxDepth {
		return p.fault(p.start, "it is nested more than %d deep", maxDepth)
	}
	return nil
}

// expression reads operators that bind tighter than min.
func (p *parser) expression(min int) (expr, error) {
	if err := p.nest(); err != nil {
		return nil, err
	}
	left, err := p.signed()
	for err == nil {
		op := p.operator()
		level := precedence[op]
		if level <= min {
			break
		}
		at := p.start
		if err = p.next(); err != nil {
			break
		}
		// A chain of operators is a tree as deep as it is long.
		if err = p.nest(); err != nil {
			break
		}
		left, err = p.binary(op, level, at, left)
		p.depth--
	}
	p.depth--
	return left, err
}

// operator returns the binary operator that the current token is, "" if none.
func (p *parser) operator() string {
	if p.kind == tokName || p.kind == tokSymbol {
		if _, ok := precedence[p.value]; ok {
			return p.value
		}
	}
	return ""
}

func (p *parser) binary(op string, level, at int, left expr) (expr, error) {
	if op == "is" || op == "as" {
		t, err := p.typeName()
		if err != nil {
			return nil, err
		}
		if op == "is" {
			return &isType{pos{at}, left, t}, nil
		}
		return &asType{pos{at}, left, t}, nil
	}
	right, err := p.expression(level)
	if err != nil {
		return nil, err
	}
	return &binary{pos{at}, operators[op], left, right}, nil
}

// signed reads a term with the signs before it.
func (p *parser) signed() (expr, error) {
	if p.kind != tokSymbol || p.value != "+" && p.value != "-" {
		return p.path()
	}
	minus, at := p.value == "-", p.start
	if err := p.next(); err != nil {
		return nil, err
	}
	e, err := p.expression(signPrecedence - 1)
	if err != nil {
		return nil, err
	}
	return &sign{pos{at}, minus, e}, nil
}

// path reads a term and the invocations and indexers after it.
func (p *parser) path() (expr, error) {
	e, err := p.term()
	for err == nil && p.kind == tokSymbol {
		at := p.start
		switch p.value {
		case ".":
			if err = p.next(); err == nil {
				e, err = p.invocation(e, at)
			}
		case "[":
			if err = p.next(); err != nil {
				break
			}
			var index expr
			if index, err = p.expression(0); err == nil {
				e, err = &indexer{pos{at}, e, index}, p.expect("]")
			}
		default:
			return e, nil
		}
	}
	return e, err
}

// expect reads the symbol s.
func (p *parser) expect(s string) error {
	if !p.is(s) {
		return p.fault(p.start, "want %s", s)
	}
	return p.next()
}

func (p *parser) is(s string) bool { return p.kind == tokSymbol && p.value == s }

func (p *parser) term() (expr, error) {
	at := p.start
	switch p.kind {
	case tokName, tokDelimited:
		if p.kind == tokName && (p.value == "true" || p.value == "false") {
			b := p.value == "true"
			return &literal{boolean(b)}, p.next()
		}
		if p.kind == tokName && precedence[p.value] > 0 && !slices.Contains([]string{"as", "is", "in", "contains"}, p.value) {
			return nil, p.fault(at, "an operator where a value must be")
		}
		return p.invocation(nil, at)
	case tokString:
		s := p.value
		return &literal{[]Node{{val: s}}}, p.next()
	case tokNumber:
		return p.numberOrQuantity()
	case tokDate:
		t, ok := parseLiteral(p.value)
		if !ok {
			return nil, p.fault(at, "a date or time that is not in the calendar")
		}
		return &literal{[]Node{{val: t}}}, p.next()
	case tokDollar:
		name := p.value
		if name != "this" && name != "index" && name != "total" {
			return nil, p.fault(at, "want $this, $index or $total")
		}
		return &special{name}, p.next()
	case tokPercent:
		name := p.value
		p.constants = append(p.constants, name)
		return &constant{pos{at}, name}, p.next()
	case tokSymbol:
		switch p.value {
		case "(":
			return p.parenthesis()
		case "{":
			if err := p.next(); err != nil {
				return nil, err
			}
			return &literal{}, p.expect("}")
		}
	}
	return nil, p.fault(at, "a value is missing")
}

func (p *parser) parenthesis() (expr, error) {
	if err := p.next(); err != nil {
		return nil, err
	}
	e, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	return e, p.expect(")")
}

// numberOrQuantity reads a number and the unit that may follow it.
// http://hl7.org/fhirpath/N1/#quantity
func (p *parser) numberOrQuantity() (expr, error) {
	text, at := p.value, p.start
	if len(text) > maxDigits {
		return nil, p.fault(at, "a number of more than %d digits", maxDigits)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	unit := ""
	switch {
	case p.kind == tokString:
		unit = p.value
	case p.kind == tokName && calendar[p.value] != "":
		unit = p.value
	}
	if unit != "" || p.kind == tokString {
		d, _, err := apd.NewFromString(text)
		if err != nil {
			return nil, p.fault(at, "a malformed number")
		}
		q := &Quantity{Value: d, Unit: unit, Calendar: p.kind == tokName}
		return &literal{[]Node{{val: q}}}, p.next()
	}
	if !strings.Contains(text, ".") {
		n, err := strconv.ParseInt(text, 10, 32)
		if err == nil {
			return &literal{[]Node{{val: n}}}, nil
		}
		return nil, p.fault(at, "an integer has at most 32 bits")
	}
	d, _, err := apd.NewFromString(text)
	if err != nil {
		return nil, p.fault(at, "a malformed number")
	}
	return &literal{[]Node{{val: d}}}, nil
}

// invocation reads a member or a function. on is what it is invoked on, nil if
// it is the first of a path.
func (p *parser) invocation(on expr, at int) (expr, error) {
	switch p.kind {
	case tokDollar:
		if on != nil {
			return nil, p.fault(p.start, "a name is missing")
		}
	case tokName, tokDelimited:
	default:
		return nil, p.fault(p.start, "a name is missing")
	}
	name, nameAt := p.value, p.start
	if err := p.next(); err != nil {
		return nil, err
	}
	if !p.is("(") {
		return newMember(pos{nameAt}, on, name), nil
	}
	f, ok := functions[name]
	if !ok {
		f, ok = p.more[name]
	}
	if !ok {
		return nil, p.fault(nameAt, "a function that FHIRPath does not have")
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if f.types {
		return p.typeFunction(on, name, nameAt)
	}
	if name == "getReferenceKey" {
		return p.keyFunction(&call{pos: pos{nameAt}, on: on, name: name, fn: f})
	}
	args, err := p.arguments()
	if err != nil {
		return nil, err
	}
	if len(args) < f.min || len(args) > f.max {
		return nil, p.fault(nameAt, "%s takes another number of arguments", name)
	}
	c := &call{pos: pos{nameAt}, on: on, name: name, fn: f, args: args}
	if err := c.prepare(); err != nil {
		return nil, p.fault(nameAt, "%s", err.Error())
	}
	if c.regex != nil {
		if p.states += c.regex.states; p.states > maxStates {
			return nil, p.fault(nameAt, "regular expressions that unfold to more than %d states", maxStates)
		}
	}
	return c, nil
}

// arguments reads what is between parentheses, the first of which has been
// read.
func (p *parser) arguments() ([]expr, error) {
	if p.is(")") {
		return nil, p.next()
	}
	var args []expr
	for {
		a, err := p.argument()
		if err != nil {
			return nil, err
		}
		args = append(args, a)
		if !p.is(",") {
			return args, p.expect(")")
		}
		if err := p.next(); err != nil {
			return nil, err
		}
	}
}

// argument reads one argument; sort() takes them with a direction.
func (p *parser) argument() (expr, error) {
	e, err := p.expression(0)
	if err == nil && p.kind == tokName && (p.value == "asc" || p.value == "desc") {
		if p.value == "desc" {
			e = &sign{pos{p.start}, true, e}
		}
		err = p.next()
	}
	return e, err
}

// typeFunction reads is(), as() and ofType(), whose argument is a type.
func (p *parser) typeFunction(on expr, name string, at int) (expr, error) {
	t, err := p.typeName()
	if err != nil {
		return nil, err
	}
	if on == nil {
		on = &special{"this"}
	}
	var e expr
	switch name {
	case "is":
		e = &isType{pos{at}, on, t}
	case "as":
		e = &asType{pos{at}, on, t}
	default:
		e = &ofType{on, t}
	}
	return e, p.expect(")")
}

// typeName reads the name of a type, alone or after FHIR or System.
func (p *parser) typeName() (typeName, error) {
	at := p.start
	var t typeName
	for {
		if p.kind != tokName && p.kind != tokDelimited {
			return t, p.fault(p.start, "the name of a type is missing")
		}
		t.space, t.name = t.name, p.value
		if err := p.next(); err != nil {
			return t, err
		}
		if !p.is(".") || t.space != "" || t.name != "FHIR" && t.name != "System" {
			break
		}
		if err := p.next(); err != nil {
			return t, err
		}
	}
	if !t.resolve() {
		return t, p.fault(at, "a type that R4 does not have")
	}
	return t, nil
}
