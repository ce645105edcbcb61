package launch

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// tokenForCode redeems an authorization code: once, by the app that it was
// given to, from the address that it was given for, by whoever began.
// https://hl7.org/fhir/smart-app-launch/app-launch.html#obtain-access-token
func (s *Server) tokenForCode(ctx context.Context, c *call, form url.Values) error {
	l, err := s.authenticate(ctx, c, form)
	if err != nil {
		return err
	}
	a, err := s.cfg.Registry.Code(ctx, l.tenant, form.Get("code"))
	if err != nil {
		return s.notAccepted(ctx, c, l, err)
	}
	switch {
	case a.Client != l.client.ID:
		return invalidGrant("the code is another client's")
	case a.RedirectURI != form.Get("redirect_uri"):
		return invalidGrant("redirect_uri is not that of the code")
	case !proves(form.Get("code_verifier"), a.Challenge):
		return invalidGrant("code_verifier does not fit")
	}
	refresh := ""
	if renewable(a.Scope) {
		refresh = newSecret()
	}
	if err := s.cfg.Registry.Redeem(ctx, l.tenant, a, refresh, s.refreshExpires(a)); err != nil {
		return s.notAccepted(ctx, c, l, err)
	}
	return s.giveUser(ctx, c, l, a, a.Scope, refresh)
}

// proves reports whether the verifier is what the challenge was made of.
// https://www.rfc-editor.org/rfc/rfc7636#section-4.6
func proves(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 || !isBase64URL(strings.NewReplacer(".", "", "~", "").Replace(verifier)) {
		return false
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(b64.EncodeToString(sum[:])), []byte(challenge)) == 1
}

func renewable(scope string) bool {
	words := strings.Fields(scope)
	return slices.Contains(words, "offline_access") || slices.Contains(words, "online_access")
}

// notAccepted answers for a code or a refresh token that opens nothing. One that
// was used before has made void what came of it, which has to be so everywhere
// before anyone is told.
func (s *Server) notAccepted(ctx context.Context, c *call, l login, err error) error {
	var reuse *store.ReuseError
	if errors.As(err, &reuse) {
		agent := agentOf(reuse.Approval.Identity)
		agent.Client = l.client.ID
		c.grant = smart.Denied(l.tenant, agent, c.origin)
		s.settle(ctx)
		s.cfg.Alert(smart.Alert{Rule: smart.TokenReuse, Tenant: c.slug, Addressed: c.slug, Client: l.client.ID, Address: c.origin.Address, Request: c.origin.RequestID})
		return invalidGrant("it was used before; all that came of it is revoked")
	}
	if errors.Is(err, store.ErrNoApproval) {
		return invalidGrant("it is not known, has expired or was revoked")
	}
	return err
}

// giveUser answers with tokens for the user of the approval, with the scope or
// less.
func (s *Server) giveUser(ctx context.Context, c *call, l login, a store.Approval, scope, refresh string) error {
	agent := agentOf(a.Identity)
	agent.Client, agent.Purpose = l.client.ID, l.client.Purpose
	c.grant = smart.Denied(l.tenant, agent, c.origin)
	words, scopes, _ := smart.SplitScopes(scope)
	tok := s.tokenOf(c.slug, a.Identity, l.client, s.cfg.Now(), userTokenLife)
	// What the client is registered for now may be less than it was.
	_, may := l.client.AllowedToUsers()
	tok.Scope, tok.Session = smart.Join(smart.Narrow(scopes, may)), a.ID
	tok.Words = strings.Join(words, " ")
	tok.Patient, tok.Encounter = a.Context.Patient, a.Context.Encounter
	answer := tokenAnswer{
		Scope: joinScopes(tok.Words, tok.Scope), RefreshToken: refresh,
		Patient: a.Context.Patient, Encounter: a.Context.Encounter, FHIRContext: a.Context.FHIRContext,
		Intent: a.Context.Intent, Banner: a.Context.Banner, StyleURL: a.Context.StyleURL,
	}
	if slices.Contains(words, "openid") {
		var err error
		if answer.IDToken, err = s.idToken(ctx, c, l, a, words); err != nil {
			return err
		}
	}
	return s.give(c, l, tok, answer)
}

// joinScopes joins what is and what is not for resources.
func joinScopes(words, scopes string) string { return strings.TrimSpace(words + " " + scopes) }
