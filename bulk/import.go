package bulk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/blob"
	"github.com/cordon-fhir/cordon/tenant"
)

// An Import is what a client asked to be imported.
type Import struct {
	Inputs []Input
	// CreateOnly says that a resource that is there already is a fault.
	CreateOnly bool
	// Initial says so too, and that there was none of the types when it was asked for.
	Initial bool
}

// An Input is NDJSON of one type.
// https://github.com/smart-on-fhir/bulk-import/blob/master/import-pnp.md
type Input struct {
	Type fhir.Type
	Name string // what the client calls it
	URL  string // where it is fetched; "" if it is uploaded
	ETag string // what the source is to say of it; "" is anything
}

// An ImportJob is an import that is worked on.
type ImportJob struct {
	*Import
	DB     *store.DB
	Tenant *tenant.Tenant
	Work   store.Work
	// Grant earns the Grant of who asked again, for one batch. An import goes on
	// only as long as it can be had.
	Grant func(context.Context) (*smart.Grant, error)
	// Told are the patients whom the audit trail has.
	Told *Told

	// Source returns a client that goes to the source of the URL and nowhere else.
	Source func(url string) (client *http.Client, at string)
	// Objects opens what is in an object store; nil opens nothing.
	Objects *blob.Reader
	// Fetches has room for the inputs that this process fetches at once.
	Fetches chan struct{}

	// Processors has room for the lines that this process works on at once: for one less
	// than there are processors, so that a request finds one.
	Processors chan struct{}

	// Read makes a resource of a line, and holds it against what is asked of one
	// that is created. Its errors are of the line.
	Read func(context.Context, fhir.Type, []byte) (*fhir.Document, error)
	// Store stores a resource under the Grant of tx.
	Store func(context.Context, *store.Tx, *smart.Grant, *fhir.Document) error
	// Outcome says on one line of JSON why a line was refused, of which where
	// tells.
	Outcome func(where string, err error) []byte
}

// importLanes is how many inputs are worked on at once.
const importLanes = 2

// Run works on the import for about the time, and reports whether it is done
// then. What was stored stays so, whatever the error; who runs it next goes on
// behind that.
func (j *ImportJob) Run(ctx context.Context, about time.Duration) (done bool, err error) {
	end := time.Now().Add(about)
	inputs, err := j.DB.Importing(ctx, j.Tenant, j.Work.ID)
	if err != nil {
		return false, err
	}
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(importLanes)
	for _, in := range inputs {
		if in.Done {
			continue
		}
		if in.N > len(j.Inputs) || time.Now().After(end) {
			break
		}
		g.Go(func() error { return j.input(running, in, end) })
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	if inputs, err = j.DB.Importing(ctx, j.Tenant, j.Work.ID); err != nil {
		return false, err
	}
	for _, in := range inputs {
		if !in.Done {
			return false, nil
		}
	}
	return true, j.finish(ctx, inputs)
}

// input takes lines of an input until it is done or it is time to end.
func (j *ImportJob) input(ctx context.Context, in store.ImportInput, end time.Time) error {
	if here, err := j.fetched(ctx, in); err != nil || !here {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// While the database works on one batch, the next is read.
	batches := make(chan *batch)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(batches)
		return j.read(ctx, in, batches)
	})
	g.Go(func() error {
		for b := range batches {
			var err error
			if in, err = j.take(ctx, in, b); err != nil {
				return err
			}
			if time.Now().After(end) {
				cancel()
				return nil
			}
		}
		return nil
	})
	err := g.Wait()
	if errors.Is(err, context.Canceled) && time.Now().After(end) {
		return nil
	}
	return err
}

// A batch is some lines of an input that were read.
type batch struct {
	lines     int64
	resources []*fhir.Document
	at        []int64 // their lines, from 1
	last      bool
	faults
}

const (
	// batchLines and batchBytes bound what is stored in one transaction. It locks what
	// is there, so that others wait for it.
	batchLines = 500
	batchBytes = 1 << 20
	// initialLines and initialBytes are those of an import that finds nothing there:
	// nobody waits, and the rows of more lines lie closer together.
	initialLines = 1000
	initialBytes = 2 << 20
)

// full reports whether a batch has as many lines and bytes as one may.
func (i *Import) full(lines int64, bytes int) bool {
	if i.Initial {
		return lines >= initialLines || bytes >= initialBytes
	}
	return lines >= batchLines || bytes >= batchBytes
}

// take stores a batch.
func (j *ImportJob) take(ctx context.Context, in store.ImportInput, b *batch) (next store.ImportInput, err error) {
	for range takeTries {
		var g *smart.Grant
		if g, err = j.Grant(ctx); err != nil {
			return in, err
		}
		x := &store.ImportBatch{Input: in, Lines: b.lines, Last: b.last, Told: j.Told.has}
		x.Store = func(tx *store.Tx) (stored, faulty int64, outcomes []byte, err error) {
			return j.store(ctx, tx, g, in, b)
		}
		next, err = j.DB.ImportLines(ctx, g, j.Work, x)
		if err == nil {
			j.Told.add(x.About)
			return next, nil
		}
		if !fhir.IsCode(err, fhir.Conflict) { // with others who change the same
			return in, err
		}
	}
	return in, fhir.Errorf(fhir.Transient, "the resources are being changed by others")
}

// takeTries is how often a batch is tried while others change the same resources.
const takeTries = 5

// store stores the resources of a batch. What is refused is a fault of its line.
func (j *ImportJob) store(ctx context.Context, tx *store.Tx, g *smart.Grant, in store.ImportInput, b *batch) (stored, faulty int64, outcomes []byte, err error) {
	if _, err := g.Permit(fhir.Update, in.Type); err == nil {
		refs := make([]fhir.Ref, 0, len(b.resources))
		for _, d := range b.resources {
			if d.ID != "" {
				refs = append(refs, fhir.Ref{Type: d.Type, ID: d.ID})
			}
		}
		if err := tx.Fetch(ctx, refs...); err != nil {
			return 0, 0, nil, err
		}
	}
	refused := b.faults.copy()
	for i, d := range b.resources {
		err := j.compute(func() error { return j.Store(ctx, tx, g, d) })
		switch {
		case err == nil:
			stored++
		case store.IsFault(err):
			refused.add(j, in, b.at[i], err)
		default:
			return 0, 0, nil, err
		}
	}
	outcomes, err = refused.compressed()
	return stored, refused.n, outcomes, err
}

// compute does the work of a line. Were all processors at that the network would be
// looked at only every 10 ms, and every request would wait for it several times.
func (j *ImportJob) compute(work func() error) error {
	j.Processors <- struct{}{}
	defer func() { <-j.Processors }()
	return work()
}

// faults are OperationOutcomes, one a line.
type faults struct {
	n    int64
	text []byte
}

func (f *faults) copy() *faults { return &faults{f.n, bytes.Clone(f.text)} }

func (f *faults) add(j *ImportJob, in store.ImportInput, line int64, err error) {
	f.n++
	name, _, _ := strings.Cut(j.Inputs[in.N-1].Name, "?") // behind it are often secrets
	f.text = append(append(f.text, j.Outcome(fmt.Sprintf("%s line %d", name, line), err)...), '\n')
}

func (f *faults) compressed() ([]byte, error) {
	if f.n == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed) // the level is one of its own
	if _, err := z.Write(f.text); err != nil {
		return nil, err
	}
	err := z.Close()
	return out.Bytes(), err
}

// finish writes the files of faults, and forgets the inputs.
func (j *ImportJob) finish(ctx context.Context, inputs store.Importing) error {
	for _, in := range inputs {
		for more := in.Faulty > 0; more; {
			var err error
			if more, err = j.faultFile(ctx, in.N); err != nil {
				return err
			}
		}
	}
	g, err := j.Grant(ctx)
	if err != nil {
		return err
	}
	return j.DB.DropInputs(ctx, g, j.Work)
}

// faultFile writes the next file of an input's faults, and reports whether there
// may be more.
func (j *ImportJob) faultFile(ctx context.Context, n int) (more bool, err error) {
	list, err := j.DB.ImportFaults(ctx, j.Work, n)
	if err != nil || len(list) == 0 {
		return false, err
	}
	w := newWriter(&Export{}, &store.ExportSlice{N: n, Type: "OperationOutcome"})
	for _, f := range list {
		z, err := gzip.NewReader(bytes.NewReader(f.Outcomes))
		if err != nil {
			return false, err
		}
		if w.batch, err = io.ReadAll(z); err != nil {
			return false, err
		}
		w.lines = f.Faults
		if err := w.take(nil); err != nil {
			return false, err
		}
	}
	content, err := w.close()
	if err != nil {
		return false, err
	}
	g, err := j.Grant(ctx)
	if err != nil {
		return false, err
	}
	return true, j.DB.PutFaults(ctx, g, j.Work, w.file, content, list[len(list)-1].Line)
}
