// Package regex says how large the regular expressions of definitions are
// before anybody compiles them.
package regex

import "regexp/syntax"

// States returns about how many instructions the program of a pattern of RE2
// has: repeats unfold. Matching takes time in proportion to them and the
// length of the text, and compiling takes memory. It fails if the pattern is
// malformed.
func States(pattern string) (int, error) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	return statesOf(re), nil
}

// statesOf counts the instructions of re. The parser bounds what repeats
// multiply to, so that the sum does not overflow.
func statesOf(re *syntax.Regexp) int {
	n := 0
	for _, sub := range re.Sub {
		n += statesOf(sub)
	}
	switch re.Op {
	case syntax.OpConcat:
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpAlternate:
		n += len(re.Sub)
	case syntax.OpRepeat:
		n = (n + 1) * max(re.Min, re.Max, 1)
	case syntax.OpCapture:
		n += 2
	default:
		n++
	}
	return n
}
