package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/control"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// auditCommand is about the logs that are made of audit trails.
type auditCommand struct {
	Key    auditKeyCommand    `cmd:"" help:"Print the public key of an audit log, to be kept where it is verified; or list all that it had, or make the next."`
	Verify auditVerifyCommand `cmd:"" help:"Hold an audit trail against its checkpoints, and name what was changed."`
	Proof  auditProofCommand  `cmd:"" help:"Check a proof that the API gave, without any server."`

	Affected auditAffectedCommand `cmd:"" help:"List the patients whose records a user, an app, an address or a token saw or changed."`
	Export   auditExportCommand   `cmd:"" help:"Write entries of an audit trail to a file that proves itself; or verify one."`
	Custody  auditCustodyCommand  `cmd:"" help:"Keep the chain of custody of an export."`
	Platform auditPlatformCommand `cmd:"" help:"List and verify the trail of what belongs to no tenant."`
	Hold     auditHoldCommand     `cmd:"" help:"List, place and lift legal holds."`
	Witness  auditWitnessCommand  `cmd:"" help:"See that a log goes on from what was seen of it, as another party, and keep that."`
}

// auditKeyCommand is about the keys that sign for audit logs.
type auditKeyCommand struct {
	Show   auditKeyShowCommand   `cmd:"" default:"withargs" help:"Print the public key of an audit log."`
	List   auditKeyListCommand   `cmd:"" help:"List the keys that an audit log had, with their times."`
	Rotate auditKeyRotateCommand `cmd:"" help:"Make the next key of an audit log. The one before names it, and signs beside it for a day."`
}

type auditKeyFlags struct {
	controlFlags
	Tenant string `help:"Slug of the tenant. Default: the platform."`
}

func (k auditKeyFlags) path() string {
	if k.Tenant == "" {
		return "/audit-key"
	}
	return tenantPath(k.Tenant, "audit-key")
}

type auditKeyShowCommand struct{ auditKeyFlags }

// Run prints the key.
func (k *auditKeyShowCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var key control.AuditKey
	if err := api.do(ctx, http.MethodGet, k.path(), nil, &key); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.out, key.Key)
	return err
}

type auditKeyListCommand struct{ auditKeyFlags }

// Run prints the keys, the newest last.
func (k *auditKeyListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var shown control.AuditKey
	if err := api.do(ctx, http.MethodGet, k.path(), nil, &shown); err != nil {
		return err
	}
	for _, one := range shown.Keys {
		until := ""
		if !one.Until.IsZero() {
			until = " until " + one.Until.UTC().Format(time.RFC3339)
		}
		if _, err := fmt.Fprintf(c.out, "%s since %s%s\n", one.Key, one.Since.UTC().Format(time.RFC3339), until); err != nil {
			return err
		}
	}
	return nil
}

type auditKeyRotateCommand struct {
	auditKeyFlags
	Compromised bool `help:"Somebody else may have the key: it signs no longer beside the next."`
}

// Run makes the key, and prints it.
func (k *auditKeyRotateCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var key control.AuditKey
	if err := api.do(ctx, http.MethodPost, k.path(), map[string]bool{"alone": k.Compromised}, &key); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.out, key.Key)
	return err
}

// trailFlags say where the rows of an audit trail are, and its checkpoints.
type trailFlags struct {
	RegistryURL string `env:"CORDON_REGISTRY_URL" placeholder:"URL" help:"PostgreSQL URL of the registry, as role cordon_registry, if it is not a development server's."`
	LogURL      string `env:"CORDON_LOG_URL" placeholder:"URL" help:"PostgreSQL URL of the clinical database, as role cordon_log."`
	KEKDir      string `name:"kek-dir" env:"CORDON_KEK_DIR" placeholder:"DIR" help:"Directory of the key-encryption keys."`
	Checkpoints string `env:"CORDON_CHECKPOINTS" placeholder:"DIR" help:"Directory or s3://BUCKET/PREFIX of the checkpoints. Default: that of the development server."`
	s3Flags
	Late time.Duration `default:"5m" help:"How long an entry may take to come into the log, and how far clocks may differ."`
}

// auditVerifyCommand recomputes a log from the rows of the database. It believes
// the key that it is given and what was signed with it, and nothing else: the
// other flags say where the rows are.
type auditVerifyCommand struct {
	Dir devDir `default:"dev" env:"CORDON_DIR" placeholder:"DIR" help:"Directory of the development server. Default: dev."`
	trailFlags
	Tenant string `help:"Slug of the tenant. Default: the platform."`
	Key    string `required:"" placeholder:"KEY" help:"Public key of the log, as 'cordon audit key' printed it when the tenant was made."`
}

// Run prints what is wrong, if anything is, and what was seen.
func (v *auditVerifyCommand) Run(ctx context.Context, c console) error {
	key, err := ledger.ParseKey(v.Key)
	if err != nil {
		return err
	}
	report, err := v.verify(ctx, v.Dir, v.Tenant, key, func(f ledger.Fault) { fmt.Fprintf(c.out, "%s: %s\n", f.Kind, f.Text) })
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s: %d entries in the log, %d signed, %d yet to come into it; %d checkpoints, the newest of %s\n",
		key.Name(), report.Leaves, report.Signed, report.Waiting, report.Checkpoints, report.Newest.Time.UTC().Format(time.RFC3339))
	if report.Removed > 0 {
		fmt.Fprintf(c.out, "%d of the entries were removed when their time was up, as signed tombstones say\n", report.Removed)
	}
	if report.Faults > 0 {
		return fmt.Errorf("%d faults: the audit trail is not as it was signed", report.Faults)
	}
	_, err = fmt.Fprintln(c.out, "the audit trail is as it was signed")
	return err
}

// verify holds the trail of a tenant, that of the platform for "", against its
// checkpoints, and tells of each fault.
func (f trailFlags) verify(ctx context.Context, dir devDir, slug string, key ledger.Key, tell func(ledger.Fault)) (ledger.Report, error) {
	if key.Name() != ledger.Origin(cmp.Or(slug, ledger.Platform)) {
		return ledger.Report{}, errors.New("the key is the one of another log: " + key.Name())
	}
	vault, err := f.vault(ctx, dir)
	if err != nil {
		return ledger.Report{}, err
	}
	verifier, err := ledger.NewVerifier(ledger.Rules{Key: key, Late: f.Late}, vault.Kept(ctx), tell)
	if err != nil {
		return ledger.Report{}, err
	}
	return f.rows(ctx, dir, slug, verifier)
}

// vault is where the checkpoints are.
func (f trailFlags) vault(ctx context.Context, dir devDir) (ledger.Vault, error) {
	return f.s3Flags.vault(ctx, cmp.Or(f.Checkpoints, dir.path("checkpoints")))
}

// rows gives the rows of the trail to the verifier.
func (f trailFlags) rows(ctx context.Context, dir devDir, slug string, verifier *ledger.Verifier) (r ledger.Report, err error) {
	urls, err := f.urls(dir)
	if err != nil {
		return r, err
	}
	kek := f.KEKDir
	if f.RegistryURL == "" {
		kek = dir.path("kek")
	}
	kms, err := keys.NewFileKMS(kek)
	if err != nil {
		return r, err
	}
	registry, err := store.OpenRegistry(ctx, urls.Registry, kms)
	if err != nil {
		return r, err
	}
	defer registry.Close()
	l, err := store.OpenLedger(store.LedgerConfig{
		DatabaseURL: urls.Log, RegistryURL: urls.LogRegistry, Registry: registry, Keys: keys.NewKeyring(registry, kms),
	})
	if err != nil {
		return r, err
	}
	defer l.Close()
	var t *tenant.Tenant
	if slug != "" {
		if t, err = tenant.NewRegistry(registry).Tenant(ctx, slug); err != nil {
			return r, err
		}
	}
	return l.Verify(ctx, t, verifier)
}

// urls says where the rows are.
func (f trailFlags) urls(dir devDir) (urls store.URLs, err error) {
	if f.RegistryURL == "" {
		return urls, readJSON(dir.path("database.json"), &urls)
	}
	if f.LogURL == "" || f.KEKDir == "" {
		return urls, errors.New("--registry-url needs --log-url and --kek-dir")
	}
	urls.Registry, urls.Log = f.RegistryURL, f.LogURL
	urls.LogRegistry, err = logRegistryURL(f.RegistryURL, f.LogURL)
	return urls, err
}

type auditProofCommand struct {
	File       string   `arg:"" help:"File with the proof: the Parameters that the operation answered with."`
	Key        string   `required:"" placeholder:"KEY" help:"Public key of the log."`
	Checkpoint []string `placeholder:"FILE" help:"Checkpoint that the proof is about, if it is not in it. May be given twice."`
}

// Run prints what the file proves.
func (p *auditProofCommand) Run(c console) error {
	key, err := ledger.ParseKey(p.Key)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(p.File)
	if err != nil {
		return fmt.Errorf("reading a proof: %w", err)
	}
	proof, err := ledger.ParseProof(text)
	if err != nil {
		return err
	}
	var known [][]byte
	for _, file := range p.Checkpoint {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading a checkpoint: %w", err)
		}
		known = append(known, text)
	}
	proves, err := proof.Check(key, known...)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, proves)
	return err
}
