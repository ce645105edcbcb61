// Package external asks a terminology server of others what a tenant's own
// definitions cannot tell.
//
// What it sends are codes with their systems, the canonical URLs of value sets
// and the filters of their definitions: nothing of a resource, no display and
// nothing that a user typed.
//
// https://hl7.org/fhir/R4/terminology-service.html
package external

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/semaphore"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/terminology"
	"github.com/cordon-fhir/cordon/outbound"
)

// Config says whom to ask, and about what.
type Config struct {
	// URL is the FHIR base of the server, required. It is https, unless the
	// server is within Private.
	URL string
	// Systems are the code systems that it is asked about; none means all.
	Systems []string
	// Private are networks that are asked although they are not of the public
	// internet. Default none: nobody who chooses a URL can reach what is behind
	// the operator's walls.
	Private []netip.Prefix

	// Timeout bounds one question. Default 5s.
	Timeout time.Duration
	// Rest is how long nobody is asked after the server failed. Default 5s.
	Rest time.Duration
	// Keep is how long an answer is known. Default 1h.
	Keep time.Duration
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

const (
	maxAnswer    = 1 << 20  // bytes of an answer about one code
	maxExpansion = 16 << 20 // bytes of a list
	maxKnown     = 20_000   // answers that are known
	maxAsking    = 8        // questions at once
)

// A Server is one that is asked, for one tenant. It is safe for concurrent use.
type Server struct {
	cfg    Config
	client *http.Client
	asking *semaphore.Weighted
	known  cache

	mu      sync.Mutex
	resting time.Time // until when nobody asks
}

// New returns the Server of cfg. It asks nobody yet.
func New(cfg Config) *Server {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Rest <= 0 {
		cfg.Rest = 5 * time.Second
	}
	if cfg.Keep <= 0 {
		cfg.Keep = time.Hour
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	return &Server{cfg: cfg, client: outbound.Client(outbound.Config{
		URL: cfg.URL, Private: cfg.Private, Timeout: cfg.Timeout, Conns: maxAsking,
	}), asking: semaphore.NewWeighted(maxAsking)}
}

// errFailed says that the server gave no answer that can be used.
var errFailed = errors.New("external: the terminology server does not answer")

// covers reports whether the server is asked about codes of the system.
func (s *Server) covers(system string) bool {
	return len(s.cfg.Systems) == 0 || slices.Contains(s.cfg.Systems, system)
}

// Has implements terminology.Elsewhere.
func (s *Server) Has(ctx context.Context, p terminology.Part, c terminology.Coding) (terminology.Answer, error) {
	if !s.covers(c.System) {
		return terminology.Unknown, nil
	}
	path, q := question(p, c)
	key := path + string(q)
	if a, ok := s.known.get(key, s.cfg.Now()); ok {
		return a, nil
	}
	body, status, err := s.post(ctx, path, q, maxAnswer)
	if err != nil {
		return terminology.Unknown, err
	}
	a := terminology.Unknown
	if status == http.StatusOK {
		if a, err = said(body); err != nil {
			return a, s.fails(err)
		}
	}
	s.known.put(key, a, s.cfg.Now().Add(s.cfg.Keep))
	return a, nil
}

// question returns the operation and its Parameters that ask whether c is in p.
func question(p terminology.Part, c terminology.Coding) (path string, body []byte) {
	whole := p.ValueSet == "" && len(p.Filters) == 0
	params := partOf(p)
	if whole {
		params = append(params, parameter{Name: "code", Code: c.Code})
		return "/CodeSystem/$validate-code", parameters(params)
	}
	params = append(params, parameter{Name: "system", URI: c.System}, parameter{Name: "code", Code: c.Code})
	return "/ValueSet/$validate-code", parameters(params)
}

// partOf returns the Parameters that name p.
func partOf(p terminology.Part) []parameter {
	switch {
	case p.ValueSet != "":
		url, version, _ := strings.Cut(p.ValueSet, "|")
		list := []parameter{{Name: "url", URI: url}}
		if version != "" {
			list = append(list, parameter{Name: "valueSetVersion", String: version})
		}
		return list
	case len(p.Filters) == 0:
		list := []parameter{{Name: "url", URI: p.System}}
		if p.Version != "" {
			list = append(list, parameter{Name: "version", String: p.Version})
		}
		return list
	}
	return []parameter{{Name: "valueSet", Resource: valueSet(p)}}
}

// valueSet returns a ValueSet of the concepts of p.
func valueSet(p terminology.Part) any {
	return map[string]any{
		"resourceType": "ValueSet", "status": "active",
		"compose": map[string]any{"include": []include{{p.System, p.Version, p.Filters}}},
	}
}

type include struct {
	System  string               `json:"system"`
	Version string               `json:"version,omitzero"`
	Filter  []terminology.Filter `json:"filter,omitzero"`
}

// A parameter is one of Parameters.
// https://hl7.org/fhir/R4/parameters.html
type parameter struct {
	Name     string `json:"name"`
	URI      string `json:"valueUri,omitzero"`
	Code     string `json:"valueCode,omitzero"`
	String   string `json:"valueString,omitzero"`
	Integer  int    `json:"valueInteger,omitzero"`
	Boolean  *bool  `json:"valueBoolean,omitzero"`
	Resource any    `json:"resource,omitzero"`
}

func parameters(list []parameter) []byte {
	b, _ := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": list}, json.Deterministic(true)) // all of it can be written
	return b
}

// said reads the answer of $validate-code. A server that does not know the code
// system may say no, and say in a parameter of its own that it does not know.
func said(body []byte) (terminology.Answer, error) {
	var answer struct {
		ResourceType string `json:"resourceType"`
		Parameter    []struct {
			Name    string `json:"name"`
			Boolean *bool  `json:"valueBoolean"`
		} `json:"parameter"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.ResourceType != "Parameters" {
		return terminology.Unknown, errors.New("the answer is not Parameters")
	}
	result := terminology.Unknown
	for _, p := range answer.Parameter {
		switch {
		case p.Name == "x-caused-by-unknown-system", p.Name == "x-unknown-system":
			return terminology.Unknown, nil
		case p.Name == "result" && p.Boolean != nil && *p.Boolean:
			result = terminology.In
		case p.Name == "result" && p.Boolean != nil:
			result = terminology.Out
		}
	}
	if result == terminology.Unknown {
		return result, errors.New("the answer has no result")
	}
	return result, nil
}

// List implements terminology.Elsewhere.
func (s *Server) List(ctx context.Context, p terminology.Part) ([]terminology.Contains, error) {
	unknown := fhir.Errorf(fhir.BusinessRule, "the terminology server does not know what the value set is made of")
	if p.System != "" && !s.covers(p.System) {
		return nil, unknown
	}
	params := partOf(p)
	if p.ValueSet == "" {
		params = []parameter{{Name: "valueSet", Resource: valueSet(p)}}
	}
	params = append(params, parameter{Name: "count", Integer: terminology.MaxExpansion + 1})
	body, status, err := s.post(ctx, "/ValueSet/$expand", parameters(params), maxExpansion)
	switch {
	case err != nil:
		return nil, fhir.Errorf(fhir.Transient, "the terminology server does not answer")
	case status != http.StatusOK:
		return nil, unknown
	}
	list, err := listed(body)
	if err != nil {
		s.fails(err)
		return nil, fhir.Errorf(fhir.Transient, "the terminology server does not answer")
	}
	if len(list) > terminology.MaxExpansion {
		return nil, fhir.Errorf(fhir.TooCostly, "the terminology server lists more than %d concepts", terminology.MaxExpansion)
	}
	if slices.ContainsFunc(list, func(c terminology.Contains) bool { return !s.covers(c.System) }) {
		return nil, unknown // what is left would look like all of it
	}
	return list, nil
}

// listed reads the answer of $expand, nested or not.
func listed(body []byte) ([]terminology.Contains, error) {
	type contains struct {
		terminology.Contains `json:",inline"`
		Nested               []contains `json:"contains"`
	}
	var answer struct {
		ResourceType string `json:"resourceType"`
		Expansion    struct {
			Contains []contains `json:"contains"`
		} `json:"expansion"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.ResourceType != "ValueSet" {
		return nil, errors.New("the answer is not a ValueSet")
	}
	var list []terminology.Contains
	var walk func([]contains)
	walk = func(all []contains) {
		for _, c := range all {
			if c.Code != "" && c.System != "" {
				list = append(list, c.Contains)
			}
			walk(c.Nested)
		}
	}
	walk(answer.Expansion.Contains)
	return list, nil
}

// post calls an operation. The status is 200, or one that says that the server
// cannot tell; all else is errFailed.
func (s *Server) post(ctx context.Context, path string, body []byte, limit int64) ([]byte, int, error) {
	if s.isResting() {
		return nil, 0, errFailed
	}
	asked, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.asking.Acquire(asked, 1); err != nil {
		return nil, 0, errFailed
	}
	defer s.asking.Release(1)
	answer, status, err := s.send(asked, path, body, limit)
	switch {
	case err == nil:
		return answer, status, nil
	case ctx.Err() != nil: // the client went away, which says nothing of the server
		return nil, 0, errFailed
	}
	return nil, 0, s.fails(err)
}

func (s *Server) send(ctx context.Context, path string, body []byte, limit int64) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/fhir+json")
	req.Header.Set("Accept", "application/fhir+json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, 0, err
	case int64(len(answer)) > limit:
		return nil, 0, errors.New("the answer is too long")
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusUnprocessableEntity:
		return nil, resp.StatusCode, nil
	case resp.StatusCode != http.StatusOK:
		return nil, 0, fmt.Errorf("status %d", resp.StatusCode)
	}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != "application/fhir+json" && t != "application/json" {
		return nil, 0, errors.New("the answer is not JSON")
	}
	return answer, http.StatusOK, nil
}

// fails lets the server rest, so that each of many codes does not wait for it,
// and returns errFailed with the reason.
func (s *Server) fails(why error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting = s.cfg.Now().Add(s.cfg.Rest)
	return fmt.Errorf("%w: %w", errFailed, why)
}

func (s *Server) isResting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg.Now().Before(s.resting)
}
