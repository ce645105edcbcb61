package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/smart/backend"
)

// systemFlags say which tenant to ask, and as which of its clients: one of a
// development server, or one given by the URL of its FHIR base.
type systemFlags struct {
	Dir       devDir `default:"dev" env:"CORDON_DIR" placeholder:"DIR" help:"Directory of the development server. Default: dev."`
	Tenant    string `help:"Slug of the tenant, of a development server."`
	Base      string `env:"CORDON_FHIR_BASE" placeholder:"URL" help:"FHIR base of the tenant, if it is not a development server's."`
	Client    string `env:"CORDON_CLIENT" placeholder:"ID" help:"Client that asks."`
	ClientKey string `env:"CORDON_CLIENT_KEY" placeholder:"FILE" help:"Private JWK of the client, with --base."`
}

// A system is a client at the server of a tenant.
type system struct {
	base  string // without a slash at its end
	login *backend.Service
	http  *http.Client
}

// open returns the client, which is the one with the id if none was named.
func (f systemFlags) open(ctx context.Context, client, scope string) (*system, error) {
	if f.Client != "" {
		client = f.Client
	}
	s := &system{http: &http.Client{Timeout: 10 * time.Minute}}
	switch {
	case f.Base == "" && f.Tenant == "":
		return nil, errors.New("--tenant or --base is needed")
	case f.Base == "":
		return s, f.atDevelopment(s, client, scope)
	case f.ClientKey == "":
		return nil, errors.New("--base needs --client-key")
	}
	key, err := readKey(f.ClientKey)
	if err != nil {
		return nil, err
	}
	s.base = strings.TrimSuffix(f.Base, "/")
	endpoint, err := s.tokenEndpoint(ctx)
	if err != nil {
		return nil, err
	}
	s.login = &backend.Service{TokenURL: endpoint, Client: client, Scope: scope, Key: key}
	return s, nil
}

func (f systemFlags) atDevelopment(s *system, client, scope string) error {
	server, err := f.Dir.server()
	if err != nil {
		return err
	}
	tenant, err := f.Dir.tenant(server, f.Tenant)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(tenant.Clients, func(c devClient) bool { return c.ID == client })
	if i < 0 {
		return fmt.Errorf("the key of a client named %s of tenant %s is not here", client, tenant.Slug)
	}
	s.base = tenant.FHIRBase
	s.login, err = newLogin(tenant, tenant.Clients[i], scope)
	return err
}

// tokenEndpoint asks where tokens are to be had.
// https://hl7.org/fhir/smart-app-launch/conformance.html
func (s *system) tokenEndpoint(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/.well-known/smart-configuration", nil)
	if err != nil {
		return "", err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking for the SMART configuration: %w", err)
	}
	defer resp.Body.Close()
	var conf struct {
		TokenEndpoint string `json:"token_endpoint"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&conf)
	if err != nil || resp.StatusCode != http.StatusOK || conf.TokenEndpoint == "" {
		return "", fmt.Errorf("asking for the SMART configuration: %s", resp.Status)
	}
	return conf.TokenEndpoint, nil
}

// A refusedError is an answer that says no.
type refusedError struct {
	status int
	issues string
}

func (e *refusedError) Error() string { return fmt.Sprintf("%d %s", e.status, e.issues) }

// ask sends a request, and again when the server asks for patience. Of an answer
// with one of the statuses the caller closes the body.
func (s *system) ask(ctx context.Context, method, at string, header http.Header, statuses ...int) (*http.Response, error) {
	for try := 1; ; try++ {
		resp, err := s.askOnce(ctx, method, at, header)
		if err == nil && slices.Contains(statuses, resp.StatusCode) {
			return resp, nil
		}
		wait := time.Second
		if err == nil {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
			resp.Body.Close()
			err = &refusedError{resp.StatusCode, issues(body)}
			if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
				return nil, err
			}
			wait = patience(resp)
		}
		if try == tries || ctx.Err() != nil {
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func patience(resp *http.Response) time.Duration {
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return min(max(time.Duration(seconds), 1)*time.Second, time.Minute)
}

func (s *system) askOnce(ctx context.Context, method, at string, header http.Header) (*http.Response, error) {
	token, err := s.login.Token(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, at, nil)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return s.http.Do(req)
}
