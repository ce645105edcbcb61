package bulk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"

	"github.com/cordon-fhir/cordon/fhir"
)

const (
	// partSize and partPlain bound a part of an input, in gzip and as it is read,
	// but for the line that it ends with.
	partSize  = 1 << 20
	partPlain = 16 << 20
	// maxPlain bounds the bytes of an input, and maxRatio how many of them one byte
	// in gzip may be, once there are more than ratioFrom.
	maxPlain  = 256 << 30
	maxRatio  = 200
	ratioFrom = 256 << 20
)

// A Parts takes the parts of an input, each of whole lines and in gzip.
type Parts interface {
	Put(ctx context.Context, content []byte, lines, plain int64) error
}

// Split reads NDJSON, as it is or in gzip, and cuts it into parts. It holds no
// more than one in memory, whatever it reads.
func Split(ctx context.Context, in io.Reader, to Parts) (lines int64, err error) {
	raw := &counted{Reader: in}
	head := bufio.NewReaderSize(raw, 64<<10)
	plain := io.Reader(head)
	packed := false
	if magic, _ := head.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(head)
		if err != nil {
			return 0, notWhole(err)
		}
		plain, packed = z, true
	}
	s := &splitter{to: to}
	s.begin()
	buffer := make([]byte, 64<<10)
	for {
		n, err := plain.Read(buffer)
		if n > 0 {
			if err := s.write(ctx, buffer[:n]); err != nil {
				return s.all, err
			}
		}
		switch {
		case s.read > maxPlain:
			return s.all, fhir.Errorf(fhir.TooLong, "an input has at most %d bytes", int64(maxPlain))
		case packed && s.read > ratioFrom && s.read > maxRatio*raw.n:
			return s.all, fhir.Errorf(fhir.TooLong, "the input unpacks to more than %d times its size", maxRatio)
		case errors.Is(err, io.EOF):
			return s.end(ctx)
		case err != nil:
			return s.all, notWhole(err)
		}
	}
}

// notWhole says that the input could not be read to its end, unless its reader
// has said why.
func notWhole(err error) error {
	var known *fhir.Error
	if errors.As(err, &known) {
		return err
	}
	return fhir.Errorf(fhir.Structure, "the input ends too early or is not whole")
}

// A counted counts the bytes that are read.
type counted struct {
	io.Reader
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}

// A splitter makes the parts.
type splitter struct {
	to   Parts
	out  bytes.Buffer
	gzip *gzip.Writer

	lines, plain int64 // of the part
	all, read    int64 // lines and bytes of all of them
	line         int   // bytes of the line that is not at its end
}

func (s *splitter) begin() {
	s.out.Reset()
	s.lines, s.plain = 0, 0
	if s.gzip == nil {
		s.gzip, _ = gzip.NewWriterLevel(&s.out, gzip.BestSpeed) // the level is one of its own
		return
	}
	s.gzip.Reset(&s.out)
}

// write adds bytes. Of a line that is too long the rest is left out.
func (s *splitter) write(ctx context.Context, b []byte) error {
	s.read += int64(len(b))
	for len(b) > 0 {
		piece, ends := b, false
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			piece, ends = b[:i+1], true
		}
		b = b[len(piece):]
		keep := min(len(piece), max(MaxLine+1-s.line, 0))
		if _, err := s.gzip.Write(piece[:keep]); err != nil {
			return err
		}
		s.line, s.plain = s.line+keep, s.plain+int64(keep)
		if !ends {
			continue
		}
		if keep < len(piece) {
			if _, err := s.gzip.Write([]byte{'\n'}); err != nil {
				return err
			}
			s.plain++
		}
		s.line, s.lines = 0, s.lines+1
		if s.out.Len() >= partSize || s.plain >= partPlain {
			if err := s.put(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// put hands over the part.
func (s *splitter) put(ctx context.Context) error {
	if err := s.gzip.Close(); err != nil {
		return err
	}
	s.all += s.lines
	if err := s.to.Put(ctx, s.out.Bytes(), s.lines, s.plain); err != nil {
		return err
	}
	s.begin()
	return nil
}

// end hands over what is left. The last line need not end.
func (s *splitter) end(ctx context.Context) (lines int64, err error) {
	if s.line > 0 {
		s.lines++
		s.line = 0
	}
	if s.lines > 0 {
		err = s.put(ctx)
	}
	return s.all, err
}
