package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/tenant"
)

// An AlertSink is a webhook that is told of alerts: of those of a tenant, or of
// all.
type AlertSink struct {
	Tenant string `json:"tenant,omitzero"` // slug, "" for all
	URL    string `json:"url"`
}

// sinkAD binds the secret of a sink to its tenant, 0 for none, and its URL, so
// that nobody can have what is signed sent elsewhere.
func sinkAD(id int32, url string) []byte { return fmt.Appendf(nil, "cordon|alert-sink|%d|%s", id, url) }

// PutAlertSink makes or replaces the webhook of the tenant with the slug, or with
// "" that of all, and returns the secret that signs what is sent there. It is
// told of alerts that are opened from now on.
func (m *Migrator) PutAlertSink(ctx context.Context, sink AlertSink) (secret string, err error) {
	u, err := url.Parse(sink.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" || len(sink.URL) > 512 {
		return "", fhir.Errorf(fhir.Invalid, "url has to be an http or https URL without user or fragment, of at most 512 bytes")
	}
	id, err := m.sinkTenant(ctx, sink.Tenant)
	if err != nil {
		return "", err
	}
	secret = rand.Text() + rand.Text()
	sealed, err := keys.Wrap(m.cfg.KMS, m.cfg.KEK, []byte(secret), sinkAD(id.Int32, sink.URL))
	if err != nil {
		return "", fmt.Errorf("sealing the secret of a webhook: %w", err)
	}
	_, err = m.registry.ExecContext(ctx, `
		INSERT INTO registry.alert_sink (tenant_id, url, kek, secret) VALUES ($1, $2, $3, $4)
		ON CONFLICT (tenant_id) DO UPDATE SET url = excluded.url, kek = excluded.kek, secret = excluded.secret`,
		id, sink.URL, m.cfg.KEK, sealed)
	if err != nil {
		return "", fmt.Errorf("storing a webhook: %w", err)
	}
	return secret, nil
}

// RemoveAlertSink removes the webhook of the tenant, or with "" that of all, and
// what it was to be told.
func (m *Migrator) RemoveAlertSink(ctx context.Context, slug string) error {
	id, err := m.sinkTenant(ctx, slug)
	if err != nil {
		return err
	}
	if _, err := m.registry.ExecContext(ctx, `DELETE FROM registry.alert_sink WHERE tenant_id IS NOT DISTINCT FROM $1`, id); err != nil {
		return fmt.Errorf("removing a webhook: %w", err)
	}
	return nil
}

func (m *Migrator) sinkTenant(ctx context.Context, slug string) (id sql.NullInt32, err error) {
	if slug == "" {
		return id, nil
	}
	err = m.registry.QueryRowContext(ctx, `SELECT id FROM registry.tenant WHERE slug = $1`, slug).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return id, tenant.ErrUnknown
	}
	return id, err
}

// AlertSinks returns all webhooks for alerts, without their secrets.
func (r *Registry) AlertSinks(ctx context.Context) ([]AlertSink, error) {
	rows, err := r.pool.Query(ctx, `
		SELECT coalesce(t.slug, ''), s.url
		FROM   registry.alert_sink s
		LEFT   JOIN registry.tenant t ON t.id = s.tenant_id
		ORDER  BY 1`)
	if err != nil {
		return nil, fmt.Errorf("listing webhooks: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[AlertSink])
	if err != nil {
		return nil, fmt.Errorf("listing webhooks: %w", err)
	}
	return list, nil
}

var _ alert.Queue = (*Registry)(nil)

// Claim takes up to max deliveries that are due, for the time of the lease: after
// that somebody else may take them. They are of alerts of the region's tenants or
// of no tenant; "" takes all.
func (r *Registry) Claim(ctx context.Context, region string, max int, lease time.Duration) ([]alert.Delivery, error) {
	rows, err := r.pool.Query(ctx, `
		UPDATE registry.alert_delivery d
		SET    due = now() + $2::interval, attempts = d.attempts + 1
		FROM   (SELECT alert_id, sink_id
		        FROM   registry.alert_delivery waiting
		        WHERE  delivered IS NULL AND due <= now()
		        AND    ($3 = '' OR NOT EXISTS (
		                   SELECT FROM registry.alert a JOIN registry.tenant t ON t.id = a.tenant_id
		                   WHERE  a.id = waiting.alert_id AND t.region <> $3))
		        ORDER  BY due, alert_id, sink_id
		        LIMIT  $1
		        FOR    UPDATE SKIP LOCKED) c, registry.alert_sink s
		WHERE  d.alert_id = c.alert_id AND d.sink_id = c.sink_id AND s.id = c.sink_id
		RETURNING d.alert_id, d.sink_id, d.attempts, coalesce(s.tenant_id, 0), s.url, s.kek, s.secret`, max, lease, region)
	if err != nil {
		return nil, fmt.Errorf("taking deliveries of alerts: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d alert.Delivery, err error) {
		var id int32
		var kek string
		var sealed []byte
		if err := row.Scan(&d.Alert.ID, &d.Sink, &d.Attempt, &id, &d.URL, &kek, &sealed); err != nil {
			return d, err
		}
		d.Secret, err = keys.Unwrap(r.kms, kek, sealed, sinkAD(id, d.URL))
		return d, err
	})
	for i := 0; err == nil && i < len(list); i++ {
		list[i].Alert, err = r.Alert(ctx, list[i].Alert.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("taking deliveries of alerts: %w", err)
	}
	return list, nil
}

// Delivered notes that the sink was told, or if again is not 0, that it is to be
// told after that time.
func (r *Registry) Delivered(ctx context.Context, d alert.Delivery, again time.Duration) error {
	_, err := r.pool.Exec(ctx, `
		UPDATE registry.alert_delivery
		SET    delivered = CASE WHEN $3::interval = '0' THEN now() END, due = now() + $3::interval
		WHERE  alert_id = $1 AND sink_id = $2`, d.Alert.ID, d.Sink, again)
	if err != nil {
		return fmt.Errorf("noting the delivery of an alert: %w", err)
	}
	return nil
}
