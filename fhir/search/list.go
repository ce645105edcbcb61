package search

import (
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
)

// listed is where the index holds what a List lists: its items, without those
// that are marked as deleted.
// https://hl7.org/fhir/R4/list.html
const listed Path = "List.entry:listed"

// readList reads _list: the resources that a List lists. The lists that the
// standard calls functional, such as $current-problems, are of no resource.
// https://hl7.org/fhir/R4/search.html#list
func readList(_ *table, name, value string, o Options, depth int) (Expr, error) {
	if depth == 0 {
		return nil, tooDeep()
	}
	var ids HasID
	for _, text := range splitEscaped(value, ',') {
		text, err := unescape(name, text)
		if err != nil {
			return nil, err
		}
		if len(text) > 0 && text[0] == '$' {
			return nil, unsupported(name, "names a functional list; name a List by its id")
		}
		ref, err := fhir.ParseRef(relative(text, o.Base))
		switch {
		case err == nil && ref.Type == "List":
			ids = append(ids, ref.ID)
		case fhir.ValidID(text):
			ids = append(ids, text)
		default:
			return nil, invalid(name, "must be the id of a List")
		}
	}
	slices.Sort(ids)
	return ReverseChain{Type: "List", Paths: []Path{listed}, X: slices.Compact(ids)}, nil
}

// listed indexes an entry of a List.
func (x *indexer) listed(l *leaf, v value) bool {
	if item := v.Get("item"); item != nil && !v.GetBool("deleted") {
		if ref := text(item.Get("reference")); ref != "" && ref[0] != '#' {
			x.terms.Refs = append(x.terms.Refs, Reference{Path: l.path, Target: relative(ref, x.schema.Base)})
		}
	}
	return false
}

// addListed makes tb, of List, read what it lists.
func (tb *table) addListed() {
	at := tb.root.child(tb.byCode["item"].Branches[0].Steps[0])
	at.leaves = append(at.leaves, &leaf{path: listed, kind: references, emit: (*indexer).listed})
}
