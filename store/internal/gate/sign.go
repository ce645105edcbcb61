package gate

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/cordon-fhir/cordon/tenant"
)

// sign returns the tenant's number with the proof that it comes from here, in
// the form that the tenant() function of the database knows it by. Whoever can run
// SQL as the server's role, but does not know the secret, cannot make the
// setting for another tenant.
func sign(secret []byte, id tenant.ID) string {
	n := id.String()
	inner := sha256.New()
	inner.Write(secret)
	inner.Write([]byte(n))
	outer := sha256.New()
	outer.Write(secret)
	outer.Write(inner.Sum(nil))
	return n + "." + hex.EncodeToString(outer.Sum(nil))
}
