package path

import (
	"cmp"
	"errors"
	"slices"
)

// collectionFunctions ask about collections and make others of them.
// http://hl7.org/fhirpath/N1/#existence
// http://hl7.org/fhirpath/N1/#filtering-and-projection
// http://hl7.org/fhirpath/N1/#subsetting
// http://hl7.org/fhirpath/N1/#combining
var collectionFunctions = map[string]function{
	"empty":      {eval: func(_ *run, _ *call, in, _ []Node) ([]Node, error) { return boolean(len(in) == 0), nil }},
	"exists":     {each: true, max: 1, eval: exists},
	"all":        {each: true, min: 1, max: 1, eval: all},
	"allTrue":    {eval: booleans(true, func(found bool) bool { return !found }, false)},
	"anyTrue":    {eval: booleans(true, func(found bool) bool { return found }, true)},
	"allFalse":   {eval: booleans(false, func(found bool) bool { return !found }, false)},
	"anyFalse":   {eval: booleans(false, func(found bool) bool { return found }, true)},
	"subsetOf":   {min: 1, max: 1, eval: subsetOf},
	"supersetOf": {min: 1, max: 1, eval: supersetOf},
	"count": {eval: func(r *run, _ *call, in, _ []Node) ([]Node, error) {
		return r.one(Node{val: int64(len(in))}), nil
	}},
	"distinct":   {eval: distinct},
	"isDistinct": {eval: isDistinct},
	"where":      {each: true, min: 1, max: 1, eval: where},
	"select":     {each: true, min: 1, max: 1, eval: selectItems},
	"repeat":     {each: true, min: 1, max: 1, eval: repeat},
	"single":     {eval: single},
	"first":      {eval: func(_ *run, _ *call, in, _ []Node) ([]Node, error) { return slice(in, 0, 1), nil }},
	"last": {eval: func(_ *run, _ *call, in, _ []Node) ([]Node, error) {
		return slice(in, len(in)-1, len(in)), nil
	}},
	"tail":      {eval: func(_ *run, _ *call, in, _ []Node) ([]Node, error) { return slice(in, 1, len(in)), nil }},
	"skip":      {min: 1, max: 1, eval: skip},
	"take":      {min: 1, max: 1, eval: take},
	"intersect": {min: 1, max: 1, eval: intersect},
	"exclude":   {min: 1, max: 1, eval: exclude},
	"union":     {min: 1, max: 1, eval: union},
	"combine":   {min: 1, max: 1, eval: combine},
	"aggregate": {each: true, min: 1, max: 2, eval: aggregate},
	"sort":      {each: true, max: 8, eval: sort},
}

// errStop ends a walk over items early.
var errStop = errors.New("stop")

func stopped(err error) error {
	if err == errStop {
		return nil
	}
	return err
}

// holds returns the result of a criterion as a boolean.
func (c *call) holds(result []Node) (bool, error) {
	if len(result) > 1 {
		return false, c.fault("the criterion of %s yields several items", c.name)
	}
	b, known, err := truth(result)
	return b && known, err
}

func exists(r *run, c *call, in, _ []Node) ([]Node, error) {
	if len(c.args) == 0 {
		return boolean(len(in) > 0), nil
	}
	found := false
	err := c.each(r, 0, in, func(_ int, result []Node) (err error) {
		if found, err = c.holds(result); found {
			return errStop
		}
		return err
	})
	return boolean(found), stopped(err)
}

func all(r *run, c *call, in, _ []Node) ([]Node, error) {
	every := true
	err := c.each(r, 0, in, func(_ int, result []Node) (err error) {
		if every, err = c.holds(result); err == nil && !every {
			return errStop
		}
		return err
	})
	return boolean(every), stopped(err)
}

// booleans is allTrue() and its kin: it looks for an item that is want, or
// that is not.
func booleans(want bool, answer func(found bool) bool, any bool) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(_ *run, c *call, in, _ []Node) ([]Node, error) {
		found := false
		for _, n := range in {
			b, ok := n.Value().(bool)
			if !ok {
				return nil, c.fault("%s is called on what is no boolean", c.name)
			}
			found = found || (b == want) == any
		}
		return boolean(answer(found)), nil
	}
}

// within reports whether every item of a is in b.
func (r *run) within(a, b []Node) (bool, error) {
	s, err := r.newSet(b)
	if err != nil {
		return false, err
	}
	for _, n := range a {
		if ok, _, err := s.has(n); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func subsetOf(r *run, c *call, in, focus []Node) ([]Node, error) {
	other, err := c.args[0].eval(r, focus)
	if err != nil {
		return nil, err
	}
	ok, err := r.within(in, other)
	return boolean(ok), err
}

func supersetOf(r *run, c *call, in, focus []Node) ([]Node, error) {
	other, err := c.args[0].eval(r, focus)
	if err != nil {
		return nil, err
	}
	ok, err := r.within(other, in)
	return boolean(ok), err
}

func distinct(r *run, _ *call, in, _ []Node) ([]Node, error) { return r.union(in, nil) }

func isDistinct(r *run, _ *call, in, _ []Node) ([]Node, error) {
	s, err := r.newSet(in)
	if err != nil {
		return nil, err
	}
	return boolean(len(s.items) == len(in)), nil
}

func where(r *run, c *call, in, _ []Node) ([]Node, error) {
	var out []Node
	err := c.each(r, 0, in, func(at int, result []Node) error {
		keep, err := c.holds(result)
		switch {
		case err != nil || !keep:
		case out == nil:
			out = r.one(in[at])
		default:
			out = append(out, in[at])
		}
		return err
	})
	return out, err
}

func selectItems(r *run, c *call, in, _ []Node) ([]Node, error) {
	var out []Node
	err := c.each(r, 0, in, func(_ int, result []Node) error {
		if out == nil {
			out = slices.Clip(result)
			return nil
		}
		out = append(out, result...)
		return r.step(stepsPerItem * len(result))
	})
	return out, err
}

// repeat evaluates its argument on what it yielded before until nothing new
// comes.
func repeat(r *run, c *call, in, _ []Node) ([]Node, error) {
	s := &set{r: r}
	for len(in) > 0 {
		var fresh []Node
		err := c.each(r, 0, in, func(_ int, result []Node) error {
			for _, n := range result {
				isNew, err := s.add(n)
				if err != nil {
					return err
				}
				if isNew {
					fresh = append(fresh, n)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		in = fresh
	}
	return s.items, nil
}

func single(_ *run, c *call, in, _ []Node) ([]Node, error) {
	_, _, err := c.single(in)
	return in, err
}

// slice returns the items from i up to j, of those that there are.
func slice(in []Node, i, j int) []Node {
	i, j = max(i, 0), min(j, len(in))
	if i >= j {
		return nil
	}
	return in[i:j:j]
}

func skip(r *run, c *call, in, focus []Node) ([]Node, error) {
	n, ok, err := c.intArg(r, 0, focus)
	if err != nil || !ok {
		return nil, err
	}
	return slice(in, n, len(in)), nil
}

func take(r *run, c *call, in, focus []Node) ([]Node, error) {
	n, ok, err := c.intArg(r, 0, focus)
	if err != nil || !ok {
		return nil, err
	}
	return slice(in, 0, n), nil
}

// setArg evaluates the first argument as a set.
func (c *call) setArg(r *run, focus []Node) (*set, error) {
	other, err := c.args[0].eval(r, focus)
	if err != nil {
		return nil, err
	}
	return r.newSet(other)
}

func intersect(r *run, c *call, in, focus []Node) ([]Node, error) {
	s, err := c.setArg(r, focus)
	if err != nil {
		return nil, err
	}
	out := &set{r: r}
	for _, n := range in {
		if ok, _, err := s.has(n); err != nil {
			return nil, err
		} else if ok {
			if _, err := out.add(n); err != nil {
				return nil, err
			}
		}
	}
	return out.items, nil
}

func exclude(r *run, c *call, in, focus []Node) ([]Node, error) {
	s, err := c.setArg(r, focus)
	if err != nil {
		return nil, err
	}
	var out []Node
	for _, n := range in {
		ok, _, err := s.has(n)
		if err != nil {
			return nil, err
		}
		if !ok {
			out = append(out, n)
		}
	}
	return out, nil
}

func union(r *run, c *call, in, focus []Node) ([]Node, error) {
	other, err := c.args[0].eval(r, focus)
	if err != nil {
		return nil, err
	}
	return r.union(in, other)
}

func combine(r *run, c *call, in, focus []Node) ([]Node, error) {
	other, err := c.args[0].eval(r, focus)
	if err != nil {
		return nil, err
	}
	return slices.Concat(in, other), r.step(stepsPerItem * len(other))
}

// aggregate evaluates its argument on each item, with $total from the last.
// http://hl7.org/fhirpath/N1/#aggregates
func aggregate(r *run, c *call, in, focus []Node) ([]Node, error) {
	outer := r.total
	defer func() { r.total = outer }()
	r.total = nil
	if len(c.args) == 2 {
		var err error
		if r.total, err = c.args[1].eval(r, focus); err != nil {
			return nil, err
		}
	}
	err := c.each(r, 0, in, func(_ int, result []Node) error {
		r.total = result
		return nil
	})
	return r.total, err
}

// sort orders the items by its arguments, or by themselves. A minus before an
// argument turns the order round. What has no key comes first.
func sort(r *run, c *call, in, _ []Node) ([]Node, error) {
	type row struct {
		n    Node
		keys []any
	}
	rows := make([]row, len(in))
	for i, n := range in {
		rows[i] = row{n, make([]any, max(len(c.args), 1))}
		if err := r.step(n.weight()); err != nil {
			return nil, err
		}
		rows[i].keys[0] = n.Value()
	}
	for k := range c.args {
		err := c.each(r, k, in, func(at int, result []Node) error {
			n, _, err := c.single(result)
			rows[at].keys[k] = n.Value()
			return cmp.Or(err, r.step(n.weight()))
		})
		if err != nil {
			return nil, err
		}
	}
	var fault error
	slices.SortStableFunc(rows, func(a, b row) int {
		if fault != nil {
			return 0
		}
		if err := r.step(1 + a.n.weight() + b.n.weight()); err != nil {
			fault = err
		}
		for k := range a.keys {
			order, err := c.order(a.keys[k], b.keys[k], k < len(c.desc) && c.desc[k])
			if err != nil {
				fault = err
			}
			if order != 0 {
				return order
			}
		}
		return 0
	})
	out := make([]Node, len(rows))
	for i := range rows {
		out[i] = rows[i].n
	}
	return out, fault
}

// order compares two keys, of which nil comes first either way.
func (c *call) order(x, y any, desc bool) (int, error) {
	switch {
	case x == nil && y == nil:
		return 0, nil
	case x == nil:
		return -1, nil
	case y == nil:
		return 1, nil
	}
	order, _, comparable := compare(x, y)
	if !comparable {
		return 0, c.fault("items that cannot be compared are sorted")
	}
	if desc {
		return -order, nil
	}
	return order, nil
}
