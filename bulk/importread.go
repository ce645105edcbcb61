package bulk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// MaxLine is how many bytes a line may have that is imported. Of what is longer
// one byte more is kept, so that it is known for what it is.
const MaxLine = 4 << 20

// read reads what comes behind the lines of the input that were taken, and sends
// it in batches. The last one says that it is, and may be empty.
func (j *ImportJob) read(ctx context.Context, in store.ImportInput, out chan<- *batch) error {
	parts, err := j.DB.ImportParts(ctx, j.Work, in.N)
	if err != nil {
		return err
	}
	g, err := j.Grant(ctx)
	if err != nil {
		return err
	}
	r := &lineReader{job: j, grant: g, in: in, out: out, batch: &batch{}}
	for _, p := range parts {
		if p.Lines <= in.Lines-r.line {
			r.line += p.Lines
			continue
		}
		if err := r.part(ctx, p); err != nil {
			return err
		}
	}
	r.batch.last = true
	return r.send(ctx)
}

// A lineReader reads the lines of an input.
type lineReader struct {
	job   *ImportJob
	grant *smart.Grant
	in    store.ImportInput
	out   chan<- *batch

	line  int64 // that was read last
	batch *batch
	bytes int // of its lines
}

// part reads a part of the input.
func (r *lineReader) part(ctx context.Context, f store.ExportFile) error {
	sealed, err := r.job.DB.OpenImportPart(ctx, r.grant, r.job.Work, f)
	if err != nil {
		return err
	}
	z, err := gzip.NewReader(sealed)
	if err != nil {
		return fmt.Errorf("reading a part of an input: %w", err)
	}
	in := bufio.NewReaderSize(z, 64<<10)
	var long []byte
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			continue
		}
		if len(long) > 0 {
			line = append(long, line...)
			long = long[:0]
		}
		if len(line) > 0 {
			if err := r.take(ctx, line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a part of an input: %w", err)
		}
	}
}

// take adds a line to the batch.
func (r *lineReader) take(ctx context.Context, line []byte) error {
	r.line++
	if r.line <= r.in.Lines {
		return nil
	}
	b := r.batch
	b.lines++
	r.bytes += len(line)
	long := len(bytes.TrimSuffix(line, []byte("\n"))) > MaxLine // also if what is left of it reads well
	if r.line == 1 {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if line = bytes.TrimSpace(line); len(line) > 0 || long {
		d, err := r.resource(ctx, line, long)
		switch {
		case err == nil:
			b.resources, b.at = append(b.resources, d), append(b.at, r.line)
		case store.IsFault(err):
			b.faults.add(r.job, r.in, r.line, err)
		default:
			return err
		}
	}
	if r.job.full(b.lines, r.bytes) {
		return r.send(ctx)
	}
	return nil
}

func (r *lineReader) resource(ctx context.Context, line []byte, long bool) (d *fhir.Document, err error) {
	if long {
		return nil, fhir.Errorf(fhir.TooLong, "the line is longer than %d bytes", MaxLine)
	}
	read := func() (err error) {
		d, err = r.job.Read(ctx, r.in.Type, line)
		return err
	}
	if r.job.Tenant.Settings.Terminology.URL != "" { // it may wait for that
		err = read()
	} else {
		err = r.job.compute(read)
	}
	return d, err
}

func (r *lineReader) send(ctx context.Context) error {
	select {
	case r.out <- r.batch:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.batch, r.bytes = &batch{}, 0
	return nil
}
