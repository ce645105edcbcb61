package rest

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// everythingOperations answer with the record of a patient or of an encounter.
// https://hl7.org/fhir/R4/patient-operation-everything.html
// https://hl7.org/fhir/R4/encounter-operation-everything.html
var everythingOperations = []operation{
	{
		name: "everything", url: definition("Patient-everything"), level: onType | onInstance, on: []fhir.Type{"Patient"},
		in: append([]parameter{{name: "start", typ: "date", max: 1}, {name: "end", typ: "date", max: 1}}, ofRecords...), parse: parseEverything, look: wholeRecord,
	},
	{
		name: "everything", url: definition("Encounter-everything"), level: onInstance, on: []fhir.Type{"Encounter"},
		in: ofRecords, parse: parseEverything, look: wholeRecord,
	},
}

var ofRecords = []parameter{
	{name: "_since", typ: "instant", max: 1},
	{name: "_type", typ: "code"},
	{name: "_count", typ: "positiveInt", max: 1},
}

// besideRecords are the types outside of the compartment that come along.
var besideRecords = map[fhir.Type][]fhir.Type{
	"Patient":   {"Device", "Location", "Medication", "Organization", "Practitioner", "PractitionerRole", "Substance"},
	"Encounter": {"Device", "EpisodeOfCare", "Location", "Medication", "Organization", "Patient", "Practitioner", "PractitionerRole", "Substance"},
}

// parseEverything reads what is asked of a record.
func parseEverything(req *request) error {
	q := store.RecordQuery{
		Of: req.ref, Beside: besideRecords[req.ref.Type], Operation: req.called,
		Count: min(req.in.number("_count", req.limits.MaxPage), req.limits.MaxPage),
	}
	for _, texts := range req.in.texts("_type") {
		for t := range strings.SplitSeq(texts, ",") {
			if !fhir.Type(t).Known() {
				return fhir.Errorf(fhir.Invalid, "parameter _type names what is no resource type")
			}
			if fhir.Type(t) == auditEvent {
				return fhir.Errorf(fhir.NotSupported, "the audit trail is searched by itself, at /AuditEvent")
			}
			q.Types = append(q.Types, fhir.Type(t))
		}
	}
	// What is not given stays zero, and what is given was read before.
	q.Since, _ = parseTime(req.in.text("_since"))
	q.Start, _, _ = span(req.in.text("start"))
	_, q.End, _ = span(req.in.text("end"))
	req.applied = nil
	for _, a := range req.in {
		value := text(a.json)
		if a.name == "_count" {
			value = strconv.Itoa(q.Count)
		}
		req.applied = append(req.applied, search.Param{Name: a.name, Value: value})
	}
	q.Query = encode(req.applied)
	req.record = q
	return nil
}

// wholeRecord answers with a page of the record.
func wholeRecord(ctx context.Context, v *store.View, req *request) (*response, error) {
	var at store.Cursor
	if req.cursor != nil {
		at = *req.cursor
	}
	page, err := v.Record(ctx, req.record, at)
	if err != nil {
		return nil, err
	}
	b := newBundle("searchset", req.now())
	b.links(req.pages(req.applied, page.Next)...)
	b.page(req, page)
	return &response{status: http.StatusOK, body: b.bytes()}, nil
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
