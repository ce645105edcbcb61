package rest

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A rewriter replaces the references in resources of a transaction, wherever
// their types say that there can be one: Reference.reference, elements of type
// uri, url, oid and uuid, and links in narrative. What is a string or an
// identifier's value stays, whatever it looks like.
// https://hl7.org/fhir/R4/http.html#trules
type rewriter struct {
	// target returns what takes the place of a URL, "" if nothing does.
	// literal says that it is the URL of a Reference.
	target func(url string, literal bool) string
	edits  []edit
}

// rewrite returns the JSON of a resource with its references replaced.
func (w *rewriter) rewrite(resource []byte) []byte {
	w.edits = w.edits[:0]
	w.resource(resource, 0)
	return splice(resource, w.edits)
}

// resource walks the resource that begins at i and returns its end.
func (w *rewriter) resource(b []byte, i int) int {
	end := skip(b, i)
	t := r4.TypeOf(text(member(b[i:end], "resourceType")))
	if t == nil {
		return end
	}
	return w.object(b, i, t)
}

// object walks the members of an object of the type.
func (w *rewriter) object(b []byte, i int, t *r4.Type) int {
	if i >= len(b) || b[i] != '{' {
		return skip(b, i)
	}
	for i++; i < len(b) && b[i] == '"'; i++ {
		end := skip(b, i)
		name := b[i+1 : max(end-1, i+1)]
		i = w.value(b, end+1, t, name)
		if i >= len(b) || b[i] != ',' {
			break
		}
	}
	return i + 1
}

// value walks the value of a member.
func (w *rewriter) value(b []byte, i int, t *r4.Type, name []byte) int {
	if i >= len(b) {
		return i
	}
	e := t.Element(string(name))
	if e == nil {
		// The extensions of a primitive stand beside it.
		if len(name) > 1 && name[0] == '_' {
			return w.each(b, i, func(i int) int { return w.object(b, i, elementType) })
		}
		return skip(b, i)
	}
	if t := e.Complex(); t != nil {
		if t.Path == "Resource" {
			return w.each(b, i, func(i int) int { return w.resource(b, i) })
		}
		return w.each(b, i, func(i int) int { return w.object(b, i, t) })
	}
	switch e.Primitive() {
	case r4.URI, r4.URL, r4.OID, r4.UUID:
		return w.each(b, i, func(i int) int { return w.url(b, i, false) })
	case r4.XHTML:
		return w.each(b, i, func(i int) int { return w.narrative(b, i) })
	case r4.String:
		if t == referenceType && string(name) == "reference" {
			return w.url(b, i, true)
		}
	}
	return skip(b, i)
}

var (
	elementType   = r4.TypeOf("Element")
	referenceType = r4.TypeOf("Reference")
)

// each walks a value, or each item of a list.
func (w *rewriter) each(b []byte, i int, one func(i int) int) int {
	if b[i] != '[' {
		return one(i)
	}
	for i++; i < len(b) && b[i] != ']'; i++ {
		if i = one(i); i >= len(b) || b[i] != ',' {
			break
		}
	}
	return i + 1
}

// url replaces one string. A fragment is kept.
func (w *rewriter) url(b []byte, i int, literal bool) int {
	end := skip(b, i)
	if b[i] != '"' {
		return end
	}
	if with := w.replace(text(b[i:end]), literal); with != "" {
		w.edits = append(w.edits, edit{i, end, quote(nil, with)})
	}
	return end
}

func (w *rewriter) replace(url string, literal bool) string {
	url, fragment, has := strings.Cut(url, "#")
	if url == "" {
		return ""
	}
	with := w.target(url, literal)
	if with != "" && has {
		with += "#" + fragment
	}
	return with
}

// hyperlink finds href and src in XHTML that is written as a JSON string.
var hyperlink = regexp.MustCompile(`(?:href|src)\s*=\s*(?:\\"([^"\\<>]*)\\"|'([^'\\<>]*)')`)

// narrative replaces links in XHTML.
// https://hl7.org/fhir/R4/narrative.html
func (w *rewriter) narrative(b []byte, i int) int {
	end := skip(b, i)
	div := b[i:end]
	if !bytes.Contains(div, []byte("href")) && !bytes.Contains(div, []byte("src")) {
		return end
	}
	for _, m := range hyperlink.FindAllSubmatchIndex(div, -1) {
		from, to := m[2], m[3]
		if from < 0 {
			from, to = m[4], m[5]
		}
		if with := w.replace(string(div[from:to]), false); with != "" {
			w.edits = append(w.edits, edit{i + from, i + to, []byte(with)})
		}
	}
	return end
}

// restful splits an absolute URL ".../Type/id" into its base and reference.
func restful(url string) (base string, ref fhir.Ref, ok bool) {
	id := strings.LastIndexByte(url, '/')
	if id < 0 {
		return "", fhir.Ref{}, false
	}
	t := strings.LastIndexByte(url[:id], '/')
	if t < 0 || !strings.Contains(url[:t], "://") {
		return "", fhir.Ref{}, false
	}
	ref, err := fhir.ParseRef(url[t+1:])
	return url[:t], ref, err == nil
}
