package store

import (
	"cmp"
	"context"
	"time"

	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/tenant"
)

// A KeyKeeper makes the next keys that tokens are signed with when those that
// sign have come of age.
type KeyKeeper struct {
	Registry *Registry // required
	// Tenants returns those that are looked after. Required.
	Tenants func(context.Context) ([]*tenant.Tenant, error)
	// Age is how old a key may be. Required.
	Age time.Duration
	// Every is how often it looks. Default 1h.
	Every time.Duration
	// Log is told of what fails. Default slog's.
	Log *oplog.Logger
}

// Run looks after the keys until ctx is done.
func (k *KeyKeeper) Run(ctx context.Context) {
	tick := time.NewTicker(cmp.Or(k.Every, time.Hour))
	defer tick.Stop()
	for {
		k.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (k *KeyKeeper) round(ctx context.Context) {
	list, err := k.Tenants(ctx)
	if err != nil && ctx.Err() == nil {
		k.Log.Error("listing tenants for their keys", oplog.Cause(err))
	}
	for _, t := range list {
		if err := k.Registry.RotateOldKeys(ctx, t, k.Age); err != nil && ctx.Err() == nil {
			k.Log.Error("making the next keys of a tenant", oplog.Tenant(t.Slug.String()), oplog.Cause(err))
		}
	}
}
