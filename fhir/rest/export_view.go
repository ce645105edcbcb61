package rest

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/view"
	"github.com/cordon-fhir/cordon/store"
)

// maxViews bounds the views of one export.
const maxViews = 20

// parseTables reads which views are to be exported.
// https://sql-on-fhir.org/ig/OperationDefinition-ViewDefinitionExport.html
func parseTables(req *request) (err error) {
	if !req.prefer.async {
		return fhir.Errorf(fhir.Invalid, "an export is asked for with the header Prefer: respond-async")
	}
	views, err := req.exportedViews()
	if err != nil {
		return err
	}
	p := req.tablesOf(views...)
	if p.e.Format, err = req.tableFormat(view.NDJSON); err != nil {
		return err
	}
	return p.ofViews()
}

// exportedViews returns the views that are named: the one in the path, or those of the
// parameters.
func (req *request) exportedViews() (list []bulk.View, err error) {
	parts := []arguments{}
	for _, a := range req.in {
		if a.name == "view" {
			parts = append(parts, a.parts)
		}
	}
	switch {
	case req.view != "" && len(parts) == 0:
		parts = []arguments{nil}
	case req.view != "":
		return nil, fhir.Errorf(fhir.Invalid, "the view of the export is in its path, and others are in its parameter view")
	case len(parts) == 0:
		return nil, fhir.Errorf(fhir.Required, "parameter view is missing").WithStatus(http.StatusBadRequest)
	case len(parts) > maxViews:
		return nil, fhir.Errorf(fhir.TooCostly, "an export has at most %d views", maxViews)
	}
	names := map[string]bool{}
	for i, p := range parts {
		v, err := req.exportedView(p, i+1)
		if err != nil {
			return nil, err
		}
		if names[v.Name] {
			return nil, fhir.Errorf(fhir.Invalid, "two views of the export have the same name; part name gives one another")
		}
		names[v.Name] = true
		list = append(list, v)
	}
	return list, nil
}

// exportedView reads the parts of one parameter view, which is the nth.
func (req *request) exportedView(parts arguments, n int) (v bulk.View, err error) {
	if v.View, err = req.viewOf(parts, req.view); err != nil {
		return v, err
	}
	switch v.Name = parts.text("name"); {
	case v.Name == "" && v.View.Name != "":
		v.Name = v.View.Name
	case v.Name == "":
		v.Name = "view_" + strconv.Itoa(n)
	case !view.ValidName(v.Name):
		return v, fhir.Errorf(fhir.Invalid, "the name of a view is letters, digits and underscores, and begins with a letter")
	}
	return v, nil
}

// kickOffTables sees to it that the export is done, and says where it is.
func kickOffTables(ctx context.Context, c *call) (*response, error) {
	resp, err := kickOff(ctx, c)
	if err != nil {
		return nil, err
	}
	at, _, _ := strings.Cut(resp.contentLocation, "?")
	resp.body = c.stateOf(strings.TrimPrefix(at, c.req.base+pathOf[store.Export]), "accepted", resp.contentLocation).response().body
	return resp, nil
}

// stateOf begins what is said of an export of tables.
func (c *call) stateOf(job, status, at string) *results {
	out := &results{}
	out.text("exportId", "string", job)
	if id := c.req.in.text("clientTrackingId"); id != "" {
		out.text("clientTrackingId", "string", id)
	}
	out.text("status", "code", status)
	out.text("location", "uri", at)
	return out
}

// tables says of an export that is done where its files are.
func (c *call) tables(ctx context.Context, j *bulk.Job, job, at string) ([]byte, error) {
	list, of, err := j.Tables(ctx, at)
	if err != nil {
		return nil, err
	}
	const instant = "2006-01-02T15:04:05.000Z07:00"
	end := c.Now().UTC()
	out := c.stateOf(job, "completed", at)
	out.text("_format", "code", string(j.Format))
	out.text("exportStartTime", "instant", of.Format(instant))
	out.text("exportEndTime", "instant", end.Format(instant))
	out.value("exportDuration", "integer", fmt.Append(nil, max(0, int(end.Sub(of)/time.Second))))
	for _, t := range list {
		out.parts("output", func(r *results) {
			r.text("name", "string", t.Name)
			for _, f := range t.Files {
				r.text("location", "uri", f)
			}
		})
	}
	return out.response().body, nil
}
