package keys_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/tenant"
)

const kek = "file://test"

// registry is the record of tenants and their wrapped keys, in memory.
type registry struct {
	ids  map[string]int32
	rows map[int32][]keys.Wrapped
	// reads counts the calls of Keys; wait holds them up while it is open.
	reads int
	wait  chan struct{}
}

func (r *registry) TenantBySlug(_ context.Context, slug string) (tenant.Row, error) {
	id, ok := r.ids[slug]
	if !ok {
		return tenant.Row{}, tenant.ErrUnknown
	}
	return tenant.Row{ID: id, Slug: slug, Mode: "shared", Status: "active"}, nil
}

func (r *registry) Keys(_ context.Context, id tenant.ID) ([]keys.Wrapped, error) {
	r.reads++
	if r.wait != nil {
		<-r.wait
	}
	return r.rows[id.Int()], nil
}

// world is two tenants, north and south, with keys of their own.
type world struct {
	*registry
	dir          string
	kms          keys.KMS
	ring         *keys.Keyring
	north, south tenant.ID
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{dir: filepath.Join(t.TempDir(), "kek")}
	w.registry = &registry{ids: map[string]int32{"north": 1, "south": 2}, rows: map[int32][]keys.Wrapped{}}
	var err error
	if w.kms, err = keys.NewFileKMS(w.dir); err != nil {
		t.Fatal(err)
	}
	tenants := tenant.NewRegistry(w.registry)
	for slug, id := range map[string]*tenant.ID{"north": &w.north, "south": &w.south} {
		tn, err := tenants.Tenant(t.Context(), slug)
		if err != nil {
			t.Fatal(err)
		}
		*id = tn.ID
		if w.rows[id.Int()], err = keys.Generate(w.kms, kek, *id, keys.Classes...); err != nil {
			t.Fatal(err)
		}
	}
	w.ring = keys.NewKeyring(w.registry, w.kms)
	return w
}

func (w *world) set(t testing.TB, id tenant.ID) *keys.Set {
	t.Helper()
	s, err := w.ring.Of(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// row returns the place of the tenant's wrapped key of the class.
func (w *world) row(id tenant.ID, c keys.Class) *keys.Wrapped {
	for i, r := range w.rows[id.Int()] {
		if r.Class == c {
			return &w.rows[id.Int()][i]
		}
	}
	panic("no key of class " + c)
}

// KMS-05, T312
func TestNoOtherTenantClassOrPlaceOpensWhatWasSealed(t *testing.T) {
	w := newWorld(t)
	north, south := w.set(t, w.north), w.set(t, w.south)
	ad := []byte("1|Patient|7|1")
	sealed, err := north.Seal(nil, keys.Clinical, []byte("Ada Lovelace"), ad)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := north.Open(keys.Clinical, sealed, ad); err != nil || string(got) != "Ada Lovelace" {
		t.Fatalf("its own tenant opened %q, %v", got, err)
	}
	for claim, open := range map[string]func() ([]byte, error){
		"another tenant's key": func() ([]byte, error) { return south.Open(keys.Clinical, sealed, ad) },
		"another class's key":  func() ([]byte, error) { return north.Open(keys.Audit, sealed, ad) },
		"another place":        func() ([]byte, error) { return north.Open(keys.Clinical, sealed, []byte("1|Patient|7|2")) },
		"no place":             func() ([]byte, error) { return north.Open(keys.Clinical, sealed, nil) },
		"plain text": func() ([]byte, error) {
			return north.Open(keys.Clinical, []byte(`{"resourceType":"Patient"}`), ad) // T320
		},
		"a class without a cipher": func() ([]byte, error) { return north.Open(keys.Index, sealed, ad) },
		"a changed byte": func() ([]byte, error) {
			b := append([]byte{}, sealed...)
			b[len(b)/2] ^= 1
			return north.Open(keys.Clinical, b, ad)
		},
	} {
		if got, err := open(); err == nil {
			t.Errorf("%s opened it: %q", claim, got)
		}
	}
}

// KMS-05, T313
func TestAWrappedKeyOpensInNoOtherRow(t *testing.T) {
	for _, tt := range []struct {
		claim string
		move  func(w *world)
	}{
		{"moved to another tenant", func(w *world) { *w.row(w.south, keys.Clinical) = *w.row(w.north, keys.Clinical) }},
		{"all moved to another tenant", func(w *world) { w.rows[w.south.Int()] = w.rows[w.north.Int()] }},
		{"swapped with another class", func(w *world) {
			a, b := w.row(w.south, keys.Audit), w.row(w.south, keys.Clinical)
			a.Class, b.Class = b.Class, a.Class
		}},
		{"the same for two classes", func(w *world) {
			*w.row(w.south, keys.Audit) = *w.row(w.south, keys.Clinical)
		}},
		{"the fingerprint of another key", func(w *world) {
			w.row(w.south, keys.Clinical).Fingerprint = w.row(w.north, keys.Clinical).Fingerprint
		}},
		{"a class missing", func(w *world) { w.rows[w.south.Int()] = w.rows[w.south.Int()][1:] }},
		{"a class twice", func(w *world) {
			w.rows[w.south.Int()] = append(w.rows[w.south.Int()], *w.row(w.south, keys.Clinical))
		}},
		{"an unknown class", func(w *world) { w.row(w.south, keys.Cursor).Class = "curser" }},
		{"an empty key", func(w *world) { w.row(w.south, keys.Index).Data = nil }},
		{"a key of no KMS", func(w *world) { w.row(w.south, keys.Index).KEK = "file://../test" }},
		{"a key that another KEK wraps", func(w *world) { w.row(w.south, keys.Index).KEK = "file://other" }},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			w := newWorld(t)
			tt.move(w)
			if s, err := w.ring.Of(t.Context(), w.south); err == nil {
				t.Errorf("it opened: %v", s)
			}
			w.set(t, w.north) // the neighbour is untouched
		})
	}
}

// KMS-14
func TestNoKeyIsMadeTwice(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for range 50 {
		rows, err := keys.Generate(w.kms, kek, w.north, keys.Classes...)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if seen[string(r.Fingerprint)] || len(r.Fingerprint) != 32 {
				t.Fatalf("the %s key has a fingerprint that is not its own", r.Class)
			}
			seen[string(r.Fingerprint)] = true
		}
	}
	if want := 50 * len(keys.Classes); len(seen) != want {
		t.Errorf("%d keys, want %d", len(seen), want)
	}
}

// KMS-01, KMS-06, T314
func TestWithoutTheKEKNothingOpens(t *testing.T) {
	w := newWorld(t)
	if err := os.Remove(filepath.Join(w.dir, "test.kek")); err != nil {
		t.Fatal(err)
	}
	if s, err := w.ring.Of(t.Context(), w.north); err == nil {
		t.Errorf("opened %v without the key-encryption key", s)
	}
	other, err := keys.NewFileKMS(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Wrap(other, kek, []byte("makes the key"), nil); err != nil {
		t.Fatal(err)
	}
	if s, err := keys.NewKeyring(w.registry, other).Of(t.Context(), w.north); err == nil {
		t.Errorf("opened %v with another key-encryption key", s)
	}
}

func TestTheZeroTenantHasNoKeys(t *testing.T) {
	w := newWorld(t)
	if _, err := keys.Generate(w.kms, kek, tenant.ID{}, keys.Classes...); err == nil {
		t.Error("made keys for nobody")
	}
	if _, err := w.ring.Of(t.Context(), tenant.ID{}); err == nil {
		t.Error("opened keys of nobody")
	}
}

func TestASetPrintsNoKey(t *testing.T) {
	w := newWorld(t)
	s := w.set(t, w.north)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		got := fmt.Sprintf(verb, s)
		if got != "keys of tenant 1" {
			t.Errorf("%s printed %s", verb, got)
		}
	}
}

func TestASecretOpensOnlyInItsPlace(t *testing.T) {
	w := newWorld(t)
	wrapped, err := keys.Wrap(w.kms, kek, []byte("hunter2"), []byte("dsn|1"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keys.Unwrap(w.kms, kek, wrapped, []byte("dsn|1")); err != nil || string(got) != "hunter2" {
		t.Errorf("unwrapped %q, %v", got, err)
	}
	if _, err := keys.Unwrap(w.kms, kek, wrapped, []byte("dsn|2")); err == nil {
		t.Error("it opened in another place")
	}
	if _, err := keys.Unwrap(w.kms, kek, w.row(w.north, keys.Index).Data, []byte("cordon|tenant|1|index")); err == nil {
		t.Error("a tenant's key opened as a secret")
	}
	if _, err := keys.Wrap(w.kms, "hcvault://elsewhere", []byte("x"), nil); err == nil {
		t.Error("a key of another service was taken")
	}
}
