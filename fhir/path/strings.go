package path

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/cordon-fhir/cordon/fhir/regex"
)

// stringFunctions work on strings, whose parts are counted in characters.
// http://hl7.org/fhirpath/N1/#string-manipulation
var stringFunctions = map[string]function{
	"indexOf":        {min: 1, max: 1, eval: find(strings.Index)},
	"lastIndexOf":    {min: 1, max: 1, eval: find(strings.LastIndex)},
	"substring":      {min: 1, max: 2, eval: substring},
	"startsWith":     {min: 1, max: 1, eval: test(strings.HasPrefix)},
	"endsWith":       {min: 1, max: 1, eval: test(strings.HasSuffix)},
	"contains":       {min: 1, max: 1, eval: test(strings.Contains)},
	"upper":          {eval: change(strings.ToUpper)},
	"lower":          {eval: change(strings.ToLower)},
	"trim":           {eval: change(strings.TrimSpace)},
	"replace":        {min: 2, max: 2, eval: replace},
	"matches":        {min: 1, max: 1, regex: true, eval: matches},
	"matchesFull":    {min: 1, max: 1, regex: true, eval: matches},
	"replaceMatches": {min: 2, max: 2, regex: true, eval: replaceMatches},
	"length":         {eval: length},
	"toChars":        {eval: toChars},
	"split":          {min: 1, max: 1, eval: split},
	"join":           {max: 1, eval: join},
	"encode":         {min: 1, max: 1, eval: code(encoders)},
	"decode":         {min: 1, max: 1, eval: code(decoders)},
	"escape":         {min: 1, max: 1, eval: code(escapers)},
	"unescape":       {min: 1, max: 1, eval: code(unescapers)},
}

// strings2 returns the input and argument 0 as strings. ok is false if one is
// empty.
func (c *call) strings2(r *run, in, focus []Node) (s, arg string, ok bool, err error) {
	s, ok1, err := c.stringInput(r, in)
	if err != nil {
		return "", "", false, err
	}
	arg, ok2, err := c.stringArg(r, 0, focus)
	if err != nil {
		return "", "", false, err
	}
	return s, arg, ok1 && ok2, nil
}

func find(index func(s, sub string) int) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(r *run, c *call, in, focus []Node) ([]Node, error) {
		s, sub, ok, err := c.strings2(r, in, focus)
		if err != nil || !ok {
			return nil, err
		}
		i := index(s, sub)
		if i > 0 {
			i = utf8.RuneCountInString(s[:i])
		}
		return r.one(Node{val: int64(i)}), nil
	}
}

func test(holds func(s, sub string) bool) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(r *run, c *call, in, focus []Node) ([]Node, error) {
		s, sub, ok, err := c.strings2(r, in, focus)
		if err != nil || !ok {
			return nil, err
		}
		return boolean(holds(s, sub)), nil
	}
}

func change(to func(string) string) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(r *run, c *call, in, _ []Node) ([]Node, error) {
		s, ok, err := c.stringInput(r, in)
		if err != nil || !ok {
			return nil, err
		}
		return c.text(r, to(s))
	}
}

func length(r *run, c *call, in, _ []Node) ([]Node, error) {
	s, ok, err := c.stringInput(r, in)
	if err != nil || !ok {
		return nil, err
	}
	return r.one(Node{val: int64(utf8.RuneCountInString(s))}), nil
}

func substring(r *run, c *call, in, focus []Node) ([]Node, error) {
	s, ok, err := c.stringInput(r, in)
	if err != nil || !ok {
		return nil, err
	}
	start, ok, err := c.intArg(r, 0, focus)
	if err != nil || !ok {
		return nil, err
	}
	chars := []rune(s)
	end := len(chars)
	if len(c.args) == 2 {
		n, ok, err := c.intArg(r, 1, focus)
		if err != nil {
			return nil, err
		}
		if ok {
			end = min(start+max(n, 0), end)
		}
	}
	if start < 0 || start >= len(chars) {
		return nil, nil
	}
	return c.text(r, string(chars[start:end]))
}

func replace(r *run, c *call, in, focus []Node) ([]Node, error) {
	s, pattern, ok, err := c.strings2(r, in, focus)
	if err != nil || !ok {
		return nil, err
	}
	with, ok, err := c.stringArg(r, 1, focus)
	if err != nil || !ok {
		return nil, err
	}
	if n := strings.Count(s, pattern); n > 0 && len(with) > maxString/n {
		return nil, costly()
	}
	return c.text(r, strings.ReplaceAll(s, pattern, with))
}

// Bounds on regular expressions: the length of one, and the states of all in
// an expression. Those of R4 have some hundreds.
const (
	maxRegex  = 2000
	maxStates = 5000
)

// A pattern is a regular expression, and how many states it has: matching takes
// time in proportion to their product with the length of the text.
type pattern struct {
	*regexp.Regexp
	states int
}

// compile reads a regular expression. A dot matches also line breaks.
// http://hl7.org/fhirpath/N1/#matchesregex-string-boolean
func (c *call) compile(s string) (*pattern, error) {
	if len(s) > maxRegex {
		return nil, c.fault("a regular expression longer than %d bytes", maxRegex)
	}
	if c.name == "matchesFull" {
		s = `\A(?:` + s + `)\z`
	}
	s = "(?s)" + s
	n, err := regex.States(s)
	if err != nil {
		return nil, c.fault("a regular expression that is malformed or not of RE2")
	}
	if n > maxStates {
		return nil, c.fault("a regular expression that unfolds to more than %d states", maxStates)
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, c.fault("a regular expression that is malformed or not of RE2")
	}
	return &pattern{re, n}, nil
}

// regexArg returns the input and the first argument as a regular expression.
func (c *call) regexArg(r *run, in, focus []Node) (s string, re *pattern, ok bool, err error) {
	s, text, ok, err := c.strings2(r, in, focus)
	if err != nil || !ok {
		return "", nil, false, err
	}
	if re = c.regex; re == nil {
		if err := r.step(100 + 10*len(text)); err != nil {
			return "", nil, false, err
		}
		if re, err = c.compile(text); err != nil {
			return "", nil, false, err
		}
		if err := r.step(10 * re.states); err != nil {
			return "", nil, false, err
		}
	}
	return s, re, true, r.step(len(s) * re.states / bytesPerStep)
}

func matches(r *run, c *call, in, focus []Node) ([]Node, error) {
	s, re, ok, err := c.regexArg(r, in, focus)
	if err != nil || !ok {
		return nil, err
	}
	return boolean(re.MatchString(s)), nil
}

// group is how a substitution names a group by number, which RE2 would take
// together with the letters that follow.
var group = regexp.MustCompile(`\$(\d+)`)

func replaceMatches(r *run, c *call, in, focus []Node) ([]Node, error) {
	s, re, ok, err := c.regexArg(r, in, focus)
	if err != nil || !ok {
		return nil, err
	}
	with, ok, err := c.stringArg(r, 1, focus)
	if err != nil || !ok {
		return nil, err
	}
	if re.String() == "(?s)" {
		return c.text(r, s)
	}
	if n := len(re.FindAllStringIndex(s, -1)); n > 0 && len(s)+len(with)*n > maxString {
		return nil, costly()
	}
	return c.text(r, re.ReplaceAllString(s, group.ReplaceAllString(with, "$${$1}")))
}

func toChars(r *run, c *call, in, _ []Node) ([]Node, error) {
	s, ok, err := c.stringInput(r, in)
	if err != nil || !ok {
		return nil, err
	}
	return c.texts(r, strings.Split(s, ""))
}

func (c *call) texts(r *run, parts []string) ([]Node, error) {
	if err := r.step(len(parts)); err != nil {
		return nil, err
	}
	out := make([]Node, len(parts))
	for i, p := range parts {
		out[i].val = p
	}
	return out, nil
}

func split(r *run, c *call, in, focus []Node) ([]Node, error) {
	s, by, ok, err := c.strings2(r, in, focus)
	if err != nil || !ok {
		return nil, err
	}
	return c.texts(r, strings.Split(s, by))
}

func join(r *run, c *call, in, focus []Node) ([]Node, error) {
	by := ""
	if len(c.args) == 1 {
		var err error
		if by, _, err = c.stringArg(r, 0, focus); err != nil {
			return nil, err
		}
	}
	var b strings.Builder
	for i, n := range in {
		s, ok := n.str()
		if !ok {
			return nil, c.fault("join is called on what is no string")
		}
		if i > 0 {
			b.WriteString(by)
		}
		b.WriteString(s)
		if b.Len() > maxString {
			return nil, costly()
		}
	}
	return c.text(r, b.String())
}

// A coder turns a string into another; ok is false if it cannot.
type coder func(string) (out string, ok bool)

func code(coders map[string]coder) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(r *run, c *call, in, focus []Node) ([]Node, error) {
		s, format, ok, err := c.strings2(r, in, focus)
		if err != nil || !ok {
			return nil, err
		}
		to := coders[format]
		if to == nil {
			return nil, c.fault("%s does not know the format", c.name)
		}
		out, ok := to(s)
		if !ok {
			return nil, nil
		}
		return c.text(r, out)
	}
}

func always(to func(string) string) coder {
	return func(s string) (string, bool) { return to(s), true }
}

func decoded(from func(string) ([]byte, error)) coder {
	return func(s string) (string, bool) {
		b, err := from(s)
		return string(b), err == nil && utf8.Valid(b)
	}
}

var encoders = map[string]coder{
	"base64":    always(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }),
	"urlbase64": always(func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) }),
	"hex":       always(func(s string) string { return hex.EncodeToString([]byte(s)) }),
}

var decoders = map[string]coder{
	"base64":    decoded(base64.StdEncoding.DecodeString),
	"urlbase64": decoded(base64.URLEncoding.DecodeString),
	"hex":       decoded(hex.DecodeString),
}

var escapers = map[string]coder{
	"html": always(strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;").Replace),
	"json": always(func(s string) string {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(s)                  // a string can always be encoded
		return b.String()[1 : b.Len()-2] // without quotes and line break
	}),
}

var unescapers = map[string]coder{
	"html": always(html.UnescapeString),
	"json": func(s string) (string, bool) {
		var b strings.Builder
		for i := 0; i < len(s); i++ {
			if s[i] != '\\' {
				b.WriteByte(s[i])
				continue
			}
			n, ok := unescape(&b, s[i+1:])
			if !ok {
				return "", false
			}
			i += n
		}
		return b.String(), true
	},
}
