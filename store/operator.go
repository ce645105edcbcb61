package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
)

// An Operator is someone who may use the control API.
type Operator struct {
	ID   string
	Name string // for people
	// JWK is the public key that the operator's tokens are signed with.
	JWK      []byte
	Disabled bool
}

// ErrUnknownOperator says that there is no operator with the id.
var ErrUnknownOperator = errors.New("store: unknown operator")

// PutOperator adds an operator, or replaces the one with the id, and says so in
// the platform's audit trail. Only the owner can: no API makes operators.
func (m *Migrator) PutOperator(ctx context.Context, o Operator) error {
	did := "stored operator " + o.ID
	if o.Disabled {
		did = "disabled operator " + o.ID
	}
	err := m.together(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO registry.operator (id, name, jwk, disabled) VALUES ($1, $2, $3, $4)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, jwk = excluded.jwk, disabled = excluded.disabled`,
			o.ID, o.Name, o.JWK, o.Disabled); err != nil {
			return err
		}
		return ownerDid(ctx, tx, did, audit.Success)
	})
	if err != nil {
		return fmt.Errorf("storing operator %s: %w", o.ID, err)
	}
	return nil
}

// Operator returns the operator with the id, or ErrUnknownOperator.
func (r *Registry) Operator(ctx context.Context, id string) (Operator, error) {
	o := Operator{ID: id}
	err := r.pool.QueryRow(ctx, `SELECT name, jwk, disabled FROM registry.operator WHERE id = $1`, id).
		Scan(&o.Name, &o.JWK, &o.Disabled)
	if errors.Is(err, pgx.ErrNoRows) {
		return Operator{}, ErrUnknownOperator
	}
	if err != nil {
		return Operator{}, fmt.Errorf("reading an operator: %w", err)
	}
	return o, nil
}

// UseOperatorToken reports whether the operator's token with the jti comes for
// the first time. It must expire at exp.
func (r *Registry) UseOperatorToken(ctx context.Context, operator, jti string, exp time.Time) (fresh bool, err error) {
	hash := sha256.Sum256([]byte(jti))
	fresh, err = r.useOnce(ctx, `
		INSERT INTO registry.operator_token (operator, jti, expires) VALUES ($1, $2, $3)
		ON CONFLICT DO NOTHING`, operator, hash[:], exp)
	if err != nil {
		return false, fmt.Errorf("recording the use of an operator's token: %w", err)
	}
	return fresh, nil
}
