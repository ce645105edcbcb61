package rest

import (
	"context"
	"testing"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// lateKeys is a registry that does not answer in time.
type lateKeys struct{}

func (lateKeys) Keys(context.Context, tenant.ID) ([]keys.Wrapped, error) {
	return nil, context.DeadlineExceeded
}

// F018: it is no fault of the request, nor of the server.
func TestWhatWaitsInVainForTheRegistryIsToBeAskedAgain(t *testing.T) {
	f := storetest.New(t)
	v, err := smart.NewVerifier(smart.Config{Tenants: f.Tenants, Keys: keys.NewKeyring(lateKeys{}, f.KMS), Policies: f.Registry, Glasses: f.Registry, Base: baseOf, Issuer: baseOf})
	if err != nil {
		t.Fatal(err)
	}
	c := newAPI(t, func(c *Config) { c.Verifier = v }).client(t, storetest.S1, all)
	if w := c.do("GET", "/Patient", ""); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
}
