package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// Reindex asks the servers to make the search index of the tenant again, for
// the types or, without any, for all. The error is tenant.ErrUnknown if there
// is no such tenant.
func (m *Migrator) Reindex(ctx context.Context, slug string, types []fhir.Type) (r IndexRequest, err error) {
	names := make([]string, len(types))
	for i, t := range types {
		if !t.Known() {
			return r, fhir.Errorf(fhir.Invalid, "types names what is no resource type")
		}
		names[i] = string(t)
	}
	r.Types = types
	err = m.registry.QueryRowContext(ctx, `
		INSERT INTO registry.index_work AS w (tenant_id, request, types)
		SELECT id, 1, $2 FROM registry.tenant WHERE slug = $1
		ON     CONFLICT (tenant_id) DO UPDATE SET request = w.request + 1, types = excluded.types
		RETURNING request`, slug, names).Scan(&r.Number)
	if errors.Is(err, sql.ErrNoRows) {
		return r, tenant.ErrUnknown
	}
	if err != nil {
		return r, fmt.Errorf("asking for the index of %s: %w", slug, err)
	}
	return r, nil
}

// An IndexReport is what the servers said last of the index of a tenant.
type IndexReport struct {
	// Requested is the last request; its Number is 0 if there was none. The
	// servers have begun with it when Reindex of the status has its Number.
	Requested IndexRequest `json:"requested"`
	IndexStatus
	// At is when the servers said it; zero if they have not yet.
	At time.Time `json:"at,omitzero"`
}

// IndexReport returns how far the work on the search index of the tenant is. The
// error is tenant.ErrUnknown if there is no such tenant.
func (m *Migrator) IndexReport(ctx context.Context, slug string) (IndexReport, error) {
	var report IndexReport
	var types, reported []byte
	var at sql.NullTime
	err := m.registry.QueryRowContext(ctx, `
		SELECT coalesce(w.request, 0), coalesce(to_jsonb(w.types), '[]'), coalesce(w.reported, '{}'), w.reported_at
		FROM   registry.tenant t LEFT JOIN registry.index_work w ON w.tenant_id = t.id
		WHERE  t.slug = $1`, slug).Scan(&report.Requested.Number, &types, &reported, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return report, tenant.ErrUnknown
	}
	if err == nil {
		err = errors.Join(json.Unmarshal(types, &report.Requested.Types), json.Unmarshal(reported, &report.IndexStatus))
	}
	if err != nil {
		return report, fmt.Errorf("reading about the index of %s: %w", slug, err)
	}
	report.At = at.Time.UTC()
	if !at.Valid {
		report.At = time.Time{}
	}
	return report, nil
}

// IndexRequests returns the last request for each tenant that had one, by the
// number of the tenant.
func (r *Registry) IndexRequests(ctx context.Context) (map[int32]IndexRequest, error) {
	requests := map[int32]IndexRequest{}
	var id int32
	var q IndexRequest
	var types []string
	err := gate.Steadily(func() error {
		rows, err := r.pool.Query(ctx, `SELECT tenant_id, request, types FROM registry.index_work WHERE request > 0`)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&id, &q.Number, &types}, func() error {
			one := IndexRequest{Number: q.Number}
			for _, t := range types {
				one.Types = append(one.Types, fhir.Type(t))
			}
			requests[id] = one
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading requests for the search index: %w", err)
	}
	return requests, nil
}

// ReportIndex tells the control plane how far the work on the index is.
func (r *Registry) ReportIndex(ctx context.Context, id tenant.ID, s IndexStatus) error {
	text, err := json.Marshal(s, json.FormatNilSliceAsNull(false))
	if err != nil {
		return fmt.Errorf("reporting about the search index: %w", err)
	}
	err = gate.Steadily(func() error {
		_, err := r.pool.Exec(ctx, `
			INSERT INTO registry.index_work (tenant_id, reported, reported_at)
			VALUES ($1, $2::text::jsonb, now())
			ON     CONFLICT (tenant_id) DO UPDATE SET reported = excluded.reported, reported_at = excluded.reported_at`, id.Int(), string(text))
		return err
	})
	if err != nil {
		return fmt.Errorf("reporting about the search index: %w", err)
	}
	return nil
}
