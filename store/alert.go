package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

var _ alert.Keeper = (*Registry)(nil)

// alertLock is held by who adds sightings, so that two servers that see the
// same do not open two alerts. It is "alert" in ASCII.
const alertLock = 0x616c657274

// Sight adds sightings to the alerts that they are of, and opens those that are
// missing. All of them are durable when it returns nil, else none is.
func (r *Registry) Sight(ctx context.Context, list []alert.Sighting) error {
	err := gate.Steadily(func() error {
		var b pgx.Batch // is one transaction
		b.Queue(`SELECT pg_advisory_xact_lock($1)`, int64(alertLock))
		for _, s := range list {
			queueSighting(&b, s)
		}
		return r.pool.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return fmt.Errorf("keeping alerts: %w", err)
	}
	return nil
}

func queueSighting(b *pgx.Batch, s alert.Sighting) {
	addressed := []string{}
	if s.Addressed != "" {
		addressed = append(addressed, s.Addressed)
	}
	b.Queue(`
		WITH whose AS (
		    SELECT (SELECT id FROM registry.tenant WHERE slug = $1) AS id
		), latest AS (
		    SELECT a.id
		    FROM   registry.alert a, whose
		    WHERE  a.tenant_id IS NOT DISTINCT FROM whose.id AND a.state <> 'closed' AND a.last_seen > $8::timestamptz - $11::interval AND NOT $12
		    AND    a.rule = $2 AND a.client = $3 AND a.fhir_user = $4 AND ($3 <> '' OR a.address = $5)
		    ORDER  BY a.id DESC
		    LIMIT  1
		), added AS (
		    UPDATE registry.alert a
		    SET    last_seen = greatest(a.last_seen, $8), count = a.count + $9,
		           addressed = (array(SELECT DISTINCT x FROM unnest(a.addressed || $6::text[]) x ORDER BY x))[1:10],
		           requests  = (a.requests || $10::text[])[1:10]
		    FROM   latest
		    WHERE  a.id = latest.id
		    RETURNING a.id
		), opened AS (
		    INSERT INTO registry.alert (tenant_id, rule, client, fhir_user, address, addressed, first_seen, last_seen, count, requests)
		    SELECT whose.id, $2, $3, $4, $5, $6, $7, $8, $9, $10
		    FROM   whose
		    WHERE  NOT EXISTS (SELECT FROM added)
		    RETURNING id, tenant_id
		)
		INSERT INTO registry.alert_delivery (alert_id, sink_id)
		SELECT opened.id, k.id
		FROM   opened
		JOIN   registry.alert_sink k ON k.tenant_id IS NULL OR k.tenant_id = opened.tenant_id`,
		s.Tenant, string(s.Rule), s.Client, s.User, s.Address, addressed, s.First, s.Last, int64(s.Count), append([]string{}, s.Requests...),
		alert.Window, s.Apart)
}

// maxAlerts bounds a list of alerts.
const maxAlerts = 500

// alertColumns begins a statement whose rows scanAlert reads.
const alertColumns = `
	SELECT a.id, coalesce(t.slug, ''), a.rule, a.client, a.fhir_user, a.address, a.addressed, a.first_seen, a.last_seen,
	       a.count, a.requests, a.state, a.acknowledged_by, a.acknowledged_at, a.acknowledged_why,
	       a.closed_by, a.closed_at, a.closed_why
	FROM   registry.alert a
	LEFT   JOIN registry.tenant t ON t.id = a.tenant_id`

// Alerts returns the alerts of the tenant with the slug, or of all with "": first
// those that are not closed, newest first, and 500 at most.
func (r *Registry) Alerts(ctx context.Context, slug string) ([]alert.Alert, error) {
	rows, err := r.pool.Query(ctx, alertColumns+`
		WHERE  $1 = '' OR t.slug = $1
		ORDER  BY a.state = 'closed', a.last_seen DESC, a.id DESC
		LIMIT  $2`, slug, maxAlerts)
	if err != nil {
		return nil, fmt.Errorf("listing alerts: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanAlert)
	if err != nil {
		return nil, fmt.Errorf("listing alerts: %w", err)
	}
	return list, nil
}

// Alert returns the alert with the id. The error is a *fhir.Error with code
// NotFound if there is none.
func (r *Registry) Alert(ctx context.Context, id int64) (alert.Alert, error) {
	rows, err := r.pool.Query(ctx, alertColumns+` WHERE a.id = $1`, id)
	var a alert.Alert
	if err == nil {
		a, err = pgx.CollectExactlyOneRow(rows, scanAlert)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return a, fhir.Errorf(fhir.NotFound, "there is no such alert")
	}
	if err != nil {
		return a, fmt.Errorf("reading an alert: %w", err)
	}
	return a, nil
}

// Acknowledge notes that somebody looks into an open alert. The error is a
// *fhir.Error with code NotFound if there is no such alert, and with code
// Conflict if it is not open.
func (r *Registry) Acknowledge(ctx context.Context, id int64, by, why string) (alert.Alert, error) {
	return r.act(ctx, id, `
		UPDATE registry.alert SET state = 'acknowledged', acknowledged_by = $2, acknowledged_at = now(), acknowledged_why = $3
		WHERE  id = $1 AND state = 'open'`, by, why)
}

// CloseAlert notes that an alert is done with; errors as those of Acknowledge.
func (r *Registry) CloseAlert(ctx context.Context, id int64, by, why string) (alert.Alert, error) {
	return r.act(ctx, id, `
		UPDATE registry.alert SET state = 'closed', closed_by = $2, closed_at = now(), closed_why = $3
		WHERE  id = $1 AND state <> 'closed'`, by, why)
}

func (r *Registry) act(ctx context.Context, id int64, update, by, why string) (alert.Alert, error) {
	tag, err := r.pool.Exec(ctx, update, id, by, why)
	if err != nil {
		return alert.Alert{}, fmt.Errorf("changing an alert: %w", err)
	}
	a, err := r.Alert(ctx, id)
	if err == nil && tag.RowsAffected() == 0 {
		err = fhir.Errorf(fhir.Conflict, "the alert is %s already", a.State)
	}
	return a, err
}

func scanAlert(row pgx.CollectableRow) (a alert.Alert, err error) {
	var rule, state string
	var acked, closed struct {
		by, why *string
		at      *time.Time
	}
	err = row.Scan(&a.ID, &a.Tenant, &rule, &a.Client, &a.User, &a.Address, &a.Addressed, &a.First, &a.Last,
		&a.Count, &a.Requests, &state, &acked.by, &acked.at, &acked.why, &closed.by, &closed.at, &closed.why)
	if err != nil {
		return a, err
	}
	a.Rule, a.State, a.First, a.Last = smart.Rule(rule), alert.State(state), a.First.UTC(), a.Last.UTC()
	if acked.by != nil {
		a.Acknowledged = &alert.Act{By: *acked.by, At: acked.at.UTC(), Why: *acked.why}
	}
	if closed.by != nil {
		a.Closed = &alert.Act{By: *closed.by, At: closed.at.UTC(), Why: *closed.why}
	}
	return a, nil
}
