package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// An Identity is a user who has proved to be who they are, in whatever way. It
// is all that what comes after the login knows of the login.
type Identity struct {
	// Source says what vouches for the user: LocalSource, or the name of an
	// identity provider.
	Source string
	// Subject names the user at the Source.
	Subject string
	// User is the fhirUser, "Practitioner/dr1".
	User   string
	Person smart.Person
	// Time is when they proved it.
	Time time.Time
	// ACR and AMR say how, in the words of an identity provider.
	// https://openid.net/specs/openid-connect-core-1_0.html#IDToken
	ACR string
	AMR []string
}

// A Session is a browser whose user has logged in.
type Session struct {
	ID string
	Identity
	Expires time.Time
}

// SessionIdle is how long a session lasts that is not used.
const SessionIdle = time.Hour

// ErrNoSession says that there is no session of a secret, or no longer.
var ErrNoSession = errors.New("store: no such session")

// hashed is how the registry keeps what opens something: whoever reads it
// there can open nothing with it. What is hashed is random.
func hashed(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// StartSession stores a session; secret is what the browser will show.
func (r *Registry) StartSession(ctx context.Context, t *tenant.Tenant, s Session, secret string) error {
	person, err := json.Marshal(s.Person)
	if err != nil {
		return fmt.Errorf("starting a session: %w", err)
	}
	_, err = r.pool.Exec(ctx, `
		INSERT INTO registry.session (tenant_id, id, secret, source, subject, fhir_user, person, authenticated, acr, amr, expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10::text[], '{}'), $11)`,
		t.ID.Int(), s.ID, hashed(secret), s.Source, s.Subject, s.User, string(person), s.Time, s.ACR, s.AMR, s.Expires)
	if err != nil {
		return fmt.Errorf("starting a session: %w", scrubbed(err))
	}
	return nil
}

// Session returns the session of the secret and notes its use, or returns
// ErrNoSession.
func (r *Registry) Session(ctx context.Context, t *tenant.Tenant, secret string) (Session, error) {
	var s Session
	var person []byte
	err := gate.Steadily(func() error {
		return r.pool.QueryRow(ctx, `
			UPDATE registry.session SET seen = now()
			WHERE  tenant_id = $1 AND secret = $2 AND ended IS NULL AND expires > now() AND seen > now() - $3::interval
			RETURNING id, source, subject, fhir_user, person, authenticated, acr, amr, expires`,
			t.ID.Int(), hashed(secret), SessionIdle).
			Scan(&s.ID, &s.Source, &s.Subject, &s.User, &person, &s.Time, &s.ACR, &s.AMR, &s.Expires)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Session{}, ErrNoSession
	}
	if err == nil {
		err = json.Unmarshal(person, &s.Person)
	}
	if err != nil {
		return Session{}, fmt.Errorf("reading a session: %w", err)
	}
	return s, nil
}

// EndSession ends a session, and with it all that its user has let
// applications do for as long as it lasts.
func (r *Registry) EndSession(ctx context.Context, t *tenant.Tenant, id string) error {
	_, err := r.pool.Exec(ctx, `
		WITH ended AS (
		    UPDATE registry.session SET ended = now()
		    WHERE  tenant_id = $1 AND id = $2 AND ended IS NULL
		), `+revoking(`session = $2 AND NOT offline`)+`
		SELECT`, t.ID.Int(), id)
	if err != nil {
		return fmt.Errorf("ending a session: %w", scrubbed(err))
	}
	return nil
}
