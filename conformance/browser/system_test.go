package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/cordon-fhir/cordon/conformance/harness"
)

// tenant is where the tests happen, clinic that of the tests with an access policy.
const (
	tenant = "harbor"
	clinic = "orchard"
)

// A system is `cordon dev --demo`, and the demo app at an address of its own.
type system struct {
	*harness.Dev
	tmp string
	app *httptest.Server
	ehr string // its secret
}

func startSystem(ctx context.Context) (s *system, err error) {
	s = new(system)
	if s.tmp, err = harness.Dir("cordon-browser"); err != nil {
		return s, err
	}
	bin, err := harness.Program(ctx, s.tmp)
	if err != nil {
		return s, err
	}
	if s.Dev, err = harness.Start(ctx, bin, filepath.Join(s.tmp, "dev"), "--demo", "--patients", "3"); err != nil {
		return s, err
	}
	s.app = httptest.NewServer(http.FileServer(http.Dir("../../deploy/demo-app")))
	return s, s.register(ctx)
}

func (s *system) close() (err error) {
	if s.app != nil {
		s.app.Close()
	}
	if s.Dev != nil {
		err = s.Stop()
	}
	os.RemoveAll(s.tmp)
	return err
}

// register makes the demo app known at its address here, and an EHR.
func (s *system) register(ctx context.Context) error {
	for _, slug := range []string{tenant, clinic} {
		if _, err := s.Cordon(ctx, "client", "add", "--tenant", slug, "demo-app", "--name", "Demo app", "--method", "none",
			"--scopes", "openid fhirUser launch launch/patient launch/encounter offline_access patient/*.rs",
			"--redirect-uri", s.app.URL+"/callback", "--launch-url", s.app.URL+"/launch"); err != nil {
			return err
		}
	}
	var err error
	s.ehr, err = s.Cordon(ctx, "client", "add", "--tenant", tenant, "ehr", "--method", "client_secret", "--scopes", "__launch.open")
	return err
}

func (s *system) base() string { return s.FHIR + "/" + tenant }

// page returns the address of a page of the tenant's authorization server.
func (s *system) page(name string) string { return s.Auth + "/" + tenant + "/" + name }

// password returns that of a user of the demo.
func (s *system) password(login string) string { return s.passwordAt(tenant, login) }

func (s *system) passwordAt(slug, login string) string {
	for _, t := range s.Tenants {
		for _, u := range t.Users {
			if t.Slug == slug && u.Login == login {
				return u.Password
			}
		}
	}
	return ""
}

// launch opens the app for a patient, as an EHR does, and returns where the
// browser is to go.
func (s *system) launch(ctx context.Context, patient string) (string, error) {
	form := url.Values{"app": {"demo-app"}, "patient": {patient}, "user": {"doctor"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.page("launch"), strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("ehr", s.ehr)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		URL string `json:"launch_url"`
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("opening a launch: %s (%v)", resp.Status, err)
	}
	return answer.URL, nil
}
