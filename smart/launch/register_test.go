package launch_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/tenant"
)

// rules sets who may register apps.
func (s *site) rules(t testing.TB, r tenant.Registration) {
	t.Helper()
	_, version, err := s.Migrator.Settings(t.Context(), s.slug)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Migrator.PutSettings(t.Context(), s.slug, tenant.Settings{Registration: r}, version); err != nil {
		t.Fatal(err)
	}
	s.Tenants.Forget(s.slug)
}

type registration struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
	Scope  string `json:"scope"`
	Error  string `json:"error"`
	status int
}

func (s *site) register(t testing.TB, about map[string]any) (got registration) {
	t.Helper()
	body, err := json.Marshal(about)
	if err != nil {
		t.Fatal(err)
	}
	p := s.person()
	p.header = http.Header{"Content-Type": {"application/json"}}
	rec := p.send("POST", "register", string(body))
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, rec.Body)
	}
	got.status = rec.Code
	return got
}

// An app that nobody knows can register where the tenant lets it, and does
// nothing before an operator has looked at it.
func TestAnAppThatRegistersItselfWaitsForAnOperator(t *testing.T) {
	s := newSite(t)
	about := map[string]any{"redirect_uris": []string{callback}, "client_name": "Stranger", "scope": "openid launch/patient patient/*.cruds system/*.rs", "unknown": 1}
	if got := s.register(t, about); got.status != 404 {
		t.Errorf("without a policy: %+v", got)
	}
	s.rules(t, tenant.Registration{Policy: tenant.Approved, Scopes: []string{"openid", "launch/patient", "patient/*.rs", "system/*.rs"}})
	got := s.register(t, about)
	if got.status != 201 || got.ID == "" || got.Secret == "" || got.Scope != "openid launch/patient patient/*.rs" {
		t.Fatalf("%+v", got)
	}
	ask := "authorize?" + s.ask("client_id", got.ID, "scope", "openid patient/*.rs").Encode()
	if p := s.person(); p.send("GET", ask, "").Code != 400 {
		t.Error("it asks users before it was let in")
	}
	if err := s.Registry.DisableClient(t.Context(), s.Tenant(t, s.slug), got.ID, false); err != nil {
		t.Fatal(err)
	}
	code := s.code(t, "client_id", got.ID, "scope", "openid patient/*.rs")
	fields := []string{"grant_type", "authorization_code", "code", code, "client_id", got.ID, "redirect_uri", callback, "code_verifier", verifier}
	if tok := s.token(t, append(fields, "client_secret", got.Secret)...); tok.status != 200 {
		t.Errorf("let in: %+v", tok)
	}
	for claim, change := range map[string]map[string]any{
		"no address": {"redirect_uris": nil}, "an open address": {"redirect_uris": []string{"http://evil.example/"}},
		"a script": {"redirect_uris": []string{"javascript:alert(1)"}}, "a service": {"grant_types": []string{"client_credentials"}},
		"an address of keys": {"jwks_uri": "http://169.254.169.254/", "token_endpoint_auth_method": "private_key_jwt"},
		"no keys":            {"token_endpoint_auth_method": "private_key_jwt"}, "nothing it may have": {"scope": "system/*.rs"},
		"an unknown method": {"token_endpoint_auth_method": "tls_client_auth"},
	} {
		about := map[string]any{"redirect_uris": []string{callback}}
		for name, v := range change {
			about[name] = v
		}
		if got := s.register(t, about); got.status != 400 || got.Error == "" || got.ID != "" {
			t.Errorf("%s: %+v", claim, got)
		}
	}
	for range 120 {
		got = s.register(t, about)
	}
	if got.status == 201 {
		t.Error("any number of apps can wait")
	}
}

// The word of an issuer lets an app in at once, as the issuer describes it.
func TestAnAppIsLetInByASignedStatement(t *testing.T) {
	s := newSite(t)
	w := newWorld(t)
	const trusted = "https://trust.example"
	s.rules(t, tenant.Registration{Policy: tenant.Statement, Scopes: []string{"openid", "patient/*.rs"}, Issuers: []tenant.StatementIssuer{
		{Issuer: trusted, JWKS: jsontext.Value(jwks(t, jose.JSONWebKey{Key: &clientEC.PublicKey, KeyID: "ec"}))},
	}})
	statement := func(change map[string]any) string {
		claims := map[string]any{
			"iss": trusted, "exp": time.Now().Add(time.Hour).Unix(), "redirect_uris": []string{callback},
			"client_name": "Vouched for", "token_endpoint_auth_method": "none",
		}
		for name, v := range change {
			claims[name] = v
		}
		return w.signed(t, jose.ES384, clientEC, map[jose.HeaderKey]any{"kid": "ec", "typ": "JWT"}, claims)
	}
	for claim, bad := range map[string]string{
		"none": "", "nonsense": "a.b.c", "of a stranger": statement(map[string]any{"iss": "https://evil.example"}),
		"expired": statement(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), "without an end": statement(map[string]any{"exp": nil}),
		"without an address": statement(map[string]any{"redirect_uris": nil}),
		"by another key":     w.signed(t, jose.ES384, otherEC, map[jose.HeaderKey]any{"kid": "ec"}, map[string]any{"iss": trusted, "exp": time.Now().Add(time.Hour).Unix(), "redirect_uris": []string{callback}}),
	} {
		if got := s.register(t, map[string]any{"redirect_uris": []string{callback}, "software_statement": bad}); got.status != 400 || got.ID != "" {
			t.Errorf("%s: %+v", claim, got)
		}
	}
	got := s.register(t, map[string]any{"redirect_uris": []string{"https://evil.example/"}, "software_statement": statement(nil)})
	if got.status != 201 || got.Secret != "" {
		t.Fatalf("%+v", got)
	}
	if p := s.person(); p.send("GET", "authorize?"+s.ask("client_id", got.ID, "redirect_uri", "https://evil.example/").Encode(), "").Code != 400 {
		t.Error("the app's own address was taken")
	}
	code := s.code(t, "client_id", got.ID, "scope", "openid patient/*.rs")
	if tok := s.redeem(t, code, "client_id", got.ID); tok.status != 200 {
		t.Errorf("let in: %+v", tok)
	}
	if doc := s.server.Configuration(s.slug); !strings.Contains(string(doc), `"registration_endpoint"`) {
		t.Error("the endpoint is not in the discovery document")
	}
}
