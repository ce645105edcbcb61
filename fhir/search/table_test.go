package search

import (
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
)

// What the generated tables hold can be indexed and asked for: every datatype
// that a parameter reads has an emitter, no element is read in two ways, and
// the bits of a type fit in Terms.Present, or its table could not be made.
func TestEveryElementHasOneWayIntoTheIndex(t *testing.T) { // S-18
	for _, on := range fhir.Types {
		tb := tableOf(on)
		ways := map[Path]map[kind]string{}
		for _, p := range tb.parameters {
			for _, e := range p.elements {
				if ways[e.path] == nil {
					ways[e.path] = map[kind]string{}
				}
				if was := ways[e.path][e.kind]; was != "" && was != p.Type {
					t.Errorf("%s is read as %s and as %s", e.path, was, p.Type)
				}
				ways[e.path][e.kind] = p.Type
			}
			if p.Type != "composite" && len(p.elements) == 0 && !direct[p.Code] {
				t.Errorf("%s.%s reads nothing", on, p.Code)
			}
			for _, c := range p.composites {
				for _, part := range c.components {
					if len(part.elements) == 0 {
						t.Errorf("%s.%s has a component that reads nothing", on, p.Code)
					}
				}
			}
		}
		eachLeaf(tb.root, func(l *leaf) {
			if l.emit == nil {
				t.Errorf("%s has a datatype that is not indexed", l.path)
			}
		})
	}
}

func eachLeaf(n *node, f func(*leaf)) {
	for _, l := range n.leaves {
		f(l)
	}
	for _, c := range n.children {
		eachLeaf(c, f)
	}
	for _, j := range n.joins {
		for _, p := range j.parts {
			eachLeaf(p.tree, f)
		}
	}
}

func TestHotPathsAreOfSingleElements(t *testing.T) {
	for on := range hotNumbers {
		tb := tableOf(on)
		for token, list := range tb.hotNumbers {
			for _, number := range list {
				if !tb.single[token] || !tb.single[number] {
					t.Errorf("%s and %s cannot be joined without an item: one of them repeats", token, number)
				}
			}
		}
	}
}

func TestMainDatesAreByParametersThatExist(t *testing.T) {
	for on, codes := range mainDates {
		for _, code := range codes {
			if p := tableOf(on).byCode[code]; p == nil || p.Type != "date" {
				t.Errorf("%s has no date parameter %s", on, code)
			}
		}
	}
	for _, on := range fhir.Types {
		tb := tableOf(on)
		for _, p := range tb.parameters {
			// When a drug expires is no date of its record.
			expiry := p.Code == "expiration-date" || p.Code == "expiry"
			if p.Type == "date" && p.Code != "_lastUpdated" && !expiry && tb.mainDate == nil {
				t.Errorf("%s has a date parameter %s, but no main date", on, p.Code)
			}
		}
	}
}
