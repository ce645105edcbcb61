package launch_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// asEHR posts a form as the client "ehr", which proves who it is.
func (s *site) asEHR(path string, fields ...string) *httptest.ResponseRecorder {
	form := url.Values{"client_id": {"ehr"}, "client_secret": {"s3cret"}}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return s.person().send("POST", path, form.Encode())
}

// A-70, T054
func TestIntrospectionTellsOfATokenWhatItsAppWasTold(t *testing.T) {
	s := newSite(t)
	s.client(t, smart.Client{ID: "watcher", Method: smart.ClientSecret, Secret: secretHash, Scopes: []string{smart.IntrospectWord}})
	got := s.redeem(t, s.code(t))
	ask := func(token, client string) (told map[string]any) {
		t.Helper()
		rec := s.asEHR("introspect", "token", token, "client_id", client)
		if err := json.Unmarshal(rec.Body.Bytes(), &told); err != nil || rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		return told
	}
	told := ask(got.AccessToken, "watcher")
	for name, want := range map[string]any{
		"active": true, "client_id": "app", "sub": "doctor", "iss": storetest.Issuer(s.slug), "patient": "p1",
		"fhirUser": storetest.Base(s.slug) + "/Practitioner/dr1", "scope": got.Scope, "token_type": "Bearer",
	} {
		if told[name] != want {
			t.Errorf("%s is %v, want %v", name, told[name], want)
		}
	}
	nothing := map[string]any{"active": false}
	foreign := s.Token(t, storetest.A1, "system/*.rs")
	for claim, told := range map[string]map[string]any{
		"nonsense": ask("x.y.z", "watcher"), "another tenant's": ask(foreign, "watcher"), "not its business": ask(got.AccessToken, "ehr"),
		"a refresh token": ask(got.RefreshToken, "watcher"), "an ID token": ask(got.IDToken, "watcher"),
	} {
		if diff := cmp.Diff(nothing, told); diff != "" {
			t.Errorf("%s (-want +got):\n%s", claim, diff)
		}
	}
	if rec := s.person().send("POST", "introspect", "client_id=app&token="+got.AccessToken); rec.Code != 400 {
		t.Errorf("a public client asks: %d", rec.Code)
	}
	if rec := s.person().send("POST", "revoke", url.Values{"client_id": {"app"}, "token": {got.AccessToken}}.Encode()); rec.Code != 200 {
		t.Fatalf("revoking: %d %s", rec.Code, rec.Body)
	}
	if diff := cmp.Diff(nothing, ask(got.AccessToken, "watcher")); diff != "" {
		t.Errorf("a revoked token (-want +got):\n%s", diff)
	}
}

// T034
func TestARevokedTokenIsRefusedByTheTimeItIsAnswered(t *testing.T) {
	s := newSite(t)
	revoke := func(token, client string) {
		t.Helper()
		if rec := s.person().send("POST", "revoke", url.Values{"client_id": {client}, "token": {token}}.Encode()); rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	byRefresh, byAccess := s.redeem(t, s.code(t)), s.redeem(t, s.code(t))
	for _, got := range []tokens{byRefresh, byAccess} {
		if !s.good(t, got.AccessToken) { // and is remembered from now on
			t.Fatal("a token is not good")
		}
		revoke(got.AccessToken, "other")
		revoke(got.RefreshToken, "other")
		revoke("nonsense", "app")
		if !s.good(t, got.AccessToken) {
			t.Error("another client revokes it")
		}
	}
	revoke(byRefresh.RefreshToken, "app")
	revoke(byAccess.AccessToken, "app")
	for claim, got := range map[string]tokens{"refresh": byRefresh, "access": byAccess} {
		for range 20 {
			if s.good(t, got.AccessToken) {
				t.Fatalf("by its %s token: the access token is still good", claim)
			}
		}
		if s.refresh(t, got.RefreshToken).status != 400 {
			t.Errorf("by its %s token: the refresh token is still good", claim)
		}
	}
}

//
func TestAnAppInABrowserReadsItsOwnAnswersOnly(t *testing.T) {
	s := newSite(t)
	allowed := func(method, path, origin, body string) string {
		p := s.person()
		p.header = http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"POST"}}
		rec := p.send(method, path, body)
		if rec.Header().Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s %s: cookies are allowed", method, path)
		}
		return rec.Header().Get("Access-Control-Allow-Origin")
	}
	for claim, tt := range map[string][5]string{
		"discovery":             {"GET", ".well-known/openid-configuration", "https://anyone.example", "", "*"},
		"the keys":              {"GET", "jwks", "https://anyone.example", "", "*"},
		"the brands":            {"GET", "brands", "https://anyone.example", "", "*"},
		"its own":               {"POST", "token", "https://app.example", "client_id=app&grant_type=refresh_token", "https://app.example"},
		"another's":             {"POST", "token", "https://anyone.example", "client_id=app&grant_type=refresh_token", ""},
		"one that begins alike": {"POST", "token", "https://app.example.evil.example", "client_id=app&grant_type=refresh_token", ""},
		"an unknown app":        {"POST", "token", "https://app.example", "client_id=nobody&grant_type=refresh_token", ""},
		"before asking":         {"OPTIONS", "token", "https://app.example", "", "*"},
		"a page":                {"GET", "account", "https://app.example", "", ""},
		"the login":             {"OPTIONS", "login", "https://app.example", "", ""},
	} {
		if got := allowed(tt[0], tt[1], tt[2], tt[3]); got != tt[4] {
			t.Errorf("%s: %q, want %q", claim, got, tt[4])
		}
	}
	origins, err := s.Registry.AppOrigins(t.Context())
	if err != nil || !strings.Contains(strings.Join(origins, " "), "https://app.example") {
		t.Errorf("the apps' origins: %v, %v", origins, err)
	}
}

// A new key is known for a while before it signs, and the one before it for as
// long as there can be tokens that it has signed.
func TestTheKeyOfIDTokensIsReplacedWithoutAGap(t *testing.T) {
	s := newSite(t)
	s.Registry.Lifetime = 0 // nothing is remembered
	tn := s.Tenant(t, s.slug)
	first, err := s.Registry.SigningKeys(t.Context(), tn)
	if err != nil || len(first) != 1 {
		t.Fatalf("%v %v", first, err)
	}
	if err := s.Registry.AddSigningKey(t.Context(), tn, false); err != nil {
		t.Fatal(err)
	}
	both, err := s.Registry.SigningKeys(t.Context(), tn)
	if err != nil || len(both) != 2 || both[0].ID != first[0].ID {
		t.Errorf("a key that is new signs at once: %v %v", both, err)
	}
	s.checkIDToken(t, s.redeem(t, s.code(t)).IDToken)
}

func TestTheDiscoveryDocumentIsTrueToWhatRuns(t *testing.T) {
	s := newSite(t)
	var doc map[string]any
	if err := json.Unmarshal(s.server.Configuration(s.slug), &doc); err != nil {
		t.Fatal(err)
	}
	for name, value := range doc {
		address, ok := value.(string)
		if !ok || !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" && name != "user_access_brand_bundle" {
			continue
		}
		path, ours := strings.CutPrefix(address, storetest.Issuer(s.slug)+"/")
		get, post := s.person().send("GET", path, ""), s.person().send("POST", path, "")
		if !ours || get.Code == 404 || post.Code == 404 {
			t.Errorf("%s is %s: %d, %d", name, address, get.Code, post.Code)
		}
	}
	if s.person().send("GET", "brands", "").Code != 200 {
		t.Error("no brands")
	}
}
