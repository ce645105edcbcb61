package rest

import (
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// subsetted marks a resource that lacks something, so that nobody stores it
// back.
// https://hl7.org/fhir/R4/search.html#summary
const subsetted = `{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}`

// show returns body as _summary and _elements ask for it.
// https://hl7.org/fhir/R4/search.html#elements
func (f *format) show(t fhir.Type, body []byte) []byte {
	keep := f.kept(t)
	if keep == nil {
		return body
	}
	out := append(make([]byte, 0, len(body)), '{')
	tagged := false
	members(body, func(name string, value []byte) bool {
		switch bare := strings.TrimPrefix(name, "_"); {
		case name == "meta":
			value, tagged = tag(value), true
		case name != "resourceType" && name != "id" && !keep(bare):
			return true
		case f.summary == "true" && len(f.elements) == 0:
			value = summarize(r4.ElementOf(string(t), name), value)
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(append(out, '"'), name...), `":`...), value...)
		return true
	})
	if !tagged {
		out = append(out, `,"meta":{"tag":[`+subsetted+`]}`...)
	}
	return append(out, '}')
}

// showIncluded is show for what an include added: _elements speaks of it where
// it names the type, else of the matches alone.
func (f *format) showIncluded(t fhir.Type, body []byte) []byte {
	if len(f.elements) > 0 && !slices.ContainsFunc(f.elements, func(e string) bool { return strings.HasPrefix(e, string(t)+".") }) {
		return body
	}
	return f.show(t, body)
}

// summarize returns what _summary=true shows of the value of an element: what
// is marked so in its type, and what the type cannot be without.
// https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.isSummary
func summarize(e *r4.Element, value []byte) []byte {
	if e == nil || e.Complex() == nil || e.Type() == "Resource" {
		return value
	}
	if value[0] == '[' {
		out := []byte{'['}
		elements(value, func(one []byte) bool {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(out, summarize(e, one)...)
			return true
		})
		return append(out, ']')
	}
	out := []byte{'{'}
	members(value, func(name string, value []byte) bool {
		of := e.Complex().Element(strings.TrimPrefix(name, "_"))
		if of == nil || !of.Summary() && !of.Required() {
			return true
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		if name[0] != '_' {
			value = summarize(of, value)
		}
		out = append(append(append(append(out, '"'), name...), `":`...), value...)
		return true
	})
	if len(out) == 1 { // an object must not be empty
		return value
	}
	return append(out, '}')
}

// kept returns what tells the elements of a type that are shown, nil if all
// are.
func (f *format) kept(t fhir.Type) func(name string) bool {
	mandatory := r4.Mandatory(t)
	if len(f.elements) > 0 {
		return func(name string) bool {
			return slices.Contains(mandatory, name) || slices.ContainsFunc(f.elements, func(e string) bool {
				return isElement(t, e, name)
			})
		}
	}
	switch f.summary {
	case "true":
		summary := r4.Summary(t)
		return func(name string) bool { return slices.Contains(summary, name) }
	case "text":
		return func(name string) bool { return name == "text" || slices.Contains(mandatory, name) }
	case "data":
		return func(name string) bool { return name != "text" }
	}
	return nil
}

// isElement reports whether asked, "name", "Type.name" or "value" for
// "valueQuantity", names the member of a resource of the type. A path below
// the top keeps the whole element.
func isElement(t fhir.Type, asked, name string) bool {
	if first, below, ok := strings.Cut(asked, "."); ok && fhir.Type(first).Known() {
		if first != string(t) {
			return false
		}
		asked = below
	}
	asked, _, _ = strings.Cut(asked, ".")
	if asked == name {
		return true
	}
	e := r4.ElementOf(string(t), name)
	return e != nil && e.Choice() != "" && e.Choice() == strings.TrimSuffix(asked, "[x]")
}

// tag returns meta with the tag SUBSETTED.
func tag(meta []byte) []byte {
	tags := member(meta, "tag")
	if tags == nil {
		return append(append(meta[:len(meta)-1:len(meta)-1], `,"tag":[`...), subsetted+`]}`...)
	}
	out := []byte{'{'}
	members(meta, func(name string, value []byte) bool {
		if len(out) > 1 {
			out = append(out, ',')
		}
		if name == "tag" {
			value = append(append(value[:len(value)-1:len(value)-1], `,`...), subsetted+`]`...)
		}
		out = append(append(append(append(out, '"'), name...), `":`...), value...)
		return true
	})
	return append(out, '}')
}
