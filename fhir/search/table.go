package search

import (
	"fmt"
	"slices"
	"sync"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A table is what search knows of a resource type: its parameters, and the
// tree of elements that they read.
type table struct {
	t          fhir.Type
	parameters []*parameter // in order of code
	byCode     map[string]*parameter
	root       *node
	mainDate   []Path
	pairs      map[Path][]Path // tokens paired with the reference at a Path
	hotNumbers map[Path][]Path // numbers joined with the token at a Path
	single     map[Path]bool   // elements that a resource has once at most
	whole      bool            // it is of all that is indexed
	dynamic    []dynamic       // parameters that FHIRPath evaluates
}

// A parameter is a search parameter of one type, ready to be read and indexed.
type parameter struct {
	*r4.SearchParameter
	bit        int              // in Terms.Present; -1 if it has none
	custom     *CustomParameter // nil for those of R4
	state      CustomState
	elements   []element
	composites []composite
}

// An element is one place that a parameter reads.
type element struct {
	path Path
	kind kind
	// only is the type of reference or the system of contact that is meant.
	only string
	// single says that a resource has the element once at most.
	single bool
	// types are the datatypes found there, with the systems that codes imply.
	types []r4.SearchLeaf
}

// A composite is one base of a composite parameter.
type composite struct {
	path Path
	// joined says that the index holds the components joined at path.
	joined     bool
	components []*parameter
}

// A kind is a way of indexing values.
type kind byte

const (
	tokens kind = 1 << iota
	texts
	references
	dates
	numbers
	every kind = 0xff
)

// kindOf is how each type of search parameter is indexed. What is not here is
// not read from an element.
var kindOf = map[string]kind{
	"token": tokens, "uri": tokens, "string": texts, "reference": references,
	"date": dates, "number": numbers, "quantity": numbers, "special": numbers,
}

// A node is a member of an object in the tree of elements to read.
type node struct {
	r4.SearchStep
	below    kind // what is read at the node and below it
	children []*node
	leaves   []*leaf
	joins    []*join
}

// A leaf says how the value of a node is indexed.
type leaf struct {
	path     Path
	start    Path // prefixes of strings
	gram     Path // trigrams of strings
	gramless bool
	text     Path // what :text looks at
	of       Path // what :of-type looks at
	sys      Path // systems of tokens
	full     Path // tokens whose full spelling is not in the index
	unit     Path // units that are not in the index
	ident    Path // identifiers of references
	kind     kind
	// single says that a resource has the element once at most.
	single bool
	emit   func(*indexer, *leaf, value) bool
	// bits are those of the parameters that read any value, only those of
	// the parameters that read some.
	bits    uint64
	only    []onlyBits
	present Path // of the token that says so for a parameter without a bit
}

type onlyBits struct {
	value   string
	bits    uint64
	present Path
}

// A join combines the components of one item of a repeating element.
type join struct {
	path  Path
	parts []joinPart
}

type joinPart struct {
	searched string // the type of parameter
	root     bool   // read from the resource
	tree     *node
}

// same reports whether two parameters join the same components.
func (j *join) same(o *join) bool {
	return j.path == o.path && slices.EqualFunc(j.parts, o.parts, func(a, b joinPart) bool { return a.searched == b.searched })
}

var tables = func() []func() *table {
	list := make([]func() *table, len(fhir.Types)+1)
	list[0] = func() *table { return nil }
	for i, t := range fhir.Types {
		list[i+1] = sync.OnceValue(func() *table { return newTable(t) })
	}
	return list
}()

// tableOf returns the table of t, nil if R4 does not define t.
func tableOf(t fhir.Type) *table { return tables[t.Number()]() }

// purposeOfEvent is the parameter purpose of AuditEvent, which R5 has and R4
// lacks: there is no other way to ask for what was done in an emergency.
// https://hl7.org/fhir/R5/auditevent.html#search
var purposeOfEvent = r4.SearchParameter{
	Code: "purpose", Type: "token", URL: "http://hl7.org/fhir/SearchParameter/AuditEvent-purpose",
	Branches: []r4.SearchBranch{{
		Path: "AuditEvent.purposeOfEvent", Leaves: []r4.SearchLeaf{{Name: "purposeOfEvent", Type: "CodeableConcept"}},
	}},
}

// direct are the parameters that are answered from the resource's row.
var direct = map[string]bool{"_id": true, "_lastUpdated": true}

func newTable(t fhir.Type, custom ...stated) *table {
	tb := &table{
		t:      t,
		byCode: map[string]*parameter{},
		root:   &node{},
		single: map[Path]bool{},
		whole:  true,
	}
	bit := 0
	of := r4.SearchParameters(t)
	if t == auditEvent {
		of = append(slices.Clone(of), purposeOfEvent)
	}
	for i := range of {
		p := &parameter{SearchParameter: &of[i], bit: -1}
		tb.parameters = append(tb.parameters, p)
		tb.byCode[p.Code] = p
		switch {
		case direct[p.Code]:
		case p.Type == "composite":
			for _, c := range p.Composites {
				p.composites = append(p.composites, tb.composite(p.Code, c))
			}
		default:
			p.bit = bit
			bit++
			p.elements = tb.root.add(p.SearchParameter, p.bit)
			for _, e := range p.elements {
				tb.single[e.path] = e.single
			}
		}
	}
	if bit > 64 {
		panic(fmt.Sprintf("search: %s has %d parameters, Terms.Present holds 64", t, bit))
	}
	if t == "List" {
		tb.addListed()
	}
	tb.addHot()
	for _, s := range custom {
		tb.addCustom(s)
	}
	tb.root.close()
	return tb
}

// parts are the strings of the datatypes that string parameters match any
// part of. The first ones lead when such a parameter sorts.
// https://hl7.org/fhir/R4/search.html#string
var parts = map[string][]string{
	"HumanName": {"family", "given", "text", "prefix", "suffix"},
	"Address":   {"country", "state", "city", "district", "postalCode", "line", "text"},
}

// add makes n read what sp reads, and returns the elements of sp.
func (n *node) add(sp *r4.SearchParameter, bit int) []element {
	var list []element
	k := kindOf[sp.Type]
	for _, b := range sp.Branches {
		if b.Leaves[0].Type == "Resource" && len(sp.Targets) == 1 {
			b.Only = string(sp.Targets[0])
		}
		at := n
		for _, s := range b.Steps {
			at = at.child(s)
		}
		var plain []r4.SearchLeaf
		for _, l := range b.Leaves {
			names, compound := parts[l.Type]
			if !compound || k != texts {
				plain = append(plain, l)
				continue
			}
			for _, name := range names {
				part := r4.SearchLeaf{Name: name, Type: "string"}
				path := Path(b.Path + "." + name)
				at.child(r4.SearchStep{Name: l.Name}).child(r4.SearchStep{Name: name}).read(path, sp.Type, part, bit, r4.SearchBranch{})
				list = append(list, element{path: path, kind: k, types: []r4.SearchLeaf{part}})
			}
		}
		if len(plain) == 0 {
			continue
		}
		path := Path(b.Path)
		for _, l := range plain {
			at.child(r4.SearchStep{Name: l.Name}).read(path, sp.Type, l, bit, b)
		}
		list = append(list, element{path: path, kind: k, only: b.Only, single: b.Single, types: plain})
	}
	return list
}

// child returns the node of the step below n, which it makes if need be.
func (n *node) child(s r4.SearchStep) *node {
	for _, c := range n.children {
		if c.SearchStep == s {
			return c
		}
	}
	c := &node{SearchStep: s}
	n.children = append(n.children, c)
	return c
}

// read makes n index its value as one of the datatype at the path, for a type
// of search parameter, and tells the parameter with the bit when there is one.
func (n *node) read(path Path, searched string, of r4.SearchLeaf, bit int, b r4.SearchBranch) {
	k := kindOf[searched]
	i := slices.IndexFunc(n.leaves, func(l *leaf) bool { return l.path == path && l.kind == k })
	if i < 0 {
		i = len(n.leaves)
		n.leaves = append(n.leaves, &leaf{
			path: path, kind: k, emit: emitters[searched][of.Type], single: b.Single,
			start: startPath(path), gram: gramPath(path), gramless: gramless(path), text: path + textSuffix, of: path + typeSuffix,
			sys: path + systemSuffix, full: path + fullSuffix, unit: path + unitSuffix, ident: path + identifierSuffix,
		})
	}
	if bit < 0 {
		return
	}
	l := n.leaves[i]
	if b.Only == "" {
		l.bits |= 1 << bit
		return
	}
	for j := range l.only {
		if l.only[j].value == b.Only {
			l.only[j].bits |= 1 << bit
			return
		}
	}
	l.only = append(l.only, onlyBits{value: b.Only, bits: 1 << bit})
}

// close works out what is read below each node.
func (n *node) close() kind {
	for _, l := range n.leaves {
		n.below |= l.kind
	}
	if len(n.joins) > 0 {
		n.below |= tokens | numbers
	}
	for _, c := range n.children {
		n.below |= c.close()
	}
	return n.below
}

// composite prepares one base of a composite parameter. Where the base
// repeats, the index holds the components of each item joined. Where it does
// not, they need not be joined: a resource has but one of each.
func (tb *table) composite(code string, c r4.SearchComposite) composite {
	out := composite{joined: c.Repeats}
	j := &join{}
	for i := range c.Components {
		part := &c.Components[i]
		p := &parameter{bit: -1, SearchParameter: &r4.SearchParameter{Code: code, Type: part.Type, Branches: part.Branches}}
		tree := &node{}
		if !c.Repeats {
			tree = tb.root
		}
		p.elements = tree.add(p.SearchParameter, -1)
		j.parts = append(j.parts, joinPart{part.Type, part.Root, tree})
		if i > 0 {
			out.path += "$"
		}
		out.path += p.elements[0].path
		out.components = append(out.components, p)
	}
	if c.Repeats {
		at := tb.root
		for _, s := range c.Steps {
			at = at.child(s)
		}
		for _, p := range j.parts {
			p.tree.close()
		}
		if j.path = out.path; !slices.ContainsFunc(at.joins, j.same) {
			at.joins = append(at.joins, j)
		}
	}
	return out
}
