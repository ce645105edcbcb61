package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// A Purge removes what a tenant has of a patient for good. One operator asks for it,
// another approves it, and a server does it. Of which patient it is, is told to the
// servers alone.
type Purge struct {
	ID      string    `json:"id"`
	Why     string    `json:"why"`
	Asked   time.Time `json:"asked"`
	AskedBy string    `json:"askedBy"`
	// ApprovedBy is another operator, "" as long as nobody has approved it.
	Approved   time.Time `json:"approved,omitzero"`
	ApprovedBy string    `json:"approvedBy,omitzero"`
	// Held is when a server last saw that a legal hold keeps what is to be removed.
	Held time.Time `json:"held,omitzero"`
	// Done is when nothing of it was left but what tells of others too. Resources is
	// of how many something was removed, Versions how much of them together, and
	// Shared how many were left.
	Done      time.Time `json:"done,omitzero"`
	Resources int64     `json:"resources,omitzero"`
	Versions  int64     `json:"versions,omitzero"`
	Shared    int64     `json:"shared,omitzero"`
}

// purgeAD binds a sealed patient to the purge.
func purgeAD(tenant int32, id string) []byte {
	return fmt.Appendf(nil, "cordon|purge|%d|%s", tenant, id)
}

// purgeStands is how long after it was asked for a purge can be approved.
const purgeStands = 7 * 24 * time.Hour

// maxPurges bounds those of a tenant that are listed.
const maxPurges = 1000

// AskPurge asks for a purge of what the tenant has of the patient.
func (m *Migrator) AskPurge(ctx context.Context, slug, operator, patient, why string) (p Purge, err error) {
	row, err := m.TenantBySlug(ctx, slug)
	if err != nil {
		return p, err
	}
	id := rand.Text()
	sealed, err := keys.Wrap(m.cfg.KMS, m.cfg.KEK, []byte(patient), purgeAD(row.ID, id))
	if err == nil {
		p, err = scanPurge(m.registry.QueryRowContext(ctx, `
			INSERT INTO registry.purge (tenant_id, id, kek, patient, why, asked_by)
			VALUES ($1, $2, $3, $4, $5, $6)
			RETURNING `+purgeColumns, row.ID, id, m.cfg.KEK, sealed, why, operator).Scan)
	}
	if err != nil {
		return p, fmt.Errorf("asking for a purge of %s: %w", slug, err)
	}
	return p, nil
}

// ApprovePurge approves a purge that another operator asked for.
func (m *Migrator) ApprovePurge(ctx context.Context, slug, operator, id string) (p Purge, err error) {
	row, err := m.TenantBySlug(ctx, slug)
	if err != nil {
		return p, err
	}
	err = m.together(ctx, func(tx *sql.Tx) error {
		p, err = scanPurge(tx.QueryRowContext(ctx, `SELECT `+purgeColumns+` FROM registry.purge WHERE tenant_id = $1 AND id = $2 FOR UPDATE`, row.ID, id).Scan)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return fhir.Errorf(fhir.NotFound, "there is no such purge")
		case err != nil:
			return err
		case p.ApprovedBy != "":
			return fhir.Errorf(fhir.Conflict, "the purge was approved already")
		case p.AskedBy == operator:
			return fhir.Errorf(fhir.Forbidden, "a purge is approved by somebody else than who asked for it")
		case time.Since(p.Asked) > purgeStands:
			return fhir.Errorf(fhir.Conflict, "the purge was asked for too long ago; ask again")
		}
		p, err = scanPurge(tx.QueryRowContext(ctx, `
			UPDATE registry.purge SET approved = now(), approved_by = $3
			WHERE  tenant_id = $1 AND id = $2
			RETURNING `+purgeColumns, row.ID, id, operator).Scan)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("approving a purge of %s: %w", slug, err)
	}
	return p, nil
}

// Purges returns those of the tenant, the youngest first.
func (m *Migrator) Purges(ctx context.Context, slug string) (list []Purge, err error) {
	row, err := m.TenantBySlug(ctx, slug)
	if err != nil {
		return nil, err
	}
	list, err = collect(ctx, m.registry, scanPurge, `
		SELECT `+purgeColumns+` FROM registry.purge WHERE tenant_id = $1 ORDER BY asked DESC, id LIMIT $2`, row.ID, maxPurges)
	if err != nil {
		return nil, fmt.Errorf("listing the purges of %s: %w", slug, err)
	}
	return append([]Purge{}, list...), nil
}

const purgeColumns = `id, why, asked, asked_by, approved, coalesce(approved_by, ''), held, done, coalesce(resources, 0), coalesce(versions, 0), coalesce(shared, 0)`

func scanPurge(scan func(...any) error) (p Purge, err error) {
	var approved, held, done sql.NullTime
	err = scan(&p.ID, &p.Why, &p.Asked, &p.AskedBy, &approved, &p.ApprovedBy, &held, &done, &p.Resources, &p.Versions, &p.Shared)
	p.Asked, p.Approved, p.Held, p.Done = p.Asked.UTC(), approved.Time, held.Time, done.Time
	return p, err
}

// A Purger does the purges that are approved, beside the requests. Several processes
// may run one: of each tenant one at a time removes, and what one began another ends.
type Purger struct {
	DB       *DB       // required
	Registry *Registry // required
	// Tenants returns the tenants to look after. Required.
	Tenants func(context.Context) ([]*tenant.Tenant, error)
	// Every is how often it looks for purges. Default 2s.
	Every time.Duration

	Log *oplog.Logger
}

// Run works until ctx is done.
func (x *Purger) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := x.Round(ctx); err != nil && ctx.Err() == nil {
			x.Log.Error("removing what is of a patient", oplog.Cause(gate.Scrub(err)))
		}
		select {
		case <-ctx.Done():
		case <-time.After(cmp.Or(x.Every, 2*time.Second)):
		}
	}
}

// Round does what is approved. A purge that fails is tried again in the next; others
// go on.
func (x *Purger) Round(ctx context.Context) error {
	waiting, err := x.Registry.purging(ctx)
	if err != nil || len(waiting) == 0 {
		return err
	}
	list, err := x.Tenants(ctx)
	for _, t := range list {
		if !waiting[t.ID.Int()] {
			continue
		}
		failed := x.Registry.WithHolds(ctx, t, func(h *Holds) error { return x.purges(ctx, t, h) })
		if !errors.Is(failed, gate.ErrBusy) && !errors.Is(failed, gate.ErrUnbound) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

// purging returns the numbers of the tenants that have purges to be done.
func (r *Registry) purging(ctx context.Context) (map[int32]bool, error) {
	rows, err := r.pool.Query(ctx, `SELECT DISTINCT tenant_id FROM registry.purge WHERE approved IS NOT NULL AND done IS NULL`)
	if err != nil {
		return nil, fmt.Errorf("looking for purges: %w", scrubbed(err))
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, fmt.Errorf("looking for purges: %w", scrubbed(err))
	}
	waiting := map[int32]bool{}
	for _, n := range list {
		waiting[n] = true
	}
	return waiting, nil
}

// An approvedPurge is one that is to be done.
type approvedPurge struct {
	id, askedBy, approvedBy string
	patient                 fhir.Ref
}

// approved returns what is to be done for the tenant, the oldest first. One that
// cannot be opened is an error.
func (r *Registry) approved(ctx context.Context, t *tenant.Tenant) (list []approvedPurge, err error) {
	rows, err := r.pool.Query(ctx, `
		SELECT id, asked_by, approved_by, kek, patient
		FROM   registry.purge
		WHERE  tenant_id = $1 AND approved IS NOT NULL AND done IS NULL
		ORDER  BY approved, id`, t.ID.Int())
	if err != nil {
		return nil, fmt.Errorf("reading purges: %w", scrubbed(err))
	}
	err = eachRow(rows, func() error {
		var p approvedPurge
		var kek string
		var sealed []byte
		if err := rows.Scan(&p.id, &p.askedBy, &p.approvedBy, &kek, &sealed); err != nil {
			return err
		}
		patient, err := keys.Unwrap(r.kms, kek, sealed, purgeAD(t.ID.Int(), p.id))
		p.patient = fhir.Ref{Type: "Patient", ID: string(patient)}
		list = append(list, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading purges: %w", scrubbed(err))
	}
	return list, nil
}

// purges does all purges of a tenant that no legal hold keeps.
func (x *Purger) purges(ctx context.Context, t *tenant.Tenant, h *Holds) error {
	list, err := x.Registry.approved(ctx, t)
	if err != nil {
		return err
	}
	for _, p := range list {
		if h.Cover(fhir.Ref{}) || h.Cover(p.patient) {
			if _, err := x.Registry.pool.Exec(ctx, `UPDATE registry.purge SET held = now() WHERE tenant_id = $1 AND id = $2`, t.ID.Int(), p.id); err != nil {
				return fmt.Errorf("noting that a legal hold keeps a purge: %w", scrubbed(err))
			}
			continue
		}
		done, err := x.DB.purge(ctx, t, p, h)
		if errors.Is(err, errImporting) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := x.Registry.pool.Exec(ctx, `
			UPDATE registry.purge SET done = now(), resources = $3, versions = $4, shared = $5
			WHERE  tenant_id = $1 AND id = $2`, t.ID.Int(), p.id, done.resources, done.versions, done.shared); err != nil {
			return fmt.Errorf("noting that a purge is done: %w", scrubbed(err))
		}
	}
	return nil
}
