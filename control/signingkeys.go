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
	var b struct {
		Alone bool `json:"alone,omitempty"`
	}
	if len(c.body) > 0 {
		if err := decode(c.body, &b); err != nil {
			return answer{}, err
		}
	}
	did := "made the next keys for tokens of tenant " + c.slug
	if b.Alone {
		did += ", to believe no other"
	}
	return answer{http.StatusCreated, struct{}{}, did}, a.Registry.RotateKeys(ctx, t, b.Alone)
}
