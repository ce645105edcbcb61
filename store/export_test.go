package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// NewIndexer returns an Indexer that was asked for the requests.
func NewIndexer(db *DB, requests map[int32]IndexRequest, part int) *Indexer {
	return &Indexer{DB: db, Part: part, requests: requests}
}

// SetFew makes searches of more than n matches go along an index to sort them.
func (db *DB) SetFew(n int) { db.few = n }

// ReadOnce is Read, and fails if that takes more than one statement.
func (db *DB) ReadOnce(ctx context.Context, g *smart.Grant, ref fhir.Ref) error {
	_, err := db.readOnce(ctx, g, ref)
	return err
}

// Purge removes what is of no more use, as servers do each minute.
func (r *Registry) Purge(ctx context.Context) { r.purge(ctx) }

// SetClock makes the clock of this server another one.
func (r *Registry) SetClock(now func() time.Time) { r.clock.now = now }

// Broken keeps a glass that was broken as it says.
func (db *DB) Broken(ctx context.Context, t *tenant.Tenant, g smart.Glass) error {
	set, err := db.keys.Of(ctx, t.ID)
	if err != nil {
		return err
	}
	row := glassRow{id: g.ID, user: g.User, subject: g.User, client: g.Client, session: g.Session, patient: set.Hash("s", "Patient/"+g.Patient), alone: true}
	d := decision{begins: time.Unix(g.NotYet, 0), until: time.Unix(g.Expires, 0), sighting: alert.GlassSighting(t, alert.BrokenAlone, g.Client, g.User, "r")}
	if row.request, err = smart.KeepSigned(set, t, g.ID, smart.GlassAsked, g); err != nil {
		return err
	}
	if d.signed, err = smart.KeepSigned(set, t, g.ID, smart.GlassBroken, g); err != nil {
		return err
	}
	return db.packages.addGlass(ctx, t, row, time.Hour, &d)
}

// DieTelling tells of the ends of glasses as who dies before noting that it did.
func (db *DB) DieTelling(ctx context.Context, t *tenant.Tenant) error {
	ended, err := db.packages.endedGlasses(ctx, t)
	for _, row := range ended {
		e := glassEvent(t, audit.GlassEnded, row, smart.Glass{Patient: "p", Purpose: "BTG"}, "", audit.Origin{})
		if e.Seq, err = db.packages.tellGlass(ctx, t, row.id, e.Seq); err != nil {
			return err
		}
		if err := db.gate.AppendAgain(ctx, t, e); err != nil {
			return err
		}
	}
	return err
}

// ExplainTrail returns the plan of the statement that the search of the audit
// trail begins with.
func (v *View) ExplainTrail(ctx context.Context, q *search.Query) ([]string, error) {
	t, err := v.trail(fhir.SearchType, q.Where)
	if err != nil {
		return nil, err
	}
	stmt, _ := t.statement(0, 21)
	rows, err := v.query(ctx, t.permit, gate.SQL(`EXPLAIN`).With(stmt).Custom(true))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// SetTrail sets the bounds of a page of the audit trail: how many entries are
// looked at, opened, and looked at by one statement.
func (db *DB) SetTrail(seen, opened, step int) { db.trail = trailBounds{seen, opened, step} }

// TrailColumns are those of the audit trail, in the order of TrailRow.
var TrailColumns = []string{
	"tenant_id", "seq", "recorded", "interaction", "outcome", "type", "agent", "patient", "entity", "version", "client", "site", "purpose", "sealed",
}

// TrailRow returns the row of an entry.
func (db *DB) TrailRow(ctx context.Context, t *tenant.Tenant, e *audit.Entry) ([]any, error) {
	r, err := db.sealEntry(ctx, t, e)
	return []any{
		r.Tenant, r.Seq, r.Recorded, r.Interaction, r.Outcome, r.Type, r.Agent, r.Patient, r.Entity, r.Version, r.Client, r.Site, orNull(r.Purpose), r.Sealed,
	}, err
}

// orNull is n, or SQL's NULL for 0.
func orNull(n int64) any {
	if n == 0 {
		return nil
	}
	return n
}

// AppendEntry writes the entry as it is, of whatever time.
func (db *DB) AppendEntry(ctx context.Context, t *tenant.Tenant, e *audit.Entry) error {
	return db.gate.Append(ctx, t, e)
}
