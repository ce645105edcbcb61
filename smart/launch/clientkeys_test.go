package launch_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/smarttest"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// A publisher is a client's web server, which publishes its keys.
type publisher struct {
	*httptest.Server
	mu    sync.Mutex
	keys  []jose.JSONWebKey
	cache string // Cache-Control
	to    string // where it sends who asks
	asked int
}

func newPublisher(t testing.TB) *publisher {
	t.Helper()
	p := &publisher{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked++
		if p.cache != "" {
			w.Header().Set("Cache-Control", p.cache)
		}
		if p.to != "" {
			http.Redirect(w, r, p.to, http.StatusFound)
			return
		}
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: p.keys})
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *publisher) times() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func newClientKey(kid string) (*ecdsa.PrivateKey, jose.JSONWebKey) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key, jose.JSONWebKey{Key: &key.PublicKey, KeyID: kid, Use: "sig", Algorithm: "ES384"}
}

// service asks for a token as the backend service, which signs with the key.
func (s *site) service(t testing.TB, client, kid string, key crypto.Signer) tokens {
	t.Helper()
	now := time.Now()
	if s.now != nil {
		now = s.now()
	}
	text, err := json.Marshal(map[string]any{
		"iss": client, "sub": client, "aud": storetest.Issuer(s.slug) + "/token", "jti": rand.Text(), "exp": now.Add(time.Minute).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	signed := smarttest.Sign(jose.ES384, key, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", kid), text)
	return s.token(t, "grant_type", "client_credentials", "scope", "system/*.rs", "client_assertion", signed,
		"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
}

// A client replaces its key where it publishes them, and nobody has to register
// anything. What it says of how long keys may be kept counts. AUTHZ-06
func TestAClientReplacesItsKeyByPublishingAnother(t *testing.T) {
	s, p := newSite(t), newPublisher(t)
	forward := s.clock(t)
	s.client(t, smart.Client{ID: "publisher", JWKSURI: p.URL, Scopes: []string{"system/*.rs"}})
	first, firstJWK := newClientKey("first")
	second, secondJWK := newClientKey("second")
	p.set(func() { p.keys = []jose.JSONWebKey{firstJWK} })
	for range 3 {
		if got := s.service(t, "publisher", "first", first); got.status != 200 {
			t.Fatalf("%+v", got)
		}
	}
	if n := p.times(); n != 1 {
		t.Errorf("the keys were read %d times", n)
	}
	if got := s.service(t, "publisher", "second", second); got.status != 401 {
		t.Errorf("a key that is not published: %+v", got)
	}

	forward(time.Minute)
	p.set(func() { p.keys, p.cache = []jose.JSONWebKey{secondJWK, firstJWK}, "max-age=120" })
	if got := s.service(t, "publisher", "second", second); got.status != 200 {
		t.Errorf("a new key: %+v", got)
	}
	p.set(func() { p.keys = []jose.JSONWebKey{secondJWK} })
	forward(2 * time.Minute)
	if got := s.service(t, "publisher", "first", first); got.status != 401 {
		t.Errorf("a key that was taken away, once its time was up: %+v", got)
	}
	if got := s.service(t, "publisher", "second", first); got.status != 401 {
		t.Errorf("another key of the name: %+v", got)
	}

	asked := p.times()
	p.set(func() { p.cache = "no-store" })
	forward(3 * time.Minute)
	for range 2 {
		if got := s.service(t, "publisher", "second", second); got.status != 200 {
			t.Errorf("keys that may not be kept: %+v", got)
		}
	}
	if n := p.times() - asked; n != 2 {
		t.Errorf("keys that may not be kept were read %d times for two requests", n)
	}
}

// Keys are read where everyone can read them and nowhere else: not behind the
// operator's walls, not by a redirection, not without end.
func TestKeysOfClientsAreReadWhereTheyMayBe(t *testing.T) {
	s, p := newSite(t), newPublisher(t)
	key, jwk := newClientKey("k")
	p.set(func() { p.keys = []jose.JSONWebKey{jwk} })
	try := func(uri string) tokens {
		t.Helper()
		s.client(t, smart.Client{ID: "publisher", JWKSURI: uri, Scopes: []string{"system/*.rs"}})
		s.again(t)
		return s.service(t, "publisher", "k", key)
	}
	if got := try(p.URL); got.status != 200 {
		t.Fatalf("%+v", got)
	}
	asked := p.times()
	for claim, uri := range map[string]string{
		"another machine of the operator": strings.Replace(p.URL, "127.0.0.1", "127.0.0.2", 1),
		"the operator's cloud":            "http://169.254.169.254/latest/meta-data/",
		"a public address without TLS":    "http://192.0.2.1/keys",
	} {
		if got := try(uri); got.status != 503 || got.Error != "temporarily_unavailable" {
			t.Errorf("%s: %+v", claim, got)
		}
	}
	if p.times() != asked {
		t.Error("a forbidden address was asked")
	}
	elsewhere := newPublisher(t)
	elsewhere.set(func() { elsewhere.keys = []jose.JSONWebKey{jwk} })
	p.set(func() { p.to = elsewhere.URL })
	if got := try(p.URL); got.status != 503 || elsewhere.times() != 0 {
		t.Errorf("a redirection was followed: %+v", got)
	}
	many := make([]jose.JSONWebKey, 3000)
	for i := range many {
		many[i] = jwk
	}
	p.set(func() { p.to, p.keys = "", many })
	if got := try(p.URL); got.status != 503 {
		t.Errorf("keys without end: %+v", got)
	}
	_, otherJWK := newClientKey("k")
	p.set(func() { p.keys = []jose.JSONWebKey{jwk, otherJWK} })
	if got := try(p.URL); got.status != 401 {
		t.Errorf("two keys of one name: %+v", got)
	}
}
