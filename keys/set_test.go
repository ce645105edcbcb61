package keys_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"slices"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/keys"
)

func TestWhatIsSealedOpensUnchanged(t *testing.T) {
	w := newWorld(t)
	s := w.set(t, w.north)
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom([]keys.Class{keys.Clinical, keys.Audit, keys.Cursor}).Draw(t, "class")
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		ad := rapid.SliceOf(rapid.Byte()).Draw(t, "ad")
		dst := rapid.SliceOf(rapid.Byte()).Draw(t, "dst")
		sealed, err := s.Seal(slices.Clone(dst), c, plain, ad)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(sealed, dst) {
			t.Fatal("what was in dst is gone")
		}
		sealed = sealed[len(dst):]
		if len(plain) > 8 && bytes.Contains(sealed, plain) {
			t.Fatal("the plain text is in it")
		}
		got, err := s.Open(c, sealed, ad)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("opened %x, %v, want %x", got, err, plain)
		}
		if _, err := s.Open(c, sealed, append(slices.Clone(ad), 0)); err == nil {
			t.Fatal("it opened with other associated data")
		}
	})
}

// KMS-02: a weaker key in a keyset is refused although Tink would use it.
func TestOnlyAES256IsTaken(t *testing.T) {
	for template, ok := range map[*tinkpb.KeyTemplate]bool{aead.AES128GCMKeyTemplate(): false, aead.AES256GCMKeyTemplate(): true} {
		w := newWorld(t)
		wrapping, err := w.kms.GetAEAD(kek)
		if err != nil {
			t.Fatal(err)
		}
		h, err := keyset.NewHandle(template)
		if err != nil {
			t.Fatal(err)
		}
		var data bytes.Buffer
		if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&data), wrapping, []byte("cordon|tenant|1|clinical")); err != nil {
			t.Fatal(err)
		}
		primary, err := h.Primary()
		if err != nil {
			t.Fatal(err)
		}
		key := primary.Key().(*aesgcm.Key).KeyBytes().Data(insecuresecretdataaccess.Token{})
		sum := sha256.Sum256(append([]byte("cordon|fingerprint|"), key...))
		row := w.row(w.north, keys.Clinical)
		row.Data, row.Fingerprint = data.Bytes(), sum[:]
		if s, err := w.ring.Of(t.Context(), w.north); (err == nil) != ok {
			t.Errorf("with a key of %d bytes: %v, %v", len(key), s, err)
		}
	}
}

// The wire form is Tink's, five bytes of prefix and then nonce, text
// and tag, so what it costs is known.
func TestSealingAddsThirtyThreeBytes(t *testing.T) {
	s := newWorldSet(t)
	sealed, err := s.Seal(nil, keys.Clinical, make([]byte, 100), nil)
	if err != nil || len(sealed) != 100+5+12+16 || sealed[0] != 1 {
		t.Errorf("100 bytes became %d, %v", len(sealed), err)
	}
}

func newWorldSet(t testing.TB) *keys.Set {
	w := newWorld(t)
	return w.set(t, w.north)
}

func TestHashKeepsItsPartsApart(t *testing.T) {
	w := newWorld(t)
	north, south := w.set(t, w.north), w.set(t, w.south)
	ada := north.Hash("Patient.name", "ada")
	if again := north.Hash("Patient.name", "ada"); again != ada {
		t.Error("equal parts differ")
	}
	if ada == south.Hash("Patient.name", "ada") {
		t.Error("two tenants share a hash")
	}
	seen := map[int64][]string{}
	for _, parts := range [][]string{nil, {""}, {"", ""}, {"ab", "c"}, {"a", "bc"}, {"abc"}, {"a", "b", "c"}, {"\x01a"}, {"abc", ""}} {
		n := north.Hash(parts...)
		if other, ok := seen[n]; ok {
			t.Errorf("%q and %q are not kept apart", parts, other)
		}
		seen[n] = parts
	}
}

func TestHashIsTheSameOnEveryProcess(t *testing.T) {
	w := newWorld(t)
	a := w.set(t, w.north)
	b, err := keys.NewKeyring(w.registry, w.kms).Of(t.Context(), w.north)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.String()).Draw(t, "parts")
		if a.Hash(parts...) != b.Hash(parts...) {
			t.Fatal("two openings of one key hash differently")
		}
	})
}

func TestASetMayBeUsedFromManyGoroutines(t *testing.T) {
	s := newWorldSet(t)
	want := s.Hash("a", "b")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if s.Hash("a", "b") != want {
					t.Error("a hash changed")
				}
				sealed, err := s.Seal(nil, keys.Audit, []byte("x"), nil)
				if err != nil {
					t.Error(err)
				}
				if _, err := s.Open(keys.Audit, sealed, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestTheSigningKeySigns(t *testing.T) {
	w := newWorld(t)
	key, kid := w.set(t, w.north).SigningKey()
	if key.Curve != elliptic.P256() || len(kid) != 43 {
		t.Errorf("curve %s, kid %q", key.Curve.Params().Name, kid)
	}
	if _, other := w.set(t, w.south).SigningKey(); other == kid {
		t.Error("two tenants share a kid")
	}
	digest := sha256.Sum256([]byte("token"))
	sig, err := ecdsa.SignASN1(nil, key, digest[:])
	if err != nil || !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
		t.Errorf("signature does not verify: %v", err)
	}
}

func BenchmarkHash(b *testing.B) {
	s := newWorldSet(b)
	b.ReportAllocs()
	for b.Loop() {
		s.Hash("token", "Observation.code", "http://loinc.org|8480-6")
	}
}

func BenchmarkSealAndOpen2kB(b *testing.B) {
	s := newWorldSet(b)
	body, ad := make([]byte, 2<<10), []byte("1|Observation|o1|1")
	b.ReportAllocs()
	for b.Loop() {
		sealed, err := s.Seal(nil, keys.Clinical, body, ad)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Open(keys.Clinical, sealed, ad); err != nil {
			b.Fatal(err)
		}
	}
}
