package profile

import (
	"strings"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A scope is the resource that is being walked, and what references in it can
// lead to.
// https://hl7.org/fhir/R4/references.html
type scope struct {
	resource path.Node
	root     path.Node // what contains it, or itself
	bundle   *bundle   // that it is an entry of, nil if of none
	fullURL  string    // of the entry
	context  path.Context

	outer   *scope               // that of what contains the resource, nil if nothing does
	entries *bundle              // of a Bundle, when they were first needed
	held    map[string]path.Node // what the resource contains, by id, likewise
}

func scopeOf(resource path.Node, b *bundle, fullURL string) *scope {
	s := &scope{resource: resource, root: resource, bundle: b, fullURL: fullURL}
	s.context = path.Context{Resource: resource, RootResource: resource}
	return s
}

// contained returns the scope of a resource that s contains.
func (s *scope) contained(resource path.Node) *scope {
	c := &scope{resource: resource, root: s.root, bundle: s.bundle, fullURL: s.fullURL, outer: s.container()}
	c.context = path.Context{Resource: resource, RootResource: s.root}
	return c
}

func (s *scope) container() *scope {
	if s.outer != nil {
		return s.outer
	}
	return s
}

// containedIn returns the resource with the id that s contains.
func (s *scope) containedIn(id string) (path.Node, bool) {
	if s.held == nil {
		s.held = map[string]path.Node{}
		for _, v := range s.resource.JSON().GetArray("contained") {
			t := r4.TypeOf(string(v.GetStringBytes("resourceType")))
			id := stringIn(v, "id")
			if _, twice := s.held[id]; t != nil && !twice {
				s.held[id] = path.Complex(t, v)
			}
		}
	}
	n, ok := s.held[id]
	return n, ok
}

// inBundle returns what finds the entries of the Bundle that s is about.
func (s *scope) inBundle() *bundle {
	if s.entries == nil {
		s.entries = bundleOf(s.resource)
	}
	return s.entries
}

// A bundle finds the resources in the entries of a Bundle.
// https://hl7.org/fhir/R4/bundle.html#references
type bundle struct {
	byURL map[string]entry
	byRef map[string]entry // Type/id, of all entries that have an id
}

type entry struct {
	resource path.Node
	fullURL  string
}

func bundleOf(n path.Node) *bundle {
	b := &bundle{map[string]entry{}, map[string]entry{}}
	for _, v := range n.JSON().GetArray("entry") {
		resource := v.Get("resource")
		t := r4.TypeOf(string(resource.GetStringBytes("resourceType")))
		if t == nil {
			continue
		}
		e := entry{path.Complex(t, resource), string(v.GetStringBytes("fullUrl"))}
		if _, twice := b.byURL[e.fullURL]; e.fullURL != "" && !twice {
			b.byURL[e.fullURL] = e
		}
		if id := resource.GetStringBytes("id"); id != nil {
			b.byRef[t.Path+"/"+string(id)] = e
		}
	}
	return b
}

// resolve returns the resource that a reference in s leads to within the
// document. ok is false if it leads out of it.
func (s *scope) resolve(reference string) (n path.Node, to *scope, ok bool) {
	if id, is := strings.CutPrefix(reference, "#"); is {
		if id == "" {
			return s.root, s, true
		}
		if n, ok = s.container().containedIn(id); !ok {
			return path.Node{}, nil, false
		}
		return n, s.contained(n), true
	}
	if s.bundle == nil {
		return path.Node{}, nil, false
	}
	e, ok := s.bundle.find(reference, s.fullURL)
	if !ok {
		return path.Node{}, nil, false
	}
	return e.resource, scopeOf(e.resource, s.bundle, e.fullURL), true
}

// find resolves a reference from the entry with the full URL.
func (b *bundle) find(reference, from string) (entry, bool) {
	reference, _, _ = strings.Cut(reference, "/_history/")
	if e, ok := b.byURL[reference]; ok {
		return e, true
	}
	if strings.Contains(reference, ":") {
		return entry{}, false
	}
	if i := strings.LastIndexByte(from, '/'); i > 0 && strings.HasPrefix(from, "http") {
		if i = strings.LastIndexByte(from[:i], '/'); i > 0 {
			e, ok := b.byURL[from[:i+1]+reference]
			return e, ok
		}
	}
	e, ok := b.byRef[reference]
	return e, ok
}

// typeOfReference returns the type that a literal reference names, "" if it
// does not tell.
func typeOfReference(reference string) fhir.Type {
	reference, _, _ = strings.Cut(reference, "?")
	reference, _, _ = strings.Cut(reference, "/_history/")
	parts := strings.Split(reference, "/")
	for _, i := range []int{len(parts) - 2, len(parts) - 1} {
		if i >= 0 && fhir.Type(parts[i]).Known() {
			return fhir.Type(parts[i])
		}
	}
	return ""
}

// resolver is Context.Resolve for a scope in a Bundle.
func (s *scope) resolver() func(string) (path.Node, bool, error) {
	return func(reference string) (path.Node, bool, error) {
		n, _, ok := s.resolve(reference)
		return n, ok, nil
	}
}

// stringIn returns the string that a member of v holds.
func stringIn(v *fastjson.Value, name string) string { return string(v.GetStringBytes(name)) }
