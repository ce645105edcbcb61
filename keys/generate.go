package keys

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/cordon-fhir/cordon/tenant"
)

// Generate makes new keys of the classes for a tenant, wrapped by the key that
// kek names in kms.
func Generate(kms KMS, kek string, id tenant.ID, classes ...Class) ([]Wrapped, error) {
	if id.IsZero() {
		return nil, errors.New("keys: no tenant")
	}
	a, err := kekOf(kms, kek)
	if err != nil {
		return nil, err
	}
	var rows []Wrapped
	for _, c := range classes {
		w, err := generate(a, c, wrappingAD(id, c))
		if err != nil {
			return nil, fmt.Errorf("making the %s key: %w", c, err)
		}
		w.Class, w.KEK = c, kek
		rows = append(rows, w)
	}
	return rows, nil
}

// GenerateSigning makes a new key of the class Signing for a tenant, as Generate
// does.
func GenerateSigning(kms KMS, kek string, id tenant.ID) (Wrapped, error) {
	a, err := kekOf(kms, kek)
	if err != nil {
		return Wrapped{}, err
	}
	w, err := generateSigning(a, wrappingAD(id, Signing))
	if err != nil {
		return Wrapped{}, fmt.Errorf("making the %s key: %w", Signing, err)
	}
	w.Class, w.KEK = Signing, kek
	return w, nil
}

func generate(kek tink.AEAD, c Class, ad []byte) (Wrapped, error) {
	switch c {
	case Index:
		key := make([]byte, indexKeySize)
		rand.Read(key)
		data, err := kek.Encrypt(key, ad)
		return Wrapped{Data: data, Fingerprint: fingerprint(key)}, err
	case Signing:
		return generateSigning(kek, ad)
	default:
		return generateKeyset(kek, ad)
	}
}

// indexKeySize is that of the hash, as RFC 2104 advises.
const indexKeySize = sha256.Size

func generateKeyset(kek tink.AEAD, ad []byte) (Wrapped, error) {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return Wrapped{}, err
	}
	key, err := aes256(h)
	if err != nil {
		return Wrapped{}, err
	}
	var data bytes.Buffer
	err = h.WriteWithAssociatedData(keyset.NewBinaryWriter(&data), kek, ad)
	return Wrapped{Data: data.Bytes(), Fingerprint: fingerprint(key)}, err
}

func generateSigning(kek tink.AEAD, ad []byte) (Wrapped, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Wrapped{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Wrapped{}, err
	}
	secret, err := key.Bytes()
	if err != nil {
		return Wrapped{}, err
	}
	data, err := kek.Encrypt(der, ad)
	return Wrapped{Data: data, Fingerprint: fingerprint(secret)}, err
}

// wrappingAD binds a wrapped key to its row.
func wrappingAD(id tenant.ID, c Class) []byte {
	return []byte("cordon|tenant|" + id.String() + "|" + string(c))
}

// fingerprint tells equal keys, also of different classes. The keys have 256
// bits of chance, so nothing can be learned from it.
func fingerprint(key []byte) []byte {
	sum := sha256.Sum256(append([]byte("cordon|fingerprint|"), key...))
	return sum[:]
}

// aes256 returns the primary key of the keyset, having made sure that all of
// it is AES-256-GCM: a keyset of a weaker kind would open and seal as well.
func aes256(h *keyset.Handle) ([]byte, error) {
	var primary []byte
	for i := range h.Len() {
		e, err := h.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("reading a keyset: %w", err)
		}
		key, ok := e.Key().(*aesgcm.Key)
		if !ok || key.KeyBytes().Len() != 32 {
			return nil, errors.New("keys: a key is not AES-256-GCM")
		}
		if e.IsPrimary() {
			primary = key.KeyBytes().Data(insecuresecretdataaccess.Token{})
		}
	}
	return primary, nil
}

// openSet opens the rows of a tenant: one key of every class, each of the kind
// that the class has, none twice. Of the class Signing there may be more; the
// first signs.
func openSet(kms KMS, id tenant.ID, rows []Wrapped) (*Set, error) {
	s := &Set{tenant: id.String(), aeads: map[Class]tink.AEAD{}}
	seen := map[Class]bool{}
	prints := map[string]bool{}
	for _, w := range rows {
		kek, err := kekOf(kms, w.KEK)
		if err != nil {
			return nil, err
		}
		key, err := s.add(kek, w, wrappingAD(id, w.Class))
		if err != nil {
			return nil, fmt.Errorf("unwrapping the %s key: %w", w.Class, err)
		}
		fp := fingerprint(key)
		if !bytes.Equal(fp, w.Fingerprint) || seen[w.Class] && w.Class != Signing || prints[string(fp)] {
			return nil, fmt.Errorf("keys: the %s key is not the one that was stored, or is there twice", w.Class)
		}
		seen[w.Class], prints[string(fp)] = true, true
	}
	for _, c := range Classes {
		if !seen[c] {
			return nil, fmt.Errorf("keys: there is no %s key", c)
		}
	}
	return s, nil
}

// add opens one row into s and returns the key material.
func (s *Set) add(kek tink.AEAD, w Wrapped, ad []byte) (key []byte, err error) {
	switch w.Class {
	case Clinical, Audit, Cursor, Export:
		h, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(w.Data)), kek, ad)
		if err != nil {
			return nil, err
		}
		if key, err = aes256(h); err != nil {
			return nil, err
		}
		s.aeads[w.Class], err = aead.New(h)
		return key, err
	case Index:
		if key, err = kek.Decrypt(w.Data, ad); err != nil {
			return nil, err
		}
		if len(key) != indexKeySize {
			return nil, errors.New("keys: the key has the wrong size")
		}
		s.hashers.New = func() any { return newHasher(key) }
		return key, nil
	case Signing:
		return s.addSigning(kek, w, ad)
	}
	return nil, errors.New("keys: the class is unknown")
}

func (s *Set) addSigning(kek tink.AEAD, w Wrapped, ad []byte) ([]byte, error) {
	der, err := kek.Decrypt(w.Data, ad)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("keys: the key is not PKCS #8")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("keys: the signing key is not ECDSA")
	}
	kid, err := thumbprint(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	if s.signing == nil {
		s.signing, s.kid = key, kid
	}
	s.public = append(s.public, PublicKey{kid, &key.PublicKey})
	return key.Bytes()
}
