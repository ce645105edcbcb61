package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/tenant"
)

// A LaunchContext is what an app is told of where its user is.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
type LaunchContext struct {
	Patient     string         `json:"patient,omitzero"`   // an id
	Encounter   string         `json:"encounter,omitzero"` // an id
	FHIRContext jsontext.Value `json:"fhirContext,omitzero"`
	Intent      string         `json:"intent,omitzero"`
	// Banner is false if the EHR shows already who the patient is.
	Banner   *bool  `json:"need_patient_banner,omitzero"`
	StyleURL string `json:"smart_style_url,omitzero"`
}

// A Launch is an app that an EHR is opening.
type Launch struct {
	Opener  string // the client_id of the EHR
	App     string // the client_id of the app
	Subject string // the login of the user, "" for whoever it will be
	Context LaunchContext
	Expires time.Time
}

// ErrNoLaunch says that there is no launch of a handle for the app, or no
// longer.
var ErrNoLaunch = errors.New("store: no such launch")

// OpenLaunch stores a launch, which the app takes up by the handle.
func (r *Registry) OpenLaunch(ctx context.Context, t *tenant.Tenant, l Launch, handle string) error {
	about, err := json.Marshal(l.Context)
	if err != nil {
		return fmt.Errorf("opening a launch: %w", err)
	}
	_, err = r.pool.Exec(ctx, `
		INSERT INTO registry.launch (tenant_id, handle, opener, app, subject, context, expires)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		t.ID.Int(), hashed(handle), l.Opener, l.App, l.Subject, string(about), l.Expires)
	if err != nil {
		return fmt.Errorf("opening a launch: %w", scrubbed(err))
	}
	return nil
}

// Launch returns the launch that the app may take up by the handle, or
// ErrNoLaunch. It can be taken up once: by an Approval.
func (r *Registry) Launch(ctx context.Context, t *tenant.Tenant, app, handle string) (Launch, error) {
	l := Launch{App: app}
	var about []byte
	err := r.pool.QueryRow(ctx, `
		SELECT opener, subject, context, expires
		FROM   registry.launch
		WHERE  tenant_id = $1 AND handle = $2 AND app = $3 AND used IS NULL AND expires > now()`,
		t.ID.Int(), hashed(handle), app).Scan(&l.Opener, &l.Subject, &about, &l.Expires)
	if errors.Is(err, pgx.ErrNoRows) {
		return Launch{}, ErrNoLaunch
	}
	if err == nil {
		err = json.Unmarshal(about, &l.Context)
	}
	if err != nil {
		return Launch{}, fmt.Errorf("reading a launch: %w", scrubbed(err))
	}
	return l, nil
}
