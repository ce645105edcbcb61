package launch_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/tenant"
)

// managed is an answer about a registration.
type managed struct {
	registration
	Token string   `json:"registration_access_token"`
	URI   string   `json:"registration_client_uri"`
	Name  string   `json:"client_name"`
	Back  []string `json:"redirect_uris"`
	body  string
}

func (s *site) manage(t testing.TB, method, client, token string, about map[string]any) (got managed) {
	t.Helper()
	body := ""
	if about != nil {
		text, err := json.Marshal(about)
		if err != nil {
			t.Fatal(err)
		}
		body = string(text)
	}
	p := s.person()
	p.header = http.Header{"Content-Type": {"application/json"}}
	if token != "" {
		p.header.Set("Authorization", "Bearer "+token)
	}
	path := "register"
	if client != "" {
		path += "/" + client
	}
	rec := p.send(method, path, body)
	got.body, got.status = rec.Body.String(), rec.Code
	if got.body != "" {
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
			t.Fatalf("%v in %s", err, got.body)
		}
	}
	return got
}

// An app reads, changes and removes what it registered, with the token that it
// got then and no other. A change has to be let in again, and its users asked.
// https://www.rfc-editor.org/rfc/rfc7592
func TestAnAppManagesItsRegistration(t *testing.T) {
	s := newSite(t)
	s.rules(t, tenant.Registration{Policy: tenant.Approved, Scopes: []string{"openid", "offline_access", "launch/patient", "patient/*.rs"}})
	about := map[string]any{"redirect_uris": []string{callback}, "client_name": "Diary", "scope": "openid offline_access patient/*.rs", "token_endpoint_auth_method": "none"}
	app := s.manage(t, "POST", "", "", about)
	other := s.manage(t, "POST", "", "", about)
	if app.status != 201 || app.Token == "" || !strings.HasSuffix(app.URI, "/register/"+app.ID) {
		t.Fatalf("%+v", app)
	}
	got := s.manage(t, "GET", app.ID, app.Token, nil)
	if got.status != 200 || got.ID != app.ID || got.Token != app.Token || got.URI != app.URI || got.Name != "Diary" || !slices.Equal(got.Back, []string{callback}) {
		t.Errorf("read: %+v", got)
	}
	for claim, tt := range map[string][2]string{
		"without a token": {app.ID, ""}, "with another app's token": {app.ID, other.Token}, "of another app": {other.ID, app.Token},
		"of no app": {"app-nobody", app.Token}, "of an operator's app": {"app", app.Token}, "with nonsense": {app.ID, "x"},
	} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			if got := s.manage(t, method, tt[0], tt[1], about); got.status != 401 || got.Error != "invalid_token" {
				t.Errorf("%s %s: %+v", method, claim, got)
			}
		}
	}

	tn := s.Tenant(t, s.slug)
	if err := s.Registry.DisableClient(t.Context(), tn, app.ID, false); err != nil {
		t.Fatal(err)
	}
	tok := s.redeem(t, s.code(t, "client_id", app.ID, "scope", "openid offline_access patient/*.rs"), "client_id", app.ID)
	if tok.status != 200 || tok.RefreshToken == "" {
		t.Fatalf("%+v", tok)
	}
	with := func(name string, value any) map[string]any {
		m := map[string]any{"client_id": app.ID, "redirect_uris": []string{"https://diary.example/back"}, "client_name": "Diary 2", "token_endpoint_auth_method": "none"}
		m[name] = value
		return m
	}
	for claim, bad := range map[string]map[string]any{
		"of another id": with("client_id", other.ID), "with a secret that it has not": with("client_secret", "x"),
		"with a token of its choice": with("registration_access_token", "x"), "that began when it likes": with("client_id_issued_at", 1),
		"with an open address": with("redirect_uris", []string{"http://evil.example/"}), "with none of the scopes": with("scope", "system/*.rs"),
	} {
		if got := s.manage(t, "PUT", app.ID, app.Token, bad); got.status != 400 {
			t.Errorf("an update %s: %+v", claim, got)
		}
	}
	if s.refresh(t, tok.RefreshToken, "client_id", app.ID).status != 200 {
		t.Fatal("updates that were refused changed something")
	}
	tok = s.redeem(t, s.code(t, "client_id", app.ID, "scope", "openid offline_access patient/*.rs"), "client_id", app.ID)
	got = s.manage(t, "PUT", app.ID, app.Token, with("scope", "openid patient/*.rs"))
	if got.status != 200 || got.Name != "Diary 2" || got.Scope != "openid patient/*.rs" || got.Token != app.Token {
		t.Errorf("updated: %+v", got)
	}
	s.again(t)
	ask := "authorize?" + s.ask("client_id", app.ID, "redirect_uri", "https://diary.example/back", "scope", "openid patient/*.rs").Encode()
	if s.person().send("GET", ask, "").Code != 400 {
		t.Error("the app that it is now was let in by nobody")
	}
	if err := s.Registry.DisableClient(t.Context(), tn, app.ID, false); err != nil {
		t.Fatal(err)
	}
	if s.good(t, tok.AccessToken) || s.refresh(t, tok.RefreshToken, "client_id", app.ID).status == 200 {
		t.Error("what users let the app do that it was, it may still do")
	}
	if s.person().send("GET", ask, "").Code != 200 {
		t.Error("an operator lets it in, and it may not ask")
	}

	if got := s.manage(t, "DELETE", app.ID, app.Token, nil); got.status != 204 || got.body != "" {
		t.Errorf("removed: %+v", got)
	}
	if s.person().send("GET", ask, "").Code != 400 || s.manage(t, "GET", app.ID, app.Token, nil).status != 401 {
		t.Error("an app that was removed is still there")
	}
	if err := s.Registry.DisableClient(t.Context(), tn, app.ID, false); err == nil {
		t.Error("an app that was removed can be enabled")
	}
	if !s.audited(t, "", "register: removed its registration") {
		t.Errorf("audited: %+v", s.reasons(t))
	}
	s.rules(t, tenant.Registration{})
	if got := s.manage(t, "PUT", other.ID, other.Token, with("client_id", other.ID)); got.status != 403 {
		t.Errorf("updated where none may register: %+v", got)
	}
	if got := s.manage(t, "DELETE", other.ID, other.Token, nil); got.status != 204 {
		t.Errorf("removed where none may register: %+v", got)
	}
}

// Whom an operator has shut out does not get back in by an update, whoever
// vouches for it.
func TestAnAppThatIsShutOutStaysOut(t *testing.T) {
	s := newSite(t)
	s.rules(t, tenant.Registration{Policy: tenant.Approved, Scopes: []string{"openid", "patient/*.rs"}})
	about := map[string]any{"redirect_uris": []string{callback}, "token_endpoint_auth_method": "none"}
	app := s.manage(t, "POST", "", "", about)
	about["client_id"] = app.ID
	if got := s.manage(t, "PUT", app.ID, app.Token, about); got.status != 200 {
		t.Fatalf("%+v", got)
	}
	c, err := s.Registry.Client(t.Context(), s.Tenant(t, s.slug), app.ID)
	if err != nil || !c.Disabled {
		t.Errorf("it is let in: %+v %v", c, err)
	}
}
