package smart_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/smarttest"
	"github.com/cordon-fhir/cordon/tenant"
)

const kek = "file://test"

// registry is the record of tenants and keys, in memory.
type registry struct {
	mu   sync.Mutex
	rows map[string]tenant.Row
	keys map[int32][]keys.Wrapped
	// asked counts the look-ups of each slug.
	asked map[string]int
}

func (r *registry) TenantBySlug(_ context.Context, slug string) (tenant.Row, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[slug]++
	row, ok := r.rows[slug]
	if !ok {
		return tenant.Row{}, tenant.ErrUnknown
	}
	return row, nil
}

func (r *registry) Keys(_ context.Context, id tenant.ID) ([]keys.Wrapped, error) {
	return r.keys[id.Int()], nil
}

// Policy is what tenants chose that is not their first policy.
func (r *registry) Policy(context.Context, *tenant.Tenant, int64) (string, error) {
	return `@id("all") permit (principal, action, resource);`, nil
}

// world is the tenants north and south, and z9, which is suspended.
type world struct {
	*registry
	tenants  *tenant.Registry
	ring     *keys.Keyring
	verifier *smart.Verifier
	now      time.Time

	alertsMu sync.Mutex
	alerts   []smart.Alert
}

func base(slug string) string   { return "https://fhir.example/fhir/" + slug }
func issuer(slug string) string { return "https://fhir.example/auth/" + slug }

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{now: time.Now(), registry: &registry{
		keys: map[int32][]keys.Wrapped{}, asked: map[string]int{},
		rows: map[string]tenant.Row{
			"north":  {ID: 1, Slug: "north", Mode: "shared", Status: "active", PolicyVersion: 4},
			"south":  {ID: 2, Slug: "south", Mode: "shared", Status: "active", PolicyVersion: tenant.FirstPolicy},
			"z-nine": {ID: 3, Slug: "z-nine", Mode: "shared", Status: "suspended"},
		},
	}}
	w.tenants = tenant.NewRegistry(w.registry)
	kms, err := keys.NewFileKMS(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	w.ring = keys.NewKeyring(w.registry, kms)
	for slug := range w.rows {
		id := w.tenant(t, slug).ID
		if w.keys[id.Int()], err = keys.Generate(kms, kek, id, keys.Classes...); err != nil {
			t.Fatal(err)
		}
	}
	w.verifier, err = smart.NewVerifier(smart.Config{
		Tenants: w.tenants, Keys: w.ring, Base: base, Issuer: issuer, Policies: w.registry,
		Now:     func() time.Time { return w.now },
		IsAdmin: func(bearer string) bool { return bearer == "an-operator's" },
		Alert: func(a smart.Alert) {
			w.alertsMu.Lock()
			defer w.alertsMu.Unlock()
			w.alerts = append(w.alerts, a)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) tenant(t testing.TB, slug string) *tenant.Tenant {
	t.Helper()
	tn, err := w.tenants.Tenant(t.Context(), slug)
	if err != nil {
		t.Fatal(err)
	}
	return tn
}

func (w *world) set(t testing.TB, slug string) *keys.Set {
	t.Helper()
	set, err := w.ring.Of(t.Context(), w.tenant(t, slug).ID)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// token returns good claims for a backend service of the tenant.
func (w *world) token(slug string) smart.Token {
	return smart.Token{
		Issuer: issuer(slug), Audience: base(slug), Subject: "backend", Client: "backend", Scope: "system/*.rs",
		Issued: w.now.Unix(), NotYet: w.now.Unix(), Expires: w.now.Add(5 * time.Minute).Unix(), ID: "j1", Tenant: slug,
	}
}

func (w *world) sign(t testing.TB, tok smart.Token) string {
	t.Helper()
	bearer, err := tok.Sign(w.set(t, tok.Tenant))
	if err != nil {
		t.Fatal(err)
	}
	return bearer
}

func (w *world) grant(t testing.TB, slug, bearer string) (*smart.Grant, error) {
	return w.verifier.Grant(t.Context(), slug, bearer, audit.Origin{RequestID: "r1"})
}

func (w *world) takeAlerts() []smart.Alert {
	w.alertsMu.Lock()
	defer w.alertsMu.Unlock()
	a := w.alerts
	w.alerts = nil
	return a
}

func TestAGoodTokenIsAGrantOfItsTenant(t *testing.T) {
	w := newWorld(t)
	tok := w.token("north")
	tok.User, tok.Scope, tok.Patient, tok.Purpose = base("north")+"/Practitioner/7", "user/*.rs patient/*.rs", "9", "TREAT"
	for range 2 { // the second time from memory
		g, err := w.grant(t, "north", w.sign(t, tok))
		if err != nil {
			t.Fatal(err)
		}
		want := audit.Agent{Client: "backend", User: "Practitioner/7", Issuer: issuer("north"), TokenID: "j1", Purpose: "TREAT", Policy: 4,
			Access: `{"user":"Practitioner/7","patient":"9","scope":"user/*.rs patient/*.rs"}`}
		if diff := cmp.Diff(want, g.Agent()); diff != "" {
			t.Errorf("agent (-want +got):\n%s", diff)
		}
		if g.Tenant().Slug.String() != "north" || g.Origin().RequestID != "r1" || g.Principal() == "" {
			t.Errorf("tenant %v, origin %v, principal %q", g.Tenant().Slug, g.Origin(), g.Principal())
		}
	}
	if a := w.takeAlerts(); len(a) > 0 {
		t.Errorf("alerts: %v", a)
	}
}

// TEN-19, AUTHZ-09, AUTHZ-10, T001, T012: a good token in another place.
func TestATokenIsGoodAtItsOwnTenantOnly(t *testing.T) {
	w := newWorld(t)
	var words []string
	for _, tt := range []struct{ own, addressed string }{
		{"north", "south"}, {"south", "north"}, {"north", "z-nine"}, {"north", "nobody"}, {"north", "North"},
		{"north", "north "}, {"north", "north%00"}, {"north", "ｎorth"}, {"north", ""}, {"north", "../south"},
	} {
		bearer := w.sign(t, w.token(tt.own))
		if _, err := w.grant(t, tt.own, bearer); err != nil { // now it is remembered
			t.Fatal(err)
		}
		w.takeAlerts()
		g, err := w.grant(t, tt.addressed, bearer)
		if !fhir.IsCode(err, fhir.Forbidden) {
			t.Errorf("%s's token at %q: %v, want forbidden", tt.own, tt.addressed, err)
			continue
		}
		words = append(words, err.Error())
		if g.Tenant().Slug.String() != tt.own || g.Agent().Client != "backend" {
			t.Errorf("the trail would be kept by %v for %q", g.Tenant().Slug, g.Agent().Client)
		}
		permitsNothing(t, g)
		a := w.takeAlerts()
		if len(a) != 1 || a[0].Rule != smart.CrossTenant || a[0].Tenant != tt.own {
			t.Errorf("alerts: %v", a)
		}
	}
	g, err := w.grant(t, "z-nine", w.sign(t, w.token("z-nine")))
	permitsNothing(t, g)
	words = append(words, err.Error())
	_, err = w.grant(t, "north", "an-operator's")
	words = append(words, err.Error())
	if a := w.takeAlerts(); len(a) != 1 || a[0].Rule != smart.AdminOnData {
		t.Errorf("alerts: %v", a)
	}
	for _, got := range words {
		if got != words[0] {
			t.Errorf("%q differs from %q", got, words[0])
		}
	}
	if n := w.asked["nobody"]; n > 0 {
		t.Errorf("the addressed tenant was looked up %d times", n)
	}
}

func permitsNothing(t testing.TB, g *smart.Grant) {
	t.Helper()
	for _, on := range append([]fhir.Type{""}, fhir.Types...) {
		for _, do := range interactions {
			if p, err := g.Permit(do, on); !fhir.IsCode(err, fhir.Forbidden) || p.From(g) {
				t.Fatalf("%s on %q is permitted", do, on)
			}
		}
	}
}

// TEN-18, AUTHZ-04, T020..T033
func TestABadTokenIsRefused(t *testing.T) {
	w := newWorld(t)
	good := w.token("north")
	with := func(change func(*smart.Token)) string {
		tok := good
		change(&tok)
		return w.sign(t, tok)
	}
	key, kid := w.set(t, "north").SigningKey()
	_, southKid := w.set(t, "south").SigningKey()
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good1 := w.sign(t, good)
	parts := strings.Split(good1, ".")
	claims := string(unbase64(t, parts[1]))
	header := map[string]any{"alg": "ES256", "kid": kid, "typ": "at+jwt"}
	head := func(change map[string]any) map[string]any {
		h := maps.Clone(header)
		maps.Copy(h, change)
		return h
	}
	raw := func(key any, header map[string]any, claims string) string { return signRaw(t, key, header, claims) }
	if g, err := w.grant(t, "north", raw(key, header, claims)); err != nil || g == nil {
		t.Fatalf("the means of this test are bad: %v", err)
	}
	for _, tt := range []struct {
		claim, bearer string
		alert         bool
	}{
		{"none", "", false},
		{"no JWT", "abc", false},
		{"dots", strings.Repeat(".", 8000), false},
		{"long", strings.Repeat("a", 10<<20), false},
		{"unsigned", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + parts[1] + ".", false},
		{"the signature cut off", parts[0] + "." + parts[1] + ".", true},
		{"another tenant claimed", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.ReplaceAll(claims, "north", "south"))) + "." + parts[2], true},
		{"another scope claimed", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(claims, ".rs", ".cruds", 1))) + "." + parts[2], true},
		{"signed by a stranger", raw(stranger, header, claims), true},
		{"signed by another tenant", raw(must(w.set(t, "south").SigningKey()), header, claims), true},
		{"another tenant's token with our kid", raw(must(w.set(t, "south").SigningKey()), header, strings.ReplaceAll(claims, "north", "south")), true}, // T024
		{"our key under another kid", raw(key, head(map[string]any{"kid": southKid}), claims), true},
		{"kid is a path", raw(key, head(map[string]any{"kid": "../../etc/passwd"}), claims), true},
		{"no kid", raw(key, map[string]any{"alg": "ES256", "typ": "at+jwt"}, claims), true},
		{"the issuer of nobody", with(func(c *smart.Token) { c.Issuer = issuer("nobody") }), false},
		{"the tenant of nobody", raw(key, header, strings.ReplaceAll(claims, "north", "nobody")), false},
		{"issuer and tenant differ", with(func(c *smart.Token) { c.Issuer = issuer("south") }), true},                         // TEN-18
		{"the tenant is changed", raw(key, header, strings.Replace(claims, `"tenant":"north"`, `"tenant":"south"`, 1)), true}, // TEN-18
		{"crit", raw(key, head(map[string]any{"crit": []string{"x"}, "x": 1}), claims), false},
		{"jwk", raw(stranger, head(map[string]any{"jwk": map[string]any{"kty": "EC"}}), claims), false},
		{"jku", raw(stranger, head(map[string]any{"jku": "https://attacker.example/jwks"}), claims), false},
		{"an ID token", raw(key, head(map[string]any{"typ": "JWT"}), claims), false},
		{"no type", raw(key, map[string]any{"alg": "ES256", "kid": kid}, claims), false},
		{"HS256 under the public key", hs256(t, key, kid, claims), false},
		{"aud of another tenant", with(func(c *smart.Token) { c.Audience = base("south") }), true}, // T025
		{"aud with a slash", with(func(c *smart.Token) { c.Audience += "/" }), true},
		{"aud as a prefix", with(func(c *smart.Token) { c.Audience += ".attacker.tld" }), true},
		{"aud in capitals", with(func(c *smart.Token) { c.Audience = strings.ToUpper(c.Audience) }), true},
		{"aud twice", raw(key, header, strings.Replace(claims, `"aud":`, `"aud":"`+base("north")+`","aud":`, 1)), false},
		{"aud a list", raw(key, header, strings.Replace(claims, `"aud":"`+base("north")+`"`, `"aud":["`+base("north")+`"]`, 1)), false},
		{"scope twice", raw(key, header, strings.Replace(claims, `{`, `{"scope":"system/*.cruds",`, 1)), false}, // T032
		{"Scope", raw(key, header, strings.Replace(claims, `"scope"`, `"Scope"`, 1)), false},
		{"ſcope", raw(key, header, strings.Replace(claims, `"scope"`, `"ſcope"`, 1)), false},
		{"an unknown claim", raw(key, header, strings.Replace(claims, `{`, `{"admin":true,`, 1)), false},
		{"text after the claims", raw(key, header, claims+"{}"), false},
		{"no claims", raw(key, header, "null"), false},
		{"expired", with(func(c *smart.Token) { c.Expires = w.now.Unix() }), false},
		{"never expires", with(func(c *smart.Token) { c.Expires = 1 << 40 }), false},
		{"no expiry", raw(key, header, strings.Replace(claims, `"exp"`, `"purpose"`, 1)), false},
		{"not yet", with(func(c *smart.Token) { c.NotYet = w.now.Unix() + 60 }), false},
		{"issued tomorrow", with(func(c *smart.Token) { c.Issued = w.now.Unix() + 60 }), false},
		{"no subject", with(func(c *smart.Token) { c.Subject = "" }), false},
		{"no client", with(func(c *smart.Token) { c.Client = "" }), false},
		{"no name", with(func(c *smart.Token) { c.ID = "" }), false},
		{"no scope", with(func(c *smart.Token) { c.Scope = "" }), true},
		{"an unreadable scope", with(func(c *smart.Token) { c.Scope = "system/*.rs patient/*.dus" }), true},
		{"patient is no id", with(func(c *smart.Token) { c.Patient = "7 or 1" }), false},
		{"fhirUser of another tenant", with(func(c *smart.Token) { c.User = base("south") + "/Patient/7" }), true}, // T028
		{"fhirUser elsewhere", with(func(c *smart.Token) { c.User = "https://attacker.example/Patient/7" }), true},
		{"fhirUser is no person", with(func(c *smart.Token) { c.User = "Organization/7" }), true},
		{"fhirUser of a version", with(func(c *smart.Token) { c.User = "Patient/7/_history/1" }), true},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			w.takeAlerts()
			for _, slug := range []string{"north", "nobody"} {
				g, err := w.grant(t, slug, tt.bearer)
				if !fhir.IsCode(err, fhir.Login) || g != nil {
					t.Errorf("at %s: %v, %v, want login", slug, g, err)
				}
			}
			a := w.takeAlerts()
			if tt.alert && (len(a) != 2 || a[0].Rule != smart.MutatedClaims) || !tt.alert && len(a) != 0 {
				t.Errorf("alerts: %v", a)
			}
		})
	}
}

func TestARememberedTokenDiesWithItsTimeItsTenantAndItsKey(t *testing.T) {
	for _, tt := range []struct {
		claim string
		end   func(t *testing.T, w *world)
		want  fhir.IssueCode
	}{
		{"time", func(t *testing.T, w *world) { w.now = w.now.Add(5 * time.Minute) }, fhir.Login},
		{"suspension", func(t *testing.T, w *world) { // T012
			w.rows["north"] = tenant.Row{ID: 1, Slug: "north", Mode: "shared", Status: "suspended"}
			w.tenants.Forget("north")
		}, fhir.Forbidden},
		{"deletion", func(t *testing.T, w *world) { delete(w.rows, "north"); w.tenants.Forget("north") }, fhir.Login},
		{"a new tenant of the same slug", func(t *testing.T, w *world) { // T013
			w.rows["north"] = tenant.Row{ID: 2, Slug: "north", Mode: "shared", Status: "active", PolicyVersion: tenant.FirstPolicy}
			w.tenants.Forget("north")
		}, fhir.Login},
		{"the loss of the keys", func(t *testing.T, w *world) { // T314
			id := w.tenant(t, "north").ID
			delete(w.keys, id.Int())
			w.ring.Forget(id)
		}, ""},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			w := newWorld(t)
			bearer := w.sign(t, w.token("north"))
			if _, err := w.grant(t, "north", bearer); err != nil {
				t.Fatal(err)
			}
			tt.end(t, w)
			g, err := w.grant(t, "north", bearer)
			var forClient *fhir.Error
			switch {
			case tt.want == "" && (err == nil || errors.As(err, &forClient)):
				t.Errorf("got %v, want an error of ours", err)
			case tt.want != "" && !fhir.IsCode(err, tt.want):
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if g != nil {
				permitsNothing(t, g)
			}
		})
	}
}

// TEN-19, CP-08: whatever the claims, the Grant is of the tenant whose key signed.
func TestNoClaimsReachAnotherTenant(t *testing.T) {
	w := newWorld(t)
	slugs := []string{"north", "south", "z-nine", "nobody"}
	rapid.Check(t, func(rt *rapid.T) {
		signer := rapid.SampledFrom(slugs[:3]).Draw(rt, "signer")
		any := func(name string) string { return rapid.SampledFrom(slugs).Draw(rt, name) }
		tok := w.token(any("tenant"))
		tok.Issuer, tok.Audience = issuer(any("issuer")), base(any("audience"))
		tok.User = base(any("user")) + "/Practitioner/7"
		tok.Scope = "user/*.cruds system/*.cruds"
		bearer, err := tok.Sign(w.set(t, signer))
		if err != nil {
			rt.Fatal(err)
		}
		addressed := any("addressed")
		g, err := w.grant(t, addressed, bearer)
		if err == nil && (g.Tenant().Slug.String() != signer || addressed != signer || signer == "z-nine") {
			rt.Fatalf("%s's signature is a grant of %s at %s", signer, g.Tenant().Slug, addressed)
		}
		if err != nil && g != nil {
			if g.Tenant().Slug.String() != signer {
				rt.Fatalf("%s's signature is written to the trail of %s", signer, g.Tenant().Slug)
			}
			permitsNothing(t, g)
		}
	})
}

// T017
func TestManyCallersGetTheirOwnTenant(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	for _, slug := range []string{"north", "south", "north", "south"} {
		bearer := w.sign(t, w.token(slug))
		wg.Go(func() {
			for range 200 {
				g, err := w.grant(t, slug, bearer)
				if err != nil || g.Tenant().Slug.String() != slug {
					t.Errorf("%v, %v", g, err)
				}
				if _, err := g.Permit(fhir.Read, "Patient"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func must[A, B any](a A, _ B) A { return a }

func unbase64(t testing.TB, part string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hs256(t testing.TB, key *ecdsa.PrivateKey, kid, claims string) string {
	t.Helper()
	secret, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return smarttest.Sign(jose.HS256, secret, (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", kid), []byte(claims))
}

func FuzzGrant(f *testing.F) {
	w := newWorld(f)
	good := w.sign(f, w.token("north"))
	f.Add(good)
	f.Add("..")
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Fuzz(func(t *testing.T, bearer string) {
		g, err := w.grant(t, "north", bearer)
		if err == nil && g.Tenant().Slug.String() != "north" {
			t.Errorf("a grant of %s", g.Tenant().Slug)
		}
		var forClient *fhir.Error
		if err != nil && !errors.As(err, &forClient) {
			t.Errorf("a token made an error of ours: %v", err)
		}
	})
}

func BenchmarkGrantFromMemory(b *testing.B) {
	w := newWorld(b)
	w.tenants.Lifetime = time.Hour
	tok := w.token("north")
	tok.User, tok.Scope, tok.Patient = "Practitioner/7", "user/*.rs patient/*.rs", "9"
	bearer := w.sign(b, tok)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.verifier.Grant(ctx, "north", bearer, audit.Origin{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPermit(b *testing.B) {
	w := newWorld(b)
	g, err := w.grant(b, "north", w.sign(b, w.token("north")))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Permit(fhir.Read, "Observation"); err != nil {
			b.Fatal(err)
		}
	}
}
