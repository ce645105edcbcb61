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

// trailOperations tell people what the audit trail says: a patient, who saw
// their record; an auditor, what a user did, to whom a record was disclosed,
// and whom an incident concerns.
var trailOperations = []operation{
	{
		name: "access-log", url: ours("Patient-access-log"), level: onInstance, on: []fhir.Type{"Patient"},
		in: inTime(), parse: parseAccessLog, look: accessLog,
	},
	{
		name: "timeline", url: ours("AuditEvent-timeline"), level: onType, on: []fhir.Type{auditEvent},
		in: inTime(parameter{name: "agent", typ: "string", min: 1, max: 1}), parse: parseTimeline, look: accessLog,
	},
	{
		name: "disclosures", url: ours("AuditEvent-disclosures"), level: onType, on: []fhir.Type{auditEvent},
		in: inTime(parameter{name: "patient", typ: "string", min: 1, max: 1}), parse: parseDisclosures, look: accessLog,
	},
	{
		name: "affected-patients", url: ours("AuditEvent-affected-patients"), level: onType, on: []fhir.Type{auditEvent},
		in: inTime(
			parameter{name: "agent", typ: "string", max: 1}, parameter{name: "address", typ: "string", max: 1},
			parameter{name: "token", typ: "string", max: 1},
		), parse: parseAffected, look: affectedPatients,
	},
	{
		name: "break-glass-accesses", url: ours("AuditEvent-break-glass-accesses"), level: onType, on: []fhir.Type{auditEvent},
		in: inTime(parameter{name: "glass", typ: "string", min: 1, max: 1}), parse: parseGlassAccesses, look: glassAccesses,
	},
}

// inTime are the parameters that say from when to when, and how much of it at a
// time, beside others.
func inTime(others ...parameter) []parameter {
	return append(others,
		parameter{name: "start", typ: "dateTime", max: 1}, parameter{name: "end", typ: "dateTime", max: 1},
		parameter{name: "_count", typ: "positiveInt", max: 1})
}

// parseTrail makes the search of the trail that an operation is: by params, in
// the time that it is called for.
func parseTrail(req *request, size int, params ...search.Param) error {
	req.applied = nil
	for _, a := range req.in {
		value := text(a.json)
		if a.name == "_count" {
			value = string(a.json)
		}
		req.applied = append(req.applied, search.Param{Name: a.name, Value: value})
	}
	for name, prefix := range map[string]string{"start": "ge", "end": "le"} {
		if t := req.in.text(name); t != "" {
			params = append(params, search.Param{Name: "date", Value: prefix + t})
		}
	}
	params = append(params, search.Param{Name: "_count", Value: strconv.Itoa(min(req.in.number("_count", size), req.limits.MaxPage))})
	q, err := search.Parse(auditEvent, byIdentifier(params), search.Options{Base: req.base})
	if err != nil {
		return err
	}
	req.search = q
	return nil
}

// parseAccessLog: who saw or changed the record of the patient, also in vain.
func parseAccessLog(req *request) error {
	return parseTrail(req, req.limits.Page, search.Param{Name: "patient", Value: req.ref.String()})
}

// parseTimeline: what a user or an app did, the first first.
func parseTimeline(req *request) error {
	return parseTrail(req, req.limits.Page, search.Param{Name: "agent", Value: plainValue(req.in.text("agent"))}, search.Param{Name: "_sort", Value: "date"})
}

// parseDisclosures: to whom the record of a patient was disclosed, but for
// treatment, payment and health care operations, and to the patient: what a
// patient is to be accounted for.
// https://www.ecfr.gov/current/title-45/section-164.528
func parseDisclosures(req *request) error {
	patient := req.in.text("patient")
	if id, ok := strings.CutPrefix(patient, "Patient/"); ok {
		patient = id
	}
	if !fhir.ValidID(patient) {
		return fhir.Errorf(fhir.Invalid, "parameter patient is to be the id of a Patient")
	}
	params := []search.Param{
		{Name: "entity", Value: "Patient/" + patient}, {Name: "outcome", Value: "0"}, {Name: "action", Value: "R,E"},
		{Name: "_sort", Value: "date"},
	}
	return parseTrail(req, req.limits.Page, params...)
}

// parseAffected: whose records an app, a user, an address or a token touched.
func parseAffected(req *request) error {
	params := []search.Param{{Name: "outcome", Value: "0"}}
	for name, as := range map[string]string{"agent": "agent", "address": "address", "token": "policy"} {
		value := req.in.text(name)
		if value == "" {
			continue
		}
		if name == "token" {
			value = "urn:ietf:params:oauth:jti:" + value
		}
		params = append(params, search.Param{Name: as, Value: plainValue(value)})
	}
	if len(params) == 1 && req.in.text("start") == "" {
		return fhir.Errorf(fhir.Required, "parameter agent, address, token or start is missing").WithStatus(http.StatusBadRequest)
	}
	return parseTrail(req, req.limits.MaxPage, params...)
}

// parseGlassAccesses: what was done about a broken glass and seen through it, the
// first first.
func parseGlassAccesses(req *request) error {
	return parseTrail(req, req.limits.MaxPage, search.Param{Name: "purpose", Value: strings.Join(audit.Emergencies, ",")}, search.Param{Name: "_sort", Value: "date"})
}

// plainValue keeps the signs of a search value plain.
// https://hl7.org/fhir/R4/search.html#escaping
var plainValue = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `$`, `\$`, `|`, `\|`).Replace

// accessLog answers with what entries say for people, as Parameters: of each
// when, who, what and why, and the AuditEvent that says more.
func accessLog(ctx context.Context, v *store.View, req *request) (*response, error) {
	page, err := v.AuditEvents(ctx, req.search, req.trailCursor())
	if err != nil {
		return nil, err
	}
	entries := page.Entries
	if req.called == "disclosures" {
		entries = slices.DeleteFunc(entries, func(e audit.Entry) bool { return !accounted(req, e) })
	}
	list, err := v.Accesses(ctx, entries)
	if err != nil {
		return nil, err
	}
	var out results
	for _, a := range list {
		out.parts("access", func(r *results) { r.access(a) })
	}
	out.rest(req, page)
	return out.response(), nil
}

// access adds what is said of one access.
func (r *results) access(a store.Access) {
	r.text("date", "instant", a.Recorded.UTC().Format("2006-01-02T15:04:05.000Z"))
	r.some("who", a.Who)
	r.some("user", a.Agent.User)
	for _, role := range strings.Fields(a.Agent.Roles) {
		r.some("role", role)
	}
	r.some("organization", a.Organization)
	r.some("place", a.Site)
	r.some("app", a.Agent.Client)
	r.some("what", a.Words())
	if !a.Patient.IsZero() {
		r.some("patient", a.Patient.String())
	}
	if a.Entity.ID != "" {
		r.some("resource", a.Entity.String())
	}
	r.some("purpose", a.Purpose())
	r.boolean("emergency", slices.Contains(audit.Emergencies, a.Purpose()))
	r.boolean("success", a.Outcome == audit.Success)
	r.some("event", "AuditEvent/"+a.ID())
}

// some adds a string, unless it is empty, which FHIR forbids.
func (r *results) some(name, value string) {
	if value != "" {
		r.text(name, "string", value)
	}
}

// rest adds which entries could not be opened, and where the next page is, if
// there is one.
func (r *results) rest(req *request, page *store.AuditPage) {
	for _, id := range page.Unreadable[:min(len(page.Unreadable), maxUnreadable)] {
		r.some("unreadable", "AuditEvent/"+id)
	}
	if page.Next != "" {
		r.text("next", "uri", req.pages(nil, page.Next)[2].url)
	}
}

// trailCursor says which page is asked for, and that it is one of the operation.
func (req *request) trailCursor() store.Cursor {
	if req.cursor != nil {
		return *req.cursor
	}
	return store.Cursor{Page: 1, Interaction: req.does, Operation: req.called, Ref: req.ref, Query: encode(req.applied)}
}

// accounted reports whether a disclosure is one that a patient is to be
// accounted for: it was for another purpose than treatment, payment and
// operations, or for none that is known, and not to the patient.
func accounted(req *request, e audit.Entry) bool {
	purpose := e.Purpose()
	if purpose == "" {
		purpose = req.grant.Tenant().Settings.Consent.Purpose
	}
	return !slices.Contains(careAndPayment, purpose) && e.Agent.User != "Patient/"+strings.TrimPrefix(req.in.text("patient"), "Patient/")
}

// careAndPayment are the purposes of use that are treatment, payment or health
// care operations.
// https://terminology.hl7.org/ValueSet-v3-PurposeOfUse.html
var careAndPayment = []string{
	"TREAT", "CAREMGT", "COC", "ETREAT", "BTG", "ERTREAT", "POPHLTH",
	"HPAYMT", "CLMATTCH", "COVAUTH", "COVERAGE", "ELIGDTRM", "ELIGVER", "ENROLLM", "REMITADV",
	"HOPERAT", "HACCRED", "HCOMPL", "HOUTCOMS", "HPRGRP", "HQUALIMP", "HSYSADMIN", "PATADMIN", "PATSFTY", "PERFMSR", "RECORDMGT", "TRAIN",
}

// affectedPatients answers with the patients whom the entries of a page are
// about, each with how many and from when to when. Who asks for all pages adds
// them up.
func affectedPatients(ctx context.Context, v *store.View, req *request) (*response, error) {
	page, err := v.AuditEvents(ctx, req.search, req.trailCursor())
	if err != nil {
		return nil, err
	}
	type record struct {
		n           int
		first, last time.Time
	}
	records := map[fhir.Ref]*record{}
	var order []fhir.Ref
	for _, e := range page.Entries { // the last first
		of := e.About()
		if of.IsZero() {
			continue
		}
		if records[of] == nil {
			records[of], order = &record{last: e.Recorded}, append(order, of)
		}
		records[of].n++
		records[of].first = e.Recorded
	}
	var out results
	for _, of := range order {
		out.parts("patient", func(r *results) {
			r.some("reference", of.String())
			r.value("entries", "integer", strconv.AppendInt(nil, int64(records[of].n), 10))
			r.text("first", "instant", records[of].first.UTC().Format("2006-01-02T15:04:05.000Z"))
			r.text("last", "instant", records[of].last.UTC().Format("2006-01-02T15:04:05.000Z"))
		})
	}
	out.rest(req, page)
	return out.response(), nil
}

// glassAccesses answers with the accesses of a broken glass, and of each which leaf of
// the signed log of the audit trail it is: $log-inclusion proves that. Those of
// the last seconds are none yet.
func glassAccesses(ctx context.Context, v *store.View, req *request) (*response, error) {
	page, err := v.AuditEvents(ctx, req.search, req.trailCursor())
	if err != nil {
		return nil, err
	}
	entries := slices.DeleteFunc(page.Entries, func(e audit.Entry) bool { return e.Glass.ID != req.in.text("glass") })
	leaves, err := v.LogLeaves(ctx, entries)
	if err != nil {
		return nil, err
	}
	list, err := v.Accesses(ctx, entries)
	if err != nil {
		return nil, err
	}
	var out results
	for _, a := range list {
		leaf, signed := leaves[a.Seq]
		out.parts("access", func(r *results) {
			r.access(a)
			if signed {
				r.value("leaf", "decimal", strconv.AppendInt(nil, leaf, 10))
			}
		})
	}
	out.boolean("logged", len(leaves) == len(list) && len(page.Unreadable) == 0)
	out.rest(req, page)
	return out.response(), nil
}
