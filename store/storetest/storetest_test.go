package storetest_test

import (
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// The tokens of the Fixture are of one tenant, as real ones are.
func TestTokens(t *testing.T) {
	f := storetest.New(t)
	for _, slug := range storetest.Slugs {
		g := f.Grant(t, slug, "system/*.cruds")
		if got := g.Tenant(); got.Slug.String() != slug || got.Mode != storetest.Modes[slug] {
			t.Errorf("%s: got a Grant of %s in mode %s", slug, got.Slug, got.Mode)
		}
		token := f.Token(t, slug, "system/*.cruds")
		for _, other := range storetest.Slugs {
			if other == slug {
				continue
			}
			if _, err := f.Verifier.Grant(t.Context(), other, token, g.Origin()); err == nil {
				t.Errorf("a token of %s opens %s", slug, other)
			}
		}
	}
}
