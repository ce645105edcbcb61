package rest

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// auditEvent is the type that the server writes and clients only read.
// https://hl7.org/fhir/R4/auditevent.html
const auditEvent fhir.Type = "AuditEvent"

// readAuditEvent answers with one entry of the audit trail.
func readAuditEvent(ctx context.Context, v *store.View, req *request) (*response, error) {
	page, err := v.AuditEvents(ctx, store.AuditQuery{ID: req.ref.ID, Count: 1}, store.Cursor{})
	if err != nil {
		return nil, err
	}
	if len(page.Entries) == 0 {
		return nil, fhir.Errorf(fhir.NotFound, "there is no such entry")
	}
	return found(req, asResource(page.Entries[0], req.base)), nil
}

// asResource renders an entry, which has one version and never another.
func asResource(e audit.Entry, base string) fhir.Resource {
	return fhir.Resource{
		Ref: fhir.Ref{Type: auditEvent, ID: e.ID()}, Version: 1, Updated: e.Recorded, Body: audit.Render(e, base),
	}
}

// searchAuditEvents answers with entries of the audit trail, newest first.
// https://hl7.org/fhir/R4/auditevent.html#search
func searchAuditEvents(ctx context.Context, v *store.View, req *request) (*response, error) {
	at := store.Cursor{Page: 1}
	if req.cursor != nil {
		at = *req.cursor
	}
	page, err := v.AuditEvents(ctx, req.trail, at)
	if fhir.IsCode(err, fhir.NotFound) { // of _id; a search finds none
		page, err = &store.AuditPage{}, nil
	}
	if err != nil {
		return nil, err
	}
	b := newBundle("searchset", req.now())
	b.links(req.pages(req.applied, page.Next)...)
	for _, e := range page.Entries {
		r := asResource(e, req.base)
		b.entry().fullURL(req.base, r.Ref).resource(req.show(auditEvent, r.Body)).mode("match").end()
	}
	return &response{status: http.StatusOK, body: b.bytes()}, nil
}

// auditParameters are what the audit trail is searched by.
var auditParameters = []string{"_id", "date", "agent", "patient", "entity", "action", "outcome", "purpose"}

// auditSearch describes those of auditParameters that searches of a type have,
// and purpose, which R4 lacks for the purpose of an event.
func auditSearch() []search.Parameter {
	list := []search.Parameter{{Name: "purpose", Type: "token"}}
	for _, p := range search.Parameters(auditEvent) {
		if slices.Contains(auditParameters, p.Name) {
			list = append(list, p)
		}
	}
	return list
}

// parseAuditSearch reads the parameters of a search of the audit trail.
func parseAuditSearch(req *request) error {
	req.trail = store.AuditQuery{Count: req.limits.Page}
	for _, p := range req.params {
		if p.Value == "" {
			continue
		}
		var err error
		switch {
		case p.Name == "_count":
			req.trail.Count, err = strconv.Atoi(p.Value)
			if req.trail.Count < 1 {
				return fhir.Errorf(fhir.Invalid, "_count of a search of the audit trail is a positive number")
			}
			req.trail.Count = min(req.trail.Count, req.limits.MaxPage)
			p.Value = strconv.Itoa(req.trail.Count)
		case p.Name == "_summary", p.Name == "_elements":
			_, err = req.takeSubset([]search.Param{p})
		case p.Name == "_sort" && p.Value == "-date": // the order that it has
		case p.Name == "date":
			err = narrow(&req.trail, p.Value)
		case slices.Contains(auditParameters, p.Name):
			if slices.ContainsFunc(req.applied, func(a search.Param) bool { return a.Name == p.Name }) {
				return fhir.Errorf(fhir.NotSupported, "the parameter %s can be given once", p.Name)
			}
			err = setAudit(&req.trail, p, req.base)
		case req.prefer.handling == "lenient":
			continue
		default:
			return fhir.Errorf(fhir.NotSupported, "the audit trail is searched by %s and _count", strings.Join(auditParameters, ", "))
		}
		if err != nil {
			return fhir.Errorf(fhir.Invalid, "the value of %s is malformed", p.Name)
		}
		req.applied = append(req.applied, p)
	}
	req.trail.Query = encode(req.applied)
	return nil
}

// setAudit reads one parameter other than date.
func setAudit(q *store.AuditQuery, p search.Param, base string) (err error) {
	reference := strings.TrimPrefix(p.Value, base+"/")
	switch p.Name {
	case "_id":
		if q.ID = p.Value; !fhir.ValidID(p.Value) {
			return fhir.Errorf(fhir.Invalid, "malformed id")
		}
	case "agent":
		q.Agent = reference
	case "purpose":
		if q.Purpose = code(p.Value); q.Purpose == "" {
			return fhir.Errorf(fhir.Invalid, "malformed code")
		}
	case "patient":
		if !strings.Contains(reference, "/") {
			reference = "Patient/" + reference
		}
		q.Patient, err = fhir.ParseRef(reference)
	case "entity":
		q.Entity, err = fhir.ParseRef(reference)
	case "action":
		for a := range strings.SplitSeq(p.Value, ",") {
			q.Actions = append(q.Actions, code(a))
		}
	case "outcome":
		for o := range strings.SplitSeq(p.Value, ",") {
			n, nerr := strconv.ParseInt(code(o), 10, 16)
			if nerr != nil {
				return nerr
			}
			q.Outcomes = append(q.Outcomes, audit.Outcome(n))
		}
	}
	return err
}

// code returns the code of a token, with or without its system.
func code(token string) string { return token[strings.LastIndexByte(token, '|')+1:] }

// narrow lets q reach only what was recorded at the date, which may have a
// prefix.
// https://hl7.org/fhir/R4/search.html#date
func narrow(q *store.AuditQuery, date string) error {
	prefix := "eq"
	if len(date) > 2 && date[0] >= 'a' {
		prefix, date = date[:2], date[2:]
	}
	from, to, err := span(date)
	if err != nil {
		return err
	}
	switch prefix {
	case "eq":
	case "ge":
		to = time.Time{}
	case "gt", "sa":
		from, to = to, time.Time{}
	case "le":
		from = time.Time{}
	case "lt", "eb":
		from, to = time.Time{}, from
	default:
		return fhir.Errorf(fhir.NotSupported, "the prefixes of date are eq, ge, gt, le, lt, sa and eb")
	}
	if from.After(q.From) {
		q.From = from
	}
	if !to.IsZero() && (q.To.IsZero() || to.Before(q.To)) {
		q.To = to
	}
	return nil
}

// span returns the time that a date or dateTime covers, the end excluded.
func span(date string) (from, to time.Time, err error) {
	if from, err = parseTime(date); err != nil {
		return from, to, err
	}
	switch len(date) {
	case len("2006"):
		return from, from.AddDate(1, 0, 0), nil
	case len("2006-01"):
		return from, from.AddDate(0, 1, 0), nil
	case len("2006-01-02"):
		return from, from.AddDate(0, 0, 1), nil
	case len("2006-01-02T15:04"):
		return from, from.Add(time.Minute), nil
	}
	if strings.Contains(date, ".") {
		return from, from.Add(time.Millisecond), nil
	}
	return from, from.Add(time.Second), nil
}
