package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/blob"
)

// Files are kept in pieces of a fixed size, each sealed under the tenant's key
// for exports, so that any part of a file can be read without the rest. What it
// is bound to says whose it is, under which policy it was made, and which piece
// of which file: it opens nowhere else, and for nobody else.

const (
	pieceSize = 1 << 20
	// sealing is what sealing adds: the name of the key, a nonce and a tag.
	sealing = 5 + 12 + 16
)

// A sealedFile is the place of a file.
type sealedFile struct {
	job, id string
	grant   *smart.Grant
	keys    *keys.Set
	size    int64 // before it was sealed
	imports bool  // it is of an import, which a change of the policy does not end
}

// name is that of the object. It holds no name of anything that is inside.
func (f sealedFile) name() string { return fileName(f.grant.Tenant().ID.String(), f.job, f.id) }

func fileName(tenant, job, id string) string { return tenant + "/" + job + "/" + id }

func (f sealedFile) place(piece int64) []byte {
	t := f.grant.Tenant()
	if f.imports {
		return fmt.Appendf(nil, "import|%s|%s|%s|%s|%d|%d", t.ID, f.grant.Holder(), f.job, f.id, f.size, piece)
	}
	return fmt.Appendf(nil, "export|%s|%d|%s|%s|%s|%d|%d", t.ID, t.PolicyVersion, f.grant.Holder(), f.job, f.id, f.size, piece)
}

// seal returns the sealed pieces of the content, and their hash.
func (f sealedFile) seal(content []byte) (sealed, hash []byte, err error) {
	sealed = make([]byte, 0, len(content)+sealing*(len(content)/pieceSize+1))
	for i := int64(0); len(content) > 0; i++ {
		n := min(len(content), pieceSize)
		if sealed, err = f.keys.Seal(sealed, fileKey, content[:n], f.place(i)); err != nil {
			return nil, nil, err
		}
		content = content[n:]
	}
	sum := sha256.Sum256(sealed)
	return sealed, sum[:], nil
}

// errDamaged says that the object store did not give back what it was given.
var errDamaged = errors.New("store: a file is not what was written")

// piece reads and opens a piece.
func (f sealedFile) piece(ctx context.Context, files blob.Store, i int64) ([]byte, error) {
	n := min(f.size-i*pieceSize, pieceSize) + sealing
	r, err := files.Open(ctx, f.name(), i*(pieceSize+sealing), n)
	if errors.Is(err, blob.ErrAbsent) {
		return nil, unknownAnswer()
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	sealed := make([]byte, n)
	if _, err := io.ReadFull(r, sealed); err != nil {
		return nil, fmt.Errorf("reading a piece of a file: %w", err)
	}
	plain, err := f.keys.Open(fileKey, sealed, f.place(i))
	if err != nil {
		return nil, errors.Join(errDamaged, err)
	}
	return plain, nil
}

// A fileReader reads a sealed file, one piece in memory at a time.
type fileReader struct {
	ctx   context.Context
	file  sealedFile
	files blob.Store
	from  int64  // where what is read begins
	at    int64  // behind that
	piece []byte // the one that at is in, or nil
	of    int64  // which one that is
}

// Read implements io.Reader.
func (r *fileReader) Read(b []byte) (int, error) {
	at := r.from + r.at
	if at >= r.file.size {
		return 0, io.EOF
	}
	i := at / pieceSize
	if r.piece == nil || r.of != i {
		var err error
		if r.piece, err = r.file.piece(r.ctx, r.files, i); err != nil {
			return 0, err
		}
		r.of = i
	}
	n := copy(b, r.piece[at-i*pieceSize:])
	r.at += int64(n)
	return n, nil
}

// Seek implements io.Seeker.
func (r *fileReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.file.size - r.from
	}
	if offset < 0 {
		return 0, fhir.Errorf(fhir.Invalid, "a place before the beginning of a file")
	}
	r.at = offset
	return offset, nil
}
