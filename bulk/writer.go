package bulk

import (
	"bytes"
	"fmt"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

const (
	// fileSize bounds the bytes of a file, in gzip, and batchSize those that are
	// read at once. Either can be exceeded by one resource.
	fileSize  = 8 << 20
	batchSize = 4 << 20
)

// A writer makes one file of lines, in memory.
// https://github.com/ndjson/ndjson-spec
type writer struct {
	export *Export
	file   store.ExportFile
	about  map[int64]bool
	whose  []string // of whom the next resource tells, by id
	batch  []byte   // lines that are not in the audit trail yet
	lines  int64    // of them
	gone   []byte   // entries for what was deleted, of the batch
	out    bytes.Buffer
	gzip   *gzip.Writer
}

func newWriter(e *Export, s *store.ExportSlice) *writer {
	w := &writer{export: e, about: map[int64]bool{}}
	w.file = store.ExportFile{Slice: s.N, Type: s.Type, Kind: store.OutputFile, Made: time.Now().Add(-time.Second)}
	switch {
	case s.Deletions:
		w.file.Kind = store.DeletionFile
	case e.Rules != nil:
		w.file.Kind = store.MaskedFile
	case e.Organized:
		w.file.Kind, w.file.Type = store.BlockFile, "Parameters"
	}
	w.gzip, _ = gzip.NewWriterLevel(&w.out, gzip.BestSpeed) // the level is one of its own
	return w
}

// begin forgets what was shown and not taken.
func (w *writer) begin() { w.batch, w.gone, w.lines = w.batch[:0], w.gone[:0], 0 }

// show adds a resource, or the deletion of one.
func (w *writer) show(r fhir.Resource) {
	if !r.Deleted {
		body := r.Body
		if rules := w.export.Rules; rules != nil {
			body = rules.Resource(body, w.whose)
		}
		if body != nil {
			w.line(w.export.Show(r.Ref.Type, body))
		}
		return
	}
	if len(w.gone) > 0 {
		w.gone = append(w.gone, ',')
	}
	w.gone = fmt.Appendf(w.gone, `{"request":{"method":"DELETE","url":%q}}`, r.Ref.String())
}

func (w *writer) line(json []byte) {
	w.batch = append(append(w.batch, json...), '\n')
	w.lines++
}

// room reports whether the batch can grow.
func (w *writer) room() bool { return len(w.batch)+len(w.gone) < batchSize }

// full reports whether the file is not to grow.
func (w *writer) full() bool { return w.out.Len() >= fileSize }

// take puts the batch into the file, which tells of the patients.
func (w *writer) take(about []int64) error {
	if len(w.gone) > 0 {
		// https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---output-manifest
		w.line(fmt.Appendf(nil, `{"resourceType":"Bundle","type":"transaction","entry":[%s]}`, w.gone))
	}
	for _, rid := range about {
		if !w.about[rid] {
			w.about[rid] = true
			w.file.Patients = append(w.file.Patients, rid)
		}
	}
	w.file.Lines += w.lines
	w.file.Plain += int64(len(w.batch))
	_, err := w.gzip.Write(w.batch)
	w.begin()
	return err
}

// close returns the file in gzip.
func (w *writer) close() ([]byte, error) {
	err := w.gzip.Close()
	return w.out.Bytes(), err
}
