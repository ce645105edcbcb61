package rest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

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
	e, err := v.AuditEvent(ctx, req.ref.ID)
	if err != nil {
		return nil, err
	}
	return found(req, asResource(e, req.base)), nil
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
	page, err := v.AuditEvents(ctx, req.search, at)
	if err != nil {
		return nil, err
	}
	b := newBundle("searchset", req.now())
	if page.Total != nil {
		b.total(*page.Total)
	}
	b.links(req.pages(req.search.Applied, page.Next)...)
	for _, e := range page.Entries {
		r := asResource(e, req.base)
		b.entry().fullURL(req.base, r.Ref).resource(req.show(auditEvent, r.Body)).mode("match").end()
	}
	if len(req.search.Ignored) > 0 {
		b.entry().resource(ignored(req.search.Ignored)).mode("outcome").end()
	}
	if len(page.Unreadable) > 0 {
		b.entry().resource(outcome(unreadable(page.Unreadable))).mode("outcome").end()
	}
	return &response{status: http.StatusOK, body: b.bytes()}, nil
}

// unreadable says which entries could not be opened, so that nobody takes what
// was found for all that there is.
func unreadable(ids []string) []fhir.Issue {
	var issues []fhir.Issue
	for _, id := range ids[:min(len(ids), maxUnreadable)] {
		issues = append(issues, fhir.Issue{Severity: "warning", Code: fhir.Exception, Diagnostics: "AuditEvent/" + id + " cannot be opened: it is not as a server wrote it, and may be one that was asked for"})
	}
	if more := len(ids) - maxUnreadable; more > 0 {
		issues = append(issues, fhir.Issue{Severity: "warning", Code: fhir.Exception, Diagnostics: fmt.Sprintf("%d more cannot be opened", more)})
	}
	return issues
}

// maxUnreadable bounds the entries that an answer names as unreadable.
const maxUnreadable = 100

// parseAuditSearch reads the parameters of a search of the audit trail: those of
// AuditEvent. What leads to other resources is not supported.
func parseAuditSearch(req *request) error {
	req.params = byIdentifier(req.params)
	q, err := searchQuery(auditEvent, req)
	if err != nil {
		return err
	}
	for _, p := range q.Applied {
		name, _, _ := strings.Cut(p.Name, ":")
		switch {
		case strings.Contains(p.Name, "."), name == "_has", strings.HasSuffix(name, "include"):
			return fhir.Errorf(fhir.NotSupported, "searches of the audit trail do not follow references")
		case slices.Contains([]string{"_filter", "_content", "_text", "_list", "_offset"}, name):
			return fhir.Errorf(fhir.NotSupported, "the parameter %s is not for the audit trail", name)
		}
	}
	req.search = q
	return nil
}

// byIdentifier returns the parameters of a search of the trail. An agent that is not
// spelled as a resource is told by its identifier, as apps and logins are.
func byIdentifier(params []search.Param) []search.Param {
	params = slices.Clone(params)
	for i, p := range params {
		if p.Name == "agent" && p.Value != "" && !strings.ContainsAny(p.Value, "/,") {
			params[i].Name = "agent:identifier"
		}
	}
	return params
}
