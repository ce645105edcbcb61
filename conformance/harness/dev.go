package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Dev is a running `cordon dev`, and what its dev.json says.
type Dev struct {
	Bin, Dir string
	process  *os.Process
	ended    chan error

	FHIR    string `json:"fhir"`
	Auth    string `json:"auth"`
	Control string `json:"control"`
	Ops     string `json:"ops"`

	Operator        string `json:"operator"`
	OperatorKeyFile string `json:"operator_key_file"`

	Tenants []Tenant `json:"tenants"`
}

// A Tenant is one that dev.json tells of.
type Tenant struct {
	Slug    string `json:"slug"`
	Mode    string `json:"mode"`
	Clients []struct {
		ID      string `json:"id"`
		KeyFile string `json:"key_file"`
	} `json:"clients"`
	Users []struct {
		Login    string `json:"login"`
		Password string `json:"password"`
	} `json:"users"`
}

// Start runs `cordon dev` in dir on free ports, with more flags, and returns when
// it is ready.
func Start(ctx context.Context, bin, dir string, flags ...string) (*Dev, error) {
	d := &Dev{Bin: bin, Dir: dir, ended: make(chan error, 1)}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	out, err := os.Create(d.Console())
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(bin, append([]string{"dev", "--dir", dir,
		"--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--ops", "127.0.0.1:0"}, flags...)...)
	cmd.Stdout, cmd.Stderr = out, out
	tmp := filepath.Join(dir, "tmp") // what it leaves there is looked at too
	if err := errors.Join(os.MkdirAll(tmp, 0o700), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		return nil, err
	}
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d.process = cmd.Process
	go func() { d.ended <- cmd.Wait() }()
	if err := d.ready(ctx); err != nil {
		_ = d.Stop() // it may have ended
		return nil, fmt.Errorf("cordon dev: %w\n%s\n%s", err, ending(d.Console()), ending(d.Log()))
	}
	return d, nil
}

// ready waits until the server is, or has ended.
func (d *Dev) ready(ctx context.Context) error {
	for {
		if text, err := os.ReadFile(filepath.Join(d.Dir, "dev.json")); err == nil {
			return json.Unmarshal(text, d)
		}
		select {
		case err := <-d.ended:
			return fmt.Errorf("it ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ending is how the file ends.
func ending(file string) []byte {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return text[max(0, len(text)-4000):]
}

// Console is the file with what the server prints.
func (d *Dev) Console() string { return filepath.Join(d.Dir, "console.log") }

// Log is the file with its operational log.
func (d *Dev) Log() string { return filepath.Join(d.Dir, "cordon.log") }

// Stop ends the server, and returns how it ended.
func (d *Dev) Stop() error {
	if err := d.process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping cordon dev: %w", err)
	}
	var err error
	select {
	case err = <-d.ended:
	case <-time.After(3 * time.Minute): // the machine may be slow
		d.process.Kill()
		err = <-d.ended
	}
	if err != nil {
		return fmt.Errorf("cordon dev ended: %w\n%s", err, ending(d.Console()))
	}
	return nil
}

// Kill ends the server at once, if it has not ended, as a crash does.
func (d *Dev) Kill() {
	if d.process.Kill() == nil {
		<-d.ended
	}
	os.Remove(filepath.Join(d.Dir, "dev.json")) // of the one that was killed
}

// Cordon runs a command of the program against the server, and returns what it
// printed.
func (d *Dev) Cordon(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.Bin, args...)
	cmd.Env = append(os.Environ(), "CORDON_DIR="+d.Dir)
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("cordon %s: %w: %s", strings.Join(args[:min(len(args), 2)], " "), err, &faults)
	}
	return strings.TrimSpace(out.String()), nil
}

// Secrets are the passwords of the roles of the server in its database.
type Secrets struct {
	App, Audit, Registry, Log string
	Port                      int `json:"postgres_port"` // of its own PostgreSQL
}

// Secrets returns those of the server.
func (d *Dev) Secrets() (s Secrets, err error) {
	text, err := os.ReadFile(filepath.Join(d.Dir, "secrets.json"))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("reading secrets.json: %w", err)
	}
	return s, nil
}

// ServeEnv is what `cordon serve` is told to serve the same databases, which it
// reaches at host, HOST:PORT.
func (d *Dev) ServeEnv(host string) ([]string, error) {
	s, err := d.Secrets()
	if err != nil {
		return nil, err
	}
	at := func(role, secret, database string) string {
		u := url.URL{Scheme: "postgres", User: url.UserPassword(role, secret), Host: host, Path: "/" + database, RawQuery: "sslmode=disable"}
		return u.String()
	}
	return append(os.Environ(),
		"CORDON_REGISTRY_URL="+at("cordon_registry", s.Registry, "cordon_registry"),
		"CORDON_DATABASE_URL="+at("cordon_app", s.App, "cordon"),
		"CORDON_AUDIT_URL="+at("cordon_audit", s.Audit, "cordon"),
		"CORDON_LOG_URL="+at("cordon_log", s.Log, "cordon"),
		"CORDON_KEK_DIR="+filepath.Join(d.Dir, "kek"),
	), nil
}
