package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
)

// The rows of a table do not say which resources they are made of. So a file of them
// begins with a list of those, which nobody downloads: how many there are, and of
// each the key that the database knows and the version, in eight bytes each.

// sourceSize is what one number of the list takes.
const sourceSize = 8

// sourcesOf returns the list.
func sourcesOf(set *keys.Set, sources []fhir.Resource) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, sourceSize*(1+2*len(sources))), uint64(len(sources)))
	for _, r := range sources {
		b = binary.BigEndian.AppendUint64(b, uint64(set.Hash("s", r.Ref.String())))
		b = binary.BigEndian.AppendUint64(b, uint64(r.Version))
	}
	return b
}

// number reads a number of the list.
func (r *fileReader) number() (int64, error) {
	var b [sourceSize]byte
	_, err := io.ReadFull(r, b[:])
	return int64(binary.BigEndian.Uint64(b[:])), err
}

// behindSources moves to what is behind the list. What is read begins there.
func (r *fileReader) behindSources() error {
	n, err := r.number()
	if err == nil && (n < 0 || n > r.file.size/sourceSize/2) {
		err = errors.New("the list has another length")
	}
	if err != nil {
		return fmt.Errorf("reading the sources of a table: %w", err)
	}
	r.from, r.at = sourceSize*(1+2*n), 0
	return nil
}

// sources reads the list, in the way of a basis.
func (r *fileReader) sources() (list []audit.ShownVersion, err error) {
	n, err := r.number()
	for ; err == nil && n > 0; n-- {
		var rid, version int64
		if rid, err = r.number(); err == nil {
			version, err = r.number()
		}
		list = append(list, audit.ShownVersion{RID: rid, Version: version})
	}
	if err != nil {
		return nil, fmt.Errorf("reading the sources of a table: %w", err)
	}
	return list, nil
}
