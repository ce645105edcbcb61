package main

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

// A login earns access tokens as a backend service and renews them before
// they end. It may be used from many goroutines.
// https://hl7.org/fhir/smart-app-launch/backend-services.html
type login struct {
	url    string // token endpoint
	client string
	scope  string
	key    *jose.JSONWebKey

	mu     sync.Mutex
	bearer string
	until  time.Time
}

// newLogin returns the login of a registered client whose key is on disk.
func newLogin(tenant *devTenant, client devClient, scope string) (*login, error) {
	key, err := readKey(client.KeyFile)
	if err != nil {
		return nil, err
	}
	return &login{url: tenant.TokenURL, client: client.ID, scope: scope, key: key}, nil
}

// api is the client for short requests to our own endpoints.
var api = &http.Client{Timeout: 30 * time.Second}

// token returns a token that is good for half a minute at least.
func (l *login) token(ctx context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Until(l.until) > 30*time.Second {
		return l.bearer, nil
	}
	assertion, err := l.assertion(time.Now())
	if err != nil {
		return "", err
	}
	form := url.Values{
		"grant_type":            {"client_credentials"},
		"scope":                 {l.scope},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("asking for a token: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := api.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking for a token: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&answer)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("asking for a token: %s: %s %s", resp.Status, answer.Error, answer.Description)
	}
	if err != nil {
		return "", fmt.Errorf("asking for a token: %w", err)
	}
	l.bearer, l.until = answer.AccessToken, time.Now().Add(time.Duration(answer.ExpiresIn)*time.Second)
	return l.bearer, nil
}

// assertion signs that we are the client.
// https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html
func (l *login) assertion(now time.Time) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(l.key.Algorithm), Key: l.key},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("signing an assertion: %w", err)
	}
	text, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": l.client, "sub": l.client, "aud": l.url, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("signing an assertion: %w", err)
	}
	return text, nil
}
