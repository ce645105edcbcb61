package search

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cordon-fhir/cordon/fhir/r4"
)

// Tokens are indexed in two spellings: the code alone, and system|code, where
// the system is empty if there is none. In both, | and \ within a part are
// escaped, so that no code alone reads like a code with a system. Tags have the
// full spelling checked on the opened body instead: they tell few resources
// apart, and a row of the index for each resource is too much for that. Codes are
// compared without regard to case, as the standard advises where a system
// does not say, and systems exactly.
// https://hl7.org/fhir/R4/search.html#token

// Suffixes of Paths that are looked at on the opened body only, or apart from
// the element itself.
const (
	textSuffix       Path = ":text"
	systemSuffix     Path = ":system"
	typeSuffix       Path = ":of-type"
	fullSuffix       Path = ":full"
	unitSuffix       Path = ":unit"
	identifierSuffix Path = ":identifier"
)

var (
	escapePart  = strings.NewReplacer(`\`, `\\`, `|`, `\|`)
	escapeFirst = strings.NewReplacer(`$`, `\$`)
)

// alone spells a code without its system.
func alone(code string) string { return escape(foldCode(code)) }

// full spells a code with its system.
func full(system, code string) string { return escape(system) + "|" + escape(foldCode(code)) }

// isFull reports whether the value of a token is spelled with a system.
func isFull(value string) bool { return cut(value, '|') >= 0 }

// escapeComponent spells the first component of a composite, so that it ends
// at the first $ that is not escaped.
func escapeComponent(s string) string {
	if strings.IndexByte(s, '$') >= 0 {
		return escapeFirst.Replace(s)
	}
	return s
}

func escape(s string) string {
	if strings.IndexByte(s, '|') >= 0 || strings.IndexByte(s, '\\') >= 0 {
		return escapePart.Replace(s)
	}
	return s
}

// foldCode folds the case of a code.
func foldCode(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}

// foldContact drops what people put between the digits of a telephone number.
func foldContact(s string) string {
	if strings.Trim(s, "0123456789+-() ./") != "" {
		return foldCode(s)
	}
	return strings.Map(func(r rune) rune {
		if r == '+' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, s)
}

// cut returns where the first unescaped sep is in s, or -1.
func cut(s string, sep byte) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			return i
		}
	}
	return -1
}

// token returns the condition that a token parameter sets on e.
func (e element) token(name, text string) (Expr, error) {
	at := cut(text, '|')
	if at < 0 {
		code, err := unescape(name, text)
		if err != nil {
			return nil, err
		}
		return e.code(name, code)
	}
	system, err := unescape(name, text[:at])
	if err != nil {
		return nil, err
	}
	code, err := unescape(name, text[at+1:])
	if err != nil {
		return nil, err
	}
	if code == "" {
		if system == "" {
			return nil, invalid(name, "is neither a code nor a system")
		}
		return e.ofSystem(system), nil
	}
	return e.systemCode(system, code), nil
}

// code returns the condition for a code alone.
func (e element) code(name, code string) (Expr, error) {
	if e.has("exists") || e.all("boolean") {
		if code != "true" && code != "false" {
			return nil, invalid(name, "must be true or false")
		}
		if e.has("exists") && code == "false" {
			return Not{HasToken{e.path, "true"}}, nil
		}
	}
	if e.has("ContactPoint") {
		if e.only != "" {
			return HasToken{e.path, full(e.only, foldContact(code))}, nil
		}
		return HasToken{e.path, alone(foldContact(code))}, nil
	}
	return HasToken{e.path, alone(code)}, nil
}

// systemCode returns the condition for system|code. A system is implied by
// the binding of a code; elements without systems have none.
func (e element) systemCode(system, code string) Expr {
	var or Or
	for _, l := range e.types {
		switch l.Type {
		case "Coding", "CodeableConcept", "Identifier":
			if isTag(e.path) {
				return And{HasToken{e.path, alone(code)}, HasText{e.path + fullSuffix, Equals, full(system, code)}}
			}
			or = appendOnce(or, HasToken{e.path, full(system, code)})
		case "ContactPoint":
			if e.only == "" || e.only == system {
				or = appendOnce(or, HasToken{e.path, full(system, foldContact(code))})
			}
		default:
			if system == "" || slices.Contains(l.Systems, system) {
				or = appendOnce(or, HasToken{e.path, alone(code)})
			}
		}
	}
	return or.simple()
}

func isTag(p Path) bool { return strings.HasSuffix(string(p), ".meta.tag") }

// ofSystem returns the condition for system|. Only identifiers are indexed by
// their system: codes of one system are too many to be worth it.
func (e element) ofSystem(system string) Expr {
	var or Or
	for _, l := range e.types {
		switch {
		case l.Type == "Identifier":
			or = appendOnce(or, HasToken{e.path, escape(system) + "|"})
		case slices.Contains([]string{"Coding", "CodeableConcept", "ContactPoint"}, l.Type):
			or = appendOnce(or, HasText{e.path + systemSuffix, Equals, system})
		case len(l.Systems) == 1 && l.Systems[0] == system:
			or = appendOnce(or, HasText{e.path + systemSuffix, Equals, system})
		}
	}
	return or.simple()
}

// ofType returns the condition for :of-type, system|code|value of which the
// first two say what kind of identifier it is.
// https://hl7.org/fhir/R4/search.html#token
func (e element) ofType(name, text string) (Expr, error) {
	if !e.has("Identifier") {
		return nil, unsupported(name, "takes :of-type for identifiers only")
	}
	var part [3]string
	for i := range part {
		at := cut(text, '|')
		if last := i == len(part)-1; last != (at < 0) {
			return nil, invalid(name, "must be system|code|value")
		}
		if at < 0 {
			at = len(text)
		}
		var err error
		if part[i], err = unescape(name, text[:at]); err != nil {
			return nil, err
		}
		text = text[min(at+1, len(text)):]
	}
	return And{
		HasToken{e.path, alone(part[2])},
		HasText{e.path + typeSuffix, Equals, full(part[0], part[1]) + "|" + alone(part[2])},
	}, nil
}

func (e element) has(datatype string) bool {
	return slices.ContainsFunc(e.types, func(l r4.SearchLeaf) bool { return l.Type == datatype })
}

func (e element) all(datatype string) bool {
	return !slices.ContainsFunc(e.types, func(l r4.SearchLeaf) bool { return l.Type != datatype })
}
