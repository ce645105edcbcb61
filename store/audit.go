package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	audit.GlassBroken, audit.GlassEnded, audit.Removed,
}

func (db *DB) sealEntry(ctx context.Context, t *tenant.Tenant, e *audit.Entry) (gate.AuditRow, error) {
	set, err := db.keys.Of(ctx, t.ID)
	if err != nil {
		return gate.AuditRow{}, err
	}
	if e.Parent == 0 { // which says it for the others
		e.Origin.Server = cmp.Or(e.Origin.Server, db.server)
	}
	return sealedRow(set, t, e)
}

// sealedRow makes the row of an entry. In clear are what AuditEvents are found
// by: time, interaction, outcome and type; as keyed hashes who asked, from where
// and what for, which patient and which resource; all else is sealed.
func sealedRow(set *keys.Set, t *tenant.Tenant, e *audit.Entry) (r gate.AuditRow, err error) {
	r = gate.AuditRow{
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
	if e.Agent.User != "" && e.Agent.Client != "" {
		r.Client = shortHash(set, "i", e.Agent.Client)
	}
	if site := e.Agent.SiteName(); site != "" {
		r.Site = shortHash(set, "l", site)
	}
	if purpose := e.Purpose(); purpose != "" {
		r.Purpose = set.Hash("u", purpose)
	}
	if !e.Patient.IsZero() {
		r.Patient = set.Hash("s", e.Patient.String())
	}
	if e.Entity.ID != "" {
		r.Entity = set.Hash("s", e.Entity.String())
		r.Version = int32(e.Version)
	}
	r.Sealed, err = set.Seal(nil, entryKey, e.MarshalSealed(), entryPlace(r.Tenant, r.Seq))
	return r, err
}

// agentName is what AuditEvent?agent finds an entry by: the user, or for a
// backend service the client. But for references, case does not matter.
func agentName(a audit.Agent) string {
	name := cmp.Or(a.User, a.Client)
	if _, err := fhir.ParseRef(name); err == nil {
		return name
	}
	return strings.ToLower(name)
}

// shortHash is a keyed hash of a code, whatever its case, that is not 0. It has
// half of the bits of others: that is enough to find by, not to decide by.
func shortHash(set *keys.Set, kind, code string) int32 {
	return cmp.Or(int32(set.Hash(kind, strings.ToLower(code))), 1)
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
		e.Origin.Server = cmp.Or(e.Origin.Server, db.server)
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
	if e.Outcome == audit.Serious {
		e.Failed = g.Failed(e.Interaction, e.Type, nil)
	}
	if err := db.gate.Append(ctx, g.Tenant(), &e); err != nil {
		return err
	}
	trail.Written = true
	return nil
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
	parents, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (audit.Entry, error) {
		e, err := v.scanEntry(row)
		if errors.Is(err, errUnreadable) {
			return audit.Entry{}, nil // what the entry says of itself has to do
		}
		return e, err
	})
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

func (v *View) scanEntry(rows pgx.CollectableRow) (audit.Entry, error) { return v.scanTrail(rows) }

// errUnreadable says that an entry does not open under the tenant's key, or is
// not of a form that a server writes. What is in clear of it is known.
var errUnreadable = errors.New("an audit entry cannot be opened")

// scanTrail is scanEntry for rows with further columns, and rows of which the
// rest is not opened: sealed is NULL there.
func (v *View) scanTrail(rows pgx.CollectableRow, further ...any) (audit.Entry, error) {
	var e audit.Entry
	var interaction, outcome, number int16
	var sealed []byte
	to := []any{&e.Seq, &e.Parent, &e.Recorded, &interaction, &outcome, &number, &e.Version, &sealed}
	if err := rows.Scan(append(to, further...)...); err != nil || sealed == nil {
		return e, err
	}
	e.Recorded = e.Recorded.UTC()
	e.Outcome = audit.Outcome(outcome)
	e.Type = fhir.TypeNumbered(number)
	if interaction > 0 && int(interaction) <= len(interactions) {
		e.Interaction = interactions[interaction-1]
	}
	plain, err := v.keys.Open(entryKey, sealed, entryPlace(v.grant.Tenant().ID.Int(), e.Seq))
	if err == nil {
		err = e.UnmarshalSealed(plain)
	}
	if err != nil {
		return e, fmt.Errorf("entry %s: %w: %w", e.ID(), errUnreadable, err)
	}
	smart.Recall(&e.Agent)
	return e, nil
}
