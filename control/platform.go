package control

import (
	"context"
	"net/http"
)

// listPlatform shows the platform's audit trail, the newest entries first, or those
// before the one that is named.
func (a *api) listPlatform(ctx context.Context, c call) (answer, error) {
	list, err := a.Migrator.PlatformTrail(ctx, c.number)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, list, "showed the audit trail of the platform"}, nil
}
