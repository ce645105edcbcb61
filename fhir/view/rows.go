package view

import (
	"context"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
)

// Steps bounds the work on one resource, in steps of FHIRPath and a few for each
// cell: a view is not to take the time or memory of others.
const Steps = 200_000

// A Run makes rows of resources, one after the other. Only one goroutine may use
// it.
type Run struct {
	view *View
	ctx  path.Context
	work *path.Work
	// Spent are the steps of all resources so far.
	Spent int
}

// Run returns a Run of v.
func (v *View) Run() (*Run, error) {
	r := &Run{view: v, ctx: path.Context{Constants: map[string][]path.Node{}}}
	if v.constants == nil {
		return r, nil
	}
	doc, err := fhir.Reopen(v.constants)
	if err != nil {
		return nil, err
	}
	for p := range path.Root(doc).Child("parameter") {
		r.ctx.Constants[string(p.JSON().GetStringBytes("name"))] = valuesOf(p)
	}
	return r, nil
}

// A Row has a Value for each column of a view.
type Row []Value

// Size is about how many bytes it takes to keep or to write the row.
func (r Row) Size() int { return 64 * weight(List(r)) }

// Rows returns the rows of a resource. A *fhir.Error says at which place of the
// definition the resource does not fit it, or that it takes too much work.
func (r *Run) Rows(ctx context.Context, d *fhir.Document) ([]Row, error) {
	r.work = path.NewWork(ctx, Steps)
	defer func() { r.Spent += Steps - r.work.Left() }()
	root := path.Root(d)
	r.ctx.Resource, r.ctx.Work, r.ctx.Steps = root, r.work, Steps
	for _, w := range r.view.where {
		if ok, err := r.holds(w, root); err != nil || !ok {
			return nil, err
		}
	}
	rows, err := r.rows(r.view.root, root, 0)
	if err != nil {
		return nil, err
	}
	for _, row := range rows { // who joins copies no text; who writes it does
		if err := r.spend(weight(List(row))); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// holds evaluates a condition, which yields one boolean or nothing.
func (r *Run) holds(w expression, root path.Node) (bool, error) {
	out, err := r.eval(w, 0, root)
	if err != nil || len(out) == 0 {
		return false, err
	}
	b, ok := out[0].Value().(bool)
	if !ok || len(out) > 1 {
		return false, invalid(w.at, "the condition yields what is no boolean")
	}
	return b, nil
}

// eval evaluates an expression of the row with the index.
func (r *Run) eval(e expression, index int, focus ...path.Node) ([]path.Node, error) {
	r.ctx.Constants[rowIndex] = []path.Node{path.Integer(int64(index))}
	out, err := e.Eval(&r.ctx, focus...)
	if err != nil {
		return nil, placed(err, e.at)
	}
	return out, nil
}

// spend counts steps.
func (r *Run) spend(n int) error {
	if !r.work.Do(n) {
		return fhir.Errorf(fhir.TooCostly, "the view takes too much work for one resource")
	}
	return nil
}

// rows returns the rows that s selects of the focus, which is at the index.
func (r *Run) rows(s *selection, focus path.Node, index int) ([]Row, error) {
	if s.each == nil && len(s.repeat) == 0 {
		return r.item(s, focus, index)
	}
	items, err := r.items(s, focus, index)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 && s.orNull {
		row, err := r.null(s)
		return []Row{row}, err
	}
	var all []Row
	for i, n := range items {
		some, err := r.item(s, n, i)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// items returns what s walks over.
func (r *Run) items(s *selection, focus path.Node, index int) ([]path.Node, error) {
	if s.each != nil {
		return r.eval(*s.each, index, focus)
	}
	var all []path.Node
	return all, r.descend(s, &all, focus, index, 0)
}

// maxDescent is how deep repeat goes; no resource is nested deeper.
const maxDescent = 128

// descend adds what the expressions of repeat yield of n, and what they yield of
// that, in the order of the document.
func (r *Run) descend(s *selection, all *[]path.Node, n path.Node, index, depth int) error {
	if depth > maxDescent {
		return fhir.Errorf(fhir.TooCostly, "what is repeated in the view has no end")
	}
	for _, e := range s.repeat {
		found, err := r.eval(e, index, n)
		if err != nil {
			return err
		}
		if err := r.spend(len(found)); err != nil {
			return err
		}
		for _, child := range found {
			*all = append(*all, child)
			if err := r.descend(s, all, child, index, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// item returns the rows of one item: its columns, with each row of the first
// select, with each of the second, and so on, and of the union.
func (r *Run) item(s *selection, n path.Node, index int) ([]Row, error) {
	first, err := r.cells(s.columns, index, n)
	if err != nil {
		return nil, err
	}
	rows := []Row{first}
	for _, inner := range s.selects {
		more, err := r.rows(inner, n, index)
		if err != nil {
			return nil, err
		}
		if rows, err = r.join(rows, more); err != nil || len(rows) == 0 {
			return nil, err
		}
	}
	if len(s.union) == 0 {
		return rows, nil
	}
	var more []Row
	for _, inner := range s.union {
		some, err := r.rows(inner, n, index)
		if err != nil {
			return nil, err
		}
		more = append(more, some...)
	}
	return r.join(rows, more)
}

// join returns each of the rows with each of more behind it.
func (r *Run) join(rows, more []Row) ([]Row, error) {
	if len(more) == 0 {
		return nil, nil
	}
	width := len(rows[0]) + len(more[0])
	if err := r.spend(len(rows) * len(more) * (1 + width)); err != nil {
		return nil, err
	}
	out := make([]Row, 0, len(rows)*len(more))
	for _, a := range rows {
		for _, b := range more {
			row := make(Row, 0, width)
			out = append(out, append(append(row, a...), b...))
		}
	}
	return out, nil
}

// null returns the row of a forEachOrNull that found nothing.
func (r *Run) null(s *selection) (Row, error) {
	row := make(Row, 0, s.width)
	for _, c := range s.columns {
		v, err := r.cell(c, 0)
		if err != nil {
			return nil, err
		}
		if c.Collection {
			v = nil
		}
		row = append(row, v)
	}
	for _, inner := range s.selects {
		more, err := r.null(inner)
		if err != nil {
			return nil, err
		}
		row = append(row, more...)
	}
	if len(s.union) > 0 {
		more, err := r.null(s.union[0])
		return append(row, more...), err
	}
	return row, nil
}

// cells returns the cells of the columns.
func (r *Run) cells(columns []column, index int, focus ...path.Node) (Row, error) {
	row := make(Row, 0, len(columns))
	for _, c := range columns {
		v, err := r.cell(c, index, focus...)
		if err != nil {
			return nil, err
		}
		row = append(row, v)
	}
	return row, nil
}

// cell returns one cell.
func (r *Run) cell(c column, index int, focus ...path.Node) (Value, error) {
	out, err := r.eval(c.expression, index, focus...)
	if err != nil {
		return nil, err
	}
	if len(out) > 1 && !c.Collection {
		return nil, invalid(c.at, "the column yields several values, and does not say that it is a collection")
	}
	list := make(List, 0, len(out))
	for _, n := range out {
		v, ok := c.value(n)
		if !ok {
			return nil, invalid(c.at, "the column yields a value of another type than its own")
		}
		if err := r.spend(weight(v)); err != nil {
			return nil, err
		}
		if v != nil {
			list = append(list, v)
		}
	}
	switch {
	case c.Collection:
		return list, nil
	case len(list) == 0:
		return nil, nil
	}
	return list[0], nil
}
