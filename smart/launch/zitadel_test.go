package launch_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// A zitadel is an authorization server that others have written: the OpenID
// provider of zitadel/oidc, which is certified, with the users and the login
// page of its example. Its tests of it are not ours, so what we take it to say
// is not what we wrote.
// https://pkg.go.dev/github.com/zitadel/oidc/v3/pkg/op
type zitadel struct {
	*storage.Storage
	server *httptest.Server
	url    string

	mu sync.Mutex
	// What a test lets it do otherwise.
	keys     []signingKey // the first signs
	audience []string     // of access tokens; nil: the client
	claims   map[string]any
	life     time.Duration
	revoked  map[string]bool
	down     bool
	// What it was asked, by path.
	asked map[string]int
	ids   []string // of the access tokens that it made
}

// A signingKey is one of the provider's, and its public part.
type signingKey struct {
	id   string
	alg  jose.SignatureAlgorithm
	priv crypto.Signer
}

func (k signingKey) ID() string                                  { return k.id }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.alg }
func (k signingKey) Key() any                                    { return k.priv }

type publicPart struct{ signingKey }

func (p publicPart) Algorithm() jose.SignatureAlgorithm { return p.alg }
func (p publicPart) Use() string                        { return "sig" }
func (p publicPart) Key() any                           { return p.priv.Public() }

func newECKey(id string, alg jose.SignatureAlgorithm, curve elliptic.Curve) signingKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return signingKey{id, alg, key}
}

func newRSAKey(id string, alg jose.SignatureAlgorithm) signingKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return signingKey{id, alg, key}
}

func newZitadel(t testing.TB, redirectURIs ...string) *zitadel {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zitadel{
		url: "http://" + listener.Addr().String(), keys: []signingKey{newRSAKey("k1", jose.RS256)},
		revoked: map[string]bool{}, asked: map[string]int{}, life: 5 * time.Minute,
	}
	z.Storage = storage.NewStorageWithClients(storage.NewUserStore(z.url), map[string]*storage.Client{
		"cordon": storage.WebClient("cordon", "idp-s3cret", append(redirectURIs, callback)...),
	})
	provider := exampleop.SetupServer(z.url, z, slog.New(slog.NewTextHandler(io.Discard, nil)), false)
	z.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		z.mu.Lock()
		z.asked[r.URL.Path]++
		down := z.down
		z.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		provider.ServeHTTP(w, r)
	})}}
	z.server.Start()
	t.Cleanup(z.server.Close)
	return z
}

// set changes what the provider does.
func (z *zitadel) set(change func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	change()
}

func (z *zitadel) times(path string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.asked[path]
}

func (z *zitadel) SigningKey(context.Context) (op.SigningKey, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.keys[0], nil
}

func (z *zitadel) SignatureAlgorithms(context.Context) (list []jose.SignatureAlgorithm, _ error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, k := range z.keys {
		list = append(list, k.alg)
	}
	return list, nil
}

func (z *zitadel) KeySet(context.Context) (list []op.Key, _ error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, k := range z.keys {
		list = append(list, publicPart{k})
	}
	return list, nil
}

// jwtClient gets access tokens that are JWTs, with scopes of FHIR.
type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }
func (jwtClient) IsScopeAllowed(string) bool          { return true }

func (z *zitadel) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := z.Storage.GetClientByClientID(ctx, id)
	return jwtClient{c}, err
}

func (z *zitadel) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	c, err := z.Storage.ClientCredentials(ctx, id, secret)
	return jwtClient{c}, err
}

func (z *zitadel) ClientCredentialsTokenRequest(_ context.Context, client string, scopes []string) (op.TokenRequest, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	aud := z.audience
	if aud == nil {
		aud = []string{client}
	}
	return &oidc.JWTTokenRequest{Subject: client, Audience: aud, Scopes: scopes}, nil
}

// forAudience is a login whose access token is for somebody.
type forAudience struct {
	op.AuthRequest
	audience []string
}

func (f forAudience) GetAudience() []string { return f.audience }

func (z *zitadel) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	r, err := z.Storage.AuthRequestByCode(ctx, code)
	z.mu.Lock()
	defer z.mu.Unlock()
	if err != nil || z.audience == nil {
		return r, err
	}
	return forAudience{r, z.audience}, nil
}

func (z *zitadel) CreateAccessToken(ctx context.Context, r op.TokenRequest) (string, time.Time, error) {
	id, _, err := z.Storage.CreateAccessToken(ctx, r)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.ids = append(z.ids, id)
	return id, time.Now().Add(z.life), err
}

// GetPrivateClaimsFromScopes is what access tokens say beside what all say.
func (z *zitadel) GetPrivateClaimsFromScopes(_ context.Context, _, _ string, scopes []string) (map[string]any, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	claims := map[string]any{"scope": strings.Join(scopes, " ")}
	for name, v := range z.claims {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	return claims, nil
}

func (z *zitadel) SetIntrospectionFromToken(_ context.Context, is *oidc.IntrospectionResponse, id, subject, _ string) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.revoked[id] {
		return io.EOF
	}
	is.Subject = subject
	return nil
}

// service returns an access token of a service, from the token endpoint.
func (z *zitadel) service(t testing.TB, scope string) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {scope}}
	return z.ask(t, form, "sid1", "verysecret")
}

func (z *zitadel) ask(t testing.TB, form url.Values, id, secret string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", z.url+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(id, secret)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.AccessToken == "" {
		t.Fatalf("the provider answers %d %v", resp.StatusCode, err)
	}
	return got.AccessToken
}

// browse logs the provider's user in at its page, from the address that an app
// sent them to, and returns where they are sent back to.
func (z *zitadel) browse(t testing.TB, to string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(r.URL.String(), z.url) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	page, err := b.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	host, _, _ := strings.Cut(strings.TrimPrefix(z.url, "http://"), ":")
	back, err := b.PostForm(z.url+"/login/username", url.Values{
		"id": {page.Request.URL.Query().Get("authRequestID")}, "username": {"test-user@" + host}, "password": {"verysecure"},
	})
	if err != nil {
		t.Fatal(err)
	}
	back.Body.Close()
	if back.Header.Get("Location") == "" {
		t.Fatalf("the provider answers a login with %d", back.StatusCode)
	}
	return back.Header.Get("Location")
}

// user returns an access token of the provider's user, from the code flow.
func (z *zitadel) user(t testing.TB, scope string) string {
	t.Helper()
	back, err := url.Parse(z.browse(t, z.url+"/auth?"+url.Values{
		"response_type": {"code"}, "client_id": {"cordon"}, "redirect_uri": {callback}, "scope": {"openid " + scope}, "state": {"s"},
	}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	return z.ask(t, url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {callback}}, "cordon", "idp-s3cret")
}
