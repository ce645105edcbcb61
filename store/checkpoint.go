package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// Checkpoint signs what the log of the tenant holds, if it has grown and the
// last checkpoint is old enough, and brings the Vault up to date. What is signed
// is durable outside the database first.
//
// Nothing is signed that does not contain all that was signed before, here or by
// another process, as far as the Vault knows: the error is *Broken.
func (l *Ledger) Checkpoint(ctx context.Context, t *tenant.Tenant) error {
	signer, trust, err := l.Registry.logSigner(ctx, t)
	if err != nil {
		return err
	}
	c := checkpointing{Ledger: l, origin: originOf(t), signer: signer, trust: trust}
	if l.Vault != nil {
		if c.kept, err = l.Vault.Last(ctx, c.origin); err != nil {
			return err
		}
	}
	due, err := c.due(ctx, t)
	if err != nil || !due {
		return err
	}
	err = l.gate.Run(ctx, t, func(x *gate.LedgerTx) error { return c.run(ctx, x) })
	if errors.Is(err, gate.ErrBusy) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("making a checkpoint of an audit log: %w", err)
	}
	return nil
}

// Broken says that a log does not contain what was signed before: it was
// changed, or an old copy of it was put in its place.
type Broken struct {
	Log string
	Why string
}

// Cause returns the words of b, which hold times and sizes.
func (b *Broken) Cause() string { return b.Error() }

func (b *Broken) Error() string { return b.Log + ": " + b.Why }

// checkpointing is the work on one checkpoint.
type checkpointing struct {
	*Ledger
	origin string
	signer *ledger.Holder
	trust  *ledger.Trust
	kept   []byte // the last one in the Vault
}

// due reports whether there may be something to sign or to keep, without
// holding up anybody.
func (c *checkpointing) due(ctx context.Context, t *tenant.Tenant) (due bool, err error) {
	err = c.gate.Run(ctx, t, func(x *gate.LedgerTx) error {
		s, found, err := atMostOne(ctx, x, stateQuery, scanState)
		if err != nil || !found {
			return err
		}
		last, err := c.signed([]byte(s.checkpoint))
		if err != nil {
			return err
		}
		due = c.grown(s, last) || c.Vault != nil && string(c.kept) != s.checkpoint
		return nil
	})
	if errors.Is(err, gate.ErrBusy) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at the checkpoint of an audit log: %w", err)
	}
	return due, nil
}

// grown reports whether it is time for the checkpoint after last.
func (c *checkpointing) grown(s logState, last ledger.Checkpoint) bool {
	return s.size != last.Size && c.Now().Sub(last.Time) >= c.Every
}

// signed opens a checkpoint; of nothing it is the one of an empty log.
func (c *checkpointing) signed(text []byte) (ledger.Checkpoint, error) {
	if len(text) == 0 {
		return ledger.Checkpoint{Origin: c.origin}, nil
	}
	cp, err := c.trust.Open(text)
	switch {
	case err != nil:
		return cp, &Broken{c.origin, "a checkpoint is not signed by the key of the log"}
	case ledger.GoesOn(c.signer.Keys, cp.Keys):
		return cp, nil
	case ledger.GoesOn(cp.Keys, c.signer.Keys):
		return cp, gate.ErrBusy // by another server, which knew the next key already
	}
	return cp, &Broken{c.origin, "a checkpoint goes on under a key that is not the next one of the log"}
}

func (c *checkpointing) run(ctx context.Context, x *gate.LedgerTx) error {
	s, err := lockState(ctx, x)
	if err != nil {
		return err
	}
	newest, err := c.signed([]byte(s.checkpoint))
	if err != nil {
		return err
	}
	outside, err := c.signed(c.kept)
	if err != nil {
		return err
	}
	if outside.Size >= newest.Size && !ledger.GoesOn(outside.Keys, newest.Keys) {
		return &Broken{c.origin, "a checkpoint is signed with a key that counts no longer"}
	}
	tree := ledger.NewTree(s.size, hashes(ctx, x))
	for _, old := range []ledger.Checkpoint{newest, outside} {
		if err := c.contains(tree, old); err != nil {
			return err
		}
	}
	text := []byte(s.checkpoint)
	if outside.Size > newest.Size { // its process did not live to store it
		newest, text = outside, c.kept
	}
	if c.grown(s, newest) {
		if newest, text, err = c.sign(tree, newest.Time); err != nil {
			return err
		}
	}
	if err := c.keep(ctx, x, outside, newest, text); err != nil {
		return err
	}
	if string(text) == s.checkpoint {
		return nil
	}
	return x.Exec(ctx, gate.SQL(`UPDATE ~audit_log SET checkpoint = ? WHERE tenant_id = $1`, string(text)))
}

// contains returns an error if the log does not begin with what old says.
func (c *checkpointing) contains(tree *ledger.Tree, old ledger.Checkpoint) error {
	at := old.Time.Format(time.RFC3339)
	switch {
	case old.Size == 0:
		return nil
	case old.Size > tree.Size:
		return &Broken{c.origin, fmt.Sprintf("the checkpoint of %s has %d entries, the database has %d", at, old.Size, tree.Size)}
	}
	root, err := tree.Root(tree.Size)
	if err != nil {
		return c.missing(err)
	}
	proof, err := tlog.ProveTree(tree.Size, old.Size, tree)
	if err != nil {
		return c.missing(err)
	}
	if tlog.CheckTree(proof, tree.Size, root, old.Size, old.Root) != nil {
		return &Broken{c.origin, fmt.Sprintf("the log does not begin with what the checkpoint of %s has", at)}
	}
	return nil
}

// missing tells hashes that are gone from a database that does not answer.
func (c *checkpointing) missing(err error) error {
	if errors.Is(err, ledger.ErrMissing) {
		return &Broken{c.origin, err.Error()}
	}
	return err
}

// errClock says that the time cannot be right.
var errClock = errors.New("store: the clock is behind the time of the last checkpoint")

// sign makes the checkpoint of the tree, later than the one before.
func (c *checkpointing) sign(tree *ledger.Tree, before time.Time) (cp ledger.Checkpoint, text []byte, err error) {
	cp = ledger.Checkpoint{Origin: c.origin, Size: tree.Size, Time: c.Now().UTC().Truncate(time.Millisecond)}
	if !cp.Time.After(before) {
		return cp, nil, errClock
	}
	if cp.Root, err = tree.Root(tree.Size); err != nil {
		return cp, nil, err
	}
	text, err = cp.Sign(c.signer)
	return cp, text, err
}

// keepBatch bounds the leaves that are read at once.
const keepBatch = 1 << 16

// keep puts the checkpoint into the Vault, with the leaves since the one there.
func (c *checkpointing) keep(ctx context.Context, x *gate.LedgerTx, outside, newest ledger.Checkpoint, text []byte) error {
	if c.Vault == nil || newest.Size <= outside.Size {
		return nil
	}
	for from := outside.Size; from < newest.Size; from += keepBatch {
		leaves, err := hashes(ctx, x)([]ledger.Range{{From: from, To: min(from+keepBatch, newest.Size)}})
		if err != nil {
			return err
		}
		if err := c.Vault.KeepLeaves(ctx, c.origin, newest.Time, from, leaves[0]); err != nil {
			return err
		}
	}
	return c.Vault.Keep(ctx, newest, text)
}
