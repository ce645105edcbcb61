package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/tenant"
)

// A PlatformEntry is an entry of the platform's audit trail.
type PlatformEntry struct {
	Number      int64     `json:"number"`
	Recorded    time.Time `json:"recorded"`
	Interaction string    `json:"interaction"`
	Outcome     int       `json:"outcome"`
	Status      int       `json:"status"`
	Reason      string    `json:"reason,omitzero"`
	RequestID   string    `json:"requestId"`
	Address     string    `json:"address,omitzero"`
	Method      string    `json:"method"`
	Server      string    `json:"server,omitzero"`
	Client      string    `json:"client,omitzero"`
	User        string    `json:"user,omitzero"`
	Issuer      string    `json:"issuer,omitzero"`
	TokenID     string    `json:"tokenId,omitzero"`
	// Leaf is which one of the log it is; nil if it is none yet.
	Leaf *int64 `json:"leaf,omitzero"`
}

// platformPage is how many entries of the platform's trail are read at a time.
const platformPage = 200

// PlatformTrail returns entries of the platform's trail, the newest first: those
// before the one with the number, or the last for 0.
func (m *Migrator) PlatformTrail(ctx context.Context, before int64) ([]PlatformEntry, error) {
	list, err := rowsOf(ctx, m.registry, `
		SELECT e.seq, e.recorded, e.interaction, e.outcome, e.status, e.reason, e.request_id, e.address, e.method, e.server,
		       e.client, e.fhir_user, e.issuer, e.token_id, l.leaf
		FROM   registry.platform_audit e
		LEFT   JOIN registry.audit_leaf l ON l.tenant_id = 0 AND l.seq = e.seq
		WHERE  $1 = 0 OR e.seq < $1
		ORDER  BY e.seq DESC
		LIMIT  $2`, []any{before, platformPage}, func(e *PlatformEntry) []any {
		return []any{&e.Number, &e.Recorded, &e.Interaction, &e.Outcome, &e.Status, &e.Reason, &e.RequestID, &e.Address, &e.Method, &e.Server,
			&e.Client, &e.User, &e.Issuer, &e.TokenID, &e.Leaf}
	})
	if err != nil {
		return nil, fmt.Errorf("reading the platform's audit trail: %w", err)
	}
	if list == nil {
		list = []PlatformEntry{}
	}
	return list, nil
}

// An execer is a connection to the registry, or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// together runs fn in a transaction on the registry.
func (m *Migrator) together(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := m.registry.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// ownerDid adds to the platform's trail what the owner of the databases did.
func ownerDid(ctx context.Context, in execer, did string, outcome audit.Outcome) error {
	status := 200
	if outcome != audit.Success {
		status = 500
	}
	_, err := in.ExecContext(ctx, `
		INSERT INTO registry.platform_audit (recorded, interaction, outcome, status, reason,
		       request_id, address, method, server, client, fhir_user, issuer, token_id)
		VALUES (now(), $1, $2, $3, $4, $5, '', 'other', 'owner', session_user, '', '', '')`,
		string(fhir.Operation), int16(outcome), status, did, rand.Text())
	if err != nil {
		return fmt.Errorf("writing the platform's audit trail: %w", err)
	}
	return nil
}

// tellKey adds to the platform's trail, in the transaction that keeps it, that this
// server made a key.
func tellKey(ctx context.Context, tx pgx.Tx, said string) error {
	machine, _ := os.Hostname()
	_, err := tx.Exec(ctx, `
		INSERT INTO registry.platform_audit (recorded, interaction, outcome, status, reason,
		       request_id, address, method, server, client, fhir_user, issuer, token_id)
		VALUES (now(), $1, 0, 200, $2, $3, '', 'other', $4, $5, '', '', '')`,
		string(fhir.Operation), said, rand.Text(), machine, keysAgent)
	return err
}

// keysAgent is who makes and opens keys, as the platform's trail names it.
const keysAgent = "cordon-keys"

// TellKeysFailed adds to the platform's trail that the keys of a tenant could not be
// opened.
func (r *Registry) TellKeysFailed(id tenant.ID) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	machine, _ := os.Hostname()
	return r.AppendPlatform(ctx, []audit.Entry{{
		Recorded: time.Now().UTC(), Interaction: fhir.Operation, Outcome: audit.MajorFailure, Status: 503,
		Reason: "the keys of tenant " + id.String() + " could not be opened", Origin: audit.Origin{RequestID: rand.Text(), Method: "other", Server: machine},
		Agent: audit.Agent{Client: keysAgent},
	}})
}
