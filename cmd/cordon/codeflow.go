package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// A codeFlow gets an access token for a user as an app does in a browser: it
// fetches the pages, fills in the forms and redeems the code.
// https://hl7.org/fhir/smart-app-launch/app-launch.html
type codeFlow struct {
	tenant  *devTenant
	app     devClient
	scope   string
	user    devUser
	patient string // to choose where there is a choice

	cookie string
}

// token goes through the flow.
func (f *codeFlow) token(ctx context.Context) (string, error) {
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	state := rand.Text()
	ask := url.Values{
		"response_type": {"code"}, "client_id": {f.app.ID}, "redirect_uri": {f.app.RedirectURI}, "scope": {f.scope},
		"state": {state}, "aud": {f.tenant.FHIRBase}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])},
	}
	back, err := f.pages(ctx, ask)
	if err != nil {
		return "", err
	}
	if back.Get("state") != state {
		return "", errors.New("the answer is not to what was asked")
	}
	if back.Get("code") == "" {
		return "", fmt.Errorf("the server refused: %s: %s", back.Get("error"), back.Get("error_description"))
	}
	return f.redeem(ctx, back.Get("code"), verifier)
}

// pages goes from page to page until the app gets its answer.
func (f *codeFlow) pages(ctx context.Context, ask url.Values) (url.Values, error) {
	resp, text, err := f.send(ctx, http.MethodGet, "authorize?"+ask.Encode(), nil)
	for range 4 {
		if err != nil {
			return nil, err
		}
		if to := resp.Header.Get("Location"); resp.StatusCode == http.StatusSeeOther && strings.HasPrefix(to, f.app.RedirectURI+"?") {
			u, err := url.Parse(to)
			if err != nil {
				return nil, fmt.Errorf("logging in: %w", err)
			}
			return u.Query(), nil
		}
		p := readPage(text)
		if resp.StatusCode != http.StatusOK || p.action == "" {
			return nil, fmt.Errorf("logging in as %s: %s: %s", f.user.Login, resp.Status, p.fault)
		}
		form := p.fields
		switch p.action {
		case "login":
			form.Set("login", f.user.Login)
			form.Set("password", f.user.Password)
		case "patient":
			if f.patient == "" {
				return nil, errors.New("say which patient it is about, with --patient")
			}
			form.Set("patient", f.patient)
		case "consent":
			form.Set("answer", "allow")
		}
		resp, text, err = f.send(ctx, http.MethodPost, p.action, form)
	}
	return nil, errors.New("logging in: too many pages")
}

// A filledPage is what a program sees of a page.
type filledPage struct {
	action string // the last part of where its form goes
	fields url.Values
	fault  string
}

var (
	formTag  = regexp.MustCompile(`<form method="post" action="[^"]*/([a-z]+)"`)
	inputTag = regexp.MustCompile(`<input type="(hidden|checkbox)" name="([^"]*)" value="([^"]*)"( checked)?`)
	faultTag = regexp.MustCompile(`role="alert">([^<]*)<`)
)

// readPage reads what the form on a page would send as it is.
func readPage(text string) filledPage {
	p := filledPage{fields: url.Values{}}
	if m := formTag.FindStringSubmatch(text); m != nil {
		p.action = m[1]
	}
	for _, m := range inputTag.FindAllStringSubmatch(text, -1) {
		if m[1] == "hidden" || m[4] != "" {
			p.fields.Set(html.UnescapeString(m[2]), html.UnescapeString(m[3]))
		}
	}
	if m := faultTag.FindStringSubmatch(text); m != nil {
		p.fault = html.UnescapeString(m[1])
	}
	return p
}

// send is one request of the browser.
func (f *codeFlow) send(ctx context.Context, method, path string, form url.Values) (*http.Response, string, error) {
	auth := strings.TrimSuffix(f.tenant.TokenURL, "token")
	req, err := http.NewRequestWithContext(ctx, method, auth+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", fmt.Errorf("logging in: %w", err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if f.cookie != "" {
		// Go's jar keeps Secure cookies from http, also to this very machine.
		req.Header.Set("Cookie", f.cookie)
	}
	browser := &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("logging in: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, "", fmt.Errorf("logging in: %w", err)
	}
	for _, c := range resp.Cookies() {
		f.cookie = c.Name + "=" + c.Value
	}
	return resp, string(text), nil
}

// redeem turns the code into a token.
func (f *codeFlow) redeem(ctx context.Context, code, verifier string) (string, error) {
	resp, text, err := f.send(ctx, http.MethodPost, "token", url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {f.app.RedirectURI},
		"code_verifier": {verifier}, "client_id": {f.app.ID},
	})
	if err != nil {
		return "", err
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("redeeming the code: %s: %s %s", resp.Status, answer.Error, answer.Description)
	}
	return answer.AccessToken, nil
}
