package path

// utilityFunctions look at trees, types and clocks.
// http://hl7.org/fhirpath/N1/#tree-navigation
// http://hl7.org/fhirpath/N1/#utility-functions
var utilityFunctions = map[string]function{
	"children":    {eval: children},
	"descendants": {eval: descendants},
	"trace":       {min: 1, max: 2, eval: trace},
	"now":         {eval: clock(dateTimeKind)},
	"today":       {eval: clock(dateKind)},
	"timeOfDay":   {eval: clock(clockKind)},
	"not":         {eval: not},
	"type":        {eval: types},
}

func children(r *run, _ *call, in, _ []Node) ([]Node, error) {
	out := r.room()
	for i := range in {
		out = in[i].appendChildren(out)
	}
	return r.keep(out), r.step(len(out))
}

func descendants(r *run, _ *call, in, _ []Node) ([]Node, error) {
	var out []Node
	for _, n := range in {
		if err := r.descend(n, &out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// descend adds all that is below n. How deep that is the document bounds.
func (r *run) descend(n Node, out *[]Node) error {
	start := len(*out)
	*out = n.appendChildren(*out)
	end := len(*out)
	if err := r.step(stepsPerItem * (end - start)); err != nil {
		return err
	}
	for i := start; i < end; i++ {
		if err := r.descend((*out)[i], out); err != nil {
			return err
		}
	}
	return nil
}

func trace(r *run, c *call, in, focus []Node) ([]Node, error) {
	name, _, err := c.stringArg(r, 0, focus)
	if err != nil || r.ctx.Trace == nil {
		return in, err
	}
	traced := in
	if len(c.args) == 2 {
		traced = nil
		err = c.each(r, 1, in, func(_ int, result []Node) error {
			traced = append(traced, result...)
			return nil
		})
	}
	r.ctx.Trace(name, traced)
	return in, err
}

func clock(kind timeKind) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(r *run, _ *call, _, _ []Node) ([]Node, error) {
		return r.one(Node{val: fromTime(kind, r.time())}), nil
	}
}

func not(_ *run, c *call, in, _ []Node) ([]Node, error) {
	if len(in) > 1 {
		return nil, c.fault("not is called on several items")
	}
	b, known, err := truth(in)
	if err != nil || !known {
		return nil, err
	}
	return boolean(!b), nil
}

func types(_ *run, _ *call, in, _ []Node) ([]Node, error) {
	out := make([]Node, len(in))
	for i, n := range in {
		out[i].val = n.typeInfo()
	}
	return out, nil
}
