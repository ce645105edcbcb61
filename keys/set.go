package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"
)

// A Set is the opened keys of one tenant. Its methods may be called from many
// goroutines at once. It prints as its name, never as its keys.
type Set struct {
	tenant  string
	aeads   map[Class]tink.AEAD
	hashers sync.Pool // of *hasher
	signing *ecdsa.PrivateKey
	kid     string
	// public are the keys that signed or will sign, too.
	public []PublicKey
}

// A PublicKey verifies access tokens.
type PublicKey struct {
	ID  string // kid
	Key *ecdsa.PublicKey
}

// Seal encrypts plaintext under the tenant's key of the class, AES-256-GCM,
// and appends it to dst. Open needs the same ad. The class is one of Clinical,
// Audit, Cursor and Export. Nonces are random, which is safe for 2^32 calls a key.
func (s *Set) Seal(dst []byte, c Class, plaintext, ad []byte) ([]byte, error) {
	a, err := s.aead(c)
	if err != nil {
		return nil, err
	}
	sealed, err := a.Encrypt(plaintext, ad)
	if err != nil {
		return nil, fmt.Errorf("sealing under the %s key: %w", c, err)
	}
	if dst == nil {
		return sealed, nil
	}
	return append(dst, sealed...), nil
}

// Open decrypts what Seal made.
func (s *Set) Open(c Class, ciphertext, ad []byte) ([]byte, error) {
	a, err := s.aead(c)
	if err != nil {
		return nil, err
	}
	plain, err := a.Decrypt(ciphertext, ad)
	if err != nil {
		return nil, fmt.Errorf("opening under the %s key of tenant %s: %w", c, s.tenant, err)
	}
	return plain, nil
}

func (s *Set) aead(c Class) (tink.AEAD, error) {
	a, ok := s.aeads[c]
	if !ok {
		return nil, fmt.Errorf("keys: nothing is sealed under the class %q", c)
	}
	return a, nil
}

// SigningKey returns the key that signs the tenant's access tokens, ECDSA on
// P-256, and its name: the thumbprint of RFC 7638.
func (s *Set) SigningKey() (key *ecdsa.PrivateKey, kid string) { return s.signing, s.kid }

// PublicKeys returns the keys of access tokens that may still be good or will be
// soon, first the one that signs.
func (s *Set) PublicKeys() []PublicKey { return s.public }

// VerifyingKey returns the one of PublicKeys with the name, nil if there is none.
func (s *Set) VerifyingKey(kid string) *ecdsa.PublicKey {
	for _, k := range s.public {
		if k.ID == kid {
			return k.Key
		}
	}
	return nil
}

// thumbprint is the SHA-256 of the public key as a JWK.
// https://www.rfc-editor.org/rfc/rfc7638
func thumbprint(pub *ecdsa.PublicKey) (string, error) {
	if pub.Curve != elliptic.P256() {
		return "", errors.New("keys: the signing key is not on P-256")
	}
	point, err := pub.Bytes() // 4, x, y
	if err != nil {
		return "", fmt.Errorf("encoding the public key: %w", err)
	}
	b64 := base64.RawURLEncoding
	jwk := fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":%q,"y":%q}`,
		b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:]))
	sum := sha256.Sum256([]byte(jwk))
	return b64.EncodeToString(sum[:]), nil
}

// A hasher is an HMAC whose key is absorbed once, at its first use.
type hasher struct {
	mac hash.Hash
	in  []byte
	sum [sha256.Size]byte
}

func newHasher(key []byte) *hasher { return &hasher{mac: hmac.New(sha256.New, key)} }

// Hash returns the keyed hash of the parts under the tenant's index key: 64
// bits of HMAC-SHA-256. The parts are kept apart: ("ab","c") and ("a","bc")
// differ.
func (s *Set) Hash(parts ...string) int64 {
	h := s.hashers.Get().(*hasher)
	h.in = h.in[:0]
	for _, p := range parts {
		h.in = binary.AppendUvarint(h.in, uint64(len(p)))
		h.in = append(h.in, p...)
	}
	h.mac.Reset()
	h.mac.Write(h.in)
	n := int64(binary.BigEndian.Uint64(h.mac.Sum(h.sum[:0])))
	clear(h.in) // what is hashed is clinical; it must not wait in a pool
	if cap(h.in) <= maxHasherBuffer {
		s.hashers.Put(h)
	}
	return n
}

const maxHasherBuffer = 4 << 10

// String names the tenant of s and nothing else.
func (s *Set) String() string { return "keys of tenant " + s.tenant }

// Format keeps keys out of every verb of fmt.
func (s *Set) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue keeps keys out of logs.
func (s *Set) LogValue() slog.Value { return slog.StringValue(s.String()) }
