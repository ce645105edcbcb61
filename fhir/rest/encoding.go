package rest

import (
	"bytes"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// acceptsGzip reports whether the fields of Accept-Encoding admit gzip.
// https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
func acceptsGzip(fields []string) bool {
	for one := range strings.SplitSeq(strings.Join(fields, ","), ",") {
		coding, q, _ := strings.Cut(one, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		weight, given := strings.CutPrefix(strings.ReplaceAll(q, " ", ""), "q=")
		w, err := strconv.ParseFloat(weight, 64)
		return !given || err == nil && w > 0
	}
	return false
}

var compressors = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level exists
	return z
}}

// compress returns b in gzip.
func compress(b []byte) []byte {
	z := compressors.Get().(*gzip.Writer)
	defer compressors.Put(z)
	var out bytes.Buffer
	z.Reset(&out)
	_, _ = z.Write(b) // a Buffer takes everything
	_ = z.Close()
	return out.Bytes()
}
