package terminology

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
)

// A codeSystem is a CodeSystem made for looking codes up. Concepts are numbers
// from 0, in the order in which the resource lists them; what is known of them
// is in arrays without pointers, so that half a million concepts cost the
// garbage collector nothing. It does not change once it is made.
// https://hl7.org/fhir/R4/codesystem.html
type codeSystem struct {
	header

	text   []byte   // what concepts say
	at     []uint32 // where in text each concept's code, display and definition begin, and end
	byCode []uint32 // concepts sorted by code

	parents, children links

	properties []property // sorted by concept
	designated []designation
	names      []string // of properties, and what designations have in common
	codings    []Coding // values of properties that are Codings

	inactive, abstract bits
}

// A header is what a code system says of itself. Each is as its element.
type header struct {
	URL, Version, Name, Title string
	Content                   string
	CaseSensitive             bool
	HierarchyMeaning          string
	Supplements               string
	ValueSet                  string
	Properties                []definition
}

// A definition is of a property that concepts have.
type definition struct {
	Code string `json:"code"`
	URI  string `json:"uri"`
	Type string `json:"type"`
}

// A span is a part of a code system's text.
type span struct{ from, to uint32 }

// A property is one that a concept has.
// https://hl7.org/fhir/R4/codesystem-definitions.html#CodeSystem.concept.property
type property struct {
	concept uint32
	name    uint32 // in names
	kind    kind
	value   span // of the text; for a Coding, from is its index in codings
}

// A kind is the type of a property's value.
type kind uint8

const (
	aCode kind = iota
	aCoding
	aString
	anInteger
	aBoolean
	aDateTime
	aDecimal
)

// kinds are the members of a property that hold its value.
var kinds = [...]string{"valueCode", "valueCoding", "valueString", "valueInteger", "valueBoolean", "valueDateTime", "valueDecimal"}

// A Coding is one, so far as terminology looks at it.
type Coding struct {
	System  string `json:"system,omitzero"`
	Version string `json:"version,omitzero"`
	Code    string `json:"code,omitzero"`
	Display string `json:"display,omitzero"`
}

// A designation is one that a concept has, another way to say it.
type designation struct {
	concept  uint32
	language uint32 // in names
	use      uint32 // in codings
	value    span
}

// maxConcepts bounds a code system. The largest in use, the NCBI taxonomy
// aside, have half a million.
const maxConcepts = 2_000_000

// maxText bounds the strings of a code system, in bytes.
const maxText = 1 << 30

// The strings of a concept.
func (s *codeSystem) code(c uint32) string       { return string(s.bytes(c, 0)) }
func (s *codeSystem) display(c uint32) string    { return string(s.bytes(c, 1)) }
func (s *codeSystem) definition(c uint32) string { return string(s.bytes(c, 2)) }

func (s *codeSystem) bytes(c, which uint32) []byte {
	return s.text[s.at[4*c+which]:s.at[4*c+which+1]]
}

// size returns how many concepts there are.
func (s *codeSystem) size() uint32 { return uint32(len(s.at) / 4) }

// complete reports whether a code that is not in s does not exist.
func (s *codeSystem) complete() bool { return s.Content == "complete" }

// find returns the concept with the code.
func (s *codeSystem) find(code string) (uint32, bool) {
	i, ok := slices.BinarySearchFunc(s.byCode, code, func(c uint32, code string) int {
		return s.compare(s.bytes(c, 0), code)
	})
	if !ok {
		return 0, false
	}
	return s.byCode[i], true
}

// compare orders codes as find looks for them. Codes are ASCII in practice, so
// that is what is folded.
func (s *codeSystem) compare(a []byte, b string) int {
	if s.CaseSensitive {
		return strings.Compare(string(a), b) // the compiler does not copy here
	}
	for i := range min(len(a), len(b)) {
		if d := int(lower(a[i])) - int(lower(b[i])); d != 0 {
			return d
		}
	}
	return len(a) - len(b)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// propertiesOf yields the properties of a concept.
func (s *codeSystem) propertiesOf(c uint32) []property {
	return of(s.properties, c, func(p property) uint32 { return p.concept })
}

// designationsOf yields the designations of a concept.
func (s *codeSystem) designationsOf(c uint32) []designation {
	return of(s.designated, c, func(d designation) uint32 { return d.concept })
}

// of returns the part of a list sorted by concept that is about c.
func of[T any](list []T, c uint32, concept func(T) uint32) []T {
	at := func(c uint32) int {
		i, _ := slices.BinarySearchFunc(list, c, func(t T, c uint32) int { return cmp.Compare(concept(t), c) })
		return i
	}
	return list[at(c):at(c+1)]
}

// valueOf returns the value of a property as text; of a Coding its code.
func (s *codeSystem) valueOf(p property) string {
	if p.kind == aCoding {
		return s.codings[p.value.from].Code
	}
	return string(s.text[p.value.from:p.value.to])
}

// defines reports whether concepts may have the property.
func (s *codeSystem) defines(name string) bool {
	return slices.Contains(s.names, name) || slices.ContainsFunc(s.Properties, func(d definition) bool { return d.Code == name })
}

// subsumes reports whether the hierarchy is one of meaning: what is below a
// concept is a kind of it.
func (s *codeSystem) subsumes() bool {
	return s.HierarchyMeaning == "" || s.HierarchyMeaning == "is-a"
}

// below returns the concept and all that are kinds of it.
func (s *codeSystem) below(c uint32) bits { return s.closure(c, s.children) }

// above returns the concept and all that it is a kind of.
func (s *codeSystem) above(c uint32) bits { return s.closure(c, s.parents) }

func (s *codeSystem) closure(c uint32, next links) bits {
	seen := newBits(s.size())
	seen.add(c)
	if !s.subsumes() {
		return seen
	}
	for queue := []uint32{c}; len(queue) > 0; {
		c, queue = queue[len(queue)-1], queue[:len(queue)-1]
		for _, n := range next.of(c) {
			if !seen.has(n) {
				seen.add(n)
				queue = append(queue, n)
			}
		}
	}
	return seen
}

// isA reports whether c is kind, or a kind of it.
func (s *codeSystem) isA(c, kind uint32) bool {
	if c == kind || !s.subsumes() {
		return c == kind
	}
	seen := map[uint32]bool{c: true}
	for queue := []uint32{c}; len(queue) > 0; {
		c, queue = queue[len(queue)-1], queue[:len(queue)-1]
		for _, p := range s.parents.of(c) {
			if p == kind {
				return true
			}
			if !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	return false
}

// links lead from each concept to others.
type links struct {
	start []uint32 // where the links of each concept begin; nil if there are none
	to    []uint32
}

func (l links) of(c uint32) []uint32 {
	if l.start == nil {
		return nil
	}
	return l.to[l.start[c]:l.start[c+1]]
}

// newLinks sorts the edges by where they begin. Edges that are there twice
// count once.
func newLinks(n uint32, edges [][2]uint32, from int) links {
	if len(edges) == 0 {
		return links{}
	}
	slices.SortFunc(edges, func(a, b [2]uint32) int {
		return cmp.Or(cmp.Compare(a[from], b[from]), cmp.Compare(a[1-from], b[1-from]))
	})
	edges = slices.Compact(edges)
	l := links{start: make([]uint32, n+1), to: make([]uint32, len(edges))}
	for i, e := range edges {
		l.start[e[from]+1]++
		l.to[i] = e[1-from]
	}
	for c := range n {
		l.start[c+1] += l.start[c]
	}
	return l
}

// bits are a set of concepts.
type bits []uint64

func newBits(n uint32) bits { return make(bits, (n+63)/64) }

func (b bits) add(c uint32)      { b[c/64] |= 1 << (c % 64) }
func (b bits) has(c uint32) bool { return int(c/64) < len(b) && b[c/64]&(1<<(c%64)) != 0 }

// newCodeSystem reads the JSON of a CodeSystem, and of the supplements that
// say more of its concepts. The error is a *fhir.Error.
func newCodeSystem(resource []byte, supplements ...[]byte) (*codeSystem, error) {
	b := &builder{s: &codeSystem{}, nameOf: map[string]uint32{}, texts: map[string]span{}, useOf: map[Coding]uint32{}}
	b.s.CaseSensitive = true // unless it says otherwise
	if err := b.read(resource); err != nil {
		return nil, err
	}
	b.sort()
	for _, s := range supplements {
		b.supplement = true
		if err := b.read(s); err != nil {
			return nil, err
		}
	}
	return b.finish(), nil
}

// A builder reads a CodeSystem in one pass, whatever the order of its members.
type builder struct {
	s     *codeSystem
	edges [][2]uint32 // child, parent

	// supplement says that what is read speaks of concepts already known.
	supplement bool

	nameOf map[string]uint32
	useOf  map[Coding]uint32
	texts  map[string]span // of short values that occur often
}

// maxShared bounds texts: after so many different values, more are not shared.
const maxShared = 1 << 14

func (b *builder) read(resource []byte) error {
	d := decoder{jsontext.NewDecoder(bytes.NewBuffer(resource))}
	err := d.object(func(name string) error {
		switch name {
		case "concept":
			return d.array(func() error { return b.concept(d, none) })
		case "property":
			return d.array(func() error { return b.definition(d) })
		}
		if b.supplement {
			return d.skip()
		}
		return b.s.header.element(d, name)
	})
	var e *fhir.Error
	switch {
	case errors.As(err, &e):
		return err
	case err != nil:
		return fhir.Errorf(fhir.Structure, "the CodeSystem is not well-formed")
	}
	return nil
}

// readHeader reads what a CodeSystem says of itself.
func readHeader(resource []byte) (header, error) {
	var h header
	d := decoder{jsontext.NewDecoder(bytes.NewBuffer(resource))}
	err := d.object(func(name string) error { return h.element(d, name) })
	return h, err
}

// element reads one of the elements that speak of the whole code system.
func (h *header) element(d decoder, name string) error {
	switch name {
	case "url":
		return d.text(&h.URL)
	case "version":
		return d.text(&h.Version)
	case "name":
		return d.text(&h.Name)
	case "title":
		return d.text(&h.Title)
	case "content":
		return d.text(&h.Content)
	case "hierarchyMeaning":
		return d.text(&h.HierarchyMeaning)
	case "supplements":
		return d.text(&h.Supplements)
	case "valueSet":
		return d.text(&h.ValueSet)
	case "caseSensitive":
		var is string
		err := d.text(&is)
		h.CaseSensitive = is != "false"
		return err
	}
	return d.skip()
}

func (b *builder) definition(d decoder) error {
	var p definition
	err := d.object(func(name string) error {
		switch name {
		case "code":
			return d.text(&p.Code)
		case "uri":
			return d.text(&p.URI)
		case "type":
			return d.text(&p.Type)
		}
		return d.skip()
	})
	b.s.Properties = append(b.s.Properties, p)
	return err
}

// none is the parent of a concept that has none.
const none = ^uint32(0)

// concept reads a concept and those nested in it.
func (b *builder) concept(d decoder, parent uint32) error {
	var code, display, definition string
	c, err := b.next()
	if err != nil {
		return err
	}
	properties, designated := len(b.s.properties), len(b.s.designated)
	err = d.object(func(name string) error {
		switch name {
		case "code":
			return d.text(&code)
		case "display":
			return d.text(&display)
		case "definition":
			return d.text(&definition)
		case "property":
			return d.array(func() error { return b.property(d, c) })
		case "designation":
			return d.array(func() error { return b.designation(d, c) })
		case "concept":
			return d.array(func() error { return b.concept(d, c) })
		}
		return d.skip()
	})
	switch {
	case err != nil:
		return err
	case b.supplement:
		b.attribute(code, properties, designated)
		return nil
	case parent != none:
		b.edges = append(b.edges, [2]uint32{c, parent})
	}
	for i, text := range []string{code, display, definition} {
		b.s.at[4*int(c)+i] = uint32(len(b.s.text))
		b.s.text = append(b.s.text, text...)
	}
	b.s.at[4*c+3] = uint32(len(b.s.text))
	return nil
}

// next makes room for a concept. That of a supplement is none until its code
// has been read.
func (b *builder) next() (uint32, error) {
	if len(b.s.text) > maxText {
		return 0, fhir.Errorf(fhir.TooCostly, "the CodeSystem has more than %d bytes of text", maxText)
	}
	if b.supplement {
		return none, nil
	}
	c := b.s.size()
	if c >= maxConcepts {
		return 0, fhir.Errorf(fhir.TooCostly, "the CodeSystem has more than %d concepts", maxConcepts)
	}
	b.s.at = append(b.s.at, 0, 0, 0, 0)
	return c, nil
}

// attribute gives what a supplement says of a code to its concept. What it
// says of codes that do not exist is dropped.
func (b *builder) attribute(code string, properties, designated int) {
	c, ok := b.s.find(code)
	for i := range b.s.properties[properties:] {
		if p := &b.s.properties[properties+i]; ok && p.concept == none {
			p.concept = c
		}
	}
	for i := range b.s.designated[designated:] {
		if d := &b.s.designated[designated+i]; ok && d.concept == none {
			d.concept = c
		}
	}
	if !ok {
		b.s.properties = dropNone(b.s.properties, properties, func(p property) uint32 { return p.concept })
		b.s.designated = dropNone(b.s.designated, designated, func(d designation) uint32 { return d.concept })
	}
}

// dropNone removes from list[from:] what belongs to no concept.
func dropNone[T any](list []T, from int, concept func(T) uint32) []T {
	kept := slices.DeleteFunc(list[from:], func(t T) bool { return concept(t) == none })
	return list[:from+len(kept)]
}

func (b *builder) property(d decoder, c uint32) error {
	var name, value string
	p := property{concept: c}
	err := d.object(func(member string) error {
		if member == "code" {
			return d.text(&name)
		}
		k := slices.Index(kinds[:], member)
		if k < 0 {
			return d.skip()
		}
		p.kind = kind(k)
		if p.kind != aCoding {
			return d.text(&value)
		}
		var v Coding
		err := d.coding(&v)
		p.value.from = b.coding(v)
		return err
	})
	p.name = b.name(name)
	if p.kind != aCoding {
		p.value = b.share(value)
	}
	b.s.properties = append(b.s.properties, p)
	return err
}

func (b *builder) designation(d decoder, c uint32) error {
	var language, value string
	var use Coding
	err := d.object(func(member string) error {
		switch member {
		case "language":
			return d.text(&language)
		case "use":
			return d.coding(&use)
		case "value":
			return d.text(&value)
		}
		return d.skip()
	})
	b.s.designated = append(b.s.designated, designation{c, b.name(language), b.coding(use), b.share(value)})
	return err
}

// name returns the index of a name, which few concepts have for themselves.
func (b *builder) name(name string) uint32 {
	i, ok := b.nameOf[name]
	if !ok {
		i = uint32(len(b.s.names))
		b.nameOf[name] = i
		b.s.names = append(b.s.names, name)
	}
	return i
}

func (b *builder) coding(c Coding) uint32 {
	i, ok := b.useOf[c]
	if !ok {
		i = uint32(len(b.s.codings))
		b.useOf[c] = i
		b.s.codings = append(b.s.codings, c)
	}
	return i
}

// share puts a value down. Short ones that were there before are not repeated.
func (b *builder) share(value string) span {
	if at, ok := b.texts[value]; ok {
		return at
	}
	from := uint32(len(b.s.text))
	b.s.text = append(b.s.text, value...)
	at := span{from, uint32(len(b.s.text))}
	if len(value) <= 32 && len(b.texts) < maxShared {
		b.texts[value] = at
	}
	return at
}

// sort makes codes ready to be found. Of concepts with the same code, the first
// is the one that is found; what has no code never is.
func (b *builder) sort() {
	s := b.s
	s.byCode = make([]uint32, 0, s.size())
	for c := range s.size() {
		if len(s.bytes(c, 0)) > 0 {
			s.byCode = append(s.byCode, c)
		}
	}
	slices.SortStableFunc(s.byCode, func(a, b uint32) int { return s.compare(s.bytes(a, 0), s.code(b)) })
}

// finish links the concepts.
func (b *builder) finish() *codeSystem {
	s := b.s
	slices.SortStableFunc(s.properties, func(a, b property) int { return cmp.Compare(a.concept, b.concept) })
	slices.SortStableFunc(s.designated, func(a, b designation) int { return cmp.Compare(a.concept, b.concept) })
	s.inactive, s.abstract = newBits(s.size()), newBits(s.size())
	roles := make([]role, len(s.names))
	for i, name := range s.names {
		roles[i] = s.role(name)
	}
	for _, p := range s.properties {
		b.apply(p, roles[p.name])
	}
	s.parents = newLinks(s.size(), b.edges, 0)
	s.children = newLinks(s.size(), b.edges, 1)
	s.text, s.at = slices.Clone(s.text), slices.Clone(s.at) // what they grew by is not kept
	s.properties, s.designated = slices.Clone(s.properties), slices.Clone(s.designated)
	return s
}

// A role is what a property means to every server.
// https://hl7.org/fhir/R4/codesystem-concept-properties.html
type role uint8

const (
	noRole role = iota
	isInactive
	isStatus
	isAbstract
	isParent
	isChild
)

var roles = map[string]role{
	"inactive": isInactive, "status": isStatus, "notSelectable": isAbstract, "abstract": isAbstract,
	"parent": isParent, "subsumedBy": isParent, "child": isChild,
}

// role returns what the property means: by its URI if the code system gives
// one that is known, else by its code.
func (s *codeSystem) role(name string) role {
	for _, d := range s.Properties {
		if uri, ok := strings.CutPrefix(d.URI, "http://hl7.org/fhir/concept-properties#"); ok && d.Code == name {
			return roles[uri]
		}
	}
	return roles[name]
}

// apply makes of a property what it means for the concept.
func (b *builder) apply(p property, r role) {
	s := b.s
	value := s.valueOf(p)
	switch r {
	case isInactive:
		if value == "true" {
			s.inactive.add(p.concept)
		}
	case isStatus:
		if value == "inactive" || value == "retired" || value == "withdrawn" {
			s.inactive.add(p.concept)
		}
	case isAbstract:
		if value == "true" {
			s.abstract.add(p.concept)
		}
	case isParent:
		if parent, ok := s.find(value); ok {
			b.edges = append(b.edges, [2]uint32{p.concept, parent})
		}
	case isChild:
		if child, ok := s.find(value); ok {
			b.edges = append(b.edges, [2]uint32{child, p.concept})
		}
	}
}
