// Package ledgertest is what the tests of several packages share: keys of logs.
package ledgertest

import (
	"testing"

	"github.com/cordon-fhir/cordon/audit/ledger"
)

// NewKey makes a key for the name: what signs with it, what verifies, and that as
// it is shown.
func NewKey(t testing.TB, name string) (ledger.Signer, ledger.Key, string) {
	t.Helper()
	private, public, err := ledger.GenerateSigner(name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ledger.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ledger.ParseKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return signer, key, public
}
