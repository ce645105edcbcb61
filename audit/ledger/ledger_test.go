package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/audit/ledgertest"
)

// A memory keeps what a Tree says is to be stored, and nothing else.
type memory map[[2]int64]tlog.Hash

func (m memory) source(ranges []ledger.Range) ([][]tlog.Hash, error) {
	found := make([][]tlog.Hash, len(ranges))
	for i, r := range ranges {
		for n := r.From; n < r.To; n++ {
			if h, ok := m[[2]int64{int64(r.Level), n}]; ok {
				found[i] = append(found[i], h)
			}
		}
	}
	return found, nil
}

// grow adds n leaves as transactions of at most batch do.
func (m memory) grow(t interface{ Fatal(...any) }, size, n, batch int64) int64 {
	for end := size + n; size < end; {
		tree := ledger.NewTree(size, m.source)
		for range min(batch, end-size) {
			leaf := hashOf(tree.Size)
			m[[2]int64{0, tree.Size}] = leaf
			nodes, err := tree.Append(leaf)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range nodes {
				m[[2]int64{int64(x.Level), x.N}] = x.Hash
			}
		}
		size = tree.Size
	}
	return size
}

func hashOf(n int64) tlog.Hash { return tlog.RecordHash(binary.AppendVarint(nil, n)) }

// plain is RFC 6962, section 2.1, as it is written.
func plain(from, to int64) tlog.Hash {
	switch to - from {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return hashOf(from)
	}
	k := int64(1)
	for k*2 < to-from {
		k *= 2
	}
	return tlog.NodeHash(plain(from, from+k), plain(from+k, to))
}

// However a log has grown, and with one hash in 256 stored above the leaves, its
// hash is that of the standard, and whatever is proven of it holds for what is
// there, and for nothing else.
func TestALogIsTheTreeOfTheStandard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := memory{}
		size := rapid.Int64Range(1, 1200).Draw(t, "size")
		m.grow(t, 0, size, rapid.Int64Range(1, 700).Draw(t, "batch"))
		tree := ledger.NewTree(size, m.source)
		old := rapid.Int64Range(1, size).Draw(t, "old")
		root, err := tree.Root(size)
		if err != nil || root != plain(0, size) {
			t.Fatalf("%v %v", root, err)
		}
		oldRoot, err := tree.Root(old)
		if err != nil || oldRoot != plain(0, old) {
			t.Fatalf("%v %v", oldRoot, err)
		}
		leaf := rapid.Int64Range(0, size-1).Draw(t, "leaf")
		in, err := tlog.ProveRecord(size, leaf, tree)
		if err != nil || tlog.CheckRecord(in, size, root, leaf, hashOf(leaf)) != nil {
			t.Fatalf("leaf %d of %d: %v", leaf, size, err)
		}
		if other := (leaf + 1) % size; other != leaf && tlog.CheckRecord(in, size, root, other, hashOf(leaf)) == nil {
			t.Fatal("a leaf was proven in another place")
		}
		grown, err := tlog.ProveTree(size, old, tree)
		if err != nil || tlog.CheckTree(grown, size, root, old, oldRoot) != nil {
			t.Fatalf("%d of %d: %v", old, size, err)
		}
		if tlog.CheckTree(grown, size, root, old, hashOf(-1)) == nil {
			t.Fatal("a log was proven to be the beginning of one that it is not")
		}
	})
}

func TestALogAboveTheSecondStoredLevel(t *testing.T) {
	m := memory{}
	size := m.grow(t, 0, 1<<16+300, 5000)
	if _, ok := m[[2]int64{16, 0}]; !ok || len(m) != int(size)+257+1 {
		t.Fatalf("%d hashes are stored", len(m)-int(size))
	}
	root, err := ledger.NewTree(size, m.source).Root(size)
	if err != nil || root != plain(0, size) {
		t.Fatalf("%v %v", root, err)
	}
}

func TestAMissingHashIsSaidToBeMissing(t *testing.T) {
	m := memory{}
	size := m.grow(t, 0, 600, 600)
	delete(m, [2]int64{0, 599})
	if _, err := ledger.NewTree(size, m.source).Root(size); !errors.Is(err, ledger.ErrMissing) {
		t.Errorf("got %v", err)
	}
}

// Any two entries that differ, in whatever column, have records that differ; a
// column that is NULL is as one that is not there.
func TestARecordIsOneOfOneEntry(t *testing.T) {
	at := time.Date(2026, 11, 22, 9, 0, 0, 123456000, time.FixedZone("x", 3600))
	columns := []string{"tenant_id", "seq", "recorded", "parent", "outcome", "reason", "sealed"}
	base := []any{int32(3), int64(9), at, nil, int16(0), "a\"b\n\x00é", []byte{0, 255}}
	got := string(ledger.Record("cordon/harbor", 7, columns, base))
	want := `{"log":"cordon/harbor","leaf":7,"tenant_id":3,"seq":9,"recorded":"2026-11-22T08:00:00.123456Z","outcome":0,"reason":"a\"b\n\u0000é","sealed":"AP8="}`
	if got != want {
		t.Errorf("got %s", got)
	}
	if more := string(ledger.Record("cordon/harbor", 7, append(columns, "new"), append(base, nil))); more != want {
		t.Errorf("a new column changes what was hashed: %s", more)
	}
	seen := map[string]bool{got: true, string(ledger.Record("cordon/other", 7, columns, base)): true, string(ledger.Record("cordon/harbor", 8, columns, base)): true}
	if len(seen) != 3 {
		t.Error("the log or the leaf is not in the record")
	}
	for i, other := range []any{int32(4), int64(math.MinInt64), at.Add(time.Microsecond), int64(0), int16(4), "", []byte{}} {
		changed := append([]any{}, base...)
		changed[i] = other
		record := string(ledger.Record("cordon/harbor", 7, columns, changed))
		if seen[record] {
			t.Errorf("%s makes no difference", columns[i])
		}
		seen[record] = true
	}
}

// A checkpoint is read in the one way in which it is written, under the key of
// its log.
func TestACheckpointIsOfOneLog(t *testing.T) {
	signer, key, _ := ledgertest.NewKey(t, "cordon/harbor")
	otherSigner, otherKey, _ := ledgertest.NewKey(t, "cordon/lakeside")
	c := ledger.Checkpoint{Origin: "cordon/harbor", Size: 12, Root: hashOf(1), Time: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)}
	text, err := c.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ledger.Open(text, key); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("got %+v, %v", got, err)
	}
	c.Origin = "cordon/lakeside"
	strange, err := c.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := ledger.Checkpoint{Origin: "cordon/harbor", Size: 1}.Sign(otherSigner)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(text string) []byte {
		b, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	body, _, _ := strings.Cut(string(text), "\n\n")
	for what, bad := range map[string][]byte{
		"one of another log, signed by this key": strange,
		"one signed by another key":              elsewhere,
		"one with another size":                  bytes.Replace(text, []byte("\n12\n"), []byte("\n13\n"), 1),
		"one with a line more":                   signed(body + "\nmore\n"),
		"a size with a zero in front":            signed(strings.Replace(body, "\n12\n", "\n012\n", 1) + "\n"),
		"a negative size":                        signed(strings.Replace(body, "\n12\n", "\n-12\n", 1) + "\n"),
		"no time":                                signed(strings.Replace(body, "time ", "", 1) + "\n"),
		"nothing":                                nil,
	} {
		if got, err := ledger.Open(bad, key); err == nil {
			t.Errorf("%s was read as %+v", what, got)
		}
	}
	if _, err := ledger.Open(text, otherKey); err == nil {
		t.Error("the key of another log opens it")
	}
}

// T285: two logs that are shown to two people cannot both be proven.
func TestASplitViewIsNotProven(t *testing.T) {
	signer, key, _ := ledgertest.NewKey(t, "cordon/harbor")
	one, other := memory{}, memory{}
	one.grow(t, 0, 10, 10)
	other.grow(t, 0, 9, 9)
	other[[2]int64{0, 9}] = hashOf(-9)
	sign := func(m memory, size int64) []byte {
		root, err := ledger.NewTree(size, m.source).Root(size)
		if err != nil {
			t.Fatal(err)
		}
		text, err := ledger.Checkpoint{Origin: "cordon/harbor", Size: size, Root: root}.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	a, b := sign(one, 10), sign(other, 10)
	one.grow(t, 10, 5, 5)
	hashes, err := tlog.ProveTree(15, 10, ledger.NewTree(15, one.source))
	if err != nil {
		t.Fatal(err)
	}
	p := ledger.Proof{Checkpoint: sign(one, 15), From: 10, To: 15, Hashes: hashes}
	if _, err := p.Check(key, a); err != nil {
		t.Error(err)
	}
	if _, err := p.Check(key, b); err == nil {
		t.Error("a log was proven to be the beginning of one that it is not")
	}
	if _, err := p.Check(key, a, b); err == nil || !strings.Contains(err.Error(), "contradict") {
		t.Errorf("got %v", err)
	}
}

// What is parsed of a proof is what was written, and nothing makes it panic.
func FuzzParseProof(f *testing.F) {
	f.Add(ledger.Proof{Checkpoint: []byte("c\n"), Record: []byte(`{"leaf":1}`), Hashes: []tlog.Hash{hashOf(1)}}.Parameters())
	f.Add(ledger.Proof{From: 1, To: 2}.Parameters())
	_, key, _ := ledgertest.NewKey(f, "cordon/harbor")
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ledger.ParseProof(text)
		if err != nil {
			return
		}
		if _, err := p.Check(key); err == nil {
			t.Error("proven without a checkpoint")
		}
		again, err := ledger.ParseProof(p.Parameters())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(p) {
			t.Errorf("%v is read as %v, %v", p, again, err)
		}
	})
}

// A vault never replaces what it keeps.
func TestAVaultKeepsWhatItHas(t *testing.T) {
	signer, _, _ := ledgertest.NewKey(t, "cordon/harbor")
	d := ledger.Dir(t.TempDir())
	c := ledger.Checkpoint{Origin: "cordon/harbor", Size: 2, Root: hashOf(1), Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	text, err := c.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	leaves := []tlog.Hash{hashOf(0), hashOf(1)}
	for range 2 { // the same again is no error
		if err := errors.Join(d.KeepLeaves(t.Context(), c.Origin, c.Time, 0, leaves), d.Keep(t.Context(), c, text)); err != nil {
			t.Fatal(err)
		}
	}
	if d.KeepLeaves(t.Context(), c.Origin, c.Time, 0, []tlog.Hash{hashOf(0), hashOf(2)}) == nil || d.Keep(t.Context(), c, append(text, '\n')) == nil {
		t.Error("what was kept was replaced")
	}
	got, err := d.Last(t.Context(), c.Origin)
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, name := range []string{"cordon/../x", "cordon/", "harbor", `cordon/a\b`} {
		if _, err := d.Last(t.Context(), name); err == nil {
			t.Errorf("%q is the name of a directory", name)
		}
	}
}
