package store

import (
	"context"
	"slices"

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
	// spare says that the Encounter is of no matter where all relations hold at the
	// patient.
	spare bool
}

func (v *View) foresee(p smart.Permit, ref fhir.Ref) *foresight {
	f := &foresight{v: v, permit: p, ref: ref}
	if v.writes != nil {
		return f // nothing that was asked before holds
	}
	where, by := search.Apart(v.allowed(p))
	f.consents = by != nil && v.consents.hint.Load() && !v.consents.asked
	holds := func(link search.Expr) (holds, known bool) {
		chain, ok := link.(search.Chain)
		return true, ok && chain.Type == "Patient"
	}
	f.spare = !slices.ContainsFunc(search.Links(search.Simplify(search.Settle(where, holds))), func(link search.Expr) bool {
		chain, ok := link.(search.Chain)
		return ok && chain.Type == "Encounter"
	})
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
	self, err := c.facts(ctx, scope{few: true}, f.self)
	if err != nil {
		return gate.Clause{}, err
	}
	about, err := c.factsAt(ctx, gate.SQL(`r.about`), f.about)
	if err != nil {
		return gate.Clause{}, err
	}
	end := gate.SQL(`r.encounter`)
	if f.spare && len(f.about) > 0 && len(f.encounter) > 0 {
		end = gate.SQL(`CASE WHEN a.facts IS NULL OR false = ANY (a.facts) THEN r.encounter END`)
	}
	encounter, err := c.factsAt(ctx, end, f.encounter)
	if err != nil {
		return gate.Clause{}, err
	}
	stmt := gate.SQL(`
		SELECT r.rid, r.type, r.id, r.version, r.updated, r.deleted, r.body, r.about, r.encounter,`).With(f.v.anyConsent(),
		gate.SQL(`,`), self, gate.SQL(`, a.facts,`), encounter, gate.SQL(`
		FROM   ~resource r, LATERAL (SELECT`), about, gate.SQL(`AS facts OFFSET 0) a
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

// facts is an array that says which of the relations hold at the resource that s is
// on, whose row is there.
func (c *compiler) facts(ctx context.Context, s scope, list []relation) (gate.Clause, error) {
	needs := true
	s.needs = &needs
	out := gate.SQL(`ARRAY[`)
	for i, r := range list {
		s.on = r.end.on
		cond, err := c.cond(ctx, s, r.end.where)
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
	facts, err := c.facts(ctx, scope{anchor: x, res: x, few: true}, list)
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
		if !f.spare || len(f.about) == 0 || ofAbout == nil || slices.Contains(ofAbout, false) {
			known(f.encounter, encounter, ofEncounter)
		}
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
