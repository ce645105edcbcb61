package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cordon-fhir/cordon/audit/ledger"
)

// auditWitnessCommand sees, as another party than who runs the servers, that the
// log of a tenant only grows.
type auditWitnessCommand struct {
	systemFlags
	Key    string        `required:"" placeholder:"KEY" help:"Public key of the log, as 'cordon audit key' printed it when the tenant was made."`
	Seen   string        `required:"" placeholder:"DIR" help:"Directory for what was seen. 'cordon audit verify --checkpoints DIR' verifies against it."`
	As     string        `placeholder:"NAME" help:"Sign what is seen as this witness: 'witness.example'. Default: it is not signed."`
	AsFile string        `placeholder:"FILE" help:"Private key of the witness; it is made if there is none. Its public key is printed."`
	Every  time.Duration `help:"Look again and again. Default: once."`
	Late   time.Duration `default:"5m" help:"How old the newest checkpoint may be."`
}

// Run looks once, or until a log does not go on.
func (w *auditWitnessCommand) Run(ctx context.Context, c console) error {
	key, err := ledger.ParseKey(w.Key)
	if err != nil {
		return err
	}
	signer, err := w.signer(c)
	if err != nil {
		return err
	}
	s, err := w.open(ctx, "auditor", "system/AuditEvent.rs")
	if err != nil {
		return err
	}
	witness := ledger.Witness{Key: key, Seen: ledger.Dir(w.Seen), Signer: signer, Late: w.Late}
	for {
		seen, err := witness.Look(ctx, logServer{s})
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%s: %d entries on %s\n", seen.Origin, seen.Size, seen.Time.UTC().Format(time.RFC3339))
		if w.Every == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(w.Every):
		}
	}
}

// signer returns the key of the witness, nil if it signs nothing.
func (w *auditWitnessCommand) signer(c console) (ledger.Signer, error) {
	if (w.As == "") != (w.AsFile == "") {
		return nil, errors.New("--as needs --as-file, and it --as")
	}
	if w.As == "" {
		return nil, nil
	}
	return keptSigner(c, w.As, w.AsFile)
}

// A logServer asks the operations of a server for what a ledger.Witness needs.
type logServer struct{ *system }

// Checkpoint implements ledger.Server.
func (l logServer) Checkpoint(ctx context.Context) ([]byte, error) {
	p, err := l.proof(ctx, "/AuditEvent/$log-checkpoint")
	return p.Checkpoint, err
}

// Consistency implements ledger.Server.
func (l logServer) Consistency(ctx context.Context, from, to int64) (ledger.Proof, error) {
	return l.proof(ctx, fmt.Sprintf("/AuditEvent/$log-consistency?from=%d&to=%d", from, to))
}

// maxProof bounds a proof, in bytes.
const maxProof = 1 << 20

func (l logServer) proof(ctx context.Context, path string) (ledger.Proof, error) {
	resp, err := l.ask(ctx, http.MethodGet, l.base+path, nil, http.StatusOK)
	if err != nil {
		return ledger.Proof{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxProof))
	if err != nil {
		return ledger.Proof{}, fmt.Errorf("reading a proof: %w", err)
	}
	return ledger.ParseProof(text)
}
