package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
)

// A DryRunQuestion asks what somebody would see of what is stored. Who asks chooses
// the rules and whom they hold for, so what is counted goes by whom a record is
// about and of whom they are, never by what it says: labels, categories and Tasks
// are taken for none, consents are left out, and scopes are taken without what
// narrows them. Otherwise an operator would read the labels of one patient by
// counting.
type DryRunQuestion struct {
	Who         smart.Asker      `json:"who"`
	Interaction fhir.Interaction `json:"interaction,omitzero"` // default read
	// EachRole asks for each role that the policies name, in place of those of Who.
	EachRole bool `json:"eachRole,omitzero"`
	// Types are those to look at; none means all.
	Types []fhir.Type `json:"types,omitzero"`
	// Limit bounds the resources of a type that are looked at, the newest.
	Limit int `json:"limit,omitzero"`
	// Proposed is the text of a policy to hold against that in force, "" for none.
	Proposed string `json:"proposed,omitzero"`
}

// The bounds of a dry run: of the resources of a type that are looked at, and of
// all that is decided.
const (
	defaultLimit = 200
	maxLimit     = 1000
	maxDecided   = 60_000
	maxRolesAt   = 50
)

// A DryRun is what somebody would see, at most or but for what it did not look at.
type DryRun struct {
	Policy int64       `json:"policy"` // the version in force
	Types  []DryCounts `json:"types"`
	// Unseen are types that were not come to: all that is decided is bounded.
	Unseen []fhir.Type `json:"unseen,omitzero"`
	// Aside are the rules that ask for labels, categories or Tasks, of which no
	// record was taken to have any.
	Aside []string `json:"aside,omitzero"`
}

// DryCounts are the counts of one type, for somebody in one role.
type DryCounts struct {
	Type     fhir.Type `json:"type"`
	Role     string    `json:"role,omitzero"`
	Examined int       `json:"examined"`
	// More says that there are more of the type: the newest were examined.
	More     bool     `json:"more,omitzero"`
	InForce  DrySeen  `json:"inForce"`
	Proposed *DrySeen `json:"proposed,omitzero"`
	Gained   int      `json:"gained,omitzero"` // seen under what is proposed only
	Lost     int      `json:"lost,omitzero"`   // seen under what is in force only
}

// DrySeen is how many would be seen under one policy, and how many not, by what
// keeps them: "scope", "policy: no rule permits", "policy: psy forbids".
type DrySeen struct {
	Seen   int            `json:"seen"`
	Not    map[string]int `json:"not,omitzero"`
	Hidden []string       `json:"hidden,omitzero"` // elements of what is seen
}

// DryRun counts, under g, which has to be that of an inquiry. What it reads is
// bounded.
func (db *DB) DryRun(ctx context.Context, g *smart.Grant, q DryRunQuestion, policies smart.Policies) (*DryRun, error) {
	inForce, err := policyOf(ctx, policies, g, g.Tenant().PolicyVersion)
	if err != nil {
		return nil, err
	}
	q.Who = q.Who.Widened()
	r := &rehearsal{q: q}
	r.take(inForce)
	if q.Proposed != "" {
		p, err := smart.ParsePolicy(q.Proposed)
		if err != nil {
			return nil, err
		}
		r.take(p)
	}
	if err := r.read(); err != nil {
		return nil, err
	}
	err = db.View(ctx, g, func(v *View) error {
		r.View, r.DryRun, r.decided = v, DryRun{Policy: g.Tenant().PolicyVersion, Types: []DryCounts{}, Aside: r.aside}, 0
		v.note(audit.Entry{Interaction: fhir.Operation, Query: "dry run", Patient: r.patient()})
		return r.run(ctx)
	})
	return &r.DryRun, err
}

// A rehearsal is a dry run under way.
type rehearsal struct {
	*View
	DryRun
	q        DryRunQuestion
	policies []*smart.Policy // in force, and proposed
	roles    []string        // each asked for; "" leaves those of who asks
	aside    []string
	decided  int
}

// take takes a policy in, in outline.
func (r *rehearsal) take(p *smart.Policy) {
	outline, aside := p.Outline()
	r.policies, r.aside = append(r.policies, outline), append(r.aside, aside...)
	slices.Sort(r.aside)
	r.aside = slices.Compact(r.aside)
}

// patient is the one whose record is counted, if who asks is bound to one.
func (r *rehearsal) patient() fhir.Ref {
	if ref, err := fhir.ParseRef(r.q.Who.User); err == nil && ref.Type == "Patient" {
		return ref
	}
	if id := cmp.Or(r.q.Who.Patient, r.q.Who.Glass); fhir.ValidID(id) {
		return fhir.Ref{Type: "Patient", ID: id}
	}
	return fhir.Ref{}
}

// read takes what was asked for what is not said.
func (r *rehearsal) read() error {
	if r.q.Interaction == "" {
		r.q.Interaction = fhir.Read
	}
	if r.q.Limit == 0 {
		r.q.Limit = defaultLimit
	}
	if r.q.Limit < 0 || r.q.Limit > maxLimit {
		return fhir.Errorf(fhir.Invalid, "limit has to be from 1 to %d", maxLimit)
	}
	for _, on := range r.q.Types {
		if !on.Known() {
			return fhir.Errorf(fhir.Invalid, "types names what is no resource type")
		}
	}
	r.roles = []string{""}
	if r.q.EachRole {
		r.roles = nil
		for _, p := range r.policies {
			r.roles = append(r.roles, p.Roles()...)
		}
		slices.Sort(r.roles)
		if r.roles = slices.Compact(r.roles); len(r.roles) > maxRolesAt {
			return fhir.Errorf(fhir.TooCostly, "the policies name more than %d roles: ask for them one by one", maxRolesAt)
		}
	}
	if len(r.q.Types) == 0 {
		r.q.Types = fhir.Types
	}
	r.q.Types = slices.Compact(slices.Sorted(slices.Values(r.q.Types)))
	return nil
}

func (r *rehearsal) run(ctx context.Context) error {
	for _, on := range r.q.Types {
		if r.decided >= maxDecided {
			r.Unseen = append(r.Unseen, on)
			continue
		}
		p, err := r.grant.PermitInquiry(on)
		if err != nil {
			return err
		}
		list, more, err := r.newest(ctx, p)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			continue
		}
		for _, role := range r.roles {
			c := DryCounts{Type: on, Role: role, Examined: len(list), More: more}
			if err := r.count(ctx, p, &c, list); err != nil {
				return err
			}
			r.Types = append(r.Types, c)
		}
	}
	return nil
}

// newest returns the newest resources of the type of p, opened, and whether there
// are more.
func (r *rehearsal) newest(ctx context.Context, p smart.Permit) (list []fhir.Resource, more bool, err error) {
	pl, size := newPlan(p.On(), p, search.And{}), 0
	_, err = r.fetch(ctx, pl, newest, position{}, r.q.Limit+1, func(c candidate) (bool, error) {
		if len(list) == r.q.Limit || size > maxPage {
			more = true
			return false, nil
		}
		res, err := r.open(c.row)
		list, size = append(list, res), size+len(res.Body)
		return true, err
	})
	return list, more, err
}

// count fills in c for the resources.
func (r *rehearsal) count(ctx context.Context, p smart.Permit, c *DryCounts, list []fhir.Resource) error {
	who := r.q.Who
	if c.Role != "" {
		who.Person.Roles = []string{c.Role}
	}
	var seen [2][]bool
	for i, policy := range r.policies {
		ruling, err := policy.Rule(r.grant.Tenant(), who, r.q.Interaction, p.On(), now())
		if err != nil {
			return err
		}
		r.decided += len(list)
		var counts DrySeen
		if counts, seen[i], err = r.hold(ctx, p, ruling, list); err != nil {
			return err
		}
		if i == 0 {
			c.InForce = counts
			continue
		}
		c.Proposed = &counts
		for j := range list {
			switch {
			case seen[1][j] && !seen[0][j]:
				c.Gained++
			case seen[0][j] && !seen[1][j]:
				c.Lost++
			}
		}
	}
	return nil
}

// hold holds the resources against the ruling. What is seen the condition of the
// Permit decides, as for a request but for consents; its parts say what keeps the
// others.
func (r *rehearsal) hold(ctx context.Context, p smart.Permit, ruling smart.Ruling, list []fhir.Resource) (DrySeen, []bool, error) {
	reasons, err := r.reasons(ctx, p, ruling, list)
	if err != nil {
		return DrySeen{}, nil, err
	}
	seen := make([]bool, len(list))
	if ruling.Where != nil {
		rest, _ := search.Apart(ruling.Where)
		if seen, err = r.meet(ctx, p, rest, list); err != nil {
			return DrySeen{}, nil, err
		}
	}
	counts := DrySeen{Not: map[string]int{}}
	for i := range list {
		if seen[i] {
			counts.Seen++
		} else {
			counts.Not[reasons[i]]++
		}
	}
	if counts.Seen > 0 {
		counts.Hidden = ruling.Hidden
	}
	return counts, seen, nil
}

// reasons says of each resource what would keep it from who asks, if anything
// does: the first step that does.
func (r *rehearsal) reasons(ctx context.Context, p smart.Permit, ruling smart.Ruling, list []fhir.Resource) ([]string, error) {
	reasons := make([]string, len(list))
	allowed, err := r.meet(ctx, p, ruling.Allowed, list)
	if err != nil {
		return nil, err
	}
	for i := range reasons {
		if !allowed[i] {
			reasons[i] = "policy: no rule permits"
		}
	}
	for _, rule := range ruling.Rules {
		switch {
		case rule.Where == nil:
			rule.Where = search.And{}
			rule.Name += " fails and"
		case !rule.Forbids || rule.Never():
			continue
		}
		holds, err := r.meet(ctx, p, rule.Where, list)
		if err != nil {
			return nil, err
		}
		for i := range reasons {
			if holds[i] {
				reasons[i] = fmt.Sprintf("policy: %s forbids", rule.Name)
			}
		}
	}
	scoped, err := r.meet(ctx, p, ruling.Scoped, list)
	if err != nil {
		return nil, err
	}
	for i := range reasons {
		if !scoped[i] {
			reasons[i] = "scope"
		}
	}
	return reasons, nil
}

// Lines spells d for people.
func (d DryRun) Lines() []string {
	var lines []string
	for _, c := range d.Types {
		of := fmt.Sprintf("%d", c.Examined)
		if c.More {
			of = fmt.Sprintf("the newest %d", c.Examined)
		}
		name := string(c.Type)
		if c.Role != "" {
			name = c.Role + ": " + name
		}
		line := fmt.Sprintf("%s: sees %d of %s%s", name, c.InForce.Seen, of, c.InForce.kept())
		if c.Proposed != nil {
			line += fmt.Sprintf("; proposed: %d%s, %d gained, %d lost", c.Proposed.Seen, c.Proposed.kept(), c.Gained, c.Lost)
		}
		lines = append(lines, line)
	}
	if len(d.Unseen) > 0 {
		lines = append(lines, fmt.Sprintf("%d types were not come to: ask for fewer, or with a lower limit", len(d.Unseen)))
	}
	if len(d.Aside) > 0 {
		lines = append(lines, "counted as if no record had the labels, categories or Tasks that these rules ask for: "+strings.Join(d.Aside, ", "))
	}
	return append(lines, "what consents keep, and what narrows scopes, is not counted")
}

// kept says what keeps the rest.
func (s DrySeen) kept() string {
	var text string
	for _, reason := range slices.Sorted(maps.Keys(s.Not)) {
		text += fmt.Sprintf(", %d kept by %s", s.Not[reason], reason)
	}
	if len(s.Hidden) > 0 {
		text += fmt.Sprintf(", %d elements hidden", len(s.Hidden))
	}
	return text
}
