package smart

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/tenant"
)

// inquiring is what the Permit of an inquiry allows: to look into resources for
// what decides who may see them. It is no interaction that a client can ask
// for, and nothing that is read under it is shown but ids and codes.
const inquiring fhir.Interaction = "inquire"

// Inquiry returns the Grant under which a server tells an operator why an access
// was allowed or not. It opens PermitInquiry and PermitRules, and no interaction
// of FHIR. No token makes one: it comes of what an operator asked the control
// plane, in the request with the id.
func Inquiry(t *tenant.Tenant, operator, request string) *Grant {
	a := (&access{inquires: true}).named(t.ID.String(), "inquiry", operator)
	return &Grant{
		tenant: t, access: a,
		agent:  audit.Agent{Client: "cordon-inquiry", User: operator, Policy: t.PolicyVersion},
		origin: audit.Origin{RequestID: request, Method: "JOB", Trail: audit.NewTrail()},
	}
}

// PermitInquiry answers with the Permit of an inquiry, for resources of the type.
// Any other Grant is refused it.
func (g *Grant) PermitInquiry(on fhir.Type) (Permit, error) {
	if g == nil || g.tenant == nil || g.access == nil || !g.access.inquires {
		return Permit{}, fhir.Errorf(fhir.Forbidden, "no token allows this")
	}
	return Permit{grant: g, interaction: inquiring, on: on, where: search.And{}}, nil
}

// An Asker is somebody of whom a policy is asked without a request: what a token
// would say of them.
type Asker struct {
	Client    string `json:"client,omitzero"`
	User      string `json:"user,omitzero"` // the fhirUser
	Patient   string `json:"patient,omitzero"`
	Encounter string `json:"encounter,omitzero"`
	Purpose   string `json:"purpose,omitzero"`
	Scope     string `json:"scope,omitzero"`
	// Glass is the id of a patient whose glass they have broken.
	Glass  string `json:"glass,omitzero"`
	Person Person `json:"person,omitzero"`
}

// kept is how the audit trail keeps what a token allowed; client and purpose it
// keeps by themselves.
func (a *access) kept(scope string) string {
	who := Asker{Patient: a.patient, Encounter: a.encounter, Scope: scope, Person: a.person}
	if !a.user.IsZero() {
		who.User = a.user.String()
	}
	text, err := json.Marshal(who)
	if err != nil {
		panic(err) // texts and numbers
	}
	return string(text)
}

// AskerOf returns who asked, as the audit trail knows them. It is false if the
// entry is of a release that did not keep what the token allowed, or of nobody.
func AskerOf(a audit.Agent) (who Asker, ok bool) {
	if json.Unmarshal([]byte(a.Access), &who) != nil {
		return Asker{}, false
	}
	who.Client, who.Purpose = a.Client, a.Purpose
	return who, true
}

// access returns what a token for who would allow. The error is a *fhir.Error.
func (who Asker) access() (*access, error) {
	a := &access{client: who.Client, patient: who.Patient, encounter: who.Encounter, purpose: who.Purpose, person: who.Person}
	var err error
	if who.User != "" {
		if a.user, err = fhir.ParseRef(who.User); err != nil {
			return nil, fhir.Errorf(fhir.Invalid, "user has to be a reference like Practitioner/dr1")
		}
	}
	if who.Scope != "" {
		if a.scopes, err = ParseScopes(who.Scope); err != nil {
			return nil, fhir.Errorf(fhir.Invalid, "scope has to be SMART scopes for resources, one space apart")
		}
	}
	for name, id := range map[string]string{"patient": who.Patient, "encounter": who.Encounter, "glass": who.Glass} {
		if id != "" && !fhir.ValidID(id) {
			return nil, fhir.Errorf(fhir.Invalid, "%s has to be an id", name)
		}
	}
	if err := who.Person.Check(); err != nil {
		return nil, fhir.Errorf(fhir.Invalid, "person: %s", err)
	}
	return a, nil
}

// A Ruling is how scopes and policy decide a question of somebody, part by part,
// as conditions on resources of one type.
type Ruling struct {
	Scopes  []Part      // those that are for the interaction and the type
	Scoped  search.Expr // what the scopes reach together
	Rules   []Part      // all of the policy
	Allowed search.Expr // what the policy allows
	// Where is that of the Permit, with whose consents are to be asked; nil: there
	// is none, and the answer is 403 whatever the resource.
	Where search.Expr
	// Hidden are the elements that the policy hides.
	Hidden []string
}

// A Part is a scope or a rule.
type Part struct {
	Name    string // the scope without the values that narrow it, or the id of the rule
	Line    int    // of the rule
	Says    string // for people
	Forbids bool
	// Where holds of the resources that the part is about; nil: the rule fails, so
	// that nothing is allowed.
	Where search.Expr
	// Launch is the patient in context, whose record a scope is bound to.
	Launch string
}

// Never reports whether the part is about no resource.
func (p Part) Never() bool { return p.Where != nil && nothing(p.Where) }

// Always reports whether the part is about every resource.
func (p Part) Always() bool { return p.Where != nil && everything(p.Where) }

// Rule returns how the scopes of who and p decide the interaction on the type at
// the time, in the tenant t. It is decided as for a request, part by part beside.
// The error is a *fhir.Error about who.
func (p *Policy) Rule(t *tenant.Tenant, who Asker, do fhir.Interaction, on fhir.Type, at time.Time) (Ruling, error) {
	a, err := who.access()
	if err != nil {
		return Ruling{}, err
	}
	q := question{letter: letterOf(do), on: on}
	g := &Grant{tenant: t, access: a, policy: p, at: at, asker: a.asker(t, at)}
	if who.Glass != "" {
		g.glasses = []Glass{{Patient: who.Glass}}
	}
	r := Ruling{Scoped: no, Allowed: p.decide(a, q, at).where, Where: g.where(do, on)}
	if through := g.throughGlass(nil, yes, q); through != nil {
		r.Allowed, q.glass = search.Simplify(search.Or{r.Allowed, through}), true
	}
	if scoped := a.ask(q); scoped != nil {
		r.Scoped = scoped
	}
	for _, sc := range a.scopes {
		if sc.letters&q.letter != 0 && (sc.on == "" || sc.on == on) {
			r.Scopes = append(r.Scopes, a.part(sc, q))
		}
	}
	r.Rules = p.parts(a, q, at)
	r.Hidden = slices.Sorted(maps.Keys(g.Hidden(on)))
	return r, nil
}

// part returns the scope as it applies to the question.
func (a *access) part(sc Scope, q question) Part {
	name, _, narrowed := strings.Cut(sc.canonical(), "?")
	part := Part{Name: name, Where: a.reach(sc.whose, q)}
	if sc.whose == ofPatient {
		part.Launch = a.patient
	}
	switch {
	case part.Where == nil:
		part.Where = no
	case narrowed:
		part.Name += "?…"
		part.Where = search.Simplify(search.And{part.Where, sc.where})
	}
	return part
}

// parts returns the rules of p as they apply to the question.
func (p *Policy) parts(a *access, q question, at time.Time) []Part {
	r := residual{env: a.principal().env(q, at), on: q.on, now: at, outline: p.outline}
	list := make([]Part, len(p.rules))
	for i, one := range p.rules {
		list[i] = Part{Name: one.id, Line: one.line, Says: one.says, Forbids: !one.permits}
		if e, err := r.condition(one.body); err == nil {
			list[i].Where = e
		}
	}
	return list
}

// Narrowed returns the scopes of who that a search narrows.
func (who Asker) Narrowed() []string {
	return slices.DeleteFunc(strings.Fields(who.Scope), func(scope string) bool { return !strings.Contains(scope, "?") })
}

// Widened returns who with scopes that no search narrows.
func (who Asker) Widened() Asker {
	scopes := strings.Fields(who.Scope)
	for i := range scopes {
		scopes[i], _, _ = strings.Cut(scopes[i], "?")
	}
	who.Scope = strings.Join(scopes, " ")
	return who
}

// Outline returns p as it decides of records that hold no security label, no
// category and no Task, and the names of the rules that ask for any: who chose
// what is asked for would read records by what it finds.
func (p *Policy) Outline() (*Policy, []string) {
	outline, aside := *p, []string(nil)
	outline.outline = true
	for _, one := range p.rules {
		asks := false
		ast.Inspect(ast.NewNode(one.body), func(n ast.IsNode) bool {
			at := asked(n)
			asks = asks || at != nil && at.told
			return !asks
		})
		if asks {
			aside = append(aside, one.id)
		}
	}
	return &outline, aside
}

// Fill takes what is not said of who from the registration of the client.
func (who *Asker) Fill(c Client) {
	who.User = cmp.Or(who.User, c.User)
	who.Patient = cmp.Or(who.Patient, c.Patient)
	who.Encounter = cmp.Or(who.Encounter, c.Encounter)
	who.Purpose = cmp.Or(who.Purpose, c.Purpose)
	if len(who.Person.Roles) == 0 {
		who.Person.Roles = c.Person.Roles
	}
	if who.Scope != "" {
		return
	}
	c.User, c.Patient = who.User, who.Patient // as after a login, or a launch
	list := c.Allowed()
	texts := make([]string, len(list))
	for i, sc := range list {
		texts[i] = sc.canonical()
	}
	who.Scope = strings.Join(texts, " ")
}
