package smart_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
)

var interactions = []fhir.Interaction{
	fhir.Read, fhir.Vread, fhir.Update, fhir.Patch, fhir.Delete, fhir.HistoryInstance, fhir.HistoryType, fhir.HistorySystem,
	fhir.Create, fhir.SearchType, fhir.SearchSystem, fhir.Capabilities, fhir.Transaction, fhir.Batch, fhir.Operation, "unheard",
}

// letterFor is A-41 as the standard has it.
var letterFor = map[fhir.Interaction]string{
	fhir.Create: "c", fhir.Read: "r", fhir.Vread: "r", fhir.HistoryInstance: "r", fhir.Update: "u", fhir.Patch: "u", fhir.Delete: "d",
	fhir.SearchType: "s", fhir.SearchSystem: "s", fhir.HistoryType: "s", fhir.HistorySystem: "s",
}

// grantOf earns a Grant with the scopes, a user and a patient in context.
func (w *world) grantOf(t testing.TB, scope, user, patient string) *smart.Grant {
	t.Helper()
	tok := w.token("north")
	tok.Scope, tok.User, tok.Patient = scope, user, patient
	g, err := w.grant(t, "north", w.sign(t, tok))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func compartment(t testing.TB, patient string, on fhir.Type) search.Expr {
	t.Helper()
	e, ok := search.Compartment("Patient", patient, on)
	if !ok {
		t.Fatalf("%s is not in the compartment", on)
	}
	return e
}

func granular(t testing.TB, on fhir.Type, query string) search.Expr {
	t.Helper()
	e, err := search.ParseScope(on, query)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// T027, T230
func TestWhere(t *testing.T) {
	w := newWorld(t)
	all := search.And{}
	of9 := compartment(t, "9", "Observation")
	lab := granular(t, "Observation", "category=laboratory")
	code := granular(t, "Observation", "code=1")
	for _, tt := range []struct {
		claim                string
		scope, user, patient string
		do                   fhir.Interaction
		on                   fhir.Type
		want                 search.Expr // nil: forbidden
	}{
		{"a system scope reaches all", "system/Observation.rs", "", "", fhir.Read, "Observation", all},
		{"but no other type", "system/Observation.rs", "", "", fhir.Read, "Patient", nil},
		{"nor a type that is none", "system/*.rs", "", "", fhir.Read, "Observations", nil},
		{"nor another letter", "system/Observation.rs", "", "", fhir.Update, "Observation", nil},
		{"a wildcard reaches every type", "system/*.rs", "", "", fhir.SearchType, "Basic", all},
		{"a search narrows it", "system/Observation.rs?category=laboratory", "", "", fhir.Read, "Observation", lab},
		{"of two scopes either will do", "system/Observation.rs?category=laboratory system/Observation.r?code=1", "", "", fhir.Read, "Observation", search.Or{lab, code}},
		{"each for its letters", "system/Observation.rs?category=laboratory system/Observation.r?code=1", "", "", fhir.SearchType, "Observation", lab},
		{"the wider scope wins", "system/Observation.rs?category=laboratory system/*.rs", "", "", fhir.Read, "Observation", all},
		{"a patient scope reaches the compartment", "patient/*.cruds", "", "9", fhir.Update, "Observation", of9},
		{"and within it what it searches for", "patient/Observation.rs?category=laboratory", "", "9", fhir.Read, "Observation", search.And{of9, lab}},
		{"and the patient", "patient/*.rs", "", "9", fhir.Read, "Patient", search.HasID{"9"}},
		{"without a patient it reaches nothing", "patient/*.rs", "", "", fhir.Read, "Observation", nil},
		{"not even what goes with any record", "patient/*.rs", "Practitioner/7", "", fhir.Read, "Practitioner", nil},
		{"it reads what goes with any record", "patient/*.cruds", "", "9", fhir.Read, "Practitioner", all},
		{"and does not write it", "patient/*.cruds", "", "9", fhir.Update, "Practitioner", nil},
		{"devices of others stay hidden", "patient/*.rs", "", "9", fhir.Read, "Device", granular(t, "Device", "patient=Patient/9")},
		{"types outside the record are closed", "patient/*.rs", "", "9", fhir.Read, "Task", nil},
		{"a practitioner reaches what the policy will say", "user/*.rs", "Practitioner/7", "", fhir.Read, "Observation", all},
		{"a user scope of nobody reaches nothing", "user/*.rs", "", "", fhir.Read, "Observation", nil},
		{"a user scope does not take the patient in context for its user", "user/*.rs", "", "9", fhir.Read, "Observation", nil},
		{"a patient who is the user reaches their own", "user/*.rs", "Patient/9", "", fhir.Read, "Observation", of9},
		{"whoever else is in context", "user/*.rs", "Patient/9", "8", fhir.Read, "Observation", of9},
		{"a related person has no record of their own", "user/*.rs", "RelatedPerson/7", "", fhir.Read, "Observation", nil},
		{"the audit trail may be read", "system/*.cruds", "", "", fhir.Read, "AuditEvent", all},
		{"but not written", "system/*.cruds system/AuditEvent.cruds", "", "", fhir.Create, "AuditEvent", nil},
		{"nor changed", "system/AuditEvent.cruds", "", "", fhir.Patch, "AuditEvent", nil},
		{"nor removed", "system/AuditEvent.cruds", "", "", fhir.Delete, "AuditEvent", nil},
		{"the system needs a wildcard", "system/Observation.rs", "", "", fhir.SearchSystem, "", nil},
		{"which will do", "system/*.s", "", "", fhir.HistorySystem, "", all},
		{"of a user too", "user/*.s", "Practitioner/7", "", fhir.HistorySystem, "", all},
		{"a patient's opens nothing without a type", "patient/*.s", "", "9", fhir.SearchSystem, "", search.Or(nil)},
		{"and none without a patient", "patient/*.s", "", "", fhir.SearchSystem, "", nil},
		{"no letter allows a batch", "system/*.cruds", "", "", fhir.Batch, "", nil},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			g := w.grantOf(t, tt.scope, tt.user, tt.patient)
			for range 2 { // the second time from memory
				p, err := g.Permit(tt.do, tt.on)
				if tt.want == nil {
					if !fhir.IsCode(err, fhir.Forbidden) || p.From(g) {
						t.Errorf("permitted where %v, %v", p.Where(), err)
					}
					continue
				}
				if err != nil || !p.From(g) || p.On() != tt.on || p.Interaction() != tt.do {
					t.Fatalf("%s on %s: %v", p.Interaction(), p.On(), err)
				}
				where, _ := search.Apart(p.Where())
				if diff := cmp.Diff(tt.want, where); diff != "" {
					t.Errorf("where (-want +got):\n%s", diff)
				}
			}
		})
	}
}

//
func TestEachInteractionNeedsItsLetter(t *testing.T) {
	w := newWorld(t)
	for _, have := range []string{"c", "r", "u", "d", "s"} {
		g := w.grantOf(t, "system/Patient."+have, "", "")
		for _, do := range interactions {
			_, err := g.Permit(do, "Patient")
			if permitted := err == nil; permitted != (letterFor[do] == have) {
				t.Errorf("with %s, %s: %v", have, do, err)
			}
		}
	}
}

func TestTypes(t *testing.T) {
	w := newWorld(t)
	g := w.grantOf(t, "system/Patient.rs system/Group.s system/AuditEvent.cruds", "", "")
	if diff := cmp.Diff([]fhir.Type{"AuditEvent", "Group", "Patient"}, g.Types(fhir.SearchSystem)); diff != "" {
		t.Errorf("searched (-want +got):\n%s", diff)
	}
	if got := g.Types(fhir.Create); len(got) != 0 {
		t.Errorf("created: %v", got)
	}
}

// AUTHZ-01
func TestTheZeroGrantIsOfNobody(t *testing.T) {
	permitsNothing(t, &smart.Grant{})
	if (&smart.Grant{}).Tenant() != nil || (&smart.Grant{}).Principal() != "" {
		t.Error("it is of somebody")
	}
	var p smart.Permit
	if p.From(nil) || p.From(&smart.Grant{}) || !cmp.Equal(p.Where(), search.Expr(search.Or{})) {
		t.Errorf("the zero Permit opens %v", p.Where())
	}
	if _, err := (*smart.Grant)(nil).Permit(fhir.Read, "Patient"); err == nil {
		t.Error("no Grant permits")
	}
}

func TestAPermitIsOfOneGrant(t *testing.T) {
	w := newWorld(t)
	a, b := w.grantOf(t, "system/*.rs", "", ""), w.grantOf(t, "system/*.rs", "", "")
	p, err := a.Permit(fhir.Read, "Patient")
	if err != nil || !p.From(a) || p.From(b) {
		t.Errorf("from a %v, from b %v, %v", p.From(a), p.From(b), err)
	}
}

func TestPrincipal(t *testing.T) {
	w := newWorld(t)
	of := func(change func(*smart.Token)) string {
		tok := w.token("north")
		tok.Scope = "system/Patient.rs system/Group.rs"
		change(&tok)
		g, err := w.grant(t, tok.Tenant, w.sign(t, tok))
		if err != nil {
			t.Fatal(err)
		}
		return g.Principal()
	}
	want := of(func(*smart.Token) {})
	for claim, change := range map[string]func(*smart.Token){
		"another token":               func(c *smart.Token) { c.ID = "j2" },
		"scopes in another order":     func(c *smart.Token) { c.Scope = "system/Group.rs system/Patient.rs" },
		"scopes in another syntax":    func(c *smart.Token) { c.Scope = "system/Group.read system/Patient.rs" },
		"scopes said more than once":  func(c *smart.Token) { c.Scope += " system/Group.rs" },
		"issued for a shorter period": func(c *smart.Token) { c.Expires-- },
	} {
		if of(change) != want {
			t.Errorf("%s is another principal", claim)
		}
	}
	seen := map[string]string{want: "the first"}
	for claim, change := range map[string]func(*smart.Token){
		"another tenant": func(c *smart.Token) {
			*c = w.token("south")
			c.Scope = "system/Patient.rs system/Group.rs"
		},
		"another client":  func(c *smart.Token) { c.Client = "other" },
		"another subject": func(c *smart.Token) { c.Subject = "other" },
		"another user":    func(c *smart.Token) { c.User = "Practitioner/7" },
		"another patient": func(c *smart.Token) { c.Patient = "7" },
		"fewer scopes":    func(c *smart.Token) { c.Scope = "system/Patient.rs" },
		"other letters":   func(c *smart.Token) { c.Scope = "system/Patient.r system/Group.rs" },
	} {
		got := of(change)
		if other, ok := seen[got]; ok {
			t.Errorf("%s is the principal of %s", claim, other)
		}
		seen[got] = claim
	}
}

// whatever the scopes, a patient in context never reaches another's
// record, and without one nothing.
func TestAPatientScopeIsAlwaysHeldToTheCompartment(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(rt *rapid.T) {
		letters := rapid.SampledFrom([]string{"r", "rs", "cruds", "read", "*"}).Draw(rt, "letters")
		on := rapid.SampledFrom(fhir.Types).Draw(rt, "on")
		do := rapid.SampledFrom(interactions).Draw(rt, "do")
		scope := "patient/" + rapid.SampledFrom([]string{"*", string(on)}).Draw(rt, "type") + "." + letters
		if p, err := w.grantOf(t, scope, "", "").Permit(do, on); err == nil {
			rt.Fatalf("%s without a patient reaches %s where %v", scope, on, p.Where())
		}
		g := w.grantOf(t, scope, "", "9")
		p, err := g.Permit(do, on)
		e, in := search.Compartment("Patient", "9", on)
		where, _ := search.Apart(p.Where())
		switch {
		case err != nil:
		case in && !cmp.Equal(e, where):
			rt.Fatalf("%s reaches %s where %v", scope, on, p.Where())
		case !in && do.Writes():
			rt.Fatalf("%s writes %s, which is in no record", scope, on)
		}
	})
}
