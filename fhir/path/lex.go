package path

import (
	"strings"
	"unicode/utf8"

	"github.com/cordon-fhir/cordon/fhir"
)

// The kinds of tokens.
// http://hl7.org/fhirpath/N1/#lexical-elements
type token int

const (
	tokEnd token = iota
	tokName
	tokDelimited // `name`
	tokString
	tokNumber
	tokDate // @…, without the @
	tokSymbol
	tokDollar  // $this
	tokPercent // %name
)

// A lexer cuts the text of an expression into tokens.
type lexer struct {
	text string
	at   int // where the next token begins

	// the current token
	kind  token
	value string // unescaped
	start int
}

// fault is the error of an expression that is malformed at byte i.
func (l *lexer) fault(i int, format string, args ...any) error {
	e := fhir.Errorf(fhir.Invalid, format, args...)
	e.Issues[0].Diagnostics = position(l.text, i) + e.Issues[0].Diagnostics
	return e
}

// position says where in an expression byte i is.
func position(text string, i int) string {
	n := utf8.RuneCountInString(text[:min(i, len(text))]) + 1
	return "the FHIRPath expression, at character " + itoa(n) + ": "
}

// symbols of two characters; all others have one.
var symbols = []string{"<=", ">=", "!=", "!~"}

// next reads the next token.
func (l *lexer) next() error {
	if err := l.space(); err != nil {
		return err
	}
	l.start = l.at
	if l.at == len(l.text) {
		l.kind, l.value = tokEnd, ""
		return nil
	}
	rest := l.text[l.at:]
	switch c := rest[0]; {
	case isLetter(c):
		l.kind, l.value = tokName, l.name()
	case isDigit(c):
		l.kind, l.value = tokNumber, l.number()
	case c == '\'':
		return l.quoted(tokString)
	case c == '`':
		return l.quoted(tokDelimited)
	case c == '@':
		l.kind, l.value = tokDate, l.date()
	case c == '$':
		l.at++
		l.kind, l.value = tokDollar, l.name()
	case c == '%':
		l.at++
		return l.percent()
	default:
		l.kind, l.value = tokSymbol, rest[:1]
		for _, s := range symbols {
			if strings.HasPrefix(rest, s) {
				l.value = s
			}
		}
		if !strings.Contains("+-*/&|<>=~!.,()[]{}", rest[:1]) || l.value == "!" {
			return l.fault(l.at, "a character that FHIRPath does not have")
		}
		l.at += len(l.value)
	}
	return nil
}

// space skips white space and comments.
func (l *lexer) space() error {
	for l.at < len(l.text) {
		rest := l.text[l.at:]
		switch {
		case strings.IndexByte(" \t\r\n", rest[0]) >= 0:
			l.at++
		case strings.HasPrefix(rest, "//"):
			if end := strings.IndexByte(rest, '\n'); end >= 0 {
				l.at += end
			} else {
				l.at = len(l.text)
			}
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				return l.fault(l.at, "the comment does not end")
			}
			l.at += end + 4
		default:
			return nil
		}
	}
	return nil
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

func (l *lexer) name() string {
	start := l.at
	for l.at < len(l.text) && (isLetter(l.text[l.at]) || isDigit(l.text[l.at])) {
		l.at++
	}
	return l.text[start:l.at]
}

// digits skips digits and reports whether there were exactly n, or any if n is
// negative.
func (l *lexer) digits(n int) bool {
	start := l.at
	for l.at < len(l.text) && isDigit(l.text[l.at]) && l.at-start != n {
		l.at++
	}
	return l.at-start == n || n < 0 && l.at > start
}

// number reads digits and, if digits follow it, a fraction.
func (l *lexer) number() string {
	start := l.at
	l.digits(-1)
	l.accept('.', -1)
	return l.text[start:l.at]
}

// accept reads the character c if n digits follow it, any number of them if n
// is negative.
func (l *lexer) accept(c byte, n int) bool {
	start := l.at
	if l.at < len(l.text) && l.text[l.at] == c {
		l.at++
		if l.digits(n) {
			return true
		}
	}
	l.at = start
	return false
}

// date reads the longest date, dateTime or time there is: whether its parts
// are in the calendar is found when it is parsed.
// http://hl7.org/fhirpath/N1/#datetime
func (l *lexer) date() string {
	l.at++
	start := l.at
	if l.digits(4) {
		if l.accept('-', 2) {
			l.accept('-', 2)
		}
	}
	day := l.at > start
	if l.at < len(l.text) && l.text[l.at] == 'T' {
		l.at++
		if l.digits(2) {
			minute := l.accept(':', 2)
			if second := minute && l.accept(':', 2); second {
				l.accept('.', -1)
			}
			if day {
				l.zone()
			}
		}
	}
	return l.text[start:l.at]
}

func (l *lexer) zone() {
	if l.at < len(l.text) && l.text[l.at] == 'Z' {
		l.at++
		return
	}
	back := l.at
	if (l.accept('+', 2) || l.accept('-', 2)) && !l.accept(':', 2) {
		l.at = back // it is a sum
	}
}

// percent reads what follows the percent sign of a constant.
func (l *lexer) percent() error {
	if l.at < len(l.text) {
		switch l.text[l.at] {
		case '`', '\'':
			return l.quoted(tokPercent)
		}
	}
	l.kind, l.value = tokPercent, l.name()
	// R4 writes %ext-name and %vs-name also without quotes.
	for (l.value == "vs" || l.value == "ext" || strings.Contains(l.value, "-")) && l.at < len(l.text) && l.text[l.at] == '-' {
		l.at++
		l.value += "-" + l.name()
	}
	if l.value == "" {
		return l.fault(l.start, "a percent sign without a name")
	}
	return nil
}

// quoted reads a string or a delimited name with its escapes.
// http://hl7.org/fhirpath/N1/#string
func (l *lexer) quoted(kind token) error {
	quote := l.text[l.at]
	var b strings.Builder
	for i := l.at + 1; i < len(l.text); i++ {
		switch c := l.text[i]; c {
		case quote:
			l.kind, l.value, l.at = kind, b.String(), i+1
			return nil
		case '\\':
			i++
			n, ok := unescape(&b, l.text[i:])
			if !ok {
				return l.fault(i, "an escape that FHIRPath does not have")
			}
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return l.fault(l.at, "the text in quotes does not end")
}

// escapes maps the character after a backslash to what it stands for.
var escapes = map[byte]byte{'\'': '\'', '"': '"', '`': '`', '\\': '\\', '/': '/', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape writes what the escape in s stands for, which begins after its
// backslash, and returns how long it is.
func unescape(b *strings.Builder, s string) (int, bool) {
	if s == "" {
		return 0, false
	}
	if s[0] != 'u' {
		c, ok := escapes[s[0]]
		b.WriteByte(c)
		return 1, ok
	}
	unit, ok := hex4(s[1:])
	if !ok {
		return 0, false
	}
	if low, ok := hex4(strings.TrimPrefix(s[min(5, len(s)):], `\u`)); ok && strings.HasPrefix(s[5:], `\u`) &&
		unit >= 0xD800 && unit < 0xDC00 && low >= 0xDC00 && low < 0xE000 {
		b.WriteRune((unit-0xD800)<<10 + (low - 0xDC00) + 0x10000)
		return 11, true
	}
	b.WriteRune(unit)
	return 5, true
}

// hex4 reads four hexadecimal digits.
func hex4(s string) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range []byte(s[:4]) {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
