package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/tenant"
)

// Settings returns what operators chose for the tenant, and the version of
// that. The error is tenant.ErrUnknown if there is no such tenant.
func (m *Migrator) Settings(ctx context.Context, slug string) (tenant.Settings, int64, error) {
	var text []byte
	var version int64
	err := m.registry.QueryRowContext(ctx, `
		SELECT settings, settings_version
		FROM   registry.tenant
		WHERE  slug = $1`, slug).Scan(&text, &version)
	if errors.Is(err, sql.ErrNoRows) {
		return tenant.Settings{}, 0, tenant.ErrUnknown
	}
	var s tenant.Settings
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return tenant.Settings{}, 0, fmt.Errorf("reading the settings of %s: %w", slug, err)
	}
	return s, version, nil
}

// PutSettings replaces the settings of the tenant, if their version is still
// the one that is given, and returns the next. Servers see them within a
// second. A *fhir.Error with code Conflict says that somebody else changed
// them.
func (m *Migrator) PutSettings(ctx context.Context, slug string, s tenant.Settings, version int64) (int64, error) {
	if err := s.Check(); err != nil {
		return 0, fhir.Errorf(fhir.Invalid, "%s", err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return 0, fmt.Errorf("changing the settings of %s: %w", slug, err)
	}
	err = m.registry.QueryRowContext(ctx, `
		UPDATE registry.tenant
		SET    settings = $2::text::jsonb, settings_version = settings_version + 1, updated = now()
		WHERE  slug = $1 AND settings_version = $3
		RETURNING settings_version`, slug, string(text), version).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		if _, _, err := m.Settings(ctx, slug); err != nil {
			return 0, err
		}
		return 0, fhir.Errorf(fhir.Conflict, "the settings were changed meanwhile: read them again")
	}
	if err != nil {
		return 0, fmt.Errorf("changing the settings of %s: %w", slug, err)
	}
	return version, nil
}
