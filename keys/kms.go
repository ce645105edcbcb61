// Package keys holds the keys of the tenants: each tenant's data keys, wrapped
// by a key-encryption key that a key management service keeps.
//
// https://developers.google.com/tink
package keys

import (
	"fmt"

	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// A KMS wraps and unwraps data keys. Tink's clients for HashiCorp Vault, AWS
// and Google Cloud are KMSs; NewFileKMS makes the one for development.
type KMS = registry.KMSClient

// A Class is a class of data with keys of its own.
type Class string

// The classes of data.
const (
	Clinical Class = "clinical" // bodies of resources, and requests that are answered later
	Audit    Class = "audit"    // sealed parts of audit entries, and records of broken glasses
	Cursor   Class = "cursor"   // paging cursors, forms of pages, and answers that are fetched later
	Index    Class = "index"    // keyed hashes of the search index
	Signing  Class = "signing"  // the private key that signs access tokens
	Export   Class = "export"   // files that bulk exports write
)

// Classes lists every class, in the order in which keys are made.
var Classes = []Class{Clinical, Audit, Cursor, Index, Signing, Export}

// Wrap encrypts a small secret, such as the credentials of a database, under
// the key that kek names in kms. Unwrap needs the same ad. A wrapped secret
// never opens as a tenant's key, nor the other way round.
func Wrap(kms KMS, kek string, plaintext, ad []byte) ([]byte, error) {
	a, err := kekOf(kms, kek)
	if err != nil {
		return nil, err
	}
	sealed, err := a.Encrypt(plaintext, secretAD(ad))
	if err != nil {
		return nil, fmt.Errorf("wrapping a secret: %w", err)
	}
	return sealed, nil
}

// Unwrap decrypts what Wrap made.
func Unwrap(kms KMS, kek string, wrapped, ad []byte) ([]byte, error) {
	a, err := kekOf(kms, kek)
	if err != nil {
		return nil, err
	}
	plain, err := a.Decrypt(wrapped, secretAD(ad))
	if err != nil {
		return nil, fmt.Errorf("unwrapping a secret: %w", err)
	}
	return plain, nil
}

func secretAD(ad []byte) []byte { return append([]byte("cordon|secret|"), ad...) }

func kekOf(kms KMS, kek string) (tink.AEAD, error) {
	if !kms.Supported(kek) {
		return nil, fmt.Errorf("keys: the key management service does not know keys like %q", kek)
	}
	a, err := kms.GetAEAD(kek)
	if err != nil {
		return nil, fmt.Errorf("reaching key-encryption key %q: %w", kek, err)
	}
	return a, nil
}
