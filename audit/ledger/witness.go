package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Server is asked for the newest checkpoint of a log, and for proofs about it.
type Server interface {
	// Checkpoint returns the newest one, signed.
	Checkpoint(ctx context.Context) ([]byte, error)
	// Consistency returns the proof that the log of from leaves is the beginning of
	// that of to.
	Consistency(ctx context.Context, from, to int64) (Proof, error)
}

// A Witness is another party than who runs the servers. It sees checkpoints of a
// log now and then, and keeps those that go on from the ones before: then nobody can
// change, with the log's key and all of its storage, what the log held when it was
// seen.
//
// https://github.com/C2SP/C2SP/blob/main/tlog-witness.md
type Witness struct {
	Key Key // of the log, required
	// Seen is where the checkpoints are kept, out of reach of who runs the servers.
	// As a vault it can be verified against. Required.
	Seen Dir
	// Signer adds the signature of the witness to what it keeps, if there is one.
	Signer Signer
	// Late is how long a log that has no newer checkpoint is believed to have nothing
	// new: the look itself is an entry of it. Default 5 min.
	Late time.Duration
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// Look asks for the newest checkpoint and keeps it. An error that says so names
// what the server cannot prove: then the log is not the one that was seen.
func (w Witness) Look(ctx context.Context, s Server) (Checkpoint, error) {
	if w.Now == nil {
		w.Now = time.Now
	}
	if w.Late == 0 {
		w.Late = 5 * time.Minute
	}
	signed, err := s.Checkpoint(ctx)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := Open(signed, w.Key)
	if err != nil {
		return Checkpoint{}, err
	}
	isNew, err := w.goesOn(ctx, s, c)
	if err != nil {
		return Checkpoint{}, err
	}
	switch old := w.Now().Sub(c.Time); {
	case old > w.Late:
		return Checkpoint{}, fmt.Errorf("ledger: nothing was signed since %s", show(c.Time))
	case old < -w.Late:
		return Checkpoint{}, fmt.Errorf("ledger: the checkpoint is of %s, which is yet to come", show(c.Time))
	}
	if !isNew {
		return c, nil
	}
	if signed, err = w.cosign(signed); err != nil {
		return Checkpoint{}, err
	}
	return c, w.Seen.Keep(ctx, c, signed)
}

// goesOn fails unless the log of c begins with the one that was seen last. It
// reports whether c has more.
func (w Witness) goesOn(ctx context.Context, s Server, c Checkpoint) (more bool, err error) {
	last, err := w.Seen.Last(ctx, w.Key.Name())
	if err != nil || last == nil {
		return true, err
	}
	seen, err := Open(last, w.Key)
	if err != nil {
		return false, err
	}
	contradicts := fmt.Errorf("ledger: the log of %s, %d leaves, does not go on from the one of %s, %d leaves, that was seen", show(c.Time), c.Size, show(seen.Time), seen.Size)
	switch {
	case !GoesOn(c.Keys, seen.Keys):
		return false, fmt.Errorf("ledger: the checkpoint of %s is not of the key %s, under which the log had gone on", show(c.Time), shortOf(seen.Keys[len(seen.Keys)-1].To))
	case c.Size < seen.Size, c.Time.Before(seen.Time), c.Size == seen.Size && c.Root != seen.Root:
		return false, contradicts
	case c.Size == seen.Size, seen.Size == 0:
		return c.Size > seen.Size, nil
	}
	p, err := s.Consistency(ctx, seen.Size, c.Size)
	if err != nil {
		return false, err
	}
	if tlog.CheckTree(p.Hashes, c.Size, c.Root, seen.Size, seen.Root) != nil {
		return false, contradicts
	}
	return true, nil
}

func (w Witness) cosign(signed []byte) ([]byte, error) {
	if w.Signer == nil {
		return signed, nil
	}
	o, err := NewTrust(w.Key).open(signed)
	if err == nil {
		signed, err = note.Sign(&note.Note{Text: o.whole, Sigs: o.signatures}, w.Signer)
	}
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint as witness: %w", err)
	}
	return signed, nil
}

// A Signer signs checkpoints with a private key.
type Signer = note.Signer

// GenerateSigner makes a pair of keys for the name, in the forms that ParseSigner
// and ParseKey read.
func GenerateSigner(name string) (private, public string, err error) {
	private, public, err = note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", "", fmt.Errorf("making a key: %w", err)
	}
	return private, public, nil
}

// ParseSigner reads a private key.
func ParseSigner(text string) (Signer, error) {
	s, err := note.NewSigner(text)
	if err != nil {
		return nil, errors.New("ledger: malformed private key")
	}
	return s, nil
}
