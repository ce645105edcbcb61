package control

import (
	"context"
	"net/http"
)

// rotateKeys makes the next keys that the tenant's tokens are signed with. What
// servers remember of keys is a minute old at most.
func (a *api) rotateKeys(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	alone, err := aloneIn(c.body)
	if err != nil {
		return answer{}, err
	}
	did := "made the next keys for tokens of tenant " + c.slug
	if alone {
		did += ", to believe no other"
	}
	return answer{http.StatusCreated, struct{}{}, did}, a.Registry.RotateKeys(ctx, t, alone)
}

// aloneIn reports whether the body of a call asks that no key before the next one is
// believed.
func aloneIn(body []byte) (bool, error) {
	var b struct {
		Alone bool `json:"alone,omitempty"`
	}
	if len(body) == 0 {
		return false, nil
	}
	err := decode(body, &b)
	return b.Alone, err
}
