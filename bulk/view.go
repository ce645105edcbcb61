package bulk

import (
	"context"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/view"
	"github.com/cordon-fhir/cordon/store"
)

// Bounds on the rows that are made while a client waits.
const (
	// MaxRows is how many there are at most.
	MaxRows = 10_000
	// maxRowBytes bounds what they have in them, about, and maxLooked the resources
	// that are looked at for them.
	maxRowBytes = 16 << 20
	maxLooked   = 50_000
	// maxSteps bounds the work of all of it: a second or two.
	maxSteps = 8_000_000
)

// Rows returns the rows of a view of what the Grant of v sees: of the resources
// that an export of e would show, as it would show them. There are at most limit,
// or all of them if it is 0.
func (e *Export) Rows(ctx context.Context, v *store.View, of *view.View, limit int) ([]view.Row, error) {
	run, err := of.Run()
	if err != nil {
		return nil, err
	}
	m := &rowMaker{export: e, run: run, limit: limit}
	told := &Told{}
	for s := store.AllOf(of.Of, e.Since); !s.Done && !m.full(); {
		m.size = 0
		out := &store.ExportBatch{Show: m.show(ctx), Room: func() bool { return !m.full() && m.size < batchSize }, Told: told.has}
		if s, err = v.Export(ctx, e.query(of.Of), s, out); err != nil {
			return nil, err
		}
		told.add(out.About)
	}
	switch {
	case m.err != nil:
		return nil, m.err
	case limit > 0 && len(m.rows) >= limit:
		return m.rows[:limit], nil
	case m.full():
		return nil, fhir.Errorf(fhir.TooCostly, "the view has more rows than %d, or takes too much work to wait for: ask for fewer with _limit, or for $viewdefinition-export", MaxRows)
	}
	return m.rows, nil
}

// A rowMaker makes the rows of what it is shown.
type rowMaker struct {
	export *Export
	run    *view.Run
	limit  int
	rows   []view.Row
	bytes  int // of the rows, about
	size   int // of the resources of the batch
	looked int
	err    error
}

// full reports whether there are to be no more rows.
func (m *rowMaker) full() bool {
	return m.err != nil || m.limit > 0 && len(m.rows) >= m.limit || len(m.rows) > MaxRows ||
		m.bytes > maxRowBytes || m.looked > maxLooked || m.run.Spent > maxSteps
}

// show takes a resource. What it cannot say in return is in m.err.
func (m *rowMaker) show(ctx context.Context) func(fhir.Resource) {
	return func(r fhir.Resource) {
		if m.full() {
			return
		}
		m.looked++
		m.size += len(r.Body)
		rows, size, err := rowsOf(ctx, m.export, m.run, r)
		m.rows, m.bytes, m.err = append(m.rows, rows...), m.bytes+size, err
	}
}

// rowsOf returns the rows of a resource as it is shown, and how many bytes they have,
// about.
func rowsOf(ctx context.Context, e *Export, run *view.Run, r fhir.Resource) (rows []view.Row, size int, err error) {
	err = fhir.Peek(e.Show(r.Ref.Type, r.Body), func(d *fhir.Document) error {
		rows, err = run.Rows(ctx, d)
		return err
	})
	for _, row := range rows {
		size += row.Size()
	}
	return rows, size, err
}
