package rest

import (
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/limit"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// stalePolicy permits by two relations, so that either of them can end.
const stalePolicy = `
@id("service") permit (principal in Role::"service", action, resource);
@id("both") permit (principal is User, action, resource)
when { resource.careTeam.contains(principal.user) && resource.encounterStaff.contains(principal.user) };
@id("psy") forbid (principal is User, action, resource) when { resource.labels.contains("PSY") };`

// What permits, and what no longer does.
const (
	staleTeam   = `"status":"active","subject":{"reference":"Patient/p"},"participant":[{"member":{"reference":"Practitioner/u"}}]`
	staleVisit  = `"status":"in-progress","class":{"code":"IMP"},"subject":{"reference":"Patient/p"},"participant":[{"individual":{"reference":"Practitioner/u"}}]`
	staleNote   = `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}`
	stalePeriod = `"Practitioner/u"},"period":{"end":"2020-01-01"}`
)

// A way ends an access and begins it again.
type way struct {
	name       string
	end, begin func()
}

// CP-11, T246: whatever ends an access, the next request on every server is
// without it: the policy, a care team, who is named in it and for how long, an
// encounter, a consent, a label. What ends a token is below.
func TestWhatEndsAnAccessCountsWithTheNextRequest(t *testing.T) {
	rounds := staleRounds(4)
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			g := governIn(t, newAPI(t), mode, "stale-"+string(mode), stalePolicy)
			writer := g.service()
			put := func(ref, body string) func() {
				on, id, _ := strings.Cut(ref, "/")
				text := fmt.Sprintf(`{"resourceType":%q,"id":%q,%s}`, on, id, body)
				return func() {
					if w := writer.do("PUT", "/"+ref, text); w.Code >= 300 {
						t.Fatalf("%s: %d %s", ref, w.Code, w.Body)
					}
				}
			}
			change := func(name, ref, with, without string) way { return way{name, put(ref, without), put(ref, with)} }
			g.has("Patient/p", `"active":true`, "Observation/of-p", staleNote, "CareTeam/c", staleTeam, "Encounter/e", staleVisit)
			kinds := [][]way{{
				change("the care team ends", "CareTeam/c", staleTeam, strings.Replace(staleTeam, "active", "inactive", 1)),
				change("the user leaves", "CareTeam/c", staleTeam, strings.Replace(staleTeam, "Practitioner/u", "Practitioner/v", 1)),
				change("their time is over", "CareTeam/c", staleTeam, strings.Replace(staleTeam, `"Practitioner/u"}`, stalePeriod, 1)),
			}, {
				change("the encounter ends", "Encounter/e", staleVisit, strings.Replace(staleVisit, "in-progress", "finished", 1)),
				change("the user is done there", "Encounter/e", staleVisit, strings.Replace(staleVisit, `"Practitioner/u"}`, stalePeriod, 1)),
			}, {
				change("it is labelled", "Observation/of-p", staleNote, `"meta":{"security":[{"code":"PSY"}]},`+staleNote),
			}, {
				change("a consent denies", "Consent/k", strings.Replace(consentOf(`{"type":"deny"}`), "active", "inactive", 1), consentOf(`{"type":"deny"}`)),
			}, {
				{"the policy permits others",
					func() {
						g.choose(strings.Replace(stalePolicy, "careTeam.contains(principal.user)", `careTeam.contains("Practitioner/v")`, 1))
					},
					func() { g.choose(stalePolicy) }},
			}}
			user := func() *client { return g.staff("Practitioner/u", smart.Person{}, purpose("TREAT")) }
			one, another := user(), user().elsewhere(time.Now)
			asked := 0
			// Both servers are asked, one by the id and one by a search.
			check := func(round int, after string, want int) {
				t.Helper()
				asked++
				if got := one.do("GET", "/Observation/of-p", "").Code; got != want {
					t.Fatalf("round %d, %s: read %d, want %d", round, after, got, want)
				}
				found := another.do("GET", "/Observation?_id=of-p", "").Body.String()
				if strings.Contains(found, `"fullUrl"`) != (want == 200) {
					t.Fatalf("round %d, %s: found %s, want %d", round, after, found, want)
				}
			}
			check(0, "at first", 200)
			for i := range rounds {
				if i%2 == 0 { // not with each round, or a way of two would always meet the same
					one, another = another, one
				}
				if i%20 == 0 { // many rounds take longer than a token is good
					one.bearer, writer.bearer = user().bearer, g.service().bearer
					another.bearer = one.bearer
				}
				for _, ways := range kinds {
					way := ways[i%len(ways)]
					way.end()
					check(i, way.name, 404)
					way.begin()
					check(i, way.name+", no longer", 200)
				}
			}
			t.Logf("%d rounds of %d kinds, %d reads and as many searches", rounds, len(kinds), asked)
		})
	}
}

// staleRounds is how many rounds there are: those, or as many as CORDON_ROUNDS says.
func staleRounds(few int) int {
	if n, err := strconv.Atoi(os.Getenv("CORDON_ROUNDS")); err == nil {
		return n
	}
	return few
}

// T034, T246: a token that was revoked, or whose client has got another role since,
// is refused by every server once that is said to be done.
func TestWhatEndsATokenCountsWithTheNextRequest(t *testing.T) {
	g := governIn(t, newAPI(t), tenant.Shared, "stale-tokens", `
@id("service") permit (principal in Role::"service", action, resource);
@id("staff") permit (principal in Role::"staff", action, resource);`)
	g.has("Patient/p", `"active":true`)
	on := g.Tenant(t, g.slug)
	var ahead time.Duration // of the servers' clocks: nobody waits for what takes time by them
	now := func() time.Time { return time.Now().Add(ahead) }
	held := func(c *smart.Config) { c.Clients, c.Revocations = g.Registry, g.Registry }
	app := smart.Client{ID: "app", JWKS: []byte(`{}`), Scopes: []string{"user/*.rs"}, User: "Practitioner/u"}
	register := func(role string) {
		app.Person.Roles = []string{role}
		if _, err := g.Registry.PutClient(t.Context(), on, app); err != nil {
			t.Fatal(err)
		}
	}
	token := func(jti string) *client {
		return g.staff("Practitioner/u", smart.Person{Roles: []string{"staff"}}, func(tok *smart.Token) {
			tok.Client, tok.ID, tok.Expires = app.ID, jti, now().Add(10*time.Minute).Unix() // many tokens take long on a slow machine
		})
	}
	register("staff")
	first, second := token("first").elsewhere(now, held), token("first").elsewhere(now, held)
	asked := 0
	check := func(bearers []string, after string, want int) {
		t.Helper()
		for i, bearer := range bearers {
			for name, server := range map[string]*client{"the server": first, "another": second} {
				asked++
				server.bearer = bearer
				if got := server.do("GET", "/Patient/p", "").Code; got != want {
					t.Fatalf("token %d, %s: %s answered %d, want %d", i, after, name, got, want)
				}
			}
		}
	}
	const batch = 500
	rounds := staleRounds(8)
	for done := 0; done < rounds; done += batch {
		register("staff")
		ahead += 2 * time.Second
		var revoked, outdated []string
		for i := range min(batch, rounds-done) {
			revoked = append(revoked, token(fmt.Sprint("r", done+i)).bearer)
			outdated = append(outdated, token(fmt.Sprint("o", done+i)).bearer)
		}
		issued := time.Now().Unix()
		check(revoked, "at first", 200)
		check(outdated, "at first", 200)
		for i := range revoked {
			if err := g.Registry.RevokeToken(t.Context(), on, fmt.Sprint("r", done+i), now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		ahead += smart.RevocationDelay
		check(revoked, "revoked", 401)
		check(outdated, "not revoked", 200)
		for time.Now().Unix() <= issued { // a token and a registration of one second go together
			time.Sleep(10 * time.Millisecond)
		}
		register("visitor")
		ahead += time.Second
		check(outdated, "of a role that the client no longer has", 401)
	}
	t.Logf("%d tokens revoked and as many of another role, %d reads", rounds, asked)
}

// T034, F053: who is revoked while the body of a request is on its way, or while it waits
// for its turn, is refused, and nothing of it is done.
func TestWhoIsRevokedWhileARequestWaitsIsRefused(t *testing.T) {
	a := newAPI(t)
	on := a.Tenant(t, storetest.A1)
	for _, waits := range []string{"for its body", "for its turn"} {
		var ahead atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		jti := "waits-" + fresh()
		c := a.client(t, storetest.A1, all, func(tok *smart.Token) { tok.ID = jti }).elsewhere(now, func(cfg *smart.Config) { cfg.Revocations = a.Registry })
		s := c.handler.(*server)
		s.Now, s.Limit = now, limit.New(limit.Config{Turns: 2, Wait: time.Minute})
		c.must(404, "GET", "/Patient/"+fresh(), "")
		var held []func()
		if waits == "for its turn" {
			s.Limit.Turn(t.Context(), a.Tenant(t, storetest.A2), limit.Who{}) // somebody else is there
			for range 2 {
				done, _, _ := s.Limit.Turn(t.Context(), on, limit.Who{})
				held = append(held, done)
			}
		}
		id := fresh()
		out, in := io.Pipe()
		r := httptest.NewRequest("PUT", baseOf(storetest.A1)+"/Patient/"+id, out)
		r.Header.Set("Authorization", "Bearer "+c.bearer)
		r.Header.Set("Content-Type", "application/fhir+json")
		w := httptest.NewRecorder()
		var wait sync.WaitGroup
		wait.Go(func() { s.ServeHTTP(w, r) })
		body := patient(id, "Waiting")
		if _, err := io.WriteString(in, body[:1]); err != nil { // it is let in
			t.Fatal(err)
		}
		if held != nil {
			io.WriteString(in, body[1:])
			in.Close()
		}
		if err := a.Registry.RevokeToken(t.Context(), on, jti, now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		ahead.Add(int64(smart.RevocationDelay))
		if held == nil {
			io.WriteString(in, body[1:])
			in.Close()
		}
		for _, done := range held {
			done()
		}
		if wait.Wait(); w.Code != 401 {
			t.Errorf("%s: got %d %s", waits, w.Code, w.Body)
		}
		a.client(t, storetest.A1, all).must(404, "GET", "/Patient/"+id, "")
	}
}
