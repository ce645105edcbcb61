// Package backend earns access tokens as a SMART backend service.
//
// https://hl7.org/fhir/smart-app-launch/backend-services.html
package backend

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// A Service is a registered client. It may be used from many goroutines.
type Service struct {
	TokenURL string           // required
	Client   string           // its client_id, required
	Scope    string           // what it asks for, required
	Key      *jose.JSONWebKey // its private key with the alg to sign by, required
	// HTTP sends the requests. Default: a client that waits for 30 seconds.
	HTTP *http.Client
	// Prepare may add to each request for a token before it is sent.
	Prepare func(*http.Request)

	mu     sync.Mutex
	bearer string
	until  time.Time
}

var patient = &http.Client{Timeout: 30 * time.Second}

// Token returns an access token that is good for half a minute at least: the
// one that it has, or a new one.
func (s *Service) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Until(s.until) > 30*time.Second {
		return s.bearer, nil
	}
	now := time.Now()
	answer, err := s.ask(ctx, now)
	if err != nil {
		return "", fmt.Errorf("asking for a token: %w", err)
	}
	s.bearer, s.until = answer.AccessToken, now.Add(time.Duration(answer.ExpiresIn)*time.Second)
	return s.bearer, nil
}

// Forget makes the next who asks earn a new token.
func (s *Service) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bearer, s.until = "", time.Time{}
}

type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"` // seconds
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (s *Service) ask(ctx context.Context, now time.Time) (answer tokenAnswer, err error) {
	assertion, err := s.assertion(now)
	if err != nil {
		return answer, err
	}
	form := url.Values{
		"grant_type":            {"client_credentials"},
		"scope":                 {s.Scope},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return answer, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if s.Prepare != nil {
		s.Prepare(req)
	}
	sender := s.HTTP
	if sender == nil {
		sender = patient
	}
	resp, err := sender.Do(req)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer)
	if resp.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%s: %s %s", resp.Status, answer.Error, answer.Description)
	}
	return answer, err
}

// assertion signs that we are the client.
// https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html
func (s *Service) assertion(now time.Time) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(s.Key.Algorithm), Key: s.Key},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("signing an assertion: %w", err)
	}
	text, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": s.Client, "sub": s.Client, "aud": s.TokenURL, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("signing an assertion: %w", err)
	}
	return text, nil
}
