package rest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/subscriptions"
)

// U-04, INT-01: a tenant tells which guides it has, to whoever asks, and nothing of
// those of others.
func TestTheCapabilityStatementTellsThePackagesOfTheTenant(t *testing.T) {
	a := newAPI(t)
	file := storetest.PackageFile(t, "stated.guide", "2.0.0",
		`{"resourceType":"ImplementationGuide","url":"http://guide.example.org/ImplementationGuide/stated","version":"2.0.0"}`,
		`{"resourceType":"CapabilityStatement","url":"http://guide.example.org/CapabilityStatement/server","version":"2.0.0","kind":"requirements","rest":[{"mode":"server"}]}`,
		`{"resourceType":"CapabilityStatement","url":"http://guide.example.org/CapabilityStatement/client","version":"2.0.0","kind":"requirements","rest":[{"mode":"client"}]}`,
		`{"resourceType":"StructureDefinition","url":"http://guide.example.org/StructureDefinition/patient","version":"2.0.0","type":"Patient","derivation":"constraint"}`,
		`{"resourceType":"StructureDefinition","url":"http://guide.example.org/StructureDefinition/race","version":"2.0.0","type":"Extension","derivation":"constraint"}`)
	p, err := canonical.ReadPackage(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	tell := func(slug string) map[string]any {
		c := a.client(t, slug, "system/*.rs")
		body := shown(t, c.must(200, "GET", "/metadata", "", "Authorization", ""))
		found := map[string]any{"guides": body["implementationGuide"], "instantiates": body["instantiates"]}
		for _, r := range body["rest"].([]any)[0].(map[string]any)["resource"].([]any) {
			if on := r.(map[string]any); on["supportedProfile"] != nil {
				found[fmt.Sprint(on["type"])] = on["supportedProfile"]
			}
		}
		return found
	}
	told := []any{subscriptions.Profile} // of every tenant
	nothing := map[string]any{"guides": nil, "instantiates": []any{backportServer}, "Subscription": told}
	all := map[string]any{
		"guides":       []any{"http://guide.example.org/ImplementationGuide/stated|2.0.0"},
		"instantiates": []any{backportServer, "http://guide.example.org/CapabilityStatement/server|2.0.0"},
		"Patient":      []any{"http://guide.example.org/StructureDefinition/patient"},
		"Subscription": told,
	}
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		if d := cmp.Diff(nothing, tell(slug)); d != "" {
			t.Errorf("%s, before: %s", slug, d)
		}
		if _, _, err := a.Migrator.InstallPackage(t.Context(), slug, sha256.Sum256(file), p); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := a.Migrator.RemovePackage(context.Background(), slug, p.Name, p.Version); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(1200 * time.Millisecond) // what a server knows of a tenant is a second old at most
		if d := cmp.Diff(all, tell(slug)); d != "" {
			t.Errorf("%s: %s", slug, d)
		}
		if d := cmp.Diff(nothing, tell(storetest.A2)); d != "" {
			t.Errorf("%s, which has no package: %s", storetest.A2, d)
		}
	}
}
