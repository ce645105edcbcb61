package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// ErrNoIssuer says that a tenant trusts no authorization server outside of
// Cordon.
var ErrNoIssuer = errors.New("store: the tenant has its own authorization server")

// ErrSharedAudience says that another tenant trusts the issuer for the same
// audience: a token would be good at both.
var ErrSharedAudience = errors.New("store: another tenant trusts the issuer for this audience")

// Issuer returns the outside issuer that the tenant trusts, and its version: 0 if
// it has its own authorization server.
func (r *Registry) Issuer(ctx context.Context, t *tenant.Tenant) (is smart.Issuer, version int64, err error) {
	var config, sealed []byte
	var kek string
	err = gate.Steadily(func() error {
		return r.pool.QueryRow(ctx, `
			SELECT i.version, i.config, i.secret, t.kek
			FROM   registry.outside_issuer i
			JOIN   registry.tenant         t ON t.id = i.tenant_id
			WHERE  i.tenant_id = $1`, t.ID.Int()).Scan(&version, &config, &sealed, &kek)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return smart.Issuer{}, 0, nil
	}
	if err == nil {
		err = json.Unmarshal(config, &is)
	}
	if err == nil && sealed != nil {
		var secret []byte
		secret, err = keys.Unwrap(r.kms, kek, sealed, issuerAD(t))
		is.Secret = string(secret)
	}
	if err != nil {
		return smart.Issuer{}, 0, fmt.Errorf("reading the outside issuer of %s: %w", t.Slug, err)
	}
	return is, version, nil
}

// Trusting returns the slug of the tenant that trusts the issuer for an audience
// which is not its FHIR base, "" if there is none.
func (r *Registry) Trusting(ctx context.Context, issuer, audience string) (slug string, err error) {
	err = gate.Steadily(func() error {
		return r.pool.QueryRow(ctx, `
			SELECT t.slug
			FROM   registry.outside_issuer i
			JOIN   registry.tenant         t ON t.id = i.tenant_id
			WHERE  i.issuer = $1 AND i.audience = $2`, issuer, audience).Scan(&slug)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking up who trusts an issuer: %w", err)
	}
	return slug, nil
}

// PutIssuer makes the tenant trust the issuer instead of its own authorization
// server, or replaces the one that it trusted. created tells which.
func (r *Registry) PutIssuer(ctx context.Context, t *tenant.Tenant, is smart.Issuer) (created bool, err error) {
	config, err := json.Marshal(is)
	if err != nil {
		return false, fmt.Errorf("storing an outside issuer: %w", err)
	}
	var sealed []byte
	if is.Secret != "" {
		var kek string
		err := r.pool.QueryRow(ctx, `SELECT kek FROM registry.tenant WHERE id = $1`, t.ID.Int()).Scan(&kek)
		if err == nil {
			sealed, err = keys.Wrap(r.kms, kek, []byte(is.Secret), issuerAD(t))
		}
		if err != nil {
			return false, fmt.Errorf("sealing the secret for the outside issuer of %s: %w", t.Slug, err)
		}
	}
	err = r.pool.QueryRow(ctx, `
		INSERT INTO registry.outside_issuer (tenant_id, version, issuer, audience, config, secret)
		VALUES ($1, nextval('registry.outside_issuer_version'), $2, nullif($3, ''), $4, $5)
		ON CONFLICT (tenant_id) DO UPDATE
		SET    version = excluded.version, issuer = excluded.issuer, audience = excluded.audience,
		       config = excluded.config, secret = excluded.secret, updated = now()
		RETURNING xmax = 0`, t.ID.Int(), is.URL, is.Audience, string(config), sealed).Scan(&created)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23505" {
		return false, ErrSharedAudience
	}
	if err != nil {
		return false, fmt.Errorf("storing the outside issuer of %s: %w", t.Slug, scrubbed(err))
	}
	return created, nil
}

// RemoveIssuer gives the tenant its own authorization server back, or returns
// ErrNoIssuer if it has that.
func (r *Registry) RemoveIssuer(ctx context.Context, t *tenant.Tenant) error {
	tag, err := r.pool.Exec(ctx, `DELETE FROM registry.outside_issuer WHERE tenant_id = $1`, t.ID.Int())
	if err != nil {
		return fmt.Errorf("removing the outside issuer of %s: %w", t.Slug, scrubbed(err))
	}
	if tag.RowsAffected() == 0 {
		return ErrNoIssuer
	}
	return nil
}

// issuerAD binds a sealed secret to the tenant whose issuer it is for.
func issuerAD(t *tenant.Tenant) []byte { return placementAD(t.ID.Int(), "issuer") }
