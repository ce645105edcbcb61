package subscriptions

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// queries returns, for each type of the topic of which the subscriber is told, the
// search that its filters are together. A filter is written as
// Encounter?patient=Patient/7, as Encounter.patient=Patient/7, or without the type;
// filters that name a type leave out the types that none of them names. place is that
// of the filter that is wrong.
func (k *kept) queries(base string) (list []*search.Query, place string, err error) {
	t := topics[k.Topic]
	if t == nil {
		return nil, "", errors.New("the topic is not known any more")
	}
	params := map[fhir.Type][]search.Param{}
	var named []fhir.Type
	for i, text := range k.Filters {
		on, of, err := readFilter(t, text, base)
		if err != nil {
			return nil, strconv.Itoa(i), err
		}
		types := t.types()
		if on != "" {
			types = []fhir.Type{on}
			named = append(named, on)
		}
		for _, typ := range types {
			params[typ] = append(params[typ], of...)
		}
	}
	for _, on := range t.types() {
		if len(named) > 0 && !slices.Contains(named, on) {
			continue
		}
		q, err := search.Parse(on, params[on], search.Options{Base: base})
		if err != nil {
			return nil, "0", errors.New("a filter is not a search that the topic can be filtered by")
		}
		list = append(list, q)
	}
	return list, "", nil
}

var errFilter = errors.New("the topic cannot be filtered by that; docs/subscriptions.md names by what it can")

// readFilter reads one filter. It has no value in its error.
func readFilter(t *topic, text, base string) (on fhir.Type, params []search.Param, err error) {
	if before, after, ok := strings.Cut(text, "?"); ok {
		on, text = fhir.Type(before), after
	}
	params, err = search.ParseQuery(text)
	if err != nil || len(params) == 0 {
		return "", nil, errFilter
	}
	for i := range params {
		p := &params[i]
		if before, after, ok := strings.Cut(p.Name, "."); ok && fhir.Type(before).Known() {
			if on != "" && on != fhir.Type(before) {
				return "", nil, errFilter
			}
			on, p.Name = fhir.Type(before), after
		}
	}
	if on != "" && !t.about(on) {
		return "", nil, errFilter
	}
	for _, p := range params {
		for _, typ := range t.types() {
			if (on == "" || on == typ) && !t.filters(typ, p.Name) {
				return "", nil, errFilter
			}
		}
		if p.Value == "" || !within(paramOf(first(on, t), p.Name), p.Value, base) {
			return "", nil, errFilter
		}
	}
	return on, params, nil
}

func first(on fhir.Type, t *topic) fhir.Type {
	if on != "" {
		return on
	}
	return t.types()[0]
}

// within reports whether what a reference names can be of the tenant.
func within(p *search.Parameter, value, base string) bool {
	if p == nil {
		return false
	}
	if p.Type != "reference" {
		return true
	}
	for v := range strings.SplitSeq(value, ",") {
		if strings.Contains(v, "://") && !strings.HasPrefix(v, base+"/") {
			return false
		}
	}
	return true
}
