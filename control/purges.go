package control

import (
	"context"
	"fmt"
	"net/http"
)

func (a *api) listPurges(ctx context.Context, c call) (answer, error) {
	list, err := a.Migrator.Purges(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, list, "listed the purges of tenant " + c.slug}, nil
}

// askPurge asks to remove for good what the tenant has of a patient, whom the trail of
// the platform does not name.
func (a *api) askPurge(ctx context.Context, c call) (answer, error) {
	patient, why, err := c.patient(true)
	if err != nil {
		return answer{}, err
	}
	p, err := a.Migrator.AskPurge(ctx, c.slug, c.operator, patient, why)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, p, fmt.Sprintf("asked for purge %s of what tenant %s has of a patient: %s", p.ID, c.slug, why)}, nil
}

// approvePurge approves a purge that another operator asked for.
func (a *api) approvePurge(ctx context.Context, c call) (answer, error) {
	p, err := a.Migrator.ApprovePurge(ctx, c.slug, c.operator, c.item)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, p, fmt.Sprintf("approved purge %s of what tenant %s has of a patient, as %s asked: %s", p.ID, c.slug, p.AskedBy, p.Why)}, nil
}
