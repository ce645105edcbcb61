package rest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// glassChart is what the clinic has of two patients.
var glassChart = []string{
	"Patient/p", `"name":[{"family":"Doe"}]`,
	"Observation/of-p", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}`,
	"Observation/psy", labelPSY + `,"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}`,
	"Device/of-p", `"patient":{"reference":"Patient/p"}`,
	"Patient/q", `"name":[{"family":"Roe"}]`,
	"Observation/of-q", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/q"}`,
	"Device/of-q", `"patient":{"reference":"Patient/q"}`,
}

// ofP is what of it a broken glass of the patient p shows.
var ofP = []string{"Patient/p", "Observation/of-p", "Device/of-p"}

// A glassed tenant is a clinic in which glasses can be broken.
type glassed struct {
	*governed
	privacy *client
}

func breakable(t *testing.T, a *api, slug string, b tenant.BreakGlass) *glassed {
	t.Helper()
	g := &glassed{governed: govern(t, a, slug, shipped(t, "clinic"))}
	g.set(tenant.Settings{BreakGlass: b})
	g.has(glassChart...)
	g.privacy = g.person("Practitioner/officer", "privacy")
	return g
}

// set chooses the settings of the tenant.
func (g *governed) set(s tenant.Settings) {
	g.t.Helper()
	g.settings(g.t, g.slug, func(now *tenant.Settings) { *now = s })
}

// person is staff with the roles who has logged in.
func (g *glassed) person(user string, roles ...string) *client {
	return g.staff(user, smart.Person{Roles: roles}, loggedIn("s-"+user))
}

func loggedIn(session string) func(*smart.Token) {
	return func(tok *smart.Token) { tok.Session, tok.Subject = session, "login of "+tok.User+session }
}

// inputs are Parameters with texts, and whole numbers.
func inputs(list ...any) string {
	var b []map[string]any
	for i := 0; i < len(list); i += 2 {
		typ := "valueString"
		if _, ok := list[i+1].(int); ok {
			typ = "valuePositiveInt"
		}
		b = append(b, map[string]any{"name": list[i], typ: list[i+1]})
	}
	text, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": b})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// outputs are the values of Parameters, by name.
func outputs(parameters any) map[string]string {
	out := map[string]string{}
	list, _ := parameters.([]any)
	for _, p := range list {
		for name, v := range p.(map[string]any) {
			if strings.HasPrefix(name, "value") {
				out[at(p, "name").(string)] = fmt.Sprint(v)
			}
		}
	}
	return out
}

// asks asks to break the glass of the patient, and returns what became of it.
func (c *client) asks(status int, patient string, more ...any) map[string]string {
	c.t.Helper()
	w := c.must(status, "POST", "/Patient/"+patient+"/$break-glass", inputs(append([]any{"reason", "unconscious, no relatives"}, more...)...))
	return outputs(at(shown(c.t, w), "parameter"))
}

// does calls an operation about the glass with the id.
func (c *client) does(status int, name, id string, more ...any) map[string]string {
	c.t.Helper()
	w := c.must(status, "POST", "/$break-glass-"+name, inputs(append([]any{"id", id}, more...)...))
	return outputs(at(shown(c.t, w), "parameter"))
}

// events are the audit events that the query finds, newest first.
func (c *client) events(query string) []any {
	c.t.Helper()
	entries, _ := at(shown(c.t, c.must(200, "GET", "/AuditEvent?_count=200&"+query, "")), "entry").([]any)
	list := make([]any, len(entries))
	for i, e := range entries {
		list[i] = at(e, "resource")
	}
	return list
}

// told says in short what an AuditEvent is about.
func told(e any) string {
	s := fmt.Sprint(at(e, "subtype", 0, "code"))
	if ref, ok := at(e, "entity", 0, "what", "reference").(string); ok {
		s += " " + ref
	}
	return s
}

// BG-01, BG-04: from the request to the review.
func TestAGlassIsBrokenWithAnApprovalForAPatientForATime(t *testing.T) {
	g := breakable(t, newAPI(t), "glass-flow", tenant.BreakGlass{Mode: tenant.GlassApproved})
	doctor := g.person("Practitioner/doctor", "physician")
	refs := namesOf(glassChart)
	g.wantSeen("before", doctor, refs)

	asked := doctor.asks(200, "p", "minutes", 30)
	if asked["state"] != "requested" || asked["until"] != "" || asked["minutes"] != "30" {
		t.Fatalf("asked: %v", asked)
	}
	g.wantSeen("having asked", doctor, refs)
	doctor.does(403, "approve", asked["id"])
	approved := g.privacy.does(200, "approve", asked["id"])
	if approved["state"] != "active" || approved["decidedBy"] != "Practitioner/officer" {
		t.Fatalf("approved: %v", approved)
	}
	g.wantSeen("with the approval", doctor, refs, ofP...)
	if n := len(at(shown(t, doctor.must(200, "GET", "/Observation?_count=50", "")), "entry").([]any)); n != 1 {
		t.Errorf("a search finds %d", n)
	}
	if ended := doctor.does(200, "end", asked["id"]); ended["state"] != "ended" || ended["endedBy"] != "Practitioner/doctor" {
		t.Fatalf("ended: %v", ended)
	}
	g.wantSeen("after its end", doctor, refs)

	if w := doctor.must(403, "POST", "/Patient/q/$break-glass", inputs("reason", "again")); !strings.Contains(w.Body.String(), "reviewed first") {
		t.Errorf("before the review: %s", w.Body)
	}
	doctor.does(403, "review", asked["id"], "outcome", "justified")
	reviewed := g.privacy.does(200, "review", asked["id"], "outcome", "justified", "note", "the ambulance says so too")
	if reviewed["state"] != "reviewed" || reviewed["outcome"] != "justified" || reviewed["note"] == "" || reviewed["signed"] == "" {
		t.Fatalf("reviewed: %v", reviewed)
	}
	doctor.asks(200, "q")
}

// broken has the doctor break the glass of p, and returns its id.
func (g *glassed) broken(doctor *client, more ...any) string {
	g.t.Helper()
	id := doctor.asks(200, "p", more...)["id"]
	g.privacy.does(200, "approve", id)
	return id
}

// T244: what was granted to one is nothing to others, and lets them see,
// not change.
func TestABrokenGlassIsOfOneLoginOneAppAndOnePatientAndShowsOnly(t *testing.T) {
	a := newAPI(t)
	g := breakable(t, a, "glass-bound", tenant.BreakGlass{Mode: tenant.GlassApproved})
	doctor := g.person("Practitioner/doctor", "physician")
	g.broken(doctor)
	refs := namesOf(glassChart)
	g.wantSeen("the doctor", doctor, refs, ofP...)
	p := smart.Person{Roles: []string{"physician"}}
	g.wantSeen("another doctor", g.person("Practitioner/other", "physician"), refs)
	g.wantSeen("the doctor in another login", g.staff("Practitioner/doctor", p, loggedIn("another")), refs)
	g.wantSeen("the doctor without a login", g.staff("Practitioner/doctor", p), refs)
	g.wantSeen("the doctor with another app", g.staff("Practitioner/doctor", p, loggedIn("s-Practitioner/doctor"), func(tok *smart.Token) { tok.Client = "another" }), refs)
	g.wantSeen("the doctor at another tenant", breakable(t, a, "glass-bound-2", tenant.BreakGlass{Mode: tenant.GlassApproved}).person("Practitioner/doctor", "physician"), refs)
	narrow := g.client(t, g.slug, "user/Observation.rs", loggedIn("s-Practitioner/doctor"), func(tok *smart.Token) { tok.User, tok.Person = "Practitioner/doctor", p })
	narrow.must(403, "GET", "/Patient/p", "")
	narrow.must(200, "GET", "/Observation/of-p", "")
	for what, ask := range map[string][3]string{
		"update":      {"PUT", "/Observation/of-p", `{"resourceType":"Observation","id":"of-p","status":"final","code":{"text":"y"},"subject":{"reference":"Patient/p"}}`},
		"delete":      {"DELETE", "/Observation/of-p", ""},
		"patch":       {"PATCH", "/Observation/of-p", `[{"op":"replace","path":"/status","value":"amended"}]`},
		"create":      {"POST", "/Observation", `{"resourceType":"Observation","status":"final","code":{"text":"y"},"subject":{"reference":"Patient/p"}}`},
		"labels":      {"POST", "/Observation/of-p/$meta-add", `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"code":"x"}]}}]}`},
		"transaction": {"POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Observation/of-p"}}]}`},
	} {
		if w := doctor.do(ask[0], ask[1], ask[2]); w.Code != 403 && w.Code != 404 {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
	g.service().must(200, "GET", "/Observation/of-p/_history/1", "")
	if w := g.service().do("GET", "/Observation/of-p/_history/2", ""); w.Code != 404 {
		t.Errorf("it was changed: %s", w.Body)
	}
}

// T244: what is answered later is answered without it.
func TestABrokenGlassShowsNothingToWhatIsAnsweredLater(t *testing.T) {
	g := breakable(t, newAPI(t), "glass-later", tenant.BreakGlass{Mode: tenant.GlassImmediate})
	doctor := g.person("Practitioner/doctor", "physician")
	doctor.asks(200, "p")
	doctor.must(200, "GET", "/Observation/of-p", "")
	got := doctor.await(doctor.ask("GET", "/Observation?_total=accurate", ""))
	if n := at(shown(t, got), "entry", 0, "resource", "total"); n != 0.0 {
		t.Errorf("found %v: %s", n, got.Body)
	}
}

// BG-05, BG-06, G-07: four parameters find what was done through broken glasses,
// each resource that was shown, and nothing else.
func TestTheAuditTrailTellsWhatWasSeenThroughABrokenGlass(t *testing.T) {
	g := breakable(t, newAPI(t), "glass-audit", tenant.BreakGlass{Mode: tenant.GlassApproved})
	g.has("CareTeam/c", `"status":"active","subject":{"reference":"Patient/q"},"participant":[{"member":{"reference":"Practitioner/doctor"}}]`)
	doctor := g.person("Practitioner/doctor", "physician")
	begun := time.Now().UTC().Add(-time.Second).Format(time.RFC3339)
	id := g.broken(doctor)
	doctor.must(200, "GET", "/Observation/of-p", "")
	doctor.must(200, "GET", "/Observation/of-q", "") // whom the doctor treats
	doctor.must(200, "GET", "/Observation", "")
	doctor.must(200, "GET", "/Patient/p/$everything", "")
	doctor.must(200, "GET", "/Device/of-p/_history", "")
	doctor.must(404, "GET", "/Observation/psy", "")
	doctor.does(200, "end", id)

	find := "purpose=BTG&agent=Practitioner/doctor&patient=p&date=ge" + url.QueryEscape(begun)
	var got []string
	for _, e := range g.privacy.events(find) {
		got = append(got, told(e))
		why := at(e, "entity")
		text, _ := json.Marshal(why)
		if at(e, "purposeOfEvent", 0, "coding", 0, "code") != "BTG" || !strings.Contains(string(text), id) || !strings.Contains(string(text), `"justification"`) || !strings.Contains(string(text), "unconscious, no relatives") {
			t.Errorf("an event: %v", e)
		}
	}
	slices.Sort(got)
	want := []string{
		"110127 Patient/p", "110138 Patient/p",
		"history-instance Device/of-p", "operation Patient/p", "operation Patient/p", "operation Patient/p",
		"read Device/of-p/_history/1", "read Observation/of-p/_history/1", "read Observation/of-p/_history/1", "read Observation/of-p/_history/1",
		"read Patient/p/_history/1", "search-type", "search-type Patient/p",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q,\nwant %q", got, want)
	}
	for _, other := range []string{"purpose=TREAT", "purpose=BTG&agent=Practitioner/other", "purpose=BTG&patient=q", "purpose=BTG&date=lt" + url.QueryEscape(begun)} {
		if list := g.privacy.events(other); len(list) > 0 {
			t.Errorf("%s finds %v", other, list)
		}
	}
	var approvals int
	for _, e := range g.privacy.events("purpose=BTG&agent=Practitioner/officer") {
		if told(e) == "operation Patient/p" {
			approvals++
		}
	}
	if approvals != 1 {
		t.Errorf("%d approvals", approvals)
	}
	if strings.Contains(g.logged.String(), "unconscious") {
		t.Error("the log has the reason")
	}
}

// BG-05: what was seen through a broken glass is listed, and each of it is proven to be
// in the signed log of the trail.
func TestWhatWasSeenThroughABrokenGlassIsProvenToBeInTheLog(t *testing.T) {
	g := breakable(t, newAPI(t), "glass-proof", tenant.BreakGlass{Mode: tenant.GlassImmediate, ReviewWithin: 60})
	doctor := g.person("Practitioner/doctor", "physician")
	id, other := doctor.asks(200, "p")["id"], doctor.asks(200, "q")["id"]
	doctor.must(200, "GET", "/Observation/of-p", "")
	doctor.must(200, "GET", "/Observation/of-q", "")
	doctor.must(200, "GET", "/Observation?patient=p", "")
	doctor.does(200, "end", id)
	path := "/AuditEvent/$break-glass-accesses?glass=" + id
	got := shown(t, g.privacy.must(200, "GET", path, ""))
	if text, _ := json.Marshal(got); !strings.Contains(string(text), `"name":"logged","valueBoolean":false`) || strings.Contains(string(text), `"leaf"`) {
		t.Errorf("before the log has it: %s", text)
	}
	key := g.sign()
	var found []string
	for _, p := range shown(t, g.privacy.must(200, "GET", path, ""))["parameter"].([]any) {
		if at(p, "name") == "logged" && at(p, "valueBoolean") != true {
			t.Error("it is not logged")
		}
		part := map[string]string{}
		if at(p, "name") == "access" {
			for _, x := range at(p, "part").([]any) {
				part[at(x, "name").(string)] = fmt.Sprint(cmp.Or(at(x, "valueString"), at(x, "valueDecimal")))
			}
			event := part["event"]
			proof, err := ledger.ParseProof(g.privacy.must(200, "GET", "/"+event+"/$log-inclusion", "").Body.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			said, err := proof.Check(key)
			if want := fmt.Sprintf("entry %s is leaf %s ", strings.TrimPrefix(event, "AuditEvent/"), part["leaf"]); err != nil || !strings.HasPrefix(said, want) {
				t.Errorf("the proof says %q, %v, and the list %q", said, err, want)
			}
			found = append(found, part["resource"])
		}
	}
	if slices.Sort(found); !slices.Equal(found, []string{"", "Observation/of-p", "Observation/of-p", "Patient/p", "Patient/p", "Patient/p", "Patient/p"}) {
		t.Errorf("found %q", found)
	}
	if got := g.privacy.must(200, "GET", "/AuditEvent/$break-glass-accesses?glass="+other, "").Body.String(); strings.Contains(got, "of-p") || !strings.Contains(got, "of-q") {
		t.Errorf("of the other: %s", got)
	}
	doctor.must(403, "GET", path, "")
}

// sign makes a checkpoint of the tenant's log, and returns the key to check it with.
func (g *governed) sign() ledger.Key {
	g.t.Helper()
	f := storetest.New(g.t)
	x := f.Tenant(g.t, g.slug)
	l, err := store.OpenLedger(store.LedgerConfig{DatabaseURL: f.URLs.Log, RegistryURL: f.URLs.LogRegistry, Registry: f.Registry, Keys: f.Keyring, Every: time.Nanosecond})
	if err != nil {
		g.t.Fatal(err)
	}
	defer l.Close()
	for more := true; more; {
		if _, more, err = l.Sequence(g.t.Context(), x); err != nil {
			g.t.Fatal(err)
		}
	}
	if err := l.Checkpoint(g.t.Context(), x); err != nil {
		g.t.Fatal(err)
	}
	text, err := f.Registry.LogVerifier(g.t.Context(), x)
	if err != nil {
		g.t.Fatal(err)
	}
	key, err := ledger.ParseKey(text)
	if err != nil {
		g.t.Fatal(err)
	}
	return key
}

// T242: who may not ask learns nothing, not even whether there is the patient.
func TestWhoMayNotBreakAGlassIsRefusedWhateverTheyAskFor(t *testing.T) {
	a := newAPI(t)
	g := breakable(t, a, "glass-refused", tenant.BreakGlass{Mode: tenant.GlassImmediate, Minutes: 30, Purposes: []string{"ETREAT"}})
	reason := inputs("reason", "x")
	same := func(who string, c *client, status int) {
		t.Helper()
		there, nowhere := c.do("POST", "/Patient/p/$break-glass", reason), c.do("POST", "/Patient/none/$break-glass", reason)
		if there.Code != status || nowhere.Code != status || there.Body.String() != nowhere.Body.String() {
			t.Errorf("%s: %d %s, of nobody %d %s", who, there.Code, there.Body, nowhere.Code, nowhere.Body)
		}
	}
	p := smart.Person{Roles: []string{"physician"}}
	same("billing", g.person("Practitioner/b", "billing"), 403)
	same("the privacy officer", g.privacy, 403)
	same("a nurse off shift", g.person("Practitioner/n", "nurse"), 403)
	same("a physician without a login", g.staff("Practitioner/doctor", p), 403)
	same("a patient", g.staff("Patient/q", p, loggedIn("s")), 403)
	same("a service", g.service(), 403)

	doctor := g.person("Practitioner/doctor", "physician")
	for what, tt := range map[string]struct {
		path, body string
		want       int
	}{
		"no reason":          {"/Patient/p/$break-glass", inputs("minutes", 5), 400},
		"a blank reason":     {"/Patient/p/$break-glass", inputs("reason", "  "), 400},
		"a long reason":      {"/Patient/p/$break-glass", inputs("reason", strings.Repeat("x", store.MaxGlassText+1)), 413},
		"too long":           {"/Patient/p/$break-glass", inputs("reason", "x", "minutes", 31), 403},
		"far too long":       {"/Patient/p/$break-glass", inputs("reason", "x", "minutes", 1<<31-1), 403},
		"another purpose":    {"/Patient/p/$break-glass", inputs("reason", "x", "purpose", "BTG"), 403},
		"nobody":             {"/Patient/none/$break-glass", reason, 404},
		"all patients":       {"/Patient/$break-glass", reason, 404},
		"the whole tenant":   {"/$break-glass", reason, 404},
		"another type":       {"/Observation/of-p/$break-glass", reason, 404},
		"in a Bundle":        {"", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"POST","url":"Patient/p/$break-glass"},"resource":` + reason + `}]}`, 200},
		"an approval of own": {"/$break-glass-approve", inputs("id", "none"), 403},
	} {
		if w := doctor.do("POST", tt.path, tt.body); w.Code != tt.want {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
	g.wantSeen("the doctor", doctor, namesOf(glassChart))
	if got := doctor.asks(200, "p"); got["purpose"] != "ETREAT" || got["minutes"] != "30" {
		t.Errorf("by default: %v", got)
	}

	off := breakable(t, a, "glass-off", tenant.BreakGlass{})
	same("where it is off", off.person("Practitioner/doctor", "physician"), 403)
	if w := off.person("Practitioner/doctor", "physician").do("POST", "/Patient/none/$break-glass", reason); w.Code != 403 {
		t.Errorf("where it is off: %d", w.Code)
	}
}

// BG-03: nothing is seen before the alert and the audit entry of it are kept.
func TestAnAlertIsKeptBeforeABrokenGlassShowsAnything(t *testing.T) {
	g := breakable(t, newAPI(t), "glass-alert", tenant.BreakGlass{Mode: tenant.GlassApproved, ReviewWithin: 60})
	doctor := g.person("Practitioner/doctor", "physician")
	rules := func() (list []string) {
		alerts, err := g.Registry.Alerts(t.Context(), g.slug)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range alerts {
			list = append(list, string(a.Rule)+" "+a.User)
		}
		slices.Sort(list)
		return list
	}
	id := doctor.asks(200, "p")["id"]
	if got := rules(); len(got) > 0 {
		t.Errorf("of a request: %q", got)
	}
	g.privacy.does(200, "approve", id)
	if got, want := rules(), []string{"break-glass Practitioner/doctor"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	g.set(tenant.Settings{BreakGlass: tenant.BreakGlass{Mode: tenant.GlassImmediate, ReviewWithin: 60}})
	doctor.asks(200, "q")
	if got, want := rules(), []string{"break-glass Practitioner/doctor", "break-glass-alone Practitioner/doctor"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// BG-02: it ends with its time, also between two pages, and with the setting.
func TestABrokenGlassEndsWithItsTime(t *testing.T) {
	a := newAPI(t)
	g := breakable(t, a, "glass-time", tenant.BreakGlass{Mode: tenant.GlassImmediate})
	doctor := g.person("Practitioner/doctor", "physician")
	doctor.asks(200, "p", "minutes", 5)
	path := ""
	for _, l := range at(shown(t, doctor.must(200, "GET", "?_type=Observation,Device&_count=1", "")), "link").([]any) {
		if at(l, "relation") == "next" {
			path = strings.TrimPrefix(at(l, "url").(string), baseOf(g.slug))
		}
	}
	doctor.must(200, "GET", path, "")
	later := doctor.elsewhere(func() time.Time { return time.Now().Add(6 * time.Minute) })
	g.wantSeen("after five minutes", later, namesOf(glassChart))
	if w := later.do("GET", path, ""); w.Code != 400 {
		t.Errorf("its next page: %d %s", w.Code, w.Body)
	}
	g.wantSeen("at another server", doctor.elsewhere(time.Now), namesOf(glassChart), ofP...)
	g.set(tenant.Settings{})
	g.wantSeen("once the tenant has turned it off", doctor, namesOf(glassChart))
}

// A user can have five open at a time, also if they ask for many at once, and others
// as many.
func TestAUserHasFiveGlassesOpenAtATime(t *testing.T) {
	g := breakable(t, newAPI(t), "glass-many", tenant.BreakGlass{Mode: tenant.GlassImmediate, ReviewWithin: 60})
	const patients = 8
	for i := range patients {
		g.has(fmt.Sprintf("Patient/m%d", i), `"active":true`)
	}
	doctor := g.person("Practitioner/doctor", "physician")
	answers := make([]int, patients)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answers[i] = doctor.do("POST", fmt.Sprintf("/Patient/m%d/$break-glass", i), inputs("reason", "an accident of a bus")).Code
		})
	}
	all.Wait()
	slices.Sort(answers)
	if want := []int{200, 200, 200, 200, 200, 403, 403, 403}; !slices.Equal(answers, want) {
		t.Errorf("got %v, want %v", answers, want)
	}
	open := 0
	for i := range patients {
		if doctor.do("GET", fmt.Sprintf("/Patient/m%d", i), "").Code == 200 {
			open++
		}
	}
	if open != 5 {
		t.Errorf("the doctor sees %d", open)
	}
	g.person("Practitioner/other", "physician").asks(200, "p")
	doctor.asks(403, "p")
	doctor.does(200, "end", at(shown(t, doctor.must(200, "GET", "/$break-glass-list", "")), "parameter", 0, "part", 0, "valueString").(string))
	doctor.asks(200, "p")
}

// BG-08: support sees nothing of a record but through a broken glass.
func TestSupportSeesNothingWithoutABrokenGlass(t *testing.T) {
	g := breakable(t, newAPI(t), "glass-support", tenant.BreakGlass{Mode: tenant.GlassApproved})
	support := g.person("Practitioner/support", "support")
	for _, on := range []string{"Patient", "Observation", "Practitioner", "AuditEvent", "Consent", "ValueSet"} {
		support.must(403, "GET", "/"+on, "")
	}
	id := g.broken(support)
	support.must(200, "GET", "/Patient/p", "")
	support.must(404, "GET", "/Patient/q", "")
	support.must(403, "GET", "/AuditEvent", "")
	support.must(403, "GET", "/Practitioner", "")
	support.does(200, "end", id)
	support.must(403, "GET", "/Patient/p", "")
}

// T246: what the patient's consents deny stays hidden unless the tenant says
// that an emergency overrides them; and then only for seeing, and of that patient.
func TestABrokenGlassShowsWhatAConsentDeniesWhereTheTenantSaysSo(t *testing.T) {
	g := breakable(t, newAPI(t), "glass-consent", tenant.BreakGlass{Mode: tenant.GlassImmediate})
	g.has("Consent/c", consentOf(`{"type":"deny"}`))
	doctor := g.person("Practitioner/doctor", "physician")
	refs := namesOf(glassChart)
	doctor.asks(200, "p")
	g.wantSeen("with the consent", doctor, refs)
	g.set(tenant.Settings{BreakGlass: tenant.BreakGlass{Mode: tenant.GlassImmediate, OverridesConsent: true}})
	g.wantSeen("without it", doctor, refs, ofP...)
	g.has("Group/both", `"type":"person","actual":true,"member":[{"entity":{"reference":"Patient/p"}},{"entity":{"reference":"Patient/q"}}]`,
		"Consent/d", `"status":"active",`+strings.Replace(privacy, "Patient/p", "Patient/q", 1)+`,"provision":{"type":"deny"}`)
	g.wantSeen("what is about two", doctor, []string{"Group/both"})
}
