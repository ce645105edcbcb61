package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// A Registry reads the record of tenants: who they are, where they lie, their
// wrapped keys and their clients. It holds no clinical data and its role has
// no right on any.
type Registry struct {
	pool *pgxpool.Pool
	kms  keys.KMS

	// Lifetime is how long credentials stay open after the key management
	// service has opened them. Default 1 min.
	Lifetime time.Duration

	mu   sync.Mutex
	open map[int32]opened
	// signing are the keys that SigningKeys returned last, by tenant.
	signing map[int32]openSigning
	// origins are what AppOrigins returned last.
	origins      []string
	originsUntil time.Time
	purged       time.Time

	clock clock
}

// opened is a placement whose secrets are open, and what it was opened from.
type opened struct {
	placement tenant.Placement
	from      [sha256.Size]byte
	until     time.Time
}

var (
	_ tenant.Source = (*Registry)(nil)
	_ keys.Source   = (*Registry)(nil)
)

// OpenRegistry opens the registry at dsn, as the role that Migrator.URLs names
// for it. kms must be able to open what the Migrator sealed.
func OpenRegistry(ctx context.Context, dsn string, kms keys.KMS) (*Registry, error) {
	conf, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		// The error of ParseConfig may repeat the password.
		return nil, errors.New("store: the URL of the registry is malformed")
	}
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("opening the registry: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("opening the registry: %w", err)
	}
	return &Registry{pool: pool, kms: kms, Lifetime: time.Minute, open: map[int32]opened{}, signing: map[int32]openSigning{}, clock: clock{now: time.Now}}, nil
}

// Close closes the connections.
func (r *Registry) Close() { r.pool.Close() }

// Ping reports whether the registry answers.
func (r *Registry) Ping(ctx context.Context) error { return r.pool.Ping(ctx) }

// TenantBySlug returns the tenant with its placement, open. While a tenant is
// being provisioned its placement is empty.
func (r *Registry) TenantBySlug(ctx context.Context, slug string) (tenant.Row, error) {
	var row tenant.Row
	var kek string
	var sealed sealedPlacement
	err := gate.Steadily(func() error {
		err := r.pool.QueryRow(ctx, `
			SELECT t.id, slug, name, mode, status, region, policy_version, settings, coalesce(i.version, 0), packages,
			       schema, role, kek, dsn, audit_dsn, log_dsn, signer
			FROM   registry.tenant t
			LEFT   JOIN registry.outside_issuer i ON i.tenant_id = t.id
			WHERE  slug = $1`, slug).Scan(&row.ID, &row.Slug, &row.Name, &row.Mode, &row.Status, &row.Region, &row.PolicyVersion,
			&row.Settings, &row.Issuer, &row.Packages, &sealed.Schema, &sealed.Role, &kek, &sealed.DSN, &sealed.AuditDSN, &sealed.LogDSN, &sealed.Signer)
		if errors.Is(err, pgx.ErrNoRows) {
			return tenant.ErrUnknown
		}
		return err
	})
	if errors.Is(err, tenant.ErrUnknown) {
		return tenant.Row{}, tenant.ErrUnknown
	}
	if err != nil {
		return tenant.Row{}, fmt.Errorf("reading tenant %s: %w", slug, err)
	}
	if row.Status == string(tenant.Provisioning) {
		return row, nil
	}
	row.Placement, err = r.placement(row.ID, kek, sealed)
	if err != nil {
		return tenant.Row{}, fmt.Errorf("opening the placement of tenant %s: %w", slug, err)
	}
	return row, nil
}

// placement opens the secrets, or remembers having done so.
func (r *Registry) placement(id int32, kek string, sealed sealedPlacement) (tenant.Placement, error) {
	from := sealed.digest(kek)
	now := time.Now()
	r.mu.Lock()
	o, ok := r.open[id]
	r.mu.Unlock()
	if ok && o.from == from && now.Before(o.until) {
		return o.placement, nil
	}
	p, err := sealed.unseal(r.kms, kek, id)
	if err != nil {
		return tenant.Placement{}, err
	}
	r.mu.Lock()
	r.open[id] = opened{p, from, now.Add(r.Lifetime)}
	r.mu.Unlock()
	return p, nil
}

// Tenants returns every tenant in the order in which they were made, without
// the secrets of their placements.
func (r *Registry) Tenants(ctx context.Context) ([]tenant.Row, error) {
	rows, err := r.pool.Query(ctx, `
		SELECT id, slug, name, mode, status, region, policy_version, schema, role
		FROM   registry.tenant
		ORDER  BY id`)
	if err != nil {
		return nil, fmt.Errorf("listing tenants: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(c pgx.CollectableRow) (t tenant.Row, err error) {
		err = c.Scan(&t.ID, &t.Slug, &t.Name, &t.Mode, &t.Status, &t.Region, &t.PolicyVersion,
			&t.Placement.Schema, &t.Placement.Role)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("listing tenants: %w", err)
	}
	return list, nil
}

// Keys returns all wrapped keys of the tenant that are in use. Of those that sign
// access tokens the first is the one that does.
func (r *Registry) Keys(ctx context.Context, id tenant.ID) ([]keys.Wrapped, error) {
	var list []keys.Wrapped
	err := gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, `
			WITH all_keys AS (
			    SELECT class, kek, data, fingerprint, '-infinity'::timestamptz AS created, false AS alone
			    FROM   registry.keyset
			    WHERE  tenant_id = $1
			    UNION  ALL
			    SELECT 'signing', kek, data, fingerprint, created, alone
			    FROM   registry.access_key
			    WHERE  tenant_id = $1
			)
			SELECT class, kek, data, fingerprint
			FROM   all_keys k
			WHERE  class <> 'signing' OR NOT EXISTS (
			           SELECT FROM registry.access_key next
			           WHERE  next.tenant_id = $1 AND next.created > k.created AND (next.alone OR next.created < now() - $3::interval))
			ORDER  BY class, created < now() - $2::interval OR alone DESC,
			          CASE WHEN created < now() - $2::interval OR alone THEN created END DESC, created`,
			id.Int(), keyAnnounced, keyKept)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(c pgx.CollectableRow) (w keys.Wrapped, err error) {
			err = c.Scan(&w.Class, &w.KEK, &w.Data, &w.Fingerprint)
			return w, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the keys of tenant %s: %w", id, err)
	}
	return list, nil
}

// AppendPlatform adds entries to the trail of what belongs to no tenant. They
// are durable when it returns nil.
func (r *Registry) AppendPlatform(ctx context.Context, entries []audit.Entry) error {
	var b pgx.Batch
	for _, e := range entries {
		b.Queue(`
			INSERT INTO registry.platform_audit (recorded, interaction, outcome, status, reason,
			       request_id, address, method, server, client, fhir_user, issuer, token_id)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
			e.Recorded, string(e.Interaction), int16(e.Outcome), e.Status, e.Reason,
			e.Origin.RequestID, e.Origin.Address, e.Origin.Method, e.Origin.Server,
			e.Agent.Client, e.Agent.User, e.Agent.Issuer, e.Agent.TokenID)
	}
	err := gate.Steadily(func() error { return r.pool.SendBatch(ctx, &b).Close() })
	if err != nil {
		return fmt.Errorf("writing the platform's audit trail: %w", err)
	}
	return nil
}

// useOnce runs an insert of a jti that must not come twice, and reports whether
// it inserted. Now and then it removes those that expired long ago.
func (r *Registry) useOnce(ctx context.Context, insert string, args ...any) (fresh bool, err error) {
	var tag pgconn.CommandTag
	err = gate.Steadily(func() error {
		tag, err = r.pool.Exec(ctx, insert, args...)
		return err
	})
	if err != nil {
		return false, err
	}
	if r.purgeDue(time.Now()) {
		r.purge(ctx)
	}
	return tag.RowsAffected() == 1, nil
}

func (r *Registry) purgeDue(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.purged) < time.Minute {
		return false
	}
	r.purged = now
	return true
}
