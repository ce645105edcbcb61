// Package blob holds the object store, a directory or a bucket of an S3
// server: what is written once, read, and perhaps removed. What must be secret is
// sealed before it comes here.
package blob

import (
	"context"
	"errors"
	"io"
)

// A Store keeps objects by name: segments of letters, digits, hyphens and points
// with slashes between them. Its methods may be called from many goroutines at
// once.
type Store interface {
	// Put keeps an object. Nobody ever sees a part of it; when Put returns nil it
	// is there to stay.
	Put(ctx context.Context, name string, content []byte) error
	// Open reads an object from the offset on, n bytes of it, which are more than
	// none. The error is ErrAbsent if there is no such object.
	Open(ctx context.Context, name string, offset, n int64) (io.ReadCloser, error)
	// Remove removes an object. It is no error if there is none.
	Remove(ctx context.Context, name string) error
}

var (
	// ErrAbsent says that there is no object with the name.
	ErrAbsent = errors.New("blob: none has that name")
	// ErrExists says that there is one.
	ErrExists = errors.New("blob: one has that name")
)
