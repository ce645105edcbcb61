package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/control"
	"github.com/cordon-fhir/cordon/evidence"
)

// evidenceCommand is about directories that show a reviewer where data is, who can
// reach it and how that is proven.
type evidenceCommand struct {
	Write  evidenceWriteCommand  `cmd:"" default:"withargs" help:"Write a directory of evidence, signed."`
	Verify evidenceVerifyCommand `cmd:"" help:"Show that a directory of evidence is as it was signed, without any server."`
}

type evidenceWriteCommand struct {
	ofTenant
	trailFlags
	Results string `placeholder:"FILE" help:"Results of the tests, as 'make results' writes them. Default: none, and no requirement is evidenced."`
	NoAudit bool   `help:"Do not verify the audit trail."`
	Out     string `arg:"" placeholder:"DIR" help:"Directory to make."`
}

// Run writes the directory and prints what it says.
func (w *evidenceWriteCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var shown control.AuditKey
	if err := api.do(ctx, http.MethodGet, w.path("audit-key"), nil, &shown); err != nil {
		return err
	}
	key, err := ledger.ParseKey(shown.Key)
	if err != nil {
		return err
	}
	pack, err := w.given(ctx, shown.Key, key)
	if err != nil {
		return err
	}
	var ask control.EvidenceRequest
	for _, name := range slices.Sorted(maps.Keys(pack)) {
		ask.Given = append(ask.Given, evidence.SumOf(name, pack[name]))
	}
	var stated control.Evidence
	if err := api.do(ctx, http.MethodPost, w.path("evidence"), ask, &stated); err != nil {
		return err
	}
	pack[evidence.FactsFile], pack[evidence.PolicyFile] = []byte(stated.Facts), []byte(stated.Policy)
	contents, err := pack.Write(w.Out, []byte(stated.Statement), key)
	if err != nil {
		return err
	}
	return printLines(c, contents.Summary())
}

// given returns the files that the control plane does not know.
func (w *evidenceWriteCommand) given(ctx context.Context, keyText string, key ledger.Key) (evidence.Pack, error) {
	pack := evidence.Pack{}
	if w.Results != "" {
		text, err := os.ReadFile(w.Results)
		if err != nil {
			return nil, fmt.Errorf("reading the results of tests: %w", err)
		}
		pack[evidence.ResultsFile] = text
	}
	if w.NoAudit {
		return pack, nil
	}
	vault, err := w.vault(ctx, w.Dir)
	if err != nil {
		return nil, err
	}
	checkpoint, err := vault.Last(ctx, key.Name())
	if err != nil {
		return nil, err
	}
	if checkpoint == nil {
		return nil, errors.New("the audit log has no checkpoint yet: wait for 10 seconds, or use --no-audit")
	}
	pack[evidence.CheckpointFile] = checkpoint
	pack[evidence.AuditFile], err = w.audit(ctx, keyText, key)
	return pack, err
}

// audit verifies the audit trail, and returns what was found.
func (w *evidenceWriteCommand) audit(ctx context.Context, keyText string, key ledger.Key) ([]byte, error) {
	begun := time.Now()
	found := evidence.Audit{Key: keyText, At: begun.UTC().Truncate(time.Second), Faults: []string{}}
	report, err := w.verify(ctx, w.Dir, w.Tenant, key, func(f ledger.Fault) {
		found.Faults = append(found.Faults, fmt.Sprintf("%s: %s", f.Kind, f.Text))
	})
	if err != nil {
		return nil, err
	}
	found.Took = time.Since(begun).Round(time.Second).String()
	found.Entries, found.Signed, found.Waiting, found.Removed = report.Leaves, report.Signed, report.Waiting, report.Removed
	found.Checkpoints, found.Newest = report.Checkpoints, report.Newest.Time
	text, err := json.MarshalIndent(found, "", " ")
	if err != nil {
		return nil, fmt.Errorf("writing evidence: %w", err)
	}
	return text, nil
}

type evidenceVerifyCommand struct {
	Key string `required:"" placeholder:"KEY" help:"Public key of the tenant's audit log, as 'cordon audit key' printed it when the tenant was made."`
	In  string `arg:"" placeholder:"DIR" help:"Directory of evidence."`
}

// Run prints what the directory says, if it is as it was signed.
func (v *evidenceVerifyCommand) Run(c console) error {
	key, err := ledger.ParseKey(v.Key)
	if err != nil {
		return err
	}
	contents, err := evidence.Verify(os.DirFS(v.In), key)
	if err != nil {
		return err
	}
	return printLines(c, append(contents.Summary(), "the evidence is as it was signed"))
}
