package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// tenantBody is a tenant as the API takes it.
type tenantBody struct {
	Slug   string `json:"slug"`
	Name   string `json:"name"`
	Mode   string `json:"mode"`
	Region string `json:"region"`
}

// tenantView is a tenant as the API shows it: nothing of its placement.
type tenantView struct {
	tenantBody
	Status        string `json:"status"`
	PolicyVersion int64  `json:"policy_version"`
}

func view(r tenant.Row) tenantView {
	return tenantView{tenantBody{r.Slug, r.Name, r.Mode, r.Region}, r.Status, r.PolicyVersion}
}

// decode reads a body strictly: no member that is not known, none twice.
func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into, json.RejectUnknownMembers(true)); err != nil {
		return fhir.Errorf(fhir.Structure, "the body is not the JSON that is asked for here")
	}
	return nil
}

// asked returns the tenant in the path, and reads the body that is for it.
func (a *api) asked(ctx context.Context, c call, into any) (*tenant.Tenant, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return nil, err
	}
	return t, decode(c.body, into)
}

func (a *api) listTenants(ctx context.Context, _ call) (answer, error) {
	rows, err := a.Registry.Tenants(ctx)
	if err != nil {
		return answer{}, err
	}
	list := make([]tenantView, 0, len(rows))
	for _, r := range rows {
		list = append(list, view(r))
	}
	return answer{http.StatusOK, list, "listed tenants"}, nil
}

// createTenant answers when the tenant is ready: 201 if it was made, 200 if an
// equal request had made it before.
func (a *api) createTenant(ctx context.Context, c call) (answer, error) {
	var b tenantBody
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	row, created, err := a.Migrator.Provision(ctx, store.NewTenant{Slug: b.Slug, Name: b.Name, Mode: tenant.Mode(b.Mode), Region: b.Region})
	if err != nil {
		return answer{}, err
	}
	if !created {
		return answer{http.StatusOK, view(row), "found tenant " + row.Slug}, nil
	}
	return answer{http.StatusCreated, view(row),
		fmt.Sprintf("made tenant %s, mode %s, region %s", row.Slug, row.Mode, row.Region)}, nil
}

func (a *api) showTenant(ctx context.Context, c call) (answer, error) {
	row, err := a.Migrator.TenantBySlug(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, view(row), "showed tenant " + row.Slug}, nil
}

func (a *api) suspend(ctx context.Context, c call) (answer, error) {
	row, err := a.Migrator.Suspend(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, view(row), "suspended tenant " + row.Slug}, nil
}

func (a *api) resume(ctx context.Context, c call) (answer, error) {
	row, err := a.Migrator.Resume(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, view(row), "resumed tenant " + row.Slug}, nil
}

// known turns tenant.ErrUnknown into words for the operator. What every handler
// returns goes through it.
func known(err error) error {
	if errors.Is(err, tenant.ErrUnknown) {
		return fhir.Errorf(fhir.NotFound, "there is no such tenant")
	}
	return err
}

// stateView is how far the tables of a tenant have come.
type stateView struct {
	Slug    string `json:"slug"`
	Mode    string `json:"mode"`
	Status  string `json:"status"`
	Version uint   `json:"version"`
	Latest  uint   `json:"latest"`
	Error   string `json:"error,omitempty"`
}

func (a *api) migrations(ctx context.Context, _ call) (answer, error) {
	states, err := a.Migrator.States(ctx)
	if err != nil {
		return answer{}, err
	}
	list := make([]stateView, 0, len(states))
	for _, s := range states {
		list = append(list, stateView(s))
	}
	return answer{http.StatusOK, list, "listed the states of migration"}, nil
}
