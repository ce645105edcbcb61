package rest

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/fhir/xml"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// A request is what a client asks, read once: from HTTP, or from an entry of a
// Bundle.
type request struct {
	does    fhir.Interaction
	ref     fhir.Ref // the type and id in the path; for a compartment, what it is of
	version int64
	of      string // of a compartment search: a type, or *
	called  string // the name of the operation, if it is one
	safe    bool   // GET or HEAD
	job     string // the id of a deferred request
	file    string // the name of a file of an export
	tables  bool   // it asks for a table
	view    string // the name in the path of the view that it is of
	accept  []string

	query  string // as received, for the audit trail
	params []search.Param
	sealed string // _page
	cursor *store.Cursor

	format
	conditions
	prefer preference

	document *fhir.Document

	patch      []byte         // a JSON Patch
	parameters *fhir.Document // a FHIRPath Patch
	ops        patcher        // of either

	in         arguments // of an operation
	record     store.RecordQuery
	export     *bulk.Export
	group      fhir.Ref // that whose members are exported
	imports    *bulk.Import
	graph      *graphQuery
	persist    bool // what $document makes is to be stored
	search     *search.Query
	versions   store.HistoryQuery
	applied    []search.Param // of a history
	criteria   criteria       // of a conditional interaction
	createOnly bool           // If-None-Match: * of an update

	rules *rules // of requests that write, and of operations

	grant  *smart.Grant
	codes  codes
	slug   string         // of the tenant
	tenant *tenant.Tenant // of a public document
	base   string         // of the tenant, https://host/fhir/harbor
	custom *search.Custom // what the tenant adds to the parameters of R4
	limits *Limits
	now    func() time.Time
	entry  bool // of a Bundle
	away   away
}

// A response is the answer to a request: to be written to HTTP, or into a
// Bundle.
type response struct {
	status      int
	version     fhir.Resource // gives ETag and Last-Modified, if it is one
	location    string
	body        []byte
	contentType string // "" is that of FHIR
	applied     string // the preference that was met

	// Of the asynchronous pattern.
	contentLocation, progress string
	expires                   time.Time
	exportStatus              int // if the status is only of the question about it

	file *servedFile // in place of a body
}

// decode reads the path, the parameters, the headers and the body.
func (c *call) decode(ctx context.Context) error {
	if err := c.place.into(c.req); err != nil {
		return err
	}
	c.req.query = c.http.URL.RawQuery
	c.req.safe = c.http.Method == http.MethodGet || c.http.Method == http.MethodHead
	c.req.prefer = parsePrefer(c.http.Header.Values("Prefer"))
	var err error
	if c.req.conditions, err = parseConditions(c.http.Header); err != nil {
		return err
	}
	if c.place.route.streams {
		return c.streamed()
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	c.took = len(body)
	if c.req.prefer.async {
		c.sent = body
	}
	if err := c.takeTurn(ctx); err != nil {
		return err
	}
	if err := c.stillMay(ctx); err != nil {
		return err
	}
	if err := c.room(ctx, len(body)); err != nil {
		return err
	}
	form := c.http.Method == http.MethodPost && c.req.does != fhir.Create && c.req.does != fhir.Transaction && c.req.does != fhir.Operation
	if form && len(body) > 0 {
		if c.req.query != "" {
			c.req.query += "&"
		}
		c.req.query += string(body)
	}
	accept := c.http.Header.Values("Accept")
	if c.req.file != "" { // it has one form only
		accept = nil
	}
	if err := c.req.setQuery(ctx, c.DB, accept); err != nil {
		return err
	}
	if c.req.does.Writes() || c.req.does == fhir.Transaction || c.req.does == fhir.Operation {
		if c.req.rules, err = c.rules(ctx, c.grant, c.away); err != nil {
			return err
		}
	}
	switch {
	case form || c.req.does == fhir.Operation && len(body) == 0:
		return nil
	case c.place.route.operation != nil && c.place.route.operation.bare:
		return c.req.takeGraphQL(c.http.Header.Get("Content-Type"), body)
	case c.req.does == fhir.Patch && isJSONPatch(c.http.Header.Get("Content-Type")):
		c.req.patch = body
		return nil
	case c.http.Method != http.MethodPost && c.http.Method != http.MethodPut && c.http.Method != http.MethodPatch:
		return nil
	}
	lim := fhir.Limits{Bytes: c.Limits.Body}
	if isXML(c.http.Header.Get("Content-Type")) {
		if body, err = xml.ToJSON(body, lim); err != nil {
			return err
		}
	}
	d, err := fhir.Parse(body, lim)
	if err != nil {
		return err
	}
	switch c.req.does {
	case fhir.Transaction, fhir.Operation:
		c.req.document = d
		return nil
	case fhir.Patch:
		c.req.parameters = d
		return validate.Resource(d)
	}
	return c.req.setDocument(ctx, d, string(d.Type))
}

// setQuery reads the parameters in req.query.
func (req *request) setQuery(ctx context.Context, db *store.DB, accept []string) error {
	params, err := search.ParseQuery(req.query)
	if err != nil {
		return err
	}
	if req.tables { // the formats of tables are for it to read
		req.params, req.accept = params, accept
		return nil
	}
	if req.format, params, err = takeFormat(params, accept); err != nil {
		return err
	}
	req.params = params
	if req.does == fhir.Read || req.does == fhir.Vread {
		req.params, err = req.takeSubset(params)
		return err
	}
	return req.setCursor(ctx, db)
}

// setDocument takes the resource of a create or update, once it is valid. The
// client knows it by the place: its type, or where in a Bundle it is.
func (req *request) setDocument(ctx context.Context, d *fhir.Document, place string) error {
	if d.Type != req.ref.Type {
		return fhir.Errorf(fhir.Invalid, "the resource is not of the type in the URL")
	}
	if req.does == fhir.Update && req.ref.ID != "" && d.ID != req.ref.ID {
		return fhir.Errorf(fhir.Invalid, "the resource does not have the id in the URL").At(place + ".id")
	}
	if err := req.valid(ctx, d, place); err != nil {
		return err
	}
	req.document = d
	return nil
}

// encode is the inverse of search.ParseQuery.
func encode(params []search.Param) string {
	var b strings.Builder
	for i, p := range params {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.Name) + "=" + url.QueryEscape(p.Value))
	}
	return b.String()
}
