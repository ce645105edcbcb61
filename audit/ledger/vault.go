package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A Vault keeps checkpoints where those who can change the database cannot. It
// never replaces what it keeps.
type Vault interface {
	// Last returns the checkpoint of the log that is the largest; nil if there
	// is none.
	Last(ctx context.Context, origin string) ([]byte, error)
	// KeepLeaves keeps the hashes of leaves of a checkpoint of the time, the
	// first of which is from. It comes before Keep.
	KeepLeaves(ctx context.Context, origin string, at time.Time, from int64, leaves []tlog.Hash) error
	// Keep keeps a checkpoint. What is kept is durable when it returns nil. To
	// keep the same again is no error.
	Keep(ctx context.Context, c Checkpoint, signed []byte) error
	// Kept returns what there is, for a verification that lasts as long as ctx.
	Kept(ctx context.Context) Kept
}

// A Kept is what a vault has of logs, for who verifies them.
type Kept interface {
	// Files returns what is kept of the log, in the order of To. A file with
	// another name is an error: what is in a vault has to be accounted for.
	Files(origin string) ([]File, error)
	// Read returns a file that Files named.
	Read(f File) ([]byte, error)
}

// A Dir is a directory as a Vault. For each log it has a directory with one for
// each day, in which are
//
//	SIZE.checkpoint    the signed checkpoint
//	FROM-TO.leaves     the hashes of the leaves since the one before, 32 bytes each
type Dir string

var _ Vault = Dir("")

// Kept implements Vault.
func (d Dir) Kept(context.Context) Kept { return d }

// of returns the directory of a log.
func (d Dir) of(origin string) (string, error) {
	name, err := folderOf(origin)
	return filepath.Join(string(d), name), err
}

// folderOf is the name of what a vault has of the log.
func folderOf(origin string) (string, error) {
	name, ok := strings.CutPrefix(origin, Origin(""))
	if !ok || name == "" || strings.ContainsAny(name, `/\.`) {
		return "", errors.New("ledger: the name of the log cannot be the one of a directory")
	}
	return name, nil
}

const day = "2006-01-02"

// Last returns the largest checkpoint of the newest day.
func (d Dir) Last(_ context.Context, origin string) ([]byte, error) {
	dir, err := d.of(origin)
	if err != nil {
		return nil, err
	}
	days, err := os.ReadDir(dir) // in order
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints: %w", err)
	}
	for _, at := range slices.Backward(days) {
		files, err := filepath.Glob(filepath.Join(dir, at.Name(), "*"+isCheckpoint)) // in order
		if err != nil {
			return nil, fmt.Errorf("reading checkpoints: %w", err)
		}
		if len(files) > 0 {
			text, err := os.ReadFile(files[len(files)-1])
			if err != nil {
				return nil, fmt.Errorf("reading a checkpoint: %w", err)
			}
			return text, nil
		}
	}
	return nil, nil
}

// KeepLeaves writes a file of leaves.
func (d Dir) KeepLeaves(_ context.Context, origin string, at time.Time, from int64, leaves []tlog.Hash) error {
	name, text := leavesFile(from, leaves)
	return d.keep(origin, at, name, text)
}

func leavesFile(from int64, leaves []tlog.Hash) (name string, text []byte) {
	text = make([]byte, 0, len(leaves)*tlog.HashSize)
	for _, h := range leaves {
		text = append(text, h[:]...)
	}
	return number(from) + "-" + number(from+int64(len(leaves))) + ".leaves", text
}

// Keep writes the file of a checkpoint.
func (d Dir) Keep(_ context.Context, c Checkpoint, signed []byte) error {
	return d.keep(c.Origin, c.Time, checkpointFile(c), signed)
}

func checkpointFile(c Checkpoint) string { return number(c.Size) + isCheckpoint }

// isCheckpoint ends the name of the file of a checkpoint.
const isCheckpoint = ".checkpoint"

func (d Dir) keep(origin string, at time.Time, name string, text []byte) error {
	dir, err := d.of(origin)
	if err != nil {
		return err
	}
	today := filepath.Join(dir, at.UTC().Format(day))
	if err := os.MkdirAll(today, 0o755); err != nil {
		return fmt.Errorf("keeping a checkpoint: %w", err)
	}
	if err := writeOnce(filepath.Join(today, name), text); err != nil {
		return err
	}
	for _, dir := range []string{today, dir, string(d)} {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// number writes n so that names are in the order of their numbers.
func number(n int64) string { return fmt.Sprintf("%019d", n) }

// writeOnce makes a file with the text. Nobody sees half of it, and what is
// there is never replaced: if it differs, that is an error.
func writeOnce(name string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return fmt.Errorf("keeping a checkpoint: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err = errors.Join(err, tmp.Chmod(0o444), tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("keeping a checkpoint: %w", err)
	}
	err = os.Link(tmp.Name(), name)
	if !errors.Is(err, fs.ErrExist) {
		if err != nil {
			return fmt.Errorf("keeping a checkpoint: %w", err)
		}
		return nil
	}
	had, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("keeping a checkpoint: %w", err)
	}
	if string(had) != string(text) {
		return fmt.Errorf("ledger: %s is there and differs", filepath.Base(name))
	}
	return nil
}

// syncDir makes new names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("keeping a checkpoint: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("keeping a checkpoint: %w", err)
	}
	return nil
}

// A File is a file that a Dir keeps.
type File struct {
	Name     string // within the directory
	Day      time.Time
	From, To int64 // of leaves; of a checkpoint To is its size
	Leaves   bool
}

// Files implements Kept.
func (d Dir) Files(origin string) ([]File, error) {
	dir, err := d.of(origin)
	if err != nil {
		return nil, err
	}
	var list []File
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), ".new-") {
			return err
		}
		f, ok := parseFile(name)
		if !ok {
			return fmt.Errorf("ledger: %s is not a file of a vault", name)
		}
		f.Name = filepath.Join(filepath.Base(dir), name)
		list = append(list, f)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints: %w", err)
	}
	sortFiles(list)
	return list, nil
}

func sortFiles(list []File) {
	slices.SortStableFunc(list, func(a, b File) int { return cmp.Compare(a.To, b.To) })
}

// Read implements Kept.
func (d Dir) Read(f File) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(string(d), f.Name))
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints: %w", err)
	}
	return text, nil
}

func parseFile(name string) (f File, ok bool) {
	at, base, _ := strings.Cut(name, "/")
	day, err := time.Parse(day, at)
	if err != nil {
		return f, false
	}
	f.Day = day
	if size, ok := strings.CutSuffix(base, isCheckpoint); ok {
		f.To, err = strconv.ParseInt(size, 10, 64)
		return f, err == nil && number(f.To) == size
	}
	span, ok := strings.CutSuffix(base, ".leaves")
	from, to, both := strings.Cut(span, "-")
	if !ok || !both {
		return f, false
	}
	f.Leaves = true
	if f.From, err = strconv.ParseInt(from, 10, 64); err == nil {
		f.To, err = strconv.ParseInt(to, 10, 64)
	}
	return f, err == nil && number(f.From) == from && number(f.To) == to && f.From < f.To
}
