package rest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/klauspost/compress/gzip"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/fhir/validate"
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
	op      string // of an operation, without $

	query  string // as received, for the audit trail
	params []search.Param
	sealed string // _page
	cursor *store.Cursor

	format
	conditions
	prefer preference

	document *fhir.Document
	patch    []byte
	ops      jsonpatch.Patch // of a patch

	search     *search.Query
	versions   store.HistoryQuery
	trail      store.AuditQuery
	applied    []search.Param // of a history, or a search of the audit trail
	criteria   criteria       // of a conditional interaction
	createOnly bool           // If-None-Match: * of an update

	grant  *smart.Grant
	slug   string // of the tenant
	base   string // of the tenant, https://host/fhir/harbor
	limits *Limits
	now    func() time.Time
	entry  bool // of a Bundle
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
}

// A call is one HTTP request on its way.
type call struct {
	*server
	http   *http.Request
	writer http.ResponseWriter
	begun  time.Time

	origin audit.Origin
	place  place
	allow  string       // for a 405
	grant  *smart.Grant // in whose trail the request is recorded; nil is nobody's
	req    *request
	err    error // why it failed
}

// ServeHTTP answers a request. The audit entry is durable before the first
// byte of the answer leaves.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{server: s, http: r, writer: w, begun: s.Now(), req: &request{}}
	c.origin = s.origin(r)
	ctx, cancel := context.WithTimeout(r.Context(), s.Limits.Timeout)
	defer cancel()
	resp := c.answer(ctx)
	if err := c.record(ctx, resp); err != nil {
		c.err = fmt.Errorf("recording the request: %w", err)
		resp = failure(fhir.Errorf(fhir.Transient, "the request cannot be audited now"))
	}
	c.write(resp)
	c.log(ctx, resp)
}

// answer runs the request. A panic is answered as any fault of ours is.
func (c *call) answer(ctx context.Context) (resp *response) {
	defer func() {
		if p := recover(); p != nil {
			c.err = &panicked{p, callers()}
			resp = failure(clientError(c.err))
		}
	}()
	resp, err := c.run(ctx)
	if err != nil {
		c.err = err
		if ctx.Err() != nil && !isClientError(err) {
			err = fhir.Errorf(fhir.Transient, "the request took too long")
		}
		resp = failure(clientError(err))
	}
	return resp
}

func isClientError(err error) bool {
	var e *fhir.Error
	return errors.As(err, &e)
}

// run authenticates, decodes, and passes through the door.
func (c *call) run(ctx context.Context) (*response, error) {
	path, plain := plainPath(c.http.URL.EscapedPath())
	var noRoute error
	if plain {
		method := c.http.Method
		if method == http.MethodOptions {
			method = http.MethodGet
		}
		c.place, c.allow, noRoute = c.routes.find(method, path)
	} else {
		c.place.tenant = tenantOf(c.http.URL.EscapedPath())
	}
	if c.http.Method == http.MethodOptions {
		return &response{status: http.StatusNoContent}, nil
	}
	public := noRoute == nil && plain && c.place.route.public != nil
	if err := c.authenticate(ctx, public); err != nil {
		return nil, err
	}
	if err := c.tenantHeader(); err != nil {
		return nil, err
	}
	switch {
	case !plain:
		return nil, fhir.Errorf(fhir.Invalid, "the path holds characters or segments that no path of this API has")
	case errors.Is(noRoute, errNoRoute):
		return nil, fhir.Errorf(fhir.NotSupported, "there is nothing at this path").WithStatus(http.StatusNotFound)
	case noRoute != nil:
		return nil, noRoute
	}
	c.req = &request{slug: c.place.tenant, base: c.Base(c.place.tenant), grant: c.grant, limits: &c.Limits, now: c.Now}
	if public {
		return c.public(ctx)
	}
	if err := c.decode(ctx); err != nil {
		return nil, err
	}
	return c.dispatch(ctx, c.place.route, c.req)
}

// authenticate earns the Grant. Public documents need none, but whoever shows
// a token of another tenant is refused there too.
func (c *call) authenticate(ctx context.Context, public bool) error {
	token := bearer(c.http.Header)
	if public && token == "" {
		return nil
	}
	g, err := c.Verifier.Grant(ctx, c.place.tenant, token, c.origin)
	c.grant = g
	if public && fhir.IsCode(err, fhir.Login) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.inRegion(g.Tenant())
}

// inRegion refuses what may not be processed here, before anything of the
// request but its head is read.
// https://www.rfc-editor.org/rfc/rfc9110#status.421
func (s *server) inRegion(t *tenant.Tenant) error {
	if s.Region == "" || t.Region == s.Region {
		return nil
	}
	return fhir.Errorf(fhir.NotSupported, "the tenant is not served from this region").WithStatus(http.StatusMisdirectedRequest)
}

// tenantHeader holds X-Tenant-Id against the path: at most one, and the same.
func (c *call) tenantHeader() error {
	named := c.http.Header.Values("X-Tenant-Id")
	if len(named) == 0 || len(named) == 1 && named[0] == c.place.tenant {
		return nil
	}
	a := smart.Alert{Rule: otherInHeader, Addressed: c.place.tenant}
	for _, n := range named {
		if s, err := tenant.ParseSlug(n); err == nil && n != c.place.tenant {
			a.Addressed = s.String()
		}
	}
	c.alert(a)
	return fhir.Errorf(fhir.Invalid, "X-Tenant-Id and the path name different tenants")
}

// The rules of this package's alerts.
const (
	otherInHeader smart.Rule = "tenant-header"      // X-Tenant-Id
	otherInBundle smart.Rule = "cross-tenant-entry" // the URL of an entry
)

// alert tells of what the holder of the call's Grant tried.
func (c *call) alert(a smart.Alert) { c.server.alert(c.grant, a) }

func (s *server) alert(g *smart.Grant, a smart.Alert) {
	if g != nil && g.Tenant() != nil {
		a.Tenant, a.Client = g.Tenant().Slug.String(), g.Agent().Client
	}
	s.Alert(a)
}

// public answers with a document that needs no token.
func (c *call) public(ctx context.Context) (*response, error) {
	c.req.does = c.place.route.does
	t, err := c.Tenants.Tenant(ctx, c.place.tenant)
	if errors.Is(err, tenant.ErrUnknown) || err == nil && t.Status != tenant.Active {
		return nil, fhir.Errorf(fhir.NotFound, "there is no such tenant")
	}
	if err != nil {
		return nil, fmt.Errorf("looking up a tenant: %w", err)
	}
	if err := c.inRegion(t); err != nil {
		return nil, err
	}
	c.req.ref.Type = ""
	c.req.query = c.http.URL.RawQuery
	return c.place.route.public(c.server, c.req)
}

// dispatch does what a request asks, in a View or an Update of its own.
func (s *server) dispatch(ctx context.Context, rt *route, req *request) (resp *response, err error) {
	if rt.parse != nil {
		if err := rt.parse(req); err != nil {
			return nil, err
		}
	}
	switch {
	case rt.public != nil:
		return rt.public(s, req)
	case rt.whole != nil:
		return rt.whole(ctx, s, req)
	case rt.does == fhir.Read && req.ref.Type != auditEvent:
		r, err := s.DB.Read(ctx, req.grant, req.ref)
		if err != nil {
			return nil, err
		}
		return found(req, r), nil
	case rt.look != nil:
		err = s.DB.View(ctx, req.grant, func(v *store.View) error {
			resp, err = rt.look(ctx, v, req)
			return err
		})
	default:
		err = s.DB.Update(ctx, req.grant, func(tx *store.Tx) error {
			resp, err = rt.change(ctx, tx, req)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// decode reads the path, the parameters, the headers and the body.
func (c *call) decode(ctx context.Context) error {
	if err := c.place.into(c.req); err != nil {
		return err
	}
	c.req.query = c.http.URL.RawQuery
	c.req.prefer = parsePrefer(c.http.Header.Values("Prefer"))
	var err error
	if c.req.conditions, err = parseConditions(c.http.Header); err != nil {
		return err
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	form := c.http.Method == http.MethodPost && c.req.does != fhir.Create && c.req.does != fhir.Transaction && c.req.does != fhir.Operation
	if form && len(body) > 0 {
		if c.req.query != "" {
			c.req.query += "&"
		}
		c.req.query += string(body)
	}
	if err := c.req.setQuery(ctx, c.DB, c.http.Header.Values("Accept")); err != nil {
		return err
	}
	switch {
	case form || c.req.does == fhir.Operation:
		return nil
	case c.req.does == fhir.Patch:
		c.req.patch = body
		return nil
	case c.http.Method != http.MethodPost && c.http.Method != http.MethodPut:
		return nil
	}
	d, err := fhir.Parse(body, fhir.Limits{Bytes: c.Limits.Body})
	if err != nil {
		return err
	}
	if c.req.does == fhir.Transaction {
		c.req.document = d
		return nil
	}
	return c.req.setDocument(d, string(d.Type))
}

// into puts the names in a path into a request.
func (p place) into(req *request) error {
	req.does, req.of, req.op = p.route.does, p.of, p.op
	req.ref = fhir.Ref{Type: fhir.Type(p.typ)}
	if p.typ != "" && !req.ref.Type.Known() {
		return fhir.Errorf(fhir.NotSupported, "there is no such resource type").WithStatus(http.StatusNotFound)
	}
	if req.ref.Type == auditEvent && req.does != fhir.Read && req.does != fhir.SearchType && req.does != fhir.Operation {
		return fhir.Errorf(fhir.NotSupported, "the audit trail can be read and searched only").WithStatus(http.StatusMethodNotAllowed)
	}
	if p.id != "" {
		if !fhir.ValidID(p.id) {
			if req.does == fhir.Update {
				return fhir.Errorf(fhir.Invalid, "malformed id")
			}
			return fhir.Errorf(fhir.NotFound, "malformed id")
		}
		req.ref.ID = p.id
	}
	if p.version != "" {
		v, err := strconv.ParseInt(p.version, 10, 64)
		if err != nil || v < 1 || p.version[0] == '+' {
			return fhir.Errorf(fhir.NotFound, "malformed version")
		}
		req.version = v
	}
	return nil
}

// setQuery reads the parameters in req.query.
func (req *request) setQuery(ctx context.Context, db *store.DB, accept []string) error {
	params, err := search.ParseQuery(req.query)
	if err != nil {
		return err
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
func (req *request) setDocument(d *fhir.Document, place string) error {
	if d.Type != req.ref.Type {
		return fhir.Errorf(fhir.Invalid, "the resource is not of the type in the URL")
	}
	if req.does == fhir.Update && req.ref.ID != "" && d.ID != req.ref.ID {
		return fhir.Errorf(fhir.Invalid, "the resource does not have the id in the URL").At(place + ".id")
	}
	if err := validate.At(d, place); err != nil {
		return err
	}
	req.document = d
	return nil
}

// body reads the body, decompressed, if the request has one to be read.
func (c *call) body() ([]byte, error) {
	if m := c.http.Method; m != http.MethodPost && m != http.MethodPut && m != http.MethodPatch {
		return nil, nil
	}
	limit := int64(c.Limits.Body)
	tooLong := fhir.Errorf(fhir.TooLong, "the body is longer than %d bytes", limit)
	if c.http.ContentLength > limit {
		return nil, tooLong
	}
	var in io.Reader = http.MaxBytesReader(c.writer, c.http.Body, limit)
	switch encoding := c.http.Header.Values("Content-Encoding"); {
	case len(encoding) == 0 || len(encoding) == 1 && encoding[0] == "identity":
	case len(encoding) == 1 && strings.EqualFold(encoding[0], "gzip"):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fhir.Errorf(fhir.Structure, "the body is not in the encoding that Content-Encoding names")
		}
		defer z.Close()
		in = io.LimitReader(z, limit+1)
	default:
		return nil, fhir.Errorf(fhir.NotSupported, "the only Content-Encoding of requests is gzip").WithStatus(http.StatusUnsupportedMediaType)
	}
	body, err := readAll(in, c.http.ContentLength)
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig) || int64(len(body)) > limit:
		return nil, tooLong
	case err != nil:
		return nil, fhir.Errorf(fhir.Structure, "the body ends too early or is not in its encoding")
	}
	return body, c.mediaType(len(body))
}

// readAll reads to the end. The length that the client claims saves copying,
// but memory is not given for a claim alone.
func readAll(in io.Reader, length int64) ([]byte, error) {
	body := make([]byte, 0, max(512, min(length+1, 1<<20)))
	for {
		n, err := in.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
	}
}

// mediaType checks Content-Type for what the interaction takes.
func (c *call) mediaType(length int) error {
	given := c.http.Header.Values("Content-Type")
	if len(given) == 0 && length == 0 {
		return nil
	}
	t, params, err := "", map[string]string(nil), error(nil)
	if len(given) == 1 {
		t, params, err = mime.ParseMediaType(given[0])
	}
	ok := len(given) == 1 && err == nil && forR4(params)
	want := "application/fhir+json"
	switch c.req.does {
	case fhir.Create, fhir.Update, fhir.Transaction, fhir.Operation:
		ok = ok && isJSON(given[0])
	case fhir.Patch:
		want = "application/json-patch+json"
		ok = ok && t == want
	default:
		want = "application/x-www-form-urlencoded"
		ok = ok && t == want
	}
	if !ok {
		return fhir.Errorf(fhir.NotSupported, "the body must be %s in UTF-8", want).WithStatus(http.StatusUnsupportedMediaType)
	}
	return nil
}

// record makes sure that the request is in the audit trail.
func (c *call) record(ctx context.Context, resp *response) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	e := audit.Entry{
		Recorded: c.begun, Interaction: c.req.does, Status: resp.status, Outcome: outcomeOf(resp.status),
		Origin: c.origin, Entity: c.req.ref, Type: c.req.ref.Type, Query: c.req.query,
	}
	if c.req.ref.ID == "" {
		e.Entity = fhir.Ref{}
	}
	if e.Interaction == "" && c.place.route != nil {
		e.Interaction = c.place.route.does
	}
	if c.grant != nil {
		e.Agent = c.grant.Agent()
	}
	if c.err != nil {
		e.Reason = clientError(c.err).Error()
	}
	return c.DB.Record(ctx, c.grant, e)
}

// outcomeOf says how a request with the status ended.
func outcomeOf(status int) audit.Outcome {
	switch {
	case status < 400:
		return audit.Success
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return audit.Serious
	case status < 500:
		return audit.MinorFailure
	}
	return audit.MajorFailure
}

// write sends the answer.
func (c *call) write(resp *response) {
	h := c.writer.Header()
	c.headers(h, resp)
	body := resp.body
	if len(body) > 0 {
		if c.req.pretty && resp.contentType == "" {
			body = pretty(body)
		}
		h.Set("Content-Type", contentType)
		if resp.contentType != "" {
			h.Set("Content-Type", resp.contentType)
		}
		if len(body) >= 1024 && acceptsGzip(c.http.Header.Values("Accept-Encoding")) {
			body = compress(body)
			h.Set("Content-Encoding", "gzip")
		}
	}
	if resp.status != http.StatusNotModified && resp.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	c.writer.WriteHeader(resp.status)
	if c.http.Method != http.MethodHead {
		// Whoever does not take the answer does not get it; it is audited.
		_, _ = c.writer.Write(body)
	}
}

// headers sets the headers that all answers have, and those of resp.
func (c *call) headers(h http.Header, resp *response) {
	h.Set("X-Request-Id", c.origin.RequestID)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Strict-Transport-Security", "max-age=31536000")
	h.Set("Vary", "Authorization, Accept, Accept-Encoding, Prefer, Origin")
	c.cors(h)
	switch resp.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
		if c.http.Header.Get("Authorization") != "" {
			h.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		}
	case http.StatusMethodNotAllowed:
		h.Set("Allow", c.allowed())
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
	if resp.version.Version != 0 {
		h.Set("ETag", resp.version.ETag())
		h.Set("Last-Modified", resp.version.Updated.UTC().Format(http.TimeFormat))
	}
	if resp.location != "" {
		h.Set("Location", resp.location)
	}
	if resp.applied != "" {
		h.Set("Preference-Applied", "return="+resp.applied)
	}
}

// allowed lists the methods for a path.
func (c *call) allowed() string {
	if c.allow != "" {
		return c.allow
	}
	return "GET, HEAD, OPTIONS" // of the audit trail
}

// cors lets browsers of registered origins call, and those of any origin read
// the public documents.
// https://hl7.org/fhir/smart-app-launch/app-launch.html#considerations-for-cross-origin-resource-sharing-cors-support
func (c *call) cors(h http.Header) {
	origin := c.http.Header.Get("Origin")
	switch {
	case origin == "":
		return
	case c.place.route != nil && c.place.route.public != nil:
		h.Set("Access-Control-Allow-Origin", "*")
	case slices.Contains(c.Origins, origin):
		h.Set("Access-Control-Allow-Origin", origin)
	default:
		return
	}
	h.Set("Access-Control-Expose-Headers", "ETag, Location, Content-Location, Last-Modified, Preference-Applied, X-Request-Id")
	if c.http.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
		h.Set("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Exist, If-None-Match, Prefer, X-Request-Id")
		h.Set("Access-Control-Max-Age", "600")
	}
}

// log writes the request's line. It holds no path and no query, for both may
// name a patient.
func (c *call) log(ctx context.Context, resp *response) {
	took := c.Now().Sub(c.begun)
	slug := ""
	if c.grant != nil && c.grant.Tenant() != nil {
		slug = c.grant.Tenant().Slug.String()
	}
	pattern := c.place.pattern
	if pattern == "" {
		pattern = "none"
	}
	attrs := []slog.Attr{
		slog.String("method", method(c.http.Method)), slog.String("route", pattern), slog.String("tenant", slug),
		slog.Int("status", resp.status), slog.Duration("took", took), slog.String("request", c.origin.RequestID),
		slog.Any("params", c.req.names()),
	}
	level := slog.LevelInfo
	if resp.status >= 500 && c.err != nil {
		level = slog.LevelError
		attrs = append(attrs, slog.String("error", c.err.Error()))
	}
	c.Log.LogAttrs(ctx, level, "request", attrs...)
	c.Observe(pattern, slug, resp.status, took)
}

// method returns the method if it is one of HTTP's, for a client can send any
// word.
func method(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

// names lists the names of the parameters, so far as they look like names.
func (req *request) names() []string {
	var names []string
	for _, p := range req.params {
		if !plainName(p.Name) {
			p.Name = "?"
		}
		names = append(names, p.Name)
	}
	return names
}

// plainName reports whether s is made as names of search parameters are, and
// can be shown.
func plainName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_' && r != ':' && r != '.' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}

// origin says where a request came from.
func (s *server) origin(r *http.Request) audit.Origin {
	id, ok := requestID(r.Header)
	if !ok {
		id = rand.Text()
	}
	return audit.Origin{RequestID: id, Address: s.address(r), Method: method(r.Method) + " " + shape(r.URL.Path), Trail: audit.NewTrail()}
}

// address returns the IP address of the client: who holds the connection, or
// whom a trusted proxy names last.
func (s *server) address(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	client := peer.Addr().Unmap()
	named := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(named) - 1; i >= 0 && s.trusted(client); i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(named[i]))
		if err != nil {
			break
		}
		client = a.Unmap()
	}
	return client.String()
}

func (s *server) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(s.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// shape returns the path with every segment that could not be one of this API
// as "?", and no more than eight segments.
func shape(path string) string {
	segments := strings.SplitN(path, "/", 10)
	segments = segments[:min(len(segments), 9)]
	for i, s := range segments {
		if s != "" && !fhir.ValidID(strings.Trim(s, "$_*")) && s != "*" {
			segments[i] = "?"
		}
	}
	return strings.Join(segments, "/")
}

// plainPath returns the path of a request, given in its escaped form, if it is
// spelled as the paths of this API are: segments of letters, digits and -._~$*
// that neither are empty nor dots alone. Only $ and * may be escaped, and only
// behind the tenant.
func plainPath(escaped string) (string, bool) {
	path := escaped
	if strings.Contains(path, "%") {
		rest, ok := strings.CutPrefix(path, "/fhir/")
		slug, below, found := strings.Cut(rest, "/")
		if !ok || !found {
			return "", false
		}
		below = strings.NewReplacer("%24", "$", "%2A", "*", "%2a", "*").Replace(below)
		path = "/fhir/" + slug + "/" + below
	}
	if len(path) == 0 || path[0] != '/' {
		return "", false
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(path[1:], "/"), "/") {
		if strings.Trim(segment, ".") == "" {
			return "", false
		}
		for i := 0; i < len(segment); i++ {
			c := segment[i]
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("-._~$*", c) < 0 {
				return "", false
			}
		}
	}
	return path, true
}

// tenantOf returns the slug in a path that is not plain, so that a slip in the
// rest of it is answered as one. It is "" if the rest could be meant to lead
// out of the tenant.
func tenantOf(escaped string) string {
	rest, _ := strings.CutPrefix(escaped, "/fhir/")
	text, below, _ := strings.Cut(rest, "/")
	slug, err := tenant.ParseSlug(text)
	if err != nil {
		return ""
	}
	below = "/" + strings.ToLower(below)
	for _, trick := range []string{"..", "/./", "//", "%2e", "%2f", "%5c", ";"} {
		if strings.Contains(below, trick) {
			return ""
		}
	}
	return slug.String()
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

// A panicked is a panic as an error. What it was called with is not in it,
// for that may be a resource.
type panicked struct {
	with   any
	frames string
}

func (p *panicked) Error() string {
	words := fmt.Sprintf("panic with a %T", p.with)
	// What the runtime says of itself holds indexes and types, no data.
	if e, ok := p.with.(runtime.Error); ok {
		words = "panic: " + e.Error()
	}
	return words + " at " + p.frames
}

// callers lists the functions that were running when a panic came.
func callers() string {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs)])
	var b strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "%s:%d ", f.Function, f.Line)
		if !more {
			return b.String()
		}
	}
}
