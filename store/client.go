package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// Client returns the tenant's client with the id, or smart.ErrUnknownClient.
func (r *Registry) Client(ctx context.Context, t *tenant.Tenant, id string) (smart.Client, error) {
	var c smart.Client
	err := gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, `
			SELECT `+clientColumns+`
			FROM   registry.client
			WHERE  tenant_id = $1 AND id = $2 AND removed IS NULL`, t.ID.Int(), id)
		if err != nil {
			return err
		}
		c, err = pgx.CollectExactlyOneRow(rows, scanClient)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return smart.Client{}, smart.ErrUnknownClient
	}
	if err != nil {
		return smart.Client{}, fmt.Errorf("reading a client of %s: %w", t.Slug, err)
	}
	return c, nil
}

// Clients returns all clients of the tenant, by id.
func (r *Registry) Clients(ctx context.Context, t *tenant.Tenant) ([]smart.Client, error) {
	rows, err := r.pool.Query(ctx, `
		SELECT `+clientColumns+`
		FROM   registry.client
		WHERE  tenant_id = $1 AND removed IS NULL
		ORDER  BY id`, t.ID.Int())
	if err != nil {
		return nil, fmt.Errorf("listing the clients of %s: %w", t.Slug, err)
	}
	list, err := pgx.CollectRows(rows, scanClient)
	if err != nil {
		return nil, fmt.Errorf("listing the clients of %s: %w", t.Slug, err)
	}
	return list, nil
}

// clientColumns are those that scanClient reads.
const clientColumns = `id, name, jwks, jwks_uri, scopes, fhir_user, patient, encounter, person, purpose, disabled, updated,
	method, secret, redirect_uris, launch_url, registration`

func scanClient(row pgx.CollectableRow) (c smart.Client, err error) {
	var person []byte
	err = row.Scan(&c.ID, &c.Name, &c.JWKS, &c.JWKSURI, &c.Scopes, &c.User, &c.Patient, &c.Encounter, &person, &c.Purpose, &c.Disabled, &c.Updated,
		&c.Method, &c.Secret, &c.RedirectURIs, &c.LaunchURL, &c.Registration)
	if err == nil {
		err = json.Unmarshal(person, &c.Person)
	}
	return c, err
}

// PutClient registers a client with the tenant, or replaces the one with its
// id. created tells which.
func (r *Registry) PutClient(ctx context.Context, t *tenant.Tenant, c smart.Client) (created bool, err error) {
	if c.ID == smart.AccountClient {
		return false, fmt.Errorf("storing a client of %s: %s is the server's own name", t.Slug, c.ID)
	}
	person, err := json.Marshal(c.Person)
	if err != nil {
		return false, fmt.Errorf("storing a client of %s: %w", t.Slug, err)
	}
	// xmax is 0 in a row that was inserted just now.
	err = r.pool.QueryRow(ctx, `
		INSERT INTO registry.client (tenant_id, id, name, jwks, scopes, fhir_user, patient, encounter, person, purpose, disabled,
		       method, secret, redirect_uris, launch_url, jwks_uri, registration)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10, $11, $12, $13, $14, $15, $16, $17)
		ON CONFLICT (tenant_id, id) DO UPDATE
		SET    name = excluded.name, jwks = excluded.jwks, scopes = excluded.scopes, fhir_user = excluded.fhir_user,
		       patient = excluded.patient, encounter = excluded.encounter, person = excluded.person, purpose = excluded.purpose,
		       disabled = excluded.disabled, updated = now(), method = excluded.method, secret = excluded.secret,
		       redirect_uris = excluded.redirect_uris, launch_url = excluded.launch_url,
		       jwks_uri = excluded.jwks_uri, registration = excluded.registration, removed = NULL
		RETURNING xmax = 0`,
		t.ID.Int(), c.ID, c.Name, append([]byte{}, c.JWKS...), c.Scopes, c.User, c.Patient, c.Encounter, string(person), c.Purpose, c.Disabled,
		cmp.Or(c.Method, smart.PrivateKeyJWT), c.Secret, orEmpty(c.RedirectURIs), c.LaunchURL, c.JWKSURI, c.Registration).Scan(&created)
	if err != nil {
		return false, fmt.Errorf("storing a client of %s: %w", t.Slug, err)
	}
	return created, nil
}

// originsLife is how long AppOrigins remembers.
const originsLife = 5 * time.Second

// AppOrigins returns the origins at which apps of some tenant run in browsers:
// those of their redirect URIs. Whose they are it does not tell.
func (r *Registry) AppOrigins(ctx context.Context) ([]string, error) {
	now := time.Now()
	r.mu.Lock()
	known, until := r.origins, r.originsUntil
	r.mu.Unlock()
	if now.Before(until) {
		return known, nil
	}
	rows, err := r.pool.Query(ctx, `
		SELECT DISTINCT lower(substring(uri FROM '^https?://[^/?#]+')) AS origin
		FROM   registry.client, unnest(redirect_uris) AS uri
		WHERE  NOT disabled AND removed IS NULL AND uri ~ '^https?://'
		ORDER  BY origin`)
	if err != nil {
		return nil, fmt.Errorf("listing the origins of apps: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("listing the origins of apps: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.origins, r.originsUntil = list, now.Add(originsLife)
	return list, nil
}

// orEmpty keeps SQL's NULL out of where an empty list is meant.
func orEmpty(list []string) []string { return append([]string{}, list...) }

// DisableClient disables or enables a client, without any other change. It
// returns smart.ErrUnknownClient if there is none.
func (r *Registry) DisableClient(ctx context.Context, t *tenant.Tenant, id string, disabled bool) error {
	tag, err := r.pool.Exec(ctx, `
		UPDATE registry.client SET disabled = $3, updated = now()
		WHERE  tenant_id = $1 AND id = $2 AND removed IS NULL`, t.ID.Int(), id, disabled)
	if err != nil {
		return fmt.Errorf("changing a client of %s: %w", t.Slug, scrubbed(err))
	}
	if tag.RowsAffected() == 0 {
		return smart.ErrUnknownClient
	}
	return nil
}

// RevokeClient makes void what users have let the client do.
func (r *Registry) RevokeClient(ctx context.Context, t *tenant.Tenant, id string) error {
	_, err := r.pool.Exec(ctx, `WITH `+revoking(`client = $2`)+` SELECT`, t.ID.Int(), id)
	if err != nil {
		return fmt.Errorf("revoking what a client of %s may do: %w", t.Slug, scrubbed(err))
	}
	return nil
}

// RemoveClient removes a client, and makes void what users have let it do. Its id
// is not forgotten: nobody else gets it, unless an operator says so.
func (r *Registry) RemoveClient(ctx context.Context, t *tenant.Tenant, id string) error {
	_, err := r.pool.Exec(ctx, `
		WITH removed AS (
		    UPDATE registry.client SET removed = now(), updated = now(), registration = NULL
		    WHERE  tenant_id = $1 AND id = $2
		), `+revoking(`client = $2`)+`
		SELECT`, t.ID.Int(), id)
	if err != nil {
		return fmt.Errorf("removing a client of %s: %w", t.Slug, scrubbed(err))
	}
	return nil
}

// UseAssertion reports whether the assertion of the client with the jti comes
// for the first time. It must expire at exp.
// https://datatracker.ietf.org/doc/html/rfc7523#section-3
func (r *Registry) UseAssertion(ctx context.Context, t *tenant.Tenant, client, jti string, exp time.Time) (fresh bool, err error) {
	hash := sha256.Sum256([]byte(jti))
	fresh, err = r.useOnce(ctx, `
		INSERT INTO registry.assertion (tenant_id, client, jti, expires) VALUES ($1, $2, $3, $4)
		ON CONFLICT DO NOTHING`, t.ID.Int(), client, hash[:], exp)
	if err != nil {
		return false, fmt.Errorf("recording the use of an assertion: %w", err)
	}
	return fresh, nil
}
