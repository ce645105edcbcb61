package bulk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/view"
	"github.com/cordon-fhir/cordon/store"
)

// An export of tables goes through the resources of each view as any export does.
// In place of their lines its files have the rows that are made of them.
// https://sql-on-fhir.org/ig/OperationDefinition-ViewDefinitionExport.html

// kindsOf are the kinds of files by the formats of what is in them.
var kindsOf = map[view.Format]store.FileKind{
	view.JSONArray: store.JSONTable, view.NDJSON: store.NDJSONTable, view.CSV: store.CSVTable, view.Parquet: store.ParquetTable,
}

// formatOf returns the format of what is in a file, which is what its name ends in.
func formatOf(k store.FileKind) view.Format {
	for f, kind := range kindsOf {
		if k == kind {
			return f
		}
	}
	return view.NDJSON
}

// MediaType returns that of a file.
func MediaType(f store.ExportFile) string {
	if f.Kind.Table() {
		return formatOf(f.Kind).MediaType()
	}
	return "application/fhir+ndjson"
}

// A tableSlice says of which view a slice is, and whether it is the first one.
type tableSlice struct {
	view  int
	first bool
}

// tablesOf returns that of each slice: those of one view follow each other, and the
// last of them ends with the export.
func tablesOf(slices []store.ExportSlice) []tableSlice {
	list := make([]tableSlice, len(slices))
	at := tableSlice{first: true}
	for i, s := range slices {
		list[i] = at
		at.first = s.Last()
		if at.first {
			at.view++
		}
	}
	return list
}

// sliceOf is of the slice with the number, which are counted from 1.
func (j *Job) sliceOf(n int) tableSlice { return j.tables[n-1] }

// table writes the next file of the slice, and moves the slice on behind it. A view
// without rows has a file too, with its columns.
func (j *Job) table(ctx context.Context, s *store.ExportSlice) error {
	of := j.sliceOf(s.N)
	w, err := newTableWriter(ctx, j.Export, j.Views[of.view], s)
	if err != nil {
		return err
	}
	at := *s
	for !at.Done && !w.full() {
		out := &store.ExportBatch{Show: w.show, Room: w.room}
		if err := j.read(ctx, j.query(s.Type), &at, w.begin, out); err != nil {
			return err
		}
		if err := w.take(out.About); err != nil {
			return err
		}
	}
	if w.file.Lines == 0 && !of.first {
		return j.put(ctx, w.file, nil, s, at)
	}
	content, err := w.close()
	if err != nil {
		return err
	}
	return j.put(ctx, w.file, content, s, at)
}

const (
	// tableSize bounds the bytes of a file before gzip, and tableSteps the work on it.
	tableSize  = 256 << 20
	tableSteps = 40_000_000
)

// A tableWriter makes one file of rows, in memory.
type tableWriter struct {
	ctx    context.Context
	export *Export
	file   store.ExportFile
	run    *view.Run
	about  map[int64]bool

	// The batch, which is not in the audit trail yet.
	rows    []view.Row
	sources []fhir.Resource
	size    int
	spent   int // when it began
	err     error

	out   bytes.Buffer
	gzip  *gzip.Writer
	table view.Table
}

func newTableWriter(ctx context.Context, e *Export, of View, s *store.ExportSlice) (w *tableWriter, err error) {
	w = &tableWriter{ctx: ctx, export: e, about: map[int64]bool{}}
	w.file = store.ExportFile{Slice: s.N, Type: s.Type, Kind: kindsOf[e.Format], Made: time.Now().Add(-time.Second)}
	w.gzip, _ = gzip.NewWriterLevel(&w.out, gzip.BestSpeed) // the level is one of its own
	if w.run, err = of.Run(); err != nil {
		return nil, err
	}
	w.table, err = view.NewTable(counter{w.gzip, &w.file.Plain}, e.Format, of.Columns, e.Header)
	return w, err
}

// A counter counts the bytes that are written to it.
type counter struct {
	to io.Writer
	n  *int64
}

func (c counter) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	*c.n += int64(n)
	return n, err
}

// begin forgets what was shown and not taken.
func (w *tableWriter) begin() {
	w.rows, w.sources, w.size, w.err = w.rows[:0], w.sources[:0], 0, nil
	w.spent = w.run.Spent
}

// show adds the rows of a resource. What is wrong with them is for take to say.
func (w *tableWriter) show(r fhir.Resource) {
	if w.err != nil {
		return
	}
	rows, size, err := rowsOf(w.ctx, w.export, w.run, r)
	w.err = err
	w.size += size + len(r.Body)
	if len(rows) > 0 {
		w.rows = append(w.rows, rows...)
		w.sources = append(w.sources, fhir.Resource{Ref: r.Ref, Version: r.Version})
	}
}

// room reports whether the batch can grow.
func (w *tableWriter) room() bool {
	return w.err == nil && w.size < batchSize && w.run.Spent-w.spent < maxSteps
}

// full reports whether the file is not to grow.
func (w *tableWriter) full() bool {
	return w.out.Len() >= fileSize || w.file.Plain >= tableSize || w.run.Spent >= tableSteps
}

// take puts the batch into the file, which tells of the patients.
func (w *tableWriter) take(about []int64) error {
	if w.err != nil {
		return w.err
	}
	for _, rid := range about {
		if !w.about[rid] {
			w.about[rid] = true
			w.file.Patients = append(w.file.Patients, rid)
		}
	}
	w.file.Sources = append(w.file.Sources, w.sources...)
	w.file.Lines += int64(len(w.rows))
	for _, row := range w.rows {
		if err := w.table.Write(row); err != nil {
			return err
		}
	}
	w.begin()
	return nil
}

// close returns the file in gzip.
func (w *tableWriter) close() ([]byte, error) {
	if err := w.table.Close(); err != nil {
		return nil, err
	}
	err := w.gzip.Close()
	return w.out.Bytes(), err
}

// A Table is a view of an export, and where its files are.
type Table struct {
	Name  string
	Files []string
}

// Tables returns those of the export, which is done, and the time that they show the
// resources of. Their files are at the URL.
func (j *Job) Tables(ctx context.Context, at string) (list []Table, of time.Time, err error) {
	x, err := j.DB.Exporting(ctx, j.Tenant, j.Work.ID)
	if err != nil {
		return nil, of, err
	}
	files, err := j.DB.ExportFiles(ctx, j.Work)
	if err != nil {
		return nil, of, err
	}
	j.tables = tablesOf(x.Slices)
	for _, v := range j.Views {
		list = append(list, Table{Name: v.Name})
	}
	for _, f := range files {
		if !f.Kind.Table() || f.Slice < 1 || f.Slice > len(j.tables) {
			return nil, of, fmt.Errorf("bulk: a file of kind %s is in an export of tables", f.Kind)
		}
		t := &list[j.sliceOf(f.Slice).view]
		t.Files = append(t.Files, at+"/"+FileName(f))
	}
	return list, x.At, nil
}
