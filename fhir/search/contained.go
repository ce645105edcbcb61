package search

import (
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A Containment says whether a search is about contained resources, and what it
// returns of them.
// https://hl7.org/fhir/R4/search.html#contained
type Containment struct {
	Only  bool // _contained=true
	Both  bool // _contained=both
	Parts bool // _containedType=contained: the contained resource, not its container
}

// Any reports whether contained resources are searched.
func (c Containment) Any() bool { return c.Only || c.Both }

// HasContained holds for resources of the type In that contain a resource of the
// Type for which X holds. An index tells what types are contained; the rest
// only a body does.
type HasContained struct {
	In, Type fhir.Type
	X        Expr
}

func (HasContained) expr() {}

func containsPath(t fhir.Type) Path { return Path(t) + ":contains" }

// Keys returns the token that the index holds for what contains the Type.
func (c HasContained) Keys() []Token { return []Token{{containsPath(c.In), string(c.Type)}} }

// holds reports whether c holds for a resource with the terms.
func (c HasContained) holds(r *fhir.Resource, t *Terms) (bool, error) {
	if r.Ref.Type != c.In || t.tree == nil {
		return false, nil
	}
	list, err := t.schema.contained(t.tree, c.Type, c.X)
	return len(list) > 0, err
}

// Contained returns which of the resources contained in d, counted from 0, are
// of the type and meet e.
func (s Schema) Contained(d *fhir.Document, t fhir.Type, e Expr) ([]int, error) {
	return s.contained(d.Tree, t, e)
}

func (s Schema) contained(tree value, t fhir.Type, e Expr) (found []int, err error) {
	for i, v := range tree.GetArray("contained") {
		if text(v.Get("resourceType")) != string(t) {
			continue
		}
		d := &fhir.Document{Type: t, ID: text(v.Get("id")), Tree: v}
		ok, err := matches(e, &fhir.Resource{Ref: fhir.Ref{Type: t, ID: d.ID}}, s.Index(d))
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, i)
		}
	}
	return found, nil
}

// contained indexes which types a resource contains.
func (x *indexer) contained(t fhir.Type) {
	for _, v := range x.root.GetArray("contained") {
		if of := text(v.Get("resourceType")); of != "" {
			x.token(containsPath(t), of)
		}
	}
}

// Containers are the types that can contain resources.
// https://hl7.org/fhir/R4/domainresource.html
func Containers() []fhir.Type {
	return slices.DeleteFunc(slices.Clone(fhir.Types), func(t fhir.Type) bool {
		return t == auditEvent || r4.ElementOf(string(t), "contained") == nil
	})
}

// mixes reports whether some member of the conjunction e, or of one within a
// chain, needs an opened body and other resources at once. Neither an index nor
// a body can answer that.
func mixes(e Expr) bool {
	switch e := e.(type) {
	case And:
		return slices.ContainsFunc(e, mixes)
	case Chain:
		return mixes(e.X)
	case ReverseChain:
		return mixes(e.X)
	case Or, Not:
		return len(Undecided(e)) > 0 && linked(e) || slices.ContainsFunc(Members(e), mixes)
	}
	return false
}

// linked reports whether a part of e is about other resources.
func linked(e Expr) bool {
	return isLink(e) || slices.ContainsFunc(Members(e), linked)
}

// each reports whether f holds for the members of e.
func each(e Expr, f func(Expr) bool) bool {
	return !slices.ContainsFunc(Members(e), func(m Expr) bool { return !f(m) })
}

// isAlone reports whether e is about one resource, so that it can be asked of a
// contained one.
func isAlone(e Expr) bool {
	switch e.(type) {
	case Chain, ReverseChain, Updated:
		return false
	}
	return each(e, isAlone)
}

// On returns what q asks of resources of the type.
func (q *Query) On(t fhir.Type) Expr {
	contains := HasContained{In: t, Type: q.Type, X: q.Where}
	switch {
	case q.Contained.Both && t == q.Type:
		return Or{q.Where, contains}
	case q.Contained.Any():
		return contains
	case q.Type == "":
		return On(t, q.Where)
	}
	return q.Where
}

// checkContained refuses what makes no sense of contained resources, or would
// need an index of them.
func (q *Query) checkContained() error {
	switch {
	case q.Contained.Parts && !q.Contained.Any():
		return invalid("_containedType", "needs _contained=true or both")
	case !q.Contained.Any():
		return nil
	case q.Type == "" || q.Type == auditEvent || !slices.Contains(Containers(), q.Type):
		return unsupported("_contained", "is for searches of one type of resource that can be contained")
	case !isAlone(q.Where):
		return unsupported("_contained", "goes with no chains, _has, _list or _lastUpdated")
	case len(q.Sort) > 0 || len(q.Include) > 0:
		return unsupported("_contained", "goes with neither _sort nor includes")
	}
	return nil
}
