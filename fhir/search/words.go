package search

import (
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
)

// HasWords holds where the Words, folded and as they follow each other, are in
// the narrative of a resource of the Type, or if Content is set anywhere in the
// resource. Of the types whose words are in the index, an index narrows it;
// Beyond is for those that have more words than it holds.
// https://hl7.org/fhir/R4/search.html#content
type HasWords struct {
	Type    fhir.Type
	Content bool
	Words   string
	Beyond  bool
}

func (HasWords) expr() {}

// worded are the types whose words are in the index: documents, in which
// people look for words. Of the others a search opens what its other
// parameters find.
var worded = map[fhir.Type]bool{
	"ClinicalImpression": true, "Composition": true, "DiagnosticReport": true, "DocumentReference": true,
}

// maxWords is how many different words of a resource are in the index.
const maxWords = 4096

// wordCost is what it costs to look for a word, in conditions. In a search of
// many types the types share it: a resource is looked through once.
const wordCost = 20

func wordPath(t fhir.Type) Path { return Path(t) + ":word" }

// Keys returns tokens all of which the index holds for a resource that h
// matches, if it holds any of the type.
func (h HasWords) Keys() []Token {
	switch {
	case !worded[h.Type]:
		return nil
	case h.Beyond:
		return []Token{{wordPath(h.Type), beyond}}
	}
	var keys []Token
	for word := range strings.SplitSeq(h.Words, " ") {
		if len(keys) < maxKeys {
			keys = append(keys, Token{wordPath(h.Type), word})
		}
	}
	return keys
}

// readWords reads _text and _content: words that are all there, and phrases in
// quotes. Commas separate alternatives.
func readWords(tb *table, name, value string, o Options, _ int) (Expr, error) {
	or := Or{}
	for _, text := range splitEscaped(value, ',') {
		text, err := unescape(name, text)
		if err != nil {
			return nil, err
		}
		and := And{}
		for i, part := range strings.Split(text, `"`) {
			parts := strings.Fields(part)
			if i%2 == 1 {
				parts = []string{part}
			}
			for _, p := range parts {
				if words := fold(p); words != "" {
					and = append(and, tb.words(name == "_content", words))
				}
			}
		}
		if err := o.spend(name, len(and)*max(1, wordCost/o.types)); err != nil {
			return nil, err
		}
		if len(and) == 0 {
			return nil, invalid(name, "has neither letters nor digits to look for")
		}
		or = append(or, and)
	}
	return or.simple(), nil
}

func (tb *table) words(content bool, words string) Expr {
	h := HasWords{Type: tb.t, Content: content, Words: words}
	if !worded[tb.t] {
		return h
	}
	more := h
	more.Beyond = true
	return Or{h, more}
}

// holds reports whether the words are in the resource with the terms.
func (h HasWords) holds(t *Terms) bool {
	if t.tree == nil || string(t.tree.GetStringBytes("resourceType")) != string(h.Type) {
		return false
	}
	return strings.Contains(t.wording(h.Content), " "+h.Words+" ")
}

// wording returns the words of the resource with the terms, each between two
// spaces.
func (t *Terms) wording(content bool) string {
	said := &t.narrative
	if content {
		said = &t.content
	}
	if *said == "" {
		*said = " " + strings.Join(wordsOf(t.tree, content), " ") + " "
	}
	return *said
}

// words indexes the different words of a resource.
func (x *indexer) words(t fhir.Type) {
	path := wordPath(t)
	seen := map[string]bool{}
	for _, text := range wordsOf(x.root, true) {
		for word := range strings.SplitSeq(text, " ") {
			if word == "" || seen[word] {
				continue
			}
			if len(seen) == maxWords {
				x.token(path, beyond)
				return
			}
			seen[word] = true
			x.token(path, word)
		}
	}
}

// wordsOf returns the folded texts of a resource: its narrative, or all of it.
func wordsOf(tree value, content bool) []string {
	if !content {
		return []string{fold(plain(text(tree.Get("text", "div"))))}
	}
	var list []string
	collect("", tree, &list)
	return list
}

// collect appends the folded texts of v, the member of an object by name. What
// is attached is read if it is text.
func collect(name string, v value, list *[]string) {
	switch v.Type() {
	case fastjson.TypeObject:
		if name == "meta" { // of which the server sets a part
			return
		}
		if data := text(v.Get("data")); data != "" && strings.HasPrefix(text(v.Get("contentType")), "text/") {
			if raw, err := base64.StdEncoding.DecodeString(data); err == nil && utf8.Valid(raw) {
				*list = append(*list, fold(plain(string(raw))))
			}
		}
		v.GetObject().Visit(func(key []byte, m *fastjson.Value) { collect(string(key), m, list) })
	case fastjson.TypeArray:
		for _, item := range v.GetArray() {
			collect(name, item, list)
		}
	case fastjson.TypeString:
		s := text(v)
		switch {
		case name == "data" || name == "id" || name == "reference" || name == "resourceType":
			return
		case name == "div":
			s = plain(s)
		}
		if s = fold(s); s != "" {
			*list = append(*list, s)
		}
	}
}

// inline are the elements of XHTML that do not part words.
var inline = []string{"a", "abbr", "b", "big", "em", "font", "i", "small", "span", "strong", "sub", "sup", "tt", "u"}

// entities are those that narratives are written with; others are space.
var entities = strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">", "&quot;", `"`, "&apos;", "'", "&nbsp;", " ", "&#160;", " ")

// plain returns the text of XHTML, or text as it is.
func plain(s string) string {
	if strings.IndexByte(s, '<') < 0 {
		return entities.Replace(s)
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "<")
		b.WriteString(before)
		if !ok {
			return entities.Replace(b.String())
		}
		tag, rest, _ := strings.Cut(after, ">")
		element, _, _ := strings.Cut(strings.Trim(tag, "/"), " ")
		if !slices.Contains(inline, element) {
			b.WriteByte(' ')
		}
		s = rest
	}
}
