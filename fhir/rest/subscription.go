package rest

import (
	"context"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/subscriptions"
)

// subscribed reads a Subscription that g is about to store. Who stores it is its
// subscriber: it is told what that client may see, each time.
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/
func (s *server) subscribed(ctx context.Context, g *smart.Grant, d *fhir.Document, before []byte) (store.Wanted, error) {
	return subscriptions.Read(d, subscriptions.Where{
		Base: s.Base(g.Tenant().Slug.String()), Endpoints: g.Tenant().Settings.Subscriptions,
		Grant: func() ([]byte, error) { return s.Verifier.Keep(ctx, g) },
	}, before)
}
