package ledger

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Objects is an object store as a Bucket needs it. Lists are in order.
type Objects interface {
	// PutNew keeps an object if nothing has the name. To put the same again is no
	// error, another is.
	PutNew(ctx context.Context, name string, content []byte) error
	Get(ctx context.Context, name string) ([]byte, error)
	// List returns the names that begin with the prefix and come after the name.
	List(ctx context.Context, prefix, after string) ([]string, error)
	// Folders returns what is between the prefix and the next slash of names.
	Folders(ctx context.Context, prefix string) ([]string, error)
	// Originals and GetOriginal are List and Get of what was put first, also if it
	// was removed or replaced since, where the object store keeps that.
	Originals(ctx context.Context, prefix string) ([]string, error)
	GetOriginal(ctx context.Context, name string) ([]byte, error)
}

// A Bucket is an object store as a Vault. Its names are those of the files of a
// Dir. In one that locks its objects, who may write to it cannot change what was
// kept, nor remove it.
type Bucket struct {
	objects Objects
	mu      sync.Mutex
	newest  map[string]checkpointObject // that was seen, by folder
}

type checkpointObject struct {
	name string
	text []byte
}

// NewBucket returns the Vault in the object store.
func NewBucket(objects Objects) *Bucket {
	return &Bucket{objects: objects, newest: map[string]checkpointObject{}}
}

var _ Vault = (*Bucket)(nil)

// Last implements Vault. It asks for what is newer than what it saw before.
func (b *Bucket) Last(ctx context.Context, origin string) ([]byte, error) {
	folder, err := folderOf(origin)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	had := b.newest[folder]
	b.mu.Unlock()
	name, err := b.last(ctx, folder, had.name)
	if err != nil || name == "" {
		return had.text, err
	}
	text, err := b.objects.Get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("reading a checkpoint: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.newest[folder] = checkpointObject{name, text}
	return text, nil
}

// last returns the name of the newest checkpoint after the one with the name, ""
// if there is none.
func (b *Bucket) last(ctx context.Context, folder, after string) (string, error) {
	in := []string{folder + "/"}
	if after == "" {
		days, err := b.objects.Folders(ctx, folder+"/")
		if err != nil {
			return "", fmt.Errorf("reading checkpoints: %w", err)
		}
		in = in[:0]
		for _, day := range slices.Backward(days) {
			in = append(in, folder+"/"+day+"/")
		}
	}
	for _, prefix := range in {
		names, err := b.objects.List(ctx, prefix, after)
		if err != nil {
			return "", fmt.Errorf("reading checkpoints: %w", err)
		}
		for _, name := range slices.Backward(names) {
			if strings.HasSuffix(name, isCheckpoint) {
				return name, nil
			}
		}
	}
	return "", nil
}

// KeepLeaves implements Vault.
func (b *Bucket) KeepLeaves(ctx context.Context, origin string, at time.Time, from int64, leaves []tlog.Hash) error {
	name, text := leavesFile(from, leaves)
	return b.keep(ctx, origin, at, name, text)
}

// Keep implements Vault.
func (b *Bucket) Keep(ctx context.Context, c Checkpoint, signed []byte) error {
	return b.keep(ctx, c.Origin, c.Time, checkpointFile(c), signed)
}

func (b *Bucket) keep(ctx context.Context, origin string, at time.Time, name string, text []byte) error {
	folder, err := folderOf(origin)
	if err != nil {
		return err
	}
	if err := b.objects.PutNew(ctx, folder+"/"+at.UTC().Format(day)+"/"+name, text); err != nil {
		return fmt.Errorf("keeping a checkpoint: %w", err)
	}
	return nil
}

// Kept implements Vault.
func (b *Bucket) Kept(ctx context.Context) Kept { return keptObjects{ctx, b.objects} }

type keptObjects struct {
	ctx     context.Context
	objects Objects
}

// Files implements Kept.
func (k keptObjects) Files(origin string) ([]File, error) {
	folder, err := folderOf(origin)
	if err != nil {
		return nil, err
	}
	names, err := k.objects.Originals(k.ctx, folder+"/")
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints: %w", err)
	}
	var list []File
	for _, name := range names {
		f, ok := parseFile(strings.TrimPrefix(name, folder+"/"))
		if !ok {
			return nil, fmt.Errorf("ledger: %s is not a file of a vault", name)
		}
		f.Name = name
		list = append(list, f)
	}
	sortFiles(list)
	return list, nil
}

// Read implements Kept.
func (k keptObjects) Read(f File) ([]byte, error) {
	text, err := k.objects.GetOriginal(k.ctx, f.Name)
	if err != nil {
		return nil, fmt.Errorf("reading checkpoints: %w", err)
	}
	return text, nil
}
