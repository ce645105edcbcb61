package rest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/smart"
)

const keptGP = `"generalPractitioner":[{"reference":"Practitioner/gp"}]`

var keptChart = []string{
	"Patient/p", `"name":[{"family":"SECRET"}],` + keptGP,
	"Patient/q", keptGP,
	"Observation/of-p", `"status":"final","code":{"text":"SECRET"},"subject":{"reference":"Patient/p"}`,
	"Observation/of-q", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/q"}`,
}

// T246, T248, AUTHZ-12: what a consent, a label or a change of who treats a patient
// hides is hidden in answers too that were made before and are kept.
func TestAnAnswerThatIsKeptShowsNothingThatIsHiddenMeanwhile(t *testing.T) {
	g := govern(t, newAPI(t), "kept-answers", shipped(t, "clinic"))
	gp := g.staff("Practitioner/gp", smart.Person{Roles: []string{"physician"}})
	all := g.service() // who sees every patient, as long as no consent says otherwise
	by := func(question string) *client {
		if question == "how many" {
			return all
		}
		return gp
	}
	questions := map[string]string{ // by what they are about
		"a search":           "GET /Observation?patient=p",
		"an include":         "GET /Patient?_id=q,p&_revinclude=Observation:patient",
		"a record":           "GET /Patient/p/$everything",
		"a history":          "GET /Observation/_history",
		"a batch":            `POST  {"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Observation/of-p/_history/1"}}]}`,
		"the patient":        "GET /Patient?_id=p",
		"a number":           "GET /Observation?patient=p&_summary=count",
		"numbers":            `POST  {"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient?_has:Observation:patient:status=final&_summary=count"}}]}`,
		"a chain":            "GET /Patient?_id=q,p&_has:Observation:patient:status=final",
		"a chain back":       "GET /Patient?_has:Observation:patient:subject:Patient.family=SECRET",
		"what a chain meets": `POST  {"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"POST","url":"Patient","ifNoneExist":"family=SECRET&_has:Observation:patient:status=final"},"resource":{"resourceType":"Patient"}}]}`,
		"somebody else":      "GET /Observation?patient=q",
		"what nobody hides":  "GET /Practitioner",
		"how many":           "GET /Patient?_summary=count",
	}
	tells := []string{"a search", "an include", "a record", "a history", "a batch", "a number", "numbers", "a chain", "a chain back", "what a chain meets"} // of the observation
	for claim, tt := range map[string]struct {
		hide []string
		gone []string
	}{
		"a consent":       {[]string{"Consent/c", consentOf(`{"type":"deny"}`)}, append([]string{"the patient", "how many"}, tells...)},
		"a label":         {[]string{"Observation/of-p", labelPSY + "," + keptChart[5]}, tells},
		"who treats them": {[]string{"Patient/p", `"active":true`}, append([]string{"the patient"}, tells...)},
	} {
		t.Run(claim, func(t *testing.T) {
			g.t, gp.t, all.t = t, t, t
			g.has("Consent/c", strings.Replace(consentOf(`{"type":"deny"}`), `"active"`, `"inactive"`, 1))
			g.has(keptChart...)
			at := map[string]string{}
			for name, q := range questions {
				method, rest, _ := strings.Cut(q, " ")
				path, body, _ := strings.Cut(rest, " ")
				at[name] = by(name).ask(method, path, body)
				if w := by(name).await(at[name]); w.Code != http.StatusOK || strings.Contains(w.Body.String(), `"status":"4`) {
					t.Errorf("before, %s: %d %s", name, w.Code, w.Body)
				}
			}
			g.has(tt.hide...)
			for _, name := range slices.Sorted(maps.Keys(at)) {
				want := map[bool]int{true: http.StatusGone, false: http.StatusOK}[slices.Contains(tt.gone, name)]
				w := by(name).do("GET", at[name], "")
				if w.Code != want || want == http.StatusGone && strings.Contains(w.Body.String(), "SECRET") {
					t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, want)
				}
			}
		})
	}
}
