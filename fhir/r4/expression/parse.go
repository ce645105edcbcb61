package expression

import (
	"regexp"
	"strings"
)

// An op is one step of an expression: a name and what restricts it.
type op struct {
	name    string
	as      string // as, ofType
	only    string // where(resolve() is T), where(system='x')
	system  bool   // only is of where(system='x')
	key, is string // where(key='is'), extension('is'), where(hasExtension('is'))
	first   bool   // [0]
	exists  bool
}

// label names o in the path of a branch.
func (o op) label() string {
	if o.is == "" {
		return o.name
	}
	return o.name + "[" + o.is[strings.LastIndexByte(o.is, '/')+1:] + "]"
}

// The bounds of an expression.
const (
	maxExpression = 4000
	maxSteps      = 12
)

var (
	identifier = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)
	condition  = regexp.MustCompile(`^([A-Za-z]+) *= *'([^']*)'$`)
	resolves   = regexp.MustCompile(`^resolve\(\) +is +([A-Za-z]+)$`)
	extended   = regexp.MustCompile(`^hasExtension\('([^']*)'\)$`)
	casted     = regexp.MustCompile(`^\((.*) as ([A-Za-z]+)\)(.*)$`)
	present    = regexp.MustCompile(`^(.*)\.exists\(\) and (.*) != false$`)
)

// parse reads the part of FHIRPath that search parameters use most.
func parse(s string) ([]op, error) {
	if len(s) > maxExpression {
		return nil, ErrBeyond
	}
	if m := present.FindStringSubmatch(s); m != nil && m[1] == m[2] {
		ops, err := parse(m[1])
		if err == nil {
			ops[len(ops)-1].exists = true
		}
		return ops, err
	}
	var ops []op
	if m := casted.FindStringSubmatch(s); m != nil && balanced(m[1]) {
		var err error
		if ops, err = parse(strings.TrimSpace(m[1])); err != nil {
			return nil, err
		}
		if last := &ops[len(ops)-1]; last.as != "" {
			return nil, ErrBeyond
		}
		ops[len(ops)-1].as = m[2]
		if s = strings.TrimPrefix(m[3], "."); s == "" {
			return ops, nil
		}
	}
	for _, part := range splitOutside(s, '.') {
		var err error
		if ops, err = step(ops, strings.TrimSpace(part)); err != nil {
			return nil, err
		}
	}
	if last := ops[len(ops)-1]; last.name == "extension" && last.key == "url" {
		ops = append(ops, op{name: "value"})
	} else if last.key != "" || last.first {
		return nil, ErrBeyond // a leaf has no condition of its own
	}
	if len(ops) > maxSteps {
		return nil, ErrBeyond
	}
	return ops, nil
}

// step adds what one part of a path says.
func step(ops []op, part string) ([]op, error) {
	fn, arg, call := strings.Cut(strings.TrimSuffix(part, ")"), "(")
	if !call {
		name, first := strings.CutSuffix(part, "[0]")
		if !identifier.MatchString(name) {
			return nil, ErrBeyond
		}
		return append(ops, op{name: name, first: first}), nil
	}
	if len(ops) == 0 {
		return nil, ErrBeyond
	}
	arg = strings.TrimSpace(arg)
	last := &ops[len(ops)-1]
	if fn == "extension" {
		if len(arg) < 2 || strings.Trim(arg, "'") != arg[1:len(arg)-1] {
			return nil, ErrBeyond
		}
		return append(ops, op{name: "extension", key: "url", is: arg[1 : len(arg)-1]}), nil
	}
	if (fn == "as" || fn == "ofType") && last.as == "" && identifier.MatchString(arg) {
		last.as = arg
		return ops, nil
	}
	if fn != "where" || last.key != "" || last.only != "" || last.first {
		return nil, ErrBeyond
	}
	if m := resolves.FindStringSubmatch(arg); m != nil {
		last.only = m[1]
	} else if m := extended.FindStringSubmatch(arg); m != nil {
		last.key, last.is = "extension", m[1]
	} else if m := condition.FindStringSubmatch(arg); m != nil && m[1] == "system" {
		last.only, last.system = m[2], true
	} else if m != nil {
		last.key, last.is = m[1], m[2]
	} else {
		return nil, ErrBeyond
	}
	return ops, nil
}

// balanced reports whether the parentheses of s are closed within it.
func balanced(s string) bool {
	depth := 0
	for _, c := range s {
		switch c {
		case '(':
			depth++
		case ')':
			if depth--; depth < 0 {
				return false
			}
		}
	}
	return depth == 0
}

// splitOutside splits s at sep where it is in no parentheses and no quotes.
func splitOutside(s string, sep byte) []string {
	var parts []string
	depth, quoted, begin := 0, false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case quoted:
		case s[i] == '(':
			depth++
		case s[i] == ')':
			depth--
		case s[i] == sep && depth == 0:
			parts = append(parts, s[begin:i])
			begin = i + 1
		}
	}
	return append(parts, s[begin:])
}
