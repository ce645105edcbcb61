package launch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// A login is a client that has proved to be who it says, at its tenant. A
// public client can prove nothing: what it shows besides must be bound to it.
type login struct {
	tenant *tenant.Tenant
	keys   *keys.Set
	client smart.Client
}

func (l login) public() bool { return l.client.Method == smart.PublicClient }

// agent is the client, for the audit trail.
func (l login) agent() audit.Agent {
	return audit.Agent{Client: l.client.ID, User: l.client.User, Purpose: l.client.Purpose}
}

// fromClient reads a form of a client that proves in it who it is.
func (s *Server) fromClient(ctx context.Context, c *call) (form url.Values, l login, err error) {
	if form, err = readForm(c.http); err == nil {
		l, err = s.authenticate(ctx, c, form)
	}
	return
}

// authenticate says which client has sent the form, here and in the audit trail.
func (s *Server) authenticate(ctx context.Context, c *call, form url.Values) (login, error) {
	l, err := s.recognize(ctx, c, form)
	if err == nil {
		c.grant = smart.Denied(l.tenant, l.agent(), c.origin)
	}
	return l, err
}

// recognize takes what a client proves itself with: its assertion, which is
// then used up, its secret, in the header or in the form, or nothing but its id
// if it is a public client. Only the way that it is registered for will do.
// https://www.rfc-editor.org/rfc/rfc6749#section-2.3
func (s *Server) recognize(ctx context.Context, c *call, form url.Values) (login, error) {
	id, secret, header, err := basic(c.http)
	if err != nil {
		return login{}, err
	}
	switch {
	case header && (form.Has("client_assertion") || form.Has("client_secret")),
		form.Has("client_assertion") && form.Has("client_secret"):
		return login{}, invalidRequest("a client proves who it is in one way")
	case form.Has("client_assertion"), form.Has("client_assertion_type"):
		return s.byAssertion(ctx, c, form)
	case header && form.Has("client_id") && form.Get("client_id") != id:
		return login{}, invalidRequest("client_id is not that of the header")
	case header:
		return s.bySecret(ctx, c, id, secret)
	case form.Has("client_secret"):
		return s.bySecret(ctx, c, form.Get("client_id"), form.Get("client_secret"))
	case !form.Has("client_id"):
		return login{}, invalidClient("the client does not say who it is")
	}
	l, err := s.registered(ctx, c, form.Get("client_id"))
	if err == nil && !l.public() {
		return login{}, invalidClient("the client does not prove who it is")
	}
	return l, err
}

// basic reads the header by which a client shows its secret. Both parts are
// encoded as in a form.
// https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
func basic(r *http.Request) (id, secret string, ok bool, err error) {
	if len(r.Header.Values("Authorization")) == 0 {
		return "", "", false, nil
	}
	malformed := invalidClient("the Authorization header is not of a client")
	id, secret, ok = r.BasicAuth()
	if !ok || len(r.Header.Values("Authorization")) != 1 {
		return "", "", false, malformed
	}
	id, err1 := url.QueryUnescape(id)
	secret, err2 := url.QueryUnescape(secret)
	if err1 != nil || err2 != nil {
		return "", "", false, malformed
	}
	return id, secret, true, nil
}

func (s *Server) bySecret(ctx context.Context, c *call, id, secret string) (login, error) {
	l, err := s.registered(ctx, c, id)
	if err == nil && !l.client.IsSecret(secret) {
		return login{}, invalidClient("the secret is wrong, or the client has none")
	}
	return l, err
}

// registered returns the client of the tenant in the path. What is wrong, or
// whether there is such a tenant or client, is not told.
func (s *Server) registered(ctx context.Context, c *call, id string) (login, error) {
	t, set, err := s.tenant(ctx, c)
	if err != nil {
		return login{}, err
	}
	if t == nil {
		return login{}, invalidClient("there is no such tenant, or it is not active")
	}
	if !validName(id) {
		return login{}, invalidClient("the client_id is malformed")
	}
	client, err := s.cfg.Clients.Client(ctx, t, id)
	if errors.Is(err, smart.ErrUnknownClient) || err == nil && client.Disabled {
		return login{}, invalidClient("there is no such client, or it is disabled")
	}
	if err != nil {
		return login{}, fmt.Errorf("looking up the client: %w", err)
	}
	if client.ID != id {
		return login{}, fmt.Errorf("looking up the client: it has another id")
	}
	c.client = &client
	return login{tenant: t, keys: set, client: client}, nil
}
