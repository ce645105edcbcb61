package main

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/store/blob"
)

// serveCommand runs the data plane.
type serveCommand struct {
	registryFlags
	placementFlags
	listenFlags
	networkFlags
	s3Flags
	PublicURL string `required:"" env:"CORDON_PUBLIC_URL" placeholder:"URL" help:"Origin that clients use, https://HOST."`
	Listen    string `env:"CORDON_LISTEN" default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address of FHIR and tokens."`

	Checkpoints string `env:"CORDON_CHECKPOINTS" placeholder:"DIR" help:"Directory or s3://BUCKET/PREFIX, out of reach of who can change the databases, for the signed checkpoints of the audit logs. Without one, changes of the audit trail by them cannot be proven."`

	Region         string         `env:"CORDON_REGION" help:"Region that this server runs in; tenants of others are refused. Default: none is."`
	TrustedProxies []netip.Prefix `env:"CORDON_TRUSTED_PROXIES" placeholder:"CIDR" help:"Proxies whose X-Forwarded-For is believed."`
	KeyAge         time.Duration  `env:"CORDON_KEY_AGE" placeholder:"DURATION" help:"How old the keys may be that sign tokens; then the next are made. Default: 2160h, 90 days."`
	Files          string         `env:"CORDON_FILES" placeholder:"DIR" help:"Directory or s3://BUCKET/PREFIX, the same for all servers, for the files of bulk exports. Default: there are no exports."`
	Turns          int            `env:"CORDON_TURNS" placeholder:"N" help:"How many requests of one tenant are in work at once while other tenants ask. Default: as many as there are processors, and 2 at least."`
	Origins        []string       `env:"CORDON_ORIGINS" placeholder:"ORIGIN" help:"Origins of pages that may call from a browser."`
}

// Run serves until ctx is done, lets running requests finish, and closes the
// databases.
func (s *serveCommand) Run(ctx context.Context, c console) error {
	log := oplog.New(slog.NewJSONHandler(c.err, nil))
	front, err := s.front(ctx, s.PublicURL, s.Listen)
	if err != nil {
		return err
	}
	defer front.close()
	kms, err := keys.NewFileKMS(s.KEKDir)
	if err != nil {
		return err
	}
	logRegistry, err := logRegistryURL(s.RegistryURL, s.LogURL)
	if err != nil {
		return err
	}
	var vault ledger.Vault
	if s.Checkpoints != "" {
		if vault, err = s.s3Flags.vault(ctx, s.Checkpoints); err != nil {
			return err
		}
	}

	objects, err := blob.NewReader(s.s3Flags.bucket(""), s.Files, s.Checkpoints)
	if err != nil {
		return err
	}
	ops := newOps(log)
	plane, err := openDataPlane(ctx, dataPlaneConfig{
		registryURL: s.RegistryURL, databaseURL: s.DatabaseURL, auditURL: s.AuditURL,
		logURL: s.LogURL, logRegistryURL: logRegistry, vault: vault,
		kms: kms, public: front.public, region: s.Region, proxies: s.TrustedProxies, origins: s.Origins, networks: s.networkFlags, keyAge: s.KeyAge,
		files: s.s3Flags.files(s.Files), objects: objects, turns: s.Turns,
		ops: ops, log: log,
	})
	if err != nil {
		return err
	}
	defer plane.close()
	return front.serve(ctx, log, ops, "FHIR", plane.handler)
}
