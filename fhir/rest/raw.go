package rest

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// The functions of this file cut compact JSON that fhir.Parse has read, or
// that the store serves. Bytes are cut and joined and never encoded anew, so
// that what a client sent is what clients get. On other input the functions
// end, and what they find has no meaning.

// members calls fn with the name and the value of each member of the object b
// until fn returns false.
func members(b []byte, fn func(name string, value []byte) bool) {
	i := 1
	for i < len(b) && b[i] == '"' {
		end := skip(b, i)
		name := text(b[i:end])
		if end >= len(b) || b[end] != ':' {
			return
		}
		i = end + 1
		end = skip(b, i)
		if !fn(name, b[i:end]) || end >= len(b) || b[end] != ',' {
			return
		}
		i = end + 1
	}
}

// elements calls fn with each element of the array b until fn returns false.
func elements(b []byte, fn func(value []byte) bool) {
	i := 1
	for i < len(b) && b[i] != ']' {
		end := skip(b, i)
		if end == i || !fn(b[i:end]) || end >= len(b) || b[end] != ',' {
			return
		}
		i = end + 1
	}
}

// member returns the value of the member of b with the name, nil if it has
// none.
func member(b []byte, name string) (value []byte) {
	if len(b) == 0 || b[0] != '{' {
		return nil
	}
	members(b, func(n string, v []byte) bool {
		if n == name {
			value = v
		}
		return value == nil
	})
	return value
}

// skip returns the end of the value that begins at i.
func skip(b []byte, i int) int {
	if i >= len(b) {
		return i
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return i
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' {
		i++
	}
	return i
}

func skipString(b []byte, i int) int {
	i++
	for i < len(b) {
		j := bytes.IndexByte(b[i:], '"')
		if j < 0 {
			return len(b)
		}
		i += j + 1
		slashes := 0
		for k := i - 2; k >= 0 && b[k] == '\\'; k-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
	return len(b)
}

// text returns the string that the JSON string raw spells, "" if raw is no
// string.
func text(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	s, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return ""
	}
	return string(s)
}

// An edit replaces the bytes from begin to end.
type edit struct {
	begin, end int
	with       []byte
}

// splice returns b with the edits, which are in order and do not overlap.
func splice(b []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return b
	}
	n := len(b)
	for _, e := range edits {
		n += len(e.with) - (e.end - e.begin)
	}
	out, at := make([]byte, 0, n), 0
	for _, e := range edits {
		out = append(append(out, b[at:e.begin]...), e.with...)
		at = e.end
	}
	return append(out, b[at:]...)
}
