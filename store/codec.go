package store

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
)

// A codec turns the JSON of a resource into what the database keeps and back:
// a byte that names the form, then the JSON compressed; all of it sealed under
// the tenant's clinical key. The tenant, type, id and version are the
// associated data, so that a body opens nowhere but in its own row.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// formZstd1 is JSON compressed by zstd with dictionary 1. A new dictionary is
// a new form, and the old one stays readable.
const formZstd1 = 1

// dictionary1 holds what resources have in common: names of elements, code
// systems, units. It never changes.
//
//go:embed dictionary1.txt
var dictionary1 []byte

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(1, dictionary1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(4), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, fmt.Errorf("making the compressor: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderDictRaw(1, dictionary1), zstd.WithDecoderConcurrency(4), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return nil, fmt.Errorf("making the decompressor: %w", err)
	}
	return &codec{enc, dec}, nil
}

// place is the associated data of a body: where it lies.
func place(tenant int32, ref fhir.Ref, version int64) []byte {
	b := make([]byte, 0, 14+len(ref.ID))
	b = binary.BigEndian.AppendUint32(b, uint32(tenant))
	b = binary.BigEndian.AppendUint16(b, uint16(ref.Type.Number()))
	b = binary.BigEndian.AppendUint64(b, uint64(version))
	return append(b, ref.ID...)
}

func (c *codec) seal(k *keys.Set, tenant int32, r fhir.Resource) ([]byte, error) {
	plain := make([]byte, 1, 64+len(r.Body)/2)
	plain[0] = formZstd1
	plain = c.enc.EncodeAll(r.Body, plain)
	return k.Seal(nil, keys.Clinical, plain, place(tenant, r.Ref, r.Version))
}

func (c *codec) open(k *keys.Set, tenant int32, ref fhir.Ref, version int64, sealed []byte) ([]byte, error) {
	plain, err := k.Open(keys.Clinical, sealed, place(tenant, ref, version))
	if err != nil {
		return nil, fmt.Errorf("opening %s version %d: %w", ref, version, err)
	}
	if len(plain) == 0 || plain[0] != formZstd1 {
		return nil, errors.New("opening a body: unknown form")
	}
	body, err := c.dec.DecodeAll(plain[1:], nil)
	if err != nil {
		return nil, fmt.Errorf("opening %s version %d: %w", ref, version, err)
	}
	return body, nil
}
