package profile

import (
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
)

// fullURL holds the fullUrl of an entry against its resource: it is the
// identity of that, without which nothing can refer to it.
// https://hl7.org/fhir/R4/bundle-definitions.html#Bundle.entry.fullUrl
func (r *run) fullURL(bundle, entry, resource path.Node) {
	url, id := stringIn(entry.JSON(), "fullUrl"), stringIn(resource.JSON(), "id")
	of := stringIn(bundle.JSON(), "type")
	held := of == "document" || of == "message" || of == "collection"
	if url == "" {
		if held {
			r.fault(fhir.Required, "an entry of a %s must have a fullUrl", of)
		}
		return
	}
	if !strings.Contains(url, ":") {
		r.fault(fhir.Value, "fullUrl must be absolute")
		return
	}
	before, last, _ := cutLast(url)
	_, typ, _ := cutLast(before)
	switch {
	case !fhir.Type(typ).Known() || !strings.HasPrefix(url, "http"): // not the URL of a RESTful server
	case typ != resource.Type():
		r.fault(fhir.Value, "fullUrl is that of a %s", typ)
	case id == "" && (held || of == "searchset"):
		r.fault(fhir.Required, "fullUrl is that of a resource on a server, and the resource has no id")
	case last != id && id != "":
		r.fault(fhir.Value, "the id of the resource is not the one at the end of fullUrl")
	}
}

// reference holds a reference to what is in the same document against the
// types that its element may lead to.
// https://hl7.org/fhir/R4/bundle.html#references
func (r *run) reference(n path.Node) {
	literal := stringIn(n.JSON(), "reference")
	if literal == "" || r.scope.bundle == nil || strings.HasPrefix(literal, "#") {
		return
	}
	to, _, ok := r.scope.resolve(literal)
	if !ok {
		return
	}
	of := to.ComplexType().Path
	allowed := n.Element().Targets()
	for _, t := range allowed {
		if string(t) == of {
			return
		}
	}
	if len(allowed) > 0 && typeOfReference(literal) == "" {
		r.fault(fhir.Value, "%s must not refer to a %s", n.Element().Name, of)
	}
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}
