package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Dir is a Store in a directory that this process, and others that serve the
// same tenants, can write. Only their user can read it.
type Dir struct{ root *os.Root }

// OpenDir returns the Store in the directory, which it makes if need be.
func OpenDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of files: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("opening the directory of files: %w", err)
	}
	return &Dir{root}, nil
}

// Put implements Store. The file has its name once it is whole and on disk;
// what a process that dies leaves of it, Remove removes.
func (d *Dir) Put(ctx context.Context, name string, content []byte) error {
	err := d.write(name+part, content)
	if errors.Is(err, fs.ErrNotExist) { // somebody removed the directory that was empty
		err = d.write(name+part, content)
	}
	if err == nil {
		err = d.root.Rename(name+part, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing a file: %w", err), d.Remove(ctx, name))
	}
	for dir := filepath.Dir(name); ; dir = filepath.Dir(dir) {
		if err := d.sync(dir); err != nil || dir == "." {
			return err
		}
	}
}

// part ends the name of a file that is not whole.
const part = ".part"

func (d *Dir) write(name string, content []byte) error {
	if err := d.root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (d *Dir) sync(dir string) error {
	f, err := d.root.Open(dir)
	if err != nil {
		return fmt.Errorf("opening a directory of files: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}

// Open implements Store.
func (d *Dir) Open(_ context.Context, name string, offset, n int64) (io.ReadCloser, error) {
	f, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrAbsent
	}
	if err != nil {
		return nil, fmt.Errorf("opening a file: %w", err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, offset, n), f}, nil
}

// Remove implements Store. Directories that are left empty go too.
func (d *Dir) Remove(_ context.Context, name string) error {
	for _, file := range []string{name + part, name} {
		if err := d.root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a file: %w", err)
		}
	}
	for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
		if d.root.Remove(dir) != nil { // there is more in it
			break
		}
	}
	return nil
}
