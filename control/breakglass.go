package control

import (
	"context"
	"net/http"
	"regexp"
	"time"

	"github.com/cordon-fhir/cordon/smart"
)

// glassID is what stands for a broken glass, or a legal hold, in a path.
var glassID = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// listGlasses tells who has broken a glass or asked to, but not whose.
func (a *api) listGlasses(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	list, err := a.Registry.GlassOutlines(ctx, t)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, list, "listed who broke the glass at tenant " + c.slug}, nil
}

func (a *api) showGlass(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	g, err := a.Registry.GlassOutline(ctx, t, c.item)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, g, "showed broken glass " + g.ID + " of tenant " + c.slug}, nil
}

// endGlass ends what is in force, on every server once it answers. The servers of
// the tenant tell its own trail.
func (a *api) endGlass(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	why, err := c.why()
	if err != nil {
		return answer{}, err
	}
	if _, err := a.Registry.GlassOutline(ctx, t, c.item); err != nil {
		return answer{}, err
	}
	if err := a.Registry.EndGlass(ctx, t, c.item, "operator "+c.operator); err != nil {
		return answer{}, err
	}
	g, err := a.Registry.GlassOutline(ctx, t, c.item)
	if err != nil {
		return answer{}, err
	}
	time.Sleep(smart.RevocationDelay)
	return answer{http.StatusOK, g, "ended broken glass " + g.ID + " of tenant " + c.slug + ": " + why}, nil
}
