package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
)

// Explain tells how a search would be answered, line by line, to one who may
// see every resource of the tenant. It reads nothing and holds no value of the
// search. Which index PostgreSQL begins with, where it has a choice, depends on
// what is stored and is not told.
func Explain(q *search.Query) []string {
	types := q.Types
	if q.Type != "" {
		types = []fhir.Type{q.Type}
	}
	where := q.Where
	if q.Type == "" && len(types) > 0 {
		where = search.On(types[0], where)
	}
	on := q.Type
	if on == "" && len(types) > 0 {
		on = types[0]
	}
	pl := newPlan(on, smart.Permit{}, search.Simplify(where))
	lines := []string{"asks for: " + search.Shape(pl.where)}
	if q.Type == "" {
		lines = append(lines, fmt.Sprintf("searches each type by itself, in turn: %s", each(types)))
	}
	lines = append(lines, pl.beginning())
	lines = append(lines, pl.links()...)
	if list := search.Undecided(pl.where); len(list) > 0 {
		lines = append(lines, fmt.Sprintf("opens what the index finds, up to %d resources, to decide: %s", maxExamined, strings.Join(list, ", ")))
	}
	lines = append(lines, ordering(q)...)
	if q.Summary == "count" || q.Count == 0 || q.Total == search.TotalAccurate || q.Total == search.TotalEstimate {
		lines = append(lines, "counts every match")
	}
	if n := len(q.Include); n > 0 {
		lines = append(lines, fmt.Sprintf("includes what %d includes lead to, up to %d resources a page", n, maxIncluded))
	}
	return lines
}

// ordering tells how the matches are sorted.
func ordering(q *search.Query) []string {
	if _, indexed := indexOrder(q); indexed && len(q.Sort) == 0 {
		return []string{"orders as the index does, by the main date of the type, newest first"}
	} else if indexed {
		return []string{"orders as the index does"}
	}
	var lines []string
	o, along := orderOf(q.Type, q.Sort[0])
	_, merged := mergedOrder(q.Sort)
	switch {
	case q.Type == "" && merged:
		lines = append(lines, "orders as the index of each type does, and merges them")
	case q.Type == "" || !along:
		lines = append(lines, fmt.Sprintf("orders by opening every match, up to %d", maxExamined))
	case o.along != "":
		lines = append(lines, fmt.Sprintf("orders by opening up to %d matches; if there are more, goes along the index of what it is sorted by first", fewMatches))
	default:
		lines = append(lines, "orders as the index does by what it is sorted by first")
	}
	if along && q.Type != "" && len(q.Sort) > 1 {
		lines = append(lines, fmt.Sprintf("opens the matches that are equal in the first, up to %d, to sort them by the rest", maxExamined))
	}
	if slices.ContainsFunc(q.Sort, func(k search.SortKey) bool { return k.Via != nil }) {
		lines = append(lines, fmt.Sprintf("opens what the matches refer to, up to %d, to sort by it", maxExamined))
	}
	return lines
}

func each(types []fhir.Type) string {
	if len(types) == 0 {
		return "all that the token reaches"
	}
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}

// beginning tells which rows the search begins with.
func (pl plan) beginning() string {
	b := pl.start()
	switch {
	case len(b.members) == 0:
		return "begins with every resource of the type, in order"
	case b.with == onePatient:
		return "begins with " + search.Shape(b.first()) + "; looks the rest up for each"
	case b.with == oneCompartment:
		return "begins with what is of the patient's record; looks the rest up for each"
	case b.with == fewPatients:
		return fmt.Sprintf("begins with what refers to the patients that are listed or that the chain leads to, if they are at most %d; looks the rest up for each", maxPatients)
	case b.with == standing:
		return "begins with the patients to whom somebody stands by the access policy; looks the rest up for each"
	case b.contested:
		return "begins with what PostgreSQL takes for the rarest of its conditions; planned for its values each time"
	case b.joins > 0:
		return "begins with the rows of one condition, in order"
	}
	return "begins with the rows of its conditions, or with every resource of the type, in order"
}

// links tells what is looked up first, for chains.
func (pl plan) links() []string {
	var lines []string
	var walk func(search.Expr)
	walk = func(e search.Expr) {
		switch e := e.(type) {
		case search.Chain:
			line := fmt.Sprintf("looks up the %s of the chain first; if they are more than %d, joins them", e.Type, maxTargets)
			if e.Canonical || !answered(e.X) {
				line = fmt.Sprintf("opens up to %d %s of the chain first", maxExamined, e.Type)
			}
			lines = append(lines, line)
			walk(e.X)
		case search.ReverseChain:
			if e.Stand.Who != "" {
				lines = append(lines, "looks up who stands to the patient, for each")
				return
			}
			line := fmt.Sprintf("looks up what of %s refers to it, for each", e.Type)
			if e.Canonical || !answered(e.X) {
				line = fmt.Sprintf("opens up to %d %s that refer to it first", maxExamined, e.Type)
			}
			lines = append(lines, line)
			walk(e.X)
		}
		for _, m := range search.Members(e) {
			walk(m)
		}
	}
	walk(pl.where)
	slices.Sort(lines)
	return slices.Compact(lines)
}

// tooManyOpened says why a search is refused that would open too much.
func tooManyOpened(where search.Expr) error {
	list := search.Undecided(where)
	if len(list) == 0 {
		return tooCostly()
	}
	return fhir.Errorf(fhir.TooCostly, "the index narrows %s but cannot decide it, and the search would open more than %d resources to do so; narrow it by other parameters",
		strings.Join(list, ", "), maxExamined)
}
