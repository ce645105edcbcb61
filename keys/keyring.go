package keys

import (
	"context"

	"github.com/cordon-fhir/cordon/tenant"
)

// A Wrapped key as it is kept at rest: useless without the KMS.
type Wrapped struct {
	Class Class
	// KEK is the URI of the key that wraps it, "file:///…" or "hcvault://…".
	KEK string
	// Data is the wrapped key. The tenant's number and the class are its
	// associated data, so that it opens in no other row.
	Data []byte
	// Fingerprint tells equal keys, so that the database can refuse a second
	// one. It says nothing about the key.
	Fingerprint []byte
}

// A Source keeps wrapped keys. store.Registry is one.
type Source interface {
	// Keys returns all wrapped keys of the tenant.
	Keys(ctx context.Context, id tenant.ID) ([]Wrapped, error)
}

// A Keyring opens the keys of tenants and remembers them for a while.
type Keyring struct{}

// NewKeyring returns a Keyring that opens the keys of src with kms.
func NewKeyring(src Source, kms KMS) *Keyring { panic("stub") }

// Of returns the keys of the tenant.
func (k *Keyring) Of(ctx context.Context, id tenant.ID) (*Set, error) { panic("stub") }

// Forget drops what k remembers of the tenant.
func (k *Keyring) Forget(id tenant.ID) { panic("stub") }

// A Set is the opened keys of one tenant. Its methods may be called from many
// goroutines at once.
type Set struct{}

// Seal encrypts plaintext under the tenant's key of the class, AES-256-GCM,
// and appends it to dst. Open needs the same ad.
func (s *Set) Seal(dst []byte, c Class, plaintext, ad []byte) ([]byte, error) { panic("stub") }

// Open decrypts what Seal made.
func (s *Set) Open(c Class, ciphertext, ad []byte) ([]byte, error) { panic("stub") }

// Hash returns the keyed hash of the parts under the tenant's index key: 64
// bits of HMAC-SHA-256. The parts are kept apart: ("ab","c") and ("a","bc")
// differ.
func (s *Set) Hash(parts ...string) int64 { panic("stub") }

// Generate makes new keys of every class for a tenant, wrapped by the key that
// kek names in kms.
func Generate(kms KMS, kek string, id tenant.ID) ([]Wrapped, error) { panic("stub") }
