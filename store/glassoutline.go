package store

import (
	"cmp"
	"context"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

// A GlassOutline is what operators are told of a Glass: neither of whom the record
// is nor why it was asked for, which they cannot open.
type GlassOutline struct {
	ID     string     `json:"id"`
	State  GlassState `json:"state"`
	User   string     `json:"user"` // fhirUser of who asked
	Client string     `json:"client"`
	// Alone says that nobody had to approve it.
	Alone      bool      `json:"withoutApproval"`
	Requested  time.Time `json:"requested"`
	DecidedBy  string    `json:"decidedBy,omitzero"`
	Begins     time.Time `json:"from,omitzero"`
	Until      time.Time `json:"until,omitzero"`
	Ended      time.Time `json:"ended,omitzero"`
	EndedBy    string    `json:"endedBy,omitzero"`
	ReviewedBy string    `json:"reviewedBy,omitzero"`
}

func (r glassRow) outline() GlassOutline {
	return GlassOutline{
		ID: r.id, State: r.state(), User: r.user, Client: r.client, Alone: r.alone, Requested: r.requested.UTC(),
		DecidedBy: *cmp.Or(r.decidedBy, new(string)), Begins: timeOf(r.begins), Until: timeOf(r.until),
		Ended: timeOf(r.ended), EndedBy: *cmp.Or(r.endedBy, new(string)), ReviewedBy: *cmp.Or(r.reviewedBy, new(string)),
	}
}

// GlassOutlines returns 200 at most: first those that are in force or wait for an
// approval, then those that wait for a review, each the newest first.
func (r *Registry) GlassOutlines(ctx context.Context, t *tenant.Tenant) ([]GlassOutline, error) {
	rows, err := r.glasses(ctx, t, "")
	list := make([]GlassOutline, len(rows))
	for i, row := range rows {
		list[i] = row.outline()
	}
	return list, err
}

// GlassOutline returns the one with the id. The error is a *fhir.Error with code
// NotFound if there is none.
func (r *Registry) GlassOutline(ctx context.Context, t *tenant.Tenant, id string) (GlassOutline, error) {
	row, err := r.glass(ctx, t, id)
	if err != nil {
		return GlassOutline{}, err
	}
	return row.outline(), nil
}
