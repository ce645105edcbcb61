package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// An Account is a user whom a tenant lets log in with a password.
type Account struct {
	Login string
	// Hash is what smart.HashPassword made of the password.
	Hash string
	// Coded says that one-time codes are asked for. Their secret is sealed in
	// storage; OpenCodes opens it.
	Coded bool
	// User is the fhirUser, "Practitioner/dr1".
	User     string
	Person   smart.Person
	Disabled bool
	Updated  time.Time

	kek    string
	sealed []byte
}

// ErrUnknownAccount says that a tenant has no account of a login.
var ErrUnknownAccount = errors.New("store: unknown account")

// LocalSource is the Source of who logged in with an Account.
const LocalSource = "local"

// Account returns the tenant's account with the login, or ErrUnknownAccount.
func (r *Registry) Account(ctx context.Context, t *tenant.Tenant, login string) (Account, error) {
	var a Account
	var person []byte
	err := gate.Steadily(func() error {
		return r.pool.QueryRow(ctx, `
			SELECT a.login, a.hash, a.totp, a.fhir_user, a.person, a.disabled, a.updated, t.kek
			FROM   registry.account a
			JOIN   registry.tenant  t ON t.id = a.tenant_id
			WHERE  a.tenant_id = $1 AND a.login = $2`, t.ID.Int(), login).
			Scan(&a.Login, &a.Hash, &a.sealed, &a.User, &person, &a.Disabled, &a.Updated, &a.kek)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Account{}, ErrUnknownAccount
	}
	if err == nil {
		err = json.Unmarshal(person, &a.Person)
	}
	if err != nil {
		return Account{}, fmt.Errorf("reading an account of %s: %w", t.Slug, err)
	}
	a.Coded = a.sealed != nil
	return a, nil
}

// OpenCodes returns the secret of the one-time codes of an account that has
// them.
func (r *Registry) OpenCodes(t *tenant.Tenant, a Account) ([]byte, error) {
	secret, err := keys.Unwrap(r.kms, a.kek, a.sealed, totpAD(t, a.Login))
	if err != nil {
		return nil, fmt.Errorf("opening the codes of an account of %s: %w", t.Slug, err)
	}
	return secret, nil
}

// SealCodes gives an account the secret of one-time codes, to be stored with
// it. nil takes it away.
func (r *Registry) SealCodes(ctx context.Context, t *tenant.Tenant, a *Account, secret []byte) error {
	a.Coded, a.sealed = secret != nil, nil
	if secret == nil {
		return nil
	}
	err := r.pool.QueryRow(ctx, `SELECT kek FROM registry.tenant WHERE id = $1`, t.ID.Int()).Scan(&a.kek)
	if err == nil {
		a.sealed, err = keys.Wrap(r.kms, a.kek, secret, totpAD(t, a.Login))
	}
	if err != nil {
		return fmt.Errorf("sealing the codes of an account of %s: %w", t.Slug, err)
	}
	return nil
}

// totpAD binds a sealed secret to the account that it is of.
func totpAD(t *tenant.Tenant, login string) []byte {
	return placementAD(t.ID.Int(), "totp|"+login)
}

// Accounts returns all accounts of the tenant by login, without what opens
// them.
func (r *Registry) Accounts(ctx context.Context, t *tenant.Tenant) ([]Account, error) {
	rows, err := r.pool.Query(ctx, `
		SELECT login, fhir_user, person, disabled, updated, totp IS NOT NULL
		FROM   registry.account
		WHERE  tenant_id = $1
		ORDER  BY login`, t.ID.Int())
	if err != nil {
		return nil, fmt.Errorf("listing the accounts of %s: %w", t.Slug, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Account, err error) {
		var person []byte
		if err := row.Scan(&a.Login, &a.User, &person, &a.Disabled, &a.Updated, &a.Coded); err != nil {
			return a, err
		}
		return a, json.Unmarshal(person, &a.Person)
	})
	if err != nil {
		return nil, fmt.Errorf("listing the accounts of %s: %w", t.Slug, err)
	}
	return list, nil
}

// PutAccount stores an account, or replaces the one with its login. created
// tells which. One that was there loses its sessions and all that it had let
// applications do: what is replaced may have been the reason to trust them.
func (r *Registry) PutAccount(ctx context.Context, t *tenant.Tenant, a Account) (created bool, err error) {
	person, err := json.Marshal(a.Person)
	if err != nil {
		return false, fmt.Errorf("storing an account: %w", err)
	}
	// xmax is 0 in a row that was inserted just now.
	err = r.pool.QueryRow(ctx, `
		WITH changed AS (
		    INSERT INTO registry.account (tenant_id, login, hash, totp, fhir_user, person, disabled)
		    VALUES ($1, $3, $4, $5, $6, $7, $8)
		    ON CONFLICT (tenant_id, login) DO UPDATE
		    SET    hash = excluded.hash, totp = excluded.totp, fhir_user = excluded.fhir_user,
		           person = excluded.person, disabled = excluded.disabled, updated = now()
		    RETURNING xmax = 0 AS created
		), `+endedUsers+`
		SELECT created FROM changed`,
		t.ID.Int(), LocalSource, a.Login, a.Hash, a.sealed, a.User, string(person), a.Disabled).Scan(&created)
	if err != nil {
		return false, fmt.Errorf("storing an account of %s: %w", t.Slug, scrubbed(err))
	}
	return created, nil
}

// scrubbed keeps what PostgreSQL says of a row out of what is logged.
func scrubbed(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return gate.Scrub(err)
	}
	return err
}

// UseCode reports whether the one-time code of the step comes for the first
// time. None that is older than one that was used is accepted.
// https://www.rfc-editor.org/rfc/rfc6238#section-5.2
func (r *Registry) UseCode(ctx context.Context, t *tenant.Tenant, login string, step int64) (fresh bool, err error) {
	tag, err := r.pool.Exec(ctx, `
		UPDATE registry.account SET totp_step = $3
		WHERE  tenant_id = $1 AND login = $2 AND totp_step < $3`, t.ID.Int(), login, step)
	if err != nil {
		return false, fmt.Errorf("using a one-time code: %w", scrubbed(err))
	}
	return tag.RowsAffected() == 1, nil
}

// Who an Attempt is counted for, and how often each may fail in a row before
// it is made to wait.
const (
	maxByLogin   = 5
	maxByAddress = 50
)

// Attempt counts a login that is about to be tried, for the login named and
// for the address that it comes from. It reports false if either has failed so
// often that it has to wait: then the attempt must not be looked at. Whether
// there is such a login makes no difference.
func (r *Registry) Attempt(ctx context.Context, t *tenant.Tenant, login, address string) (allowed bool, err error) {
	var counted int
	// From the limit on each attempt doubles the wait, up to 15 minutes. After
	// a day the count begins anew. What waits is not counted: then it would
	// never end.
	err = gate.Steadily(func() error {
		return r.pool.QueryRow(ctx, `
			WITH tried AS (
			    INSERT INTO registry.login_attempt AS a (tenant_id, subject, count, last, until)
			    SELECT $1, subject, 1, now(), now()
			    FROM   unnest($2::bytea[]) WITH ORDINALITY AS s (subject, nth)
			    ORDER  BY nth
			    ON CONFLICT (tenant_id, subject) DO UPDATE
			    SET    count = CASE WHEN a.last < now() - interval '1 day' THEN 1 ELSE a.count + 1 END,
			           last  = now(),
			           until = CASE WHEN a.last < now() - interval '1 day' OR a.count + 1 < ($3::int[])[array_position($2::bytea[], a.subject)] THEN now()
			                        ELSE now() + least(interval '15 minutes', interval '15 seconds' *
			                             2 ^ least(10, a.count + 1 - ($3::int[])[array_position($2::bytea[], a.subject)])) END
			    WHERE  a.until <= now()
			    RETURNING 1
			)
			SELECT count(*) FROM tried`,
			t.ID.Int(), attemptSubjects(login, address), []int32{maxByLogin, maxByAddress}).Scan(&counted)
	})
	if err != nil {
		return false, fmt.Errorf("counting a login: %w", err)
	}
	if r.purgeDue(time.Now()) {
		r.purge(ctx)
	}
	return counted == 2, nil
}

// Succeeded takes back what Attempt counted for a login that was good: the
// login's failures are forgotten, the address's are one less.
func (r *Registry) Succeeded(ctx context.Context, t *tenant.Tenant, login, address string) error {
	subjects := attemptSubjects(login, address)
	_, err := r.pool.Exec(ctx, `
		WITH forgotten AS (DELETE FROM registry.login_attempt WHERE tenant_id = $1 AND subject = $2)
		UPDATE registry.login_attempt SET count = greatest(0, count - 1), until = now()
		WHERE  tenant_id = $1 AND subject = $3`, t.ID.Int(), subjects[0], subjects[1])
	if err != nil {
		return fmt.Errorf("counting a login: %w", scrubbed(err))
	}
	return nil
}

func attemptSubjects(login, address string) [][]byte {
	return [][]byte{hashed("login|" + strings.ToLower(login)), hashed("address|" + address)}
}
