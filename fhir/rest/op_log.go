package rest

import (
	"context"
	"net/http"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// logOperations show that the audit trail is as it was signed: to those who may
// read all of it. They are our own; what they answer can be checked without the
// server.
//
// https://www.rfc-editor.org/rfc/rfc6962#section-2.1
var logOperations = []operation{
	{name: "log-checkpoint", url: ours("audit-log-checkpoint"), level: onType, on: []fhir.Type{auditEvent}, look: logCheckpoint},
	{name: "log-inclusion", url: ours("audit-log-inclusion"), level: onInstance, on: []fhir.Type{auditEvent}, look: logInclusion},
	{
		name: "log-consistency", url: ours("audit-log-consistency"), level: onType, on: []fhir.Type{auditEvent},
		in:   []parameter{{name: "from", typ: "positiveInt", min: 1, max: 1}, {name: "to", typ: "positiveInt", max: 1}},
		look: logConsistency,
	},
	logExportOperation,
}

// ours returns the canonical URL of an operation that is no standard's.
func ours(id string) string { return "urn:cordon:operation:" + id }

// logCheckpoint answers with the newest checkpoint of the log.
func logCheckpoint(ctx context.Context, v *store.View, _ *request) (*response, error) {
	text, err := v.LogCheckpoint(ctx)
	return proven(ledger.Proof{Checkpoint: text}, err)
}

// logInclusion proves that an entry is in the log.
func logInclusion(ctx context.Context, v *store.View, req *request) (*response, error) {
	return proven(v.LogInclusion(ctx, req.ref.ID))
}

// logConsistency proves that a log is the beginning of a later one.
func logConsistency(ctx context.Context, v *store.View, req *request) (*response, error) {
	return proven(v.LogConsistency(ctx, int64(req.in.number("from", 0)), int64(req.in.number("to", 0))))
}

func proven(p ledger.Proof, err error) (*response, error) {
	if err != nil {
		return nil, err
	}
	return &response{status: http.StatusOK, body: p.Parameters()}, nil
}
