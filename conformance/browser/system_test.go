package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// tenant is where the tests happen, clinic that of the tests with an access policy.
const (
	tenant = "harbor"
	clinic = "orchard"
)

// A system is `cordon dev --demo`, and the demo app at an address of its own.
type system struct {
	tmp, dir, bin string
	server        *exec.Cmd
	ended         chan error
	app           *httptest.Server

	FHIR    string `json:"fhir"`
	Auth    string `json:"auth"`
	Tenants []struct {
		Slug  string `json:"slug"`
		Users []struct {
			Login    string `json:"login"`
			Password string `json:"password"`
		} `json:"users"`
	} `json:"tenants"`

	ehr string // its secret
}

func startSystem(ctx context.Context) (*system, error) {
	tmp, err := os.MkdirTemp("", "cordon-browser")
	if err != nil {
		return nil, err
	}
	s := &system{tmp: tmp, dir: filepath.Join(tmp, "dev"), ended: make(chan error, 1)}
	// PostgreSQL may run as another user, who has to pass through.
	if err := errors.Join(os.Chmod(tmp, 0o755), os.Mkdir(s.dir, 0o711)); err != nil {
		return s, err
	}
	if s.bin = os.Getenv("CORDON_TEST_BINARY"); s.bin == "" {
		s.bin = filepath.Join(tmp, "cordon")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", s.bin, "../../cmd/cordon").CombinedOutput(); err != nil {
			return s, fmt.Errorf("building the program: %w\n%s", err, out)
		}
	}
	if err := s.start(ctx); err != nil {
		return s, err
	}
	s.app = httptest.NewServer(http.FileServer(http.Dir("../../deploy/demo-app")))
	return s, s.register(ctx)
}

// start runs the program and waits until it is ready.
func (s *system) start(ctx context.Context) error {
	var out bytes.Buffer
	s.server = exec.Command(s.bin, "dev", "--demo", "--patients", "3", "--dir", s.dir,
		"--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--ops", "127.0.0.1:0")
	s.server.Stdout, s.server.Stderr = &out, &out
	if err := s.server.Start(); err != nil {
		return err
	}
	go func() { s.ended <- s.server.Wait() }()
	for {
		if text, err := os.ReadFile(filepath.Join(s.dir, "dev.json")); err == nil {
			return json.Unmarshal(text, s)
		}
		select {
		case err := <-s.ended:
			s.server = nil
			return fmt.Errorf("the server ended: %w\n%s", err, &out)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *system) close() {
	if s.app != nil {
		s.app.Close()
	}
	if s.server != nil {
		s.server.Process.Signal(syscall.SIGTERM)
		<-s.ended
	}
	os.RemoveAll(s.tmp)
}

// register makes the demo app known at its address here, and an EHR.
func (s *system) register(ctx context.Context) error {
	for _, slug := range []string{tenant, clinic} {
		if _, err := s.cordon(ctx, "client", "add", "--tenant", slug, "demo-app", "--name", "Demo app", "--method", "none",
			"--scopes", "openid fhirUser launch launch/patient launch/encounter offline_access patient/*.rs",
			"--redirect-uri", s.app.URL+"/callback", "--launch-url", s.app.URL+"/launch"); err != nil {
			return err
		}
	}
	var err error
	s.ehr, err = s.cordon(ctx, "client", "add", "--tenant", tenant, "ehr", "--method", "client_secret", "--scopes", "__launch.open")
	return err
}

// cordon runs a command and returns what it printed.
func (s *system) cordon(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.bin, args...)
	cmd.Env = append(os.Environ(), "CORDON_DIR="+s.dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cordon %s: %w\n%s", strings.Join(args[:2], " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
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
