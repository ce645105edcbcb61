package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// A governed tenant has an access policy of its own.
type governed struct {
	*api
	slug string
	t    *testing.T
}

// govern makes a tenant with the policy.
func govern(t *testing.T, a *api, slug, text string) *governed {
	t.Helper()
	return governIn(t, a, tenant.Shared, slug, text)
}

func governIn(t *testing.T, a *api, mode tenant.Mode, slug, text string) *governed {
	t.Helper()
	if _, _, err := a.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: mode}); err != nil {
		t.Fatal(err)
	}
	g := &governed{a, slug, t}
	g.choose(text)
	return g
}

// choose brings a policy into force, as two operators do.
func (g *governed) choose(text string) {
	g.t.Helper()
	c, err := g.Migrator.ProposePolicy(g.t.Context(), g.slug, "one", "", text)
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := g.Migrator.ApprovePolicy(g.t.Context(), g.slug, "two", c.Number); err != nil {
		g.t.Fatal(err)
	}
}

func shipped(t *testing.T, name string) string {
	t.Helper()
	text, ok := smart.Profile(name)
	if !ok {
		t.Fatalf("there is no profile %s", name)
	}
	return text
}

// service is a system of the tenant that the shipped policies let do all.
func (g *governed) service() *client {
	return g.client(g.t, g.slug, "system/*.cruds", func(tok *smart.Token) { tok.Person.Roles = []string{"service"} })
}

// staff is a user with the person.
func (g *governed) staff(user string, p smart.Person, change ...func(*smart.Token)) *client {
	return g.client(g.t, g.slug, "user/*.cruds", append(change, func(tok *smart.Token) { tok.User, tok.Person = user, p })...)
}

// has stores resources, each "Type/id" and its members.
func (g *governed) has(resources ...string) {
	g.t.Helper()
	s := g.service()
	for i := 0; i < len(resources); i += 2 {
		on, id, _ := strings.Cut(resources[i], "/")
		body := fmt.Sprintf(`{"resourceType":%q,"id":%q,%s}`, on, id, resources[i+1])
		if w := s.do("PUT", "/"+resources[i], body); w.Code >= 300 {
			g.t.Fatalf("%s: %d %s", resources[i], w.Code, w.Body)
		}
	}
}

// sees says which of the resources c can read, after checking that search,
// history and $everything agree with reading.
func (g *governed) sees(c *client, refs ...string) []string {
	g.t.Helper()
	var seen []string
	for _, ref := range refs {
		on, id, _ := strings.Cut(ref, "/")
		read := c.do("GET", "/"+ref, "").Code
		if read == http.StatusOK {
			seen = append(seen, ref)
		}
		if got := c.do("GET", "/"+ref+"/_history", "").Code; got != read {
			g.t.Errorf("history of %s: %d, read %d", ref, got, read)
		}
		if got := c.do("GET", "/"+ref+"/_history/1", "").Code; got != read {
			g.t.Errorf("version of %s: %d, read %d", ref, got, read)
		}
		found := c.do("GET", "/"+on+"?_id="+id+"&_total=accurate", "")
		switch {
		case found.Code == http.StatusForbidden && read == http.StatusForbidden:
		case found.Code != http.StatusOK:
			g.t.Errorf("search of %s: %d %s", ref, found.Code, found.Body)
		default:
			want := fmt.Sprintf(`"total":%d`, map[bool]int{true: 1}[read == http.StatusOK])
			if !strings.Contains(found.Body.String(), want) {
				g.t.Errorf("search of %s, which reads as %d: %s", ref, read, found.Body)
			}
		}
	}
	return seen
}

func (g *governed) wantSeen(who string, c *client, all []string, want ...string) {
	g.t.Helper()
	if got := g.sees(c, all...); !slices.Equal(got, want) {
		g.t.Errorf("%s sees %v, want %v", who, got, want)
	}
}

func now() int64 { return time.Now().Unix() }

// onShift is a Person who works now, at the ward.
func onShift(ward string, roles ...string) smart.Person {
	return smart.Person{Roles: roles, Facilities: []string{"ward-1", "ward-2"}, Location: ward, ShiftStart: now() - 60, ShiftEnd: now() + 3600}
}

const inWard1 = `"status":"in-progress","class":{"code":"IMP"},"subject":{"reference":"Patient/p"},"location":[{"location":{"reference":"Location/ward-1"}}]`

// AUTHZ-13, AUTHZ-02, AUTHZ-12: of eight kinds of nurses one sees the patient.
func TestANurseSeesAPatientOfTheirTeamInTheirShiftAtTheirWard(t *testing.T) {
	g := govern(t, newAPI(t), "policy-nurse", shipped(t, "clinic"))
	g.has(
		"Patient/p", `"name":[{"family":"Doe"}]`,
		"Observation/o", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}`,
		"Encounter/e", inWard1,
		"CareTeam/c", `"status":"active","subject":{"reference":"Patient/p"},"participant":[{"member":{"reference":"Practitioner/in-team"}}]`,
	)
	refs := []string{"Patient/p", "Observation/o", "Encounter/e", "CareTeam/c"}
	for i := range 8 {
		team, shift, place := i&1 != 0, i&2 != 0, i&4 != 0
		user, p := "Practitioner/stranger", onShift("ward-2", "nurse")
		if team {
			user = "Practitioner/in-team"
		}
		if !shift {
			p.ShiftEnd = now() - 1
		}
		if place {
			p.Location = "ward-1"
		}
		var want []string
		if team && shift && place {
			want = refs
		}
		t.Run(fmt.Sprintf("team %t shift %t place %t", team, shift, place), func(t *testing.T) {
			g.wantSeen("the nurse", g.staff(user, p), refs, want...)
			g.wantSeen("the nurse, in an app that was opened for the patient,", g.staff(user, p, inContext("p"), func(tok *smart.Token) {
				tok.Scope = "user/*.cruds patient/*.rs"
			}), refs, want...)
		})
	}
	nurse := g.staff("Practitioner/in-team", onShift("ward-1", "nurse"))
	t.Run("codes are for all staff", func(t *testing.T) {
		if w := nurse.do("GET", "/ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/observation-status", ""); w.Code != 200 {
			t.Errorf("$expand: %d %s", w.Code, w.Body)
		}
	})
	t.Run("a ward that is not theirs", func(t *testing.T) {
		p := onShift("ward-1", "nurse")
		p.Facilities = []string{"ward-2"}
		g.wantSeen("the nurse", g.staff("Practitioner/in-team", p), refs)
	})
	t.Run("writes are held to the new state and to the old", func(t *testing.T) {
		g.has("Patient/q", `"active":true`, "Observation/of-q", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/q"}`)
		obs := func(id, of string) string {
			return fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"text":"y"},"subject":{"reference":"Patient/%s"}}`, id, of)
		}
		if w := nurse.do("POST", "/Observation", obs("x", "p")); w.Code != 201 || !strings.Contains(w.Body.String(), `"text":"y"`) {
			t.Errorf("about their patient: %d %s", w.Code, w.Body)
		}
		if w := nurse.do("POST", "/Observation", obs("x", "q")); w.Code != 403 {
			t.Errorf("about another: %d %s", w.Code, w.Body)
		}
		if w := nurse.do("PUT", "/Observation/o", obs("o", "q")); w.Code != 403 {
			t.Errorf("away from their patient: %d %s", w.Code, w.Body)
		}
		if w := nurse.do("PUT", "/Observation/of-q", obs("of-q", "p")); w.Code != 404 {
			t.Errorf("towards their patient: %d %s", w.Code, w.Body)
		}
		if w := nurse.do("DELETE", "/Observation/of-q", ""); w.Code != 404 {
			t.Errorf("deleting another's: %d %s", w.Code, w.Body)
		}
		w := nurse.do("POST", "", `{"resourceType":"Bundle","type":"batch","entry":[
			{"request":{"method":"GET","url":"Observation/o"}},{"request":{"method":"GET","url":"Observation/of-q"}}]}`)
		if n := strings.Count(w.Body.String(), `"status":"200`); n != 1 || !strings.Contains(w.Body.String(), `"status":"404`) {
			t.Errorf("a batch: %s", w.Body)
		}
	})
	t.Run("chains, includes and records keep to it", func(t *testing.T) {
		for query, want := range map[string]int{
			"/Observation?subject:Patient._id=p":                       2,
			"/Observation?subject:Patient._id=q":                       0,
			"/Patient?_has:Observation:subject:status=final":           1,
			"/Patient?_has:Observation:subject:_id=of-q":               0,
			"/Observation?_id=o,of-q":                                  1,
			"/Encounter?_id=e&_include=Encounter:subject":              2,
			"/Patient?_id=p,q&_revinclude=Observation:subject":         3,
			"/Patient/p/$everything?_type=Observation":                 2,
			"/Patient?_filter=_id%20eq%20q%20or%20_id%20eq%20p":        1,
			"/Observation/_history":                                    2,
			"/?_type=Patient,Observation":                              3,
			"/Observation?_list=none&_total=accurate&_summary=count":   0,
			"/Observation?patient=Patient/q&_total=accurate&_count=10": 0,
			"/Observation?_sort=subject:Patient.name":                  2,
			"/Observation?_sort=status,-date":                          2,
		} {
			w := nurse.do("GET", query, "")
			if got := strings.Count(w.Body.String(), `"fullUrl"`); w.Code != 200 || got != want {
				t.Errorf("%s: %d with %d entries, want %d: %s", query, w.Code, got, want, w.Body)
			}
		}
		if w := nurse.do("GET", "/Patient/q/$everything", ""); w.Code != 404 {
			t.Errorf("everything of another: %d", w.Code)
		}
		w := nurse.do("POST", "/$graphql", `{"query":"{p:Patient(id:\"p\"){id} q:Patient(id:\"q\"){id}}"}`, "Content-Type", "application/json")
		if !strings.Contains(w.Body.String(), `"p":{"id":"p"}`) || strings.Contains(w.Body.String(), `"id":"q"`) {
			t.Errorf("graphql: %s", w.Body)
		}
	})
	t.Run("who leaves the team is out with the next request", func(t *testing.T) {
		g.has("CareTeam/c", `"status":"active","subject":{"reference":"Patient/p"},"participant":[{"member":{"reference":"Practitioner/other"}}]`)
		g.wantSeen("the nurse", nurse, refs)
	})
	t.Run("a team that is over, or not yet, counts for nothing", func(t *testing.T) {
		for _, members := range []string{
			`"status":"inactive"`, `"status":"active","period":{"end":"2020-01-01"}`, `"status":"active","period":{"start":"2999-01-01"}`,
		} {
			g.has("CareTeam/c", members+`,"subject":{"reference":"Patient/p"},"participant":[{"member":{"reference":"Practitioner/in-team"}}]`)
			g.wantSeen("the nurse", nurse, refs)
		}
		g.has("CareTeam/c", `"status":"active","period":{"start":"2020-01-01"},"subject":{"reference":"Patient/p"},"participant":[{"member":{"reference":"Practitioner/in-team"}}]`)
		g.wantSeen("the nurse", nurse, refs, refs...)
	})
	t.Run("a patient who has left is out of reach", func(t *testing.T) {
		g.has("Encounter/e", strings.Replace(inWard1, "in-progress", "finished", 1))
		g.wantSeen("the nurse", nurse, []string{"Patient/p", "Observation/o"})
	})
}

// the chart of a patient, with what others of the clinic keep.
var chart = []string{
	"Patient/p", `"name":[{"family":"Doe"}]`,
	"Patient/q", `"name":[{"family":"Roe"}]`,
	"Encounter/e", inWard1,
	"Encounter/f", `"status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p"}`,
	"Observation/vital", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"},"encounter":{"reference":"Encounter/e"}`,
	"Observation/lab", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"},"encounter":{"reference":"Encounter/f"},"category":[{"coding":[{"code":"laboratory"}]}]`,
	"Observation/other", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/q"}`,
	"ServiceRequest/order", `"status":"active","intent":"order","subject":{"reference":"Patient/p"}`,
	"Appointment/a", `"status":"proposed","participant":[{"actor":{"reference":"Patient/p"},"status":"accepted"}]`,
	"Account/bill", `"status":"active","subject":[{"reference":"Patient/p"}]`,
	"Practitioner/doc", `"active":true`,
}

func namesOf(resources []string) (refs []string) {
	for i := 0; i < len(resources); i += 2 {
		refs = append(refs, resources[i])
	}
	return refs
}

// AUTHZ-14, AUTHZ-19, AUTHZ-20: the personas of a clinic.
func TestEachPersonaOfAClinicSeesItsPart(t *testing.T) {
	g := govern(t, newAPI(t), "policy-clinic", shipped(t, "clinic"))
	g.has(chart...)
	all := namesOf(chart)
	role := func(names ...string) smart.Person { return smart.Person{Roles: names} }
	for who, tt := range map[string]struct {
		c    *client
		want []string
	}{
		"billing":    {g.staff("Practitioner/b", role("billing")), []string{"Patient/p", "Patient/q", "Account/bill", "Practitioner/doc"}},
		"scheduling": {g.staff("Practitioner/s", role("scheduling")), []string{"Patient/p", "Patient/q", "Appointment/a", "Practitioner/doc"}},
		"laboratory": {g.client(t, g.slug, "system/*.rs", func(tok *smart.Token) { tok.Person = role("laboratory") }),
			[]string{"Observation/lab", "ServiceRequest/order", "Practitioner/doc"}},
		"a patient": {g.staff("Patient/p", smart.Person{}),
			[]string{"Patient/p", "Encounter/e", "Encounter/f", "Observation/vital", "Observation/lab", "ServiceRequest/order", "Appointment/a", "Account/bill"}},
		"another patient": {g.staff("Patient/q", smart.Person{}), []string{"Patient/q", "Observation/other"}},
		"a consultant of an encounter": {g.staff("Practitioner/c", role("consultant"), func(tok *smart.Token) { tok.Encounter = "f" }),
			[]string{"Patient/p", "Encounter/f", "Observation/lab", "Practitioner/doc"}},
		"a consultant of none":              {g.staff("Practitioner/c", role("consultant")), []string{"Practitioner/doc"}},
		"support":                           {g.staff("Practitioner/support", role("support")), nil},
		"a client without role":             {g.client(t, g.slug, "system/*.cruds"), nil},
		"a user who claims to be a service": {g.staff("Practitioner/x", role("service")), nil},
		"a service":                         {g.service(), all},
	} {
		t.Run(who, func(t *testing.T) { g.wantSeen(who, tt.c, all, tt.want...) })
	}
	t.Run("who has two roles sees what either does", func(t *testing.T) {
		g.wantSeen("both", g.staff("Practitioner/b", role("billing", "scheduling")), all, "Patient/p", "Patient/q", "Appointment/a", "Account/bill", "Practitioner/doc")
	})
	t.Run("scopes narrow what the policy allows", func(t *testing.T) {
		c := g.client(t, g.slug, "user/Account.r", func(tok *smart.Token) { tok.User, tok.Person = "Practitioner/b", role("billing") })
		if a, p := c.do("GET", "/Account/bill", "").Code, c.do("GET", "/Practitioner/doc", "").Code; a != 200 || p != 403 {
			t.Errorf("got %d and %d, want 200 and 403", a, p)
		}
	})
	t.Run("a type that the policy leaves out is refused before anything is looked up", func(t *testing.T) {
		c := g.staff("Practitioner/b", role("billing"))
		w := c.do("GET", "/Observation/never-was", "")
		if w.Code != 403 || !strings.Contains(w.Body.String(), "access policy") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if got, want := w.Body.String(), c.do("GET", "/Observation/vital", "").Body.String(); got != want {
			t.Errorf("the answers differ: %s and %s", got, want)
		}
	})
}

// AUTHZ-20: documents open with the Task of a fraud workflow and close with it.
func TestAClaimsProcessorSeesDocumentsWhileFraudIsLookedInto(t *testing.T) {
	g := govern(t, newAPI(t), "policy-insurer", shipped(t, "insurer"))
	task := func(status, code string) {
		g.has("Task/t", fmt.Sprintf(`"status":%q,"intent":"order","code":{"coding":[{"code":%q}]},"for":{"reference":"Patient/p"}`, status, code))
	}
	g.has(
		"Patient/p", `"active":true`, "Patient/q", `"active":true`, "Organization/i", `"name":"Insurer"`,
		"Claim/c", `"status":"active","use":"claim","created":"2026-01-01","type":{"text":"x"},"priority":{"text":"x"},"patient":{"reference":"Patient/p"},`+
			`"provider":{"reference":"Organization/i"},"insurance":[{"sequence":1,"focal":true,"coverage":{"display":"x"}}]`,
		"DocumentReference/of-p", `"status":"current","subject":{"reference":"Patient/p"},"content":[{"attachment":{"title":"x"}}]`,
		"DocumentReference/of-q", `"status":"current","subject":{"reference":"Patient/q"},"content":[{"attachment":{"title":"x"}}]`,
	)
	all := []string{"Claim/c", "DocumentReference/of-p", "DocumentReference/of-q", "Patient/p", "Task/t"}
	processor := g.staff("Practitioner/c", smart.Person{Roles: []string{"claims"}})
	g.wantSeen("before", processor, all, "Claim/c")
	task("requested", "fraud")
	g.wantSeen("while it is open", processor, all, "Claim/c", "DocumentReference/of-p")
	task("in-progress", "fraud")
	g.wantSeen("while it goes on", processor, all, "Claim/c", "DocumentReference/of-p")
	task("in-progress", "coding")
	g.wantSeen("while another goes on", processor, all, "Claim/c")
	task("completed", "fraud")
	g.wantSeen("after", processor, all, "Claim/c")
	if w := processor.do("PUT", "/DocumentReference/of-p", `{"resourceType":"DocumentReference","id":"of-p","status":"current","content":[{"attachment":{"title":"x"}}]}`); w.Code != 403 {
		t.Errorf("changing a document: %d", w.Code)
	}
}

func TestAPatientAppReachesOneRecord(t *testing.T) {
	g := govern(t, newAPI(t), "policy-app", shipped(t, "patient-app"))
	g.has(chart...)
	c := g.client(t, g.slug, "patient/*.cruds", func(tok *smart.Token) { tok.Patient = "q" })
	g.wantSeen("the app", c, namesOf(chart), "Patient/q", "Observation/other", "Practitioner/doc")
	of := func(id string) string {
		return `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/` + id + `"}}`
	}
	if w := c.do("POST", "/Observation", of("q")); w.Code != 201 {
		t.Errorf("a measurement of one's own: %d %s", w.Code, w.Body)
	}
	if w := c.do("POST", "/Observation", of("p")); w.Code != 403 {
		t.Errorf("of another: %d", w.Code)
	}
	if w := c.do("DELETE", "/Observation/other", ""); w.Code != 403 {
		t.Errorf("deleting: %d", w.Code)
	}
}

// CP-11: a change is in force with the next request, also for who has a token
// and for a server that has not heard of it.
func TestAChangeOfThePolicyIsInForceWithTheNextRequest(t *testing.T) {
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			a := newAPI(t)
			slug := "policy-now-" + string(mode)
			if _, _, err := a.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: mode}); err != nil {
				t.Fatal(err)
			}
			a.Tenants.Lifetime = time.Hour // a server that hears of nothing
			t.Cleanup(func() { a.Tenants.Lifetime = time.Second })
			g := &governed{a, slug, t}
			g.has("Patient/p", `"active":true`, "Patient/q", `"active":true`)
			c := a.client(t, slug, "system/*.cruds")
			if got := c.do("GET", "/Patient/p", "").Code; got != 200 {
				t.Fatalf("before: %d", got)
			}
			for i, tt := range []struct {
				text       string
				p, q, post int
			}{
				{`@id("p") permit (principal, action, resource) when { resource.id == "p" };`, 200, 404, 403},
				{`@id("q") permit (principal, action in Action::"view", resource) when { resource.id == "q" };`, 404, 200, 403},
				{`@id("all") permit (principal, action, resource);`, 200, 200, 201},
				{`@id("none") forbid (principal, action, resource);`, 403, 403, 403},
			} {
				g.choose(tt.text)
				if tt.post == 201 {
					a.Tenants.Forget(slug) // what was refused may stay so for the second until it is heard of
				}
				for request, want := range map[string]int{"GET /Patient/p": tt.p, "GET /Patient/q": tt.q, "GET /Patient/q/_history": tt.q, "POST /Patient": tt.post} {
					method, path, _ := strings.Cut(request, " ")
					if got := c.do(method, path, `{"resourceType":"Patient"}`).Code; got != want {
						t.Errorf("policy %d: %s: %d, want %d", i, request, got, want)
					}
				}
			}
		})
	}
}

// T093: what the policy hides of a resource can be had on no path.
func TestAHiddenElementCanBeHadOnNoPath(t *testing.T) {
	g := govern(t, newAPI(t), "policy-mask", shipped(t, "clinic")+`
@id("visitor") @mask("Observation.value, Observation.subject, Observation.effective")
permit (principal in Role::"visitor", action, resource) when { resource.type == "Observation" };
@id("whole") permit (principal in Role::"whole", action, resource) when { resource.type == "Observation" };
@id("some") permit (principal in Role::"some", action, resource) when { resource.id == "o" };`)
	const secret = "4477-secret"
	g.has(
		"Patient/p", `"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">`+secret+`</div>"},"active":true,"name":[{"family":"Doe"}],`+
			`"address":[{"city":"`+secret+`"}],"maritalStatus":{"text":"`+secret+`"},"deceasedBoolean":false,"contact":[{"name":{"family":"`+secret+`"}}],`+
			`"extension":[{"url":"http://example.org/x","valueString":"`+secret+`"}],"generalPractitioner":[{"reference":"Practitioner/doc"}],`+
			`"telecom":[{"system":"phone","value":"0123"}],"managingOrganization":{"reference":"Organization/o"}`,
		"Practitioner/doc", `"active":true`, "Organization/o", `"name":"O"`,
		"Observation/o", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"},"effectiveDateTime":"2020-01-01","valueString":"`+secret+`"`,
		"Appointment/a", `"status":"proposed","participant":[{"actor":{"reference":"Patient/p"},"status":"accepted"}]`,
		"Account/b", `"status":"active","subject":[{"reference":"Patient/p"}]`,
	)
	role := func(name string) *client { return g.staff("Practitioner/s", smart.Person{Roles: []string{name}}) }
	scheduling, billing, visitor := role("scheduling"), role("billing"), role("visitor")

	t.Run("bodies lack it and say so", func(t *testing.T) {
		for _, path := range []string{
			"/Patient/p", "/Patient/p/_history", "/Patient/p/_history/1", "/Patient", "/Patient/_history", "/Patient?_id=p&_elements=address,name",
			"/Appointment?_include=Appointment:patient", "/Patient?_revinclude=Appointment:*", "/?_type=Patient", "/Patient/p/$everything", "/_history",
			"/Patient?_summary=data", "/Patient?_summary=text",
		} {
			w := scheduling.do("GET", path, "")
			if w.Code != 200 || !strings.Contains(w.Body.String(), `"Patient"`) {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
			for _, name := range []string{secret, `"address"`, `"text"`, `"extension"`, `"deceasedBoolean"`, `"generalPractitioner"`} {
				if strings.Contains(w.Body.String(), name) {
					t.Errorf("%s shows %s: %s", path, name, w.Body)
				}
			}
			if !strings.Contains(w.Body.String(), "SUBSETTED") {
				t.Errorf("%s does not say that something is missing: %s", path, w.Body)
			}
		}
		w := scheduling.do("POST", "/$graphql", `{"query":"{Patient(id:\"p\"){id telecom{value} address{city} text{div} generalPractitioner{resource{... on Practitioner{id}}}}}"}`, "Content-Type", "application/json")
		if body := w.Body.String(); w.Code != 200 || strings.Contains(body, secret) || strings.Contains(body, "doc") || !strings.Contains(body, "0123") {
			t.Errorf("graphql: %d %s", w.Code, body)
		}
		if body := billing.do("GET", "/Patient/p", "").Body.String(); strings.Contains(body, "0123") || !strings.Contains(body, "Doe") {
			t.Errorf("billing reads %s", body)
		}
	})
	t.Run("no search depends on it", func(t *testing.T) {
		for _, query := range []string{
			"/Patient?address=" + secret, "/Patient?address-city:exact=x", "/Patient?address:missing=true", "/Patient?general-practitioner=Practitioner/doc",
			"/Patient?general-practitioner:Practitioner.active=true", "/Patient?_filter=address%20co%20x", "/Patient?_sort=address", "/Patient?deceased=true",
			"/Patient?_include=Patient:general-practitioner", "/Patient?_text=x", "/Patient?_content=x", "/Patient?organization=Organization/o", "/Patient?_contained=true&name=x",
			"/Appointment?patient.address=x", "/Appointment?patient.address:missing=false", "/Appointment?_filter=patient.address%20co%20x",
			"/Practitioner?_has:Patient:general-practitioner:_id=p", "/Practitioner?_has:Patient:general-practitioner:active=true", "/Practitioner?_revinclude=Patient:general-practitioner",
			"/Patient?_summary=count&address=x", "/?_type=Patient&address=x", "/Patient?phonetic=x&_sort=-address", "/Appointment?_sort=patient:Patient.address",
		} {
			w := scheduling.do("GET", query, "")
			if w.Code != 403 && w.Code != 400 || w.Code == 400 && strings.Contains(query, "address") && !strings.Contains(query, "_type") {
				t.Errorf("%s: %d %s", query, w.Code, w.Body)
			}
		}
		for _, query := range []string{"/Patient?name=doe", "/Patient?telecom=0123", "/Appointment?patient.name=doe", "/Patient?_sort=name"} {
			if w := scheduling.do("GET", query, ""); w.Code != 200 || strings.Count(w.Body.String(), `"fullUrl"`) != 1 {
				t.Errorf("%s: %d %s", query, w.Code, w.Body)
			}
		}
		if w := billing.do("GET", "/Patient?telecom=0123", ""); w.Code != 403 {
			t.Errorf("billing: %d", w.Code)
		}
		w := scheduling.do("GET", "/Practitioner?_revinclude=Patient:*", "")
		if w.Code != 200 || strings.Contains(w.Body.String(), "Patient/p") {
			t.Errorf("including backwards by a hidden reference: %d %s", w.Code, w.Body)
		}
	})
	t.Run("nothing of it is written", func(t *testing.T) {
		o := func(more string) string {
			return `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"y"}` + more + `}`
		}
		for request, want := range map[string]int{
			"PUT /Observation/o " + o(""):                                                              403,
			"POST /Observation " + o(`,"valueInteger":1`):                                              403,
			"POST /Observation " + o(`,"subject":{"display":"x"}`):                                     403,
			"POST /Observation " + o(""):                                                               201,
			"PATCH /Observation/o " + `[{"op":"test","path":"/valueString","value":"` + secret + `"}]`: 403,
		} {
			method, rest, _ := strings.Cut(request, " ")
			path, body, _ := strings.Cut(rest, " ")
			if w := visitor.do(method, path, body); w.Code != want || strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s: %d %s, want %d", request, w.Code, w.Body, want)
			}
		}
		if body := role("whole").do("GET", "/Observation/o", "").Body.String(); !strings.Contains(body, secret) {
			t.Errorf("the hidden value is gone: %s", body)
		}
	})
	t.Run("a permit without conditions shows what it shows, whatever others hide", func(t *testing.T) {
		for roles, shows := range map[string]bool{"visitor": false, "whole": true, "visitor whole": true, "visitor some": false, "some": true} {
			c := g.staff("Practitioner/s", smart.Person{Roles: strings.Fields(roles)})
			if body := c.do("GET", "/Observation/o", "").Body.String(); strings.Contains(body, secret) != shows {
				t.Errorf("%s: %s", roles, body)
			}
		}
	})
	t.Run("a hidden date orders nothing", func(t *testing.T) {
		g.has("Observation/later", `"status":"final","code":{"text":"x"},"effectiveDateTime":"2022-01-01"`, "Observation/between", `"status":"final","code":{"text":"x"},"effectiveDateTime":"2021-01-01"`)
		body := visitor.do("GET", "/Observation?_id=o,later,between", "").Body.String()
		at := func(id string) int { return strings.Index(body, `"id":"`+id+`"`) }
		if !(0 < at("between") && at("between") < at("later") && at("later") < at("o")) {
			t.Errorf("not in order of id: %s", body)
		}
		if w := visitor.do("GET", "/Observation?date=2020", ""); w.Code != 403 {
			t.Errorf("searching by it: %d", w.Code)
		}
	})
}

// Who is named for a time is so for that time only, and a stay at a ward
// that is over, or yet to come, is none.
func TestWhoIsNamedForATimeCountsForThatTime(t *testing.T) {
	g := govern(t, newAPI(t), "policy-periods", `
@id("service") permit (principal in Role::"service", action, resource);
@id("team") permit (principal in Role::"team", action, resource) when { resource.careTeam.contains(principal.user) };
@id("visit") permit (principal in Role::"visit", action, resource) when { resource.encounterStaff.contains(principal.user) };
@id("ward") permit (principal in Role::"ward", action, resource) when { resource is Patient && resource.locations.contains(principal.location) };`)
	g.has("Patient/p", `"active":true`)
	const (
		over  = `,"period":{"start":"2001-01-01","end":"2002-01-01"}`
		early = `,"period":{"start":"2901-01-01"}`
		open  = `,"period":{"start":"2001-01-01"}`
		until = `,"period":{"end":"2901-01-01"}`
	)
	for claim, tt := range map[string]struct {
		items []string // what is said beside the name, each time it is named
		want  bool
	}{
		"nothing is said of the time":       {[]string{""}, true},
		"it is over":                        {[]string{over}, false},
		"it has not begun":                  {[]string{early}, false},
		"it has begun":                      {[]string{open}, true},
		"it goes on":                        {[]string{until}, true},
		"it is over, and is so again":       {[]string{over, open}, true},
		"it is over, and holds at any time": {[]string{over, ""}, true},
		"it is over, and has not begun":     {[]string{early, over}, false},
	} {
		list := func(member, name string) string {
			var items []string
			for _, more := range tt.items {
				items = append(items, fmt.Sprintf(`{"%s":{"reference":"%s"}%s}`, member, name, more))
			}
			return strings.Join(append(items, fmt.Sprintf(`{"%s":{"reference":"%s0"}}`, member, name)), ",")
		}
		g.has("CareTeam/c", `"status":"active","subject":{"reference":"Patient/p"},"participant":[`+list("member", "Practitioner/u")+`]`,
			"Encounter/e", `"status":"in-progress","class":{"code":"IMP"},"subject":{"reference":"Patient/p"},"participant":[`+
				list("individual", "Practitioner/u")+`],"location":[`+list("location", "Location/w")+`]`)
		g.t.Run(claim, func(t *testing.T) {
			for _, role := range []string{"team", "visit", "ward"} {
				var want []string
				if tt.want {
					want = []string{"Patient/p"}
				}
				g.wantSeen(role+" where "+claim, g.staff("Practitioner/u", smart.Person{Roles: []string{role}, Location: "w"}), []string{"Patient/p"}, want...)
			}
		})
	}
	for status, want := range map[string][]string{"active": {"Patient/p"}, "completed": nil, "planned": nil, "reserved": nil} {
		g.has("Encounter/e", `"status":"in-progress","class":{"code":"IMP"},"subject":{"reference":"Patient/p"},"location":[{"location":{"reference":"Location/w"},"status":"`+status+`"}]`)
		g.wantSeen("a stay that is "+status, g.staff("Practitioner/u", smart.Person{Roles: []string{"ward"}, Location: "w"}), []string{"Patient/p"}, want...)
	}
}
