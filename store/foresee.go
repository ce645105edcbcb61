package store

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A foresight reads the current version of a resource and asks in the same
// statement what deciding about it will likely take: whether the relations of
// the policy hold at its patient and its Encounter, and what that patient
// consents to. It decides nothing. When the resource is open it is known what is
// to be asked, and what was not foreseen is asked then.
type foresight struct {
	v      *View
	permit smart.Permit
	ref    fhir.Ref
	// Relations that end at the resource itself, at its patient and at its
	// Encounter.
	self, about, encounter []relation
	consents               bool
}

func (v *View) foresee(p smart.Permit, ref fhir.Ref) *foresight {
	f := &foresight{v: v, permit: p, ref: ref}
	if v.writes != nil {
		return f // nothing that was asked before holds
	}
	where, by := search.Apart(p.Where())
	f.consents = by != nil && v.consents.hint.Load() && !v.consents.asked
	for _, r := range v.related(p.On(), where) {
		chain, ok := r.link.(search.Chain)
		switch {
		case !ok:
			f.self = append(f.self, r)
		case chain.Type == "Patient":
			f.about = append(f.about, r)
		case chain.Type == "Encounter":
			f.encounter = append(f.encounter, r)
		}
	}
	return f
}

// statement returns the resource as one row, and consents of its patient as
// others.
func (f *foresight) statement(ctx context.Context) (gate.Clause, error) {
	c := &compiler{v: f.v, permit: f.permit}
	rid := f.v.rid(f.ref)
	self, err := c.facts(ctx, 0, f.self)
	if err != nil {
		return gate.Clause{}, err
	}
	about, err := c.factsAt(ctx, gate.SQL(`r.about`), f.about)
	if err != nil {
		return gate.Clause{}, err
	}
	encounter, err := c.factsAt(ctx, gate.SQL(`r.encounter`), f.encounter)
	if err != nil {
		return gate.Clause{}, err
	}
	stmt := gate.SQL(`
		SELECT r.rid, r.type, r.id, r.version, r.updated, r.deleted, r.body, r.about, r.encounter,`).With(f.v.anyConsent(),
		gate.SQL(`,`), self, gate.SQL(`,`), about, gate.SQL(`,`), encounter, gate.SQL(`
		FROM   ~resource r
		WHERE  r.tenant_id = $1 AND r.rid = ? AND r.type = ? AND r.id = ?`, rid, f.ref.Type.Number(), f.ref.ID))
	if !f.consents {
		return stmt, nil
	}
	of := gate.SQL(`(SELECT o.about FROM ~resource o WHERE o.tenant_id = $1 AND o.rid = ?)`, rid)
	if f.ref.Type == "Patient" {
		of = gate.SQL(`?`, rid)
	}
	return stmt.With(gate.SQL(`UNION ALL (
		SELECT y.rid, y.type, y.id, y.version, y.updated, y.deleted, y.body, NULL, NULL, true, NULL, NULL, NULL
		FROM   ~idx_ref x
		JOIN   ~resource y ON y.tenant_id = $1 AND y.rid = x.rid
		WHERE  x.tenant_id = $1 AND x.key = ? AND x.target =`, f.v.refKey(search.ConsentPatient, search.Token{})), of, gate.SQL(`AND NOT y.deleted
		LIMIT  ?)`, maxConsents+1)), nil
}

// facts is an array that says which of the relations hold at the row.
func (c *compiler) facts(ctx context.Context, at gate.Row, list []relation) (gate.Clause, error) {
	needs := true
	out := gate.SQL(`ARRAY[`)
	for i, r := range list {
		cond, err := c.cond(ctx, scope{on: r.end.on, anchor: at, res: at, needs: &needs, few: true}, r.end.where)
		if err != nil {
			return gate.Clause{}, err
		}
		if i > 0 {
			out = out.With(gate.SQL(`,`))
		}
		out = out.With(cond)
	}
	return out.With(gate.SQL(`]::bool[]`)), nil
}

// factsAt is facts at the end that the column names; NULL if that is not there,
// and then no table is asked, which each cost as much as finding a row.
func (c *compiler) factsAt(ctx context.Context, end gate.Clause, list []relation) (gate.Clause, error) {
	if len(list) == 0 {
		return gate.SQL(`NULL::bool[]`), nil
	}
	x := c.row()
	facts, err := c.facts(ctx, x, list)
	if err != nil {
		return gate.Clause{}, err
	}
	return gate.SQL(`CASE WHEN`).With(end, gate.SQL(`IS NOT NULL THEN (SELECT`), facts, from(gate.SQL(`FROM ~resource`), x), x.Col("rid"), gate.SQL(`=`), end,
		gate.SQL(`AND`), x.Col("type"), gate.SQL(`= ? AND NOT`, list[0].end.on.Number()), x.Col("deleted"), gate.SQL(`) END`)), nil
}

// learn reads the answer and keeps what it says. It returns nil if there is no
// such resource.
func (f *foresight) learn(rows pgx.Rows) (*row, error) {
	var found *row
	var consents []row
	var r row
	var number int16
	var about, encounter pgtype.Int8
	var some bool
	var self, ofAbout, ofEncounter []bool
	into := []any{&r.rid, &number, &r.ref.ID, &r.version, &r.updated, &r.deleted, &r.body, &about, &encounter, &some, &self, &ofAbout, &ofEncounter}
	patient := pgtype.Int8{Int64: f.v.rid(f.ref), Valid: f.ref.Type == "Patient"}
	_, err := pgx.ForEachRow(rows, into, func() error {
		one := r
		one.ref.Type, r.body = fhir.TypeNumbered(number), nil
		if one.ref != f.ref {
			consents = append(consents, one)
			return nil
		}
		found = &one
		f.v.consents.tell(some)
		known(f.self, pgtype.Int8{Int64: one.rid, Valid: true}, self)
		known(f.about, about, ofAbout)
		known(f.encounter, encounter, ofEncounter)
		if !patient.Valid {
			patient = about
		}
		return nil
	})
	if err != nil || found == nil || !f.consents || !patient.Valid {
		return found, err
	}
	return found, f.v.keepConsents(consents, []int64{patient.Int64})
}

// known keeps for which relations it is known whether they hold at the end.
func known(list []relation, end pgtype.Int8, facts []bool) {
	for i, r := range list {
		if end.Valid {
			r.end.holds[end.Int64] = i < len(facts) && facts[i]
		}
	}
}
