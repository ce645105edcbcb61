package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
	Key    auditKeyCommand    `cmd:"" help:"Print the public key of an audit log, to be kept where it is verified."`
	Verify auditVerifyCommand `cmd:"" help:"Hold an audit trail against its checkpoints, and name what was changed."`
	Proof  auditProofCommand  `cmd:"" help:"Check a proof that the API gave, without any server."`
}

type auditKeyCommand struct {
	controlFlags
	Tenant string `help:"Slug of the tenant. Default: the platform."`
}

// Run prints the key.
func (k *auditKeyCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	path := "/audit-key"
	if k.Tenant != "" {
		path = "/tenants/" + url.PathEscape(k.Tenant) + path
	}
	var key control.AuditKey
	if err := api.do(ctx, http.MethodGet, path, nil, &key); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.out, key.Key)
	return err
}

// auditVerifyCommand recomputes a log from the rows of the database. It believes
// the key that it is given and what was signed with it, and nothing else: the
// other flags say where the rows are.
type auditVerifyCommand struct {
	Dir         devDir        `default:"dev" env:"CORDON_DIR" placeholder:"DIR" help:"Directory of the development server. Default: dev."`
	RegistryURL string        `env:"CORDON_REGISTRY_URL" placeholder:"URL" help:"PostgreSQL URL of the registry, as role cordon_registry, if it is not a development server's."`
	LogURL      string        `env:"CORDON_LOG_URL" placeholder:"URL" help:"PostgreSQL URL of the clinical database, as role cordon_log."`
	KEKDir      string        `name:"kek-dir" env:"CORDON_KEK_DIR" placeholder:"DIR" help:"Directory of the key-encryption keys."`
	Checkpoints string        `env:"CORDON_CHECKPOINTS" placeholder:"DIR" help:"Directory of the checkpoints. Default: that of the development server."`
	Tenant      string        `help:"Slug of the tenant. Default: the platform."`
	Key         string        `required:"" placeholder:"KEY" help:"Public key of the log, as 'cordon audit key' printed it when the tenant was made."`
	Late        time.Duration `default:"5m" help:"How long an entry may take to come into the log, and how far clocks may differ."`
}

// Run prints what is wrong, if anything is, and what was seen.
func (v *auditVerifyCommand) Run(ctx context.Context, c console) error {
	key, err := ledger.ParseKey(v.Key)
	if err != nil {
		return err
	}
	slug := v.Tenant
	if slug == "" {
		slug = ledger.Platform
	}
	if key.Name() != ledger.Origin(slug) {
		return errors.New("the key is the one of another log: " + key.Name())
	}
	verifier, err := ledger.NewVerifier(ledger.Rules{Key: key, Late: v.Late}, ledger.Dir(v.checkpoints()), func(f ledger.Fault) {
		fmt.Fprintf(c.out, "%s: %s\n", f.Kind, f.Text)
	})
	if err != nil {
		return err
	}
	report, err := v.rows(ctx, verifier)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s: %d entries in the log, %d signed, %d yet to come into it; %d checkpoints, the newest of %s\n",
		key.Name(), report.Leaves, report.Signed, report.Waiting, report.Checkpoints, report.Newest.Time.UTC().Format(time.RFC3339))
	if report.Faults > 0 {
		return fmt.Errorf("%d faults: the audit trail is not as it was signed", report.Faults)
	}
	_, err = fmt.Fprintln(c.out, "the audit trail is as it was signed")
	return err
}

func (v *auditVerifyCommand) checkpoints() string {
	if v.Checkpoints == "" {
		return v.Dir.path("checkpoints")
	}
	return v.Checkpoints
}

// rows gives the rows of the trail to the verifier.
func (v *auditVerifyCommand) rows(ctx context.Context, verifier *ledger.Verifier) (r ledger.Report, err error) {
	urls, err := v.urls()
	if err != nil {
		return r, err
	}
	kms, err := keys.NewFileKMS(v.KEKDir)
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
	if v.Tenant != "" {
		if t, err = tenant.NewRegistry(registry).Tenant(ctx, v.Tenant); err != nil {
			return r, err
		}
	}
	return l.Verify(ctx, t, verifier)
}

// urls says where the rows are.
func (v *auditVerifyCommand) urls() (urls store.URLs, err error) {
	if v.RegistryURL == "" {
		v.KEKDir = v.Dir.path("kek")
		return urls, readJSON(v.Dir.path("database.json"), &urls)
	}
	if v.LogURL == "" || v.KEKDir == "" {
		return urls, errors.New("--registry-url needs --log-url and --kek-dir")
	}
	urls.Registry, urls.Log = v.RegistryURL, v.LogURL
	urls.LogRegistry, err = logRegistryURL(v.RegistryURL, v.LogURL)
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
