package launch_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/launch"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// On the real registry, in every partition mode, a client earns a
// token where it is registered and nowhere else, once for each assertion, and
// each attempt is in one trail.
func TestOnTheRealRegistry(t *testing.T) {
	f := storetest.New(t)
	s, err := launch.New(launch.Config{
		Clients: f.Registry, Tenants: f.Tenants, Keys: f.Keyring, Base: storetest.Base, Issuer: storetest.Issuer,
		Record: f.DB.Record, Log: oplog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	id := "earner-" + strings.ToLower(rand.Text())
	w := newWorld(t)
	assertion := func(slug string) url.Values {
		claims := w.claims(slug, id, map[string]any{"aud": storetest.Issuer(slug) + "/token"})
		return form(w.signed(t, jose.ES384, clientEC, map[jose.HeaderKey]any{"kid": "ec", "typ": "JWT"}, claims), "system/Patient.rs")
	}
	post := func(slug string, f url.Values) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/auth/"+slug+"/token", strings.NewReader(f.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Request-Id", "r1")
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		return rec
	}
	for _, own := range storetest.Slugs {
		if _, err := f.Registry.PutClient(t.Context(), f.Tenant(t, own), smart.Client{
			ID: id, JWKS: jwks(t, jose.JSONWebKey{Key: &clientEC.PublicKey, KeyID: "ec"}), Scopes: []string{"system/*.rs"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, own := range storetest.Slugs {
		t.Run(own, func(t *testing.T) {
			for _, other := range storetest.Slugs {
				if rec := post(other, assertion(own)); (rec.Code == 200) != (own == other) {
					t.Errorf("%s's assertion at %s: %d %s", own, other, rec.Code, rec.Body)
				}
			}
			once := assertion(own)
			var wg sync.WaitGroup
			tokens := make(chan string, 100)
			for range cap(tokens) {
				wg.Go(func() {
					if rec := post(own, once); rec.Code == 200 {
						tokens <- read(t, rec).AccessToken
					}
				})
			}
			wg.Wait()
			close(tokens)
			if len(tokens) != 1 {
				t.Fatalf("one assertion earned %d tokens", len(tokens))
			}
			bearer := <-tokens
			for _, at := range storetest.Slugs {
				g, err := f.Verifier.Grant(t.Context(), at, bearer, audit.Origin{Trail: audit.NewTrail()})
				if at == own && err != nil || at != own && !fhir.IsCode(err, fhir.Forbidden) {
					t.Errorf("the token at %s: %v, %v", at, g, err)
				}
			}
			if diff := cmp.Diff(2, logins(t, f, own, id)); diff != "" {
				t.Errorf("logins in the trail (-want +got):\n%s", diff)
			}
		})
	}
}

// logins counts the tokens that the trail of the tenant says the client got.
func logins(t *testing.T, f *storetest.Fixture, slug, client string) int {
	t.Helper()
	n := 0
	err := f.DB.View(context.WithoutCancel(t.Context()), f.Grant(t, slug, "system/AuditEvent.rs"), func(v *store.View) error {
		page, err := v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "_count=1000&agent:identifier="+client), store.Cursor{})
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if e.Reason == "token" && e.Outcome == audit.Success && e.Agent.TokenID != "" && e.Interaction == fhir.Operation {
				n++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
