// Package blob holds the object store: files that are written once, read, and
// removed. What is in them is sealed before it comes here.
package blob

import (
	"context"
	"errors"
	"io"
)

// A Store keeps objects by name: segments of letters, digits and hyphens with
// slashes between them. Its methods may be called from many goroutines at once.
type Store interface {
	// Put keeps an object. Nobody ever sees a part of it; when Put returns it
	// is there to stay.
	Put(ctx context.Context, name string, content []byte) error
	// Open reads an object from the offset on, n bytes of it. The error is
	// ErrAbsent if there is none.
	Open(ctx context.Context, name string, offset, n int64) (io.ReadCloser, error)
	// Remove removes an object. It is no error if there is none.
	Remove(ctx context.Context, name string) error
}

// ErrAbsent says that there is no object with the name.
var ErrAbsent = errors.New("blob: no such object")
