package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

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
	err    error  // why it failed
	sent   []byte // the body, of a request that may be answered later
	holds  int64  // of the room for bodies
	done   func() // gives back the turn to work; nil if there is none
	stop   context.CancelCauseFunc
	took   int // bytes of the body

	refused *refusal // if too much was asked
	// Of a request that was taken up.
	again func(context.Context) (*smart.Grant, error) // earns its Grant anew
	group *pinned                                     // whose members are exported
}

// ServeHTTP answers a request. The audit entry is durable before the first
// byte of the answer leaves.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{server: s, http: r, writer: w, begun: s.Now(), req: &request{}}
	c.origin = s.origin(r)
	ctx, cancel := context.WithTimeout(r.Context(), s.Limits.Timeout)
	defer cancel()
	defer c.release()
	resp := c.inFormat(c.answer(ctx))
	if err := c.record(ctx, resp); err != nil {
		c.err = fmt.Errorf("recording the request: %w", err)
		resp = failure(fhir.Errorf(fhir.Transient, "the request cannot be audited now"))
	}
	c.spend(resp)
	c.endTurn() // who reads slowly keeps nobody waiting
	c.write(resp)
	c.log(ctx, resp)
}

// release gives back what the call holds.
func (c *call) release() {
	c.endTurn()
	c.bodies.Release(c.holds)
}

// answer runs the request. A panic is answered as any fault of ours is.
func (c *call) answer(ctx context.Context) (resp *response) {
	defer func() {
		if p := recover(); p != nil {
			c.err = recovered(p)
			resp = failure(clientError(c.err))
		}
	}()
	ctx, c.stop = context.WithCancelCause(ctx)
	resp, err := c.run(ctx)
	if err = stopped(ctx, err); err != nil {
		c.err = err
		// Its own time was up, or that of something it waited for.
		if !isClientError(err) && (ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)) {
			err = fhir.Errorf(fhir.Transient, "the request took too long")
		}
		resp = failure(clientError(err))
	}
	return resp
}

// stopped returns why the request was stopped, or err.
func stopped(ctx context.Context, err error) error {
	if why := context.Cause(ctx); isClientError(why) {
		return why
	}
	return err
}

func isClientError(err error) bool {
	var e *fhir.Error
	return errors.As(err, &e)
}

// MaxURL bounds the path and query of a request. Longer searches go by POST.
// https://hl7.org/fhir/R4/http.html#search
const MaxURL = 8 << 10

// run authenticates, decodes, and passes through the door.
func (c *call) run(ctx context.Context) (*response, error) {
	long := len(c.http.URL.RequestURI()) > MaxURL
	path, plain := plainPath(c.http.URL.EscapedPath())
	var noRoute error
	if plain && !long {
		method := c.http.Method
		if method == http.MethodOptions {
			method = http.MethodGet
		}
		c.place, c.allow, noRoute = c.routes.find(method, path)
	} else {
		c.place.tenant = tenantOf(c.http.URL.EscapedPath())
	}
	if c.http.Method == http.MethodOptions && !long {
		return &response{status: http.StatusNoContent}, c.stranger("")
	}
	public := noRoute == nil && c.place.route != nil && c.place.route.public != nil
	if err := c.authenticate(ctx, public); err != nil {
		return nil, err
	}
	if err := c.tenantHeader(); err != nil {
		return nil, err
	}
	switch {
	case long:
		return nil, fhir.Errorf(fhir.TooLong, "the URL is too long; search by POST").WithStatus(http.StatusRequestURITooLong)
	case !plain:
		return nil, fhir.Errorf(fhir.Invalid, "the path holds characters or segments that no path of this API has")
	case errors.Is(noRoute, errNoRoute):
		return nil, fhir.Errorf(fhir.NotSupported, "there is nothing at this path").WithStatus(http.StatusNotFound)
	case noRoute != nil:
		return nil, noRoute
	}
	if public {
		c.begin(ctx)
		return c.public(ctx)
	}
	if err := c.ask(ctx); err != nil {
		return nil, err
	}
	return c.perhapsLater(ctx)
}

// begin begins the request that the call is about.
func (c *call) begin(ctx context.Context) {
	c.req = &request{slug: c.place.tenant, base: c.Base(c.place.tenant), grant: c.grant, limits: &c.Limits, now: c.Now, away: c.away}
	c.req.codes = codes{ctx, c.server, c.grant, c.req.base, c.away}
}

// ask reads what the call asks, once its Grant was earned.
func (c *call) ask(ctx context.Context) (err error) {
	c.begin(ctx)
	if err := c.onlyExports(); err != nil {
		return err
	}
	if c.req.custom, err = c.DB.Custom(ctx, c.grant); err != nil {
		return err
	}
	return c.decode(ctx)
}

// onlyExports refuses all but exports to a client who gets them de-identified: what it
// reads by other ways would say whom they are about.
func (c *call) onlyExports() error {
	if !c.grant.Tenant().Settings.Export.Deidentifies(c.grant.Agent().Client) {
		return nil
	}
	if o := c.place.route.operation; o != nil && o.name == "export" || strings.HasPrefix(c.place.route.path, pathOf[store.Export]) {
		return nil
	}
	return fhir.Errorf(fhir.Forbidden, "this client gets exports that are de-identified, and nothing else")
}

// authenticate earns the Grant. Public documents need none, but whoever shows
// a token of another tenant is refused there too.
func (c *call) authenticate(ctx context.Context, public bool) error {
	token := bearer(c.http.Header)
	if err := c.stranger(token); err != nil {
		return err
	}
	if public && token == "" {
		return nil
	}
	g, lent, err := c.byLink(ctx)
	if !lent {
		g, err = c.Verifier.Grant(ctx, c.place.tenant, token, c.origin)
	}
	c.grant = g
	if err := c.limit(); err != nil {
		return err
	}
	if public && fhir.IsCode(err, fhir.Login) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.inRegion(g.Tenant())
}

// stillMay has what follows done under the Grant as it is now: while the body of the
// request came, or its turn, who asks may have come to do less.
func (c *call) stillMay(ctx context.Context) error {
	g, err := c.earned(ctx)
	if err != nil {
		return err
	}
	c.grant, c.origin = g, g.Origin()
	c.req.grant, c.req.codes.grant = g, g
	return nil
}

// earned returns the Grant of the request. It is earned again if the request has taken
// longer than a revocation takes to be heard of: who asks may have been revoked.
func (c *call) earned(ctx context.Context) (*smart.Grant, error) {
	switch {
	case c.Now().Sub(c.begun) < smart.RevocationDelay:
		return c.grant, nil
	case c.again != nil:
		return c.again(ctx)
	}
	return c.Verifier.Grant(ctx, c.place.tenant, bearer(c.http.Header), c.origin)
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
	c.req.tenant = t
	resp, err := c.place.route.public(ctx, c.server, c.req)
	if err != nil || resp.contentType != "" {
		return resp, err
	}
	params, err := search.ParseQuery(c.req.query)
	if err != nil {
		return nil, err
	}
	if c.req.format, _, err = takeFormat(params, c.http.Header.Values("Accept")); err != nil {
		return nil, err
	}
	return resp, nil
}

// dispatch does what a request asks, in a View or an Update of its own.
func (s *server) dispatch(ctx context.Context, rt *route, req *request) (resp *response, err error) {
	if rt.parse != nil {
		if err := rt.parse(req); err != nil {
			return nil, err
		}
	}
	return s.perform(ctx, rt, req)
}

// perform does what a request asks that was parsed.
func (s *server) perform(ctx context.Context, rt *route, req *request) (resp *response, err error) {
	switch {
	case rt.public != nil:
		req.tenant = req.grant.Tenant()
		return rt.public(ctx, s, req)
	case rt.whole != nil:
		return rt.whole(ctx, s, req)
	case rt.does == fhir.Read && req.ref.Type != auditEvent:
		r, err := s.DB.Read(ctx, req.grant, req.ref)
		if err != nil {
			return nil, err
		}
		return found(req, r), nil
	case rt.look != nil && !req.persist:
		err = s.DB.View(ctx, req.grant, req.asks().viewing(func(v *store.View) error {
			resp, err = rt.look(ctx, v, req)
			return err
		}))
	default:
		err = s.DB.Update(ctx, req.grant, req.asks().writing(func(tx *store.Tx) error {
			resp, err = rt.change(ctx, tx, req)
			return err
		}))
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}
