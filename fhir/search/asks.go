package search

import (
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// Asks returns the elements that e depends on, also those of other resources
// that it leads to, some of them more than once. What depends on many at once,
// such as the words of a resource, is "Type.*".
func Asks(e Expr) (paths []Path) {
	switch e := e.(type) {
	case HasToken:
		return []Path{e.Path}
	case HasReference:
		if e.Pair.Path != "" {
			return []Path{e.Path, e.Pair.Path}
		}
		return []Path{e.Path}
	case HasText:
		return []Path{e.Path}
	case InDate:
		return []Path{e.Path}
	case InNumber:
		return []Path{e.Path}
	case Within:
		return []Path{e.Path}
	case HasWords:
		return []Path{Path(e.Type) + ".*"}
	case HasContained:
		return append(Asks(e.X), Path(e.In)+".contained")
	case Present:
		return presence(e)
	case Typed:
		return Asks(e.X)
	case Other:
		return Asks(e.X)
	case Chain:
		return append(Asks(e.X), e.Paths...)
	case ReverseChain:
		paths = append(Asks(e.X), e.Paths...)
		if e.Pair.Path != "" {
			paths = append(paths, e.Pair.Path)
		}
		return paths
	}
	for _, m := range Members(e) {
		paths = append(paths, Asks(m)...)
	}
	return paths
}

// presence returns the elements whose presence e is about.
func presence(e Present) (paths []Path) {
	for _, p := range tableOf(e.Type).parameters {
		if p.bit != e.Bit {
			continue
		}
		for _, el := range p.elements {
			paths = append(paths, el.path)
		}
	}
	if paths == nil {
		return []Path{Path(e.Type) + ".*"}
	}
	return paths
}

// Asks returns the elements that the answer to q depends on or shows by its
// order or its includes, but for those of includes that follow all there are.
func (q *Query) Asks() []Path {
	paths := Asks(q.Where)
	for _, k := range q.Sort {
		paths = append(paths, k.Paths...)
		if k.Via != nil {
			paths = append(paths, k.Via.Paths...)
		}
	}
	for _, inc := range q.Include {
		paths = append(append(paths, inc.Paths...), inc.Cited...)
	}
	if q.Contained.Any() {
		paths = append(paths, Path(q.Type)+".contained")
	}
	return paths
}

// Element returns the type and the name of its member that the path is of or
// below. The name of what is no member, such as a parameter that a tenant adds,
// is none that R4 has.
func (p Path) Element() (on fhir.Type, name string) {
	t, rest, _ := strings.Cut(string(p), ".")
	if end := strings.IndexAny(rest, ".:"); end >= 0 {
		rest = rest[:end]
	}
	t, _, _ = strings.Cut(t, ":")
	return fhir.Type(t), rest
}

// SortsAlone reports whether the sort keys of q put all that is found in one
// order by themselves; without any they do.
func (q *Query) SortsAlone() bool {
	return !slices.ContainsFunc(q.Sort, func(k SortKey) bool { return k.Kind != ByID && k.Kind != ByUpdated || k.Via != nil })
}
