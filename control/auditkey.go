package control

import (
	"context"
	"net/http"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

// An AuditKey is the public key that verifies the checkpoints of an audit log.
type AuditKey struct {
	// Key is in the form of https://pkg.go.dev/golang.org/x/mod/sumdb/note
	Key string `json:"key"`
	// Keys are all that the log had, the newest last.
	Keys []AuditKeyTimes `json:"keys,omitempty"`
}

// AuditKeyTimes are when a key of an audit log signs.
type AuditKeyTimes struct {
	Key   string    `json:"key"`
	Since time.Time `json:"since"`
	// Until is when what it alone has signed counts no longer.
	Until time.Time `json:"until,omitzero"`
}

// showAuditKey shows the keys of a tenant, or of the platform.
func (a *api) showAuditKey(ctx context.Context, c call) (answer, error) {
	t, whose, err := a.logOf(ctx, c)
	if err != nil {
		return answer{}, err
	}
	list, err := a.Registry.LogKeys(ctx, t)
	if err != nil {
		return answer{}, known(err)
	}
	shown := AuditKey{Key: list[len(list)-1].Key}
	for _, k := range list {
		shown.Keys = append(shown.Keys, AuditKeyTimes{k.Key, k.Since, k.Until})
	}
	return answer{http.StatusOK, shown, "showed the key of the audit log of " + whose}, nil
}

// rotateAuditKey makes the next key of the log of a tenant, or of the platform.
func (a *api) rotateAuditKey(ctx context.Context, c call) (answer, error) {
	t, whose, err := a.logOf(ctx, c)
	if err != nil {
		return answer{}, err
	}
	alone, err := aloneIn(c.body)
	if err != nil {
		return answer{}, err
	}
	key, err := a.Migrator.RotateLogKey(ctx, t, alone)
	did := "made the next key of the audit log of " + whose
	if alone {
		did += ", to believe no other"
	}
	return answer{http.StatusCreated, AuditKey{Key: key}, did}, err
}

// logOf returns whose audit log a call is about, in words too; nil is the platform.
func (a *api) logOf(ctx context.Context, c call) (*tenant.Tenant, string, error) {
	if c.slug == "" {
		return nil, "the platform", nil
	}
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return nil, "", known(err)
	}
	return t, "tenant " + c.slug, nil
}
