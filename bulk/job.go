package bulk

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// A Job is an export that is worked on.
type Job struct {
	*Export
	DB     *store.DB
	Tenant *tenant.Tenant
	Work   store.Work
	// Grant earns the Grant of who asked again, for one step. An export goes on
	// only as long as it can be had.
	Grant func(context.Context) (*smart.Grant, error)
	// Told are the patients whom the audit trail has.
	Told *Told

	tables []tableSlice // of each slice, of an export of tables
}

// A Told is the patients whom the audit trail has of one export. Each is told of
// once, unless they are too many to remember.
type Told struct {
	mu   sync.Mutex
	seen map[int64]struct{}
}

// maxTold bounds the patients that are remembered.
const maxTold = 1 << 20

func (t *Told) has(patient int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, seen := t.seen[patient]
	return seen
}

func (t *Told) add(patients []int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil || len(t.seen) > maxTold {
		t.seen = map[int64]struct{}{}
	}
	for _, p := range patients {
		t.seen[p] = struct{}{}
	}
}

// lanes is how many slices of an export are worked on at once.
const lanes = 2

// Run works on the export for about the time, and reports whether it is done
// then. What is in whole files is kept, whatever the error; who runs it next goes
// on behind that.
func (j *Job) Run(ctx context.Context, about time.Duration) (done bool, err error) {
	end := time.Now().Add(about)
	x, err := j.planned(ctx)
	if err != nil {
		return false, err
	}
	j.tables = tablesOf(x.Slices)
	var mu sync.Mutex
	next := func() *store.ExportSlice {
		mu.Lock()
		defer mu.Unlock()
		for len(x.Slices) > 0 && x.Slices[0].Done {
			x.Slices = x.Slices[1:]
		}
		if len(x.Slices) == 0 {
			return nil
		}
		s := &x.Slices[0]
		x.Slices = x.Slices[1:]
		return s
	}
	g, running := errgroup.WithContext(ctx)
	for range lanes {
		g.Go(func() error {
			for s := next(); s != nil; s = next() {
				for !s.Done {
					if time.Now().After(end) {
						return nil
					}
					if err := j.step(running, s); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	if x, err = j.DB.Exporting(ctx, j.Tenant, j.Work.ID); err != nil {
		return false, err
	}
	return x.Done == len(x.Slices), nil
}

// planned returns how far the export has come, and plans it if it has not begun.
func (j *Job) planned(ctx context.Context) (x store.Exporting, err error) {
	if x, err = j.DB.Exporting(ctx, j.Tenant, j.Work.ID); err != nil || len(x.Slices) > 0 {
		return x, err
	}
	g, err := j.Grant(ctx)
	if err != nil {
		return x, err
	}
	if err := j.passed(ctx, g); err != nil {
		return x, err
	}
	if err := j.DB.PlanExport(ctx, g, j.Work, j.plan()); err != nil {
		return x, err
	}
	return j.DB.Exporting(ctx, j.Tenant, j.Work.ID)
}

// step writes the next file of the slice, and moves the slice on behind it.
func (j *Job) step(ctx context.Context, s *store.ExportSlice) error {
	if len(j.Views) > 0 {
		return j.table(ctx, s)
	}
	w := newWriter(j.Export, s)
	at := *s
	next := j.batch
	if w.file.Kind == store.BlockFile {
		next = j.blocks
	}
	for !at.Done && !w.full() {
		if err := next(ctx, w, &at); err != nil {
			return err
		}
	}
	content, err := w.close()
	if err != nil {
		return err
	}
	return j.put(ctx, w.file, content, s, at)
}

// put keeps the file, if there is something in it, and moves the slice on.
func (j *Job) put(ctx context.Context, f store.ExportFile, content []byte, s *store.ExportSlice, to store.ExportSlice) error {
	g, err := j.Grant(ctx)
	if err != nil {
		return err
	}
	if len(content) == 0 || f.Lines == 0 && !f.Kind.Table() {
		err = j.DB.EndExportSlice(ctx, g, j.Work, &to)
	} else {
		err = j.DB.PutExportFile(ctx, g, j.Work, f, content, &to)
	}
	if err == nil {
		*s = to
	}
	return err
}

// batch adds to the file what comes next in the slice. Nothing of it is written
// before the audit trail has it.
func (j *Job) batch(ctx context.Context, w *writer, s *store.ExportSlice) error {
	out := &store.ExportBatch{Whose: func(ids []string) { w.whose = ids }, Show: w.show, Room: w.room}
	if err := j.read(ctx, j.query(s.Type), s, w.begin, out); err != nil {
		return err
	}
	return w.take(out.About)
}

// read shows what comes next in the slice, as the client may see it now. It may
// have to begin anew.
func (j *Job) read(ctx context.Context, q store.ExportQuery, s *store.ExportSlice, begin func(), out *store.ExportBatch) error {
	g, err := j.Grant(ctx)
	if err != nil {
		return err
	}
	out.Told = j.Told.has
	var next store.ExportSlice
	err = j.DB.View(ctx, g, func(v *store.View) (err error) {
		begin()
		next, err = v.Export(ctx, q, *s, out)
		return err
	})
	if err != nil {
		return err
	}
	j.Told.add(out.About)
	*s = next
	return nil
}

// passed writes the file of what the client does not get, unless who had the work
// before has.
func (j *Job) passed(ctx context.Context, g *smart.Grant) error {
	if len(j.Passed) == 0 {
		return nil
	}
	if files, err := j.DB.ExportFiles(ctx, j.Work); err != nil || len(files) > 0 {
		return err
	}
	w := newWriter(j.Export, &store.ExportSlice{Type: "OperationOutcome"})
	w.file.Kind = store.ErrorFile
	for _, line := range j.Passed {
		w.line(line)
	}
	if err := w.take(nil); err != nil {
		return err
	}
	content, err := w.close()
	if err != nil {
		return err
	}
	return j.DB.PutExportFile(ctx, g, j.Work, w.file, content, nil)
}
