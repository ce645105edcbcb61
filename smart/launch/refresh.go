package launch

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// refreshLife is how long a refresh token is good for that outlives its
// session; each use begins it anew.
const refreshLife = 120 * 24 * time.Hour

// tokenForRefresh gives the next access token and the next refresh token.
// https://hl7.org/fhir/smart-app-launch/app-launch.html#refresh-access-token
func (s *Server) tokenForRefresh(ctx context.Context, c *call, form url.Values) error {
	if err := s.name(ctx, c, form); err != nil {
		return err
	}
	l, err := s.authenticate(ctx, c, form)
	if err != nil {
		return err
	}
	token := form.Get("refresh_token")
	a, err := s.cfg.Registry.Refreshable(ctx, l.tenant, token)
	if err != nil {
		return s.notAccepted(ctx, c, l, err)
	}
	if a.Client != l.client.ID {
		return invalidGrant("the refresh token is another client's")
	}
	scope, err := narrowed(a.Scope, form.Get("scope"))
	if err != nil {
		return err
	}
	next := newSecret()
	if err := s.cfg.Registry.Rotate(ctx, l.tenant, a, token, next, s.refreshExpires(a)); err != nil {
		return s.notAccepted(ctx, c, l, err)
	}
	return s.giveUser(ctx, c, l, a, scope, next)
}

// name adds the client_id if the form says nothing of the client. A public app
// need not: the standard asks it for its refresh token alone, which says whose
// it is. A client that has to prove itself has then proved nothing.
func (s *Server) name(ctx context.Context, c *call, form url.Values) error {
	if len(c.http.Header.Values("Authorization")) > 0 ||
		slices.ContainsFunc([]string{"client_id", "client_secret", "client_assertion", "client_assertion_type"}, form.Has) {
		return nil
	}
	t, _, err := s.tenant(ctx, c)
	if err != nil || t == nil { // which is for authenticate to refuse
		return err
	}
	id, err := s.cfg.Registry.RefreshClient(ctx, t, form.Get("refresh_token"))
	if id != "" {
		form.Set("client_id", id)
	}
	return err
}

func (s *Server) refreshExpires(a store.Approval) time.Time {
	if a.Offline {
		return s.cfg.Now().Add(refreshLife)
	}
	return a.Time.Add(sessionLife) // and no longer than the session
}

// narrowed returns the scope that is asked for now, "" for all, of what was
// agreed to. More is an error.
// https://www.rfc-editor.org/rfc/rfc6749#section-6
func narrowed(agreed, asked string) (string, error) {
	if asked == "" {
		return agreed, nil
	}
	had, hadScopes, _ := smart.SplitScopes(agreed)
	words, scopes, ok := smart.SplitScopes(asked)
	wider := invalidScope("scope holds more than was agreed to")
	if !ok || len(words)+len(scopes) != len(distinct(strings.Fields(asked))) {
		return "", wider
	}
	for _, w := range words {
		if !slices.Contains(had, w) {
			return "", wider
		}
	}
	for _, sc := range scopes {
		if !sc.Within(hadScopes) {
			return "", wider
		}
	}
	return asked, nil
}

func distinct(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
