package search

import (
	"fmt"
	"slices"
	"strings"
)

// Shape tells what e asks, for people, without the values that it asks for.
// What an index can only narrow, and an opened body decides, is followed by a
// question mark.
func Shape(e Expr) string {
	switch e := e.(type) {
	case And:
		return shapes(e, " and ", "everything")
	case Or:
		return shapes(e, " or ", "nothing")
	case Not:
		return "not " + Shape(e.X)
	case HasToken:
		return string(e.Path)
	case HasReference:
		if e.Pair.Path != "" {
			return string(e.Path) + " joined with " + string(e.Pair.Path)
		}
		return string(e.Path)
	case HasText:
		if e.Exact() {
			return string(e.Path)
		}
		return string(e.Path) + "?"
	case InDate:
		return string(e.Path) + " in a range"
	case InNumber:
		return string(e.Path) + " in a range"
	case Within:
		return string(e.Path) + " within a distance?"
	case HasWords:
		return "words of " + string(e.Type) + "?"
	case HasContained:
		return "contained " + string(e.Type) + " where (" + Shape(e.X) + ")?"
	case Other:
		return "another value than of " + Shape(e.X) + "?"
	case Present:
		return "presence of a parameter of " + string(e.Type)
	case HasID:
		return "id"
	case Updated:
		return "meta.lastUpdated in a range"
	case Chain:
		return names(e.Paths) + " to " + string(e.Type) + " where (" + Shape(e.X) + ")"
	case ReverseChain:
		if e.Pair.Path != "" {
			return "from " + names(e.Paths) + " joined with " + string(e.Pair.Path)
		}
		return "from " + names(e.Paths) + " where (" + Shape(e.X) + ")"
	}
	return fmt.Sprintf("%T", e)
}

func names(paths []Path) string {
	list := make([]string, len(paths))
	for i, p := range paths {
		list[i] = string(p)
	}
	return strings.Join(list, ", ")
}

// shapes joins the shapes of list by the word, each once, with how often.
func shapes(list []Expr, word, none string) string {
	if len(list) == 0 {
		return none
	}
	var parts []string
	times := map[string]int{}
	for _, m := range list {
		s := Shape(m)
		if times[s]++; times[s] == 1 {
			parts = append(parts, s)
		}
	}
	for i, s := range parts {
		if n := times[s]; n > 1 {
			parts[i] = fmt.Sprintf("%s (%d values)", s, n)
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "(" + strings.Join(parts, word) + ")"
}

// Undecided returns what an index alone cannot tell of e, for people and
// without values: "Patient.name.family", "words of Composition".
func Undecided(e Expr) []string {
	var list []string
	add := func(more ...string) {
		for _, s := range more {
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	switch e := e.(type) {
	case And, Or, Not:
		for _, m := range Members(e) {
			add(Undecided(m)...)
		}
	case HasText, HasWords, Within, Other, HasContained:
		if !Exact(e) {
			add(strings.TrimSuffix(Shape(e), "?"))
		}
	}
	return list
}
