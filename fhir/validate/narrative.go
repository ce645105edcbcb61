package validate

import (
	"bytes"
	"encoding/xml"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
)

// narrative holds a Narrative.div against txt-1 and txt-2: one div of
// well-formed XHTML with formatting only, nothing that runs, and some content.
// https://hl7.org/fhir/R4/narrative.html
func (w *walker) narrative(v *fastjson.Value) {
	if v.Type() != fastjson.TypeString {
		w.fault(fhir.Value, "div is not a valid xhtml: want a JSON string")
		return
	}
	if rule := XHTML(v.GetStringBytes()); rule != "" {
		w.fault(fhir.Value, "div is not a valid xhtml: %s", rule)
	}
}

// XHTML returns the rule that text breaks as the div of a Narrative, "" if it
// breaks none.
// https://hl7.org/fhir/R4/narrative.html#rules
func XHTML(text []byte) string {
	x := xhtml{text: text}
	return x.check()
}

const xhtmlNamespace = "http://www.w3.org/1999/xhtml"

// maxNesting is how deep elements of a narrative may nest.
const maxNesting = 128

// Elements and attributes that txt-1 allows.
var (
	htmlElements = wordSet(`a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em
		h1 h2 h3 h4 h5 h6 hr i img li ol p pre q s samp small span strong sub sup table tbody td tfoot th thead tr
		tt u ul var`)
	htmlAttributes = wordSet(`abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing
		cellvalign char charoff charset cite class colspan compact coords dir frame headers height href hreflang
		hspace id lang longdesc name nowrap rel rev rowspan rules scope shape span src start style summary tabindex
		title type valign value vspace width xml:lang xml:space xmlns`)
)

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(words) {
		set[word] = true
	}
	return set
}

// xhtml reads XHTML as strictly as XML is read, and refuses what an HTML
// reader might understand otherwise.
type xhtml struct {
	text    []byte
	open    [][]byte // names of the open elements
	content bool     // there is text or an image
}

// check returns the rule that the text breaks, "" if it breaks none.
func (x *xhtml) check() string {
	if rule := characters(x.text); rule != "" {
		return rule
	}
	x.text = bytes.TrimSpace(x.text)
	if !bytes.HasPrefix(x.text, []byte("<div")) {
		return "want a div"
	}
	for len(x.text) > 0 {
		var rule string
		switch {
		case bytes.HasPrefix(x.text, []byte("<!--")):
			rule = x.comment()
		case bytes.HasPrefix(x.text, []byte("<!")), bytes.HasPrefix(x.text, []byte("<?")):
			rule = "it has a declaration, a processing instruction or CDATA"
		case bytes.HasPrefix(x.text, []byte("</")):
			rule = x.endTag()
		case x.text[0] == '<':
			rule = x.startTag()
		default:
			rule = x.characters()
		}
		if rule != "" {
			return rule
		}
		if len(x.open) == 0 && len(x.text) > 0 {
			return "there is text after the div"
		}
	}
	if len(x.open) > 0 {
		return "an element is not closed"
	}
	if !x.content {
		return "txt-2: it must have some content"
	}
	return ""
}

// comment skips a comment. HTML ends <!--> and <!---> at once where XML reads
// on to the next -->, which could hide a tag: such a beginning is refused.
func (x *xhtml) comment() string {
	body, rest, ok := bytes.Cut(x.text[len("<!--"):], []byte("--"))
	if !ok || len(rest) == 0 || rest[0] != '>' || bytes.HasPrefix(body, []byte(">")) || bytes.HasPrefix(body, []byte("->")) {
		return "a comment is malformed"
	}
	x.text = rest[1:]
	return ""
}

func (x *xhtml) endTag() string {
	name, rest := cutName(x.text[len("</"):])
	rest = bytes.TrimLeft(rest, " \t\r\n")
	if len(rest) == 0 || rest[0] != '>' || len(x.open) == 0 || !bytes.Equal(name, x.open[len(x.open)-1]) {
		return "tags do not match"
	}
	x.open = x.open[:len(x.open)-1]
	x.text = rest[1:]
	return ""
}

func (x *xhtml) startTag() string {
	name, rest := cutName(x.text[1:])
	if !htmlElements[string(name)] {
		return "it has an element that a narrative must not have"
	}
	attributes, rest, rule := readAttributes(string(name), rest)
	if rule != "" {
		return rule
	}
	if len(x.open) == 0 && !slices.Contains(attributes, "xmlns") {
		return "the div must be in the namespace of XHTML"
	}
	if string(name) == "img" {
		x.content = true
	}
	if after, ok := bytes.CutPrefix(rest, []byte("/>")); ok {
		x.text = after
		return ""
	}
	x.text = rest[len(">"):]
	if x.open = append(x.open, name); len(x.open) > maxNesting {
		return "elements are nested too deep"
	}
	return ""
}

// characters reads text up to the next tag.
func (x *xhtml) characters() string {
	end := bytes.IndexByte(x.text, '<')
	if end < 0 {
		end = len(x.text)
	}
	text, ok := unescape(x.text[:end])
	if !ok {
		return "it has a malformed or unknown entity"
	}
	x.content = x.content || len(bytes.Trim(text, " \t\r\n")) > 0
	x.text = x.text[end:]
	return ""
}

// cutName reads the name at the start of s.
func cutName(s []byte) (name, rest []byte) {
	i := 0
	for i < len(s) && (s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || s[i] >= '0' && s[i] <= '9' || s[i] == ':' || s[i] == '-' || s[i] == '_') {
		i++
	}
	return s[:i], s[i:]
}

// readAttributes reads the attributes of a tag and returns their names. rest
// begins with the > or /> that ends the tag.
func readAttributes(tag string, s []byte) (names []string, rest []byte, rule string) {
	for {
		spaced := bytes.TrimLeft(s, " \t\r\n")
		if bytes.HasPrefix(spaced, []byte(">")) || bytes.HasPrefix(spaced, []byte("/>")) {
			return names, spaced, ""
		}
		raw, after := cutName(spaced)
		name := string(raw)
		value, after, ok := cutValue(after)
		switch {
		case len(spaced) == len(s) || !ok:
			return nil, nil, "a tag is malformed"
		case slices.Contains(names, name):
			return nil, nil, "an attribute occurs twice"
		case !htmlAttributes[name]:
			return nil, nil, "it has an attribute that a narrative must not have"
		}
		if rule := attributeRule(tag, name, value); rule != "" {
			return nil, nil, rule
		}
		names, s = append(names, name), after
	}
}

// cutValue reads ="value" at the start of s, with its entities replaced.
func cutValue(s []byte) (value, rest []byte, ok bool) {
	s, ok = bytes.CutPrefix(bytes.TrimLeft(s, " \t\r\n"), []byte("="))
	s = bytes.TrimLeft(s, " \t\r\n")
	if !ok || len(s) == 0 || s[0] != '"' && s[0] != '\'' {
		return nil, nil, false
	}
	value, rest, ok = bytes.Cut(s[1:], s[:1])
	if !ok || bytes.IndexByte(value, '<') >= 0 {
		return nil, nil, false
	}
	value, ok = unescape(value)
	return value, rest, ok
}

// attributeRule returns the rule that the value of an attribute breaks.
func attributeRule(tag, name string, value []byte) string {
	switch name {
	case "xmlns":
		if string(value) != xhtmlNamespace {
			return "it has another namespace than that of XHTML"
		}
	case "href", "src", "cite", "longdesc":
		if !safeURL(tag, string(value)) {
			return "it has a link of a kind that a narrative must not have"
		}
	case "style":
		if !safeStyle(string(value)) {
			return "it has a style that a narrative must not have"
		}
	}
	return ""
}

var schemes = wordSet("http https mailto tel ftp sftp urn cid")

// safeURL reports whether following the URL cannot run anything: it is
// relative, of a harmless scheme, or the data of a bitmap in an img.
func safeURL(tag, url string) bool {
	url = strings.Map(func(r rune) rune { // browsers skip these
		if r <= ' ' || isWhite(r) {
			return -1
		}
		return r
	}, strings.ToLower(url))
	colon := strings.IndexByte(url, ':')
	if colon < 0 || strings.ContainsAny(url[:colon], "/?#") {
		return true
	}
	if tag == "img" && strings.HasPrefix(url, "data:image/") && !strings.HasPrefix(url, "data:image/svg") {
		return true
	}
	return schemes[url[:colon]]
}

// safeStyle reports whether the style formats and does nothing else: it runs
// nothing, imports nothing, loads only what an img may load, and hides none of
// that behind escapes or comments.
func safeStyle(style string) bool {
	style = strings.ToLower(style)
	for _, s := range []string{`\`, "/*", "@", "expression", "javascript", "behavior", "binding", "image(", "image-set("} {
		if strings.Contains(style, s) {
			return false
		}
	}
	for {
		_, after, found := strings.Cut(style, "url(")
		if !found {
			return true
		}
		url, rest, closed := strings.Cut(after, ")")
		if !closed || !safeURL("img", strings.Trim(url, ` '"`)) {
			return false
		}
		style = rest
	}
}

// unescape replaces the entities of s. ok is false if one is malformed or
// unknown.
func unescape(s []byte) (out []byte, ok bool) {
	if bytes.IndexByte(s, '&') < 0 {
		return s, true
	}
	for {
		before, rest, found := bytes.Cut(s, []byte("&"))
		out = append(out, before...)
		if !found {
			return out, true
		}
		name, after, ok := bytes.Cut(rest, []byte(";"))
		if !ok {
			return nil, false
		}
		text, ok := entity(string(name))
		if !ok {
			return nil, false
		}
		out, s = append(out, text...), after
	}
}

// entity returns what &name; stands for: a character by number, or one that
// XML or HTML 4 names.
func entity(name string) (string, bool) {
	switch name {
	case "lt":
		return "<", true
	case "gt":
		return ">", true
	case "amp":
		return "&", true
	case "quot":
		return `"`, true
	case "apos":
		return "'", true
	}
	digits, numeric := strings.CutPrefix(name, "#")
	if !numeric {
		text, ok := xml.HTMLEntity[name]
		return text, ok
	}
	base := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || n < ' ' && n != '\t' && n != '\r' && n != '\n' || !utf8.ValidRune(rune(n)) {
		return "", false
	}
	return string(rune(n)), true
}
