package rest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/smart"
)

// What is drawn for a provision, each with what it is for.
var (
	drawnActors  = []string{"", "Practitioner/doc", "Practitioner/other", "Organization/o", "Organization/x", "Group/g"}
	drawnClasses = []string{"", "Observation", "Encounter", "Patient"}
	drawnLabels  = []string{"", "PSY", "BH", "R", "N"}
	drawnCodes   = []string{"", "TREAT", "HRESCH", "CLINTRCH"}
)

// drawProvision draws the JSON of a provision, with exceptions down to the depth.
func drawProvision(t *rapid.T, depth int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"type":%q`, rapid.SampledFrom([]string{"permit", "deny"}).Draw(t, "type"))
	if s := rapid.SampledFrom(drawnActors).Draw(t, "actor"); s != "" {
		fmt.Fprintf(&b, `,"actor":[{"role":{"text":"x"},"reference":{"reference":%q}}]`, s)
	}
	if s := rapid.SampledFrom(drawnClasses).Draw(t, "class"); s != "" {
		fmt.Fprintf(&b, `,"class":[{"system":"http://hl7.org/fhir/resource-types","code":%q}]`, s)
	}
	if s := rapid.SampledFrom(drawnLabels).Draw(t, "label"); s != "" {
		fmt.Fprintf(&b, `,"securityLabel":[{"code":%q}]`, s)
	}
	if s := rapid.SampledFrom(drawnCodes).Draw(t, "purpose"); s != "" {
		fmt.Fprintf(&b, `,"purpose":[{"code":%q}]`, s)
	}
	if depth > 0 && rapid.Bool().Draw(t, "nested") {
		fmt.Fprintf(&b, `,"provision":[%s]`, drawProvision(t, depth-1))
	}
	return b.String() + "}"
}

// Whatever labels and consents say, who may read a resource by its id finds it in
// searches, totals and records, and nobody else does; a consent more that denies
// never shows more.
func TestReadsAndSearchesAgreeWhateverLabelsAndConsentsSay(t *testing.T) {
	g := govern(t, newAPI(t), "consent-property", `
		@id("all") permit (principal, action, resource);
		@id("psy") forbid (principal is User, action, resource) when { resource.labels.contains("PSY") } unless { principal in Role::"mental-health" };`)
	g.has(consentChart...)
	refs := slices.DeleteFunc(namesOf(consentChart), func(ref string) bool { return ref == "Practitioner/doc" })
	rounds := 25
	if os.Getenv("CORDON_ROUNDS") != "" {
		rounds = 10_000
	}
	rapid.Check(t, func(rt *rapid.T) {
		if rounds--; rounds < 0 { // each asks some fifty requests
			return
		}
		who := smart.Person{}
		if rapid.Bool().Draw(rt, "organization") {
			who.Organizations = []string{"o"}
		}
		if rapid.Bool().Draw(rt, "role") {
			who.Roles = []string{"mental-health"}
		}
		user := rapid.SampledFrom([]string{"Practitioner/doc", "Patient/p", "PractitionerRole/r"}).Draw(rt, "user")
		c := g.staff(user, who, purpose(rapid.SampledFrom(drawnCodes).Draw(rt, "for")))
		g.has("Consent/c", consentOf(drawProvision(rt, 2)), "Consent/d", strings.Replace(consentOf(drawProvision(rt, 1)), "active", rapid.SampledFrom([]string{"active", "inactive"}).Draw(rt, "status"), 1))
		seen := g.sees(c, refs...)
		for _, on := range []string{"Patient", "Observation", "Encounter", "Device"} {
			var found []string
			body := c.do("GET", "/"+on+"?_count=100&_total=accurate", "").Body.String()
			for _, ref := range refs {
				if strings.Contains(body, `/`+ref+`"`) {
					found = append(found, ref)
				}
			}
			want := slices.DeleteFunc(slices.Clone(seen), func(ref string) bool { return !strings.HasPrefix(ref, on+"/") })
			if !slices.Equal(found, want) {
				rt.Fatalf("a search finds %v, and what can be read is %v", found, want)
			}
			if count := fmt.Sprintf(`"total":%d`, len(want)); !strings.Contains(body, count) {
				rt.Fatalf("a total is not %s: %s", count, body)
			}
		}
		g.has("Consent/more", consentOf(strings.Replace(drawProvision(rt, 0), `"permit"`, `"deny"`, 1)))
		for _, ref := range g.sees(c, refs...) {
			if !slices.Contains(seen, ref) {
				rt.Fatalf("%s shows once another consent denies something", ref)
			}
		}
		if w := g.service().do("DELETE", "/Consent/more", ""); w.Code >= 300 {
			rt.Fatalf("withdrawing a consent: %d", w.Code)
		}
	})
}
