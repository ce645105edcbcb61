package launch

import (
	"context"
	"errors"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// revoke makes a token of the client void, and with one of a user all that came
// of the same approval. It is answered when no server takes it any more; what is
// no token of the client is answered alike.
// https://www.rfc-editor.org/rfc/rfc7009
func (s *Server) revoke(ctx context.Context, c *call) error {
	form, l, err := s.fromClient(ctx, c)
	if err != nil {
		return err
	}
	if form.Get("token") == "" {
		return invalidRequest("token is missing")
	}
	c.answer = struct{}{}
	done, err := s.revokeToken(ctx, c, l, form.Get("token"))
	if err == nil && done {
		c.note = "revoked"
		s.settle(ctx)
	}
	return err
}

// revokeToken reports whether there was something of the client to revoke.
func (s *Server) revokeToken(ctx context.Context, c *call, l login, token string) (bool, error) {
	a, err := s.cfg.Registry.ApprovalOf(ctx, l.tenant, token)
	if err == nil {
		if a.Client != l.client.ID {
			return false, nil
		}
		return true, s.cfg.Registry.Revoke(ctx, l.tenant, a.ID)
	}
	if !errors.Is(err, store.ErrNoApproval) {
		return false, err
	}
	tok, err := s.cfg.Verifier.Inspect(ctx, c.slug, token)
	switch {
	case errors.Is(err, smart.ErrNoToken), err == nil && tok.Client != l.client.ID:
		return false, nil
	case err != nil:
		return false, err
	case tok.Session != "":
		return true, s.cfg.Registry.Revoke(ctx, l.tenant, tok.Session)
	}
	return true, s.cfg.Registry.RevokeToken(ctx, l.tenant, tok.ID, time.Unix(tok.Expires, 0))
}
