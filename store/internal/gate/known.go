package gate

import (
	"context"
	"errors"
	"time"

	"github.com/cordon-fhir/cordon/smart"
)

// unknown says that the database does not know the tenant as we signed it: it is
// suspended, or its access policy has changed since we looked.
type unknown struct{ error }

func (u unknown) Unwrap() error { return u.error }

// The bounds of waiting for a change of a policy to be complete: the registry
// tells of it a moment before the place of the tenant does.
const (
	renewals   = 20
	renewEvery = 50 * time.Millisecond
)

// known runs fn, and again under the policy that is in force now if the database
// does not know the one of the Grant. fn may be run many times; what it read
// before the last time was nothing, for the first statement of a transaction is
// refused, or is rolled back.
func (g *Gate) known(ctx context.Context, grant *smart.Grant, fn func() error) error {
	for try := 0; ; try++ {
		err := fn()
		var u unknown
		if !errors.As(err, &u) {
			return err
		}
		if try == renewals || ctx.Err() != nil {
			return u.error
		}
		had := grant.Tenant().PolicyVersion
		if err := grant.Renew(ctx); err != nil {
			return err
		}
		if grant.Tenant().PolicyVersion == had {
			pause(ctx, renewEvery)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
