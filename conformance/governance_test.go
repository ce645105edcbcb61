package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	attacks "github.com/cordon-fhir/cordon/breakout"
	"github.com/cordon-fhir/cordon/conformance/harness"
)

// The policy of the tenants in group 11: that of a clinic, with the clients
// that the other lines use, parents, and somebody who sees a part.
const moreRules = `
@id("systems")
permit (principal is Client, action, resource);

@id("parents")
permit (principal is User, action in Action::"view", resource)
when { principal.type == "RelatedPerson" && resource.patients.contains(principal.patient) };

@id("desk") @mask("Patient.birthDate, Patient.telecom, Patient.address")
permit (principal in Role::"desk", action in Action::"view", resource is Patient);
`

// staff work at each tenant, as clients that act for them. What follows the
// scopes is as on the command line.
var staff = []struct {
	id, scopes string
	person     []string
}{
	{"treating", "user/*.cruds", []string{"--user", "Practitioner/dr1", "--roles", "physician"}},
	{"stranger", "user/*.cruds", []string{"--user", "Practitioner/dr2", "--roles", "physician"}},
	{"nurse", "user/*.cruds", []string{"--user", "Practitioner/dr3", "--roles", "nurse", "--facilities", "ward-1", "--location", "ward-1", "--shift", "8h"}},
	{"off-shift", "user/*.cruds", []string{"--user", "Practitioner/dr3", "--roles", "nurse", "--facilities", "ward-1", "--location", "ward-1"}},
	{"elsewhere", "user/*.cruds", []string{"--user", "Practitioner/dr3", "--roles", "nurse", "--facilities", "ward-1,ward-2", "--location", "ward-2", "--shift", "8h"}},
	{"visiting", "user/*.cruds", []string{"--user", "Practitioner/dr3", "--roles", "nurse", "--facilities", "ward-2", "--location", "ward-1", "--shift", "8h"}},
	{"other-nurse", "user/*.cruds", []string{"--user", "Practitioner/dr4", "--roles", "nurse", "--facilities", "ward-1", "--location", "ward-1", "--shift", "8h"}},
	{"money", "user/*.cruds", []string{"--user", "Practitioner/b1", "--roles", "billing"}},
	{"desk", "user/*.rs", []string{"--user", "Practitioner/b2", "--roles", "desk"}},
	{"roleless", "user/*.cruds", []string{"--user", "Practitioner/dr1"}},
	{"parent", "patient/*.rs", []string{"--user", "RelatedPerson/parent", "--patient", "p1"}},
	{"child", "patient/*.rs", []string{"--user", "Patient/p1", "--patient", "p1"}},
}

// employ registers the staff.
func (at *party) employ(ctx context.Context) error {
	for _, s := range staff {
		if err := at.addClient(ctx, s.id, s.scopes, s.person...); err != nil {
			return err
		}
	}
	return nil
}

// govern brings a policy into force at the tenant, as two operators do.
func (at *party) govern(ctx context.Context, source ...string) error {
	proposed, err := at.sys.Cordon(ctx, append([]string{"policy", "propose", "--tenant", at.slug}, source...)...)
	if err != nil {
		return err
	}
	var n string
	if _, err := fmt.Sscanf(proposed, "change %s", &n); err != nil {
		return fmt.Errorf("%q: %w", proposed, err)
	}
	if _, err := at.sys.Cordon(ctx, "policy", "approve", "--tenant", at.slug, n); err != nil {
		return err
	}
	// What the policy before refused may stay refused until all have heard.
	time.Sleep(1100 * time.Millisecond)
	return nil
}

// policyFile writes a policy: the profile of a clinic and more.
func policyFile(t testing.TB, more string) string {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	clinic, err := os.ReadFile(filepath.Join(root, "smart", "profiles", "clinic.cedar"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "policy.cedar")
	if err := os.WriteFile(file, append(clinic, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Group 11 of the breakout suite: scopes, access policies and consents. The
// neighbour has the same policy, staff and ids, and lets the same people in
// whom the attacker keeps out. GOV-04
func TestGovernance(t *testing.T) {
	file := policyFile(t, moreRules)
	each := func(ctx context.Context, do func(context.Context, *party) error) {
		g, ctx := errgroup.WithContext(ctx)
		for _, at := range sys.parties {
			g.Go(func() error { return do(ctx, at) })
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}
	each(t.Context(), func(ctx context.Context, at *party) error {
		return errors.Join(at.employ(ctx), at.govern(ctx, file))
	})
	t.Cleanup(func() {
		each(context.WithoutCancel(t.Context()), func(ctx context.Context, at *party) error {
			return at.govern(ctx, "--profile", "scopes")
		})
	})
	t.Run("scopes", testScopes)
	t.Run("policies", testPolicies)
	t.Run("matrix", testMatrix)
	t.Run("consents", testConsents)
}

// A chart is a patient in ward 1, whose care team are dr1 and dr3.
type chart struct{ patient, team, encounter, note, lab string }

// chart stores one, under ids that nothing has.
func (p *probe) chart(at *party) chart {
	p.Helper()
	id := p.fresh("chart")
	c := chart{id, id + "-team", id + "-stay", id + "-note", id + "-lab"}
	p.put(at, "Patient", c.patient, `"name":[{"family":"Chart"}],"birthDate":"1971-02-03","telecom":[{"system":"phone","value":"555-`+id+`"}],"address":[{"city":"`+id+`"}]`)
	p.put(at, "CareTeam", c.team, teamOf(c.patient, "dr1", "dr3"))
	p.put(at, "Encounter", c.encounter, `"status":"in-progress","class":{"code":"IMP"},"subject":{"reference":"Patient/`+id+`"},"location":[{"location":{"reference":"Location/ward-1"}}]`)
	p.put(at, "Observation", c.note, `"status":"final","code":{"text":"x"},"category":[{"coding":[{"code":"vital-signs"}]}],"subject":{"reference":"Patient/`+id+`"}`)
	p.put(at, "Observation", c.lab, `"status":"final","code":{"text":"x"},"category":[{"coding":[{"code":"laboratory"}]}],"subject":{"reference":"Patient/`+id+`"}`)
	return c
}

func teamOf(patient string, members ...string) string {
	var list []string
	for _, m := range members {
		list = append(list, `{"member":{"reference":"Practitioner/`+m+`"}}`)
	}
	return `"status":"active","subject":{"reference":"Patient/` + patient + `"},"participant":[` + strings.Join(list, ",") + `]`
}

// put stores a resource of the members, as a system that may do all.
func (p *probe) put(at *party, on, id, members string) {
	p.Helper()
	p.want(p.send(p.of(at, "backend", "PUT", "/"+on+"/"+id, `{"resourceType":"`+on+`","id":"`+id+`",`+members+`}`)), 200, 201)
}

// paths lead to a resource about a patient. Those with a body are batches.
func paths(on, id, patient string) []string {
	return []string{
		"/" + on + "/" + id, "/" + on + "/" + id + "/_history", "/" + on + "/" + id + "/_history/1", "/" + on + "?_id=" + id, "/" + on + "?_id=" + id + "&_sort=-_lastUpdated&_elements=id",
		"/" + on + "?_id=" + id + "&_total=accurate&_summary=count", "/" + on + "?_id=" + id + "&_count=0&_total=accurate", "/" + on + "?patient=" + patient + "&_count=200",
		"/Patient/" + patient + "/" + on, "/Patient/" + patient + "/*?_count=200", "/Patient?_id=" + patient + "&_revinclude=" + on + ":patient", "/Patient?_id=" + patient + "&_has:" + on + ":patient:_id=" + id,
		"/Provenance?target=" + on + "/" + id + "&_include=Provenance:target", "/" + on + "/_history?_count=50", "/_history?_count=50", "?_type=" + on + "&_id=" + id,
		"/Patient/" + patient + "/$everything?_count=200", "/" + on + "/" + id + "/$meta", "/" + on + "/$lastn?patient=" + patient,
		"/$graphql?query={" + on + "(id:%22" + id + "%22){id%20meta{versionId}}}", "/" + on + "?_filter=_id%20eq%20" + id,
	}
}

// hidden fails if any path leads the actor to the resource.
func (p *probe) hidden(who, on, id, patient string) {
	p.Helper()
	for _, path := range paths(on, id, patient) {
		r := p.get(who, path)
		if r.status == 200 && p.shows(r, on, id) {
			p.Errorf("%s: %s shows it: %s", who, path, r)
		}
	}
	r := p.send(p.as(who, "POST", "", attacks.Batch("batch", attacks.Ask("GET", on+"/"+id), attacks.Ask("GET", on+"?_id="+id))))
	if r.status == 200 && p.shows(r, on, id) {
		p.Errorf("%s: a batch shows it: %s", who, r)
	}
	never := strings.Repeat("z", len(id))
	p.same("read", p.get(who, "/"+on+"/"+never), p.get(who, "/"+on+"/"+id))
}

// shows reports whether an answer holds the resource, or counts it.
func (p *probe) shows(r *reply, on, id string) bool {
	p.Helper()
	var whole struct {
		Total *int
		Data  map[string]any
	}
	if json.Unmarshal(r.body, &whole) != nil {
		p.Fatalf("not JSON: %s", r)
	}
	return whole.Total != nil && *whole.Total > 0 && !bytes.Contains(r.body, []byte(`"entry"`)) ||
		bytes.Contains(r.body, []byte(`"resourceType":"`+on+`","id":"`+id+`"`)) || bytes.Contains(r.body, []byte(`"id":"`+id+`"`))
}

// seen fails unless the actor can read each and find it.
func (p *probe) seen(who string, refs ...string) {
	p.Helper()
	for _, ref := range refs {
		on, id, _ := strings.Cut(ref, "/")
		p.want(p.get(who, "/"+ref), 200)
		if b := p.bundle(p.get(who, "/"+on+"?_id="+id)); !slices.Equal(b.refs(), []string{ref}) {
			p.Errorf("%s finds %v, want %s", who, b.refs(), ref)
		}
	}
}

func testScopes(t *testing.T) {
	once(t, "T230 T233 a scope for a type opens no other", func(p *probe) {
		c := p.chart(p.attacker)
		app := p.granted(p.attacker, "scope", "launch/patient patient/Observation.rs", "client_id", "app")
		for _, path := range paths("Encounter", "e1", "p1") {
			r := p.bearing(p.attacker, app.AccessToken, path)
			if r.status == 200 && bytes.Contains(r.body, []byte(`"resourceType":"Encounter"`)) {
				p.Errorf("%s: %s", path, r)
			}
		}
		p.want(p.bearing(p.attacker, app.AccessToken, "/Observation/"+c.note), 404)
		p.want(p.bearing(p.attacker, app.AccessToken, "/Condition?patient=p1"), 403)
	})

	once(t, "T234 what two tokens allow is allowed to neither", func(p *probe) {
		all, err := p.attacker.actors["backend"].Token(p.Context())
		if err != nil {
			p.Fatal(err)
		}
		app := p.granted(p.attacker, "scope", "launch/patient patient/Observation.rs")
		two := &call{method: "GET", url: p.attacker.base + "/Patient/p1", header: map[string][]string{"Authorization": {"Bearer " + app.AccessToken, "Bearer " + all}}, either: p.attacker}
		p.want(p.send(two), 400, 401)
		p.want(p.bearing(p.attacker, app.AccessToken+", Bearer "+all, "/Patient/p1"), 400, 401)
		p.want(p.bearing(p.attacker, app.AccessToken, "/Patient/p1?access_token="+all), 400, 403)
		p.want(p.send(&call{method: "POST", url: p.attacker.base + "/Patient/_search", body: "access_token=" + all, header: map[string][]string{"Content-Type": {"application/x-www-form-urlencoded"}}}), 401)
	})
}

func testPolicies(t *testing.T) {
	once(t, "T238 of a nurse's team, shift and place each counts", func(p *probe) {
		c := p.chart(p.attacker)
		all := []string{"Patient/" + c.patient, "Observation/" + c.note, "Observation/" + c.lab, "Encounter/" + c.encounter, "CareTeam/" + c.team}
		p.seen("nurse", all...)
		for who, failed := range map[string]string{"off-shift": "shift", "elsewhere": "location", "visiting": "facility", "other-nurse": "care-team"} {
			r := p.want(p.get(who, "/Patient/"+c.patient), 403, 404)
			if bytes.Contains(r.body, []byte(failed)) {
				p.Errorf("%s is told by what they are refused: %s", who, r)
			}
			event := p.bundle(p.get("auditor", "/AuditEvent?_count=1&patient=Patient/"+c.patient)).Entry[0].Resource
			if !strings.Contains(string(event), "failed: "+failed+`"`) {
				p.Errorf("the trail does not say that %s failed by %s: %s", who, failed, event)
			}
			p.hidden(who, "Observation", c.note, c.patient)
			p.hidden(who, "Patient", c.patient, c.patient)
			for _, ref := range all {
				p.want(p.get(who, "/"+ref), 403, 404)
			}
		}
		for _, header := range [][]string{{"X-Purpose-Of-Use", "TREAT"}, {"Purpose-Of-Use", "ETREAT"}, {"X-Break-Glass", "true"}, {"X-User-Role", "physician"}} {
			p.want(p.send(p.as("off-shift", "GET", "/"+all[1]).with(header...)), 403, 404)
		}
	})

	breakout(t, "T240 what somebody is at one tenant they are not at another", func(p *probe) {
		c := p.chart(p.victim)
		p.put(p.attacker, "Patient", c.patient, `"name":[{"family":"Namesake"}]`)
		p.want(p.send(p.of(p.victim, "treating", "GET", "/Patient/"+c.patient)), 200)
		p.writes = true // the chart of the victim
		p.hidden("roleless", "Patient", c.patient, c.patient)
		p.hidden("treating", "Patient", c.patient, c.patient)
		p.alert(crossTenant, 1)
		p.want(p.send(p.as("treating", "GET", p.victim.base+"/Patient/"+c.patient)), 403)
	})

	once(t, "T241 nobody lets themselves in", func(p *probe) {
		c := p.chart(p.attacker)
		self := `"Practitioner/dr2"`
		id := p.fresh("self")
		body := func(on, members string) string {
			return `{"resourceType":"` + on + `","id":"` + id + `",` + members + `}`
		}
		subject := `"subject":{"reference":"Patient/` + c.patient + `"}`
		for on, members := range map[string]string{
			"CareTeam":         teamOf(c.patient, "dr2"),
			"Encounter":        `"status":"in-progress","class":{"code":"IMP"},` + subject + `,"participant":[{"individual":{"reference":` + self + `}}]`,
			"Observation":      `"status":"final","code":{"text":"x"},` + subject + `,"performer":[{"reference":` + self + `}]`,
			"Consent":          `"status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],"policyRule":{"text":"x"},"patient":{"reference":"Patient/` + c.patient + `"},"provision":{"type":"permit","actor":[{"role":{"text":"x"},"reference":{"reference":` + self + `}}]}`,
			"Group":            `"type":"person","actual":true,"member":[{"entity":{"reference":"Patient/` + c.patient + `"}},{"entity":{"reference":` + self + `}}]`,
			"PractitionerRole": `"active":true,"practitioner":{"reference":` + self + `}`,
			"Task":             `"status":"requested","intent":"order","for":{"reference":"Patient/` + c.patient + `"},"owner":{"reference":` + self + `}`,
		} {
			for _, call := range []*call{
				p.as("stranger", "PUT", "/"+on+"/"+id, body(on, members)), p.as("stranger", "POST", "/"+on, body(on, members)),
				p.as("stranger", "POST", "", attacks.Batch("transaction", attacks.Give("PUT", on+"/"+id, body(on, members)), attacks.Ask("GET", "Observation/"+c.note))),
			} {
				if r := p.send(call); r.status < 400 || r.status >= 500 {
					p.Errorf("%s: %s answers %s", on, call.method, r)
				}
			}
		}
		p.want(p.send(p.as("stranger", "PUT", "/CareTeam/"+c.team, `{"resourceType":"CareTeam","id":"`+c.team+`",`+teamOf(c.patient, "dr2")+`}`)), 404)
		p.want(p.send(p.as("stranger", "PATCH", "/Patient/"+c.patient, `[{"op":"add","path":"/generalPractitioner","value":[{"reference":`+self+`}]}]`)), 404)
		// A resource of their own patient that becomes one of another's.
		own := p.chart(p.attacker)
		p.put(p.attacker, "CareTeam", own.team, teamOf(own.patient, "dr2"))
		p.want(p.send(p.as("stranger", "PUT", "/CareTeam/"+own.team, `{"resourceType":"CareTeam","id":"`+own.team+`",`+teamOf(c.patient, "dr2")+`}`)), 403)
		p.want(p.send(p.as("stranger", "PUT", "/Observation/"+own.note, labResult(own.note, c.patient, "laboratory", "x"))), 403)
		p.hidden("stranger", "Observation", c.note, c.patient)
	})

	once(t, "T061 T236 who has left the team never sees what is written then", func(p *probe) {
		c := p.chart(p.attacker)
		for round := range 8 {
			p.put(p.attacker, "CareTeam", c.team, teamOf(c.patient, "dr1", "dr3"))
			p.want(p.get("treating", "/Observation/"+c.note), 200)
			note := fmt.Sprintf("%s-%d", c.note, round)
			g, ctx := errgroup.WithContext(p.Context())
			left := make(chan struct{})
			for i := range 4 {
				g.Go(func() error {
					for {
						r, err := p.try(p.as("treating", "GET", []string{"/Observation/" + note, "/Observation?patient=" + c.patient, "/Observation?_id=" + note, "/Patient/" + c.patient + "/$everything"}[i]))
						if err != nil {
							return err
						}
						if bytes.Contains(r.body, []byte(`"id":"`+note+`"`)) {
							return fmt.Errorf("round %d: %s", round, r)
						}
						select {
						case <-left:
							return nil
						case <-ctx.Done():
							return nil
						default:
						}
					}
				})
			}
			p.put(p.attacker, "CareTeam", c.team, teamOf(c.patient, "dr3"))
			p.put(p.attacker, "Observation", note, `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/`+c.patient+`"}`)
			p.want(p.get("treating", "/Observation/"+note), 404)
			close(left)
			if err := g.Wait(); err != nil {
				p.Error(err)
			}
		}
		p.hidden("treating", "Observation", c.note, c.patient)
	})

	once(t, "T237 a team that ends lets nobody in from then on", func(p *probe) {
		c := p.chart(p.attacker)
		end := time.Now().Add(3 * time.Second).UTC()
		p.put(p.attacker, "CareTeam", c.team, teamOf(c.patient, "dr1")+`,"period":{"end":"`+end.Format("2006-01-02T15:04:05Z")+`"}`)
		if r := p.get("treating", "/Patient/"+c.patient); r.status != 200 && time.Now().Before(end) {
			p.Errorf("before it ends: %s", r)
		}
		time.Sleep(time.Until(end.Add(1100 * time.Millisecond))) // the second that it ends in counts
		p.hidden("treating", "Patient", c.patient, c.patient)
	})

	once(t, "T062 T248 a label that comes later hides the past as well", func(p *probe) {
		c := p.chart(p.attacker)
		members := `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/` + c.patient + `"}`
		p.put(p.attacker, "Observation", c.note, members)
		p.put(p.attacker, "Observation", c.note, members+`,"language":"en"`)
		p.want(p.get("treating", "/Observation/"+c.note+"/_history/1"), 200)
		next := p.bundle(p.get("treating", "/Observation?patient="+c.patient+"&_count=1&_sort=_id")).next()
		kept := p.later("treating", "/Observation?patient="+c.patient)
		p.put(p.attacker, "Observation", c.note, members+`,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}`)
		p.hidden("treating", "Observation", c.note, c.patient)
		p.want(p.get("treating", "/Observation/"+c.note+"/_history/2"), 404)
		if r := p.send(p.as("treating", "GET", next)); r.status == 200 && p.shows(r, "Observation", c.note) {
			p.Errorf("a page from before shows it: %s", r)
		}
		p.want(p.get("treating", kept), 410)
		p.seen("treating", "Observation/"+c.lab)
		p.want(p.get("backend", "/Observation/"+c.note), 200)
	})

	once(t, "T093 a masked element is not shown, searched by or sorted by", func(p *probe) {
		c := p.chart(p.attacker)
		for _, path := range paths("Patient", c.patient, c.patient) {
			r := p.get("desk", path)
			for _, word := range []string{"1971-02-03", "555-" + c.patient, `"city"`} {
				if bytes.Contains(r.body, []byte(word)) {
					p.Errorf("%s shows %s: %s", path, word, r)
				}
			}
		}
		for _, path := range []string{"/Patient/" + c.patient + "?_elements=birthDate,name", "/Patient?_id=" + c.patient + "&_elements=birthDate", "/Patient?_id=" + c.patient + "&_summary=true",
			"/$graphql?query={Patient(id:%22" + c.patient + "%22){id%20birthDate%20telecom{value}}}"} {
			if r := p.want(p.get("desk", path), 200); bytes.Contains(r.body, []byte("1971-02-03")) || bytes.Contains(r.body, []byte("555-")) {
				p.Errorf("%s: %s", path, r)
			}
		}
		for _, query := range []string{"birthdate=1971-02-03", "birthdate:missing=true", "telecom=555-" + c.patient, "phone=1", "address=" + c.patient, "address-city=x", "_sort=birthdate", "_sort=-address-city",
			"_filter=birthdate%20lt%202000", "_content=" + c.patient} {
			hit, miss := p.want(p.get("desk", "/Patient?"+query), 403), p.get("desk", "/Patient?"+strings.ReplaceAll(query, c.patient, "zzz"))
			p.same(query, miss, hit)
		}
		p.seen("desk", "Patient/"+c.patient)
	})

	once(t, "T250 a rule that forbids beats those that permit, and no rule permits nothing", func(p *probe) {
		c := p.chart(p.attacker)
		back := policyFile(p, moreRules)
		defer func() {
			if err := p.attacker.govern(context.WithoutCancel(p.Context()), back); err != nil {
				p.Error(err)
			}
		}()
		file := filepath.Join(p.TempDir(), "few.cedar")
		few := `@id("yes") permit (principal in Role::"physician", action, resource); @id("no") forbid (principal in Role::"physician", action, resource is Observation);
			@id("trail") permit (principal in Role::"auditor", action, resource is AuditEvent);`
		if err := os.WriteFile(file, []byte(few), 0o600); err != nil {
			p.Fatal(err)
		}
		if err := p.attacker.govern(p.Context(), file); err != nil {
			p.Fatal(err)
		}
		p.want(p.get("treating", "/Patient/"+c.patient), 200)
		p.want(p.get("treating", "/Observation/"+c.note), 403)
		p.want(p.get("treating", "/Observation?patient="+c.patient), 403)
		for text, taken := range map[string]bool{
			`@id("x") permit (principal, action, resource) when { resource.ssn == "1" };`:                false,
			`@id("x") permit (principal, action, resource) when { context.nonsense };`:                   false,
			`@id("x") permit (principal, action, resource) unless { principal.nobody == "" };`:           false,
			`permit (principal, action, resource`:                                                        false,
			`@id("only") permit (principal in Role::"nobody-has-it", action, resource is Practitioner);`: true,
		} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				p.Fatal(err)
			}
			err := p.attacker.govern(p.Context(), file)
			if taken != (err == nil) {
				p.Errorf("%s: %v", text, err)
			}
		}
		for _, who := range []string{"backend", "reader", "treating", "nurse", "pA", "auditor"} {
			for _, path := range []string{"/Patient/p1", "/Patient", "/Observation/" + c.note, "/AuditEvent", "/_history", "/Practitioner/dr1"} {
				p.want(p.get(who, path), 403)
			}
		}
	})

	// CP-11
	once(t, "T153 T154 a policy that cannot be had lets nobody in", func(p *probe) {
		conn, err := sys.asSuperuser(p.Context(), "cordon_registry")
		if err != nil {
			p.Fatal(err)
		}
		sql := func(text string) {
			if _, err := conn.Exec(context.WithoutCancel(p.Context()), text, p.attacker.number); err != nil {
				p.Fatal(err)
			}
		}
		sql(`UPDATE registry.tenant SET policy_version = policy_version + 1 WHERE id = $1`)
		defer func() {
			sql(`UPDATE registry.tenant SET policy_version = policy_version - 1 WHERE id = $1`)
			p.until("the policy is back", func() bool { return p.broken("reader", "/Patient/p1").status == 200 })
		}()
		p.until("the policy is gone", func() bool { return p.broken("reader", "/Patient/p1").status != 200 })
		for _, who := range []string{"backend", "reader", "treating", "pA"} {
			for _, path := range []string{"/Patient/p1", "/Patient", "/Observation?patient=p1", "/_history", "/Patient/p1/$everything"} {
				if r := p.broken(who, path); r.status < 400 {
					p.Errorf("%s: %s answers %s", who, path, r)
				}
			}
		}
		p.want(p.send(p.of(p.victim, "reader", "GET", "/Patient/p1")), 200)
	})
}

// acts are interactions by their letter in SMART scopes, each as a request that finds
// nothing, and what it answers whom it is allowed.
var acts = []struct {
	letter, method, path string
	allowed              int
}{
	{"r", "GET", "/%s/nobody-made-it", 404},
	{"d", "DELETE", "/%s/nobody-made-it", 404},
	{"s", "GET", "/%s?_count=1", 200},
}

// bare are types of which a resource needs no element: those of others are refused
// for their body before anybody is asked who may write them.
var bare = []string{"HealthcareService", "Location", "Medication", "Patient", "Practitioner", "PractitionerRole", "Specimen"}

// AUTHZ-22: what the control plane states of who may do what, type by interaction by
// person, is what the server answers. Each mode asks a part of it, so that together
// they have each person and type.
func testMatrix(t *testing.T) {
	turn := 0
	once(t, "what evidence says of who may do what is what the server answers", func(p *probe) {
		turn++
		dir := filepath.Join(p.TempDir(), "evidence")
		p.cordon("evidence", "--no-audit", "--tenant", p.attacker.slug, dir)
		text, err := os.ReadFile(filepath.Join(dir, "facts.json"))
		if err != nil {
			p.Fatal(err)
		}
		var facts struct {
			Principals []struct {
				ID      string
				Allowed map[string]string
			}
		}
		if err := json.Unmarshal(text, &facts); err != nil {
			p.Fatal(err)
		}
		allowed := map[string]map[string]string{}
		var types []string // that anybody may do anything with
		for _, who := range facts.Principals {
			allowed[who.ID] = who.Allowed
			types = slices.AppendSeq(types, maps.Keys(who.Allowed))
		}
		slices.Sort(types)
		types = slices.Compact(types)
		for i, who := range staff {
			for j, on := range types {
				if (i+j)%6 == turn {
					p.asStated(who.id, on, (i+j/6)%len(acts), allowed[who.id][on])
				}
			}
			for _, on := range bare {
				p.want(p.send(p.as(who.id, "POST", "/"+on, `{"resourceType":"`+on+`"}`)), allowing(allowed[who.id][on], "c", 201)...)
			}
		}
		if len(types) < 140 {
			p.Errorf("%d types", len(types))
		}
	})
}

// asStated tries an interaction on the type, of which the letters are stated.
func (p *probe) asStated(who, on string, n int, letters string) {
	p.Helper()
	act := acts[n]
	want := allowing(letters, act.letter, act.allowed)
	if strings.Contains(letters, act.letter) {
		want = []int{act.allowed} // of what is not there nobody says more
	}
	if on == "AuditEvent" && act.letter == "d" {
		want = append(want, 405)
	}
	p.want(p.send(p.as(who, act.method, fmt.Sprintf(act.path, on))), want...)
}

// allowing is what an interaction answers by what is stated: of every resource, of
// some, or of none.
func allowing(letters, letter string, allowed int) []int {
	switch {
	case strings.Contains(letters, strings.ToUpper(letter)):
		return []int{allowed}
	case strings.Contains(letters, letter):
		return []int{allowed, 403}
	}
	return []int{403}
}

// broken reads from a tenant that may answer 500 and more.
func (p *probe) broken(who, path string) *reply {
	p.Helper()
	c := p.as(who, "GET", path)
	c.mayFail = true
	return p.send(c)
}

// A privacy consent of the patient in this status, with the provision.
func privacy(patient, status, provision string) string {
	return `"status":"` + status + `","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"privacy"}],"policyRule":{"coding":[{"code":"OPTIN"}]},` +
		`"patient":{"reference":"Patient/` + patient + `"},"provision":` + provision
}

func testConsents(t *testing.T) {
	once(t, "T246 T247 a consent counts with the next request, on every path", func(p *probe) {
		c := p.chart(p.attacker)
		consent := p.fresh("consent")
		deny := `{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"Practitioner/dr1"}}]}`
		next := p.bundle(p.get("treating", "/Observation?patient="+c.patient+"&_count=1")).next()
		kept := p.later("treating", "/Observation?patient="+c.patient)
		for range 12 {
			p.put(p.attacker, "Consent", consent, privacy(c.patient, "active", deny))
			p.want(p.get("treating", "/Observation/"+c.note), 404)
			if b := p.bundle(p.get("treating", "/Observation?patient="+c.patient)); len(b.Entry) > 0 {
				p.Errorf("found %v", b.refs())
			}
			p.put(p.attacker, "Consent", consent, privacy(c.patient, "inactive", deny))
			p.want(p.get("treating", "/Observation/"+c.note), 200)
		}
		p.put(p.attacker, "Consent", consent, privacy(c.patient, "active", deny))
		p.hidden("treating", "Observation", c.note, c.patient)
		p.hidden("treating", "Patient", c.patient, c.patient)
		if r := p.send(p.as("treating", "GET", next)); r.status == 200 && (p.shows(r, "Observation", c.note) || p.shows(r, "Observation", c.lab)) {
			p.Errorf("a page from before shows it: %s", r)
		}
		p.want(p.get("treating", kept), 410)
		p.seen("nurse", "Observation/"+c.note) // whom it does not name
		// The neighbour's consent of the same id is its own.
		p.want(p.send(p.of(p.victim, "reader", "GET", "/Consent/"+consent)), 404)
	})

	once(t, "T249 a parent does not see what is the child's alone", func(p *probe) {
		consent, visit := p.fresh("consent"), p.fresh("visit")
		p.put(p.attacker, "Encounter", visit, `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]},"status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p1"}`)
		p.want(p.get("parent", "/Patient/p1"), 200)
		p.hidden("parent", "Encounter", visit, "p1") // by the policy
		p.seen("child", "Encounter/"+visit)
		p.put(p.attacker, "Consent", consent, privacy("p1", "active", `{"type":"permit","provision":[{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"RelatedPerson/parent"}}],`+
			`"class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}]}]}`))
		defer p.put(p.attacker, "Consent", consent, privacy("p1", "inactive", `{"type":"permit"}`))
		p.hidden("parent", "Observation", "o1", "p1")
		p.seen("child", "Observation/o1")
		p.want(p.get("parent", "/Patient/p1"), 200)
	})

	// AUD-12
	once(t, "T253 a patient is told of every disclosure, and of no other's", func(p *probe) {
		c, other := p.chart(p.attacker), p.chart(p.attacker)
		var told []string
		for _, path := range paths("Observation", c.note, c.patient) {
			if r := p.get("treating", path); r.status == 200 && bytes.Contains(r.body, []byte(`"id":"`+c.note+`"`)) {
				told = append(told, r.id)
			}
		}
		unrelated := []string{p.want(p.get("treating", "/Observation/"+other.note), 200).id, p.want(p.get("treating", "/Practitioner/dr1"), 200).id}
		found := map[string]bool{}
		for next := p.attacker.base + "/AuditEvent?_count=1000&patient=Patient/" + c.patient; next != ""; {
			b := p.bundle(p.send(p.as("auditor", "GET", next)))
			for _, e := range b.Entry {
				event, _ := readEvent(p, e.Resource)
				found[event.request] = true
				if bytes.Contains(e.Resource, []byte("Patient/"+other.patient+`"`)) {
					p.Errorf("an entry is about another: %s", e.Resource)
				}
			}
			next = b.next()
		}
		for _, id := range told {
			if !found[id] {
				p.Errorf("a disclosure is not told: %s", sys.logOf(id))
			}
		}
		for _, id := range unrelated {
			if found[id] {
				p.Errorf("what is no disclosure is told: %s", sys.logOf(id))
			}
		}
		if len(told) < 10 {
			p.Errorf("%d disclosures", len(told))
		}
	})
}
