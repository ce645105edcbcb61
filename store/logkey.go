package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// platformNumber stands for the number of a tenant where something is of none.
const platformNumber = 0

// logKeyAD binds a sealed private key to its log.
func logKeyAD(number int32) []byte { return placementAD(number, "log_key") }

// makeLogKeys gives a key to every log that has none.
func (m *Migrator) makeLogKeys(ctx context.Context) error {
	conn, err := m.registry.Conn(ctx)
	if err != nil {
		return fmt.Errorf("making keys of audit logs: %w", err)
	}
	defer conn.Close()
	if err := m.makeLogKey(ctx, conn, platformNumber, ledger.Origin(ledger.Platform)); err != nil {
		return err
	}
	rows, err := conn.QueryContext(ctx, `
		SELECT id, slug
		FROM   registry.tenant t
		WHERE  NOT EXISTS (SELECT FROM registry.log_key k WHERE k.tenant_id = t.id)
		ORDER  BY id`)
	if err != nil {
		return fmt.Errorf("making keys of audit logs: %w", err)
	}
	missing := map[int32]string{}
	for rows.Next() {
		var id int32
		var slug string
		if err := rows.Scan(&id, &slug); err != nil {
			return errors.Join(err, rows.Close())
		}
		missing[id] = slug
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("making keys of audit logs: %w", err)
	}
	for id, slug := range missing {
		if err := m.makeLogKey(ctx, conn, id, ledger.Origin(slug)); err != nil {
			return err
		}
	}
	return nil
}

// makeLogKey gives a log its key, unless it has one: Ed25519, in the form of
// signed notes, named by the log.
func (m *Migrator) makeLogKey(ctx context.Context, conn *sql.Conn, number int32, origin string) error {
	signer, verifier, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return fmt.Errorf("making the key of %s: %w", origin, err)
	}
	sealed, err := keys.Wrap(m.cfg.KMS, m.cfg.KEK, []byte(signer), logKeyAD(number))
	if err != nil {
		return fmt.Errorf("making the key of %s: %w", origin, err)
	}
	err = m.together(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `
			INSERT INTO registry.log_key (tenant_id, verifier, kek, data)
			VALUES ($1, $2, $3, $4)
			ON CONFLICT (tenant_id) DO NOTHING`, number, verifier, m.cfg.KEK, sealed)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return ownerDid(ctx, tx, "made the key of the audit log "+origin+": "+verifier, audit.Success)
	})
	if err != nil {
		return fmt.Errorf("storing the key of %s: %w", origin, err)
	}
	return nil
}

// makeLogRole gives a tenant with a database of its own the role that makes a
// log of its audit trail, if it was made by a release that knew none.
func (m *Migrator) makeLogRole(ctx context.Context, mode tenant.Mode, id int32) error {
	if mode != tenant.Database {
		return nil
	}
	var has bool
	if err := m.registry.QueryRowContext(ctx, `SELECT log_dsn IS NOT NULL FROM registry.tenant WHERE id = $1`, id).Scan(&has); err != nil || has {
		return err
	}
	s, secret := m.site(mode, id), rand.Text()
	err := m.on(ctx, s.database, func(conn *sql.Conn) error {
		if err := makeRole(ctx, conn, s.names.Log, secret); err != nil {
			return err
		}
		return exec(ctx, conn, `GRANT CONNECT ON DATABASE `+s.database+` TO `+s.names.Log)
	})
	if err != nil {
		return fmt.Errorf("making role %s: %w", s.names.Log, err)
	}
	dsn, err := m.url(s.names.Log, secret, s.database)
	if err != nil {
		return err
	}
	// It is opened with the key that opens the others.
	var kek string
	if err := m.registry.QueryRowContext(ctx, `SELECT kek FROM registry.tenant WHERE id = $1`, id).Scan(&kek); err != nil {
		return err
	}
	sealed, err := keys.Wrap(m.cfg.KMS, kek, []byte(dsn), placementAD(id, "log_dsn"))
	if err != nil {
		return err
	}
	_, err = m.registry.ExecContext(ctx, `UPDATE registry.tenant SET log_dsn = $2, updated = now() WHERE id = $1`, id, sealed)
	return err
}

// LogVerifier returns the public key that verifies the checkpoints of the audit
// log of the tenant; of the platform if t is nil. It is in the form of
// https://pkg.go.dev/golang.org/x/mod/sumdb/note
func (r *Registry) LogVerifier(ctx context.Context, t *tenant.Tenant) (string, error) {
	k, err := r.logKey(ctx, t)
	return k.verifier, err
}

// logSigner returns the key that signs them.
func (r *Registry) logSigner(ctx context.Context, t *tenant.Tenant) (note.Signer, note.Verifier, error) {
	k, err := r.logKey(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	secret, err := keys.Unwrap(r.kms, k.kek, k.sealed, logKeyAD(numberOf(t)))
	if err != nil {
		return nil, nil, fmt.Errorf("opening the key of an audit log: %w", err)
	}
	signer, err := note.NewSigner(string(secret))
	if err != nil {
		return nil, nil, errors.New("store: the key of an audit log is malformed")
	}
	verifier, err := note.NewVerifier(k.verifier)
	if err != nil || verifier.KeyHash() != signer.KeyHash() || verifier.Name() != signer.Name() {
		return nil, nil, errors.New("store: the public key of an audit log is not of its private key")
	}
	return signer, verifier, nil
}

type logKey struct {
	verifier, kek string
	sealed        []byte
}

func (r *Registry) logKey(ctx context.Context, t *tenant.Tenant) (k logKey, err error) {
	err = gate.Steadily(func() error {
		return r.pool.QueryRow(ctx, `
			SELECT verifier, kek, data
			FROM   registry.log_key
			WHERE  tenant_id = $1`, numberOf(t)).Scan(&k.verifier, &k.kek, &k.sealed)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return k, fhir.Errorf(fhir.NotFound, "the audit log has no key")
	}
	if err != nil {
		return k, fmt.Errorf("reading the key of an audit log: %w", scrubbed(err))
	}
	return k, nil
}

// numberOf returns the number of the tenant, that of the platform for nil.
func numberOf(t *tenant.Tenant) int32 {
	if t == nil {
		return platformNumber
	}
	return t.ID.Int()
}
