package search

import (
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// A Canonical names resources by what they call themselves: all versions of
// it if Version is "".
// https://hl7.org/fhir/R4/references.html#canonical
type Canonical struct{ URL, Version string }

// Canonicals returns what d names by canonical URL at one of the paths.
func (s Schema) Canonicals(d *fhir.Document, paths []Path) []Canonical {
	tb := s.Custom.table(d.Type)
	if tb == nil {
		return nil
	}
	x := indexer{schema: s, terms: &Terms{}, root: d.Tree, want: references}
	x.resource(tb, d)
	var list []Canonical
	for _, t := range x.terms.Tokens {
		url, version, cited := strings.Cut(t.Value, "|")
		if c := (Canonical{strings.Clone(url), strings.Clone(version)}); cited && slices.Contains(paths, t.Path) && !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	return list
}

// CanonicalOf returns what d calls itself. It is false if d has no URL.
func CanonicalOf(d *fhir.Document) (Canonical, bool) {
	url, version := text(d.Tree.Get("url")), text(d.Tree.Get("version"))
	return Canonical{strings.Clone(url), strings.Clone(version)}, url != "" && HasURL(d.Type)
}

// HasURL reports whether resources of the type can be named by canonical URL.
func HasURL(t fhir.Type) bool {
	tb := tableOf(t)
	return tb != nil && tb.byCode["url"] != nil && tb.byCode["version"] != nil
}

// Cites returns the condition that a resource names one that calls itself by
// one of list, at one of the paths.
func Cites(paths []Path, list []Canonical) Expr {
	or := Or{}
	for _, path := range paths {
		for _, c := range list {
			or = append(or, HasToken{path, c.URL + "|"})
			if c.Version != "" {
				or = append(or, HasToken{path, c.URL + "|" + c.Version})
			}
		}
	}
	return or
}

// Called returns the condition that a resource of the type is named by one of
// list.
func Called(t fhir.Type, list []Canonical) Expr {
	or := Or{}
	if !HasURL(t) {
		return or
	}
	url, version := tableOf(t).byCode["url"].elements[0].path, tableOf(t).byCode["version"].elements[0].path
	for _, c := range list {
		is := HasToken{url, c.URL}
		if c.Version == "" {
			or = append(or, is)
			continue
		}
		or = append(or, And{is, HasToken{version, alone(c.Version)}})
	}
	return or
}

// citation indexes a canonical URL that a reference parameter reads: as it
// stands, without its version, and if it has none, with a mark that says so.
func (x *indexer) citation(l *leaf, v value) bool {
	if !x.canonical(l, v) {
		return false
	}
	if s := text(v); strings.IndexByte(s, '|') < 0 {
		x.token(l.path, x.compose(s, "|"))
	} else {
		x.string(l.full, s)
	}
	return true
}

// versions returns the condition of :above and :below on canonical URLs, of a
// version if the value has one, else as of any URL. Version 1.2 is above 1.2.3.
// https://hl7.org/fhir/R4/search.html#modifiers
func (e element) versions(name, modifier, text string) (Expr, error) {
	if !e.has("canonical") && !e.has("uri") {
		return nil, unsupportedModifier(name)
	}
	text, err := unescape(name, text)
	if err != nil {
		return nil, err
	}
	url, version, versioned := strings.Cut(text, "|")
	switch {
	case !versioned:
		return e.hierarchy(name, modifier, text)
	case version == "":
		return nil, invalid(name, "has an empty version")
	case modifier == "below":
		return HasText{e.path + fullSuffix, BelowVersion, text}, nil
	}
	or := Or{}
	for at := len(version); at > 0; at = strings.LastIndexByte(version[:at], '.') {
		or = append(or, HasToken{e.path, url + "|" + version[:at]})
	}
	return or.simple(), nil
}

// canonicals returns the elements of p with canonical URLs, if resources of
// the type can have one; of any type if to is "".
func (p *parameter) canonicals(to fhir.Type) []Path {
	if to != "" && !HasURL(to) {
		return nil
	}
	var list []Path
	for _, e := range p.elements {
		if e.has("canonical") || e.has("uri") {
			list = append(list, e.path)
		}
	}
	return list
}

// CanonicalPaths returns the elements of the type by which it names others by
// canonical URL.
func CanonicalPaths(t fhir.Type) []Path {
	return pathsOf(t, func(p *parameter) []Path { return p.canonicals("") })
}

// pathsOf returns what each reference parameter of the type gives, each once.
func pathsOf(t fhir.Type, of func(*parameter) []Path) []Path {
	tb := tableOf(t)
	if tb == nil {
		return nil
	}
	var list []Path
	for _, p := range tb.parameters {
		if p.Type != "reference" {
			continue
		}
		for _, path := range of(p) {
			if !slices.Contains(list, path) {
				list = append(list, path)
			}
		}
	}
	return list
}

// CanonicalTypes returns the types whose resources can be named by canonical
// URL.
func CanonicalTypes() []fhir.Type {
	return slices.DeleteFunc(slices.Clone(fhir.Types), func(t fhir.Type) bool { return !HasURL(t) })
}
