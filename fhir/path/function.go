package path

import "errors"

// A function is one that expressions can call.
// http://hl7.org/fhirpath/N1/#functions
type function struct {
	min, max int // how many arguments it takes
	types    bool
	regex    bool // its first argument is a regular expression
	each     bool // its arguments are evaluated for each item
	eval     func(r *run, c *call, in, focus []Node) ([]Node, error)
}

// functions are all that can be called, by name.
var functions map[string]function

func init() {
	functions = map[string]function{"is": {types: true}, "as": {types: true}, "ofType": {types: true}}
	for _, group := range []map[string]function{
		collectionFunctions, conversionFunctions, stringFunctions, mathFunctions, boundaryFunctions, utilityFunctions, fhirFunctions,
	} {
		for name, f := range group {
			functions[name] = f
		}
	}
}

// A call is a function with its arguments.
type call struct {
	pos
	on    expr // nil if it begins the path
	name  string
	fn    function
	args  []expr
	regex *pattern // of an argument that is a literal
	desc  []bool   // of sort, for each argument
}

// prepare does what can be done before evaluation.
func (c *call) prepare() error {
	if c.name == "sort" {
		c.desc = make([]bool, len(c.args))
		for i, a := range c.args {
			if s, ok := a.(*sign); ok && s.minus {
				c.desc[i], c.args[i] = true, s.on
			}
		}
	}
	if c.fn.regex {
		if l, ok := c.args[0].(*literal); ok && len(l.value) == 1 {
			if s, ok := l.value[0].val.(string); ok {
				var err error
				if c.regex, err = c.compile(s); err != nil {
					return errors.New("a regular expression that is malformed, not of RE2, or too large")
				}
			}
		}
	}
	return nil
}

func (c *call) eval(r *run, focus []Node) ([]Node, error) {
	in := focus
	if c.on != nil {
		var err error
		if in, err = c.on.eval(r, focus); err != nil {
			return nil, err
		}
	}
	if err := r.step(1 + len(in)); err != nil {
		return nil, err
	}
	return c.fn.eval(r, c, in, focus)
}

// each evaluates argument i with every item as focus in turn, and calls fn
// with the result.
func (c *call) each(r *run, i int, in []Node, fn func(at int, result []Node) error) error {
	index, indexed := r.index, r.indexed
	defer func() { r.index, r.indexed = index, indexed }()
	for at := range in {
		r.index, r.indexed = at, true
		out, err := c.args[i].eval(r, in[at:at+1:at+1])
		if err != nil {
			return err
		}
		if err := fn(at, out); err != nil {
			return err
		}
	}
	return nil
}

// arg evaluates argument i as one item. ok is false if it is empty.
func (c *call) arg(r *run, i int, focus []Node) (Node, bool, error) {
	return c.operand(r, c.args[i], focus)
}

// stringArg evaluates argument i as a string.
func (c *call) stringArg(r *run, i int, focus []Node) (string, bool, error) {
	n, ok, err := c.arg(r, i, focus)
	if err != nil || !ok {
		return "", false, err
	}
	s, ok := n.str()
	if !ok {
		return "", false, c.fault("an argument of %s that is no string", c.name)
	}
	return s, true, r.step(len(s) / bytesPerStep)
}

// intArg evaluates argument i as an integer.
func (c *call) intArg(r *run, i int, focus []Node) (int, bool, error) {
	n, ok, err := c.arg(r, i, focus)
	if err != nil || !ok {
		return 0, false, err
	}
	v, ok := n.Value().(int64)
	if !ok {
		return 0, false, c.fault("an argument of %s that is no integer", c.name)
	}
	return int(v), true, nil
}

// value returns the value of the only item of the input; nil if there is none.
func (c *call) value(r *run, in []Node) (any, error) {
	n, ok, err := c.single(in)
	if err != nil || !ok {
		return nil, err
	}
	// A string is read rune by rune.
	return n.Value(), r.step(16 * n.weight())
}

// stringInput returns the input as a string. ok is false if it is empty.
func (c *call) stringInput(r *run, in []Node) (s string, ok bool, err error) {
	n, ok, err := c.single(in)
	if err != nil || !ok || n.valueless() {
		return "", false, err
	}
	if s, ok = n.str(); !ok {
		return "", false, c.fault("%s is called on what is no string", c.name)
	}
	return s, true, r.step(len(s) / bytesPerStep)
}

// result returns v as a collection, an empty one if it is nil.
func (r *run) result(v any) []Node {
	if v == nil {
		return nil
	}
	if b, ok := v.(bool); ok {
		return boolean(b)
	}
	return r.one(Node{val: v})
}
