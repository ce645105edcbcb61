package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/tenant"
)

// An Approval is what a user has let an app do. Every token that the app gets
// for the user comes from one, and names it.
type Approval struct {
	ID      string
	Client  string
	Session string // the id of the session in which it was given
	Identity
	// Scope is what was agreed to, all words of it.
	Scope string
	// Offline says that it outlives the session.
	Offline bool
	Context LaunchContext
	Nonce   string
	// RedirectURI and Challenge bind the code to who asked for it.
	RedirectURI, Challenge string
	Created                time.Time
}

// ErrNoApproval says that a code or a refresh token opens nothing: there is
// none, or it has expired or is not this client's.
var ErrNoApproval = errors.New("store: no such approval")

// A ReuseError says that a code or a refresh token was used before. All that
// came from its approval is void since.
type ReuseError struct{ Approval Approval }

func (*ReuseError) Error() string { return "store: a code or refresh token was used again" }

// Approve stores what a user has agreed to, to be redeemed once by the code
// until expires. If it takes up a launch, handle is the launch's; two cannot
// take up the same: the second gets ErrNoLaunch.
func (r *Registry) Approve(ctx context.Context, t *tenant.Tenant, a Approval, code string, expires time.Time, handle string) error {
	person, err := json.Marshal(a.Person)
	if err != nil {
		return fmt.Errorf("storing an approval: %w", err)
	}
	about, err := json.Marshal(a.Context)
	if err != nil {
		return fmt.Errorf("storing an approval: %w", err)
	}
	tag, err := r.pool.Exec(ctx, `
		WITH taken AS (
		    UPDATE registry.launch SET used = now()
		    WHERE  tenant_id = $1 AND handle = $17 AND app = $3 AND used IS NULL AND expires > now()
		    RETURNING 1
		)
		INSERT INTO registry.approval (tenant_id, id, client, session, source, subject, fhir_user, person, authenticated,
		       scope, offline, context, nonce, code, code_expires, redirect_uri, challenge, acr, amr)
		SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $18, $19, coalesce($20::text[], '{}')
		WHERE  $17::bytea IS NULL OR EXISTS (SELECT FROM taken)`,
		t.ID.Int(), a.ID, a.Client, a.Session, a.Source, a.Subject, a.User, string(person), a.Time,
		a.Scope, a.Offline, string(about), a.Nonce, hashed(code), expires, a.RedirectURI, handleHash(handle), a.Challenge, a.ACR, a.AMR)
	if err != nil {
		return fmt.Errorf("storing an approval: %w", scrubbed(err))
	}
	if tag.RowsAffected() != 1 {
		return ErrNoLaunch
	}
	return nil
}

func handleHash(handle string) []byte {
	if handle == "" {
		return nil
	}
	return hashed(handle)
}

// approvalColumns are what scanApproval reads.
const approvalColumns = `a.id, a.client, a.session, a.source, a.subject, a.fhir_user, a.person, a.authenticated,
	a.acr, a.amr, a.scope, a.offline, a.context, a.nonce, a.redirect_uri, a.challenge, a.created`

func scanApproval(row pgx.Row, more ...any) (Approval, error) {
	var a Approval
	var person, about []byte
	err := row.Scan(append([]any{&a.ID, &a.Client, &a.Session, &a.Source, &a.Subject, &a.User, &person, &a.Time,
		&a.ACR, &a.AMR, &a.Scope, &a.Offline, &about, &a.Nonce, &a.RedirectURI, &a.Challenge, &a.Created}, more...)...)
	if err == nil {
		err = json.Unmarshal(person, &a.Person)
	}
	if err == nil {
		err = json.Unmarshal(about, &a.Context)
	}
	return a, err
}

// Code returns what the code was given for, if it can be redeemed. It returns
// ErrNoApproval, or a *ReuseError once the approval is revoked.
func (r *Registry) Code(ctx context.Context, t *tenant.Tenant, code string) (Approval, error) {
	var used, revoked, late bool
	a, err := scanApproval(r.pool.QueryRow(ctx, `
		SELECT `+approvalColumns+`, a.code_used IS NOT NULL, a.revoked IS NOT NULL, a.code_expires <= now()
		FROM   registry.approval a
		WHERE  a.tenant_id = $1 AND a.code = $2`, t.ID.Int(), hashed(code)), &used, &revoked, &late)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Approval{}, ErrNoApproval
	case err != nil:
		return Approval{}, fmt.Errorf("reading a code: %w", scrubbed(err))
	case used:
		return Approval{}, r.reused(ctx, t, a)
	case revoked, late:
		return Approval{}, ErrNoApproval
	}
	return a, nil
}

// reused revokes all that came of an approval: of two who show the same code
// or token, one must not have it.
func (r *Registry) reused(ctx context.Context, t *tenant.Tenant, a Approval) error {
	if err := r.Revoke(ctx, t, a.ID); err != nil {
		return err
	}
	return &ReuseError{a}
}

// Redeem uses the code of the approval up, and stores a refresh token for it
// unless that is "". If another was faster it returns a *ReuseError.
func (r *Registry) Redeem(ctx context.Context, t *tenant.Tenant, a Approval, refresh string, expires time.Time) error {
	tag, err := r.pool.Exec(ctx, `
		WITH used AS (
		    UPDATE registry.approval SET code_used = now()
		    WHERE  tenant_id = $1 AND id = $2 AND code_used IS NULL AND revoked IS NULL AND code_expires > now()
		    AND    EXISTS (SELECT FROM registry.session s
		                   WHERE  s.tenant_id = $1 AND s.id = approval.session AND s.ended IS NULL AND s.expires > now())
		    RETURNING id
		), renewable AS (
		    INSERT INTO registry.refresh_token (tenant_id, hash, approval, expires)
		    SELECT $1, $3, id, $4 FROM used WHERE $3::bytea IS NOT NULL
		)
		SELECT 1 FROM used`, t.ID.Int(), a.ID, handleHash(refresh), expires)
	if err != nil {
		return fmt.Errorf("redeeming a code: %w", scrubbed(err))
	}
	if tag.RowsAffected() != 1 {
		return r.reused(ctx, t, a)
	}
	return nil
}

// Refreshable returns what the refresh token came from, if it is good: it has
// not expired, and neither has the session that it depends on. It returns
// ErrNoApproval, or a *ReuseError once the approval is revoked.
func (r *Registry) Refreshable(ctx context.Context, t *tenant.Tenant, token string) (Approval, error) {
	var used, dead bool
	a, err := scanApproval(r.pool.QueryRow(ctx, `
		SELECT `+approvalColumns+`, f.used IS NOT NULL,
		       a.revoked IS NOT NULL OR f.expires <= now() OR NOT a.offline AND NOT EXISTS (
		           SELECT FROM registry.session s
		           WHERE  s.tenant_id = $1 AND s.id = a.session AND s.ended IS NULL AND s.expires > now())
		FROM   registry.refresh_token f
		JOIN   registry.approval      a ON a.tenant_id = f.tenant_id AND a.id = f.approval
		WHERE  f.tenant_id = $1 AND f.hash = $2`, t.ID.Int(), hashed(token)), &used, &dead)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Approval{}, ErrNoApproval
	case err != nil:
		return Approval{}, fmt.Errorf("reading a refresh token: %w", scrubbed(err))
	case used:
		return Approval{}, r.reused(ctx, t, a)
	case dead:
		return Approval{}, ErrNoApproval
	}
	return a, nil
}

// RefreshClient returns the id of the client that the refresh token was given
// to, whether it is still good or not, and "" if there is no such token.
func (r *Registry) RefreshClient(ctx context.Context, t *tenant.Tenant, token string) (client string, err error) {
	err = r.pool.QueryRow(ctx, `
		SELECT a.client
		FROM   registry.refresh_token f
		JOIN   registry.approval      a ON a.tenant_id = f.tenant_id AND a.id = f.approval
		WHERE  f.tenant_id = $1 AND f.hash = $2`, t.ID.Int(), hashed(token)).Scan(&client)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("reading whose a refresh token is: %w", scrubbed(err))
	}
	return client, nil
}

// Rotate replaces a refresh token of the approval by the next. If another was
// faster it returns a *ReuseError.
func (r *Registry) Rotate(ctx context.Context, t *tenant.Tenant, a Approval, token, next string, expires time.Time) error {
	tag, err := r.pool.Exec(ctx, `
		WITH used AS (
		    UPDATE registry.refresh_token f SET used = now()
		    FROM   registry.approval a
		    WHERE  f.tenant_id = $1 AND f.hash = $2 AND f.approval = $3 AND f.used IS NULL AND f.expires > now()
		    AND    a.tenant_id = $1 AND a.id = $3 AND a.revoked IS NULL
		    RETURNING f.approval
		)
		INSERT INTO registry.refresh_token (tenant_id, hash, approval, expires)
		SELECT $1, $4, approval, $5 FROM used`, t.ID.Int(), hashed(token), a.ID, hashed(next), expires)
	if err != nil {
		return fmt.Errorf("rotating a refresh token: %w", scrubbed(err))
	}
	if tag.RowsAffected() != 1 {
		return r.reused(ctx, t, a)
	}
	return nil
}

// Approvals returns what the user has let applications do and has not taken
// back, the youngest first, as far as a token can come of it.
func (r *Registry) Approvals(ctx context.Context, t *tenant.Tenant, who Identity) ([]Approval, error) {
	rows, err := r.pool.Query(ctx, `
		SELECT `+approvalColumns+`
		FROM   registry.approval a
		WHERE  a.tenant_id = $1 AND a.source = $2 AND a.subject = $3 AND a.revoked IS NULL AND a.code_used IS NOT NULL
		AND    (a.code_used > now() - interval '1 hour' OR EXISTS (
		           SELECT FROM registry.refresh_token f
		           WHERE  f.tenant_id = $1 AND f.approval = a.id AND f.used IS NULL AND f.expires > now()))
		ORDER  BY a.created DESC, a.id
		LIMIT  200`, t.ID.Int(), who.Source, who.Subject)
	if err != nil {
		return nil, fmt.Errorf("listing approvals: %w", scrubbed(err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Approval, error) { return scanApproval(row) })
	if err != nil {
		return nil, fmt.Errorf("listing approvals: %w", scrubbed(err))
	}
	return list, nil
}

// Approval returns the approval with the id, unless it was revoked, or
// ErrNoApproval.
func (r *Registry) Approval(ctx context.Context, t *tenant.Tenant, id string) (Approval, error) {
	a, err := scanApproval(r.pool.QueryRow(ctx, `
		SELECT `+approvalColumns+`
		FROM   registry.approval a
		WHERE  a.tenant_id = $1 AND a.id = $2 AND a.revoked IS NULL`, t.ID.Int(), id))
	return a, found("an approval", err)
}

// ApprovalOf returns what the refresh token came from, used or not, or
// ErrNoApproval.
func (r *Registry) ApprovalOf(ctx context.Context, t *tenant.Tenant, refresh string) (Approval, error) {
	a, err := scanApproval(r.pool.QueryRow(ctx, `
		SELECT `+approvalColumns+`
		FROM   registry.refresh_token f
		JOIN   registry.approval      a ON a.tenant_id = f.tenant_id AND a.id = f.approval
		WHERE  f.tenant_id = $1 AND f.hash = $2`, t.ID.Int(), hashed(refresh)))
	return a, found("a refresh token", err)
}

// found says what went wrong in reading something that need not be there.
func found(what string, err error) error {
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNoApproval
	case err != nil:
		return fmt.Errorf("reading %s: %w", what, scrubbed(err))
	}
	return nil
}
