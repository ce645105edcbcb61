package control

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

func (a *api) listHolds(ctx context.Context, c call) (answer, error) {
	list, err := a.Migrator.Holds(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, list, "listed the legal holds of tenant " + c.slug}, nil
}

// placeHold places a legal hold on all that the tenant has, or on what is of a
// patient, whom the trail of the platform does not name.
func (a *api) placeHold(ctx context.Context, c call) (answer, error) {
	id, why, err := c.patient(false)
	if err != nil {
		return answer{}, err
	}
	var patient fhir.Ref
	of := "all that tenant " + c.slug + " has"
	if id != "" {
		patient = fhir.Ref{Type: "Patient", ID: id}
		of = "what is of a patient of tenant " + c.slug
	}
	h, err := a.Migrator.PlaceHold(ctx, c.slug, c.operator, patient, why)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, h, fmt.Sprintf("placed legal hold %s on %s: %s", h.ID, of, why)}, nil
}

// patient reads which patient of the tenant is meant, and why. It is "" for all of
// them, unless one is required.
func (c call) patient(required bool) (id, why string, err error) {
	var b struct {
		Patient string `json:"patient"`
		Why     string `json:"why"`
	}
	if err := decode(c.body, &b); err != nil {
		return "", "", err
	}
	if err := checkWhy(b.Why); err != nil {
		return "", "", err
	}
	id = strings.TrimPrefix(b.Patient, "Patient/")
	if (required || b.Patient != "") && !fhir.ValidID(id) {
		return "", "", fhir.Errorf(fhir.Invalid, "patient has to be the id of a patient")
	}
	return id, b.Why, nil
}

// liftHold asks to lift a legal hold, or lifts one that another operator asked to.
func (a *api) liftHold(ctx context.Context, c call) (answer, error) {
	why, err := c.why()
	if err != nil {
		return answer{}, err
	}
	h, err := a.Migrator.LiftHold(ctx, c.slug, c.operator, c.item, why)
	if err != nil {
		return answer{}, err
	}
	if h.LiftedBy == "" {
		return answer{http.StatusAccepted, h, fmt.Sprintf("asked to lift legal hold %s of tenant %s: %s", h.ID, c.slug, why)}, nil
	}
	return answer{http.StatusOK, h, fmt.Sprintf("lifted legal hold %s of tenant %s, as %s asked: %s", h.ID, c.slug, h.AskedBy, why)}, nil
}
