package gate

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/cordon-fhir/cordon/tenant"
)

// sign returns the tenant's number, and the version of the access policy that we
// know, with the proof that they come from here: in the form that the tenant()
// function of the database knows the tenant by. Whoever can run SQL as the
// server's role, but does not know the secret, cannot make the setting for
// another tenant; and who has not heard of a change of the policy is nobody.
func sign(secret []byte, id tenant.ID, policy int64) string {
	n := id.String()
	if policy > tenant.FirstPolicy {
		n += "." + strconv.FormatInt(policy, 10)
	}
	inner := sha256.New()
	inner.Write(secret)
	inner.Write([]byte(n))
	outer := sha256.New()
	outer.Write(secret)
	outer.Write(inner.Sum(nil))
	return n + "." + hex.EncodeToString(outer.Sum(nil))
}
