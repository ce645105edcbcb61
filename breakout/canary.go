package breakout

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Canary returns 16 letters and digits, of both cases: a word that exists
// nowhere else. One digit is always there: what is of letters alone could be the
// name of a parameter, which an answer may say.
func Canary() string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	var b [16]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return "Q7" + string(b[2:15]) + "z"
}

// Disguises returns the forms in which a canary could come to light.
func Disguises(canary string) map[string]string {
	all := map[string]string{
		"as it is": canary, "in lower case": strings.ToLower(canary), "in upper case": strings.ToUpper(canary),
		"in hex": hex.EncodeToString([]byte(canary)), "in upper hex": strings.ToUpper(hex.EncodeToString([]byte(canary))),
	}
	b := []byte(canary)
	slices.Reverse(b)
	all["reversed"] = string(b)
	var percent, escaped, little, big strings.Builder
	for _, c := range []byte(canary) {
		fmt.Fprintf(&percent, "%%%02X", c)
		fmt.Fprintf(&escaped, `\u%04x`, c)
		little.Write([]byte{c, 0})
		big.Write([]byte{0, c})
	}
	all["in percents, as in a URL"] = percent.String()
	all["in escapes, as in JSON"] = escaped.String()
	all["in UTF-16, the low byte first"] = little.String()
	all["in UTF-16, the high byte first"] = big.String()
	// Base64 of a text around it, at each of three alignments, less the
	// letters that depend on the neighbours.
	for shift, name := range []string{"in base64", "in base64, shifted by one", "in base64, shifted by two"} {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), canary...))
		from := (shift*8 + 5) / 6
		to := (shift + len(canary)) * 8 / 6
		all[name] = text[from:to]
	}
	return all
}

// A Word is a disguised canary that was found, and whose it is.
type Word struct {
	Owner    string // slug of the tenant
	Place    string // what of a record it is
	Disguise string
	Plain    string // the canary
	text     string
}

// A Hunter finds canaries in bytes, in one pass.
type Hunter struct {
	begins [1 << 16]bool
	words  map[uint64][]Word // by their first eight bytes
}

// NewHunter returns one for the canaries of each tenant, by slug and place.
func NewHunter(canaries map[string]map[string]string) *Hunter {
	h := &Hunter{words: map[uint64][]Word{}}
	for owner, places := range canaries {
		for place, canary := range places {
			for disguise, text := range Disguises(canary) {
				h.begins[binary.LittleEndian.Uint16([]byte(text))] = true
				key := binary.LittleEndian.Uint64([]byte(text))
				h.words[key] = append(h.words[key], Word{owner, place, disguise, canary, text})
			}
		}
	}
	return h
}

// Dig returns the canaries in b, and in what is compressed in it.
func (h *Hunter) Dig(b []byte) []Word {
	found := h.Find(b)
	for _, p := range packed {
		for at := 0; ; at++ {
			next := bytes.Index(b[at:], p.begins)
			if next < 0 {
				break
			}
			at += next
			for _, w := range h.Find(unpacked(p.open, b[at:])) {
				w.Disguise += ", in " + p.name
				found = append(found, w)
			}
		}
	}
	return found
}

// maxUnpacked bounds what is read of a compressed text.
const maxUnpacked = 64 << 20

// packed are the forms of compression, by how they begin. What begins like one and is
// none ends at once.
var packed = []struct {
	name   string
	begins []byte
	open   func(io.Reader) (io.Reader, error)
}{
	{"gzip", []byte{0x1f, 0x8b, 8}, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	{"zlib", []byte{0x78, 0x01}, openZlib},
	{"zlib", []byte{0x78, 0x9c}, openZlib},
	{"zlib", []byte{0x78, 0xda}, openZlib},
	{"zstd", []byte{0x28, 0xb5, 0x2f, 0xfd}, openZstd},
}

func openZlib(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }

func openZstd(r io.Reader) (io.Reader, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxUnpacked))
}

// unpacked returns what b begins with, as far as it can be read.
func unpacked(open func(io.Reader) (io.Reader, error), b []byte) []byte {
	r, err := open(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	if z, ok := r.(*zstd.Decoder); ok {
		defer z.Close()
	}
	text, _ := io.ReadAll(io.LimitReader(r, maxUnpacked))
	return text
}

// Find returns the canaries in b, each word once.
func (h *Hunter) Find(b []byte) []Word {
	var found []Word
	for i := 0; i+8 <= len(b); i++ {
		if !h.begins[binary.LittleEndian.Uint16(b[i:])] {
			continue
		}
		for _, w := range h.words[binary.LittleEndian.Uint64(b[i:])] {
			if bytes.HasPrefix(b[i:], []byte(w.text)) && !slices.Contains(found, w) {
				found = append(found, w)
			}
		}
	}
	return found
}
