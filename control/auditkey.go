package control

import (
	"context"
	"net/http"

	"github.com/cordon-fhir/cordon/tenant"
)

// An AuditKey is the public key that verifies the checkpoints of an audit log.
type AuditKey struct {
	// Key is in the form of https://pkg.go.dev/golang.org/x/mod/sumdb/note
	Key string `json:"key"`
}

// showAuditKey shows the key of a tenant, or of the platform.
func (a *api) showAuditKey(ctx context.Context, c call) (answer, error) {
	var t *tenant.Tenant
	did := "showed the key of the platform's audit log"
	if c.slug != "" {
		var err error
		if t, err = a.tenants.Tenant(ctx, c.slug); err != nil {
			return answer{}, known(err)
		}
		did = "showed the key of the audit log of tenant " + c.slug
	}
	key, err := a.Registry.LogVerifier(ctx, t)
	if err != nil {
		return answer{}, known(err)
	}
	return answer{http.StatusOK, AuditKey{key}, did}, nil
}
