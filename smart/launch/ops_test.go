package launch_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
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

// T034, AUTHZ-07
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

// aged makes all keys of the tenant older.
func (s *site) aged(t testing.TB, by string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URLs.Registry)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, table := range []string{"access_key", "signing_key"} {
		// The server's role may add and remove keys, and change none.
		if _, err := conn.Exec(t.Context(), `
			WITH old AS (DELETE FROM registry.`+table+` WHERE tenant_id = $1 RETURNING *)
			INSERT INTO registry.`+table+` SELECT (jsonb_populate_record(NULL::registry.`+table+`, to_jsonb(old) || jsonb_build_object('created', created - $2::interval))).* FROM old`,
			s.Tenant(t, s.slug).ID.Int(), by); err != nil {
			t.Fatal(err)
		}
	}
	s.Keyring.Forget(s.Tenant(t, s.slug).ID)
}

// kids returns the names of the keys for access tokens that are published.
func (s *site) kids(t testing.TB) (list []string) {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(s.person().send("GET", "jwks", "").Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		if k.Algorithm == "ES256" {
			list = append(list, k.KeyID)
		}
	}
	return list
}

func signer(t testing.TB, bearer string) string {
	t.Helper()
	jws, err := jose.ParseSignedCompact(bearer, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	return jws.Signatures[0].Header.KeyID
}

// The next keys are known for a while before they sign, and those before them for
// as long as there can be tokens that they have signed: nobody is refused on the
// way. AUTHZ-06
func TestKeysOfTokensAreReplacedWithoutAGap(t *testing.T) {
	s := newSite(t)
	s.Registry.Lifetime = 0 // nothing is remembered
	tn := s.Tenant(t, s.slug)
	got := s.redeem(t, s.code(t))
	first := signer(t, got.AccessToken)
	if err := s.Registry.RotateKeys(t.Context(), tn, false); err != nil {
		t.Fatal(err)
	}
	s.Keyring.Forget(tn.ID)
	if kids := s.kids(t); len(kids) != 2 || kids[0] != first {
		t.Errorf("the next key is not published, or signs at once: %v", kids)
	}
	again := s.redeem(t, s.code(t))
	s.checkIDToken(t, again.IDToken)
	if signer(t, again.AccessToken) != first || !s.good(t, got.AccessToken) {
		t.Error("a key that is new signs at once, or the one before is believed no more")
	}

	s.aged(t, "4 minutes")
	next := s.redeem(t, s.code(t))
	s.checkIDToken(t, next.IDToken)
	if second := signer(t, next.AccessToken); second == first || !s.good(t, next.AccessToken) || !s.good(t, got.AccessToken) {
		t.Error("after three minutes the next key does not sign, or not both are believed")
	}
	if kids := s.kids(t); len(kids) != 2 {
		t.Errorf("published: %v", kids)
	}

	s.aged(t, "25 hours")
	if s.good(t, got.AccessToken) || !s.good(t, next.AccessToken) {
		t.Error("a day later the first key is still believed, or the second no more")
	}
	if kids := s.kids(t); len(kids) != 1 || kids[0] == first {
		t.Errorf("published: %v", kids)
	}
}

// When a key is in the wrong hands, no token that it has signed is good. AUTHZ-07
func TestAKeyInTheWrongHandsIsWorthNothing(t *testing.T) {
	s := newSite(t)
	s.Registry.Lifetime = 0
	tn := s.Tenant(t, s.slug)
	if err := s.Registry.RotateKeys(t.Context(), tn, false); err != nil {
		t.Fatal(err)
	}
	s.aged(t, "4 minutes")
	got := s.redeem(t, s.code(t))
	if err := s.Registry.RotateKeys(t.Context(), tn, true); err != nil {
		t.Fatal(err)
	}
	s.Keyring.Forget(tn.ID)
	next := s.redeem(t, s.code(t))
	s.checkIDToken(t, next.IDToken)
	if s.good(t, got.AccessToken) || !s.good(t, next.AccessToken) {
		t.Error("the old key is believed, or the new is not")
	}
	if kids := s.kids(t); len(kids) != 1 || kids[0] != signer(t, next.AccessToken) {
		t.Errorf("published: %v", kids)
	}
}

// Keys are replaced when they are old, and not before. AUTHZ-06
func TestOldKeysAreReplaced(t *testing.T) {
	s := newSite(t)
	s.Registry.Lifetime = 0
	tn := s.Tenant(t, s.slug)
	s.redeem(t, s.code(t)) // which makes the first key of ID tokens
	for range 2 {
		if err := s.Registry.RotateOldKeys(t.Context(), tn, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	s.Keyring.Forget(tn.ID)
	if kids := s.kids(t); len(kids) != 1 {
		t.Errorf("keys that are new were replaced: %v", kids)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	keeper := &store.KeyKeeper{Registry: s.Registry, Age: time.Microsecond, Every: time.Hour,
		Tenants: func(context.Context) ([]*tenant.Tenant, error) { return []*tenant.Tenant{tn}, nil }}
	go func() { keeper.Run(ctx); close(done) }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s.Keyring.Forget(tn.ID)
		ids, err := s.Registry.SigningKeys(t.Context(), tn)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.kids(t)) == 2 && len(ids) == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("old keys were not replaced")
		}
	}
	cancel()
	<-done
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
