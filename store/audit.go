package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// interactions gives each interaction its number in storage, which never
// changes: its place here, counted from 1.
var interactions = []fhir.Interaction{
	fhir.Read, fhir.Vread, fhir.Update, fhir.Patch, fhir.Delete,
	fhir.HistoryInstance, fhir.HistoryType, fhir.HistorySystem,
	fhir.Create, fhir.SearchType, fhir.SearchSystem, fhir.Capabilities,
	fhir.Transaction, fhir.Batch, fhir.Operation,
	audit.GlassBroken, audit.GlassEnded,
}

// sealEntry makes the row of an entry. In clear are what AuditEvents are found
// by: time, interaction, outcome and type; as keyed hashes who asked, what for,
// which patient and which resource; all else is sealed.
func (db *DB) sealEntry(ctx context.Context, t *tenant.Tenant, e *audit.Entry) (gate.AuditRow, error) {
	set, err := db.keys.Of(ctx, t.ID)
	if err != nil {
		return gate.AuditRow{}, err
	}
	r := gate.AuditRow{
		Tenant:      t.ID.Int(),
		Seq:         e.Seq,
		Recorded:    e.Recorded,
		Interaction: int16(slices.Index(interactions, e.Interaction) + 1),
		Outcome:     int16(e.Outcome),
		Parent:      e.Parent,
		Type:        e.Type.Number(),
	}
	if a := agentName(e.Agent); a != "" {
		r.Agent = set.Hash("a", a)
	}
	if !e.Patient.IsZero() {
		r.Patient = set.Hash("s", e.Patient.String())
	}
	if e.Entity.ID != "" {
		r.Entity = set.Hash("s", e.Entity.String())
		r.Version = int32(e.Version)
	}
	if purpose := e.Purpose(); purpose != "" {
		r.Purpose = set.Hash("u", purpose)
	}
	r.Sealed, err = set.Seal(nil, keys.Audit, e.MarshalSealed(), entryPlace(r.Tenant, r.Seq))
	return r, err
}

// agentName is what AuditEvent?agent finds an entry by: the user, or for a
// backend service the client.
func agentName(a audit.Agent) string {
	if a.User != "" {
		return a.User
	}
	return a.Client
}

func entryPlace(tenant int32, seq int64) []byte {
	return fmt.Appendf(nil, "audit|%d|%d", tenant, seq)
}

// Record makes sure that a request has its audit entry: it writes e unless a
// View or Update of g has written one. e gives what is known of the request:
// Interaction, Type, Entity, Outcome, Status and Reason. Without a Grant no
// tenant was proven and the entry goes to the log of the platform; e then has
// its own Origin. An error means that nothing may leave.
func (db *DB) Record(ctx context.Context, g *smart.Grant, e audit.Entry) error {
	e.Recorded = time.Now().UTC()
	if g == nil || g.Tenant() == nil {
		if e.Seq == 0 {
			e.Seq = audit.NextSeq()
		}
		if err := db.platform.AppendPlatform(context.WithoutCancel(ctx), []audit.Entry{e}); err != nil {
			db.watch(nil, nil, err)
			return fhir.Errorf(fhir.Transient, "the server cannot write its audit trail, try again")
		}
		return nil
	}
	trail := g.Origin().Trail
	if trail == nil {
		return errors.New("store: a Grant without a trail")
	}
	if trail.Written {
		return nil
	}
	e.Seq, e.Parent, e.Origin, e.Agent = trail.Seq, trail.Parent, g.Origin(), g.Agent()
	if err := db.gate.Append(ctx, g.Tenant(), &e); err != nil {
		return err
	}
	trail.Written = true
	return nil
}

// An AuditQuery asks for entries of the audit trail, newest first. Zero fields
// do not narrow it.
type AuditQuery struct {
	ID       string // one entry
	From, To time.Time
	Agent    string // fhirUser, or client_id of a backend service
	Purpose  string // a code of v3-ActReason
	Patient  fhir.Ref
	Entity   fhir.Ref
	Actions  []string // C, R, U, D or E
	Outcomes []audit.Outcome
	Types    []fhir.Type // types of resource that were addressed
	Count    int
	Query    string // as asked, kept in the cursor and the trail
}

// An AuditPage is a page of the audit trail.
type AuditPage struct {
	Entries []audit.Entry
	Next    string
}

// AuditEvents returns entries of the tenant's audit trail, at the cursor. Only a
// Grant that may search AuditEvents gets any; one that is bound to a patient
// gets those about that patient.
func (v *View) AuditEvents(ctx context.Context, q AuditQuery, c Cursor) (*AuditPage, error) {
	const on = fhir.Type("AuditEvent")
	do := fhir.SearchType
	entry := audit.Entry{Interaction: do, Type: on, Query: q.Query}
	if q.ID != "" {
		do = fhir.Read
		entry = audit.Entry{Interaction: do, Type: on, Entity: fhir.Ref{Type: on, ID: q.ID}}
	}
	v.attempt(entry)
	p, err := v.gate.Permit(do, on)
	if err != nil {
		return nil, err
	}
	where, err := v.auditWhere(p, q)
	if err != nil {
		return nil, err
	}
	if c.After.Seq != 0 {
		where = where.With(gate.SQL(`AND seq < ?`, c.After.Seq))
	}
	count := q.Count
	if count <= 0 {
		count = DefaultCount
	}
	count = min(count, MaxCount)
	rows, err := v.query(ctx, p, auditColumns.With(where, gate.SQL(`ORDER BY seq DESC LIMIT ?`, count+1)))
	if err != nil {
		return nil, fmt.Errorf("reading the audit trail: %w", err)
	}
	page := &AuditPage{}
	page.Entries, err = pgx.CollectRows(rows, v.scanEntry)
	if err != nil {
		return nil, fmt.Errorf("reading the audit trail: %w", err)
	}
	if err := v.completeLinked(ctx, p, page.Entries); err != nil {
		return nil, err
	}
	if !all(p.Where()) {
		// What was asked may name other patients beside this one, and so may
		// why a glass was broken.
		for i := range page.Entries {
			page.Entries[i].Query, page.Entries[i].Glass.Reason = "", ""
		}
	}
	if len(page.Entries) > count {
		page.Entries = page.Entries[:count]
		page.Next, err = v.seal(Cursor{Interaction: do, Ref: fhir.Ref{Type: on}, Query: q.Query, Page: c.Page + 1,
			After: position{Seq: page.Entries[count-1].Seq}})
		if err != nil {
			return nil, err
		}
	}
	if q.ID != "" && len(page.Entries) == 0 {
		return nil, unknown(entry.Entity)
	}
	v.note(entry)
	return page, nil
}

// completeLinked gives linked entries what their parents say for them.
func (v *View) completeLinked(ctx context.Context, p smart.Permit, entries []audit.Entry) error {
	var seqs []int64
	for _, e := range entries {
		if e.Parent != 0 && !slices.Contains(seqs, e.Parent) {
			seqs = append(seqs, e.Parent)
		}
	}
	if len(seqs) == 0 {
		return nil
	}
	rows, err := v.query(ctx, p, auditColumns.With(gate.SQL(`WHERE tenant_id = $1 AND seq = ANY(?::bigint[])`, seqs)))
	if err != nil {
		return fmt.Errorf("reading the audit trail: %w", err)
	}
	parents, err := pgx.CollectRows(rows, v.scanEntry)
	if err != nil {
		return fmt.Errorf("reading the audit trail: %w", err)
	}
	for i := range entries {
		e := &entries[i]
		at := slices.IndexFunc(parents, func(p audit.Entry) bool { return p.Seq == e.Parent })
		if at >= 0 {
			e.Origin, e.Agent = parents[at].Origin, parents[at].Agent
		}
	}
	return nil
}

// auditColumns begins a statement whose rows scanEntry reads.
var auditColumns = gate.SQL(`
	SELECT seq, coalesce(parent, 0), recorded, interaction, outcome, coalesce(type, 0), coalesce(version, 0), sealed
	FROM   ~audit`)

func (v *View) auditWhere(p smart.Permit, q AuditQuery) (gate.Clause, error) {
	where := gate.SQL(`WHERE tenant_id = $1`)
	if !all(p.Where()) {
		// A patient's scope: what of AuditEvents it covers is what concerns
		// the patient. Any other condition is not one that entries can answer.
		patient, ok := v.grant.Patient()
		if !ok {
			return where, fhir.Errorf(fhir.Forbidden, "the token's scope for AuditEvent has a filter that is not supported")
		}
		where = where.With(gate.SQL(`AND patient = ?`, v.rid(patient)))
	}
	if q.ID != "" {
		seq, err := audit.ParseID(q.ID)
		if err != nil {
			return where, unknown(fhir.Ref{Type: "AuditEvent", ID: q.ID})
		}
		where = where.With(gate.SQL(`AND seq = ?`, seq))
	}
	// seq follows the clock: it narrows the range that is read, recorded decides.
	if !q.From.IsZero() {
		where = where.With(gate.SQL(`AND seq >= ? AND recorded >= ?`, audit.SeqAt(q.From.Add(-time.Minute)), q.From))
	}
	if !q.To.IsZero() {
		where = where.With(gate.SQL(`AND seq <= ? AND recorded < ?`, audit.SeqAt(q.To.Add(time.Minute)), q.To))
	}
	if q.Agent != "" {
		where = where.With(gate.SQL(`AND agent = ?`, v.keys.Hash("a", q.Agent)))
	}
	if q.Purpose != "" {
		where = where.With(gate.SQL(`AND purpose = ?`, v.keys.Hash("u", q.Purpose)))
	}
	if !q.Patient.IsZero() {
		where = where.With(gate.SQL(`AND patient = ?`, v.rid(q.Patient)))
	}
	if !q.Entity.IsZero() {
		where = where.With(gate.SQL(`AND entity = ?`, v.rid(q.Entity)))
	}
	if len(q.Actions) > 0 {
		var numbers []int16
		for i, do := range interactions {
			if slices.Contains(q.Actions, audit.Action(do)) {
				numbers = append(numbers, int16(i+1))
			}
		}
		where = where.With(gate.SQL(`AND interaction = ANY(?::smallint[])`, numbers))
	}
	if len(q.Outcomes) > 0 {
		var numbers []int16
		for _, o := range q.Outcomes {
			numbers = append(numbers, int16(o))
		}
		where = where.With(gate.SQL(`AND outcome = ANY(?::smallint[])`, numbers))
	}
	if len(q.Types) > 0 {
		var numbers []int16
		for _, t := range q.Types {
			numbers = append(numbers, t.Number())
		}
		where = where.With(gate.SQL(`AND type = ANY(?::smallint[])`, numbers))
	}
	return where, nil
}

func (v *View) scanEntry(rows pgx.CollectableRow) (audit.Entry, error) {
	var e audit.Entry
	var interaction, outcome, number int16
	var sealed []byte
	if err := rows.Scan(&e.Seq, &e.Parent, &e.Recorded, &interaction, &outcome, &number, &e.Version, &sealed); err != nil {
		return e, err
	}
	plain, err := v.keys.Open(keys.Audit, sealed, entryPlace(v.grant.Tenant().ID.Int(), e.Seq))
	if err != nil {
		return e, fmt.Errorf("opening audit entry %d: %w", e.Seq, err)
	}
	if err := e.UnmarshalSealed(plain); err != nil {
		return e, fmt.Errorf("opening audit entry %d: %w", e.Seq, err)
	}
	e.Recorded = e.Recorded.UTC()
	e.Outcome = audit.Outcome(outcome)
	e.Type = fhir.TypeNumbered(number)
	if interaction > 0 && int(interaction) <= len(interactions) {
		e.Interaction = interactions[interaction-1]
	}
	return e, nil
}
