package rest

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

const privacy = `"scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"privacy"}],"policyRule":{"coding":[{"code":"OPTIN"}]},"patient":{"reference":"Patient/p"}`

// consentOf is an active Consent of the patient p with the provision.
func consentOf(provision string) string {
	return `"status":"active",` + privacy + `,"provision":` + provision
}

var consentChart = []string{
	"Patient/p", `"name":[{"family":"Doe"}]`,
	"Patient/q", `"name":[{"family":"Roe"}]`,
	"Observation/of-p", `"status":"final","code":{"coding":[{"system":"http://loinc.org","code":"1-8"}]},"effectiveDateTime":"2024-05-05","subject":{"reference":"Patient/p"}`,
	"Observation/old", `"status":"final","code":{"coding":[{"system":"http://loinc.org","code":"2-6"}]},"effectiveDateTime":"2010-05-05","subject":{"reference":"Patient/p"}`,
	"Observation/psy", labelPSY + `,"status":"final","code":{"text":"x"},"effectiveDateTime":"2024-05-05","subject":{"reference":"Patient/p"},"derivedFrom":[{"reference":"Observation/of-p"}]`,
	"Observation/of-q", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/q"}`,
	"Encounter/e", `"status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p"}`,
	"Device/d", `"patient":{"reference":"Patient/p"}`,
	"Practitioner/doc", `"active":true`,
}

// purpose says what the requests of a token are for.
func purpose(code string) func(*smart.Token) {
	return func(tok *smart.Token) { tok.Purpose = code }
}

// The provisions of R4's Consent.
func TestAConsentKeepsFromWhomItDenies(t *testing.T) {
	g := govern(t, newAPI(t), "consent-denies", shipped(t, "scopes"))
	g.has(consentChart...)
	all := namesOf(consentChart)
	without := func(refs ...string) []string {
		var list []string
		for _, ref := range all {
			if !strings.Contains(strings.Join(refs, " ")+" ", ref+" ") {
				list = append(list, ref)
			}
		}
		return list
	}
	ofP := []string{"Patient/p", "Observation/of-p", "Observation/old", "Observation/psy", "Encounter/e", "Device/d"}
	doc := g.staff("Practitioner/doc", smart.Person{Organizations: []string{"o"}}, purpose("TREAT"))
	for claim, tt := range map[string]struct {
		provision string
		want      []string
	}{
		"all":                               {`{"type":"deny"}`, without(ofP...)},
		"a Practitioner":                    {`{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"Practitioner/doc"}}]}`, without(ofP...)},
		"another Practitioner":              {`{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"Practitioner/other"}}]}`, all},
		"an Organization":                   {`{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"Organization/o"}}]}`, without(ofP...)},
		"another Organization":              {`{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"Organization/other"}}]}`, all},
		"a Group, who may be anybody":       {`{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"Group/g"}}]}`, without(ofP...)},
		"a role that may be theirs":         {`{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"PractitionerRole/r"}}]}`, without(ofP...)},
		"treatment":                         {`{"type":"deny","purpose":[{"code":"TREAT"}]}`, without(ofP...)},
		"research":                          {`{"type":"deny","purpose":[{"code":"HRESCH"}]}`, all},
		"access":                            {`{"type":"deny","action":[{"coding":[{"code":"access"}]}]}`, without(ofP...)},
		"collection":                        {`{"type":"deny","action":[{"coding":[{"code":"collect"}]}]}`, all},
		"a class":                           {`{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Encounter"}]}`, without("Encounter/e")},
		"a label":                           {`{"type":"deny","securityLabel":[{"code":"MH"},{"code":"PSY"}]}`, without("Observation/psy")},
		"a label of a kind":                 {`{"type":"deny","securityLabel":[{"code":"BH"}]}`, without("Observation/psy")},
		"what is restricted":                {`{"type":"deny","securityLabel":[{"code":"R"}]}`, all},
		"what is normal and above":          {`{"type":"deny","securityLabel":[{"code":"N"}]}`, without(ofP...)},
		"a code":                            {`{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}],"code":[{"coding":[{"system":"http://loinc.org","code":"1-8"}]}]}`, without("Observation/of-p")},
		"a period of data":                  {`{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}],"dataPeriod":{"start":"2009","end":"2011"}}`, without("Observation/old")},
		"one resource":                      {`{"type":"deny","data":[{"meaning":"instance","reference":{"reference":"Observation/of-p"}}]}`, without("Observation/of-p")},
		"what is related to one":            {`{"type":"deny","data":[{"meaning":"related","reference":{"reference":"Observation/of-p"}}]}`, without("Observation/of-p", "Observation/psy")},
		"for a time that is over":           {`{"type":"deny","period":{"end":"2020-01-01"}}`, all},
		"for a time to come":                {`{"type":"deny","period":{"start":"2999-01-01"}}`, all},
		"for now":                           {`{"type":"deny","period":{"start":"2020-01-01","end":"2999-01-01"}}`, without(ofP...)},
		"all but a class":                   {`{"type":"deny","provision":[{"type":"permit","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Encounter"}]}]}`, without("Patient/p", "Observation/of-p", "Observation/old", "Observation/psy", "Device/d")},
		"a class of what it permits":        {`{"type":"permit","provision":[{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Encounter"}]}]}`, without("Encounter/e")},
		"of a class but a label of it":      {`{"provision":[{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}],"provision":[{"type":"permit","securityLabel":[{"code":"PSY"}]}]}]}`, without("Observation/of-p", "Observation/old")},
		"what nobody can tell":              {`{"type":"deny","class":[{"system":"urn:ietf:bcp:13","code":"application/hl7-cda+xml"}]}`, without(ofP...)},
		"nothing, as it permits":            {`{"type":"permit"}`, all},
		"nothing, where what is below does": {`{"type":"permit","actor":[{"role":{"text":"x"},"reference":{"reference":"Practitioner/other"}}],"provision":[{"type":"deny"}]}`, all},
	} {
		t.Run(claim, func(t *testing.T) {
			g.t = t
			g.has("Consent/c", consentOf(tt.provision))
			g.wantSeen("the practitioner", doc, all, tt.want...)
			g.wantSeen("the patient", g.staff("Patient/p", smart.Person{}), ofP, ofP...)
		})
	}
	g.t = t
	t.Run("a purpose that is not known may be the one that is denied", func(t *testing.T) {
		g.has("Consent/c", consentOf(`{"type":"deny","purpose":[{"code":"HRESCH"}]}`))
		g.wantSeen("somebody", g.staff("Practitioner/doc", smart.Person{}), ofP)
		g.wantSeen("a researcher", g.staff("Practitioner/doc", smart.Person{}, purpose("HRESCH")), ofP)
		g.wantSeen("a narrower one", g.staff("Practitioner/doc", smart.Person{}, purpose("CLINTRCH")), ofP)
		g.wantSeen("a system", g.client(t, g.slug, "system/*.rs", purpose("HPAYMT")), ofP, ofP...)
	})
	t.Run("one that denies beats others that permit", func(t *testing.T) {
		g.has("Consent/c", consentOf(`{"type":"deny"}`), "Consent/d", consentOf(`{"type":"permit"}`))
		g.wantSeen("the practitioner", doc, ofP)
	})
	t.Run("one that is not in force says nothing", func(t *testing.T) {
		for _, status := range []string{"draft", "proposed", "rejected", "inactive", "entered-in-error"} {
			g.has("Consent/c", strings.Replace(consentOf(`{"type":"deny"}`), "active", status, 1))
			g.wantSeen(status, doc, ofP, ofP...)
		}
		g.has("Consent/c", strings.Replace(consentOf(`{"type":"deny"}`), "patient-privacy", "research", 1))
		g.wantSeen("research", doc, ofP, ofP...)
	})
	t.Run("one that says neither denies", func(t *testing.T) {
		g.has("Consent/c", `"status":"active",`+strings.Replace(privacy, "OPTIN", "hipaa-self-pay", 1))
		g.wantSeen("the practitioner", doc, ofP)
	})
}

func TestNoPathLeadsToWhatAConsentDenies(t *testing.T) {
	g := govern(t, newAPI(t), "consent-paths", shipped(t, "scopes"))
	g.has(consentChart...)
	g.has("Consent/c", consentOf(`{"type":"deny","purpose":[{"code":"HRESCH"}]}`), "Group/both", `"type":"person","actual":true,"member":[{"entity":{"reference":"Patient/p"}},{"entity":{"reference":"Patient/q"}}]`)
	c := g.client(t, g.slug, "system/*.cruds", purpose("HRESCH"))
	for query, want := range map[string]int{
		"/Observation":                                            1,
		"/Observation?_sort=_id&_count=1":                         1,
		"/Observation?_sort=code":                                 1,
		"/Observation?patient=p":                                  0,
		"/Observation?patient.name=Doe":                           0,
		"/Patient":                                                1,
		"/Patient?name=Doe":                                       0,
		"/Patient?_has:Observation:patient:status=final":          1,
		"/Patient?_id=q&_revinclude=Observation:subject":          2,
		"/Practitioner?_has:Observation:performer:_id=of-p":       0,
		"/Encounter?_include=Encounter:subject":                   0,
		"/Consent?_include=Consent:patient":                       1,
		"/Consent?patient.name=Doe":                               0,
		"/Observation/_history":                                   1,
		"/_history?_count=100":                                    4, // of q, the doctor and the consent
		"/?_type=Observation,Patient,Encounter":                   2,
		"/Patient/$everything?_count=100":                         2,
		"/Group":                                                  0,
		"/Observation?_filter=status%20eq%20final":                1,
		"/Observation?_list=none":                                 0,
		"/Observation?subject:Patient.birthdate:missing=true":     1,
		"/Patient?_id=p,q&_has:Encounter:patient:status=finished": 0,
	} {
		w := c.do("GET", query, "")
		if got := strings.Count(w.Body.String(), `"fullUrl"`); w.Code != http.StatusOK || got != want {
			t.Errorf("%s: %d with %d entries, want %d: %s", query, w.Code, got, want, w.Body)
		}
	}
	w := c.do("GET", "/Observation?_sort=date,_id&_count=1", "")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "of-q") {
		t.Errorf("sorted: %d %s", w.Code, w.Body)
	}
	if w := c.do("GET", "/Consent?_sort=patient.name", ""); w.Code == http.StatusInternalServerError {
		t.Errorf("sorted by who is hidden: %d %s", w.Code, w.Body)
	}
	for query, want := range map[string]int{"/Observation?_summary=count": 1, "/Patient?_summary=count": 1, "/Observation?patient=p&_total=accurate": 0, "/Observation?_total=accurate&_count=1": 1} {
		if w := c.do("GET", query, ""); !strings.Contains(w.Body.String(), fmt.Sprintf(`"total":%d`, want)) {
			t.Errorf("%s: %s, want %d", query, w.Body, want)
		}
	}
	for request, want := range map[string]int{
		"GET /Patient/p/$everything": 404, "GET /Patient/p": 404, "GET /Patient/p/_history": 404, "GET /Observation/of-p/$meta": 404,
		"DELETE /Observation/of-p": 404, "PUT /Observation/of-p": 404, "GET /Consent/c": 200, "POST /Observation": 201,
	} {
		method, path, _ := strings.Cut(request, " ")
		body := `{"resourceType":"Observation","id":"of-p",` + consentChart[5] + `}`
		if w := c.do(method, path, body); w.Code != want {
			t.Errorf("%s: %d, want %d: %s", request, w.Code, want, w.Body)
		}
	}
	w = c.do("POST", "/$graphql", `{"query":"{p:Patient(id:\"p\"){id} ObservationList{id subject{resource{... on Patient{id}}}}}"}`, "Content-Type", "application/json")
	if strings.Contains(w.Body.String(), `"of-p"`) || strings.Contains(w.Body.String(), `"p"}`) || !strings.Contains(w.Body.String(), `"of-q"`) {
		t.Errorf("graphql: %s", w.Body)
	}
	w = c.do("POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[
		{"request":{"method":"PUT","url":"Consent/c"},"resource":{"resourceType":"Consent","id":"c",`+strings.Replace(consentOf(`{"type":"deny"}`), "active", "inactive", 1)+`}},
		{"request":{"method":"GET","url":"Observation/of-p"}}]}`)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "loinc.org") {
		t.Errorf("a transaction that withdraws it: %d %s", w.Code, w.Body)
	}
}

// T246: what was withdrawn, or given, counts with the next request, also on a
// server that has heard of nothing.
func TestAConsentThatChangesCountsWithTheNextRequest(t *testing.T) {
	rounds := 40
	if os.Getenv("CORDON_ROUNDS") != "" {
		rounds = 10_000
	}
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema} {
		t.Run(string(mode), func(t *testing.T) {
			a := newAPI(t)
			g := govern(t, a, "consent-next-"+string(mode), shipped(t, "scopes"))
			g.has(consentChart...)
			c := g.staff("Practitioner/doc", smart.Person{}, purpose("TREAT"))
			elsewhere := c.elsewhere(time.Now)
			for i := range rounds {
				denied := i%2 == 0
				status := map[bool]string{true: "active", false: "inactive"}[denied]
				g.has("Consent/c", strings.Replace(consentOf(`{"type":"deny"}`), "active", status, 1))
				want := map[bool]int{true: 404, false: 200}[denied]
				for name, one := range map[string]*client{"the server": c, "another": elsewhere} {
					if got := one.do("GET", "/Observation/of-p", "").Code; got != want {
						t.Fatalf("round %d: %s read %d, want %d", i, name, got, want)
					}
				}
				if got := c.do("GET", "/Observation?_id=of-p", "").Body.String(); strings.Contains(got, `"fullUrl"`) == denied {
					t.Fatalf("round %d: search %s", i, got)
				}
			}
			for _, says := range []string{"deny", "permit", "deny", "permit"} { // and stays in force
				g.has("Consent/c", consentOf(`{"type":"`+says+`"}`))
				want := map[string]int{"deny": 404, "permit": 200}[says]
				if got := c.do("GET", "/Observation/of-p", "").Code; got != want {
					t.Errorf("one that says %s now: read %d, want %d", says, got, want)
				}
			}
			g.has("Consent/c", consentOf(`{"type":"deny"}`))
			if w := g.service().do("DELETE", "/Consent/c", ""); w.Code >= 300 {
				t.Fatal(w.Code, w.Body)
			}
			if got := c.do("GET", "/Observation/of-p", "").Code; got != 200 {
				t.Errorf("after it was deleted: %d", got)
			}
		})
	}
}

// elsewhere is c at another server of the same databases, by whose clock it is as
// late as now says.
func (c *client) elsewhere(now func() time.Time, change ...func(*smart.Config)) *client {
	c.t.Helper()
	f := c.Fixture
	db, err := store.Open(c.t.Context(), store.Config{
		DatabaseURL: f.URLs.App, AuditURL: f.URLs.Audit, Keys: f.Keyring, Platform: f.Registry, Packages: f.Registry, Base: baseOf, Wait: time.Minute,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(db.Close)
	cfg := smart.Config{Tenants: f.Tenants, Keys: f.Keyring, Policies: f.Registry, Glasses: f.Registry, Base: baseOf, Issuer: baseOf, Now: now}
	for _, change := range change {
		change(&cfg)
	}
	v, err := smart.NewVerifier(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	other := &api{Fixture: f, logged: &lines{}, handler: New(Config{
		DB: db, Verifier: v, Tenants: f.Tenants, Base: baseOf, SmartConfiguration: func(string) []byte { return []byte("{}") },
		Log: oplog.New(slog.DiscardHandler),
	}).server}
	return &client{other, c.t, c.slug, c.bearer}
}

// consenting sets how the tenant takes consents.
func (g *governed) consenting(c tenant.Consent) {
	g.t.Helper()
	g.settings(g.t, g.slug, func(s *tenant.Settings) { s.Consent = c })
}

func TestWhereATenantChoseOptInAConsentHasToPermit(t *testing.T) {
	g := govern(t, newAPI(t), "consent-optin", shipped(t, "scopes"))
	g.has(consentChart...)
	all := namesOf(consentChart)
	g.consenting(tenant.Consent{OptIn: []string{"HRESCH"}, Purpose: "TREAT"})
	researcher := g.staff("Practitioner/doc", smart.Person{}, purpose("CLINTRCH"))
	g.wantSeen("a researcher, of nobody's record", researcher, all, "Practitioner/doc")
	g.wantSeen("who treats", g.staff("Practitioner/doc", smart.Person{}), all, all...)
	g.wantSeen("the patient", g.staff("Patient/p", smart.Person{}, purpose("HRESCH")), []string{"Patient/p", "Observation/of-p"}, "Patient/p", "Observation/of-p")
	g.has("Consent/c", consentOf(`{"type":"permit","purpose":[{"code":"HRESCH"}],"securityLabel":[{"code":"N"}],"class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}]}`))
	g.wantSeen("a researcher, with a consent", researcher, all, "Observation/of-p", "Observation/old", "Observation/psy", "Practitioner/doc")
	g.has("Consent/d", consentOf(`{"type":"deny","securityLabel":[{"code":"PSY"}]}`))
	g.wantSeen("a researcher, with another that denies", researcher, all, "Observation/of-p", "Observation/old", "Practitioner/doc")
	g.consenting(tenant.Consent{OptIn: []string{"HRESCH"}})
	g.wantSeen("who does not say what for", g.staff("Practitioner/doc", smart.Person{}), all, "Practitioner/doc")
	if _, err := tenant.ParseSettings([]byte(`{"consent":{"optIn":["for research"]}}`)); err == nil {
		t.Error("a purpose that is no code was taken")
	}
}
