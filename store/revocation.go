package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

var _ smart.Revocations = (*Registry)(nil)

// Revoke makes all tokens void that came of the approval, now and later. They
// are refused on every server once smart.RevocationDelay has passed.
func (r *Registry) Revoke(ctx context.Context, t *tenant.Tenant, approval string) error {
	_, err := r.pool.Exec(ctx, `WITH `+revoking(`id = $2`)+` SELECT`, t.ID.Int(), approval)
	if err != nil {
		return fmt.Errorf("revoking an approval: %w", scrubbed(err))
	}
	return nil
}

// revoking is the part of a statement that revokes the approvals of tenant $1
// that meet the condition, and tells all servers for as long as a token can be
// about that came of one.
func revoking(condition string) string {
	return `
		gone AS (
		    UPDATE registry.approval SET revoked = now()
		    WHERE  tenant_id = $1 AND (` + condition + `) AND revoked IS NULL
		    RETURNING id
		), noted AS (
		    INSERT INTO registry.revocation (tenant_id, id, expires)
		    SELECT $1, id, now() + interval '2 hours' FROM gone
		    ON CONFLICT DO NOTHING
		)`
}

// endedUsers is the part of a statement that ends the sessions of the users of
// source $2, or of the one with the subject $3, and all that they have let
// applications do, if the part before it, changed, did something.
var endedUsers = `
		ended AS (
		    UPDATE registry.session SET ended = now()
		    WHERE  tenant_id = $1 AND ` + theirs + ` AND ended IS NULL
		), ` + revoking(theirs)

const theirs = `source = $2 AND subject = coalesce($3, subject) AND EXISTS (SELECT FROM changed)`

// everyone stands for the subjects of all users.
var everyone *string

// RevokeToken makes one access token void, by its jti, until it expires.
func (r *Registry) RevokeToken(ctx context.Context, t *tenant.Tenant, jti string, expires time.Time) error {
	_, err := r.pool.Exec(ctx, `
		INSERT INTO registry.revocation (tenant_id, id, expires) VALUES ($1, $2, $3)
		ON CONFLICT DO NOTHING`, t.ID.Int(), jti, expires)
	if err != nil {
		return fmt.Errorf("revoking a token: %w", scrubbed(err))
	}
	return nil
}

// RevokedSince returns what was revoked and has not expired, of all tenants,
// and where to go on: at the oldest transaction that was still running, so that
// none is missed that commits late. Servers ask several times a second while they
// have requests, so the clock is held against that of the database on the way.
func (r *Registry) RevokedSince(ctx context.Context, since int64) (list []smart.Revoked, next int64, err error) {
	err = gate.Steadily(func() error {
		sent := r.clock.now()
		var there time.Time
		rows, err := r.pool.Query(ctx, `
			SELECT clock_timestamp(), pg_snapshot_xmin(pg_current_snapshot())::text::bigint, coalesce(tenant_id, 0), coalesce(id, ''), coalesce(expires, now())
			FROM   (SELECT) AS always
			LEFT   JOIN registry.revocation ON xid >= $1::bigint::text::xid8 AND expires > now()`, since)
		if err != nil {
			return err
		}
		list = list[:0]
		var v smart.Revoked
		_, err = pgx.ForEachRow(rows, []any{&there, &next, &v.Tenant, &v.ID, &v.Expires}, func() error {
			if v.ID != "" {
				list = append(list, v)
			}
			return nil
		})
		if err == nil {
			r.clock.saw(sent, r.clock.now(), there)
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("reading what was revoked: %w", err)
	}
	return list, next, nil
}

// purge removes what is of no more use. It is done again in a minute: failing
// costs a little room.
func (r *Registry) purge(ctx context.Context) {
	for _, sql := range []string{
		`DELETE FROM registry.assertion      WHERE expires < now() - interval '1 hour'`,
		`DELETE FROM registry.operator_token WHERE expires < now() - interval '1 hour'`,
		`DELETE FROM registry.revocation     WHERE expires < now() - interval '1 hour'`,
		`DELETE FROM registry.launch         WHERE expires < now() - interval '1 hour'`,
		`DELETE FROM registry.identity_request WHERE expires < now() - interval '1 hour'`,
		`DELETE FROM registry.login_attempt  WHERE last    < now() - interval '2 days'`,
		`DELETE FROM registry.session        WHERE expires < now() - interval '1 day'`,
		`DELETE FROM registry.refresh_token  WHERE expires < now() - interval '1 day'`,
		`DELETE FROM registry.inquiry        WHERE asked   < now() - interval '10 minutes'`,
		// What came of the code is void by then, and there is no refresh token: not
		// even a used one, whose reuse would have to be told.
		`DELETE FROM registry.approval a     WHERE code_expires < now() - interval '1 day'
		 AND NOT EXISTS (SELECT FROM registry.refresh_token f WHERE f.tenant_id = a.tenant_id AND f.approval = a.id)`,
	} {
		_, _ = r.pool.Exec(ctx, sql)
	}
}
