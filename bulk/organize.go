package bulk

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// An export that is organized by patient has a block for each: a header that names
// them, and all that is exported of their record. A block is never cut in two.
// https://hl7.org/fhir/uv/bulkdata/STU3/en/export.html#bulk-data-output-file-organization

const (
	// patientsAtOnce is of how many patients blocks are gathered together, and
	// gathered bounds the bytes of these blocks, or there are fewer of them.
	patientsAtOnce = 32
	gathered       = 32 << 20
	// blockSize bounds the bytes of a file that a single block makes, in gzip.
	blockSize = 32 << 20
)

// errGathered says that blocks are too much to be gathered together.
var errGathered = errors.New("bulk: the records are too long to be gathered together")

// blocks adds the blocks of the patients who come next in the slice.
func (j *Job) blocks(ctx context.Context, w *writer, s *store.ExportSlice) error {
	for n := patientsAtOnce; ; n /= 2 {
		at := *s
		ids, err := j.patients(ctx, &at, n)
		if err != nil {
			return err
		}
		b := newBlocks(w, ids)
		err = j.gather(ctx, b, *s)
		if errors.Is(err, errGathered) {
			continue
		}
		if err == nil {
			err = b.flush()
		}
		if err == nil {
			*s = at
		}
		return err
	}
}

// patients returns the ids of at most n patients who come next in the slice, in order.
// What is shown of them is for gather to say.
func (j *Job) patients(ctx context.Context, s *store.ExportSlice, n int) (ids []string, err error) {
	q := store.ExportQuery{Type: "Patient", OfPatients: true, Patients: j.Patients}
	err = j.read(ctx, q, s, func() { ids = nil }, &store.ExportBatch{
		Show: func(r fhir.Resource) { ids = append(ids, r.Ref.ID) },
		Room: func() bool { return len(ids) < n },
	})
	slices.Sort(ids)
	return ids, err
}

// gather adds to the blocks what is exported of their patients; slice is one of the
// export.
func (j *Job) gather(ctx context.Context, b *blocks, slice store.ExportSlice) error {
	if len(b.ids) == 0 {
		return nil
	}
	types := slices.Clone(j.Types)
	slices.SortStableFunc(types, func(t, u fhir.Type) int { return first(t) - first(u) })
	for _, t := range types {
		q := j.query(t)
		q.OfPatients, q.Patients = true, b.ids
		for s := j.plan().All(t, slice); !s.Done; {
			out := &store.ExportBatch{Whose: b.whose, Show: b.show, Room: b.room}
			if err := j.read(ctx, q, &s, b.begin, out); err != nil {
				return err
			}
			if err := b.take(out.About); err != nil {
				return err
			}
		}
	}
	return nil
}

// first is less for the type that a block begins with.
func first(t fhir.Type) int {
	if t == "Patient" {
		return 0
	}
	return 1
}

// blocks are those of some patients. That of one alone goes into the file as it
// grows.
type blocks struct {
	w     *writer
	ids   []string // in order
	of    map[string]*block
	size  int     // of what is gathered
	about []int64 // the patients of whom that tells

	next  []string // of whom the next line is
	batch []blockLine
	bytes int // of the batch
}

type block struct {
	json  []byte
	lines int64
	begun bool // the file has its header
}

// A blockLine is a resource that the audit trail has yet to tell of.
type blockLine struct {
	of   []string
	json []byte
}

func newBlocks(w *writer, ids []string) *blocks {
	b := &blocks{w: w, ids: ids, of: map[string]*block{}}
	for _, id := range ids {
		b.of[id] = &block{}
	}
	return b
}

// begin forgets what was shown and not taken.
func (b *blocks) begin() { b.batch, b.bytes = nil, 0 }

func (b *blocks) whose(ids []string) { b.next = ids }

func (b *blocks) show(r fhir.Resource) {
	of := b.next
	if r.Ref.Type == "Patient" {
		of = []string{r.Ref.ID} // and not of who is linked to them
	}
	json := b.w.export.Show(r.Ref.Type, r.Body)
	b.batch = append(b.batch, blockLine{of, json})
	b.bytes += len(json)
}

func (b *blocks) room() bool { return b.bytes < batchSize }

// take puts the batch, which tells of the patients, into the blocks.
func (b *blocks) take(about []int64) error {
	for _, l := range b.batch {
		for _, id := range l.of {
			if k := b.of[id]; k != nil {
				k.json = append(append(k.json, l.json...), '\n')
				k.lines++
				b.size += len(l.json)
			}
		}
	}
	b.about = append(b.about, about...)
	b.begin()
	switch {
	case len(b.ids) == 1:
		return b.flush()
	case b.size > gathered:
		return errGathered
	}
	return nil
}

// flush puts what is gathered into the file.
func (b *blocks) flush() error {
	for _, id := range b.ids {
		k := b.of[id]
		if k.lines > 0 && !k.begun {
			b.w.line(fmt.Appendf(nil, `{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/%s"}}]}`, id))
			k.begun = true
		}
		b.w.batch, b.w.lines = append(b.w.batch, k.json...), b.w.lines+k.lines
		k.json, k.lines = nil, 0
	}
	err := b.w.take(b.about)
	b.about, b.size = nil, 0
	if err == nil && b.w.out.Len() > fileSize+blockSize {
		return fhir.Errorf(fhir.TooCostly, "the record of a patient is too long to be one block of a file")
	}
	return err
}
