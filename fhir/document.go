package fhir

import (
	"bytes"
	"errors"
	"iter"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fastjson"
)

// A Document is the JSON of one resource as a client sent it, read once and
// known to be well-formed. Whether it is a valid resource is for fhir/validate.
type Document struct {
	Type Type
	ID   string // the id in it, "" if there is none
	// JSON is what was sent without insignificant white space, all else byte
	// for byte.
	JSON []byte
	// Tree is JSON as a tree, for walking. It must not be changed, and as it
	// unescapes strings when they are first read, only one goroutine may walk
	// it at a time.
	Tree *fastjson.Value
}

// LogValue keeps clinical content out of logs: only the type of d is shown, as
// even its id is still what a client wrote.
func (d *Document) LogValue() slog.Value { return slog.StringValue(string(d.Type)) }

// Limits bound what Parse accepts. The zero Limits are the defaults.
type Limits struct {
	Bytes int // default 16 MiB
	Depth int // nesting of arrays and objects; default 64, at most 256
	Nodes int // values of any kind; default 1,000,000
}

// maxNumber is how many characters a number may have. The longest number that
// a clinical resource needs has about twenty.
const maxNumber = 64

func (l Limits) orDefault() Limits {
	if l.Bytes <= 0 {
		l.Bytes = 16 << 20
	}
	if l.Depth <= 0 {
		l.Depth = 64
	}
	l.Depth = min(l.Depth, 256) // fastjson stops at 300
	if l.Nodes <= 0 {
		l.Nodes = 1_000_000
	}
	return l
}

// Parse reads the JSON of one resource. A *fhir.Error with code Structure (or
// TooLong) says what is wrong and where; it holds no value of the resource.
// Refused are malformed JSON, invalid UTF-8, duplicate keys, text after the
// document, member names written with escapes, and what exceeds the limits.
// https://hl7.org/fhir/R4/json.html
func Parse(body []byte, lim Limits) (*Document, error) {
	lim = lim.orDefault()
	if len(body) > lim.Bytes {
		return nil, Errorf(TooLong, "the resource is longer than %d bytes", lim.Bytes)
	}
	if err := bound(body, lim); err != nil {
		return nil, err
	}
	compact, err := jsontext.AppendFormat(make([]byte, 0, len(body)), body, jsontext.PreserveRawStrings(true))
	if err != nil {
		return nil, malformed(body, err)
	}
	return Reopen(compact)
}

// Reopen reads JSON that needs no second check: what Stamp made, or the part
// of a Document's JSON that is a resource in it. The Document keeps json,
// which must not change. It fails as Parse does if json is not that of a
// resource.
func Reopen(json []byte) (*Document, error) {
	var p fastjson.Parser // the tree lives in it, so it cannot be shared
	return reopen(&p, json)
}

// parsers are those of Peek, each with the memory of trees it has built.
var parsers = sync.Pool{New: func() any { return new(fastjson.Parser) }}

// maxPeeked bounds the documents whose trees are kept to be built over.
const maxPeeked = 256 << 10

// Peek calls fn with what Reopen returns for json, at a third of its cost. The
// Document lives in memory that is used again: it, its Tree and every string
// taken from them, such as those of search terms, end with fn.
func Peek(json []byte, fn func(*Document) error) error {
	p := parsers.Get().(*fastjson.Parser)
	d, err := reopen(p, json)
	if err == nil {
		err = fn(d)
	}
	if len(json) <= maxPeeked {
		parsers.Put(p)
	}
	return err
}

func reopen(p *fastjson.Parser, json []byte) (*Document, error) {
	tree, err := p.ParseBytes(json)
	if err != nil {
		return nil, Errorf(Structure, "the body is not well-formed JSON")
	}
	o, err := tree.Object()
	if err != nil {
		return nil, Errorf(Structure, "a resource is a JSON object")
	}
	d := &Document{JSON: json, Tree: tree}
	var fault *Error
	o.Visit(func(name []byte, v *fastjson.Value) {
		if fault == nil {
			fault = d.top(name, v)
		}
	})
	if fault != nil {
		return nil, fault
	}
	if d.Type == "" {
		return nil, Errorf(Structure, "resourceType is missing")
	}
	return d, nil
}

// top reads one member of the resource. Names that a lenient reader could take
// for one of those that decide what the resource is are refused.
func (d *Document) top(name []byte, v *fastjson.Value) *Error {
	switch string(name) {
	case "resourceType":
		if v.Type() != fastjson.TypeString {
			return Errorf(Structure, "resourceType must be a string")
		}
		if d.Type = Type(v.GetStringBytes()); !d.Type.Known() {
			return Errorf(Structure, "resourceType is not the name of a resource type of R4")
		}
	case "id":
		if v.Type() != fastjson.TypeString {
			return Errorf(Structure, "id must be a string")
		}
		d.ID = string(v.GetStringBytes())
	case "meta":
		if v.Type() != fastjson.TypeObject {
			return Errorf(Structure, "meta must be an object")
		}
	default:
		for _, known := range []string{"resourceType", "id", "meta"} {
			if strings.EqualFold(known, string(name)) {
				return Errorf(Structure, "a member is spelled almost like %s; names are case-sensitive", known)
			}
		}
	}
	return nil
}

// bound holds body against the limits before anything is allocated for it. It
// reads just enough JSON to count; what is malformed is found later.
func bound(body []byte, lim Limits) error {
	depth, nodes := 0, 0
	for i := 0; i < len(body); {
		switch body[i] {
		case ' ', '\t', '\r', '\n', ',', ':':
			i++
			continue
		case '{', '[':
			i++
			if depth++; depth > lim.Depth {
				return Errorf(Structure, "arrays and objects are nested more than %d deep", lim.Depth)
			}
		case '}', ']':
			i++
			depth--
			continue
		case '"':
			start := i
			i = skipString(body, i)
			after := i
			for after < len(body) && isSpace(body[after]) {
				after++
			}
			if after < len(body) && body[after] == ':' {
				if bytes.IndexByte(body[start:i], '\\') >= 0 {
					return Errorf(Structure, "a member name is written with an escape")
				}
				continue
			}
		default:
			start := i
			for i < len(body) && !isDelimiter(body[i]) {
				i++
			}
			if i-start > maxNumber {
				return Errorf(Structure, "a number or literal is longer than %d characters", maxNumber)
			}
		}
		if nodes++; nodes > lim.Nodes {
			return Errorf(TooLong, "the resource has more than %d values", lim.Nodes)
		}
	}
	return nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func isDelimiter(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', ',', ':', '{', '}', '[', ']', '"':
		return true
	}
	return false
}

// skipString returns where the string that begins at i ends.
func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// skipValue returns where the value that begins at i ends, in compact JSON
// known to be well-formed.
func skipValue(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			i = skipString(b, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		default:
			if i++; i < len(b) && !isDelimiter(b[i]) {
				continue
			}
		}
		if depth == 0 {
			return i
		}
	}
	return len(b)
}

// Members yields the name and the raw value of each member of obj, in order.
// obj is the compact JSON of an object, such as the JSON of a Document or a
// value that Members or Items yielded.
func Members(obj []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := 1; i < len(obj) && obj[i] == '"'; i++ {
			colon := skipString(obj, i)
			end := skipValue(obj, colon+1)
			if !yield(obj[i+1:colon-1], obj[colon+1:end]) {
				return
			}
			i = end
		}
	}
}

// Items yields the raw value of each item of arr, in order. arr is the compact
// JSON of an array.
func Items(arr []byte) iter.Seq[[]byte] {
	return func(yield func(value []byte) bool) {
		for i := 1; i < len(arr) && arr[i] != ']'; i++ {
			end := skipValue(arr, i)
			if !yield(arr[i:end]) {
				return
			}
			i = end
		}
	}
}

// instant is the form of lastUpdated.
// https://hl7.org/fhir/R4/datatypes.html#instant
const instant = "2006-01-02T15:04:05.000Z"

// Stamp returns the JSON of the document as it is stored and served: with the
// id, meta.versionId and meta.lastUpdated given and everything else as it was.
// The id must be a ValidID; it is spliced in as it is.
func (d *Document) Stamp(id string, version int64, updated time.Time) []byte {
	var meta []byte
	var few [32][2][]byte
	rest := few[:0]
	for name, value := range Members(d.JSON) {
		switch string(name) {
		case "resourceType", "id":
		case "meta":
			meta = value
		default:
			rest = append(rest, [2][]byte{name, value})
		}
	}
	out := make([]byte, 0, len(d.JSON)+len(id)+128)
	out = append(out, `{"resourceType":"`...)
	out = append(out, d.Type...)
	out = append(out, `","id":"`...)
	out = append(out, id...)
	out = append(out, `","meta":{"versionId":"`...)
	out = strconv.AppendInt(out, version, 10)
	out = append(out, `","lastUpdated":"`...)
	out = updated.UTC().AppendFormat(out, instant)
	out = append(out, '"')
	for name, value := range Members(meta) {
		if s := string(name); s != "versionId" && s != "lastUpdated" {
			out = appendMember(out, name, value)
		}
	}
	out = append(out, '}')
	for _, m := range rest {
		out = appendMember(out, m[0], m[1])
	}
	return append(out, '}')
}

func appendMember(out, name, value []byte) []byte {
	out = append(out, ',', '"')
	out = append(out, name...)
	out = append(out, '"', ':')
	return append(out, value...)
}

// malformed says what the JSON reader found wrong, in words of our own because
// the reader's may quote the text.
func malformed(body []byte, err error) *Error {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return Errorf(Structure, "the body is not well-formed JSON")
	}
	var e *Error
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return Errorf(Structure, "the body is empty")
	case errors.Is(err, jsontext.ErrDuplicateName):
		e = Errorf(Structure, "a member occurs twice, at byte %d", syntax.ByteOffset)
	case !utf8.Valid(body):
		e = Errorf(Structure, "the body is not UTF-8, at byte %d", syntax.ByteOffset)
	case int(syntax.ByteOffset) >= len(body):
		e = Errorf(Structure, "the JSON ends too early")
	default:
		e = Errorf(Structure, "the JSON is malformed at byte %d", syntax.ByteOffset)
	}
	return e.At(place(body, syntax.JSONPointer))
}

// place turns the JSON pointer of a fault in body into the FHIRPath of the
// nearest element whose name R4 defines: any other name may be clinical text.
func place(body []byte, p jsontext.Pointer) string {
	typ, arrays := retrace(body)
	var b strings.Builder
	b.WriteString(string(typ))
	depth := 0
	for token := range p.Tokens() {
		depth++
		switch {
		case depth < len(arrays) && arrays[depth]:
			b.WriteString("[" + token + "]")
		case IsElementName(token):
			b.WriteString("." + strings.TrimPrefix(token, "_"))
		default:
			return b.String()
		}
	}
	return b.String()
}

// retrace reads body up to its fault. It returns the resourceType seen by
// then, or Resource, and for each depth whether an array is open there; a
// pointer alone does not tell the index of an array from the name 7.
func retrace(body []byte) (typ Type, arrays []bool) {
	typ = "Resource"
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	for isType := false; ; {
		tok, err := dec.ReadToken()
		if err != nil {
			break
		}
		if tok.Kind() == '"' && dec.StackDepth() == 1 {
			if text := tok.String(); isType && Type(text).Known() {
				typ = Type(text)
			}
			_, n := dec.StackIndex(1)
			isType = n%2 == 1 && tok.String() == "resourceType"
		}
	}
	for i := range dec.StackDepth() + 1 {
		kind, _ := dec.StackIndex(i)
		arrays = append(arrays, kind == '[')
	}
	return typ, arrays
}

// IsElementName reports whether R4 has an element that JSON spells so, alone
// or as the sibling "_name" of a primitive. A name that is none may be
// anything a client wrote and must not be repeated in an error or a log.
// https://hl7.org/fhir/R4/json.html
func IsElementName(name string) bool {
	name = strings.TrimPrefix(name, "_")
	return name != "" && !strings.ContainsAny(name, "\n") && strings.Contains(elementNames, "\n"+name+"\n")
}
