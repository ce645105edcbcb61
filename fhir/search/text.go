package search

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Strings are found by their folded prefixes of some lengths and by trigrams.
// What falls between the lengths is looked up by the next shorter prefix and
// checked on the opened body.
// https://hl7.org/fhir/R4/search.html#string

// prefixes are the lengths, in runes, of the prefixes that are indexed. Each
// is a row for every string.
var prefixes = [...]int{1, 3, 5, 8, 12}

// grammed is how many runes of a folded value have trigrams. Contains finds
// text within them, and ContainsBeyond in all of what is longer.
const grammed = 64

// gramless reports whether strings at p have no trigrams: results in words, of
// which there are as many as there are observations, and addresses but for the
// city. Trigrams were most of what a Patient costs to store, and who looks for
// a part of a street says more of whom they mean.
func gramless(p Path) bool {
	parent, name := p[:max(0, strings.LastIndexByte(string(p), '.'))], p[strings.LastIndexByte(string(p), '.')+1:]
	return p == "Observation.value" || p == "Observation.value.text" || strings.HasSuffix(string(parent), ".address") && name != "city"
}

// maxKeys bounds the Keys of one HasText. Eight trigrams narrow as well as
// more do.
const maxKeys = 8

func startPath(p Path) Path { return p + ":start" }
func gramPath(p Path) Path  { return p + ":gram" }

// beyond is the trigram that stands for a value longer than grammed.
const beyond = ">"

// Keys returns tokens all of which the index holds for a resource that h
// matches. There may be none, and then the index cannot narrow h.
func (h HasText) Keys() []Token {
	if strings.IndexByte(string(h.Path), ':') >= 0 {
		return nil // looked at on the opened body only
	}
	if gramless(h.Path) && (h.Op == Contains || h.Op == ContainsBeyond) {
		return nil
	}
	folded := fold(h.Text)
	switch h.Op {
	case StartsWith, Equals, Is:
		n := utf8.RuneCountInString(folded)
		for _, l := range slices.Backward(prefixes[:]) {
			if l <= n {
				return []Token{{startPath(h.Path), prefix(folded, l)}}
			}
		}
	case Contains:
		var keys []Token
		grams(folded, func(g string) {
			if t := (Token{gramPath(h.Path), g}); len(keys) < maxKeys && !slices.Contains(keys, t) {
				keys = append(keys, t)
			}
		})
		return keys
	case ContainsBeyond:
		return []Token{{gramPath(h.Path), beyond}}
	}
	return nil
}

// Exact reports whether a resource that has all Keys matches h, so that its
// body need not be opened.
func (h HasText) Exact() bool {
	return h.Op == StartsWith && len(h.Keys()) > 0 &&
		slices.Contains(prefixes[:], utf8.RuneCountInString(fold(h.Text)))
}

// matches reports whether the string, as the resource spells it, is one that
// h means.
func (h HasText) matches(s string) bool {
	switch h.Op {
	case Equals:
		return s == h.Text
	case StartsWith:
		return strings.HasPrefix(fold(s), fold(h.Text))
	case Contains:
		return strings.Contains(prefix(fold(s), grammed), fold(h.Text))
	case ContainsBeyond:
		f := fold(s)
		return len(prefix(f, grammed)) < len(f) && strings.Contains(f, fold(h.Text))
	case BelowVersion:
		return s == h.Text || strings.HasPrefix(s, h.Text+".")
	case Is:
		return fold(s) == fold(h.Text)
	case IsNot:
		return fold(s) != fold(h.Text)
	case EndsWith:
		return strings.HasSuffix(fold(s), fold(h.Text))
	case Below:
		return s == h.Text || strings.HasPrefix(s, strings.TrimSuffix(h.Text, "/")+"/")
	}
	return false
}

// prefix returns the first n runes of s, or s if it has fewer.
func prefix(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// grams calls f for each trigram of the folded string that is indexed.
func grams(folded string, f func(string)) {
	var at [3]int // where the last three runes begin
	n := 0
	for i := range folded {
		if n >= 3 {
			f(folded[at[n%3]:i])
		}
		if n == grammed {
			return
		}
		at[n%3] = i
		n++
	}
	if n >= 3 {
		f(folded[at[n%3]:])
	}
}

// fold returns s in the form in which strings are compared: lower case,
// without accents, with apostrophes and full stops left out and all other
// punctuation and space as one space between words.
func fold(s string) string {
	if folded(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for _, r := range norm.NFD.String(s) {
		switch {
		case unicode.Is(unicode.Mn, r), r == '\'', r == '’', r == '.', r == '`':
			continue
		case !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.Is(unicode.Sc, r) && !unicode.IsMark(r):
			space = b.Len() > 0
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		if plain, ok := plainLetters[r]; ok {
			b.WriteString(plain)
			continue
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// plainLetters are letters that people without them on the keyboard write so,
// and that Unicode does not decompose.
var plainLetters = map[rune]string{
	'ß': "ss", 'ẞ': "ss", 'æ': "ae", 'Æ': "ae", 'œ': "oe", 'Œ': "oe", 'ø': "o", 'Ø': "o",
	'ł': "l", 'Ł': "l", 'đ': "d", 'Đ': "d", 'ı': "i",
}

// folded reports whether s is folded as it stands, as far as is quickly seen.
func folded(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
