package terminology

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// words are what a client typed to find a concept: each must be how some word
// of its display begins.
// https://hl7.org/fhir/R4/valueset-operation-expand.html
type words []string

// maxWords bounds what is looked for at once.
const maxWords = 20

func newWords(filter string) words {
	list := strings.FieldsFunc(folded(filter), notOfWord)
	return list[:min(len(list), maxWords)]
}

func notOfWord(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) }

// folded returns the text without case and accents.
func folded(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFD.String(text))
}

// match reports whether the text has them all.
func (w words) match(text []byte) bool {
	for _, b := range text {
		if b >= utf8.RuneSelf {
			text = []byte(folded(string(text)))
			break
		}
	}
	for _, word := range w {
		if !hasWord(text, word) {
			return false
		}
	}
	return true
}

// hasWord reports whether some word of the text begins so.
func hasWord(text []byte, begins string) bool {
	inWord := false
	for i, c := range text {
		is := c >= utf8.RuneSelf || '0' <= c && c <= '9' || 'a' <= lower(c) && lower(c) <= 'z'
		if is && !inWord && hasPrefix(text[i:], begins) {
			return true
		}
		inWord = is
	}
	return false
}

func hasPrefix(text []byte, begins string) bool {
	if len(text) < len(begins) {
		return false
	}
	for i := range len(begins) {
		if lower(text[i]) != begins[i] {
			return false
		}
	}
	return true
}
