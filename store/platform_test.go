package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// AUD-03: what is done to databases and keys is in the trail of the platform, whoever
// does it, and operators read it page by page.
func TestWhatIsDoneToDatabasesAndKeysIsInTheTrailOfThePlatform(t *testing.T) {
	f, ctx := storetest.New(t), t.Context()
	const slug = "platform-told"
	if _, _, err := f.Migrator.Provision(ctx, store.NewTenant{Slug: slug, Mode: tenant.Shared}); err != nil {
		t.Fatal(err)
	}
	x := f.Tenant(t, slug)
	if _, err := f.Registry.SigningKeys(ctx, x); err != nil { // the first of its kind
		t.Fatal(err)
	}
	if err := f.Registry.RotateOldKeys(ctx, x, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Migrator.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	other, err := keys.NewFileKMS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ring := keys.NewKeyring(f.Registry, other)
	ring.Failed = func(id tenant.ID) {
		if err := f.Registry.TellKeysFailed(id); err != nil {
			t.Error(err)
		}
	}
	for range 3 { // once is enough
		if _, err := ring.Of(ctx, x.ID); err == nil {
			t.Fatal("another KMS opens the keys")
		}
	}
	var all []store.PlatformEntry
	for before := int64(0); ; before = all[len(all)-1].Number {
		page, err := f.Migrator.PlatformTrail(ctx, before)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
	}
	if !slices.IsSortedFunc(all, func(a, b store.PlatformEntry) int { return int(b.Number - a.Number) }) || query[int64](t, connect(t, in(storetest.Superuser(t), "cordon_registry")), `SELECT count(*) FROM registry.platform_audit`)[0] != int64(len(all)) {
		t.Errorf("%d entries, or out of order", len(all))
	}
	for _, want := range []struct {
		says, by string
		n        int
	}{
		{"made keys of tenant " + x.ID.String() + " for ", "", 1},
		{"made the key of the audit log cordon/" + slug + ": cordon/" + slug + "+", "", 1},
		{"made a key for access tokens of tenant " + slug + ": ", "cordon-keys", 1},
		{"made a key for ID tokens of tenant " + slug + ": ", "cordon-keys", 2},
		{"begins to migrate to step ", "", 1},
		{"migrated to step ", "", 1},
		{"the keys of tenant " + x.ID.String() + " could not be opened", "cordon-keys", 1},
	} {
		n := 0
		for _, e := range all {
			if strings.HasPrefix(e.Reason, want.says) && (want.by == "" || e.Client == want.by) {
				n++
			}
		}
		if n != want.n {
			t.Errorf("%d entries say %q, want %d", n, want.says, want.n)
		}
	}
}
