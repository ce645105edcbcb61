package search

import (
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// sort reads _sort: parameters, and those of what a reference leads to, as in
// subject:Patient.birthdate, which the standard leaves open.
// https://hl7.org/fhir/R4/search.html#sort
func (r *reader) sort(p Param) error {
	for code := range strings.SplitSeq(p.Value, ",") {
		code, desc := strings.CutPrefix(strings.TrimSpace(code), "-")
		key := SortKey{Desc: desc}
		for _, t := range r.types {
			if err := key.read(r.o.Custom.table(t), p.Name, code, r.o); err != nil {
				return err
			}
		}
		if len(r.types) > 1 {
			key.Present = nil
		}
		if len(r.query.Sort) == maxSorts {
			return fhir.Errorf(fhir.TooCostly, "a search is sorted by at most %d parameters", maxSorts)
		}
		r.query.Sort = append(r.query.Sort, key)
	}
	return nil
}

// read adds to the key what code means for resources of the type.
func (k *SortKey) read(tb *table, name, code string, o Options) error {
	head, rest, chained := strings.Cut(code, ".")
	if !chained {
		return k.of(tb, name, code, o)
	}
	code, modifier, _ := strings.Cut(head, ":")
	p, err := tb.parameter(code, o)
	if err != nil || p.Type != "reference" {
		return unsupported(name, "names what is no reference here, before the dot")
	}
	targets, err := p.chained(modifier, rest, o)
	switch {
	case err != nil:
		return err
	case len(targets) != 1 || k.Via != nil && k.Via.Type != targets[0]:
		return unsupported(name, "goes by a reference to one type, which it can name, as in subject:Patient.birthdate")
	}
	paths := p.paths(targets[0])
	if strings.Contains(rest, ".") || len(paths) == 0 {
		return unsupported(name, "goes by one reference at most, and by no canonical URL")
	}
	if k.Via != nil { // of another type that is searched
		k.Via.Paths = append(k.Via.Paths, paths...)
		return nil
	}
	k.Via = &Via{Type: targets[0], Paths: paths}
	return k.of(o.Custom.table(targets[0]), name, rest, o)
}

// of adds to the key a parameter of the type.
func (k *SortKey) of(tb *table, name, code string, o Options) error {
	p := tb.byCode[code]
	if p == nil || p.Type == "composite" || p.Type == "special" {
		return unsupported(name, "names what is no search parameter here, or one without an order")
	}
	if err := o.use(p); err != nil {
		return err
	}
	switch {
	case code == "_id":
		k.Kind = ByID
		return nil
	case code == "_lastUpdated":
		k.Kind = ByUpdated
		return nil
	case p.Type == "date":
		k.Kind, k.Present = ByDate, p.present()
	case p.Type == "number" || p.Type == "quantity":
		k.Kind, k.Present = ByNumber, p.present()
	default:
		k.Kind = ByText
	}
	for _, e := range p.elements {
		k.Paths = append(k.Paths, e.path)
	}
	return nil
}
