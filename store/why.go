package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/consent"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// An AccessQuestion asks why an access is allowed or not: one that was, by its
// entry in the audit trail, or one that might be.
type AccessQuestion struct {
	// Audit is the id of an AuditEvent, or the X-Request-Id of the request that it
	// is of. It then says all that is not said here.
	Audit string `json:"audit,omitzero"`

	Who         smart.Asker      `json:"who,omitzero"`
	Interaction fhir.Interaction `json:"interaction,omitzero"` // default read
	Type        fhir.Type        `json:"type,omitzero"`
	ID          string           `json:"id,omitzero"`
	// Query is a search of the type: of what its chains lead to is explained too
	// whether it may be seen.
	Query string `json:"query,omitzero"`
}

// An Explanation says how an access is decided, step by step. It holds ids and
// codes, and no content of a resource.
type Explanation struct {
	// Decision is "allowed" or "denied", Status that of the answer, and By the step
	// that decided: "tenant", "resource", "scope", "policy", "consent" or "chain".
	Decision string `json:"decision"`
	Status   int    `json:"status"`
	By       string `json:"by"`

	Interaction fhir.Interaction `json:"interaction"`
	Resource    string           `json:"resource,omitzero"`
	Version     int64            `json:"version,omitzero"`
	Who         smart.Asker      `json:"who"`
	At          time.Time        `json:"at"`
	Policy      int64            `json:"policy"` // its version
	Recorded    string           `json:"recorded,omitzero"`
	Steps       []Step           `json:"steps"`
	Notes       []string         `json:"notes,omitzero"`
}

// A Step is one thing that was asked on the way to a decision.
type Step struct {
	Step   string `json:"step"`        // tenant, resource, scope, rule, consent, mask or chain
	Of     string `json:"of,omitzero"` // what a chain leads to, if the step is about that
	Name   string `json:"name,omitzero"`
	Line   int    `json:"line,omitzero"` // of a rule
	Says   string `json:"says,omitzero"`
	Result string `json:"result"`
	Asks   []Ask  `json:"asks,omitzero"`
}

// An Ask is a condition of a rule or a scope on the resource.
type Ask struct {
	Asks  string   `json:"asks"` // what, without values
	Holds bool     `json:"holds"`
	By    []string `json:"by,omitzero"` // what it holds by: a CareTeam, an Encounter
}

// Lines spells e for people.
func (e Explanation) Lines() []string {
	line := fmt.Sprintf("%s, with status %d: decided by %s", e.Decision, e.Status, e.By)
	if e.Recorded != "" {
		line += "; the audit trail has: " + e.Recorded
	}
	lines := []string{line, fmt.Sprintf("%s %s at %s, under version %d of the policy", e.Interaction, e.Resource, e.At.UTC().Format(time.RFC3339), e.Policy)}
	for _, s := range e.Steps {
		line := s.Step
		if s.Of != "" {
			line = "of " + s.Of + ", " + line
		}
		if s.Name != "" {
			line += " " + s.Name
		}
		if s.Line > 0 {
			line += fmt.Sprintf(" (line %d)", s.Line)
		}
		lines = append(lines, line+": "+s.Result)
		for _, a := range s.Asks {
			line := "  " + map[bool]string{true: "holds: ", false: "does not hold: "}[a.Holds] + a.Asks
			if len(a.By) > 0 {
				line += ", by " + strings.Join(a.By, ", ")
			}
			lines = append(lines, line)
		}
	}
	for _, n := range e.Notes {
		lines = append(lines, "note: "+n)
	}
	return lines
}

func (e *Explanation) step(s Step) { e.Steps = append(e.Steps, s) }

func (e *Explanation) remark(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}

// decided ends e.
func (e *Explanation) decided(decision string, status int, by string) {
	e.Decision, e.Status, e.By = decision, status, by
}

// The decisions.
const (
	allowed = "allowed"
	denied  = "denied"
)

// Why explains an access under g, which has to be that of an inquiry. policies
// are where the policy of the time is read.
func (db *DB) Why(ctx context.Context, g *smart.Grant, q AccessQuestion, policies smart.Policies) (*Explanation, error) {
	var e *Explanation
	texts := map[int64]*smart.Policy{}
	err := db.View(ctx, g, func(v *View) (err error) {
		e, err = v.why(ctx, q, func(version int64) (*smart.Policy, error) {
			if p := texts[version]; p != nil {
				return p, nil
			}
			return nil, &Waiting{For: func(ctx context.Context) (err error) {
				texts[version], err = policyOf(ctx, policies, g, version)
				return err
			}}
		})
		return err
	})
	return e, err
}

// policyOf reads a version of the tenant's policy.
func policyOf(ctx context.Context, policies smart.Policies, g *smart.Grant, version int64) (*smart.Policy, error) {
	text, _ := smart.Profile("scopes")
	if version > 1 {
		var err error
		if text, err = policies.Policy(ctx, g.Tenant(), version); err != nil {
			return nil, err
		}
	}
	return smart.ReadPolicy(text)
}

// A hearing is one access while it is explained.
type hearing struct {
	*View
	Explanation
	permit smart.Permit
	ref    fhir.Ref
	since  time.Time // when the access was, if it is in the audit trail
	ruling smart.Ruling
	asked  string         // the search, if it is one
	res    *fhir.Resource // nil if no one is asked about, or it is not there
}

func (v *View) why(ctx context.Context, q AccessQuestion, policy func(int64) (*smart.Policy, error)) (*Explanation, error) {
	v.attempt(audit.Entry{Interaction: fhir.Operation, Type: q.Type, Entity: fhir.Ref{Type: q.Type, ID: q.ID}, Query: "why " + q.Audit})
	h := &hearing{View: v, Explanation: Explanation{Interaction: q.Interaction, Who: q.Who, At: now(), Policy: v.grant.Tenant().PolicyVersion}}
	h.ref, h.asked = fhir.Ref{Type: q.Type, ID: q.ID}, q.Query
	if h.asked != "" {
		h.Interaction = fhir.SearchType
	}
	if q.Audit != "" {
		if done, err := h.recall(ctx, q.Audit); err != nil || done {
			return &h.Explanation, err
		}
	}
	if h.Interaction == "" {
		h.Interaction = fhir.Read
	}
	if !h.ref.Type.Known() || h.ref.ID != "" && !fhir.ValidID(h.ref.ID) {
		return nil, fhir.Errorf(fhir.Invalid, "it takes a type of resource, and an id that can be one")
	}
	p, err := policy(h.Policy)
	if err != nil {
		return nil, err
	}
	if h.permit, err = v.grant.PermitInquiry(h.ref.Type); err != nil {
		return nil, err
	}
	if h.ruling, err = p.Rule(v.grant.Tenant(), h.Who, h.Interaction, h.ref.Type, h.At); err != nil {
		return nil, err
	}
	h.step(Step{Step: "tenant", Name: v.grant.Tenant().Slug.String(), Result: "holds: the token is of the tenant, which is served"})
	h.Resource = string(h.ref.Type)
	if h.ref.ID != "" {
		h.Resource = h.ref.String()
	}
	if err := h.decide(ctx); err != nil {
		return nil, err
	}
	return &h.Explanation, h.follow(ctx, p)
}

// recall fills in what the audit trail says of the access. done says that there
// is no more to explain.
func (h *hearing) recall(ctx context.Context, id string) (done bool, err error) {
	p, err := h.grant.PermitInquiry("AuditEvent")
	if err != nil {
		return false, err
	}
	seq, err := audit.ParseID(id)
	if err != nil {
		if seq, err = h.entryOf(ctx, p, id); err != nil {
			return false, err
		}
	}
	rows, err := h.query(ctx, p, auditColumns.With(gate.SQL(`WHERE tenant_id = $1 AND seq = ?`, seq)))
	if err != nil {
		return false, fmt.Errorf("reading the audit trail: %w", err)
	}
	entries, err := pgx.CollectRows(rows, h.scanEntry)
	if errors.Is(err, errUnreadable) {
		return false, fhir.Errorf(fhir.NotSupported, "the entry cannot be opened: it is not as a server wrote it")
	}
	if err != nil {
		return false, fmt.Errorf("reading the audit trail: %w", err)
	}
	if len(entries) == 0 {
		return false, unknown(fhir.Ref{Type: "AuditEvent", ID: id})
	}
	if err := h.completeLinked(ctx, p, entries); err != nil {
		return false, err
	}
	return h.take(entries[0]), nil
}

// maxRecalled bounds the entries in which a request is looked for: its id is sealed
// with the rest.
const maxRecalled = 20_000

// entryOf returns the entry of the latest request with the id, which is the
// client's to choose.
func (h *hearing) entryOf(ctx context.Context, p smart.Permit, request string) (int64, error) {
	if len(request) > 64 {
		return 0, fhir.Errorf(fhir.Invalid, "it takes the id of an AuditEvent or of a request")
	}
	rows, err := h.query(ctx, p, auditColumns.With(gate.SQL(`WHERE tenant_id = $1 AND parent IS NULL ORDER BY seq DESC LIMIT ?`, maxRecalled)))
	if err != nil {
		return 0, fmt.Errorf("looking for a request in the audit trail: %w", err)
	}
	defer rows.Close()
	var found []int64
	for rows.Next() {
		e, err := h.scanEntry(rows)
		if errors.Is(err, errUnreadable) {
			continue // which request it is of it does not say
		}
		if err != nil {
			return 0, err
		}
		if e.Origin.RequestID == request {
			found = append(found, e.Seq)
		}
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("looking for a request in the audit trail: %w", err)
	}
	switch {
	case len(found) == 0:
		return 0, fhir.Errorf(fhir.NotFound, "none of the latest %d requests has the id", maxRecalled)
	case len(found) > 1:
		h.remark("%d requests have the id, which clients may choose: this is the latest", len(found))
	}
	return found[0], nil
}

// take takes what the entry says for what was not asked otherwise.
func (h *hearing) take(e audit.Entry) (done bool) {
	h.At, h.since, h.Policy = e.Recorded, e.Recorded, e.Agent.Policy
	if h.Interaction == "" {
		h.Interaction = e.Interaction
	}
	if h.asked == "" && e.Interaction == fhir.SearchType {
		h.asked = e.Query
	}
	switch h.Interaction {
	case fhir.Operation, fhir.Batch, fhir.Transaction, fhir.Capabilities:
		h.Interaction = fhir.SearchType // of what it is made of the trail has entries, each for itself
		if e.Entity.ID != "" {
			h.Interaction = fhir.Read
		}
	}
	if h.ref.Type == "" {
		h.ref = fhir.Ref{Type: e.Type, ID: e.Entity.ID}
		h.Version = e.Version
		if e.Entity.Type != "" {
			h.ref.Type = e.Entity.Type
		}
	}
	h.Recorded = strings.TrimSpace(map[audit.Outcome]string{audit.Success: "done", audit.MinorFailure: "not done", audit.Serious: "refused", audit.MajorFailure: "failed"}[e.Outcome] + " " + e.Reason)
	if e.Failed != "" {
		h.Recorded += "; failed: " + e.Failed
	}
	who, ok := smart.AskerOf(e.Agent)
	switch {
	case !ok:
		h.Who = smart.Asker{Client: e.Agent.Client, User: e.Agent.User, Purpose: e.Agent.Purpose}
		h.decided(denied, 403, "tenant")
		h.remark("the entry does not say what the token allowed: it was none, or it is of an earlier release; ask again with scope and roles")
		return true
	case h.ref.Type == "":
		h.Who = who
		h.decided(denied, 403, "tenant")
		h.step(Step{Step: "tenant", Name: h.grant.Tenant().Slug.String(), Result: "the request was answered before a resource was looked for"})
		return true
	}
	h.Who = who
	if e.Glass.ID != "" {
		h.Who.Glass = e.Patient.ID
		h.remark("the user had broken the glass of the patient")
	}
	return false
}

// decide goes through the steps in their order.
func (h *hearing) decide(ctx context.Context) error {
	if !h.since.IsZero() {
		h.remark("what the resource is related to, and consents, are taken as they are now: what of it was changed since is named here, what was deleted is not")
	}
	if h.ref.ID == "" || h.Interaction == fhir.Create {
		return h.ofType()
	}
	res, gone, err := h.stored(ctx)
	if err != nil {
		return err
	}
	if res == nil {
		h.step(Step{Step: "resource", Name: h.ref.String(), Result: "is not there"})
		if err := h.ofType(); err != nil || h.Decision == denied {
			return err
		}
		h.decided(denied, 404, "resource")
		return nil
	}
	h.Version, h.res = res.Version, res
	e := audit.Entry{Interaction: fhir.Operation, Type: h.ref.Type, Entity: h.ref, Version: res.Version, Query: "why"}
	if ps := h.patients(*res); len(ps) > 0 {
		e.Patient = ps[0]
	}
	h.note(e)
	return h.ofResource(ctx, *res, gone)
}

// ofType explains what holds of every resource of the type, or of none.
func (h *hearing) ofType() error {
	for _, s := range h.ruling.Scopes {
		h.step(Step{Step: "scope", Name: s.Name, Result: ofAll(s, "reaches"), Asks: shapeOf(s)})
	}
	for _, r := range h.ruling.Rules {
		h.step(Step{Step: "rule", Name: r.Name, Line: r.Line, Says: r.Says, Result: ofAll(r, verbOf(r)), Asks: shapeOf(r)})
	}
	h.masked()
	if h.refused() {
		return nil
	}
	h.decided(allowed, 200, "policy")
	h.remark("which resources those are depends on each: ask for one by its id")
	return nil
}

func verbOf(r smart.Part) string {
	if r.Forbids {
		return "forbids"
	}
	return "permits"
}

func ofAll(p smart.Part, verb string) string {
	switch {
	case p.Where == nil:
		return "fails, so that nothing is allowed"
	case p.Never():
		return "does not apply"
	case p.Always():
		return verb + " every resource of the type"
	}
	return verb + " the resources of which it holds"
}

func shapeOf(p smart.Part) []Ask {
	if p.Where == nil || p.Never() || p.Always() {
		return nil
	}
	return []Ask{{Asks: search.Shape(p.Where)}}
}

// refused decides where no resource could be touched.
func (h *hearing) refused() bool {
	switch {
	case h.ruling.Where != nil:
		return false
	case search.Equal(h.ruling.Scoped, search.Or{}):
		h.decided(denied, 403, "scope")
		if len(h.ruling.Scopes) == 0 {
			h.step(Step{Step: "scope", Result: "there is none for the interaction and the type"})
		}
	default:
		h.decided(denied, 403, "policy")
	}
	return true
}

// masked tells what the policy hides.
func (h *hearing) masked() {
	if len(h.ruling.Hidden) > 0 {
		h.step(Step{Step: "mask", Result: "hides " + strings.Join(h.ruling.Hidden, ", ")})
	}
}

// stored returns the version of the resource that decided: the current one, or
// that of the time of the access; of a deletion the one before. It is nil if
// there was none.
func (h *hearing) stored(ctx context.Context) (res *fhir.Resource, gone bool, err error) {
	cur, err := h.current(ctx, h.permit, h.ref)
	if fhir.IsCode(err, fhir.NotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if !h.since.IsZero() && cur.updated.After(h.since) {
		h.remark("%s was changed since, and is taken as it was", h.ref)
		if cur, err = h.asOf(ctx, cur); err != nil || cur.version == 0 {
			return nil, false, err
		}
	}
	if gone = cur.deleted; gone && cur.version > 1 {
		if cur, err = h.past(ctx, h.permit, cur, cur.version-1); err != nil {
			return nil, true, err
		}
	}
	if cur.deleted {
		return nil, true, nil
	}
	opened, err := h.open(cur)
	return &opened, gone, err
}

// asOf returns the version that was current at the time of the access, the zero
// row if there was none.
func (h *hearing) asOf(ctx context.Context, cur row) (row, error) {
	rows, err := h.query(ctx, h.permit, gate.SQL(`
		SELECT max(version) FROM ~history WHERE tenant_id = $1 AND rid = ? AND updated <= ?`, cur.rid, h.since))
	if err != nil {
		return row{}, fmt.Errorf("reading which version was current: %w", err)
	}
	version, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[*int64])
	if err != nil || version == nil {
		return row{}, err
	}
	return h.past(ctx, h.permit, cur, *version)
}

// ofResource explains the decision on one resource. What decides is the
// condition of the Permit as a whole, as for a request; the steps say why.
func (h *hearing) ofResource(ctx context.Context, res fhir.Resource, gone bool) error {
	for _, s := range h.ruling.Scopes {
		result := map[bool]string{true: "reaches it", false: "does not reach it"}
		if s.Launch != "" {
			result = map[bool]string{true: "reaches it: it goes with the record of Patient/" + s.Launch + ", who is in context",
				false: "does not reach it: who is in context is Patient/" + s.Launch}
		}
		if err := h.part(ctx, Step{Step: "scope", Name: s.Name}, s, result, res); err != nil {
			return err
		}
	}
	for _, r := range h.ruling.Rules {
		result := map[bool]string{true: verbOf(r), false: "does not hold for it"}
		if err := h.part(ctx, Step{Step: "rule", Name: r.Name, Line: r.Line, Says: r.Says}, r, result, res); err != nil {
			return err
		}
	}
	if h.refused() {
		return nil
	}
	rest, by := search.Apart(h.ruling.Where)
	covered, err := h.meets(ctx, rest, res)
	if err != nil {
		return err
	}
	scoped, err := h.meets(ctx, h.ruling.Scoped, res)
	switch {
	case err != nil:
		return err
	case !covered && !scoped:
		h.decided(denied, 404, "scope")
		return nil
	case !covered:
		h.decided(denied, 404, "policy")
		return nil
	}
	left := []bool{true}
	if by != nil {
		if err := h.consented(ctx, h.permit, by, []fhir.Resource{res}, left); err != nil {
			return err
		}
		if err := h.consentsSay(ctx, by, res); err != nil {
			return err
		}
	}
	h.masked()
	switch {
	case !left[0]:
		h.decided(denied, 404, "consent")
	case gone:
		h.decided(allowed, 410, "policy")
	default:
		h.decided(allowed, 200, "policy")
	}
	if left[0] && (h.Interaction == fhir.Update || h.Interaction == fhir.Patch) {
		h.remark("what it would become has to be allowed too, and is not known here")
	}
	return nil
}

// part explains what a scope or a rule says of the resource: result by whether it
// holds.
func (h *hearing) part(ctx context.Context, s Step, p smart.Part, result map[bool]string, res fhir.Resource) error {
	if p.Where == nil || p.Never() {
		s.Result = ofAll(p, "")
		h.step(s)
		return nil
	}
	holds, err := h.meets(ctx, p.Where, res)
	if err != nil {
		return err
	}
	s.Result = result[holds]
	if !p.Always() {
		if s.Asks, err = h.asks(ctx, p.Where, res); err != nil {
			return err
		}
	}
	h.step(s)
	return nil
}

// asks returns the members of a conjunction, each with whether it holds and by
// what.
func (h *hearing) asks(ctx context.Context, e search.Expr, res fhir.Resource) ([]Ask, error) {
	members, ok := e.(search.And)
	if !ok {
		members = search.And{e}
	}
	var list []Ask
	for _, m := range members {
		holds, err := h.meets(ctx, m, res)
		if err != nil {
			return nil, err
		}
		a := Ask{Asks: search.Shape(m), Holds: holds}
		for _, link := range search.Links(m) {
			if err := h.facts(ctx, link, res, &a); err != nil {
				return nil, err
			}
		}
		list = append(list, a)
	}
	return list, nil
}

func (h *hearing) meets(ctx context.Context, e search.Expr, res fhir.Resource) (bool, error) {
	ok, err := h.meet(ctx, h.permit, e, []fhir.Resource{res})
	return err == nil && ok[0], err
}

// maxFacts bounds what is named for one relation.
const maxFacts = 5

// facts names in a what a relation that holds does so by, and notes what of it
// was changed since the access.
func (h *hearing) facts(ctx context.Context, link search.Expr, res fhir.Resource, a *Ask) error {
	ends, end := []fhir.Ref{res.Ref}, link
	if chain, ok := link.(search.Chain); ok {
		end = chain.X
		err := fhir.Peek(res.Body, func(d *fhir.Document) error {
			ends = nil
			for _, to := range h.schema.References(d, chain.Paths) {
				if to.Type == chain.Type && len(ends) < maxFacts {
					ends = append(ends, fhir.Ref{Type: to.Type, ID: strings.Clone(to.ID)})
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	from := search.Links(end)
	for _, to := range ends {
		for _, l := range from {
			rev, ok := l.(search.ReverseChain)
			if !ok {
				continue
			}
			found, err := h.referring(ctx, rev, to, rev.X)
			if err != nil {
				return err
			}
			a.By = append(a.By, found...)
			if err := h.changed(ctx, rev, to); err != nil {
				return err
			}
		}
		if len(from) == 0 {
			holds, err := h.settledAt(ctx, link, to)
			if err != nil {
				return err
			}
			if holds {
				a.By = append(a.By, to.String())
			}
		}
	}
	return nil
}

// settledAt reports whether the chain holds by the resource at its end, as was
// found out for the decision.
func (h *hearing) settledAt(ctx context.Context, link search.Expr, to fhir.Ref) (bool, error) {
	end := h.related(h.ref.Type, link)[0].end // a link is one relation
	if err := h.ask(ctx, h.permit, asking{end, []int64{h.rid(to)}}); err != nil {
		return false, err
	}
	return end.holds[h.rid(to)], nil
}

// referring returns some of what refers to the resource by the chain and meets
// where.
func (h *hearing) referring(ctx context.Context, rev search.ReverseChain, to fhir.Ref, where search.Expr) ([]string, error) {
	pl := newPlan(rev.Type, h.permit, search.Simplify(search.And{search.Refers(rev.Paths, to), where}))
	var list []string
	_, err := h.fetch(ctx, pl, newest, position{}, maxFacts, func(c candidate) (bool, error) {
		list = append(list, c.ref.String())
		return true, nil
	})
	return list, err
}

// changed notes what refers to the resource and was changed since the access.
func (h *hearing) changed(ctx context.Context, rev search.ReverseChain, to fhir.Ref) error {
	if h.since.IsZero() {
		return nil
	}
	list, err := h.referring(ctx, rev, to, search.Updated{{End: search.Lo, Op: search.GT, T: h.since}})
	for _, ref := range list {
		if note := ref + " was changed since, and is taken as it is now"; !slices.Contains(h.Notes, note) {
			h.Notes = append(h.Notes, note)
		}
	}
	return err
}

// consents tells what each consent of the patients says.
func (h *hearing) consentsSay(ctx context.Context, by *search.Asker, res fhir.Resource) error {
	result := map[consent.Verdict]string{consent.Permit: "permits", consent.Deny: "denies", consent.Silent: "says nothing about it"}
	err := fhir.Peek(res.Body, func(d *fhir.Document) error {
		for _, patient := range h.schema.About(d) {
			if patient == by.Self {
				h.step(Step{Step: "consent", Result: "is not asked: nobody is kept from their own record"})
				continue
			}
			for _, c := range h.consents.of[patient] {
				verdict, at := c.Why(by, consent.Resource{Resource: res, Document: d, Schema: h.schema})
				s := Step{Step: "consent", Name: "Consent/" + c.ID, Result: result[verdict]}
				if at != "" {
					s.Result += ", by " + at
				}
				if c.Unclear != "" {
					s.Result += ": " + c.Unclear
				}
				h.step(s)
			}
			if len(h.consents.of[patient]) == 0 {
				s := Step{Step: "consent", Result: "there is none in force of Patient/" + patient}
				if consent.Needed(by) {
					s.Result += ", and the tenant wants one for this purpose"
				}
				h.step(s)
			}
			rev := search.ReverseChain{Type: "Consent", Paths: []search.Path{search.ConsentPatient}}
			if err := h.changed(ctx, rev, fhir.Ref{Type: "Patient", ID: patient}); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}
