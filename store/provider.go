package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// ErrUnknownProvider says that a tenant has no identity provider of a name.
var ErrUnknownProvider = errors.New("store: unknown identity provider")

// ErrOtherIssuer says that a provider of the name has another issuer. It would
// make other people of its users: it has to be removed first.
var ErrOtherIssuer = errors.New("store: the identity provider has another issuer")

// Provider returns the tenant's identity provider of the name, or
// ErrUnknownProvider.
func (r *Registry) Provider(ctx context.Context, t *tenant.Tenant, name string) (smart.Provider, error) {
	var config, sealed []byte
	var kek string
	err := gate.Steadily(func() error {
		return r.pool.QueryRow(ctx, `
			SELECT p.config, p.secret, t.kek
			FROM   registry.identity_provider p
			JOIN   registry.tenant            t ON t.id = p.tenant_id
			WHERE  p.tenant_id = $1 AND p.name = $2`, t.ID.Int(), name).Scan(&config, &sealed, &kek)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return smart.Provider{}, ErrUnknownProvider
	}
	var p smart.Provider
	if err == nil {
		err = json.Unmarshal(config, &p)
	}
	if err == nil && sealed != nil {
		var secret []byte
		secret, err = keys.Unwrap(r.kms, kek, sealed, providerAD(t, name))
		p.Secret = string(secret)
	}
	if err != nil {
		return smart.Provider{}, fmt.Errorf("reading an identity provider of %s: %w", t.Slug, err)
	}
	return p, nil
}

// Providers returns the identity providers of the tenant by name, without their
// secrets.
func (r *Registry) Providers(ctx context.Context, t *tenant.Tenant) (list []smart.Provider, err error) {
	err = gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, `
			SELECT config
			FROM   registry.identity_provider
			WHERE  tenant_id = $1
			ORDER  BY name`, t.ID.Int())
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p smart.Provider, err error) {
			var config []byte
			if err := row.Scan(&config); err != nil {
				return p, err
			}
			return p, json.Unmarshal(config, &p)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the identity providers of %s: %w", t.Slug, err)
	}
	return list, nil
}

// PutProvider stores an identity provider, or replaces the one of its name and
// issuer. created tells which. All users of one that was there lose their
// sessions and what they had let applications do: what is replaced may have
// been the reason to trust them.
func (r *Registry) PutProvider(ctx context.Context, t *tenant.Tenant, p smart.Provider) (created bool, err error) {
	config, err := json.Marshal(p)
	if err != nil {
		return false, fmt.Errorf("storing an identity provider: %w", err)
	}
	var sealed []byte
	if p.Secret != "" {
		var kek string
		err := r.pool.QueryRow(ctx, `SELECT kek FROM registry.tenant WHERE id = $1`, t.ID.Int()).Scan(&kek)
		if err == nil {
			sealed, err = keys.Wrap(r.kms, kek, []byte(p.Secret), providerAD(t, p.Name))
		}
		if err != nil {
			return false, fmt.Errorf("sealing the secret of an identity provider of %s: %w", t.Slug, err)
		}
	}
	err = r.pool.QueryRow(ctx, `
		WITH changed AS (
		    INSERT INTO registry.identity_provider AS p (tenant_id, name, issuer, config, secret)
		    VALUES ($1, $2, $4, $5, $6)
		    ON CONFLICT (tenant_id, name) DO UPDATE
		    SET    config = excluded.config, secret = excluded.secret, updated = now()
		    WHERE  p.issuer = excluded.issuer
		    RETURNING xmax = 0 AS created
		), `+endedUsers+`
		SELECT created FROM changed`, t.ID.Int(), p.Name, everyone, p.Issuer, string(config), sealed).Scan(&created)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, ErrOtherIssuer
	}
	if err != nil {
		return false, fmt.Errorf("storing an identity provider of %s: %w", t.Slug, scrubbed(err))
	}
	return created, nil
}

// RemoveProvider removes an identity provider and its users, who lose their
// sessions and what they had let applications do. The error is
// ErrUnknownProvider if there is none.
func (r *Registry) RemoveProvider(ctx context.Context, t *tenant.Tenant, name string) error {
	err := r.pool.QueryRow(ctx, `
		WITH changed AS (
		    DELETE FROM registry.identity_provider
		    WHERE  tenant_id = $1 AND name = $2
		    RETURNING 1
		), `+endedUsers+`
		SELECT 1 FROM changed`, t.ID.Int(), name, everyone).Scan(new(int))
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrUnknownProvider
	}
	if err != nil {
		return fmt.Errorf("removing an identity provider of %s: %w", t.Slug, scrubbed(err))
	}
	return nil
}

// providerAD binds a sealed secret to the provider that it is of.
func providerAD(t *tenant.Tenant, name string) []byte {
	return placementAD(t.ID.Int(), "identity|"+name)
}

// A ProviderUser is a user of an identity provider whom the tenant knows.
type ProviderUser struct {
	Subject  string
	Disabled bool
}

// ProviderUsers returns the users of the provider by subject.
func (r *Registry) ProviderUsers(ctx context.Context, t *tenant.Tenant, provider string) ([]ProviderUser, error) {
	rows, err := r.pool.Query(ctx, `
		SELECT subject, disabled
		FROM   registry.identity_user
		WHERE  tenant_id = $1 AND provider = $2
		ORDER  BY subject`, t.ID.Int(), provider)
	if err != nil {
		return nil, fmt.Errorf("listing the users of an identity provider of %s: %w", t.Slug, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ProviderUser])
	if err != nil {
		return nil, fmt.Errorf("listing the users of an identity provider of %s: %w", t.Slug, err)
	}
	return list, nil
}

// PutProviderUser lets a user of a provider in, or shuts them out: then they
// lose their sessions and what they had let applications do. The error is
// ErrUnknownProvider if there is none of the name.
func (r *Registry) PutProviderUser(ctx context.Context, t *tenant.Tenant, provider string, u ProviderUser) error {
	err := r.pool.QueryRow(ctx, `
		WITH stored AS (
		    INSERT INTO registry.identity_user (tenant_id, provider, subject, disabled)
		    SELECT tenant_id, name, $3, $4
		    FROM   registry.identity_provider
		    WHERE  tenant_id = $1 AND name = $2
		    ON CONFLICT (tenant_id, provider, subject) DO UPDATE SET disabled = excluded.disabled, updated = now()
		    RETURNING disabled
		), changed AS (SELECT FROM stored WHERE disabled), `+endedUsers+`
		SELECT 1 FROM stored`, t.ID.Int(), provider, &u.Subject, u.Disabled).Scan(new(int))
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrUnknownProvider
	}
	if err != nil {
		return fmt.Errorf("storing a user of an identity provider of %s: %w", t.Slug, scrubbed(err))
	}
	return nil
}

// AdmitProviderUser reports whether the user of the provider is let in. A
// provider that is open registers who comes for the first time.
func (r *Registry) AdmitProviderUser(ctx context.Context, t *tenant.Tenant, p smart.Provider, subject string) (bool, error) {
	var let bool
	err := r.pool.QueryRow(ctx, `
		WITH met AS (
		    INSERT INTO registry.identity_user (tenant_id, provider, subject)
		    SELECT $1, $2, $3 WHERE $4
		    ON CONFLICT (tenant_id, provider, subject) DO NOTHING
		    RETURNING 1
		)
		SELECT EXISTS (SELECT FROM met) OR EXISTS (
		    SELECT FROM registry.identity_user
		    WHERE  tenant_id = $1 AND provider = $2 AND subject = $3 AND NOT disabled)`,
		t.ID.Int(), p.Name, subject, p.Open).Scan(&let)
	if err != nil {
		return false, fmt.Errorf("admitting a user of an identity provider: %w", scrubbed(err))
	}
	return let, nil
}

// ErrNoIdentityRequest says that no login is under way that has the state and
// that the browser began, or no longer.
var ErrNoIdentityRequest = errors.New("store: no such login at an identity provider")

// StartIdentityRequest stores a login that begins at a provider, for the
// browser that has the cookie. data is sealed.
func (r *Registry) StartIdentityRequest(ctx context.Context, t *tenant.Tenant, state, cookie string, data []byte, expires time.Time) error {
	_, err := r.pool.Exec(ctx, `
		INSERT INTO registry.identity_request (tenant_id, state, browser, data, expires)
		VALUES ($1, $2, $3, $4, $5)`, t.ID.Int(), hashed(state), hashed(cookie), data, expires)
	if err != nil {
		return fmt.Errorf("beginning a login at an identity provider: %w", scrubbed(err))
	}
	if r.purgeDue(time.Now()) {
		r.purge(ctx)
	}
	return nil
}

// TakeIdentityRequest returns what was stored for the state and the browser, and
// nobody gets it again: the error is then ErrNoIdentityRequest.
func (r *Registry) TakeIdentityRequest(ctx context.Context, t *tenant.Tenant, state, cookie string) (data []byte, err error) {
	err = r.pool.QueryRow(ctx, `
		DELETE FROM registry.identity_request
		WHERE  tenant_id = $1 AND state = $2 AND browser = $3 AND expires > now()
		RETURNING data`, t.ID.Int(), hashed(state), hashed(cookie)).Scan(&data)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNoIdentityRequest
	}
	if err != nil {
		return nil, fmt.Errorf("taking up a login at an identity provider: %w", scrubbed(err))
	}
	return data, nil
}
