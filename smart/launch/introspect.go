package launch

import (
	"context"
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// An introspection is what a resource server is told of a token.
// https://hl7.org/fhir/smart-app-launch/token-introspection.html
type introspection struct {
	Active   bool   `json:"active"`
	Scope    string `json:"scope,omitzero"`
	Client   string `json:"client_id,omitzero"`
	Issuer   string `json:"iss,omitzero"`
	Audience string `json:"aud,omitzero"`
	Subject  string `json:"sub,omitzero"`
	Expires  int64  `json:"exp,omitzero"`
	Issued   int64  `json:"iat,omitzero"`
	Type     string `json:"token_type,omitzero"`
	ID       string `json:"jti,omitzero"`

	User        string         `json:"fhirUser,omitzero"` // absolute
	Patient     string         `json:"patient,omitzero"`
	Encounter   string         `json:"encounter,omitzero"`
	FHIRContext jsontext.Value `json:"fhirContext,omitzero"`
	Intent      string         `json:"intent,omitzero"`
}

// introspect tells a client of one of its own access tokens, or a client that
// is registered to ask of any. Of what is not a good token of this tenant, or
// none of the caller's business, it tells nothing but that.
// https://www.rfc-editor.org/rfc/rfc7662
func (s *Server) introspect(ctx context.Context, c *call) error {
	form, l, err := s.fromClient(ctx, c)
	if err != nil {
		return err
	}
	if l.public() {
		return unauthorizedClient("introspection is for clients that prove who they are")
	}
	if form.Get("token") == "" {
		return invalidRequest("token is missing")
	}
	c.answer = introspection{}
	tok, err := s.cfg.Verifier.Inspect(ctx, c.slug, form.Get("token"))
	if errors.Is(err, smart.ErrNoToken) {
		return nil
	}
	if err != nil {
		return err
	}
	if tok.Client != l.client.ID && !l.client.MayIntrospect() {
		return nil
	}
	c.note = "told of token " + tok.ID
	c.answer, err = s.introspection(ctx, c, l, tok)
	return err
}

func (s *Server) introspection(ctx context.Context, c *call, l login, tok smart.Token) (introspection, error) {
	is := introspection{
		Active: true, Scope: joinScopes(tok.Words, tok.Scope), Client: tok.Client, Issuer: tok.Issuer, Audience: tok.Audience, Subject: tok.Subject,
		Expires: tok.Expires, Issued: tok.Issued, Type: "Bearer", ID: tok.ID, Patient: tok.Patient,
	}
	if tok.User != "" {
		is.User = s.cfg.Base(c.slug) + "/" + tok.User
	}
	if tok.Session == "" {
		return is, nil
	}
	a, err := s.cfg.Registry.Approval(ctx, l.tenant, tok.Session)
	if errors.Is(err, store.ErrNoApproval) {
		return introspection{}, nil
	}
	is.Encounter, is.FHIRContext, is.Intent = a.Context.Encounter, a.Context.FHIRContext, a.Context.Intent
	return is, err
}
