package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// A GlassRequest is what somebody asks for: to see the record of a patient whom
// the policy keeps from them, because it is an emergency.
type GlassRequest struct {
	Patient fhir.Ref
	// Called is an identifier or the id of the patient, in place of Patient.
	Called  string
	Reason  string
	Purpose string        // "" is the tenant's first
	For     time.Duration // 0 is the longest
}

// A Glass is what has become of a request.
type Glass struct {
	ID      string
	State   GlassState
	User    string // fhirUser of who asked
	Client  string
	Patient fhir.Ref
	Purpose string
	Reason  string
	For     time.Duration
	// Alone says that nobody had to approve it.
	Alone     bool
	Requested time.Time
	DecidedBy string // who approved or refused, "" if nobody has
	// Begins and Until are when it is in force, zero if it was not approved.
	Begins, Until time.Time
	Ended         time.Time // zero if it has not
	EndedBy       string    // "" if its time was over, or the login
	ReviewedBy    string
	Outcome, Note string // of the review
	// Signed is the JWT of the tenant by which it is in force, "" if it never was.
	Signed string
}

// A GlassState says how far a Glass is.
type GlassState string

// The states.
const (
	GlassRequested GlassState = "requested"
	GlassRefused   GlassState = "refused"
	GlassLapsed    GlassState = "lapsed" // nobody decided in time
	GlassActive    GlassState = "active"
	GlassEnded     GlassState = "ended" // and waits for its review
	GlassReviewed  GlassState = "reviewed"
)

// GlassOutcomes are the outcomes of a review.
var GlassOutcomes = []string{"justified", "not-justified", "follow-up"}

func (r glassRow) state() GlassState {
	switch {
	case r.reviewed != nil:
		return GlassReviewed
	case r.begins != nil && r.ended == nil && r.now.Before(*r.until):
		return GlassActive
	case r.begins != nil:
		return GlassEnded
	case r.decided != nil:
		return GlassRefused
	case r.now.Sub(r.requested) > glassWaits:
		return GlassLapsed
	}
	return GlassRequested
}

// MaxGlassText bounds the reason, and the note of a review, in bytes.
const MaxGlassText = 2000

// BreakGlass asks for it. The Glass is in force when BreakGlass returns, or waits
// for an approval, as the tenant has chosen. The error is a *fhir.Error: Forbidden
// if who asks may not, whether or not there is such a patient; NotFound if there
// is none; MultipleMatch if several are called so; Conflict if it was asked for
// already.
func (db *DB) BreakGlass(ctx context.Context, g *smart.Grant, ask GlassRequest) (glass Glass, err error) {
	err = db.onGlass(ctx, g, smart.BreakGlass, func(x *glassAct) error {
		x.about(ask.Patient, audit.Glass{Purpose: ask.Purpose, Reason: ask.Reason})
		if err := x.mayAsk(&ask); err != nil {
			return err
		}
		if ask.Called != "" {
			if ask.Patient, err = x.called(ctx, ask.Called); err != nil {
				return err
			}
			x.about(ask.Patient, audit.Glass{Purpose: ask.Purpose, Reason: ask.Reason})
		}
		if err := x.knows(ctx, ask.Patient); err != nil {
			return err
		}
		glass, err = x.ask(ctx, ask)
		return err
	})
	if err == nil && glass.State == GlassActive {
		settle(ctx)
	}
	return glass, err
}

// DecideGlass approves the request with the id, which is then in force when
// DecideGlass returns, or refuses it. Errors are those of BreakGlass; Forbidden
// too if it is one's own.
func (db *DB) DecideGlass(ctx context.Context, g *smart.Grant, id string, approve bool) (Glass, error) {
	return db.changeGlass(ctx, g, smart.ApproveGlass, id, func(x *glassAct, row glassRow, asked smart.Glass) error {
		if err := x.another(row); err != nil {
			return err
		}
		if row.state() != GlassRequested {
			return errDecided()
		}
		_, subject := g.Login()
		var d *decision
		if approve {
			var err error
			if d, err = x.breaks(ctx, row, asked, g.Agent().User); err != nil {
				return err
			}
		}
		return db.packages.decideGlass(ctx, g.Tenant(), id, g.Agent().User, subject, d)
	})
}

// EndGlass ends what is in force: one's own, or another's, for who may approve.
// Errors are those of DecideGlass.
func (db *DB) EndGlass(ctx context.Context, g *smart.Grant, id string) (Glass, error) {
	return db.changeGlass(ctx, g, smart.ApproveGlass, id, func(x *glassAct, row glassRow, _ smart.Glass) error {
		by := g.Agent().User
		if err := db.packages.EndGlass(ctx, g.Tenant(), id, by); err != nil {
			return err
		}
		row.endedBy = &by
		if err := db.tellEnd(ctx, g.Tenant(), x.keys, row); err != nil { // it is told later
			db.log.Warn("telling of the end of a broken glass", oplog.Cause(err))
		}
		return nil
	})
}

// ReviewGlass keeps what was found of what has ended. The outcome is one of
// GlassOutcomes. Errors are those of DecideGlass.
func (db *DB) ReviewGlass(ctx context.Context, g *smart.Grant, id, outcome, note string) (Glass, error) {
	return db.changeGlass(ctx, g, smart.ReviewGlass, id, func(x *glassAct, row glassRow, _ smart.Glass) error {
		if err := x.another(row); err != nil {
			return err
		}
		_, subject := g.Login()
		review := glassReview{Glass: id, Reviewer: g.Agent().User, Outcome: outcome, Note: note, At: time.Now().Unix()}
		kept, err := smart.KeepSigned(x.keys, g.Tenant(), id, smart.GlassReviewed, review)
		if err != nil {
			return err
		}
		x.entry.Reason = "reviewed: " + outcome
		return db.packages.reviewGlass(ctx, g.Tenant(), id, g.Agent().User, subject, kept)
	})
}

// glassReview is what was found in review.
type glassReview struct {
	Glass    string `json:"jti"`
	Reviewer string `json:"reviewer"`
	Outcome  string `json:"outcome"`
	Note     string `json:"note,omitzero"`
	At       int64  `json:"iat"`
}

// Glasses returns requests and what became of them, 200 at most: of all patients
// for whom g may approve or review, and one's own. First are those that are in force
// or wait for an approval, then those that wait for a review, each the newest first.
func (db *DB) Glasses(ctx context.Context, g *smart.Grant) (list []Glass, err error) {
	err = db.onGlass(ctx, g, 0, func(x *glassAct) error {
		user := g.Agent().User
		if len(x.permits) > 0 {
			user = ""
		} else if _, err := g.PermitGlass(smart.BreakGlass); err != nil {
			return err
		}
		rows, err := db.packages.glasses(ctx, g.Tenant(), user)
		if err != nil {
			return err
		}
		for _, row := range rows {
			one, err := x.open(row)
			if err != nil { // nobody of the tenant made it: no server goes by it
				db.log.Error("reading a broken glass", oplog.Tenant(g.Tenant().Slug.String()), oplog.Named("glass", row.id), oplog.Cause(err))
				continue
			}
			if row.user != g.Agent().User {
				if err := x.knows(ctx, one.Patient); fhir.IsCode(err, fhir.NotFound) {
					continue
				} else if err != nil {
					return err
				}
			}
			list = append(list, one)
			x.shown(one.Patient)
		}
		return nil
	})
	return list, err
}

// settle waits until every server knows what was decided.
func settle(ctx context.Context) {
	select {
	case <-time.After(smart.RevocationDelay):
	case <-ctx.Done(): // nobody waits for the answer
	}
}

// A glassAct is an act of who asks about broken glasses, in its View.
type glassAct struct {
	*View
	permits []smart.Permit // any of which lets them
	entry   audit.Entry
	linked  []audit.Entry
}

// onGlass runs fn in a View, with what g may do by any of the acts; 0 stands for
// those of who approves and reviews. What fn did is in the audit trail as its
// entry says before onGlass returns.
func (db *DB) onGlass(ctx context.Context, g *smart.Grant, do smart.GlassAct, fn func(*glassAct) error) error {
	if db.packages == nil {
		return fhir.Errorf(fhir.NotSupported, "nobody keeps who breaks a glass here")
	}
	return db.View(ctx, g, func(v *View) error {
		x := &glassAct{View: v, entry: audit.Entry{Interaction: fhir.Operation, Type: "Patient"}}
		for _, act := range []smart.GlassAct{smart.BreakGlass, smart.ApproveGlass, smart.ReviewGlass} {
			if act != do && (do != 0 || act == smart.BreakGlass) {
				continue
			}
			if p, err := g.PermitGlass(act); err == nil {
				x.permits = append(x.permits, p)
			}
		}
		err := fn(x)
		v.attempt(x.entry)
		v.gate.Trail().Linked = append(v.gate.Trail().Linked, x.linked...)
		return db.unkept(err)
	})
}

// unkept says of an error that is not the client's to try again: what cannot be
// kept is as if it were not audited.
func (db *DB) unkept(err error) error {
	var fe *fhir.Error
	if err == nil || errors.As(err, &fe) {
		return err
	}
	db.log.Error("breaking a glass", oplog.Cause(scrubbed(err)))
	return fhir.Errorf(fhir.Transient, "the server cannot tell whether this was done, look and try again")
}

// about notes in the trail whose record it is, and through which glass.
func (x *glassAct) about(patient fhir.Ref, through audit.Glass) {
	x.entry.Entity, x.entry.Patient, x.entry.Glass = patient, patient, through
}

// shown notes in the trail that it was told of a patient.
func (x *glassAct) shown(patient fhir.Ref) {
	if !slices.ContainsFunc(x.linked, func(e audit.Entry) bool { return e.Patient == patient }) {
		x.linked = append(x.linked, audit.Entry{Interaction: fhir.Operation, Type: "Patient", Entity: patient, Patient: patient})
	}
}

// mayAsk returns nil if who asks may, for what and for as long as they do; it
// fills in what they left out.
func (x *glassAct) mayAsk(ask *GlassRequest) error {
	b := x.grant.Tenant().Settings.BreakGlass
	if ask.Purpose == "" {
		ask.Purpose = b.For()[0]
	}
	if ask.For == 0 {
		ask.For = b.Longest()
	}
	switch {
	case !b.On():
		return fhir.Errorf(fhir.Forbidden, "the tenant does not allow this")
	case len(x.permits) == 0:
		return errGlass()
	case !slices.Contains(b.For(), ask.Purpose):
		return fhir.Errorf(fhir.Forbidden, "the tenant allows this for %s", b.For())
	case ask.For > b.Longest():
		return fhir.Errorf(fhir.Forbidden, "the tenant allows this for %d minutes at most", b.Longest()/time.Minute)
	}
	return nil
}

func errGlass() error { return fhir.Errorf(fhir.Forbidden, "the access policy does not allow this") }

// knows returns nil if there is the patient, and some Permit is for them too.
func (x *glassAct) knows(ctx context.Context, patient fhir.Ref) error {
	for _, p := range x.permits {
		cur, err := x.current(ctx, p, patient)
		if err != nil {
			return err
		}
		if cur.deleted {
			continue
		}
		if err := x.visible(ctx, p, cur); !fhir.IsCode(err, fhir.NotFound) {
			return err
		}
	}
	return unknown(patient)
}

// called returns the one patient with the identifier or the id, among those for
// whom some Permit is.
func (x *glassAct) called(ctx context.Context, name string) (fhir.Ref, error) {
	q, err := search.Parse("Patient", []search.Param{{Name: "identifier", Value: name}}, search.Options{})
	if err != nil {
		return fhir.Ref{}, fhir.Errorf(fhir.Invalid, "that is no identifier")
	}
	either := search.Or{q.On("Patient")}
	if fhir.ValidID(name) {
		either = append(either, search.HasID{name})
	}
	one := fhir.Ref{}
	for _, p := range x.permits {
		pl, err := x.plan(ctx, p, "Patient", either)
		if err != nil {
			return fhir.Ref{}, err
		}
		two := &sheet{size: 2}
		if err := x.indexed(ctx, []plan{pl}, newest, position{}, two); err != nil {
			return fhir.Ref{}, err
		}
		for _, r := range two.found {
			if !one.IsZero() && r.Ref != one {
				return fhir.Ref{}, fhir.Errorf(fhir.MultipleMatch, "several patients are called so: give the identifier with its system, as system|value")
			}
			one = r.Ref
		}
	}
	if one.IsZero() {
		return fhir.Ref{}, fhir.Errorf(fhir.NotFound, "there is no such patient")
	}
	return one, nil
}

// another returns nil if who asks is not who asked to break the glass.
func (x *glassAct) another(row glassRow) error {
	if _, subject := x.grant.Login(); row.user == x.grant.Agent().User || row.subject == subject {
		return fhir.Errorf(fhir.Forbidden, "this is for another person than who asked for it")
	}
	return nil
}

// changeGlass does what who asks may do to the one with the id, and returns it as
// it is then on every server.
func (db *DB) changeGlass(ctx context.Context, g *smart.Grant, do smart.GlassAct, id string, fn func(*glassAct, glassRow, smart.Glass) error) (glass Glass, err error) {
	err = db.onGlass(ctx, g, do, func(x *glassAct) error {
		row, err := db.packages.glass(ctx, g.Tenant(), id)
		if len(x.permits) == 0 && (err != nil || row.user != g.Agent().User) {
			return errGlass()
		}
		if err != nil {
			return err
		}
		asked, err := x.asked(row)
		if err != nil {
			return err
		}
		patient := fhir.Ref{Type: "Patient", ID: asked.Patient}
		x.about(patient, asked.Audit())
		if row.user != g.Agent().User {
			if err := x.knows(ctx, patient); err != nil {
				return err
			}
		}
		if err := fn(x, row, asked); err != nil {
			return err
		}
		if row, err = db.packages.glass(ctx, g.Tenant(), id); err == nil {
			glass, err = x.open(row)
		}
		return err
	})
	if err == nil {
		settle(ctx)
	}
	return glass, err
}

// ask keeps the request, and if nobody has to approve it breaks the glass.
func (x *glassAct) ask(ctx context.Context, ask GlassRequest) (Glass, error) {
	t, who := x.grant.Tenant(), x.grant.Agent()
	session, subject := x.grant.Login()
	now := time.Now()
	asked := smart.Glass{
		ID: rand.Text(), Tenant: t.Slug.String(), User: who.User, Client: who.Client, Session: session,
		Patient: ask.Patient.ID, Purpose: ask.Purpose, Reason: ask.Reason, NotYet: now.Unix(), Expires: now.Add(ask.For).Unix(),
	}
	x.about(ask.Patient, asked.Audit())
	request, err := smart.KeepSigned(x.keys, t, asked.ID, smart.GlassAsked, asked)
	if err != nil {
		return Glass{}, err
	}
	b := t.Settings.BreakGlass
	row := glassRow{
		id: asked.ID, user: who.User, subject: subject, client: who.Client, session: session,
		patient: x.rid(ask.Patient), alone: b.Alone(), request: request,
	}
	within := time.Duration(b.ReviewWithin) * time.Minute
	var d *decision
	if row.alone {
		if err := x.db.packages.mayAddGlass(ctx, x.db.packages.pool, t, row, within); err != nil {
			return Glass{}, err
		}
		if d, err = x.breaks(ctx, row, asked, ""); err != nil {
			return Glass{}, err
		}
	}
	if err := x.db.packages.addGlass(ctx, t, row, within, d); err != nil {
		return Glass{}, err
	}
	if row, err = x.db.packages.glass(ctx, t, row.id); err != nil {
		return Glass{}, err
	}
	return x.open(row)
}

// breaks returns the decision that the glass is broken. That it is, the audit
// trail of the tenant says before: if it cannot, or the alert cannot be kept, it
// is not.
func (x *glassAct) breaks(ctx context.Context, row glassRow, asked smart.Glass, approver string) (*decision, error) {
	t := x.grant.Tenant()
	longest := t.Settings.BreakGlass.Longest()
	begins := time.Now().Truncate(time.Second)
	until := begins.Add(min(longest, time.Duration(asked.Expires-asked.NotYet)*time.Second))
	broken, rule, why := asked, alert.BrokenGlass, "approved by "+approver
	if row.alone {
		rule, why = alert.BrokenAlone, audit.GlassAlone
	}
	broken.Approver, broken.NotYet, broken.Expires = approver, begins.Unix(), until.Unix()
	signed, err := smart.KeepSigned(x.keys, t, row.id, smart.GlassBroken, broken)
	if err != nil {
		return nil, err
	}
	if err := x.db.gate.Append(ctx, t, glassEvent(t, audit.GlassBroken, row, asked, why, x.grant.Origin())); err != nil {
		return nil, err
	}
	return &decision{begins, until, signed, alert.GlassSighting(t, rule, row.client, row.user, x.grant.Origin().RequestID)}, nil
}

// glassEvent is the audit entry of the begin or the end of a broken glass.
func glassEvent(t *tenant.Tenant, what fhir.Interaction, row glassRow, asked smart.Glass, why string, o audit.Origin) *audit.Entry {
	patient := fhir.Ref{Type: "Patient", ID: asked.Patient}
	return &audit.Entry{
		Seq: audit.NextSeq(), Recorded: time.Now().UTC(), Interaction: what, Reason: why,
		Origin: audit.Origin{RequestID: o.RequestID, Server: o.Server},
		Agent:  audit.Agent{Client: row.client, User: row.user, Policy: t.PolicyVersion},
		Type:   "Patient", Entity: patient, Patient: patient, Glass: asked.Audit(),
	}
}

// asked opens what was asked for.
func (x *glassAct) asked(row glassRow) (asked smart.Glass, err error) {
	return readAsked(x.keys, x.grant.Tenant(), row)
}

func readAsked(set *keys.Set, t *tenant.Tenant, row glassRow) (asked smart.Glass, err error) {
	_, err = smart.ReadSigned(set, t, row.id, smart.GlassAsked, row.request, &asked)
	return asked, err
}

// open returns what has become of a request.
func (x *glassAct) open(row glassRow) (Glass, error) {
	asked, err := x.asked(row)
	if err != nil {
		return Glass{}, err
	}
	g := Glass{
		ID: row.id, State: row.state(), User: asked.User, Client: asked.Client, Patient: fhir.Ref{Type: "Patient", ID: asked.Patient},
		Purpose: asked.Purpose, Reason: asked.Reason, For: time.Duration(asked.Expires-asked.NotYet) * time.Second, Alone: row.alone, Requested: row.requested.UTC(),
		DecidedBy: *cmp.Or(row.decidedBy, new(string)), Begins: timeOf(row.begins), Until: timeOf(row.until),
		Ended: timeOf(row.ended), EndedBy: *cmp.Or(row.endedBy, new(string)), ReviewedBy: *cmp.Or(row.reviewedBy, new(string)),
	}
	if row.signed != nil {
		if g.Signed, err = smart.ReadSigned(x.keys, x.grant.Tenant(), row.id, smart.GlassBroken, row.signed, &smart.Glass{}); err != nil {
			return Glass{}, err
		}
	}
	if row.review != nil {
		var found glassReview
		if _, err := smart.ReadSigned(x.keys, x.grant.Tenant(), row.id, smart.GlassReviewed, row.review, &found); err != nil {
			return Glass{}, err
		}
		g.Outcome, g.Note = found.Outcome, found.Note
	}
	return g, nil
}

// timeOf is a time of SQL, zero for NULL.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
