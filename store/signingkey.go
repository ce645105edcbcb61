package store

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// A SigningKey signs the ID tokens of a tenant, RS256.
// https://openid.net/specs/openid-connect-core-1_0.html#IDToken
type SigningKey struct {
	ID      string // kid
	Key     *rsa.PrivateKey
	Created time.Time
}

// A key signs once everyone who has looked at the keys in the last minutes can
// know it, and stays known until the tokens that it has signed have expired.
const (
	keyAnnounced = "3 minutes"
	keyKept      = "1 day"
)

// SigningKeys returns the keys that ID tokens of the tenant may be signed with:
// first the one that signs. A tenant that has none gets one. They are
// remembered for Lifetime.
func (r *Registry) SigningKeys(ctx context.Context, t *tenant.Tenant) ([]SigningKey, error) {
	now := time.Now()
	r.mu.Lock()
	known, ok := r.signing[t.ID.Int()]
	r.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.keys, nil
	}
	list, err := r.signingKeys(ctx, t)
	if err == nil && len(list) == 0 {
		if err = r.addIDKey(ctx, t, true, false); err == nil {
			list, err = r.signingKeys(ctx, t)
		}
	}
	if err == nil && len(list) == 0 {
		err = errors.New("there is none")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the signing keys of %s: %w", t.Slug, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.signing[t.ID.Int()] = openSigning{list, now.Add(r.Lifetime)}
	return list, nil
}

type openSigning struct {
	keys  []SigningKey
	until time.Time
}

func (r *Registry) signingKeys(ctx context.Context, t *tenant.Tenant) ([]SigningKey, error) {
	var list []SigningKey
	err := gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, `
			SELECT kid, kek, data, created
			FROM   registry.signing_key
			WHERE  tenant_id = $1
			ORDER  BY created < now() - $2::interval DESC,
			          CASE WHEN created < now() - $2::interval THEN created END DESC, created, kid`,
			t.ID.Int(), keyAnnounced)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (SigningKey, error) {
			var k SigningKey
			var kek string
			var sealed []byte
			if err := row.Scan(&k.ID, &kek, &sealed, &k.Created); err != nil {
				return k, err
			}
			der, err := keys.Unwrap(r.kms, kek, sealed, signingAD(t, k.ID))
			if err != nil {
				return k, err
			}
			k.Key, err = x509.ParsePKCS1PrivateKey(der)
			return k, err
		})
		return err
	})
	return list, err
}

func signingAD(t *tenant.Tenant, kid string) []byte { return placementAD(t.ID.Int(), "signing|"+kid) }

// RotateKeys makes the tenant's next keys, for access tokens and for ID tokens.
// They sign as soon as every server can know them; those before them are believed
// for a day. With alone they sign at once, and no other is believed: what is in
// the hands of a thief is worth nothing once servers have forgotten the old.
func (r *Registry) RotateKeys(ctx context.Context, t *tenant.Tenant, alone bool) error {
	if err := r.addAccessKey(ctx, t, alone, 0); err != nil {
		return err
	}
	return r.addIDKey(ctx, t, false, alone)
}

// addAccessKey makes a key if the youngest that there is has the age.
func (r *Registry) addAccessKey(ctx context.Context, t *tenant.Tenant, alone bool, age time.Duration) error {
	var kek string
	var due bool
	err := r.pool.QueryRow(ctx, `
		SELECT t.kek, greatest(t.created, (SELECT max(created) FROM registry.access_key WHERE tenant_id = $1)) <= now() - $2::interval
		FROM   registry.tenant t
		WHERE  t.id = $1`, t.ID.Int(), age).Scan(&kek, &due)
	if err != nil {
		return fmt.Errorf("making a key for access tokens of %s: %w", t.Slug, scrubbed(err))
	}
	if !due {
		return nil
	}
	w, err := keys.GenerateSigning(r.kms, kek, t.ID)
	if err != nil {
		return fmt.Errorf("making a key for access tokens of %s: %w", t.Slug, err)
	}
	// What nobody believes any more need not be kept.
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `
		WITH gone AS (
		    DELETE FROM registry.access_key old
		    WHERE  tenant_id = $1 AND ($5 OR EXISTS (
		               SELECT FROM registry.access_key next
		               WHERE  next.tenant_id = $1 AND next.created > old.created AND next.created < now() - $6::interval))
		)
		INSERT INTO registry.access_key (tenant_id, fingerprint, kek, data, alone)
		VALUES ($1, $2, $3, $4, $5)`, t.ID.Int(), w.Fingerprint, w.KEK, w.Data, alone, keyKept); err != nil {
			return err
		}
		return tellKey(ctx, tx, "made a key for access tokens of tenant "+t.Slug.String()+": "+hex.EncodeToString(w.Fingerprint))
	})
	if err != nil {
		return fmt.Errorf("storing a key for access tokens of %s: %w", t.Slug, scrubbed(err))
	}
	return nil
}

// RotateOldKeys makes the next keys of the tenant, for access tokens and for ID
// tokens, where the youngest has the age. Servers that do so at once may make
// one each: the youngest signs, and all are known.
func (r *Registry) RotateOldKeys(ctx context.Context, t *tenant.Tenant, age time.Duration) error {
	if err := r.addAccessKey(ctx, t, false, age); err != nil {
		return err
	}
	var due bool
	err := r.pool.QueryRow(ctx, `
		SELECT coalesce(max(created) <= now() - $2::interval, false)
		FROM   registry.signing_key
		WHERE  tenant_id = $1`, t.ID.Int(), age).Scan(&due)
	if err != nil {
		return fmt.Errorf("looking for old keys of %s: %w", t.Slug, scrubbed(err))
	}
	if !due {
		return nil
	}
	return r.addIDKey(ctx, t, false, false)
}

// addIDKey makes a key that signs as soon as it can be known; first says that it
// is made only if the tenant has none. The one before it stays known for a day,
// those before that are removed; with alone all are, and it signs at once.
func (r *Registry) addIDKey(ctx context.Context, t *tenant.Tenant, first, alone bool) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("making a signing key: %w", err)
	}
	thumb, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return fmt.Errorf("naming a signing key: %w", err)
	}
	kid := base64.RawURLEncoding.EncodeToString(thumb)
	var kek string
	if err := r.pool.QueryRow(ctx, `SELECT kek FROM registry.tenant WHERE id = $1`, t.ID.Int()).Scan(&kek); err != nil {
		return fmt.Errorf("making a signing key: %w", scrubbed(err))
	}
	sealed, err := keys.Wrap(r.kms, kek, x509.MarshalPKCS1PrivateKey(key), signingAD(t, kid))
	if err != nil {
		return fmt.Errorf("making a signing key: %w", err)
	}
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		made, err := tx.Exec(ctx, `
		WITH gone AS (
		    DELETE FROM registry.signing_key old
		    WHERE  tenant_id = $1 AND ($7 OR EXISTS (
		               SELECT FROM registry.signing_key next
		               WHERE  next.tenant_id = $1 AND next.created > old.created AND next.created < now() - $6::interval))
		)
		INSERT INTO registry.signing_key (tenant_id, kid, kek, data, created)
		SELECT $1, $2, $3, $4, CASE WHEN $7 THEN now() - $8::interval ELSE now() END
		WHERE  NOT $5 OR NOT EXISTS (SELECT FROM registry.signing_key WHERE tenant_id = $1)`,
			t.ID.Int(), kid, kek, sealed, first, keyKept, alone, keyAnnounced)
		if err != nil || made.RowsAffected() == 0 {
			return err
		}
		return tellKey(ctx, tx, "made a key for ID tokens of tenant "+t.Slug.String()+": "+kid)
	})
	if err != nil {
		return fmt.Errorf("storing a signing key: %w", scrubbed(err))
	}
	return nil
}
