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

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// platformNumber stands for the number of a tenant where something is of none.
const platformNumber = 0

// logKeyAD binds a sealed private key to its log, and to which of its keys it is.
func logKeyAD(number, key int32) []byte {
	if key == 0 {
		return placementAD(number, "log_key")
	}
	return placementAD(number, fmt.Sprintf("log_key|%d", key))
}

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
	type keyless struct {
		id   int32
		slug string
	}
	missing, err := rowsOf(ctx, conn, `
		SELECT id, slug
		FROM   registry.tenant t
		WHERE  NOT EXISTS (SELECT FROM registry.log_key k WHERE k.tenant_id = t.id)
		ORDER  BY id`, nil,
		func(t *keyless) []any { return []any{&t.id, &t.slug} })
	if err != nil {
		return fmt.Errorf("making keys of audit logs: %w", err)
	}
	for _, t := range missing {
		if err := m.makeLogKey(ctx, conn, t.id, ledger.Origin(t.slug)); err != nil {
			return err
		}
	}
	return nil
}

// makeLogKey gives a log its key, unless it has one: Ed25519, in the form of
// signed notes, named by the log.
func (m *Migrator) makeLogKey(ctx context.Context, conn *sql.Conn, number int32, origin string) error {
	private, verifier, err := ledger.GenerateSigner(origin)
	if err != nil {
		return err
	}
	sealed, err := keys.Wrap(m.cfg.KMS, m.cfg.KEK, []byte(private), logKeyAD(number, 0))
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
// log of the tenant now; of the platform if t is nil. It is in the form of
// https://pkg.go.dev/golang.org/x/mod/sumdb/note
func (r *Registry) LogVerifier(ctx context.Context, t *tenant.Tenant) (string, error) {
	list, err := r.LogKeys(ctx, t)
	if err != nil {
		return "", err
	}
	return list[len(list)-1].Key, nil
}

// A LogKey is a key of an audit log.
type LogKey struct {
	// Key is the public one.
	Key   string
	Since time.Time
	// Until is when what it alone has signed counts no longer; zero for the newest.
	Until time.Time
	// Wrapped is the URI of the key that wraps the private one.
	Wrapped string
}

// LogKeys returns the keys of the audit log of the tenant, of the platform if t is
// nil; the newest is the last.
func (r *Registry) LogKeys(ctx context.Context, t *tenant.Tenant) ([]LogKey, error) {
	rows, err := r.logKeys(ctx, t)
	if err != nil {
		return nil, err
	}
	return rows.list()
}

// logSigner returns what signs them, and which keys are believed.
func (r *Registry) logSigner(ctx context.Context, t *tenant.Tenant) (*ledger.Holder, *ledger.Trust, error) {
	rows, err := r.logKeys(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	return rows.holder(r.kms, numberOf(t))
}

// logKeyRows are the keys of a log, the first one first.
type logKeyRows []logKeyRow

type logKeyRow struct {
	number int32
	said   string // the public key; after the first, the line of its Succession
	kek    string
	sealed []byte
	made   time.Time
}

const logKeysQuery = `
	SELECT 0 AS number, verifier, kek, data, created FROM registry.log_key WHERE tenant_id = $1
	UNION  ALL
	SELECT number, said, kek, data, made FROM registry.log_succession WHERE tenant_id = $1
	ORDER  BY number`

func (k *logKeyRow) fields() []any { return []any{&k.number, &k.said, &k.kek, &k.sealed, &k.made} }

func (r *Registry) logKeys(ctx context.Context, t *tenant.Tenant) (list logKeyRows, err error) {
	err = gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, logKeysQuery, numberOf(t))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (k logKeyRow, err error) {
			return k, row.Scan(k.fields()...)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the key of an audit log: %w", scrubbed(err))
	}
	if len(list) == 0 {
		return nil, errNoLogKey
	}
	return list, nil
}

// list returns them as they are shown.
func (l logKeyRows) list() ([]LogKey, error) {
	if len(l) == 0 {
		return nil, errNoLogKey
	}
	chain, err := l.chain()
	if err != nil {
		return nil, err
	}
	list := []LogKey{{Key: l[0].said, Since: l[0].made, Wrapped: l[0].kek}}
	ends := ledger.Ends(chain)
	for i, s := range chain {
		list[i].Until = ends[i]
		list = append(list, LogKey{Key: s.To, Since: s.Since, Wrapped: l[i+1].kek})
	}
	return list, nil
}

var errNoLogKey = fhir.Errorf(fhir.NotFound, "the audit log has no key")

// chain returns how the keys came after one another.
func (l logKeyRows) chain() ([]ledger.Succession, error) {
	chain := []ledger.Succession{}
	for _, row := range l[1:] {
		s, err := ledger.ParseSuccession(row.said)
		if err != nil {
			return nil, fmt.Errorf("store: the keys of an audit log: %w", err)
		}
		chain = append(chain, s)
	}
	return chain, nil
}

// holder opens the keys that sign: the newest, and those before it that count still.
func (l logKeyRows) holder(kms keys.KMS, number int32) (*ledger.Holder, *ledger.Trust, error) {
	first, err := ledger.ParseKey(l[0].said)
	if err != nil {
		return nil, nil, err
	}
	chain, err := l.chain()
	if err != nil {
		return nil, nil, err
	}
	trust := ledger.NewTrust(first)
	if err := trust.Follow(chain); err != nil {
		return nil, nil, fmt.Errorf("store: the keys of an audit log: %w", err)
	}
	h, ends := &ledger.Holder{Keys: chain}, ledger.Ends(chain)
	for i, row := range l {
		public := l[0].said
		if i > 0 {
			public = chain[i-1].To
		}
		if i < len(chain) && !time.Now().Before(ends[i]) {
			continue
		}
		signer, err := row.open(kms, number, public)
		if err != nil {
			return nil, nil, err
		}
		if i == len(chain) {
			h.Signer = signer
		} else {
			h.Older = append(h.Older, signer)
		}
	}
	return h, trust, nil
}

// open returns what signs with the key, which must be that of the public one.
func (k logKeyRow) open(kms keys.KMS, number int32, public string) (ledger.Signer, error) {
	secret, err := keys.Unwrap(kms, k.kek, k.sealed, logKeyAD(number, k.number))
	if err != nil {
		return nil, fmt.Errorf("opening the key of an audit log: %w", err)
	}
	signer, err := ledger.ParseSigner(string(secret))
	if err != nil {
		return nil, errors.New("store: the key of an audit log is malformed")
	}
	key, err := ledger.ParseKey(public)
	if err != nil || key.KeyHash() != signer.KeyHash() || key.Name() != signer.Name() {
		return nil, errors.New("store: the public key of an audit log is not of its private key")
	}
	return signer, nil
}

// logKeyOverlap is how long what the key before alone has signed counts: servers and
// who verifies get to know the next one.
const logKeyOverlap = 24 * time.Hour

// RotateLogKey makes the next key of the audit log of the tenant, of the platform if t
// is nil. The key before says so, and signs beside it for a day; with alone, if
// somebody else may have it, no longer. It returns the public key.
func (m *Migrator) RotateLogKey(ctx context.Context, t *tenant.Tenant, alone bool) (string, error) {
	number, origin := numberOf(t), originOf(t)
	private, public, err := ledger.GenerateSigner(origin)
	if err != nil {
		return "", err
	}
	err = m.together(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `SELECT FROM registry.log_key WHERE tenant_id = $1 FOR UPDATE`, number); err != nil {
			return err
		}
		had, err := rowsOf(ctx, tx, logKeysQuery, []any{number}, (*logKeyRow).fields)
		if err != nil || len(had) == 0 {
			return cmp.Or(err, error(errNoLogKey))
		}
		said, err := logKeyRows(had).succeed(m.cfg.KMS, number, public, alone)
		if err != nil {
			return err
		}
		data, err := keys.Wrap(m.cfg.KMS, m.cfg.KEK, []byte(private), logKeyAD(number, int32(len(had))))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO registry.log_succession (tenant_id, number, said, kek, data, made)
			VALUES ($1, $2, $3, $4, $5, $6)`, number, len(had), said.String(), m.cfg.KEK, data, said.Since); err != nil {
			return err
		}
		return ownerDid(ctx, tx, "made the next key of the audit log "+origin+": "+public, audit.Success)
	})
	if err != nil {
		return "", fmt.Errorf("making the next key of %s: %w", origin, err)
	}
	return public, nil
}

// succeed has the newest of the keys say which is the next.
func (l logKeyRows) succeed(kms keys.KMS, number int32, public string, alone bool) (s ledger.Succession, err error) {
	h, _, err := l.holder(kms, number)
	if err != nil {
		return s, err
	}
	from := l[0].said
	if n := len(h.Keys); n > 0 {
		from = h.Keys[n-1].To
	}
	since := time.Now()
	until := since.Add(logKeyOverlap)
	if alone {
		until = since
	}
	return ledger.Succeed(h.Signer, from, public, since, until)
}

// numberOf returns the number of the tenant, that of the platform for nil.
func numberOf(t *tenant.Tenant) int32 {
	if t == nil {
		return platformNumber
	}
	return t.ID.Int()
}
