package subscriptions

import (
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// A follower is an active subscription, as it is matched.
type follower struct {
	store.Subscription
	kept
	topic   *topic
	queries []*search.Query
}

// An index finds the followers of a change, by its type and by what one of the filters
// asks for: who looks for something else is not looked at.
type index struct {
	schema search.Schema
	types  map[fhir.Type]*typeIndex
}

type typeIndex struct {
	by  map[any][]match // a search.Token, a search.Reference or an id
	all []match         // that nothing finds
}

// A match is what a follower asks of a type.
type match struct {
	*follower
	where search.Expr
}

// newIndex makes the index of those that are active. What cannot be read any more
// is skipped, for who looks after it.
func newIndex(base string, list []store.Subscription) *index {
	x := &index{schema: search.Schema{Base: base}, types: map[fhir.Type]*typeIndex{}}
	for _, s := range list {
		if f, err := newFollower(base, s); err == nil && s.Active {
			x.add(f)
		}
	}
	return x
}

func newFollower(base string, s store.Subscription) (*follower, error) {
	f := &follower{Subscription: s}
	if err := json.Unmarshal(s.Kept, &f.kept); err != nil {
		return nil, err
	}
	var err error
	f.topic = topics[f.Topic]
	f.queries, _, err = f.kept.queries(base)
	return f, err
}

func (x *index) add(f *follower) {
	for _, q := range f.queries {
		t := x.types[q.Type]
		if t == nil {
			t = &typeIndex{by: map[any][]match{}}
			x.types[q.Type] = t
		}
		m := match{f, q.Where}
		keys := keysOf(q.Where)
		for _, k := range keys {
			t.by[k] = append(t.by[k], m)
		}
		if len(keys) == 0 {
			t.all = append(t.all, m)
		}
	}
}

// keysOf returns what a resource has one of, if the condition holds for it; none if
// that cannot be told.
func keysOf(e search.Expr) []any {
	switch e := e.(type) {
	case search.HasReference:
		return []any{search.Reference(e)}
	case search.HasToken:
		return []any{search.Token(e)}
	case search.HasID:
		var keys []any
		for _, id := range e {
			keys = append(keys, id)
		}
		return keys
	case search.And:
		var best []any
		for _, m := range e {
			if keys := keysOf(m); len(keys) > 0 && (best == nil || len(keys) < len(best)) {
				best = keys
			}
		}
		return best
	case search.Or:
		var all []any
		for _, m := range e {
			keys := keysOf(m)
			if len(keys) == 0 {
				return nil
			}
			all = append(all, keys...)
		}
		return all
	}
	return nil
}

func (x *index) of() []fhir.Type {
	var list []fhir.Type
	for t := range x.types {
		list = append(list, t)
	}
	return list
}

// An aspect is one version of a resource, as it is matched.
type aspect struct {
	res   *fhir.Resource
	doc   *fhir.Document
	terms *search.Terms
}

func (x *index) aspect(r *fhir.Resource) (*aspect, error) {
	if r == nil {
		return nil, nil
	}
	d, err := fhir.Reopen(r.Body)
	if err != nil {
		return nil, err
	}
	return &aspect{r, d, x.schema.Index(d)}, nil
}

func (a *aspect) meets(e search.Expr) (bool, error) {
	if a == nil {
		return false, nil
	}
	return search.Match(e, a.res, a.terms)
}

// followers returns those of whose topic the change is an event and whose filters it
// meets, each once. What was deleted meets them as it was.
func (x *index) followers(c store.Change) ([]*follower, error) {
	t := x.types[c.Ref.Type]
	if t == nil || c.Now == nil && c.Before == nil {
		return nil, nil
	}
	now, err := x.aspect(c.Now)
	if err != nil {
		return nil, err
	}
	before, err := x.aspect(c.Before)
	if err != nil {
		return nil, err
	}
	is := now
	if is == nil {
		is = before
	}
	events := map[*topic]bool{}
	var list []*follower
	for _, m := range t.candidates(is) {
		if slices.Contains(list, m.follower) {
			continue
		}
		event, known := events[m.topic]
		if !known {
			if event, err = m.topic.event(c, now, before); err != nil {
				return nil, err
			}
			events[m.topic] = event
		}
		if !event {
			continue
		}
		ok, err := is.meets(m.where)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, m.follower)
		}
	}
	return list, nil
}

func (t *typeIndex) candidates(a *aspect) []match {
	list := slices.Clone(t.all)
	list = append(list, t.by[a.res.Ref.ID]...)
	for _, r := range a.terms.Refs {
		list = append(list, t.by[r]...)
	}
	for _, k := range a.terms.Tokens {
		list = append(list, t.by[k]...)
	}
	return list
}

// event reports whether the change is an event of the topic.
func (t *topic) event(c store.Change, now, before *aspect) (bool, error) {
	for i := range t.Triggers {
		if ok, err := t.Triggers[i].holds(c, now, before); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (x *trigger) holds(c store.Change, now, before *aspect) (bool, error) {
	op := c.Op
	if op == fhir.Update && before == nil { // it was deleted before
		op = fhir.Create
	}
	if x.on != c.Ref.Type || !slices.Contains(x.Interactions, op) {
		return false, nil
	}
	if x.current != nil {
		if ok, err := now.meets(x.current); !ok || err != nil {
			return false, err
		}
	}
	if x.previous != nil {
		ok, err := before.meets(x.previous)
		if op == fhir.Create {
			ok = x.Query.ResultForCreate == "test-passes"
		}
		if !ok || err != nil {
			return false, err
		}
	}
	return x.pathHolds(now, before), nil
}

// pathHolds evaluates the FHIRPath criteria; where they cannot be, they do not hold.
func (x *trigger) pathHolds(now, before *aspect) bool {
	if x.path == nil {
		return true
	}
	root := func(a *aspect) []path.Node {
		if a == nil {
			return nil
		}
		return []path.Node{path.Root(a.doc)}
	}
	is, was := root(now), root(before)
	focus := append(slices.Clone(is), was...)[0]
	holds, err := x.path.Holds(&path.Context{Constants: map[string][]path.Node{"current": is, "previous": was}}, focus)
	return holds && err == nil
}
