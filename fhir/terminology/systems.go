package terminology

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
)

// A System is a code system whose codes are known.
type System struct {
	URL, Version string
	Default      bool // whether it is the one that is meant if no version is named
	Subsumes     bool // whether its hierarchy, if it has one, is one of meaning
}

// Systems yields the code systems that are known with content, in order of
// their URLs.
func (s *Service) Systems() iter.Seq[System] {
	var all []System
	for d := range s.set.All("CodeSystem") {
		h, err := headers.of(d, readHeader)
		if err != nil || h.Content == "not-present" || h.Content == "supplement" {
			continue
		}
		newest, _ := s.set.Find("CodeSystem", d.URL)
		all = append(all, System{d.URL, d.Version, newest == d, h.HierarchyMeaning == "" || h.HierarchyMeaning == "is-a"})
	}
	for _, url := range slices.Sorted(maps.Keys(grammars)) {
		if _, ok := s.set.Find("CodeSystem", url); !ok {
			all = append(all, System{URL: url, Default: true})
		}
	}
	slices.SortStableFunc(all, func(a, b System) int {
		return cmp.Or(strings.Compare(a.URL, b.URL), strings.Compare(a.Version, b.Version))
	})
	return slices.Values(all)
}
