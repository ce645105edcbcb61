package rest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/smart"
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

// CP-11, T246: whatever ends an access, the next request on every server is
// without it: the policy, a care team, who is named in it and for how long, an
// encounter, a consent, a label. What ends a token is below.
func TestWhatEndsAnAccessCountsWithTheNextRequest(t *testing.T) {
	rounds := staleRounds(32)
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema} {
		t.Run(string(mode), func(t *testing.T) {
			g := governIn(t, newAPI(t), mode, "stale-"+string(mode), stalePolicy)
			g.has("Patient/p", `"active":true`, "Observation/of-p", staleNote,
				"CareTeam/c", staleTeam, "Encounter/e", staleVisit)
			put := func(ref, with, without string) [2]func() {
				return [2]func(){func() { g.has(ref, without) }, func() { g.has(ref, with) }}
			}
			policy := func(text string) func() { return func() { g.choose(text) } }
			ways := map[string][2]func(){ // to end it, and to begin it again
				"the care team ends":        put("CareTeam/c", staleTeam, strings.Replace(staleTeam, "active", "inactive", 1)),
				"the user leaves":           put("CareTeam/c", staleTeam, strings.Replace(staleTeam, "Practitioner/u", "Practitioner/v", 1)),
				"their time is over":        put("CareTeam/c", staleTeam, strings.Replace(staleTeam, `"Practitioner/u"}`, stalePeriod, 1)),
				"the encounter ends":        put("Encounter/e", staleVisit, strings.Replace(staleVisit, "in-progress", "finished", 1)),
				"the user is done there":    put("Encounter/e", staleVisit, strings.Replace(staleVisit, `"Practitioner/u"}`, stalePeriod, 1)),
				"it is labelled":            put("Observation/of-p", staleNote, `"meta":{"security":[{"code":"PSY"}]},`+staleNote),
				"a consent denies":          put("Consent/k", strings.Replace(consentOf(`{"type":"deny"}`), "active", "inactive", 1), consentOf(`{"type":"deny"}`)),
				"the policy permits others": {policy(strings.Replace(stalePolicy, "careTeam.contains(principal.user)", `careTeam.contains("Practitioner/v")`, 1)), policy(stalePolicy)},
			}
			user := func() *client { return g.staff("Practitioner/u", smart.Person{}, purpose("TREAT")) }
			servers := map[string]*client{"the server": user(), "another": user().elsewhere(time.Now)}
			asked := 0
			check := func(round int, after string, want int) {
				t.Helper()
				for name, one := range servers {
					asked++
					if got := one.do("GET", "/Observation/of-p", "").Code; got != want {
						t.Fatalf("round %d, %s: %s read %d, want %d", round, after, name, got, want)
					}
					found := one.do("GET", "/Observation?_id=of-p", "").Body.String()
					if strings.Contains(found, `"fullUrl"`) != (want == 200) {
						t.Fatalf("round %d, %s: %s found %s, want %d", round, after, name, found, want)
					}
				}
			}
			check(0, "at first", 200)
			for i := 0; i < rounds; {
				for name, way := range ways {
					i++
					for _, one := range servers {
						one.bearer = user().bearer // many rounds take longer than a token is good
					}
					way[0]()
					check(i, name, 404)
					way[1]()
					check(i, name+", no longer", 200)
				}
			}
			t.Logf("%d rounds of %d ways, %d reads and as many searches", rounds, len(ways), asked)
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
