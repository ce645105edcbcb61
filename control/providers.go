package control

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// providerBody is an identity provider as the API takes it. Its secret is not
// shown again.
type providerBody struct {
	smart.Provider `json:",inline"`
	Secret         string `json:"client_secret,omitempty"`
}

// providerError turns what the store says into what an operator is told.
func providerError(err error) error {
	switch {
	case errors.Is(err, store.ErrUnknownProvider):
		return fhir.Errorf(fhir.NotFound, "there is no such identity provider")
	case errors.Is(err, store.ErrOtherIssuer):
		return fhir.Errorf(fhir.Conflict, "the identity provider has another issuer, so its users are others: remove it first")
	}
	return err
}

func (a *api) listProviders(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	list, err := a.Registry.Providers(ctx, t)
	if err != nil {
		return answer{}, err
	}
	if list == nil {
		list = []smart.Provider{}
	}
	return answer{http.StatusOK, list, "listed the identity providers of tenant " + c.slug}, nil
}

// putProvider adds an identity provider or replaces the one with the name: 201
// or 200.
func (a *api) putProvider(ctx context.Context, c call) (answer, error) {
	var b providerBody
	t, err := a.asked(ctx, c, &b)
	if err != nil {
		return answer{}, err
	}
	p := b.Provider
	p.Secret = b.Secret
	if err := p.Check(); err != nil {
		return answer{}, fhir.Errorf(fhir.Invalid, "%s", err)
	}
	created, err := a.Registry.PutProvider(ctx, t, p)
	if err != nil {
		return answer{}, providerError(err)
	}
	if created {
		return answer{http.StatusCreated, p, "added identity provider " + p.Name + " to tenant " + c.slug}, nil
	}
	time.Sleep(smart.RevocationDelay)
	return answer{http.StatusOK, p, "replaced identity provider " + p.Name + " of tenant " + c.slug}, nil
}

// removeProvider removes an identity provider. What its users had let apps do
// is void when it returns.
func (a *api) removeProvider(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	if err := a.Registry.RemoveProvider(ctx, t, c.item); err != nil {
		return answer{}, providerError(err)
	}
	time.Sleep(smart.RevocationDelay)
	return answer{http.StatusOK, struct{}{}, "removed identity provider " + c.item + " of tenant " + c.slug}, nil
}

// providerUserBody is a user of an identity provider.
type providerUserBody struct {
	Subject  string `json:"subject"`
	Disabled bool   `json:"disabled,omitempty"`
}

func (a *api) listProviderUsers(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	users, err := a.Registry.ProviderUsers(ctx, t, c.item)
	if err != nil {
		return answer{}, err
	}
	list := make([]providerUserBody, 0, len(users))
	for _, u := range users {
		list = append(list, providerUserBody(u))
	}
	return answer{http.StatusOK, list, "listed the users of identity provider " + c.item + " of tenant " + c.slug}, nil
}

// putProviderUser lets a user of an identity provider in, or shuts them out. In
// the latter case what they had let apps do is void when it returns.
func (a *api) putProviderUser(ctx context.Context, c call) (answer, error) {
	var b providerUserBody
	t, err := a.asked(ctx, c, &b)
	if err != nil {
		return answer{}, err
	}
	if !smart.ValidSubject(b.Subject) {
		return answer{}, fhir.Errorf(fhir.Invalid, "subject has to be the sub of the identity provider: 1 to %d printable ASCII characters", smart.MaxSubject)
	}
	if err := a.Registry.PutProviderUser(ctx, t, c.item, store.ProviderUser(b)); err != nil {
		return answer{}, providerError(err)
	}
	did := "let in"
	if b.Disabled {
		time.Sleep(smart.RevocationDelay)
		did = "shut out"
	}
	return answer{http.StatusOK, b, did + " user " + b.Subject + " of identity provider " + c.item + " of tenant " + c.slug}, nil
}
