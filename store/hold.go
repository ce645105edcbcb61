package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// A Hold is a legal hold: nothing that it covers is removed while it is in force.
// Of which patient it is, is told to the servers alone.
type Hold struct {
	ID string `json:"id"`
	// OfPatient says that it covers what is of one patient, not all that the tenant
	// has.
	OfPatient bool      `json:"ofPatient"`
	Why       string    `json:"why"`
	Placed    time.Time `json:"placed"`
	PlacedBy  string    `json:"placedBy"`
	// AskedBy is the operator who asked to lift it, "" if nobody did, and LiftedBy the
	// other who did lift it.
	Asked    time.Time `json:"asked,omitzero"`
	AskedBy  string    `json:"askedBy,omitzero"`
	AskedWhy string    `json:"askedWhy,omitzero"`
	Lifted   time.Time `json:"lifted,omitzero"`
	LiftedBy string    `json:"liftedBy,omitzero"`
}

// holdAD binds a sealed patient to the hold.
func holdAD(tenant int32, id string) []byte {
	return fmt.Appendf(nil, "cordon|hold|%d|%s", tenant, id)
}

// holdLock is held, with the number of a tenant, by who removes something of it,
// and by who places or lifts a hold.
const holdLock = 0x686f6c64

// maxHolds bounds those in force at a tenant.
const maxHolds = 1000

// PlaceHold places a hold on all that the tenant has, or on what is of the patient.
// Once it returns nothing that it covers is removed.
func (m *Migrator) PlaceHold(ctx context.Context, slug, operator string, patient fhir.Ref, why string) (h Hold, err error) {
	err = m.onHolds(ctx, slug, func(tx *sql.Tx, number int32) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM registry.legal_hold WHERE tenant_id = $1 AND lifted IS NULL`, number).Scan(&n); err != nil {
			return err
		}
		if n >= maxHolds {
			return fhir.Errorf(fhir.TooCostly, "at most %d legal holds can be in force: place one on all that the tenant has", maxHolds)
		}
		id := rand.Text()
		var kek *string
		var sealed []byte
		if !patient.IsZero() {
			kek = &m.cfg.KEK
			if sealed, err = keys.Wrap(m.cfg.KMS, m.cfg.KEK, []byte(patient.ID), holdAD(number, id)); err != nil {
				return err
			}
		}
		h, err = scanHold(tx.QueryRowContext(ctx, `
			INSERT INTO registry.legal_hold (tenant_id, id, kek, patient, why, placed_by)
			VALUES ($1, $2, $3, $4, $5, $6)
			RETURNING `+holdColumns, number, id, kek, sealed, why, operator).Scan)
		return err
	})
	return h, err
}

// LiftHold asks to lift the hold or, if another operator has asked, lifts it.
func (m *Migrator) LiftHold(ctx context.Context, slug, operator, id, why string) (h Hold, err error) {
	err = m.onHolds(ctx, slug, func(tx *sql.Tx, number int32) error {
		h, err = scanHold(tx.QueryRowContext(ctx, `SELECT `+holdColumns+` FROM registry.legal_hold WHERE tenant_id = $1 AND id = $2`, number, id).Scan)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return fhir.Errorf(fhir.NotFound, "there is no such legal hold")
		case err != nil:
			return err
		case !h.Lifted.IsZero():
			return fhir.Errorf(fhir.Conflict, "the legal hold was lifted already")
		case h.AskedBy == operator:
			return fhir.Errorf(fhir.Forbidden, "a legal hold is lifted by somebody else than who asked for it")
		case h.AskedBy == "":
			h, err = scanHold(tx.QueryRowContext(ctx, `
				UPDATE registry.legal_hold SET asked = now(), asked_by = $3, asked_why = $4
				WHERE  tenant_id = $1 AND id = $2
				RETURNING `+holdColumns, number, id, operator, why).Scan)
		default:
			h, err = scanHold(tx.QueryRowContext(ctx, `
				UPDATE registry.legal_hold SET lifted = now(), lifted_by = $3
				WHERE  tenant_id = $1 AND id = $2
				RETURNING `+holdColumns, number, id, operator).Scan)
		}
		return err
	})
	return h, err
}

// Holds returns the holds of the tenant, those in force first.
func (m *Migrator) Holds(ctx context.Context, slug string) (list []Hold, err error) {
	row, err := m.TenantBySlug(ctx, slug)
	if err != nil {
		return nil, err
	}
	list, err = collect(ctx, m.registry, scanHold, `
		SELECT `+holdColumns+`
		FROM   registry.legal_hold
		WHERE  tenant_id = $1
		ORDER  BY lifted IS NOT NULL, placed DESC, id
		LIMIT  $2`, row.ID, 2*maxHolds)
	if err != nil {
		return nil, fmt.Errorf("listing the legal holds of %s: %w", slug, err)
	}
	return append([]Hold{}, list...), nil
}

// onHolds runs fn in a transaction in which nobody removes anything of the tenant.
func (m *Migrator) onHolds(ctx context.Context, slug string, fn func(*sql.Tx, int32) error) error {
	row, err := m.TenantBySlug(ctx, slug)
	if err != nil {
		return err
	}
	err = m.together(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1::int, $2::int)`, int32(holdLock), row.ID); err != nil {
			return err
		}
		return fn(tx, row.ID)
	})
	if err != nil {
		return fmt.Errorf("changing the legal holds of %s: %w", slug, err)
	}
	return nil
}

const holdColumns = `id, patient IS NOT NULL, why, placed, placed_by, asked, coalesce(asked_by, ''), coalesce(asked_why, ''), lifted, coalesce(lifted_by, '')`

func scanHold(scan func(...any) error) (h Hold, err error) {
	var asked, lifted sql.NullTime
	err = scan(&h.ID, &h.OfPatient, &h.Why, &h.Placed, &h.PlacedBy, &asked, &h.AskedBy, &h.AskedWhy, &lifted, &h.LiftedBy)
	h.Placed, h.Asked, h.Lifted = h.Placed.UTC(), asked.Time, lifted.Time
	return h, err
}

// Holds are the legal holds of a tenant that are in force, while nobody can place
// another.
type Holds struct {
	all      bool
	patients []fhir.Ref
	tx       pgx.Tx
}

// Cover reports whether what is of the patient must not be removed; for the zero
// Ref, whether nothing must.
func (h *Holds) Cover(patient fhir.Ref) bool {
	if h.all {
		return true
	}
	for _, p := range h.patients {
		if p == patient {
			return true
		}
	}
	return false
}

// Still returns an error unless it is known that no hold was placed since. Who
// removes asks right before the commit.
func (h *Holds) Still(ctx context.Context) error {
	_, err := h.tx.Exec(ctx, `SELECT 1`)
	return err
}

// WithHolds runs fn, which removes things of the tenant, with the holds in force.
// Whoever places a hold meanwhile waits for it to return. The error is gate.ErrBusy
// if somebody else removes or places.
func (r *Registry) WithHolds(ctx context.Context, t *tenant.Tenant, fn func(*Holds) error) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		var alone bool
		if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1::int, $2::int)`, int32(holdLock), t.ID.Int()).Scan(&alone); err != nil {
			return fmt.Errorf("reading legal holds: %w", scrubbed(err))
		}
		if !alone {
			return gate.ErrBusy
		}
		h, err := r.holds(ctx, tx, t)
		if err != nil {
			return fmt.Errorf("reading legal holds: %w", err)
		}
		return fn(h)
	})
}

// holds reads the holds in force. One that cannot be opened is an error: what it
// covers is not known.
func (r *Registry) holds(ctx context.Context, tx pgx.Tx, t *tenant.Tenant) (*Holds, error) {
	h := &Holds{tx: tx}
	rows, err := tx.Query(ctx, `
		SELECT id, coalesce(kek, ''), patient
		FROM   registry.legal_hold
		WHERE  tenant_id = $1 AND lifted IS NULL
		ORDER  BY id`, t.ID.Int())
	if err != nil {
		return nil, scrubbed(err)
	}
	err = eachRow(rows, func() error {
		var id, kek string
		var sealed []byte
		if err := rows.Scan(&id, &kek, &sealed); err != nil {
			return err
		}
		if sealed == nil {
			h.all = true
			return nil
		}
		patient, err := keys.Unwrap(r.kms, kek, sealed, holdAD(t.ID.Int(), id))
		if err != nil {
			return err
		}
		h.patients = append(h.patients, fhir.Ref{Type: "Patient", ID: string(patient)})
		return nil
	})
	return h, err
}
