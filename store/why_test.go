package store_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// wardPolicy is one of every kind of rule.
const wardPolicy = `@id("system")
permit (principal == Client::"tester", action, resource);
@id("team")
@mask("Patient.telecom")
permit (principal is User, action, resource) when { resource.careTeam.contains(principal.user) };
@id("psy")
forbid (principal is User, action, resource) when { resource.labels.contains("PSY") };
@id("doctor")
permit (principal is User, action, resource) when { resource.generalPractitioner.contains(principal.user) };`

// ward makes a tenant with patients in and out of care.
func (d *door) ward(t testing.TB, slug string) {
	t.Helper()
	d.governed(t, slug)
	d.choose(t, slug, wardPolicy)
	for _, p := range []string{"in", "out"} {
		d.put(t, slug, "Patient/"+p, `{"resourceType":"Patient","id":%q}`, p)
		for name, label := range map[string]string{"o-": "", "psy-": `"meta":{"security":[{"code":"PSY"}]},`} {
			d.put(t, slug, "Observation/"+name+p, `{"resourceType":"Observation","id":"%s%s",%s"status":"final","code":{"text":"secretword"},"subject":{"reference":"Patient/%s"}}`, name, p, label, p)
		}
	}
	d.team(t, slug, "active")
}

func (d *door) team(t testing.TB, slug, status string) {
	t.Helper()
	d.put(t, slug, "CareTeam/ct", `{"resourceType":"CareTeam","id":"ct","status":%q,"subject":{"reference":"Patient/in"},"participant":[{"member":{"reference":"Practitioner/u"}}]}`, status)
}

var nurse = smart.Asker{Client: "app", User: "Practitioner/u", Scope: "user/*.rs", Purpose: "TREAT"}

func (d *door) why(t testing.TB, slug string, q store.AccessQuestion) *store.Explanation {
	t.Helper()
	e, err := d.db.Why(t.Context(), smart.Inquiry(d.Tenant(t, slug), "olga", "r9"), q, d.Registry)
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	return e
}

func TestAnAccessIsExplainedStepByStep(t *testing.T) {
	d := openDoor(t)
	const slug = "why-steps"
	d.ward(t, slug)
	d.put(t, slug, "Consent/c", `{"resourceType":"Consent","id":"c","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],
		"policyRule":{"coding":[{"code":"OPTIN"}]},"patient":{"reference":"Patient/in"},
		"provision":{"type":"permit","provision":[{"type":"permit","purpose":[{"code":"TREAT"}]},{"type":"deny","purpose":[{"code":"HRESCH"}]}]}}`)
	as := func(change func(*smart.Asker)) smart.Asker {
		who := nurse
		change(&who)
		return who
	}
	for _, tt := range []struct {
		claim        string
		who          smart.Asker
		ref          string
		decision, by string
		status       int
		says         []string
	}{
		{"a team member", nurse, "Observation/o-in", "allowed", "policy", 200,
			[]string{"scope user/*.rs: reaches it", "rule team (line 3): permits", ", by CareTeam/ct", "rule psy (line 6): does not hold for it", "rule system (line 1): does not apply"}},
		{"not of the team", nurse, "Observation/o-out", "denied", "policy", 404, []string{"rule team (line 3): does not hold for it", "does not hold: Observation.subject to Patient"}},
		{"a label", nurse, "Observation/psy-in", "denied", "policy", 404, []string{"rule psy (line 6): forbids", "meta.security"}},
		{"a mask", nurse, "Patient/in", "allowed", "policy", 200, []string{"mask: hides", "telecom"}},
		{"a consent", as(func(w *smart.Asker) { w.Purpose = "HRESCH" }), "Observation/o-in", "denied", "consent", 404,
			[]string{"consent Consent/c: denies, by Consent.provision.provision[1]"}},
		{"no scope", as(func(w *smart.Asker) { w.Scope = "user/Patient.rs" }), "Observation/o-in", "denied", "scope", 403, []string{"scope: there is none"}},
		{"another patient in context", as(func(w *smart.Asker) { w.Scope, w.Patient = "patient/*.rs", "out" }), "Observation/o-in", "denied", "scope", 404,
			[]string{"does not reach it: who is in context is Patient/out"}},
		{"a patient in context", as(func(w *smart.Asker) { w.Scope, w.Patient = "patient/*.rs", "in" }), "Observation/o-in", "allowed", "policy", 200,
			[]string{"goes with the record of Patient/in, who is in context"}},
		{"what is not there", nurse, "Observation/none", "denied", "resource", 404, []string{"is not there"}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			ref, _ := fhir.ParseRef(tt.ref)
			e := d.why(t, slug, store.AccessQuestion{Who: tt.who, Type: ref.Type, ID: ref.ID})
			text := strings.Join(e.Lines(), "\n")
			if e.Decision != tt.decision || e.By != tt.by || e.Status != tt.status {
				t.Errorf("got %s by %s with %d:\n%s", e.Decision, e.By, e.Status, text)
			}
			for _, want := range tt.says {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
			if strings.Contains(text, "secretword") {
				t.Errorf("it tells what is in the record:\n%s", text)
			}
		})
	}
}

// AUD-14
func TestAnAccessIsExplainedFromTheAuditTrailByThePolicyOfThen(t *testing.T) {
	eachKind := map[string]struct{ ref, decision string }{"allowed": {"Observation/o-in", "allowed"}, "denied": {"Observation/o-out", "denied"}}
	d := openDoor(t)
	const slug = "why-audit"
	d.ward(t, slug)
	entry := func(ref string) string {
		g := d.as(t, slug, smart.Token{Scope: nurse.Scope, Client: nurse.Client, User: nurse.User, Person: smart.Person{Roles: []string{"nurse"}}})
		r, _ := fhir.ParseRef(ref)
		_, _ = d.db.Read(t.Context(), g, r) // whether it may is what is asked
		return audit.Entry{Seq: g.Origin().Trail.Seq}.ID()
	}
	before := map[string]string{}
	for name, k := range eachKind {
		before[name] = entry(k.ref)
	}
	d.choose(t, slug, `@id("system") permit (principal == Client::"tester", action, resource);`)
	d.put(t, slug, "Observation/o-in", `{"resourceType":"Observation","id":"o-in","meta":{"security":[{"code":"PSY"}]},"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/in"}}`)
	d.team(t, slug, "active")
	for name, k := range eachKind {
		e := d.why(t, slug, store.AccessQuestion{Audit: before[name]})
		text := strings.Join(e.Lines(), "\n")
		if e.Decision != k.decision || e.Policy != 2 || e.Interaction != fhir.Read || e.Who.Client != "app" || !slices.Equal(e.Who.Person.Roles, []string{"nurse"}) {
			t.Errorf("%s: got %+v:\n%s", name, e, text)
		}
		if name != "allowed" {
			continue
		}
		for _, want := range []string{"Observation/o-in was changed since, and is taken as it was", "CareTeam/ct was changed since, and is taken as it is now", "the audit trail has: done"} {
			if !strings.Contains(text, want) {
				t.Errorf("it does not say %q:\n%s", want, text)
			}
		}
		if e.Version != 1 {
			t.Errorf("version %d decided", e.Version)
		}
	}
	entry("Observation/none")
	e := d.why(t, slug, store.AccessQuestion{Audit: "r1"}) // of every request here
	if text := strings.Join(e.Lines(), "\n"); e.Resource != "Observation/none" || !strings.Contains(text, "requests have the id") {
		t.Errorf("by the id of the request:\n%s", text)
	}
	if _, err := d.db.Why(t.Context(), smart.Inquiry(d.Tenant(t, slug), "olga", "r9"), store.AccessQuestion{Audit: "r2"}, d.Registry); !fhir.IsCode(err, fhir.NotFound) {
		t.Errorf("a request that never was: %v", err)
	}
	if e := d.why(t, slug, store.AccessQuestion{Audit: entry("Observation/o-in")}); e.Decision != "denied" || e.By != "policy" || e.Policy != 3 || e.Status != 403 {
		t.Errorf("under the next policy: %v", e.Lines())
	}
}

// A request of the past is decided again at its own tenant, and what is told of it
// has nothing of the record; next door there is no such request. AUD-15
func TestARequestIsDecidedAgainAtItsOwnTenantAlone(t *testing.T) {
	d := openDoor(t)
	const own, next = "again-own", "again-next"
	d.ward(t, own)
	d.ward(t, next)
	g := d.as(t, own, smart.Token{Scope: nurse.Scope, Client: nurse.Client, User: nurse.User, Person: smart.Person{Roles: []string{"nurse"}}})
	if _, err := d.db.Read(t.Context(), g, fhir.Ref{Type: "Observation", ID: "o-in"}); err != nil {
		t.Fatal(err)
	}
	asked := store.AccessQuestion{Audit: audit.Entry{Seq: g.Origin().Trail.Seq}.ID()}
	e := d.why(t, own, asked)
	if text := strings.Join(e.Lines(), "\n"); e.Decision != "allowed" || strings.Contains(text, "secretword") {
		t.Errorf("got %s:\n%s", e.Decision, text)
	}
	if e, err := d.db.Why(t.Context(), smart.Inquiry(d.Tenant(t, next), "olga", "r9"), asked, d.Registry); !fhir.IsCode(err, fhir.NotFound) {
		t.Errorf("next door it is explained: %v, %v", e, err)
	}
}

// Who asked about what is in the tenant's own audit trail.
func TestAnExplanationIsAudited(t *testing.T) {
	d := openDoor(t)
	const slug = "why-audited"
	d.ward(t, slug)
	d.why(t, slug, store.AccessQuestion{Who: nurse, Type: "Observation", ID: "o-in"})
	var page *store.AuditPage
	err := d.db.View(t.Context(), d.grant(t, slug, "system/*.rs"), func(v *store.View) (err error) {
		page, err = v.AuditEvents(t.Context(), storetest.Query(t, "AuditEvent", "agent:identifier=olga&patient=Patient/in"), store.Cursor{})
		return err
	})
	if err != nil || len(page.Entries) != 1 {
		t.Fatalf("%v, %v", page, err)
	}
	if e := page.Entries[0]; e.Agent.Client != "cordon-inquiry" || e.Entity.String() != "Observation/o-in" || e.Origin.RequestID != "r9" {
		t.Errorf("got %+v", e)
	}
}

// A Grant of an inquiry opens nothing else, and no other opens an inquiry.
func TestAnInquiryIsADoorOfItsOwn(t *testing.T) {
	d := openDoor(t)
	const slug = "why-door"
	d.ward(t, slug)
	g := smart.Inquiry(d.Tenant(t, slug), "olga", "r9")
	for _, on := range fhir.Types {
		for _, do := range []fhir.Interaction{fhir.Read, fhir.SearchType, fhir.Create, fhir.Update, fhir.Delete, fhir.HistoryInstance, fhir.Operation, "inquire"} {
			if _, err := g.Permit(do, on); err == nil {
				t.Fatalf("%s of %s is permitted", do, on)
			}
		}
	}
	if _, err := d.db.Read(t.Context(), g, fhir.Ref{Type: "Observation", ID: "o-in"}); !fhir.IsCode(err, fhir.Forbidden) {
		t.Errorf("a read: %v", err)
	}
	for name, other := range map[string]*smart.Grant{
		"a token's": d.grant(t, slug, everything), "an index job's": smart.IndexJob(d.Tenant(t, slug)), "of taking up": smart.TakingUp(d.Tenant(t, slug)), "nobody's": {},
	} {
		if _, err := other.PermitInquiry("Patient"); !fhir.IsCode(err, fhir.Forbidden) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.db.Why(t.Context(), d.grant(t, slug, everything), store.AccessQuestion{Type: "Patient", ID: "in"}, d.Registry); !fhir.IsCode(err, fhir.Forbidden) {
		t.Errorf("a client asks why: %v", err)
	}
	if _, err := d.db.DryRun(t.Context(), d.grant(t, slug, everything), store.DryRunQuestion{Types: []fhir.Type{"Patient"}}, d.Registry); !fhir.IsCode(err, fhir.Forbidden) {
		t.Errorf("a client asks for a dry run: %v", err)
	}
}

// drawnConsents are provisions that the patients of the random world give.
var drawnConsents = rapid.Custom(func(t *rapid.T) string {
	pick := func(name string, list ...string) string { return rapid.SampledFrom(list).Draw(t, name) }
	one := func(name string) string {
		return fmt.Sprintf(`"type":%q%s%s%s`, pick(name+"type", "permit", "deny"),
			pick(name+"class", "", `,"class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}]`, `,"class":[{"system":"http://hl7.org/fhir/resource-types","code":"Encounter"}]`),
			pick(name+"label", "", "", `,"securityLabel":[{"code":"R"}]`, `,"securityLabel":[{"code":"V"}]`),
			pick(name+"purpose", "", `,"purpose":[{"code":"TREAT"}]`, `,"purpose":[{"code":"HRESCH"}]`))
	}
	text := one("")
	if rapid.Bool().Draw(t, "nested") {
		text += `,"provision":[{` + one("nested") + `}]`
	}
	return "{" + text + "}"
})

// consents gives the patients of the random world consents.
func (d *door) consents(t testing.TB, slug string, at int) (list []fhir.Resource) {
	t.Helper()
	for i := range 6 {
		provision := drawnConsents.Example(at*7 + i)
		status := []string{"active", "active", "inactive"}[(at+i)%3]
		list = append(list, d.put(t, slug, fmt.Sprintf("Consent/k%d", i), `{"resourceType":"Consent","id":"k%d","status":%q,"scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],
			"policyRule":{"coding":[{"code":"OPTIN"}]},"patient":{"reference":"Patient/p%d"},"provision":%s}`, i, status, i, provision))
	}
	return list
}

// told are the conditions on what a record says.
var told = regexp.MustCompile(`resource\.(labels|categories|openTasks)\.contains(Any|All)?\([^)]*\)`)

// For random policies, scopes, persons and consents an explanation decides as a
// read does. A dry run counts what could be read if no record said anything and
// nobody had given a consent, so what records say does not change it.
func TestExplanationsAndDryRunsDecideAsReadsDo(t *testing.T) {
	d := openDoor(t)
	const slug = "why-random"
	d.governed(t, slug)
	all := d.world(t, slug)
	refs := refsOf(all)
	rounds := 6
	if *long {
		rounds *= 20
	}
	for i := range rounds {
		one := trials.Example(i + 100)
		d.choose(t, slug, one.policy)
		consents := d.consents(t, slug, i)
		who := smart.Asker{Client: one.token.Client, User: one.token.User, Patient: one.token.Patient, Encounter: one.token.Encounter, Scope: one.token.Scope, Person: one.token.Person, Purpose: one.token.Purpose}
		read := map[fhir.Type]int{}
		for _, ref := range refs {
			_, err := d.db.Read(t.Context(), d.as(t, slug, one.token), ref)
			if err == nil {
				read[ref.Type]++
			}
			e := d.why(t, slug, store.AccessQuestion{Who: who, Type: ref.Type, ID: ref.ID})
			status := map[bool]int{true: 404, false: 200}[err != nil]
			if fhir.IsCode(err, fhir.Forbidden) {
				status = 403
			}
			if e.Status != status || (e.Decision == "allowed") != (err == nil) {
				t.Errorf("%s, policy\n%s: read %v, explained %s", ref, one.policy, err, strings.Join(e.Lines(), "\n"))
			}
		}
		count := store.DryRunQuestion{Who: who, Proposed: one.policy + `@id("says") forbid (principal, action, resource)
			when { resource.labels.contains("R") || resource.categories.contains("laboratory") || resource.openTasks.contains("fraud") };`}
		run, err := d.db.DryRun(t.Context(), smart.Inquiry(d.Tenant(t, slug), "olga", "r9"), count, d.Registry)
		if err != nil {
			t.Fatal(err)
		}
		d.saysOtherThings(t, slug, append(consents, all...))
		again, err := d.db.DryRun(t.Context(), smart.Inquiry(d.Tenant(t, slug), "olga", "r9"), count, d.Registry)
		if err != nil || fmt.Sprint(again.Lines()) != fmt.Sprint(run.Lines()) {
			t.Errorf("policy\n%s: what records say is counted:\n%v\n%v, %v", one.policy, run.Lines(), again.Lines(), err)
		}
		d.choose(t, slug, told.ReplaceAllString(one.policy, "false"))
		one.token.Scope = who.Widened().Scope
		read = map[fhir.Type]int{}
		for _, ref := range refs {
			if _, err := d.db.Read(t.Context(), d.as(t, slug, one.token), ref); err == nil {
				read[ref.Type]++
			}
		}
		d.world(t, slug)
		for _, c := range run.Types {
			not := 0
			for _, n := range c.InForce.Not {
				not += n
			}
			if c.Type != "Consent" && c.InForce.Seen != read[c.Type] || not+c.InForce.Seen != c.Examined {
				t.Errorf("policy\n%s: %+v, read %d", one.policy, c, read[c.Type])
			}
		}
	}
}

// saysOtherThings ends the consents among the resources, takes from the others the
// labels, categories and open Tasks that they have, and gives some to those without.
func (d *door) saysOtherThings(t *testing.T, slug string, list []fhir.Resource) {
	t.Helper()
	swap := strings.NewReplacer(`"code":"R"`, `"code":"N"`, `"code":"V"`, `"code":"R"`, `"laboratory"`, `"vital-signs"`, `"vital-signs"`, `"laboratory"`,
		`"requested"`, `"completed"`, `"completed"`, `"requested"`, `"status":"active","scope"`, `"status":"inactive","scope"`)
	for _, r := range list {
		if text := swap.Replace(string(r.Body)); text != string(r.Body) {
			d.put(t, slug, r.Ref.String(), "%s", text)
		}
	}
}

func TestADryRunTellsWhatAProposedPolicyWouldChange(t *testing.T) {
	d := openDoor(t)
	const slug = "dry-run"
	d.ward(t, slug)
	ask := func(q store.DryRunQuestion) *store.DryRun {
		t.Helper()
		run, err := d.db.DryRun(t.Context(), smart.Inquiry(d.Tenant(t, slug), "olga", "r9"), q, d.Registry)
		if err != nil {
			t.Fatal(err)
		}
		return run
	}
	proposed := strings.Replace(wardPolicy, `when { resource.careTeam.contains(principal.user) }`, `when { resource.careTeam.contains(principal.user) || resource.id == "o-out" }`, 1) + `
@id("aide") permit (principal in Role::"aide", action, resource) when { resource is Patient };`
	run := ask(store.DryRunQuestion{Who: nurse, Types: []fhir.Type{"Observation"}, Proposed: proposed})
	want := "Observation: sees 2 of 4, 2 kept by policy: no rule permits; proposed: 3, 1 kept by policy: no rule permits, 1 gained, 0 lost\n" +
		"counted as if no record had the labels, categories or Tasks that these rules ask for: psy\n"
	if got := strings.Join(run.Lines(), "\n"); !strings.HasPrefix(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	run = ask(store.DryRunQuestion{Who: smart.Asker{User: "Practitioner/x", Scope: "user/*.rs"}, Types: []fhir.Type{"Patient"}, Proposed: proposed, EachRole: true})
	if len(run.Types) != 1 || run.Types[0].Role != "aide" || run.Types[0].Gained != 2 {
		t.Errorf("each role: %+v", run.Types)
	}
	run = ask(store.DryRunQuestion{Who: nurse, Limit: 1})
	for _, c := range run.Types {
		if c.Examined != 1 || !c.More && c.Type != "CareTeam" {
			t.Errorf("one of each type: %+v", c)
		}
	}
	for name, q := range map[string]store.DryRunQuestion{
		"a policy that is none": {Proposed: "permit"}, "a limit": {Limit: 5000}, "a type": {Types: []fhir.Type{"Nothing"}}, "a user": {Who: smart.Asker{User: "somebody"}}, "a scope": {Who: smart.Asker{Scope: "all"}},
	} {
		_, err := d.db.DryRun(t.Context(), smart.Inquiry(d.Tenant(t, slug), "olga", "r9"), q, d.Registry)
		if _, ok := errors.AsType[*fhir.Error](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The control plane asks, and a server that serves the tenant answers.
func TestAnInquiryIsAnsweredByAServer(t *testing.T) {
	d := openDoor(t)
	const slug = "why-asked"
	d.ward(t, slug)
	if _, err := d.Registry.PutClient(t.Context(), d.Tenant(t, slug), smart.Client{ID: "narrow", Scopes: []string{"system/Observation.rs?status=final"}}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	x := &store.Inquirer{DB: d.db, Registry: d.Registry, Every: 5 * time.Millisecond,
		Tenants: func(context.Context) ([]*tenant.Tenant, error) { return []*tenant.Tenant{d.Tenant(t, slug)}, nil }}
	go func() { x.Run(ctx); close(done) }()
	defer func() { stop(); <-done }()
	wait, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a, err := d.Migrator.Inquire(wait, slug, store.Inquiry{Operator: "olga", Request: "r1", Access: &store.AccessQuestion{Who: nurse, Type: "Observation", ID: "o-in"}})
	if err != nil || a.Access == nil || a.Access.Decision != "allowed" {
		t.Fatalf("%+v, %v", a, err)
	}
	// What a record holds is not to be found out by scopes that ask for it.
	for _, who := range []smart.Asker{
		{Patient: "in", Scope: "patient/Observation.rs?code=http://loinc.org|1-8"}, {Client: "narrow", Scope: "system/Observation.rs?code=http://loinc.org|1-8"},
		{Client: "narrow", Scope: "system/Observation.rs?status=final system/Patient.rs?birthdate=1970-05-05"},
	} {
		for _, q := range []store.Inquiry{
			{Operator: "olga", Access: &store.AccessQuestion{Who: who, Type: "Observation", ID: "o-in"}},
			{Operator: "olga", DryRun: &store.DryRunQuestion{Who: who, Types: []fhir.Type{"Observation"}}},
		} {
			if _, err := d.Migrator.Inquire(wait, slug, q); !fhir.IsCode(err, fhir.Forbidden) {
				t.Errorf("%s: %v", who.Scope, err)
			}
		}
	}
	registered := smart.Asker{Client: "narrow", Scope: "system/Observation.rs?status=final"}
	if a, err = d.Migrator.Inquire(wait, slug, store.Inquiry{Operator: "olga", Access: &store.AccessQuestion{Who: registered, Type: "Observation", ID: "o-in"}}); err != nil || a.Access == nil {
		t.Errorf("a scope that the client has: %+v, %v", a, err)
	}
	_, err = d.Migrator.Inquire(wait, slug, store.Inquiry{Operator: "olga", Access: &store.AccessQuestion{Audit: "none"}})
	if !fhir.IsCode(err, fhir.NotFound) {
		t.Errorf("an entry that is not there: %v", err)
	}
	if _, err = d.Migrator.Inquire(wait, "nobody-at-all", store.Inquiry{}); !errors.Is(err, tenant.ErrUnknown) {
		t.Errorf("no tenant: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = d.Migrator.Inquire(short, "alpha-one", store.Inquiry{Access: &store.AccessQuestion{Type: "Patient"}}); !fhir.IsCode(err, fhir.Transient) {
		t.Errorf("a tenant that no server serves: %v", err)
	}
}

// AUTHZ-13: a search along a chain is explained by what the chain leads to.
func TestASearchAlongAChainIsExplained(t *testing.T) {
	d := openDoor(t)
	const slug = "why-chain"
	d.ward(t, slug)
	psy := func(who smart.Asker, scope string) smart.Asker {
		who.Scope = scope
		return who
	}
	for _, tt := range []struct {
		claim, query, ref, decision, by string
		who                             smart.Asker
		status                          int
		says                            []string
	}{
		{"by what may be seen", "_has:Observation:patient:status=final", "Patient/in", "allowed", "policy", nurse, 200,
			[]string{"chain Observation/o-in: is led to, and may be seen", "of Observation/o-in, rule team (line 3): permits", "chain Observation/psy-in: is led to, and hidden: decided by policy", "of Observation/psy-in, rule psy (line 6): forbids"}},
		{"by what is hidden", "_has:Observation:patient:_id=psy-in", "Patient/in", "denied", "chain", nurse, 404,
			[]string{"chain Observation/psy-in: is led to, and hidden"}},
		{"by nothing", "_has:Observation:patient:status=amended", "Patient/in", "denied", "chain", nurse, 404, []string{"chain Observation: leads to nothing"}},
		{"back again", "_has:Observation:patient:subject:Patient._id=in", "Patient/in", "allowed", "policy", nurse, 200, []string{"chain Patient/in: is led to, and may be seen"}},
		{"forth", "subject:Patient._id=in&status=final", "Observation/o-in", "allowed", "policy", nurse, 200, []string{"chain Patient/in: is led to, and may be seen"}},
		{"of a type without a scope", "_has:Observation:patient:status=final", "Patient/in", "denied", "scope", psy(nurse, "user/Patient.rs"), 403, []string{"of Observation, scope: there is none"}},
		{"of what is hidden itself", "_has:Observation:patient:status=final", "Patient/out", "denied", "policy", nurse, 404, nil},
		{"without a chain", "gender=male", "Patient/in", "allowed", "policy", nurse, 200, []string{"follows no chain"}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			ref, _ := fhir.ParseRef(tt.ref)
			e := d.why(t, slug, store.AccessQuestion{Who: tt.who, Type: ref.Type, ID: ref.ID, Query: tt.query})
			text := strings.Join(e.Lines(), "\n")
			if e.Decision != tt.decision || e.By != tt.by || e.Status != tt.status || strings.Contains(text, "secretword") {
				t.Errorf("got %s by %s with %d:\n%s", e.Decision, e.By, e.Status, text)
			}
			for _, want := range tt.says {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
		})
	}
	g := d.as(t, slug, smart.Token{Scope: nurse.Scope, Client: nurse.Client, User: nurse.User, Purpose: nurse.Purpose})
	if got := d.search(t, g, "Patient", "_has:Observation:patient:_id=psy-in"); len(got.Matches) != 0 {
		t.Fatalf("found %v", got.Matches)
	}
	e := d.why(t, slug, store.AccessQuestion{Audit: audit.Entry{Seq: g.Origin().Trail.Seq}.ID(), Type: "Patient", ID: "in"})
	if e.Decision != "denied" || e.By != "chain" {
		t.Errorf("a search that was: %s", strings.Join(e.Lines(), "\n"))
	}
}
