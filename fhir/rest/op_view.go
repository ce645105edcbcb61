package rest

import (
	"context"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/view"
	"github.com/cordon-fhir/cordon/store"
)

// viewDefinition is the type that R4 does not have: what is called on one of it
// names a view that comes with Cordon.
const viewDefinition = "ViewDefinition"

// viewOperations make tables of what the client may see, as views say.
// https://sql-on-fhir.org/ig/operations.html
var viewOperations = []operation{
	{
		name: "viewdefinition-run", url: "http://sql-on-fhir.org/OperationDefinition/$viewdefinition-run", level: onSystem, alone: true, tables: true,
		in: slices.Concat(oneView, ofWhom, []parameter{
			{name: "_format", typ: "code", max: 1},
			{name: "header", typ: "boolean", max: 1},
			{name: "_limit", typ: "positiveInt", max: 1},
		}),
		parse: parseRun, later: runView, whole: notATable,
	},
	{
		name: "viewdefinition-export", url: "http://sql-on-fhir.org/OperationDefinition/$viewdefinition-export", level: onSystem, alone: true, tables: true,
		in: []parameter{
			{name: "view", parts: slices.Concat(oneView, []parameter{{name: "name", typ: "string", max: 1}})},
			{name: "clientTrackingId", typ: "string", max: 1},
			{name: "_format", typ: "code", max: 1},
			{name: "header", typ: "boolean", max: 1},
			{name: "patient", typ: "Reference", inURL: true},
			{name: "group", typ: "Reference", max: 1, inURL: true},
			{name: "_since", typ: "instant", max: 1},
		},
		parse: parseTables, later: kickOffTables, whole: notATable,
	},
	{
		name: "viewdefinition-list", url: ours("viewdefinition-list"), level: onSystem,
		in: []parameter{{name: "name", typ: "string", max: 1}}, look: listViews,
	},
}

// oneView are the parameters that say which view is meant.
var oneView = []parameter{
	{name: "viewReference", typ: "Reference", max: 1, inURL: true},
	{name: "viewResource", typ: "Resource", max: 1},
}

// ofWhom are those that say of which resources.
var ofWhom = []parameter{
	{name: "patient", typ: "Reference", max: 1, inURL: true},
	{name: "group", typ: "Reference", max: 1, inURL: true},
	{name: "_since", typ: "instant", max: 1},
}

// parseRun reads which view is to be run, and of what.
func parseRun(req *request) error {
	of, err := req.viewOf(req.in, req.view)
	if err != nil {
		return err
	}
	p := req.tablesOf(bulk.View{Name: of.Name, View: of})
	if p.e.Format, err = req.tableFormat(view.JSONArray, req.accept...); err != nil {
		return err
	}
	if limit := req.in.number("_limit", 0); limit > bulk.MaxRows {
		return fhir.Errorf(fhir.TooCostly, "parameter _limit is at most %d; $viewdefinition-export has no bound", bulk.MaxRows)
	}
	return p.ofViews()
}

// tablesOf is a parser of what is asked of the views.
func (req *request) tablesOf(views ...bulk.View) *exportParser {
	e := &bulk.Export{Views: views, Header: req.in.boolean("header", true), Show: (&format{}).show}
	for _, v := range views {
		e.Types = append(e.Types, v.Of)
	}
	return &exportParser{request: req, e: e}
}

// viewOf returns the view that the arguments name or hold, or the path names.
func (req *request) viewOf(in arguments, inPath string) (*view.View, error) {
	reference, named := in.find("viewReference")
	inline := in.json("viewResource")
	given := 0
	for _, is := range []bool{named, inline != nil, inPath != ""} {
		given += btoi(is)
	}
	if given != 1 {
		return nil, fhir.Errorf(fhir.Required, "one view is needed: parameter viewReference or viewResource, or ViewDefinition/name before the operation").WithStatus(http.StatusBadRequest)
	}
	if inline != nil {
		return view.Parse(inline)
	}
	name := viewDefinition + "/" + inPath
	if named {
		name = strings.TrimPrefix(text(member(reference.json, "reference")), req.base+"/")
	}
	v, err := view.Named(name)
	if err == nil && named && !req.safe {
		req.query = joinQuery(req.query, "viewReference="+url.QueryEscape(v.Name)) // for the audit trail
	}
	return v, err
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func joinQuery(query, more string) string {
	if query == "" {
		return more
	}
	return query + "&" + more
}

// tableFormats are the formats by the names that ask for them.
// https://sql-on-fhir.org/ig/OperationDefinition-ViewDefinitionRun.html#output-format
var tableFormats = map[string]view.Format{
	"json": view.JSONArray, "application/json": view.JSONArray, "application/fhir+json": view.JSONArray,
	"ndjson": view.NDJSON, "application/x-ndjson": view.NDJSON, "application/ndjson": view.NDJSON,
	"csv": view.CSV, "text/csv": view.CSV,
	"parquet": view.Parquet, "application/vnd.apache.parquet": view.Parquet, "application/octet-stream": view.Parquet,
}

// tableFormat returns the format that is asked for by _format, else by the first
// that accept names.
func (req *request) tableFormat(otherwise view.Format, accept ...string) (view.Format, error) {
	if req.in.has("_format") {
		f, ok := tableFormats[req.in.text("_format")]
		if !ok {
			return "", fhir.Errorf(fhir.NotSupported, "parameter _format is json, ndjson, csv or parquet")
		}
		return f, nil
	}
	for one := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		t, _, err := mime.ParseMediaType(one)
		if f, ok := tableFormats[t]; ok && err == nil {
			return f, nil
		}
	}
	return otherwise, nil
}

// ofViews reads of whom the tables are, and since when. The Grant must reach the
// types that they are made of.
func (p *exportParser) ofViews() error {
	p.e.Records = p.in.has("patient") || p.in.has("group")
	for _, v := range p.e.Views {
		if _, err := p.grant.Permit(fhir.SearchType, v.Of); err != nil {
			return err
		}
		if p.e.Records && !bulk.InRecords(v.Of) {
			return fhir.Errorf(fhir.NotSupported, "parameters patient and group are for views of what can be in the record of a patient")
		}
	}
	for _, read := range []func() error{p.times, p.patients, p.groups} {
		if err := read(); err != nil {
			return err
		}
	}
	p.request.export = p.e
	return nil
}

// groups reads the parameter group.
func (p *exportParser) groups() error {
	if !p.in.has("group") {
		return nil
	}
	name := strings.TrimPrefix(text(member(p.in.json("group"), "reference")), p.base+"/")
	ref, err := fhir.ParseRef(name)
	if err != nil || ref.Type != "Group" {
		return fhir.Errorf(fhir.Invalid, "parameter group is no reference to a Group")
	}
	p.request.group = ref
	return nil
}

func notATable(context.Context, *server, *request) (*response, error) {
	return nil, fhir.Errorf(fhir.NotSupported, "a table is asked for by itself, not in a Bundle")
}

// runView answers with the rows of a view.
func runView(ctx context.Context, c *call) (*response, error) {
	if err := c.known(ctx); err != nil {
		return nil, err
	}
	if _, err := c.ofGroup(ctx, nil); err != nil {
		return nil, err
	}
	e := c.req.export
	of := e.Views[0].View
	var rows []view.Row
	err := c.DB.View(ctx, c.grant, func(v *store.View) (err error) {
		v.Operation(c.req.asEntry())
		rows, err = e.Rows(ctx, v, of, c.req.in.number("_limit", 0))
		return err
	})
	if err != nil {
		return nil, err
	}
	body, err := view.Bytes(e.Format, of.Columns, e.Header, rows)
	if err != nil {
		return nil, err
	}
	return &response{status: http.StatusOK, body: body, contentType: e.Format.MediaType()}, nil
}

// listViews answers with the views that come with Cordon, or with the JSON of one,
// to begin others with.
func listViews(_ context.Context, _ *store.View, req *request) (*response, error) {
	out := &results{}
	if name := req.in.text("name"); name != "" {
		source := view.Source(name)
		if source == nil {
			return nil, fhir.Errorf(fhir.NotFound, "there is no such ViewDefinition here")
		}
		out.text("definition", "string", string(source))
		return out.response(), nil
	}
	for _, v := range view.Shipped() {
		out.parts("view", func(r *results) {
			r.text("name", "string", v.Name)
			r.text("title", "string", v.Title)
			r.text("url", "uri", v.URL)
			r.text("resource", "code", string(v.Of))
		})
	}
	return out.response(), nil
}
