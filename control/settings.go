package control

import (
	"context"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/tenant"
)

// settingsView is what operators chose for a tenant. Whoever changes it shows
// the version that the change is based on.
type settingsView struct {
	Version  int64           `json:"version"`
	Settings tenant.Settings `json:"settings"`
}

func (a *api) showSettings(ctx context.Context, c call) (answer, error) {
	s, version, err := a.Migrator.Settings(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, settingsView{version, s}, "showed the settings of tenant " + c.slug}, nil
}

// putSettings replaces the settings, unless they were changed meanwhile: 409.
func (a *api) putSettings(ctx context.Context, c call) (answer, error) {
	var b struct {
		Version  int64          `json:"version"`
		Settings jsontext.Value `json:"settings"`
	}
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	s, err := tenant.ParseSettings(b.Settings)
	if err != nil {
		return answer{}, fhir.Errorf(fhir.Invalid, "%s", err)
	}
	version, err := a.Migrator.PutSettings(ctx, c.slug, s, b.Version)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, settingsView{version, s}, fmt.Sprintf("changed the settings of tenant %s to version %d: %s", c.slug, version, b.Settings)}, nil
}
