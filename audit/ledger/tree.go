package ledger

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// Height is how many levels of the tree lie between those that are stored. The
// hashes of the leaves are, and above them one in 256; the others are made of
// these when they are needed, from at most 256 each.
const Height = 8

// A Range is hashes of one level that lie side by side.
type Range struct {
	Level    int
	From, To int64 // To is excluded
}

// A Source returns stored hashes, all of every range. The level is a multiple
// of Height.
type Source func([]Range) ([][]tlog.Hash, error)

// ErrMissing says that a log lacks hashes that it had.
var ErrMissing = errors.New("some hashes of the log are missing")

// A Node is a hash above the leaves that is to be stored.
type Node struct {
	Level int
	N     int64
	Hash  tlog.Hash
}

// A Tree is a log of Size leaves that grows.
type Tree struct {
	Size   int64
	stored Source
	fresh  map[int64]tlog.Hash // by tlog.StoredHashIndex, since the Tree was made
}

var _ tlog.HashReader = (*Tree)(nil)

// NewTree returns the Tree of the first size leaves that are stored.
func NewTree(size int64, stored Source) *Tree {
	return &Tree{Size: size, stored: stored, fresh: map[int64]tlog.Hash{}}
}

// Append adds a leaf, and returns what has to be stored besides its hash.
func (t *Tree) Append(leaf tlog.Hash) ([]Node, error) {
	hashes, err := tlog.StoredHashesForRecordHash(t.Size, leaf, t)
	if err != nil {
		return nil, fmt.Errorf("adding leaf %d to a log: %w", t.Size, err)
	}
	var nodes []Node
	for level, h := range hashes {
		n := t.Size >> level
		t.fresh[tlog.StoredHashIndex(level, n)] = h
		if level > 0 && level%Height == 0 {
			nodes = append(nodes, Node{level, n, h})
		}
	}
	t.Size++
	return nodes, nil
}

// Root returns the hash of the first size leaves.
func (t *Tree) Root(size int64) (tlog.Hash, error) {
	h, err := tlog.TreeHash(size, t)
	if err != nil {
		return h, fmt.Errorf("hashing a log of %d leaves: %w", size, err)
	}
	return h, nil
}

// ReadHashes returns the hashes at the places that tlog gives them.
func (t *Tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	var wanted []Range
	var places []int
	for i, index := range indexes {
		if h, ok := t.fresh[index]; ok {
			found[i] = h
			continue
		}
		level, n := tlog.SplitStoredHashIndex(index)
		above := level % Height
		wanted = append(wanted, Range{level - above, n << above, (n + 1) << above})
		places = append(places, i)
	}
	if len(wanted) == 0 {
		return found, nil
	}
	hashes, err := t.read(wanted)
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		found[place] = join(hashes[i])
	}
	return found, nil
}

// read returns the hashes of the ranges, which may reach into what is fresh.
func (t *Tree) read(ranges []Range) ([][]tlog.Hash, error) {
	stored := make([]Range, len(ranges))
	for i, r := range ranges {
		stored[i] = r
		for stored[i].To > r.From && t.isFresh(r.Level, stored[i].To-1) {
			stored[i].To--
		}
	}
	found, err := t.stored(stored)
	if err != nil {
		return nil, err
	}
	for i, r := range ranges {
		if int64(len(found[i])) != stored[i].To-r.From {
			return nil, fmt.Errorf("hashes %d to %d of level %d: %w", r.From, r.To-1, r.Level, ErrMissing)
		}
		for n := stored[i].To; n < r.To; n++ {
			found[i] = append(found[i], t.fresh[tlog.StoredHashIndex(r.Level, n)])
		}
	}
	return found, nil
}

func (t *Tree) isFresh(level int, n int64) bool {
	_, ok := t.fresh[tlog.StoredHashIndex(level, n)]
	return ok
}

// join returns the hash of the smallest tree over hashes, whose number is a
// power of two.
func join(hashes []tlog.Hash) tlog.Hash {
	for len(hashes) > 1 {
		above := make([]tlog.Hash, len(hashes)/2)
		for i := range above {
			above[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
		}
		hashes = above
	}
	return hashes[0]
}

// forget lets go of hashes that no longer are needed to add leaves or to hash all
// of them: those below a subtree that is complete. A Tree that has forgotten
// proves nothing.
func (t *Tree) forget() {
	n := t.Size - 1 // the leaf that was added last
	for level := 0; n&1 == 1; level++ {
		delete(t.fresh, tlog.StoredHashIndex(level, n))
		delete(t.fresh, tlog.StoredHashIndex(level, n-1))
		n >>= 1
	}
}
