// Package keys holds the keys of the tenants: each tenant's data keys, wrapped
// by a key-encryption key that a key management service keeps.
//
// https://developers.google.com/tink
package keys

import (
	"github.com/tink-crypto/tink-go/v2/core/registry"
)

// A KMS wraps and unwraps data keys. Tink's clients for HashiCorp Vault, AWS
// and Google Cloud are KMSs; FileKMS is the one for development.
type KMS = registry.KMSClient

// A Class is a class of data with keys of its own.
type Class string

// The classes of data.
const (
	Clinical Class = "clinical" // bodies of resources
	Audit    Class = "audit"    // sealed parts of audit entries
	Cursor   Class = "cursor"   // paging cursors
	Index    Class = "index"    // keyed hashes of the search index
	Signing  Class = "signing"  // the private key that signs access tokens
)

// Classes lists every class, in the order in which keys are made.
var Classes = []Class{Clinical, Audit, Cursor, Index, Signing}
