package rest

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// breakGlassOperations let staff see the record of a patient that the access
// policy keeps from them, because it is an emergency; and let others approve,
// end and review that. They are not of the standard, which knows the purpose BTG
// and the audit events of an emergency override.
// https://hl7.org/fhir/R4/security.html#narrative
var breakGlassOperations = []operation{
	{
		name: "break-glass", url: ours("break-glass"), level: onInstance, on: []fhir.Type{"Patient"}, affectsState: true, alone: true,
		in: []parameter{
			{name: "reason", typ: "string", min: 1, max: 1}, {name: "purpose", typ: "code", max: 1}, {name: "minutes", typ: "positiveInt", max: 1},
		},
		parse: parseBreakGlass, whole: breakGlass,
	},
	{name: "break-glass-list", url: ours("break-glass-list"), level: onSystem, alone: true, whole: listGlasses},
	{name: "break-glass-approve", url: ours("break-glass-approve"), level: onSystem, affectsState: true, alone: true, in: takesGlass, whole: decideGlass(true)},
	{name: "break-glass-refuse", url: ours("break-glass-refuse"), level: onSystem, affectsState: true, alone: true, in: takesGlass, whole: decideGlass(false)},
	{name: "break-glass-end", url: ours("break-glass-end"), level: onSystem, affectsState: true, alone: true, in: takesGlass, whole: endGlass},
	{
		name: "break-glass-review", url: ours("break-glass-review"), level: onSystem, affectsState: true, alone: true,
		in:    slices.Concat(takesGlass, []parameter{{name: "outcome", typ: "code", min: 1, max: 1}, {name: "note", typ: "string", max: 1}}),
		parse: parseReview, whole: reviewGlass,
	},
}

var takesGlass = []parameter{{name: "id", typ: "string", min: 1, max: 1}}

// parseBreakGlass holds the reason to be one.
func parseBreakGlass(req *request) error {
	if strings.TrimSpace(req.in.text("reason")) == "" {
		return fhir.Errorf(fhir.Required, "parameter reason is missing").WithStatus(http.StatusBadRequest)
	}
	return bounded(req, "reason")
}

func parseReview(req *request) error {
	if !slices.Contains(store.GlassOutcomes, req.in.text("outcome")) {
		return fhir.Errorf(fhir.Invalid, "parameter outcome is one of %s", strings.Join(store.GlassOutcomes, ", "))
	}
	return bounded(req, "note")
}

func bounded(req *request, name string) error {
	if len(req.in.text(name)) > store.MaxGlassText {
		return fhir.Errorf(fhir.TooLong, "parameter %s has at most %d bytes", name, store.MaxGlassText)
	}
	return nil
}

// breakGlass asks to see the record of the patient.
func breakGlass(ctx context.Context, s *server, req *request) (*response, error) {
	minutes := min(req.in.number("minutes", 0), 1<<20)
	return answerGlass(s.DB.BreakGlass(ctx, req.grant, store.GlassRequest{
		Patient: req.ref, Reason: req.in.text("reason"), Purpose: req.in.text("purpose"), For: time.Duration(minutes) * time.Minute,
	}))
}

// decideGlass approves what another person asked for, or refuses it.
func decideGlass(approve bool) func(context.Context, *server, *request) (*response, error) {
	return func(ctx context.Context, s *server, req *request) (*response, error) {
		return answerGlass(s.DB.DecideGlass(ctx, req.grant, req.in.text("id"), approve))
	}
}

// endGlass ends what is in force.
func endGlass(ctx context.Context, s *server, req *request) (*response, error) {
	return answerGlass(s.DB.EndGlass(ctx, req.grant, req.in.text("id")))
}

// reviewGlass keeps what was found of what has ended.
func reviewGlass(ctx context.Context, s *server, req *request) (*response, error) {
	return answerGlass(s.DB.ReviewGlass(ctx, req.grant, req.in.text("id"), req.in.text("outcome"), req.in.text("note")))
}

// listGlasses answers with what was asked for and what became of it.
func listGlasses(ctx context.Context, s *server, req *request) (*response, error) {
	list, err := s.DB.Glasses(ctx, req.grant)
	if err != nil {
		return nil, err
	}
	var out results
	for _, g := range list {
		out.parts("request", func(r *results) { r.glass(g) })
	}
	return out.response(), nil
}

func answerGlass(g store.Glass, err error) (*response, error) {
	if err != nil {
		return nil, err
	}
	var out results
	out.glass(g)
	return out.response(), nil
}

// glass adds what is known of g.
func (r *results) glass(g store.Glass) {
	text := func(name, typ, value string) {
		if value != "" {
			r.text(name, typ, value)
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			r.text(name, "instant", t.Format(instant))
		}
	}
	r.text("id", "string", g.ID)
	r.text("state", "code", string(g.State))
	text("user", "string", g.User)
	text("client", "string", g.Client)
	text("patient", "string", g.Patient.String())
	text("purpose", "code", g.Purpose)
	text("reason", "string", g.Reason)
	r.value("minutes", "positiveInt", strconv.AppendInt(nil, int64(g.For/time.Minute), 10))
	r.boolean("withoutApproval", g.Alone)
	at("requested", g.Requested)
	text("decidedBy", "string", g.DecidedBy)
	at("from", g.Begins)
	at("until", g.Until)
	at("ended", g.Ended)
	text("endedBy", "string", g.EndedBy)
	text("reviewedBy", "string", g.ReviewedBy)
	text("outcome", "code", g.Outcome)
	text("note", "string", g.Note)
	text("signed", "string", g.Signed)
}
