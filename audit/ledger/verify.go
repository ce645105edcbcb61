package ledger

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A Fault is something that is wrong with a trail.
type Fault struct {
	Kind  Kind
	Leaf  int64  // where it is in the log; -1: nowhere
	Entry string // id of the AuditEvent, "" if it is not known
	Text  string // what is wrong, for people
}

// A Kind is what was done to a trail.
type Kind string

// The kinds of faults.
const (
	Changed    Kind = "changed"        // an entry is not the one that was numbered
	Missing    Kind = "missing"        // an entry or a leaf is gone
	Inserted   Kind = "inserted"       // an entry is there that never became a leaf
	BackDated  Kind = "back-dated"     // an entry says that it is older, or newer, than it can be
	Cut        Kind = "cut"            // the log is shorter than a checkpoint says: its end was removed, or an old copy restored
	Rewritten  Kind = "rewritten"      // entries were changed together with their hashes
	Forked     Kind = "forked"         // two checkpoints contradict each other
	Unverified Kind = "unverified"     // a checkpoint, or hashes beside it, cannot be believed
	Gap        Kind = "not kept"       // checkpoints are missing from the vault
	Stale      Kind = "not signed"     // the newest checkpoint is older than it should be
	Unordered  Kind = "out of order"   // leaves are not numbered as they were
	Unnumbered Kind = "not in the log" // an entry should have become a leaf long ago
	Early      Kind = "removed early"  // a tombstone removed an entry whose time was not up
)

// A Leaf is what a database has of a leaf and its entry.
type Leaf struct {
	Number   int64
	Seq      int64
	ID       string    // of the AuditEvent
	Hash     tlog.Hash // as it is stored
	Record   []byte    // made of the entry; nil if there is none
	Recorded time.Time
}

// A Loose entry is one that is no leaf.
type Loose struct {
	ID       string
	Recorded time.Time
	// Settled says that entries that came later are leaves.
	Settled bool
}

// Rules are what a Verifier holds against.
type Rules struct {
	// Key is the public key that checkpoints are signed with, or were before the log
	// went on under another. Required.
	Key Key
	// Late is how long it may take until an entry becomes a leaf, and how far
	// clocks of servers may differ. Default 5 min.
	Late time.Duration
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// A Verifier recomputes a log from the entries, leaf by leaf, and holds it
// against what a vault has. It believes nothing but the key and what is signed
// with it.
type Verifier struct {
	Rules
	// Fault is told of what is wrong, when it is found.
	tell func(Fault)

	trust       *Trust
	keys        []Succession // of the checkpoint that names most
	tree        *Tree
	checkpoints []Checkpoint // in order of size, each size once
	outside     outside
	passed      int  // of checkpoints
	broken      bool // a checkpoint does not fit: later ones need not, either
	last        int64
	unsigned    time.Time // of the first entry that no checkpoint has
	loose       int64
	faults      int

	removals     []removal
	sorted       bool
	removedCount int64
}

// NewVerifier reads what the vault has of the log. What is wrong is told as it
// is found.
func NewVerifier(r Rules, vault Kept, tell func(Fault)) (*Verifier, error) {
	if r.Late == 0 {
		r.Late = 5 * time.Minute
	}
	if r.Now == nil {
		r.Now = time.Now
	}
	v := &Verifier{Rules: r, trust: NewTrust(r.Key), last: -1}
	v.tell = func(f Fault) {
		v.faults++
		tell(f)
	}
	v.tree = NewTree(0, func(ranges []Range) ([][]tlog.Hash, error) {
		return make([][]tlog.Hash, len(ranges)), nil
	})
	v.outside.vault = vault
	return v, v.load(vault)
}

// load reads the checkpoints, and notes which files have leaves.
func (v *Verifier) load(vault Kept) error {
	files, err := vault.Files(v.Key.Name())
	if err != nil {
		return err
	}
	if err := v.begin(vault, files); err != nil {
		return err
	}
	var end int64 // of the files of leaves
	for _, f := range files {
		if f.Leaves {
			if f.From > end {
				v.tell(Fault{Gap, end, "", fmt.Sprintf("the vault has no hashes of leaves %d to %d: files of it are missing", end, f.From-1)})
			}
			end = max(end, f.To)
			v.outside.files = append(v.outside.files, f)
			continue
		}
		text, err := vault.Read(f)
		if err != nil {
			return err
		}
		v.add(f, text)
	}
	return nil
}

// begin opens the newest checkpoint that can be opened with the key: it says which
// keys were before that.
func (v *Verifier) begin(vault Kept, files []File) error {
	for _, f := range slices.Backward(files) {
		if f.Leaves {
			continue
		}
		text, err := vault.Read(f)
		if err != nil {
			return err
		}
		if _, err := v.trust.Open(text); err == nil {
			return nil
		}
	}
	return nil
}

// strange names the key of somebody else, if err is about one.
func strange(err error) string {
	var e *StrangeKey
	if !errors.As(err, &e) {
		return ""
	}
	return ": the key " + e.Key + " is none that a key of the log has named as the next"
}

// add takes in a checkpoint of the vault.
func (v *Verifier) add(f File, text []byte) {
	c, err := v.trust.Open(text)
	if err != nil || c.Size != f.To {
		v.tell(Fault{Unverified, -1, "", f.Name + " is not a checkpoint of this log, signed by the key" + strange(err)})
		return
	}
	if !GoesOn(c.Keys, v.keys) {
		v.tell(Fault{Forked, c.Size, "", fmt.Sprintf("the checkpoint of %s is not of the key %s, under which the log had gone on: somebody has signed with a key before it", show(c.Time), shortOf(v.keys[len(v.keys)-1].To))})
		return
	}
	v.keys = c.Keys
	n := len(v.checkpoints)
	if n > 0 && v.checkpoints[n-1].Size == c.Size {
		if v.checkpoints[n-1].Root != c.Root {
			v.tell(Fault{Forked, c.Size, "", fmt.Sprintf("there are two logs of %d leaves: the checkpoints of %s and %s differ", c.Size, show(v.checkpoints[n-1].Time), show(c.Time))})
		}
		return
	}
	if n > 0 && c.Time.Before(v.checkpoints[n-1].Time) {
		v.tell(Fault{Forked, c.Size, "", fmt.Sprintf("the checkpoint of %d leaves is older than the one of %d", c.Size, v.checkpoints[n-1].Size)})
	}
	v.checkpoints = append(v.checkpoints, c)
}

func show(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Leaf takes in the next leaf.
func (v *Verifier) Leaf(l Leaf) error {
	if l.Number <= v.last {
		v.tell(Fault{Unordered, l.Number, l.ID, fmt.Sprintf("leaf %d is there twice", l.Number)})
		return nil
	}
	if l.Number-v.last > maxGap {
		v.tell(Fault{Unordered, l.Number, l.ID, fmt.Sprintf("leaf %d comes after leaf %d", l.Number, v.last)})
		return nil
	}
	for v.last+1 < l.Number {
		if err := v.gone(v.last + 1); err != nil {
			return err
		}
	}
	v.last = l.Number
	kept, known, err := v.outside.hash(l.Number)
	if err != nil {
		return err
	}
	v.compare(l, kept, known)
	v.dates(l)
	if v.unsigned.IsZero() && v.passed == len(v.checkpoints) {
		v.unsigned = l.Recorded
	}
	if !known {
		kept = l.Hash
	}
	return v.append(kept)
}

// maxGap bounds the leaves that are told of one by one.
const maxGap = 1 << 20

// gone stands for a leaf that the database does not have.
func (v *Verifier) gone(number int64) error {
	v.last = number
	v.tell(Fault{Missing, number, "", fmt.Sprintf("leaf %d is missing", number)})
	kept, known, err := v.outside.hash(number)
	if err != nil {
		return err
	}
	if !known {
		v.broken = true // nothing later can be held against a checkpoint
	}
	return v.append(kept)
}

// compare holds an entry against the hash that is stored, and the one that the
// vault keeps.
func (v *Verifier) compare(l Leaf, kept tlog.Hash, known bool) {
	switch {
	case l.Record == nil && v.removed(l):
		if known && kept != l.Hash {
			v.tell(Fault{Changed, l.Number, l.ID, fmt.Sprintf("the hash of entry %s, leaf %d, which was removed, was changed", l.ID, l.Number)})
		}
	case l.Record == nil:
		v.tell(Fault{Missing, l.Number, l.ID, fmt.Sprintf("entry %s, leaf %d, is missing", l.ID, l.Number)})
	case tlog.RecordHash(l.Record) != l.Hash:
		v.tell(Fault{Changed, l.Number, l.ID, fmt.Sprintf("entry %s, leaf %d, is not as it was numbered", l.ID, l.Number)})
	case known && kept != l.Hash:
		v.tell(Fault{Changed, l.Number, l.ID, fmt.Sprintf("entry %s, leaf %d, was changed together with its hash", l.ID, l.Number)})
	}
}

// dates holds the time of an entry against the checkpoints around it.
func (v *Verifier) dates(l Leaf) {
	if l.Record == nil {
		return
	}
	if v.passed > 0 {
		if before := v.checkpoints[v.passed-1].Time; l.Recorded.Before(before.Add(-v.Late)) {
			v.tell(Fault{BackDated, l.Number, l.ID, fmt.Sprintf("entry %s, leaf %d, says %s, but came after the checkpoint of %s", l.ID, l.Number, show(l.Recorded), show(before))})
		}
	}
	after := v.Now()
	if v.passed < len(v.checkpoints) {
		after = v.checkpoints[v.passed].Time
	}
	if l.Recorded.After(after.Add(v.Late)) {
		v.tell(Fault{BackDated, l.Number, l.ID, fmt.Sprintf("entry %s, leaf %d, says %s, but was there at %s", l.ID, l.Number, show(l.Recorded), show(after))})
	}
}

// append adds a leaf to the tree, and holds the tree against the checkpoint of
// its size.
func (v *Verifier) append(leaf tlog.Hash) error {
	if _, err := v.tree.Append(leaf); err != nil {
		return err
	}
	v.tree.forget()
	if v.passed == len(v.checkpoints) || v.checkpoints[v.passed].Size != v.tree.Size {
		return nil
	}
	c := v.checkpoints[v.passed]
	v.passed++
	root, err := v.tree.Root(v.tree.Size)
	if err != nil {
		return err
	}
	if root != c.Root && !v.broken {
		v.broken = true
		v.tell(Fault{Rewritten, v.since(), "", fmt.Sprintf("leaves %d to %d are not those of the checkpoint of %s", v.since(), c.Size-1, show(c.Time))})
	}
	return nil
}

// since returns the size of the checkpoint before the one passed last.
func (v *Verifier) since() int64 {
	if v.passed < 2 {
		return 0
	}
	return v.checkpoints[v.passed-2].Size
}

// Loose takes in an entry that is no leaf. One that came lately will be one.
func (v *Verifier) Loose(l Loose) {
	old := v.Now().Sub(l.Recorded)
	switch {
	case l.Settled:
		v.tell(Fault{Inserted, -1, l.ID, fmt.Sprintf("entry %s is not one that a server wrote: it never became a leaf, and later ones did", l.ID)})
	case old > v.Late:
		v.tell(Fault{Unnumbered, -1, l.ID, fmt.Sprintf("entry %s says %s and is not in the log", l.ID, show(l.Recorded))})
	case old < -v.Late:
		v.tell(Fault{BackDated, -1, l.ID, fmt.Sprintf("entry %s says %s, which is yet to come", l.ID, show(l.Recorded))})
	default:
		v.loose++
	}
}

// A Report is what a Verifier has seen.
type Report struct {
	Faults      int
	Leaves      int64
	Checkpoints int
	Newest      Checkpoint // the largest that fits
	Signed      int64      // leaves that it has; what comes after could be cut off unseen
	Waiting     int64      // entries that are yet to become leaves
	Keys        []Succession
	Removed     int64 // leaves whose entries were removed, by tombstones that the log has
}

// End says that there are no more leaves. size is how many the database says
// there are.
func (v *Verifier) End(size int64) Report {
	if n := len(v.checkpoints); n > 0 && v.checkpoints[n-1].Size > v.tree.Size {
		c := v.checkpoints[n-1]
		v.tell(Fault{Cut, v.tree.Size, "", fmt.Sprintf("leaves %d to %d are missing: the checkpoint of %s has %d, the database %d. The end was cut off, or an older copy of the database was restored", v.tree.Size, c.Size-1, show(c.Time), c.Size, v.tree.Size)})
	}
	if size != v.tree.Size {
		v.tell(Fault{Unordered, v.tree.Size, "", fmt.Sprintf("the database says that it has %d leaves; it has %d", size, v.tree.Size)})
	}
	if !v.unsigned.IsZero() && v.Now().Sub(v.unsigned) > v.Late {
		v.tell(Fault{Stale, -1, "", fmt.Sprintf("since %s nothing was signed, or what was is missing from the vault", show(v.unsigned))})
	}
	r := Report{Faults: v.faults, Leaves: v.tree.Size, Checkpoints: len(v.checkpoints), Waiting: v.loose, Keys: v.keys, Removed: v.removedCount}
	if v.passed > 0 && !v.broken {
		r.Newest = v.checkpoints[v.passed-1]
		r.Signed = r.Newest.Size
	}
	return r
}

// outside is the leaves that a vault has.
type outside struct {
	vault Kept
	files []File // in the order of To
	at    int    // the file that text is of, counted from 1
	text  []byte
}

// hash returns the hash of a leaf, if the vault has it. Leaves are asked for in
// their order.
func (o *outside) hash(leaf int64) (h tlog.Hash, known bool, err error) {
	for o.at == 0 || o.at <= len(o.files) && o.files[o.at-1].To <= leaf {
		o.at++
		if o.at > len(o.files) {
			return h, false, nil
		}
		if o.files[o.at-1].To <= leaf {
			continue
		}
		if o.text, err = o.vault.Read(o.files[o.at-1]); err != nil {
			return h, false, err
		}
	}
	if o.at > len(o.files) {
		return h, false, nil
	}
	f := o.files[o.at-1]
	if leaf < f.From || int64(len(o.text)) != (f.To-f.From)*tlog.HashSize {
		return h, false, nil
	}
	return tlog.Hash(o.text[(leaf-f.From)*tlog.HashSize:][:tlog.HashSize]), true, nil
}
