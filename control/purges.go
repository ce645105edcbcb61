package control

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
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
	var b struct {
		Patient string `json:"patient"`
		Why     string `json:"why"`
	}
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	if err := checkWhy(b.Why); err != nil {
		return answer{}, err
	}
	patient := strings.TrimPrefix(b.Patient, "Patient/")
	if !fhir.ValidID(patient) {
		return answer{}, fhir.Errorf(fhir.Invalid, "patient has to be the id of a patient")
	}
	p, err := a.Migrator.AskPurge(ctx, c.slug, c.operator, patient, b.Why)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, p, fmt.Sprintf("asked for purge %s of what tenant %s has of a patient: %s", p.ID, c.slug, b.Why)}, nil
}

// approvePurge approves a purge that another operator asked for.
func (a *api) approvePurge(ctx context.Context, c call) (answer, error) {
	p, err := a.Migrator.ApprovePurge(ctx, c.slug, c.operator, c.item)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, p, fmt.Sprintf("approved purge %s of what tenant %s has of a patient, as %s asked: %s", p.ID, c.slug, p.AskedBy, p.Why)}, nil
}
