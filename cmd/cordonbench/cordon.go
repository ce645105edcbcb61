package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A server is Cordon in a process of its own, with the demo tenants.
type server struct {
	binary string
	dir    string
	cmd    *exec.Cmd
	ended  chan error
	info   devJSON
}

// devJSON is what we use of the file that `cordon dev` writes when it is ready.
type devJSON struct {
	Ops     string      `json:"ops"`
	Tenants []devTenant `json:"tenants"`
}

type devTenant struct {
	Slug     string `json:"slug"`
	Mode     string `json:"mode"`
	FHIRBase string `json:"fhir_base"`
}

// demoPatients is how many patients each tenant has before anything is
// measured. Sending their records warms the server.
const demoPatients = 12

// startCordon starts the binary on the PostgreSQL at ownerURL and waits until
// its tenants are there.
func startCordon(ctx context.Context, binary, dir, ownerURL string, profiled bool) (*server, error) {
	args := []string{"dev", "--demo", "--dir", dir, fmt.Sprintf("--patients=%d", demoPatients),
		"--listen=127.0.0.1:0", "--control=127.0.0.1:0", "--ops=127.0.0.1:0",
		"--database=" + ownerURL} // others can see the password in it, of a database that lives as long as we
	if profiled {
		args = append(args, "--pprof")
	}
	s := &server{binary: binary, dir: dir, cmd: exec.Command(binary, args...), ended: make(chan error, 1)}
	var said bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr = &said, &said
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting cordon: %w", err)
	}
	go func() { s.ended <- s.cmd.Wait() }()
	for {
		text, err := os.ReadFile(filepath.Join(dir, "dev.json"))
		if err == nil {
			if err := json.Unmarshal(text, &s.info); err != nil {
				return nil, errors.Join(fmt.Errorf("reading dev.json: %w", err), s.stop())
			}
			return s, nil
		}
		select {
		case <-s.ended:
			return nil, fmt.Errorf("cordon ended: %s", bytes.TrimSpace(said.Bytes()))
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.stop())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// stop asks the server to stop and waits for it.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("stopping cordon: %w", err)
	}
	select {
	case err := <-s.ended:
		return err
	case <-time.After(time.Minute):
		return errors.Join(errors.New("cordon did not stop within a minute"), s.cmd.Process.Kill())
	}
}

// tenants returns the tenants that are kept in the mode.
func (s *server) tenants(mode string) ([]*endpoint, error) {
	var list []*endpoint
	for _, t := range s.info.Tenants {
		if t.Mode != mode {
			continue
		}
		base, err := url.Parse(t.FHIRBase)
		if err != nil {
			return nil, fmt.Errorf("reading dev.json: %w", err)
		}
		list = append(list, &endpoint{server: s, slug: t.Slug, host: base.Host, path: base.Path})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("the server has no tenant in mode %s", mode)
	}
	return list, nil
}

// profile fetches a CPU profile of the next seconds into the file.
func (s *server) profile(ctx context.Context, seconds int, file string) error {
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", s.info.Ops, seconds)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("fetching a profile: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("fetching a profile: %w", err)
	}
	defer resp.Body.Close()
	profile, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("fetching a profile: %s", resp.Status), err)
	}
	return os.WriteFile(file, profile, 0o644)
}

// An endpoint is the FHIR API of one tenant, and the right to use it.
type endpoint struct {
	server     *server
	slug       string
	host, path string

	client, scope string // "" are those of the backend
	token         string
	until         time.Time
}

// tokenLife is how long we use a token. They last longer.
const tokenLife = 90 * time.Second

// authorize earns a token at the tenant's token endpoint if the last one is
// old. Requests made before keep the old one.
func (e *endpoint) authorize(ctx context.Context) error {
	if time.Now().Before(e.until) {
		return nil
	}
	cmd := exec.CommandContext(ctx, e.server.binary, "token", "--dir", e.server.dir, "--tenant", e.slug,
		"--client", cmp.Or(e.client, "backend"), "--scope", cmp.Or(e.scope, "system/*.cruds"))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("earning a token: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	e.token, e.until = strings.TrimSpace(string(out)), time.Now().Add(tokenLife)
	return nil
}

// request returns the bytes of a request. target is relative to the base and
// may be an absolute URL of the same server.
func (e *endpoint) request(method, target string, body []byte, header ...string) []byte {
	if rest, ok := strings.CutPrefix(target, "http://"+e.host); ok {
		target = rest
	} else if target == "" {
		target = e.path
	} else {
		target = e.path + "/" + target
	}
	header = append(header, "Authorization: Bearer "+e.token, "Accept: application/fhir+json")
	if body != nil {
		header = append(header, "Content-Type: application/fhir+json")
	}
	return plainRequest(method, target, e.host, body, header...)
}

// plainRequest returns the bytes of an HTTP request.
func plainRequest(method, target, host string, body []byte, header ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, host)
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	if body != nil {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// send is a workload of the requests, each client beginning elsewhere. Every
// answer must have the status; entries are counted, and check, if there is
// one, has the last word on an answer.
func send(address string, requests [][]byte, status int, check func(*response) error) workload {
	return func(i int) (op, func(), error) {
		c := newClient(address)
		next := i * len(requests) / 97
		return func() (counts, error) {
			next++
			r, err := c.do(requests[next%len(requests)])
			if err != nil {
				return counts{}, err
			}
			if r.status != status {
				return counts{}, unexpected(r)
			}
			if check != nil {
				if err := check(r); err != nil {
					return counts{}, err
				}
			}
			return counts{ops: 1, entries: entries(r.body), bytes: len(r.body)}, nil
		}, c.close, nil
	}
}

// entries counts the entries of a Bundle in its JSON: each has a fullUrl.
func entries(bundle []byte) int { return bytes.Count(bundle, []byte(`"fullUrl"`)) }

// unexpected says what the server answered. The records are invented, so it
// may be shown.
func unexpected(r *response) error {
	return fmt.Errorf("answered %d: %.300s", r.status, r.body)
}
