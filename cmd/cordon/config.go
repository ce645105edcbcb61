package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/blob"
)

// Addresses, keys and databases, as flags or from the environment. What holds
// a password is better in the environment: others can see a command line.

// registryFlags say where the record of tenants is and what opens their keys.
type registryFlags struct {
	RegistryURL string `required:"" env:"CORDON_REGISTRY_URL" placeholder:"URL" help:"PostgreSQL URL of the registry, as role cordon_registry."`
	KEKDir      string `name:"kek-dir" required:"" env:"CORDON_KEK_DIR" placeholder:"DIR" help:"Directory of the key-encryption keys."`
}

// placementFlags say where the tenants without a database of their own are.
type placementFlags struct {
	DatabaseURL string `required:"" env:"CORDON_DATABASE_URL" placeholder:"URL" help:"PostgreSQL URL of the clinical database, as role cordon_app."`
	AuditURL    string `required:"" env:"CORDON_AUDIT_URL" placeholder:"URL" help:"The same, as role cordon_audit."`
	LogURL      string `required:"" env:"CORDON_LOG_URL" placeholder:"URL" help:"The same, as role cordon_log."`
}

// s3Flags say where the buckets are that other flags name, and who asks for them.
type s3Flags struct {
	S3Endpoint  string `name:"s3-endpoint" env:"CORDON_S3_ENDPOINT" placeholder:"URL" help:"Origin of the S3 server of s3:// URLs. Default: that of AWS."`
	S3Region    string `name:"s3-region" env:"CORDON_S3_REGION" help:"Region of its buckets. Default: what it says."`
	S3AccessKey string `name:"s3-access-key" env:"CORDON_S3_ACCESS_KEY" placeholder:"KEY" help:"Access key. Default: what AWS's own variables, file or the role of the machine say."`
	S3SecretKey string `name:"s3-secret-key" env:"CORDON_S3_SECRET_KEY" placeholder:"KEY" help:"Secret key."`
}

// bucket is the one with the URL.
func (f s3Flags) bucket(url string) blob.S3Config {
	return blob.S3Config{URL: url, Endpoint: f.S3Endpoint, Region: f.S3Region, AccessKey: f.S3AccessKey, SecretKey: f.S3SecretKey}
}

// files is a place of files: a directory, or the URL of a bucket.
func (f s3Flags) files(place string) store.FilesConfig {
	if blob.IsS3(place) {
		return store.FilesConfig{S3: f.bucket(place)}
	}
	return store.FilesConfig{Dir: place}
}

// vault is a place of checkpoints, as files is of files.
func (f s3Flags) vault(ctx context.Context, place string) (ledger.Vault, error) {
	if !blob.IsS3(place) {
		return ledger.Dir(place), nil
	}
	objects, err := blob.OpenS3(ctx, f.bucket(place))
	if err != nil {
		return nil, err
	}
	return ledger.NewBucket(objects), nil
}

// listenFlags say where a plane answers.
type listenFlags struct {
	OpsListen string `env:"CORDON_OPS_LISTEN" default:"127.0.0.1:8082" placeholder:"ADDR" help:"Address of health and metrics."`
	TLSCert   string `name:"tls-cert" env:"CORDON_TLS_CERT" placeholder:"FILE" help:"Certificate chain in PEM. Without it, TLS is for the proxy in front."`
	TLSKey    string `name:"tls-key" env:"CORDON_TLS_KEY" placeholder:"FILE" help:"Private key in PEM."`
}

// networkFlags say which networks a server may go to, besides the public internet,
// where tenants or their clients say so.
type networkFlags struct {
	TerminologyNetworks  []netip.Prefix `env:"CORDON_TERMINOLOGY_NETWORKS" placeholder:"CIDR" help:"Networks, other than the public internet, in which tenants' terminology servers may be."`
	IdentityNetworks     []netip.Prefix `env:"CORDON_IDENTITY_NETWORKS" placeholder:"CIDR" help:"Networks, other than the public internet, in which tenants' identity providers and issuers may be."`
	ClientNetworks       []netip.Prefix `env:"CORDON_CLIENT_NETWORKS" placeholder:"CIDR" help:"Networks, other than the public internet, in which clients may publish their keys."`
	SubscriptionNetworks []netip.Prefix `env:"CORDON_SUBSCRIPTION_NETWORKS" placeholder:"CIDR" help:"Networks, other than the public internet, in which endpoints of subscriptions may be."`
	ImportNetworks       []netip.Prefix `env:"CORDON_IMPORT_NETWORKS" placeholder:"CIDR" help:"Networks, other than the public internet, in which sources of bulk imports may be."`
	AlertNetworks        []netip.Prefix `env:"CORDON_ALERT_NETWORKS" placeholder:"CIDR" help:"Networks, other than the public internet, in which webhooks for alerts may be."`
}

// ownerFlags let a command act as the owner of the databases.
type ownerFlags struct {
	OwnerURL string `required:"" env:"CORDON_OWNER_URL" placeholder:"URL" help:"PostgreSQL URL of the role that owns the databases."`
	KEK      string `name:"kek" default:"file://root" env:"CORDON_KEK" placeholder:"URI" help:"Key-encryption key for new tenants."`
}

// migratorConfig returns what a Migrator needs. The passwords of the roles are
// those in the URLs that the servers use.
func (o ownerFlags) migratorConfig(kms keys.KMS, r registryFlags, p placementFlags) (store.MigratorConfig, error) {
	cfg := store.MigratorConfig{OwnerURL: o.OwnerURL, KMS: kms, KEK: o.KEK}
	for _, role := range []struct {
		url, name string
		secret    *string
	}{
		{p.DatabaseURL, "cordon_app", &cfg.Secrets.App},
		{p.AuditURL, "cordon_audit", &cfg.Secrets.Audit},
		{p.LogURL, "cordon_log", &cfg.Secrets.Log},
		{r.RegistryURL, "cordon_registry", &cfg.Secrets.Registry},
	} {
		u, err := url.Parse(role.url)
		if err != nil {
			return cfg, fmt.Errorf("the URL of role %s is malformed", role.name) // err would repeat the password
		}
		secret, ok := u.User.Password()
		if u.User.Username() != role.name || !ok {
			return cfg, fmt.Errorf("the URL of role %s needs that user and a password", role.name)
		}
		*role.secret = secret
	}
	return cfg, nil
}

// logRegistryURL returns the URL of the registry for the user of another URL: the
// role of the audit logs is the same in both databases.
func logRegistryURL(registryURL, logURL string) (string, error) {
	registry, err := url.Parse(registryURL)
	if err != nil {
		return "", errors.New("the URL of the registry is malformed") // err would repeat the password
	}
	log, err := url.Parse(logURL)
	if err != nil || log.User == nil {
		return "", errors.New("the URL of role cordon_log is malformed, or has no user")
	}
	registry.User = log.User
	return registry.String(), nil
}

// publicURL is the origin that clients use, without a slash at its end.
type publicURL string

// parsePublicURL reads an origin: http or https and a host, nothing more.
func parsePublicURL(s string) (publicURL, error) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return "", errors.New("the public URL must be https://HOST, without a path")
	}
	return publicURL(u.Scheme + "://" + u.Host), nil
}

func (p publicURL) fhir(slug string) string   { return string(p) + "/fhir/" + slug }
func (p publicURL) issuer(slug string) string { return string(p) + "/auth/" + slug }
