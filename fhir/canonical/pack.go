package canonical

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/zstd"

	"github.com/cordon-fhir/cordon/fhir"
)

// A Pack holds definitions compressed, in blocks of similar ones: a hundredth
// of what they take as trees. It is how they are kept in memory, in the
// registry and in the program.
type Pack struct {
	Definitions []*Definition
	blocks      [][]byte

	mu     sync.Mutex
	recent int // 1 + the block that opened holds
	opened []byte
}

const (
	// blockSize is how much JSON is compressed together. A bigger definition
	// is a block of its own.
	blockSize = 256 << 10
	// maxOpened bounds the block that a Pack keeps open for the next look.
	maxOpened = 2 * blockSize
	// maxBlock bounds one definition.
	maxBlock = 256 << 20
)

var packMagic = []byte("cordon definitions 1\n")

// index is the first part of a packed form.
type index struct {
	Blocks  []int   `json:"blocks"` // their lengths
	Entries []entry `json:"entries"`
}

type entry struct {
	Type       fhir.Type `json:"t"`
	ID         string    `json:"i,omitzero"`
	URL        string    `json:"u,omitzero"`
	Version    string    `json:"v,omitzero"`
	Name       string    `json:"n,omitzero"`
	Constrains string    `json:"c,omitzero"`
	Block      int       `json:"b"`
	Length     int       `json:"l"`
}

// A Packer makes a Pack of what is added to it.
type Packer struct {
	pack  Pack
	enc   *zstd.Encoder
	block []byte
	size  int64
}

// NewPacker returns an empty Packer. best takes ten times as long to make it a
// fifth smaller.
func NewPacker(best bool) *Packer {
	level := zstd.SpeedDefault
	if best {
		level = zstd.SpeedBestCompression
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // the options are constants
	}
	return &Packer{enc: enc}
}

// Add adds d.
func (p *Packer) Add(d *Definition) {
	body := d.JSON()
	if len(p.block) > 0 && len(p.block)+len(body) > blockSize {
		p.flush()
	}
	c := *d
	c.body, c.pack = nil, &p.pack
	c.block, c.offset, c.length = len(p.pack.blocks), len(p.block), len(body)
	p.pack.Definitions = append(p.pack.Definitions, &c)
	p.block = append(p.block, body...)
	p.size += int64(len(body))
}

func (p *Packer) flush() {
	p.pack.blocks = append(p.pack.blocks, p.enc.EncodeAll(p.block, nil))
	p.block = p.block[:0]
	if cap(p.block) > maxOpened {
		p.block = nil
	}
}

// Pack returns what was added. Nothing can be added afterwards.
func (p *Packer) Pack() *Pack {
	if len(p.block) > 0 {
		p.flush()
	}
	p.enc.Close()
	return &p.pack
}

// Append appends the packed form of p, which Unpack reads.
func (p *Pack) Append(to []byte) ([]byte, error) {
	x := index{}
	for _, b := range p.blocks {
		x.Blocks = append(x.Blocks, len(b))
	}
	for _, d := range p.Definitions {
		x.Entries = append(x.Entries, entry{d.Type, d.ID, d.URL, d.Version, d.Name, d.Constrains, d.block, d.length})
	}
	text, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("packing definitions: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("packing definitions: %w", err)
	}
	defer enc.Close()
	head := enc.EncodeAll(text, nil)
	to = append(to, packMagic...)
	to = binary.AppendUvarint(to, uint64(len(head)))
	to = append(to, head...)
	for _, b := range p.blocks {
		to = append(to, b...)
	}
	return to, nil
}

var errPacked = errors.New("canonical: the packed form is damaged")

// Unpack reads what Append wrote. The Pack keeps packed, which must not change.
func Unpack(packed []byte) (*Pack, error) {
	rest, ok := bytes.CutPrefix(packed, packMagic)
	length, n := binary.Uvarint(rest)
	if !ok || n <= 0 || length > uint64(len(rest)-n) {
		return nil, errPacked
	}
	head, rest := rest[n:][:length], rest[n+int(length):]
	text, err := decoder().DecodeAll(head, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	var x index
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, fmt.Errorf("%w: %w", errPacked, err)
	}
	p := &Pack{}
	for _, length := range x.Blocks {
		if length < 0 || length > len(rest) {
			return nil, errPacked
		}
		p.blocks = append(p.blocks, rest[:length:length])
		rest = rest[length:]
	}
	offset := 0
	for i, e := range x.Entries {
		if i == 0 || e.Block != x.Entries[i-1].Block {
			offset = 0
		}
		if e.Block < 0 || e.Block >= len(p.blocks) || e.Length < 0 {
			return nil, errPacked
		}
		p.Definitions = append(p.Definitions, &Definition{
			Type: e.Type, ID: e.ID, URL: e.URL, Version: e.Version, Name: e.Name, Constrains: e.Constrains,
			pack: p, block: e.Block, offset: offset, length: e.Length,
		})
		offset += e.Length
	}
	return p, nil
}

var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxBlock))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
})

// open returns the JSON of block i. What cannot be opened was damaged in
// memory: whoever stores a packed form also stores its hash.
func (p *Pack) open(i int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.recent == i+1 {
		return p.opened
	}
	block, err := decoder().DecodeAll(p.blocks[i], nil)
	if err != nil {
		panic(fmt.Errorf("%w: %w", errPacked, err))
	}
	if len(block) <= maxOpened {
		p.recent, p.opened = i+1, block
	}
	return block
}

// Size returns how many bytes p takes, without the names.
func (p *Pack) Size() int {
	n := 0
	for _, b := range p.blocks {
		n += len(b)
	}
	return n
}
