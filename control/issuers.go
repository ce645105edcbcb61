package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// issuerBody is an outside issuer as the API takes it. The secret is not shown
// again.
type issuerBody struct {
	smart.Issuer `json:",inline"`
	Secret       string `json:"client_secret,omitempty"`
}

// issuerDelay is how long after it is on record a change of the issuer holds on
// every server: as long as they remember a tenant.
const issuerDelay = 1100 * time.Millisecond

func issuerError(err error) error {
	switch {
	case errors.Is(err, store.ErrNoIssuer):
		return fhir.Errorf(fhir.NotFound, "the tenant has its own authorization server")
	case errors.Is(err, store.ErrSharedAudience):
		return fhir.Errorf(fhir.Conflict, "another tenant trusts this issuer for this audience: a token would be good at both")
	}
	return err
}

func (a *api) showIssuer(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	is, version, err := a.Registry.Issuer(ctx, t)
	if err == nil && version == 0 {
		err = store.ErrNoIssuer
	}
	if err != nil {
		return answer{}, issuerError(err)
	}
	return answer{http.StatusOK, is, "showed the outside issuer of tenant " + c.slug}, nil
}

// putIssuer makes the tenant trust an authorization server elsewhere, or changes
// what it believes of it: 201 or 200. When it returns, no token is good that was
// before and would not be now.
func (a *api) putIssuer(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	var b issuerBody
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	is := b.Issuer
	is.Secret = b.Secret
	if err := is.Check(); err != nil {
		return answer{}, fhir.Errorf(fhir.Invalid, "%s", err)
	}
	created, err := a.Registry.PutIssuer(ctx, t, is)
	if err != nil {
		return answer{}, issuerError(err)
	}
	time.Sleep(issuerDelay)
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return answer{status, is, fmt.Sprintf("made tenant %s trust issuer %s", c.slug, is.URL)}, nil
}

// removeIssuer gives the tenant its own authorization server back.
func (a *api) removeIssuer(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	if err := a.Registry.RemoveIssuer(ctx, t); err != nil {
		return answer{}, issuerError(err)
	}
	time.Sleep(issuerDelay)
	return answer{http.StatusOK, struct{}{}, "removed the outside issuer of tenant " + c.slug}, nil
}
