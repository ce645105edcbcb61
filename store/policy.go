package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// A PolicyChange is a text that somebody proposed as the access policy of a
// tenant. Once somebody else approved it, it is a version of the policy.
type PolicyChange struct {
	Number     int64 // counts the proposals of the tenant
	Base       int64 // the version that it is to replace
	Note       string
	Text       string // "" in lists
	ProposedBy string
	Proposed   time.Time
	Version    int64 // 0 as long as it is not approved
	ApprovedBy string
	Approved   time.Time
}

// maxNote bounds what is said of a change.
const maxNote = 500

// proposalAD and versionAD bind sealed texts to what they are of: a text that
// was proposed does not open as one that is in force.
func proposalAD(id int32, number int64) []byte {
	return placementAD(id, "policy|proposal|"+strconv.FormatInt(number, 10))
}

func versionAD(id int32, version int64) []byte {
	return placementAD(id, "policy|version|"+strconv.FormatInt(version, 10))
}

// Policy returns the text of a version of the tenant's access policy.
func (r *Registry) Policy(ctx context.Context, t *tenant.Tenant, version int64) (string, error) {
	var kek string
	var sealed []byte
	err := gate.Steadily(func() error {
		return r.pool.QueryRow(ctx, `
			SELECT kek, text
			FROM   registry.policy
			WHERE  tenant_id = $1 AND version = $2`, t.ID.Int(), version).Scan(&kek, &sealed)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("there is no version %d of the policy of %s", version, t.Slug)
	}
	if err != nil {
		return "", fmt.Errorf("reading the policy of %s: %w", t.Slug, err)
	}
	return openPolicy(r.kms, kek, sealed, versionAD(t.ID.Int(), version))
}

func openPolicy(kms keys.KMS, kek string, sealed, ad []byte) (string, error) {
	text, err := keys.Unwrap(kms, kek, sealed, ad)
	if err != nil {
		return "", fmt.Errorf("opening a policy: %w", err)
	}
	return string(text), nil
}

// ProposePolicy keeps a text as a proposal of the operator, if it is a policy
// that can be answered. Nothing changes before somebody else approves it.
func (m *Migrator) ProposePolicy(ctx context.Context, slug, operator, note, text string) (PolicyChange, error) {
	if _, err := smart.ParsePolicy(text); err != nil {
		return PolicyChange{}, err
	}
	if len(note) > maxNote {
		return PolicyChange{}, fhir.Errorf(fhir.Invalid, "a note has at most %d bytes", maxNote)
	}
	row, err := m.TenantBySlug(ctx, slug)
	if err != nil {
		return PolicyChange{}, err
	}
	c := PolicyChange{Base: row.PolicyVersion, Note: note, Text: text, ProposedBy: operator}
	err = m.lockedTenant(ctx, slug, func(conn *sql.Conn) error {
		if err := conn.QueryRowContext(ctx, `SELECT coalesce(max(number), 0) + 1 FROM registry.policy WHERE tenant_id = $1`, row.ID).
			Scan(&c.Number); err != nil {
			return err
		}
		sealed, err := keys.Wrap(m.cfg.KMS, m.cfg.KEK, []byte(text), proposalAD(row.ID, c.Number))
		if err != nil {
			return err
		}
		return conn.QueryRowContext(ctx, `
			INSERT INTO registry.policy (tenant_id, number, base, note, kek, proposal, proposed_by)
			VALUES ($1, $2, $3, $4, $5, $6, $7)
			RETURNING proposed`, row.ID, c.Number, c.Base, note, m.cfg.KEK, sealed, operator).Scan(&c.Proposed)
	})
	if err != nil {
		return PolicyChange{}, fmt.Errorf("proposing a policy for %s: %w", slug, err)
	}
	return c, nil
}

// ApprovePolicy brings a proposal into force in the name of an operator who is
// not the one who proposed it. When it returns, every request of the tenant that
// begins is decided by it, on every server: the place of the tenant knows it by
// the version from then on, and refuses who comes with another. To approve what
// is in force is to finish what may have been begun.
func (m *Migrator) ApprovePolicy(ctx context.Context, slug, operator string, number int64) (PolicyChange, error) {
	var c PolicyChange
	err := m.lockedTenant(ctx, slug, func(conn *sql.Conn) error {
		row, err := m.TenantBySlug(ctx, slug)
		if err != nil {
			return err
		}
		if row.Status == string(tenant.Provisioning) {
			return fhir.Errorf(fhir.Conflict, "the tenant is not ready yet")
		}
		if c, err = m.PolicyChange(ctx, slug, number); err != nil {
			return err
		}
		if c.Version == 0 {
			if err := m.approve(ctx, conn, row, &c, operator); err != nil {
				return err
			}
			row.PolicyVersion = c.Version
		}
		if c.Version != row.PolicyVersion {
			return fhir.Errorf(fhir.Conflict, "the change was approved before, and others since")
		}
		s := m.site(tenant.Mode(row.Mode), row.ID)
		return m.on(ctx, s.database, func(conn *sql.Conn) error { return readmit(ctx, conn, s, admission{row.ID, row.PolicyVersion}) })
	})
	if err != nil {
		return PolicyChange{}, err
	}
	return c, nil
}

// approve makes the proposal a version.
func (m *Migrator) approve(ctx context.Context, conn *sql.Conn, row tenant.Row, c *PolicyChange, operator string) error {
	switch {
	case operator == c.ProposedBy:
		return fhir.Errorf(fhir.Forbidden, "a policy is approved by somebody else than who proposed it")
	case c.Base != row.PolicyVersion:
		return fhir.Errorf(fhir.Conflict, "the policy was changed since this was proposed: propose it anew")
	}
	if _, err := smart.ParsePolicy(c.Text); err != nil { // of an earlier release, perhaps
		return err
	}
	c.Version, c.ApprovedBy = c.Base+1, operator
	sealed, err := keys.Wrap(m.cfg.KMS, m.cfg.KEK, []byte(c.Text), versionAD(row.ID, c.Version))
	if err != nil {
		return fmt.Errorf("sealing a policy: %w", err)
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("approving a policy: %w", err)
	}
	err = tx.QueryRowContext(ctx, `
		UPDATE registry.policy
		SET    version = $3, text = $4, approved_by = $5, approved = now()
		WHERE  tenant_id = $1 AND number = $2 AND version IS NULL
		RETURNING approved`, row.ID, c.Number, c.Version, sealed, operator).Scan(&c.Approved)
	if err == nil {
		_, err = tx.ExecContext(ctx, `
			UPDATE registry.tenant SET policy_version = $2, updated = now()
			WHERE  id = $1 AND policy_version = $2 - 1`, row.ID, c.Version)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("approving a policy: %w", err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("approving a policy: %w", err)
	}
	return nil
}

// PolicyChange returns a proposal with its text.
func (m *Migrator) PolicyChange(ctx context.Context, slug string, number int64) (PolicyChange, error) {
	var id int32
	var kek string
	var sealed []byte
	c, err := scanPolicy(func(into ...any) error {
		return m.registry.QueryRowContext(ctx, `
			SELECT p.number, p.base, p.note, p.proposed_by, p.proposed, p.version, p.approved_by, p.approved, p.tenant_id, p.kek, p.proposal
			FROM   registry.policy p JOIN registry.tenant t ON t.id = p.tenant_id
			WHERE  t.slug = $1 AND p.number = $2`, slug, number).Scan(append(into, &id, &kek, &sealed)...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return PolicyChange{}, fhir.Errorf(fhir.NotFound, "there is no such change of the policy")
	}
	if err == nil {
		c.Text, err = openPolicy(m.cfg.KMS, kek, sealed, proposalAD(id, number))
	}
	if err != nil {
		return PolicyChange{}, fmt.Errorf("reading a change of the policy of %s: %w", slug, err)
	}
	return c, nil
}

// PolicyChanges returns all that was proposed, newest first, without the texts.
func (m *Migrator) PolicyChanges(ctx context.Context, slug string) ([]PolicyChange, error) {
	if _, err := m.TenantBySlug(ctx, slug); err != nil {
		return nil, err
	}
	list, err := collect(ctx, m.registry, scanPolicy, `
		SELECT p.number, p.base, p.note, p.proposed_by, p.proposed, p.version, p.approved_by, p.approved
		FROM   registry.policy p JOIN registry.tenant t ON t.id = p.tenant_id
		WHERE  t.slug = $1
		ORDER  BY p.number DESC`, slug)
	if err != nil {
		return nil, fmt.Errorf("listing the changes of the policy of %s: %w", slug, err)
	}
	return list, nil
}

// PolicyVersion returns the change by which the version of the policy came; for
// the first version, which no change made, the profile that it is.
func (m *Migrator) PolicyVersion(ctx context.Context, slug string, version int64) (PolicyChange, error) {
	if version == tenant.FirstPolicy {
		text, _ := smart.Profile("scopes")
		_, err := m.TenantBySlug(ctx, slug)
		return PolicyChange{Version: version, Text: text, Note: "nothing was chosen"}, err
	}
	list, err := m.PolicyChanges(ctx, slug)
	if err != nil {
		return PolicyChange{}, err
	}
	for _, c := range list {
		if c.Version == version {
			return m.PolicyChange(ctx, slug, c.Number)
		}
	}
	return PolicyChange{}, fhir.Errorf(fhir.NotFound, "there is no such version of the policy")
}

func scanPolicy(scan func(...any) error) (c PolicyChange, err error) {
	var version sql.NullInt64
	var by sql.NullString
	var at sql.NullTime
	err = scan(&c.Number, &c.Base, &c.Note, &c.ProposedBy, &c.Proposed, &version, &by, &at)
	c.Version, c.ApprovedBy, c.Approved = version.Int64, by.String, at.Time
	return c, err
}

// lockedTenant runs fn while nobody else makes or changes the tenant.
func (m *Migrator) lockedTenant(ctx context.Context, slug string, fn func(*sql.Conn) error) error {
	conn, err := m.registry.Conn(ctx)
	if err != nil {
		return fmt.Errorf("changing tenant %s: %w", slug, err)
	}
	defer conn.Close()
	unlock, err := lock(ctx, conn, "cordon.tenant."+slug)
	if err != nil {
		return fmt.Errorf("changing tenant %s: %w", slug, err)
	}
	defer unlock()
	return fn(conn)
}
