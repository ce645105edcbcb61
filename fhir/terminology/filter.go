package terminology

import (
	"iter"
	"regexp"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// filter returns the concepts of s that all filters leave. A *fhir.Error says
// which filter cannot be told, below place. If the context of the turn ends, so
// does the work, and what is returned is of no use.
// https://hl7.org/fhir/R4/valueset.html#filters
func (s *codeSystem) filter(t *turn, filters []Filter, place string) (bits, *fhir.Error) {
	only := newBits(s.size())
	for i := range only {
		only[i] = ^uint64(0)
	}
	for i, f := range filters {
		kept, err := s.keep(t, f)
		if err != nil {
			return nil, err.At(place + ".filter[" + strconv.Itoa(i) + "]")
		}
		for i := range only {
			only[i] &= kept[i]
		}
	}
	return only, nil
}

// keep returns the concepts that one filter leaves.
func (s *codeSystem) keep(work *turn, f Filter) (bits, *fhir.Error) {
	switch f.Op {
	case "is-a", "descendent-of", "is-not-a", "generalizes":
		return s.keepRelated(f)
	}
	if !s.filterable(f.Property) {
		return nil, fhir.Errorf(fhir.NotSupported, "the code system does not define the property of a filter")
	}
	t, err := tests(f)
	if err != nil {
		return nil, err
	}
	kept := newBits(s.size())
	for c := range s.size() {
		work.add(stepsPerConcept + t.states*stepsPerAsk)
		if work.share() != nil {
			break
		}
		if t.passesAll(s.values(c, f.Property)) {
			kept.add(c)
		}
	}
	return kept, nil
}

// keepRelated answers the filters that go by the hierarchy.
func (s *codeSystem) keepRelated(f Filter) (bits, *fhir.Error) {
	if f.Property != "concept" && f.Property != "code" {
		return nil, fhir.Errorf(fhir.NotSupported, "a filter by the hierarchy is of another property than concept")
	}
	c, ok := s.find(f.Value)
	if !ok {
		return nil, fhir.Errorf(fhir.CodeInvalid, "the code system has no concept with the code of a filter")
	}
	switch f.Op {
	case "is-a":
		return s.below(c), nil
	case "generalizes":
		return s.above(c), nil
	}
	kept := s.below(c)
	if f.Op == "descendent-of" {
		kept[c/64] &^= 1 << (c % 64)
		return kept, nil
	}
	for i := range kept {
		kept[i] = ^kept[i]
	}
	return kept, nil
}

// filterable reports whether a filter can be of the property.
func (s *codeSystem) filterable(name string) bool {
	switch name {
	case "code", "concept", "display", "definition", "parent", "child", "inactive", "notSelectable":
		return true
	}
	return s.defines(name)
}

// A test is what a filter asks of the values that a concept has of a property.
type test struct {
	passes func(value string) bool
	absent bool // whether a concept without the property passes
	all    bool // whether each value must pass
	states int  // of a regular expression
}

// tests returns the test of a filter that does not go by the hierarchy.
func tests(f Filter) (test, *fhir.Error) {
	switch f.Op {
	case "=":
		return test{passes: func(v string) bool { return v == f.Value }}, nil
	case "in", "not-in":
		list := map[string]bool{}
		for code := range strings.SplitSeq(f.Value, ",") {
			list[strings.TrimSpace(code)] = true
		}
		if f.Op == "in" {
			return test{passes: func(v string) bool { return list[v] }}, nil
		}
		return test{passes: func(v string) bool { return !list[v] }, absent: true, all: true}, nil
	case "exists":
		is := f.Value == "true"
		if !is && f.Value != "false" {
			return test{}, fhir.Errorf(fhir.Value, "the value of an exists filter is neither true nor false")
		}
		return test{passes: func(string) bool { return is }, absent: !is}, nil
	case "regex":
		n, fault := states(f.Value)
		if fault != nil {
			return test{}, fault
		}
		return test{passes: regexp.MustCompile(anchored(f.Value)).MatchString, states: n}, nil
	}
	return test{}, fhir.Errorf(fhir.NotSupported, "the operator of a filter is not one of R4")
}

// passesAll reports whether the values that a concept has pass.
func (t test) passesAll(values iter.Seq[string]) bool {
	found := false
	for value := range values {
		if found = true; t.passes(value) != t.all {
			return !t.all
		}
	}
	if !found {
		return t.absent
	}
	return t.all
}

// values yields the values that a concept has of a property, those included
// that are no properties but speak as if they were.
func (s *codeSystem) values(c uint32, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		switch name {
		case "code", "concept":
			yield(s.code(c))
			return
		case "display", "definition":
			v := s.display(c)
			if name == "definition" {
				v = s.definition(c)
			}
			if v != "" {
				yield(v)
			}
			return
		case "parent", "child":
			l := s.parents
			if name == "child" {
				l = s.children
			}
			for _, other := range l.of(c) {
				if !yield(s.code(other)) {
					return
				}
			}
			return
		case "inactive":
			yield(strconv.FormatBool(s.inactive.has(c)))
			return
		case "notSelectable":
			yield(strconv.FormatBool(s.abstract.has(c)))
			return
		}
		for _, p := range s.propertiesOf(c) {
			if s.names[p.name] == name && !yield(s.valueOf(p)) {
				return
			}
		}
	}
}
