package gate

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cordon-fhir/cordon/tenant"
)

// check refuses a database that would not hold what Cordon promises. It asks
// once for each schema:
//
//   - is the role that runs statements a superuser, may it bypass row-level
//     security, make roles, or is it the owner of a table?
//   - has every table with a tenant_id forced row-level security and a policy?
//   - would a crash lose what was acknowledged?
//
// https://www.postgresql.org/docs/15/ddl-rowsecurity.html
func (p *place) check(ctx context.Context, at tenant.Placement) error {
	p.mu.Lock()
	done := p.checked[at.Schema]
	p.mu.Unlock()
	if done {
		return nil
	}
	unsafe, err := p.faults(ctx, at)
	if err != nil {
		return fmt.Errorf("checking the database: %w", Scrub(err))
	}
	if len(unsafe) > 0 {
		return fmt.Errorf("the database does not hold the boundary: %s", strings.Join(unsafe, "; "))
	}
	p.mu.Lock()
	p.checked[at.Schema] = true
	p.mu.Unlock()
	return nil
}

const faultQuery = `
	WITH RECURSIVE runs AS (
		SELECT oid, rolname FROM pg_roles WHERE rolname IN (session_user, nullif($1, ''))
	), held AS (
		SELECT oid, rolname FROM runs
		UNION
		SELECT r.oid, r.rolname FROM held h JOIN pg_auth_members m ON m.member = h.oid JOIN pg_roles r ON r.oid = m.roleid
	)
	SELECT 'role ' || r.rolname || ' is a superuser'          FROM held h JOIN pg_roles r USING (oid) WHERE r.rolsuper
	UNION ALL
	SELECT 'role ' || r.rolname || ' bypasses row security'   FROM held h JOIN pg_roles r USING (oid) WHERE r.rolbypassrls
	UNION ALL
	SELECT 'role ' || r.rolname || ' may create roles'        FROM held h JOIN pg_roles r USING (oid) WHERE r.rolcreaterole
	UNION ALL
	SELECT 'role ' || h.rolname || ' owns ' || c.relname      FROM held h JOIN pg_class c ON c.relowner = h.oid WHERE c.relkind IN ('r', 'p', 'v', 'm')
	UNION ALL
	SELECT 'table ' || n.nspname || '.' || c.relname || ' does not force row security'
	FROM   pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	JOIN   pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
	WHERE  c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
	UNION ALL
	SELECT 'table ' || n.nspname || '.' || c.relname || ' has no tenant_id'
	FROM   pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE  n.nspname = $2 AND c.relkind IN ('r', 'p')
	AND    has_table_privilege(coalesce(nullif($1, ''), session_user::text), c.oid, 'SELECT')
	AND    NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
	UNION ALL
	SELECT 'policy ' || p.polname || ' on ' || c.relname || ' does not bind the tenant'
	FROM   pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE  n.nspname = $2 AND p.polroles && ((SELECT array_agg(oid) FROM held) || 0::oid)
	AND    coalesce(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
	       !~ '^\(tenant_id = \( SELECT ([a-z0-9_]+\.)?tenant\(\) AS tenant\)\)$'
	UNION ALL ` + forgetsQuery

// forgetsQuery asks the connection that runs it: a role or a database can have
// a setting of its own.
const forgetsQuery = `
	SELECT 'setting ' || name || ' is off, which loses acknowledged writes'
	FROM   pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'`

// forgets returns why a crash would lose what the connections of pool commit.
func forgets(ctx context.Context, pool *pgxpool.Pool) ([]string, error) {
	rows, err := pool.Query(ctx, forgetsQuery)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (p *place) faults(ctx context.Context, at tenant.Placement) ([]string, error) {
	rows, err := p.pool.Query(ctx, faultQuery, at.Role, at.Schema)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
