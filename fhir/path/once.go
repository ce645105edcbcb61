package path

// A once is an expression in the criterion of a function, of which the items
// that the function walks over change nothing. It is evaluated for the first of
// them. Without it sdf-8a and dom-3 of R4 would take the square of the time.
type once struct{ of expr }

func (o *once) eval(r *run, focus []Node) ([]Node, error) {
	if out, ok := r.known[o]; ok {
		return out[:len(out):len(out)], r.step(1)
	}
	out, err := o.of.eval(r, focus)
	if err != nil {
		return nil, err
	}
	if r.known == nil {
		r.known = map[*once][]Node{}
	}
	r.known[o] = out
	return out[:len(out):len(out)], nil
}

// What hoist finds out of an expression.
type traits struct {
	open     bool // it depends on its focus
	bound    bool // it depends on what else is outside of it, or does more than yield a result
	constant bool // a constant such as %resource is in it
	bare     bool // it is no more than one
}

// once reports whether it is worth to keep what the expression yields.
func (t traits) once() bool { return !t.open && !t.bound && t.constant && !t.bare }

// hoist puts a once around what is to be evaluated once in e. inside says that e
// is in the criterion of a function.
func hoist(e expr, inside bool) traits {
	t := traitsOf(e)
	list := operands(e)
	of := make([]traits, len(list))
	for i, o := range list {
		of[i] = hoist(*o.expr, inside || o.own)
		t.open = t.open || of[i].open && !o.own
		t.bound = t.bound || of[i].bound
		t.constant = t.constant || of[i].constant
	}
	if inside && t.once() {
		return t // as a whole
	}
	for i, o := range list {
		if (inside || o.own) && of[i].once() {
			*o.expr = &once{*o.expr}
		}
	}
	return t
}

// traitsOf returns the traits of e without those of what is in it.
func traitsOf(e expr) traits {
	switch e := e.(type) {
	case *special:
		return traits{open: true, bound: e.name == "total"}
	case *member:
		return traits{open: e.on == nil}
	case *call:
		return traits{open: e.on == nil, bound: e.name == "trace"}
	case *constant:
		return traits{constant: true, bare: true}
	}
	return traits{}
}

// An operand is an expression in another. own says that its focus is not that
// of the other.
type operand struct {
	expr *expr
	own  bool
}

// operands returns those of e that there are.
func operands(e expr) []operand {
	var list []operand
	add := func(e *expr) {
		if *e != nil {
			list = append(list, operand{e, false})
		}
	}
	switch e := e.(type) {
	case *member:
		add(&e.on)
	case *indexer:
		add(&e.on)
		add(&e.index)
	case *isType:
		add(&e.on)
	case *asType:
		add(&e.on)
	case *ofType:
		add(&e.on)
	case *sign:
		add(&e.on)
	case *binary:
		add(&e.left)
		add(&e.right)
	case *call:
		add(&e.on)
		for i := range e.args {
			list = append(list, operand{&e.args[i], e.fn.each && (i == 0 || e.name == "sort")})
		}
	}
	return list
}
