package rest

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// logExportOperation gives the audit trail away: page by page the lines of a file
// that whoever gets it verifies without the server.
var logExportOperation = operation{
	name: "log-export", url: ours("audit-log-export"), level: onType, on: []fhir.Type{auditEvent},
	in: inTime(
		parameter{name: "why", typ: "string", min: 1, max: 1}, parameter{name: "patient", typ: "string", max: 1},
		parameter{name: "agent", typ: "string", max: 1}, parameter{name: "request", typ: "string", max: 1},
	), parse: parseLogExport, look: logExport,
}

// exportedAtOnce is how many entries a page has if nobody says: each costs some
// twenty looks into the log, for the proof.
const exportedAtOnce = 200

// maxWhy bounds the words that say why a trail is exported.
const maxWhy = 500

func parseLogExport(req *request) error {
	why := req.in.text("why")
	if strings.TrimSpace(why) == "" || len(why) > maxWhy {
		return fhir.Errorf(fhir.Invalid, "parameter why has to say why, in at most %d bytes", maxWhy)
	}
	params := []search.Param{{Name: "_sort", Value: "date"}}
	for _, name := range []string{"patient", "agent"} {
		if value := req.in.text(name); value != "" {
			params = append(params, search.Param{Name: name, Value: plainValue(value)})
		}
	}
	return parseTrail(req, min(exportedAtOnce, req.limits.MaxPage), params...)
}

// logExport answers with a page. Of a request there are its entry and those that
// are a part of it.
func logExport(ctx context.Context, v *store.View, req *request) (*response, error) {
	request := req.in.text("request")
	page, err := v.LogExport(ctx, req.search, req.trailCursor(), req.in.text("why"), func(e audit.Entry) bool {
		return request == "" || e.Origin.RequestID == request
	})
	if err != nil {
		return nil, err
	}
	var out results
	out.text("lines", "base64Binary", base64.StdEncoding.EncodeToString(page.Lines))
	out.rest(req, &store.AuditPage{Next: page.Next})
	return out.response(), nil
}
