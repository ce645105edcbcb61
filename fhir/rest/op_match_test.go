package rest

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// graded returns what a match found, as id=grade in order.
func graded(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	var all []string
	list, _ := at(shown(t, w), "entry").([]any)
	last := 1.0
	for _, e := range list {
		score := at(e, "search", "score").(float64)
		if score > last || score <= 0 {
			t.Errorf("score %v after %v", score, last)
		}
		last = score
		all = append(all, fmt.Sprint(at(e, "resource", "id"), "=", at(e, "search", "extension", 0, "valueCode")))
	}
	return strings.Join(all, " ")
}

// T137: a match weighs those whom the caller may see, of this tenant alone.
func TestAMatchFindsWhoAPersonMayBe(t *testing.T) {
	a := newAPI(t)
	ada := `"identifier":[{"system":"urn:mrn","value":"M1"}],"name":[{"family":"Łovelace","given":["Ada","Augusta"]}],"birthDate":"1815-12-10","gender":"female",` +
		`"telecom":[{"system":"phone","value":"+44 20 555-0100"}],"address":[{"line":["1 Square"],"city":"London","postalCode":"SW1"}]`
	for _, slug := range storetest.Slugs[:3] {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			id := fresh()
			c.must(201, "PUT", "/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`",`+ada+`}`)
			c.must(201, "PUT", "/Patient/"+id+"-twin", `{"resourceType":"Patient","id":"`+id+`-twin","identifier":[{"system":"urn:mrn","value":"M2"}],"name":[{"family":"Lovelace","given":["Byron"]}],"birthDate":"1815-12-10","gender":"male"}`)
			ask := func(c *client, resource, more string) string {
				return graded(t, c.must(200, "POST", "/Patient/$match",
					`{"resourceType":"Parameters","parameter":[{"name":"resource","resource":{"resourceType":"Patient",`+resource+`}}`+more+`]}`))
			}
			name, born := `"name":[{"family":"lovelace","given":["ADA"]}]`, `"birthDate":"1815-12-10"`
			for _, tt := range []struct{ claim, resource, more, want string }{
				{"an identifier is enough", `"identifier":[{"system":"urn:mrn","value":"M1"}]`, "", id + "=certain"},
				{"but not against all else", `"identifier":[{"system":"urn:mrn","value":"M1"}],"name":[{"family":"Smith","given":["Bob"]}],"birthDate":"1990-01-01","gender":"male"`, "", id + "=possible"},
				{"an identifier of no system is none", `"identifier":[{"value":"M1"}],` + name + `,` + born, "", id + "=probable"},
				{"agreement in everything is certain", name + `,` + born + `,"gender":"female","telecom":[{"value":"+44 20 555-0100"}],"address":[{"postalCode":"sw1"}]`, "", id + "=certain"},
				{"the same number is not, against the birth date", `"identifier":[{"system":"urn:mrn","value":"M1"}],` + name + `,"birthDate":"1840-01-01"`, "", id + "=probable"},
				{"a twin has the birth date, the address and the phone", `"name":[{"family":"Lovelace","given":["Bea"]}],` + born + `,"gender":"female","telecom":[{"value":"+44 20 555-0100"}],"address":[{"line":["1 square"],"postalCode":"sw1"}]`, "", id + "=possible"},
				{"a name and a birth date are not", name + `,` + born, "", id + "=probable"},
				{"and not for who asks for certainty", name + `,` + born, `,{"name":"onlyCertainMatches","valueBoolean":true}`, ""},
				{"a mistyped name", `"name":[{"family":"Lovelaec","given":["Ada"]}],` + born, "", id + "=probable"},
				{"day and month swapped", name + `,"birthDate":"1815-10-12"`, "", id + "=probable"},
				{"another birth date", name + `,"birthDate":"1950-01-01"`, "", ""},
				{"a name alone", name, "", id + "=possible"},
				{"family and given name in the other order", `"name":[{"family":"Ada","given":["Lovelace"]}],` + born, "", id + "=possible"},
				{"the first alone", name + `,` + born, `,{"name":"count","valueInteger":1}`, id + "=probable"},
				{"nobody", `"name":[{"family":"Turing","given":["Alan"]}],"birthDate":"1912-06-23"`, "", ""},
			} {
				if got := ask(c, tt.resource, tt.more); got != tt.want {
					t.Errorf("%s: got %q, want %q", tt.claim, got, tt.want)
				}
			}
			bare := c.must(200, "POST", "/Patient/$match", `{"resourceType":"Patient","identifier":[{"system":"urn:mrn","value":"M1"}]}`)
			if graded(t, bare) != id+"=certain" {
				t.Errorf("a bare resource: %s", bare.Body)
			}
			mine := a.client(t, slug, "patient/*.rs", inContext(id+"-twin"))
			if got := ask(mine, `"identifier":[{"system":"urn:mrn","value":"M1"}]`, ""); got != "" {
				t.Errorf("a patient found %s", got)
			}
			a.client(t, slug, "system/Observation.rs").must(403, "POST", "/Patient/$match", `{"resourceType":"Patient","identifier":[{"system":"urn:mrn","value":"M1"}]}`)
			stranger := a.client(t, storetest.S2, all)
			if got := ask(stranger, `"identifier":[{"system":"urn:mrn","value":"M1"}]`, ""); got != "" {
				t.Errorf("another tenant found %s", got)
			}
		})
	}
	c := a.client(t, storetest.A1, all)
	c.must(405, "GET", "/Patient/$match", "")
	c.must(400, "POST", "/Patient/$match", `{"resourceType":"Patient","name":[{"family":"CANARY"}]}`)
	c.must(400, "POST", "/Patient/$match", `{"resourceType":"Observation"}`)
	c.must(400, "POST", "/Patient/$match", "")
}

// A score is one, the same both ways but for what only one of the two says, and
// highest for the person itself.
func TestWhoAgreesMoreIsMoreLikely(t *testing.T) {
	person := rapid.Custom(func(t *rapid.T) traits {
		word := rapid.SampledFrom([]string{"ada", "bob", "eve", "lovelace", "lovelaec", "smith"})
		return traits{
			families: rapid.SliceOfN(word, 1, 2).Draw(t, "families"), givens: rapid.SliceOfN(word, 1, 2).Draw(t, "givens"),
			birthDate: rapid.SampledFrom([]string{"2000-01-02", "2000-02-01", "1999-01-01"}).Draw(t, "birth date"),
			gender:    rapid.SampledFrom([]string{"male", "female"}).Draw(t, "gender"),
			contacts:  rapid.SliceOfN(rapid.SampledFrom([]string{"5550100", "a@b.test"}), 1, 2).Draw(t, "contacts"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := person.Draw(t, "a"), person.Draw(t, "b")
		ab, ba, aa := a.compare(b).match(), b.compare(a).match(), a.compare(a).match()
		if ab.score != ba.score || ab.certain != ba.certain || ab.score < 0 || ab.score > 1 || ab.score > aa.score || !aa.certain {
			t.Errorf("a to b %v, b to a %v, a to a %v", ab, ba, aa)
		}
	})
}

// Whatever is posted as a patient, reading and weighing it ends.
func FuzzMatch(f *testing.F) {
	f.Add([]byte(patient("x", "y")), []byte(`{"name":[{"family":7,"given":"x"}],"telecom":{}}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		one := traitsOf(a)
		if m := one.compare(traitsOf(b)).match(); m.score < 0 || m.score > 1 {
			t.Error(m.score)
		}
		_, _ = one.queries("")
	})
}
