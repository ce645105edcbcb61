package breakout

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/smart/backend"
)

// A party is a tenant in a run, with its canaries and actors.
type party struct {
	*Tenant
	index    int               // in the target
	canaries map[string]string // by place
	actors   map[string]*actor
	made     []string // references of what was stored here, in that order
}

// An actor is a client of a tenant as whom requests are sent.
type actor struct {
	*Client
	*party
	service *backend.Service
	bearer  string // of one that signs nothing
}

func (s *Suite) party(i int, t *Tenant) (*party, error) {
	p := &party{Tenant: t, index: i, canaries: map[string]string{}, actors: map[string]*actor{}}
	for _, c := range t.Clients {
		role := c.plays()
		a := &actor{Client: c, party: p}
		switch have := p.actors[role]; {
		case role == "":
			continue
		case have == nil:
		case role == "dr1" && p.actors["dr2"] == nil && c.User != have.User:
			role = "dr2"
		case role == "pA" && !have.may(http.MethodPut) && a.may(http.MethodPut): // with it more can be tried
		default:
			continue
		}
		if err := a.prepare(s); err != nil {
			return nil, fmt.Errorf("client %s of %s: %w", c.ID, t.Slug, err)
		}
		p.actors[role] = a
	}
	return p, nil
}

// prepare reads what the client proves itself by.
func (a *actor) prepare(s *Suite) error {
	if a.TokenFile != "" {
		text, err := os.ReadFile(a.TokenFile)
		a.bearer = strings.TrimSpace(string(text))
		return err
	}
	text, err := os.ReadFile(a.KeyFile)
	if err != nil {
		return err
	}
	key := new(jose.JSONWebKey)
	if err := json.Unmarshal(text, key); err != nil {
		return fmt.Errorf("reading its key: %w", err)
	}
	a.service = &backend.Service{
		TokenURL: a.TokenURL, Client: a.ID, Scope: strings.Join(a.Scopes, " "), Key: key, HTTP: s.http,
		Prepare: func(r *http.Request) { r.Header.Set("X-Request-Id", "observer-"+s.requestID()) },
	}
	return nil
}

func (a *actor) token(ctx context.Context) (string, error) {
	if a.service == nil {
		return a.bearer, nil
	}
	return a.service.Token(ctx)
}

// may reports whether the scopes of the actor hold what the method needs at
// least. What it may see of a type is what is tried.
func (a *actor) may(method string) bool {
	letter := map[string]string{http.MethodPut: "u", http.MethodPatch: "u", http.MethodPost: "c", http.MethodDelete: "d"}[method]
	for _, scope := range a.Scopes {
		_, what, _ := strings.Cut(scope, ".")
		what, _, _ = strings.Cut(what, "?")
		if what == "*" || strings.Contains(what, letter) {
			return true
		}
	}
	return false
}

// patient is the id of the patient whose record the tenant's patient app sees, or
// of the shared one.
func (p *party) patient(shared string) string {
	if a := p.actors["pA"]; a != nil && a.Patient != "" {
		return a.Patient
	}
	return shared
}
