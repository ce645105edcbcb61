package rest

import (
	"os"
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
when { resource.careTeam.contains(principal.user) && resource.encounterStaff.contains(principal.user) };`

// What permits, and what no longer does.
const (
	staleTeam   = `"status":"active","subject":{"reference":"Patient/p"},"participant":[{"member":{"reference":"Practitioner/u"}}]`
	staleVisit  = `"status":"in-progress","class":{"code":"IMP"},"subject":{"reference":"Patient/p"},"participant":[{"individual":{"reference":"Practitioner/u"}}]`
	stalePeriod = `"Practitioner/u"},"period":{"end":"2020-01-01"}`
)

// CP-11, T246: whatever ends an access, the next request on every server is
// without it: the policy, a care team, who is named in it and for how long, an
// encounter, a consent.
func TestWhatEndsAnAccessCountsWithTheNextRequest(t *testing.T) {
	rounds := 28
	if os.Getenv("CORDON_ROUNDS") != "" {
		rounds = 10_000
	}
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema} {
		t.Run(string(mode), func(t *testing.T) {
			g := governIn(t, newAPI(t), mode, "stale-"+string(mode), stalePolicy)
			g.has("Patient/p", `"active":true`, "Observation/of-p", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}`,
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
